"""Seals of ours in a request that goes on in the dialect that its client speaks.

A client keeps what we gave it on behalf of one provider, and brings it back whichever deployment
answers next. One that speaks the client's own dialect would take it for a signature that it never
made, and refuse it. So seals are taken out, with what can't stand without them; where there is no
mark in the bytes nothing is looked at, and every other value stays as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

__all__ = ["CHAT_MARK", "RESPONSES_MARK", "Clean", "chat_message", "cleaned", "responses_item"]

CHAT_MARK: Final = b'"lp1:'
RESPONSES_MARK: Final = b'"lp'
"""Of ``lp1:`` and of ``lp-call:`` and its kin."""
_SEALS: Final = ("lp1:", "lp-redacted:", "lp-call:", "lp-text:", "lp-media:")
_DETAILS: Final = "reasoning_details"
_EXTRA: Final = "extra_content"
_THOUGHTS: Final = ("reasoning_content", "reasoning")
_BEARERS: Final = ("tool_calls", "images")

_read_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

Clean = Callable[[msgspec.Raw], msgspec.Raw | None]
"""What a row becomes; None: nothing of it is left. The same object: it has no seal."""


class _Sealed(msgspec.Struct):
    """Wherever a seal may be; fields of other types are nobody's."""

    signature: object = None
    data: object = None
    encrypted_content: object = None
    thought_signature: object = None

    def is_ours(self) -> bool:
        told = (self.signature, self.data, self.encrypted_content, self.thought_signature)
        return any(isinstance(one, str) and one.startswith(_SEALS) for one in told)


_read_sealed = msgspec.json.Decoder(_Sealed).decode


def cleaned(array: msgspec.Raw, clean: Clean) -> bytes | None:
    """The array without seals; None where it has none, or is no array of such rows."""
    try:
        return _rows(array, clean)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # it is the upstream's to say what is wrong


def responses_item(row: msgspec.Raw) -> msgspec.Raw | None:
    """An item of a Responses input: only reasoning is sealed, and it goes whole."""
    return None if RESPONSES_MARK in bytes(row) and _is_sealed(row) else row


def chat_message(row: msgspec.Raw) -> msgspec.Raw | None:
    """A message of a chat, without thinking and signatures of another provider."""
    if CHAT_MARK not in bytes(row):
        return row
    fields = _read_fields(row)
    kept = dict(fields)
    if _inner(fields, _DETAILS, _detail) is not None:
        # They are of one provider, and only the last piece of each bears its seal where a client
        # joined none; the plain text says what they said.
        for name in (_DETAILS, *_THOUGHTS):
            kept.pop(name, None)
    for name in _BEARERS:
        bearers = _inner(fields, name, _bearer)
        if bearers is not None:
            kept[name] = bearers
    _drop_extra(kept)
    return row if kept == fields else msgspec.Raw(_encode(kept))


def _rows(array: msgspec.Raw, clean: Clean) -> bytes | None:
    if not bytes(array).startswith(b"["):
        return None
    rows = _read_rows(array)
    fresh = [clean(row) for row in rows]
    if all(new is row for new, row in zip(fresh, rows, strict=True)):
        return None
    return _encode([row for row in fresh if row is not None])


def _inner(fields: Mapping[str, msgspec.Raw], name: str, clean: Clean) -> msgspec.Raw | None:
    array = fields.get(name)
    fresh = None if array is None else _rows(array, clean)
    return None if fresh is None else msgspec.Raw(fresh)


def _detail(row: msgspec.Raw) -> msgspec.Raw | None:
    return None if CHAT_MARK in bytes(row) and _is_sealed(row) else row


def _bearer(row: msgspec.Raw) -> msgspec.Raw | None:
    """A call or a picture, which stands without its signature."""
    if CHAT_MARK not in bytes(row):
        return row
    kept = _read_fields(row)
    had = len(kept)
    _drop_extra(kept)
    return row if len(kept) == had else msgspec.Raw(_encode(kept))


def _drop_extra(fields: dict[str, msgspec.Raw]) -> None:
    """Google's own place for a signature in this dialect; it holds nothing else."""
    extra = fields.get(_EXTRA)
    if extra is None or CHAT_MARK not in bytes(extra):
        return
    google = _read_fields(extra).get("google")
    if google is not None and _is_sealed(google):
        del fields[_EXTRA]


def _is_sealed(row: msgspec.Raw) -> bool:
    return bytes(row).startswith(b"{") and _read_sealed(row).is_ours()
