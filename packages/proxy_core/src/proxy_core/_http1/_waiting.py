"""Waiting for an upstream: one future for whoever waits, its deadline, and what ends it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from proxy_core._http1._line import Line
from proxy_core._http1._parser import ResponseParser
from proxy_core._http1._wheel import Wheel
from proxy_core._http_types import timed_out
from proxy_core.errors import UpstreamError

__all__ = ["Waiting"]

_NEVER: Final = math.inf


class Waiting(Line):
    """What is known of an answer that comes, and who is told of it."""

    __slots__ = (
        "_due",
        "_heard_at",
        "_held",
        "_limit",
        "_loop",
        "_phase",
        "_sent_at",
        "_sink",
        "_then",
        "_until",
        "_waiter",
        "_wheel",
        "error",
        "parser",
    )

    def __init__(self, wheel: Wheel) -> None:
        super().__init__()
        self.parser = ResponseParser()
        self.error: UpstreamError | None = None
        """Why nothing more will come."""
        self._loop = asyncio.get_running_loop()
        self._wheel = wheel
        self._waiter: asyncio.Future[bool] | None = None
        self._sink: Callable[[bytes], bool] | None = None
        """Whom pieces of the body are given to at once."""
        self._phase = "first_byte"
        self._held = 0
        self._heard_at = 0.0
        """When the sink was last given a piece; 0 before the first one."""
        self._sent_at = self._limit = self._due = self._until = 0.0
        self._then = _NEVER

    def check(self) -> None:
        """Raise what ended the wait for a head, if none came."""
        if not self.parser.status and self.error is not None:
            raise self.error from None

    async def more(self, limit: float, phase: str) -> None:
        """Wait ``limit`` seconds for more of the body, its end or an error."""
        due = time.monotonic() + limit
        waiter = self._awaited(phase, due, _NEVER, due)
        try:
            await waiter
        except BaseException:
            self._forget_waiter()
            raise

    async def pour(
        self, sink: Callable[[bytes], bool], limit: float, phase: str, until: float, then: float
    ) -> bool:
        """Wait as ``more`` does, but give what comes to ``sink`` at once, as long as it is True.

        The first piece may take ``limit`` seconds, each later one ``then``, and all of them must
        come before ``until``. False as soon as the sink was; True at the end of the body, or when
        there is an error. What the sink raises is raised.
        """
        now = time.monotonic()
        look_at = min(now + min(limit, then), until)
        waiter = self._awaited(phase, now + limit, until, look_at)
        self._sink, self._then = sink, then
        try:
            return await waiter
        except BaseException:
            self._forget_waiter()
            raise

    def ring(self) -> None:
        """See the deadline pass. While a sink is fed, the pieces move it on without a word."""
        if self._waiter is None:
            return
        due, phase, now = self._due, self._phase, time.monotonic()
        if self._heard_at:
            due, phase = self._heard_at + self._then, "between_events"
        deadline = min(due, self._until)
        if deadline > now:
            # The first piece may come right now, and the next one be late that much later.
            self._wheel.set(self, min(deadline, now + self._then))
        else:
            self._fail(timed_out("total" if self._until <= due else phase))

    def _awaited(
        self, phase: str, due: float, until: float, look_at: float
    ) -> asyncio.Future[bool]:
        """What is done when there is news.

        The deadline is ``due`` in this phase and ``until`` in all. At ``look_at``, before which
        nothing can be late, it is looked at.
        """
        if self._waiter is not None:
            raise RuntimeError("the answer is already being read")
        self._phase, self._due, self._until = phase, due, until
        self._heard_at = 0.0
        waiter = self._waiter = self._loop.create_future()
        self._wheel.set(self, look_at)
        return waiter

    def _taken(self) -> None:
        if self._waiter is not None and not self.parser.status:
            self._due = time.monotonic() + self._limit
            self._wheel.set(self, min(self._due, self._until))

    def _fail(self, error: UpstreamError) -> None:
        """Nothing more will come; what has come is still there to be read."""
        if self.error is None:
            self.error = error
        self._unsent = None
        self._wake()

    def _wake(self, found: bool = True) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = self._sink = None
            self.deadline = _NEVER
            if not waiter.done():  # it may have been cancelled
                waiter.set_result(found)

    def _break(self, error: Exception) -> None:
        """The sink has failed: its error is raised where the body is read."""
        waiter = self._waiter
        self._forget_waiter()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _forget_waiter(self) -> None:
        self._waiter = self._sink = None
        self.deadline = _NEVER
