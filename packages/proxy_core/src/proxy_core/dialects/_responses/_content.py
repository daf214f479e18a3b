"""The content of messages and of tools' results, in both directions."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    CacheMark,
    Citation,
    Media,
    Part,
    Refusal,
    Source,
    Text,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._reading import Value
from proxy_core.dialects._responses._citations import read_annotation

__all__ = ["data_url", "read_citations", "read_content", "written_part"]

_IMAGE: Final = ("type", "detail", "file_id", "image_url", "prompt_cache_breakpoint")
_FILE: Final = (
    "type",
    "file_data",
    "file_id",
    "file_url",
    "filename",
    "prompt_cache_breakpoint",
)
_TEXT: Final = ("type", "text", "annotations", "logprobs", "prompt_cache_breakpoint")


def read_content(value: Value, losses: Losses) -> tuple[Part, ...]:
    """A text, or a list of parts. What the canonical form can't say is a grave loss."""
    if isinstance(value.json, str):
        return (Text(text=value.json),) if value.json else ()
    if not isinstance(value.json, list):
        value.refuse("a string or an array")
    found = (_read_part(item, losses) for item in value.items())
    return tuple(part for part in found if part is not None)


def read_citations(value: Value) -> tuple[Citation, ...]:
    """The annotations of a text."""
    found = (read_annotation(one) for one in value.maybe_items("annotations"))
    return tuple(one for one in found if one is not None)


def _read_part(value: Value, losses: Losses) -> Part | None:
    kind = value.field("type").text()
    read = _READERS.get(kind)
    if read is None:
        losses.drop(value.path, f"the translation has no content of type {kind!r}", grave=True)
        return None
    return read(value, losses)


def _cache(value: Value) -> CacheMark | None:
    return CacheMark() if "prompt_cache_breakpoint" in value else None


def _text(value: Value, losses: Losses) -> Text:
    value.lose_others(losses, *_TEXT)
    return Text(
        text=value.field("text").text(), citations=read_citations(value), cache=_cache(value)
    )


def _refusal(value: Value, losses: Losses) -> Refusal:
    value.lose_others(losses, "type", "refusal")
    return Refusal(text=value.field("refusal").text())


def _image(value: Value, losses: Losses) -> Media:
    value.lose_others(losses, *_IMAGE)
    return Media(
        kind="image",
        source=_source(value, "image_url"),
        detail=value.maybe_text("detail"),
        cache=_cache(value),
    )


def _file(value: Value, losses: Losses) -> Media:
    value.lose_others(losses, *_FILE)
    data = value.maybe_text("file_data")
    source = _source(value, "file_url") if data is None else _from_url(data, "base64")
    return Media(kind="file", source=source, name=value.maybe_text("filename"), cache=_cache(value))


def _audio(value: Value, losses: Losses) -> Media:
    value.lose_others(losses, "type", "input_audio")
    sound = value.field("input_audio")
    form = sound.field("format").text()
    kind = "audio/mpeg" if form == "mp3" else f"audio/{form}"
    data = sound.field("data").text()
    return Media(kind="audio", source=Source(kind="base64", data=data, media_type=kind))


_READERS: Final[Mapping[str, Callable[[Value, Losses], Part]]] = MappingProxyType(
    {
        "input_text": _text,
        "output_text": _text,
        "text": _text,
        "refusal": _refusal,
        "input_image": _image,
        "input_file": _file,
        "input_audio": _audio,
    }
)


def _source(value: Value, url_field: str) -> Source:
    file_id = value.maybe_text("file_id")
    if file_id is not None:
        return Source(kind="file", data=file_id)
    return _from_url(value.field(url_field).text(), "url")


def _from_url(url: str, otherwise: Literal["base64", "url"]) -> Source:
    """Bytes where it is a ``data:`` URL in base64."""
    head, comma, data = url.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        return Source(kind="base64", data=data, media_type=head[5:-7])
    return Source(kind=otherwise, data=url)


def data_url(source: Source) -> str:
    """The bytes as a URL; base64 alone where nobody said what they are."""
    if not source.media_type:
        return source.data
    return f"data:{source.media_type};base64,{source.data}"


def written_part(part: Part, field: str, can: Abilities, losses: Losses) -> dict[str, Any] | None:
    """Content for an upstream, as a user or a tool says it; None where it is lost."""
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Refusal):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Media) and part.kind == "image":
        return _written_image(part, field, can, losses)
    if isinstance(part, Media) and part.kind == "file":
        return _written_file(part, field, can, losses)
    kind = part.kind if isinstance(part, Media) else type(part).__name__.lower()
    losses.drop(field, f"OpenAI's Responses take no {kind} here", grave=True)
    return None


def _written_image(
    part: Media, field: str, can: Abilities, losses: Losses
) -> dict[str, Any] | None:
    source = part.source
    if not can.images or (source.kind == "url" and not can.image_urls) or source.kind == "text":
        why = "no images" if not can.images else "no images by address"
        losses.drop(field, f"this model takes {why}", grave=True)
        return None
    written: dict[str, Any] = {"type": "input_image", "detail": part.detail or "auto"}
    if source.kind == "file":
        return {**written, "file_id": source.data}
    image = source
    if source.kind == "base64" and not source.media_type:
        image = Source(kind="base64", data=source.data, media_type="image/png")
    return {**written, "image_url": image.data if image.kind == "url" else data_url(image)}


def _written_file(part: Media, field: str, can: Abilities, losses: Losses) -> dict[str, Any] | None:
    if not can.files:
        losses.drop(field, "this model takes no files", grave=True)
        return None
    if part.context is not None:
        losses.drop(f"{field}.context", "OpenAI's Responses have no words about a file")
    if part.cites:
        losses.drop(f"{field}.citations", "OpenAI's Responses can't be told to cite a file")
    source = part.source
    named = {} if part.name is None else {"filename": part.name}
    if source.kind == "file":
        return {"type": "input_file", "file_id": source.data, **named}
    if source.kind == "url":
        return {"type": "input_file", "file_url": source.data, **named}
    if source.kind == "text":
        encoded = base64.b64encode(source.data.encode()).decode()
        plain = Source(kind="base64", data=encoded, media_type=source.media_type or "text/plain")
        named = named or {"filename": "document.txt"}
        return {"type": "input_file", "file_data": data_url(plain), **named}
    return {"type": "input_file", "file_data": data_url(source), **named}
