"""``reasoning_details``: thinking with its signatures, so that a client can send them back.

The shape is OpenRouter's: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy_core.dialects._canonical import Json, Reasoning, Signature
from proxy_core.dialects._chat._wire import DIALECT, as_dict, as_list, as_text
from proxy_core.dialects._seal import sealed, unsealed

__all__ = [
    "ENCRYPTED",
    "SUMMARY",
    "TEXT",
    "detail_kind",
    "reasoning_of",
    "reasoning_text",
    "signature_fields",
    "signature_of_detail",
    "text_of_detail",
    "written_detail",
]

ENCRYPTED: Final = "reasoning.encrypted"
SUMMARY: Final = "reasoning.summary"
TEXT: Final = "reasoning.text"

_FORMATTED: Final = "format:"
"""Begins our own value of a signature that came with a ``format``: they go back together."""
_NO_FORMAT: Final = "unknown"


def detail_kind(part: Reasoning) -> str:
    """The ``type`` of its detail."""
    if part.redacted:
        return ENCRYPTED
    return SUMMARY if part.summary else TEXT


def reasoning_text(message: Mapping[str, Json]) -> str:
    """DeepSeek's ``reasoning_content``, or ``reasoning`` as vLLM and OpenRouter name it."""
    return as_text(message.get("reasoning_content")) or as_text(message.get("reasoning"))


def reasoning_of(message: Mapping[str, Json]) -> list[Reasoning]:
    """All of it, once: the same words stand in the details and in the plain field."""
    details = [as_dict(detail) for detail in as_list(message.get("reasoning_details"))]
    parts = [part for detail in details if (part := _part(detail)) is not None]
    plain = reasoning_text(message)
    if plain and not any(part.text for part in parts):
        return [Reasoning(text=plain), *parts]
    return parts


def text_of_detail(detail: Mapping[str, Json]) -> str:
    """What it adds to the thinking."""
    return as_text(detail.get("summary" if detail.get("type") == SUMMARY else "text"))


def signature_of_detail(detail: Mapping[str, Json]) -> Signature | None:
    """The ``signature``, or the ``data`` of what is encrypted."""
    field = "data" if detail.get("type") == ENCRYPTED else "signature"
    told = as_text(detail.get(field))
    if not told:
        return None
    signature = unsealed(told, DIALECT)
    form = as_text(detail.get("format"))
    if signature.origin != DIALECT or form in ("", _NO_FORMAT):
        return signature
    return Signature(origin=DIALECT, value=f"{_FORMATTED}{form}:{told}")


def signature_fields(kind: str, signature: Signature) -> dict[str, Any]:
    """The inverse of ``signature_of_detail``."""
    field = "data" if kind == ENCRYPTED else "signature"
    if signature.origin == DIALECT and signature.value.startswith(_FORMATTED):
        form, _, value = signature.value[len(_FORMATTED) :].partition(":")
        return {field: value, "format": form}
    return {field: sealed(signature, DIALECT)}


def written_detail(part: Reasoning, index: int) -> dict[str, Any]:
    """One detail of a message."""
    kind = detail_kind(part)
    detail: dict[str, Any] = {"type": kind, "index": index}
    if part.id is not None:
        detail["id"] = part.id
    if kind != ENCRYPTED:
        detail["summary" if kind == SUMMARY else "text"] = part.text
    if part.signature is not None:
        detail |= signature_fields(kind, part.signature)
    return detail


def _part(detail: dict[str, Json]) -> Reasoning | None:
    signature, text = signature_of_detail(detail), text_of_detail(detail)
    if signature is None and not text:
        return None
    return Reasoning(
        text=text,
        signature=signature,
        redacted=detail.get("type") == ENCRYPTED,
        summary=detail.get("type") == SUMMARY,
        id=as_text(detail.get("id")) or None,
    )
