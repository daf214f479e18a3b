"""Signatures that we gave a client on behalf of another provider, on their way to Gemini itself."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy_core.dialects._gemini._words import DIALECT, SKIP_SIGNATURE, signature_read
from proxy_core.dialects._unsealed import cleaned

__all__ = ["MARK", "without_foreign"]

MARK: Final = b'"bHAxO'
"""How our seal begins in base64, in every body that may hold one."""
_NAMES: Final = ("thoughtSignature", "thought_signature")
_CALLS: Final = ("functionCall", "function_call")

_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


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
    return None if parts == b"[]" else msgspec.Raw(_encode(fields | {"parts": msgspec.Raw(parts)}))


def _part(row: msgspec.Raw) -> msgspec.Raw | None:
    """Thinking goes with its signature; a call gets the word that Gemini takes for one."""
    if MARK not in bytes(row):
        return row
    fields: dict[str, Any] = _read_fields(row)
    name = next((name for name in _NAMES if _is_foreign(fields.get(name))), None)
    if name is None:
        return row
    if any(call in fields for call in _CALLS):
        return msgspec.Raw(_encode(fields | {name: SKIP_SIGNATURE}))
    del fields[name]
    is_thought = bytes(fields.get("thought", b"")) == b"true"
    if is_thought or all(bytes(value) == b'""' for value in fields.values()):
        return None
    return msgspec.Raw(_encode(fields))


def _is_foreign(value: msgspec.Raw | None) -> bool:
    text = None if value is None else _read(value)
    return isinstance(text, str) and signature_read(text).origin != DIALECT
