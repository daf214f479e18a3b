"""The providers that speak OpenAI's dialects, one row each. Adding one is adding a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["ROWS", "ProviderRow"]

_ALL: Final = ("openai.chat", "openai.completions", "openai.embeddings")
_NO_LEGACY: Final = ("openai.chat", "openai.embeddings")
_CHAT: Final = ("openai.chat",)


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """What there is to know of a kind of provider."""

    kind: str
    base_url: str | None
    """As the provider's own SDK takes it; None where only the operator knows it."""
    dialects: tuple[str, ...] = _ALL
    key_variable: str | None = None
    """The environment variable that its own SDK reads; only ``--discover`` looks at it."""
    needs_key: bool = True
    asks_usage: bool = True
    """Whether it takes ``stream_options.include_usage``."""
    auth_header: str = "authorization"


ROWS: Final[Mapping[str, ProviderRow]] = MappingProxyType(
    {
        row.kind: row
        for row in (
            ProviderRow("openai", "https://api.openai.com/v1", key_variable="OPENAI_API_KEY"),
            ProviderRow("openai_compatible", None, needs_key=False),
            ProviderRow("vllm", "http://127.0.0.1:8000/v1", needs_key=False),
            ProviderRow("llamacpp", "http://127.0.0.1:8080/v1", needs_key=False),
            ProviderRow("ollama", "http://127.0.0.1:11434/v1", needs_key=False),
            ProviderRow("lmstudio", "http://127.0.0.1:1234/v1", needs_key=False),
            ProviderRow(
                "openrouter", "https://openrouter.ai/api/v1", key_variable="OPENROUTER_API_KEY"
            ),
            ProviderRow("groq", "https://api.groq.com/openai/v1", _CHAT, "GROQ_API_KEY"),
            ProviderRow("together", "https://api.together.xyz/v1", key_variable="TOGETHER_API_KEY"),
            # Mistral refuses fields that it doesn't know, and reports usage unasked.
            ProviderRow(
                "mistral",
                "https://api.mistral.ai/v1",
                _NO_LEGACY,
                "MISTRAL_API_KEY",
                asks_usage=False,
            ),
            ProviderRow("deepseek", "https://api.deepseek.com/v1", _CHAT, "DEEPSEEK_API_KEY"),
            ProviderRow("xai", "https://api.x.ai/v1", _CHAT, "XAI_API_KEY"),
            ProviderRow(
                "fireworks",
                "https://api.fireworks.ai/inference/v1",
                key_variable="FIREWORKS_API_KEY",
            ),
        )
    }
)
