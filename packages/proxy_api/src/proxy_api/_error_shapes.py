"""How each dialect's clients are told of an error, and what keeps their silent streams alive.

What official SDKs make of each was tried with them; the shapes are their providers'.
Sources: platform.openai.com/docs/api-reference, docs.anthropic.com/en/api/errors,
google.aip.dev/193 and google/rpc/error_details.proto.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import msgspec

from proxy_api._errors import Fault, LimitStyle, fault_of, wait_headers
from proxy_core import Headers

__all__ = [
    "ANTHROPIC",
    "ErrorAnswer",
    "GEMINI",
    "OPENAI",
    "RESPONSES",
    "Shape",
    "answer_of",
    "answer_to",
    "shape_for",
    "shape_of",
]

_OVERLOADED: Final = 529
"""Anthropic's own status for it; its SDK has a class for that."""
_SPENT: Final = "insufficient_quota"
_ANTHROPIC_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        _OVERLOADED: "overloaded_error",
    }
)
_GOOGLE_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        405: "UNIMPLEMENTED",
        409: "ABORTED",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        502: "UNAVAILABLE",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }
)
_GOOGLE_TYPE: Final = "type.googleapis.com/google.rpc."
_NUMBERED: Final = re.compile(rb'"sequence_number":\s*([0-9]{1,15})')

_encode = msgspec.json.Encoder().encode


class Shape(Protocol):
    """How one dialect tells an error. All of it is pure."""

    keepalive: ClassVar[bytes]
    """What a client that waits for an event takes for nothing."""
    limits: ClassVar[LimitStyle]
    """Whose names the headers of limits have."""
    id_headers: ClassVar[tuple[bytes, ...]]
    """In which headers the request's id is."""

    def status(self, fault: Fault) -> int: ...

    def whole(self, fault: Fault, request_id: str) -> bytes:
        """The body of an answer that is an error."""
        ...

    def event(self, fault: Fault, request_id: str, last: bytes) -> bytes:
        """The error in a stream whose 200 is spent; ``last`` is what was sent of it last."""
        ...


class ErrorAnswer(NamedTuple):
    """A whole error answer."""

    status: int
    headers: Headers
    body: bytes


class _OpenAI:
    """Both OpenAI SDKs raise on a data line with an error in it, whatever the event's name."""

    keepalive: ClassVar = b": keepalive\n\n"
    limits: ClassVar[LimitStyle] = "openai"
    id_headers: ClassVar[tuple[bytes, ...]] = (b"x-request-id",)

    def status(self, fault: Fault) -> int:
        return fault.status

    def whole(self, fault: Fault, request_id: str) -> bytes:
        error = {
            "message": fault.message,
            "type": fault.type,
            "param": fault.param,
            "code": fault.code,
        }
        return _encode({"error": error})

    def event(self, fault: Fault, request_id: str, last: bytes) -> bytes:
        return b"data: " + self.whole(fault, request_id) + b"\n\n"


class _Responses(_OpenAI):
    """In a stream of the Responses API an error is an event of its own, numbered like others.

    OpenAI's SDKs raise for an ``error`` inside an event and overlook the event's own fields; other
    clients know those alone. So it is told in both ways.
    """

    def event(self, fault: Fault, request_id: str, last: bytes) -> bytes:
        numbers = _NUMBERED.findall(last)
        told = {"code": fault.code, "message": fault.message, "param": fault.param}
        error = {
            "type": "error",
            **told,
            "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
            "error": {"type": fault.type, **told},
        }
        return b"event: error\ndata: " + _encode(error) + b"\n\n"


class _Anthropic:
    keepalive: ClassVar = b'event: ping\ndata: {"type": "ping"}\n\n'
    limits: ClassVar[LimitStyle] = "anthropic"
    id_headers: ClassVar[tuple[bytes, ...]] = (b"x-request-id", b"request-id")

    def status(self, fault: Fault) -> int:
        if fault.is_overload:
            return _OVERLOADED
        # A client that is told 429 would come back; a budget is a matter of payment.
        return 402 if fault.code == _SPENT else fault.status

    def whole(self, fault: Fault, request_id: str) -> bytes:
        status = self.status(fault)
        other = "invalid_request_error" if status < 500 else "api_error"
        error = {
            "type": _ANTHROPIC_TYPES.get(status, other),
            "message": fault.message,
            "details": fault.details or {"error_code": fault.code},
        }
        return _encode({"type": "error", "error": error, "request_id": request_id})

    def event(self, fault: Fault, request_id: str, last: bytes) -> bytes:
        return b"event: error\ndata: " + self.whole(fault, request_id) + b"\n\n"


class _Gemini:
    # google-genai reads a comment line as JSON, and fails; an empty line is nothing to it.
    keepalive: ClassVar = b"\n\n"
    limits: ClassVar[LimitStyle] = "openai"
    id_headers: ClassVar[tuple[bytes, ...]] = (b"x-request-id",)

    def status(self, fault: Fault) -> int:
        return fault.status

    def whole(self, fault: Fault, request_id: str) -> bytes:
        other = "INVALID_ARGUMENT" if fault.status < 500 else "INTERNAL"
        error = {
            "code": fault.status,
            "message": fault.message,
            "status": _GOOGLE_STATUS.get(fault.status, other),
            "details": _google_details(fault, request_id),
        }
        return _encode({"error": error})

    def event(self, fault: Fault, request_id: str, last: bytes) -> bytes:
        return b"data: " + self.whole(fault, request_id) + b"\n\n"


def _google_details(fault: Fault, request_id: str) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = [
        {"@type": _GOOGLE_TYPE + "ErrorInfo", "reason": fault.code.upper(), "domain": "llm-proxy"},
        {"@type": _GOOGLE_TYPE + "RequestInfo", "requestId": request_id},
    ]
    if fault.param is not None:
        violation = {"field": fault.param, "description": fault.message}
        details.append({"@type": _GOOGLE_TYPE + "BadRequest", "fieldViolations": [violation]})
    if fault.wait is not None:
        wait = {"retryDelay": f"{max(fault.wait, 0.0):.3f}s"}
        details.append({"@type": _GOOGLE_TYPE + "RetryInfo", **wait})
    return details


OPENAI: Final[Shape] = _OpenAI()
RESPONSES: Final[Shape] = _Responses()
ANTHROPIC: Final[Shape] = _Anthropic()
GEMINI: Final[Shape] = _Gemini()

_OF_DIALECTS: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        "openai.responses": RESPONSES,
        "anthropic.messages": ANTHROPIC,
        "anthropic.count_tokens": ANTHROPIC,
        "gemini.generate": GEMINI,
        "gemini.count_tokens": GEMINI,
    }
)
_OF_PATHS: Final = (
    ("/v1/messages", ANTHROPIC),
    ("/messages", ANTHROPIC),
    ("/v1/v1/messages", ANTHROPIC),
    ("/v1beta", GEMINI),
    ("/v1alpha", GEMINI),
    ("/v1/v1beta", GEMINI),
)
_OF_HEADERS: Final = ((b"anthropic-version", ANTHROPIC), (b"x-goog-api-client", GEMINI))


def shape_of(dialect: str) -> Shape:
    """That of a dialect's clients."""
    return _OF_DIALECTS.get(dialect, OPENAI)


def shape_for(path: str, header: Callable[[bytes], str]) -> Shape:
    """That of whoever asks for this path: by the path, else by what its SDK sends."""
    for beginning, shape in _OF_PATHS:
        if path == beginning or path.startswith(beginning + "/"):
            return shape
    return next((shape for name, shape in _OF_HEADERS if header(name)), OPENAI)


def answer_to(error: Exception, shape: Shape, request_id: str) -> ErrorAnswer:
    """Status, headers and body for a client that has not got a status yet."""
    return answer_of(fault_of(error), shape, request_id, wait_headers(error, shape.limits))


def answer_of(fault: Fault, shape: Shape, request_id: str, headers: Headers) -> ErrorAnswer:
    """The same for an error that has no type of ours. The request's id isn't in its headers."""
    body = shape.whole(fault, request_id)
    told = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return ErrorAnswer(shape.status(fault), told + headers, body)
