"""An upstream's answer is read in one way, wherever its bytes are cut."""

from __future__ import annotations

from proxy_core._http1._parser import BadAnswer, ResponseParser

LINE = b"HTTP/1.1 200 OK\r\n"
BEGINNINGS = [
    b"",
    LINE,
    LINE + b"content-length: 5\r\n",
    LINE + b"content-length: 5\r\n\r\n",
    LINE + b"transfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + LINE,
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
]


def one_input(data: bytes) -> None:
    """The first byte says how it begins, the second how long the pieces are."""
    if len(data) > 2:
        raw = BEGINNINGS[data[0] % len(BEGINNINGS)] + data[2:]
        size = data[1] % 64 + 1
        assert_same([raw[at : at + size] for at in range(0, len(raw), size)])


def assert_same(pieces: list[bytes]) -> None:
    """The pieces give what the whole gives; of an answer that breaks, no more than a part of it."""
    whole, parts = _read([b"".join(pieces)]), _read(pieces)
    if whole[0] == parts[0] == "whole":
        assert whole == parts
    else:
        assert whole[0] == parts[0]
        assert whole[1] == parts[1]


def _read(pieces: list[bytes]) -> tuple[object, ...]:
    parser = ResponseParser()
    parser.expect(is_head=False)
    try:
        for piece in pieces:
            parser.feed(memoryview(piece))
        parser.eof()
    except BadAnswer:
        # What came after a whole answer may be told as a surplus or as a fault: both end it.
        return ("whole" if parser.complete else "broken", parser.status, b"".join(parser.parts))
    return ("whole", parser.status, b"".join(parser.parts))
