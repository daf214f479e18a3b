"""One limit of one subject: generic cell rate arithmetic in whole numbers, and its settings.

GCRA is the ATM Forum's generic cell rate algorithm: one number says when the bucket will be full
again. A cost moves it on; what would move it too far is refused.
"""

# ruff: noqa: FURB136 - max() is a call, and this is on the path of each request

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from proxy_core._limits import LimitState
from proxy_core.errors import ConfigurationError

if TYPE_CHECKING:
    from proxy_core._limits import Limit

__all__ = ["Bucket", "LimiterSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterSettings:
    """How a limit's amount is spread over its period. Raises ConfigurationError."""

    mode: Literal["smooth", "strict"] = "smooth"
    """``smooth``: the amount flows back evenly, beside a burst; ``strict``: never more than the
    amount in any period, at the price of a lower steady rate."""
    burst: float | None = None
    """The burst, as a share of the period. None: 1 when smooth (the whole amount at once), 1/6
    when strict (86 % of the amount as a steady rate, a seventh of it at once)."""
    lease: float = 3600.0
    """Seconds after which a reservation that nobody closed is taken for lost."""

    def __post_init__(self) -> None:
        if self.mode not in ("smooth", "strict"):
            raise ConfigurationError(
                f"limiter mode is {self.mode!r}: give smooth or strict", param="mode"
            )
        if self.burst is not None and not 0 < self.burst <= 1:
            raise ConfigurationError(
                f"limiter burst is {self.burst!r}: give a share of the period above 0, up to 1",
                param="burst",
            )
        if not 0 < self.lease < math.inf:
            raise ConfigurationError(
                f"limiter lease is {self.lease!r}: give seconds above 0", param="lease"
            )

    def spread(self, amount: int) -> tuple[int, int]:
        """The burst, and what flows back in a period."""
        if self.mode == "smooth":
            return max(1, int(amount * (self.burst or 1.0))), amount
        share = self.burst or 1 / 6
        burst = max(1, int(amount * share / (1 + share)))
        return burst, max(1, amount - burst)  # together the amount


class Bucket:
    """One limit of one subject.

    Integers, so that nothing is rounded. Time is in microseconds x ``refill``, and then one unit
    costs ``period``: `refill` units flow back in a period, `depth` is the cost of a whole burst.
    """

    __slots__ = ("depth", "due", "held", "limit", "period", "refill", "settled")

    window = 0
    """A budget has windows, a bucket is one for ever."""

    def __init__(self, limit: Limit, settings: LimiterSettings) -> None:
        self.due = 0
        self.settled = 0
        self.held = 0
        self.shape(limit, settings)

    def shape(self, limit: Limit, settings: LimiterSettings) -> None:
        self.limit = limit
        self.period = max(1, round(limit.per * 1e6))
        burst, self.refill = settings.spread(limit.amount)
        self.depth = burst * self.period

    def reshape(self, limit: Limit, settings: LimiterSettings, now: int) -> None:
        """Another limit from now on; what is used stays used, to the unit (rounded up)."""
        period, start = self.period, now * self.refill
        debts = (max(0, self.due - start), max(0, self.settled - start))
        self.shape(limit, settings)
        self.due, self.settled = (
            now * self.refill - (-debt * self.period) // period for debt in debts
        )

    def after(self, cost: int, now: int) -> int | None:
        """What `due` is once `cost` is taken; None when it doesn't fit."""
        start, due = now * self.refill, self.due
        due = (due if due > start else start) + cost * self.period
        return due if due - start <= self.depth else None

    def charge(self, due: int, cost: int) -> None:
        """Take what `after` had room for: `held` until it is settled."""
        self.due = due
        self.held += cost

    def settle(self, reserved: int, used: int, now: int) -> None:
        """Charge what was used instead of what was reserved, as if it had been so from the start.

        A refund may not bring `due` below what the use alone would have made it: time has given
        back a part of the reservation already, and giving that back twice would let more than the
        bound through. `settled` has each use charged when it became known, which is later than
        when it was admitted and so never less; what is in flight comes on top.
        """
        period, start, settled = self.period, now * self.refill, self.settled
        self.held = held = self.held - reserved
        self.settled = settled = (settled if settled > start else start) + used * period
        due = self.due + (used - reserved) * period
        if used < reserved:
            alone = settled + held * period
            if due < alone:
                due = alone if alone < self.due else self.due
        self.due = due

    def is_idle(self, now: int) -> bool:
        """Whether it is as good as new."""
        return self.due <= now * self.refill

    def wait(self, cost: int, now: int) -> float | None:
        """Seconds until `cost` fits; None when it is more than a burst and never will."""
        if cost * self.period > self.depth:
            return None
        over = max(0, self.due - now * self.refill) + cost * self.period - self.depth
        return max(0, -(-over // self.refill)) / 1e6

    def state(self, now: int) -> LimitState:
        debt = max(0, self.due - now * self.refill)
        free = max(0, self.depth - debt) // self.period
        return LimitState(self.limit.unit, self.limit.amount, free, debt / self.refill / 1e6)
