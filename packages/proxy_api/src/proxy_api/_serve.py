"""One process that serves: its listeners, its signals, its local model, and the service manager."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
import termios
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TextIO

import uvicorn

from proxy_api._app import create_app
from proxy_api._gateway import Gateway
from proxy_api._listener import listen, unix_socket
from proxy_api._notify import Notifier
from proxy_api._prepare import Prepared
from proxy_api._reload import Reloader
from proxy_api._server import Listeners, Server
from proxy_api._settings import Settings
from proxy_api._workers import SERVICE, run_workers, uvicorn_options
from proxy_logging import configure_logging

__all__ = ["run_server"]

_LOADING = 60.0
"""Seconds that we wait for a local model before we say that we serve: other models are there."""
_REFUSED = "; the last reload was refused, the log says why"
_TELL_EVERY = 1.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""glibc's malloc.h."""
_KEPT = 32 * 1024 * 1024
"""Bytes of its heap that the C library may keep unused."""
_LONGER = 15.0
"""Seconds that the manager is asked for while we load or drain, each time we tell it something."""


def run_server(prepared: Prepared, *, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve until told to stop; ``on_ready`` is called once, when requests are answered.

    Under systemd, ``READY=1`` takes its place. Raises CannotListen, and ConfigurationError for what
    else is wrong; nothing runs then.
    """
    settings = prepared.settings
    notifier = Notifier.from_environment(os.environ)
    configure_logging(settings.observability.logs, service=SERVICE)
    if settings.server.workers > 1:
        _settle()
        run_workers(prepared, _listeners(prepared, os.environ).sockets)
        return
    # Before anybody can connect: what is wrong with it must not be met by a request.
    app = create_app(settings=settings)
    listeners = _listeners(prepared, os.environ)
    config = uvicorn.Config(app, **uvicorn_options(settings))
    service = _Service(
        prepared, Server(config, app.gateway, listeners, notifier), app.gateway, notifier
    )
    _settle()
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(service.run(listeners.sockets, on_ready))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


class _Service:
    """A server, the model beside it, and those who tell it something or are told."""

    def __init__(
        self, prepared: Prepared, server: Server, gateway: Gateway, notifier: Notifier
    ) -> None:
        self._server = server
        self._local = prepared.local
        self._gateway = gateway
        self._notifier = notifier
        self._reloader = Reloader(
            gateway,
            prepared.read_again,
            beside=(self._renew_certificate, server.adopt),
            source=prepared.source,
        )
        self._reloads: set[asyncio.Task[None]] = set()
        self._begun = False
        self._terminals = [stream for stream in (sys.stdin, sys.stderr) if _is_terminal(stream)]
        gateway.reloader = self._reloader

    async def run(self, sockets: list[socket.socket], on_ready: Callable[[], None]) -> None:
        self._obey_signals(asyncio.get_running_loop())
        async with AsyncExitStack() as beside:
            if self._local is not None:
                local = self._local
                self._gateway.not_ready_while(lambda: not local.ready)
                await beside.enter_async_context(local)
            tasks = [
                asyncio.create_task(self._begin(on_ready)),
                asyncio.create_task(self._report()),
            ]
            try:
                await self._server.serve(sockets)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    def _obey_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not the loop's own handlers: these stay until the interpreter ends, so that a signal in
        # its last moments doesn't spoil the exit status.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._server.stop())
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._hang_up))

    def _hang_up(self) -> None:
        if self._terminals and not any(map(_is_alive, self._terminals)):
            # Whoever started us in a terminal has closed it.
            self._server.stop()
            return
        if len(self._reloads) > 1:
            # One that hasn't begun will see what this one would.
            return
        task = asyncio.create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        if self._begun:
            self._notifier.reloading()
        await self._reloader.reload()
        if self._begun and not self._gateway.draining:
            self._notifier.ready(self._status())

    def _renew_certificate(self, settings: Settings) -> None:
        tls, context = settings.server.tls, self._server.config.ssl
        if tls is not None and context is not None:
            context.load_cert_chain(tls.cert, tls.key)

    async def _begin(self, on_ready: Callable[[], None]) -> None:
        await self._server.serves.wait()
        if self._local is not None:
            with suppress(TimeoutError):
                await self._local.wait_ready(_LOADING)
        self._gateway.logger.info("serving", at=self._server.listeners.names)
        if self._gateway.draining:
            return
        self._begun = True
        if self._notifier.is_heard:
            self._notifier.ready(self._status())
        else:
            # Nobody may read standard output, and rich ends the program for it.
            with suppress(SystemExit, OSError):
                on_ready()

    async def _report(self) -> None:
        """Tell the manager how it goes, from the loop: what blocks this blocks the requests."""
        watchdog = self._notifier.watchdog
        pause = min(_TELL_EVERY, watchdog / 3) if watchdog else _TELL_EVERY
        while self._notifier.is_heard:
            self._notifier.status(self._status())
            self._notifier.alive()
            if not self._gateway.ready:
                self._notifier.extend(_LONGER)
            await asyncio.sleep(pause)

    def _status(self) -> str:
        requests = self._gateway.in_flight
        flying = f"{requests} request{'' if requests == 1 else 's'} in flight"
        if self._gateway.draining:
            return f"draining: {flying}"
        if not self._gateway.ready:
            return f"loading the local model; {flying}"
        last = self._reloader.last
        refused = last is not None and not last.outcome.applied
        return f"serving; {flying}{_REFUSED if refused else ''}"


def _settle() -> None:
    """Look for garbage among what requests leave, not among what every import has made.

    That took 4 % of a busy process. A request that is answered leaves no cycles.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    gc.enable()
    _keep_heap()


def _keep_heap() -> None:
    """Let the C library keep what large bodies took.

    By default it gives the end of its heap back after each, and the next one faults every page in
    again: that was half of what a body of 1 MB costs.
    """
    with suppress(AttributeError, OSError):  # glibc's alone
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT // 2)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _is_alive(terminal: TextIO) -> bool:
    try:
        termios.tcgetattr(terminal)
    except (OSError, ValueError, termios.error):
        return False
    return True


def _listeners(prepared: Prepared, environ: Mapping[str, str]) -> Listeners:
    server = prepared.settings.server
    folder = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    admin = None
    if folder and server.workers == 1:
        admin = unix_socket(str(Path(folder) / "admin.sock"))
    return Listeners(
        prepared.sockets or listen(server), inherited=bool(prepared.sockets), admin=admin
    )
