"""The breaker against a naive model of itself, by a state machine."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

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
    said: str = ""
    """Where an early success went: ``probe``, ``window``, ``nowhere``."""


@dataclass
class Model:
    """The breaker, naively: lists of everything, counted anew each time."""

    settings: BreakerSettings
    state: str = "closed"
    generation: int = 1
    level: int = 0
    open_until: float = 0.0
    held_until: float = 0.0
    since: float = 0.0
    bucket: float = 0.0
    trials: int = 0
    leases: list[tuple[Out, float]] = field(default_factory=list)
    results: list[tuple[float, bool, Out]] = field(default_factory=list)
    row: list[Out | None] = field(default_factory=list)
    """Successes in their order, None for a failure."""

    def clear(self, now: float) -> None:
        self.since = self.bucket = now
        self.results, self.row = [], []

    def begin(self, state: str) -> None:
        self.state = state
        self.generation += 1
        self.leases = []
        self.trials = 0

    def admits(self, now: float) -> bool:
        if self.state == "open" and now >= self.open_until:
            self.begin("half_open")
        if self.state == "half_open":
            return sum(until > now for _, until in self.leases) < self.settings.probes
        return self.state == "closed"

    def admit(self, out: Out, now: float) -> None:
        if self.state == "half_open":
            self.leases = [lease for lease in self.leases if lease[1] > now]
            self.leases.append((out, now + self.settings.lease))

    def record(self, now: float, failed: bool, out: Out) -> None:
        if now >= self.bucket + self.settings.window / self.settings.buckets:
            self.bucket = now
        self.results.append((self.bucket, failed, out))

    def succeed(self, out: Out, now: float) -> str:
        self.leases = [lease for lease in self.leases if lease[0] is not out]
        if self.state == "half_open":
            self.trials += 1
            if self.trials >= self.settings.successes:
                self.state = "closed"
                self.clear(now)
            return "probe"
        self.record(now, False, out)
        self.row.append(out)
        return "window"

    def fail(self, out: Out, now: float, retry_after: float | None, jitter: float) -> None:
        if self.state == "half_open":
            if not out.said:
                self.trip(now, retry_after, jitter)
            return
        if out.said == "window":
            self.results = [r for r in self.results if r[2] is not out]
            if [entry for entry in self.row if entry][-1] is out:
                self.row.remove(out)
        self.record(now, True, out)
        self.row.append(None)
        live = [failed for bucket, failed, _ in self.results if bucket > now - self.settings.window]
        streak = next((n for n, entry in enumerate(reversed(self.row)) if entry), len(self.row))
        rate = len(live) >= self.settings.min_calls
        rate = rate and sum(live) >= self.settings.failure_rate * len(live)
        if (rate or streak >= self.settings.consecutive) and now >= self.held_until:
            healthy = int((now - self.since) // self.settings.healthy_interval)
            self.level = max(0, self.level - healthy)
            self.trip(now, retry_after, jitter)

    def trip(self, now: float, retry_after: float | None, jitter: float) -> None:
        wait = min(self.settings.open_time * 2**self.level, self.settings.open_cap)
        self.level += wait < self.settings.open_cap
        wait *= 0.8 + 0.4 * jitter
        wait = max(wait, min(retry_after or 0.0, self.settings.retry_after_cap))
        self.open_until = now + wait
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
            open_cap=20.0,
            healthy_interval=10.0,
            probes=probes,
            successes=2,
            lease=7.0,
        )
        self.breaker = CircuitBreaker("x", settings, clock=self.clock, rng=lambda: self.jitter)
        self.model = Model(settings)
        self.model.clear(self.now)
        self.out = 0

    @property
    def now(self) -> float:
        return self.clock.now

    @rule(target=permits)
    def start(self) -> Out | MultipleResults[Out]:
        permit = self.breaker.permit()
        if not self.model.admits(self.now):
            with pytest.raises(CircuitOpen) as refused:
                permit.__enter__()
            wait = refused.value.retry_after
            assert (wait is None) == (self.model.open_until == math.inf)
            assert wait is None or 0 < wait <= 300.0
            return multiple()
        permit.__enter__()
        self.out += 1
        out = Out(permit, self.model.generation)
        self.model.admit(out, self.now)
        return out

    @rule(out=permits)
    def first_content(self, out: Out) -> None:
        out.permit.succeeded()
        if out.said:
            return
        out.said = "nowhere"
        if out.generation == self.model.generation:
            out.said = self.model.succeed(out, self.now)

    @rule(out=consumes(permits))
    def succeed(self, out: Out) -> None:
        self.out -= 1
        out.permit.__exit__(None, None, None)
        if out.generation == self.model.generation and not out.said:
            self.model.succeed(out, self.now)

    @rule(
        out=consumes(permits),
        retry_after=st.sampled_from([None, 1.0, 90.0, 1e6]),
        jitter=st.sampled_from([0.0, 0.5, 0.999]),
    )
    def fail(self, out: Out, retry_after: float | None, jitter: float) -> None:
        self.out -= 1
        self.jitter = jitter
        error = UpstreamFailed("down", retry_after=retry_after)
        out.permit.__exit__(type(error), error, None)
        if out.generation == self.model.generation:
            self.model.fail(out, self.now, retry_after, jitter)

    @rule(
        out=consumes(permits),
        error=st.sampled_from(
            [
                asyncio.CancelledError(),
                GeneratorExit(),
                UpstreamThrottled("429"),
                InvalidRequest(""),
            ]
        ),
    )
    def let_go(self, out: Out, error: BaseException) -> None:
        self.out -= 1
        out.permit.__exit__(type(error), error, None)
        self.model.leases = [lease for lease in self.model.leases if lease[0] is not out]

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
        self.model.held_until = 0.0
        self.model.begin("open")

    @rule(seconds=st.sampled_from([None, 3.0]))
    def force_close(self, seconds: float | None) -> None:
        self.breaker.force_close(seconds)
        self.model.held_until = math.inf if seconds is None else self.now + seconds
        self.model.level = 0
        self.model.clear(self.now)
        self.model.begin("closed")

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.model.held_until = 0.0
        self.model.level = 0
        self.model.clear(self.now)
        self.model.begin("closed")

    @invariant()
    def agrees(self) -> None:
        breaker = self.breaker
        assert breaker.state == self.model.state
        assert breaker.generation == self.model.generation
        assert breaker.permits_out == self.out
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
