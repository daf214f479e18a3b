"""One connection: a protocol of the loop around the parser, with one future for whoever waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ClassVar, Final

from proxy_core._http1._parser import BadAnswer, ResponseParser
from proxy_core._http1._waiting import Waiting
from proxy_core._http1._wheel import Wheel
from proxy_core.errors import UpstreamDisconnected

__all__ = ["READ_BYTES", "Connection"]

READ_BYTES: Final = 64 * 1024
"""At most this is read at once."""
_MOST_HELD: Final = 128 * 1024
"""With this much unread the socket is paused, so less than 192 KB are held for one answer."""
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


class Connection(Waiting):
    """Sends one request at a time and reads its answer.

    ``buffer`` is where the loop reads into; all connections of a loop can share one, since what was
    read is parsed at once. ``on_lost`` hears when the connection has ended.
    """

    tells_within: ClassVar[float] = 1.0
    """Seconds. A connection that was dead says so within a round trip. One that breaks later was
    alive, and the request may have been worked on."""

    __slots__ = (
        "_buffer",
        "_is_idle",
        "_is_paused",
        "_on_lost",
        "is_gone",
        "is_kept",
        "origin",
    )

    def __init__(
        self,
        origin: str,
        wheel: Wheel,
        buffer: memoryview,
        on_lost: Callable[[Connection], None],
    ) -> None:
        super().__init__(wheel)
        self.origin = origin
        self.is_kept = False
        """Whether it has answered before."""
        self.is_gone = False
        """Whether the loop has let go of it."""
        self._buffer = buffer
        self._on_lost = on_lost
        self._is_idle = self._is_paused = False

    @property
    def was_dead(self) -> bool:
        """Whether the request got lost on a connection that had ended while it was kept."""
        return (
            self.is_kept
            and not self.parser.started
            and isinstance(self.error, UpstreamDisconnected)
            and time.monotonic() - self._sent_at < self.tells_within
        )

    def ask(
        self, head: bytes, body: bytes, now: float, limit: float, until: float, *, is_head: bool
    ) -> asyncio.Future[bool]:
        """Write a request: at once, or the rest as the socket takes it.

        Done when the head has come, or an error: see ``error`` if there is no ``status`` then. It
        may take ``limit`` seconds after all was sent, but not last beyond ``until``. While a large
        request is being sent, each part that the upstream takes gives it ``limit`` seconds more.
        Who stops waiting has no more use for the connection.
        """
        self._is_idle = False
        self._held = 0
        self._sent_at = now
        self._limit = limit
        self.parser.expect(is_head=is_head)
        due = now + limit
        waiter = self._awaited("first_byte", due, until, min(due, until))
        if self.error is not None or self._transport.is_closing():
            self._end(None)
        else:
            self._write(head, body)
        return waiter

    def take(self) -> bytes:
        """All of the body that has come and was not taken."""
        parts = self.parser.parts
        data = b"".join(parts)  # no copy where there is one
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

    def _resume(self) -> None:
        self._is_paused = False
        if self.error is None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _end(self, error: Exception | None) -> None:
        self._fail(UpstreamDisconnected(_why(self.parser, error)))

    # the loop's callbacks

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what was read, and give it on, or wake whoever waits for it."""
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
        sink, parts = self._sink, parser.parts
        if sink is not None and parts:
            self._heard_at = time.monotonic()
            self._held = 0
            data = b"".join(parts)
            parts.clear()
            try:
                goes_on = sink(data)
            except Exception as error:  # noqa: BLE001 - it is raised where the body is read
                self._break(error)
                return
            if parser.complete or not goes_on:
                self._wake(goes_on)
            return
        self._held += nbytes
        if parts or parser.complete or parser.status != had_head:
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
