"""The circuit breaker: when an endpoint is sick, it is left alone, and then tried with care.

Its states are in ``_breaker_machine``, what it counts in ``_breaker_window``, how a call asks and
reports in ``_breaker_permit``; here is what its users see.
"""

from __future__ import annotations

import inspect
import math
import random
import time
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from proxy_core._breaker_machine import Machine, State
from proxy_core._breaker_off import AlwaysClosed
from proxy_core._breaker_permit import Permit
from proxy_core._breaker_settings import BreakerSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from proxy_logging import Observer

__all__ = ["AlwaysClosed", "BreakerSettings", "CircuitBreaker", "Permit", "last_standing"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_entered: ContextVar[tuple[tuple[CircuitBreaker, Permit], ...]] = ContextVar(
    "proxy_core_permits", default=()
)


class CircuitBreaker:
    """Stops calls to an endpoint that fails, and lets it come back by a few probes.

    ::

        breaker = CircuitBreaker("provider-name")
        with breaker.permit():  # raises errors.CircuitOpen while the endpoint is left alone
            answer = await ask()

    *closed*: all calls pass; opens at ``failure_rate`` or ``slow_rate`` (with ``min_calls`` in the
    window) or after ``consecutive`` failures. *open*: none pass, for ``open_time`` x 2^n (capped,
    with jitter), or as long as the failure's ``retry_after`` asks. *half open*: ``probes`` at a
    time; ``successes`` of them close it, one that fails or is slow opens it again.

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
        self._machine = Machine(name, settings or BreakerSettings(), clock, observer, rng)

    @property
    def settings(self) -> BreakerSettings:
        return self._machine.settings

    @property
    def state(self) -> State:
        """``open`` lasts until a probe is let through, also when its time is over."""
        return self._machine.state

    @property
    def generation(self) -> int:
        """Grows with each change that makes earlier calls irrelevant."""
        return self._machine.generation

    @property
    def permits_out(self) -> int:
        """Calls that were let through and have not ended."""
        return self._machine.permits_out

    @property
    def open_until(self) -> float | None:
        """When, on its clock, it lets a probe through; infinity when held, None unless open."""
        return self._machine.pause.until if self._machine.state == "open" else None

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may pass: 0 when one may now, None when held open without an end."""
        return self._machine.retry_after()

    @property
    def weight(self) -> float:
        """The share of its usual traffic that it should get.

        0 while it refuses, 1 when it admits; after a recovery it grows from ``slow_start_share``
        to 1 in ``slow_start`` seconds. Whoever chooses among endpoints multiplies by it.
        """
        return self._machine.weight()

    def permit(self, *, stream: bool = False, last: bool = False) -> Permit:
        """Leave for one call. Entering it raises errors.CircuitOpen while calls are refused.

        ``stream``: ``slow_first`` says when it is slow, not ``slow_whole``. ``last``: there is no
        other endpoint to ask, so while it is open one such call is tried every ``trickle`` seconds
        before its time. When the upstream itself asks to wait, or a hand holds it open, none is.
        """
        machine = self._machine
        return Permit(machine, machine.slow_first if stream else machine.slow_whole, last)

    def enter(self, *, stream: bool = False, last: bool = False) -> Permit:
        """A permit that is entered already, for those who say ``permit.end()`` themselves."""
        machine = self._machine
        slow = machine.slow_first if stream else machine.slow_whole
        if not machine.is_closed:
            return Permit(machine, slow, last).__enter__()
        machine.permits_out += 1
        return Permit(machine, machine.clock() + slow, last, machine.phase)

    def force_open(self, seconds: float | None = None) -> None:
        """Refuse all calls for so long, then probe; None: until ``force_close`` or ``reset``."""
        self._machine.open_by_hand(seconds)

    def force_close(self, seconds: float | None = None) -> None:
        """Let all calls pass for so long, whatever they bring; None: until another command."""
        self._machine.close_by_hand(math.inf if seconds is None else seconds, "forced closed")

    def reset(self) -> None:
        """Closed, as on the first day: nothing counted, nothing forced."""
        self._machine.close_by_hand(0.0, "reset")

    def retune(self, settings: BreakerSettings) -> None:
        """Other settings from now on; its state, its count and a running open time stay."""
        self._machine.retune(settings)

    async def __aenter__(self) -> Permit:
        permit = self.permit().__enter__()
        _entered.set((*_entered.get(), (self, permit)))
        return permit

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        held = _entered.get()
        for at in range(len(held) - 1, -1, -1):
            breaker, permit = held[at]
            if breaker is self:
                _entered.set(held[:at] + held[at + 1 :])
                permit.end(kind, error, trace)
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


def last_standing(breakers: Iterable[CircuitBreaker | AlwaysClosed]) -> int | None:
    """Which of a pool to ask with ``permit(last=True)``, by its number: all of them refuse.

    It is the one that comes back soonest. None while one of them admits a call, and when a hand
    holds all of them open.
    """
    waits = [breaker.retry_after for breaker in breakers]
    if 0 in waits:
        return None
    timed = [(wait, number) for number, wait in enumerate(waits) if wait is not None]
    return min(timed)[1] if timed else None
