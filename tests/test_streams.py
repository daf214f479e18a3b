"""Streams: backpressure reaches the upstream, silence is bridged, many run at once, each whole."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import httpx2
import pytest

from proxy_api import GatewayProtocol, Settings, create_app
from proxy_api._pulse import Rhythm
from proxy_api.testing import serving
from proxy_logging import AttemptFailed, RequestFinished
from proxy_logging.testing import RecordingObserver

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
COMMENT = b": keepalive\n\n"
MB = 1 << 20
SMALL = 64 * 1024


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
END = event({}, "stop") + b"data: [DONE]\n\n"


async def asked(reader: asyncio.StreamReader) -> str:
    """Read one request; the text of its message."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length is not None
    body = json.loads(await reader.readexactly(int(length[1])))
    return str(body["messages"][0]["content"])


def body(text: str = "") -> dict[str, Any]:
    return {"model": "chat", "stream": True, "messages": [{"role": "user", "content": text}]}


class Silent:
    """An upstream that begins a stream, and then is silent until it is told what to write."""

    def __init__(self, first: bytes = b"") -> None:
        self.requests = 0
        self._first = first
        self._told: asyncio.Future[bytes]
        self._loop: asyncio.AbstractEventLoop

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        self._loop = asyncio.get_running_loop()
        self._told = self._loop.create_future()
        self.requests += 1
        writer.write(HEAD + self._first)
        writer.write(await self._told)

    def write(self, data: bytes) -> None:
        self._loop.call_soon_threadsafe(self._told.set_result, data)


class Plain:
    """An upstream that answers a whole stream at once, and counts."""

    def __init__(self) -> None:
        self.requests = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        self.requests += 1
        writer.write(HEAD + ROLE + event({"content": "plain"}) + END)


Start = Callable[..., tuple[str, RecordingObserver]]


@pytest.fixture
def start(upstream: Callable[..., Any]) -> Iterator[Start]:
    """Starts a gateway before these upstreams, asked in their order; its URL and its events.

    ``times`` are those of a Rhythm.
    """
    with ExitStack() as stack:

        def build(*handlers: Any, **times: Any) -> tuple[str, RecordingObserver]:
            observer = RecordingObserver()
            providers: Any = {}
            models: Any = []
            for order, handler in enumerate(handlers, 1):
                url = upstream(handler).url
                providers[f"up{order}"] = {"kind": "openai_compatible", "base_url": url}
                models.append({"name": "chat", "target": f"up{order}/chat", "order": order})
            settings = Settings(providers=providers, models=models)
            app = create_app(settings=settings, observers=[observer])
            rhythm = Rhythm(**times)
            app.gateway.snapshot = replace(app.gateway.snapshot, rhythm=rhythm)
            return stack.enter_context(serving(app)) + "/v1/chat/completions", observer

        yield build


@pytest.mark.parametrize("first", [b"", ROLE], ids=["nothing", "a role"])
def test_silence_is_bridged_by_comments(start: Start, first: bytes) -> None:
    """After ``patience`` without content the 200 is sent, and comments until there is some."""
    silent = Silent(first)
    rest = (
        event({"role": "assistant", "content": "at last"} if not first else {"content": "x"}) + END
    )
    url, _ = start(silent, patience=0.2, heartbeat=0.05)
    began = time.monotonic()
    got = b""
    with httpx2.stream("POST", url, json=body(), timeout=10) as answer:
        assert answer.status_code == 200
        for part in answer.iter_raw():
            got += part
            if got.count(COMMENT) == 4:
                assert time.monotonic() - began >= 0.2 + 3 * 0.05
                silent.write(rest)
    assert got.startswith(COMMENT)
    assert got.replace(COMMENT, b"") == first + rest


def test_silence_before_the_head_is_bridged(start: Start) -> None:
    """An upstream that doesn't even send its head in time is silence too."""
    told = threading.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        while not told.is_set():
            await asyncio.sleep(0.01)
        writer.write(HEAD + event({"role": "assistant", "content": "late"}) + END)

    url, observer = start(slow, patience=0.1, heartbeat=0.05)
    got = b""
    with httpx2.stream("POST", url, json=body(), timeout=10) as answer:
        assert answer.status_code == 200
        for part in answer.iter_raw():
            got += part
            if got.count(COMMENT) == 3:
                told.set()
    assert got.replace(COMMENT, b"") == event({"role": "assistant", "content": "late"}) + END
    assert [each.outcome for each in observer.of(RequestFinished)] == ["ok"]


def test_silence_in_the_middle_is_bridged(start: Start) -> None:
    """Comments also come between two events of content that are far apart."""
    one, two = event({"role": "assistant", "content": "one"}), event({"content": "two"})
    silent = Silent(one)
    url, _ = start(silent, patience=30, heartbeat=0.05)
    got = b""
    with httpx2.stream("POST", url, json=body(), timeout=10) as answer:
        for part in answer.iter_raw():
            got += part
            if got.count(COMMENT) == 2:
                silent.write(two + END)
    assert got.startswith(one + COMMENT)
    assert got.replace(COMMENT, b"") == one + two + END


def test_a_whole_answer_gets_no_comments(start: Start) -> None:
    """Who asked for JSON gets a status and JSON, however long it takes."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        await asyncio.sleep(0.3)
        answer = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(answer) + answer)

    url, _ = start(slow, patience=0.05, heartbeat=0.05)
    answer = httpx2.post(url, json={**body(), "stream": False}, timeout=10)
    assert answer.json()["choices"]


def test_content_in_time_needs_no_comments(start: Start) -> None:
    """A stream whose content comes within ``patience`` is given as it is."""
    url, _ = start(Plain(), patience=30, heartbeat=0.01)
    answer = httpx2.post(url, json=body(), timeout=10)
    assert answer.content == ROLE + event({"content": "plain"}) + END


def test_once_committed_nobody_else_is_asked(start: Start) -> None:
    """A failure after the committed 200 goes into the stream, and no other deployment is asked."""
    silent, other = Silent(), Plain()
    url, observer = start(silent, other, patience=0.05, heartbeat=0.05)
    got = b""
    with httpx2.stream("POST", url, json=body(), timeout=10) as answer:
        assert answer.status_code == 200
        for part in answer.iter_raw():
            if not got:
                silent.write(b"")
            got += part
    assert got.startswith(COMMENT)
    error = got.replace(COMMENT, b"")
    assert error.count(b"\n\n") == 1
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "upstream_disconnected"
    assert (silent.requests, other.requests) == (1, 0)
    assert [each.reason for each in observer.of(AttemptFailed)] == ["upstream_disconnected"]
    finished = observer.of(RequestFinished)
    assert [(each.status, each.outcome, each.attempts) for each in finished] == [(200, "failed", 1)]


def test_before_that_another_one_answers(start: Start) -> None:
    """The same failure within ``patience`` goes unnoticed: the next deployment answers."""
    silent, other = Silent(), Plain()
    url, observer = start(silent, other, patience=30, heartbeat=30)
    answers: queue.SimpleQueue[httpx2.Response] = queue.SimpleQueue()
    ask = partial(httpx2.post, url, json=body(), timeout=10)
    client = threading.Thread(target=lambda: answers.put(ask()))
    client.start()
    wait_until(lambda: silent.requests == 1)
    silent.write(b"")
    client.join(10)
    assert answers.get(timeout=1).content == ROLE + event({"content": "plain"}) + END
    assert other.requests == 1
    assert [each.outcome for each in observer.of(RequestFinished)] == ["ok"]


class Endless:
    """An upstream that writes content for as long as it is taken, and counts what it wrote."""

    def __init__(self) -> None:
        self.sent = 0
        self.open = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        self.open += 1
        word = event({"content": "x" * 8000})
        writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL
        )
        writer.write(HEAD + ROLE)
        try:
            while True:
                writer.write(word)
                self.sent += len(word)
                await writer.drain()
        finally:
            self.open -= 1


def test_a_client_that_takes_nothing_counts_as_gone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its upstream is let go after the stall, and nobody holds it against the upstream."""
    monkeypatch.setattr(GatewayProtocol, "write_stall", 0.3)
    endless = Endless()
    url, observer = start(endless)
    with raw_client(url):
        wait_until(lambda: endless.open == 1)
        stalled(endless)
        wait_until(lambda: endless.open == 0)
        wait_until(lambda: len(observer.of(RequestFinished)) == 1)
    assert [each.outcome for each in observer.of(RequestFinished)] == ["gone"]
    assert observer.of(AttemptFailed) == []


def test_a_client_that_takes_its_time_is_left_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes something in time is no client that stalls, however long its stream is."""
    monkeypatch.setattr(GatewayProtocol, "write_stall", 1.5)
    endless = Endless()
    url, observer = start(endless)
    with raw_client(url) as client:
        stalled(endless)
        until = time.monotonic() + 1.8
        while time.monotonic() < until:
            assert client.recv(MB)
        assert (endless.open, observer.of(RequestFinished)) == (1, [])
    wait_until(lambda: endless.open == 0)


def raw_client(url: str) -> socket.socket:
    """A client with small buffers that has sent its request, and reads nothing by itself."""
    target = httpx2.URL(url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    client.connect((target.host, target.port))
    sent = json.dumps(body()).encode()
    head = (
        f"POST {target.path} HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    )
    client.sendall(head.encode() + sent)
    return client


def stalled(upstream: Endless) -> int:
    """Wait until it has written something, and then nothing for 0.3 s; how much it has by then."""
    sent = -1
    deadline = time.monotonic() + 20
    while upstream.sent != sent or not sent:
        assert time.monotonic() < deadline
        sent = upstream.sent
        time.sleep(0.3)
    return sent


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


STREAMS, WORDS = 100, 50


class Crowd:
    """An upstream that ends no stream before all of them have begun."""

    def __init__(self) -> None:
        self._begun = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = await asked(reader)
        self._begun += 1
        writer.write(HEAD + ROLE)
        for number in range(WORDS):
            writer.write(event({"content": f"{name}.{number}"}))
            await asyncio.sleep(0.001)
        while self._begun < STREAMS:
            await asyncio.sleep(0.01)
        writer.write(END)


async def test_a_hundred_streams_at_once_are_whole(start: Start) -> None:
    """Of 100 concurrent streams each client gets its own events, all of them, in order."""
    url, observer = start(Crowd())
    limits = httpx2.Limits(max_connections=STREAMS)
    async with httpx2.AsyncClient(limits=limits, timeout=60) as client:
        asking = [client.post(url, json=body(f"s{number}")) for number in range(STREAMS)]
        answers = await asyncio.gather(*asking)
    for number, answer in enumerate(answers):
        words = b"".join(event({"content": f"s{number}.{at}"}) for at in range(WORDS))
        assert answer.content == ROLE + words + END
    assert [each.outcome for each in observer.of(RequestFinished)] == ["ok"] * STREAMS
