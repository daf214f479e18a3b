"""One connection's transport and its peer: addresses, flow both ways, the scope of requests."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from typing import Any, ClassVar, Final
from weakref import WeakSet

from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from proxy_api._arrival import ADMIN_SOCKET, CLIENT_GONE, KNOWN_HEAD
from proxy_api._edge._cycle import Cycle
from proxy_api._edge._house import House, parts_of
from proxy_api._edge._known import KnownHead
from proxy_api._edge._rules import Rules
from proxy_api._settings_models import ServerSettings

__all__ = ["State", "Wire", "reset"]

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_AT_ONCE: Final = struct.pack("ii", 1, 0)


def reset(wire: asyncio.Transport) -> None:
    """End a connection so that its client can't take the end for a good one."""
    number = wire.get_extra_info("socket").fileno()
    if number >= 0 and wire.get_extra_info("ssl_object") is None:
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    wire.abort()


class State(ServerState):
    """uvicorn's, with what our connections share, and those that are not made yet."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.house = House(self, rules)
        self.arriving: WeakSet[Wire] = WeakSet()


class Wire(asyncio.Protocol):
    """What a connection is before anybody asks for anything."""

    __slots__ = (
        "__weakref__",
        "_app_state",
        "_unsent",
        "_unsent_since",
        "app",
        "client",
        "house",
        "is_admin",
        "is_trusted",
        "loop",
        "reading_paused",
        "scheme",
        "server",
        "server_state",
        "transport",
        "writable",
    )

    write_stall: ClassVar[float] = 30.0
    """Seconds that a client may take nothing of what waits for it; then it counts as gone."""

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        rules: Rules | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        house: House | None = getattr(server_state, "house", None)
        if house is None:
            house = server_state.house = House(server_state, rules or Rules.of(ServerSettings()))
        self.house = house
        self.server_state = server_state
        self.loop = _loop or asyncio.get_event_loop()
        self.app: Any = config.loaded_app
        self._app_state = app_state
        self.is_admin = False
        """Whether this connection came by the admin socket."""
        self.writable: asyncio.Event | None = None
        """None while more may be written."""
        self.reading_paused = False
        self._unsent = -1
        """Bytes that waited at the last look; -1 when more could be written since."""
        self._unsent_since = house.now
        # Behind TLS a connection is made, and counted, only after its handshake.
        if isinstance(server_state, State):
            server_state.arriving.add(self)

    def connection_made(self, transport: Any) -> None:
        if isinstance(self.server_state, State):
            self.server_state.arriving.discard(self)
        self.transport = transport
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        trust = self.house.rules.trust
        self.is_trusted = self.client is not None and trust.includes(self.client[0])

    def pause_writing(self) -> None:
        self.writable = asyncio.Event()
        self._unsent = -1

    def resume_writing(self) -> None:
        writable, self.writable = self.writable, None
        if writable is not None:
            writable.set()

    def scope(
        self,
        cycle: Cycle,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        known: KnownHead | None = None,
    ) -> dict[str, Any]:
        """The ASGI scope of a request."""
        decided = known.scope if known is not None else None
        if decided is None:
            decided = self._decided(cycle, url, headers)
            if known is not None:
                known.scope = decided
        scope = decided.copy()
        scope["headers"] = headers
        scope["state"] = self._app_state.copy()
        extensions: dict[str, Any] = {CLIENT_GONE: cycle, KNOWN_HEAD: known}
        scope["extensions"] = extensions
        if self.is_admin:
            extensions[ADMIN_SOCKET] = True
        return scope

    def _decided(
        self, cycle: Cycle, url: bytes, headers: list[tuple[bytes, bytes]]
    ) -> dict[str, Any]:
        """What the connection and the bytes of a head decide."""
        path, raw_path, query = self.house.paths.get(url) or parts_of(url)
        decided: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.0" if cycle.is_old else "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": cycle.method,
            "root_path": "",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
        }
        if self.is_trusted:
            address = self.house.rules.trust.client(headers)
            decided["client"] = self.client if address is None else (address, 0)
        return decided

    def resume_reading(self) -> None:
        """Something has been taken of the body that waits."""
        if self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()
