"""What every dialect needs of bodies: how one is read, and what is said of one that can't be."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.errors import InvalidRequest, UpstreamProtocolError

__all__ = ["fresh_call_id", "joined_base64", "read_body", "read_json", "unreadable_answer"]


def read_body(raw: bytes, owned: Collection[str]) -> Document:
    """A client's body, in which these fields stand once at most. Raises InvalidRequest."""
    try:
        return Document.parse(raw, owned)
    except MalformedDocument as error:
        raise InvalidRequest(
            f"The request body could not be read: {error}.", param=error.key
        ) from None


def read_json(raw: bytes) -> Any:
    """What is in a client's body, or in a field of it. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The request body could not be read: {error}.") from None


def unreadable_answer(error: Exception) -> UpstreamProtocolError:
    """An answer that is no JSON, or none of that form."""
    return UpstreamProtocolError(f"the upstream's answer could not be read: {error}")


def fresh_call_id() -> str:
    """For a tool's call that an upstream gave none: agents answer a call by its id."""
    return f"call_{secrets.token_hex(12)}"


def joined_base64(pieces: Sequence[str]) -> str:
    """One base64 of several, each of which is base64 by itself."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(map(base64.b64decode, pieces))).decode()
    except (binascii.Error, ValueError):
        return "".join(pieces)
