"""What the edge reads: each request as it was meant, and none that two could read differently."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

Start = Callable[..., Any]

GET = b"GET /one HTTP/1.1\r\nhost: a\r\n"
POST = b"POST /two?x=1 HTTP/1.1\r\nHost: a\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


class Echo:
    """Answers with what it was asked, as JSON; keeps it too."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        asked = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "headers": [
                [name.decode(), value.decode("latin-1")] for name, value in scope["headers"]
            ],
            "client": scope["client"],
            "version": scope["http_version"],
            "body": body.decode("latin-1"),
        }
        self.seen.append(asked)
        out = json.dumps(asked).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(out))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": out})


def bodies(got: bytes) -> list[dict[str, Any]]:
    """The JSON bodies of answers that have a content-length each."""
    found = []
    while got:
        head, _, rest = got.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        found.append(json.loads(rest[:length]))
        got = rest[length:]
    return found


def check_refusal(got: bytes, status: int) -> str:
    """One answer, in OpenAI's shape, that ends its connection; its code."""
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), got
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert lines[b"connection"] == b"close"
    assert lines[b"content-type"] == b"application/json"
    assert lines[b"x-request-id"].startswith(b"req_")
    assert int(lines[b"content-length"]) == len(body)
    error = json.loads(body)["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["message"].endswith(".")
    return str(error["code"])


CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
REFUSED = {
    "both lengths": POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, turned": POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc",
    "two lengths": POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "two equal lengths": POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"content-length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"content-length: +3\r\n\r\nabc",
    "a huge length": POST + b"content-length: 99999999999999999999\r\n\r\nabc",
    "another coding": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a strange coding": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a hexadecimal chunk": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "a huge chunk": CHUNKED + b"fffffffffffffffff\r\nabc",
    "a chunk too long": CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
    "a bare line feed": CHUNKED + b"3\nabc\n0\n\n",
    "a folded line": GET + b"a: b\r\n c\r\n\r\n",
    "a space before the colon": GET + b"a : b\r\n\r\n",
    "a header without a name": GET + b": b\r\n\r\n",
    "a NUL": GET + b"a: b\0c\r\n\r\n",
    "a bare return": GET + b"a: b\rc\r\n\r\n",
    "line feeds": b"GET / HTTP/1.1\nhost: a\n\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"host: b\r\n\r\n",
    "two equal hosts": GET + b"host: a\r\n\r\n",
    "a path for a host": b"GET / HTTP/1.1\r\nhost: a/b?x\r\n\r\n",
    "a host with a user": b"GET / HTTP/1.1\r\nhost: u@a\r\n\r\n",
    "a host in two words": b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
    "an absolute target": b"GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "a tunnel": b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n",
    "a raw letter": b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n",
    "an unknown method": b"BREW / HTTP/1.1\r\nhost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": b"GET / HTTP/1.2\r\nhost: a\r\n\r\n",
    "a websocket": GET + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=list(REFUSED))
def test_a_dangerous_shape_is_refused(edge: Start, sent: bytes) -> None:
    """It is 400 in our error shape, the connection ends, and no app sees it or what follows."""
    app = Echo()
    code = check_refusal(edge(app).ask(sent + LAST), 400)
    assert code in ("bad_request", "websocket_not_supported")
    assert app.seen == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (GET + b"expect: tea\r\n\r\n", 417),
        (b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 505),
        (GET + b"a: b\r\n" * 101 + b"\r\n", 431),
        (GET + b"a: " + b"b" * 33_000 + b"\r\n\r\n", 431),
        (GET + b"a: " + b"b" * 3_000_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"b" * 33_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 431),
        (GET + b"a: b\r\n" * 20_000 + b"\r\n", 431),
    ],
    ids=["expect", "2.0", "0.9", "count", "size", "2 MB", "target", "20,000"],
)
def test_what_is_too_much_or_unknown_is_told(edge: Start, sent: bytes, status: int) -> None:
    """Each has its own status, and arrives although the client is still sending."""
    app = Echo()
    check_refusal(edge(app).ask(sent), status)
    assert app.seen == []


def test_what_is_just_within_the_limits_is_served(edge: Start) -> None:
    """100 headers, and 32 KB of them, are a request like any other, also in small pieces."""
    many = (
        GET + b"".join(b"h%d: %s\r\n" % (i, b"v" * 300) for i in range(98)) + b"connection: close"
    )
    server = edge(Echo())
    assert len(many) < 32_000
    (whole,) = bodies(server.ask(many + b"\r\n\r\n"))
    pieces = [many[at : at + 3000] for at in range(0, len(many), 3000)]
    (cut,) = bodies(server.ask(*pieces, b"\r\n\r\n"))
    assert len(whole["headers"]) == 100
    assert cut["headers"] == whole["headers"]


def test_a_request_is_what_was_sent(edge: Start) -> None:
    """Method, path, query, headers and body reach the app; names in lower case."""
    sent = b"PUT /a%2Fb%20c?d=%20e HTTP/1.1\r\nHost: a\r\nX-Two:  b c\r\nContent-Length: 3\r\n"
    (asked,) = bodies(edge(Echo()).ask(sent + b"Connection: Close\r\n\r\nxyz"))
    assert (asked["method"], asked["path"], asked["query"]) == ("PUT", "/a/b c", "d=%20e")
    assert ["x-two", "b c"] in asked["headers"]
    assert (asked["body"], asked["version"]) == ("xyz", "1.1")


def test_requests_in_a_row_are_answered_in_order(edge: Start) -> None:
    """What was sent ahead is answered in turn, whatever the sizes."""
    large = POST + b"content-length: 60000\r\n\r\n" + b"x" * 60_000
    answered = bodies(edge(Echo()).ask((GET + b"\r\n" + large) * 5 + LAST))
    assert [len(each["body"]) for each in answered] == [0, 60_000] * 5 + [0]
    assert answered[-1]["path"] == "/last"


def test_what_is_broken_behind_a_good_request_is_refused_behind_its_answer(edge: Start) -> None:
    """The first is answered, then comes the refusal, then the end."""
    got = edge(Echo()).ask(GET + b"\r\n" + b"BREW / HTTP/1.1\r\n\r\n")
    assert got.count(b"HTTP/1.1 200 OK") == 1
    check_refusal(got[got.index(b"HTTP/1.1 400") :], 400)


def test_chunks_are_joined_and_trailers_dropped(edge: Start) -> None:
    """A chunked body arrives whole; no trailer is a header, of this request or of the next."""
    sent = CHUNKED + b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nx-late: 1\r\nhost: evil\r\n\r\n"
    first, second = bodies(edge(Echo()).ask(sent + LAST))
    assert first["body"] == "abcde"
    assert [name for name, _ in first["headers"]] == ["host", "transfer-encoding"]
    assert second["headers"] == [["host", "a"], ["connection", "close"]]


@pytest.mark.parametrize("flood", [b"1;e", b"0\r\nx: "])
def test_frames_without_end_are_refused(edge: Start, flood: bytes) -> None:
    """An extension of a chunk, or a trailer, that goes on and on is no body."""
    app = Echo()
    check_refusal(edge(app).ask(CHUNKED + flood, *[b"e" * 50_000] * 12), 400)
    assert app.seen == []


@pytest.mark.parametrize("length", [b"content-length: 3\r\n\r\nabc", b""])
def test_another_upgrade_is_ignored(edge: Start, length: bytes) -> None:
    """With ``Upgrade: h2c`` a request is answered by HTTP/1.1, with its body; so is the next."""
    offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n"
    first, second = bodies(edge(Echo()).ask(POST + offer + (length or b"\r\n") + LAST))
    assert first["body"] == ("abc" if length else "")
    assert second["path"] == "/last"


def test_another_upgrade_keeps_chunks(edge: Start) -> None:
    """The same with a chunked body in pieces."""
    offer = b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n"
    first, second = bodies(edge(Echo()).ask(POST + offer, b"3\r\nab", b"c\r\n0\r\n\r\n" + LAST))
    assert (first["body"], second["path"]) == ("abc", "/last")


def test_old_clients_are_served(edge: Start) -> None:
    """HTTP/1.0 needs no Host; its connection ends with the answer."""
    (asked,) = bodies(edge(Echo()).ask(b"GET /old HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"))
    assert (asked["path"], asked["version"]) == ("/old", "1.0")


EXPECTS = POST + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n"


def test_who_waits_for_100_gets_it_when_the_app_reads(edge: Start) -> None:
    """``100 Continue`` comes once, and the answer follows the body."""
    with edge(Echo()).connect() as client:
        client.sendall(EXPECTS)
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        (asked,) = bodies(client.recv(65536))
    assert asked["body"] == "abc"


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    head = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 401, "headers": head})
    await send({"type": "http.response.body", "body": b"no"})


def test_who_is_refused_unread_gets_no_100(edge: Start) -> None:
    """The refusal comes alone, before the body, and the connection ends."""
    got = edge(refuses).ask(EXPECTS)
    assert got.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nconnection: close\r\n" in got


def test_who_is_refused_and_goes_on_sending_gets_the_answer(edge: Start) -> None:
    """A client that sends all of 20 MB before it reads is not reset."""
    got = edge(refuses).ask(POST + b"content-length: 20000000\r\n\r\n", b"x" * 20_000_000)
    assert got.startswith(b"HTTP/1.1 401 ")
    assert got.endswith(b"\r\n\r\nno")


def test_a_head_that_comes_byte_by_byte_is_read(edge: Start) -> None:
    """However it is cut, it is one request."""
    with edge(Echo()).connect() as client:
        for byte in POST + b"content-length: 3\r\n\r\nabc":
            client.sendall(bytes([byte]))
        (asked,) = bodies(client.recv(65536))
    assert (asked["path"], asked["query"], asked["body"]) == ("/two", "x=1", "abc")


def test_a_half_close_after_the_answer_closes(edge: Start) -> None:
    """A client that has its answer and ends its side is not waited for."""
    with edge(Echo()).connect() as client:
        client.sendall(GET + b"\r\n")
        assert bodies(client.recv(65536))
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
