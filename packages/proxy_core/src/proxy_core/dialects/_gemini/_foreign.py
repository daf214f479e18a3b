"""Signatures that we gave a client on behalf of another provider, on their way to Gemini itself."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from proxy_core.dialects._gemini._words import DIALECT, SKIP_SIGNATURE, UNSIGNED, signature_read
from proxy_core.dialects._unsealed import cleaned

__all__ = ["MARK", "with_skips", "without_foreign"]

MARK: Final = b'"bHAxO'
"""How our seal begins in base64, in every body that may hold one."""
_NAMES: Final = ("thoughtSignature", "thought_signature")
_CALLS: Final = ("functionCall", "function_call")
_CALL_MARKS: Final = tuple(name.encode() for name in _CALLS)
_SKIP: Final = msgspec.Raw(b'"%b"' % SKIP_SIGNATURE.encode())
_UNSIGNED: Final = re.compile(
    rb'("thought(?:S|_s)ignature"\s*:\s*)"%b"' % re.escape(UNSIGNED.encode())
)
"""Never within a text, where quotes are escaped."""

_read_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def with_skips(contents: msgspec.Raw) -> msgspec.Raw:
    """The same, where calls that nobody signed have Gemini's word for it: nothing is lost."""
    told = bytes(contents)
    fresh = _UNSIGNED.sub(rb"\1" + bytes(_SKIP), told)
    return contents if fresh == told else msgspec.Raw(fresh)


def without_foreign(contents: msgspec.Raw) -> bytes | None:
    """The contents without them; None where there are none."""
    return cleaned(contents, _content)


def _content(row: msgspec.Raw) -> msgspec.Raw | None:
    if MARK not in bytes(row):
        return row
    fields = _read_fields(row)
    parts = cleaned(fields.get("parts", msgspec.Raw(b"null")), _part)
    if parts is None:
        return row
    if parts == b"[]":
        return None
    return msgspec.Raw(_encode(fields | {"parts": msgspec.Raw(_signed(parts))}))


def _signed(parts: bytes) -> bytes:
    """The first call of a step bears a signature, whoever signed the thinking before it."""
    if not any(name in parts for name in _CALL_MARKS):
        return parts
    rows = [_read_fields(row) for row in _read_rows(parts)]
    first = next((row for row in rows if any(call in row for call in _CALLS)), None)
    if first is None or any(name in first for name in _NAMES):
        return parts
    first[_NAMES[0]] = _SKIP
    return _encode(rows)


def _part(row: msgspec.Raw) -> msgspec.Raw | None:
    """Thinking goes with its signature; a call gets the word that Gemini takes for one."""
    if MARK not in bytes(row):
        return row
    fields = _read_fields(row)
    name = next((name for name in _NAMES if _is_foreign(fields.get(name))), None)
    if name is None:
        return row
    if any(call in fields for call in _CALLS):
        return msgspec.Raw(_encode(fields | {name: _SKIP}))
    del fields[name]
    is_thought = bytes(fields.get("thought", b"")) == b"true"
    if is_thought or all(bytes(value) == b'""' for value in fields.values()):
        return None
    return msgspec.Raw(_encode(fields))


def _is_foreign(value: msgspec.Raw | None) -> bool:
    text = None if value is None else _read(value)
    if not isinstance(text, str):
        return False
    signature = signature_read(text)
    return signature is None or signature.origin != DIALECT
