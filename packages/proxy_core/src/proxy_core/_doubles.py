"""Doubles of the policies, for tests: a clock moved by hand, a breaker and a limiter that tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from proxy_core._breaker import CircuitBreaker, Permit
from proxy_core._limiter import RateLimiter, Reservation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy_core._limiter import Limits
    from proxy_core.errors import Verdict

__all__ = ["CountingBreaker", "CountingLimiter", "ManualClock"]


class ManualClock:
    """A clock that stands until it is told to move: call it for the time in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += seconds


class CountingBreaker(CircuitBreaker):
    """A real breaker that keeps the verdicts it heard, in their order, in ``verdicts``.

    ``CountingBreaker()`` has a clock of its own, ``clock``, that stands still.
    """

    def __init__(self, name: str = "counting") -> None:
        self.clock = ManualClock()
        self.verdicts: list[Verdict] = []
        super().__init__(name, clock=self.clock, rng=_half)

    def permit(self, *, stream: bool = False, last: bool = False) -> Permit:
        """As a CircuitBreaker, and its verdict is remembered."""
        return _CountedPermit(self._machine, math.inf, last, verdicts=self.verdicts)

    def enter(self, *, stream: bool = False, last: bool = False) -> Permit:
        """As a CircuitBreaker, and its verdict is remembered."""
        return self.permit(stream=stream, last=last).__enter__()


class _CountedPermit(Permit, eq=False, kw_only=True):
    verdicts: list[Verdict]

    def end(
        self, kind: object = None, error: BaseException | None = None, trace: object = None
    ) -> None:
        verdict: Verdict = "let_go"
        try:
            verdict = "succeeded" if error is None else self._machine.judge(error)
        finally:
            self.verdicts.append(verdict)
            super().end(kind, error, trace)

    __exit__ = end


class CountingLimiter(RateLimiter):
    """A real limiter that keeps what was ``reserved``, as (subject, tokens), and each reservation.

    ``CountingLimiter()`` has a clock of its own, ``clock``, that stands still.
    """

    def __init__(self, name: str = "counting") -> None:
        self.clock = ManualClock()
        self.reserved: list[tuple[str, int]] = []
        self.reservations: list[Reservation] = []
        super().__init__(name, clock=self.clock)

    def reserve(
        self,
        subject: str,
        limits: Limits | None = None,
        *,
        tokens: int = 0,
        output: int = 0,
        money: int = 0,
        also: Sequence[tuple[str, Limits]] = (),
    ) -> Reservation:
        """As a RateLimiter, and remembered once it is granted."""
        reservation = super().reserve(
            subject, limits, tokens=tokens, output=output, money=money, also=also
        )
        self.reserved.append((subject, tokens))
        self.reservations.append(reservation)
        return reservation


def _half() -> float:
    return 0.5
