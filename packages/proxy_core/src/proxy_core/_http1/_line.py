"""The way to an upstream: what is written, and how much of it the socket takes."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final, cast

from proxy_core._http1._wheel import Alarm

__all__ = ["Line"]

_COPIED: Final = 16 * 1024
"""A body up to this size goes out in one piece with its head: a copy costs less than a write."""
_PIECE: Final = 256 * 1024
"""Of a larger body, what is handed to the transport at once."""


class Line(asyncio.BufferedProtocol, Alarm):
    """The writing half of a connection."""

    __slots__ = ("_is_write_paused", "_transport", "_unsent")

    def __init__(self) -> None:
        Alarm.__init__(self)
        self._transport: asyncio.Transport
        self._is_write_paused = False
        self._unsent: memoryview | None = None
        """Of a body: what was not handed to the transport yet."""

    def _write(self, head: bytes, body: bytes) -> None:
        """At once, or the rest as the socket takes it."""
        if len(body) <= _COPIED:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._push()

    def _push(self) -> None:
        while self._unsent is not None and not self._is_write_paused:
            piece, rest = self._unsent[:_PIECE], self._unsent[_PIECE:]
            self._unsent = rest or None
            self._transport.write(piece)

    @abstractmethod
    def _taken(self) -> None:
        """The upstream has taken what it was sent."""

    # the loop's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        """Send nothing until the transport has room."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Send on: the upstream takes what it is sent."""
        self._is_write_paused = False
        self._taken()
        self._push()
