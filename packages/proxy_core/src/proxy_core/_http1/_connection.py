"""One connection: a protocol of the loop around the parser, with one future for whoever waits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import ClassVar, Final, cast

from proxy_core._http1._parser import BadAnswer, ResponseParser
from proxy_core._http1._wheel import Alarm, Wheel
from proxy_core._http_types import timed_out
from proxy_core.errors import UpstreamDisconnected, UpstreamError

__all__ = ["READ_BYTES", "Connection"]

READ_BYTES: Final = 64 * 1024
"""At most this is read at once."""
_MOST_HELD: Final = 128 * 1024
"""With this much unread the socket is paused, so less than 192 KB are held for one answer."""
_PIECE: Final = 64 * 1024
"""Of a larger body, what is handed to the transport at once."""

_BROKE: Final = "the upstream broke off or broke the protocol"
_CLOSED: Final = f"{_BROKE}: the connection was closed"


def _why(parser: ResponseParser, error: Exception | None) -> str:
    """Let the parser see the end of the connection, and say what it was."""
    if error is not None:
        told = getattr(error, "strerror", None) or type(error).__name__
        return f"the connection to the upstream broke: {told}"
    try:
        parser.eof()
    except BadAnswer as bad:
        return f"{_BROKE}: {bad}"
    return _CLOSED


class Connection(asyncio.BufferedProtocol, Alarm):
    """Sends one request at a time and reads its answer.

    ``buffer`` is where the loop reads into; all connections of a loop can share one, since what was
    read is parsed at once. ``on_lost`` hears when the connection has ended.
    """

    tells_within: ClassVar[float] = 1.0
    """Seconds. A connection that was dead says so within a round trip. One that breaks later was
    alive, and the request may have been worked on."""

    __slots__ = (
        "_buffer",
        "_held",
        "_is_idle",
        "_is_paused",
        "_is_write_paused",
        "_limit",
        "_loop",
        "_on_lost",
        "_phase",
        "_sent_at",
        "_transport",
        "_unsent",
        "_until",
        "_waiter",
        "_wheel",
        "error",
        "is_gone",
        "is_kept",
        "origin",
        "parser",
    )

    def __init__(
        self,
        origin: str,
        wheel: Wheel,
        buffer: memoryview,
        on_lost: Callable[[Connection], None],
    ) -> None:
        Alarm.__init__(self)
        self.origin = origin
        self.parser = ResponseParser()
        self.error: UpstreamError | None = None
        """Why nothing more will come."""
        self.is_kept = False
        """Whether it has answered before."""
        self.is_gone = False
        """Whether the loop has let go of it."""
        self._loop = asyncio.get_running_loop()
        self._wheel = wheel
        self._buffer = buffer
        self._on_lost = on_lost
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._phase = "first_byte"
        self._is_idle = self._is_paused = self._is_write_paused = False
        self._held = 0
        self._unsent: memoryview | None = None
        self._sent_at = self._limit = self._until = 0.0

    @property
    def was_dead(self) -> bool:
        """Whether the request got lost on a connection that had ended while it was kept."""
        return (
            self.is_kept
            and not self.parser.started
            and isinstance(self.error, UpstreamDisconnected)
            and time.monotonic() - self._sent_at < self.tells_within
        )

    def send(self, head: bytes, body: bytes, now: float, *, is_head: bool) -> None:
        """Write a request: at once, or the rest as the socket takes it."""
        self._is_idle = False
        self._held = 0
        self._sent_at = now
        self.parser.expect(is_head=is_head)
        transport = self._transport
        if self.error is not None or transport.is_closing():
            self._end(None)
        elif len(body) <= _PIECE:
            transport.write(head + body)
        else:
            self._unsent = memoryview(body)[_PIECE:]
            transport.write(head + body[:_PIECE])
            self._push()

    def answers(self, limit: float, until: float) -> asyncio.Future[None]:
        """Done when the head has come, or an error: see ``error`` if there is no ``status`` then.

        It may take ``limit`` seconds after all was sent, but not last beyond ``until``. While a
        large request is being sent, each part that the upstream takes gives it ``limit`` seconds
        more. Who stops waiting has no more use for the connection.
        """
        self._limit, self._until = limit, until
        waiter = self._waiter = self._loop.create_future()
        if self.error is None:
            self._be_patient(self._sent_at)
        else:
            waiter.set_result(None)
        return waiter

    def check(self) -> None:
        """Raise what ended the wait for a head, if none came."""
        if not self.parser.status and self.error is not None:
            raise self.error from None

    async def more(self, limit: float, phase: str) -> None:
        """Wait ``limit`` seconds for more of the body, its end or an error."""
        if self._waiter is not None:
            raise RuntimeError("the answer is already being read")
        self._waiter = self._loop.create_future()
        self._phase = phase
        self._wheel.set(self, time.monotonic() + limit)
        try:
            await self._waiter
        except BaseException:
            self._waiter = None
            self.deadline = math.inf
            raise

    def take(self) -> bytes:
        """All of the body that has come and was not taken."""
        parts = self.parser.parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._held = 0
        if self._is_paused:
            self._resume()
        return data

    def rest(self) -> bool:
        """Be idle, and watch for the end. False when no other request can be sent over it."""
        parser = self.parser
        if not (parser.complete and parser.keep_alive) or parser.surplus:
            return False
        if self.error is not None or self._unsent is not None:
            return False
        self.is_kept = self._is_idle = True
        if self._is_paused:
            self._resume()
        return True

    def abort(self) -> None:
        """Close at once, without flushing anything."""
        self._fail(UpstreamDisconnected(_CLOSED))
        self._transport.abort()

    def close(self) -> None:
        """Close an idle connection, politely."""
        self._fail(UpstreamDisconnected(_CLOSED))
        self._transport.close()

    def ring(self) -> None:
        """See the deadline pass."""
        if self._waiter is not None:
            self._fail(timed_out(self._phase))

    def _be_patient(self, now: float) -> None:
        deadline, self._phase = now + self._limit, "first_byte"
        if self._until <= deadline:
            deadline, self._phase = self._until, "total"
        self._wheel.set(self, deadline)

    def _fail(self, error: UpstreamError) -> None:
        """Nothing more will come; what has come is still there to be read."""
        if self.error is None:
            self.error = error
        self._unsent = None
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.deadline = math.inf
            if not waiter.done():  # it may have been cancelled
                waiter.set_result(None)

    def _push(self) -> None:
        while self._unsent is not None and not self._is_write_paused:
            piece, rest = self._unsent[:_PIECE], self._unsent[_PIECE:]
            self._unsent = rest or None
            self._transport.write(piece)

    def _resume(self) -> None:
        self._is_paused = False
        if self.error is None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _end(self, error: Exception | None) -> None:
        self._fail(UpstreamDisconnected(_why(self.parser, error)))

    # the loop's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what was read, and wake whoever waits for it."""
        if self.error is not None:
            return
        parser = self.parser
        had_head = parser.status
        try:
            parser.feed(self._buffer[:nbytes])
        except BadAnswer as error:
            self._fail(UpstreamDisconnected(f"{_BROKE}: {error}"))
            self._transport.abort()
            return
        self._held += nbytes
        if parser.parts or parser.complete or parser.status != had_head:
            self._wake()
        if self._is_idle and parser.surplus:
            self.abort()
            self._on_lost(self)
        elif self._held >= _MOST_HELD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Take the end of what the upstream says; the transport then closes by itself."""
        self._end(None)
        self._on_lost(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self.is_gone = True
        self._end(exc)
        self._wheel.forget(self)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Send nothing until the transport has room."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Send on: the upstream takes what it is sent."""
        self._is_write_paused = False
        if self._waiter is not None and not self.parser.status:
            self._be_patient(time.monotonic())
        self._push()
