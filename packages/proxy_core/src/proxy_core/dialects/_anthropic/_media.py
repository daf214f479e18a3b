"""Pictures and documents as Anthropic takes them."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Media, Source
from proxy_core.dialects._codec import Losses
from proxy_core.errors import InvalidRequest

__all__ = ["write_media"]

_PICTURES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF", "application/pdf"),
)
_HEAD: Final = 16
"""Characters of base64: the first 12 bytes."""
_PDF: Final = "application/pdf"


def write_media(part: Media, where: str, can: Abilities, losses: Losses) -> dict[str, Any] | None:
    """The block for it; None where it is lost. Raises InvalidRequest for bytes of no known form."""
    why = _refused(part, can)
    block = None
    if not why:
        is_image = part.kind == "image"
        source = _picture(part.source, where) if is_image else _document(part.source, where)
        if source is None:
            why = f"Anthropic takes no {part.source.media_type or 'bytes of this form'} here"
        elif is_image:
            block = {"type": "image", "source": source}
        else:
            block = _with_words(part, source)
    if block is None:
        losses.drop(where, why, grave=True)
    elif part.detail not in {None, "auto"}:
        losses.drop(f"{where}.detail", "Anthropic chooses the detail of a picture itself")
    return block


def _refused(part: Media, can: Abilities) -> str:
    """Why this model can't take it; empty: it can."""
    if part.kind not in {"image", "file"}:
        return f"Anthropic's messages take no {part.kind}"
    if not (can.images if part.kind == "image" else can.files):
        return f"this model takes no {part.kind}s"
    if part.source.kind == "url" and not can.image_urls:
        return "this model takes base64 alone, and the proxy fetches no addresses"
    return ""


def _picture(source: Source, where: str) -> dict[str, Any] | None:
    if source.kind == "text":
        return None
    if source.kind != "base64":
        return _elsewhere(source)
    kind = _sniffed(source.data) or source.media_type.replace("image/jpg", "image/jpeg")
    if not kind:
        raise InvalidRequest(
            f"The picture in {where} has no media type and none of the forms that Anthropic "
            "takes: send a PNG, JPEG, GIF or WebP with its media type.",
            param=where,
        )
    if kind not in _PICTURES:
        return None
    return {"type": "base64", "media_type": kind, "data": source.data}


def _document(source: Source, where: str) -> dict[str, Any] | None:
    if source.kind == "text":
        return {"type": "text", "media_type": "text/plain", "data": source.data}
    if source.kind != "base64":
        return _elsewhere(source)
    kind = source.media_type or _sniffed(source.data)
    if kind == _PDF:
        return {"type": "base64", "media_type": _PDF, "data": source.data}
    if not kind.startswith("text/") and kind != "application/json":
        return None
    try:
        text = base64.b64decode(source.data, validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise InvalidRequest(
            f"The document in {where} is not base64 of UTF-8 text: send it so.", param=where
        ) from None
    return {"type": "text", "media_type": "text/plain", "data": text}


def _elsewhere(source: Source) -> dict[str, Any]:
    if source.kind == "url":
        return {"type": "url", "url": source.data}
    return {"type": "file", "file_id": source.data}


def _with_words(part: Media, source: dict[str, Any]) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "document", "source": source}
    if part.name:
        block["title"] = part.name
    if part.context:
        block["context"] = part.context
    if part.cites:
        block["citations"] = {"enabled": True}
    return block


def _sniffed(data: str) -> str:
    """The media type that the first bytes show; empty where they show none."""
    try:
        head = base64.b64decode(data[:_HEAD])
    except (binascii.Error, ValueError):
        return ""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")
