"""Token counts as OpenAI-shaped answers report them, distrusted."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from proxy_core._types import Usage

__all__ = ["estimate_tokens", "note_usage", "read_usage"]

_ABSURD: Final = 1_000_000_000
"""Tokens that no answer has; such a report is treated as none."""


_Count = Annotated[int, msgspec.Meta(ge=0, le=_ABSURD)]
_Part = Annotated[int, msgspec.Meta(ge=0)]


class _Read(msgspec.Struct):
    cached_tokens: _Part | None = None


class _Made(msgspec.Struct):
    reasoning_tokens: _Part | None = None


class _Reported(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Read | None = None
    completion_tokens_details: _Made | None = None

    def rest(self) -> int | None:
        """What was generated, where no more than the total is told, as of embeddings."""
        if self.total_tokens is None or self.prompt_tokens is None:
            return None
        rest = self.total_tokens - self.prompt_tokens
        return rest if 0 <= rest <= _ABSURD else None


_decode = msgspec.json.Decoder(_Reported).decode


def read_usage(raw: msgspec.Raw | bytes) -> Usage | None:
    """The reported usage, or None where it is missing, malformed, negative or absurd."""
    usage = Usage()
    return usage if note_usage(usage, raw) else None


def note_usage(usage: Usage, raw: msgspec.Raw | bytes) -> bool:
    """Put what is reported into ``usage``. False, and not touched, where ``read_usage`` is None."""
    try:
        reported = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    prompt, completion = reported.prompt_tokens, reported.completion_tokens
    if completion is None:
        completion = reported.rest()
    if prompt is None or completion is None:
        return False
    read, made = reported.prompt_tokens_details, reported.completion_tokens_details
    cached = 0 if read is None else read.cached_tokens or 0
    if cached > prompt:
        return False
    usage.input_tokens = prompt
    usage.output_tokens = completion
    usage.cached_tokens = cached
    usage.reasoning_tokens = 0 if made is None else made.reasoning_tokens or 0
    usage.reported = True
    return True


def estimate_tokens(size: int) -> int:
    """A cheap upper estimate for ``size`` bytes of JSON: a token is rarely under 3 bytes."""
    return -(-size // 3)
