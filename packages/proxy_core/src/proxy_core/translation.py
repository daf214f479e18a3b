"""What a dialect is translated by: the canonical form, codecs, and a translator for use by hand.

A codec of a provider's own dialect is made of these, and goes to ``create_provider`` in a
``ForeignDialect`` of its ``registry``::

    from proxy_core.translation import Answer, Conversation, UpstreamCodec
"""

from __future__ import annotations

from proxy_core._types import Usage
from proxy_core.dialects import CLIENT_CODECS, CODECS, FRAMINGS
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Answer,
    Begun,
    Broken,
    CacheMark,
    Choice,
    Citation,
    Closed,
    Conversation,
    Counted,
    Event,
    Finished,
    Json,
    Media,
    Opened,
    OutputFormat,
    Part,
    Piece,
    Reasoning,
    ReasoningWish,
    Refusal,
    Role,
    Sampling,
    Signature,
    Source,
    StopReason,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import (
    ClientCodec,
    Frame,
    Framing,
    Loss,
    Losses,
    StreamReader,
    StreamWriter,
    Told,
    UpstreamCodec,
)
from proxy_core.dialects._extract import usage_in
from proxy_core.dialects._fold import events_of, folded
from proxy_core.dialects._translate import Memory, Target, Translation, Translator, Unsupported
from proxy_core.dialects._upstream import Parts, count_of, plain_text, wishes
from proxy_core.providers._signatures import SignatureMemory

__all__ = [
    "Abilities",
    "Answer",
    "Begun",
    "Broken",
    "CLIENT_CODECS",
    "CODECS",
    "CacheMark",
    "Choice",
    "Citation",
    "ClientCodec",
    "Closed",
    "Conversation",
    "Counted",
    "Event",
    "FRAMINGS",
    "Finished",
    "Frame",
    "Framing",
    "Json",
    "Loss",
    "Losses",
    "Media",
    "Memory",
    "Opened",
    "OutputFormat",
    "Part",
    "Parts",
    "Piece",
    "Reasoning",
    "ReasoningWish",
    "Refusal",
    "Role",
    "Sampling",
    "Signature",
    "SignatureMemory",
    "Source",
    "StopReason",
    "StreamReader",
    "StreamWriter",
    "Target",
    "Text",
    "Told",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "Translation",
    "Translator",
    "Turn",
    "Unsupported",
    "UpstreamCodec",
    "count_of",
    "events_of",
    "extract_usage",
    "folded",
    "plain_text",
    "wishes",
]


def extract_usage(dialect: str, answer: bytes) -> Usage | None:
    """The tokens that a whole answer reports, counted as ``Usage`` counts; None where it doesn't.

    ``dialect`` is its wire format, such as ``anthropic.messages``. What is negative, absurd or no
    number counts as not reported::

        extract_usage("openai.chat", b'{"choices": [...], "usage": {"prompt_tokens": 7, ...}}')
    """
    return usage_in(answer, dialect, CODECS.get(dialect))
