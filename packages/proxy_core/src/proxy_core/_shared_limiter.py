"""The rate limiter of several processes: the same surface, over Redis or Valkey."""

# ruff: noqa: SLF001, FURB136 - a reservation and its limiter are two halves of one; max() is a call

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from proxy_core._account import what_was_used
from proxy_core._limiter import limits_of
from proxy_core._limiter_store import RedisStore
from proxy_core._limits import MOST_NANO_USD, Limits
from proxy_core._pump import Pump
from proxy_core._share import Share, SharedSettings
from proxy_core._share_report import states
from proxy_core.errors import ConfigurationError, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy_core._away import LocalReservation
    from proxy_core._limiter_store import LimiterStore
    from proxy_core._limits import Limit, LimitState
    from proxy_logging import Observer

__all__ = ["SharedRateLimiter", "SharedReservation"]

_OPEN, _SETTLED, _CLOSED = range(3)
_MOST_TOKENS = 2**31


class SharedReservation:
    """What one request was granted; see Reservation, which has the same surface."""

    __slots__ = ("_generation", "_limiter", "_parts", "_share", "_stage", "tokens")

    def __init__(
        self,
        limiter: SharedRateLimiter,
        share: Share,
        tokens: int,
        parts: Sequence[tuple[Share, Sequence[int], int, int]] = (),
    ) -> None:
        self.tokens = tokens
        self._limiter = limiter
        self._share = share
        self._generation = share.generation
        self._parts = parts
        self._stage = _OPEN

    def settle(
        self, tokens_used: int, *, output: int | None = None, money: int | None = None
    ) -> None:
        """Charge what was really used; see Reservation. It never waits: the store is told later."""
        if self._stage != _OPEN:
            return
        self._stage = _SETTLED
        tokens = tokens_used if tokens_used > 0 else 0
        if not self._parts:
            self._share.settle(1, self.tokens, tokens, self._generation)
            return
        for share, costs, generation, window in self._parts:
            used = what_was_used(costs, tokens, output, money)
            for place in (1, 2, 3, 4):
                # The books of a window that is over are closed.
                if place < 4 or window == share.window:
                    share.settle(place, costs[place], used[place], generation)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._stage == _OPEN:
            if isinstance(error, Exception):
                self.settle(0, output=0, money=0)
            else:
                self.settle(self.tokens)
        if self._stage != _CLOSED:
            self._stage = _CLOSED
            limiter = self._limiter
            limiter.reservations_open -= 1
            for share in [part[0] for part in self._parts] or (self._share,):
                share.close()
                if not share.is_due:
                    limiter._pump.due(share)


class SharedRateLimiter:
    """A RateLimiter whose limits hold for all processes that use the same store.

    ::

        limiter = SharedRateLimiter(url="redis://127.0.0.1:6379/0")
        reservation = limiter.reserve("user-1", limits, tokens=4000)
        if reservation is None:
            reservation = await limiter.ask("user-1", limits, tokens=4000)
        with reservation:
            reservation.settle(await answer())

    A subject that is asked for often is served from a share that was taken in advance, so that
    ``reserve`` decides at once; otherwise ``ask`` waits for one round trip, which all who wait for
    that subject have in common.

    How exact it is, for a limit of L per W seconds, a burst of B units, and ``hold`` seconds for
    which a share may be spent: in *any* window of V seconds, what the requests admitted in it by
    all processes have used is at most

    - smooth: ``B + L x (V + hold) / W``;
    - strict: ``B + (L - B) x (V + hold) / (W + hold)``, so never more than L in one period;

    plus what requests in flight will use beyond their reservation, which becomes a debt. `hold` is
    at most a tenth of the shortest period. Slots are never more than ``concurrent``, but for those
    of a process that was silent for ``silence`` seconds and still runs.

    While the store is away each process grants the limits divided by the replicas last seen, and
    hard budgets a part of their rest, for a while; a hard budget that the store has told nothing of
    refuses. So a window around the loss admits at most a local burst more, and one around its
    return too. What was used meanwhile is told to the store when it is back.

    Time is the store's own, so replicas need no common clock. It belongs to one event loop.

    Args:
        name: for whoever owns several.
        settings: see SharedSettings.
        url: the store; see RedisStore. Or give ``store``.
        rate: what binds subjects for which nothing else is said.
        clock: monotonic seconds.
        observer: gets a StoreChanged when the store goes away, and when it is back.
    """

    def __init__(
        self,
        name: str = "limiter",
        settings: SharedSettings | None = None,
        *,
        url: str = "",
        store: LimiterStore | None = None,
        rate: str | Limit | None = None,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self.settings = settings or SharedSettings()
        self.limits = limits_of(rate)
        self.reservations_open = 0
        self._clock = clock
        self._pump = Pump(self.settings, store or RedisStore(url), clock, observer)
        self._shares = self._pump.shares

    @property
    def subjects(self) -> int:
        """How many subjects it remembers."""
        return len(self._shares)

    @property
    def slots_in_use(self) -> int:
        """Open reservations of this process."""
        return self.reservations_open

    @property
    def replicas(self) -> int:
        """How many processes share the limits, as far as it is known."""
        return self._pump.replicas

    @property
    def settlements_lost(self) -> int:
        """Subjects dropped, or left at the end, with settlements that the store hadn't got."""
        return self._pump.settlements_lost

    @property
    def is_away(self) -> bool:
        """Whether the store doesn't answer, so that this process decides by its own share."""
        return self._pump.away.is_on

    def reserve(
        self,
        subject: str,
        limits: Limits | None = None,
        *,
        tokens: int = 0,
        output: int = 0,
        money: int = 0,
        also: Sequence[tuple[str, Limits]] = (),
    ) -> SharedReservation | LocalReservation | None:
        """As a RateLimiter's where it can be decided here; None where ``ask`` is needed.

        Raises LimitExceeded only while the store is away: who refuses otherwise is ``ask``.
        """
        share = self._shares.get(subject)
        if (
            share is not None
            and share.limits is limits
            and not share.wide
            and not also
            and share.free[0] > 0
            and share.free[1] >= tokens
            and share.spare > 0
            and int(self._clock() * 1e6 + 0.5) < share.until
        ):
            share.free[0] -= 1
            share.free[1] -= tokens
            share.spare -= 1
            share.open += 1
            share.served += 1
            share.spent_tokens += tokens
            self.reservations_open += 1
            if not share.is_due:
                self._pump.due(share)
            return SharedReservation(self, share, tokens)
        costs = _costs(tokens, output, money)
        pairs = self._pairs(subject, limits, also)
        now = self._pump.now()
        if all(one.fits(costs, now) for one in pairs):
            for one in pairs:
                one.take(costs)
            return self._granted(pairs, costs)
        return self._pump.away.reserve(self, pairs, costs) if self._pump.away.is_on else None

    async def ask(
        self,
        subject: str,
        limits: Limits | None = None,
        *,
        tokens: int = 0,
        output: int = 0,
        money: int = 0,
        also: Sequence[tuple[str, Limits]] = (),
    ) -> SharedReservation | LocalReservation:
        """As a RateLimiter's ``reserve``, of all processes. Waits for ``patience`` at most.

        Raises LimitExceeded, and nothing is consumed.
        """
        costs = _costs(tokens, output, money)
        return await self._ask(self._pairs(subject, limits, also), costs)

    async def take(self, subject: str, cost: int = 1) -> bool:
        """Whether `cost` fits the limiter's own ``rate``; if so it is used, if not nothing is.

        Raises ConfigurationError when the limiter was built without a rate.
        """
        if self.limits == Limits():
            raise ConfigurationError('take() needs a rate: SharedRateLimiter(rate="100/minute", …)')
        costs = (cost, cost, cost, cost, 0)
        try:
            reservation = await self._ask(self._pairs(subject, None, ()), costs)
        except LimitExceeded:
            return False
        with reservation:
            return True

    def look(self, subject: str, limits: Limits | None = None) -> tuple[LimitState, ...]:
        """Where the subject stands, by what the store told last; see RateLimiter."""
        limits = self.limits if limits is None else limits
        share = self._shares.get(subject)
        if share is None or share.limits != limits:
            share = Share(subject, limits, self.settings)
        return states(share, self._pump.now())

    def _now(self) -> int:
        return int(self._clock() * 1e6 + 0.5)

    async def start(self) -> bool:
        """Find the store, so that the first request needn't; False when it is away."""
        return await self._pump.start()

    async def aclose(self) -> None:
        """Give back what is in hand, tell what was used, and close the connections."""
        await self._pump.aclose()

    def _pairs(
        self, subject: str, limits: Limits | None, also: Sequence[tuple[str, Limits]]
    ) -> list[Share]:
        shares = [self._pump.share(subject, self.limits if limits is None else limits)]
        for other, bounds in also:
            share = self._pump.share(other, bounds)
            if share not in shares:
                shares.append(share)
        return shares

    def _granted(self, shares: Sequence[Share], costs: Sequence[int]) -> SharedReservation:
        self.reservations_open += 1
        parts = [(share, costs, share.generation, share.window) for share in shares]
        for share in shares:
            if not share.is_due:
                self._pump.due(share)
        return SharedReservation(self, shares[0], costs[1], parts)

    async def _ask(
        self, shares: Sequence[Share], costs: Sequence[int]
    ) -> SharedReservation | LocalReservation:
        taken: list[Share] = []
        try:
            for share in shares:
                if self._pump.away.is_on or not await self._pump.decided(share, costs):
                    break
                taken.append(share)
            else:
                taken, whole = [], taken
                return self._granted(whole, costs)
        finally:
            for share in taken:
                share.undo(costs)
                self._pump.due(share)
        return self._pump.away.reserve(self, shares, costs)


def _costs(tokens: int, output: int, money: int) -> tuple[int, int, int, int, int]:
    """What a request takes of each line, no more than a store's numbers hold: it never fits."""
    tokens, output = min(tokens, _MOST_TOKENS), min(output, _MOST_TOKENS)
    return (1, tokens, tokens - output, output, min(money, MOST_NANO_USD))
