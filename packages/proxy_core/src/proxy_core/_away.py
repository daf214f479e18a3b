"""What a process grants while the store of a shared limiter is away: its own part of each limit."""

# ruff: noqa: SLF001 - it charges what its inner limiter granted

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from proxy_core._bucket import Bucket, LimiterSettings
from proxy_core._limiter import RateLimiter
from proxy_core._limits import Limit, Limits, dollars
from proxy_core.errors import LimitExceeded
from proxy_logging import StoreChanged, fan_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from proxy_core._limiter import Reservation
    from proxy_core._share import Share, SharedSettings
    from proxy_core._shared_limiter import SharedRateLimiter
    from proxy_logging import Observer

__all__ = ["Away", "LocalReservation"]


class LocalReservation:
    """What one request was granted while the store is away; see Reservation for the surface."""

    __slots__ = ("_inner", "_is_closed", "_is_settled", "_limiter", "_money", "_shares", "tokens")

    def __init__(
        self,
        limiter: SharedRateLimiter,
        inner: Reservation,
        shares: Sequence[Share],
        costs: Sequence[int],
    ) -> None:
        self.tokens = costs[1]
        self._money = costs[4]
        self._inner = inner
        self._limiter = limiter
        self._shares = shares
        self._is_settled = False
        self._is_closed = False

    def settle(
        self, tokens_used: int, *, output: int | None = None, money: int | None = None
    ) -> None:
        """Charge what was really used; see Reservation. The store is told when it is back."""
        if self._is_settled:
            return
        self._is_settled = True
        self._inner.settle(tokens_used, output=output)
        used = self._money if money is None else max(0, money)
        for share in self._shares:
            if share.limits.budget is not None:
                share.done[4][2] += used
                share.grace += self._money - used

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            self.settle(0, output=0, money=0)
        else:
            self.settle(self.tokens)
        self._inner.__exit__(kind, error, trace)
        if not self._is_closed:
            self._is_closed = True
            self._limiter.reservations_open -= 1
            for share in self._shares:
                share.close()
                self._limiter._pump.due(share)


class Away:
    """On while the store is away."""

    def __init__(
        self, settings: SharedSettings, clock: Callable[[], float], observer: Observer | None
    ) -> None:
        self._settings = settings
        self._observer = fan_out() if observer is None else fan_out(observer)
        self._clock = clock
        self._since = 0.0
        self._replicas = 1
        self._limits: dict[Limits, Limits] = {}
        self._inner = self._fresh()
        self._graced: set[str] = set()
        self.is_on = False

    def _fresh(self) -> RateLimiter:
        spread = LimiterSettings(mode=self._settings.mode, burst=self._settings.burst)
        return RateLimiter("local share", spread, clock=self._clock)

    def begin(self, replicas: int) -> None:
        """The store went away; the first to notice says so."""
        if not self.is_on:
            self.is_on = True
            self._observer(StoreChanged(store="limits", after="away"))
            self._since = self._clock()
            self._replicas = replicas
            self._limits = {}
            self._graced = set()

    def end(self, shares: Mapping[str, Share]) -> None:
        """The store is back: what our own part is still owed is charged there."""
        self.is_on = False
        self._observer(StoreChanged(store="limits", after="back"))
        now = int(self._clock() * 1e6 + 0.5)
        for subject, account in self._inner._accounts.items():
            share = shares.get(subject)
            for place, line in account.lines:
                if share is not None and isinstance(line, Bucket):
                    owed = max(0, line.due - now * line.refill)
                    share.done[place][2] += -(-owed // line.period)
        self._inner = self._fresh()

    def reserve(
        self, limiter: SharedRateLimiter, shares: Sequence[Share], costs: Sequence[int]
    ) -> LocalReservation:
        """Grant what the parts have room for. Raises LimitExceeded."""
        for share in shares:
            self._check_budget(share, costs[4])
        (subject, limits), *also = [(share.subject, self._part(share.limits)) for share in shares]
        inner = self._inner.reserve(subject, limits, tokens=costs[1], output=costs[3], also=also)
        limiter.reservations_open += 1
        for share in shares:
            share.grace -= costs[4]
            share.open += 1
            share.spare -= 1
        return LocalReservation(limiter, inner, shares, costs)

    def _part(self, limits: Limits) -> Limits:
        part = self._limits.get(limits)
        if part is None:
            count = self._replicas

            def divided(rate: Limit | None) -> Limit | None:
                return rate and replace(rate, amount=max(1, rate.amount // count))

            slots = limits.concurrent and max(1, limits.concurrent // count)
            rates = [divided(rate) for rate in limits.rates]
            part = Limits(rates[0], rates[1], slots, rates[2], rates[3], None, limits.scope)
            self._limits[limits] = part
        return part

    def _check_budget(self, share: Share, cost: int) -> None:
        """Let a hard budget spend a part of its known rest, for the time of its grace."""
        budget = share.limits.budget
        if budget is None or not budget.hard:
            return
        if share.subject not in self._graced:
            self._graced.add(share.subject)
            rest = 0 if share.known is None else budget.nano_usd - int(share.known["spent"])
            part = max(0, rest) * self._settings.grace_part / self._replicas
            share.grace = int(part)
        if cost > share.grace or self._clock() >= self._since + self._settings.grace:
            whose = f" of this {share.limits.scope}" if share.limits.scope else ""
            raise LimitExceeded(
                f"budget {budget}{whose}: what is left of it can't be known at the moment, and "
                f"this request may cost {dollars(cost)}",
                limit="budget",
                retry_after=self._settings.probe * 2,
                subject=share.subject,
                scope=share.limits.scope,
            )
