"""Between a proxy and its upstreams: breaker, limiter, routing, HTTP client, dialects, providers.

Each part is useful alone::

    from proxy_core import CircuitBreaker, RateLimiter, create_provider

    breaker = CircuitBreaker("provider-name")
    limiter = RateLimiter(rate="100/minute")
    provider = create_provider("openai_compatible", base_url="http://127.0.0.1:8080/v1")
"""

from proxy_core._addresses import is_forbidden, is_forbidden_host
from proxy_core._breaker import AlwaysClosed, BreakerSettings, CircuitBreaker, Permit
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
from proxy_core._routing import Match, ModelTable, expand_target, match_model, order_deployments
from proxy_core._secret import Secret
from proxy_core._types import Call, Headers, Provider, Ready, Reply, Timeouts, Usage
from proxy_core._version import __version__
from proxy_core.dialects import CHAT, COMPLETIONS, DIALECTS, EMBEDDINGS, estimate_tokens
from proxy_core.errors import ProxyError, RequestError, UpstreamError
from proxy_core.providers import ProviderRow, create_provider, provider_kinds, provider_row

__all__ = [
    "AlwaysClosed",
    "BreakerSettings",
    "CHAT",
    "COMPLETIONS",
    "Call",
    "CircuitBreaker",
    "DIALECTS",
    "EMBEDDINGS",
    "Headers",
    "HttpClient",
    "HttpRequest",
    "HttpResponse",
    "HttpSender",
    "Limit",
    "LimitState",
    "LimiterSettings",
    "Limits",
    "Match",
    "ModelTable",
    "Permit",
    "PoolLimits",
    "Provider",
    "ProviderRow",
    "ProxyError",
    "RateLimiter",
    "Ready",
    "Reply",
    "RequestError",
    "Reservation",
    "Secret",
    "Timeouts",
    "Unlimited",
    "UpstreamError",
    "Usage",
    "__version__",
    "create_provider",
    "estimate_tokens",
    "expand_target",
    "hold",
    "is_forbidden",
    "is_forbidden_host",
    "match_model",
    "order_deployments",
    "provider_kinds",
    "provider_row",
]
