"""Serving: find what there is to serve, check the listener, run uvicorn and the local model."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from proxy_api._app import GatewayApp, create_app
from proxy_api._discover import Discovery, discover
from proxy_api._gateway import Gateway
from proxy_api._keys import is_loopback_host
from proxy_api._listener import listen
from proxy_api._local_model import LocalModel
from proxy_api._protocol import GatewayProtocol
from proxy_api._settings import Settings, load_settings
from proxy_core.errors import ConfigurationError
from proxy_logging import configure_logging

__all__ = ["Choices", "Prepared", "prepare", "run_server", "worker_app"]

_CHOICES = "LLM_PROXY_WORKER_CHOICES"
"""How the parent of several workers tells them what was chosen on its command line."""
_SERVICE = "llm-proxy"
_LOADING = 600.0
"""Seconds that a local model may take to load before the greeting is given up."""
_NOTHING_TO_SERVE = (
    "There is nothing to serve: no model is configured.\n"
    "  to try it out      llm-proxy serve --local-model\n"
    "  with what is here  llm-proxy serve --discover   (provider keys, local servers)\n"
    "  with a file        llm-proxy serve --config FILE   (llm-proxy check FILE checks one)"
)


@dataclass(frozen=True, slots=True)
class Choices:
    """What was said on the command line; None: not said."""

    config: Path | None = None
    host: str | None = None
    port: int | None = None
    uds: str | None = None
    workers: int | None = None
    discover: bool = False
    local_model: bool = False

    def overrides(self) -> dict[str, Any]:
        server = {"host": self.host, "port": self.port, "uds": self.uds, "workers": self.workers}
        return {"server": server}


@dataclass(frozen=True, slots=True)
class Prepared:
    """Settings that can be served, and what was found on the way."""

    settings: Settings
    choices: Choices
    found: Discovery
    local: LocalModel | None


def prepare(choices: Choices, environ: Mapping[str, str] = os.environ) -> Prepared:
    """Load, discover and check. Raises ConfigurationError with what to do."""
    local = LocalModel() if choices.local_model else None
    rows = [local.settings_rows()] if local else []
    found = Discovery()
    if choices.discover:
        found = asyncio.run(discover(environ, own_ports={local.port} if local else ()))
        rows.append(found.rows())
    settings = load_settings(
        choices.config, overrides=choices.overrides(), environ=environ, rows=rows
    )
    if not settings.models:
        raise ConfigurationError(_NOTHING_TO_SERVE)
    _check_listener(settings)
    if local and settings.server.workers > 1:
        raise ConfigurationError(
            "The local model is a child of one process: use --workers 1 with --local-model."
        )
    return Prepared(settings, choices, found, local)


def run_server(prepared: Prepared, *, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve until told to stop; ``on_ready`` is called once, when requests are answered.

    Raises ConfigurationError, also when the address can't be listened on; nothing runs then.
    """
    settings = prepared.settings
    sockets = listen(settings.server)
    configure_logging(settings.observability.logs, service=_SERVICE)
    if settings.server.workers > 1:
        _run_workers(prepared, sockets)
        return
    app = create_app(settings=settings)
    server = _Server(uvicorn.Config(app, **_options(settings)))
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, sockets, app.gateway, prepared.local, on_ready))


def worker_app() -> GatewayApp:
    """The app of one of several workers, from what its parent left in the environment."""
    config, find = os.environ[_CHOICES].split("\n")
    choices = Choices(config=Path(config) if config else None, discover=bool(find))
    settings = prepare(choices).settings
    configure_logging(settings.observability.logs, service=_SERVICE)
    return create_app(settings=settings)


class _Server(uvicorn.Server):
    """uvicorn's server, with a word when it serves, and status 0 after a clean stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serves = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serves.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The original raises the signal again at the end, so that a clean stop exits with 143.
        stops = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in stops}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


async def _serve(
    server: _Server,
    sockets: list[socket.socket],
    gateway: Gateway,
    local: LocalModel | None,
    on_ready: Callable[[], None],
) -> None:
    async def greet() -> None:
        await server.serves.wait()
        if local is not None:
            await local.wait_ready(_LOADING)
        on_ready()

    async with AsyncExitStack() as beside:
        if local is not None:
            gateway.not_ready_while(lambda: not local.ready)
            await beside.enter_async_context(local)
        greeting = asyncio.create_task(greet())
        try:
            await server.serve(sockets)
        finally:
            greeting.cancel()
            await asyncio.wait((greeting,))


def _run_workers(prepared: Prepared, sockets: list[socket.socket]) -> None:
    server, choices = prepared.settings.server, prepared.choices
    config = str(choices.config.resolve()) if choices.config else ""
    os.environ[_CHOICES] = f"{config}\n{'discover' if choices.discover else ''}"
    # The listener as it was decided, whatever said so: a worker has no command line.
    os.environ["LLM_PROXY_SERVER__WORKERS"] = str(server.workers)
    os.environ["LLM_PROXY_SERVER__HOST"] = server.host
    os.environ["LLM_PROXY_SERVER__PORT"] = str(server.port)
    if server.uds is not None:
        os.environ["LLM_PROXY_SERVER__UDS"] = server.uds
    parent = uvicorn.Config(
        "proxy_api._serve:worker_app",
        factory=True,
        workers=server.workers,
        **_options(prepared.settings),
    )
    Multiprocess(parent, sockets=sockets).run()


def _options(settings: Settings) -> dict[str, Any]:
    server = settings.server
    return {
        "host": server.host,
        "port": server.port,
        "uds": server.uds,
        "ssl_certfile": server.tls.cert if server.tls else None,
        "ssl_keyfile": server.tls.key if server.tls else None,
        "http": GatewayProtocol,
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": int(server.drain),
        # Above what clients and balancers keep idle connections for: who closes first must be them.
        "timeout_keep_alive": 75,
        "backlog": 4096,
    }


def _check_listener(settings: Settings) -> None:
    server = settings.server
    if settings.keys or server.uds is not None or is_loopback_host(server.host):
        return
    raise ConfigurationError(
        f"server.host is {server.host!r}, which others can reach, but there are no keys: "
        "add `keys:` to the configuration, or listen on 127.0.0.1."
    )
