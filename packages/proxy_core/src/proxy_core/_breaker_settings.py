"""What a breaker goes by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from proxy_core.errors import ConfigurationError

__all__ = ["BreakerSettings", "Counts"]

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
    slow_first: float = 30.0
    """A stream is slow when its first content takes so long; infinity: never."""
    slow_whole: float = 300.0
    """A whole answer is slow when it takes so long, half of the usual time limit."""
    slow_rate: float = 0.8
    """Opens at this share of slow calls or above; looked at when a slow one comes in."""
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
    """A probe without a verdict for so long makes room for another one: twice ``slow_first``."""
    trickle: float = 1.0
    """How often an open breaker tries a call of those who have nobody else to ask."""
    slow_start: float = 15.0
    """After a recovery its ``weight`` grows to 1 in this time; 0: at once."""
    slow_start_share: float = 0.1
    """The weight that it begins with then."""
    counts: Counts = Exception
    """Which exceptions that aren't ours count as failures: a type, types, or a predicate."""

    def __post_init__(self) -> None:
        for field in ("window", "open_time", "healthy_interval", "lease", "trickle"):
            self._check(field, 0 < getattr(self, field) < math.inf, "a number of seconds above 0")
        for field in ("slow_first", "slow_whole"):
            self._check(field, getattr(self, field) > 0, "seconds above 0, or infinity for never")
        for field in ("buckets", "min_calls", "consecutive", "probes", "successes"):
            self._check(field, getattr(self, field) >= 1, "a whole number, 1 or more")
        for field in ("failure_rate", "slow_rate", "slow_start_share"):
            self._check(field, 0 < getattr(self, field) <= 1, "a share above 0, up to 1")
        self._check("jitter", 0 <= self.jitter < 1, "a share from 0 to below 1")
        self._check("open_cap", self.open_time <= self.open_cap < math.inf, "open_time or more")
        for field in ("retry_after_cap", "slow_start"):
            self._check(field, 0 <= getattr(self, field) < math.inf, "seconds, 0 or more")

    def _check(self, field: str, fits: bool, remedy: str) -> None:
        if not fits:
            value = getattr(self, field)
            raise ConfigurationError(f"breaker {field} is {value!r}: give {remedy}", param=field)
