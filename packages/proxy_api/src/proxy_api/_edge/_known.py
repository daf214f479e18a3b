"""The head of a connection's last request: SDKs send the same one again, but for the length."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from proxy_api._edge._rules import Rules

__all__ = ["KnownHead"]

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})(?=\r\n)", re.IGNORECASE)
_MOST_DIGITS: Final = 15
_LONGEST: Final = 4096
"""Bytes of a head that is remembered: each connection may keep one."""
_ODD: Final = (b"transfer-encoding", b"expect", b"upgrade")


class KnownHead:
    """A head that was parsed and judged, and by which another is known without either.

    All that it says is decided by its bytes. Only the digits of the content-length may be others,
    and they decide nothing but the length of the body. It must be a plain POST that keeps its
    connection, its body framed by that length alone.
    """

    __slots__ = ("_after", "_at", "_before", "_first", "_headers", "named", "rules", "scope", "url")

    def __init__(self, before: bytes, after: bytes, url: bytes, rules: Rules) -> None:
        self._before = before
        """As far as the digits."""
        self._after = after
        """What stands behind them, to the empty line."""
        self._headers: list[tuple[bytes, bytes]] = []
        """Those of its last request."""
        self._first: dict[bytes, bytes] | None = None
        self._at = 0
        self.named: dict[bytes, bytes] = {}
        self.url = url
        self.rules = rules
        """By which it was judged."""
        self.scope: dict[str, Any] | None = None
        """What of the ASGI scope it decides, once it has been made."""

    @classmethod
    def of(
        cls,
        data: bytes,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        named: dict[bytes, bytes],
        rules: Rules,
    ) -> KnownHead | None:
        """What to remember of a good head that ``data`` begins with; None where it is not plain."""
        length = named.get(b"content-length")
        end = data.find(b"\r\n\r\n", 0, min(_LONGEST, rules.header_size - _MOST_DIGITS)) + 4
        if length is None or end < 4 or any(name in named for name in _ODD):
            return None
        head, lines = data[:end], len(headers) + 2
        # The parser is to have seen the same lines in it: one end for each, and no other.
        is_plain = head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == lines
        if not is_plain or not head.startswith(b"POST %b HTTP/1.1\r\n" % url):
            return None
        found = list(_LENGTH.finditer(head))
        if len(found) != 1 or found[0][1] != length:
            return None
        known = cls(head[: found[0].start(1)], head[found[0].end(1) :], url, rules)
        known._headers, known.named = headers.copy(), named
        known._at = headers.index((b"content-length", length))
        return known

    def body_at(self, data: bytes) -> int:
        """Where the body begins, when ``data`` begins with this head; else -1."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return -1
        at = len(before)
        end = data.find(b"\r", at, at + _MOST_DIGITS + 1)
        if end > at and data.startswith(after, end) and data[at:end].isdigit():
            return end + len(after)
        return -1

    def headers(self, data: bytes, body_at: int) -> tuple[list[tuple[bytes, bytes]], int]:
        """The headers of that request, and the length of its body."""
        digits = data[len(self._before) : body_at - len(self._after)]
        self._headers[self._at] = (b"content-length", digits)
        return self._headers.copy(), int(digits)

    def first_values(self, headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
        """The first value of each name of a request's headers.

        They are compared: something may have changed them on their way, or another request of the
        connection has come.
        """
        if headers != self._headers:
            return dict(reversed(headers))
        if self._first is None:
            self._first = dict(reversed(headers))
        first = self._first.copy()
        first[b"content-length"] = headers[self._at][1]
        return first
