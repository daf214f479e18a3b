from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from proxy_core import (
    Budget,
    Limits,
    RateLimiter,
    RedisStore,
    SharedRateLimiter,
    SharedSettings,
    Unlimited,
)
from proxy_core._limiter_store import StoreAway
from proxy_core.errors import ConfigurationError, LimitExceeded, UpstreamFailed
from proxy_core.testing import ManualClock

SECOND = 1_000_000
START = 1_790_000_000 * SECOND
"""2026-09-21 14:13:20 UTC, a Monday."""


class Fleet:
    """Several replicas on one store, whose clock stands until it is moved."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.now = START
        self.limiters: list[SharedRateLimiter] = []

    def replica(self, settings: SharedSettings | None = None, **options: Any) -> SharedRateLimiter:
        store = RedisStore(self.url, now=lambda: self.now)
        # A busy machine must not make a replica decide alone.
        settings = settings or SharedSettings(patience=5.0)
        limiter = SharedRateLimiter(settings=settings, store=store, **options)
        self.limiters.append(limiter)
        return limiter

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
async def fleet(valkey: Any) -> AsyncIterator[Fleet]:
    made = Fleet(valkey.url)
    yield made
    for limiter in made.limiters:
        await limiter.aclose()


async def reserve(limiter: Any, *args: Any, **options: Any) -> Any:
    """As whoever uses any limiter does it."""
    return limiter.reserve(*args, **options) or await limiter.ask(*args, **options)


async def told(limiter: SharedRateLimiter) -> None:
    """Wait until the store knows all that the replica does."""
    deadline = time.monotonic() + 5
    while any(share.has_news or share.is_due for share in limiter._shares.values()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def count(limiter: Any, asks: int, *args: Any, **options: Any) -> int:
    """How many of so many requests at once are admitted; they stay open."""

    async def ask() -> bool:
        try:
            await reserve(limiter, *args, **options)
        except LimitExceeded:
            return False
        return True

    return sum(await asyncio.gather(*(ask() for _ in range(asks))))


async def test_a_thousand_at_once_get_exactly_what_there_is(fleet: Fleet) -> None:
    """Of 1,000 requests on 4 replicas 60 are admitted, then one each second, and never more."""
    limits = Limits.parse(requests="60/minute")
    limiters = [fleet.replica() for _ in range(4)]

    async def admitted() -> int:
        return sum(await asyncio.gather(*(count(one, 250, "key", limits) for one in limiters)))

    assert await admitted() == 60
    for seconds, more in ((0.999, 0), (0.001, 1), (1.0, 1), (5.5, 5), (0.5, 1)):
        fleet.advance(seconds)
        assert await admitted() == more


async def test_refused_requests_cost_nothing(fleet: Fleet) -> None:
    """However often it was refused for its tokens, no request, slot or money is missing."""
    budget = Budget.usd(1, "day", hard=True)
    limits = Limits.parse(requests="10/minute", tokens="1000/minute", concurrent=5, budget=budget)
    limiter, other = fleet.replica(), fleet.replica()
    held = await reserve(limiter, "key", limits, tokens=900, money=1)
    for _ in range(20):
        with pytest.raises(LimitExceeded) as refused:
            await reserve(limiter, "key", limits, tokens=200, money=1)
        assert refused.value.limit == "tokens"
        assert refused.value.retry_after == pytest.approx(6.0, abs=0.1)
    assert await count(other, 20, "key", limits, tokens=1, money=1) == 4
    held.__exit__(None, None, None)


async def test_what_was_not_used_comes_back_to_all(fleet: Fleet) -> None:
    """One replica settles with less, another can use the rest; the first settlement counts."""
    limits = Limits.parse(tokens="1000/minute", concurrent=1)
    first, second = fleet.replica(), fleet.replica()
    with await reserve(first, "key", limits, tokens=1000) as reservation:
        assert await count(second, 1, "key", limits, tokens=1) == 0
        reservation.settle(400)
        reservation.settle(0)
    await told(first)
    with await reserve(second, "key", limits, tokens=600):
        pass
    await told(second)
    assert await count(first, 1, "key", limits, tokens=1) == 0


async def test_more_than_reserved_is_a_debt(fleet: Fleet) -> None:
    """What was used beyond the reservation delays whoever comes next, on any replica."""
    limits = Limits.parse(tokens="600/minute")
    first, second = fleet.replica(), fleet.replica()
    with await reserve(first, "key", limits, tokens=100) as reservation:
        reservation.settle(1200)
    await told(first)
    with pytest.raises(LimitExceeded) as refused:
        await reserve(second, "key", limits, tokens=1)
    assert refused.value.retry_after == pytest.approx(60.1, abs=0.2)
    fleet.advance(60.1)
    await reserve(second, "key", limits, tokens=1)


async def test_time_gives_nothing_back_twice(fleet: Fleet) -> None:
    """A late refund leaves out what time has returned: at most 95 of 100 are free, not 100."""
    limits = Limits.parse(tokens="100/100s")
    limiter = fleet.replica()
    first = await reserve(limiter, "key", limits, tokens=100)
    fleet.advance(50.0)
    with await reserve(limiter, "key", limits, tokens=10) as second:
        second.settle(10)
    fleet.advance(5.0)
    with first:
        first.settle(10)
    await told(limiter)
    assert await count(limiter, 1, "key", limits, tokens=96) == 0
    assert await count(limiter, 1, "key", limits, tokens=80) == 1


async def test_slots_are_counted_over_all_replicas(fleet: Fleet) -> None:
    """Three slots for all; one that is given back on a replica can be used by another."""
    limits = Limits(concurrent=3)
    first, second = fleet.replica(), fleet.replica()
    held = [await reserve(first, "key", limits) for _ in range(2)]
    await reserve(second, "key", limits)
    for limiter in (first, second):
        with pytest.raises(LimitExceeded) as refused:
            await reserve(limiter, "key", limits)
        assert (refused.value.limit, refused.value.retry_after) == ("concurrent", 1.0)
    with held[0]:
        pass
    await told(first)
    await reserve(second, "key", limits)
    assert first.slots_in_use == 1 and second.slots_in_use == 2


async def test_a_dead_replica_holds_its_slots_only_for_a_while(fleet: Fleet) -> None:
    """After its silence its slots are free; its tokens count as used and flow back with time."""

    async def never(*_: Any) -> Any:
        raise StoreAway

    limits = Limits.parse(tokens="1000/hour", concurrent=2)
    dead, alive = fleet.replica(), fleet.replica()
    for _ in range(2):
        await reserve(dead, "key", limits, tokens=300)
    dead._pump.store.exchange = dead._pump.store.gather = never  # type: ignore[method-assign,assignment]
    fleet.advance(9.9)
    assert await count(alive, 1, "key", limits) == 0
    fleet.advance(0.2)
    assert await count(alive, 5, "key", limits) == 2
    assert await count(alive, 1, "key", limits, tokens=500) == 0
    dead._shares.clear()


async def test_several_subjects_are_asked_as_one(fleet: Fleet) -> None:
    """A key, its user and a deployment: all have room or none is touched; the error says whose."""
    key = Limits.parse(requests="100/minute", scope="key")
    user = Limits.parse(tokens="1000/minute", scope="user")
    model = Limits.parse(requests="2/minute", scope="model")
    limiter, other = fleet.replica(), fleet.replica()
    also = [("user:ann", user), ("model:gpu", model)]
    for _ in range(2):
        await reserve(limiter, "key:ci", key, tokens=100, also=also)
    for _ in range(5):
        with pytest.raises(LimitExceeded) as refused:
            await reserve(limiter, "key:ci", key, tokens=100, also=also)
        error = refused.value
        assert (error.limit, error.subject, error.scope) == ("requests", "model:gpu", "model")
        assert "of this model" in error.message
        assert [state.remaining for state in error.states] == [0]
    await told(limiter)
    assert await count(other, 1, "user:ann", user, tokens=800) == 1
    assert await count(other, 200, "key:ci", key) == 98


async def test_a_budget_is_shared_and_ends_with_its_window(fleet: Fleet) -> None:
    """A dollar a day: what is left is told; at midnight UTC, by the store's clock, it is whole."""
    limits = Limits(budget=Budget.usd(1, "day", hard=True), scope="key")
    first, second = fleet.replica(), fleet.replica()
    late = await reserve(first, "key", limits, money=400_000_000)
    with await reserve(first, "key", limits, money=500_000_000) as reservation:
        reservation.settle(0, money=300_000_000)
    await told(first)
    with pytest.raises(LimitExceeded) as refused:
        await reserve(second, "key", limits, money=300_000_001)
    error = refused.value
    assert error.limit == "budget"
    assert error.retry_after == pytest.approx(86400 - (START // SECOND) % 86400, abs=1)
    assert "$0.30 are left" in error.message
    with pytest.raises(LimitExceeded) as refused:
        await reserve(second, "key", limits, money=1_000_000_001)
    assert refused.value.retry_after is None
    await reserve(second, "key", limits, money=300_000_000)
    assert error.retry_after is not None
    fleet.advance(error.retry_after)
    await reserve(second, "key", limits, money=1_000_000_000)
    with late:
        late.settle(0, money=0)
    await told(first)
    assert await count(second, 1, "key", limits, money=1) == 0


async def test_what_is_settled_after_its_window_changes_nothing(fleet: Fleet) -> None:
    """A request of 14:59:59 that turns out cheap at 15:00:01 gives the new hour no money."""
    limits = Limits(budget=Budget(100, "hour", hard=True))
    first, second = fleet.replica(), fleet.replica()
    fleet.advance(2799.5)
    late = await reserve(first, "key", limits, money=90)
    await told(first)
    fleet.advance(1)
    await reserve(second, "key", limits, money=95)
    with late:
        late.settle(0, money=0)
    await told(first)
    assert await count(second, 10, "key", limits, money=1) == 5


async def test_a_share_is_spent_in_its_time_or_goes_back(fleet: Fleet) -> None:
    """0.1 s after it was asked for, by this process's clock, nothing is served from it any more."""
    clock = ManualClock()
    limiter = fleet.replica(SharedSettings(patience=5.0, tick=1000.0), clock=clock)
    limits = Limits.parse(requests="1000/day")
    assert await count(limiter, 10, "key", limits) == 10
    deadline = time.monotonic() + 5
    while limiter._shares["key"].flying is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    clock.advance(0.0999)
    assert limiter.reserve("key", limits) is not None
    clock.advance(0.0001)
    assert limiter.reserve("key", limits) is None
    assert await count(limiter, 2000, "key", limits) == 989


@pytest.mark.parametrize(
    ("per", "seconds"),
    [("hour", 2800), ("day", 35200), ("week", 6 * 86400 + 35200), ("month", 9 * 86400 + 35200)],
)
async def test_windows_are_those_of_the_calendar(fleet: Fleet, per: Any, seconds: int) -> None:
    """On Monday, 21 September 2026, 14:13:20 UTC: so long until hour, day, week and month end."""
    limits = Limits(budget=Budget.usd(1, per, hard=True))
    limiter = fleet.replica()
    memory = RateLimiter(wall=lambda: fleet.now / SECOND)
    await reserve(limiter, "key", limits, money=10**9)
    memory.reserve("key", limits, money=10**9)
    for one in (limiter, memory):
        with pytest.raises(LimitExceeded) as refused:
            await reserve(one, "key", limits, money=1)
        assert refused.value.retry_after == pytest.approx(seconds, abs=0.01)
    fleet.advance(seconds)
    for one in (limiter, memory):
        await reserve(one, "key", limits, money=10**9)


async def test_a_soft_budget_only_tells(fleet: Fleet) -> None:
    """It refuses nothing; `look` says that nothing is left."""
    limits = Limits(budget=Budget.usd(1, "month"))
    limiter = fleet.replica()
    for _ in range(3):
        with await reserve(limiter, "key", limits, money=10**9):
            pass
    await told(limiter)
    (state,) = limiter.look("key", limits)
    assert (state.name, state.limit, state.remaining) == ("budget", 10**9, 0)


async def test_input_and_output_are_apart(fleet: Fleet) -> None:
    """Each has a limit of its own, and settles by what it was."""
    limits = Limits.parse(input_tokens="1000/minute", output_tokens="100/minute")
    limiter = fleet.replica()
    with await reserve(limiter, "key", limits, tokens=600, output=100) as reservation:
        with pytest.raises(LimitExceeded) as refused:
            await reserve(limiter, "key", limits, tokens=2, output=1)
        assert refused.value.limit == "output_tokens"
        reservation.settle(510, output=10)
    await told(limiter)
    left = {state.name: state.remaining for state in limiter.look("key", limits)}
    assert left["input_tokens"] == pytest.approx(500, abs=2)
    assert left["output_tokens"] == pytest.approx(90, abs=2)


async def test_a_repeated_message_counts_once(fleet: Fleet) -> None:
    """A lost answer is asked for again by the same message: the same answer, no charge."""
    limits = Limits.parse(requests="10/minute")
    limiter = fleet.replica()
    store = limiter._pump.store
    exchange = store.exchange

    async def twice(messages: Any, timeout: float) -> Any:
        first = await exchange(messages, timeout)
        assert await exchange(messages, timeout) == first
        return first

    store.exchange = twice  # type: ignore[method-assign]
    assert await count(limiter, 30, "key", limits) == 10


async def test_a_clock_that_is_set_back_gives_and_takes_nothing(fleet: Fleet) -> None:
    """An hour back: what was used is used, and flows back from then on at its pace."""
    limits = Limits.parse(requests="60/minute")
    limiter = fleet.replica()
    assert await count(limiter, 100, "key", limits) == 60
    fleet.advance(-3600)
    assert await count(limiter, 100, "key", limits) == 0
    fleet.advance(2)
    assert await count(limiter, 100, "key", limits) == 2


async def test_a_cancelled_request_leaves_nothing_behind(fleet: Fleet) -> None:
    """A hundred clients that leave while they wait for the store: all of it can be used again."""
    limits = Limits.parse(requests="100/day", concurrent=100)
    limiter, other = fleet.replica(), fleet.replica()
    for turns in range(10):
        tasks = [asyncio.create_task(limiter.ask("key", limits)) for _ in range(10)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ended:
            if not isinstance(end, BaseException):
                end.__exit__(None, None, None)
        await told(limiter)
    assert limiter.reservations_open == 0
    assert await count(other, 200, "key", limits) > 50


async def test_unsettled_tokens_end_as_in_memory(fleet: Fleet) -> None:
    """A failure gives them back, an end or a cancellation keeps the charge."""
    limits = Limits.parse(tokens="1000/day")
    limiter = fleet.replica()
    for error, left in ((UpstreamFailed("500"), 1000), (GeneratorExit(), 900), (None, 800)):
        reservation = await reserve(limiter, "key", limits, tokens=100)
        reservation.__exit__(type(error), error, None)
        reservation.__exit__(None, None, None)
        await told(limiter)
        (state,) = limiter.look("key", limits)
        assert state.remaining == left


async def test_new_limits_keep_what_was_used(fleet: Fleet) -> None:
    """A reload that raises a limit forgets no use."""
    limiter = fleet.replica()
    assert await count(limiter, 20, "key", Limits.parse(requests="10/day")) == 10
    assert await count(limiter, 20, "key", Limits.parse(requests="15/day")) == 5


async def test_take_is_all_that_a_library_user_needs(fleet: Fleet) -> None:
    """What one replica takes the other sees; without a rate it says what is missing."""
    first, second = fleet.replica(rate="100/day"), fleet.replica(rate="100/day")
    assert await first.take("user", cost=60)
    await told(first)
    assert not await second.take("user", cost=41)
    assert await second.take("user", cost=40)
    with pytest.raises(ConfigurationError):
        await fleet.replica().take("user")


async def test_the_function_is_loaded_again_when_it_is_gone(fleet: Fleet, valkey: Any) -> None:
    """After FUNCTION FLUSH, as after a failover to an empty node, the next request loads it."""
    limits = Limits.parse(requests="100/day")
    limiter = fleet.replica()
    assert await count(limiter, 5, "key", limits) == 5
    assert valkey.cli("function", "flush") == "OK"
    assert await count(limiter, 200, "key", limits) == 95
    assert not limiter.is_away


async def test_what_is_in_hand_goes_back_at_the_end(fleet: Fleet, valkey: Any) -> None:
    """A replica that closes leaves neither slots nor a share behind."""
    limits = Limits.parse(requests="1000/day", concurrent=100)
    busy, other = fleet.replica(), fleet.replica()
    for _ in range(3):
        assert await count(busy, 20, "key", limits) == 20
    for share in busy._shares.values():
        share.open = 0
    await busy.aclose()
    fleet.limiters.remove(busy)
    assert await count(other, 1000, "key", limits) == 100
    keys = valkey.cli("keys", "*").split()
    assert all(key.startswith("llm-proxy:limits:") for key in keys)


async def test_idle_subjects_leave_the_store(fleet: Fleet, valkey: Any) -> None:
    """A key of the store expires once all of it has flowed back and no replica holds any."""
    limiter = fleet.replica()
    with await reserve(limiter, "key", Limits.parse(requests="60/minute")):
        pass
    await told(limiter)
    left = int(valkey.cli("pttl", "llm-proxy:limits:{key}"))
    assert 0 < left < 120_000


def test_the_surface_is_that_of_a_rate_limiter() -> None:
    """Whatever a RateLimiter offers, the shared one and the null object offer."""
    public = {name for name in dir(RateLimiter()) if not name.startswith("_")}
    shared = {*dir(SharedRateLimiter(store=object())), "settings"}  # type: ignore[arg-type]
    assert public <= shared
    assert public - {"settings"} <= set(dir(Unlimited()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SharedSettings(hold=0),
        lambda: SharedSettings(advance=2),
        lambda: SharedSettings(mode="loose"),  # type: ignore[arg-type]
        lambda: RedisStore("memcached://127.0.0.1"),
        lambda: RedisStore("redis+sentinel://127.0.0.1:26379"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(make: Callable[[], object]) -> None:
    """Odd times, parts and addresses are configuration errors."""
    with pytest.raises(ConfigurationError):
        make()


@contextmanager
def cpu() -> Iterator[list[float]]:
    spent = [time.process_time()]
    yield spent
    spent[0] = time.process_time() - spent[0]


async def test_a_busy_subject_seldom_waits(fleet: Fleet) -> None:
    """40 tasks, 20,000 requests: nearly all are served from the share in hand, at little cost.

    The promise is 15 µs a request, the store's round trips included; a shared machine gets twice.
    """
    limits = Limits.parse(requests="100000000/minute", tokens="10000000000/minute", concurrent=4000)
    limiter = fleet.replica()
    waited = 0

    async def client() -> None:
        nonlocal waited
        for number in range(500):
            reservation: Any = limiter.reserve("hot", limits, tokens=100)
            if reservation is None:
                waited += 1
                reservation = await limiter.ask("hot", limits, tokens=100)
            with reservation:
                reservation.settle(50)
            if number % 10 == 9:
                await asyncio.sleep(0.002)

    with cpu() as spent:
        await asyncio.gather(*(client() for _ in range(40)))
    print(f"{spent[0] / 20_000 * 1e6:.1f} µs a request, {waited} of 20,000 waited")
    assert spent[0] / 20_000 < 30e-6
    assert waited < 1000


@dataclass
class Operation:
    """One request of a history: what it asked for, what it got, from when to when."""

    cost: int
    is_granted: bool
    began: int
    ended: int


def is_linearizable(history: list[Operation], room: int) -> bool:
    """Whether some order, in which each comes after those that had ended, explains each answer.

    The search of Wing and Gong, with Lowe's memory of what was tried.
    """
    tried: set[tuple[int, int]] = set()

    def search(done: int, left: int) -> bool:
        if done == (1 << len(history)) - 1:
            return True
        if (done, left) in tried:
            return False
        tried.add((done, left))
        open_ones = [n for n in range(len(history)) if not done >> n & 1]
        first_end = min(history[n].ended for n in open_ones)
        for n in open_ones:
            one = history[n]
            if one.began >= first_end or one.is_granted != (one.cost <= left):
                continue
            if search(done | 1 << n, left - one.cost * one.is_granted):
                return True
        return False

    return search(0, room)


def test_the_checker_finds_what_is_not_linearizable() -> None:
    """Too much granted, too little granted, and an order that time forbids."""
    assert is_linearizable([Operation(6, True, 0, 1), Operation(4, True, 0, 1)], 10)
    assert not is_linearizable([Operation(6, True, 0, 1), Operation(5, True, 0, 1)], 10)
    assert not is_linearizable([Operation(6, False, 0, 1), Operation(4, True, 0, 1)], 10)
    late = [Operation(6, False, 0, 2), Operation(10, True, 1, 3)]
    assert is_linearizable(late, 10)
    late[1] = Operation(10, True, 2, 3)
    assert not is_linearizable(late, 10)


@pytest.mark.parametrize("seed", range(8))
async def test_histories_are_linearizable(fleet: Fleet, seed: int) -> None:
    """Whatever three replicas were told, one limiter alone could have told in some order."""
    rng = random.Random(seed)
    exact = SharedSettings(advance=0.0, patience=5.0)
    limiters = [fleet.replica(exact) for _ in range(3)]
    limits = Limits.parse(tokens="100/day")
    ticks = iter(range(10_000))

    async def client(
        limiter: SharedRateLimiter, history: list[Operation], costs: list[int], subject: str
    ) -> None:
        for cost in costs:
            began = next(ticks)
            got = await count(limiter, 1, subject, limits, tokens=cost)
            history.append(Operation(cost, got == 1, began, next(ticks)))

    for turn in range(6):
        history: list[Operation] = []
        await asyncio.gather(
            *(
                client(limiter, history, [rng.randint(1, 40) for _ in range(3)], f"key-{turn}")
                for limiter in limiters
                for _ in range(2)
            )
        )
        assert len(history) == 18
        assert is_linearizable(history, 100), history


@pytest.mark.parametrize("amount", [2**53, 2**63, 10**30])
async def test_no_amount_is_too_large_for_the_store(valkey: Any, amount: int) -> None:
    """What can't fit is refused like anything else, and the store isn't taken for away."""
    limiter = SharedRateLimiter(url=valkey.url)
    limits = Limits.parse(tokens="1000/minute", budget=Budget.usd(1, hard=True))
    for tokens, output, money in ((0, 0, amount), (amount, 0, 0), (amount, amount, 0)):
        with pytest.raises(LimitExceeded):
            await limiter.ask("huge", limits, tokens=tokens, output=output, money=money)
        assert not limiter.is_away
    with await limiter.ask("huge", limits, tokens=1000):
        pass
    await limiter.aclose()
