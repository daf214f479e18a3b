"""The end of a process: what has begun is finished, told, or refused, and the exit is in time."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import pytest

EVENTS = 10


async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
    """As long as ``user`` says in seconds: a stream of ten pieces, or a whole answer."""
    body = json.loads(asked.body)
    seconds = float(body["user"])
    base = {"id": "x", "created": 1, "model": "m"}
    if not body.get("stream"):
        await asyncio.sleep(seconds)
        message = {"role": "assistant", "content": "whole"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = json.dumps({**base, "object": "chat.completion", "choices": [choice]}).encode()
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write((head % len(whole)).encode() + whole)
        return
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    for number in range(EVENTS):
        delta = {"content": f"{number} "}
        reason = "stop" if number == EVENTS - 1 else None
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        event = {**base, "object": "chat.completion.chunk", "choices": [choice]}
        _chunk(writer, b"data: " + json.dumps(event).encode() + b"\n\n")
        await writer.drain()
        await asyncio.sleep(seconds / EVENTS)
    _chunk(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


@pytest.fixture(scope="module")
def slow(http_upstream: Callable[..., Any]) -> str:
    url: str = http_upstream(answer).url
    return url


def config(upstream: str, *, drain: str = "30s", more: str = "") -> str:
    return (
        f"providers: {{up: {{kind: openai_compatible, base_url: '{upstream}'}}}}\n"
        "models: [{name: m, target: up/m}]\n"
        f"server: {{drain: {drain}}}\n{more}"
    )


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def text_of(url: str, seconds: float) -> tuple[str, float]:
    """The whole text of a stream that takes so long, and when it ended."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    body = json.dumps({"model": "m", "messages": [], "stream": True, "user": str(seconds)})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    events = connection.getresponse().read().split(b"\n\n")[:-1]
    ended = time.monotonic()
    connection.close()
    assert events.pop() == b"data: [DONE]"
    deltas = [json.loads(event.removeprefix(b"data: "))["choices"][0] for event in events]
    return "".join(delta["delta"]["content"] for delta in deltas), ended


WHOLE = "".join(f"{number} " for number in range(EVENTS))


def wait_until(number: int, requests: Callable[[], int]) -> None:
    deadline = time.monotonic() + 20
    while requests() < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def in_flight(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answered:
        lines = answered.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("llm_proxy_in_flight_requests")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in counts)


@contextmanager
def streams(url: str, count: int, seconds: float) -> Iterator[list[Any]]:
    """So many streams, all of them begun when the block is entered."""
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(text_of, url, seconds) for _ in range(count)]
        wait_until(count, lambda: in_flight(url))
        yield running


def test_a_hundred_streams_end_whole(process: Callable[..., Any], slow: str) -> None:
    """Streams of 3 s that run at SIGTERM end whole; the process within a second of the last."""
    proxy = process(config(slow))
    with streams(proxy.url, 100, 3.0) as running:
        proxy.signal(signal.SIGTERM)
        results = [each.result() for each in running]
    ended = proxy.ended()
    assert {text for text, _ in results} == {WHOLE}
    assert ended - max(at for _, at in results) < 1.0
    outcomes = [line["outcome"] for line in proxy.lines if line["event"] == "request"]
    assert outcomes == ["ok"] * 100


def test_with_nothing_open_it_ends_at_once(process: Callable[..., Any], slow: str) -> None:
    """There is no pause when nobody is connected."""
    for number in (signal.SIGTERM, signal.SIGINT):
        proxy = process(config(slow))
        began = proxy.signal(number)
        assert proxy.ended() - began < 1.5


def test_the_end_of_the_drain_is_told_in_the_stream(process: Callable[..., Any], slow: str) -> None:
    """What outlasts server.drain gets an error that the SDK raises; before content, a 503."""
    proxy = process(config(slow, drain="3s"))
    with client(proxy.url) as sdk, ThreadPoolExecutor(1) as pool:
        whole = pool.submit(
            sdk.chat.completions.with_raw_response.create, model="m", messages=[], user="20"
        )
        stream = iter(sdk.chat.completions.create(model="m", messages=[], stream=True, user="20"))
        assert next(stream).choices[0].delta.content == "0 "
        began = proxy.signal(signal.SIGTERM)
        with pytest.raises(openai.APIError) as cut:
            list(stream)
        with pytest.raises(openai.InternalServerError) as refused:
            whole.result()
    assert 2.5 < proxy.ended() - began < 4.5
    assert cut.value.code == "gateway_shutdown"
    assert "server.drain" in cut.value.message
    assert refused.value.status_code == 503
    assert refused.value.code == "gateway_shutdown"
    assert refused.value.response.headers["retry-after"] == "1"
    lines = [line for line in proxy.lines if line["event"] == "request"]
    assert sorted((line["status"], line["outcome"], line["error"]) for line in lines) == [
        (200, "failed", "gateway_shutdown"),
        (503, "failed", "gateway_shutdown"),
    ]
    assert "Traceback" not in proxy.log


def test_a_second_signal_ends_at_once(process: Callable[..., Any], slow: str) -> None:
    """Nobody waits for the drain then; the streams are told all the same, and the status is 0."""
    proxy = process(config(slow))
    with client(proxy.url) as sdk:
        stream = iter(sdk.chat.completions.create(model="m", messages=[], stream=True, user="20"))
        next(stream)
        proxy.signal(signal.SIGTERM)
        proxy.told("drain_began")
        began = proxy.signal(signal.SIGTERM)
        with pytest.raises(openai.APIError) as cut:
            list(stream)
    assert cut.value.code == "gateway_shutdown"
    assert proxy.ended() - began < 1.5


def test_the_pause(process: Callable[..., Any], slow: str) -> None:
    """For two seconds it isn't ready and serves all the same, each answer its connection's last."""
    proxy = process(config(slow))
    with streams(proxy.url, 1, 5.0) as running:
        proxy.signal(signal.SIGTERM)
        proxy.told("drain_began")
        asked = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
        asked.request("GET", "/readyz")
        answered = asked.getresponse()
        assert (answered.status, answered.getheader("connection")) == (503, "close")
        assert text_of(proxy.url, 0.1)[0] == WHOLE
        time.sleep(2.5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), 5).close()
        assert running[0].result()[0] == WHOLE
    proxy.ended()


def test_a_connection_that_was_not_told_may_ask_once_more(
    process: Callable[..., Any], slow: str
) -> None:
    """A stream's head went out before the stop: a request right behind the stream is answered."""
    proxy = process(config(slow))
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    head = {"content-type": "application/json"}
    body = {"model": "m", "messages": [], "user": "3", "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
    answered = connection.getresponse()
    assert answered.getheader("connection") is None
    proxy.signal(signal.SIGTERM)
    assert answered.read().endswith(b"data: [DONE]\n\n")
    body = {"model": "m", "messages": [], "user": "0"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
    again = connection.getresponse()
    assert (again.status, again.getheader("connection")) == (200, "close")
    assert b"whole" in again.read()
    connection.close()
    proxy.ended()


def test_who_is_connected_and_has_not_asked_yet_is_heard(
    process: Callable[..., Any], slow: str
) -> None:
    """A connection that was taken just before the listener closed still gets its answer."""
    proxy = process(config(slow))
    with streams(proxy.url, 1, 4.0):
        proxy.signal(signal.SIGTERM)
        proxy.told("drain_began")
        time.sleep(1.8)
        late = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
        late.connect()
        time.sleep(0.5)
        late.request("GET", "/livez")
        answered = late.getresponse()
        assert (answered.status, answered.getheader("connection")) == (200, "close")
        late.close()
    proxy.ended()


def ask(connection: Any, seconds: float, *, stream: bool = False) -> None:
    body = {"model": "m", "messages": [], "user": str(seconds), "stream": stream}
    head = {"content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), head)


def test_a_head_that_is_half_read_is_read_on(process: Callable[..., Any], slow: str) -> None:
    """The rest of a request may come after the listener has closed."""
    proxy = process(config(slow))
    with streams(proxy.url, 1, 5.0), socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nhost: local")
        proxy.signal(signal.SIGTERM)
        time.sleep(3)
        sock.sendall(b"host\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")
    proxy.ended()


def test_requests_in_a_row_are_all_answered(process: Callable[..., Any], slow: str) -> None:
    """Three that were sent ahead on one connection before the stop get their three answers."""
    proxy = process(config(slow))
    body = json.dumps({"model": "m", "messages": [], "user": "1"})
    one = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    )
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(one.encode() * 3)
        wait_until(1, lambda: in_flight(proxy.url))
        proxy.signal(signal.SIGTERM)
        told = b""
        while data := sock.recv(65536):
            told += data
    assert told.count(b"HTTP/1.1 200 OK") == 3
    assert told.lower().count(b"connection: close") == 1
    proxy.ended()


def test_a_slow_reader_gets_every_byte(process: Callable[..., Any], large: str) -> None:
    """What waits for a client that stalls is sent, although the answer is made."""
    proxy = process(config(large))
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    connection.connect()
    ask(connection, 0)
    time.sleep(1)
    proxy.signal(signal.SIGTERM)
    time.sleep(4)
    answered = connection.getresponse()
    assert len(answered.read()) > LARGE
    connection.close()
    proxy.ended()


LARGE = 12_000_000


@pytest.fixture(scope="module")
def large(http_upstream: Callable[..., Any]) -> str:
    """An upstream whose answers are larger than what sockets hold."""

    async def say(asked: Any, writer: asyncio.StreamWriter) -> None:
        message = {"role": "assistant", "content": "x" * LARGE}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        base = {"id": "x", "created": 1, "model": "m", "object": "chat.completion"}
        whole = json.dumps({**base, "choices": [choice]}).encode()
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write((head % len(whole)).encode() + whole)

    url: str = http_upstream(say).url
    return url


@pytest.fixture
def secure(process: Callable[..., Any], slow: str, tmp_path: Path, loop_of: str) -> Any:
    """The proxy with HTTPS."""
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    files = ["-keyout", f"{tmp_path}/key.pem", "-out", f"{tmp_path}/cert.pem"]
    subprocess.run(["openssl", *words.split(), *files], capture_output=True, check=True)
    text = config(slow).replace("{drain: 30s}", "{drain: 30s, tls: {cert: CERT, key: KEY}}")
    text = text.replace("CERT", f"{tmp_path}/cert.pem").replace("KEY", f"{tmp_path}/key.pem")
    return process(text, scheme="https")


@pytest.fixture(params=["uvloop", "asyncio"])
def loop_of(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which event loop the proxy runs on: without uvloop it is asyncio's own."""
    loop: str = request.param
    if loop == "asyncio":
        folder = tmp_path / "without"
        folder.mkdir()
        (folder / "uvloop.py").write_text("raise ImportError('not here')\n")
        monkeypatch.setenv("PYTHONPATH", str(folder))
    return loop


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_a_client_that_answers_no_farewell(secure: Any) -> None:
    """A TLS client that stays connected after its last answer disturbs nobody else's stream."""
    running = http.client.HTTPSConnection("127.0.0.1", secure.port, timeout=20, context=trusting())
    ask(running, 5.0, stream=True)
    answered = running.getresponse()
    secure.signal(signal.SIGTERM)
    secure.told("drain_began")
    raw = socket.create_connection(("127.0.0.1", secure.port), 20)
    with trusting().wrap_socket(raw) as idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b"connection: close" in idle.recv(1000)
        assert answered.read().endswith(b"data: [DONE]\n\n")
        began = time.monotonic()
        assert secure.ended() - began < 2.5
    running.close()


def test_a_handshake_that_is_under_way_is_finished(secure: Any) -> None:
    """A client whose handshake has begun is connected, and gets its answer."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting().wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", secure.port), 20) as sock:
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        sock.sendall(outgoing.read())
        incoming.write(sock.recv(65536))
        secure.signal(signal.SIGTERM)
        time.sleep(1)
        tls.do_handshake()
        tls.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        sock.sendall(outgoing.read())
        told = b""
        while b"200 OK" not in told:
            incoming.write(sock.recv(65536))
            with suppress(ssl.SSLWantReadError):
                told += tls.read(65536)
    secure.ended()


def test_who_stays_connected_or_takes_nothing_holds_nobody_up(
    process: Callable[..., Any], slow: str
) -> None:
    """Idle connections, half a request, and a client that doesn't read: the exit is in time."""
    proxy = process(config(slow, drain="3s"))
    body = json.dumps({"model": "m", "messages": [], "user": "20", "stream": True}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
    )
    sent = (b"", b"GET /li", head + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    held = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in sent]
    for sock, data in zip(held, sent, strict=True):
        sock.sendall(data)
    wait_until(1, lambda: in_flight(proxy.url))
    began = proxy.signal(signal.SIGTERM)
    assert proxy.ended() - began < 3 + 3
    for sock in held:
        sock.close()


def test_a_collector_that_hangs_holds_nobody_up(process: Callable[..., Any], slow: str) -> None:
    """Traces are flushed to a collector that is silent: the exit is in time, with status 0."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        tracing = f"observability: {{tracing: {{enabled: true, otlp_endpoint: '{endpoint}'}}}}\n"
        proxy = process(config(slow, drain="1s", more=tracing))
        text_of(proxy.url, 0.1)
        began = proxy.signal(signal.SIGTERM)
        assert proxy.ended() - began < 1 + 2 + 10 + 1


def test_a_stop_while_requests_pour_in(process: Callable[..., Any], slow: str) -> None:
    """Under load every request is answered or its connection refused: none is cut or reset."""
    proxy = process(config(slow))
    failures: list[str] = []
    answered: list[float] = []
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
            try:
                connection.connect()
            except (ConnectionRefusedError, TimeoutError):
                return
            try:
                body = json.dumps({"model": "m", "messages": [], "user": "0.01"})
                head = {"content-type": "application/json"}
                connection.request("POST", "/v1/chat/completions", body, head)
                assert connection.getresponse().status == 200
                answered.append(time.monotonic())
            except (OSError, http.client.HTTPException, AssertionError) as error:
                failures.append(repr(error))
            finally:
                connection.close()

    threads = [threading.Thread(target=keep_asking) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    began = proxy.signal(signal.SIGTERM)
    ended = proxy.ended()
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(answered) > 100
    assert 2.0 < ended - began < 4.0
