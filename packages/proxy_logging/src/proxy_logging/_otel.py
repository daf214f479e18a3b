"""The tracer over OpenTelemetry's SDK. It is imported where it is used: it is an extra."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from proxy_logging._otel_config import OpenTelemetryConfig
from proxy_logging._tracing import AttributeValue, NoSpan, Span, SpanAttributes, SpanKind
from proxy_logging._version import __version__

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler

__all__ = ["OtelTracer"]

# A caller that has decided against recording; asking the SDK would cost 15 µs to hear the same.
_NOT_SAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")


class OtelTracer:
    """Batches spans in a thread of the SDK's and sends them by OTLP over HTTP.

    It has a provider of its own: the process's global one and its current span are left alone.

    Raises:
        ImportError: without the extra ``otel``.
    """

    def __init__(self, config: OpenTelemetryConfig) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind as Kind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._parent_based = config.parent_based
        self._provider = _provider(config)
        self._tracer = self._provider.get_tracer("proxy_logging", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._no_parent = Context()
        self._kinds = {"internal": Kind.INTERNAL, "server": Kind.SERVER, "client": Kind.CLIENT}

    def span(
        self,
        name: str,
        *,
        traceparent: str | None = None,
        attributes: Mapping[str, AttributeValue | None] | None = None,
        kind: SpanKind = "internal",
    ) -> AbstractContextManager[Span]:
        """See `Tracer.span`."""
        parent = self._no_parent
        if traceparent is not None:
            if self._parent_based and _NOT_SAMPLED.fullmatch(traceparent):
                return NoSpan(traceparent)
            parent = self._propagator.extract({"traceparent": traceparent}, parent)
        given = {key: value for key, value in (attributes or {}).items() if value is not None}
        return _OtelSpan(self._tracer.start_span(name, parent, self._kinds[kind], attributes=given))

    def shutdown(self) -> None:
        """See `Tracer.shutdown`."""
        self._provider.shutdown()


class _OtelSpan:
    __slots__ = ("_ended", "_failed", "_span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._ended = False
        self._failed = False
        own = span.get_span_context()
        self.traceparent: str | None = None
        if own.is_valid:
            self.traceparent = f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        # A cancellation and a generator's end are BaseExceptions: the client left, nothing failed.
        if isinstance(error, Exception):
            self.failed(type(error).__name__)
        if not self._ended:
            self._ended = True
            self._span.end()

    def set(self, **attributes: AttributeValue | None) -> None:
        if self._ended:
            return
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name, value)

    def failed(self, code: str) -> None:
        """The first code stays: it is nearest to the cause. Texts aren't sent, they may quote."""
        if self._ended or self._failed:
            return
        from opentelemetry.trace import Status, StatusCode

        self._failed = True
        self._span.set_attribute(SpanAttributes.ERROR_TYPE, code)
        self._span.set_status(Status(StatusCode.ERROR, code))


def _provider(config: OpenTelemetryConfig) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(
        endpoint=config.traces_url,
        headers=dict(config.headers or {}),
        timeout=config.timeout,
    )
    about = {**(config.resource_attributes or {}), "service.name": config.service_name}
    provider = TracerProvider(
        sampler=_sampler(config), resource=Resource.create(about), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _sampler(config: OpenTelemetryConfig) -> Sampler:
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    by_ratio = TraceIdRatioBased(config.sample_ratio)
    return ParentBased(by_ratio) if config.parent_based else by_ratio
