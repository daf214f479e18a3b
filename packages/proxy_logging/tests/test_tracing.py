"""Tracers: spans that reach a collector, spans that end once, and the null object."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from proxy_logging import (
    NoTracer,
    OpenTelemetryConfig,
    SpanAttributes,
    Tracer,
    create_tracer,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = PARENT[:-1] + "0"


@dataclass
class Collector:
    """What a collector has received."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def attributes(self, number: int = 0) -> dict[str, Any]:
        pairs = self.spans[number].attributes
        return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a loopback port that speaks OTLP over HTTP."""
    received = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            received.headers.append({name.lower(): text for name, text in self.headers.items()})
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                received.resources.append(
                    {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                )
                for scope in resource.scope_spans:
                    received.spans.extend(scope.spans)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        received.url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield received
        server.shutdown()
        thread.join()


def tracer_for(collector: Collector, **options: Any) -> Tracer:
    return create_tracer(OpenTelemetryConfig(otlp_endpoint=collector.url, **options))


class TestExport:
    def test_a_span_reaches_the_collector(self, collector: Collector) -> None:
        """Name, kind, attributes, resource and headers arrive as they were given."""
        tracer = tracer_for(
            collector,
            service_name="gateway",
            headers={"x-team": "red"},
            resource_attributes={"deployment.environment.name": "prod"},
        )
        attributes = {SpanAttributes.REQUEST_MODEL: "gpt", SpanAttributes.RESPONSE_ID: None}
        with tracer.span("chat gpt", attributes=attributes, kind="client") as span:
            span.set(**{SpanAttributes.INPUT_TOKENS: 10, SpanAttributes.OUTPUT_TOKENS: None})
            span.set(stream=True, share=0.5, finish=["stop"])
        tracer.shutdown()
        (sent,) = collector.spans
        assert (sent.name, sent.kind) == ("chat gpt", 3)
        given = collector.attributes()
        assert [value.string_value for value in given.pop("finish").values] == ["stop"]
        assert given == {
            "gen_ai.request.model": "gpt",
            "gen_ai.usage.input_tokens": 10,
            "stream": True,
            "share": 0.5,
        }
        assert sent.status.code == 0
        assert sent.end_time_unix_nano >= sent.start_time_unix_nano
        assert collector.resources[0]["service.name"] == "gateway"
        assert collector.resources[0]["deployment.environment.name"] == "prod"
        assert collector.headers[0]["x-team"] == "red"

    def test_joins_the_callers_trace(self, collector: Collector) -> None:
        """The span has the caller's trace and its span as parent, and hands its own on."""
        tracer = tracer_for(collector)
        with (
            tracer.span("request", traceparent=PARENT, kind="server") as request,
            tracer.span("attempt", traceparent=request.traceparent) as attempt,
        ):
            handed_on = attempt.traceparent
        tracer.shutdown()
        spans = {span.name: span for span in collector.spans}
        assert spans["request"].trace_id.hex() == PARENT.split("-")[1]
        assert spans["request"].parent_span_id.hex() == PARENT.split("-")[2]
        assert spans["attempt"].parent_span_id == spans["request"].span_id
        assert handed_on == f"00-{PARENT.split('-')[1]}-{spans['attempt'].span_id.hex()}-01"

    @pytest.mark.parametrize("header", ["", "rubbish", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
    def test_a_malformed_header_counts_as_none(self, collector: Collector, header: str) -> None:
        """A client's bad header begins a new trace."""
        tracer = tracer_for(collector)
        with tracer.span("x", traceparent=header):
            pass
        tracer.shutdown()
        assert collector.spans[0].parent_span_id == b""
        assert collector.spans[0].trace_id != bytes(16)

    def test_spans_do_not_nest_by_themselves(self, collector: Collector) -> None:
        """Without a traceparent each span is a trace; OpenTelemetry's current span is untouched."""
        tracer = tracer_for(collector)
        with tracer.span("one"), tracer.span("two"):
            assert not trace.get_current_span().get_span_context().is_valid
        tracer.shutdown()
        assert len({span.trace_id for span in collector.spans}) == 2

    def test_the_global_provider_is_left_alone(self, collector: Collector) -> None:
        """Making a tracer doesn't set the process's provider."""
        before = trace.get_tracer_provider()
        tracer_for(collector).shutdown()
        assert trace.get_tracer_provider() is before


class TestSampling:
    def test_a_caller_that_does_not_record_is_followed(self, collector: Collector) -> None:
        """Its header is handed on as it is, nothing is sent."""
        tracer = tracer_for(collector)
        with tracer.span("x", traceparent=NOT_SAMPLED) as span:
            span.set(a=1)
            span.failed("x")
            assert span.traceparent == NOT_SAMPLED
        tracer.shutdown()
        assert collector.spans == []

    def test_a_caller_is_not_followed_when_so_configured(self, collector: Collector) -> None:
        """With parent_based off only the ratio counts."""
        tracer = tracer_for(collector, parent_based=False)
        with tracer.span("x", traceparent=NOT_SAMPLED):
            pass
        tracer.shutdown()
        assert len(collector.spans) == 1

    def test_a_ratio_of_zero_sends_nothing_but_callers_wishes(self, collector: Collector) -> None:
        """A new trace is not recorded, nor are its children; a caller that records is."""
        tracer = tracer_for(collector, sample_ratio=0.0)
        with tracer.span("root") as root:
            assert root.traceparent is not None
            assert int(root.traceparent[-2:], 16) & 1 == 0
            with tracer.span("child", traceparent=root.traceparent):
                pass
        with tracer.span("asked for", traceparent=PARENT):
            pass
        tracer.shutdown()
        assert [span.name for span in collector.spans] == ["asked for"]


class TestEnd:
    @pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
    def test_a_cancellation_is_no_error(
        self, collector: Collector, error: type[BaseException]
    ) -> None:
        """A client that leaves ends the span once, without a failed status, and passes."""
        tracer = tracer_for(collector)
        with pytest.raises(error), tracer.span("x"):
            raise error
        tracer.shutdown()
        (sent,) = collector.spans
        assert sent.status.code == 0
        assert "error.type" not in collector.attributes()

    def test_an_exception_is_named_and_not_quoted(self, collector: Collector) -> None:
        """The class is sent; the text, which may hold a prompt or a key, is not."""
        tracer = tracer_for(collector)
        with pytest.raises(ValueError, match="CANARY"), tracer.span("x"):
            raise ValueError("CANARY")
        tracer.shutdown()
        (sent,) = collector.spans
        assert (sent.status.code, sent.status.message) == (2, "ValueError")
        assert collector.attributes() == {"error.type": "ValueError"}
        assert b"CANARY" not in sent.SerializeToString()

    def test_the_first_failure_stays(self, collector: Collector) -> None:
        """An error's code is not overwritten by the exception that follows it."""
        tracer = tracer_for(collector)
        with pytest.raises(OSError), tracer.span("x") as span:
            span.failed("upstream_timeout")
            span.failed("other")
            raise OSError
        tracer.shutdown()
        assert collector.attributes() == {"error.type": "upstream_timeout"}

    def test_after_the_end_nothing_happens(
        self, collector: Collector, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Setting, failing and leaving again after the end change and complain of nothing."""
        tracer = tracer_for(collector)
        manager = tracer.span("x")
        with caplog.at_level(logging.WARNING):
            with manager as span:
                pass
            span.set(a=1)
            span.failed("late")
            manager.__exit__(None, None, None)
        tracer.shutdown()
        (sent,) = collector.spans
        assert (sent.status.code, len(sent.attributes)) == (0, 0)
        assert caplog.records == []

    async def test_ends_when_a_stream_is_closed_in_another_task(self, collector: Collector) -> None:
        """A generator that holds a span and is closed elsewhere ends it, once."""
        tracer = tracer_for(collector)

        async def stream() -> Any:
            with tracer.span("stream"):
                yield 1
                yield 2

        body = stream()
        await asyncio.create_task(anext(body))
        await asyncio.create_task(body.aclose())
        await asyncio.to_thread(tracer.shutdown)
        assert [span.name for span in collector.spans] == ["stream"]


class TestNoTracer:
    @pytest.mark.parametrize("config", [None, OpenTelemetryConfig(enabled=False)])
    def test_without_configuration_there_is_no_tracing(
        self, config: OpenTelemetryConfig | None
    ) -> None:
        """None, and a configuration that is off, give the null object."""
        assert isinstance(create_tracer(config), NoTracer)

    def test_does_nothing_and_hands_the_header_on(self) -> None:
        """The null object has the whole surface; a caller's trace goes through unbroken."""
        tracer: Tracer = NoTracer()
        with pytest.raises(ValueError, match="passes"), tracer.span("x") as span:
            span.set(a=1)
            span.failed("x")
            assert span.traceparent is None
            raise ValueError("passes")
        with tracer.span("x", traceparent=PARENT, kind="server") as span:
            assert span.traceparent == PARENT
        tracer.shutdown()


def test_works_with_opentelemetry_made_unimportable() -> None:
    """Without the extra every module imports, everything runs, and tracing warns once."""
    code = """
        import importlib, pkgutil, sys, warnings
        sys.modules["opentelemetry"] = None
        import proxy_logging
        for module in pkgutil.iter_modules(proxy_logging.__path__, "proxy_logging."):
            importlib.import_module(module.name)
        from proxy_logging import *
        from proxy_logging.testing import captured
        with captured() as lines, bound_request("req"):
            LogObserver(StructuredLogger("s"))(
                RequestFinished(request_id="r", surface="s", status=200, outcome="ok", duration=1)
            )
        assert lines[0]["status"] == 200
        assert Metrics().render()[0]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tracer = create_tracer(OpenTelemetryConfig())
            with tracer.span("x") as span:
                span.set(a=1)
            tracer.shutdown()
        assert type(tracer) is NoTracer
        (warning,) = caught
        assert warning.category is RuntimeWarning
        assert "pip install proxy-logging[otel]" in str(warning.message)
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_importing_the_package_does_not_import_opentelemetry() -> None:
    """The extra, when installed, costs nothing until a tracer is made."""
    code = "import sys, proxy_logging.testing; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
