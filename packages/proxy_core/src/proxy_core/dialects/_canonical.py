"""The canonical form: what every chat dialect says, in one vocabulary. Values only, no I/O.

A request becomes a ``Conversation``, an answer an ``Answer``, a stream a row of ``Event``. A
dialect that is translated is read into these and written from them, so each needs to know only
itself. What the canonical form has no word for is named in ``Losses``, never dropped in silence.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from proxy_core._types import Usage

__all__ = [
    "Answer",
    "Begun",
    "Broken",
    "CacheMark",
    "Choice",
    "Citation",
    "Closed",
    "Conversation",
    "Counted",
    "Event",
    "Finished",
    "Json",
    "Media",
    "Opened",
    "OutputFormat",
    "Part",
    "Piece",
    "Reasoning",
    "ReasoningWish",
    "Refusal",
    "Role",
    "Sampling",
    "Signature",
    "Source",
    "StopReason",
    "Text",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "Turn",
]

Json = Any
"""A value as ``msgspec.json.decode`` gives it."""

Role = Literal["system", "developer", "user", "assistant", "tool"]

StopReason = Literal[
    "end",
    "stop_sequence",
    "length",
    "tool_calls",
    "content_filter",
    "refusal",
    "pause",
    "context_window",
]
"""Why an answer ended. ``pause``: a long turn of the provider's own tools, to be sent back as it
is. ``context_window``: the window is full, where ``length`` is the cap that the client set."""


class _Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Compared by what it holds."""


class CacheMark(_Value, frozen=True, kw_only=True):
    """The prompt up to and with the part that bears it is to be cached by the provider."""

    ttl: Literal["5m", "1h"] | None = None


class Signature(_Value, frozen=True, kw_only=True):
    """A provider's opaque proof of its own reasoning: worth something to that provider alone.

    Only the dialect of its origin may get ``value`` back as it is. A client whose dialect is
    another one keeps it for us, sealed (``_seal``).
    """

    origin: str
    """The name of the dialect that it came in, such as ``anthropic.messages``."""
    value: str


class Source(_Value, frozen=True, kw_only=True):
    """Where the bytes of a picture, a sound or a document are. We never fetch them."""

    kind: Literal["base64", "url", "file", "text"]
    data: str
    """Base64, the URL, the provider's id of a file, or a document's plain text."""
    media_type: str = ""
    """``image/png``; empty where nobody said it."""


class Citation(_Value, frozen=True, kw_only=True):
    """What a stretch of the answer rests upon."""

    kind: Literal["url", "document", "file", "search"]
    url: str | None = None
    title: str | None = None
    quote: str | None = None
    """The words of the source."""
    start: int | None = None
    """Characters of the answer's text, where the dialect says which."""
    end: int | None = None
    source: int | None = None
    """Which document of the request, from 0."""
    source_start: int | None = None
    """Inside the source: characters, pages or blocks, as ``unit`` says."""
    source_end: int | None = None
    unit: Literal["char", "page", "block"] | None = None
    file_id: str | None = None
    sealed: str | None = None
    """An opaque index that the provider wants back (Anthropic's ``encrypted_index``)."""


class Text(_Value, frozen=True, kw_only=True):
    text: str
    citations: tuple[Citation, ...] = ()
    cache: CacheMark | None = None
    signature: Signature | None = None
    """Gemini signs plain text too."""


class Media(_Value, frozen=True, kw_only=True):
    """A picture, a sound, a film or a document, in a question or an answer."""

    kind: Literal["image", "audio", "video", "file"]
    source: Source
    name: str | None = None
    """A document's title or file name."""
    detail: str | None = None
    """Of a picture: low, high, auto, original."""
    context: str | None = None
    """Words about a document which are not to be cited."""
    cites: bool = False
    """Whether the answer is to cite it."""
    transcript: str | None = None
    """The words of a sound that the model spoke."""
    id: str | None = None
    """Of a sound that the model spoke, so that a later turn may name it without its bytes."""
    cache: CacheMark | None = None
    signature: Signature | None = None


class ToolCall(_Value, frozen=True, kw_only=True):
    """The model wants a tool. ``arguments`` is JSON text of an object, or a custom tool's text."""

    id: str
    name: str
    arguments: str = "{}"
    custom: bool = False
    """A tool that takes free text (OpenAI)."""
    signature: Signature | None = None
    cache: CacheMark | None = None


class ToolResult(_Value, frozen=True, kw_only=True):
    """What a tool said. ``name`` is found by the id where the dialect doesn't say it."""

    id: str
    name: str = ""
    parts: tuple[Text | Media, ...] = ()
    is_error: bool = False
    custom: bool = False
    cache: CacheMark | None = None


class Reasoning(_Value, frozen=True, kw_only=True):
    """The model's thinking. Redacted: ``text`` is empty and the signature is all there is."""

    text: str = ""
    signature: Signature | None = None
    redacted: bool = False
    summary: bool = False
    """Whether ``text`` is the provider's summary of it rather than the thinking itself."""
    id: str | None = None
    """Of a Responses item."""


class Refusal(_Value, frozen=True, kw_only=True):
    text: str


Part = Text | Media | ToolCall | ToolResult | Reasoning | Refusal


class Turn(_Value, frozen=True, kw_only=True):
    """One message; an assistant's text, reasoning and calls keep their order.

    Results of tools that follow each other stand in one turn of role ``tool``, and nothing else.
    """

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None


class Tool(_Value, frozen=True, kw_only=True):
    """A function that the client runs. ``parameters`` is JSON Schema; empty: it takes nothing.

    A tool of the provider's own (web search, code execution) has a ``kind`` other than
    ``function`` and its own JSON in ``own``, which only its dialect understands.
    """

    name: str
    description: str | None = None
    parameters: Json = None
    strict: bool | None = None
    kind: str = "function"
    """``function``, ``custom`` (OpenAI's free text), or a provider's own, by its dialect's word."""
    own: Json = None
    cache: CacheMark | None = None


class ToolChoice(_Value, frozen=True, kw_only=True):
    mode: Literal["auto", "none", "required", "named"]
    """``required``: one of them, whichever; ``named``: one of ``names``."""
    names: tuple[str, ...] = ()


class OutputFormat(_Value, frozen=True, kw_only=True):
    """``json``: any JSON object; ``schema``: one that fits the JSON Schema."""

    kind: Literal["json", "schema"]
    name: str = ""
    schema: Json = None
    strict: bool | None = None
    description: str | None = None


class ReasoningWish(_Value, frozen=True, kw_only=True):
    """How much the model is to think, in whichever terms the client said it."""

    enabled: bool | None = None
    """False: not at all; True: yes, and the model decides how much where nothing else is said."""
    effort: str | None = None
    """none, minimal, low, medium, high, xhigh, max."""
    budget: int | None = None
    """Tokens."""
    shown: bool | None = None
    """Whether the answer is to hold the thinking, or a summary of it."""
    summary: str | None = None
    """Responses: auto, concise, detailed."""


class Sampling(_Value, frozen=True, kw_only=True):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: Json = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class Conversation(_Value, frozen=True, kw_only=True):
    """A request. None means that the client did not say; a default is the provider's to choose."""

    model: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel: bool | None = None
    """Whether several tools may be called at once."""
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    n: int | None = None
    """Answers."""
    output: OutputFormat | None = None
    modalities: tuple[str, ...] = ()
    """``text``, ``audio``, ``image``; empty: text."""
    audio: Json = None
    """OpenAI's voice and format of a spoken answer."""
    reasoning: ReasoningWish | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    """In OpenAI's words: auto, default, flex, priority, scale."""
    user: str | None = None
    """Who asks, as the client's own service names them."""
    metadata: Json = None
    cache_key: str | None = None
    """OpenAI's ``prompt_cache_key``."""
    cache_all: CacheMark | None = None
    """Cache as much of the prompt as the provider can, without marks on parts."""
    store: bool | None = None
    stream: bool = False
    include_usage: bool = False


class Choice(_Value, frozen=True, kw_only=True):
    """One of the answers that were asked for. ``stop`` None: it was not said."""

    parts: tuple[Part, ...]
    stop: StopReason | None
    stop_sequence: str | None = None
    logprobs: Json = None
    """In OpenAI's shape: {content: [{token, logprob, bytes, top_logprobs}], refusal}."""


class Answer(msgspec.Struct, kw_only=True):
    """A whole answer. ``created`` is a Unix time in seconds; 0: not said."""

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage
    created: int = 0
    service_tier: str | None = None


# --- A stream: Begun, then for each part Opened, Piece…, Closed, then Finished, at last Counted.


class Begun(_Value, frozen=True, kw_only=True):
    """Always first, once."""

    id: str
    model: str
    created: int = 0
    service_tier: str | None = None


class Opened(_Value, frozen=True, kw_only=True):
    """A part begins. ``index`` counts the parts of its choice from 0, without gaps.

    ``part`` holds what is known at once: the id and name of a call (``arguments`` is empty then),
    a whole Media, a redacted Reasoning.
    """

    index: int
    part: Part
    choice: int = 0


class Piece(_Value, frozen=True, kw_only=True):
    """More of an open part; exactly one field is set.

    Parts may take turns: a reader gives pieces as they come, a writer whose dialect wants one part
    after the other puts them in order (``_ordered``).
    """

    index: int
    choice: int = 0
    text: str = ""
    """Of a Text, a Reasoning, a Refusal, or of a call's ``arguments``."""
    signature: Signature | None = None
    """Last one wins."""
    citation: Citation | None = None
    logprobs: Json = None
    """OpenAI's list of tokens for this text."""


class Closed(_Value, frozen=True, kw_only=True):
    index: int
    choice: int = 0


class Finished(_Value, frozen=True, kw_only=True):
    """A choice is complete; all its parts are closed."""

    stop: StopReason
    stop_sequence: str | None = None
    choice: int = 0


class Counted(msgspec.Struct):
    """Usage so far, cumulative: the last one counts."""

    usage: Usage


class Broken(msgspec.Struct):
    """The upstream reported an error in its stream. Nothing follows."""

    error: Exception
    """An UpstreamError."""


Event = Begun | Opened | Piece | Closed | Finished | Counted | Broken
