"""uvicorn's HTTP protocol, which says at once when the client has gone, and when it is as good as.

Stock uvicorn marks only the newest request of a connection, and calls nobody. A client's end comes
behind all that it has sent, so it is seen only by who reads on; uvicorn stops that after a large
body, and while a second request is queued. Nothing else is changed here.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Final
from weakref import WeakSet

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from proxy_api._arrival import ADMIN_SOCKET, CLIENT_GONE
from proxy_api._inherited import is_readable

__all__ = ["GatewayProtocol", "State"]

_MOST_QUEUED: Final = 16
_MOST_AHEAD: Final = 1024 * 1024
"""Bytes of bodies that one connection may send ahead. No client of ours sends any."""


class State(ServerState):
    """uvicorn's, and the connections that are not made yet."""

    def __init__(self) -> None:
        super().__init__()
        self.arriving: WeakSet[GatewayProtocol] = WeakSet()


class _Signal:
    """The GoneSignal of one request."""

    __slots__ = ("callback",)

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None


class GatewayProtocol(HttpToolsProtocol):
    """For ``uvicorn.Config(http=GatewayProtocol)``."""

    _running: RequestResponseCycle | None = None
    _signal: _Signal | None = None
    _drops: bool = False
    _stall: asyncio.TimerHandle | None = None

    is_admin: bool = False
    """Whether this connection came by the admin socket."""

    write_stall: ClassVar[float] = 30.0
    """Seconds that a client may take nothing of what waits for it; then it counts as gone."""

    reads_head: bool = False
    """Whether a part of a request's head has come."""

    def __init__(self, config: Any, server_state: Any, *rest: Any, **named: Any) -> None:
        super().__init__(config, server_state, *rest, **named)
        # Behind TLS a connection is made, and counted, only after its handshake.
        if isinstance(server_state, State):
            server_state.arriving.add(self)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if isinstance(self.server_state, State):
            self.server_state.arriving.discard(self)

    def on_message_begin(self) -> None:
        self.reads_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.reads_head = False
        super().on_headers_complete()

    @property
    def has_asked(self) -> bool:
        """Whether this connection has ever had a request."""
        return self.cycle is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being read or answered, and all that was answered has been taken."""
        cycle: RequestResponseCycle | None = self.cycle
        return (
            not self.pipeline
            and (cycle is None or cycle.response_complete)
            and not self.transport.get_write_buffer_size()
        )

    def end_after_this(self) -> None:
        """Close after the last answer that is owed, if its head can still say so."""
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is not None and not last.response_started:
            last.keep_alive = False

    def close_unless_asked(self) -> None:
        """Close an idle connection, unless something waits unread: a close would reset it.

        The end is sent at once. The loop closes in its next round, and until then a client that
        looks before it asks would find the connection open.
        """
        if self.transport.is_closing():
            # TLS says farewell, and waits for an answer. Asked twice, asyncio's forgets itself.
            self.transport.abort()
            return
        number = self.transport.get_extra_info("socket").fileno()
        if number < 0 or is_readable(number):
            return
        if self.transport.get_extra_info("ssl_object") is None:
            with suppress(OSError), socket.socket(fileno=os.dup(number)) as same:
                same.shutdown(socket.SHUT_WR)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._drops:
            return
        super().data_received(data)
        running = self._running
        if self.flow.read_paused and running is not None and not running.more_body:
            self._bound(running)
            self.flow.resume_reading()

    def eof_received(self) -> None:
        if self._tell():
            # A plain close would first wait until the client has read what it was sent.
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        # First, or uvicorn's own note would look as if this request had been told.
        self._tell()
        self._end_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self.write_stall, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_stall()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._signal = _Signal()
        extensions: dict[str, Any] = {CLIENT_GONE: self._signal}
        if self.is_admin:
            extensions[ADMIN_SOCKET] = True
        cycle.scope["extensions"] = extensions
        super()._start_asgi_task(cycle, app)

    def _bound(self, running: RequestResponseCycle) -> None:
        """Drop what comes from now on when too much is queued, and close after those that fit."""
        ahead = sum(len(cycle.body) for cycle, _ in self.pipeline)
        if len(self.pipeline) <= _MOST_QUEUED and ahead <= _MOST_AHEAD:
            return
        self._drops = True
        if self.pipeline[0][0].more_body:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else running
        last.keep_alive = False

    def _tell(self) -> bool:
        """Tell the request that is being answered, once. False when there is none."""
        running, signal = self._running, self._signal
        if running is None or running.response_complete or running.disconnected:
            return False
        running.disconnected = True
        running.message_event.set()
        if signal is not None and signal.callback is not None:
            signal.callback()
        return True
