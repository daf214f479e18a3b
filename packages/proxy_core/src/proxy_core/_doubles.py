"""Doubles of the policies, for tests: a clock moved by hand, a breaker and a limiter that tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy_core._breaker import CircuitBreaker, Permit
from proxy_core._limiter import RateLimiter, Reservation

if TYPE_CHECKING:
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

    def _report(self, permit: Permit, verdict: Verdict, error: BaseException | None) -> None:
        self.verdicts.append(verdict)
        super()._report(permit, verdict, error)


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
        self, subject: str, limits: Limits | None = None, *, tokens: int = 0
    ) -> Reservation:
        """As a RateLimiter, and remembered once it is granted."""
        reservation = super().reserve(subject, limits, tokens=tokens)
        self.reserved.append((subject, tokens))
        self.reservations.append(reservation)
        return reservation


def _half() -> float:
    return 0.5
