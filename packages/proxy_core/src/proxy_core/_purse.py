"""One budget of one subject: money spent in a fixed window of the calendar."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy_core._limits import LimitState

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy_core._limits import Budget, Period

__all__ = ["Purse", "window_of"]

_HOUR, _DAY = 3600, 86400
_MONDAY = 4 * _DAY  # 1970-01-05


def window_of(period: Period, now: float) -> tuple[int, float]:
    """Where the window around ``now`` begins and ends, in seconds since 1970, by UTC."""
    if period == "total":
        return 0, math.inf
    if period == "month":
        day = datetime.fromtimestamp(now, UTC)
        begin = datetime(day.year, day.month, 1, tzinfo=UTC)
        end = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
        return int(begin.timestamp()), end.timestamp()
    length = {"hour": _HOUR, "day": _DAY, "week": 7 * _DAY}[period]
    first = _MONDAY if period == "week" else 0
    start = int((now - first) // length) * length + first
    return start, float(start + length)


class Purse:
    """What was spent in the window, with what is reserved; a Bucket's surface, in nano-dollars.

    A request is charged to the window that admitted it: what is settled after that window's end
    changes nothing. A wall clock that is set back reopens no window.
    """

    __slots__ = ("budget", "due", "ends", "wall", "window")

    def __init__(self, budget: Budget, wall: Callable[[], float] = time.time) -> None:
        self.budget = budget
        self.wall = wall
        self.due = 0
        self.window, self.ends = window_of(budget.per, wall())

    def reshape(self, budget: Budget) -> None:
        """Another budget from now on; what was spent stays spent, unless the period is another."""
        if budget.per != self.budget.per:
            self.due = 0
            self.window, self.ends = window_of(budget.per, self.wall())
        self.budget = budget

    def is_idle(self, _now: int) -> bool:
        """Whether it is as good as new."""
        self.turn()
        return self.due == 0

    def turn(self) -> float:
        """Open a new window when the last one is over; gives the wall clock's time."""
        now = self.wall()
        if now >= self.ends:
            self.due = 0
            self.window, self.ends = window_of(self.budget.per, now)
        return now

    def after(self, cost: int, _now: int) -> int | None:
        """What is spent once `cost` is; None when a hard budget hasn't got it."""
        self.turn()
        due = self.due + cost
        return None if self.budget.hard and due > self.budget.nano_usd else due

    def charge(self, due: int, _cost: int) -> None:
        """Take what `after` had room for."""
        self.due = due

    def settle(self, reserved: int, used: int, _now: int) -> None:
        """Charge what it really cost instead of what was reserved."""
        self.due += used - reserved

    def wait(self, cost: int, _now: int) -> float | None:
        """Seconds until the next window; None when `cost` is more than all of the budget."""
        left = self.ends - self.turn()
        return None if cost > self.budget.nano_usd or math.isinf(left) else max(0.0, left)

    def state(self, _now: int) -> LimitState:
        left = self.ends - self.turn()
        amount = self.budget.nano_usd
        # A total never resets: no time to tell.
        reset = 0.0 if math.isinf(left) else max(0.0, left)
        return LimitState("budget", amount, max(0, amount - self.due), reset)
