"""The head of an answer, kept as it came. Most headers are never asked for, so none is copied.

llhttp has judged it before: lines end with CRLF, names are tokens with a colon behind them, nothing
is folded.
"""

from __future__ import annotations

from proxy_core._types import Headers

__all__ = ["Head"]


class Head:
    """Status line and headers, without the empty line at the end."""

    __slots__ = ("lower", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.lower = raw.lower()

    def values(self, name: bytes) -> list[bytes]:
        """All of a header, in their order. ``name`` is lower-case."""
        lower, raw, found = self.lower, self.raw, []
        field = b"\r\n" + name + b":"
        start = lower.find(field)
        while start >= 0:
            end = lower.find(b"\r\n", start + 2)
            value = raw[start + len(field) : end if end >= 0 else len(raw)]
            found.append(value.strip(b" \t"))
            start = lower.find(field, start + len(field))
        return found

    def first(self, name: bytes) -> bytes:
        """The first of a header, empty when there is none. ``name`` is lower-case."""
        field = b"\r\n" + name + b":"
        start = self.lower.find(field)
        if start < 0:
            return b""
        start += len(field)
        end = self.lower.find(b"\r\n", start)
        return self.raw[start : end if end >= 0 else None].strip(b" \t")

    @property
    def headers(self) -> Headers:
        """Lower-case names and values, in their order."""
        pairs = [line.partition(b":") for line in self.raw.split(b"\r\n")[1:]]
        return [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]
