"""The composition root: settings in, a Snapshot out. Nothing else builds collaborators."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pydantic import SecretStr

from proxy_api._keys import Key, KeyRing, Keys, LocalOnly
from proxy_api._listener import check_tls
from proxy_api._loopback import is_loopback_host
from proxy_api._plan import Breaker, Deployment, Fallback, Route
from proxy_api._recorder import Recorder
from proxy_api._settings import Settings
from proxy_api._settings_models import KeySettings, LimitSettings, ModelSettings, ProviderSettings
from proxy_api._snapshot import Runtime, Snapshot
from proxy_api._stages import KeepsContext, NoCache, NoLedger
from proxy_core import (
    BreakerSettings,
    CircuitBreaker,
    HttpClient,
    Limit,
    Limits,
    ModelTable,
    Provider,
    RateLimiter,
    Secret,
    Timeouts,
    create_provider,
)
from proxy_core.errors import ConfigurationError
from proxy_logging import NoTracer, Observer, Tracer

__all__ = ["Parts", "allowed_models", "breaker_rules", "check_listener", "compose", "try_out"]


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
    pools = _pools(settings, runtime, parts.observer)
    return Snapshot(
        keys=_keys(settings, parts.trust_hosts),
        routes=ModelTable((name, Route(name, tuple(pool))) for name, pool in pools.items()),
        limiter=_limiter(runtime),
        cache=NoCache(),
        condenser=KeepsContext(),
        ledger=NoLedger(),
        recorder=Recorder(parts.observer, parts.tracer),
        max_body=settings.server.max_body,
        max_attempts=settings.routing.retry.attempts,
        fallbacks=_fallbacks(settings),
        deployments=tuple(chain.from_iterable(pools.values())),
    )


def try_out(settings: Settings) -> None:
    """Compile a configuration for nothing but its errors. Raises ConfigurationError."""
    check_listener(settings)
    compose(settings, Runtime(), Parts(lambda _: None, NoTracer()))


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


def _limiter(runtime: Runtime) -> RateLimiter:
    if runtime.limiter is None:
        runtime.limiter = RateLimiter("keys")
    return runtime.limiter


def _keys(settings: Settings, trust_hosts: Sequence[str]) -> Keys:
    hosts = (*settings.server.allowed_hosts, *trust_hosts)
    if not settings.keys:
        cors = settings.server.cors
        return LocalOnly(hosts=hosts, origins=cors.origins if cors else ())
    allowed = hosts if settings.server.allowed_hosts else ()
    return KeyRing(((_secret(row.key), _key(row)) for row in settings.keys), hosts=allowed)


def _key(row: KeySettings) -> Key:
    names = allowed_models(row)
    return Key(
        id=row.name,
        name=row.name,
        models=None if "*" in names else ModelTable((name, None) for name in names),
        scopes=frozenset(row.scopes),
        limits=_limits(row.limits),
    )


def allowed_models(row: KeySettings) -> tuple[str, ...]:
    """Names and patterns of the models that a key may ask for."""
    # A key for metrics alone must not come with every model because nobody said which.
    return () if row.scopes and "models" not in row.model_fields_set else row.models


def _limits(row: LimitSettings | None) -> Limits:
    if row is None:
        return Limits()
    return Limits(
        requests=Limit.parse(row.requests) if row.requests else None,
        tokens=Limit.parse(row.tokens, unit="tokens") if row.tokens else None,
        concurrent=row.concurrent,
    )


def _pools(settings: Settings, runtime: Runtime, observer: Observer) -> dict[str, list[Deployment]]:
    pools: dict[str, list[Deployment]] = {}
    for model in settings.models:
        pools.setdefault(model.name, []).append(_deployment(settings, model, runtime, observer))
    return pools


def _fallbacks(settings: Settings) -> dict[str, tuple[Fallback, ...]]:
    return {
        name: tuple(Fallback(rule.on, rule.to) for rule in rules)
        for name, rules in settings.fallbacks.items()
    }


def _deployment(
    settings: Settings, model: ModelSettings, runtime: Runtime, observer: Observer
) -> Deployment:
    times = settings.timeouts_for(model)
    row = settings.providers[model.provider]
    identity = _identity(model.provider, row)
    return Deployment(
        label=model.target,
        provider=_provider(model.provider, row, identity, runtime),
        model=model.upstream,
        breaker=_breaker(model, f"{identity}/{model.upstream}", settings, runtime, observer),
        timeouts=Timeouts(
            connect=times.connect,
            first_byte=times.first_byte,
            between_events=times.between_events,
            total=times.total,
        ),
        order=model.order,
        weight=model.weight,
    )


def _breaker(
    model: ModelSettings, endpoint: str, settings: Settings, runtime: Runtime, observer: Observer
) -> Breaker:
    found = runtime.breakers.get(endpoint)
    if found is None:
        found = CircuitBreaker(model.target, breaker_rules(settings), observer=observer)
        runtime.breakers[endpoint] = found
    return found


def breaker_rules(settings: Settings) -> BreakerSettings:
    """What each breaker goes by."""
    rules = settings.routing.breaker
    return BreakerSettings(
        consecutive=rules.failures,
        open_time=rules.open_for,
        open_cap=max(120.0, rules.open_for),
        # Only what an upstream does counts: a fault of ours says nothing about it.
        counts=(),
    )


def _provider(name: str, row: ProviderSettings, identity: str, runtime: Runtime) -> Provider:
    found = runtime.providers.get(identity)
    if found is None:
        found = create_provider(
            row.kind,
            name=name,
            base_url=row.base_url,
            api_key=_secret(row.secrets[0]) if row.secrets else None,
            headers={header: value.get_secret_value() for header, value in row.headers.items()},
            dialects=row.dialects,
            http=_http(name, row, runtime),
        )
        runtime.providers[identity] = found
    return found


def _http(name: str, row: ProviderSettings, runtime: Runtime) -> HttpClient:
    cert = row.client_cert
    pair = None if cert is None else (cert.cert, cert.key or cert.cert)
    proxy = None if row.proxy is None else row.proxy.get_secret_value()
    tls = None
    if row.ca is None and cert is None:
        tls = runtime.tls = runtime.tls or ssl.create_default_context()
    try:
        return HttpClient(ca=row.ca, cert=pair, tls=tls, http2=row.http2, proxy=proxy)
    except ConfigurationError as error:
        raise ConfigurationError(f"providers.{name}: {error.message}") from None


def _identity(name: str, row: ProviderSettings) -> str:
    """The same for the same settings, secrets and certificates included, without holding them."""
    hidden = {"api_key", "api_keys", "headers", "proxy", "timeouts"}
    plain = row.model_dump(mode="json", exclude=hidden)
    secrets = [secret.get_secret_value() for secret in (*row.secrets, *row.headers.values())]
    proxy = row.proxy and row.proxy.get_secret_value()
    files = [_stamp(path) for path in _certificates(row)]
    told = json.dumps([name, plain, proxy, sorted(row.headers), secrets, files], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _certificates(row: ProviderSettings) -> list[str]:
    cert = row.client_cert
    named = (row.ca, cert and cert.cert, cert and cert.key)
    return [path for path in named if path]


def _stamp(path: str) -> str:
    """Another one when the file was written anew; that it can't be read is the client's to say."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def _secret(value: SecretStr) -> Secret:
    return Secret(value.get_secret_value())
