"""Faults on purpose: they look real, they hurt no breaker, and nobody gets them unasked."""

from __future__ import annotations

import pytest

from proxy_core import CHAT, Call, ChaosProvider, ChaosSettings, CircuitBreaker, Timeouts, hold
from proxy_core.errors import (
    ConfigurationError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamThrottled,
    UpstreamTimeout,
)
from proxy_core.testing import FakeProvider, Script

CALL = CHAT.read(b'{"model":"chat","stream":true,"messages":[]}')
CHUNKS = [b"data: %d\n\n" % number for number in range(12)]


class Lab:
    """Chaos in front of a fake provider; it remembers how long it slept."""

    def __init__(self, chunks: int = 12, /, **settings: object) -> None:
        self.slept: list[float] = []
        self.inner = FakeProvider(Script(chunks=CHUNKS[:chunks]))
        self.provider = ChaosProvider(
            self.inner,
            ChaosSettings(**settings),  # type: ignore[arg-type]
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def ask(
        self, call: Call = CALL, timeouts: Timeouts = Timeouts()
    ) -> tuple[list[bytes], UpstreamError | None]:
        """What came of one call, and what ended it."""
        got: list[bytes] = []
        try:
            async with self.provider.send(call, model="gpt", timeouts=timeouts) as reply:
                await hold(reply)
                async for chunk in reply.body:
                    got.append(chunk)
        except UpstreamError as failure:
            return got, failure
        return got, None


async def test_without_shares_nothing_happens() -> None:
    """Of a thousand calls each is answered, at once."""
    lab = Lab(2)
    for _ in range(1000):
        got, failure = await lab.ask()
        assert (b"".join(got), failure) == (b"".join(CHUNKS[:2]), None)
    assert lab.slept == []
    assert set(lab.provider.met.values()) == {0}


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [("throttled", UpstreamThrottled, 429), ("overloaded", UpstreamFailed, 529)],
)
async def test_refusals_have_a_status_a_code_and_a_wait(
    fault: str, kind: type[UpstreamError], status: int
) -> None:
    """As a real 429 and 529, and the upstream isn't asked: it costs nothing."""
    lab = Lab(**{fault: 1.0}, retry_after=7.0)
    got, failure = await lab.ask()
    assert isinstance(failure, kind)
    assert (failure.upstream_status, failure.retry_after) == (status, 7.0)
    assert failure.upstream_code
    assert failure.deployment == "fake/gpt"
    assert not got
    assert not lab.inner.calls


async def test_a_stalled_head_is_late_or_times_out() -> None:
    """30 s of silence, then the answer; with a limit of 20 s, that long and a timeout."""
    lab = Lab(stalled_head=1.0)
    got, failure = await lab.ask()
    assert (b"".join(got), failure, lab.slept) == (b"".join(CHUNKS), None, [30.0])
    got, failure = await lab.ask(timeouts=Timeouts(first_byte=20.0))
    assert isinstance(failure, UpstreamTimeout)
    assert (failure.phase, lab.slept[-1], len(lab.inner.calls)) == ("first_byte", 20.0, 1)


@pytest.mark.parametrize("chunks", [2, 3, 12])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [("broken_stream", UpstreamFailed), ("cut_stream", UpstreamDisconnected)],
)
async def test_streams_break_after_their_content(
    fault: str, kind: type[UpstreamError], chunks: int
) -> None:
    """The beginning has come, so that it is too late for a status; and nothing stays open."""
    lab = Lab(chunks, **{fault: 1.0})
    for _ in range(20):
        got, failure = await lab.ask()
        assert type(failure) is not kind
        assert isinstance(failure, kind)
        assert b"".join(got).startswith(CHUNKS[0] + CHUNKS[1])
        assert b"".join(CHUNKS).startswith(b"".join(got))
        assert lab.inner.open == 0
    assert lab.provider.met[fault] == 20


@pytest.mark.parametrize("fault", ["broken_stream", "cut_stream"])
async def test_the_last_event_comes_after_no_fault(fault: str) -> None:
    """A client stops listening at the last one: the fault is before it, however they arrive."""
    lab = Lab(**{fault: 1.0})
    lab.inner = FakeProvider(Script(chunks=[CHUNKS[0], b"".join(CHUNKS[1:4])]))
    for _ in range(20):
        lab.provider = ChaosProvider(lab.inner, lab.provider.settings)
        got, failure = await lab.ask()
        assert failure is not None
        assert CHUNKS[3] not in b"".join(got)


async def test_a_stalled_stream_goes_on_or_times_out() -> None:
    """Silence once, after the first content; all of it comes if the limit is longer."""
    lab = Lab(stalled_stream=1.0, stall=10.0)
    got, failure = await lab.ask()
    assert (b"".join(got), failure) == (b"".join(CHUNKS), None)
    assert [wait for wait in lab.slept if wait] == [10.0]
    got, failure = await lab.ask(timeouts=Timeouts(between_events=5.0))
    assert isinstance(failure, UpstreamTimeout)
    assert (failure.phase, lab.slept[-1]) == ("between_events", 5.0)
    assert got


async def test_slow_tokens_are_all_there() -> None:
    """A pause before each event, and no error."""
    lab = Lab(slow_tokens=1.0, pause=0.2)
    got, failure = await lab.ask()
    assert (b"".join(got), failure) == (b"".join(CHUNKS), None)
    assert lab.slept == [0.2] * 12


async def test_a_seed_gives_the_same_faults() -> None:
    """Shares are kept, and the same calls meet the same faults."""
    runs = []
    for _ in range(2):
        lab = Lab(throttled=0.2, overloaded=0.1, cut_stream=0.3, seed=7)
        runs.append([type(failure) for _, failure in [await lab.ask() for _ in range(1000)]])
        met = lab.provider.met
        assert 150 < met["throttled"] < 250
        assert 60 < met["overloaded"] < 140
        assert 240 < met["cut_stream"] < 360
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 4


@pytest.mark.parametrize(
    "fault",
    ["throttled", "overloaded", "stalled_head", "stalled_stream", "broken_stream", "cut_stream"],
)
async def test_no_breaker_and_no_other_deployment_minds(fault: str) -> None:
    """The errors reach the client that asked for them, and say nothing about the upstream."""
    lab = Lab(**{fault: 1.0}, stall=3600.0)
    breaker = CircuitBreaker("real")
    for _ in range(50):
        permit = breaker.enter()
        _, failure = await lab.ask()
        assert failure is not None
        assert (failure.verdict, failure.retryable, failure.reason) == ("let_go", False, "")
        permit.end(error=failure)
    assert breaker.state == "closed"


async def test_the_provider_stays_its_owners() -> None:
    """Closing the chaos closes nothing: others use what is behind it."""
    lab = Lab()
    closed = []

    async def aclose() -> None:
        closed.append(True)

    lab.inner.aclose = aclose  # type: ignore[method-assign]
    await lab.provider.aclose()
    assert not closed
    assert lab.provider.name == "fake"


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"throttled": 1.1}, "throttled"),
        ({"cut_stream": -0.1}, "cut_stream"),
        ({"stall": float("inf")}, "stall"),
        ({"pause": float("nan")}, "pause"),
        ({"throttled": 0.6, "overloaded": 0.6}, "chaos"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float], param: str) -> None:
    """The error names the field; shares are shares of all calls."""
    with pytest.raises(ConfigurationError) as refused:
        ChaosSettings(**settings)  # type: ignore[arg-type]
    assert refused.value.param == param
