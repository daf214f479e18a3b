"""The throttle gate: an upstream that asks to wait is not asked before then.

It is no breaker: the endpoint is well, and says so. One gate stands for what the upstream counts
together, that is one credential, or one credential and one model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy_core._throttle_headers import Quota, read_quotas
from proxy_core.errors import ConfigurationError

__all__ = ["ThrottleGate", "ThrottleSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleSettings:
    """How long to wait. Times are seconds.

    Raises ConfigurationError that names the field and the value when one can't be used.
    """

    base: float = 1.0
    """The first wait when the upstream says none; it doubles each time, up to ``cap``."""
    cap: float = 60.0
    longest: float = 3600.0
    """However long the upstream says; then it is asked again."""
    refill: float = 0.05
    """Of what is used up, this share must be back, and one unit at least."""

    def __post_init__(self) -> None:
        for field in ("base", "cap", "longest"):
            value = getattr(self, field)
            if not 0 < value < math.inf:
                raise ConfigurationError(
                    f"throttle {field} is {value!r}: give a number of seconds above 0", param=field
                )
        if not 0 <= self.refill <= 1:
            raise ConfigurationError(
                f"throttle refill is {self.refill!r}: give a share from 0 to 1", param="refill"
            )


class ThrottleGate:
    """Closed for as long as the upstream says, or for 1 s x 2^n when it says nothing.

    ::

        gate = ThrottleGate("openai/key-1")
        if gate.wait == 0:
            ...  # ask
            gate.throttled(retry_after=7.0)  # it answered 429

    Args:
        name: of what is throttled.
        settings: see ThrottleSettings.
        clock: monotonic seconds.
        wall: the time since 1970, for headers that hold dates.
    """

    __slots__ = ("_clock", "_quotas", "_settings", "_times", "_told_at", "_wall", "name", "until")

    def __init__(
        self,
        name: str,
        settings: ThrottleSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.until = 0.0
        """On its clock, when it may be asked."""
        self._settings = settings or ThrottleSettings()
        self._clock = clock
        self._wall = wall
        self._times = 0
        self._quotas: list[Quota] = []
        self._told_at = 0.0

    @property
    def wait(self) -> float:
        """Seconds until it may be asked, 0: now."""
        return max(0.0, self.until - self._clock())

    @property
    def headroom(self) -> float:
        """The scarcest of what the last headers told, from 0 to 1; 1 when nothing is known."""
        if not self._quotas:
            return 1.0
        since = self._clock() - self._told_at
        return min(_share_after(quota, since) for quota in self._quotas)

    def taken(self) -> None:
        """A request goes out: until the next headers come, there is one less."""
        for number, quota in enumerate(self._quotas):
            if quota.kind == "requests" and quota.remaining:
                self._quotas[number] = Quota(
                    quota.kind, quota.remaining - 1, quota.limit, quota.reset
                )

    def told(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Read an answer's headers, lower-case names. What is used up closes it until some is back.

        Headers count units that come back one by one, and tell when the last one does. Waiting
        for all of them would idle, so it waits for ``refill`` of them.
        """
        quotas = read_quotas(headers, self._wall())
        if quotas:
            self._quotas, self._told_at = quotas, self._clock()
            for quota in quotas:
                if quota.remaining == 0 and quota.reset:
                    share = max(self._settings.refill, 1 / quota.limit) if quota.limit else 1.0
                    self.hold(quota.reset * min(share, 1.0))

    def succeeded(self) -> None:
        """It was asked and did not throttle: the next wait of our own is short again."""
        self._times = 0

    def throttled(self, retry_after: float | None = None) -> None:
        """It asked to wait. What it said is kept to, up to ``longest``."""
        if retry_after is None:
            retry_after = min(self._settings.base * 2.0**self._times, self._settings.cap)
            if retry_after < self._settings.cap:
                self._times += 1
        self.hold(retry_after)

    def hold(self, seconds: float) -> None:
        """Closed for at least so long; a longer wait stays."""
        self.until = max(self.until, self._clock() + min(seconds, self._settings.longest))

    def reset(self) -> None:
        """Open, and nothing is known."""
        self.until = 0.0
        self._times = 0
        self._quotas = []


def _share_after(quota: Quota, seconds: float) -> float:
    if quota.reset is None:
        return quota.share
    if seconds >= quota.reset:
        return 1.0
    return quota.share + (1 - quota.share) * seconds / quota.reset
