"""Ten thousand requests are cancelled, in every phase of their life; nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from proxy_api._arrival import CLIENT_GONE
from proxy_api._face import face_of
from proxy_api._keys import LocalOnly
from proxy_api._plan import Deployment, Route
from proxy_api._protocol import GatewayProtocol
from proxy_api._recorder import Recorder
from proxy_api._response import Surface
from proxy_api._snapshot import Snapshot
from proxy_api._stages import KeepsContext, NoCache, NoLedger
from proxy_core import (
    CHAT,
    CircuitBreaker,
    HttpClient,
    Member,
    ModelTable,
    Pool,
    PoolLimits,
    RateLimiter,
    Timeouts,
    create_provider,
)
from proxy_logging import RequestFinished, StructuredLogger
from proxy_logging.testing import CountingTracer, RecordingObserver

POOL = 50
FINISH = 1.0
"""Seconds in which a pool's worth of requests must succeed afterwards."""
PLAN = {
    "waiting for a connection": 3500,
    "connecting": 1500,
    "awaiting the head": 1500,
    "before the first content": 800,
    "mid-stream": 800,
    "whole answer pending": 500,
    "closing": 400,
    "by a real client": 200,
}

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
CHUNK = b'data: {"object":"chat.completion.chunk","choices":'
ROLE = CHUNK + b'[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = CHUNK + b'[{"index":0,"delta":{"content":"word"}}]}\n\n'
STOP = CHUNK + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(WHOLE)
EVENTS = ROLE + WORD + STOP + DONE
ANSWERS = {
    "silent": b"",
    "role": STREAM + ROLE,
    "word": STREAM + ROLE + WORD,
    "half": JSON + b"\r\n" + WHOLE[:20],
    "never ends": STREAM + EVENTS,
    "stream": STREAM[:-2]
    + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(EVENTS), EVENTS),
    "whole": JSON + b"\r\n" + WHOLE,
    "last": JSON + b"connection: close\r\n\r\n" + WHOLE,
}


class Desk:
    """What the upstream's connections know together."""

    def __init__(self) -> None:
        self.arrived = 0
        self.barrier: list[asyncio.Transport] = []


class Upstream(asyncio.Protocol):
    """One connection of an upstream that answers what a request's ``act`` names, and then waits."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        act = re.search(rb'"act": "([a-z ]+)".*}$', self._buffer)
        if act is None:
            return
        self._buffer = b""
        self._desk.arrived += 1
        if act[1] == b"last":
            self._last()
        else:
            self._transport.write(ANSWERS[act[1].decode()])

    def _last(self) -> None:
        """Answer once so many are here that each of the pool's connections is in use."""
        self._desk.barrier.append(self._transport)
        if len(self._desk.barrier) == POOL:
            for transport in self._desk.barrier:
                transport.write(ANSWERS["last"])
                transport.close()


class Asked:
    """One request to the surface, in a task of its own; its client can leave."""

    def __init__(self, surface: Surface, body: bytes, *, linger: int | None = None) -> None:
        self.callback: Callable[[], None] | None = None
        self.got = b""
        self._linger = linger
        self._parts = [{"type": "http.request", "body": body, "more_body": False}]
        scope = {
            "type": "http",
            "client": ("127.0.0.1", 1),
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "extensions": {CLIENT_GONE: self},
        }
        self.task = asyncio.ensure_future(surface(scope, self._receive, self._send))

    def leave(self, turn: int) -> None:
        """The client goes, or (every fourth time) the server itself stops the task."""
        if turn % 4 == 0:
            self.task.cancel()
        elif self.callback is not None:
            self.callback()

    def leave_after(self, turns: int) -> None:
        """Leave when the loop has turned so often, unless all is over by then."""
        if turns:
            asyncio.get_running_loop().call_soon(self.leave_after, turns - 1)
        else:
            self.leave(1)

    async def _receive(self) -> dict[str, Any]:
        return self._parts.pop()

    async def _send(self, message: Any) -> None:
        self.got += message.get("body", b"")
        if self.got and self._linger is not None:
            self.leave_after(self._linger)
            self._linger = None


def _member(deployment: Deployment) -> Member[Deployment]:
    return Member(deployment, deployment.label, breaker=deployment.breaker)


class House:
    """A surface with a pool of 50 connections, and a second upstream that takes no connection."""

    def __init__(self, desk: Desk, port: int, dead_port: int) -> None:
        self.desk = desk
        self.client = HttpClient(PoolLimits(connections=POOL))
        self.dead = HttpClient(PoolLimits(connections=500))
        self.observer = RecordingObserver()
        self.tracer = CountingTracer()
        self.limiter = RateLimiter()
        self.breakers = [CircuitBreaker("chat"), CircuitBreaker("dead")]
        self.cancelled: Counter[str] = Counter()
        ways = zip(("chat", "dead"), (port, dead_port), (self.client, self.dead), strict=True)
        routes = [
            (name, Route(name, Pool(name, [_member(self._deployment(name, at, http))])))
            for name, at, http in ways
        ]
        snapshot = Snapshot(
            keys=LocalOnly(),
            routes=ModelTable(routes),
            limiter=self.limiter,
            cache=NoCache(),
            condenser=KeepsContext(),
            ledger=NoLedger(),
            recorder=Recorder(self.observer, self.tracer),
            max_body=1_000_000,
        )
        house = SimpleNamespace(enter=lambda: snapshot, leave=lambda _: None)
        self.surface = Surface(face_of(CHAT), house, StructuredLogger("test"))
        self.descriptors = descriptors()

    def _deployment(self, name: str, port: int, http: HttpClient) -> Deployment:
        url = f"http://127.0.0.1:{port}/v1"
        provider = create_provider("openai_compatible", base_url=url, http=http)
        breaker = next(each for each in self.breakers if each.name == name)
        return Deployment(name, provider, name, breaker, Timeouts(pool=30.0, connect=30.0))

    def ask(self, count: int, act: str, model: str = "chat") -> list[Asked]:
        return [Asked(self.surface, body_for(act, model)) for _ in range(count)]

    async def cancel(self, phase: str, asked: list[Asked]) -> None:
        """All of them leave now."""
        for turn, one in enumerate(asked):
            one.leave(turn)
        await self.count(phase, asked)

    async def count(self, phase: str, asked: list[Asked]) -> None:
        """Wait for their end; those that ended since they were cancelled count."""
        await asyncio.gather(*(one.task for one in asked), return_exceptions=True)
        self.settle(phase, len(asked))

    def settle(self, phase: str, asked: int) -> None:
        """Count the cancelled; each request must have ended, and none may have failed by itself."""
        ends = [(event.outcome, event.error) for event in self.observer.of(RequestFinished)]
        outcomes = Counter(ends)
        whole = {("gone", ""), ("ok", ""), ("failed", "gateway_shutdown")}
        assert outcomes.keys() <= whole
        assert outcomes.total() == asked
        self.cancelled[phase] += outcomes["gone", ""] + outcomes["failed", "gateway_shutdown"]
        self.observer.events.clear()

    def check_empty(self) -> None:
        assert self.client.open_responses == self.dead.open_responses == 0
        assert self.limiter.reservations_open == self.limiter.slots_in_use == 0
        assert [breaker.permits_out for breaker in self.breakers] == [0, 0]
        assert {breaker.state for breaker in self.breakers} == {"closed"}
        assert self.tracer.spans_open == 0
        assert self.tracer.spans_ended == len(self.tracer.spans)


def body_for(act: str, model: str = "chat") -> bytes:
    stream = act not in ("half", "whole", "last")
    return json.dumps({"model": model, "stream": stream, "messages": [], "act": act}).encode()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0.001)


@contextmanager
def nobody_home() -> Iterator[int]:
    """A port whose queue of connections is full: who connects hangs."""
    with socket.socket() as listener, ExitStack() as queue:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            each = queue.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def waiting_for_a_connection(house: House, count: int) -> None:
    before = house.desk.arrived
    holders = house.ask(POOL, "silent")
    await until(lambda: house.desk.arrived == before + POOL)
    for _ in range(0, count, 500):
        asked = house.ask(500, "silent")
        for _ in range(5):
            await asyncio.sleep(0)
        await house.cancel("waiting for a connection", asked)
    assert house.desk.arrived == before + POOL
    await house.cancel("awaiting the head", holders)


async def connecting(house: House, count: int) -> None:
    for _ in range(0, count, 250):
        await until(lambda: descriptors() == house.descriptors)
        asked = house.ask(250, "silent", model="dead")
        await until(lambda: descriptors() == house.descriptors + 250)
        await house.cancel("connecting", asked)


async def awaiting_the_head(house: House, count: int) -> None:
    for _ in range(0, count, POOL):
        wanted = house.desk.arrived + POOL
        asked = house.ask(POOL, "silent")
        await until(lambda: house.desk.arrived == wanted)  # noqa: B023
        await house.cancel("awaiting the head", asked)


async def answer_begun(house: House, phase: str, act: str, count: int) -> None:
    for _ in range(0, count, POOL):
        asked = house.ask(POOL, act)
        await until(lambda: house.client.open_responses == POOL)
        await house.cancel(phase, asked)


async def bytes_received(house: House, phase: str, act: str, count: int) -> None:
    """Cancel those whose client has the last byte that there will be."""
    end = ANSWERS[act].partition(b"\r\n\r\n")[2][-40:]
    for _ in range(0, count, 20):
        asked = house.ask(20, act)
        await until(lambda: all(one.got.endswith(end) for one in asked))  # noqa: B023
        await house.cancel(phase, asked)


async def just_finished(house: House) -> None:
    """Cancel in each of the loop's turns that follow the last byte; some are over by then."""
    asked = [Asked(house.surface, body_for("stream"), linger=turn % 10) for turn in range(2 * POOL)]
    await house.count("closing", asked)


async def at_random(house: House, count: int) -> None:
    """Cancel after a number of turns of the loop, wherever that is."""
    rng = random.Random(0)
    while house.cancelled["at random"] < count:
        asked = house.ask(10, "whole") + house.ask(10, "stream")
        for one in asked:
            one.leave_after(rng.randrange(1, 20))
        await house.count("at random", asked)


@asynccontextmanager
async def listening(house: House) -> AsyncIterator[int]:
    """The same surface behind our protocol class, in this loop; its port."""
    config = uvicorn.Config(house.surface, interface="asgi3", log_config=None, access_log=False)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: GatewayProtocol(config, state, {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def by_real_clients(house: House, count: int) -> None:
    """Clients with a socket each close it while their requests hang in one place or another."""
    acts = ("silent", "role", "word", "half", "never ends")
    async with listening(house) as port:
        for turn in range(0, count, POOL // 2):
            wanted = house.desk.arrived + POOL // 2
            act = acts[turn // (POOL // 2) % len(acts)]
            body = body_for(act)
            writers = []
            for _ in range(POOL // 2):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(
                    b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n" % len(body) + body
                )
                writers.append(writer)
            await until(lambda: house.desk.arrived == wanted)  # noqa: B023
            for writer in writers:
                writer.transport.abort()
            await until(lambda: len(house.observer.of(RequestFinished)) == POOL // 2)
            house.settle("by a real client", POOL // 2)


async def every_phase(house: House) -> None:
    await waiting_for_a_connection(house, PLAN["waiting for a connection"])
    await connecting(house, PLAN["connecting"])
    await awaiting_the_head(house, PLAN["awaiting the head"])
    await answer_begun(house, "before the first content", "role", PLAN["before the first content"])
    await answer_begun(house, "whole answer pending", "half", PLAN["whole answer pending"])
    await bytes_received(house, "mid-stream", "word", PLAN["mid-stream"])
    await bytes_received(house, "closing", "never ends", PLAN["closing"])
    await just_finished(house)
    await by_real_clients(house, PLAN["by a real client"])
    await at_random(house, 10_000 - house.cancelled.total())


async def test_ten_thousand_cancellations_leave_nothing_behind(
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    """After 10,000 cancellations in all phases the pool is whole, and what was taken is back."""
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("127.0.0.1", 1)
    gc.collect()  # descriptors are counted: what other tests left may not go meanwhile
    desk = Desk()
    with nobody_home() as dead_port:
        server = await loop.create_server(lambda: Upstream(desk), "127.0.0.1", 0, backlog=1000)
        house = House(desk, server.sockets[0].getsockname()[1], dead_port)
        await every_phase(house)
        record_testsuite_property("cancelled", dict(house.cancelled))
        assert min(house.cancelled.values()) >= 100
        assert house.cancelled.total() >= 10_000
        house.check_empty()

        began = time.monotonic()
        asked = house.ask(POOL, "last")
        await asyncio.gather(*(one.task for one in asked))
        assert time.monotonic() - began < FINISH
        assert all(one.got == WHOLE for one in asked)

        gc.collect()
        await until(lambda: descriptors() <= house.descriptors)
        assert descriptors() == house.descriptors
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await house.client.aclose()
        await house.dead.aclose()
        server.close()
