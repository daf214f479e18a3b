from __future__ import annotations

import asyncio
import math
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core import Budget, Limit, Limits, RateLimiter, Unlimited
from proxy_core._limiter import LimiterSettings
from proxy_core.errors import ConfigurationError, LimitExceeded, UpstreamFailed
from proxy_core.testing import CountingLimiter, ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limiter(clock: ManualClock) -> RateLimiter:
    return RateLimiter(clock=clock)


def left(limiter: RateLimiter, limits: Limits, subject: str = "ci") -> dict[str, int]:
    return {state.name: state.remaining for state in limiter.look(subject, limits)}


@pytest.mark.parametrize(
    ("text", "amount", "per"),
    [
        ("60/minute", 60, 60.0),
        ("100000/hour", 100000, 3600.0),
        ("1_000 / Day", 1000, 86400.0),
        ("5/10s", 5, 10.0),
        ("3/2 minutes", 3, 120.0),
        ("7/sec", 7, 1.0),
    ],
)
def test_limits_are_read_as_people_write_them(text: str, amount: int, per: float) -> None:
    """An amount, a slash and a period, which may have a number of its own."""
    assert Limit.parse(text, unit="tokens") == Limit("tokens", amount, per)


@pytest.mark.parametrize(
    "text",
    [
        *("", "60", "60/", "/minute", "0/minute", "-1/minute", "1.5/s", "60/fortnight", "5/0s"),
        *("60/minute extra", "6\u0660/minute", "9" * 70 + "/minute"),
    ],
)
def test_a_text_that_is_no_limit_is_shown_with_the_remedy(text: str) -> None:
    """The error shows the text (not all of a long one) and a form that works."""
    with pytest.raises(ConfigurationError) as refused:
        Limit.parse(text)
    assert "60/minute" in refused.value.message or "1 or more" in refused.value.message
    assert len(refused.value.message) < 250


@given(st.integers(1, 10**12), st.sampled_from([1.0, 60.0, 3600.0, 86400.0, 10.0, 90.0]))
def test_a_limit_reads_back_what_it_writes(amount: int, per: float) -> None:
    """str() is a form that parse() takes."""
    limit = Limit("tokens", amount, per)
    assert Limit.parse(str(limit), "tokens") == limit


def test_the_smallest_limit_of_tokens_is_known() -> None:
    """Requests, slots and money don't count, and without a limit of tokens there is none."""
    free = Limits.parse(requests="1/s", concurrent=1, budget=Budget.usd("0.1"))
    assert free.fewest_tokens == sys.maxsize
    some = Limits.parse(tokens="30/s", input_tokens="20/s", output_tokens="25/s", requests="9/s")
    assert some.fewest_tokens == 20
    assert replace(some, input_tokens=None).fewest_tokens == 25


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limit("words", 1, 1.0),  # type: ignore[arg-type]
        lambda: Limit("requests", 0, 1.0),
        lambda: Limit("requests", 1.5, 1.0),  # type: ignore[arg-type]
        lambda: Limit("requests", 1, 0.0),
        lambda: Limit("requests", 1, math.nan),
        lambda: Limits(requests=Limit.parse("1/s", "tokens")),
        lambda: Limits(concurrent=0),
        lambda: LimiterSettings(mode="loose"),  # type: ignore[arg-type]
        lambda: LimiterSettings(burst=0.0),
        lambda: LimiterSettings(lease=0.0),
        lambda: RateLimiter(rate="many"),
        lambda: RateLimiter().take("user"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(make: object) -> None:
    """Wrong units, amounts, periods and settings are configuration errors."""
    with pytest.raises(ConfigurationError):
        make()  # type: ignore[operator]


def test_it_works_alone(clock: ManualClock) -> None:
    """take() is all that a library user needs: the burst, then one each 0.6 s, per subject."""
    limiter = RateLimiter(rate="100/minute", clock=clock)
    assert [limiter.take("user-1") for _ in range(101)] == [True] * 100 + [False]
    assert limiter.take("user-2", cost=100)
    assert not limiter.take("user-2")
    clock.advance(0.6 - 1e-6)
    assert not limiter.take("user-1")
    clock.advance(1e-6)
    assert limiter.take("user-1")
    assert not limiter.take("user-1")
    assert not limiter.take("user-3", cost=101)
    assert limiter.take("user-3", cost=100)


def test_a_rate_may_count_tokens(clock: ManualClock) -> None:
    """A limit of tokens as the rate binds reserve() and take() alike."""
    limiter = RateLimiter(rate=Limit.parse("1000/minute", "tokens"), clock=clock)
    assert limiter.take("user", cost=400)
    with limiter.reserve("user", tokens=600):
        assert not limiter.take("user")


def test_nothing_is_counted_when_one_limit_refuses(limiter: RateLimiter) -> None:
    """A refused request takes neither a request, nor tokens, nor a slot."""
    limits = Limits.parse(requests="10/minute", tokens="1000/minute", concurrent=2)
    with limiter.reserve("ci", limits, tokens=900):
        before = left(limiter, limits)
        for _ in range(5):
            with pytest.raises(LimitExceeded) as refused:
                limiter.reserve("ci", limits, tokens=200)
            assert refused.value.limit == "tokens"
        assert left(limiter, limits) == before == {"requests": 9, "tokens": 100, "concurrent": 1}
        assert limiter.reservations_open == 1


@pytest.mark.parametrize(
    ("limits", "limit", "wait"),
    [
        (Limits.parse(requests="1/minute"), "requests", 60.0),
        (Limits.parse(tokens="100/minute"), "tokens", 60.0),
        (Limits.parse(concurrent=1), "concurrent", 1.0),
        (Limits.parse(requests="1/hour", tokens="100/minute", concurrent=1), "requests", 3600.0),
    ],
)
def test_the_limit_that_binds_longest_is_named(
    limiter: RateLimiter, limits: Limits, limit: str, wait: float
) -> None:
    """The error says which limit, how much it grants, and when to try again."""
    with limiter.reserve("ci", limits, tokens=100), pytest.raises(LimitExceeded) as refused:
        limiter.reserve("ci", limits, tokens=100)
    assert refused.value.limit == limit
    assert refused.value.retry_after == pytest.approx(wait)
    told = getattr(limits, limit)
    assert str(told) in refused.value.message


def test_what_can_never_fit_says_so(limiter: RateLimiter) -> None:
    """More tokens than a burst have no retry_after: waiting doesn't help, less does."""
    limits = Limits.parse(requests="1/minute", tokens="1000/minute")
    limiter.reserve("ci", limits)
    with pytest.raises(LimitExceeded) as refused:
        limiter.reserve("ci", limits, tokens=1001)
    assert refused.value.limit == "tokens"
    assert refused.value.retry_after is None
    assert "1001" in refused.value.message
    assert "1000" in refused.value.message


@given(
    amount=st.integers(1, 10**6),
    per=st.sampled_from([1.0, 7.0, 60.0, 3600.0]),
    mode=st.sampled_from(["smooth", "strict"]),
    cost=st.integers(1, 10**6),
)
def test_retry_after_is_exact(
    amount: int, per: float, mode: Literal["smooth", "strict"], cost: int
) -> None:
    """At retry_after it fits, a microsecond earlier it doesn't."""
    clock = ManualClock()
    limiter = RateLimiter(settings=LimiterSettings(mode=mode), clock=clock)
    limits = Limits(tokens=Limit("tokens", amount, per))
    burst = left(limiter, limits)["tokens"]
    cost = min(cost, burst)
    limiter.reserve("ci", limits, tokens=burst)
    with pytest.raises(LimitExceeded) as refused:
        limiter.reserve("ci", limits, tokens=cost)
    wait = refused.value.retry_after
    assert wait is not None
    start = clock.now
    clock.now = start + wait - 1e-6
    with pytest.raises(LimitExceeded):
        limiter.reserve("ci", limits, tokens=cost)
    clock.now = start + wait
    limiter.reserve("ci", limits, tokens=cost)


def test_what_was_not_used_comes_back(limiter: RateLimiter) -> None:
    """Settling with less than reserved frees the rest at once, and only the first time."""
    limits = Limits.parse(tokens="1000/minute")
    with limiter.reserve("ci", limits, tokens=1000) as reservation:
        reservation.settle(10)
        reservation.settle(1000)
        reservation.settle(0)
        assert left(limiter, limits) == {"tokens": 990}
    reservation.settle(5)
    assert left(limiter, limits) == {"tokens": 990}


def test_more_than_reserved_is_a_debt(limiter: RateLimiter, clock: ManualClock) -> None:
    """Use beyond the reservation is charged too: the bucket is below empty until it is repaid."""
    limits = Limits.parse(tokens="600/minute")
    with limiter.reserve("ci", limits, tokens=100) as reservation:
        reservation.settle(1200)
    assert left(limiter, limits) == {"tokens": 0}
    for wait in (59.9, 0.1):
        with pytest.raises(LimitExceeded):
            limiter.reserve("ci", limits, tokens=1)
        clock.advance(wait)
    clock.advance(0.1)
    limiter.reserve("ci", limits, tokens=1)


def test_a_negative_use_is_none(limiter: RateLimiter) -> None:
    """An upstream that reports nonsense can't pay for somebody else's use."""
    limits = Limits.parse(tokens="1000/minute")
    limiter.reserve("ci", limits, tokens=500)
    with limiter.reserve("ci", limits, tokens=100) as reservation:
        reservation.settle(-(10**9))
    assert left(limiter, limits) == {"tokens": 500}


@pytest.mark.parametrize(("is_settled", "used"), [(True, 10), (True, 0), (False, 10), (False, 0)])
def test_time_gives_nothing_back_twice(
    limiter: RateLimiter, clock: ManualClock, is_settled: bool, used: int
) -> None:
    """A refund leaves out what time has already returned, or more than the bound would pass.

    100 tokens at 1 a second: 100 reserved at 0 s; at 50 s, 10 more are asked and taken; at 55 s
    the first turns out to have used 10, or nothing. Had that been so from the start, the second
    would have left 5 to be repaid: so 95 are free at most, not 100.
    """
    limits = Limits.parse(tokens="100/100s")
    first = limiter.reserve("ci", limits, tokens=100)
    clock.advance(50.0)
    second = limiter.reserve("ci", limits, tokens=10)
    if is_settled:
        second.settle(10)
    clock.advance(5.0)
    first.settle(used)
    assert 80 <= left(limiter, limits)["tokens"] <= 95


def test_settling_with_less_never_costs(limiter: RateLimiter, clock: ManualClock) -> None:
    """A long request that used nearly all of its reservation isn't charged anew at its end."""
    limits = Limits.parse(tokens="100/100s")
    reservation = limiter.reserve("ci", limits, tokens=50)
    clock.advance(40.0)
    reservation.settle(49)
    assert left(limiter, limits)["tokens"] in (90, 91)


def test_what_was_taken_is_not_given_back_either(clock: ManualClock) -> None:
    """take() beside reservations of the same tokens counts as used at once."""
    limiter = RateLimiter(rate=Limit.parse("100/100s", "tokens"), clock=clock)
    first = limiter.reserve("ci", tokens=100)
    clock.advance(50.0)
    assert limiter.take("ci", cost=10)
    clock.advance(5.0)
    first.settle(0)
    assert 80 <= left(limiter, limiter.limits)["tokens"] <= 95


@pytest.mark.parametrize(
    ("error", "remaining"),
    [
        (None, 400),
        (UpstreamFailed("500"), 1000),
        (ValueError("a bug"), 1000),
        (asyncio.CancelledError(), 400),
        (GeneratorExit(), 400),
    ],
)
def test_what_nobody_settled(
    limiter: RateLimiter, error: BaseException | None, remaining: int
) -> None:
    """A failure gives the tokens back, an end or a cancellation keeps the charge."""
    limits = Limits.parse(requests="10/minute", tokens="1000/minute", concurrent=3)
    reservation = limiter.reserve("ci", limits, tokens=600)
    with reservation:
        assert left(limiter, limits) == {"requests": 9, "tokens": 400, "concurrent": 2}
        assert limiter.slots_in_use == 1
    reservation = limiter.reserve("other", limits, tokens=600)
    reservation.__exit__(type(error), error, None)
    reservation.__exit__(None, None, None)
    now = left(limiter, limits, "other")
    assert now == {"requests": 9, "tokens": remaining, "concurrent": 3}
    assert limiter.slots_in_use == limiter.reservations_open == 0


def test_slots_come_back_when_the_block_ends(limiter: RateLimiter) -> None:
    """No more than `concurrent` at once, and each end makes room for one."""
    limits = Limits(concurrent=2)
    first, second = limiter.reserve("ci", limits), limiter.reserve("ci", limits)
    limiter.reserve("somebody else", limits)
    with pytest.raises(LimitExceeded) as refused:
        limiter.reserve("ci", limits)
    assert (refused.value.limit, refused.value.retry_after) == ("concurrent", 1.0)
    with second:
        pass
    limiter.reserve("ci", limits)
    assert left(limiter, limits) == {"concurrent": 0}
    with first:
        pass
    assert left(limiter, limits) == {"concurrent": 1}


def test_a_lost_reservation_is_taken_back_after_its_lease(clock: ManualClock) -> None:
    """Its slot is free again, its tokens count as used, and its late end changes nothing."""
    limiter = RateLimiter(settings=LimiterSettings(lease=100.0), clock=clock)
    limits = Limits.parse(tokens="1000/hour", concurrent=1)
    lost = limiter.reserve("ci", limits, tokens=900)
    clock.advance(100.0 - 1e-6)
    with pytest.raises(LimitExceeded):
        limiter.reserve("ci", limits)
    clock.advance(1e-6)
    with limiter.reserve("ci", limits):
        assert (limiter.reservations_open, limiter.slots_in_use) == (2, 1)
        with lost:
            lost.settle(0)
        assert (limiter.reservations_open, limiter.slots_in_use) == (1, 1)
        assert left(limiter, limits)["tokens"] < 200


def test_strict_never_admits_more_than_the_amount_in_a_period(clock: ManualClock) -> None:
    """However one times it: 60 a minute strictly, a burst of 8 and then one each 60/52 s."""
    limiter = RateLimiter(settings=LimiterSettings(mode="strict"), rate="60/minute", clock=clock)
    assert sum(limiter.take("u") for _ in range(60)) == 8
    admitted = 8
    for _ in range(599):
        clock.advance(0.1)
        admitted += limiter.take("u")
    assert 59 <= admitted <= 60


def test_strict_with_an_amount_of_one(clock: ManualClock) -> None:
    """One a minute means a minute between them."""
    limiter = RateLimiter(settings=LimiterSettings(mode="strict"), rate="1/minute", clock=clock)
    assert limiter.take("u")
    clock.advance(60.0 - 1e-6)
    assert not limiter.take("u")
    clock.advance(1e-6)
    assert limiter.take("u")


def test_look_tells_what_headers_need(limiter: RateLimiter, clock: ManualClock) -> None:
    """Amount, rest, and seconds until all is free; looking takes and remembers nothing."""
    limits = Limits.parse(requests="60/minute", tokens="600/minute", concurrent=5)
    fresh = [(s.name, s.limit, s.remaining, s.reset_after) for s in limiter.look("ci", limits)]
    assert fresh == [
        ("requests", 60, 60, 0.0),
        ("tokens", 600, 600, 0.0),
        ("concurrent", 5, 5, 0.0),
    ]
    assert limiter.subjects == 0
    limiter.reserve("ci", limits, tokens=300)
    clock.advance(0.5)
    used = [(s.name, s.remaining, s.reset_after) for s in limiter.look("ci", limits)]
    assert used == [("requests", 59, 0.5), ("tokens", 305, 29.5), ("concurrent", 4, 0.0)]
    assert limiter.look("ci") == ()


def test_new_limits_keep_what_was_used(limiter: RateLimiter, clock: ManualClock) -> None:
    """A reload that raises, lowers or removes a limit forgets neither use nor slots."""
    limits = Limits.parse(tokens="1000/minute", concurrent=2)
    open_still = limiter.reserve("ci", limits, tokens=500)
    assert left(limiter, Limits.parse(tokens="2000/minute")) == {"tokens": 1500}
    clock.advance(6.0)
    assert left(limiter, Limits.parse(tokens="600/hour")) == {"tokens": 300}
    assert left(limiter, Limits.parse(tokens="100/hour", concurrent=1)) == {
        "tokens": 0,
        "concurrent": 0,
    }
    limits = Limits.parse(tokens="1000/minute", concurrent=2)
    open_still.settle(0)
    assert left(limiter, limits) == {"tokens": 1000, "concurrent": 1}
    again = limiter.reserve("ci", limits, tokens=100)
    limiter.reserve("ci", Limits.parse(requests="1/s"))
    again.settle(50)
    assert left(limiter, limits) == {"tokens": 1000, "concurrent": 0}


def test_idle_subjects_are_forgotten(limiter: RateLimiter, clock: ManualClock) -> None:
    """Twenty thousand subjects that come once leave only those of the last moments, then none."""
    limits = Limits.parse(requests="10/second", concurrent=1)
    most = 0
    for number in range(20_000):
        with limiter.reserve(f"user-{number}", limits):
            clock.advance(0.001)
        most = max(most, limiter.subjects)
    assert most < 300
    for _ in range(10):
        clock.advance(1.0)
        with limiter.reserve("stays", limits):
            pass
    assert limiter.subjects == 1


def test_an_owing_or_open_subject_is_not_forgotten(
    limiter: RateLimiter, clock: ManualClock
) -> None:
    """Whoever still owes, or has a request open, is remembered however many others come."""
    limits = Limits.parse(tokens="10/day")
    slots = Limits(concurrent=1)
    limiter.reserve("owes", limits, tokens=10)
    held = limiter.reserve("open", slots)
    for number in range(5_000):
        clock.advance(0.1)
        with limiter.reserve(f"user-{number}", Limits.parse(requests="10/s")):
            pass
    assert limiter.subjects < 200
    for subject, limit in (("owes", limits), ("open", slots)):
        with pytest.raises(LimitExceeded):
            limiter.reserve(subject, limit, tokens=10)
    with held:
        pass


async def test_a_race_admits_exactly_what_fits() -> None:
    """300 tasks that want 7 of 1000 tokens each: 142 get them, whatever their order."""
    limiter = RateLimiter(clock=ManualClock())
    limits = Limits.parse(tokens="1000/minute", concurrent=300)

    async def ask() -> bool:
        await asyncio.sleep(0)
        try:
            with limiter.reserve("ci", limits, tokens=7) as reservation:
                await asyncio.sleep(0)
                reservation.settle(7)
        except LimitExceeded:
            return False
        return True

    assert sum(await asyncio.gather(*(ask() for _ in range(300)))) == 142
    assert limiter.slots_in_use == limiter.reservations_open == 0


async def test_cancelled_requests_leave_no_slot_behind() -> None:
    """A thousand requests that are cancelled at work give all their slots back."""
    limiter = RateLimiter(clock=ManualClock())
    limits = Limits(concurrent=10)
    never = asyncio.Event()

    async def ask() -> None:
        with limiter.reserve("ci", limits):
            await never.wait()

    for _ in range(100):
        tasks = [asyncio.create_task(ask()) for _ in range(10)]
        await asyncio.sleep(0)
        assert limiter.slots_in_use == 10
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
    assert limiter.slots_in_use == limiter.reservations_open == 0


def test_unlimited_has_the_same_surface() -> None:
    """Whatever a RateLimiter offers, the null object offers, and it grants all."""
    limiter = Unlimited()
    public = {name for name in dir(RateLimiter()) if not name.startswith("_")}
    assert public - {"settings"} <= set(dir(limiter))
    limits = Limits.parse(requests="1/day", tokens="1/day", concurrent=1)
    with (
        limiter.reserve("ci", limits, tokens=10**9) as first,
        limiter.reserve("ci", limits, tokens=10**9),
    ):
        first.settle(10**9)
    assert limiter.take("ci", cost=10**9)
    assert limiter.look("ci", limits) == ()


def test_the_double_tells_what_was_asked() -> None:
    """CountingLimiter limits as the real one, and remembers what it granted."""
    limiter = CountingLimiter()
    limits = Limits.parse(tokens="10/minute")
    with limiter.reserve("ci", limits, tokens=10) as reservation:
        assert limiter.reservations == [reservation]
    with pytest.raises(LimitExceeded):
        limiter.reserve("ci", limits, tokens=1)
    limiter.clock.advance(60.0)
    limiter.reserve("ci", limits, tokens=1)
    assert limiter.reserved == [("ci", 10), ("ci", 1)]


def test_input_and_output_have_limits_of_their_own(limiter: RateLimiter) -> None:
    """Each admits by its part and settles by it; a split that nobody knows stays charged."""
    limits = Limits.parse(
        tokens="2000/minute", input_tokens="1000/minute", output_tokens="100/minute"
    )
    with limiter.reserve("ci", limits, tokens=600, output=100) as first:
        with pytest.raises(LimitExceeded) as refused:
            limiter.reserve("ci", limits, tokens=2, output=1)
        assert refused.value.limit == "output_tokens"
        first.settle(310, output=10)
    assert left(limiter, limits) == {"tokens": 1690, "input_tokens": 700, "output_tokens": 90}
    with limiter.reserve("ci", limits, tokens=60, output=50) as second:
        second.settle(20)
    assert left(limiter, limits) == {"tokens": 1670, "input_tokens": 690, "output_tokens": 40}


def test_a_hard_budget_is_spent_to_the_nano_dollar(clock: ManualClock) -> None:
    """It refuses what its rest doesn't pay, settles exactly, and opens anew with the next day."""
    wall = ManualClock(1_790_000_000.0)
    limiter = RateLimiter(clock=clock, wall=wall)
    limits = Limits(budget=Budget.usd("0.000000010", "day", hard=True), scope="key")
    with limiter.reserve("ci", limits, money=7) as reservation:
        reservation.settle(100, money=4)
    with pytest.raises(LimitExceeded) as refused:
        limiter.reserve("ci", limits, money=7)
    error = refused.value
    assert (error.limit, error.subject, error.scope) == ("budget", "ci", "key")
    assert error.retry_after == 86400 - 1_790_000_000 % 86400
    assert "$0.000000006 are left" in error.message
    assert "of this key" in error.message
    with pytest.raises(LimitExceeded) as refused:
        limiter.reserve("ci", limits, money=11)
    assert refused.value.retry_after is None
    late = limiter.reserve("ci", limits, money=6)
    wall.advance(error.retry_after)
    limiter.reserve("ci", limits, money=3)
    late.settle(0, money=0)
    assert left(limiter, limits) == {"budget": 7}


def test_a_wall_clock_that_is_set_back_opens_no_budget(clock: ManualClock) -> None:
    """An hour back, over midnight: the money of the new day stays spent."""
    wall = ManualClock(20_000 * 86400 + 60.0)
    limiter = RateLimiter(clock=clock, wall=wall)
    limits = Limits(budget=Budget(100, "day", hard=True))
    limiter.reserve("ci", limits, money=100)
    wall.advance(-3600)
    with pytest.raises(LimitExceeded):
        limiter.reserve("ci", limits, money=1)
    wall.advance(3600 + 86400)
    limiter.reserve("ci", limits, money=100)


def test_a_soft_budget_refuses_nothing(limiter: RateLimiter) -> None:
    """It only tells, by look(), that nothing is left."""
    limits = Limits(budget=Budget(100, "total"))
    for _ in range(3):
        with limiter.reserve("ci", limits, money=60):
            pass
    (state,) = limiter.look("ci", limits)
    assert state == ("budget", 100, 0, 0.0)


@pytest.mark.parametrize(
    ("amount", "told"), [("12.50", "$12.50 a month"), ("0.000000001", "$0.000000001 a month")]
)
def test_a_budget_is_written_in_dollars(amount: str, told: str) -> None:
    """Two digits behind the point, more where they are needed."""
    assert str(Budget.usd(amount)) == told


@pytest.mark.parametrize(
    "make",
    [
        lambda: Budget(0),
        lambda: Budget(1.5),  # type: ignore[arg-type]
        lambda: Budget(2**60),
        lambda: Budget(1, "fortnight"),  # type: ignore[arg-type]
        lambda: Budget.usd("much"),
        lambda: Budget.usd("0.0000000001"),
        lambda: Budget.usd("nan"),
        lambda: Limits(output_tokens=Limit.parse("1/s", "tokens")),
    ],
)
def test_a_budget_that_cannot_be_is_refused(make: Callable[[], object]) -> None:
    """Nothing, less than a nano-dollar, no number, or a period that no calendar has."""
    with pytest.raises(ConfigurationError):
        make()


def test_several_subjects_are_one_step(limiter: RateLimiter) -> None:
    """A key, its user and a deployment: what one of them refuses costs the others nothing."""
    key = Limits.parse(requests="10/minute", concurrent=5, scope="key")
    user = Limits.parse(tokens="1000/minute", scope="user")
    model = Limits.parse(requests="2/minute", concurrent=2, scope="model")
    also = [("user:ann", user), ("model:gpu", model), ("key:ci", key)]
    held = [limiter.reserve("key:ci", key, tokens=100, also=also) for _ in range(2)]
    with pytest.raises(LimitExceeded) as refused:
        limiter.reserve("key:ci", key, tokens=100, also=also)
    error = refused.value
    assert (error.limit, error.subject, error.scope) == ("requests", "model:gpu", "model")
    assert left(limiter, key, "key:ci") == {"requests": 8, "concurrent": 3}
    assert left(limiter, user, "user:ann") == {"tokens": 800}
    with held[0]:
        held[0].settle(10)
    assert left(limiter, user, "user:ann") == {"tokens": 890}
    assert left(limiter, model, "model:gpu") == {"requests": 0, "concurrent": 1}
    with held[1]:
        pass
    assert left(limiter, model, "model:gpu")["concurrent"] == 2
    assert limiter.slots_in_use == limiter.reservations_open == 0


def test_idle_subjects_beside_others_are_forgotten(limiter: RateLimiter) -> None:
    """A key whose 5,000 users come once each leaves few of them behind."""
    key, user = Limits.parse(requests="1000000/second"), Limits(concurrent=1)
    for number in range(5_000):
        with limiter.reserve("key", key, also=[(f"user-{number}", user)]):
            pass
    assert limiter.subjects < 300


def test_a_lost_reservation_of_several_lapses_in_all(clock: ManualClock) -> None:
    """Its slots are free everywhere at once, and its late end changes nothing."""
    limiter = RateLimiter(settings=LimiterSettings(lease=100.0), clock=clock)
    slot = Limits(concurrent=1)
    lost = limiter.reserve("key", slot, also=[("user", slot)])
    clock.advance(100.0)
    with limiter.reserve("user", slot):
        assert (limiter.reservations_open, limiter.slots_in_use) == (2, 1)
        assert left(limiter, slot, "key") == {"concurrent": 1}
        with lost:
            pass
        assert (limiter.reservations_open, limiter.slots_in_use) == (1, 1)


async def test_limiters_are_used_in_one_way(limiter: RateLimiter) -> None:
    """In memory and with the null object reserve() decides; ask() is there and says the same."""
    limits = Limits.parse(requests="1/minute")
    for one in (limiter, Unlimited()):
        assert await one.start()
        reservation: Any = one.reserve("ci", limits)
        assert reservation is not None
        with reservation:
            reservation.settle(5, output=1, money=3)
        await one.aclose()
    with pytest.raises(LimitExceeded):
        await limiter.ask("ci", limits)


async def test_a_thousand_at_once_get_exactly_what_there_is(clock: ManualClock) -> None:
    """1,000 requests for 60 a minute: 60 are admitted, then one each second, and never more."""
    limiter = RateLimiter(clock=clock)
    limits = Limits.parse(requests="60/minute")

    async def ask() -> bool:
        await asyncio.sleep(0)
        try:
            with await limiter.ask("key", limits):
                await asyncio.sleep(0)
        except LimitExceeded:
            return False
        return True

    for seconds, admitted in ((0.0, 60), (0.999, 0), (0.001, 1), (5.5, 5), (0.5, 1)):
        clock.advance(seconds)
        assert sum(await asyncio.gather(*(ask() for _ in range(1000)))) == admitted


def test_a_refused_client_that_waits_as_told_is_served(clock: ManualClock) -> None:
    """100 of 100, whatever was reserved and used before."""
    limiter = RateLimiter(clock=clock)
    limits = Limits.parse(requests="30/minute", tokens="6000/minute", output_tokens="1000/minute")
    rng = random.Random(5)
    retried = 0
    while retried < 100:
        tokens = rng.randint(1, 900)
        output = rng.randint(0, tokens)
        try:
            reservation = limiter.reserve("ci", limits, tokens=tokens, output=output)
        except LimitExceeded as refused:
            clock.advance(refused.retry_after or 0.0)
            reservation = limiter.reserve("ci", limits, tokens=tokens, output=output)
            retried += 1
        with reservation:
            reservation.settle(rng.randint(0, tokens))
