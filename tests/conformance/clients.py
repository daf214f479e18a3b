"""The four clients, each through its official SDK."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from . import client_anthropic, client_chat, client_gemini, client_responses

__all__ = ["CLIENTS"]

CLIENTS: Final[MappingProxyType[str, Any]] = MappingProxyType(
    {
        "chat": client_chat,
        "responses": client_responses,
        "messages": client_anthropic,
        "gemini": client_gemini,
    }
)
"""By the row's name: modules with ask, connect, refusal, ENDS."""
