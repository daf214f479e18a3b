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

    __slots__ = ("_has_ended", "_is_over", "_reply", "_response", "_sign", "_sink", "_tap")

    def __init__(
        self,
        response: HttpResponse,
        tap: Tap,
        reply: Reply,
        sign: Callable[[UpstreamError], None],
    ) -> None:
        self._response = response
        self._tap = tap
        self._reply = reply
        self._sign = sign
        self._sink: Sink
        self._has_ended = False
        """Whether the upstream's body was read to its end."""
        self._is_over = False

    async def pour(self, sink: Sink) -> bool:
        """Give all that passes to ``sink``; see ``poured``."""
        self._sink = sink
        # Who comes again has taken what was given before.
        self._reply.given = self._tap.done
        try:
            while not await self._at_end():
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
        self._reply.given = self._tap.done
        try:
            while not await self._at_end():
                try:
                    passed = self._tap.feed(await self._response.body.__anext__())
                    self._note_content()
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
        self._is_over = True
        raise typ if val is None else val

    async def aclose(self) -> None:
        """Read no more of it."""
        self._is_over = True

    def _pass_on(self, data: bytes) -> bool:
        tap = self._tap
        passed = tap.feed(data)
        if self._reply.content_at is None:
            self._note_content()
        taken = not passed or self._sink(passed)
        if tap.done:
            self._reply.given = taken
        return taken and tap.failure is None and not tap.done

    def _note_content(self) -> None:
        if self._reply.content_at is None and self._tap.has_content:
            self._reply.content_at = time.monotonic()

    def _end(self) -> bytes:
        """The upstream's body has ended: what the client is owed."""
        self._has_ended = True
        owed = self._tap.end()
        self._note_content()
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
        self._is_over = True
        self._sign(failure)
        raise failure


async def _drain(response: HttpResponse) -> None:
    try:
        async with asyncio.timeout(_AFTER_DONE):
            await response.pour(lambda _: True)
    except (TimeoutError, UpstreamError):
        return
