"""What is known of one request, gathered on its way and told once at its end."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self

from proxy_api._arrival import Arrival, ClientGone
from proxy_api._errors import code_of, status_of, telling_of
from proxy_api._plan import Attempt, Plan
from proxy_core import Call, Headers, Reply, Usage
from proxy_core.errors import (
    NotCarried,
    RequestError,
    ShuttingDown,
    UpstreamError,
    UpstreamRejected,
    UpstreamThrottled,
)
from proxy_logging import (
    AttemptFailed,
    NoTracer,
    Observer,
    RequestFinished,
    RequestStarted,
    Span,
    Tracer,
)

__all__ = ["Record", "Recorder", "Spent"]

Outcome = Literal["ok", "refused", "failed", "gone"]

_FINE: Final[tuple[int, Outcome, str]] = (200, "ok", "")
GONE = 499
"""nginx's number for a client that closed its connection before it got a status."""


class Spent(NamedTuple):
    """What one answer has used."""

    tokens: int
    """Input and output."""
    output: int
    money: int | None
    """Nano-dollars; None without a price, and then what was reserved stays charged."""


class _NotKnown(NamedTuple):
    """What stands for the usage of a request without an answer."""

    input_tokens: None = None
    output_tokens: None = None
    cached_tokens: None = None
    reported: bool = True


_NONE_USED: Final = _NotKnown()


class Recorder:
    """Makes a Record for each request; tells the observer and the tracer."""

    def __init__(self, observer: Observer, tracer: Tracer, *, flags_unpriced: bool = False) -> None:
        self.observer = observer
        self.tracer = tracer
        self.flags_unpriced = flags_unpriced
        self._makes = Record if isinstance(tracer, NoTracer) else _Traced

    def record(self, arrival: Arrival) -> Record:
        return self._makes(arrival, self)


class Record:
    """One request, as a ``with`` block. At its end the event is sent."""

    __slots__ = (
        "_arrival",
        "_first_sent_at",
        "_flags_unpriced",
        "_observe",
        "_reply",
        "attempted",
        "attempts",
        "call",
        "cost",
        "key",
        "plan",
        "surface",
    )

    def __init__(self, arrival: Arrival, recorder: Recorder) -> None:
        self._arrival = arrival
        self._observe = recorder.observer
        self._flags_unpriced = recorder.flags_unpriced
        self.surface = arrival.surface
        self.call: Call | None = None
        self.plan: Plan | None = None
        self._reply: Reply | None = None
        self._first_sent_at: float | None = None
        self.key = ""
        self.attempted: Attempt | None = None
        """The last one."""
        self.attempts = 0
        self.cost: int | None = None
        """Nano-dollars, once it is settled and where a price is known."""

    @property
    def request_id(self) -> str:
        return self._arrival.request_id

    @property
    def is_committed(self) -> bool:
        """Whether there is an answer, or a status was sent: nobody else may be asked then."""
        return self._reply is not None or self._arrival.is_committed

    def attempt(self, attempt: Attempt) -> _Turn:
        """One upstream attempt, as a ``with`` block: counted, timed, and told when it fails."""
        now = time.monotonic()
        if self._first_sent_at is None:
            self._first_sent_at = now
        self.attempts += 1
        self.attempted = attempt
        return _Turn(self, attempt, now)

    @property
    def has_answer(self) -> bool:
        return self._reply is not None

    def spent(self) -> Spent:
        """What the answer has used, so far as it is known by now."""
        reply, asked = self._reply, self.attempted
        usage = Usage() if reply is None else reply.usage
        if asked is not None and asked.price is not None:
            self.cost = 0 if reply is None else asked.price.of(usage)
        return Spent(usage.input_tokens + usage.output_tokens, usage.output_tokens, self.cost)

    def failed(self, attempt: Attempt, failure: UpstreamError, began: float) -> None:
        """Tell of an attempt that failed, and began then."""
        self._observe(
            AttemptFailed(
                request_id=self.request_id,
                route=self.plan.route if self.plan else "",
                deployment=attempt.deployment.label,
                provider=attempt.provider,
                reason=failure.code,
                upstream_status=failure.upstream_status,
                duration=time.monotonic() - began,
                # What an upstream says may quote the prompt: that is for the client alone.
                message="" if failure.upstream_status else failure.message,
            )
        )

    def answered(self, reply: Reply) -> Reply:
        """The answer begins: note it, and say in its headers who gave it."""
        self._reply = reply
        headers = reply.headers
        if self.attempted is not None:
            headers += self._trail(self.attempted)
        if self._first_sent_at is not None:
            overhead = self._first_sent_at - self._arrival.received_at
            headers.append((b"x-llm-proxy-overhead-ms", b"%.1f" % (overhead * 1000)))
        if not reply.stream and self.attempted and self.attempted.price is not None:
            cost = self.attempted.price.of(reply.usage)
            headers.append((b"x-llm-proxy-cost", b"%.9f" % (cost / 1e9)))
        return reply

    def _trail(self, attempted: Attempt) -> Headers:
        return [
            (b"x-llm-proxy-deployment", attempted.shown),
            (b"x-llm-proxy-attempts", b"%d" % self.attempts),
        ]

    def __enter__(self) -> Self:
        self._observe(RequestStarted(request_id=self.request_id, surface=self.surface))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> RequestFinished:
        finished = self._finished(error)
        self._observe(finished)
        return finished

    def _finished(self, error: BaseException | None) -> RequestFinished:
        arrival, reply, call, asked = self._arrival, self._reply, self.call, self.attempted
        began, first_sent_at = arrival.received_at, self._first_sent_at
        usage: Usage | _NotKnown = _NONE_USED
        status, outcome, code = _FINE
        if error is not None:
            status, outcome, code = self._ended_by(error)
        content_at, is_unpriced = None, False
        if reply is not None:
            is_unpriced = self._flags_unpriced and asked is not None and asked.price is None
            usage = reply.usage
            if reply.status != 200 and error is None:
                status = reply.status
                outcome = "refused" if status >= 400 else "ok"
            content_at = reply.content_at if reply.stream else None
        return RequestFinished(
            request_id=arrival.request_id,
            surface=self.surface,
            status=status,
            outcome=outcome,
            duration=time.monotonic() - began,
            model="" if call is None else call.model,
            route="" if self.plan is None else self.plan.route,
            deployment="" if asked is None else asked.name,
            provider="" if asked is None else asked.provider,
            key=self.key,
            stream=arrival.is_stream,
            attempts=self.attempts,
            error=code,
            first_token=None if content_at is None else content_at - began,
            overhead=None if first_sent_at is None else first_sent_at - began,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            usage_estimated=not usage.reported,
            cost=self.cost,
            unpriced=is_unpriced,
        )

    def _ended_by(self, error: BaseException) -> tuple[int, Outcome, str]:
        """Status, outcome and the error's code; the answer will say who was asked."""
        if self.attempted is not None:
            self._arrival.trail = self._trail(self.attempted)
        if isinstance(error, asyncio.CancelledError) and not self._arrival.departure.gone:
            error = ShuttingDown("The server ended first.")
        if not isinstance(error, Exception) or isinstance(error, ClientGone):
            if self._reply is not None and self._reply.given:
                return _FINE  # it has all of its answer, and needs no more of us
            return 200 if self.is_committed else GONE, "gone", ""
        refused = isinstance(telling_of(error), RequestError | UpstreamRejected | NotCarried)
        status = 200 if self.is_committed else status_of(error)
        return status, "refused" if refused else "failed", code_of(error)


class _Turn:
    """One attempt: its time, and its deployment's load where somebody chooses by that."""

    __slots__ = ("_attempt", "_load", "_record", "_turn", "began")

    def __init__(self, record: Record, attempt: Attempt, began: float) -> None:
        self._record = record
        self._attempt = attempt
        plan, load = record.plan, attempt.deployment.load
        if plan is not None and plan.chaos is not None:
            load = None  # faults on purpose say nothing of the deployment
        self._load = load
        self._turn = None if load is None else load.begin(began)
        self.began = began

    def answered(self, reply: Reply) -> None:
        """The first content is here. A whole answer's time says how long it is, no more."""
        if self._turn is not None:
            self._turn.answered(reply.content_at or self.began, timed=reply.stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failure = error if isinstance(error, UpstreamError) else None
        if self._turn is not None:
            # That a request was wrong says nothing of how soon others are answered.
            failed = failure is not None and failure.retryable
            self._turn.end(time.monotonic(), failed=failed)
        if failure is not None:
            self._failed(failure)

    def _failed(self, failure: UpstreamError) -> None:
        if self._load is not None and isinstance(failure, UpstreamThrottled):
            wait = failure.retry_after or 0.0
            self._load.pause(time.monotonic() + wait, "throttled")
        self._record.failed(self._attempt, failure, self.began)


class _Traced(Record):
    """With a span that lasts as long as the request."""

    __slots__ = ("_span", "_tracing")

    def __init__(self, arrival: Arrival, recorder: Recorder) -> None:
        super().__init__(arrival, recorder)
        self._tracing = recorder.tracer.span(
            self.surface, traceparent=arrival.header(b"traceparent") or None
        )

    def __enter__(self) -> Self:
        self._span: Span = self._tracing.__enter__()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        finished = self._end(error)
        self._span.set(**_attributes(finished))
        if finished.outcome == "failed":
            self._span.failed(finished.error)
        self._tracing.__exit__(None, None, None)


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
