"""Whether to ask again: attempts, a budget for them, and the wait before one."""

# ruff: noqa: SLF001 - a policy and its budget are two halves of one

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy_core._deadline import Deadline
from proxy_core.errors import (
    ConfigurationError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamTimeout,
)

__all__ = ["RetryBudget", "RetryPolicy", "RetrySettings", "repeats"]

_MOST_DIGITS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """How often to ask again. Times are seconds.

    Raises ConfigurationError that names the field and the value when one can't be used.
    """

    attempts: int = 3
    """For one request, the first included, over all deployments."""
    share: float = 0.2
    """Retries in vain as a share of the requests; Finagle's and Envoy's figure."""
    per_second: float = 1.0
    """Retries a second that are there besides, as long as some upstream answers."""
    reserve: float = 50.0
    """Retries that may be saved up, and are there at the start."""
    alive_for: float = 10.0
    """How long after an answer ``per_second`` goes on: with all upstreams down it would only add
    to the load."""
    billed: int = 1
    """Failures after which the answer may have been made, and billed, that are followed by another
    attempt: a connection that broke, a time that ran out."""
    backoff: float = 0.25
    """The wait before the same deployment is asked again is a random part of this, doubled each
    time (full jitter)."""
    backoff_cap: float = 8.0
    longest_wait: float = 10.0
    """A ``retry_after`` longer than this is for the client to wait."""

    def __post_init__(self) -> None:
        self._check("attempts", self.attempts >= 1, "a whole number, 1 or more")
        self._check("billed", self.billed >= 0, "a whole number, 0 or more")
        self._check("share", 0 <= self.share <= 1, "a share from 0 to 1")
        for field in ("per_second", "alive_for", "backoff", "backoff_cap", "longest_wait"):
            self._check(field, 0 <= getattr(self, field) < math.inf, "a number, 0 or more")
        self._check("reserve", 1 <= self.reserve < math.inf, "a number, 1 or more")

    def _check(self, field: str, fits: bool, remedy: str) -> None:
        if not fits:
            value = getattr(self, field)
            raise ConfigurationError(f"retry {field} is {value!r}: give {remedy}", param=field)


class RetryBudget:
    """Retries as a share of the requests, so that a bad day isn't made worse. A token bucket.

    A retry that is answered gives its token back: it did what had to be done. So in any V seconds
    with R requests, retries less those answered are at most ``reserve + share * R + per_second *
    V``. Without an answer for ``alive_for`` seconds the last part ends: with every upstream down,
    what is left in the long run is ``share * R``.
    """

    __slots__ = (
        "_alive_until",
        "_answered",
        "_at",
        "_clock",
        "_requests",
        "_tokens",
        "name",
        "settings",
    )

    def __init__(
        self,
        name: str = "retries",
        settings: RetrySettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.settings = settings or RetrySettings()
        self._clock = clock
        self._tokens = self.settings.reserve
        self._requests = 0
        """Those that came since the last look."""
        self._answered = False
        """Whether some upstream answered since then."""
        self._at = clock()
        self._alive_until = self._at + self.settings.alive_for

    @property
    def left(self) -> float:
        """Retries that are there now."""
        self._refill()
        return self._tokens

    def request(self) -> None:
        """A request has come, not counting those that a client repeats."""
        self._requests += 1

    def answered(self, *, retried: bool = False) -> None:
        """Some upstream has answered a request; `retried`: one that had been taken a retry for."""
        self._answered = True
        if retried:
            self._tokens = min(self.settings.reserve, self._tokens + 1)

    def take(self) -> bool:
        """One retry, if there is one."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def retune(self, settings: RetrySettings) -> None:
        """Other settings from now on; what was saved up stays, as far as it may."""
        self._refill()
        self.settings = settings
        self._tokens = min(self._tokens, settings.reserve)

    def _refill(self) -> None:
        now = self._clock()
        if self._answered:
            self._answered = False
            self._alive_until = now + self.settings.alive_for
        paid = max(0.0, min(now, self._alive_until) - self._at)
        grown = paid * self.settings.per_second + self._requests * self.settings.share
        self._tokens = min(self.settings.reserve, self._tokens + grown)
        self._requests = 0
        self._at = now


class RetryPolicy:
    """Whether a failed request is tried again, and after what wait.

    ::

        retries = RetryPolicy("chat")
        most = retries.begin()  # attempts that this request may make
        wait = retries.again([failure], asked=1, most=most)  # seconds, or None: give up

    Another deployment is asked at once; the same one after a wait with full jitter, or after its
    own ``retry_after``. Each retry is taken from the budget, which all requests share.

    Args:
        name: in errors.
        settings: see RetrySettings.
        clock: monotonic seconds.
        rng: numbers from 0 to below 1, for the jitter.
    """

    def __init__(
        self,
        name: str = "retries",
        settings: RetrySettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.settings = settings or RetrySettings()
        self.budget = RetryBudget(name, self.settings, clock=clock)
        self._clock = clock
        self._rng = rng

    def begin(self, repeated: int = 0) -> int:
        """How many attempts a request may make. A client's own repetition gets half of them.

        It adds nothing to the budget either: the client's retries and ours don't multiply.
        """
        if not repeated:
            self.budget._requests += 1
            return self.settings.attempts
        return (self.settings.attempts + 1) // 2

    def answered(self, asked: int = 1) -> None:
        """An upstream has answered, at the attempt of this number."""
        if asked > 1:
            self.budget.answered(retried=True)
        else:
            self.budget._answered = True

    def again(
        self,
        failures: Sequence[UpstreamError],
        *,
        asked: int,
        most: int,
        same: bool = False,
        deadline: Deadline | None = None,
        useful: float = 0.0,
    ) -> float | None:
        """Seconds to wait before the next attempt; None: there is to be none.

        Args:
            failures: of this request so far, the last one last; a refusal by a breaker may be
                among them, it is no attempt.
            asked: attempts that reached an upstream.
            most: what ``begin`` gave.
            same: whether the deployment that failed last is the one to be asked.
            deadline: the request's.
            useful: seconds that an attempt takes at least (its time to the first token): one that
                can't finish isn't made.
        """
        if asked >= most or sum(map(_may_be_billed, failures)) > self.settings.billed:
            return None
        wait = 0.0
        if same:
            last = failures[-1]
            asks = last.retry_after or 0.0
            if not last.retryable or asks > self.settings.longest_wait:
                return None
            step = self.settings.backoff * 2.0 ** min(asked - 1, 30)
            wait = asks + self._rng() * min(self.settings.backoff_cap, step)
        if deadline is not None and not deadline.fits(wait + useful, self._clock()):
            return None
        return wait if not asked or self.budget.take() else None

    def retune(self, settings: RetrySettings) -> None:
        """Other settings from now on; the budget keeps what it has."""
        self.settings = settings
        self.budget.retune(settings)


def repeats(retry_count: str) -> int:
    """How often the client itself has tried this before, from ``x-stainless-retry-count``."""
    if retry_count in ("", "0"):  # nearly always
        return 0
    fits = 0 < len(retry_count) <= _MOST_DIGITS and retry_count.isascii() and retry_count.isdigit()
    return int(retry_count) if fits else 0


def _may_be_billed(failure: UpstreamError) -> bool:
    return isinstance(failure, UpstreamDisconnected | UpstreamTimeout)
