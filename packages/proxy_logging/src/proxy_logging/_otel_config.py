"""Where spans go and how many: values only, nothing of OpenTelemetry is imported here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

__all__ = ["OpenTelemetryConfig"]

_DEFAULT_ENDPOINT = "http://localhost:4318/v1/traces"
_TRACES_PATH = "/v1/traces"
_OTLP_HTTP_PORT = 4318

# https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
# sampler -> its ratio (None: from OTEL_TRACES_SAMPLER_ARG), whether a parent's decision counts
_SAMPLERS: dict[str, tuple[float | None, bool]] = {
    "always_on": (1.0, False),
    "always_off": (0.0, False),
    "traceidratio": (None, False),
    "parentbased_always_on": (1.0, True),
    "parentbased_always_off": (0.0, True),
    "parentbased_traceidratio": (None, True),
}


@dataclass(frozen=True, kw_only=True)
class OpenTelemetryConfig:
    """How `create_tracer` exports spans: OTLP over HTTP.

    Raises:
        ValueError: for an endpoint that isn't an http(s) URL, or a ratio outside 0 to 1.
    """

    service_name: str = "llm-proxy"
    """The resource's ``service.name``."""
    otlp_endpoint: str | None = None
    """The URL to POST to; ``/v1/traces`` is added when it has no path. None is
    ``http://localhost:4318/v1/traces``."""
    jaeger_endpoint: str | None = None
    """Deprecated: Jaeger takes OTLP. It becomes port 4318 on the same host, with a warning."""
    sample_ratio: float = 1.0
    """The share of traces, 0 to 1, that is recorded when no caller has decided."""
    parent_based: bool = True
    """Whether a caller's decision, in its ``traceparent``, comes before the ratio."""
    headers: Mapping[str, str] | None = field(default=None, repr=False, hash=False)
    """Sent with each export: a collector's credentials."""
    resource_attributes: Mapping[str, str] | None = field(default=None, hash=False)
    """More about the service: ``{"deployment.environment.name": "prod"}``."""
    timeout: float = 10.0
    """Seconds for one export, its repetitions included."""
    enabled: bool = True
    """False makes `create_tracer` return a NoTracer."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.sample_ratio <= 1.0:
            raise ValueError(f"sample_ratio is {self.sample_ratio!r}; it must be from 0 to 1")
        if self.timeout <= 0:
            raise ValueError(f"timeout is {self.timeout!r}; it must be more than 0 seconds")
        endpoint = self.otlp_endpoint
        if self.jaeger_endpoint is not None:
            # Three frames up is who wrote OpenTelemetryConfig(...).
            warnings.warn(
                "jaeger_endpoint is deprecated: Jaeger takes OTLP; use otlp_endpoint",
                DeprecationWarning,
                stacklevel=3,
            )
            endpoint = endpoint or _from_jaeger(self.jaeger_endpoint)
        if endpoint is not None:
            object.__setattr__(self, "otlp_endpoint", _traces_url(endpoint))

    @property
    def traces_url(self) -> str:
        """The URL that spans are sent to."""
        return self.otlp_endpoint or _DEFAULT_ENDPOINT

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> OpenTelemetryConfig:
        """The configuration that the standard ``OTEL_*`` variables describe.

        Enabled only when they say where to (an endpoint variable) or that (``OTEL_TRACES_EXPORTER``
        is ``otlp``), and ``OTEL_SDK_DISABLED`` isn't ``true``. A variable that can't be understood
        is a RuntimeWarning and ignored, as the specification wants it; but an endpoint that is no
        URL is a ValueError.

        Args:
            environ: the variables; the process's own when None.
        """
        source = os.environ if environ is None else environ
        env = {name: value.strip() for name, value in source.items()}
        endpoint = _endpoint_of(env)
        exporter = env.get("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "none")
        disabled = env.get("OTEL_SDK_DISABLED", "").lower() == "true"
        ratio, parent_based = _sampler_of(env)
        resource = _pairs(env.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        headers = _pairs(
            env.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS")
            or env.get("OTEL_EXPORTER_OTLP_HEADERS", "")
        )
        return cls(
            service_name=env.get("OTEL_SERVICE_NAME") or resource.get("service.name", "llm-proxy"),
            otlp_endpoint=endpoint,
            sample_ratio=ratio,
            parent_based=parent_based,
            headers=headers or None,
            resource_attributes=resource or None,
            timeout=_timeout_of(env),
            enabled=exporter == "otlp" and not disabled,
        )


def _split(endpoint: str) -> SplitResult:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"the endpoint is {endpoint!r}; it must be an http or https URL"
            f" such as {_DEFAULT_ENDPOINT}"
        )
    return parts


def _traces_url(endpoint: str) -> str:
    parts = _split(endpoint)
    return parts._replace(path=_TRACES_PATH).geturl() if parts.path in ("", "/") else endpoint


def _from_jaeger(endpoint: str) -> str:
    parts = _split(endpoint if "//" in endpoint else f"http://{endpoint}")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{_OTLP_HTTP_PORT}{_TRACES_PATH}"


def _endpoint_of(env: Mapping[str, str]) -> str | None:
    exact = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if exact:
        return exact
    base = env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return base.rstrip("/") + _TRACES_PATH if base else None


def _sampler_of(env: Mapping[str, str]) -> tuple[float, bool]:
    name = env.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    if name not in _SAMPLERS:
        _ignored("OTEL_TRACES_SAMPLER", name, f"one of {', '.join(_SAMPLERS)}")
        name = "parentbased_always_on"
    ratio, parent_based = _SAMPLERS[name]
    if ratio is not None:
        return ratio, parent_based
    text = env.get("OTEL_TRACES_SAMPLER_ARG") or "1.0"
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        _ignored("OTEL_TRACES_SAMPLER_ARG", text, "a number from 0 to 1")
        ratio = 1.0
    return ratio, parent_based


def _timeout_of(env: Mapping[str, str]) -> float:
    """Seconds; the Python SDK reads the variable in seconds, whatever the specification says."""
    name = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"
    text = env.get(name) or env.get("OTEL_EXPORTER_OTLP_TIMEOUT") or "10"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if seconds > 0:
        return seconds
    _ignored("OTEL_EXPORTER_OTLP_TIMEOUT", text, "a number of seconds")
    return 10.0


def _pairs(text: str) -> dict[str, str]:
    """``a=1,b=2`` with percent-encoded values, as W3C baggage writes it."""
    pairs = (item.partition("=") for item in text.split(",") if "=" in item)
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


def _ignored(name: str, value: str, wanted: str) -> None:
    warnings.warn(
        f"{name} is {value!r}; it must be {wanted}. It is ignored.", RuntimeWarning, stacklevel=4
    )
