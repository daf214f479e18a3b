"""Anthropic's token counts, distrusted. Its input excludes what caches gave and took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy_core._types import Usage

__all__ = ["later_usage", "usage_of", "usage_told"]

_ABSURD: Final = 1_000_000_000
"""Tokens that no answer has; such a report is treated as none."""


def later_usage(told: dict[str, Any], more: object) -> dict[str, Any]:
    """What was told so far and what a later event says: cumulative, so it takes its place."""
    if not isinstance(more, dict):
        return told
    return told | {name: value for name, value in more.items() if value is not None}


def usage_of(told: Mapping[str, Any]) -> Usage | None:
    """The canonical counts; None where they are missing, malformed, negative or absurd."""
    cache_creation, details = told.get("cache_creation"), told.get("output_tokens_details")
    read, written = told.get("cache_read_input_tokens"), told.get("cache_creation_input_tokens")
    hourly = _inside(cache_creation, "ephemeral_1h_input_tokens")
    thought = _inside(details, "thinking_tokens")
    counts = (told.get("input_tokens"), told.get("output_tokens"), read, written, hourly, thought)
    if counts[0] is None or counts[1] is None:
        return None
    if not all(count is None or _is_count(count) for count in counts):
        return None
    fresh, made, cached, kept, kept_1h, reasoning = (count or 0 for count in counts)
    return Usage(
        input_tokens=fresh + cached + kept,
        output_tokens=made,
        cached_tokens=cached,
        reasoning_tokens=min(reasoning, made),
        reported=True,
        cache_write_tokens=kept,
        cache_write_1h_tokens=min(kept_1h, kept),
    )


def usage_told(usage: Usage) -> dict[str, Any]:
    """The same in Anthropic's terms."""
    kept = usage.cache_write_tokens
    kept_1h = min(usage.cache_write_1h_tokens, kept)
    told: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - kept),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": kept,
        "cache_creation": {
            "ephemeral_5m_input_tokens": kept - kept_1h,
            "ephemeral_1h_input_tokens": kept_1h,
        },
    }
    if usage.reasoning_tokens:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return told


def _inside(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _ABSURD
