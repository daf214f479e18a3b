"""Structured logs, Prometheus metrics and OpenTelemetry spans for a proxy, each of them optional.

What happens is said once, as a frozen event (`RequestFinished`, `AttemptFailed`, …), and handed to
an observer: `LogObserver` writes a line, `Metrics` counts, `fan_out` hands on to several. The
logger works as it stands, hides secrets and never breaks a request; tracing is a null object until
the extra ``otel`` is there. The doubles for tests are in `proxy_logging.testing`.

    from proxy_logging import LogObserver, Metrics, StructuredLogger, fan_out
    logger = StructuredLogger("proxy-service")
    observe = fan_out(LogObserver(logger), Metrics())
    logger.info("started", port=4000)
"""

from __future__ import annotations

import importlib
import typing

from proxy_logging._version import __version__ as __version__

if typing.TYPE_CHECKING:
    from proxy_logging._configure import configure_logging
    from proxy_logging._events import (
        AttemptFailed,
        BreakerChanged,
        ConfigReloaded,
        CredentialChanged,
        Event,
        Observer,
        RequestFinished,
        RequestStarted,
        StoreChanged,
    )
    from proxy_logging._fan_out import fan_out
    from proxy_logging._journal import stderr_is_journal
    from proxy_logging._logger import StructuredLogger
    from proxy_logging._metrics import Metrics, NoMetrics
    from proxy_logging._observers import LogObserver
    from proxy_logging._otel_config import OpenTelemetryConfig
    from proxy_logging._request import bound_request
    from proxy_logging._tracing import NoTracer, Span, SpanAttributes, Tracer, create_tracer

__all__ = [
    "AttemptFailed",
    "BreakerChanged",
    "ConfigReloaded",
    "CredentialChanged",
    "Event",
    "LogObserver",
    "Metrics",
    "NoMetrics",
    "NoTracer",
    "Observer",
    "OpenTelemetryConfig",
    "RequestFinished",
    "RequestStarted",
    "Span",
    "SpanAttributes",
    "StoreChanged",
    "StructuredLogger",
    "Tracer",
    "bound_request",
    "configure_logging",
    "create_tracer",
    "fan_out",
    "stderr_is_journal",
]

_OTHERS = {
    "LogObserver": "_observers",
    "Metrics": "_metrics",
    "NoMetrics": "_metrics",
    "OpenTelemetryConfig": "_otel_config",
    "StructuredLogger": "_logger",
    "bound_request": "_request",
    "configure_logging": "_configure",
    "fan_out": "_fan_out",
    "stderr_is_journal": "_journal",
    **dict.fromkeys(("NoTracer", "Span", "SpanAttributes", "Tracer", "create_tracer"), "_tracing"),
}


def __getattr__(name: str) -> object:
    """Import a name when it is asked for.

    structlog and prometheus-client take 100 ms; who only tells of events needs neither.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_OTHERS.get(name, '_events')}"), name)
    globals()[name] = value
    return value
