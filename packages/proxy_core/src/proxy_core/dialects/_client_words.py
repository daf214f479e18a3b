"""What a field of the canonical form is called by the clients of a dialect, for what they are told.

Losses name fields in OpenAI's words for chats; the header that announces them keeps those, so that
it reads alike for every client. A refusal points into the client's own request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["in_words_of"]

_FIRST: Final = re.compile(r"[a-z_]+(\.budget)?")
_CONFIG: Final = "generationConfig."
_GEMINI: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "n": (_CONFIG + "candidateCount",),
        "stop": (_CONFIG + "stopSequences",),
        "max_tokens": (_CONFIG + "maxOutputTokens",),
        "temperature": (_CONFIG + "temperature",),
        "top_p": (_CONFIG + "topP",),
        "top_k": (_CONFIG + "topK",),
        "seed": (_CONFIG + "seed",),
        "presence_penalty": (_CONFIG + "presencePenalty",),
        "frequency_penalty": (_CONFIG + "frequencyPenalty",),
        "logprobs": (_CONFIG + "responseLogprobs", _CONFIG + "logprobs"),
        "top_logprobs": (_CONFIG + "logprobs",),
        "modalities": (_CONFIG + "responseModalities",),
        "response_format": (
            _CONFIG + "responseJsonSchema",
            _CONFIG + "responseSchema",
            _CONFIG + "responseMimeType",
        ),
        "reasoning_effort": (_CONFIG + "thinkingConfig",),
        "reasoning.budget": (_CONFIG + "thinkingConfig.thinkingBudget",),
        "tool_choice": ("toolConfig.functionCallingConfig",),
        "service_tier": ("serviceTier",),
    }
)
_WORDS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "gemini.generate": _GEMINI,
        "openai.responses": {
            "response_format": ("text.format",),
            "reasoning_effort": ("reasoning.effort",),
            "user": ("safety_identifier", "user"),
            "max_tokens": ("max_output_tokens",),
            "logprobs": ("include", "top_logprobs"),
        },
        "anthropic.messages": {
            "stop": ("stop_sequences",),
            "user": ("metadata.user_id",),
            "response_format": ("output_config.format", "output_format"),
            "reasoning_effort": ("output_config.effort", "thinking"),
            "reasoning.budget": ("thinking.budget_tokens",),
            "parallel_tool_calls": ("tool_choice.disable_parallel_tool_use",),
        },
    }
)
"""By the client's dialect; of several names it is the first that the request has."""


def in_words_of(dialect: str, field: str, said: Mapping[str, Any]) -> str:
    """The name of a field, or of what it is a part of, in a request of this dialect."""
    first = _FIRST.match(field)
    names = _WORDS.get(dialect, {}).get(first[0], ()) if first else ()
    return next((name for name in names if _is_said(name, said)), names[0] if names else field)


def _is_said(path: str, said: Mapping[str, Any]) -> bool:
    value: Any = said
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value is not None
