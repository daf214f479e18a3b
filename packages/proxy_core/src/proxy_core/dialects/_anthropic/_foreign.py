"""Blocks that we gave a client on behalf of another provider, on their way to Anthropic itself.

A client keeps them and sends them back whichever deployment answers next. Anthropic would refuse
them as signatures that it never made, so they are taken out, and every other byte stays.
"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy_core.dialects._anthropic._carried import is_carried
from proxy_core.dialects._anthropic._words import DIALECT
from proxy_core.dialects._canonical import Signature
from proxy_core.dialects._seal import sealed, unsealed

__all__ = ["MARK", "UNSIGNED", "signature_in", "without_foreign"]

MARK: Final = b"lp1:"
"""In every body that may hold such a block."""

UNSIGNED: Final = sealed(Signature(origin="", value=""), DIALECT)
"""In the place of a signature, for thinking that nobody signed."""


class _Block(msgspec.Struct):
    type: str = ""
    signature: str = ""
    data: str = ""

    def is_foreign(self) -> bool:
        if self.type == "thinking":
            return unsealed(self.signature, DIALECT).origin != DIALECT
        if self.type == "redacted_thinking":
            return is_carried(self.data) or unsealed(self.data, DIALECT).origin != DIALECT
        return False


_read_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_block = msgspec.json.Decoder(_Block).decode
_encode = msgspec.json.Encoder().encode


def signature_in(text: str) -> Signature | None:
    """The signature of a block of thinking that a client sent back; None where it has none."""
    signature = unsealed(text, DIALECT)
    return signature if signature.value else None


def without_foreign(messages: msgspec.Raw) -> bytes | None:
    """The array of messages without such blocks; None where it has none, or is no such array."""
    try:
        rows = [_cleaned(row) for row in _read_rows(messages)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if all(fresh is None for _, fresh in rows):
        return None
    return _encode(
        [row if fresh is None else fresh for row, fresh in rows if fresh is None or len(fresh)]
    )


def _cleaned(row: msgspec.Raw) -> tuple[msgspec.Raw, msgspec.Raw | None]:
    """A message, and what it becomes; empty where nothing of it is left."""
    if MARK not in bytes(row):
        return row, None
    fields = _read_fields(row)
    content = fields.get("content", msgspec.Raw())
    if not bytes(content).startswith(b"["):
        return row, None
    blocks = _read_rows(content)
    kept = [block for block in blocks if not _is_foreign(block)]
    if len(kept) == len(blocks):
        return row, None
    fresh = _encode(fields | {"content": msgspec.Raw(_encode(kept))}) if kept else b""
    return row, msgspec.Raw(fresh)


def _is_foreign(block: msgspec.Raw) -> bool:
    return MARK in bytes(block) and _read_block(block).is_foreign()
