"""What is known of one request, gathered on its way and told once at its end."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Literal, NamedTuple, Self

import msgspec

from proxy_api._arrival import Arrival, ClientGone
from proxy_api._errors import code_of, status_of, telling_of
from proxy_api._keys import Key
from proxy_api._plan import Attempt, Plan
from proxy_core import Call, Load, Reply, Turn, Usage
from proxy_core.dialects import Document
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

__all__ = ["Record", "Recorder"]

Outcome = Literal["ok", "refused", "failed", "gone"]

_FINE: Final[tuple[int, Outcome, str]] = (200, "ok", "")
_DEPLOYMENT: Final = b"x-llm-proxy-deployment"
_ATTEMPTS: Final = b"x-llm-proxy-attempts"
_ONE_ATTEMPT: Final = (_ATTEMPTS, b"1")
_NOBODY: Final = Key("", "")
"""What stands for the key, and for the call, until they are known."""
_NOTHING: Final = Call(dialect="", body=Document(b"", {}), model="")
GONE = 499
"""nginx's number for a client that closed its connection before it got a status."""


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
        "_recorder",
        "attempted",
        "attempts",
        "call",
        "cost",
        "key",
        "overhead",
        "plan",
        "reply",
        "request_id",
    )

    def __init__(self, arrival: Arrival, recorder: Recorder) -> None:
        self._arrival = arrival
        self._recorder = recorder
        self.request_id = arrival.request_id
        self.key = _NOBODY
        self.call = _NOTHING
        self.plan: Plan | None = None
        self.attempted: Attempt | None = None
        """The last one."""
        self.attempts = 0
        self.overhead: float | None = None
        """Seconds before the first one was sent."""
        self.reply: Reply | None = None
        """The answer, once it has begun."""
        self.cost: int | None = None
        """Nano-dollars, once it is settled and where a price is known."""

    @property
    def is_committed(self) -> bool:
        """Whether there is an answer, or a status was sent: nobody else may be asked then."""
        return self.reply is not None or self._arrival.is_committed

    def attempt(self, attempt: Attempt) -> _Turn:
        """One upstream attempt, as a ``with`` block: counted, timed, and told when it fails."""
        now = time.monotonic()
        if self.overhead is None:
            self.overhead = now - self._arrival.received_at
        self.attempts += 1
        self.attempted = attempt
        if attempt.deployment.load is None:
            return _Turn(self, attempt, now)
        return self._weighed(attempt, attempt.deployment.load, now)

    def _weighed(self, attempt: Attempt, load: Load, now: float) -> _Turn:
        if self.plan is not None and self.plan.chaos is not None:
            # Faults on purpose say nothing of the deployment.
            return _Turn(self, attempt, now)
        return _WeighedTurn(self, attempt, now, load, load.begin(now))

    def spent(self, usage: Usage) -> tuple[int, int, int | None]:
        """What the answer has used: tokens, those of its output, and nano-dollars.

        None without a price, and then what was reserved stays charged.
        """
        asked, output = self.attempted, usage.output_tokens
        if asked is not None and asked.price is not None:
            self.cost = asked.price.of(usage)
        return usage.input_tokens + output, output, self.cost

    def failed(self, attempt: Attempt, failure: UpstreamError, began: float) -> None:
        """Tell of an attempt that failed, and began then."""
        self._recorder.observer(
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
        self.reply = reply
        asked, overhead = self.attempted, self.overhead
        if asked is None or overhead is None:
            return reply
        headers = reply.headers
        headers += (
            (_DEPLOYMENT, asked.shown),
            _ONE_ATTEMPT if self.attempts == 1 else (_ATTEMPTS, b"%d" % self.attempts),
            (b"x-llm-proxy-overhead-ms", b"%.1f" % (overhead * 1000)),
        )
        if asked.price is not None and not reply.stream:
            headers.append((b"x-llm-proxy-cost", b"%.9f" % (asked.price.of(reply.usage) / 1e9)))
        return reply

    def __enter__(self) -> Self:
        self._recorder.observer(
            RequestStarted(request_id=self.request_id, surface=self._arrival.face.name)
        )
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._recorder.observer(self._finished(error))

    def _finished(self, error: BaseException | None) -> RequestFinished:
        arrival, plan, asked, reply = self._arrival, self.plan, self.attempted, self.reply
        began, first_token, is_unpriced = arrival.received_at, None, False
        usage: Usage | _NotKnown = _NONE_USED
        status, outcome, code = _FINE if error is None else self._ended_by(error)
        if reply is not None:
            usage = reply.usage
            if reply.status != 200 and error is None:
                status = reply.status
                outcome = "refused" if status >= 400 else "ok"
            if reply.stream and reply.content_at is not None:
                first_token = reply.content_at - began
            if asked is not None and asked.price is None:
                is_unpriced = self._recorder.flags_unpriced
        # By their places: two dozen names would make a dict for each request.
        return RequestFinished(
            self.request_id,
            arrival.face.name,
            status,
            outcome,
            time.monotonic() - began,
            self.call.model,
            "" if plan is None else plan.route,
            "" if asked is None else asked.name,
            "" if asked is None else asked.provider,
            self.key.name,
            arrival.is_stream,
            self.attempts,
            code,
            first_token,
            self.overhead,
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            not usage.reported,
            "off",
            self.cost,
            is_unpriced,
        )

    def _ended_by(self, error: BaseException) -> tuple[int, Outcome, str]:
        """Status, outcome and the error's code; the answer will say who was asked."""
        if self.attempted is not None:
            self._arrival.trail = [
                (_DEPLOYMENT, self.attempted.shown),
                (_ATTEMPTS, b"%d" % self.attempts),
            ]
        if isinstance(error, asyncio.CancelledError) and not self._arrival.departure.gone:
            error = ShuttingDown("The server ended first.")
        if not isinstance(error, Exception) or isinstance(error, ClientGone):
            if self.reply is not None and self.reply.given:
                return _FINE  # it has all of its answer, and needs no more of us
            return 200 if self.is_committed else GONE, "gone", ""
        refused = isinstance(telling_of(error), RequestError | UpstreamRejected | NotCarried)
        status = 200 if self.is_committed else status_of(error)
        return status, "refused" if refused else "failed", code_of(error)


# Structs rather than classes: they are made without a Python frame.


class _Turn(msgspec.Struct, eq=False):
    """One attempt, and when it began."""

    _record: Record
    _attempt: Attempt
    began: float

    def answered(self, reply: Reply) -> None:
        """The first content is here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UpstreamError):
            self._record.failed(self._attempt, error, self.began)


class _WeighedTurn(_Turn, eq=False):
    """One of a deployment whose load somebody chooses by."""

    _load: Load
    _turn: Turn

    def answered(self, reply: Reply) -> None:
        """The first content is here. A whole answer's time says how long it is, no more."""
        self._turn.answered(reply.content_at or self.began, timed=reply.stream)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # That a request was wrong says nothing of how soon others are answered.
        failed = isinstance(error, UpstreamError) and error.retryable
        self._turn.end(time.monotonic(), failed=failed)
        if isinstance(error, UpstreamThrottled):
            self._load.pause(time.monotonic() + (error.retry_after or 0.0), "throttled")
        super().__exit__(kind, error, trace)


class _Traced(Record):
    """With a span that lasts as long as the request."""

    __slots__ = ("_span", "_tracing")

    def __init__(self, arrival: Arrival, recorder: Recorder) -> None:
        super().__init__(arrival, recorder)
        self._tracing = recorder.tracer.span(
            arrival.face.name, traceparent=arrival.header(b"traceparent") or None
        )

    def __enter__(self) -> Self:
        self._span: Span = self._tracing.__enter__()
        return super().__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        super().__exit__(kind, error, trace)
        self._tracing.__exit__(None, None, None)

    def _finished(self, error: BaseException | None) -> RequestFinished:
        finished = super()._finished(error)
        self._span.set(**_attributes(finished))
        if finished.outcome == "failed":
            self._span.failed(finished.error)
        return finished


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
