from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from proxy_core import AlwaysClosed, BreakerSettings, CircuitBreaker
from proxy_core.errors import (
    CircuitOpen,
    ConfigurationError,
    InvalidRequest,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamThrottled,
)
from proxy_core.testing import CountingBreaker, ManualClock
from proxy_logging import BreakerChanged, Event


class Bench:
    """A breaker with a clock, an even jitter, and its events."""

    def __init__(self, **settings: object) -> None:
        self.clock = ManualClock()
        self.jitter = 0.5
        self.events: list[Event] = []
        self.breaker = CircuitBreaker(
            "unit",
            BreakerSettings(**settings),  # type: ignore[arg-type]
            clock=self.clock,
            observer=self.events.append,
            rng=lambda: self.jitter,
        )

    @property
    def state(self) -> str:
        return self.breaker.state

    def call(self, error: BaseException | None = None) -> None:
        """One call that ends so. Raises CircuitOpen when it isn't let through."""
        permit = self.breaker.permit().__enter__()
        permit.__exit__(type(error), error, None)

    def fail(self, times: int = 1, retry_after: float | None = None) -> None:
        for _ in range(times):
            self.call(UpstreamFailed("down", retry_after=retry_after))

    def wait_until_it_probes(self) -> None:
        until = self.breaker.open_until
        assert until is not None
        self.clock.now = until


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    """The consecutive rule acts at exactly its number, whatever the volume."""
    bench = Bench()
    bench.fail(4)
    assert bench.state == "closed"
    bench.fail()
    assert bench.state == "open"
    with pytest.raises(CircuitOpen) as refused:
        bench.call()
    assert refused.value.retry_after == pytest.approx(5.0)
    assert refused.value.deployment == "unit"
    assert "'unit'" in refused.value.message


def test_a_success_breaks_the_row() -> None:
    """Failures with a success between them aren't consecutive."""
    bench = Bench()
    for _ in range(9):
        bench.fail(1)
        bench.call()
    assert bench.state == "closed"


@pytest.mark.parametrize(("calls", "state"), [(18, "closed"), (20, "open")])
def test_half_of_twenty_calls_open_it(calls: int, state: str) -> None:
    """The rate rule acts at 50 % of 20 calls, and not with fewer of them."""
    bench = Bench()
    for _ in range(calls // 2):
        bench.call()
        bench.fail()
    assert bench.state == state


def test_less_than_half_does_not_open_it() -> None:
    """49 failures of 100 calls stay below the rate."""
    bench = Bench()
    for _ in range(2):
        bench.call()
    for _ in range(49):
        bench.call()
        bench.fail()
    assert bench.state == "closed"


def test_results_older_than_the_window_are_forgotten() -> None:
    """What lies 60 s back no longer counts for the rate."""
    bench = Bench()
    for _ in range(9):
        bench.fail()
        bench.call()
    bench.clock.advance(60.0)
    bench.call()
    bench.fail()
    assert bench.state == "closed"


def test_the_window_slides_by_buckets() -> None:
    """A bucket begins 5 s after the one before it, and counts for 60 s from then."""
    bench = Bench()
    bench.clock.advance(5.0)
    for _ in range(9):
        bench.fail()
        bench.call()
    bench.clock.advance(59.9)
    bench.call()
    bench.fail()
    assert bench.state == "open"


def test_three_probes_one_at_a_time_close_it() -> None:
    """Half open lets one call through at a time and closes after three successes."""
    bench = Bench()
    bench.fail(5)
    bench.wait_until_it_probes()
    for _ in range(3):
        with bench.breaker.permit():
            assert bench.state == "half_open"
            with pytest.raises(CircuitOpen) as refused:
                bench.call()
            assert refused.value.retry_after == pytest.approx(1.0)
    assert bench.state == "closed"
    assert bench.breaker.retry_after == 0.0
    with bench.breaker.permit(), bench.breaker.permit():
        assert bench.breaker.permits_out == 2


def test_one_failed_probe_opens_it_again_for_longer() -> None:
    """Open times double from 5 s up to 120 s, each within 20 % of that."""
    bench = Bench()
    bench.fail(5)
    for expected in (5, 10, 20, 40, 80, 120, 120, 120):
        assert bench.breaker.retry_after == pytest.approx(expected)
        bench.wait_until_it_probes()
        bench.fail()
    bench.jitter = 0.0
    bench.wait_until_it_probes()
    bench.fail()
    assert bench.breaker.retry_after == pytest.approx(120 * 0.8)


def test_a_healthy_minute_takes_one_doubling_back() -> None:
    """After 5, 10 and 20 s of open time and two closed minutes, the next one is 10 s."""
    bench = Bench()
    bench.fail(5)
    for _ in range(2):
        bench.wait_until_it_probes()
        bench.fail()
    bench.wait_until_it_probes()
    for _ in range(3):
        bench.call()
    bench.clock.advance(120.0)
    bench.fail(5)
    assert bench.breaker.retry_after == pytest.approx(10.0)


def test_doublings_end_at_the_cap() -> None:
    """However long it was down, five healthy minutes bring the open time from 120 s to 5 s."""
    bench = Bench()
    bench.fail(5)
    for _ in range(20):
        bench.wait_until_it_probes()
        bench.fail()
    bench.wait_until_it_probes()
    for _ in range(3):
        bench.call()
    bench.clock.advance(300.0)
    bench.fail(5)
    assert bench.breaker.retry_after == pytest.approx(5.0)


def test_each_half_open_phase_starts_anew() -> None:
    """Neither the successes nor the probes of an earlier half-open phase count in the next."""
    bench = Bench(probes=2, successes=2)
    bench.fail(5)
    bench.wait_until_it_probes()
    bench.call()
    lost = bench.breaker.permit().__enter__()
    bench.fail()
    bench.wait_until_it_probes()
    with bench.breaker.permit():
        with bench.breaker.permit():
            assert bench.breaker.permits_out == 3
            lost.__exit__(None, None, None)
        assert bench.state == "half_open"
    assert bench.state == "closed"


@pytest.mark.parametrize(("asked", "waits"), [(1.0, 5.0), (42.0, 42.0), (86400.0, 300.0)])
def test_retry_after_lengthens_the_open_time_up_to_its_cap(asked: float, waits: float) -> None:
    """An upstream that says when it is back is left alone until then, for 300 s at most."""
    bench = Bench()
    bench.fail(5, retry_after=asked)
    assert bench.breaker.retry_after == pytest.approx(waits)


def test_it_opens_exactly_at_its_time() -> None:
    """A microsecond early is refused, the moment itself is not."""
    bench = Bench()
    bench.fail(5)
    bench.clock.advance(5.0 - 1e-6)
    with pytest.raises(CircuitOpen):
        bench.call()
    bench.wait_until_it_probes()
    bench.call()


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, "succeeded"),
        (UpstreamFailed("500"), "failed"),
        (UpstreamRejected("400"), "succeeded"),
        (UpstreamThrottled("429"), "let_go"),
        (InvalidRequest("ours"), "let_go"),
        (ValueError("theirs"), "failed"),
        (asyncio.CancelledError(), "let_go"),
        (GeneratorExit(), "let_go"),
        (KeyboardInterrupt(), "let_go"),
    ],
)
def test_how_the_block_ends_is_the_verdict(error: BaseException | None, verdict: str) -> None:
    """Errors of ours carry their verdict, strange ones fail, what is no error says nothing."""
    breaker = CountingBreaker()
    permit = breaker.permit().__enter__()
    permit.__exit__(type(error), error, None)
    assert breaker.verdicts == [verdict]
    assert breaker.permits_out == 0


@pytest.mark.parametrize(
    "counts",
    [ConnectionError, (ConnectionError, OSError), lambda error: isinstance(error, ConnectionError)],
)
def test_a_library_user_says_what_counts(counts: object) -> None:
    """A type, types or a predicate choose the exceptions that fail; others are let go."""
    bench = Bench(counts=counts, consecutive=1)
    bench.call(ValueError("a bug of the caller"))
    assert bench.state == "closed"
    bench.call(ConnectionError("refused"))
    assert bench.state == "open"


def test_a_predicate_that_raises_gives_the_permit_back() -> None:
    """The error of a predicate is seen, and nothing stays taken."""

    def broken(error: Exception) -> bool:
        raise LookupError("the predicate")

    bench = Bench(counts=broken)
    with pytest.raises(LookupError):
        bench.call(ValueError("any"))
    assert bench.breaker.permits_out == 0


def test_the_exception_goes_on() -> None:
    """A permit hides no exception."""
    with pytest.raises(ZeroDivisionError), CircuitBreaker("x").permit():
        raise ZeroDivisionError


def test_calls_begun_before_it_opened_change_nothing() -> None:
    """Late successes don't close it, late failures don't lengthen it: their time is over."""
    bench = Bench()
    late = [bench.breaker.permit().__enter__() for _ in range(10)]
    bench.fail(5)
    until = bench.breaker.open_until
    late.pop().__exit__(None, None, None)
    error = UpstreamFailed("late", retry_after=299)
    late.pop().__exit__(type(error), error, None)
    assert (bench.state, bench.breaker.open_until) == ("open", until)
    bench.wait_until_it_probes()
    with bench.breaker.permit():
        for permit in late:
            permit.__exit__(type(error), error, None)
        assert bench.state == "half_open"
    assert bench.breaker.permits_out == 0


def test_a_stream_settles_the_probe_at_its_first_content() -> None:
    """succeeded() counts at once and makes room for the next probe while the stream goes on."""
    bench = Bench()
    bench.fail(5)
    bench.wait_until_it_probes()
    streams = []
    for _ in range(3):
        permit = bench.breaker.permit().__enter__()
        permit.succeeded()
        permit.succeeded()
        streams.append(permit)
    assert bench.state == "closed"
    assert bench.breaker.permits_out == 3


def test_a_probe_that_breaks_after_its_content_counts_in_the_closed_window() -> None:
    """A settled probe can't open it again while it probes, but counts once it is closed."""
    bench = Bench(consecutive=1)
    bench.fail()
    bench.wait_until_it_probes()
    streams = [bench.breaker.permit() for _ in range(3)]
    error = UpstreamFailed("broke off")
    for permit in streams[:2]:
        permit.__enter__().succeeded()
    streams[0].__exit__(type(error), error, None)
    assert bench.state == "half_open"
    streams[2].__enter__().succeeded()
    assert bench.state == "closed"
    streams[1].__exit__(type(error), error, None)
    assert bench.state == "open"


def test_streams_that_all_break_off_open_it() -> None:
    """A failure takes the place of the success said early: five such streams are a row."""
    bench = Bench()
    error = UpstreamFailed("broke off")
    for _ in range(5):
        permit = bench.breaker.permit().__enter__()
        permit.succeeded()
        permit.__exit__(type(error), error, None)
    assert bench.state == "open"


def test_another_success_breaks_the_row_of_broken_streams() -> None:
    """Of two streams that run together, the one that ends well stands between the failures."""
    bench = Bench(consecutive=3)
    error = UpstreamFailed("broke off")
    bench.fail(2)
    broken = bench.breaker.permit().__enter__()
    broken.succeeded()
    bench.call()
    broken.__exit__(type(error), error, None)
    assert bench.state == "closed"
    bench.fail(2)
    assert bench.state == "open"


def test_a_broken_stream_is_one_call_in_the_rate() -> None:
    """Ten whole calls and ten that break after their first content: 10 of 20 failed."""
    bench = Bench(consecutive=100)
    error = UpstreamFailed("broke off")
    for done in range(10):
        assert bench.state == "closed", done
        bench.call()
        permit = bench.breaker.permit().__enter__()
        permit.succeeded()
        permit.__exit__(type(error), error, None)
    assert bench.state == "open"
    changed = bench.events[-1]
    assert isinstance(changed, BreakerChanged)
    assert changed.reason == "10 of 20 calls failed"


def test_a_lost_probe_makes_room_after_its_lease() -> None:
    """A probe that never reports doesn't keep it half open; its late verdict still counts."""
    bench = Bench(lease=30.0)
    bench.fail(5)
    bench.wait_until_it_probes()
    lost = bench.breaker.permit().__enter__()
    bench.clock.advance(29.9)
    with pytest.raises(CircuitOpen) as refused:
        bench.call()
    assert refused.value.retry_after == pytest.approx(0.1)
    bench.clock.advance(0.1)
    assert bench.breaker.retry_after == 0.0
    bench.call()
    bench.call()
    lost.__exit__(None, None, None)
    assert bench.state == "closed"


def test_a_permit_that_is_never_entered_holds_nothing() -> None:
    """Only entering asks the breaker."""
    bench = Bench()
    bench.fail(5)
    bench.wait_until_it_probes()
    unused = [bench.breaker.permit() for _ in range(100)]
    bench.call()
    assert bench.breaker.permits_out == 0
    with pytest.raises(RuntimeError, match="was not entered"):
        unused[0].succeeded()


def test_a_permit_is_for_one_call() -> None:
    """Entering a permit again is an error; saying succeeded() too late is none."""
    permit = CircuitBreaker("x").permit()
    with permit:
        pass
    permit.succeeded()
    with pytest.raises(RuntimeError, match="for one call"):
        permit.__enter__()


async def test_a_thousand_cancelled_probes_do_not_wedge_it() -> None:
    """Each cancelled probe gives its permit back; then three good ones close the breaker."""
    bench = Bench()
    bench.fail(5)
    bench.wait_until_it_probes()
    never = asyncio.Event()

    async def probe() -> None:
        async with bench.breaker.permit():
            await never.wait()

    for _ in range(1000):
        task = asyncio.create_task(probe())
        await asyncio.sleep(0)
        assert bench.breaker.permits_out == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert bench.state == "half_open"
    for _ in range(3):
        bench.call()
    assert bench.state == "closed"


async def test_of_many_tasks_at_once_one_probes() -> None:
    """Five hundred tasks meet a breaker whose time is over: one passes, the rest is refused."""
    bench = Bench()
    bench.fail(5)
    bench.wait_until_it_probes()
    inside = 0

    async def ask() -> bool:
        nonlocal inside
        try:
            async with bench.breaker:
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1
        except CircuitOpen:
            return False
        return True

    answers = await asyncio.gather(*(ask() for _ in range(500)))
    assert sum(answers) == 1
    assert bench.breaker.permits_out == 0


async def test_async_with_keeps_tasks_and_nesting_apart() -> None:
    """Tasks begun inside another's block, and nested breakers, end their own permits."""
    outer, inner = CountingBreaker("outer"), CountingBreaker("inner")

    async def child() -> None:
        async with outer:
            await asyncio.sleep(0)
            raise UpstreamFailed("the child's")

    async with outer, inner:
        task = asyncio.create_task(child())
        with pytest.raises(UpstreamFailed):
            await task
        assert outer.permits_out == 1
    assert outer.verdicts == ["failed", "succeeded"]
    assert inner.verdicts == ["succeeded"]
    assert outer.permits_out == inner.permits_out == 0


async def test_a_block_that_ends_in_another_context_says_so() -> None:
    """It can't follow a generator from task to task: the error names the remedy."""
    breaker = CircuitBreaker("x")

    async def numbers() -> AsyncIterator[int]:
        async with breaker:
            yield 1

    stream = numbers()
    assert await asyncio.create_task(stream.__anext__()) == 1  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"with breaker\.permit\(\)"):
        await stream.__anext__()


async def test_it_decorates_async_functions() -> None:
    """Each call of a decorated function holds a permit; its name, arguments and result stay."""
    breaker = CountingBreaker()

    @breaker
    async def ask(word: str, *, times: int = 1) -> str:
        assert breaker.permits_out == 1
        if not times:
            raise TimeoutError
        return word * times

    assert await ask("a", times=2) == "aa"
    with pytest.raises(TimeoutError):
        await ask("a", times=0)
    assert ask.__name__ == "ask"
    assert breaker.verdicts == ["succeeded", "failed"]


def test_it_decorates_nothing_else() -> None:
    """A plain function is refused: its awaitable would look like a success."""
    with pytest.raises(TypeError, match="no async function"):
        CircuitBreaker("x")(lambda: asyncio.sleep(0))


def test_it_tells_its_observer_each_change() -> None:
    """closed → open → half open → closed, with reasons."""
    bench = Bench()
    bench.fail(5)
    bench.wait_until_it_probes()
    for _ in range(3):
        bench.call()
    told = [
        (event.before, event.after, event.reason)
        for event in bench.events
        if isinstance(event, BreakerChanged) and event.breaker == "unit"
    ]
    assert told == [
        ("closed", "open", "5 failures in a row"),
        ("open", "half_open", "the open time is over"),
        ("half_open", "closed", "3 probes succeeded"),
    ]


def test_an_observer_that_fails_hurts_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """What an observer raises doesn't reach the call, and the state is right."""

    def broken(event: Event, /) -> None:
        raise LookupError("the observer")

    breaker = CircuitBreaker("x", BreakerSettings(consecutive=1), observer=broken)
    with pytest.raises(ValueError, match="the call"), breaker.permit():
        raise ValueError("the call")
    assert breaker.state == "open"


def test_force_open_holds_it_until_told() -> None:
    """Held open without an end, there is no time to wait for; with one, it probes then."""
    bench = Bench()
    bench.breaker.force_open()
    bench.clock.advance(1e9)
    with pytest.raises(CircuitOpen) as refused:
        bench.call()
    assert refused.value.retry_after is None
    assert bench.breaker.open_until == math.inf
    bench.breaker.force_open(10.0)
    assert bench.breaker.retry_after == pytest.approx(10.0)
    bench.clock.advance(10.0)
    bench.call()
    assert bench.state == "half_open"
    bench.breaker.reset()
    assert bench.state == "closed"


def test_force_close_lets_failures_pass_for_its_time() -> None:
    """Held closed, nothing opens it; when the time is over, the rules act again."""
    bench = Bench()
    bench.breaker.force_close(10.0)
    bench.fail(50)
    assert bench.state == "closed"
    bench.clock.advance(10.0)
    bench.fail()
    assert bench.state == "open"
    bench.breaker.force_close()
    bench.fail(50)
    bench.breaker.reset()
    bench.fail(5)
    assert bench.state == "open"


def test_force_open_ends_a_held_closed_breaker() -> None:
    """The last command holds: once it has recovered from it, failures open it again."""
    bench = Bench()
    bench.breaker.force_close()
    bench.breaker.force_open(1.0)
    bench.clock.advance(1.0)
    for _ in range(3):
        bench.call()
    assert bench.state == "closed"
    bench.fail(5)
    assert bench.state == "open"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", 0.0),
        ("buckets", 0),
        ("min_calls", 0),
        ("failure_rate", 0.0),
        ("failure_rate", 1.1),
        ("consecutive", 0),
        ("open_time", math.inf),
        ("open_cap", 1.0),
        ("jitter", 1.0),
        ("retry_after_cap", -1.0),
        ("lease", math.nan),
        ("probes", 0),
        ("successes", 0),
    ],
)
def test_settings_that_cannot_be_are_refused(field: str, value: float) -> None:
    """The error names the field and the value."""
    with pytest.raises(ConfigurationError) as refused:
        BreakerSettings(**{field: value})  # type: ignore[arg-type]
    assert refused.value.param == field
    assert field in refused.value.message
    assert repr(value) in refused.value.message


def test_other_settings_act_on_what_was_counted() -> None:
    """Failures in a row, and shares of a window, are judged by the settings of the moment."""
    bench = Bench()
    bench.fail(2)
    bench.breaker.retune(BreakerSettings(consecutive=3))
    assert bench.state == "closed"
    bench.fail()
    assert bench.state == "open"
    share = Bench(consecutive=100, min_calls=100)
    for _ in range(4):
        share.call()
        share.fail()
    share.breaker.retune(BreakerSettings(consecutive=100, min_calls=9, failure_rate=0.5))
    share.fail()
    assert share.state == "open"


def test_other_settings_leave_an_open_breaker_open() -> None:
    """Its time goes on as it was; how it closes is the new settings' to say."""
    bench = Bench(open_time=10.0, successes=3)
    bench.fail(5)
    until, generation = bench.breaker.open_until, bench.breaker.generation
    bench.breaker.retune(BreakerSettings(open_time=1.0, successes=1))
    assert (bench.state, bench.breaker.open_until) == ("open", until)
    assert bench.breaker.generation == generation
    with pytest.raises(CircuitOpen):
        bench.call()
    bench.wait_until_it_probes()
    bench.call()
    assert bench.state == "closed"


def test_a_call_that_runs_while_the_settings_change_counts() -> None:
    """A permit from before reports to the breaker as ever."""
    bench = Bench()
    bench.fail(4)
    permit = bench.breaker.permit().__enter__()
    bench.breaker.retune(BreakerSettings(window=10.0, buckets=2))
    error = UpstreamFailed("down")
    permit.__exit__(type(error), error, None)
    assert (bench.state, bench.breaker.permits_out) == ("open", 0)


def test_a_shorter_window_forgets_what_is_older() -> None:
    """After the change only the new window's time counts, in slices of the new width."""
    bench = Bench(consecutive=100, min_calls=4, failure_rate=0.5)
    bench.call()
    bench.fail(2)
    bench.breaker.retune(
        BreakerSettings(consecutive=100, min_calls=4, failure_rate=0.5, window=10.0, buckets=5)
    )
    bench.clock.advance(11)
    bench.call()
    bench.fail()
    assert bench.state == "closed"
    bench.clock.advance(2)
    bench.fail(2)
    assert bench.state == "open"


def test_other_settings_say_which_exceptions_count() -> None:
    """An exception that was nobody's fault may be the endpoint's from now on."""
    bench = Bench(counts=(), consecutive=1)
    with pytest.raises(KeyError), bench.breaker.permit():
        raise KeyError("x")
    assert bench.state == "closed"
    bench.breaker.retune(BreakerSettings(consecutive=1))
    with pytest.raises(KeyError), bench.breaker.permit():
        raise KeyError("x")
    assert bench.state == "open"


async def test_always_closed_has_the_same_surface() -> None:
    """Whatever a CircuitBreaker offers, the null object offers, and it never refuses."""
    breaker = AlwaysClosed("off")
    public = {name for name in dir(CircuitBreaker("x")) if not name.startswith("_")}
    assert public - {"settings"} <= set(dir(breaker))
    breaker.force_open()
    for _ in range(100):
        with pytest.raises(UpstreamFailed), breaker.permit() as permit:
            permit.succeeded()
            raise UpstreamFailed("down")
    async with breaker, breaker.permit():
        pass

    @breaker
    async def ask() -> int:
        return 1

    assert await ask() == 1
    assert (breaker.state, breaker.retry_after, breaker.permits_out) == ("closed", 0.0, 0)
