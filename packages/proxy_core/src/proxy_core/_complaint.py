"""The error object of an upstream's answer, as far as it can be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

__all__ = [
    "KEY_CODES",
    "LONGEST_WAIT",
    "MAX_CODE",
    "MAX_MESSAGE",
    "Complaint",
    "bare_type",
    "read_body",
    "read_error",
]

MAX_MESSAGE: Final = 2_000
"""Characters of an upstream's message that we pass on."""
MAX_CODE: Final = 64

KEY_CODES: Final = frozenset(
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
"""What is said of a key that isn't good."""
LONGEST_WAIT: Final = 30 * 86_400.0
"""Seconds; nobody means more, and infinity is no number to reckon with."""
_HTTP_ERROR: Final = re.compile(r"[45][0-9][0-9]")
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
_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
"""https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto"""
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)s")

_Scalar = str | int | float | bool | None
_Details = dict[str, _Scalar | list[_Scalar]]


class Complaint(NamedTuple):
    """The error object of an answer, as far as it can be read."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str | None = None
    status: int = 0
    """Where the error says one itself."""
    retry_after: float | None = None
    details: Mapping[str, object] | None = None
    """Anthropic's: an ``error_code``, and what else there is to know."""


def read_body(body: bytes) -> Complaint:
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


def read_error(raw: bytes) -> Complaint:
    """The same of an error object alone."""
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
    details = _bounded(error.get("details"))
    told = "" if details is None else str(details["error_code"])
    param = error.get("param")
    return Complaint(
        message,
        bare_type(kind),
        reason or code or told,
        param if isinstance(param, str) else None,
        status,
        retry_after,
        details,
    )


def _code_in_words(message: str) -> str:
    begun = message[:MAX_MESSAGE]
    return next((code for code, words in _WORDS if words.search(begun)), "")


def bare_type(kind: str) -> str:
    """AWS puts a name before a ``#`` and a URL behind a colon."""
    return kind.rpartition("#")[2].partition(":")[0].strip()


def _details(given: object) -> tuple[str, float | None]:
    """Of Google's details: a reason that we know, and the seconds to wait."""
    reason, retry_after = "", None
    for detail in given if isinstance(given, list) else ():
        if not isinstance(detail, dict):
            continue
        kind = detail.get("@type")
        if kind == _ERROR_INFO and _text(detail.get("reason")) in KEY_CODES:
            reason = str(detail["reason"])
        told = _DURATION.fullmatch(_text(detail.get("retryDelay")))
        if kind == _RETRY_INFO and told:
            retry_after = min(float(told[1]), LONGEST_WAIT)
    return reason, retry_after


def _bounded(given: object) -> Mapping[str, object] | None:
    """Anthropic's details; of those that are long, or deep, the code alone."""
    code = given.get("error_code") if isinstance(given, dict) else None
    if not isinstance(code, str) or not code:
        return None
    try:
        details = msgspec.convert(given, _Details)
        if len(msgspec.json.encode(details)) <= MAX_MESSAGE:
            return details
    except msgspec.ValidationError:
        pass
    return {"error_code": code[:MAX_CODE]}


def _text(value: object) -> str:
    """A text of the upstream's; what is none is shown as JSON, and nothing as nothing."""
    if not value:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
