"""Gemini's ``usageMetadata`` and our Usage, in both directions."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy_core._types import Usage

__all__ = ["read_usage", "usage_of", "write_usage"]

_ABSURD: Final = 1_000_000_000
"""Tokens that no answer has; such a report is treated as none."""


class _Share(msgspec.Struct, rename="camel"):
    modality: str = ""
    token_count: int | None = None


class _Reported(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    prompt_tokens_details: list[_Share] | None = None
    candidates_tokens_details: list[_Share] | None = None


_decode = msgspec.json.Decoder(_Reported).decode


def read_usage(raw: msgspec.Raw | bytes) -> Usage | None:
    """The reported usage, or None where it is missing, malformed, negative or absurd."""
    try:
        return _usage(_decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def usage_of(value: object) -> Usage | None:
    """The same of JSON that is decoded already."""
    try:
        return _usage(msgspec.convert(value, _Reported))
    except msgspec.ValidationError:
        return None


def write_usage(usage: Usage) -> dict[str, Any]:
    """The ``usageMetadata`` that says the same; cached tokens are a part of the prompt."""
    told: dict[str, Any] = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": max(0, usage.output_tokens - usage.reasoning_tokens),
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_tokens:
        told["cachedContentTokenCount"] = usage.cached_tokens
    if usage.reasoning_tokens:
        told["thoughtsTokenCount"] = usage.reasoning_tokens
    asked = _details(usage.input_tokens, usage.image_input_tokens, usage.audio_input_tokens)
    made = _details(
        told["candidatesTokenCount"], usage.image_output_tokens, usage.audio_output_tokens
    )
    if asked:
        told["promptTokensDetails"] = asked
    if made:
        told["candidatesTokensDetails"] = made
    return told


def _details(whole: int, image: int, audio: int) -> list[dict[str, Any]]:
    """Nothing for a text, which needs no details."""
    if not (image or audio):
        return []
    shares = (("TEXT", max(0, whole - image - audio)), ("IMAGE", image), ("AUDIO", audio))
    return [{"modality": name, "tokenCount": count} for name, count in shares if count]


def _usage(told: _Reported) -> Usage | None:
    if told.prompt_token_count is None:
        return None
    thoughts = told.thoughts_token_count or 0
    cached = told.cached_content_token_count or 0
    asked, made = told.prompt_tokens_details or (), told.candidates_tokens_details or ()
    usage = Usage(
        input_tokens=told.prompt_token_count + (told.tool_use_prompt_token_count or 0),
        output_tokens=(told.candidates_token_count or 0) + thoughts,
        cached_tokens=cached,
        reasoning_tokens=thoughts,
        reported=True,
        audio_input_tokens=_share(asked, "AUDIO"),
        audio_output_tokens=_share(made, "AUDIO"),
        image_input_tokens=_share(asked, "IMAGE"),
        image_output_tokens=_share(made, "IMAGE"),
    )
    return usage if _is_credible(told, usage) else None


def _share(shares: list[_Share] | tuple[()], modality: str) -> int:
    return sum(share.token_count or 0 for share in shares if share.modality == modality)


def _is_credible(told: _Reported, usage: Usage) -> bool:
    counts = (
        told.prompt_token_count or 0,
        told.tool_use_prompt_token_count or 0,
        told.candidates_token_count or 0,
        usage.reasoning_tokens,
        usage.cached_tokens,
        usage.audio_input_tokens,
        usage.audio_output_tokens,
        usage.image_input_tokens,
        usage.image_output_tokens,
    )
    return (
        all(0 <= count <= _ABSURD for count in counts) and usage.cached_tokens <= usage.input_tokens
    )
