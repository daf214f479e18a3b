"""Anthropic's messages: as they pass, and as they are translated."""

from __future__ import annotations

from typing import Final

from proxy_core.dialects._anthropic._codec import AnthropicCodec
from proxy_core.dialects._anthropic._native import COUNT_TOKENS, MESSAGES, AnthropicDialect

__all__ = ["ANTHROPIC_CODEC", "COUNT_TOKENS", "MESSAGES", "AnthropicCodec", "AnthropicDialect"]

ANTHROPIC_CODEC: Final = AnthropicCodec()
