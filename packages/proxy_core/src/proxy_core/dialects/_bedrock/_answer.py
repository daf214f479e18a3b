"""An answer of Converse: its form, and what it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._canonical import (
    Answer,
    Choice,
    Citation,
    Media,
    Part,
    Reasoning,
    Signature,
    Source,
    StopReason,
    Text,
    ToolCall,
)
from proxy_core.dialects._upstream import count_of, read_whole
from proxy_core.errors import UpstreamFailed, UpstreamProtocolError

__all__ = [
    "DIALECT",
    "Image",
    "SaidCitation",
    "ToolUse",
    "citation_of",
    "image_of",
    "read_answer",
    "signed",
    "stop_of",
    "usage_of",
]

DIALECT: Final = "bedrock.converse"

_STOPS: Final[Mapping[str, StopReason]] = MappingProxyType(
    {
        "end_turn": "end",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "stop_sequence": "stop_sequence",
        "guardrail_intervened": "content_filter",
        "content_filtered": "content_filter",
        "model_context_window_exceeded": "context_window",
    }
)
_FAILED: Final = frozenset({"malformed_model_output", "malformed_tool_use"})

_PLACES: Final[Mapping[str, tuple[Literal["char", "page", "block"], str]]] = MappingProxyType(
    {
        "documentChar": ("char", "documentIndex"),
        "documentPage": ("page", "documentIndex"),
        "documentChunk": ("block", "documentIndex"),
        "searchResultLocation": ("block", "searchResultIndex"),
    }
)


class ToolUse(msgspec.Struct, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    input: Any = None
    type: str | None = None
    """``server_tool_use`` for a tool that AWS itself runs."""


class _Words(msgspec.Struct):
    text: str | None = None


class _ReasoningText(msgspec.Struct):
    text: str = ""
    signature: str | None = None


class _ReasoningContent(msgspec.Struct, rename="camel"):
    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None


class SaidCitation(msgspec.Struct, rename="camel"):
    title: str | None = None
    source_content: list[_Words] | None = None
    location: dict[str, dict[str, Any]] | None = None


class _CitationsContent(msgspec.Struct):
    content: list[_Words] | None = None
    citations: list[SaidCitation] | None = None


class ImageSource(msgspec.Struct):
    bytes: str | None = None


class Image(msgspec.Struct):
    format: str = "png"
    source: ImageSource | None = None


class _Block(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: _ReasoningContent | None = None
    citations_content: _CitationsContent | None = None
    image: Image | None = None


class _Message(msgspec.Struct):
    content: list[_Block]


class _Output(msgspec.Struct):
    message: _Message


class _Whole(msgspec.Struct, rename="camel"):
    output: _Output
    stop_reason: str
    usage: Any = None
    service_tier: dict[str, Any] | None = None


def read_answer(body: Mapping[str, Any]) -> Answer:
    """The answer. Its id stands in a header, its model in the path of the request."""
    whole = read_whole(body, _Whole)
    parts = tuple(part for block in whole.output.message.content for part in _parts(block))
    return Answer(
        id="",
        model="",
        choices=(Choice(parts=parts, stop=stop_of(whole.stop_reason)),),
        usage=usage_of(whole.usage),
    )


def stop_of(reason: str) -> StopReason:
    """Raises UpstreamFailed where the model's answer could not be made out."""
    if reason in _FAILED:
        raise UpstreamFailed(
            f"the upstream could not read its model's own answer ({reason})", upstream_code=reason
        )
    return _STOPS.get(reason, "end")


def usage_of(told: object) -> Usage:
    """``inputTokens`` holds neither what was read from the cache nor what was written to it.

    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    """
    told = told if isinstance(told, dict) else {}
    names = ("inputTokens", "outputTokens")
    fresh, said = (count_of(told.get(name)) for name in names)
    if fresh is None or said is None:
        return Usage()
    read = count_of(told.get("cacheReadInputTokens")) or 0
    written = count_of(told.get("cacheWriteInputTokens")) or 0
    details = told.get("cacheDetails")
    kept = [
        count_of(detail.get("inputTokens")) or 0
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and detail.get("ttl") == "1h"
    ]
    return Usage(
        input_tokens=fresh + read + written,
        output_tokens=said,
        cached_tokens=read,
        reported=True,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(sum(kept), written),
    )


def signed(value: str) -> Signature:
    return Signature(origin=DIALECT, value=value)


def citation_of(told: SaidCitation) -> Citation:
    """What a citation says of its source."""
    quote = "".join(words.text or "" for words in told.source_content or ()) or None
    for kind, place in (told.location or {}).items():
        if kind == "web":
            url = place.get("url")
            url = url if isinstance(url, str) else None
            return Citation(kind="url", url=url, title=told.title, quote=quote)
        if kind in _PLACES:
            unit, index = _PLACES[kind]
            return Citation(
                kind="search" if index == "searchResultIndex" else "document",
                title=told.title,
                quote=quote,
                source=count_of(place.get(index)),
                source_start=count_of(place.get("start")),
                source_end=count_of(place.get("end")),
                unit=unit,
            )
    return Citation(kind="document", title=told.title, quote=quote)


def image_of(form: str, data: str) -> Media:
    source = Source(kind="base64", data=data, media_type=f"image/{form}")
    return Media(kind="image", source=source)


def _parts(block: _Block) -> Iterator[Part]:
    """The part that a block is; none for those that AWS made for itself."""
    if block.text is not None:
        yield Text(text=block.text)
    elif block.tool_use is not None and block.tool_use.type is None:
        use = block.tool_use
        if not isinstance(use.input, dict | None):
            raise UpstreamProtocolError("the upstream's answer has a tool call without an object")
        arguments = msgspec.json.encode(use.input or {}).decode()
        yield ToolCall(id=use.tool_use_id, name=use.name, arguments=arguments)
    elif block.reasoning_content is not None:
        yield _reasoning(block.reasoning_content)
    elif block.citations_content is not None:
        text = "".join(words.text or "" for words in block.citations_content.content or ())
        cited = tuple(citation_of(one) for one in block.citations_content.citations or ())
        yield Text(text=text, citations=cited)
    elif block.image is not None and block.image.source is not None:
        yield image_of(block.image.format, block.image.source.bytes or "")


def _reasoning(told: _ReasoningContent) -> Reasoning:
    if told.redacted_content is not None:
        return Reasoning(redacted=True, signature=signed(told.redacted_content))
    said = told.reasoning_text or _ReasoningText()
    return Reasoning(text=said.text, signature=signed(said.signature) if said.signature else None)
