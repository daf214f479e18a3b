"""What a connection may cost: time, numbers and memory. Deadlines are made short."""

from __future__ import annotations

import asyncio
import gc
import http.client
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from proxy_api import GatewayProtocol, Settings, create_app
from proxy_api._notify import Notifier
from proxy_api._server import Listeners, Server

Start = Callable[..., Any]
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\n"


async def reads(scope: Any, receive: Any, send: Any) -> None:
    more, size = True, 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


def rest(client: socket.socket) -> tuple[bytes, float]:
    """All that still comes, and how long it took until the end."""
    began, got = time.monotonic(), b""
    while data := client.recv(65536):
        got += data
    return got, time.monotonic() - began


def test_a_slow_head_is_refused(edge: Start) -> None:
    """A client that sends a byte now and then is told 408 at the deadline, and not before it."""
    with edge(reads, limits={"header_timeout": 0.4}).connect(0.05) as client:
        began, got = time.monotonic(), b""
        for byte in GET[:-1] * 2:
            client.sendall(bytes([byte]))
            with suppress(TimeoutError):
                got = client.recv(1000)
            if got:
                break
        took = time.monotonic() - began
    assert got.startswith(b"HTTP/1.1 408 ")
    assert 0.4 <= took < 1.2


def test_a_head_that_stops_is_refused(edge: Start) -> None:
    """Half a head gets 408 in our shape."""
    with edge(reads, limits={"header_timeout": 0.2}).connect() as client:
        client.sendall(GET[:20])
        got, took = rest(client)
    assert got.startswith(b"HTTP/1.1 408 ") and b'"code":"request_timeout"' in got
    assert 0.2 <= took < 1


def test_a_silent_client_is_let_go(edge: Start) -> None:
    """Who connects and says nothing is closed, without a word that nobody asked for."""
    with edge(reads, limits={"header_timeout": 0.2}).connect() as client:
        got, took = rest(client)
    assert got == b""
    assert 0.2 <= took < 1


def test_an_idle_connection_is_closed(edge: Start) -> None:
    """After an answer, the time for the next request is another one."""
    with edge(reads, limits={"header_timeout": 0.1, "idle_timeout": 0.5}).connect() as client:
        client.sendall(GET)
        assert client.recv(1000).endswith(b"\r\n\r\n0")
        got, took = rest(client)
    assert got == b""
    assert 0.4 <= took < 1.3


def test_a_slow_body_is_refused(edge: Start) -> None:
    """Beyond its time, a body must come at the rate that is asked for."""
    limits = {"body_timeout": 0.2, "body_rate": 1_000_000}
    with edge(reads, limits=limits).connect() as client:
        client.sendall(POST + b"content-length: 1000\r\n\r\nx")
        got, took = rest(client)
    assert got.startswith(b"HTTP/1.1 408 ") and b'"code":"request_timeout"' in got
    assert 0.2 <= took < 1


def test_a_body_at_the_rate_is_read(edge: Start) -> None:
    """A slow network is no attack: what keeps to the rate may take longer than the time."""
    limits = {"body_timeout": 0.2, "body_rate": 100}
    with edge(reads, limits=limits).connect() as client:
        client.sendall(POST + b"content-length: 400\r\n\r\n")
        for _ in range(8):
            client.sendall(b"x" * 50)
            time.sleep(0.1)
        assert client.recv(1000).endswith(b"400")


def test_an_app_that_reads_late_is_no_slow_client(edge: Start) -> None:
    """While nobody takes the body, its time stands still."""

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.6)
        await reads(scope, receive, send)

    with edge(late, limits={"body_timeout": 0.2, "body_rate": 10**9}).connect() as client:
        client.sendall(POST + b"content-length: 8000000\r\n\r\n" + b"x" * 8_000_000)
        assert client.recv(1000).endswith(b"8000000")


def test_above_the_most_connections_one_is_told(edge: Start) -> None:
    """It gets 503 and when to come back; those that are there are served; then there is room."""
    server = edge(reads, limits={"connections": 3})
    with ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(3)]
        for each in held:
            each.sendall(GET)
            assert each.recv(1000).endswith(b"\r\n\r\n0")
        got = server.ask(GET)
        assert got.startswith(b"HTTP/1.1 503 ") and b"\r\nretry-after: 1\r\n" in got
        assert b'"code":"too_many_connections"' in got
        held[0].sendall(GET)
        assert held[0].recv(1000).startswith(b"HTTP/1.1 200 ")
    with server.connect() as client:
        deadline = time.monotonic() + 5
        while len(server.state.connections) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.sendall(GET)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_what_a_client_does_not_read_is_not_made(
    edge: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 MB for a client that takes nothing: less than 1 MB waits, and it is let go in time."""
    monkeypatch.setattr(GatewayProtocol, "write_stall", 0.3)
    waiting: list[int] = []
    ended: list[bool] = []

    async def floods(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["llm_proxy.client_gone"].callback = lambda: ended.append(True)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200_000):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            if ended:
                return
            (connection,) = server.state.connections
            waiting.append(connection.transport.get_write_buffer_size())

    server = edge(floods)
    with server.connect() as client:
        client.sendall(GET)
        deadline = time.monotonic() + 10
        while not ended:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert max(waiting) < 256 * 1024
    assert len(waiting) < 200_000


def test_tasks_are_forgotten(edge: Start) -> None:
    """Neither requests nor connections stay behind when they are over."""
    server = edge(reads)
    with server.connect() as client:
        for _ in range(10):
            client.sendall(GET)
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        server.run(asyncio.sleep(0.02))
        assert (len(server.state.tasks), server.state.total_requests) == (0, 10)
    server.run(asyncio.sleep(0.02))
    assert not server.state.connections


def test_a_reload_changes_the_rules() -> None:
    """New limits hold for both listeners from then on; no connection is needed for it."""
    app = create_app(settings=Settings())
    server = Server(uvicorn.Config(app), app.gateway, Listeners([]), Notifier.from_environment({}))
    house = server._state.house
    assert house.rules.connections == 2000
    server.adopt(Settings.model_validate({"server": {"limits": {"connections": 7}}}))
    assert house.rules.connections == 7


IDLE = 5_000


def test_thousands_of_idle_connections_cost_little(edge: Start) -> None:
    """5,000 of them: each under 10 KB with both of its ends, and others are served meanwhile."""
    server = edge(reads, limits={"connections": IDLE + 100})
    address = ("127.0.0.1", server.port)
    with ExitStack() as stack:
        probe = http.client.HTTPConnection(*address, timeout=10)
        gc.collect()
        before = resident()
        for _ in range(IDLE):
            stack.enter_context(socket.create_connection(address, 10))
        while len(server.state.connections) < IDLE:
            time.sleep(0.01)
        each = (resident() - before) / IDLE
        assert each < 10_000
        for _ in range(20):
            probe.request("POST", "/", b"12345")
            assert probe.getresponse().read() == b"5"
        probe.close()


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
