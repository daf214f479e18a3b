"""OpenAI's Responses: as they pass untouched, and to and from the canonical form.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from typing import Final

from proxy_core.dialects._responses._codec import ResponsesCodec
from proxy_core.dialects._responses._native import ResponsesDialect

__all__ = ["RESPONSES", "RESPONSES_CODEC", "ResponsesCodec", "ResponsesDialect"]

RESPONSES: Final = ResponsesDialect()
RESPONSES_CODEC: Final = ResponsesCodec()
