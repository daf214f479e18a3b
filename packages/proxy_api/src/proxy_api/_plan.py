"""Which deployments one call may go to, and who is asked next after a failure. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy_core import AlwaysClosed, CircuitBreaker, Provider, Timeouts, expand_target
from proxy_core.errors import UpstreamError

__all__ = ["Attempt", "Breaker", "Course", "Deployment", "Fallback", "Plan", "Route"]

Breaker = CircuitBreaker | AlwaysClosed


@dataclass(frozen=True, slots=True)
class Deployment:
    """One way to serve a model: a provider and its own name for the model."""

    label: str
    """``provider/upstream-model`` as configured: a bounded set."""
    provider: Provider
    model: str
    """May hold one ``*``, which takes what the asked name's ``*`` stood for."""
    breaker: Breaker
    timeouts: Timeouts
    order: int = 1
    weight: float = 1.0
    _fixed: Attempt | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if "*" not in self.model:
            object.__setattr__(self, "_fixed", self._attempt(self.model))

    def attempt(self, wildcard: str) -> Attempt:
        """One try of it; ``wildcard`` is what the asked name's ``*`` stood for."""
        return self._fixed or self._attempt(expand_target(self.model, wildcard))

    def _attempt(self, model: str) -> Attempt:
        name = f"{self.provider.name}/{model}"
        return Attempt(self, model, name, self.provider.name, _printable(name))


@dataclass(frozen=True, slots=True)
class Fallback:
    """Models that are asked when a pool failed for this reason."""

    on: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """One configured model name."""

    name: str
    deployments: tuple[Deployment, ...]


class Attempt(NamedTuple):
    """One deployment that may be asked."""

    deployment: Deployment
    model: str
    """The upstream's name, written out."""
    name: str
    """Provider and model."""
    provider: str
    shown: bytes
    """The same for a header: what can't be printed is left out."""


class Plan(NamedTuple):
    """The deployments for one call, in order, frozen."""

    route: str
    first: tuple[Attempt, ...]
    """The pool that was asked for."""
    after: Mapping[str, tuple[Attempt, ...]]
    """Fallbacks, by the reason of the failure that calls for them."""
    dearest: int
    """Tokens that the call may cost at most, as far as we can tell before."""
    most_attempts: int = 3

    def course(self) -> Course:
        return Course(self)


class Course:
    """Which deployment of a plan is asked next."""

    __slots__ = ("_after", "_at", "_most", "_pool")

    def __init__(self, plan: Plan) -> None:
        self._pool = plan.first
        self._at = 0
        self._after = plan.after
        self._most = plan.most_attempts

    def next(self, failures: Sequence[UpstreamError], asked: int) -> Attempt | None:
        """The next one after these failures; None: that was all. ``asked`` counts real attempts."""
        if failures:
            self._turn(failures[-1], self._most - asked)
        if self._at >= len(self._pool) or asked >= self._most:
            return None
        self._at += 1
        return self._pool[self._at - 1]

    def _turn(self, failure: UpstreamError, left: int) -> None:
        # Errors use the pool up first, but the last attempt is the fallback's.
        reason = failure.reason
        due = reason != "error" or left <= 1 or self._at >= len(self._pool)
        if due and reason in self._after:
            self._pool, self._at = self._after[reason], 0
            self._after = {on: pool for on, pool in self._after.items() if on != reason}
        elif not failure.retryable:
            self._at = len(self._pool)


def _printable(text: str) -> bytes:
    return bytes(byte for byte in text.encode("ascii", "replace") if 0x20 <= byte <= 0x7E)
