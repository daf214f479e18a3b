"""What the edge writes: correct framing, few writes, and never an answer that only looks whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy_logging.testing import captured

Start = Callable[..., Any]
LAST = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"


def saying(*messages: dict[str, Any], status: int = 200, headers: Any = ()) -> Any:
    """An app that sends this head and these messages, a part each."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for message in messages:
            await send({"type": "http.response.body", **message})

    return app


def split(got: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = got.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


PARTS = ({"body": b"one", "more_body": True}, {"body": b"", "more_body": True}, {"body": b"two"})


def test_a_body_of_unknown_length_is_chunked(edge: Start) -> None:
    """Each part is a chunk, empty ones are none, and the end is told."""
    lines, body = split(edge(saying(*PARTS)).ask(LAST))
    assert b"transfer-encoding: chunked" in lines
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_old_clients_get_no_chunks(edge: Start) -> None:
    """With HTTP/1.0 the end of the connection is the end of the body."""
    lines, body = split(edge(saying(*PARTS)).ask(OLD))
    assert not any(line.startswith((b"transfer-", b"content-length")) for line in lines)
    assert body == b"onetwo"


def test_a_body_in_one_part_gets_its_length(edge: Start) -> None:
    """It needs no chunks."""
    lines, body = split(edge(saying({"body": b"one"})).ask(LAST))
    assert b"content-length: 3" in lines
    assert body == b"one"


def test_a_length_that_is_given_is_kept(edge: Start) -> None:
    """A body in parts with a content-length is sent as it is."""
    app = saying(*PARTS, headers=[(b"content-length", b"6")])
    assert split(edge(app).ask(LAST))[1] == b"onetwo"


@pytest.mark.parametrize("status", [200, 204, 304])
def test_no_body_where_there_is_none(edge: Start, status: int) -> None:
    """HEAD, 204 and 304 have headers only, and the next request on the connection is answered."""
    method = b"HEAD" if status == 200 else b"GET"
    server = edge(saying({"body": b"four" if status == 200 else b""}, status=status))
    got = server.ask(method + b" / HTTP/1.1\r\nhost: a\r\n\r\n" + method + LAST[3:])
    assert got.count(b"HTTP/1.1 %d " % status) == 2
    assert got.count(b"\r\n\r\n") == 2
    assert b"four" not in got and b"transfer-encoding" not in got


def test_every_answer_of_the_server_has_its_headers(edge: Start) -> None:
    """What uvicorn is told to send always is sent, with a date of this second."""
    server = edge(saying({"body": b""}))
    server.state.default_headers = [(b"date", b"old"), (b"server", b"mine")]
    lines, _ = split(server.ask(LAST))
    assert b"server: mine" in lines
    assert [line for line in lines if line.startswith(b"date: ") and line.endswith(b" GMT")]


class Wire:
    """A transport that counts what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> None:
        return None


async def test_a_whole_answer_is_one_write() -> None:
    """Head and body leave together; of a stream, head and first event, then each with its frame."""
    import uvicorn
    from uvicorn.server import ServerState

    from proxy_api import GatewayProtocol

    for app, writes in ((saying({"body": b"one"}), 1), (saying(*PARTS), 2)):
        config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None)
        config.load()
        wire, protocol = Wire(), GatewayProtocol(config, ServerState(), {})
        protocol.connection_made(wire)
        protocol.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(wire.written) == writes


FAULTS = {
    "nothing": lambda scope, receive, send: asyncio.sleep(0),
    "an injection": saying({"body": b""}, headers=[(b"x-a", b"b\r\nx-evil: 1")]),
    "an injected line feed": saying({"body": b""}, headers=[(b"x-a", b"b\nx-evil: 1")]),
    "out of turn": lambda scope, receive, send: send({"type": "http.response.body"}),
    "a fault": lambda scope, receive, send: _fails(),
}


async def _fails() -> None:
    raise ValueError("a fault of the app")


@pytest.mark.parametrize("app", FAULTS.values(), ids=list(FAULTS))
def test_an_app_that_breaks_gets_a_500(edge: Start, app: Any) -> None:
    """It is told in our shape and in the log, and what it wanted to inject is not sent."""
    with captured() as lines:
        got = edge(app).ask(LAST)
    assert got.startswith(b"HTTP/1.1 500 ")
    assert b'"code":"internal_error"' in got
    assert b"x-evil" not in got and b"a fault of the app" not in got
    assert [line["event"][:8] for line in lines if line["level"] == "error"] == ["asgi_app"]


@pytest.mark.parametrize(
    ("app", "sent", "got_first"),
    [
        (saying(PARTS[0]), LAST, b"3\r\none\r\n"),
        (saying(PARTS[0], headers=[(b"content-length", b"5")]), LAST, b"one"),
        (saying(*PARTS, headers=[(b"content-length", b"5")]), LAST, b"one"),
    ],
    ids=["chunks", "too short", "too long"],
)
def test_an_answer_that_breaks_off_never_looks_whole(
    edge: Start, app: Any, sent: bytes, got_first: bytes
) -> None:
    """The end that was promised does not come, and nothing beyond it either."""
    with captured():
        assert split(edge(app).ask(sent))[1] == got_first


def test_an_old_client_learns_of_a_break_by_a_reset(edge: Start) -> None:
    """Where the connection's end is the body's, it must not come in peace."""
    with captured(), pytest.raises(ConnectionResetError):
        edge(saying(PARTS[0])).ask(OLD)


def test_who_has_read_all_is_told_of_the_end(edge: Start) -> None:
    """After the body, ``receive`` waits for the client's leave, or for the answer's end."""
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["more_body"] is False
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stays":
            await send({"type": "http.response.body"})
        told.append((await receive())["type"])

    server = edge(app)
    server.ask(LAST.replace(b"/ ", b"/stays "))
    with server.connect() as client:
        client.sendall(LAST)
    for _ in range(200):
        if len(told) == 2:
            break
        server.run(asyncio.sleep(0.01))
    assert told == ["http.disconnect"] * 2
