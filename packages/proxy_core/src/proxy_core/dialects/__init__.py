"""Wire formats: what we read of a request and an answer, and where we may write.

A ``Dialect`` is what passes nearly untouched where client and provider speak the same; a codec
translates to and from the canonical form. All of their verbs are pure: bytes or JSON in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, cast

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._anthropic import ANTHROPIC_CODEC, COUNT_TOKENS, MESSAGES
from proxy_core.dialects._bedrock import (
    CONVERSE_CODEC,
    AnthropicChunksFraming,
    EventStreamFraming,
)
from proxy_core.dialects._cache_prompt import CACHE_PROMPT
from proxy_core.dialects._chat import CHAT_CODEC
from proxy_core.dialects._codec import ClientCodec, Framing, UpstreamCodec
from proxy_core.dialects._cohere import COHERE_CODEC
from proxy_core.dialects._dialect import Dialect, Tap
from proxy_core.dialects._document import MAX_DEPTH, Document, MalformedDocument
from proxy_core.dialects._embeddings_codecs import EMBED_CODECS
from proxy_core.dialects._framing import EventFraming, LineFraming
from proxy_core.dialects._gemini import COUNT, GEMINI_CODEC, GENERATE
from proxy_core.dialects._ollama import OLLAMA_CODEC
from proxy_core.dialects._openai import CHAT, COMPLETIONS, EMBEDDINGS, OpenAIDialect
from proxy_core.dialects._passed import PASSED, UPLOADS, PassedDialect, UploadDialect
from proxy_core.dialects._responses import RESPONSES, RESPONSES_CODEC
from proxy_core.dialects._sse import EventSplitter, EventTooLarge, ServerEvent
from proxy_core.dialects._tap import StreamTap
from proxy_core.dialects._usage import estimate_tokens

__all__ = [
    "CACHE_PROMPT",
    "CHAT",
    "CLIENT_CODECS",
    "CODECS",
    "COMPLETIONS",
    "COUNT",
    "COUNT_TOKENS",
    "DIALECTS",
    "EMBEDDINGS",
    "EMBED_CODECS",
    "FRAMINGS",
    "GENERATE",
    "MAX_DEPTH",
    "MESSAGES",
    "PASSED",
    "RESPONSES",
    "STREAM_TYPES",
    "UPLOADS",
    "Abilities",
    "Dialect",
    "Document",
    "EventSplitter",
    "EventTooLarge",
    "MalformedDocument",
    "OpenAIDialect",
    "PassedDialect",
    "ServerEvent",
    "StreamTap",
    "Tap",
    "UploadDialect",
    "estimate_tokens",
    "framing_of",
]

_NATIVE: Final[tuple[Dialect, ...]] = (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RESPONSES,
    MESSAGES,
    COUNT_TOKENS,
    GENERATE,
    COUNT,
    *PASSED,
    *UPLOADS,
)
DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({one.name: one for one in _NATIVE})
"""What clients may speak, by name."""

_BOTH: Final = (CHAT_CODEC, RESPONSES_CODEC, ANTHROPIC_CODEC, GEMINI_CODEC)
CLIENT_CODECS: Final[Mapping[str, ClientCodec]] = MappingProxyType(
    {codec.dialect: cast("ClientCodec", codec) for codec in _BOTH}
)
"""Dialects that can be translated where a client speaks them."""
CODECS: Final[Mapping[str, UpstreamCodec]] = MappingProxyType(
    {
        codec.dialect: cast("UpstreamCodec", codec)
        for codec in (*_BOTH, CONVERSE_CODEC, OLLAMA_CODEC, COHERE_CODEC)
    }
)
"""Dialects that can be translated where a provider speaks them."""

FRAMINGS: Final[Mapping[str, Callable[[], Framing]]] = MappingProxyType(
    {
        "events": EventFraming,
        "lines": LineFraming,
        "aws": EventStreamFraming,
        "aws_chunks": AnthropicChunksFraming,
    }
)
"""How the bytes of a stream are cut into frames."""
STREAM_TYPES: Final[Mapping[str, bytes]] = MappingProxyType(
    {
        "events": b"text/event-stream",
        "lines": b"application/x-ndjson",
        "aws": b"application/vnd.amazon.eventstream",
        "aws_chunks": b"application/vnd.amazon.eventstream",
    }
)
"""The media type of a stream, by its framing."""
_FRAMING_OF: Final[Mapping[str, str]] = MappingProxyType(
    {"ollama.chat": "lines", "bedrock.converse": "aws"}
)


def framing_of(dialect: str, otherwise: Mapping[str, str]) -> str:
    """How a dialect's streams are framed: as a provider's row says, else in the usual way."""
    return otherwise.get(dialect) or _FRAMING_OF.get(dialect, "events")
