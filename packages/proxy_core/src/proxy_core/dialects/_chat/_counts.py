"""Usage in this dialect: read with distrust, written from ours without a remainder."""

from __future__ import annotations

from typing import Any, Final

from proxy_core._types import Usage
from proxy_core.dialects._canonical import Json
from proxy_core.dialects._chat._wire import as_dict

__all__ = ["usage_of", "written_usage"]

_MOST: Final = 1_000_000_000
"""Tokens that no answer has."""


def usage_of(told: Json) -> Usage | None:
    """The reported usage; None where it is missing, malformed, negative or absurd.

    xAI and Google's compatible endpoint leave thinking out of ``completion_tokens`` and have it in
    ``total_tokens`` alone (https://docs.x.ai/docs/guides/reasoning): all that is beyond the prompt
    was generated.
    """
    usage = as_dict(told)
    prompt = _count(usage.get("prompt_tokens"))
    completion = _count(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    completion = max(completion, (_count(usage.get("total_tokens")) or 0) - prompt)
    read = as_dict(usage.get("prompt_tokens_details"))
    made = as_dict(usage.get("completion_tokens_details"))
    cached = _first(
        read.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens")
    )
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_tokens=min(cached, prompt),
        reasoning_tokens=min(_first(made.get("reasoning_tokens")), completion),
        reported=True,
        cache_write_tokens=min(_first(read.get("cache_write_tokens")), prompt),
        audio_input_tokens=min(_first(read.get("audio_tokens")), prompt),
        audio_output_tokens=min(_first(made.get("audio_tokens")), completion),
        image_input_tokens=min(_first(read.get("image_tokens")), prompt),
        image_output_tokens=min(_first(made.get("image_tokens")), completion),
    )


def written_usage(usage: Usage) -> dict[str, Any]:
    """A ``CompletionUsage``; what is seldom there is named only where it is not zero."""
    read = {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.audio_input_tokens}
    seldom = {
        "cache_write_tokens": usage.cache_write_tokens,
        "image_tokens": usage.image_input_tokens,
    }
    made = {
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_tokens": usage.audio_output_tokens,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    if usage.image_output_tokens:
        made["image_tokens"] = usage.image_output_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": read | {name: count for name, count in seldom.items() if count},
        "completion_tokens_details": made,
    }


def _count(value: Json) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        return None
    return value


def _first(*values: Json) -> int:
    """The first that is a count; 0 where none is."""
    return next((count for value in values if (count := _count(value)) is not None), 0)
