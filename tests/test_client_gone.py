"""A client that leaves is noticed at once: its upstream is let go, and nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import logging
import queue
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import pytest
import uvicorn

from proxy_api import GatewayApp, create_app
from proxy_api._protocol import GatewayProtocol
from proxy_api.testing import settings_for
from proxy_core import HttpClient, PoolLimits
from proxy_logging import RequestFinished, RequestStarted
from proxy_logging.testing import RecordingObserver, captured

LIMIT = 0.1
"""Seconds from the client's close to the upstream's."""
ROUNDS = 9
LOOPS = [name for name in ("asyncio", "uvloop") if importlib.util.find_spec(name)]

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
CHUNK = b'data: {"object":"chat.completion.chunk","choices":'
ROLE = CHUNK + b'[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = CHUNK + b'[{"index":0,"delta":{"content":"word"}}]}\n\n'
FINISH = CHUNK + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
WHOLE = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
ANSWERS = {
    "silent": b"",
    "role": STREAM + ROLE,
    "word": STREAM + ROLE + WORD,
    "done": STREAM + ROLE + WORD + FINISH + b"data: [DONE]\n\n",
    "half": JSON % len(WHOLE) + WHOLE[:20],
    "whole": JSON % len(WHOLE) + WHOLE,
    "late": JSON % len(WHOLE) + WHOLE,
}


class Upstream:
    """Answers what a request's ``act`` names, and notes when the other end closes too early."""

    def __init__(self) -> None:
        self.arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.closed: queue.SimpleQueue[float] = queue.SimpleQueue()
        self.sent = 0
        self.go_on = threading.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        act = "whole"
        while act in ("whole", "late"):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            assert length is not None
            body = json.loads(await reader.readexactly(int(length[1])))
            act = body.get("act") or body["messages"][-1]["content"]
            self.arrived.put(act)
            if act == "late":
                await asyncio.to_thread(self.go_on.wait, 5)
            writer.write(ANSWERS.get(act, STREAM + ROLE + WORD))
        try:
            while act == "flood":
                writer.write(WORD * 1000)
                self.sent += len(WORD) * 1000
                await writer.drain()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            self.closed.put(time.monotonic())


class Server:
    """A gateway under uvicorn in a thread; what its loop complains of is kept."""

    def __init__(self, app: GatewayApp, **options: Any) -> None:
        self.app = app
        self.complaints: list[dict[str, Any]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._asgi,
                interface="asgi3",
                port=0,
                lifespan="on",
                log_config=None,
                access_log=False,
                **options,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    async def _asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        await self.app(scope, receive, send)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self._server.started)
        self._own = self.tasks()
        return self

    def __exit__(self, kind: object, *ending: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = kind is not None
        self._thread.join(10)

    @property
    def port(self) -> int:
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    @property
    def writing_is_blocked(self) -> bool:
        connections: set[Any] = set(self._server.server_state.connections)
        return any(each.writable is not None for each in connections)

    @property
    def tasks_left(self) -> int:
        return self.tasks() - self._own

    def tasks(self) -> int:
        """How many tasks its loop has, after it turned a few times."""
        assert self._loop is not None

        async def count() -> int:
            for _ in range(5):
                await asyncio.sleep(0)
            return len(asyncio.all_tasks())

        return asyncio.run_coroutine_threadsafe(count(), self._loop).result(5)


@dataclass
class House:
    """An upstream, a gateway in front of it, and all that can be seen of them."""

    upstream: Upstream
    server: Server
    observer: RecordingObserver
    clients: list[HttpClient]
    note: Callable[[str, object], None]

    @property
    def answers_open(self) -> int:
        return sum(client.open_responses for client in self.clients)

    def connect(self) -> socket.socket:
        made = socket.socket()
        made.settimeout(5)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        made.connect(("127.0.0.1", self.server.port))
        return made

    def await_events(self, kind: Any, count: int, seconds: float = 5.0) -> None:
        until(lambda: len(self.observer.of(kind)) == count, seconds)

    def check_one_gone(self) -> None:
        """One request began and ended as gone, and nothing of it is left."""
        self.await_events(RequestFinished, 1)
        assert self.server.tasks_left == 0
        finished = [event.outcome for event in self.observer.of(RequestFinished)]
        assert (len(self.observer.of(RequestStarted)), finished) == (1, ["gone"])
        self.observer.events.clear()
        until(lambda: self.server.connections == 0, LIMIT)
        self.check_empty()

    def check_empty(self) -> None:
        gateway = self.server.app.gateway
        metrics = gateway.metrics.render()[0].decode()
        in_flight = re.findall(r"^llm_proxy_in_flight_requests\S* (\S+)$", metrics, re.MULTILINE)
        assert in_flight == ["0.0"]
        assert gateway.snapshot.limiter.reservations_open == 0
        assert [breaker.permits_out for breaker in gateway.runtime.breakers.values()] == [0]
        assert self.answers_open == 0
        assert self.upstream.arrived.empty()
        assert self.upstream.closed.empty()
        assert self.server.connections == 0


@pytest.fixture
def house(
    upstream: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    record_testsuite_property: Callable[[str, object], None],
) -> Iterator[Callable[..., Any]]:
    """Builds a House as a context manager; at the end nobody may have complained of anything."""
    servers: list[Server] = []

    @contextmanager
    def build(
        connections: int = 100, change: Callable[[GatewayApp], Any] = id, **options: Any
    ) -> Iterator[House]:
        clients: list[HttpClient] = []

        def client(**given: Any) -> HttpClient:
            clients.append(HttpClient(PoolLimits(connections=connections), **given))
            return clients[-1]

        monkeypatch.setattr("proxy_api._http_client.HttpClient", client)
        behind, observer = Upstream(), RecordingObserver()
        app = create_app(settings=settings_for(upstream(behind).url), observers=[observer])
        change(app)
        with Server(app, **{"http": GatewayProtocol, "loop": "asyncio", **options}) as server:
            servers.append(server)
            yield House(behind, server, observer, clients, record_testsuite_property)

    with captured() as lines, caplog.at_level(logging.WARNING):
        yield build
        gc.collect()
    assert [line for line in lines if line["level"] not in ("debug", "info")] == []
    assert [record.getMessage() for record in caplog.records] == []
    assert [server.complaints for server in servers] == [[]] * len(servers)


def until(happened: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def request(act: str, *, stream: bool = True, padding: int = 0) -> bytes:
    body = json.dumps(
        {"model": "chat", "stream": stream, "messages": [], "act": act, "padding": "x" * padding}
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def close(client: socket.socket) -> None:
    client.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def before_head(house: House, client: socket.socket, turn: int) -> None:
    client.sendall(request("silent"))
    assert house.upstream.arrived.get(timeout=5) == "silent"


def before_content(house: House, client: socket.socket, turn: int) -> None:
    client.sendall(request("role"))
    assert house.upstream.arrived.get(timeout=5) == "role"
    until(lambda: house.answers_open == 1)


def mid_stream(house: House, client: socket.socket, turn: int) -> None:
    client.sendall(request("word"))
    assert house.upstream.arrived.get(timeout=5) == "word"
    got = b""
    while b"word" not in got:
        got += client.recv(4096)


def whole_pending(house: House, client: socket.socket, turn: int) -> None:
    act = ("silent", "half")[turn % 2]
    client.sendall(request(act, stream=False))
    assert house.upstream.arrived.get(timeout=5) == act
    until(lambda: house.answers_open == turn % 2)


def large_body(house: House, client: socket.socket, turn: int) -> None:
    client.sendall(request("silent", padding=200_000))
    assert house.upstream.arrived.get(timeout=5) == "silent"


def pipelined(house: House, client: socket.socket, turn: int) -> None:
    # What is queued is little, or much, or more than the server keeps; and it may come late.
    queued = ((1, 0), (1, 200_000), (40, 0), (1, 3_000_000))
    count, padding = queued[turn % 4]
    second = request("whole", padding=padding) * count
    at_once, later = (second, b"") if turn % 2 else (b"", second)
    client.sendall(request("silent") + at_once)
    assert house.upstream.arrived.get(timeout=5) == "silent"
    client.sendall(later)


PHASES = (before_head, before_content, mid_stream, whole_pending, large_body, pipelined)


Leave = Callable[[socket.socket], None]


def run(house: House, phases: Any, leave: Leave, rounds: int) -> None:
    """Play each phase so often: each close reaches the upstream in time and leaves nothing."""
    took: dict[str, list[float]] = {}
    for turn in range(rounds):
        for phase in phases:
            with house.connect() as client:
                phase(house, client, turn)
                left_at = time.monotonic()
                leave(client)
                took.setdefault(phase.__name__, []).append(
                    house.upstream.closed.get(timeout=2) - left_at
                )
                house.check_one_gone()
    late = {name: max(times) for name, times in took.items() if max(times) > LIMIT}
    assert late == {}
    for name, times in took.items():
        house.note(f"{name}, {leave.__name__}: ms", [round(each * 1e3, 2) for each in times])


@pytest.mark.parametrize("leave", [close, reset])
@pytest.mark.parametrize("loop", LOOPS)
def test_the_upstream_is_closed_within_100_ms(
    house: Callable[..., Any], loop: str, leave: Leave
) -> None:
    """In each phase of a request, a client's close reaches the upstream in time, 54 of 54."""
    with house(loop=loop) as built:
        run(built, PHASES, leave, ROUNDS)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_half_close_counts_as_gone(house: Callable[..., Any], loop: str) -> None:
    """A client that only ends its own side is let go as one that closed."""
    with house(loop=loop) as built:
        run(built, PHASES, half_close, 3)


@pytest.mark.parametrize("leave", [close, reset, half_close])
@pytest.mark.parametrize("loop", LOOPS)
def test_who_does_not_read_and_leaves_is_noticed(
    house: Callable[..., Any], loop: str, leave: Leave
) -> None:
    """A stream that is stuck, since its client reads nothing, ends with its client."""

    def stuck(built: House, client: socket.socket, turn: int) -> None:
        client.sendall(request("flood"))
        assert built.upstream.arrived.get(timeout=5) == "flood"
        blocked = 0
        while blocked < 20:
            time.sleep(0.01)
            blocked = blocked + 1 if built.server.writing_is_blocked else 0

    with house(loop=loop) as built:
        run(built, [stuck], leave, 1)


@pytest.mark.parametrize("leave", [close, reset, half_close])
@pytest.mark.parametrize("protocol", ["h11", "httptools"])
def test_other_servers_notice_too(house: Callable[..., Any], protocol: str, leave: Leave) -> None:
    """Under a server that offers no signal, a watcher on ``receive()`` notices in time."""
    with house(http=protocol) as built:
        run(built, PHASES[:-1], leave, 3)


class PlainMiddleware:
    """Does nothing, but takes the app's short way away."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.mark.parametrize("protocol", [GatewayProtocol, "h11"])
def test_the_long_way_notices_too(house: Callable[..., Any], protocol: Any) -> None:
    """With a middleware, when requests go through the router, a close is noticed as well."""
    with house(change=lambda app: app.add_middleware(PlainMiddleware), http=protocol) as built:
        run(built, PHASES[:-1], close, 2)


@pytest.mark.parametrize("leave", [close, half_close])
@pytest.mark.parametrize("protocol", [GatewayProtocol, "h11"])
def test_who_leaves_with_a_whole_answer_is_not_gone(
    house: Callable[..., Any], protocol: Any, leave: Leave
) -> None:
    """A client that closes behind the last event was served, though the upstream is still open."""
    with house(http=protocol) as built, built.connect() as client:
        client.sendall(request("done"))
        got = b""
        while b"[DONE]" not in got:
            got += client.recv(4096)
        leave(client)
        built.await_events(RequestFinished, 1)
        (finished,) = built.observer.of(RequestFinished)
        assert (finished.outcome, finished.status, finished.error) == ("ok", 200, "")
        built.upstream.closed.get(timeout=5)
        assert built.upstream.arrived.get(timeout=5) == "done"
        until(lambda: built.server.connections == 0)
        built.check_empty()


def test_who_leaves_an_array_before_its_end_is_gone(house: Callable[..., Any]) -> None:
    """A stream as a JSON array is none without its bracket: whoever leaves before it has gone."""
    asked = b'{"contents":[{"role":"user","parts":[{"text":"done"}]}]}'
    head = (
        "POST /v1beta/models/chat:streamGenerateContent HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(asked)}\r\n\r\n"
    )
    with house() as built, built.connect() as client:
        client.sendall(head.encode() + asked)
        assert built.upstream.arrived.get(timeout=5) == "done"
        got = b""
        while b"finishReason" not in got:
            got += client.recv(4096)
        close(client)
        built.upstream.closed.get(timeout=5)
        built.check_one_gone()


@pytest.mark.parametrize("leave", [close, reset, half_close])
def test_who_waits_for_a_connection_leaves_the_queue(
    house: Callable[..., Any], leave: Leave
) -> None:
    """A request that waits for the pool goes with its client, and never arrives upstream."""
    with house(connections=1) as built, built.connect() as first:
        first.sendall(request("word"))
        assert built.upstream.arrived.get(timeout=5) == "word"
        until(lambda: built.answers_open == 1)
        for waiting in range(1, 21):
            with built.connect() as client:
                client.sendall(request("whole", stream=False))
                built.await_events(RequestStarted, waiting + 1)
                built.server.tasks()
                leave(client)
                built.await_events(RequestFinished, waiting, LIMIT)
        assert {event.outcome for event in built.observer.of(RequestFinished)} == {"gone"}
        first.close()
        built.upstream.closed.get(timeout=5)
        built.await_events(RequestFinished, 21)
        built.check_empty()
        with built.connect() as client:
            client.sendall(request("whole", stream=False))
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert built.upstream.arrived.get(timeout=5) == "whole"
        assert built.upstream.arrived.empty()


def answers(client: socket.socket, count: int) -> int:
    """Read so many whole answers, or until the server closes; how many there were."""
    got = b""
    while got.count(WHOLE) < count and (part := client.recv(65536)):
        got += part
    assert got.count(b"HTTP/1.1 200") == got.count(WHOLE)
    assert got.endswith(WHOLE)
    return got.count(WHOLE)


def test_a_client_that_stays_is_answered(house: Callable[..., Any]) -> None:
    """Requests in a pipeline are answered in turn, large ones too; none counts as gone."""
    with house() as built, built.connect() as client:
        client.sendall(request("whole", stream=False, padding=80_000) * 10)
        assert answers(client, 10) == 10
        built.await_events(RequestFinished, 10)
        assert {event.outcome for event in built.observer.of(RequestFinished)} == {"ok"}
        client.sendall(request("whole", stream=False))
        assert answers(client, 1) == 1


@pytest.mark.parametrize(
    ("count", "padding", "most"), [(2000, 0, 1999), (3, 1_000_000, 2), (1, 3_000_000, 1)]
)
def test_too_long_a_pipeline_is_cut(
    house: Callable[..., Any], count: int, padding: int, most: int
) -> None:
    """Of more than a connection may send ahead, those that fit are answered; then it is closed."""
    with house() as built, built.connect() as client:
        client.sendall(request("late", stream=False))
        assert built.upstream.arrived.get(timeout=5) == "late"
        client.sendall(request("whole", stream=False, padding=padding) * count)
        for _ in range(20):
            built.server.tasks()
        built.upstream.go_on.set()
        answered = answers(client, count + 1)
        assert 1 <= answered <= most
        assert client.recv(1) == b""
        built.await_events(RequestFinished, answered)
        assert {event.outcome for event in built.observer.of(RequestFinished)} == {"ok"}
