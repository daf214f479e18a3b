"""The doubles that other tests rely on."""

from __future__ import annotations

import asyncio
import contextlib
import io

import pytest
import structlog

from proxy_logging import Observer, RequestStarted, StructuredLogger, Tracer, configure_logging
from proxy_logging.testing import CountingTracer, RecordingObserver, captured


class TestCaptured:
    def test_gives_lines_as_they_would_be_written(self) -> None:
        """A line is a dict with the four fields, redacted."""
        with captured() as lines:
            StructuredLogger("s").debug("x", password="p", a=[1])
        (line,) = lines
        assert set(line) == {"timestamp", "level", "service", "event", "password", "a"}
        assert (line["level"], line["password"], line["a"]) == ("debug", "***", [1])

    def test_level_filters(self) -> None:
        """Only lines from the level up are kept."""
        with captured("warning") as lines:
            StructuredLogger("s").info("x")
            StructuredLogger("s").warning("y")
        assert [line["event"] for line in lines] == ["y"]

    @pytest.mark.parametrize("error", [None, ValueError])
    def test_restores_the_configuration(self, error: type[Exception] | None) -> None:
        """Afterwards lines go where they went before, also when the block failed."""
        stream = io.StringIO()
        configure_logging("json", "info", stream)
        with contextlib.suppress(ValueError), captured() as lines:
            kept = lines
            StructuredLogger("s").info("inside")
            if error:
                raise error
        StructuredLogger("s").info("outside")
        assert [line["event"] for line in kept] == ["inside"]
        assert "outside" in stream.getvalue()
        assert "inside" not in stream.getvalue()

    def test_restores_having_none(self) -> None:
        """A process that had configured nothing has configured nothing afterwards."""
        with captured():
            assert structlog.is_configured()
        assert not structlog.is_configured()


def test_recording_observer_keeps_events() -> None:
    """Events are there in order, and by kind."""
    observer = RecordingObserver()
    as_observer: Observer = observer
    event = RequestStarted(request_id="r", surface="chat")
    as_observer(event)
    assert observer.events == [event]
    assert observer.of(RequestStarted) == [event]


class TestCountingTracer:
    def test_counts_open_and_ended(self) -> None:
        """A span is open until its block is left."""
        counting = CountingTracer()
        tracer: Tracer = counting
        with tracer.span("x", attributes={"a": 1, "n": None}, kind="server") as span:
            span.set(b=2)
            assert (counting.spans_open, counting.spans_ended) == (1, 0)
        assert (counting.spans_open, counting.spans_ended) == (0, 1)
        assert counting.spans[0].attributes == {"a": 1, "b": 2}
        assert counting.spans[0].kind == "server"
        tracer.shutdown()
        assert counting.shutdowns == 1

    @pytest.mark.parametrize(
        ("error", "code"), [(ValueError, "ValueError"), (asyncio.CancelledError, None)]
    )
    def test_knows_failures_as_the_real_one_does(
        self, error: type[BaseException], code: str | None
    ) -> None:
        """An exception is a failure, a cancellation is not."""
        tracer = CountingTracer()
        with pytest.raises(error), tracer.span("x"):
            raise error
        assert (tracer.spans[0].error, tracer.spans[0].ended) == (code, 1)

    def test_a_child_has_its_parents_trace(self) -> None:
        """What is handed on says whose child a span is."""
        tracer = CountingTracer()
        with tracer.span("a") as parent, tracer.span("b", traceparent=parent.traceparent) as child:
            assert parent.traceparent is not None
            assert child.traceparent is not None
            assert child.traceparent.split("-")[1] == parent.traceparent.split("-")[1]
            assert child.traceparent != parent.traceparent
        assert tracer.spans[1].parent == parent.traceparent
