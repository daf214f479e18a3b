"""Parts of a message's content."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from proxy_core.dialects._canonical import CacheMark, Media, Refusal, Source, Text
from proxy_core.dialects._chat._wire import audio_type, is_address, source_of
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._reading import Value

__all__ = ["cache_of", "read_cache", "read_content", "read_texts"]

_URLS: Final[Mapping[str, Literal["image", "audio", "video"]]] = MappingProxyType(
    {"image_url": "image", "video_url": "video", "audio_url": "audio"}
)
"""The last two are vLLM's and OpenRouter's."""

_KINDS: Final = ("text", "image_url", "input_audio", "file", "refusal", "video_url", "audio_url")
_FILE_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pdf": "application/pdf",
        "txt": "text/plain",
        "md": "text/markdown",
        "csv": "text/csv",
        "html": "text/html",
    }
)


def read_content(content: Value, losses: Losses) -> list[Text | Media | Refusal]:
    """A string or an array of parts; an empty string is no part. Raises InvalidRequest."""
    if isinstance(content.json, str):
        return [Text(text=content.json)] if content.json else []
    if not isinstance(content.json, list):
        content.refuse("a string or an array of parts")
    return [_part(part, losses) for part in content.items()]


def read_texts(content: Value, losses: Losses) -> list[Text | Media]:
    """The same, where there is no refusal to be."""
    parts = read_content(content, losses)
    return [Text(text=part.text) if isinstance(part, Refusal) else part for part in parts]


def cache_of(holder: Value) -> CacheMark | None:
    """Anthropic's ``cache_control``, or OpenAI's ``prompt_cache_breakpoint``."""
    mark = holder.maybe("cache_control")
    if mark is not None:
        return read_cache(mark)
    breakpoint_ = holder.maybe("prompt_cache_breakpoint")
    if breakpoint_ is None:
        return None
    # At least 30 minutes or 12 hours: of the lives that there are, an hour comes nearest.
    return CacheMark(ttl=None if breakpoint_.maybe_text("ttl") is None else "1h")


def read_cache(mark: Value) -> CacheMark:
    """``{type: ephemeral, ttl}``. Raises InvalidRequest."""
    mark.field("type").one_of("ephemeral")
    ttl = mark.maybe("ttl")
    if ttl is None:
        return CacheMark()
    return CacheMark(ttl="1h" if ttl.one_of("5m", "1h") == "1h" else "5m")


def _part(part: Value, losses: Losses) -> Text | Media | Refusal:
    kind = part.field("type").one_of(*_KINDS)
    part.lose_others(losses, "type", kind, "cache_control", "prompt_cache_breakpoint")
    said = part.field(kind)
    mark = cache_of(part)
    match kind:
        case "text":
            return Text(text=said.text(), cache=mark)
        case "refusal":
            return Refusal(text=said.text())
        case "input_audio":
            return _sound(said, mark, losses)
        case "file":
            return _file(said, mark, losses)
        case _:
            return _by_url(said, _URLS[kind], mark, losses)


def _by_url(
    said: Value, kind: Literal["image", "audio", "video"], mark: CacheMark | None, losses: Losses
) -> Media:
    if isinstance(said.json, str):
        return Media(kind=kind, source=source_of(said.json), cache=mark)
    said.lose_others(losses, "url", "detail")
    url, detail = said.field("url").text(), said.maybe_text("detail")
    return Media(kind=kind, source=source_of(url), detail=detail, cache=mark)


def _sound(said: Value, mark: CacheMark | None, losses: Losses) -> Media:
    said.lose_others(losses, "data", "format")
    data, form = said.field("data").text(), said.field("format").text()
    source = Source(kind="base64", data=data, media_type=audio_type(form))
    return Media(kind="audio", source=source, cache=mark)


def _file(said: Value, mark: CacheMark | None, losses: Losses) -> Media:
    said.lose_others(losses, "file_data", "file_id", "filename")
    name, data, file_id = (said.maybe_text(field) for field in ("filename", "file_data", "file_id"))
    if data is not None:
        source = _file_data(data, name or "")
    elif file_id is not None:
        source = Source(kind="file", data=file_id)
    else:
        said.refuse("a file with 'file_data' or a 'file_id'")
    return Media(kind="file", source=source, name=name, cache=mark)


def _file_data(data: str, name: str) -> Source:
    if data[:5].lower() == "data:" or is_address(data):
        return source_of(data)
    media_type = _FILE_TYPES.get(name.rpartition(".")[2].lower(), "")
    return Source(kind="base64", data=data, media_type=media_type)
