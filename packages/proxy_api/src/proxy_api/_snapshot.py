"""What is fixed and what lives.

A Snapshot is one configuration, compiled and frozen: a request keeps the one that it began with. A
Runtime holds what must outlive a change of it (breakers, pools of connections), by stable identity.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from proxy_core import (
    AlwaysClosed,
    Call,
    CircuitBreaker,
    ModelTable,
    Provider,
    RateLimiter,
    Reply,
    Timeouts,
    Unlimited,
    Usage,
    estimate_tokens,
    expand_target,
    held,
    order_deployments,
)
from proxy_core.errors import ModelNotFound, PermissionRefused, UpstreamError

if TYPE_CHECKING:
    from proxy_api._keys import Key, Keys
    from proxy_api._recorder import Recorder

__all__ = [
    "Attempt",
    "Breaker",
    "Cache",
    "Condenser",
    "Deployment",
    "Fallback",
    "Ledger",
    "Plan",
    "Route",
    "Runtime",
    "Snapshot",
]

Breaker = CircuitBreaker | AlwaysClosed

_UNSAID_OUTPUT = 1024
"""Output tokens that are reserved for a call without a cap; the settlement corrects it."""


Hold = Callable[[Reply], AbstractAsyncContextManager[Reply]]
"""Keeps an answer back until it has content: ``held``, or a partial of it with other times."""


class Cache(Protocol):
    def lookup(self, tenant: str, call: Call) -> Reply | None: ...
    def recording(self, tenant: str, call: Call, reply: Reply) -> Reply: ...


class Condenser(Protocol):
    def condense(self, call: Call) -> Call: ...


class Ledger(Protocol):
    def record(self, request_id: str, tenant: str, usage: Usage) -> None: ...


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
    fallbacks: tuple[Fallback, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One deployment that may be asked, and after which kind of failure it may be."""

    deployment: Deployment
    model: str
    """The upstream's name, written out."""
    timeouts: Timeouts
    on: str = "error"
    group: str = ""
    """The fallback model it belongs to; empty for the model that was asked for."""

    def follows(self, failure: UpstreamError | None, group: str) -> bool:
        """Whether it may be asked after this failure of that group; None: nothing was asked yet."""
        if failure is None:
            return self.group == ""
        same_pool = failure.reason == "error" and self.group == group
        return same_pool or (self.group != group and self.on == failure.reason)


@dataclass(frozen=True, slots=True)
class Plan:
    """The deployments for one call, in order, frozen."""

    route: str
    attempts: tuple[Attempt, ...]
    dearest: int
    """Tokens that the call may cost at most, as far as we can tell before."""
    most_attempts: int = 3
    hold: Hold = held

    def has_answer_to(self, failure: UpstreamError) -> bool:
        """Whether a fallback is configured for this kind of failure."""
        return any(attempt.on == failure.reason for attempt in self.attempts)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One configuration, compiled."""

    keys: Keys
    routes: ModelTable[Route]
    limiter: RateLimiter | Unlimited
    cache: Cache
    condenser: Condenser
    ledger: Ledger
    recorder: Recorder
    max_body: int
    max_attempts: int
    rng: random.Random = field(default_factory=random.Random)
    hold: Hold = held

    def plan(self, call: Call, key: Key) -> Plan:
        """Which deployments to ask, in order. Raises ModelNotFound, PermissionRefused."""
        if not key.may_use(call.model):
            raise PermissionRefused(
                f"The key {key.name!r} may not use the model {call.model!r}.", param="model"
            )
        match = self.routes.lookup(call.model)
        if match is None:
            raise self._unknown(call.model, key)
        route = match.values[0]
        attempts = self._attempts(route, match.wildcard, on="error", group="")
        for fallback in route.fallbacks:
            for name in fallback.to:
                attempts += self._fallback(name, fallback.on)
        return Plan(route.name, tuple(attempts), _dearest(call), self.max_attempts, self.hold)

    def names(self, key: Key) -> list[str]:
        """The models that this key may ask for, patterns left out."""
        return [name for name in self.routes.names() if key.may_use(name)]

    def _fallback(self, name: str, on: str) -> list[Attempt]:
        match = self.routes.lookup(name)
        return (
            []
            if match is None
            else self._attempts(match.values[0], match.wildcard, on=on, group=name)
        )

    def _attempts(self, route: Route, wildcard: str, *, on: str, group: str) -> list[Attempt]:
        return [
            Attempt(
                deployment,
                expand_target(deployment.model, wildcard),
                deployment.timeouts,
                on,
                group,
            )
            for deployment in order_deployments(route.deployments, self.rng.random)
        ]

    def _unknown(self, model: str, key: Key) -> ModelNotFound:
        near = self.routes.nearest(model)
        hint = (
            f" Did you mean {near!r}?"
            if near and key.may_use(near)
            else " GET /v1/models lists those that there are."
        )
        shown = model if len(model) <= 100 else model[:97] + "..."
        return ModelNotFound(f"There is no model {shown!r}.{hint}", param="model")


@dataclass(slots=True)
class Runtime:
    """What lives on when the configuration changes."""

    providers: dict[str, Provider] = field(default_factory=dict)
    """By the fingerprint of their settings."""
    breakers: dict[str, Breaker] = field(default_factory=dict)
    """By the provider's fingerprint and the model: an endpoint that moved is another one."""
    limiter: RateLimiter | None = None
    tls: ssl.SSLContext | None = None
    """Shared by the pools that trust the system's certificates."""

    async def aclose(self) -> None:
        """Close every pool. For the end of the process, when no request is left."""
        for provider in self.providers.values():
            await provider.aclose()


def _dearest(call: Call) -> int:
    asked = (
        call.max_tokens if call.max_tokens is not None and call.max_tokens > 0 else _UNSAID_OUTPUT
    )
    return estimate_tokens(len(call.body.raw)) + asked
