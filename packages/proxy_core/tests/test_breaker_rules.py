"""The breaker's rules beside failures: slow calls, the last of a pool, coming back, its cost."""

from __future__ import annotations

import asyncio
import math
import sys
from contextlib import suppress
from types import FrameType

import pytest

from proxy_core import AlwaysClosed, BreakerSettings, CircuitBreaker, last_standing
from proxy_core.errors import CircuitOpen, ConfigurationError, UpstreamFailed
from proxy_core.testing import ManualClock
from proxy_logging import BreakerChanged, Event

DOWN = UpstreamFailed("down")


class Bench:
    """A breaker with a clock, an even jitter, and the reasons of its changes."""

    def __init__(self, name: str = "unit", **settings: object) -> None:
        self.clock = ManualClock()
        self.reasons: list[str] = []
        self.breaker = CircuitBreaker(
            name,
            BreakerSettings(**settings),  # type: ignore[arg-type]
            clock=self.clock,
            observer=self.note,
            rng=lambda: 0.5,
        )

    def note(self, event: Event, /) -> None:
        assert isinstance(event, BreakerChanged)
        self.reasons.append(event.reason)

    def call(
        self,
        error: BaseException | None = None,
        *,
        takes: float = 0.0,
        stream: bool = False,
        last: bool = False,
    ) -> None:
        permit = self.breaker.enter(stream=stream, last=last)
        self.clock.advance(takes)
        permit.end(error=error)

    def fail(self, times: int = 1, **how: bool) -> None:
        for _ in range(times):
            self.call(DOWN, **how)

    def wait_until_it_probes(self) -> None:
        until = self.breaker.open_until
        assert until is not None
        self.clock.now = until


def together(bench: Bench, count: int, *, takes: float, stream: bool) -> None:
    """So many calls at once, all successful and of this length."""
    permits = [bench.breaker.enter(stream=stream) for _ in range(count)]
    bench.clock.advance(takes)
    for permit in permits:
        permit.succeeded()
        permit.end()


@pytest.mark.parametrize(("slow", "state"), [(15, "closed"), (16, "open")])
def test_four_of_five_slow_calls_open_it(slow: int, state: str) -> None:
    """It opens at 80 % slow calls of 20, although each of them succeeds."""
    bench = Bench()
    together(bench, 20 - slow, takes=1.0, stream=True)
    together(bench, slow, takes=30.0, stream=True)
    assert bench.breaker.state == state
    assert bench.reasons == ([] if state == "closed" else ["16 of 20 calls were slow"])


@pytest.mark.parametrize(
    ("stream", "takes", "state"),
    [
        (True, 29.9, "closed"),
        (True, 30.0, "open"),
        (False, 299.9, "closed"),
        (False, 300.0, "open"),
    ],
)
def test_a_stream_is_slow_by_its_first_content_an_answer_by_its_end(
    stream: bool, takes: float, state: str
) -> None:
    """30 s to the first content of a stream, 300 s to a whole answer."""
    bench = Bench(window=1000.0)
    together(bench, 20, takes=takes, stream=stream)
    assert bench.breaker.state == state


def test_what_comes_after_the_first_content_is_not_slow() -> None:
    """A stream that begins at once may last for an hour."""
    bench = Bench(window=10_000.0)
    permits = [bench.breaker.enter(stream=True) for _ in range(20)]
    for permit in permits:
        permit.succeeded()
    bench.clock.advance(3600.0)
    for permit in permits:
        permit.end()
    assert bench.breaker.state == "closed"


def test_infinity_switches_slowness_off() -> None:
    """A model that thinks for hours is not sick."""
    bench = Bench(slow_first=math.inf, slow_whole=math.inf, window=1e6)
    together(bench, 20, takes=10_000.0, stream=True)
    together(bench, 20, takes=10_000.0, stream=False)
    assert bench.breaker.state == "closed"


def test_impatient_clients_do_not_hide_a_slow_upstream() -> None:
    """A call that is cancelled after the slow time counts as slow; one before it counts not."""
    bench = Bench()
    for takes in (29.0, 31.0):
        permits = [bench.breaker.enter(stream=True) for _ in range(20)]
        bench.clock.advance(takes)
        for permit in permits:
            permit.end(error=asyncio.CancelledError())
    assert bench.reasons == ["20 of 20 calls were slow"]


def test_a_client_that_leaves_after_the_content_says_nothing() -> None:
    """Its stream was answered in time, however long it was read."""
    bench = Bench(slow_rate=0.5)
    permits = [bench.breaker.enter(stream=True) for _ in range(20)]
    for permit in permits:
        permit.succeeded()
    bench.clock.advance(50.0)
    for permit in permits:
        permit.end(error=GeneratorExit())
    assert bench.breaker.state == "closed"


def test_a_slow_probe_opens_it_again() -> None:
    """One that succeeds late, and one that is given up late, are no recovery."""
    bench = Bench()
    bench.fail(5)
    for error in (None, asyncio.CancelledError()):
        bench.wait_until_it_probes()
        bench.call(error, takes=30.0, stream=True)
        assert bench.breaker.state == "open"
        assert bench.reasons[-1] == "a probe was slow"


def test_a_slow_stream_that_breaks_off_is_a_failure_and_not_slow() -> None:
    """Its early success is taken back, and what was said of its pace with it."""
    bench = Bench(min_calls=5, slow_rate=0.8, failure_rate=0.9, consecutive=100)
    slow = [bench.breaker.enter(stream=True) for _ in range(4)]
    bench.clock.advance(30.0)
    for permit in slow:
        permit.succeeded()
    slow[0].end(error=DOWN)
    bench.call(takes=0.0)
    slow_again = bench.breaker.enter(stream=True)
    bench.clock.advance(30.0)
    slow_again.succeeded()
    assert bench.breaker.state == "closed"  # 4 of 6; with that of the broken one it were 5 of 6


def test_the_last_of_a_pool_lets_a_trickle_through() -> None:
    """While it is open, one call a second of those who have nobody else to ask is tried."""
    bench = Bench()
    bench.fail(5, last=True)
    until = bench.breaker.open_until
    admitted = 0
    for _ in range(49):
        bench.clock.advance(0.1)
        with suppress(CircuitOpen):
            bench.fail(last=True)
            admitted += 1
        with pytest.raises(CircuitOpen) as refused_too:
            bench.call()
        assert refused_too.value.retry_after == pytest.approx(5.0 - bench.clock.now + 1000.0)
    assert admitted in {4, 5}
    assert bench.breaker.open_until == until, "a trickle that fails lengthens nothing"


def test_a_trickle_that_succeeds_closes_it_before_its_time() -> None:
    """Three calls of the trickle, one at a time, are the probes."""
    bench = Bench()
    bench.fail(5)
    bench.clock.advance(0.75)
    with pytest.raises(CircuitOpen) as refused:
        bench.call(last=True)
    assert refused.value.retry_after == pytest.approx(0.25)
    bench.clock.advance(0.25)
    permit = bench.breaker.enter(last=True)
    with pytest.raises(CircuitOpen):
        bench.call(last=True)
    permit.end()
    bench.call(last=True)
    bench.call(last=True)
    assert bench.breaker.state == "closed"
    assert bench.reasons[1:] == ["nobody else is left to ask", "3 probes succeeded"]


def test_the_trickle_heeds_the_upstream_and_the_hand() -> None:
    """An upstream that asks to wait 42 s, and one held open by hand, get no trickle."""
    bench = Bench(consecutive=1)
    bench.call(UpstreamFailed("down", retry_after=42.0))
    bench.clock.advance(41.9)
    with pytest.raises(CircuitOpen):
        bench.call(last=True)
    bench.clock.advance(0.1)
    bench.call(last=True)
    bench.breaker.force_open()
    bench.clock.advance(1000.0)
    with pytest.raises(CircuitOpen) as refused:
        bench.call(last=True)
    assert refused.value.retry_after is None


def test_last_standing_is_the_one_that_is_back_soonest() -> None:
    """Only when all refuse is one of them asked all the same."""
    pool = [Bench(open_time=open_time) for open_time in (20.0, 5.0, 10.0)]
    breakers = [bench.breaker for bench in pool]
    assert last_standing(breakers) is None
    for bench in pool[:2]:
        bench.fail(5)
    assert last_standing(breakers) is None
    pool[2].fail(5)
    assert last_standing(breakers) == 1
    breakers[1].force_open()
    assert last_standing(breakers) == 2
    assert last_standing([*breakers, AlwaysClosed()]) is None
    for breaker in breakers:
        breaker.force_open()
    assert last_standing(breakers) is None
    assert last_standing([]) is None


def test_it_comes_back_slowly() -> None:
    """After its recovery its weight grows from 10 % to all within 15 s."""
    bench = Bench()
    assert bench.breaker.weight == 1.0
    bench.fail(5)
    assert bench.breaker.weight == 0.0
    bench.wait_until_it_probes()
    assert bench.breaker.weight == 1.0, "a probe is wanted"
    with bench.breaker.permit():
        assert bench.breaker.weight == 0.0, "one probe is enough"
    bench.call()
    bench.call()
    weights = []
    for _ in range(4):
        weights.append(bench.breaker.weight)
        bench.clock.advance(5.0)
    assert weights == pytest.approx([0.1, 0.4, 0.7, 1.0])


def test_by_hand_it_comes_back_at_once() -> None:
    """Who closes or resets it wants all of its traffic; slow_start=0 wants it always."""
    bench = Bench()
    bench.fail(5)
    bench.breaker.reset()
    assert bench.breaker.weight == 1.0
    eager = Bench(slow_start=0.0, successes=1)
    eager.fail(5)
    eager.wait_until_it_probes()
    eager.call()
    assert eager.breaker.weight == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slow_first", 0.0),
        ("slow_whole", -1.0),
        ("slow_rate", 0.0),
        ("slow_start", math.inf),
        ("slow_start_share", 0.0),
        ("trickle", 0.0),
    ],
)
def test_rules_that_cannot_be_are_refused(field: str, value: float) -> None:
    """The error names the field and the value."""
    with pytest.raises(ConfigurationError) as refused:
        BreakerSettings(**{field: value})  # type: ignore[arg-type]
    assert refused.value.param == field
    assert repr(value) in refused.value.message


async def test_a_dead_upstream_gets_five_requests() -> None:
    """Of two hundred tasks, one after another, five reach it; then one at a time, as probes."""
    bench = Bench()
    reached = 0

    async def ask() -> None:
        nonlocal reached
        async with bench.breaker:
            reached += 1
            await asyncio.sleep(0)
            raise DOWN

    for _ in range(200):
        with pytest.raises((CircuitOpen, UpstreamFailed)):
            await ask()
    assert reached == 5
    for probes in range(1, 6):
        bench.wait_until_it_probes()
        await asyncio.gather(*(ask() for _ in range(50)), return_exceptions=True)
        assert reached == 5 + probes


def test_one_probe_after_the_recovery_is_enough_for_those_who_say_so() -> None:
    """With successes=1 the first probe that finds the upstream well closes it."""
    bench = Bench(successes=1)
    bench.fail(5)
    bench.wait_until_it_probes()
    bench.fail()
    bench.wait_until_it_probes()
    bench.call()
    assert bench.breaker.state == "closed"


def test_a_thousand_lost_probes_do_not_wedge_it() -> None:
    """Probes that never report cost a lease each; the next one is let through then."""
    bench = Bench(lease=10.0)
    bench.fail(5)
    bench.wait_until_it_probes()
    lost = []
    for _ in range(1000):
        lost.append(bench.breaker.enter())
        bench.clock.advance(10.0)
    for _ in range(3):
        bench.call()
    assert bench.breaker.state == "closed"


def test_a_call_takes_few_steps() -> None:
    """Permit, enter, succeeded, end: four Python calls, three without the block."""
    breaker = CircuitBreaker("x")

    def in_a_block() -> None:
        with breaker.permit(stream=True) as permit:
            permit.succeeded()

    def without() -> None:
        permit = breaker.enter(stream=True)
        permit.succeeded()
        permit.end()

    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    for way, most in ((in_a_block, 4), (without, 3)):
        way()
        before, calls = sys.getprofile(), 0
        sys.setprofile(count)
        way()
        sys.setprofile(before)
        assert calls - 1 == most, way.__name__
