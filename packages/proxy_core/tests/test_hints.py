"""What the processes of a fleet tell each other, through a real Valkey."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

from proxy_core import (
    BreakerSettings,
    CircuitBreaker,
    CredentialPool,
    FleetHints,
    HintSettings,
    Secret,
)
from proxy_core.errors import CircuitOpen, ConfigurationError, UpstreamFailed, UpstreamThrottled
from proxy_core.testing import ManualClock

DOWN = UpstreamFailed("down")
SETTINGS = HintSettings(timeout=5.0, lease=20.0)


class Process:
    """One of a fleet: a breaker, a pool and their hints, on a clock that all share."""

    def __init__(self, client: Any, clock: ManualClock, **settings: Any) -> None:
        self.hints = FleetHints(client, SETTINGS, clock=clock, rng=lambda: 0.5)
        self.breaker = CircuitBreaker(
            "gpu",
            BreakerSettings(open_time=100.0, **settings),
            clock=clock,
            observer=self.hints,
            rng=lambda: 0.5,
        )
        self.pool = CredentialPool("openai", [Secret("sk-1"), Secret("sk-2")], clock=clock)
        self.hints.watch(self.breaker)
        self.hints.watch_pool(self.pool)

    def call(self, error: BaseException | None = None) -> None:
        self.breaker.enter().end(error=error)

    def fail(self, times: int = 5) -> None:
        for _ in range(times):
            self.call(DOWN)

    def may_probe(self) -> bool:
        return self.breaker.retry_after == 0


class Fleet:
    """Processes on one server. Their clock stands; the server's leases outlast the test."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.clock = ManualClock()
        self.members: list[Process] = []

    async def grow(self, count: int, client: Any = None, **settings: Any) -> list[Process]:
        new = [Process(client or self.client, self.clock, **settings) for _ in range(count)]
        self.members += new
        await self.talk(2)
        return new

    async def talk(self, times: int = 1) -> None:
        for _ in range(times):
            for member in self.members:
                await member.hints.exchange()

    async def until_probes(self) -> None:
        """Time passes, and they talk on, until the open time is over."""
        while self.clock.now < self.members[0].breaker.open_until:  # type: ignore[operator]
            self.clock.advance(5.0)
            await self.talk()


@pytest.fixture
async def client(valkey: Any) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
def fleet(client: Any) -> Fleet:
    return Fleet(client)


async def test_one_failure_is_enough_where_another_has_it_open(fleet: Fleet) -> None:
    """A hint opens nothing by itself; the first failure of one's own does."""
    first, second = await fleet.grow(2)
    first.fail()
    await fleet.talk()
    assert second.breaker.generation == 1
    second.fail(1)
    assert second.breaker.state == "open"


async def test_own_good_news_outweigh_a_hint(fleet: Fleet) -> None:
    """After three successes the other's trouble is taken for its own."""
    first, second = await fleet.grow(2)
    first.fail()
    await fleet.talk()
    for _ in range(3):
        second.call()
    second.fail(4)
    assert second.breaker.state == "closed"


async def test_a_hint_ends_with_the_open_time(fleet: Fleet) -> None:
    """What is over is no hint; and a newcomer hears what is not."""
    first, second = await fleet.grow(2)
    first.fail()
    await fleet.talk()
    (third,) = await fleet.grow(1)
    third.fail(1)
    assert third.breaker.state == "open"
    fleet.clock.advance(101.0)
    second.fail(4)
    assert second.breaker.state == "closed"


async def test_one_process_probes(fleet: Fleet) -> None:
    """Of four whose time is over, one may; the others wait for its verdict."""
    for member in await fleet.grow(4):
        member.fail()
    await fleet.until_probes()
    for _ in range(10):
        assert sum(member.may_probe() for member in fleet.members) == 1
        await fleet.talk()
        fleet.clock.advance(0.5)
    other = next(member for member in fleet.members if not member.may_probe())
    with pytest.raises(CircuitOpen) as refused:
        other.call()
    assert refused.value.retry_after == pytest.approx(1.0)


async def test_a_recovery_is_everybodys(fleet: Fleet) -> None:
    """Three probes of one process close all four, with a slow start and a wary eye."""
    for member in await fleet.grow(4):
        member.fail()
    await fleet.until_probes()
    (prober,) = (member for member in fleet.members if member.may_probe())
    for _ in range(3):
        prober.call()
    await fleet.talk()
    assert {member.breaker.state for member in fleet.members} == {"closed"}
    assert {round(member.breaker.weight, 3) for member in fleet.members} == {0.1}
    other = next(member for member in fleet.members if member is not prober)
    other.fail(1)
    assert other.breaker.state == "open"


async def test_a_failed_probe_leaves_it_to_whoever_is_due(fleet: Fleet) -> None:
    """The prober's open time is longer now; another one's is over, and it gets the lease."""
    for member in await fleet.grow(2):
        member.fail()
    await fleet.until_probes()
    (prober,) = (member for member in fleet.members if member.may_probe())
    (other,) = (member for member in fleet.members if not member.may_probe())
    prober.fail(1)
    await fleet.talk(2)
    assert (prober.may_probe(), other.may_probe()) == (False, True)


async def test_who_has_no_traffic_lets_others_probe(fleet: Fleet) -> None:
    """A lease that is not used goes round: each of three gets its turn."""
    for member in await fleet.grow(3):
        member.fail()
    await fleet.until_probes()
    seen = set()
    for _ in range(100):
        able = [at for at, member in enumerate(fleet.members) if member.may_probe()]
        assert len(able) <= 1
        seen.update(able)
        fleet.clock.advance(1.0)
        await fleet.talk()
    assert seen == {0, 1, 2}


async def test_who_gives_a_lease_back_rests(fleet: Fleet) -> None:
    """It doesn't take it again before the others have had the time to ask for it."""
    for member in await fleet.grow(2):
        member.fail()
    await fleet.until_probes()
    (prober,) = (member for member in fleet.members if member.may_probe())
    (other,) = (member for member in fleet.members if not member.may_probe())
    while prober.may_probe():
        fleet.clock.advance(0.5)
        await prober.hints.exchange()
    fleet.clock.advance(0.5)
    await prober.hints.exchange()
    await other.hints.exchange()
    assert (prober.may_probe(), other.may_probe()) == (False, True)


async def test_a_probe_that_is_out_keeps_the_lease(fleet: Fleet) -> None:
    """However long it takes, nobody else probes meanwhile."""
    for member in await fleet.grow(3, lease=1000.0):
        member.fail()
    await fleet.until_probes()
    (prober,) = (member for member in fleet.members if member.may_probe())
    with prober.breaker.permit():
        for _ in range(200):
            fleet.clock.advance(1.0)
            await fleet.talk()
            assert not any(member.may_probe() for member in fleet.members)


async def test_an_old_recovery_closes_nothing(fleet: Fleet) -> None:
    """What opened after a recovery stays open when the news of that come late."""
    first, second = await fleet.grow(2)
    for member in fleet.members:
        member.fail()
    await fleet.until_probes()
    (prober,) = (member for member in fleet.members if member.may_probe())
    for _ in range(3):
        prober.call()
    other = second if prober is first else first
    other.breaker.reset()
    fleet.clock.advance(1.0)
    other.fail()
    await prober.hints.exchange()
    await other.hints.exchange()
    assert other.breaker.state == "open"


async def test_commands_by_hand_stay_where_they_were_given(fleet: Fleet) -> None:
    """Held open here is no hint for others, and a recovery elsewhere doesn't end it."""
    first, second = await fleet.grow(2)
    first.breaker.force_open(1e6)
    await fleet.talk()
    second.fail(4)
    assert second.breaker.state == "closed"
    second.fail(1)
    while not second.may_probe():
        fleet.clock.advance(5.0)
        await fleet.talk()
    for _ in range(3):
        second.call()
    await fleet.talk(2)
    assert (first.breaker.state, second.breaker.state) == ("open", "closed")


async def test_what_one_is_told_all_keep_to(fleet: Fleet) -> None:
    """A credential that is throttled in one process rests in the others; none echoes."""
    first, second, third = await fleet.grow(3)
    loan = first.pool.take("gpt")
    loan.failed(UpstreamThrottled("429", retry_after=60.0))
    await fleet.talk(3)
    for member in (second, third):
        assert member.pool.gate(loan.number, "gpt").wait == pytest.approx(60.0, abs=0.5)
        assert member.pool.take("gpt").number != loan.number
    hints = await fleet.client.hgetall("{llm-proxy:hints}")
    ((field, value),) = hints.items()
    assert json.loads(value)[0] == first.hints.owner
    assert b"sk-1" not in field


class Away:
    """A client whose server is away while ``down``."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.down = False

    async def eval(self, *words: Any) -> Any:
        if self.down:
            raise ConnectionRefusedError("nobody listens")
        return await self.client.eval(*words)


async def test_without_redis_each_is_on_its_own(fleet: Fleet) -> None:
    """Nothing happens but that hints are missing: each probes by its own time."""
    away = Away(fleet.client)
    for member in await fleet.grow(3, client=away):
        member.fail()
    await fleet.until_probes()
    away.down = True
    await fleet.talk()
    trouble = {member.hints.trouble for member in fleet.members}
    assert trouble == {"ConnectionRefusedError: nobody listens"}
    assert sum(member.may_probe() for member in fleet.members) == 1
    fleet.clock.advance(7.0)
    assert not any(member.hints.is_connected for member in fleet.members)
    assert all(member.may_probe() for member in fleet.members)


async def test_what_could_not_be_told_is_told_later(fleet: Fleet) -> None:
    """An opening that happened while Redis was away is heard when it is back."""
    away = Away(fleet.client)
    (first,) = await fleet.grow(1, client=away)
    (second,) = await fleet.grow(1)
    away.down = True
    first.fail()
    await fleet.talk()
    away.down = False
    await fleet.talk(2)
    second.fail(1)
    assert second.breaker.state == "open"


async def test_strange_hints_are_passed_over(fleet: Fleet) -> None:
    """Whatever a later version, or somebody else, has written there."""
    (member,) = await fleet.grow(1)
    strange = {
        b"breaker:gpu": b'["x",1,"ajar",1e18,5]',
        b"breaker:other": b'["x",1,"open",1e18]',
        b"credential:openai:nobody/gpt": b'["x",1,"throttled",1e18]',
        b"credential:": b'["x",1,"throttled",1e18]',
        b"nonsense": b"\xff",
        b"\xff": b'["x",1,"open",1e18]',
    }
    await fleet.client.hset("{llm-proxy:hints}", mapping=strange)
    assert await member.hints.exchange()
    assert member.breaker.state == "closed"
    await fleet.client.set("{llm-proxy:hints}", "no hash")
    assert not await member.hints.exchange()
    assert member.hints.trouble.startswith(ResponseError.__name__)


async def test_old_hints_are_removed(fleet: Fleet) -> None:
    """A minute after its time nobody needs one."""
    first, _ = await fleet.grow(2)
    first.fail()
    await fleet.talk()
    assert await fleet.client.hlen("{llm-proxy:hints}") == 1
    old = {"breaker:gone": b'["x",1,"open",1000.0]'}
    await fleet.client.hset("{llm-proxy:hints}", mapping=old)
    await fleet.talk(2)
    assert await fleet.client.hkeys("{llm-proxy:hints}") == [b"breaker:gpu"]


async def test_what_is_forgotten_goes_by_itself(fleet: Fleet) -> None:
    """A breaker that is no longer watched probes when its time is over."""
    for member in await fleet.grow(2):
        member.fail()
    await fleet.until_probes()
    (other,) = (member for member in fleet.members if not member.may_probe())
    other.hints.forget("gpu")
    other.hints.forget("openai")
    assert other.may_probe()


async def test_a_cluster_serves_as_well(cluster: list[Any]) -> None:
    """All keys are in one slot."""
    async with redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster[0].port) as client:
        fleet = Fleet(client)
        for member in await fleet.grow(3):
            member.fail()
        await fleet.until_probes()
        assert [member.hints.trouble for member in fleet.members] == ["", "", ""]
        assert sum(member.may_probe() for member in fleet.members) == 1


async def test_news_are_told_at_once(client: Any) -> None:
    """Not at the next turn, which is half a minute away; and no trouble ends the loop."""
    away = Away(client)
    settings = HintSettings(interval=30.0, timeout=5.0, lease=200.0)
    hints = FleetHints(away, settings)
    breaker = CircuitBreaker("gpu", observer=hints)
    hints.watch(breaker)
    away.down = True
    task = asyncio.create_task(hints.run())
    await asyncio.sleep(0)
    away.down = False
    breaker.force_open()
    breaker.reset()
    async with asyncio.timeout(5):
        while not hints.is_connected:
            await asyncio.sleep(0.001)
        for _ in range(5):
            breaker.enter().end(error=DOWN)
        while not await client.hlen("{llm-proxy:hints}"):
            await asyncio.sleep(0.001)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_happened_before_it_ran_is_told(client: Any) -> None:
    """The first exchange learns the server's time, a second one follows at once."""
    hints = FleetHints(client, HintSettings(interval=30.0, timeout=5.0, lease=200.0))
    breaker = CircuitBreaker("gpu", observer=hints)
    hints.watch(breaker)
    for _ in range(5):
        breaker.enter().end(error=DOWN)
    task = asyncio.create_task(hints.run())
    async with asyncio.timeout(5):
        while not await client.hlen("{llm-proxy:hints}"):
            await asyncio.sleep(0.001)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"interval": 0.0}, "interval"), ({"timeout": -1.0}, "timeout"), ({"lease": 1.0}, "lease")],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float], field: str) -> None:
    """The error names the field and the value."""
    with pytest.raises(ConfigurationError, match=field) as refused:
        HintSettings(**settings)  # type: ignore[arg-type]
    assert refused.value.param == field


WORKER = """
import asyncio, sys, time
import redis.asyncio
from proxy_core import BreakerSettings, CircuitBreaker, FleetHints, HintSettings
from proxy_core.errors import CircuitOpen, UpstreamFailed

async def main(number, upstream, url):
    client = redis.asyncio.Redis.from_url(url)
    hints = FleetHints(client, HintSettings(interval=0.1, timeout=0.5, lease=2.0))
    def note(event):
        print(number, event.after, time.monotonic(), flush=True)
        hints(event)
    settings = BreakerSettings(open_time=0.6, open_cap=1.0, successes=1)
    breaker = CircuitBreaker("gpu", settings, observer=note)
    hints.watch(breaker)
    running = asyncio.create_task(hints.run())
    while not hints.is_connected:
        await asyncio.sleep(0.01)
    async def ask():
        try:
            async with breaker.permit():
                reader, writer = await asyncio.open_unix_connection(upstream)
                try:
                    writer.write(number.encode() + b"\\n")
                    if await reader.read() != b"well":
                        raise UpstreamFailed("sick")
                finally:
                    writer.close()
        except (CircuitOpen, UpstreamFailed):
            pass
    print(number, "ready", time.monotonic(), flush=True)
    while True:
        await ask()
        await asyncio.sleep(0.01)

asyncio.run(main(*sys.argv[1:]))
"""


class Upstream:
    """Answers after a moment, well or sick; it remembers who asked, from when to when."""

    def __init__(self) -> None:
        self.is_well = True
        self.open = 0
        self.asked: list[tuple[float, float, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        began = time.monotonic()
        with suppress(OSError):
            who = (await reader.readline()).decode().strip()
            await asyncio.sleep(0.02)
            if self.is_well:
                writer.write(b"well")
            self.asked.append((began, time.monotonic(), who))
            writer.close()
            await writer.wait_closed()
        self.open -= 1

    async def until_idle(self) -> None:
        """Those whose client was killed have noticed it."""
        while self.open:
            await asyncio.sleep(0.01)

    def most_at_once(self, since: float, until: float) -> int:
        spans = [(begin, end) for begin, end, _ in self.asked if begin > since and end < until]
        return max((sum(b <= begin < e for b, e in spans) for begin, _ in spans), default=0)


class Workers:
    """Four processes that ask the upstream again and again, and what they print."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, float]] = []

    async def start(self, stack: AsyncExitStack, *arguments: str) -> None:
        for number in range(4):
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", WORKER, str(number), *arguments),
                stdout=asyncio.subprocess.PIPE,
            )
            stack.push_async_callback(self._end, child, asyncio.create_task(self._listen(child)))

    async def _listen(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None
        async for line in child.stdout:
            number, what, at = line.decode().split()
            self.told.append((number, what, float(at)))

    async def _end(self, child: asyncio.subprocess.Process, listening: asyncio.Task[None]) -> None:
        child.kill()
        await child.wait()
        await listening

    async def until_all(self, what: str, since: float = 0.0) -> dict[str, float]:
        """When each of them first told this."""
        async with asyncio.timeout(20):
            while True:
                first: dict[str, float] = {}
                for number, told, at in self.told:
                    if told == what and at > since:
                        first.setdefault(number, at)
                if len(first) == 4:
                    return first
                await asyncio.sleep(0.02)


async def test_four_processes_and_an_upstream_that_dies(valkey: Any, tmp_path: Path) -> None:
    """At most five requests of each reach it, then one probe at once of all; one closes all."""
    upstream, workers = Upstream(), Workers()
    async with AsyncExitStack() as stack:
        path = Path(valkey.socket).with_name("upstream.sock")
        server = await asyncio.start_unix_server(upstream.serve, path)
        stack.push_async_callback(upstream.until_idle)
        stack.callback(server.close)
        await workers.start(stack, str(path), valkey.url)
        await workers.until_all("ready")
        upstream.is_well = False
        died = time.monotonic()
        opened = await workers.until_all("open")
        await asyncio.sleep(2.0)
        upstream.is_well = True
        recovered = time.monotonic()
        closed = await workers.until_all("closed", since=recovered)
    path.unlink(missing_ok=True)
    for number, at in opened.items():
        reached = [began for began, _, who in upstream.asked if who == number and died < began < at]
        assert len(reached) <= 5
    first_closed = min(closed.values())
    assert upstream.most_at_once(max(opened.values()), first_closed) == 1
    probes = [began for began, _, _ in upstream.asked if max(opened.values()) < began < recovered]
    assert probes, "somebody has tried it meanwhile"
    good = [began for began, _, _ in upstream.asked if recovered < began < first_closed]
    assert len(good) == 1
    assert max(closed.values()) - first_closed < 1.0
