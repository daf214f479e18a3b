"""What is fixed and what lives.

A Snapshot is one configuration, compiled and frozen: a request keeps the one that it began with. A
Runtime holds what must outlive a change of it (breakers, pools of connections), by stable identity.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Protocol

from proxy_api._keys import Key, Keys
from proxy_api._plan import Attempt, Breaker, Deployment, Fallback, Plan, Route
from proxy_api._pulse import Rhythm
from proxy_api._recorder import Recorder
from proxy_core import (
    DIALECTS,
    Call,
    ModelTable,
    Provider,
    RateLimiter,
    Reply,
    Unlimited,
    Usage,
    estimate_tokens,
    order_deployments,
)
from proxy_core.errors import ModelNotFound, PermissionRefused

__all__ = [
    "Cache",
    "Condenser",
    "Ledger",
    "Runtime",
    "Snapshot",
]

_NO_FALLBACKS: Final[Mapping[str, tuple[Attempt, ...]]] = MappingProxyType({})
_UNSAID_OUTPUT = 1024
"""Output tokens that are reserved for a call without a cap; the settlement corrects it."""


class Cache(Protocol):
    def lookup(self, tenant: str, call: Call) -> Reply | None: ...
    def recording(self, tenant: str, call: Call, reply: Reply) -> Reply: ...


class Condenser(Protocol):
    def condense(self, call: Call) -> Call: ...


class Ledger(Protocol):
    def record(self, request_id: str, tenant: str, usage: Usage) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One configuration, compiled. Each is itself alone: requests are counted by it."""

    keys: Keys
    routes: ModelTable[Route]
    limiter: RateLimiter | Unlimited
    cache: Cache
    condenser: Condenser
    ledger: Ledger
    recorder: Recorder
    max_body: int
    max_attempts: int
    fallbacks: Mapping[str, tuple[Fallback, ...]] = field(default_factory=dict)
    """By the name that is asked for, or that of its route."""
    rng: random.Random = field(default_factory=random.Random)
    rhythm: Rhythm = field(default_factory=Rhythm)
    deployments: tuple[Deployment, ...] = ()
    """All that its routes lead to."""

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
        rules = self.fallbacks.get(call.model) or self.fallbacks.get(route.name, ())
        return Plan(
            route.name,
            self._attempts(route, match.wildcard),
            {rule.on: self._pools(rule.to) for rule in rules} if rules else _NO_FALLBACKS,
            _dearest(call, key),
            self.max_attempts,
        )

    def names(self, key: Key) -> list[str]:
        """The models that this key may ask for: names, also those that a pattern serves."""
        own = key.models.names() if key.models is not None else ()
        names = dict.fromkeys((*self.routes.names(), *own))
        return [name for name in names if key.may_use(name) and self.routes.lookup(name)]

    def _pools(self, names: Sequence[str]) -> tuple[Attempt, ...]:
        found = [match for name in names if (match := self.routes.lookup(name))]
        return tuple(
            attempt
            for match in found
            for attempt in self._attempts(match.values[0], match.wildcard)
        )

    def _attempts(self, route: Route, wildcard: str) -> tuple[Attempt, ...]:
        if len(route.deployments) == 1:
            return (route.deployments[0].attempt(wildcard),)
        return tuple(
            deployment.attempt(wildcard)
            for deployment in order_deployments(route.deployments, self.rng.random)
        )

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

    def copy(self) -> Runtime:
        """The same living things, for another configuration to add its own to."""
        return replace(self, providers={**self.providers}, breakers={**self.breakers})

    def keep(self, deployments: Iterable[Deployment]) -> None:
        """Forget what none of these uses."""
        used = {id(part) for row in deployments for part in (row.provider, row.breaker)}
        self.providers = {at: it for at, it in self.providers.items() if id(it) in used}
        self.breakers = {at: it for at, it in self.breakers.items() if id(it) in used}


def _dearest(call: Call, key: Key) -> int:
    """What to reserve. Never more than the key's limit: a guess may delay a call, not forbid it."""
    cap = call.max_tokens if call.max_tokens is not None and call.max_tokens > 0 else _UNSAID_OUTPUT
    output = cap if DIALECTS[call.dialect].streams else 0
    guess = estimate_tokens(len(call.body.raw)) + output
    limit = key.limits.tokens
    return guess if limit is None else min(guess, limit.amount)
