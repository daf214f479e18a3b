"""The breaker against a naive model of itself, by a state machine."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
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

from proxy_core import BreakerSettings, CircuitBreaker, Permit
from proxy_core.errors import CircuitOpen, InvalidRequest, UpstreamFailed, UpstreamThrottled
from proxy_core.testing import ManualClock


@dataclass
class Out:
    """A permit that is out, as the model knows it."""

    permit: Permit
    generation: int
    slow_at: float
    said: str = ""
    """Where an early success went: ``probe``, ``window``, ``nowhere``."""


class Result(NamedTuple):
    """One call of the window."""

    bucket: float
    kind: str
    slow: bool
    out: Out


@dataclass
class Model:
    """The breaker, naively: lists of everything, counted anew each time."""

    settings: BreakerSettings
    state: str = "closed"
    generation: int = 1
    level: int = 0
    open_until: float = 0.0
    trickle_at: float = 0.0
    held_until: float = 0.0
    suspect_until: float = 0.0
    since: float = 0.0
    bucket: float = 0.0
    trials: int = 0
    good_news: int = 0
    leases: list[tuple[Out, float]] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    row: list[Out | None] = field(default_factory=list)
    """Successes that hold, in their order, None for a failure."""

    def clear(self, now: float) -> None:
        self.since = self.bucket = now
        self.results, self.row = [], []

    def begin(self, state: str) -> None:
        self.state = state
        self.generation += 1
        self.leases = []
        self.trials = 0

    def opens_at(self, last: bool) -> float:
        return min(self.open_until, self.trickle_at) if last else self.open_until

    def admits(self, now: float, last: bool) -> bool:
        if self.state == "closed":
            return True
        if now < self.opens_at(last):
            return False
        if self.state == "open":
            self.begin("half_open")
        return sum(until > now for _, until in self.leases) < self.settings.probes

    def admit(self, out: Out, now: float) -> None:
        if self.state == "half_open":
            self.leases = [lease for lease in self.leases if lease[1] > now]
            self.leases.append((out, now + self.settings.lease))

    def record(self, now: float, kind: str, slow: bool, out: Out) -> list[Result]:
        if now >= self.bucket + self.settings.window / self.settings.buckets:
            self.bucket = now
        self.results.append(Result(self.bucket, kind, slow, out))
        return [result for result in self.results if result.bucket > now - self.settings.window]

    def drop_lease(self, out: Out) -> None:
        self.leases = [lease for lease in self.leases if lease[0] is not out]

    def succeed(self, out: Out, now: float, jitter: float) -> str:
        slow = now >= out.slow_at
        self.drop_lease(out)
        if self.state == "half_open":
            self.trials += 1
            if slow:
                self.probe_failed(now, 0.0, jitter)
            elif self.trials >= self.settings.successes:
                self.state = "closed"
                self.suspect_until = 0.0
                self.clear(now)
            return "probe"
        self.good_news += 1
        live = self.record(now, "succeeded", slow, out)
        self.row.append(out)
        if slow:
            self.look_for_slow(live, now, jitter)
        return "window"

    def abandon(self, out: Out, now: float, jitter: float) -> None:
        if out.said or now < out.slow_at:
            return
        if self.state == "half_open":
            self.probe_failed(now, 0.0, jitter)
        else:
            live = self.record(now, "abandoned", True, out)
            self.look_for_slow(live, now, jitter)

    def look_for_slow(self, live: list[Result], now: float, jitter: float) -> None:
        slow = sum(result.slow for result in live)
        if len(live) >= self.settings.min_calls and slow >= self.settings.slow_rate * len(live):
            self.trip_if_free(now, 0.0, jitter)

    def fail(self, out: Out, now: float, retry_after: float | None, jitter: float) -> None:
        asked = min(retry_after or 0.0, self.settings.retry_after_cap)
        if self.state == "half_open":
            if not out.said:
                self.probe_failed(now, asked, jitter)
            return
        if out.said == "window":
            self.results = [result for result in self.results if result.out is not out]
            self.row = [entry for entry in self.row if entry is not out]
        live = self.record(now, "failed", False, out)
        self.row.append(None)
        failures = sum(result.kind == "failed" for result in live)
        streak = next((n for n, entry in enumerate(reversed(self.row)) if entry), len(self.row))
        rate = len(live) >= self.settings.min_calls
        rate = rate and failures >= self.settings.failure_rate * len(live)
        suspect = now < self.suspect_until and self.good_news < self.settings.successes
        if rate or suspect or streak >= self.settings.consecutive:
            self.trip_if_free(now, asked, jitter)

    def trip_if_free(self, now: float, asked: float, jitter: float) -> None:
        if now >= self.held_until:
            healthy = int((now - self.since) // self.settings.healthy_interval)
            self.level = max(0, self.level - healthy)
            self.trip(now, asked, jitter)

    def probe_failed(self, now: float, asked: float, jitter: float) -> None:
        if now >= self.open_until:
            self.trip(now, asked, jitter)
            return
        self.open_until = max(self.open_until, now + asked)
        self.trickle_at = now + max(self.settings.trickle, asked)
        self.begin("open")

    def trip(self, now: float, asked: float, jitter: float) -> None:
        wait = min(self.settings.open_time * 2**self.level, self.settings.open_cap)
        self.level += wait < self.settings.open_cap
        wait *= 0.8 + 0.4 * jitter
        self.open_until = now + max(wait, asked)
        self.trickle_at = now + max(self.settings.trickle, asked)
        self.begin("open")


TIMES = st.sampled_from([0.001, 0.5, 1.0, 2.0, 2.5, 5.0, 7.0, 10.0, 40.0])


class BreakerMachine(RuleBasedStateMachine):
    """Calls that succeed, fail, are let go, are cancelled or lost, in any order, at any time."""

    permits: Bundle[Out] = Bundle("permits")

    @initialize(probes=st.integers(1, 2))
    def build(self, probes: int) -> None:
        self.clock = ManualClock()
        self.jitter = 0.5
        settings = BreakerSettings(
            window=6.0,
            buckets=3,
            min_calls=4,
            consecutive=3,
            slow_first=4.0,
            slow_whole=9.0,
            open_cap=20.0,
            healthy_interval=10.0,
            probes=probes,
            successes=2,
            lease=7.0,
            trickle=2.0,
        )
        self.breaker = CircuitBreaker("x", settings, clock=self.clock, rng=lambda: self.jitter)
        self.model = Model(settings)
        self.model.clear(self.now)
        self.out = 0

    @property
    def now(self) -> float:
        return self.clock.now

    @rule(target=permits, stream=st.booleans(), last=st.booleans(), lean=st.booleans())
    def start(self, stream: bool, last: bool, lean: bool) -> Out | MultipleResults[Out]:
        if not self.model.admits(self.now, last):
            with pytest.raises(CircuitOpen) as refused:
                self.permit(stream, last, lean)
            wait = refused.value.retry_after
            assert (wait is None) == (self.model.opens_at(last) == math.inf)
            assert wait is None or 0 < wait <= 300.0
            return multiple()
        permit = self.permit(stream, last, lean)
        self.out += 1
        slow = self.model.settings.slow_first if stream else self.model.settings.slow_whole
        out = Out(permit, self.model.generation, self.now + slow)
        self.model.admit(out, self.now)
        return out

    def permit(self, stream: bool, last: bool, lean: bool) -> Permit:
        if lean:
            return self.breaker.enter(stream=stream, last=last)
        return self.breaker.permit(stream=stream, last=last).__enter__()

    @rule(out=permits)
    def first_content(self, out: Out) -> None:
        out.permit.succeeded()
        if out.said:
            return
        out.said = "nowhere"
        if out.generation == self.model.generation:
            out.said = self.model.succeed(out, self.now, self.jitter)

    @rule(out=consumes(permits))
    def succeed(self, out: Out) -> None:
        self.out -= 1
        out.permit.end()
        if out.generation == self.model.generation and not out.said:
            self.model.succeed(out, self.now, self.jitter)

    @rule(
        out=consumes(permits),
        retry_after=st.sampled_from([None, 1.0, 90.0, 1e6]),
        jitter=st.sampled_from([0.0, 0.5, 0.999]),
    )
    def fail(self, out: Out, retry_after: float | None, jitter: float) -> None:
        self.out -= 1
        self.jitter = jitter
        error = UpstreamFailed("down", retry_after=retry_after)
        out.permit.end(error=error)
        if out.generation == self.model.generation:
            self.model.drop_lease(out)
            self.model.fail(out, self.now, retry_after, jitter)

    @rule(
        out=consumes(permits), error=st.sampled_from([UpstreamThrottled("429"), InvalidRequest("")])
    )
    def let_go(self, out: Out, error: Exception) -> None:
        self.out -= 1
        out.permit.end(error=error)
        self.model.drop_lease(out)

    @rule(out=consumes(permits), error=st.sampled_from([asyncio.CancelledError(), GeneratorExit()]))
    def cancel(self, out: Out, error: BaseException) -> None:
        self.out -= 1
        out.permit.end(error=error)
        self.model.drop_lease(out)
        if out.generation == self.model.generation:
            self.model.abandon(out, self.now, self.jitter)

    @rule(out=consumes(permits))
    def lose(self, out: Out) -> None:
        """Never to be heard of again."""

    @rule(seconds=TIMES)
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([None, 3.0]))
    def force_open(self, seconds: float | None) -> None:
        self.breaker.force_open(seconds)
        self.model.open_until = math.inf if seconds is None else self.now + seconds
        self.model.trickle_at = self.model.open_until
        self.model.held_until = 0.0
        self.model.begin("open")

    @rule(seconds=st.sampled_from([None, 3.0]))
    def force_close(self, seconds: float | None) -> None:
        self.breaker.force_close(seconds)
        self.model.held_until = math.inf if seconds is None else self.now + seconds
        self.model.suspect_until = 0.0
        self.model.level = 0
        self.model.clear(self.now)
        self.model.begin("closed")

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.model.held_until = 0.0
        self.model.suspect_until = 0.0
        self.model.level = 0
        self.model.clear(self.now)
        self.model.begin("closed")

    @rule(seconds=st.sampled_from([1.0, 20.0]))
    def another_process_finds_it_sick(self, seconds: float) -> None:
        self.breaker._machine.suspect(seconds)
        if self.model.state == "closed":
            self.model.suspect_until = self.now + seconds
            self.model.good_news = 0

    @rule()
    def another_process_finds_it_well(self) -> None:
        by_hand = self.breaker._machine.by_hand
        self.breaker._machine.recovered_elsewhere()
        if self.model.state != "closed" and not by_hand:
            self.model.suspect_until = self.now + self.model.settings.slow_start
            self.model.good_news = 0
            self.model.clear(self.now)
            self.model.begin("closed")

    @invariant()
    def agrees(self) -> None:
        breaker = self.breaker
        assert breaker.state == self.model.state
        assert breaker.generation == self.model.generation
        assert breaker.permits_out == self.out
        if self.breaker.state == "half_open":
            assert len(self.model.leases) <= self.model.settings.probes
        if breaker.state == "open":
            assert breaker.open_until == pytest.approx(self.model.open_until)

    def teardown(self) -> None:
        """Never stuck: after the longest wait and a lease, a call passes."""
        if self.breaker.open_until == math.inf:
            self.breaker.reset()
        self.clock.advance(300.0 + 7.0)
        with self.breaker.permit():
            pass


TestBreakerMachine = BreakerMachine.TestCase
