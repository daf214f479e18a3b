"""Bytes from anybody, cut anywhere: the same request, or a refusal, and never more than that."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import h11
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from proxy_api import GatewayProtocol
from proxy_api._edge._reader import Reader
from proxy_logging.testing import captured

LATER = 10_000.0
"""Seconds: longer than any deadline."""


class Wire:
    """A transport in memory. Its descriptor is one of which nothing can be read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else None

    def getpeername(self) -> tuple[str, int]:
        return ("192.0.2.1", 5)

    getsockname = getpeername

    def fileno(self) -> int:
        return self._descriptor


class House:
    """One loop for all examples, and an app that keeps what it is asked."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._quiet, self._other = socket.socketpair()
        self.complaints: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.seen: list[tuple[Any, ...]] = []
        self._config = uvicorn.Config(
            self._app, interface="asgi3", lifespan="off", log_config=None, proxy_headers=False
        )
        self._config.load()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.seen.append(
            (scope["method"], scope["raw_path"], scope["query_string"], scope["headers"], body)
        )
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * len(body)})

    def feed(self, parts: list[bytes]) -> tuple[Wire, GatewayProtocol]:
        """A connection that has got these bytes."""
        self.seen.clear()

        async def feed() -> tuple[Wire, GatewayProtocol]:
            wire, protocol = Wire(self._quiet.fileno()), GatewayProtocol(
                self._config, ServerState(), {}
            )
            protocol.connection_made(wire)
            for part in parts:
                if not wire.closed:
                    protocol.data_received(part)
                    await asyncio.sleep(0)
            for _ in range(40):
                await asyncio.sleep(0)
            return wire, protocol

        return self.loop.run_until_complete(feed())

    def close(self) -> None:
        self._quiet.close()
        self._other.close()
        self.loop.close()

    def end(self, protocol: GatewayProtocol) -> None:
        """Whatever state it is in, the next looks end it."""

        async def end() -> None:
            for turn in range(1, 5):
                protocol.look(turn * LATER)
                await asyncio.sleep(0)
            protocol.connection_lost(None)
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1

        self.loop.run_until_complete(end())


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()
    assert made.complaints == []


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[one:two] for one, two in pairwise(at)]


def answers(written: bytes) -> list[int]:
    """The statuses of whole answers; fails when these bytes are anything else."""
    client = h11.Connection(h11.CLIENT)
    found: list[int] = []
    while written:
        client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(written)
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA
            if isinstance(event, h11.Response):
                found.append(event.status_code)
        written = client.trailing_data[0]
        client = h11.Connection(h11.CLIENT)
    return found


CHUNKED = b"POST /b?c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"PUT /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
GOOD = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    b'POST /v1/chat?x=%20y HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n{"a": true}',
    CHUNKED + b"4;e=1\r\nabcd\r\n1\r\ne\r\n0\r\nx-t: 1\r\n\r\n",
    UPGRADE + b"content-length: 3\r\n\r\nabc",
    UPGRADE + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("data", GOOD)
def test_each_single_cut_gives_the_same_request(house: House, data: bytes) -> None:
    """Cut in two at every place, the app sees what it sees of the whole."""
    wire, protocol = house.feed([data])
    house.end(protocol)
    whole, said = list(house.seen), answers(wire.written)
    assert (len(whole), said) == (1, [200])
    for place in range(1, len(data)):
        wire, protocol = house.feed([data[:place], data[place:]])
        house.end(protocol)
        assert (house.seen, answers(wire.written)) == (whole, said)


@given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=5), st.lists(st.integers(0, 4000)))
@settings(max_examples=150, deadline=None)
def test_cuts_anywhere_give_the_same_requests(
    house: House, requests: list[bytes], places: list[int]
) -> None:
    """The same for several requests in a row, cut in many places."""
    data = b"".join(requests)
    _, protocol = house.feed([data])
    house.end(protocol)
    whole = list(house.seen)
    assert len(whole) == len(requests)
    _, protocol = house.feed(cut(data, places))
    house.end(protocol)
    assert house.seen == whole


def mutated(good_ones: list[bytes] = GOOD) -> st.SearchStrategy[bytes]:
    """Good requests with bytes replaced, put in, or taken out."""
    pieces = st.sampled_from(
        [
            b"\r\n",
            b"\n",
            b"\0",
            b" ",
            b":",
            b"0\r\n\r\n",
            b"\x80",
            b"content-length: 1\r\n",
            b"h",
            b"",
            b"transfer-encoding: chunked\r\n",
            b"connection: close\r\n",
            b"expect: 100-continue\r\n",
        ]
    )
    edit = st.tuples(
        st.integers(0, 400), st.integers(0, 3), st.one_of(pieces, st.binary(max_size=3))
    )

    def apply(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
        for place, gone, put in edits:
            at = place % (len(data) + 1)
            data = data[:at] + put + data[at + gone :]
        return data

    good = st.lists(st.sampled_from(good_ones), min_size=1, max_size=3).map(b"".join)
    return st.builds(apply, good, st.lists(edit, min_size=1, max_size=6))


@given(st.one_of(mutated(), st.binary(max_size=300)), st.lists(st.integers(0, 4000), max_size=5))
@settings(max_examples=400, deadline=None)
def test_whatever_comes_is_answered_or_closed(house: House, data: bytes, places: list[int]) -> None:
    """Good answers or none, nothing that hangs, and nothing in the log: no such byte is a fault."""
    with captured() as lines:
        wire, protocol = house.feed(cut(data, places))
        house.end(protocol)
    assert wire.closed
    written = wire.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    assert set(answers(written)) <= {200, 400, 403, 408, 417, 431, 505}
    assert [line for line in lines if line["level"] not in ("debug", "info")] == []
    assert house.complaints == []


ASKED = b"POST /v1/chat?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\nAccept: */*\r\n\r\n%b"
AGAIN = ASKED % (b"11", b'{"a": true}')


def fresh(house: House, parts: list[bytes]) -> tuple[list[Any], list[int], bool]:
    """What is seen and answered of this on a new connection, and whether it stays open."""
    wire, protocol = house.feed(parts)
    is_open = not (wire.closed or protocol._drops)
    house.end(protocol)
    return list(house.seen), answers(wire.written.replace(CONTINUE, b"")), is_open


def kept(house: House, parts: list[bytes]) -> tuple[list[Any], list[int], bool]:
    """The same on one that has just answered such a request."""
    seen, said, is_open = fresh(house, [AGAIN, AGAIN, *parts])
    assert seen[0] == seen[1] and said[:2] == [200, 200]
    return seen[2:], said[2:], is_open


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LIKE = [
    [AGAIN],
    [ASKED % (b"3", b"abc")],
    [ASKED % (b"0", b"")],
    [ASKED % (b"003", b"abc")],
    [ASKED % (b"3", b"abcd")],
    [ASKED % (b"3", b"abc" + AGAIN)],
    [ASKED % (b"3", b"a"), b"b", b"c", AGAIN],
    [ASKED % (b"3", b"a"), b"bc" + AGAIN + AGAIN],
    [AGAIN[:40], AGAIN[40:], AGAIN],
    *([ASKED % (length, b"abc")] for length in (b"", b"+3", b"-3", b"3 ", b"3, 3", b"0x3", b"3_0")),
    [ASKED % (b"9" * 15, b"abc")],
    [ASKED % (b"9" * 16, b"abc")],
    [ASKED % (b"9" * 30, b"abc")],
    [ASKED % (b"3\r\nContent-Length: 3", b"abc")],
    [ASKED % (b"3\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")],
    [ASKED % (b"3\r\n folded", b"abc")],
    [ASKED % (b"3\n", b"abc")],
    [b"X", AGAIN],
    [b"X" + AGAIN],
    [b"\r\n", AGAIN],
    [b"\r\n" + AGAIN],
    [b"PO", AGAIN],
    [AGAIN.replace(b"POST", b"PUT"), AGAIN],
    [AGAIN.replace(b"Host: a", b"Host: b"), AGAIN],
    [AGAIN.replace(b"*/*", b"*/*\r\nConnection: close"), AGAIN],
    [AGAIN.replace(b"*/*", b"*/*\r\nExpect: 100-continue"), AGAIN],
    [UPGRADE + b"content-length: 3\r\n\r\nabc", b"PO", AGAIN],
    [UPGRADE + b"content-length: 3\r\n\r\nabc", AGAIN, AGAIN],
    [CHUNKED, b"1\r\na\r\n0\r\n", AGAIN],
    [CHUNKED + b"1\r\na\r\n0\r\n\r\n", AGAIN],
]


@pytest.mark.parametrize("parts", LIKE)
def test_a_head_that_is_known_is_judged_as_a_new_one(house: House, parts: list[bytes]) -> None:
    """After one like it, a request gives what it gives on a connection of its own."""
    assert kept(house, parts) == fresh(house, parts)


@given(mutated([AGAIN]), st.lists(st.integers(0, 300), max_size=3))
@settings(max_examples=120, deadline=None)
def test_what_is_almost_known_is_judged_as_new(
    house: House, data: bytes, places: list[int]
) -> None:
    """The same for such requests with bytes replaced, put in, or taken out, cut anywhere."""
    parts = cut(data, places)
    with captured():
        assert kept(house, parts) == fresh(house, parts)


def test_a_head_that_is_known_needs_no_parser(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two requests that differ in their bodies alone is not parsed again."""
    parsed: list[bytes] = []
    parse = Reader._parse

    def noted(reader: Reader, data: bytes) -> Any:
        parsed.append(data)
        return parse(reader, data)

    monkeypatch.setattr(Reader, "_parse", noted)
    other = ASKED % (b"3", b"abc")
    _, protocol = house.feed([AGAIN, other[:-1], other[-1:], AGAIN])
    house.end(protocol)
    assert [body for *_, body in house.seen] == [AGAIN[-11:], b"abc", AGAIN[-11:]]
    assert parsed == [AGAIN]


def test_other_rules_judge_a_known_head_anew(house: House) -> None:
    """After a reload nothing counts that was found good by the rules before it."""
    wire, protocol = house.feed([AGAIN])

    async def again() -> None:
        protocol.house.rules = dataclasses.replace(protocol.house.rules, header_count=1)
        protocol.data_received(AGAIN)

    house.loop.run_until_complete(again())
    house.end(protocol)
    assert answers(wire.written) == [200, 431]
