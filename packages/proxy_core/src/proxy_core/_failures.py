"""What an upstream's refusal means: one table from statuses and codes to our errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from proxy_core._complaint import (
    KEY_CODES,
    LONGEST_WAIT,
    MAX_CODE,
    MAX_MESSAGE,
    Complaint,
    bare_type,
    read_body,
    read_error,
)
from proxy_core.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamModelMissing,
    UpstreamProtocolError,
    UpstreamRefusedCredential,
    UpstreamRejected,
    UpstreamThrottled,
)

__all__ = ["MAX_MESSAGE", "SURE_CODES", "failure_from_answer", "failure_in_body", "retry_after_of"]

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
SURE_CODES: Final = _MONEY_CODES | KEY_CODES
"""With these a refusal is about the credential, not about what it was used for."""
_WRONG_KEY: Final = re.compile(
    r"(incorrect|invalid) api key|api key (not valid|expired)|credit balance is too low",
    re.IGNORECASE,
)
"""How OpenAI's imitators and Gemini refuse a key with a 400, and Anthropic an empty account."""
_TELLS_MORE: Final = {"ServiceQuotaExceededException": 429}
"""Codes that know better than the status that they come with (400)."""
_NO_MODEL: Final = re.compile(r"model identifier is invalid", re.IGNORECASE)
"""How Bedrock says in a 400 that it doesn't know the model."""
_MODEL_CODES: Final = frozenset(
    {"model_not_found", "model_permission_blocked_org", "model_permission_blocked_project"}
)
"""OpenAI's, also with a 400 or a 403, and Groq's: https://console.groq.com/docs/model-permissions"""
_NO_ACCESS: Final = re.compile(
    r"access to (the |this )?model\b|model access is denied", re.IGNORECASE
)
"""How Bedrock says in a 403 that the account may not have this one model."""
_DEPLOYED: Final = re.compile(
    r"\b(models?|deployments?|endpoints?|projects?|functions?)\b", re.IGNORECASE
)
"""What a 404 is about when it is the operator's."""
_MENTIONED: Final = re.compile(
    r"\b(file[-_]|(resp|msg|rs|fc|conv|cntr|container|vs|pmpt|thread|skill|batch)_)"
    r"[0-9a-z]*[0-9]|\bwith id\b|no such file object|cached ?content",
    re.IGNORECASE,
)
"""What a 404 is about when the client's request named it: a file, an item, a container."""
_NOT_YOURS: Final = re.compile(r"the file \S+ or it may not exist|cached ?content", re.IGNORECASE)
"""How Gemini says in a 403 that there is no such file or cached content."""
_CLIENT_TYPES: Final = frozenset({"invalid_request_error", "not_supported_error"})
_CLIENT_WORDS: Final = re.compile(
    r"(image|audio) input is not supported|too large to process", re.IGNORECASE
)
"""How llama.cpp says in a 500 or 501 that the request was wrong."""
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_AMAZON: Final = b"x-amzn-errortype"


def failure_from_answer(
    status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> UpstreamError:
    """The error that an answer with a status other than 200 stands for."""
    complaint = read_body(body)
    known = dict(headers)
    if not complaint.type:
        complaint = complaint._replace(type=bare_type(known.get(_AMAZON, b"").decode("latin-1")))
    return _failure(status, complaint, retry_after_of(known.items()))


def failure_in_body(error: msgspec.Raw | bytes) -> UpstreamError:
    """The error inside a 200: ``error`` is the JSON value of its ``error`` field."""
    complaint = read_error(bytes(error))
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
        return min(float(milliseconds) / 1000, LONGEST_WAIT)
    seconds = found.get(b"retry-after", "")
    if _NUMBER.fullmatch(seconds):
        return min(float(seconds), LONGEST_WAIT)
    return _seconds_until(seconds) if seconds else None


def _seconds_until(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return min(max(0.0, at.timestamp() - time.time()), LONGEST_WAIT)
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
        upstream_code=(complaint.code or complaint.type)[:MAX_CODE] or None,
        retry_after=retry_after,
        param=None if complaint.param is None else complaint.param[:_MAX_PARAM],
        details=complaint.details,
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
    if _misses_model(status, complaint):
        return UpstreamModelMissing
    if _misses_mentioned(status, complaint):
        return UpstreamRejected
    if (
        status in _OUR_CREDENTIAL
        or complaint.code in _MONEY_CODES
        or complaint.type in _MONEY_CODES
    ):
        return UpstreamRefusedCredential
    if status == 429:
        return UpstreamThrottled
    if status in _BAD_REQUEST:
        return UpstreamRefusedCredential if _blames_key(complaint) else UpstreamRejected
    return UpstreamFailed if status >= 400 else UpstreamProtocolError


def _misses_model(status: int, complaint: Complaint) -> bool:
    """Whether the model isn't there, or not for us. A 404 that says nothing else is about it."""
    if status == 404:
        return not _misses_mentioned(status, complaint)
    if status == 403 and _NO_ACCESS.search(complaint.message):
        return True
    return status in (400, 403) and complaint.code in _MODEL_CODES


def _misses_mentioned(status: int, complaint: Complaint) -> bool:
    """Whether something isn't there that the request named: no other upstream has it."""
    said = complaint.message[:MAX_MESSAGE]
    if status == 403:
        return bool(_NOT_YOURS.search(said))
    if status != 404 or complaint.code in _MODEL_CODES:
        return False
    if complaint.details is not None:
        return "model" not in str(complaint.details["error_code"])
    return bool(_MENTIONED.search(said)) and not _DEPLOYED.search(said)


def _blames_client(complaint: Complaint) -> bool:
    return complaint.type in _CLIENT_TYPES or bool(_CLIENT_WORDS.search(complaint.message))


def _blames_key(complaint: Complaint) -> bool:
    return (
        complaint.code in KEY_CODES
        or complaint.type in KEY_CODES
        or bool(_WRONG_KEY.search(complaint.message))
    )
