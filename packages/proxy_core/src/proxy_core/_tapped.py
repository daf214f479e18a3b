"""The body of a stream on its way to a client: read, tapped, given on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, NoReturn

from proxy_core._http_types import HttpResponse
from proxy_core._types import Reply
from proxy_core.dialects._dialect import Tap
from proxy_core.errors import UpstreamError

__all__ = ["Tapped", "poured"]

_AFTER_DONE: Final = 0.25
"""Seconds that we wait after the last event for the body's end: then the connection is kept."""

Sink = Callable[[bytes], bool]
"""Takes a piece of a body, at once. False when the next one has to wait."""


async def poured(body: AsyncGenerator[bytes, None], sink: Sink) -> bool:
    """Give the rest of a body to ``sink``, as long as it is True.

    True when the body has ended, False as soon as the sink was. A body with a ``pour`` of its own
    may call the sink while the loop reads, so that no task is switched to for each piece.
    """
    pour: Callable[[Sink], Any] | None = getattr(body, "pour", None)
    if pour is not None:
        return bool(await pour(sink))
    async for part in body:
        if not sink(part):
            return False
    return True


class Tapped(AsyncGenerator[bytes, None]):
    """What a tap lets pass of an upstream's stream. It may be iterated or poured, once.

    ``reply`` learns when there is content. ``sign`` is told each UpstreamError before it is raised.
    """

    __slots__ = (
        "_flows",
        "_has_ended",
        "_is_over",
        "_next",
        "_reply",
        "_response",
        "_sign",
        "_sink",
        "_tap",
    )

    def __init__(
        self,
        response: HttpResponse,
        tap: Tap,
        reply: Reply,
        sign: Callable[[UpstreamError], None],
    ) -> None:
        self._response = response
        self._next = response.body.__anext__
        self._tap = tap
        self._reply = reply
        self._sign = sign
        self._sink: Sink
        self._flows = False
        """Whether content has come and no end was seen: a piece is then read and given, no more."""
        self._has_ended = False
        """Whether the upstream's body was read to its end."""
        self._is_over = False

    async def pour(self, sink: Sink) -> bool:
        """Give all that passes to ``sink``; see ``poured``."""
        self._sink = sink
        # Who comes again has taken what was given before.
        self._reply.given = self._tap.done
        try:
            while self._flows or not await self._at_end():
                if await self._response.pour(self._pass_on):
                    owed = self._end()
                    if owed:
                        sink(owed)
                elif self._tap.failure is None and not self._tap.done:
                    return False
        except UpstreamError as failure:
            self._break(failure)
        return True

    async def __anext__(self) -> bytes:
        tap = self._tap
        if not self._flows:  # else there was no last event yet
            self._reply.given = tap.done
        try:
            while self._flows or not await self._at_end():
                try:
                    passed = tap.feed(await self._next())
                    if not self._flows or tap.done or tap.failure is not None:
                        self._look()
                except StopAsyncIteration:
                    passed = self._end()
                if passed:
                    return passed
        except UpstreamError as failure:
            self._break(failure)
        raise StopAsyncIteration

    async def asend(self, value: None) -> bytes:
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> bytes:
        self._flows = False
        self._is_over = True
        raise typ if val is None else val

    async def aclose(self) -> None:
        """Read no more of it."""
        self._flows = False
        self._is_over = True

    def _pass_on(self, data: bytes) -> bool:
        tap = self._tap
        passed = tap.feed(data)
        if self._flows and not tap.done and tap.failure is None:
            return not passed or self._sink(passed)
        self._look()
        taken = not passed or self._sink(passed)
        if tap.done:
            self._reply.given = taken
        return taken and tap.failure is None and not tap.done

    def _look(self) -> None:
        """See whether there is content, and whether this was the end."""
        tap, reply = self._tap, self._reply
        if reply.content_at is None and tap.has_content:
            reply.content_at = time.monotonic()
        is_over = self._is_over or tap.done or tap.failure is not None
        self._flows = reply.has_content and not is_over

    def _end(self) -> bytes:
        """The upstream's body has ended: what the client is owed."""
        self._has_ended = True
        owed = self._tap.end()
        self._look()
        self._flows = False
        return owed

    async def _at_end(self) -> bool:
        """Whether nothing more comes. Raises what the tap found."""
        tap = self._tap
        if self._is_over:
            return True
        if tap.failure is not None:
            raise tap.failure
        if tap.done and not self._has_ended:
            await _drain(self._response)
        self._is_over = tap.done or self._has_ended
        return self._is_over

    def _break(self, failure: UpstreamError) -> NoReturn:
        self._flows = False
        self._is_over = True
        self._sign(failure)
        raise failure


async def _drain(response: HttpResponse) -> None:
    try:
        async with asyncio.timeout(_AFTER_DONE):
            await response.pour(lambda _: True)
    except (TimeoutError, UpstreamError):
        return
