"""Scripted upstreams: authentic answers of each provider, and judges of what they are asked."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from . import (
    upstream_anthropic,
    upstream_bedrock,
    upstream_chat,
    upstream_gemini,
    upstream_responses,
)

__all__ = ["UPSTREAMS"]

UPSTREAMS: Final[MappingProxyType[str, Any]] = MappingProxyType(
    {
        "chat": upstream_chat,
        "responses": upstream_responses,
        "messages": upstream_anthropic,
        "gemini": upstream_gemini,
        "bedrock": upstream_bedrock,
    }
)
"""By the column's name: modules with whole, events, ERRORS, in_stream, check, hear."""
