"""Waiting for an upstream: one future for whoever waits, its deadline, and what ends it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from proxy_core._http1._line import Line
from proxy_core._http1._parser import ResponseParser
from proxy_core._http1._wheel import Wheel
from proxy_core._http_types import timed_out
from proxy_core.errors import UpstreamError

__all__ = ["Waiting"]


class Waiting(Line):
    """What is known of an answer that comes, and who is told of it."""

    __slots__ = (
        "_heard_at",
        "_held",
        "_limit",
        "_loop",
        "_phase",
        "_sent_at",
        "_sink",
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
        self._sent_at = self._limit = self._until = self._heard_at = 0.0

    def answers(self, limit: float, until: float) -> asyncio.Future[bool]:
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
            waiter.set_result(True)
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

    async def pour(
        self, sink: Callable[[bytes], bool], limit: float, phase: str, until: float, then: float
    ) -> bool:
        """Wait as ``more`` does, but give what comes to ``sink`` at once, as long as it is True.

        The first piece may take ``limit`` seconds, each later one ``then``, and all of them must
        come before ``until``. False as soon as the sink was; True at the end of the body, or when
        there is an error. What the sink raises is raised.
        """
        if self._waiter is not None:
            raise RuntimeError("the answer is already being read")
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiter, self._sink = waiter, sink
        now = self._heard_at = time.monotonic()
        self._limit, self._until, self._phase = then, until, phase
        if until - now <= limit:
            limit, self._phase = until - now, "total"
        self._wheel.set(self, now + limit)
        try:
            return await waiter
        except BaseException:
            self._waiter = self._sink = None
            self.deadline = math.inf
            raise

    def ring(self) -> None:
        """See the deadline pass. While a sink is fed, the pieces move it on without a word."""
        if self._waiter is None:
            return
        if self._sink is not None and self._phase == "between_events":
            deadline = min(self._heard_at + self._limit, self._until)
            if deadline > time.monotonic():
                self._wheel.set(self, deadline)
                return
            if deadline == self._until:
                self._phase = "total"
        self._fail(timed_out(self._phase))

    def _feed_sink(self, sink: Callable[[bytes], bool]) -> None:
        self._heard_at = now = time.monotonic()
        if self._phase != "between_events":
            # Only the first piece is waited for in another way.
            self._phase = "between_events"
            self._wheel.set(self, min(now + self._limit, self._until))
        parts = self.parser.parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._held = 0
        try:
            goes_on = sink(data)
        except Exception as error:  # noqa: BLE001 - it is raised where the body is read
            waiter = self._waiter
            self._waiter = self._sink = None
            self.deadline = math.inf
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
            return
        if not goes_on or self.parser.complete:
            self._wake(goes_on)

    def _be_patient(self, now: float) -> None:
        deadline, self._phase = now + self._limit, "first_byte"
        if self._until <= deadline:
            deadline, self._phase = self._until, "total"
        self._wheel.set(self, deadline)

    def _taken(self) -> None:
        if self._waiter is not None and not self.parser.status:
            self._be_patient(time.monotonic())

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
            self.deadline = math.inf
            if not waiter.done():  # it may have been cancelled
                waiter.set_result(found)
