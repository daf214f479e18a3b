"""Spans as the rest of the proxy knows them, and the tracer that makes none."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, Protocol, Self

from proxy_logging._otel_config import OpenTelemetryConfig

__all__ = [
    "AttributeValue",
    "NoTracer",
    "Span",
    "SpanAttributes",
    "SpanKind",
    "Tracer",
    "create_tracer",
]

AttributeValue = str | bool | int | float | Sequence[str]
SpanKind = Literal["internal", "server", "client"]


class SpanAttributes:
    """Attribute names of OpenTelemetry's semantic conventions, the generative AI ones first.

    https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
    """

    OPERATION_NAME = "gen_ai.operation.name"
    """``chat``, ``text_completion``, ``embeddings``."""
    PROVIDER_NAME = "gen_ai.provider.name"
    """``openai``, ``anthropic``, ``gcp.gemini``, …"""
    REQUEST_MODEL = "gen_ai.request.model"
    RESPONSE_MODEL = "gen_ai.response.model"
    RESPONSE_ID = "gen_ai.response.id"
    FINISH_REASONS = "gen_ai.response.finish_reasons"
    INPUT_TOKENS = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
    CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
    ERROR_TYPE = "error.type"
    """The error's code; set by ``failed``."""
    STATUS_CODE = "http.response.status_code"
    SERVER_ADDRESS = "server.address"
    SERVER_PORT = "server.port"


class Span(Protocol):
    """A span that is open. It ends with the block that made it."""

    @property
    def traceparent(self) -> str | None:
        """What to hand on, upstream or to a child, as W3C's header; None when there is no trace."""

    def set(self, **attributes: AttributeValue | None) -> None:
        """Set attributes; those that are None are left out. After the end it does nothing."""

    def failed(self, code: str) -> None:
        """Mark the span as failed with an error's code, as the client sees it."""


class Tracer(Protocol):
    """Makes spans."""

    def span(
        self,
        name: str,
        *,
        traceparent: str | None = None,
        attributes: Mapping[str, AttributeValue | None] | None = None,
        kind: SpanKind = "internal",
    ) -> AbstractContextManager[Span]:
        """A span that lasts as long as the block.

        An exception that leaves the block marks it as failed with its class's name; a cancellation
        or a closed generator doesn't. Nothing nests by itself: a child is made by handing it its
        parent's ``traceparent``, so no context variable can be left behind by a stream.

        Args:
            name: what is done, of few different values: ``chat gpt-5-mini``.
            traceparent: the caller's header; one that is malformed counts as none.
            attributes: set from the start, so that a sampler sees them.
            kind: ``server`` for a client's request, ``client`` for a call to a provider.
        """

    def shutdown(self) -> None:
        """Send what is waiting, once, and for good.

        It blocks, for about the configuration's timeout when the collector can't be reached: where
        a loop runs, call it in a thread.
        """


class NoSpan:
    """A span that isn't. It hands its parent on, so that a trace doesn't break here."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        return None

    def set(self, **attributes: AttributeValue | None) -> None:
        return None

    def failed(self, code: str) -> None:
        return None


class NoTracer:
    """Has the surface of a `Tracer` and records nothing; a given ``traceparent`` is handed on."""

    def span(
        self,
        name: str,
        *,
        traceparent: str | None = None,
        attributes: Mapping[str, AttributeValue | None] | None = None,
        kind: SpanKind = "internal",
    ) -> AbstractContextManager[Span]:
        """A span that records nothing."""
        return NoSpan(traceparent)

    def shutdown(self) -> None:
        """Nothing waits."""


def create_tracer(config: OpenTelemetryConfig | None) -> Tracer:
    """The tracer for a configuration.

    Args:
        config: None, or one that isn't enabled, gives a `NoTracer`. So does a missing extra, with a
            RuntimeWarning that names it: tracing never keeps a proxy from starting.
    """
    if config is None or not config.enabled:
        return NoTracer()
    from proxy_logging._otel import OtelTracer

    try:
        return OtelTracer(config)
    except ImportError as error:
        warnings.warn(
            "tracing is configured, but OpenTelemetry is not installed"
            f" ({error}): pip install proxy-logging[otel]",
            RuntimeWarning,
            stacklevel=2,
        )
        return NoTracer()
