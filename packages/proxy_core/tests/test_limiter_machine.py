"""The limiter against an exact, naive model of itself, by a state machine."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from proxy_core import Budget, Limit, Limits, RateLimiter, Reservation
from proxy_core._limiter import LimiterSettings
from proxy_core.errors import LimitExceeded, UpstreamFailed


@dataclass
class Granted:
    """One admitted request, as the model knows it. Times are whole milliseconds."""

    reservation: Reservation
    at: int
    reserved: int
    used: int | None = None

    @property
    def charge(self) -> int:
        return self.reserved if self.used is None else self.used


def exact_due(charges: list[tuple[int, int]], unit: Fraction) -> Fraction:
    """When the bucket is full again, had all charges been known from the start."""
    due = Fraction(0)
    for at, cost in charges:
        due = max(due, Fraction(at)) + cost * unit
    return due


class LimiterMachine(RuleBasedStateMachine):
    """Requests that are granted, refused, settled with less or more, failed or cancelled.

    The model is a list of all that was admitted, judged anew each time with fractions, as if each
    use had been known from the start. The limiter admits nothing that the model wouldn't, and the
    same as long as requests use what they reserved.
    """

    granted: Bundle[Granted] = Bundle("granted")

    @initialize(
        mode=st.sampled_from(["smooth", "strict"]),
        burst=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
        requests=st.integers(1, 6),
        tokens=st.integers(1, 40),
    )
    def build(
        self, mode: Literal["smooth", "strict"], burst: float, requests: int, tokens: int
    ) -> None:
        self.ms = 5000
        self.limiter = RateLimiter(
            settings=LimiterSettings(mode=mode, burst=burst, lease=1e9),
            clock=lambda: self.ms / 1000,
        )
        self.limits = Limits(Limit("requests", requests, 2.0), Limit("tokens", tokens, 3.0), 3)
        self.all: list[Granted] = []
        self.open: list[Granted] = []
        self.as_reserved = True
        shares = {"smooth": burst, "strict": burst / (1 + burst)}
        self.bursts = {
            name: max(1, int(amount * shares[mode]))
            for name, amount in (("requests", requests), ("tokens", tokens))
        }
        self.units = {
            name: Fraction(period, max(1, amount - self.bursts[name] * (mode == "strict")))
            for name, amount, period in (("requests", requests, 2000), ("tokens", tokens, 3000))
        }

    def charges(self, name: str) -> list[tuple[int, int]]:
        if name == "requests":
            return [(one.at, 1) for one in self.all]
        return [(one.at, one.charge) for one in self.all]

    def fits(self, name: str, cost: int) -> bool:
        due = max(Fraction(self.ms), exact_due(self.charges(name), self.units[name]))
        return due + (cost - self.bursts[name]) * self.units[name] <= self.ms

    @rule(target=granted, eighths=st.sampled_from([0, 1, 2, 4, 7, 8, 9]))
    def reserve(self, eighths: int) -> Granted | MultipleResults[Granted]:
        tokens = -(-self.bursts["tokens"] * eighths // 8)
        requests_fit, tokens_fit = self.fits("requests", 1), self.fits("tokens", tokens)
        before = self.limiter.look("ci", self.limits)
        try:
            reservation = self.limiter.reserve("ci", self.limits, tokens=tokens)
        except LimitExceeded as error:
            refused = error
        else:
            assert requests_fit
            assert tokens_fit
            assert len(self.open) < 3
            one = Granted(reservation, self.ms, tokens)
            self.all.append(one)
            self.open.append(one)
            return one
        assert self.limiter.look("ci", self.limits) == before
        assert (refused.retry_after is None) == (tokens > self.bursts["tokens"])
        if self.as_reserved:
            assert not (requests_fit and tokens_fit and len(self.open) < 3)
        return multiple()

    def tokens_left(self) -> int:
        return self.limiter.look("ci", self.limits)[1].remaining

    @rule(one=granted, used=st.one_of(st.just(0), st.integers(0, 60)))
    def settle(self, one: Granted, used: int) -> None:
        before = self.tokens_left()
        one.reservation.settle(used)
        assert used > one.reserved or self.tokens_left() >= before
        if one.used is None:
            one.used = used
            self.as_reserved = self.as_reserved and used == one.reserved

    @rule(one=consumes(granted), error=st.sampled_from([None, UpstreamFailed(""), GeneratorExit()]))
    def end(self, one: Granted, error: BaseException | None) -> None:
        one.reservation.__exit__(type(error), error, None)
        self.open.remove(one)
        if one.used is None:
            one.used = 0 if isinstance(error, Exception) else one.reserved
            self.as_reserved = self.as_reserved and one.used == one.reserved

    @rule(ms=st.sampled_from([1, 50, 333, 1000, 2000, 2999, 3000, 10_000, 3_600_000]))
    def wait(self, ms: int) -> None:
        self.ms += ms

    @invariant()
    def slots(self) -> None:
        assert self.limiter.slots_in_use == self.limiter.reservations_open == len(self.open)

    def teardown(self) -> None:
        """In any window, what was admitted has used at most the bound and its own debts.

        After a long quiet time, all of it is free again.
        """
        for name in ("requests", "tokens"):
            charges = self.charges(name)
            for first in range(len(self.all)):
                used = debts = 0
                for last in range(first, len(self.all)):
                    used += charges[last][1]
                    if name == "tokens":
                        debts += max(0, self.all[last].charge - self.all[last].reserved)
                    time = self.all[last].at - self.all[first].at
                    assert used <= self.bursts[name] + time / self.units[name] + debts
        for one in self.open:
            one.reservation.__exit__(None, None, None)
        self.ms += 10**9
        free = {state.name: state.remaining for state in self.limiter.look("ci", self.limits)}
        assert free == {**self.bursts, "concurrent": 3}


TestLimiterMachine = LimiterMachine.TestCase


@dataclass
class Wide:
    """One admitted request of a key and its team, as the model knows it."""

    reservation: Reservation
    key: str
    at: int
    day: int
    reserved: tuple[int, int, int]
    used: tuple[int, int, int] | None = None

    @property
    def charge(self) -> tuple[int, int, int]:
        """Input, output, money."""
        return self.reserved if self.used is None else self.used


class WideLimiterMachine(RuleBasedStateMachine):
    """Two keys of one team: input, output and money, each reserved for both subjects in one step.

    A key has input and output tokens and slots, the team output tokens and a hard budget a day. The
    model is again a list of all that was admitted.
    """

    granted: Bundle[Wide] = Bundle("granted")
    KEY = Limits(
        input_tokens=Limit("input_tokens", 20, 2.0),
        output_tokens=Limit("output_tokens", 12, 3.0),
        concurrent=2,
    )
    TEAM = Limits(
        output_tokens=Limit("output_tokens", 18, 4.0), budget=Budget(40, "day", hard=True)
    )

    def __init__(self) -> None:
        super().__init__()
        self.ms = 5000
        self.day = 20_000
        self.limiter = RateLimiter(
            settings=LimiterSettings(lease=1e9),
            clock=lambda: self.ms / 1000,
            wall=lambda: self.day * 86400.0,
        )
        self.all: list[Wide] = []
        self.open: list[Wide] = []
        self.as_reserved = True

    def room(self, charges: list[tuple[int, int]], cost: int, limit: Limit) -> bool:
        unit = Fraction(int(limit.per * 1000), limit.amount)
        due = max(Fraction(self.ms), exact_due(charges, unit))
        return due + (cost - limit.amount) * unit <= self.ms

    def fits(self, key: str, given: int, output: int, money: int) -> bool:
        own = [one for one in self.all if one.key == key]
        lines = [
            (own, 0, given, self.KEY.input_tokens),
            (own, 1, output, self.KEY.output_tokens),
            (self.all, 1, output, self.TEAM.output_tokens),
        ]
        spent = sum(one.charge[2] for one in self.all if one.day == self.day)
        return spent + money <= 40 and all(
            limit is not None and self.room([(one.at, one.charge[n]) for one in ones], cost, limit)
            for ones, n, cost, limit in lines
        )

    @rule(
        target=granted,
        key=st.sampled_from(["a", "b"]),
        given=st.sampled_from([0, 1, 5, 20, 21]),
        output=st.sampled_from([0, 1, 4, 12]),
        money=st.sampled_from([0, 1, 15, 40]),
    )
    def reserve(
        self, key: str, given: int, output: int, money: int
    ) -> Wide | MultipleResults[Wide]:
        fits = self.fits(key, given, output, money)
        slots = sum(one.key == key for one in self.open)
        before = [self.limiter.look("team", self.TEAM), self.limiter.look(key, self.KEY)]
        try:
            reservation = self.limiter.reserve(
                key,
                self.KEY,
                tokens=given + output,
                output=output,
                money=money,
                also=[("team", self.TEAM)],
            )
        except LimitExceeded:
            after = [self.limiter.look("team", self.TEAM), self.limiter.look(key, self.KEY)]
            assert after == before
            assert not (self.as_reserved and fits and slots < 2)
            return multiple()
        assert fits
        assert slots < 2
        one = Wide(reservation, key, self.ms, self.day, (given, output, money))
        self.all.append(one)
        self.open.append(one)
        return one

    @rule(one=granted, eighths=st.sampled_from([0, 4, 8, 10]))
    def settle(self, one: Wide, eighths: int) -> None:
        given, output, money = (amount * eighths // 8 for amount in one.reserved)
        one.reservation.settle(given + output, output=output, money=money)
        if one.used is None:
            one.used = (given, output, money)
            self.as_reserved = self.as_reserved and one.used == one.reserved

    @rule(one=consumes(granted), error=st.sampled_from([None, UpstreamFailed(""), GeneratorExit()]))
    def end(self, one: Wide, error: BaseException | None) -> None:
        one.reservation.__exit__(type(error), error, None)
        self.open.remove(one)
        if one.used is None:
            one.used = (0, 0, 0) if isinstance(error, Exception) else one.reserved
            self.as_reserved = self.as_reserved and one.used == one.reserved

    @rule(ms=st.sampled_from([1, 250, 1000, 3000, 60_000]))
    def wait(self, ms: int) -> None:
        self.ms += ms

    @rule()
    def next_day(self) -> None:
        self.day += 1

    @invariant()
    def money_and_slots(self) -> None:
        spent = sum(one.charge[2] for one in self.all if one.day == self.day)
        told = {state.name: state.remaining for state in self.limiter.look("team", self.TEAM)}
        assert told["budget"] == max(0, 40 - spent)
        assert self.limiter.slots_in_use == self.limiter.reservations_open == len(self.open)


TestWideLimiterMachine = WideLimiterMachine.TestCase
