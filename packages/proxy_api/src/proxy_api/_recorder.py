"""What is known of one request, gathered on its way and told once at its end."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Literal, Self

from proxy_api._arrival import Arrival, ClientGone
from proxy_api._errors import code_of, status_of, telling_of
from proxy_api._plan import Attempt, Plan
from proxy_core import Call, Reply
from proxy_core.errors import RequestError, ShuttingDown, UpstreamError, UpstreamRejected
from proxy_logging import (
    AttemptFailed,
    NoTracer,
    Observer,
    RequestFinished,
    RequestStarted,
    Span,
    Tracer,
)

__all__ = ["Record", "Recorder"]

Outcome = Literal["ok", "refused", "failed", "gone"]

GONE = 499
"""nginx's number for a client that closed its connection before it got a status."""


class Recorder:
    """Makes a Record for each request; tells the observer and the tracer."""

    def __init__(self, observer: Observer, tracer: Tracer) -> None:
        self.observer = observer
        self.tracer = tracer
        self.traces = not isinstance(tracer, NoTracer)
        """Whether anybody looks at a span's attributes."""

    def record(self, arrival: Arrival) -> Record:
        return Record(arrival, self)


class Record:
    """One request, as a ``with`` block. At its end the span is closed and the event sent."""

    __slots__ = (
        "_arrival",
        "_first_sent_at",
        "_observe",
        "_reply",
        "_span",
        "_traces",
        "_tracing",
        "attempted",
        "attempts",
        "call",
        "key",
        "plan",
        "surface",
    )

    def __init__(self, arrival: Arrival, recorder: Recorder) -> None:
        self._arrival = arrival
        self._observe = recorder.observer
        self._traces = recorder.traces
        self.surface = arrival.dialect.name.rpartition(".")[2]
        self._tracing = recorder.tracer.span(
            self.surface, traceparent=arrival.header(b"traceparent") or None
        )
        self.call: Call | None = None
        self.plan: Plan | None = None
        self._reply: Reply | None = None
        self._first_sent_at: float | None = None
        self.key = ""
        self.attempted: Attempt | None = None
        """The last one."""
        self.attempts = 0

    @property
    def request_id(self) -> str:
        return self._arrival.request_id

    @property
    def is_committed(self) -> bool:
        """Whether there is an answer, or a status was sent: nobody else may be asked then."""
        return self._reply is not None or self._arrival.is_committed

    def attempt(self, attempt: Attempt) -> _Timed:
        """One upstream attempt, as a ``with`` block: counted, timed, and told when it fails."""
        now = time.monotonic()
        if self._first_sent_at is None:
            self._first_sent_at = now
        self.attempts += 1
        self.attempted = attempt
        return _Timed(self, attempt, now)

    def failed(self, attempt: Attempt, failure: UpstreamError, duration: float) -> None:
        """Tell of an attempt that failed after so many seconds."""
        self._observe(
            AttemptFailed(
                request_id=self.request_id,
                route=self.plan.route if self.plan else "",
                deployment=attempt.deployment.label,
                provider=attempt.deployment.provider.name,
                reason=failure.code,
                upstream_status=failure.upstream_status,
                duration=duration,
                # What an upstream says may quote the prompt: that is for the client alone.
                message="" if failure.upstream_status else failure.message,
            )
        )

    def answered(self, reply: Reply) -> Reply:
        """The answer begins: note it, and say in its headers who gave it."""
        self._reply = reply
        reply.headers += [
            (b"x-llm-proxy-deployment", b"" if self.attempted is None else self.attempted.shown),
            (b"x-llm-proxy-attempts", b"%d" % self.attempts),
        ]
        if (overhead := self._overhead) is not None:
            reply.headers.append((b"x-llm-proxy-overhead-ms", b"%.1f" % (overhead * 1000)))
        return reply

    def __enter__(self) -> Self:
        self._span: Span = self._tracing.__enter__()
        self._observe(RequestStarted(request_id=self.request_id, surface=self.surface))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, asyncio.CancelledError) and not self._arrival.departure.gone:
            error = ShuttingDown("The server ended first.")
        finished = self._finished(error)
        self._observe(finished)
        if self._traces:
            self._span.set(**_attributes(finished))
            if finished.outcome == "failed":
                self._span.failed(finished.error)
        self._tracing.__exit__(None, None, None)

    @property
    def _overhead(self) -> float | None:
        return (
            None if self._first_sent_at is None else self._first_sent_at - self._arrival.received_at
        )

    def _finished(self, error: BaseException | None) -> RequestFinished:
        reply, call, plan, asked = self._reply, self.call, self.plan, self.attempted
        usage = reply.usage if reply is not None else None
        content_at = reply.content_at if reply is not None and reply.stream else None
        return RequestFinished(
            request_id=self.request_id,
            surface=self.surface,
            status=self._status(error),
            outcome=_outcome(error),
            duration=time.monotonic() - self._arrival.received_at,
            model=call.model if call else "",
            route=plan.route if plan else "",
            deployment=asked.name if asked else "",
            provider=asked.deployment.provider.name if asked else "",
            key=self.key,
            stream=call.stream if call else False,
            attempts=self.attempts,
            error=_code(error),
            first_token=None if content_at is None else content_at - self._arrival.received_at,
            overhead=self._overhead,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            usage_estimated=usage is not None and not usage.reported,
        )

    def _status(self, error: BaseException | None) -> int:
        if self.is_committed:
            return 200
        return (
            status_of(error)
            if isinstance(error, Exception) and not isinstance(error, ClientGone)
            else GONE
        )


class _Timed:
    """The time of one attempt."""

    __slots__ = ("_attempt", "_began", "_record")

    def __init__(self, record: Record, attempt: Attempt, began: float) -> None:
        self._record = record
        self._attempt = attempt
        self._began = began

    def __enter__(self) -> None:
        """It has begun already."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, UpstreamError):
            self._record.failed(self._attempt, error, time.monotonic() - self._began)


def _outcome(error: BaseException | None) -> Outcome:
    if error is None:
        return "ok"
    if not isinstance(error, Exception) or isinstance(error, ClientGone):
        return "gone"
    refused = isinstance(telling_of(error), RequestError | UpstreamRejected)
    return "refused" if refused else "failed"


def _code(error: BaseException | None) -> str:
    if not isinstance(error, Exception) or isinstance(error, ClientGone):
        return ""
    return code_of(error)


def _attributes(finished: RequestFinished) -> dict[str, str | int | float]:
    told: dict[str, str | int | float | None] = {
        "gen_ai.operation.name": finished.surface,
        "gen_ai.request.model": finished.model,
        "gen_ai.provider.name": finished.provider,
        "gen_ai.usage.input_tokens": finished.input_tokens,
        "gen_ai.usage.output_tokens": finished.output_tokens,
        "http.response.status_code": finished.status,
        "llm_proxy.request_id": finished.request_id,
        "llm_proxy.deployment": finished.deployment,
        "llm_proxy.attempts": finished.attempts,
    }
    return {name: value for name, value in told.items() if value not in (None, "")}
