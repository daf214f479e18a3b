"""A server with our protocol class alone, on either event loop, for apps that a test writes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any, Self

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from proxy_api._edge._rules import Rules
from proxy_api._protocol import GatewayProtocol
from proxy_api._settings_models import ServerSettings

App = Callable[[Any, Any, Any], Awaitable[None]]


class EdgeServer:
    """One listener; its clients are sockets. ``server`` is that section of the configuration."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: App, server: Any) -> None:
        self.loop = loop
        self.state = ServerState()
        config = uvicorn.Config(
            app,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        config.load()
        rules = Rules.of(ServerSettings(**server))
        self._made = lambda: GatewayProtocol(config, self.state, {}, rules=rules)
        self._listener = self.run(loop.create_server(self._made, "127.0.0.1", 0, backlog=4096))
        self.port: int = self._listener.sockets[0].getsockname()[1]

    def run(self, coroutine: Any) -> Any:
        """Something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def connect(self, timeout: float = 5.0) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def ask(self, *parts: bytes) -> bytes:
        """All that comes until the server closes."""
        with self.connect() as client:
            for part in parts:
                client.sendall(part)
            got = b""
            while data := client.recv(65536):
                got += data
            return got

    def close(self) -> None:
        async def close() -> None:
            self._listener.close()
            connections: Any = self.state.connections
            for connection in list(connections):
                connection.transport.abort()
            for task in list(self.state.tasks):
                task.cancel()
            await asyncio.sleep(0.01)

        self.run(close())


class _Loop:
    """An event loop in a thread; what it complains of is kept."""

    def __init__(self, name: str) -> None:
        self.complaints: list[dict[str, Any]] = []
        self.loop = uvloop.new_event_loop() if name == "uvloop" else asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *ending: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def edge_loop(request: pytest.FixtureRequest) -> Iterator[_Loop]:
    """Both event loops in turn."""
    with _Loop(request.param) as made:
        yield made


@pytest.fixture
def edge(edge_loop: _Loop) -> Iterator[Callable[..., EdgeServer]]:
    """``edge(app, **server settings)``: see EdgeServer. The loop may not complain of anything."""
    with ExitStack() as stack:

        def start(app: App, **server: Any) -> EdgeServer:
            made = EdgeServer(edge_loop.loop, app, server)
            stack.callback(made.close)
            return made

        yield start
    assert edge_loop.complaints == []
