"""The head of an answer, kept as it came. Most headers are never asked for, so none is copied.

llhttp has judged it before: lines end with CRLF, names are tokens with a colon behind them, nothing
is folded.
"""

from __future__ import annotations

import re
from typing import Final

from proxy_core._types import Headers

__all__ = ["Head"]


_FIELDS: Final = re.compile(rb"([^:]++):([^\r]*+)\r\n").findall


class Head:
    """Status line and headers, each with its line end, without the empty line behind them."""

    __slots__ = ("lower", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.lower = raw.lower()

    def first(self, name: bytes) -> bytes:
        """The first of a header, empty when there is none. ``name`` is lower-case."""
        field, lower = b"\r\n" + name + b":", self.lower
        at = lower.find(field)
        if at < 0:
            return b""
        at += len(field)
        return self.raw[at : lower.find(b"\r", at)].strip(b" \t")

    @property
    def headers(self) -> Headers:
        """Lower-case names and values, in their order."""
        raw = self.raw
        fields = _FIELDS(raw, raw.index(b"\n") + 1)
        return [(name.lower(), value.strip(b" \t")) for name, value in fields]
