"""Token counts as OpenAI-shaped answers report them, distrusted."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy_core._types import Usage

__all__ = ["estimate_tokens", "read_usage"]

_ABSURD: Final = 1_000_000_000
"""Tokens that no answer has; such a report is treated as none."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Reported(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


_decode = msgspec.json.Decoder(_Reported).decode


def read_usage(raw: msgspec.Raw | bytes) -> Usage | None:
    """The reported usage, or None where it is missing, malformed, negative or absurd."""
    try:
        reported = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    prompt, completion = reported.prompt_tokens, reported.completion_tokens
    if completion is None and prompt is not None and reported.total_tokens is not None:
        completion = reported.total_tokens - prompt  # embeddings report no more than this
    if prompt is None or completion is None:
        return None
    read, made = reported.prompt_tokens_details, reported.completion_tokens_details
    cached = (read and read.cached_tokens) or 0
    reasoning = (made and made.reasoning_tokens) or 0
    if not (0 <= cached <= prompt <= _ABSURD and reasoning >= 0 and 0 <= completion <= _ABSURD):
        return None
    return Usage(prompt, completion, cached, reasoning, True)


def estimate_tokens(size: int) -> int:
    """A cheap upper estimate for ``size`` bytes of JSON: a token is rarely under 3 bytes."""
    return -(-size // 3)
