"""Google's Gemini: generateContent, its stream, and countTokens."""

from __future__ import annotations

from typing import Final

from proxy_core.dialects._gemini._array import EventsAsArray
from proxy_core.dialects._gemini._codec import GeminiCodec
from proxy_core.dialects._gemini._dialect import GeminiDialect

__all__ = ["COUNT", "GEMINI_CODEC", "GENERATE", "EventsAsArray", "GeminiCodec", "GeminiDialect"]

GENERATE: Final = GeminiDialect("gemini.generate", "generateContent", "candidates")
COUNT: Final = GeminiDialect("gemini.count_tokens", "countTokens", "totalTokens", streams=False)
GEMINI_CODEC: Final = GeminiCodec()
