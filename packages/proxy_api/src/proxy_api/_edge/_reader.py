"""Reads requests off a connection: by the parser, or knowing what it would say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy_api._edge._cycle import Cycle
from proxy_api._edge._known import KnownHead
from proxy_api._edge._parsing import Parsing
from proxy_api._edge._refusals import BODY_SLOW, HEAD_SLOW, Refusal

if TYPE_CHECKING:
    from proxy_api._edge._connection import Connection
    from proxy_api._edge._house import House

__all__ = ["Reader"]


class Reader(Parsing):
    """Feeds the parser, but for requests whose head is that of the one before, and their bodies."""

    __slots__ = ("_left",)

    def __init__(self, connection: Connection, house: House) -> None:
        super().__init__(connection, house)
        self._left = 0
        """Bytes that are missing of a body which the parser does not see."""

    def feed(self, data: bytes) -> Refusal | None:
        """Take what has come. What it returns is the end of reading."""
        if self._left:
            data = self._read_body(data)
            if not data:
                return None
        known = self._known
        if known is not None and self._is_between and not self._connection.queue:
            at = known.body_at(data)
            if at >= 0 and known.rules is self._house.rules and self._ask_again(known, data, at):
                return None
        return self._parse(data)

    @property
    def is_reading(self) -> bool:
        """Whether a part of a request has come, and not all of it."""
        return self.reads_head or self.incoming is not None

    def drop(self) -> Cycle | None:
        """Forget what is being read; the request whose body it was."""
        incoming, self.incoming = self.incoming, None
        self.reads_head = False
        self._left = 0
        return incoming

    def close(self) -> None:
        """Let the parser go: it and we hold each other."""
        self._parser = None
        self.incoming = None

    def overdue(self, now: float) -> Refusal | None:
        """What to say when the request that is being read takes too long."""
        rules = self._house.rules
        waited = now - self._since - self._house.tick
        if self.reads_head:
            return HEAD_SLOW if waited >= rules.header_timeout else None
        incoming = self.incoming
        if incoming is None:
            return None
        if self._connection.reading_paused:
            # The app takes its time, not the client.
            self._since += self._house.tick
            return None
        allowed = rules.body_timeout + incoming.received / rules.body_rate
        return BODY_SLOW if waited >= allowed else None

    # A request like the one before it needs no parser.

    def _ask_again(self, known: KnownHead, data: bytes, at: int) -> bool:
        headers, length = known.headers(data, at)
        size = len(data) - at
        if size > length:
            # Something follows it: that is the parser's.
            return False
        self._misses = 0
        self._since = self._house.now
        cycle = Cycle("POST", keep_alive=True)
        if size:
            cycle.parts.append(data[at:])
            cycle.received = cycle.size = size
        self._left = length - size
        if self._left:
            self.incoming = cycle
        else:
            cycle.more_body = False
        self._connection.asked(cycle, known.url, headers, known.named, known)
        return True

    def _read_body(self, data: bytes) -> bytes:
        """Take what belongs to the body. What it returns is behind it."""
        left = self._left
        size = len(data)
        if size < left:
            self._left = left - size
            self.on_body(data)
            return b""
        self._left = 0
        self.on_body(data if size == left else data[:left])
        self.on_message_complete()
        return b"" if size == left else data[left:]
