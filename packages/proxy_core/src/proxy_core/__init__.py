"""Between a proxy and its upstreams: breaker, limiter, routing, HTTP client, dialects, providers.

Each part is useful alone::

    from proxy_core import CircuitBreaker, RateLimiter, create_provider

    breaker = CircuitBreaker("provider-name")
    limiter = RateLimiter(rate="100/minute")
    provider = create_provider("openai_compatible", base_url="http://127.0.0.1:8080/v1")
"""

from __future__ import annotations

import importlib
import typing

from proxy_core._version import __version__ as __version__

if typing.TYPE_CHECKING:
    from proxy_core._addresses import is_forbidden, is_forbidden_host
    from proxy_core._admission import Admission, AdmissionSettings, LoopLag, ProxyFull
    from proxy_core._breaker import (
        AlwaysClosed,
        BreakerSettings,
        CircuitBreaker,
        Permit,
        last_standing,
    )
    from proxy_core._chaos import ChaosProvider, ChaosSettings
    from proxy_core._choose import Pool, PoolSettings
    from proxy_core._credentials import CredentialLoan, CredentialPool
    from proxy_core._deadline import Deadline, patience
    from proxy_core._explain import Place, explain
    from proxy_core._hints import FleetHints, HintSettings
    from proxy_core._hold import hold
    from proxy_core._http import HttpClient, HttpRequest, HttpResponse, HttpSender, PoolLimits
    from proxy_core._limiter import (
        Limit,
        LimiterSettings,
        Limits,
        LimitState,
        RateLimiter,
        Reservation,
        Unlimited,
    )
    from proxy_core._limiter_store import LimiterStore, RedisStore
    from proxy_core._limits import Budget
    from proxy_core._load import Load, Turn
    from proxy_core._member import Asked, Member
    from proxy_core._quarantine import CredentialChanged, CredentialQuarantine, QuarantineSettings
    from proxy_core._ratelimit_headers import go_duration, rate_limit_headers, retry_headers
    from proxy_core._retry import RetryBudget, RetryPolicy, RetrySettings, repeats
    from proxy_core._routing import Match, ModelTable, expand_target, match_model, order_deployments
    from proxy_core._rules import Rule, Rules
    from proxy_core._secret import Secret
    from proxy_core._share import SharedSettings
    from proxy_core._shared_limiter import SharedRateLimiter, SharedReservation
    from proxy_core._sticky import conversation_key
    from proxy_core._throttle import ThrottleGate, ThrottleSettings
    from proxy_core._types import Call, Headers, Provider, Ready, Reply, Timeouts, Usage
    from proxy_core.dialects import (
        CHAT,
        CLIENT_CODECS,
        CODECS,
        COMPLETIONS,
        COUNT,
        COUNT_TOKENS,
        DIALECTS,
        EMBEDDINGS,
        GENERATE,
        MESSAGES,
        RESPONSES,
        Abilities,
        Dialect,
        Tap,
        estimate_tokens,
    )
    from proxy_core.errors import ProxyError, RequestError, UpstreamError
    from proxy_core.providers import (
        HttpProvider,
        ProviderOptions,
        ProviderRow,
        Signer,
        create_provider,
        provider_kinds,
        provider_row,
    )

__all__ = [
    "Abilities",
    "Admission",
    "AdmissionSettings",
    "AlwaysClosed",
    "Asked",
    "BreakerSettings",
    "Budget",
    "CHAT",
    "CLIENT_CODECS",
    "CODECS",
    "COMPLETIONS",
    "COUNT",
    "COUNT_TOKENS",
    "Call",
    "ChaosProvider",
    "ChaosSettings",
    "CircuitBreaker",
    "CredentialChanged",
    "CredentialLoan",
    "CredentialPool",
    "CredentialQuarantine",
    "DIALECTS",
    "Deadline",
    "Dialect",
    "EMBEDDINGS",
    "FleetHints",
    "GENERATE",
    "Headers",
    "HintSettings",
    "HttpClient",
    "HttpProvider",
    "HttpRequest",
    "HttpResponse",
    "HttpSender",
    "Limit",
    "LimitState",
    "LimiterSettings",
    "LimiterStore",
    "Limits",
    "Load",
    "LoopLag",
    "MESSAGES",
    "Match",
    "Member",
    "ModelTable",
    "Permit",
    "Place",
    "Pool",
    "PoolLimits",
    "PoolSettings",
    "Provider",
    "ProviderOptions",
    "ProviderRow",
    "ProxyError",
    "ProxyFull",
    "QuarantineSettings",
    "RESPONSES",
    "RateLimiter",
    "Ready",
    "RedisStore",
    "Reply",
    "RequestError",
    "Reservation",
    "RetryBudget",
    "RetryPolicy",
    "RetrySettings",
    "Rule",
    "Rules",
    "Secret",
    "SharedRateLimiter",
    "SharedReservation",
    "SharedSettings",
    "Signer",
    "Tap",
    "ThrottleGate",
    "ThrottleSettings",
    "Timeouts",
    "Turn",
    "Unlimited",
    "UpstreamError",
    "Usage",
    "__version__",
    "conversation_key",
    "create_provider",
    "estimate_tokens",
    "expand_target",
    "explain",
    "go_duration",
    "hold",
    "is_forbidden",
    "is_forbidden_host",
    "last_standing",
    "match_model",
    "order_deployments",
    "patience",
    "provider_kinds",
    "provider_row",
    "rate_limit_headers",
    "repeats",
    "retry_headers",
]

_MODULES = {
    "_addresses": ("is_forbidden", "is_forbidden_host"),
    "_admission": ("Admission", "AdmissionSettings", "LoopLag", "ProxyFull"),
    "_breaker": ("AlwaysClosed", "BreakerSettings", "CircuitBreaker", "Permit", "last_standing"),
    "_chaos": ("ChaosProvider", "ChaosSettings"),
    "_choose": ("Pool", "PoolSettings"),
    "_credentials": ("CredentialLoan", "CredentialPool"),
    "_deadline": ("Deadline", "patience"),
    "_explain": ("Place", "explain"),
    "_hints": ("FleetHints", "HintSettings"),
    "_hold": ("hold",),
    "_http": ("HttpClient", "HttpRequest", "HttpResponse", "HttpSender", "PoolLimits"),
    "_limiter": (
        "Limit",
        "LimiterSettings",
        "Limits",
        "LimitState",
        "RateLimiter",
        "Reservation",
        "Unlimited",
    ),
    "_limiter_store": ("LimiterStore", "RedisStore"),
    "_limits": ("Budget",),
    "_load": ("Load", "Turn"),
    "_member": ("Asked", "Member"),
    "_quarantine": ("CredentialChanged", "CredentialQuarantine", "QuarantineSettings"),
    "_ratelimit_headers": ("go_duration", "rate_limit_headers", "retry_headers"),
    "_retry": ("RetryBudget", "RetryPolicy", "RetrySettings", "repeats"),
    "_routing": ("Match", "ModelTable", "expand_target", "match_model", "order_deployments"),
    "_rules": ("Rule", "Rules"),
    "_secret": ("Secret",),
    "_share": ("SharedSettings",),
    "_shared_limiter": ("SharedRateLimiter", "SharedReservation"),
    "_sticky": ("conversation_key",),
    "_throttle": ("ThrottleGate", "ThrottleSettings"),
    "_types": ("Call", "Headers", "Provider", "Ready", "Reply", "Timeouts", "Usage"),
    "dialects": (
        "Abilities",
        "CHAT",
        "CLIENT_CODECS",
        "CODECS",
        "COMPLETIONS",
        "COUNT",
        "COUNT_TOKENS",
        "DIALECTS",
        "Dialect",
        "EMBEDDINGS",
        "GENERATE",
        "MESSAGES",
        "RESPONSES",
        "Tap",
        "estimate_tokens",
    ),
    "errors": ("ProxyError", "RequestError", "UpstreamError"),
    "providers": (
        "HttpProvider",
        "ProviderOptions",
        "ProviderRow",
        "Signer",
        "create_provider",
        "provider_kinds",
        "provider_row",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a name when it is asked for.

    All of them take 200 ms; who only wants a breaker needs no client, no TLS and no dialects.
    """
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
