"""Token counts as Responses report them, distrusted, and as their clients read them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._canonical import Json

__all__ = ["read_counts", "read_raw_counts", "written_counts"]

_ABSURD: Final = 1_000_000_000
"""Tokens that no answer has; such a report is treated as none."""


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Reported(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


_decode = msgspec.json.Decoder(_Reported).decode


def read_raw_counts(raw: msgspec.Raw | bytes) -> Usage | None:
    """The usage in this JSON; None where it is missing, malformed, negative or absurd."""
    try:
        return _trusted(_decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_counts(json: Json) -> Usage | None:
    """As ``read_raw_counts``, of JSON that was decoded."""
    try:
        return _trusted(msgspec.convert(json, _Reported))
    except msgspec.ValidationError:
        return None


def written_counts(usage: Usage) -> dict[str, Any]:
    """What a client gets: all that openai's ``ResponseUsage`` requires."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _trusted(told: _Reported) -> Usage | None:
    read, made = told.input_tokens_details, told.output_tokens_details
    cached = (read and read.cached_tokens) or 0
    written = (read and read.cache_write_tokens) or 0
    reasoning = (made and made.reasoning_tokens) or 0
    if min(cached, written, reasoning, told.output_tokens) < 0:
        return None
    if cached + written > told.input_tokens or max(told.input_tokens, told.output_tokens) > _ABSURD:
        return None
    return Usage(
        input_tokens=told.input_tokens,
        output_tokens=told.output_tokens,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=min(reasoning, told.output_tokens),
        reported=True,
    )
