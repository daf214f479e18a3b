"""uvicorn's server with an end of our own, at which nothing that has begun is lost.

A stop is told by ``/readyz`` and by ``connection: close`` first; two seconds later the listener
closes; what runs may finish until ``server.drain``; then it gets an error in its stream. uvicorn
itself would close idle connections at once, cancel in silence and exit with 143.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from proxy_api._edge._rules import Rules
from proxy_api._gateway import Gateway
from proxy_api._inherited import taken_from
from proxy_api._notify import Notifier
from proxy_api._protocol import GatewayProtocol, State
from proxy_api._settings import Settings

__all__ = ["Listeners", "Server"]

_PAUSE = 2.0
"""Seconds for load balancers to see that we are not ready; none when nobody is connected."""
_LINGER = 0.5
"""Seconds for a request on a connection that was not told that it is its last."""
_LINGER_FIRST = 1.5
"""The same for its first one: a packet that is lost comes again after a second."""
_ARRIVAL = 5.0
"""Seconds for a TLS handshake or the head of a request that is under way."""
_FLUSH = 2.0
_FLUSH_AT_ONCE = 0.3
_AFTERWARDS = 5.0
"""Seconds for what follows the last request: pools close, traces are flushed."""
_TICK = 0.05


class Listeners:
    """The sockets of one server, and whose they are."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        inherited: bool = False,
        admin: socket.socket | None = None,
    ) -> None:
        self.sockets = list(sockets)
        self.admin = admin
        self._own = [] if inherited else self.sockets
        """Those that nobody else listens on: what waits in their queues is ours to serve."""
        self._paths = [_Path(sock) for sock in self._own]
        self._admin_path = None if admin is None else _Path(admin)

    @property
    def names(self) -> list[str]:
        """Addresses, for people."""
        return [_name(sock) for sock in self.sockets]

    def left(self) -> list[socket.socket]:
        """What waits to be taken and nobody else will take. To be called just before the close."""
        for path in self._paths:
            path.remove()
        return [each for sock in self._own for each in taken_from(sock)]

    def remove_admin(self) -> None:
        """At the very end: until then one can ask how the drain goes."""
        if self._admin_path is not None:
            self._admin_path.remove()


def _name(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else os.fsdecode(name)


class _Path:
    """The file of a unix socket, which may meanwhile be another process's."""

    def __init__(self, sock: socket.socket) -> None:
        self._path = Path(sock.getsockname()) if sock.family == socket.AF_UNIX else None
        self._inode = self._path.stat().st_ino if self._path else 0

    def remove(self) -> None:
        with suppress(OSError):
            if self._path is not None and self._path.stat().st_ino == self._inode:
                self._path.unlink()


class Server(uvicorn.Server):
    """Serves until ``stop()``; a second ``stop()`` ends it at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        listeners: Listeners,
        notifier: Notifier,
        *,
        pause: float = _PAUSE,
    ) -> None:
        super().__init__(config)
        rules = Rules.of(gateway.settings.server)
        self.server_state = self._state = State(rules)
        self._notifier = notifier
        self.serves = asyncio.Event()
        self._gateway = gateway
        self.listeners = listeners
        self._pause = pause
        self._quiet_since: dict[GatewayProtocol, float] = {}
        self._admin_state = State(rules)
        self._admin_server: asyncio.Server | None = None
        self._closed_at = math.inf
        self._last_resort: threading.Timer | None = None

    def adopt(self, settings: Settings) -> None:
        """Hold connections to other rules from now on."""
        rules = Rules.of(settings.server)
        self._state.house.rules = self._admin_state.house.rules = rules

    def stop(self) -> None:
        """What a signal asks for."""
        if self.should_exit:
            self.force_exit = True
            self._exit_within(_FLUSH_AT_ONCE + _AFTERWARDS)
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the caller's, who has more to do with them than to stop.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.listeners.admin is not None:
            # Kept: one that nobody holds is collected, and listens no more.
            self._admin_server = await asyncio.get_running_loop().create_server(
                self._admin_protocol, sock=self.listeners.admin
            )
        self.serves.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop, gateway = asyncio.get_running_loop(), self._gateway
        began, drain = loop.time(), gateway.settings.server.drain
        self._exit_within(drain + _FLUSH + 2 * _AFTERWARDS)
        gateway.draining = True
        self._notifier.stopping("draining")
        gateway.logger.info(
            "drain_began",
            requests=gateway.in_flight,
            connections=len(self.server_state.connections),
            at_most_s=drain,
        )
        self._announce()
        if self.server_state.connections or self._state.arriving:
            await self._until(began + min(self._pause, drain), lambda: False)
        await self._close_listeners()
        await self._until(began + drain, self._is_empty, closing=True)
        await self._cut()
        self._exit_within(2 * _AFTERWARDS)
        if self._admin_server is not None:
            self.listeners.remove_admin()
            self._admin_server.close()
        gateway.logger.info("drain_ended", took_s=round(loop.time() - began, 3))
        with suppress(TimeoutError):
            async with asyncio.timeout(_AFTERWARDS):
                await self.lifespan.shutdown()

    def _admin_protocol(self) -> GatewayProtocol:
        protocol = GatewayProtocol(self.config, self._admin_state, self.lifespan.state)
        protocol.is_admin = True
        return protocol

    def _announce(self) -> None:
        """Every answer from now on says that its connection ends with it."""
        # Another list: those of the requests that run are told one by one.
        headers = self.server_state.default_headers
        self.server_state.default_headers = [*headers, (b"connection", b"close")]
        for connection in self._connections():
            connection.end_after_this()

    async def _close_listeners(self) -> None:
        """Listen no more. Connections that nobody has taken yet are taken first.

        What comes between the last that is taken and the close, a few microseconds later, is handed
        to another listener of the port by the kernel where net.ipv4.tcp_migrate_req is 1; else it
        is reset.
        """
        loop = asyncio.get_running_loop()
        for sock in self.listeners.sockets:
            # asyncio takes a connection in one round and makes its transport in the next, which
            # fails once the server is closed. (Under uvloop there is no such reader.)
            loop.remove_reader(sock)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        left = self.listeners.left()
        for server in self.servers:
            server.close()
        self._closed_at = loop.time()
        for sock in left:
            # A TLS handshake takes its time, and may fail: not here.
            task = asyncio.create_task(self._take(sock))
            self.server_state.tasks.add(task)
            task.add_done_callback(self.server_state.tasks.discard)

    async def _take(self, sock: socket.socket) -> None:
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, sock, ssl=self.config.ssl
            )

    def _protocol(self) -> GatewayProtocol:
        return GatewayProtocol(self.config, self.server_state, self.lifespan.state)

    async def _cut(self) -> None:
        """End what is left, in its stream; then the connections of those who don't take it."""
        tasks = list(self.server_state.tasks)
        for task in tasks:
            # One that has not begun will not: then nobody else forgets it.
            task.add_done_callback(self.server_state.tasks.discard)
            task.cancel("the proxy stops")
        if tasks:
            self._gateway.logger.warning("drain_cut", requests=len(tasks))
        flush = _FLUSH_AT_ONCE if self.force_exit else _FLUSH
        self.force_exit = False
        end = asyncio.get_running_loop().time() + flush
        await self._until(end, self._is_empty, closing=True)
        for connection in self._connections():
            connection.transport.abort()

    async def _until(
        self, deadline: float, reached: Callable[[], bool], *, closing: bool = False
    ) -> None:
        """Until something is reached, the deadline, or the second signal."""
        clock = asyncio.get_running_loop().time
        while not (reached() or self.force_exit or clock() >= deadline):
            self._look_at_idle(clock(), closing=closing)
            await asyncio.sleep(_TICK)

    def _look_at_idle(self, now: float, *, closing: bool) -> None:
        """Note since when connections are idle, and close those that have been for long enough."""
        for connection in self._connections():
            if not connection.is_idle:
                self._quiet_since.pop(connection, None)
                continue
            since = self._quiet_since.setdefault(connection, now)
            linger = _LINGER if connection.has_asked else _LINGER_FIRST
            if connection.reads_head and now < self._closed_at + _ARRIVAL:
                continue
            if closing and now - since >= linger:
                connection.close_unless_asked()

    def _is_empty(self) -> bool:
        state, now = self._state, asyncio.get_running_loop().time()
        arriving = state.arriving and now < self._closed_at + _ARRIVAL
        return not (state.connections or state.tasks or arriving)

    def _connections(self) -> list[GatewayProtocol]:
        open_now = self.server_state.connections
        return [each for each in open_now if isinstance(each, GatewayProtocol)]

    def _exit_within(self, seconds: float) -> None:
        """Whatever hangs by then (a thread, a collector that is away) must not hold up the end."""
        if self._last_resort is not None:
            self._last_resort.cancel()
        self._last_resort = threading.Timer(seconds, os._exit, (0,))
        self._last_resort.daemon = True
        self._last_resort.start()
