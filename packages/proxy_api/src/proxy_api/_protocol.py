"""uvicorn's HTTP protocol, with one thing added: it says at once when the client has gone.

Stock uvicorn marks only the newest request of a connection, and calls nobody. A close is seen only
while the connection is read, and uvicorn stops that after a large body and while a second request
is queued. Nothing else is changed here.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy_api._arrival import CLIENT_GONE

__all__ = ["GatewayProtocol"]

_QUEUED: Final = 16
"""Pipelined requests of one connection that may wait while we go on reading."""
_LOOK_EVERY: Final = 0.02
"""Seconds between two looks at a connection that is not read, since its queue is too large."""
_HUNG_UP: Final[int] = getattr(select, "POLLRDHUP", 0)
"""Linux tells of an end before all was read that came before it; others tell of a reset only."""


class _Signal:
    """The GoneSignal of one request."""

    __slots__ = ("callback",)

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None


class GatewayProtocol(HttpToolsProtocol):
    """For ``uvicorn.Config(http=GatewayProtocol)``."""

    _running: RequestResponseCycle | None = None
    _signal: _Signal | None = None
    _looking: asyncio.TimerHandle | None = None

    def on_message_complete(self) -> None:
        super().on_message_complete()
        # However large, this body is here; who waits for its answer may still leave.
        if len(self.pipeline) <= _QUEUED:
            self.flow.resume_reading()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.flow.read_paused and self.pipeline and self._looking is None:
            self._looking = self.loop.call_later(_LOOK_EVERY, self._look)

    def eof_received(self) -> None:
        if self._tell():
            # A plain close would first wait until the client has read what it was sent.
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        # First, or uvicorn's own note would look as if this request had been told.
        self._tell()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._signal = _Signal()
        cycle.scope["extensions"] = {CLIENT_GONE: self._signal}  # type: ignore[dict-item]
        super()._start_asgi_task(cycle, app)

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

    def _look(self) -> None:
        self._looking = None
        if not self.flow.read_paused or self.transport.is_closing():
            return
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), _HUNG_UP)
        if poll.poll(0):
            self.transport.abort()
        else:
            self._looking = self.loop.call_later(_LOOK_EVERY, self._look)
