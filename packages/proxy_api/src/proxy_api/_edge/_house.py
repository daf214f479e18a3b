"""What the connections of one server share: rules, a clock, the first lines of answers, a sweep."""

from __future__ import annotations

import asyncio
import http
import time
from collections import Counter
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from proxy_api._edge._refusals import Refusal
from proxy_api._edge._rules import Rules
from proxy_logging import StructuredLogger

if TYPE_CHECKING:
    from uvicorn.server import ServerState

__all__ = ["House", "parts_of"]

_STATUS: Final = {
    code.value: b"HTTP/1.1 %d %s\r\n" % (code.value, code.phrase.encode())
    for code in http.HTTPStatus
}
_COARSEST: Final = 1.0
"""Seconds between two looks at the connections. A deadline is kept to two of them."""
_LONGEST_PATH, _MOST_PATHS = 128, 64
_TELL_EVERY: Final = 60.0
"""Seconds between two lines about what was refused: a flood of requests is no flood of lines."""


def parts_of(url: bytes) -> tuple[str, bytes, bytes]:
    """The path, decoded; as it was sent; and the query."""
    path, _, query = url.partition(b"?")
    return unquote(path.decode("ascii")), path, query


class House:
    """One timer looks at all connections, so none of them has one of its own."""

    def __init__(self, state: ServerState, rules: Rules) -> None:
        self.rules = rules
        self.now = 0.0
        """Seconds that the loop has run, at the last look: coarse, and free."""
        self.known_host = b""
        """The last Host that was found good."""
        self.paths: dict[bytes, tuple[str, bytes, bytes]] = {}
        """Targets that were asked for lately: each decoded, its path, and its query."""
        self.closes = False
        """Whether each answer is to be the last of its connection."""
        self.refused: Counter[str] = Counter()
        self.logger = StructuredLogger("llm-proxy")
        self._state = state
        self.tick = _COARSEST
        """Seconds between two looks."""
        self._told_at = -_TELL_EVERY
        self._looked_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._given: list[tuple[bytes, bytes]] | None = None
        self._common = b""
        self.lines = 1
        """Lines of such a head."""
        self._heads: dict[int, bytes] = {}

    def enter(self, loop: asyncio.AbstractEventLoop, write_stall: float) -> None:
        """There is a connection: begin to look, unless that is done already."""
        if self._handle is not None and self._loop is loop:
            return
        rules = self.rules
        shortest = min(rules.header_timeout, rules.body_timeout, rules.idle_timeout, write_stall)
        self.tick = min(_COARSEST, shortest / 4)
        self._loop = loop
        self._looked_at = loop.time()
        self._handle = loop.call_later(self.tick, self._look, loop)

    def head(self, status: int) -> bytes:
        """The status line and the headers that every answer has, all but ``connection``."""
        if self._state.default_headers is not self._given:
            self._renew()
        head = self._heads.get(status)
        if head is None:
            line = _STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status
            head = self._heads[status] = line + self._common
        return head

    def learn(self, url: bytes, host: bytes) -> None:
        """These two were found good: next time they need no look."""
        self.known_host = host
        if len(url) > _LONGEST_PATH:
            return
        if len(self.paths) >= _MOST_PATHS:
            self.paths.clear()
        self.paths[url] = parts_of(url)

    def refuse(self, refusal: Refusal, peer: str | None) -> None:
        """Count what the edge refuses, and tell it to who looks for a fault."""
        self.refused[refusal.code] += 1
        self.logger.debug("edge_refused", code=refusal.code, reason=refusal.message, peer=peer)

    def _renew(self) -> None:
        self._given = given = self._state.default_headers
        self.closes = (b"connection", b"close") in given
        lines = [b"%b: %b\r\n" % pair for pair in given if pair[0] not in (b"connection", b"date")]
        if any(name == b"date" for name, _ in given):
            # uvicorn's own stands still while it drains.
            lines.insert(0, b"date: %b\r\n" % formatdate(time.time(), usegmt=True).encode())
        self._common = b"".join(lines)
        self.lines = 1 + len(lines)
        self._heads = {}

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        at = loop.time()
        # A loop that stood still says nothing of its clients: what they sent waits unread.
        self.now = now = self.now + min(at - self._looked_at, 2 * self.tick)
        self._looked_at = at
        self._given = None
        if self.refused and now - self._told_at >= _TELL_EVERY:
            self._told_at = now
            self.logger.info("edge_refused_in_all", **self.refused)
            self.refused.clear()
        connections: Any = self._state.connections
        for connection in list(connections):
            connection.look(now)
        if connections or self.refused:
            self._handle = loop.call_later(self.tick, self._look, loop)
        else:
            self._handle = None
