"""What calls have brought: the sliding window of a closed breaker, the trial of a half-open one.

A permit reports to the one that admitted it. When that is over, it tells nobody that matters.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from proxy_core._breaker_settings import BreakerSettings

__all__ = ["Phase", "Trial", "Window"]


class Phase:
    """What a permit reports to. A success before ``ends`` is counted by one more in ``successes``.

    All else about a success is for the state machine to say: permits count the ordinary one
    themselves, since it is on the way of each request.
    """

    __slots__ = ("clock", "ends", "successes")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.successes = 0
        self.ends = -math.inf


class Trial(Phase):
    """The probes of one half-open phase, from its opening on. No success of it is ordinary."""

    __slots__ = ("after",)

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.after: Window | None = None
        """Where the probes' later news count, once it has recovered."""


class _Place:
    """A place among the successes: how many came before it, and how many later ones don't hold."""

    __slots__ = ("at", "undone")

    def __init__(self, at: int) -> None:
        self.at = at
        self.undone = 0


class _Bucket(_Place):
    """The results of one slice of the window."""

    __slots__ = ("abandoned", "began", "failures", "slow")

    def __init__(self, began: float, at: int) -> None:
        super().__init__(at)
        self.began = began
        self.failures = 0
        self.abandoned = 0
        self.slow: list[int] = []


class Window(Phase):
    """What calls have brought of late. A bucket begins with the first result after the last one.

    Successes are one number that only grows. Buckets and failures remember where they stand in it,
    so a success costs one addition, and what lies between two of them is a subtraction.
    """

    __slots__ = ("_buckets", "_row", "_settings", "_width", "began")

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.began = clock()
        self._buckets: deque[_Bucket] = deque()
        self._row: deque[_Place] = deque()
        self.retune(settings)
        self._turn(self.began)

    def retune(self, settings: BreakerSettings) -> None:
        """Judge by these from now on. What was counted stays; the next bucket has the new width."""
        self._settings = settings
        self._width = settings.window / settings.buckets
        self._buckets = deque(self._buckets, settings.buckets)
        self._row = deque(self._row, settings.consecutive)

    def succeeded(self, now: float, *, slow: bool) -> int:
        """Count it, and say which one it is."""
        self._turn(now)
        self.successes += 1
        if slow:
            self._buckets[-1].slow.append(self.successes)
        return self.successes

    def abandoned(self, now: float) -> None:
        """Count a call that its caller gave up, after a time that makes it a slow one."""
        self._turn(now)
        self._buckets[-1].abandoned += 1

    def failed(self, now: float, success: int) -> str:
        """Count it, and say why the breaker should open; empty when it shouldn't.

        ``success`` is which one the call had been before, 0: none. That one doesn't hold.
        """
        self._turn(now)
        if success:
            self._take_back(success)
        self._buckets[-1].failures += 1
        self._row.append(_Place(self.successes))
        streak = sum(each.at + each.undone == self.successes for each in self._row)
        if streak >= self._settings.consecutive:
            return f"{streak} failures in a row"
        calls, failures, _ = self._sums(now)
        if calls < self._settings.min_calls or failures < self._settings.failure_rate * calls:
            return ""
        return f"{failures} of {calls} calls failed"

    def too_slow(self, now: float) -> str:
        """Why the breaker should open for slowness; empty when it shouldn't."""
        calls, _, slow = self._sums(now)
        if calls < self._settings.min_calls or slow < self._settings.slow_rate * calls:
            return ""
        return f"{slow} of {calls} calls were slow"

    def _sums(self, now: float) -> tuple[int, int, int]:
        calls = failures = slow = 0
        next_at = self.successes
        for bucket in reversed(self._buckets):
            if bucket.began <= now - self._settings.window:
                break
            failures += bucket.failures
            slow += len(bucket.slow) + bucket.abandoned
            calls += next_at - bucket.at - bucket.undone + bucket.failures + bucket.abandoned
            next_at = bucket.at
        return calls, failures, slow

    def _turn(self, now: float) -> None:
        if now >= self.ends:
            self._buckets.append(_Bucket(now, self.successes))
            self.ends = now + self._width

    def _take_back(self, success: int) -> None:
        for failure in self._row:
            failure.undone += failure.at < success
        bucket = next((each for each in reversed(self._buckets) if each.at < success), None)
        if bucket is not None:
            bucket.undone += 1
            with suppress(ValueError):
                bucket.slow.remove(success)
