"""What a breaker is told, and what it remembers: its settings and its sliding window of results."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from proxy_core.errors import ConfigurationError

__all__ = ["BreakerSettings", "Counts", "Early", "FINAL", "Window", "predicate"]

Counts = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Which exceptions that aren't ours count as failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When a breaker opens, for how long, and how it closes again. Times are seconds.

    Raises ConfigurationError that names the field and the value when one can't be used.
    """

    window: float = 60.0
    """Results older than this are forgotten, a bucket (``window / buckets``) at a time."""
    buckets: int = 12
    min_calls: int = 20
    """Below so many calls in the window, only the consecutive rule acts (Hystrix's figure)."""
    failure_rate: float = 0.5
    """Opens at this share of failures or above; looked at when a failure comes in."""
    consecutive: int = 5
    """Opens after so many failures in a row, however few the calls (Envoy's figure)."""
    open_time: float = 5.0
    """The first open time; it doubles each time up to ``open_cap``."""
    open_cap: float = 120.0
    jitter: float = 0.2
    """An open time is off by up to this share either way, so that a fleet doesn't probe at once."""
    retry_after_cap: float = 300.0
    """How far an upstream's ``retry_after`` may lengthen the open time."""
    healthy_interval: float = 60.0
    """Each such time spent closed takes one doubling back."""
    probes: int = 1
    """Calls that may be out at once while half open."""
    successes: int = 3
    """Successful probes that close the breaker."""
    lease: float = 60.0
    """A probe without a verdict for so long makes room for another one."""
    counts: Counts = Exception
    """Which exceptions that aren't ours count as failures: a type, types, or a predicate."""

    def __post_init__(self) -> None:
        for field in ("window", "open_time", "healthy_interval", "lease"):
            self._check(field, 0 < getattr(self, field) < math.inf, "a number of seconds above 0")
        for field in ("buckets", "min_calls", "consecutive", "probes", "successes"):
            self._check(field, getattr(self, field) >= 1, "a whole number, 1 or more")
        self._check("failure_rate", 0 < self.failure_rate <= 1, "a share above 0, up to 1")
        self._check("jitter", 0 <= self.jitter < 1, "a share from 0 to below 1")
        self._check("open_cap", self.open_time <= self.open_cap < math.inf, "open_time or more")
        self._check("retry_after_cap", 0 <= self.retry_after_cap < math.inf, "seconds, 0 or more")

    def _check(self, field: str, fits: bool, remedy: str) -> None:
        if not fits:
            value = getattr(self, field)
            raise ConfigurationError(f"breaker {field} is {value!r}: give {remedy}", param=field)


class Bucket:
    """The results of one slice of the window."""

    __slots__ = ("began", "calls", "failures")

    def __init__(self, began: float) -> None:
        self.began = began
        self.calls = 0
        self.failures = 0


class Early(NamedTuple):
    """What a success said early has changed, so that a later failure can take it back."""

    bucket: Bucket | None  # None: it was a probe's, and is final
    streak: int
    successes: int


FINAL = Early(None, 0, 0)
"""Of a success that nothing takes back."""


class Window:
    """What calls have brought of late. A bucket begins with the first result after the last one."""

    def __init__(self, settings: BreakerSettings, now: float) -> None:
        self.began = now
        self._buckets: deque[Bucket] = deque()
        self._streak = 0
        self._successes = 0
        self.retune(settings)
        self._next_bucket(now)

    def retune(self, settings: BreakerSettings) -> None:
        """Judge by these from now on. What was counted stays; the next bucket has the new width."""
        self._settings = settings
        self._width = settings.window / settings.buckets
        self._buckets = deque(self._buckets, maxlen=settings.buckets)

    def succeeded(self, now: float) -> Early:
        early = Early(self._count(now), self._streak, self._successes + 1)
        self._streak = 0
        self._successes += 1
        return early

    def failed(self, now: float, early: Early | None) -> str:
        """Count it, and say why the breaker should open; empty when it shouldn't."""
        self._count(now).failures += 1
        if early is not None and early.bucket is not None:
            early.bucket.calls -= 1
            if early.successes == self._successes:  # no other success has broken the row since
                self._streak += early.streak
        self._streak += 1
        if self._streak >= self._settings.consecutive:
            return f"{self._streak} failures in a row"
        live = [bucket for bucket in self._buckets if bucket.began > now - self._settings.window]
        calls = sum(bucket.calls for bucket in live)
        failures = sum(bucket.failures for bucket in live)
        if calls < self._settings.min_calls or failures < self._settings.failure_rate * calls:
            return ""
        return f"{failures} of {calls} calls failed"

    def _count(self, now: float) -> Bucket:
        if now >= self._ends:
            self._next_bucket(now)
        self._bucket.calls += 1
        return self._bucket

    def _next_bucket(self, now: float) -> None:
        self._bucket = Bucket(now)
        self._buckets.append(self._bucket)
        self._ends = now + self._width


def predicate(counts: Counts) -> Callable[[Exception], bool]:
    """Whether an exception counts, in one call."""
    if isinstance(counts, type | tuple):
        return lambda error: isinstance(error, counts)
    return counts
