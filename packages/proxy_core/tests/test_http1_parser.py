"""The parser of answers, fed by hand: no sockets, no loop."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy_core._http1._parser import MOST_HEAD_BYTES, MOST_HEADERS, BadAnswer, ResponseParser

LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = LINE + b"transfer-encoding: chunked\r\n\r\n"


@dataclass
class Seen:
    """What a reader gets of one answer, however its bytes were cut."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    reusable: bool = False
    broken: bool = False


def read(pieces: list[bytes], *, is_head: bool = False, eof: bool = True) -> Seen:
    parser = ResponseParser()
    parser.expect(is_head=is_head)
    seen = Seen()
    try:
        for piece in pieces:
            parser.feed(memoryview(piece))
        if eof:
            parser.eof()
    except BadAnswer:
        seen.broken = True
    seen.status, seen.headers = parser.status, parser.head.headers if parser.status else []
    seen.body, seen.complete = b"".join(parser.parts), parser.complete
    seen.reusable = parser.complete and parser.keep_alive and not parser.surplus
    return seen


def cut(data: bytes, *places: int) -> list[bytes]:
    edges = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


ANSWERS = {
    "length": LINE + b"X-A: b\r\nContent-Length: 5\r\n\r\nhello",
    "empty": LINE + b"content-length: 0\r\n\r\n",
    "chunks": CHUNKED + b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"5\r\nhello\r\n0\r\nx-sum: 1\r\nx-b: c\r\n\r\n",
    "until close": LINE + b"content-type: text/plain\r\n\r\nhello",
    "http 1.0": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi",
    "close": LINE + b"connection: close\r\ncontent-length: 2\r\n\r\nhi",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: a\r\n\r\n"
    + LINE
    + b"content-length: 2\r\n\r\nhi",
    "no content": b"HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
    "two lengths": LINE + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "length and chunks": LINE + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": CHUNKED + b"5\r\nhello\r\nzz\r\nhi\r\n",
    "long chunk": CHUNKED + b"2\r\nhello\r\n0\r\n\r\n",
    "fold": LINE + b"x-a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "garbage": b"-ERR unknown command\r\n",
}


@pytest.mark.parametrize("is_head", [False, True], ids=["GET", "HEAD"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
def test_where_the_bytes_are_cut_does_not_matter(answer: bytes, is_head: bool) -> None:
    """Cut at each position, and into single bytes: the same answer, the same error."""
    whole = read([answer], is_head=is_head)
    for place in range(1, len(answer)):
        assert read(cut(answer, place), is_head=is_head) == whole
    assert read([answer[i : i + 1] for i in range(len(answer))], is_head=is_head) == whole


TOKEN = st.text("abcXYZ-_09", min_size=1, max_size=12).map(lambda text: "x-" + text)
VALUE = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30
)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, Seen]:
    """A valid answer and what has to be read of it."""
    status = draw(st.sampled_from([200, 201, 400, 404, 429, 500, 503]))
    pairs = draw(st.lists(st.tuples(TOKEN, VALUE), max_size=8))
    headers = [(name.encode(), value.strip(" ").encode("latin-1")) for name, value in pairs]
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    kind = draw(st.sampled_from(["length", "chunked", "until close"]))
    body = b"".join(chunks)
    if kind == "length":
        headers.append((b"Content-Length", b"%d" % len(body)))
        wire = body
    elif kind == "chunked":
        headers.append((b"Transfer-Encoding", b"Chunked"))
        wire = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    else:
        wire = body
    head = b"".join(b"%b: %b \r\n" % header for header in headers)
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    seen = Seen(
        status,
        [(name.lower(), value) for name, value in headers],
        body,
        complete=True,
        reusable=kind != "until close",
    )
    return interim + b"HTTP/1.1 %d Some Reason\r\n" % status + head + b"\r\n" + wire, seen


@given(answers(), st.lists(st.integers(0, 5000), max_size=8))
def test_valid_answers_are_read_as_they_were_meant(
    answer: tuple[bytes, Seen], places: list[int]
) -> None:
    """Status, headers, body and end, with any header values, chunks and cuts."""
    data, meant = answer
    assert read(cut(data, *places)) == meant


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
@example(b"\r\n\r\n" + ANSWERS["length"], [])
def test_garbage_breaks_and_nothing_else(data: bytes, places: list[int]) -> None:
    """Whatever comes first, it ends as an error of ours or as an answer."""
    for start in (b"", LINE, CHUNKED):
        pieces = cut(start + data, *places) if start + data else []
        seen = read(pieces)
        assert seen.broken != seen.complete


@settings(max_examples=300)
@given(st.sampled_from(sorted(ANSWERS)), st.data())
def test_a_damaged_answer_breaks_and_nothing_else(name: str, data: st.DataObject) -> None:
    """A byte more, less or different: an error of ours or an answer."""
    answer = bytearray(ANSWERS[name])
    place = data.draw(st.integers(0, len(answer) - 1))
    answer[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    seen = read([bytes(answer)])
    assert seen.broken != seen.complete


@pytest.mark.parametrize("name", ["length", "chunks", "trailers", "until close", "interim"])
def test_an_answer_that_is_cut_off_is_not_whole(name: str) -> None:
    """An end of the connection before the end of the answer is an error, wherever it comes."""
    answer = ANSWERS[name]
    shortest = answer.index(b"\r\n\r\nhello") + 4 if name == "until close" else len(answer)
    for end in range(shortest):
        assert read([answer[:end]] if end else []).broken


REFUSED = {
    "another version": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "an old version": b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "lines before it": b"\r\n" + LINE + b"content-length: 0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "switching without a header": b"HTTP/1.1 101 Yes\r\n\r\n",
    "an interim answer that closes": b"HTTP/1.1 103 Early\r\nconnection: close\r\n\r\n",
    "equal lengths": LINE + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "a list of lengths": LINE + b"content-length: 5, 5\r\n\r\nhello",
    "a signed length": LINE + b"content-length: +5\r\n\r\nhello",
    "a length beyond 64 bits": LINE + b"content-length: 99999999999999999999\r\n\r\n",
    "chunks and a length": LINE + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
    "another coding": LINE + b"transfer-encoding: gzip\r\n\r\n",
    "two codings": LINE + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "chunked twice": LINE + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    "chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n",
    "chunk size with a space": CHUNKED + b"5 \r\nhello\r\n",
    "chunk size beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\n",
    "chunk without its end": CHUNKED + b"5\r\nhelloX\r\n",
    "chunk with a bare line feed": CHUNKED + b"5\nhello\r\n",
    "length in a trailer": CHUNKED + b"0\r\ncontent-length: 5\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "a fold": LINE + b"a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "a fold by a tab": LINE + b"a: b\r\n\tc\r\ncontent-length: 0\r\n\r\n",
    "a space before the colon": LINE + b"a : b\r\ncontent-length: 0\r\n\r\n",
    "a header without a colon": LINE + b"ab\r\ncontent-length: 0\r\n\r\n",
    "a header without a name": LINE + b": b\r\ncontent-length: 0\r\n\r\n",
    "NUL in a header": LINE + b"a: b\0c\r\ncontent-length: 0\r\n\r\n",
    "CR in a header": LINE + b"a: b\rc\r\ncontent-length: 0\r\n\r\n",
    "many headers": LINE + b"a: b\r\n" * (MOST_HEADERS + 1) + b"\r\n",
    "many interim headers": b"HTTP/1.1 100 Go\r\n" + b"a: b\r\n" * (MOST_HEADERS + 1) + b"\r\n",
    "one long header": LINE + b"a: " + b"b" * MOST_HEAD_BYTES + b"\r\n\r\n",
    "a long name": LINE + b"a" * MOST_HEAD_BYTES,
    "a long reason": b"HTTP/1.1 200 " + b"a" * MOST_HEAD_BYTES,
    "endless interim answers": b"HTTP/1.1 100 Go\r\n\r\n" * 2000,
    "an endless chunk extension": CHUNKED + b"5;" + b"a" * 9 * MOST_HEAD_BYTES,
    "an endless trailer": CHUNKED + b"0\r\na: " + b"b" * 9 * MOST_HEAD_BYTES,
    "endless trailers": CHUNKED + b"0\r\n" + b"a: b\r\n" * MOST_HEAD_BYTES,
}


@pytest.mark.parametrize("answer", REFUSED.values(), ids=list(REFUSED))
def test_what_could_be_read_in_two_ways_is_refused(answer: bytes) -> None:
    """Each is an error before the connection ends, at once or in reads of 8 KB."""
    assert read(cut(answer, *range(0, len(answer), 8192)), eof=False).broken
    if not answer.startswith(CHUNKED):
        assert read([answer], eof=False).broken


def test_a_head_may_be_as_large_as_the_limit() -> None:
    """A byte more is refused."""
    rest = b"\r\ncontent-length: 0\r\n\r\n"
    for more, broken in ((0, False), (1, True)):
        value = b"b" * (MOST_HEAD_BYTES - len(LINE + b"a: " + rest) + more)
        answer = LINE + b"a: " + value + rest
        assert len(answer) == MOST_HEAD_BYTES + more
        assert read([answer]).broken is broken
        assert read(cut(answer, 100, 20_000)).broken is broken


def test_a_hundred_headers_are_fine() -> None:
    """The limit itself is within."""
    answer = LINE + b"a: b\r\n" * (MOST_HEADERS - 1) + b"content-length: 0\r\n\r\n"
    assert len(read([answer]).headers) == MOST_HEADERS


@pytest.mark.parametrize("more", [b"X", LINE, ANSWERS["length"], b"\0\0"])
@pytest.mark.parametrize("name", ["length", "chunks", "close", "no content", "not modified"])
def test_more_than_the_answer_spoils_the_connection(name: str, more: bytes) -> None:
    """The answer stands, and no other request is sent after it."""
    whole = read([ANSWERS[name]])
    for pieces in ([ANSWERS[name] + more], [ANSWERS[name], more]):
        seen = read(pieces)
        assert (seen.status, seen.body, seen.complete) == (whole.status, whole.body, True)
        assert not seen.reusable


REUSABLE = {
    "length": True,
    "empty": True,
    "chunks": True,
    "trailers": True,
    "until close": False,
    "http 1.0": True,
    "close": False,
    "interim": True,
    "no content": True,
    "not modified": True,
}


@pytest.mark.parametrize(("name", "reusable"), REUSABLE.items())
def test_a_connection_is_used_again_only_where_that_was_agreed(name: str, reusable: bool) -> None:
    """By version, `connection`, and an end that the connection itself does not make."""
    seen = read([ANSWERS[name]])
    assert (seen.complete, seen.reusable) == (True, reusable)


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"2\r\nhi\r\n0\r\nconnection: close\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        LINE + b"connection: x, Close\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_a_doubtful_connection_is_not_used_again(answer: bytes) -> None:
    """A trailer that closes, a body where none may be, an old version, a list with close."""
    seen = read([answer])
    assert (seen.complete, seen.reusable) == (True, False)


def test_one_parser_reads_answer_after_answer() -> None:
    """Also behind a HEAD, whose length announces a body that never comes."""
    parser = ResponseParser()
    for name, is_head in (("length", False), ("length", True), ("chunks", False), ("empty", True)):
        parser.expect(is_head=is_head)
        answer = ANSWERS[name]
        parser.feed(memoryview(answer[: answer.index(b"\r\n\r\n") + 4] if is_head else answer))
        assert (parser.complete, parser.keep_alive, parser.surplus) == (True, True, False)
        assert (parser.parts == []) is is_head


def test_what_came_before_a_fault_can_be_read() -> None:
    """Good chunks are given, then the error."""
    seen = read([ANSWERS["bad chunk"]])
    assert (seen.status, seen.body, seen.broken) == (200, b"hello", True)


def test_an_error_quotes_nothing_of_the_answer() -> None:
    """Headers may hold secrets; the reason is ours or the parser's own."""
    for answer in REFUSED.values():
        parser = ResponseParser()
        parser.expect(is_head=False)
        secret = answer.replace(b"a: b", b"a: sk-secret")
        with pytest.raises(BadAnswer) as caught:
            for piece in cut(secret, *range(0, len(secret), 8192)):
                parser.feed(memoryview(piece))
        assert "sk-secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
