"""What is fixed and what lives.

A Snapshot is one configuration, compiled and frozen: a request keeps the one that it began with. A
Runtime holds what must outlive a change of it (breakers, pools of connections), by stable identity.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol, Self

from proxy_api._keys import Caller, Key, Keys
from proxy_api._plan import (
    NO_FALLBACKS,
    Breaker,
    Deployment,
    Fallback,
    Fallbacks,
    Lead,
    Plan,
    Route,
    Where,
)
from proxy_api._policy import account_of
from proxy_api._pulse import Rhythm
from proxy_api._recorder import Recorder
from proxy_api._sealed_ids import Seals
from proxy_core import (
    DIALECTS,
    Admission,
    Asked,
    Call,
    CircuitBreaker,
    CredentialPool,
    Deadline,
    FleetHints,
    Load,
    Match,
    ModelTable,
    Provider,
    RateLimiter,
    Reply,
    RetryPolicy,
    Rule,
    Rules,
    SharedRateLimiter,
    Unlimited,
    Usage,
    conversation_key,
    estimate_tokens,
    repeats,
)
from proxy_core.errors import ModelNotFound, NotFound, PermissionRefused
from proxy_core.prices import PublishedPrices
from proxy_core.providers import BUILT_IN, Registry

__all__ = [
    "Cache",
    "Condenser",
    "Ledger",
    "Reserved",
    "Runtime",
    "Snapshot",
    "UNSAID_OUTPUT",
    "Way",
    "credentials_of",
]

_ANYTHING: Final = Asked()
_RAW: Final = "raw"
_WITHOUT_OUTPUT: Final = frozenset(name for name, it in DIALECTS.items() if not it.streams)
_READ_TIMEOUT: Final = b"x-stainless-read-timeout"
_RETRY_COUNT: Final = b"x-stainless-retry-count"
UNSAID_OUTPUT: Final = 1024
"""Output tokens that are reserved for a call without a cap; the settlement corrects it."""
_MOST_OUTPUT = 2**31
"""Output tokens that are reserved, whatever a client says: a store's numbers must hold them."""
_MOST_MONEY = 2**53
"""Nano-dollars; the largest budget, so that what costs more is refused all the same."""


class Reserved(Protocol):
    """What a limiter granted. Hold it until the answer has ended."""

    def settle(
        self, tokens_used: int, *, output: int | None = None, money: int | None = None
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None: ...


class Head(Caller, Protocol):
    """What planning may look at."""

    received_at: float
    """On the monotonic clock."""


class Way(NamedTuple):
    """What a configuration does with a request."""

    match: Match[Route]
    """What it asks for."""
    moved: Match[Route]
    """Where it goes."""
    rule: Rule | None
    """By which rule."""
    after: tuple[Fallback, ...]


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
    limiter: RateLimiter | SharedRateLimiter | Unlimited
    cache: Cache
    condenser: Condenser
    ledger: Ledger
    recorder: Recorder
    max_body: int
    admission: Admission = field(default_factory=Admission)
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    rules: Rules = field(default_factory=Rules)
    """By which some requests go to another model's pool."""
    is_sticky: bool = False
    fallbacks: Mapping[str, tuple[Fallback, ...]] = field(default_factory=dict)
    """By the name that is asked for, or that of its route."""
    rhythm: Rhythm = field(default_factory=Rhythm)
    deployments: tuple[Deployment, ...] = ()
    """All that its routes lead to."""
    blocks_unpriced: bool = False
    """Whether nobody may use what has no price; keys with a budget may not in any case."""
    max_upload: int = 100_000_000
    """Bytes of a body with files, or of one that passes raw."""
    seals: Seals = field(default_factory=lambda: Seals({}))
    services: Mapping[str, Route] = field(default_factory=dict)
    """By the names of providers: what is asked of one of them, and not of a model. The ``*`` stands
    for what it is: ``raw``, ``files``."""
    _leads: Mapping[str, Lead] = field(init=False, repr=False)
    """By the model's name; those that only a pattern serves are looked up each time."""

    def __post_init__(self) -> None:
        found = {name: self.routes.lookup(name) for name in self.routes.names()}
        leads = {name: self._lead(name, match) for name, match in found.items() if match}
        object.__setattr__(self, "_leads", leads)

    def plan(self, call: Call, key: Key, caller: Head) -> Plan:
        """Where a call may go. Raises ModelNotFound, NotFound, PermissionRefused."""
        if call.provider and call.dialect == _RAW:
            return self._service(call, key, caller)
        model = call.model
        if not key.may_use(model):
            raise PermissionRefused(
                f"The key {key.name!r} may not use the model {model!r}.", param="model"
            )
        lead = self._leads.get(model) or self._lead_by_pattern(model, key)
        size = 0 if call.media else estimate_tokens(len(call.body.raw))
        output = _most_output(call)
        asked, money = _ANYTHING, 0
        if not lead.is_plain:
            asked = self._asked(call, key, caller, size, output)
            if (moved := self._ruled(asked)) is not None:
                lead = self._lead(model, moved)
        first, after = lead.first, lead.after
        if call.provider:
            first, after = (_at(call.provider, first[0], model), first[1]), NO_FALLBACKS
        if self.blocks_unpriced or key.limits.budget is not None:
            money, after = self._dearest(first, after, size, output, key)
        retries = self.retries
        most = retries.begin(repeats(caller.header(_RETRY_COUNT)))
        deadline = Deadline.after(
            # One that used all of its time leaves the next one its own, if the client waits.
            first[0].patience * most,
            now=caller.received_at,
            read_timeout=caller.header(_READ_TIMEOUT),
        )
        return Plan(
            lead.route, first, after, asked, deadline, size, output, money, retries, most, key.chaos
        )

    def _service(self, call: Call, key: Key, caller: Head) -> Plan:
        """For a call to a provider itself; ``call.model`` says what kind of a call it is."""
        route, kind = self.services.get(call.provider), call.model
        if route is None:
            raise NotFound(f"There is no provider {call.provider!r} that serves a model here.")
        if kind != _RAW and not self.reaches(key, call.provider):
            raise PermissionRefused(
                f"The key {key.name!r} may use no model of the provider {call.provider!r}, and so "
                f"none of its {kind}: name another provider, or ask with another key."
            )
        is_strict = key.limits.budget is not None or self.blocks_unpriced
        if is_strict and route.dearest(kind, 0, 0) is None:
            raise PermissionRefused(
                f"What a call of {kind!r} costs isn't known, and the key {key.name!r} may use only "
                "what has a price: ask with a key without a budget."
            )
        most = self.retries.begin(repeats(caller.header(_RETRY_COUNT)))
        deadline = Deadline.after(
            route.patience, now=caller.received_at, read_timeout=caller.header(_READ_TIMEOUT)
        )
        first, asked = (route, kind), _ANYTHING
        return Plan(
            kind, first, NO_FALLBACKS, asked, deadline, 0, 0, 0, self.retries, most, key.chaos
        )

    def reaches(self, key: Key, provider: str) -> bool:
        """Whether some model that the key may use is with this provider."""
        if key.models is None:
            return True
        return any(
            match.values[0].at(provider) is not None
            for name in key.models.names(patterns=True)
            for match in self.routes.overlapping(name)
        )

    def explain(self, asked: Asked) -> Way | None:
        """Where a request would go; None: there is no such model. It is no request's way."""
        match = self.routes.lookup(asked.model)
        if match is None:
            return None
        moved = self._ruled(asked) or match
        rule = self.rules.first(asked)
        after = self.fallbacks.get(asked.model) or self.fallbacks.get(moved.values[0].name, ())
        return Way(match, moved, rule, after)

    def names(self, key: Key) -> list[str]:
        """The models that this key may ask for: names, also those that a pattern serves."""
        own = key.models.names() if key.models is not None else ()
        names = dict.fromkeys((*self.routes.names(), *own))
        return [name for name in names if key.may_use(name) and self.routes.lookup(name)]

    def _where(self, names: Sequence[str]) -> tuple[Where, ...]:
        found = [match for name in names if (match := self.routes.lookup(name))]
        return tuple((match.values[0], match.wildcard) for match in found)

    def _asked(self, call: Call, key: Key, caller: Head, size: int, output: int) -> Asked:
        fields, header = call.body.fields, caller.header
        return Asked(
            model=call.model,
            key=key.name,
            tags=key.tags,
            tokens=size,
            output=output,
            conversation=conversation_key(fields, header) if self.is_sticky else None,
            header=header,
        )

    def _lead(self, model: str, match: Match[Route]) -> Lead:
        """Where a name leads whose call goes by this match."""
        route = match.values[0]
        rules = self.fallbacks.get(model) or self.fallbacks.get(route.name, ())
        after = {rule.on: self._where(rule.to) for rule in rules} if rules else NO_FALLBACKS
        is_plain = not self.rules and route.pool.only is not None
        return Lead(route.name, (route, match.wildcard), after, is_plain)

    def _lead_by_pattern(self, model: str, key: Key) -> Lead:
        match = self.routes.lookup(model)
        if match is None:
            raise self._unknown(model, key)
        return self._lead(model, match)

    def _ruled(self, asked: Asked) -> Match[Route] | None:
        """The route that the rules send this call to; None: the one that was asked for."""
        to = self.rules.route(asked)
        return self.routes.lookup(to) if to else None

    def _dearest(
        self, first: Where, after: Fallbacks, size: int, output: int, key: Key
    ) -> tuple[int, Fallbacks]:
        """Nano-dollars at the dearest of all who may be asked, and who those are.

        Fallbacks whose cost nobody knows are left out: what has no price is not free.
        """
        most = first[0].dearest(first[1], size, output)
        if most is None:
            raise self._unpriced(first[0], key)
        kept: dict[str, tuple[Where, ...]] = {}
        for on, where in after.items():
            costs = {one: one[0].dearest(one[1], size, output) for one in where}
            known = {one: cost for one, cost in costs.items() if cost is not None}
            if known:
                kept[on] = tuple(known)
                most = max(most, *known.values())
        return min(most, _MOST_MONEY), kept

    def _unpriced(self, route: Route, key: Key) -> PermissionRefused:
        why = (
            f"The key {key.name!r} has a budget, and the model {route.name!r} has no price: "
            if key.limits.budget is not None
            else f"The model {route.name!r} has no price, and what has none may not be used here: "
        )
        return PermissionRefused(
            f"{why}the operator gives one as `price` of the model.", param="model"
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
    limiter: RateLimiter | SharedRateLimiter | None = None
    hints: FleetHints | None = None
    """What the processes that share a Redis tell each other of breakers and credentials."""
    admission: Admission = field(default_factory=Admission)
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    loads: dict[str, Load] = field(default_factory=dict)
    """As the breakers."""
    prices: PublishedPrices = field(default_factory=PublishedPrices)
    registry: Registry = BUILT_IN
    """The kinds of providers, with those of plugins."""
    tls: ssl.SSLContext | None = None
    """Shared by the pools that trust the system's certificates."""

    def copy(self) -> Runtime:
        """The same living things, for another configuration to add its own to."""
        return replace(
            self, providers={**self.providers}, breakers={**self.breakers}, loads={**self.loads}
        )

    def keep(self, deployments: Iterable[Deployment]) -> None:
        """Forget what none of these uses."""
        rows = [(account_of(row.provider), row.breaker, row.load) for row in deployments]
        used = {id(part) for row in rows for part in row}
        self.providers = {at: it for at, it in self.providers.items() if id(it) in used}
        self.breakers = {at: it for at, it in self.breakers.items() if id(it) in used}
        self.loads = {at: it for at, it in self.loads.items() if id(it) in used}

    def share(self) -> None:
        """Let the other processes know of what lives here now, and of nothing else."""
        if self.hints is not None:
            breakers = (it for it in self.breakers.values() if isinstance(it, CircuitBreaker))
            pools = (pool for it in self.providers.values() if (pool := credentials_of(it)))
            self.hints.watch_only(breakers, pools)


def credentials_of(provider: Provider) -> CredentialPool | None:
    """The credentials that a provider draws from; None without any, or when it doesn't tell."""
    pool = getattr(provider, "credentials", None)
    return pool if isinstance(pool, CredentialPool) else None


def _at(provider: str, route: Route, model: str) -> Route:
    """The part of a route that is with the provider which has what is asked for."""
    found = route.at(provider)
    if found is None:
        raise NotFound(
            f"What the request names by its id is with the provider {provider!r}, which doesn't "
            f"serve the model {model!r}: ask for one of that provider's.",
            param="model",
        )
    return found


def _most_output(call: Call) -> int:
    """What to reserve for the answer."""
    if call.dialect in _WITHOUT_OUTPUT:
        return 0
    most = call.max_tokens
    if most is None or most <= 0:
        most = UNSAID_OUTPUT
    if (said := call.body.fields.get("n")) is not None and (answers := bytes(said)).isdigit():
        most *= int(answers[:4]) or 1
    return most if most < _MOST_OUTPUT else _MOST_OUTPUT  # noqa: FURB136 - min() is a call
