"""Doubles for tests: log lines as a list, events as a list, spans that are counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import structlog

from proxy_logging._configure import use
from proxy_logging._events import Event
from proxy_logging._output import Level, Output
from proxy_logging._tracing import AttributeValue, Span, SpanKind

__all__ = ["CountedSpan", "CountingTracer", "RecordingObserver", "captured"]

_Kind = TypeVar("_Kind", bound=Event)


class _Decoded:
    """A stream that keeps each line as what its JSON says."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, text: str, /) -> None:
        """Decode what would have been written."""
        self.lines.extend(msgspec.json.decode(line) for line in text.splitlines())

    def flush(self) -> None:
        """Nothing waits."""


@contextmanager
def captured(level: Level = "debug") -> Iterator[list[dict[str, Any]]]:
    """The lines that every StructuredLogger of the process writes inside, decoded from their JSON.

    They are what would have been written: redacted, with timestamp, level, service and event. The
    configuration is as before afterwards. The standard library's loggers are not captured.
    """
    configured, before = structlog.is_configured(), structlog.get_config()
    stream = _Decoded()
    use(Output("json", level, stream))
    try:
        yield stream.lines
    finally:
        if configured:
            structlog.configure(**before)
        else:
            structlog.reset_defaults()


class RecordingObserver:
    """An observer that keeps the events, in order, in `events`."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, /) -> None:
        """Keep the event."""
        self.events.append(event)

    def of(self, kind: type[_Kind]) -> list[_Kind]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class CountedSpan:
    """What became of a span of a `CountingTracer`."""

    name: str
    traceparent: str | None
    """That of this span; its parent's is `parent`."""
    parent: str | None = None
    kind: SpanKind = "internal"
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    error: str | None = None
    """The first code that it failed with."""
    ended: int = 0
    """How often it has ended; anything but 1 is a fault of who held it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self.failed(type(error).__name__)
        self.ended += 1

    def set(self, **attributes: AttributeValue | None) -> None:
        """Keep the attributes that aren't None."""
        given = {name: value for name, value in attributes.items() if value is not None}
        self.attributes.update(given)

    def failed(self, code: str) -> None:
        """Keep the first code."""
        self.error = self.error or code


class CountingTracer:
    """A tracer that keeps its spans in `spans` and sends nothing."""

    def __init__(self) -> None:
        self.spans: list[CountedSpan] = []
        self.shutdowns = 0

    @property
    def spans_open(self) -> int:
        """How many were made and have not ended."""
        return sum(span.ended == 0 for span in self.spans)

    @property
    def spans_ended(self) -> int:
        """How often a span has ended."""
        return sum(span.ended for span in self.spans)

    def span(
        self,
        name: str,
        *,
        traceparent: str | None = None,
        attributes: Mapping[str, AttributeValue | None] | None = None,
        kind: SpanKind = "internal",
    ) -> AbstractContextManager[Span]:
        """A span that is open from now on."""
        number = len(self.spans) + 1
        trace_id = traceparent.split("-")[1] if traceparent else f"{number:032x}"
        span = CountedSpan(name, f"00-{trace_id}-{number:016x}-01", traceparent, kind)
        span.set(**(attributes or {}))
        self.spans.append(span)
        return span

    def shutdown(self) -> None:
        """Count the call."""
        self.shutdowns += 1
