"""The breaker's states, and what moves it from one to another. It knows of no blocks and no tasks.

Windows as in Hystrix, the consecutive rule and the decaying open time as in Envoy's outlier
detection, a wait that the upstream may lengthen as in Resilience4j, generations as in gobreaker.
"""

# ruff: noqa: SLF001 - a permit and its machine are two halves of one

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from proxy_core._breaker_pause import Pause
from proxy_core._breaker_settings import BreakerSettings
from proxy_core._breaker_verdict import judge_by
from proxy_core._breaker_window import Phase, Trial, Window
from proxy_core.errors import CircuitOpen, Verdict
from proxy_logging import BreakerChanged, fan_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy_core._breaker_permit import Permit
    from proxy_logging import Observer

__all__ = ["Machine", "State", "always"]

State = Literal["closed", "open", "half_open"]

_FINAL = -1
"""Of a permit's mark: it has said its word, and nothing takes it back."""
_PROBE_HINT = 1.0
"""Seconds to wait while another probe is out: its verdict may come at any moment."""


class Machine:
    """closed → open → half open → closed. Nothing here waits, so there is no lock.

    A permit reports to the ``phase`` that admitted it. Each change but a recovery begins another
    one, so nobody hears what came before.
    """

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        clock: Callable[[], float],
        observer: Observer | None,
        rng: Callable[[], float],
    ) -> None:
        self.name = name
        self.clock = clock
        self.state: State = "closed"
        self.is_closed = True
        self.generation = 1
        self.permits_out = 0
        self.pause = Pause(settings, rng)
        self.by_hand = False
        self.recovered_here = False
        """Whether its own probes have closed it, the last time."""
        self.may_probe: Callable[[], bool] = always
        """Whether the next probe is this process's to make."""
        self.phase: Phase = Window(settings, clock)
        self._observer = fan_out() if observer is None else fan_out(observer)
        self._held_until = 0.0
        self._suspect_until = 0.0
        self._suspect_from = 0
        self._has_last = False
        self.recovered_at = -math.inf
        self._leases: dict[Permit, float] = {}
        self.retune(settings)

    def retune(self, settings: BreakerSettings) -> None:
        self.settings = self.pause.settings = settings
        self.slow_first = settings.slow_first
        self.slow_whole = settings.slow_whole
        self.judge = judge_by(settings.counts)
        if isinstance(self.phase, Window):
            self.phase.retune(settings)

    def retry_after(self, *, last: bool = False) -> float | None:
        if self.is_closed:
            return 0.0
        now = self.clock()
        until = self.pause.over_at(last=last)
        if now < until:
            return until - now if until < math.inf else None
        self._drop_expired(now)
        if len(self._leases) >= self.settings.probes:
            return min(_PROBE_HINT, min(self._leases.values()) - now)
        return 0.0 if self.may_probe() else _PROBE_HINT

    def weight(self) -> float:
        if not self.is_closed:
            return 1.0 if self.retry_after() == 0 else 0.0
        least, whole = self.settings.slow_start_share, self.settings.slow_start
        since = self.clock() - self.recovered_at
        return 1.0 if since >= whole else least + (1 - least) * since / whole

    @property
    def probe_at(self) -> float:
        """When the next probe is due."""
        return self.pause.over_at(last=self._has_last)

    @property
    def progress(self) -> tuple[int, int, int]:
        """Differs from before when something was tried, or is being tried: the last is above 0."""
        self._drop_expired(self.clock())
        return self.generation, self.phase.successes, len(self._leases)

    def admit(self, permit: Permit) -> None:
        """Let a probe through. Raises CircuitOpen."""
        self._has_last = self._has_last or permit._last
        wait = self.retry_after(last=permit._last)
        if wait != 0:
            raise self._refusal(wait)
        if self.state == "open":
            is_early = self.clock() < self.pause.until
            reason = "nobody else is left to ask" if is_early else "the open time is over"
            self._begin("half_open", Trial(self.clock), reason)
        self._leases[permit] = self.clock() + self.settings.lease

    def _refusal(self, wait: float | None) -> CircuitOpen:
        until = "until it is closed by hand" if wait is None else f"for {wait:.1f} s more"
        what = "probing" if self.state == "half_open" else "open"
        return CircuitOpen(
            f"the circuit breaker of {self.name!r} is {what}: no calls {until}",
            deployment=self.name,
            retry_after=wait,
        )

    def _drop_expired(self, now: float) -> None:
        for permit in [held for held, until in self._leases.items() if until <= now]:
            del self._leases[permit]

    def succeeded(self, permit: Permit) -> None:
        """A success that is no ordinary one: slow, the first of a bucket, or a probe's."""
        phase, now = self._current(permit), self.clock()
        slow = now >= permit._slow_at
        permit._mark = _FINAL
        if isinstance(phase, Window):
            permit._mark = phase.succeeded(now, slow=slow)
            if slow:
                self._trip_for(phase.too_slow(now), now)
        elif isinstance(phase, Trial):
            self._leases.pop(permit, None)
            phase.successes += 1
            if slow:
                self._probe_failed(now, "a probe was slow", None)
            elif phase.successes >= self.settings.successes:
                self._recover(phase)

    def failed(self, permit: Permit, error: BaseException) -> None:
        """A block that ended with an exception; what the exception says is looked at here."""
        verdict: Verdict = "let_go"
        try:
            verdict = self.judge(error)
        finally:
            self._leases.pop(permit, None)
            mark, permit._mark = permit._mark, permit._mark or _FINAL
            if verdict == "succeeded" and not mark:
                permit._mark = 0
                permit.succeeded()
            elif verdict == "failed":
                self._count_failure(self._current(permit), mark, error)
            elif not mark and not isinstance(error, Exception):
                self._count_abandoned(permit)

    def _current(self, permit: Permit) -> Phase | None:
        phase = permit._phase
        if isinstance(phase, Trial) and phase.after is not None:
            phase = phase.after
        return phase if phase is self.phase else None

    def _count_failure(self, phase: Phase | None, mark: int, error: BaseException) -> None:
        now = self.clock()
        if isinstance(phase, Window):
            reason = phase.failed(now, max(mark, 0))
            if not reason and self._is_suspect(phase, now):
                reason = "a failure, and another process finds it sick"
            self._trip_for(reason, now, error)
        elif isinstance(phase, Trial) and not mark:
            self._probe_failed(now, "a probe failed", error)

    def _count_abandoned(self, permit: Permit) -> None:
        """Its caller left. Who waited too long before is not impatient: the call was slow."""
        phase, now = self._current(permit), self.clock()
        if now < permit._slow_at:
            return
        if isinstance(phase, Window):
            phase.abandoned(now)
            self._trip_for(phase.too_slow(now), now)
        elif isinstance(phase, Trial):
            self._probe_failed(now, "a probe was slow", None)

    def _trip_for(self, reason: str, now: float, error: BaseException | None = None) -> None:
        if reason and now >= self._held_until and isinstance(self.phase, Window):
            self.pause.heal(now - self.phase.began)
            self._trip(now, reason, error)

    def _probe_failed(self, now: float, reason: str, error: BaseException | None) -> None:
        if now < self.pause.until:
            self.pause.go_on(now, error)
            self._begin("open", Trial(self.clock), reason)
        else:
            self._trip(now, reason, error)

    def _trip(self, now: float, reason: str, error: BaseException | None) -> None:
        self.pause.begin(now, error)
        self.by_hand = False
        self._begin("open", Trial(self.clock), reason)

    def _recover(self, trial: Trial) -> None:
        # The generation stays: what the probes still bring counts in the new window.
        self.phase = trial.after = Window(self.settings, self.clock)
        self.recovered_at = self.clock()
        self._suspect_until = 0.0
        self.by_hand = False
        self.recovered_here = True
        self._become("closed", f"{trial.successes} probes succeeded")

    def open_by_hand(self, seconds: float | None) -> None:
        self.pause.hold(self.clock(), seconds)
        self._held_until = 0.0
        self.by_hand = True
        self._begin("open", Trial(self.clock), "forced open")

    def close_by_hand(self, held_for: float, reason: str) -> None:
        self._held_until = self.clock() + held_for
        self._suspect_until = 0.0
        self.recovered_at = -math.inf
        self.pause.reset()
        self._has_last = False
        self.by_hand = held_for > 0
        self.recovered_here = False
        self._begin("closed", Window(self.settings, self.clock), reason)

    def suspect(self, seconds: float) -> None:
        """Another process finds it sick: one failure of our own is enough for so long."""
        if not self.is_closed:
            return
        self._suspect_until = self.clock() + seconds
        self._suspect_from = self.phase.successes

    def _is_suspect(self, window: Window, now: float) -> bool:
        # Our own good news outweighs what others say: they may have trouble of their own.
        good_news = window.successes - self._suspect_from
        return now < self._suspect_until and good_news < self.settings.successes

    def recovered_elsewhere(self) -> None:
        """Another process has tried it with success; ours closes, and is watchful for a while."""
        if self.is_closed or self.by_hand:
            return
        self.recovered_at = self.clock()
        self.recovered_here = False
        self._suspect_until = self.recovered_at + self.settings.slow_start
        self._suspect_from = 0
        self._begin("closed", Window(self.settings, self.clock), "another process finds it well")

    def _begin(self, state: State, phase: Phase, reason: str) -> None:
        self.generation += 1
        self._leases.clear()
        self.phase = phase
        self._become(state, reason)

    def _become(self, state: State, reason: str) -> None:
        """Last in each change: the observer may look at the breaker, or even use it."""
        before, self.state = self.state, state
        self.is_closed = state == "closed"
        if before != state:
            told = BreakerChanged(breaker=self.name, before=before, after=state, reason=reason)
            self._observer(told)


def always() -> bool:
    """Of a breaker whose probes are its own affair."""
    return True
