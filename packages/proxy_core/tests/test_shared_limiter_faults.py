from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from proxy_core import Budget, Limits, RedisStore, SharedRateLimiter, SharedSettings
from proxy_core.errors import LimitExceeded
from proxy_core.testing import ManualClock

PATIENT = SharedSettings(patience=5.0)
"""A busy machine must not make a process decide alone; a store that refuses is away at once."""
ROOMY = Limits(budget=Budget.usd(1000, "total"), concurrent=1000)

Start = Callable[..., SharedRateLimiter]


@pytest.fixture
async def limiter() -> AsyncIterator[Start]:
    """``limiter(url, settings, **options)``; closed at the end."""
    async with AsyncExitStack() as stack:

        def start(
            url: str, settings: SharedSettings | None = None, **options: Any
        ) -> SharedRateLimiter:
            made = SharedRateLimiter(settings=settings or PATIENT, url=url, **options)
            stack.push_async_callback(made.aclose)
            return made

        yield start


async def reserve(limiter: Any, *args: Any, **options: Any) -> Any:
    return limiter.reserve(*args, **options) or await limiter.ask(*args, **options)


async def until(is_so: Callable[[], bool], seconds: float = 5.0) -> float:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + seconds
        await asyncio.sleep(0.001)
    return time.monotonic() - began


def is_told(limiter: SharedRateLimiter) -> bool:
    return not any(share.has_news or share.is_due for share in limiter._shares.values())


async def spent(url: str, subject: str) -> int:
    """What the store knows that a subject has spent, in nano-dollars."""
    observer = SharedRateLimiter(settings=PATIENT, url=url)
    (await observer.ask(subject, ROOMY)).__exit__(None, None, None)
    budget = observer.look(subject, ROOMY)[0]
    await observer.aclose()
    return budget.limit - budget.remaining


@pytest.mark.parametrize("mode", ["down", "blackhole", "slow"])
async def test_a_store_that_is_away_costs_a_moment_once(
    mode: str, chaos: Any, valkey: Any, limiter: Start
) -> None:
    """Refused, blackholed or 2 s late: one wait of at most 100 ms, then local decisions.

    It is found again within 5 s, and every settlement arrives: of reservations that the store
    granted before, of those granted alone meanwhile, and of one whose answer was under way.
    """
    one = limiter(chaos.url, SharedSettings())
    before = [await reserve(one, "key", ROOMY, money=1000) for _ in range(20)]
    await until(lambda: is_told(one))
    # This settlement is on its way when the store vanishes.
    with before.pop() as reservation:
        reservation.settle(0, money=7)
    await chaos.set(mode)

    async def request(money: int) -> float:
        began = time.monotonic()
        with await reserve(one, "key", ROOMY, money=money) as reservation:
            took = time.monotonic() - began
            await asyncio.sleep(0)
            reservation.settle(0, money=money)
        return took

    waits = await asyncio.gather(*(request(10) for _ in range(10)))
    assert one.is_away
    print(f"{mode}: {max(waits) * 1000:.0f} ms added")
    assert one.settings.patience <= 0.1
    assert max(waits) < 0.5  # the machine may be busy
    for reservation in before[:10]:
        with reservation:
            reservation.settle(0, money=100)
    for _ in range(90):
        alone = one.reserve("key", ROOMY, money=10)
        assert alone is not None
        with alone:
            alone.settle(0, money=10)
    await chaos.set("pass")
    print(f"{mode}: back after {await until(lambda: not one.is_away):.1f} s")
    for reservation in before[10:]:
        with reservation:
            reservation.settle(0, money=100)
    await until(lambda: is_told(one))
    assert await spent(valkey.url, "key") == 7 + 10 * 10 + 90 * 10 + 19 * 100
    assert one.settlements_lost == 0


async def test_a_killed_store_comes_back_empty(
    start_valkey: Callable[..., Any], limiter: Start
) -> None:
    """After a kill -9 and a new start, without data and function, limits hold again within 5 s."""
    server = start_valkey()
    one = limiter(server.url)
    held = await reserve(one, "key", ROOMY, money=10**9)
    await until(lambda: is_told(one))
    server.kill()
    with await reserve(one, "key", ROOMY, money=5) as reservation:
        reservation.settle(0, money=3)
    assert one.is_away
    with held:
        held.settle(0, money=10**6)
    server.start()
    await until(lambda: not one.is_away and is_told(one))
    assert await spent(server.url, "key") == 10**6 + 3
    limits = Limits.parse(requests="10/day")
    assert await admitted(one, 30, "other", limits) == 10


async def admitted(limiter: Any, asks: int, *args: Any, **options: Any) -> int:
    count = 0
    for _ in range(asks):
        try:
            with await reserve(limiter, *args, **options):
                count += 1
        except LimitExceeded:
            pass
    return count


async def test_alone_each_replica_grants_its_part(chaos: Any, limiter: Start) -> None:
    """Two replicas were seen: each admits half of the limit; what they used is charged after."""
    replicas = [limiter(chaos.url) for _ in range(2)]
    limits = Limits.parse(requests="40/day")
    for one in replicas:
        await admitted(one, 1, "warm", limits)
    for one in replicas:
        one._pump.beat_at = 0.0
        one._pump._wake.set()
    await until(lambda: all(one.replicas == 2 for one in replicas))
    await chaos.set("down")
    for one in replicas:
        assert await admitted(one, 40, "key", limits) == 20
        assert one.is_away
    with pytest.raises(LimitExceeded) as refused:
        replicas[0].reserve("key", limits)
    assert refused.value.limit == "requests"
    await chaos.set("pass")
    await until(lambda: not any(one.is_away for one in replicas))
    await until(lambda: all(is_told(one) for one in replicas))
    assert await admitted(replicas[0], 5, "key", limits) == 0


async def test_a_hard_budget_closes_after_its_grace(chaos: Any, limiter: Start) -> None:
    """5 % of its rest, for 60 s; one that nothing is known of is closed; a soft one goes on."""
    clock = ManualClock()
    one = limiter(chaos.url, clock=clock)
    hard = Limits(budget=Budget.usd(1, "month", hard=True), scope="key")
    soft = Limits(budget=Budget.usd(1, "month"))
    for subject in ("a", "b"):
        await admitted(one, 1, subject, hard, money=200_000_000)
    await until(lambda: is_told(one))
    for subject in ("a", "b"):
        one._shares[subject].adopt(Limits(scope="key"))  # a reload: nothing is in hand
    await chaos.set("down")
    assert await admitted(one, 10, "a", hard, money=10_000_000) == 4
    with pytest.raises(LimitExceeded) as refused:
        one.reserve("new", hard, money=1)
    assert (refused.value.limit, refused.value.scope) == ("budget", "key")
    assert refused.value.retry_after == 1.0
    assert await admitted(one, 10, "c", soft, money=10**9) == 10
    assert await admitted(one, 1, "b", hard, money=1) == 1
    clock.advance(60.0)
    assert await admitted(one, 1, "b", hard, money=1) == 0


async def test_what_it_cannot_remember_is_counted(chaos: Any, limiter: Start) -> None:
    """With room for 5 subjects, the settlements of 3 of 8 are lost, and said to be."""
    one = limiter(chaos.url, SharedSettings(pending=5, patience=5.0))
    await chaos.set("down")
    for number in range(8):
        assert await admitted(one, 1, f"key-{number}", ROOMY, money=5) == 1
    assert (one.subjects, one.settlements_lost) == (5, 3)


async def test_a_store_that_refuses_writes_is_away(valkey: Any, limiter: Start) -> None:
    """READONLY, as of a master that was demoted, is no answer; once it writes again it is one."""
    one = limiter(valkey.url)
    assert await admitted(one, 1, "key", ROOMY) == 1
    await until(lambda: is_told(one))
    try:
        valkey.cli("replicaof", "127.0.0.1", "1")
        assert await admitted(one, 3, "key", ROOMY) == 3
        assert one.is_away
    finally:
        valkey.cli("replicaof", "no", "one")
    await until(lambda: not one.is_away)


CLIENTS = """
import asyncio, json, sys, time
from proxy_core import Limits, SharedRateLimiter, SharedSettings
from proxy_core.errors import LimitExceeded

LIMITS = Limits.parse(requests="200/second")

async def client(limiter, key, log, end):
    while (began := time.monotonic()) < end:
        try:
            granted = limiter.reserve(key, LIMITS) or await limiter.ask(key, LIMITS)
        except LimitExceeded as error:
            await asyncio.sleep(max(0.02, error.retry_after))
            continue
        log.append((began, time.monotonic()))
        with granted:
            await asyncio.sleep(0.001)

async def main():
    limiters = {
        mode: SharedRateLimiter(settings=SharedSettings(mode=mode, patience=5.0), url=sys.argv[1])
        for mode in ("strict", "smooth")
    }
    logs = {mode: [] for mode in limiters}
    for mode, limiter in limiters.items():
        await limiter.ask("warm", LIMITS)
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + float(sys.argv[2])
    await asyncio.gather(
        *(client(one, mode, logs[mode], end) for mode, one in limiters.items() for _ in range(15))
    )
    logs["is_away"] = any(limiter.is_away for limiter in limiters.values())
    print(json.dumps(logs), flush=True)
    for limiter in limiters.values():
        await limiter.aclose()

asyncio.run(main())
"""


def test_racing_processes_keep_to_the_bound(valkey: Any) -> None:
    """60 clients of 4 processes and 200 a second: no window above the bound, and 80 % of it used.

    A request is admitted some time between its two stamps, or up to `hold` before them.
    """
    seconds, hold = 3.0, 0.1
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENTS, valkey.url, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [json.loads(child.communicate(timeout=30)[0]) for child in children]
    assert not any(one["is_away"] for one in told)
    for mode, burst, rate in (("strict", 28, 172 / 1.1), ("smooth", 200, 200.0)):
        log = sorted((began, ended) for one in told for began, ended in one[mode])
        most = {
            length: max(sum(b >= first and e <= first + length for b, e in log) for first, _ in log)
            for length in (0.05, 0.25, 1.0, 2.0)
        }
        print(f"{mode}: {len(log)} in {seconds} s, at most {most}")
        for length, inside in most.items():
            assert inside <= burst + rate * (length + hold) + 1e-6
        assert len(log) >= 0.8 * (burst + rate * seconds)
        if mode == "strict":
            assert 160 <= most[1.0] <= 200


async def test_the_long_run_is_exact(valkey: Any) -> None:
    """Smooth, two replicas, uses that differ from what was reserved: 1 % around the limit.

    400 seconds of the store's time; the demand is above the limit all along.
    """
    now = 1_790_000_000_000_000
    rng = random.Random(7)
    settings = SharedSettings(patience=5.0)
    replicas = [
        SharedRateLimiter(settings=settings, store=RedisStore(valkey.url, now=lambda: now))
        for _ in range(2)
    ]
    limits = Limits.parse(tokens="10000/10s")
    used = 0
    for _ in range(400):
        now += 1_000_000
        for turn in range(5):
            one = replicas[turn % 2]
            try:
                with await reserve(one, "key", limits, tokens=500) as reservation:
                    took = rng.choice((100, 300, 500, 700))
                    reservation.settle(took)
                    used += took
            except LimitExceeded:
                pass
            if turn > 2:
                await until(lambda one=one: is_told(one))  # type: ignore[misc]
    for one in replicas:
        await one.aclose()
    print(f"{used - 10_000} of 400,000 tokens in 400 s, after the first burst")
    assert used - 10_000 == pytest.approx(400_000, rel=0.01)
