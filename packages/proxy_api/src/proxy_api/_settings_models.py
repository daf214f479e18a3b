"""The sections of the configuration but ``server``. The descriptions are what an editor shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr

from proxy_api._settings_keys import (
    BudgetSettings,
    KeyChaosSettings,
    KeySettings,
    LimitSettings,
)
from proxy_api._settings_pricing import Prices, PriceSettings, PricingSettings, TierSettings
from proxy_api._settings_routing import (
    BreakerSettings,
    FallbackSettings,
    RetrySettings,
    RoutingSettings,
    RuleConditions,
    RuleSettings,
    fallback_rules,
)
from proxy_api._settings_server import CorsSettings, EdgeSettings, ServerSettings, TlsSettings
from proxy_api._settings_types import (
    BaseUrl,
    Duration,
    ListenAddress,
    ModelName,
    Printable,
    ProxyUrl,
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
    "KeyChaosSettings",
    "KeySettings",
    "LimitSettings",
    "MetricsSettings",
    "ModelSettings",
    "ObservabilitySettings",
    "PriceSettings",
    "PricingSettings",
    "ProviderSettings",
    "RetrySettings",
    "RoutingSettings",
    "RuleConditions",
    "RuleSettings",
    "ServerSettings",
    "TierSettings",
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
    region: str | None = Field(
        default=None, description="AWS's region (bedrock).", examples=["eu-central-1"]
    )
    profile: str | None = Field(
        default=None, description="AWS's profile, instead of its usual chain (bedrock)."
    )
    instance_metadata: bool = Field(
        default=False,
        description="Let AWS's chain ask the instance metadata, a link-local address (bedrock).",
    )
    project: str | None = Field(default=None, description="Google's project (vertex).")
    location: str | None = Field(
        default=None, description="Google's location (vertex).", examples=["global", "europe-west4"]
    )
    credentials_file: str | None = Field(
        default=None,
        description="A service account's key file; none: GOOGLE_APPLICATION_CREDENTIALS (vertex).",
        examples=["/etc/proxy/vertex.json"],
    )
    api_version: str | None = Field(
        default=None,
        description="Asks Azure's older API, with deployments in the URL (azure).",
        examples=["2024-10-21"],
    )
    unsupported: Literal["refuse", "announce", "strict"] | None = Field(
        default=None,
        description="As routing.unsupported, for this provider's models.",
    )
    abilities: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict,
        description="What models take, by patterns of their upstream names, where it isn't what "
        "is known of them.",
        examples=[{"my-model*": {"images": False}}],
    )
    timeouts: TimeoutOverrides | None = Field(
        default=None, description="Times that differ from the general ones."
    )

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """Its keys, however they were given."""
        return (self.api_key,) if self.api_key is not None else self.api_keys


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
    price: Prices = None
    context: int | None = Field(
        default=None,
        ge=1,
        description="The window in tokens; in a pool, who is too small is left out.",
    )
    unsupported: Literal["refuse", "announce", "strict"] | None = Field(
        default=None, description="As routing.unsupported, for this deployment."
    )
    cache_prompt: Literal["5m", "1h"] | None = Field(
        default=None,
        description="Have the provider cache prompts that long, where it must be asked (Anthropic's"
        " models) and the request has no cache marks of its own. Clients say it by the header "
        "x-llm-proxy-cache-prompt: 5m, 1h or off.",
    )

    @property
    def provider(self) -> str:
        """The provider's part of the target."""
        return self.target.partition("/")[0]

    @property
    def upstream(self) -> str:
        """The model's part of the target: its name at the provider."""
        return self.target.partition("/")[2]


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
