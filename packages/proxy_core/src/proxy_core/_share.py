"""What one process has in hand of one subject's limits, and what it must still tell the store."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from proxy_core._bucket import LimiterSettings
from proxy_core._share_report import refusal
from proxy_core.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from proxy_core._limits import Limits
    from proxy_core.errors import LimitExceeded

__all__ = ["PLENTY", "Share", "SharedSettings", "Waiter"]

PLENTY = 1 << 60
"""What is free of a line that has no limit."""
_LINES = range(5)
_NEVER = -1
_WAITING = 256
"""Requests decided by one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSettings(LimiterSettings):
    """How a limit is shared by replicas. Times are in seconds. Raises ConfigurationError."""

    hold: float = 0.1
    """How long a share taken in advance may be spent. The bound grows by what flows back in it."""
    tick: float = 0.02
    """How often a busy subject's use is told to the store, and its share renewed."""
    advance: float = 0.05
    """The most that is taken in advance, as a part of the burst; 0: nothing is."""
    patience: float = 0.08
    """How long a request waits for the store, once; then each process decides by its own share."""
    probe: float = 0.5
    """How often a store that is away is tried."""
    silence: float = 10.0
    """After so long, what a silent replica holds is free again."""
    grace: float = 60.0
    """How long a hard budget stays open while the store is away."""
    grace_part: float = 0.05
    """How much of its rest may be spent meanwhile, by all replicas together."""
    pending: int = 10_000
    """Subjects remembered whose settlements the store hasn't got; further ones are counted lost."""

    def __post_init__(self) -> None:
        LimiterSettings.__post_init__(self)
        for name in ("hold", "tick", "patience", "probe", "silence"):
            if not 0 < getattr(self, name) < 3600:
                raise ConfigurationError(
                    f"shared limiter's {name} is {getattr(self, name)!r}: give seconds above 0",
                    param=name,
                )
        if not 0 <= self.advance <= 1:
            raise ConfigurationError(
                f"shared limiter's advance is {self.advance!r}: give a part from 0 to 1",
                param="advance",
            )


class Waiter:
    """A request that waits for the store: what it costs, slot included, and its turn."""

    __slots__ = ("costs", "decided")

    def __init__(
        self, costs: Sequence[int], decided: asyncio.Future[LimitExceeded | Literal[True] | None]
    ) -> None:
        self.costs = costs
        self.decided = decided
        """True: granted. An error: refused. None: the store is away."""


class Share:
    """One subject, as this process knows it: what is free in its hand, in use, and unsaid."""

    __slots__ = (
        *(
            "asked_at",
            "done",
            "flying",
            "free",
            "generation",
            "grace",
            "held",
            "hold",
            "is_due",
            "is_hot",
        ),
        *("known", "known_at", "limits", "lines", "open", "served", "settings", "spare"),
        *(
            "spent_tokens",
            "subject",
            "taken",
            "until",
            "void",
            "waiting",
            "was_taken",
            "wide",
            "window",
        ),
    )

    def __init__(self, subject: str, limits: Limits, settings: SharedSettings) -> None:
        self.subject = subject
        self.settings = settings
        self.done = [[0, 0, 0] for _ in _LINES]
        """For each line: reserved and settled, used of it, used beyond it. Not yet told."""
        self.flying: dict[str, Any] | None = None
        """A message that may or may not have arrived. It is repeated until it is answered."""
        self.waiting: deque[Waiter] = deque()
        self.open = 0
        self.generation = 0
        self.window = _NEVER
        self.held = [0] * 5
        """What the store granted and wasn't told the end of."""
        self.void = [0] * 5
        """How much of that was granted by a store that lost its data since."""
        self.known: dict[str, Any] | None = None
        """The store's last answer."""
        self.known_at = 0
        self.asked_at = 0
        self.grace = 0
        self.is_due = False
        self.is_hot = False
        self.served = 0
        self.spent_tokens = 0
        self.taken = [0] * 5
        self.was_taken = [0] * 5
        self.free: list[int] = [0] * 5
        self.spare = 0
        self._shape(limits)

    def _shape(self, limits: Limits) -> None:
        self.limits = limits
        rates = limits.rates
        hold = min([self.settings.hold, *(rate.per / 10 for rate in rates if rate)])
        self.hold = int(hold * 1e6)
        self.lines: list[tuple[int, int, int] | Literal[False]] = []
        for rate in rates:
            if rate is None:
                self.lines.append(False)
                continue
            burst, refill = self.settings.spread(rate.amount)
            period = round(rate.per * 1e6)
            # Strict promises the amount in any period, so what is held meanwhile is part of it.
            is_strict = self.settings.mode == "strict"
            self.lines.append((burst, refill, period + self.hold if is_strict else period))
        self.wide = any(self.lines[2:]) or limits.budget is not None
        self.until = 0
        self.free = [0 if self.is_limited(place) else PLENTY for place in _LINES]
        self.spare = PLENTY if limits.concurrent is None else 0

    def is_limited(self, place: int) -> bool:
        return bool(self.lines[place]) if place < 4 else self.limits.budget is not None

    def adopt(self, limits: Limits) -> None:
        """Other limits from now on: what is in hand goes back."""
        if limits == self.limits:
            self.limits = limits
            return
        self.give_up()
        self._shape(limits)

    def costs(self, costs: Sequence[int]) -> tuple[int, ...]:
        """What the store is asked for: nothing where there is no limit."""
        slot = 0 if self.limits.concurrent is None else 1
        return (*(cost if self.is_limited(n) else 0 for n, cost in enumerate(costs)), slot)

    def fits(self, costs: Sequence[int], now: int) -> bool:
        """Whether it can be served from what is in hand."""
        if now >= self.until or self.spare < 1:
            return False
        return all(free >= cost for free, cost in zip(self.free, costs, strict=True))

    def take(self, costs: Sequence[int]) -> None:
        """Serve it from what is in hand."""
        for place in _LINES:
            self.free[place] -= costs[place]
        self.spare -= 1
        self.admitted(costs)

    def admitted(self, costs: Sequence[int]) -> None:
        """Count one that was let in. The request itself is used at once."""
        self.open += 1
        self.done[0][0] += costs[0]
        self.done[0][1] += costs[0]
        for place in _LINES:
            self.taken[place] += costs[place]

    def undo(self, costs: Sequence[int]) -> None:
        """Give all of an admitted request back: it didn't take place."""
        self.close()
        self.done[0][1] -= costs[0]
        for place in _LINES[1:]:
            self.done[place][0] += costs[place]

    def settle(self, place: int, reserved: int, used: int, generation: int) -> None:
        """Charge what was used. The rest is free here if the share is the same, else goes back."""
        done = self.done[place]
        if used >= reserved:
            done[0] += reserved
            done[1] += reserved
            done[2] += used - reserved
        elif generation == self.generation:
            self.free[place] += reserved - used
            done[0] += used
            done[1] += used
        else:
            done[0] += reserved
            done[1] += used

    def close(self) -> None:
        """A slot is free. The store counts it as ours until it is told."""
        self.open -= 1
        self.spare += 1

    def give_up(self) -> None:
        """Spend no more of what is in hand; it goes back with the next message."""
        for place in _LINES:
            if self.is_limited(place):
                self.done[place][0] += self.free[place]
                self.free[place] = 0
        if self.limits.concurrent is not None:
            self.spare = 0
        self.until = 0
        self.generation += 1

    @property
    def has_news(self) -> bool:
        """Whether there is anything that the store should know."""
        if self.flying or self.waiting or self.served or 0 < self.spare < PLENTY // 2:
            return True
        return any(
            any(self.done[place]) or self.free[place] for place in _LINES if self.is_limited(place)
        )

    def message(self, replica: str, number: int, now: int, *, leaves: bool) -> dict[str, Any]:
        """What to tell and ask the store. Until it is answered, the same again."""
        if self.flying is not None:
            return self.flying
        self._count()
        self.asked_at = now
        self.waiting = deque(one for one in self.waiting if not one.decided.done())
        self.is_hot = max(self.taken[0], self.was_taken[0]) > 1 and not leaves
        if not self.is_hot or now >= self.until:
            self.give_up()
        _forgive(self)
        want = _want(self)
        if self.limits.concurrent is not None:
            self.spare = min(self.spare, want[5])
            want[5] -= self.spare
        budget = self.limits.budget
        done = [
            line if self.is_limited(place) else [0, 0, 0] for place, line in enumerate(self.done)
        ]
        self.flying = {
            "id": replica,
            "number": number,
            "lease": int(self.settings.silence * 1e6),
            "lines": self.lines,
            "budget": budget and (budget.nano_usd, budget.per, budget.hard),
            "slots": self.limits.concurrent or False,
            "open": 0 if self.limits.concurrent is None else self.open + self.spare,
            "done": done,
            "window": self.window,
            "waiting": [waiter.costs for waiter in itertools.islice(self.waiting, _WAITING)],
            "want": want,
            "leaves": leaves,
        }
        self.done = [[0, 0, 0] for _ in _LINES]
        self.was_taken, self.taken = self.taken, [0] * 5
        return self.flying

    def _count(self) -> None:
        """Add what the short way of a reservation has counted."""
        self.done[0][0] += self.served
        self.done[0][1] += self.served
        self.taken[0] += self.served
        self.taken[1] += self.spent_tokens
        self.served = self.spent_tokens = 0

    def hear(self, answer: dict[str, Any], now: int) -> None:
        """Take what the store granted, and tell those who waited."""
        flying, self.flying = self.flying or {}, None
        leftover = self.free
        for place in _LINES:
            self.held[place] = max(0, self.held[place] - flying["done"][place][0])
        if answer["is_new"] and self.known is not None:
            self.void, self.held = self.held, [0] * 5
        self.known, self.known_at = answer, now
        self.generation += 1
        self.until = self.asked_at + self.hold
        if answer["window"] != self.window:
            self.window = answer["window"]
            self.done[4][:2] = 0, 0
            leftover[4] = 0
        for place in _LINES:
            if self.is_limited(place):
                self.done[place][0] += leftover[place]
                self.free[place] = int(answer["share"][place])
                self.held[place] += self.free[place]
        if self.limits.concurrent is not None:
            self.spare += int(answer["share"][5])
        for costs, verdict in zip(flying["waiting"], answer["verdicts"], strict=True):
            self._tell(self.waiting.popleft() if self.waiting else None, costs, verdict, now)
        while self.waiting and self.fits(self.waiting[0].costs[:5], now):
            waiter = self.waiting.popleft()
            if not waiter.decided.done():
                self.take(waiter.costs[:5])
                waiter.decided.set_result(True)

    def _tell(self, waiter: Waiter | None, costs: Sequence[int], verdict: bool, now: int) -> None:
        is_gone = waiter is None or waiter.decided.done()
        if verdict:
            for place in _LINES:
                self.held[place] += costs[place]
            self.admitted(costs)
            if is_gone:
                self.undo(costs)
        if waiter is not None and not is_gone:
            waiter.decided.set_result(True if verdict else refusal(self, costs, now))


def _forgive(share: Share) -> None:
    """Of a reservation that the store has lost, nothing comes back: its use is a debt."""
    for done, place in zip(share.done, _LINES, strict=True):
        lost = min(done[0], share.void[place])
        used = min(done[1], lost)
        share.void[place] -= lost
        done[:] = done[0] - lost, done[1] - used, done[2] + used


def _want(share: Share) -> list[int]:
    """A share in advance: what two such moments would need, and little of the burst."""
    if not share.is_hot:
        return [0] * 6
    want = [2 * max(pair) for pair in zip(share.taken, share.was_taken, strict=True)]
    for place, line in enumerate(share.lines):
        want[place] = min(want[place], int(line[0] * share.settings.advance)) if line else 0
    budget, slots = share.limits.budget, share.limits.concurrent
    # Money in hand is lost to its window when a process dies: less of it.
    most = 0 if budget is None else int(budget.nano_usd * share.settings.advance / 10)
    want[4] = min(want[4], most)
    spare = 0 if slots is None or slots < 4 else max(1, int(slots * share.settings.advance))
    want.append(min(2 * share.taken[0], spare))
    return want
