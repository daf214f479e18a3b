"""What an answer has used, by the name of its dialect: for who has bytes and no provider."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._codec import UpstreamCodec
from proxy_core.dialects._usage import read_usage
from proxy_core.errors import UpstreamError

__all__ = ["usage_in"]

_PLAIN: Final = frozenset({"openai.completions", "openai.embeddings"})
"""Dialects that are never translated and count as OpenAI's chat does."""


def usage_in(raw: bytes, dialect: str, codec: UpstreamCodec | None) -> Usage | None:
    """See ``extract_usage``."""
    try:
        body: Any = msgspec.json.decode(raw)
        if not isinstance(body, dict):
            return None
        if dialect in _PLAIN:
            return read_usage(msgspec.json.encode(body.get("usage")))
        found = None if codec is None else codec.read_answer(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UpstreamError):
        return None
    return found if found is not None and found.reported else None
