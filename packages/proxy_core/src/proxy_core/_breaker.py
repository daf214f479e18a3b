"""The circuit breaker: when an endpoint is sick, it is left alone, and then tried with care.

Windows as in Hystrix, the consecutive rule and the decaying open time as in Envoy's outlier
detection, a wait that the upstream may lengthen as in Resilience4j, generations as in gobreaker.
"""

# ruff: noqa: SLF001 - a permit and its breaker are two halves of one

from __future__ import annotations

import inspect
import math
import random
import time
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Literal, ParamSpec, Self, TypeVar

from proxy_core._breaker_window import FINAL, BreakerSettings, Early, Window, predicate
from proxy_core.errors import CircuitOpen, ProxyError, UpstreamError, Verdict
from proxy_logging import BreakerChanged, fan_out

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy_logging import Observer

__all__ = ["AlwaysClosed", "BreakerSettings", "CircuitBreaker", "Permit"]

State = Literal["closed", "open", "half_open"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_NEW, _SPENT = 0, -1  # of a permit's generation: a breaker's own begin at 1
_PROBE_HINT = 1.0
"""Seconds to wait while another probe is out: its verdict may come at any moment."""

_entered: ContextVar[tuple[Permit, ...]] = ContextVar("proxy_core_permits", default=())


class Permit:
    """Leave to make one call. Hold it with ``with`` (or ``async with``) until the answer has ended.

    The breaker is asked when the block is entered: a permit that is never entered holds nothing.
    How the block ends is the verdict: without an exception *succeeded*, with an UpstreamError its
    own ``verdict``, with another exception what ``BreakerSettings.counts`` says; a cancellation,
    a closed generator and any other error of ours say nothing about the endpoint (*let go*).
    """

    __slots__ = ("_breaker", "_early", "_generation")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._generation = _NEW
        self._early: Early | None = None

    def succeeded(self) -> None:
        """Say early that the endpoint works, at a stream's first content.

        A probe's verdict is settled by this. Otherwise it counts now, and a failure that ends the
        block later takes its place. Saying it again changes nothing.
        """
        if self._generation == _NEW:
            raise RuntimeError("this permit was not entered: say it inside `with breaker.permit()`")
        if self._early is None and self._generation != _SPENT:
            self._early = self._breaker._succeeded_early(self)

    def __enter__(self) -> Self:
        if self._generation != _NEW:
            raise RuntimeError("a permit is for one call: ask breaker.permit() for another")
        self._generation = self._breaker._admit(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        verdict: Verdict = "let_go"
        try:
            verdict = "succeeded" if error is None else self._breaker._judge(error)
        finally:
            self._breaker._report(self, verdict, error)
            self._generation = _SPENT

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)


class CircuitBreaker:
    """Stops calls to an endpoint that fails, and lets it come back by a few probes.

    ::

        breaker = CircuitBreaker("provider-name")
        with breaker.permit():  # raises errors.CircuitOpen while the endpoint is left alone
            answer = await ask()

    *closed*: all calls pass; opens at ``failure_rate`` (with ``min_calls`` in the window) or after
    ``consecutive`` failures. *open*: none pass, for ``open_time`` x 2^n (capped, with jitter), or
    as long as the failure's ``retry_after`` asks. *half open*: ``probes`` at a time; ``successes``
    of them close it, one failure opens it again.

    A generation begins when it opens, when it starts to probe, and with each command by hand.
    A call reports to the generation that admitted it or, when that is over, to nobody.

    It belongs to one event loop; nothing here waits, so there is no lock.

    Args:
        name: of the endpoint; in errors and events.
        settings: see BreakerSettings.
        clock: monotonic seconds.
        observer: gets a BreakerChanged after each change. What it raises is logged once.
        rng: numbers from 0 to below 1, for the jitter.
    """

    def __init__(
        self,
        name: str,
        settings: BreakerSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.settings = settings or BreakerSettings()
        self.permits_out = 0
        self._clock = clock
        self._observer = fan_out() if observer is None else fan_out(observer)
        self._rng = rng
        self._counts = predicate(self.settings.counts)
        self._state: State = "closed"
        self._generation = 1
        self._level = 0
        self._open_until = 0.0
        self._held_until = 0.0
        self._leases: dict[Permit, float] = {}
        self._trials = 0
        self._window = Window(self.settings, clock())

    @property
    def state(self) -> State:
        """``open`` lasts until a probe is let through, also when its time is over."""
        return self._state

    @property
    def generation(self) -> int:
        """Grows with each change that makes earlier calls irrelevant."""
        return self._generation

    @property
    def open_until(self) -> float | None:
        """When, on its clock, it lets a probe through; infinity when held, None unless open."""
        return self._open_until if self._state == "open" else None

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may pass: 0 when one may now, None when held open without an end."""
        if self._state == "closed":
            return 0.0
        now = self._clock()
        if self._state == "open":
            wait = max(0.0, self._open_until - now)
            return wait if wait < math.inf else None
        self._drop_expired(now)
        if len(self._leases) < self.settings.probes:
            return 0.0
        return min(_PROBE_HINT, min(self._leases.values()) - now)

    def permit(self) -> Permit:
        """Leave for one call. Entering it raises errors.CircuitOpen while calls are refused."""
        return Permit(self)

    def force_open(self, seconds: float | None = None) -> None:
        """Refuse all calls for so long, then probe; None: until ``force_close`` or ``reset``."""
        now = self._clock()
        self._open_until = math.inf if seconds is None else now + seconds
        self._held_until = 0.0
        self._begin("open", "forced open")

    def force_close(self, seconds: float | None = None) -> None:
        """Let all calls pass for so long, whatever they bring; None: until another command."""
        now = self._clock()
        self._held_until = math.inf if seconds is None else now + seconds
        self._level = 0
        self._window = Window(self.settings, now)
        self._begin("closed", "forced closed")

    def reset(self) -> None:
        """Closed, as on the first day: nothing counted, nothing forced."""
        self._held_until = 0.0
        self._level = 0
        self._window = Window(self.settings, self._clock())
        self._begin("closed", "reset")

    def retune(self, settings: BreakerSettings) -> None:
        """Other settings from now on; its state, its count and a running open time stay."""
        self.settings = settings
        self._counts = predicate(settings.counts)
        self._window.retune(settings)

    async def __aenter__(self) -> Permit:
        permit = self.permit().__enter__()
        _entered.set((*_entered.get(), permit))
        return permit

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        held = _entered.get()
        for at in range(len(held) - 1, -1, -1):
            if held[at]._breaker is self:
                _entered.set(held[:at] + held[at + 1 :])
                held[at].__exit__(kind, error, trace)
                return
        raise RuntimeError(
            f"the block of breaker {self.name!r} ends in another context than it began in: "
            "use `with breaker.permit()` there"
        )

    def __call__(self, function: Callable[_P, Awaitable[_T]]) -> Callable[_P, Awaitable[_T]]:
        """Decorate an async function: each call of it holds a permit of its own."""
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{function!r} is no async function: hold `with breaker.permit()` inside it"
            )

        @wraps(function)
        async def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            with self.permit():
                return await function(*args, **kwargs)

        return guarded

    def _admit(self, permit: Permit) -> int:
        if self._state != "closed":
            self._admit_probe(permit)
        self.permits_out += 1
        return self._generation

    def _admit_probe(self, permit: Permit) -> None:
        now = self._clock()
        if self._state == "open":
            if now < self._open_until:
                raise self._refusal()
            self._trials = 0
            self._begin("half_open", "the open time is over")
        self._drop_expired(now)
        if len(self._leases) >= self.settings.probes:
            raise self._refusal()
        self._leases[permit] = now + self.settings.lease

    def _drop_expired(self, now: float) -> None:
        for permit in [held for held, until in self._leases.items() if until <= now]:
            del self._leases[permit]

    def _refusal(self) -> CircuitOpen:
        wait = self.retry_after
        until = "until it is closed by hand" if wait is None else f"for {wait:.1f} s more"
        what = "probing" if self._state == "half_open" else "open"
        return CircuitOpen(
            f"the circuit breaker of {self.name!r} is {what}: no calls {until}",
            deployment=self.name,
            retry_after=wait,
        )

    def _judge(self, error: BaseException) -> Verdict:
        if isinstance(error, UpstreamError):
            return error.verdict
        if isinstance(error, ProxyError) or not isinstance(error, Exception):
            return "let_go"
        return "failed" if self._counts(error) else "let_go"

    def _report(self, permit: Permit, verdict: Verdict, error: BaseException | None) -> None:
        self.permits_out -= 1
        if permit._generation != self._generation:
            return
        if self._leases:
            self._leases.pop(permit, None)
        if verdict == "succeeded":
            if permit._early is None:
                self._count_success()
        elif verdict == "failed":
            self._count_failure(permit._early, error)

    def _succeeded_early(self, permit: Permit) -> Early:
        if permit._generation != self._generation:
            return FINAL
        self._leases.pop(permit, None)
        return self._count_success()

    def _count_success(self) -> Early:
        if self._state == "closed":
            return self._window.succeeded(self._clock())
        self._trials += 1
        if self._trials >= self.settings.successes:
            self._recover()
        return FINAL

    def _count_failure(self, early: Early | None, error: BaseException | None) -> None:
        now = self._clock()
        if self._state == "half_open":
            if early is None:
                self._trip(now, "a probe failed", error)
            return
        reason = self._window.failed(now, early)
        if reason and now >= self._held_until:
            healthy = int((now - self._window.began) // self.settings.healthy_interval)
            self._level = max(0, self._level - healthy)
            self._trip(now, reason, error)

    def _trip(self, now: float, reason: str, error: BaseException | None) -> None:
        settings = self.settings
        wait = min(settings.open_time * 2.0**self._level, settings.open_cap)
        if wait < settings.open_cap:  # beyond the cap a level would only take longer to decay
            self._level += 1
        wait *= 1 + settings.jitter * (2 * self._rng() - 1)
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, int | float):
            wait = max(wait, min(asked, settings.retry_after_cap))
        self._open_until = now + wait
        self._begin("open", reason)

    def _recover(self) -> None:
        # The generation stays: what the probes still bring counts in the new window.
        self._window = Window(self.settings, self._clock())
        self._become("closed", f"{self._trials} probes succeeded")

    def _begin(self, state: State, reason: str) -> None:
        self._generation += 1
        self._leases.clear()
        self._become(state, reason)

    def _become(self, state: State, reason: str) -> None:
        """Last in each change: the observer may look at the breaker, or even use it."""
        before, self._state = self._state, state
        if before == state:
            return
        self._observer(BreakerChanged(breaker=self.name, before=before, after=state, reason=reason))


class AlwaysClosed:
    """The breaker of those who want none: all calls pass, nothing is counted."""

    state: State = "closed"
    generation = 0
    open_until: float | None = None
    retry_after: float | None = 0.0
    permits_out = 0

    def __init__(self, name: str = "always-closed") -> None:
        self.name = name
        self._permit = _FreePermit()

    def permit(self) -> _FreePermit:
        """Leave for one call, at once."""
        return self._permit

    def force_open(self, seconds: float | None = None) -> None:
        """Nothing: there is no breaker to open."""

    def force_close(self, seconds: float | None = None) -> None:
        """Nothing: it is closed."""

    def reset(self) -> None:
        """Nothing: there is nothing to forget."""

    def retune(self, settings: BreakerSettings) -> None:
        """Nothing: it has no settings."""

    async def __aenter__(self) -> _FreePermit:
        return self._permit

    async def __aexit__(self, *ending: object) -> None:
        pass

    def __call__(self, function: Callable[_P, Awaitable[_T]]) -> Callable[_P, Awaitable[_T]]:
        """The function itself."""
        return function


class _FreePermit:
    """A permit that costs nothing and may be entered by everybody at once."""

    __slots__ = ()

    def succeeded(self) -> None:
        """Nothing: nobody counts."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *ending: object) -> None:
        pass
