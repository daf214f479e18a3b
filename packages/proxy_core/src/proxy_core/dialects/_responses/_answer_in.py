"""Whole answers of upstreams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects._canonical import (
    Answer,
    Choice,
    Json,
    Part,
    Refusal,
    StopReason,
    ToolCall,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._reading import Value
from proxy_core.dialects._responses._counts import read_counts
from proxy_core.dialects._responses._items import read_items
from proxy_core.dialects._responses._words import stop_of
from proxy_core.errors import InvalidRequest, UpstreamError, UpstreamProtocolError

__all__ = ["failure_of", "head_of", "read_answer", "reason_of", "text_or"]

_BLAMES_CLIENT: Final = ("invalid_prompt", "invalid_image", "image_", "unsupported_image", "empty_")
"""Beginnings of the codes by which a failed response says that its request was wrong.
Source: openai 3.54's ``ResponseError``."""

_LATEST: Final = 1e11
"""Unix time in seconds; nobody means a later one."""


def failure_of(error: Json) -> UpstreamError:
    """The error of a failed response, or of an event of type ``error``."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.startswith(_BLAMES_CLIENT):
        error = {**error, "type": "invalid_request_error"}
    return failure_in_body(msgspec.json.encode(error or {}))


def read_answer(body: Mapping[str, Any]) -> Answer:
    """Raises the error that a failed response holds, UpstreamProtocolError where it is none."""
    if body.get("error") is not None or body.get("status") == "failed":
        raise failure_of(body.get("error"))
    output = body.get("output")
    if not isinstance(output, list):
        raise UpstreamProtocolError("the upstream's answer has nothing in 'output'")
    try:
        turns = read_items(Value(output, "output").items(), Losses())
        logprobs = _logprobs(output)
    except InvalidRequest as error:
        raise UpstreamProtocolError(f"the upstream's answer is malformed: {error}") from None
    parts = tuple(part for turn in turns if turn.role == "assistant" for part in turn.parts)
    return Answer(
        **head_of(body),
        choices=(
            Choice(
                parts=parts,
                stop=_stop(body, parts),
                logprobs={"content": logprobs, "refusal": None} if logprobs else None,
            ),
        ),
        usage=read_counts(body.get("usage")) or Usage(),
    )


def head_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that Answer and Begun share."""
    tier = body.get("service_tier")
    return {
        "id": text_or(body.get("id"), ""),
        "model": text_or(body.get("model"), ""),
        "created": _time(body.get("created_at")),
        "service_tier": tier if isinstance(tier, str) else None,
    }


def reason_of(body: Mapping[str, Any]) -> str | None:
    """Why a response is incomplete; None where it is complete."""
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    if body.get("status") == "incomplete":
        return text_or(reason, "max_output_tokens")
    return reason if isinstance(reason, str) else None


def text_or(json: Json, otherwise: str) -> str:
    return json if isinstance(json, str) else otherwise


def _time(json: Json) -> int:
    return int(json) if isinstance(json, int | float) and 0 <= json < _LATEST else 0


def _stop(body: Mapping[str, Any], parts: tuple[Part, ...]) -> StopReason:
    return stop_of(
        reason_of(body),
        has_call=any(isinstance(part, ToolCall) for part in parts),
        has_refusal=any(isinstance(part, Refusal) for part in parts),
    )


def _logprobs(output: list[Json]) -> list[Json]:
    found: list[Json] = []
    for item in Value(output, "output").items():
        if item.maybe_text("type") == "message":
            for part in item.maybe_items("content"):
                found += [one.fields() for one in part.maybe_items("logprobs")]
    return found
