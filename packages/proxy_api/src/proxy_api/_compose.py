"""The composition root: settings in, a Snapshot out. Nothing else builds collaborators."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain

from pydantic import SecretStr

from proxy_api._http_client import http_client
from proxy_api._identity import identity_of
from proxy_api._keys import Chaos, Key, KeyRing, Keys, LocalOnly
from proxy_api._listener import check_tls
from proxy_api._loopback import is_loopback_host
from proxy_api._plan import Breaker, Deployment, Fallback, Route
from proxy_api._plugins import load_plugins
from proxy_api._policy import by_policy
from proxy_api._pricing import cost_of, costs_of
from proxy_api._raw import FREE_KINDS, SCOPE
from proxy_api._recorder import Recorder
from proxy_api._sealed_ids import seals_of
from proxy_api._settings import Settings
from proxy_api._settings_models import (
    BudgetSettings,
    KeySettings,
    LimitSettings,
    ModelSettings,
    ProviderSettings,
)
from proxy_api._snapshot import Runtime, Snapshot
from proxy_api._stages import KeepsContext, NoCache, NoLedger
from proxy_core import (
    AdmissionSettings,
    AlwaysClosed,
    BreakerSettings,
    Budget,
    CircuitBreaker,
    FleetHints,
    Limits,
    Load,
    Member,
    ModelTable,
    Pool,
    PoolSettings,
    Provider,
    RateLimiter,
    RetrySettings,
    Rule,
    Rules,
    Secret,
    SharedRateLimiter,
    Timeouts,
    create_provider,
)
from proxy_core.errors import ConfigurationError
from proxy_core.prices import Price
from proxy_logging import NoTracer, Observer, Tracer, fan_out

__all__ = ["Parts", "allowed_models", "check_listener", "compiled", "compose", "try_out", "tune"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a configuration does not say: who watches, and whom an embedder trusts."""

    observer: Observer
    tracer: Tracer
    trust_hosts: Sequence[str] = ()


def compose(settings: Settings, runtime: Runtime, parts: Parts) -> Snapshot:
    """Compile a configuration; what lives in ``runtime`` is used again, what is new is added there.

    Raises ConfigurationError.
    """
    plugins = load_plugins(settings.plugins)
    runtime.registry = plugins.registry
    limiter = _limiter(settings, runtime, parts.observer)
    routes = _routes(settings, runtime, parts.observer)
    deployments = tuple(chain.from_iterable(route.deployments for route in routes.values()))
    return Snapshot(
        keys=_keys(settings, parts.trust_hosts),
        routes=ModelTable(routes.items()),
        limiter=limiter,
        cache=NoCache(),
        condenser=KeepsContext(),
        ledger=NoLedger(),
        recorder=Recorder(
            parts.observer,
            parts.tracer,
            flags_unpriced=settings.pricing.unpriced == "flag",
        ),
        max_body=settings.server.max_body,
        max_upload=settings.server.max_upload,
        admission=runtime.admission,
        retries=runtime.retries,
        rules=Rules((*_rules(settings), *plugins.rules(settings))),
        is_sticky=settings.routing.sticky,
        fallbacks=_fallbacks(settings),
        blocks_unpriced=settings.pricing.unpriced == "block",
        deployments=deployments,
        services=_services(deployments),
        seals=seals_of(settings),
    )


def _services(deployments: Iterable[Deployment]) -> dict[str, Route]:
    """A way to each provider that serves a model, for what names no model."""
    first = {row.provider.name: row for row in reversed([*deployments])}
    return {name: Route(name, _service(row)) for name, row in first.items()}


def _service(row: Deployment) -> Pool[Deployment]:
    name = row.provider.name
    # Its breaker never opens: what clients ask for here is their own affair.
    breaker = AlwaysClosed()
    free, kinds = Price.usd(input="0"), FREE_KINDS
    own = Deployment(
        label=f"{name}/*",
        provider=row.provider,
        model="*",
        breaker=breaker,
        timeouts=row.timeouts,
        prices=lambda kind: free if kind in kinds else None,
    )
    return Pool(name, [Member(own, own.label, breaker=breaker)])


def _rules(settings: Settings) -> Iterator[Rule]:
    return (row.rule() for row in settings.routing.rules)


def try_out(settings: Settings) -> None:
    """Compile a configuration for nothing but its errors. Raises ConfigurationError."""
    check_listener(settings)
    compiled(settings)


def compiled(settings: Settings) -> Snapshot:
    """A snapshot that serves nobody and knows of nobody's health. Raises ConfigurationError."""
    return compose(settings, Runtime(), Parts(lambda _: None, NoTracer()))


def check_listener(settings: Settings) -> None:
    """That it can be listened as ``server`` says. Raises ConfigurationError."""
    server = settings.server
    if not (settings.keys or server.uds is not None or is_loopback_host(server.host)):
        raise ConfigurationError(
            f"server.host is {server.host!r}, which others can reach, but there are no keys: "
            "add `keys:` to the configuration, or listen on 127.0.0.1."
        )
    if server.tls is not None:
        check_tls(server.tls)


def _limiter(
    settings: Settings, runtime: Runtime, observer: Observer
) -> RateLimiter | SharedRateLimiter:
    _join(settings, runtime, observer)
    if runtime.limiter is None:
        runtime.limiter = RateLimiter("keys")
    return runtime.limiter


def _join(settings: Settings, runtime: Runtime, observer: Observer) -> None:
    """What it shares with other processes, if there is a place for that."""
    if settings.redis is None or runtime.hints is not None:
        return
    if find_spec("redis") is None:
        raise ConfigurationError(
            "redis: is set, but redis-py is missing: pip install 'proxy-api[redis]'", param="redis"
        )
    url = settings.redis.get_secret_value()
    try:
        runtime.limiter = SharedRateLimiter("keys", url=url, observer=observer)
        runtime.hints = FleetHints.at(url)
    except (ConfigurationError, ValueError) as error:
        # redis-py's own words for a URL may quote it, and with it the password.
        remedy = "this is no URL: give one such as redis://127.0.0.1:6379/0"
        told = error.message if isinstance(error, ConfigurationError) else remedy
        raise ConfigurationError(f"redis: {told}", param="redis") from None


def _keys(settings: Settings, trust_hosts: Sequence[str]) -> Keys:
    hosts = (*settings.server.allowed_hosts, *trust_hosts)
    if not settings.keys:
        cors = settings.server.cors
        return LocalOnly(hosts=hosts, origins=cors.origins if cors else ())
    allowed = hosts if settings.server.allowed_hosts else ()
    # Keys are many, and what they may do is alike: equal settings share one value.
    table, limits = functools.cache(_table), functools.cache(_limits)
    asking = [row for row in settings.keys if allowed_models(row)]
    rows = (
        (
            _secret(row.key),
            _key(
                row,
                table(allowed_models(row)),
                limits("key", row.limits, row.budget),
                names_all=SCOPE in row.scopes or asking == [row],
            ),
        )
        for row in settings.keys
    )
    return KeyRing(rows, hosts=allowed)


def _key(
    row: KeySettings, models: ModelTable[None] | None, limits: Limits, *, names_all: bool
) -> Key:
    return Key(
        id=row.name,
        name=row.name,
        models=models,
        scopes=frozenset(row.scopes),
        limits=limits,
        tags=row.tags,
        chaos=None if row.chaos is None else Chaos(row.chaos.faults()),
        names_all=names_all,
    )


def _table(names: tuple[str, ...]) -> ModelTable[None] | None:
    return None if "*" in names else ModelTable((name, None) for name in names)


def allowed_models(row: KeySettings) -> tuple[str, ...]:
    """Names and patterns of the models that a key may ask for."""
    # A key for metrics alone must not come with every model because nobody said which.
    return () if row.scopes and "models" not in row.model_fields_set else row.models


def _limits(scope: str, row: LimitSettings | None, budget: BudgetSettings | None) -> Limits:
    given = LimitSettings() if row is None else row
    return Limits.parse(
        requests=given.requests,
        tokens=given.tokens,
        input_tokens=given.input_tokens,
        output_tokens=given.output_tokens,
        concurrent=given.concurrent,
        budget=None if budget is None else Budget.usd(budget.usd, budget.per, hard=budget.hard),
        scope=scope,
    )


def _routes(settings: Settings, runtime: Runtime, observer: Observer) -> dict[str, Route]:
    members: dict[str, list[Member[Deployment]]] = {}
    sizes = Counter(model.name for model in settings.models)
    chosen = {model.target for model in settings.models if sizes[model.name] > 1}
    for model in settings.models:
        deployment = _deployment(settings, model, runtime, observer, chosen)
        members.setdefault(model.name, []).append(_member(model, deployment))
    rules = PoolSettings(strategy=settings.routing.strategy, sticky=settings.routing.sticky)
    return {
        name: Route(name, Pool(name, pool, rules), _parts(name, pool, rules))
        for name, pool in members.items()
    }


def _parts(name: str, pool: Sequence[Member[Deployment]], rules: PoolSettings) -> dict[str, Route]:
    """What of a pool is with each provider, where there are several."""
    by: dict[str, list[Member[Deployment]]] = {}
    for member in pool:
        by.setdefault(member.value.provider.name, []).append(member)
    if len(by) == 1:
        return {}
    return {provider: Route(name, Pool(name, members, rules)) for provider, members in by.items()}


def _member(model: ModelSettings, value: Deployment) -> Member[Deployment]:
    price = value.price
    return Member(
        value,
        model.target,
        order=model.order,
        weight=model.weight,
        breaker=value.breaker,
        load=value.load or Load(),
        context=model.context,
        price=None if price is None else price.rates,
    )


def _fallbacks(settings: Settings) -> dict[str, tuple[Fallback, ...]]:
    return {
        name: tuple(Fallback(rule.on, rule.to) for rule in rules)
        for name, rules in settings.fallbacks.items()
    }


def _deployment(
    settings: Settings,
    model: ModelSettings,
    runtime: Runtime,
    observer: Observer,
    chosen: Collection[str],
) -> Deployment:
    """One row. ``chosen`` are the targets between which some pool has a choice."""
    times = settings.timeouts_for(model)
    row = settings.providers[model.provider]
    if row.unsupported is None:
        row = row.model_copy(update={"unsupported": settings.routing.unsupported})
    identity = identity_of(model.provider, row)
    endpoint = f"{identity}/{model.upstream}"
    return Deployment(
        label=model.target,
        provider=by_policy(_provider(model.provider, row, identity, runtime, observer), model),
        model=model.upstream,
        breaker=_breaker(model, endpoint, settings, runtime, observer),
        timeouts=Timeouts(
            connect=times.connect,
            first_byte=times.first_byte,
            between_events=times.between_events,
            total=times.total,
        ),
        load=runtime.loads.setdefault(endpoint, Load()) if model.target in chosen else None,
        limits=None if model.limits is None else _limits("deployment", model.limits, None),
        price=cost_of(settings, model, runtime.prices, runtime.registry),
        prices=costs_of(settings, model, runtime.prices, runtime.registry),
        subject=f"deployment:{model.name}:{model.target}",
    )


def _breaker(
    model: ModelSettings, endpoint: str, settings: Settings, runtime: Runtime, observer: Observer
) -> Breaker:
    found = runtime.breakers.get(endpoint)
    if found is None:
        told = observer if runtime.hints is None else fan_out(observer, runtime.hints)
        found = CircuitBreaker(model.target, _breaker_rules(settings), observer=told)
        runtime.breakers[endpoint] = found
    return found


def tune(settings: Settings, runtime: Runtime) -> None:
    """Let what lives go by these settings. Nothing of it fails."""
    for breaker in runtime.breakers.values():
        breaker.retune(_breaker_rules(settings))
    retry, limits = settings.routing.retry, settings.server.limits
    runtime.retries.retune(RetrySettings(attempts=retry.attempts, share=retry.budget))
    runtime.admission.retune(AdmissionSettings(concurrent=limits.requests, max_lag=limits.loop_lag))


def _breaker_rules(settings: Settings) -> BreakerSettings:
    """What each breaker goes by."""
    rules = settings.routing.breaker
    return BreakerSettings(
        consecutive=rules.failures,
        open_time=rules.open_for,
        open_cap=max(120.0, rules.open_for),
        # Only what an upstream does counts: a fault of ours says nothing about it.
        counts=(),
    )


def _provider(
    name: str, row: ProviderSettings, identity: str, runtime: Runtime, observer: Observer
) -> Provider:
    found = runtime.providers.get(identity)
    if found is None:
        found = _made(name, row, runtime, observer)
        runtime.providers[identity] = found
    return found


def _made(name: str, row: ProviderSettings, runtime: Runtime, observer: Observer) -> Provider:
    http = http_client(name, row, runtime)
    try:
        return create_provider(
            row.kind,
            name=name,
            base_url=row.base_url,
            api_key=[_secret(secret) for secret in row.secrets],
            headers={header: value.get_secret_value() for header, value in row.headers.items()},
            dialects=row.dialects,
            http=http,
            observer=observer,
            region=row.region,
            profile=row.profile,
            instance_metadata=row.instance_metadata,
            project=row.project,
            location=row.location,
            credentials_file=row.credentials_file,
            api_version=row.api_version,
            unsupported=row.unsupported or "refuse",
            abilities=row.abilities,
            registry=runtime.registry,
        )
    except ConfigurationError as error:
        field = f".{error.param}" if error.param else ""
        raise ConfigurationError(f"providers.{name}{field}: {error.message}") from None


def _secret(value: SecretStr) -> Secret:
    return Secret(value.get_secret_value())
