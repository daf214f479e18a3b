"""What an upstream's refusal means: one table from statuses and codes to our errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import msgspec

from proxy_core.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamModelMissing,
    UpstreamProtocolError,
    UpstreamRefusedCredential,
    UpstreamRejected,
    UpstreamThrottled,
)

__all__ = ["Complaint", "failure_from_answer", "failure_in_body", "retry_after_of"]

MAX_MESSAGE: Final = 2_000
"""Characters of an upstream's message that we pass on."""
_MAX_CODE: Final = 64
_MAX_PARAM: Final = 256

_MONEY_CODES: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_error",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
    }
)
"""These come as 429 (or 402, 403), but no waiting helps: the account has no money."""

_STATUS_OF_CODE: Final = {
    # OpenAI and those who imitate it, Anthropic
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "overloaded_error": 503,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "content_policy_violation": 400,
    "content_filter": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "billing_error": 402,
    "request_too_large": 413,
    "timeout_error": 504,
    # Google: https://cloud.google.com/apis/design/errors
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "API_KEY_INVALID": 401,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    # Bedrock: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
    "ValidationException": 400,
    "UnrecognizedClientException": 401,
    "ExpiredTokenException": 401,
    "InvalidSignatureException": 401,
    "IncompleteSignatureException": 401,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ServiceQuotaExceededException": 429,
    "ThrottlingException": 429,
    "ModelNotReadyException": 429,
    "ServiceUnavailableException": 503,
}
"""For errors that come inside a 200 or a stream, where no status says what they are."""

_KNOWN_CODES: Final = _MONEY_CODES | _STATUS_OF_CODE.keys()
_OUR_CREDENTIAL: Final = frozenset({401, 402, 403})
_BAD_REQUEST: Final = frozenset({400, 413, 415, 422})
"""The others of 4xx (a wrong path, a conflict, a proxy on the way) speak of the upstream."""
_KEY_CODES: Final = frozenset(
    {
        "invalid_api_key",
        "authentication_error",
        "API_KEY_INVALID",
        "UnrecognizedClientException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "IncompleteSignatureException",
    }
)
_WRONG_KEY: Final = re.compile(
    r"(incorrect|invalid) api key|api key (not valid|expired)|credit balance is too low",
    re.IGNORECASE,
)
"""How OpenAI's imitators and Gemini refuse a key with a 400, and Anthropic an empty account."""
_TELLS_MORE: Final = {"ServiceQuotaExceededException": 429}
"""Codes that know better than the status that they come with (400)."""
_NO_MODEL: Final = re.compile(r"model identifier is invalid", re.IGNORECASE)
"""How Bedrock says in a 400 that it doesn't know the model."""
_CLIENT_TYPES: Final = frozenset({"invalid_request_error", "not_supported_error"})
_CLIENT_WORDS: Final = re.compile(
    r"(image|audio) input is not supported|too large to process", re.IGNORECASE
)
"""How llama.cpp says in a 500 or 501 that the request was wrong."""
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_HTTP_ERROR: Final = re.compile(r"[45][0-9][0-9]")
_LONGEST_WAIT: Final = 30 * 86_400.0
"""Seconds; nobody means more, and infinity is no number to reckon with."""
_WORDS: Final = (
    (
        "context_length_exceeded",
        re.compile(
            r"maximum context length|exceeds? the (available )?context|too large to process"
            r"|prompt is too long|exceed context limit|exceeds the maximum number of tokens"
            r"|input is too long|too many tokens: ",
            re.IGNORECASE,
        ),
    ),
    (
        "content_policy_violation",
        re.compile(r"content filtering policy|violat\w+ our usage polic", re.IGNORECASE),
    ),
)
"""How those without a code for it say that the input doesn't fit (vLLM, llama.cpp, Anthropic,
Gemini, Bedrock, Cohere), or that they won't answer it (Anthropic, OpenAI)."""
_VAGUE: Final = frozenset({"", "invalid_prompt", "invalid_request_error", "invalid_parameter"})
"""Codes that say less than the words."""
_MESSAGES: Final = ("message", "detail", "Message", "error")
_TYPES: Final = ("type", "status", "__type")
_AMAZON: Final = b"x-amzn-errortype"
_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
"""https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto"""
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)s")


class Complaint(NamedTuple):
    """The error object of an answer, as far as it can be read."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str | None = None
    status: int = 0
    """Where the error says one itself."""
    retry_after: float | None = None


def failure_from_answer(
    status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> UpstreamError:
    """The error that an answer with a status other than 200 stands for."""
    complaint = _read_body(body)
    known = dict(headers)
    if not complaint.type:
        complaint = complaint._replace(type=_bare_type(known.get(_AMAZON, b"").decode("latin-1")))
    return _failure(status, complaint, retry_after_of(known.items()))


def failure_in_body(error: msgspec.Raw | bytes) -> UpstreamError:
    """The error inside a 200: ``error`` is the JSON value of its ``error`` field."""
    complaint = _read_error(bytes(error))
    if not complaint.message:
        complaint = complaint._replace(message="the upstream reported an error in its answer")
    if complaint.status:
        return _failure(complaint.status, complaint, None)
    status = _STATUS_OF_CODE.get(complaint.code) or _STATUS_OF_CODE.get(complaint.type) or 500
    return _failure(status, complaint, None)


def retry_after_of(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Seconds from ``retry-after-ms`` or ``retry-after`` (seconds or a date), else None."""
    found = {name: value.decode("latin-1").strip() for name, value in headers}
    milliseconds = found.get(b"retry-after-ms", "")
    if _NUMBER.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, _LONGEST_WAIT)
    seconds = found.get(b"retry-after", "")
    if _NUMBER.fullmatch(seconds):
        return min(float(seconds), _LONGEST_WAIT)
    return _seconds_until(seconds) if seconds else None


def _seconds_until(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return min(max(0.0, at.timestamp() - time.time()), _LONGEST_WAIT)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _failure(status: int, complaint: Complaint, retry_after: float | None) -> UpstreamError:
    status = _TELLS_MORE.get(complaint.type, status)
    if status >= 500 and _blames_client(complaint):
        status = 400
    if status == 400 and _NO_MODEL.search(complaint.message):
        status = 404
    if retry_after is None:
        retry_after = complaint.retry_after
    kind = _kind(status, complaint)
    if kind is UpstreamRefusedCredential:
        return _credential_refused(status, complaint, retry_after)
    told = complaint.message or f"the upstream answered {status}"
    if kind is UpstreamProtocolError:
        told = f"the upstream answered {status}, which is neither an answer nor an error"
    if kind is UpstreamModelMissing:
        # Its own words and param hold its own name for the model.
        return kind("the upstream does not serve this model", upstream_status=status)
    return kind(
        told[:MAX_MESSAGE],
        upstream_status=status,
        upstream_code=(complaint.code or complaint.type)[:_MAX_CODE] or None,
        retry_after=retry_after,
        param=None if complaint.param is None else complaint.param[:_MAX_PARAM],
    )


def _credential_refused(
    status: int, complaint: Complaint, retry_after: float | None
) -> UpstreamRefusedCredential:
    """Nothing of the upstream's own text: it may quote our key, no client's affair."""
    known = (text for text in (complaint.code, complaint.type) if text in _KNOWN_CODES)
    code = next(known, None)
    told = f"the upstream refused the proxy's own credential ({status}{f' {code}' if code else ''})"
    return UpstreamRefusedCredential(
        told, upstream_status=status, upstream_code=code, retry_after=retry_after
    )


def _kind(status: int, complaint: Complaint) -> type[UpstreamError]:
    if (
        status in _OUR_CREDENTIAL
        or complaint.code in _MONEY_CODES
        or complaint.type in _MONEY_CODES
    ):
        return UpstreamRefusedCredential
    if status == 429:
        return UpstreamThrottled
    if status == 404:
        return UpstreamModelMissing
    if status in _BAD_REQUEST:
        return UpstreamRefusedCredential if _blames_key(complaint) else UpstreamRejected
    return UpstreamFailed if status >= 400 else UpstreamProtocolError


def _blames_client(complaint: Complaint) -> bool:
    return complaint.type in _CLIENT_TYPES or bool(_CLIENT_WORDS.search(complaint.message))


def _blames_key(complaint: Complaint) -> bool:
    return (
        complaint.code in _KEY_CODES
        or complaint.type in _KEY_CODES
        or bool(_WRONG_KEY.search(complaint.message))
    )


def _read_body(body: bytes) -> Complaint:
    """The complaint of an error body: under ``error``, flat, in an array, or none at all."""
    try:
        whole = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Complaint()
    if isinstance(whole, list) and whole:
        whole = whole[0]
    if not isinstance(whole, dict):
        return Complaint()
    return _complaint(whole.get("error") or whole)


def _read_error(raw: bytes) -> Complaint:
    try:
        return _complaint(msgspec.json.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Complaint()


def _complaint(error: object) -> Complaint:
    if isinstance(error, str):
        return Complaint(message=error, code=_code_in_words(error))
    if not isinstance(error, dict):
        return Complaint()
    message = next((text for name in _MESSAGES if (text := _text(error.get(name)))), "")
    kind = next((name for key in _TYPES if isinstance(name := error.get(key), str) and name), "")
    code = _text(error.get("code"))
    status = int(code) if _HTTP_ERROR.fullmatch(code) else 0
    if status or code in _VAGUE:
        # A status as code says less than the type, or than the words.
        code = _code_in_words(message) or ("" if status else code)
    reason, retry_after = _details(error.get("details"))
    param = error.get("param")
    return Complaint(
        message,
        _bare_type(kind),
        reason or code,
        param if isinstance(param, str) else None,
        status,
        retry_after,
    )


def _code_in_words(message: str) -> str:
    begun = message[:MAX_MESSAGE]
    return next((code for code, words in _WORDS if words.search(begun)), "")


def _bare_type(kind: str) -> str:
    """AWS puts a name before a ``#`` and a URL behind a colon."""
    return kind.rpartition("#")[2].partition(":")[0].strip()


def _details(given: object) -> tuple[str, float | None]:
    """Of Google's details: a reason that we know, and the seconds to wait."""
    reason, retry_after = "", None
    for detail in given if isinstance(given, list) else ():
        if not isinstance(detail, dict):
            continue
        kind = detail.get("@type")
        if kind == _ERROR_INFO and _text(detail.get("reason")) in _KEY_CODES:
            reason = str(detail["reason"])
        told = _DURATION.fullmatch(_text(detail.get("retryDelay")))
        if kind == _RETRY_INFO and told:
            retry_after = min(float(told[1]), _LONGEST_WAIT)
    return reason, retry_after


def _text(value: object) -> str:
    """A text of the upstream's; what is none is shown as JSON, and nothing as nothing."""
    if not value:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
