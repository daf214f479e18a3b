"""The content blocks of a client's messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from proxy_core.dialects._anthropic._carried import attached, carried
from proxy_core.dialects._anthropic._citations import citation_of
from proxy_core.dialects._anthropic._foreign import signature_in
from proxy_core.dialects._anthropic._words import DIALECT, given_id
from proxy_core.dialects._canonical import (
    CacheMark,
    Media,
    Part,
    Reasoning,
    Signature,
    Source,
    Text,
    ToolCall,
    ToolResult,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._reading import Value
from proxy_core.dialects._seal import unsealed

__all__ = ["read_blocks", "read_cache", "read_texts"]

_COMMON: Final = ("type", "cache_control")


def read_blocks(content: Value, losses: Losses) -> list[Part]:
    """A message's content: a string, or blocks. Raises InvalidRequest."""
    if isinstance(content.json, str):
        return [Text(text=content.json)] if content.json else []
    if not isinstance(content.json, list):
        content.refuse("a string or an array of content blocks")
    parts: list[Part] = []
    waiting: Signature | None = None
    for block in content.items():
        if block.field("type").text() == "redacted_thinking":
            told = carried(block.field("data").text())
            if told is not None:
                signature, late = told
                if late and parts:
                    parts[-1] = attached(parts[-1], signature)
                waiting = None if late else signature
                continue
        part = _read_block(block, losses)
        if part is not None:
            parts.append(part if waiting is None else attached(part, waiting))
        waiting = None
    return parts


def read_texts(content: Value, losses: Losses) -> tuple[Text, ...]:
    """The content of a system prompt: a string, or blocks of text. Raises InvalidRequest."""
    if isinstance(content.json, str):
        return (Text(text=content.json),) if content.json else ()
    if not isinstance(content.json, list):
        content.refuse("a string or an array of text blocks")
    texts = []
    for block in content.items():
        block.field("type").one_of("text")
        texts.append(_text(block, losses))
    return tuple(texts)


def read_cache(block: Value, losses: Losses) -> CacheMark | None:
    mark = block.maybe("cache_control")
    if mark is None:
        return None
    mark.field("type").one_of("ephemeral")
    mark.lose_others(losses, "type", "ttl")
    ttl = mark.maybe("ttl")
    if ttl is None:
        return CacheMark()
    return CacheMark(ttl="1h" if ttl.one_of("5m", "1h") == "1h" else "5m")


def _read_block(block: Value, losses: Losses) -> Part | None:
    kind = block.field("type").text()
    read = _BLOCKS.get(kind)
    if read is None:
        losses.drop(block.path, f"a block of type {kind!r} has no like elsewhere", grave=True)
        return None
    return read(block, losses)


def _text(block: Value, losses: Losses) -> Text:
    block.lose_others(losses, *_COMMON, "text", "citations")
    cited = [citation_of(one.fields()) for one in block.maybe_items("citations")]
    return Text(
        text=block.field("text").text(),
        citations=tuple(one for one in cited if one is not None),
        cache=read_cache(block, losses),
    )


def _image(block: Value, losses: Losses) -> Media:
    block.lose_others(losses, *_COMMON, "source")
    source = block.field("source")
    source.field("type").one_of("base64", "url", "file")
    return Media(kind="image", source=_read_source(source, losses), cache=read_cache(block, losses))


def _document(block: Value, losses: Losses) -> Media:
    block.lose_others(losses, *_COMMON, "source", "title", "context", "citations")
    source, citations = block.field("source"), block.maybe("citations")
    source.field("type").one_of("base64", "url", "file", "text", "content")
    return Media(
        kind="file",
        source=_read_source(source, losses),
        name=block.maybe_text("title"),
        context=block.maybe_text("context"),
        cites=citations is not None and bool(citations.maybe_flag("enabled")),
        cache=read_cache(block, losses),
    )


def _read_source(source: Value, losses: Losses) -> Source:
    match source.field("type").text():
        case "url":
            source.lose_others(losses, "type", "url")
            return Source(kind="url", data=source.field("url").text())
        case "file":
            source.lose_others(losses, "type", "file_id")
            return Source(kind="file", data=source.field("file_id").text())
        case "content":
            texts = _texts_of(source.field("content"), losses)
            return Source(kind="text", data="\n\n".join(texts), media_type="text/plain")
        case "text":
            data, kind = source.field("data").text(), source.maybe_text("media_type")
            return Source(kind="text", data=data, media_type=kind or "text/plain")
        case _:
            source.lose_others(losses, "type", "media_type", "data")
            kind = source.maybe_text("media_type") or ""
            return Source(kind="base64", data=source.field("data").text(), media_type=kind)


def _texts_of(content: Value, losses: Losses) -> list[str]:
    texts = []
    for number, part in enumerate(read_blocks(content, losses)):
        if isinstance(part, Text):
            texts.append(part.text)
        else:
            losses.drop(
                f"{content.path}[{number}]", "only text of a document is carried", grave=True
            )
    return texts


def _search_result(block: Value, losses: Losses) -> Text:
    """As text: no other dialect has blocks for what a client has searched itself."""
    block.lose_others(losses, *_COMMON, "source", "title", "content")
    head = [block.field("title").text(), block.field("source").text()]
    texts = _texts_of(block.field("content"), losses)
    return Text(text="\n".join([*head, "", *texts]), cache=read_cache(block, losses))


def _tool_use(block: Value, losses: Losses) -> ToolCall:
    block.lose_others(losses, *_COMMON, "id", "name", "input", "caller")
    given = block.maybe("input")
    return ToolCall(
        id=given_id(block.field("id").text()),
        name=block.field("name").text(),
        arguments="{}" if given is None else msgspec.json.encode(given.fields()).decode(),
        cache=read_cache(block, losses),
    )


def _tool_result(block: Value, losses: Losses) -> ToolResult:
    block.lose_others(losses, *_COMMON, "tool_use_id", "content", "is_error")
    content = block.maybe("content")
    parts: list[Text | Media] = []
    for number, part in enumerate(read_blocks(content, losses) if content is not None else ()):
        if isinstance(part, Text | Media):
            parts.append(part)
        else:
            losses.drop(f"{block.path}.content[{number}]", "no result of a tool", grave=True)
    return ToolResult(
        id=given_id(block.field("tool_use_id").text()),
        parts=tuple(parts),
        is_error=bool(block.maybe_flag("is_error")),
        cache=read_cache(block, losses),
    )


def _thinking(block: Value, losses: Losses) -> Reasoning:
    block.lose_others(losses, *_COMMON, "thinking", "signature")
    return Reasoning(
        text=block.maybe_text("thinking") or "",
        signature=signature_in(block.maybe_text("signature") or ""),
    )


def _redacted(block: Value, losses: Losses) -> Reasoning:
    block.lose_others(losses, *_COMMON, "data")
    return Reasoning(signature=unsealed(block.field("data").text(), DIALECT), redacted=True)


_Read = Callable[[Value, Losses], Part]

_BLOCKS: Final[Mapping[str, _Read]] = MappingProxyType(
    {
        "text": _text,
        "image": _image,
        "document": _document,
        "search_result": _search_result,
        "tool_use": _tool_use,
        "tool_result": _tool_result,
        "thinking": _thinking,
        "redacted_thinking": _redacted,
    }
)
"""All others (the provider's own tools and their results) mean something to Anthropic alone."""
