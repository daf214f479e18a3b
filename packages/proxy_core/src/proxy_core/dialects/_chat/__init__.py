"""OpenAI's chat completions, translated: as clients speak it and as providers do.

Sources: https://github.com/openai/openai-openapi for the fields, and for what others added
https://openrouter.ai/docs/guides/best-practices/reasoning-tokens (``reasoning_details``),
https://api-docs.deepseek.com/guides/thinking_mode (``reasoning_content``) and
https://ai.google.dev/gemini-api/docs/thought-signatures (``extra_content``).
"""

from __future__ import annotations

from typing import Final

from proxy_core.dialects._chat._codec import ChatCodec

__all__ = ["CHAT_CODEC", "ChatCodec"]

CHAT_CODEC: Final = ChatCodec()
