"""Which deployments one call may go to, and who is asked next after a failure. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import msgspec

from proxy_api._keys import Chaos
from proxy_core import (
    AlwaysClosed,
    Asked,
    CircuitBreaker,
    Deadline,
    Limits,
    Load,
    Pool,
    Provider,
    RetryPolicy,
    Timeouts,
    expand_target,
)
from proxy_core.errors import (
    LimitExceeded,
    NoDeploymentAnswered,
    UpstreamError,
    UpstreamThrottled,
)
from proxy_core.prices import Price, PriceList

__all__ = [
    "NO_FALLBACKS",
    "Attempt",
    "Breaker",
    "Cost",
    "Course",
    "Deployment",
    "Fallback",
    "Fallbacks",
    "Lead",
    "Plan",
    "Route",
    "Where",
]

Breaker = CircuitBreaker | AlwaysClosed
Cost = Price | PriceList


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """One way to serve a model: a provider and its own name for the model."""

    label: str
    """``provider/upstream-model`` as configured: a bounded set."""
    provider: Provider
    model: str
    """May hold one ``*``, which takes what the asked name's ``*`` stood for."""
    breaker: Breaker
    timeouts: Timeouts
    load: Load | None = None
    """None where no pool has a choice to make."""
    limits: Limits | None = None
    """What it may be asked for, by all keys together."""
    price: Cost | None = None
    """None: nobody knows it."""
    prices: Callable[[str], Cost | None] | None = None
    """By the upstream's name, where a ``*`` leaves open which model is asked."""
    subject: str = ""
    """Whose limits they are, for the limiter."""
    _fixed: Attempt | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if "*" not in self.model:
            object.__setattr__(self, "_fixed", self._attempt(self.model))

    def attempt(self, wildcard: str) -> Attempt:
        """One try of it; ``wildcard`` is what the asked name's ``*`` stood for."""
        return self._fixed or self._attempt(expand_target(self.model, wildcard))

    def _attempt(self, model: str) -> Attempt:
        name = f"{self.provider.name}/{model}"
        price = self.price if self.prices is None else self.prices(model)
        return Attempt(self, model, name, self.provider.name, _printable(name), price)


@dataclass(frozen=True, slots=True)
class Fallback:
    """Models that are asked when a pool failed for this reason."""

    on: str
    to: tuple[str, ...]


_OPENAI: Final = "openai."
NO_PARTS: Final[Mapping[str, Route]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One configured model name."""

    name: str
    pool: Pool[Deployment]
    parts: Mapping[str, Route] = field(default_factory=lambda: NO_PARTS)
    """By the names of its providers, where it has several."""
    patience: float = field(init=False)
    """Seconds that the slowest attempt may take."""

    def __post_init__(self) -> None:
        rows = self.deployments
        object.__setattr__(self, "patience", max(row.timeouts.total for row in rows))

    def at(self, provider: str) -> Route | None:
        """What of it is with this provider; None: nothing."""
        if self.parts:
            return self.parts.get(provider)
        return self if self.deployments[0].provider.name == provider else None

    def dearest(self, wildcard: str, size: int, output: int) -> int | None:
        """Nano-dollars that so many tokens cost at most; None: somebody's price isn't known."""
        most = 0
        for row in self.deployments:
            price = row.attempt(wildcard).price
            if price is None:
                return None
            most = max(most, price.dearest(size, output))
        return most

    @property
    def keeps_files(self) -> bool:
        """Whether some provider of it is known to keep files for its clients."""
        return any(getattr(row.provider, "keeps_files", False) for row in self.deployments)

    @property
    def may_keep_files(self) -> bool:
        """Whether some provider of it speaks OpenAI's API, which files are kept by."""
        spoken = (name for row in self.deployments for name in _dialects(row.provider))
        return any(name.startswith(_OPENAI) for name in spoken)

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        return tuple(member.value for member in self.pool.all)


class Attempt(msgspec.Struct, frozen=True, eq=False):
    """One deployment that may be asked."""

    deployment: Deployment
    model: str
    """The upstream's name, written out."""
    name: str
    """Provider and model."""
    provider: str
    shown: bytes
    """Provider and model for a header: what can't be printed is left out."""
    price: Cost | None

    def is_full(self, limit: LimitExceeded) -> UpstreamError:
        """Its own limits are reached, which is no fault of the client's key: another is asked."""
        return UpstreamThrottled(limit.message, deployment=self.name, retry_after=limit.retry_after)


Where = tuple[Route, str]
"""A route, and what the asked name's ``*`` stood for."""
Fallbacks = Mapping[str, tuple[Where, ...]]
"""By the reason of the failure that calls for them."""

NO_FALLBACKS: Final[Fallbacks] = MappingProxyType({})


class Lead(msgspec.Struct, frozen=True, eq=False):
    """Where the name of a model leads, before anybody has looked at the request."""

    route: str
    first: Where
    after: Fallbacks
    is_plain: bool
    """Whether no rule, and no choice of a pool, goes by the request."""


# Structs, since one of each is made for each request: they begin without a Python frame.


class Plan(msgspec.Struct, frozen=True, eq=False):
    """Where one call may go, and what it may take."""

    route: str
    first: Where
    """The route that was asked for."""
    after: Fallbacks
    asked: Asked
    deadline: Deadline
    size: int
    """Tokens of the prompt, guessed from above."""
    output: int
    """Tokens that the answer may have."""
    money: int
    """Nano-dollars that they cost at the dearest."""
    retries: RetryPolicy
    most_attempts: int
    chaos: Chaos | None = None

    def course(self) -> Course:
        return Course(self, (self.first,), self.after)

    def wanted(self, limits: Limits) -> tuple[int, int]:
        """Tokens to reserve, and how many of them are output.

        Never more than a limit grants at all: a guess may delay a call, not forbid it.
        """
        size, output = self.size, self.output
        if size + output <= limits.fewest_tokens:
            return size + output, output
        if limits.output_tokens is not None:
            output = min(output, limits.output_tokens.amount)
        if limits.input_tokens is not None:
            size = min(size, limits.input_tokens.amount)
        if limits.tokens is not None and size + output > limits.tokens.amount:
            return limits.tokens.amount, min(output, limits.tokens.amount)
        return size + output, output


class Course(msgspec.Struct, eq=False):
    """Which deployment of a plan is asked next. Each choice goes by the newest state."""

    plan: Plan
    _where: tuple[Where, ...]
    _after: Fallbacks
    _tried: list[Deployment] = []
    failures: list[UpstreamError] = []
    """Of this call so far; also that nobody may be asked."""
    is_last: bool = False
    """Whether the one that is asked now is so because there is nobody else."""

    def next(self, asked: int) -> Attempt | None:
        """The next one after the failures; None: that was all. ``asked`` counts real attempts."""
        found = self._found()
        if found is None or self.failures:
            found = self._instead(found, asked)
        if found is not None:
            self._tried.append(found.deployment)
        return found

    def ends(self, model: str) -> UpstreamError:
        """What the client is told when nobody has answered."""
        failures = self.failures
        return failures[0] if len(failures) == 1 else NoDeploymentAnswered(model, failures)

    def _found(self) -> Attempt | None:
        for route, wildcard in self._where:
            pool, only = route.pool, route.pool.only
            if only is not None:
                deployment = None if only[0] in self._tried else only[0]
                self.is_last = not self._after
            else:
                deployment = pool.next(self.plan.asked, self._tried)
                self.is_last = False
                if deployment is None and not self._tried and not self._after:
                    deployment = pool.last_resort()
                    self.is_last = deployment is not None
            if deployment is not None:
                return deployment.attempt(wildcard)
        return None

    def _instead(self, found: Attempt | None, asked: int) -> Attempt | None:
        """Whom to ask after a failure, or when the usual way has nobody."""
        if not self.failures:
            self.failures.append(self.plan.first[0].pool.refusal())
        reason, left = self.failures[-1].reason, self.plan.most_attempts - asked
        # Errors use the pool up first, but the last attempt is the fallback's.
        if reason in self._after and (reason != "error" or left <= 1 or found is None):
            self._where = self._after[reason]
            self._after = {on: to for on, to in self._after.items() if on != reason}
            self._tried.clear()
            found = self._found()
        elif not self.failures[-1].retryable:
            return None
        if found is None or not self._may_ask(found.deployment, asked):
            return None
        return found

    def _may_ask(self, deployment: Deployment, asked: int) -> bool:
        """Whether attempts, the retry budget and the deadline have room for another one."""
        plan, now = self.plan, time.monotonic()
        if self.failures[-1].reason not in ("", "error"):
            # Another model for what this one can't take is a way, not a second try.
            return asked <= plan.most_attempts and plan.deadline.left(now) > 0
        wait = plan.retries.again(
            self.failures,
            asked=asked,
            most=plan.most_attempts,
            deadline=plan.deadline,
            useful=0.0 if deployment.load is None else deployment.load.seconds(now) or 0.0,
        )
        return wait is not None


def _dialects(provider: Provider) -> tuple[str, ...]:
    """What is known of it; of one that doesn't tell, that it is like OpenAI."""
    return getattr(provider, "dialects", (_OPENAI,))


def _printable(text: str) -> bytes:
    return bytes(byte for byte in text.encode("ascii", "replace") if 0x20 <= byte <= 0x7E)
