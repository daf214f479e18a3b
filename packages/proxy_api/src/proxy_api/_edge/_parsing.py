"""Requests as httptools reads them, and what it lets pass and we refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httptools

from proxy_api._edge._cycle import HIGH, MUCH, Cycle
from proxy_api._edge._head import head_fault
from proxy_api._edge._known import KnownHead
from proxy_api._edge._refusals import (
    BAD_REQUEST,
    BROKE,
    HEADERS_TOO_LARGE,
    NO_WEBSOCKET,
    TOO_MANY,
    Refusal,
    Refused,
    bad,
)

if TYPE_CHECKING:
    from proxy_api._edge._connection import Connection
    from proxy_api._edge._house import House

__all__ = ["Parsing"]

_MOST_QUEUED: Final = 16
"""Requests behind the one that is answered. No client of ours sends any."""
_VERSION: Final = b" HTTP/1.1\r\n"
_FRAMES: Final = 16
"""Bytes on the wire for a byte of a body, beyond which its chunks and trailers are an attack."""
_FRAMES_AT_LEAST: Final = 64 * 1024
_MOST_MISSES: Final = 8
"""Heads in a row that were not like the last one, after which none is remembered."""


class Parsing:
    """What the parser tells becomes cycles, which it hands to its connection."""

    __slots__ = (
        "_connection",
        "_data",
        "_fault",
        "_fed",
        "_headers",
        "_house",
        "_is_between",
        "_is_first",
        "_known",
        "_measures",
        "_misses",
        "_parser",
        "_since",
        "_upgraded",
        "_url",
        "incoming",
        "reads_head",
    )

    def __init__(self, connection: Connection, house: House) -> None:
        self._connection = connection
        self._house = house
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._since = house.now
        self._fed = 0
        """Bytes since the head, or the body, began; those of its first read are left out."""
        self._measures = False
        self._data = b""
        """What is being read, until its first head is whole."""
        self._fault: Refusal | None = None
        self._upgraded: tuple[Cycle, bytes] | None = None
        self._is_between = True
        """Whether the parser has seen no byte of a request that isn't over."""
        self._is_first = False
        """Whether the next head is what the data that is being read begins with."""
        self._known: KnownHead | None = None
        self._misses = 0
        self.reads_head = False
        """Whether a part of a request's head has come."""
        self.incoming: Cycle | None = None
        """The request whose body is being read."""

    def refuse(self, refusal: Refusal) -> None:
        """Stop the parser in the midst of it. Raises Refused, always."""
        self._fault = refusal
        raise Refused

    def _parse(self, data: bytes) -> Refusal | None:
        size = len(data)
        self._fed += size
        self._measures = self.reads_head or size > self._house.rules.header_size
        self._data = data
        self._is_first = self._is_between
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            if self._fault is None:
                self._house.logger.exception("edge_broke")
            return self._fault or BROKE
        except httptools.HttpParserError as error:
            return bad(str(error).lower()) if error.args else BAD_REQUEST
        if self.reads_head or self.incoming is not None:
            self._data = b""
            return self._check_size()
        return None

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._is_between = False

    def on_url(self, url: bytes) -> None:
        if self.reads_head:
            self._url += url
            return
        self._url = url
        self.reads_head = True
        self._since = self._house.now
        self._fed = 0
        if self._headers:
            # Trailers of the request before it.
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, house, url, headers = self._parser, self._house, self._url, self._headers
        # What comes after a chunked body is no header of the request.
        self._headers = []
        self._fed = 0
        named = dict(headers)
        method: bytes = parser.get_method()
        keep_alive = parser.should_keep_alive()
        # To ask the parser costs more than a look at the line.
        data, self._data = self._data, b""
        is_plain = data.startswith(_VERSION, len(method) + len(url) + 1)
        version = "1.1" if is_plain else parser.get_http_version()
        if (
            self._measures
            or version != "1.1"
            or named.get(b"host") != house.known_host
            or len(named) != len(headers)
            or len(headers) > house.rules.header_count
            or url not in house.paths
            or b"transfer-encoding" in named
            or b"expect" in named
        ):
            self._look_closely(url, headers, named, version)
        self.reads_head = False
        if len(self._connection.queue) > _MOST_QUEUED:
            self.refuse(TOO_MANY)
        if self._is_first and keep_alive and is_plain:
            self._remember(data, url, headers, named)
        self._is_first = False
        cycle = Cycle(method.decode(), keep_alive=keep_alive and version == "1.1")
        if version != "1.1":
            cycle.is_old = True
        elif b"expect" in named:
            cycle.expects = True
        if b"upgrade" in named and parser.should_upgrade():
            self._upgrade(cycle, named)
        else:
            self.incoming = cycle
        self._connection.asked(cycle, url, headers, named)

    def on_body(self, body: bytes) -> None:
        cycle = self.incoming
        if cycle is None:
            return
        cycle.parts.append(body)
        size = len(body)
        cycle.received += size
        cycle.size += size
        if cycle.size >= HIGH:
            if not cycle.is_waited_for:
                self._connection.hold(cycle)
            elif cycle.size >= MUCH:
                cycle.wake()

    def on_message_complete(self) -> None:
        self._is_between = True
        cycle = self.incoming
        if cycle is None:
            return
        self.incoming = None
        cycle.more_body = False
        if cycle.is_waited_for:
            cycle.wake()
        if not cycle.keep_alive:
            self._connection.hear_no_more()

    def _remember(
        self,
        data: bytes,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        named: dict[bytes, bytes],
    ) -> None:
        self._known = None
        if self._misses < _MOST_MISSES:
            self._misses += 1
            self._known = KnownHead.of(data, url, headers, named, self._house.rules)

    def _look_closely(
        self,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        named: dict[bytes, bytes],
        version: str,
    ) -> None:
        fault = head_fault(url, headers, version, self._house.rules)
        if fault is not None:
            self.refuse(fault)
        self._house.learn(url, named.get(b"host", b""))

    def _check_size(self) -> Refusal | None:
        """Bound what the parser keeps of a message that goes on and on."""
        incoming, rules = self.incoming, self._house.rules
        if incoming is not None:
            most = _FRAMES_AT_LEAST + _FRAMES * incoming.received
            return bad("its chunks are mostly frames") if self._fed > most else None
        if self._fed > rules.header_size or len(self._headers) > rules.header_count:
            return HEADERS_TOO_LARGE
        return None

    # Upgrades are not made. The parser, though, stops for one, and forgets the body.

    def _upgrade(self, cycle: Cycle, named: dict[bytes, bytes]) -> None:
        if named[b"upgrade"].strip().lower() == b"websocket":
            self.refuse(NO_WEBSOCKET)
        frame = b""
        if b"transfer-encoding" in named:
            frame = b"transfer-encoding: chunked\r\n"
        elif b"content-length" in named:
            frame = b"content-length: %b\r\n" % named[b"content-length"]
        self._upgraded = (cycle, frame)

    def _read_on(self, data: bytes) -> Refusal | None:
        if self._upgraded is None:
            return BAD_REQUEST
        (cycle, frame), self._upgraded = self._upgraded, None
        self.incoming = cycle
        self._is_between = False
        self._parser = httptools.HttpRequestParser(_Again(self))
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % frame)
        return self._parse(data) if data else None


class _Again:
    """Reads on behind a head that has been read; that of its own is none of ours."""

    __slots__ = ("_knows", "_reader", "on_body", "on_message_complete")

    def __init__(self, reader: Parsing) -> None:
        self._reader = reader
        self._knows = False
        self.on_body = reader.on_body
        self.on_message_complete = reader.on_message_complete

    def on_message_begin(self) -> None:
        if self._knows:
            self._reader.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._knows:
            self._reader.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._knows:
            self._reader.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._knows:
            self._reader.on_headers_complete()
        self._knows = True
