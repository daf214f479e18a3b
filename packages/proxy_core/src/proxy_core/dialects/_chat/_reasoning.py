"""``reasoning_details``: thinking with its signatures, so that a client can send them back.

The shape is OpenRouter's: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxy_core.dialects._canonical import Json, Part, Reasoning, Refusal, Signature, Text
from proxy_core.dialects._chat._wire import DIALECT, as_dict, as_list, as_text
from proxy_core.dialects._seal import sealed, unsealed

__all__ = [
    "ENCRYPTED",
    "SUMMARY",
    "TEXT",
    "UNSIGNED",
    "Places",
    "detail_kind",
    "for_client",
    "in_places",
    "is_said",
    "reasoning_text",
    "signature_fields",
    "signature_of_detail",
    "text_of_detail",
    "written_detail",
]

ENCRYPTED: Final = "reasoning.encrypted"
SUMMARY: Final = "reasoning.summary"
TEXT: Final = "reasoning.text"

UNSIGNED: Final = sealed(Signature(origin="", value=""), DIALECT)
"""In the place of a signature, for thinking of another dialect's provider that nobody signed: an
upstream of this dialect does not get it back."""

_FORMATTED: Final = "format:"
"""Begins our own value of a signature that came with a ``format``: they go back together."""
_NO_FORMAT: Final = "unknown"


class Places:
    """The ``index`` of each detail: where in the message its thinking stood.

    Counted is what a message holds apart: a detail, a call, a picture; its text is one, however
    many parts it was. Where all thinking comes first, that is 0, 1, 2 as with everybody.
    """

    __slots__ = ("_next", "_once")

    def __init__(self) -> None:
        self._next = 0
        self._once: set[type] = set()

    def take(self, part: Part) -> int:
        """The place of a part that has something to say."""
        at, kind = self._next, type(part)
        if kind not in self._once:
            self._next += 1
        if kind is Text or kind is Refusal:
            self._once.add(kind)
        return at


def is_said(part: Part) -> bool:
    """Whether a message shows anything of the part, which then has a place in it."""
    if isinstance(part, Reasoning):
        return bool(part.text) or part.signature is not None
    return not isinstance(part, Text | Refusal) or bool(part.text)


def detail_kind(part: Reasoning) -> str:
    """The ``type`` of its detail."""
    if part.redacted:
        return ENCRYPTED
    return SUMMARY if part.summary else TEXT


def reasoning_text(message: Mapping[str, Json]) -> str:
    """DeepSeek's ``reasoning_content``, or ``reasoning`` as vLLM and OpenRouter name it."""
    return as_text(message.get("reasoning_content")) or as_text(message.get("reasoning"))


def in_places(message: Mapping[str, Json], others: Sequence[Part]) -> list[Part]:
    """A message's parts with its thinking among them, where the details say that it stood.

    All of it, once: the same words stand in the details and in the plain field.
    """
    told = [(_part(detail), _index(detail)) for detail in _details(message)]
    found = [(part, at) for part, at in told if part is not None]
    plain, placed, left = reasoning_text(message), list[Part](), list(others)
    if plain and not any(part.text for part, _ in found):
        placed.append(Reasoning(text=plain))
    for part, at in found:
        room = max(0, at - len(placed))
        placed += left[:room]
        del left[:room]
        placed.append(part)
    return placed + left


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
    if not signature.value:
        return None
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


def for_client(part: Reasoning, index: int) -> dict[str, Any]:
    """The same for a client, from a provider of another dialect."""
    unsigned = part.signature is None and not part.redacted
    return written_detail(part, index) | ({"signature": UNSIGNED} if unsigned else {})


def _details(message: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The details; pieces of one that a client did not join are one again."""
    joined: list[dict[str, Json]] = []
    for detail in map(as_dict, as_list(message.get("reasoning_details"))):
        if joined and _goes_on(joined[-1], detail):
            text = text_of_detail(joined[-1]) + text_of_detail(detail)
            field = "summary" if detail.get("type") == SUMMARY else "text"
            told = {name: value for name, value in detail.items() if value is not None}
            joined[-1] = joined[-1] | told | {field: text}
        else:
            joined.append(detail)
    return joined


def _goes_on(last: dict[str, Json], detail: dict[str, Json]) -> bool:
    """Whether a detail is more of the one before it, which no signature has ended."""
    same = all(last.get(name) == detail.get(name) for name in ("type", "index"))
    whole = as_text(last.get("signature")) or detail.get("type") == ENCRYPTED
    named = as_text(detail.get("id"))
    other = named and named != last.get("id")
    return same and not whole and not other and isinstance(last.get("index"), int)


def _index(detail: Mapping[str, Json]) -> int:
    at = detail.get("index")
    return at if isinstance(at, int) else 0


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
