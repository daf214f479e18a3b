"""Small things of the wire that both directions share: data URLs, sounds, signatures, citations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from proxy_core.dialects._canonical import CacheMark, Citation, Json, Media, Signature, Source
from proxy_core.dialects._seal import sealed, unsealed

__all__ = [
    "DIALECT",
    "annotation_of",
    "annotations_of",
    "arguments_of",
    "as_dict",
    "as_list",
    "as_text",
    "audio_format",
    "audio_type",
    "cache_control",
    "citations_of",
    "image_of",
    "is_address",
    "signature_in",
    "source_of",
    "url_of",
    "with_signature",
]

DIALECT: Final = "openai.chat"

_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {"mp3": "audio/mpeg", "pcm16": "audio/pcm", "opus": "audio/ogg"}
)
_FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{media_type: form for form, media_type in _TYPES.items()},
        "audio/mp3": "mp3",
        "audio/x-wav": "wav",
        "audio/wave": "wav",
        "audio/vnd.wave": "wav",
    }
)
_URL_SCHEMES: Final = ("http://", "https://", "gs://", "s3://")


def as_dict(value: Json) -> dict[str, Json]:
    """An upstream's object; whatever else it sent counts as an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """An upstream's array; whatever else it sent counts as an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Json) -> str:
    """An upstream's string; whatever else it sent counts as an empty one."""
    return value if isinstance(value, str) else ""


def arguments_of(value: Json) -> str:
    """A call's arguments as text: some servers send them as an object, or null."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def source_of(url: str) -> Source:
    """Of a ``data:`` URL or an address."""
    head, comma, data = url.partition(",")
    if comma and head[:5].lower() == "data:" and head[-7:].lower() == ";base64":
        return Source(kind="base64", data=data, media_type=head[5:-7])
    return Source(kind="url", data=url)


def url_of(source: Source, otherwise: str) -> str:
    """The address, or a ``data:`` URL of ``otherwise`` where nobody said what the bytes are."""
    if source.kind == "url":
        return source.data
    return f"data:{source.media_type or otherwise};base64,{source.data}"


def is_address(text: str) -> bool:
    """Whether a field that takes bytes or an address has an address."""
    return text.lower().startswith(_URL_SCHEMES)


def audio_type(format: str) -> str:
    """The media type of ``wav``, ``mp3`` and their like."""
    return _TYPES.get(format, f"audio/{format}" if format else "")


def audio_format(media_type: str) -> str:
    """The inverse of ``audio_type``."""
    bare = media_type.partition(";")[0].strip().lower()
    return _FORMATS.get(bare, bare.partition("/")[2] or "wav")


def image_of(value: Json) -> Media | None:
    """A picture in an answer: ``{type: image_url, image_url: {url}}``; None where it is none."""
    picture = as_dict(value)
    url = as_text(as_dict(picture.get("image_url")).get("url"))
    if not url:
        return None
    return Media(kind="image", source=source_of(url), signature=signature_in(picture))


def signature_in(holder: Mapping[str, Json]) -> Signature | None:
    """What ``extra_content.google.thought_signature`` says, Google's own way in this dialect."""
    google = as_dict(as_dict(holder.get("extra_content")).get("google"))
    signature = as_text(google.get("thought_signature"))
    return unsealed(signature, DIALECT) if signature else None


def with_signature(holder: dict[str, Any], signature: Signature | None) -> dict[str, Any]:
    """The same object, with a signature that its bearer can send back."""
    if signature is not None:
        told = {"thought_signature": sealed(signature, DIALECT)}
        holder["extra_content"] = {"google": told}
    return holder


def cache_control(mark: CacheMark) -> dict[str, str]:
    """Anthropic's mark, as OpenRouter and others take it on parts of this dialect."""
    return {"type": "ephemeral"} | ({} if mark.ttl is None else {"ttl": mark.ttl})


def citations_of(annotations: Json) -> tuple[Citation, ...]:
    """The ``url_citation`` annotations; others have no meaning that is written down anywhere."""
    found = []
    for annotation in as_list(annotations):
        said = as_dict(as_dict(annotation).get("url_citation"))
        if as_text(said.get("url")):
            found.append(_citation(said))
    return tuple(found)


def annotation_of(citation: Citation, text_start: int, text_end: int) -> dict[str, Any] | None:
    """An annotation of a message; None for a source that has no address.

    The two figures say which characters of the message are the text that bears the citation.
    """
    if not citation.url:
        return None
    start = text_end if citation.end is None else text_start + citation.end
    said: dict[str, Any] = {
        "start_index": text_start + (citation.start or 0),
        "end_index": start,
        "url": citation.url,
        "title": citation.title or "",
    }
    if citation.quote is not None:
        said["content"] = citation.quote
    return {"type": "url_citation", "url_citation": said}


def annotations_of(
    citations: Iterable[Citation], text_start: int, text_end: int
) -> list[dict[str, Any]]:
    """Those of one text."""
    written = (annotation_of(one, text_start, text_end) for one in citations)
    return [annotation for annotation in written if annotation is not None]


def _citation(said: dict[str, Json]) -> Citation:
    return Citation(
        kind="url",
        url=as_text(said.get("url")),
        title=as_text(said.get("title")) or None,
        quote=as_text(said.get("content")) or None,
        start=_place(said.get("start_index")),
        end=_place(said.get("end_index")),
    )


def _place(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
