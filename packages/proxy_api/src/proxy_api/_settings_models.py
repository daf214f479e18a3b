"""The sections of the configuration but ``server``. The descriptions are what an editor shows."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr

from proxy_api._settings_server import CorsSettings, EdgeSettings, ServerSettings, TlsSettings
from proxy_api._settings_types import (
    BaseUrl,
    Duration,
    ListenAddress,
    ModelName,
    Printable,
    ProxyUrl,
    Rate,
    Section,
    Target,
)

__all__ = [
    "BreakerSettings",
    "BudgetSettings",
    "CacheSettings",
    "CertificateSettings",
    "ContextSettings",
    "CorsSettings",
    "EdgeSettings",
    "FallbackSettings",
    "KeySettings",
    "LimitSettings",
    "MetricsSettings",
    "ModelSettings",
    "ObservabilitySettings",
    "PriceSettings",
    "ProviderSettings",
    "RetrySettings",
    "RoutingSettings",
    "ServerSettings",
    "TimeoutOverrides",
    "TimeoutSettings",
    "TlsSettings",
    "TracingSettings",
    "fallback_rules",
]


class TimeoutSettings(Section):
    """Seconds for each phase of an attempt; the times are those of ``proxy_core``'s Timeouts."""

    connect: Duration = Field(default=5.0, description="DNS, TCP and TLS.")
    first_byte: Duration = Field(
        default=60.0,
        description="From the request sent to the first byte of a stream. An answer that isn't "
        "streamed has no byte before it is whole: only `total` limits it.",
    )
    between_events: Duration = Field(
        default=60.0, description="The longest silence inside a stream."
    )
    total: Duration = Field(default=600.0, description="The whole attempt.")


class TimeoutOverrides(Section):
    connect: Duration | None = Field(default=None, description="DNS, TCP and TLS.")
    first_byte: Duration | None = Field(
        default=None, description="From the request sent to the first byte of the answer."
    )
    between_events: Duration | None = Field(
        default=None, description="The longest silence inside an answer."
    )
    total: Duration | None = Field(default=None, description="The whole attempt.")


class CertificateSettings(Section):
    cert: str = Field(description="File with our certificate, PEM.")
    key: str | None = Field(
        default=None, description="File with its private key; none: it is in the same file."
    )


def _certificate(value: Any) -> Any:
    return {"cert": value} if isinstance(value, str) else value


class ProviderSettings(Section):
    kind: str = Field(
        min_length=1,
        description="What the provider is; it decides the URL, the dialects and the auth header.",
        examples=["openai", "vllm", "ollama", "openai_compatible"],
    )
    base_url: BaseUrl | None = Field(
        default=None,
        description="What the provider's own SDK takes, with /v1 for OpenAI's. "
        "Kinds with a usual address need none.",
        examples=["http://10.0.0.5:8000/v1"],
    )
    api_key: Printable | None = Field(
        default=None,
        description="The provider's key: ${VAR}, credential:NAME (systemd) or file:/path.",
        examples=["${OPENAI_API_KEY}", "credential:openai", "file:/etc/proxy/openai.key"],
    )
    api_keys: tuple[Printable, ...] = Field(
        default=(), description="Several keys, used in turn, instead of api_key."
    )
    headers: Mapping[str, SecretStr] = Field(
        default_factory=dict,
        description="Headers that every request to the provider gets; their values are secret.",
    )
    ca: str | None = Field(default=None, description="File with the certificates to trust, PEM.")
    client_cert: Annotated[CertificateSettings | None, BeforeValidator(_certificate)] = Field(
        default=None, description="Our certificate: a file with both parts, or {cert, key}."
    )
    proxy: ProxyUrl | None = Field(
        default=None,
        description="The outbound proxy on the way to the provider, http or https; "
        "it needs proxy-core[http2].",
        examples=["http://proxy.example.com:3128"],
    )
    http2: bool = Field(
        default=False,
        description="Speak HTTP/2 with the provider, if it does; it needs proxy-core[http2].",
    )
    dialects: tuple[str, ...] = Field(
        default=(), description="What the provider speaks, where its kind doesn't say it."
    )
    timeouts: TimeoutOverrides | None = Field(
        default=None, description="Times that differ from the general ones."
    )

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """Its keys, however they were given."""
        return (self.api_key,) if self.api_key is not None else self.api_keys


class LimitSettings(Section):
    requests: Rate | None = Field(default=None, description="Requests, such as 60/minute.")
    tokens: Rate | None = Field(
        default=None, description="Tokens, in and out, such as 100000/minute."
    )
    concurrent: int | None = Field(default=None, ge=1, description="Requests at the same time.")


class PriceSettings(Section):
    """US dollars for a million tokens."""

    input: Decimal = Field(ge=0, description="US dollars for a million tokens of input.")
    output: Decimal = Field(
        default=Decimal(0), ge=0, description="US dollars for a million tokens of output."
    )
    cached: Decimal | None = Field(
        default=None,
        ge=0,
        description="US dollars for a million tokens of cached input; none: as input.",
    )


class ModelSettings(Section):
    name: ModelName = Field(
        description="The name that clients ask for. A repeated name is a pool of deployments; "
        "one * stands for anything.",
        examples=["chat", "claude-*"],
    )
    target: Target = Field(
        description="provider/model; a * takes what the * of the name stood for.",
        examples=["openai/gpt-5-mini"],
    )
    weight: float = Field(
        default=1.0, gt=0, description="Its share among the deployments of the same order."
    )
    order: int = Field(default=1, ge=0, description="Lower is asked first.")
    limits: LimitSettings | None = Field(
        default=None, description="What this deployment may be asked for."
    )
    timeouts: TimeoutOverrides | None = Field(
        default=None, description="Times that differ from the provider's."
    )
    price: PriceSettings | None = Field(
        default=None, description="US dollars for a million tokens, where the table has others."
    )
    context: int | None = Field(
        default=None, ge=1, description="The window in tokens, where the table has another."
    )

    @property
    def provider(self) -> str:
        """The provider's part of the target."""
        return self.target.partition("/")[0]

    @property
    def upstream(self) -> str:
        """The model's part of the target: its name at the provider."""
        return self.target.partition("/")[2]


class FallbackSettings(Section):
    on: Literal["error", "context_length", "content_policy"] = Field(
        default="error", description="What has to happen."
    )
    to: tuple[str, ...] = Field(
        min_length=1, description="The models that are asked instead, in this order."
    )


def fallback_rules(value: Any) -> Any:
    """The one form of the three: ``[x]``, ``{on, to}``, ``[{on, to}, …]`` as a list of rules."""
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, str):
        return [{"to": [value]}]
    if isinstance(value, list | tuple) and not value:
        raise ValueError("must not be empty")
    if isinstance(value, list | tuple) and any(isinstance(item, str) for item in value):
        return [{"to": list(value)}]
    return value


class RetrySettings(Section):
    attempts: int = Field(
        default=3, ge=1, le=10, description="Deployments asked for one request, at most."
    )
    budget: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Retries as a share of the requests, so that a bad day isn't made worse.",
    )


class BreakerSettings(Section):
    failures: int = Field(
        default=5, ge=1, description="Failures in a row after which a deployment isn't asked."
    )
    open_for: Duration = Field(default=10.0, description="How long; then one request tries it.")


class RoutingSettings(Section):
    strategy: Literal["weighted", "least_busy", "fastest", "cheapest"] = Field(
        default="weighted", description="Which deployment of the lowest order is asked first."
    )
    sticky: bool = Field(
        default=False, description="Keep a conversation where the provider has it cached."
    )
    retry: RetrySettings = Field(default_factory=RetrySettings, description="Second attempts.")
    breaker: BreakerSettings = Field(
        default_factory=BreakerSettings, description="When a deployment is left alone."
    )


class BudgetSettings(Section):
    usd: Decimal = Field(gt=0, description="US dollars.")
    per: Literal["day", "week", "month", "total"] = Field(
        default="month", description="When it begins anew."
    )
    hard: bool = Field(
        default=False, description="Refuse when it is used up; otherwise it is only told."
    )


class KeySettings(Section):
    name: str = Field(min_length=1, description="Who uses the key; stands in logs and usage.")
    key: Printable = Field(
        description="Any printable text: ${VAR}, credential:NAME (systemd) or file:/path.",
        examples=["${CI_KEY}", "credential:ci"],
    )
    models: tuple[str, ...] = Field(
        default=("*",),
        min_length=1,
        description="Models that the key may ask for: names or patterns with one *. "
        "Without it: every model, but none for a key with scopes.",
        examples=[["chat", "claude-*"]],
    )
    scopes: tuple[Literal["metrics", "docs", "admin"], ...] = Field(
        default=(), description="What else it opens where the listener isn't a loopback one."
    )
    limits: LimitSettings | None = Field(default=None, description="What it may ask for.")
    budget: BudgetSettings | None = Field(default=None, description="What it may cost.")


class CacheSettings(Section):
    enabled: bool = Field(default=False, description="Answer equal requests from memory.")


class ContextSettings(Section):
    enabled: bool = Field(default=False, description="Condense what exceeds a model's window.")


class MetricsSettings(Section):
    listen: ListenAddress | None = Field(
        default=None,
        description="A listener of their own for the metrics, host:port.",
        examples=["127.0.0.1:9464"],
    )


class TracingSettings(Section):
    enabled: bool = Field(default=False, description="Send traces (needs the extra otel).")
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        description="Where traces go; none: what OTEL_EXPORTER_OTLP_ENDPOINT says.",
        examples=["http://localhost:4318/v1/traces"],
    )


class ObservabilitySettings(Section):
    logs: Literal["json", "console", "auto"] = Field(
        default="auto",
        description="JSON lines, lines for people, or auto: the latter on a terminal.",
    )
    metrics: MetricsSettings = Field(default_factory=MetricsSettings, description="Prometheus.")
    tracing: TracingSettings = Field(default_factory=TracingSettings, description="OpenTelemetry.")
