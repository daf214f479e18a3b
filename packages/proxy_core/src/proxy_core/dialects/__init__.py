"""Wire formats: what we read of a request and an answer, and where we may write.

Each is a value with four verbs: ``read`` a client's body into a Call, make the ``request`` for an
upstream, ``tap`` a stream, check a ``whole`` answer. All of them are pure: bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy_core.dialects._document import MAX_DEPTH, Document, MalformedDocument
from proxy_core.dialects._openai import CHAT, COMPLETIONS, EMBEDDINGS, OpenAIDialect
from proxy_core.dialects._sse import EventSplitter, EventTooLarge, ServerEvent
from proxy_core.dialects._tap import StreamTap
from proxy_core.dialects._usage import estimate_tokens

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "DIALECTS",
    "EMBEDDINGS",
    "MAX_DEPTH",
    "Document",
    "EventSplitter",
    "EventTooLarge",
    "MalformedDocument",
    "OpenAIDialect",
    "ServerEvent",
    "StreamTap",
    "estimate_tokens",
]

DIALECTS: Final[Mapping[str, OpenAIDialect]] = MappingProxyType(
    {dialect.name: dialect for dialect in (CHAT, COMPLETIONS, EMBEDDINGS)}
)
