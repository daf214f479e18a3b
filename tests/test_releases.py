"""Whatever a request takes is given back: slot, permit, reservation, span, connection, task.

``release_lines.py`` takes away each line that gives something back: then a test must fail.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from proxy_api._arrival import CLIENT_GONE
from proxy_api._face import face_of
from proxy_api._keys import Key
from proxy_api._plan import Deployment, Route
from proxy_api._pulse import Pulse, Rhythm
from proxy_api._recorder import Recorder
from proxy_api._response import Surface
from proxy_api._snapshot import Snapshot
from proxy_api._stages import KeepsContext, NoCache
from proxy_core import (
    CHAT,
    HttpClient,
    HttpRequest,
    Limits,
    Load,
    Member,
    ModelTable,
    Pool,
    PoolLimits,
    Provider,
    Ready,
    Reply,
    Timeouts,
    Usage,
    create_provider,
)
from proxy_core.errors import UpstreamFailed
from proxy_core.testing import CountingBreaker, CountingLimiter, FakeProvider, Script
from proxy_logging import RequestFinished, RequestStarted, StructuredLogger
from proxy_logging.testing import CountingTracer, RecordingObserver

LIMITS = Limits.parse(tokens="100000/minute", concurrent=3)
FAILS = UpstreamFailed("the upstream is ill", upstream_status=500)
LONG = 60.0
PATIENT = 2.0
"""Seconds that a test waits for what happens at once."""


class OneKey:
    """Everybody has the same key, whose limits are counted."""

    def authenticate(self, caller: Any) -> Key:
        return Key("key", "key", limits=LIMITS)


class Ledger:
    """Keeps what it was told; may be out of order."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.fails = False

    def record(self, request_id: str, tenant: str, usage: Usage) -> None:
        self.rows.append((request_id, usage.input_tokens + usage.output_tokens))
        if self.fails:
            raise RuntimeError("the ledger is out of order")


class Recording(NoCache):
    """Keeps no answer, but watches it as it passes; may know one, or be out of order."""

    def __init__(self) -> None:
        self.open = 0
        self.known: Reply | None = None
        self.fails = False

    def lookup(self, tenant: str, call: Any) -> Reply | None:
        return self.known

    def recording(self, tenant: str, call: Any, reply: Reply) -> Reply:
        if self.fails:
            raise RuntimeError("the cache is out of order")
        reply.body = self._watched(reply.body)
        return reply

    async def _watched(self, body: Any) -> Any:
        self.open += 1
        try:
            async for chunk in body:
                yield chunk
        finally:
            self.open -= 1


class Broken(KeepsContext):
    """A condenser that is out of order."""

    def condense(self, call: Any) -> Any:
        raise RuntimeError("the condenser is out of order")


class Client:
    """The other end of one request, without a socket: it can leave, read nothing, or break."""

    def __init__(self, *, stream: bool = True, signal: bool = True, text: str = "") -> None:
        self.callback: Callable[[], None] | None = None
        self.got = b""
        self.status = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self.fails = False
        body = {"model": "chat", "stream": stream, "messages": [], "act": text}
        self._body = [json.dumps(body).encode()]
        self._left = asyncio.Event()
        self._heard = asyncio.Event()
        self.scope = {
            "type": "http",
            "headers": [(b"content-type", b"application/json")],
            "extensions": {CLIENT_GONE: self} if signal else {},
        }

    def leave(self) -> None:
        self._left.set()
        if self.callback is not None:
            self.callback()

    async def has_content(self) -> None:
        await self._heard.wait()

    async def receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.got += message.get("body", b"")
        if b"keepalive" in self.got:
            await self.reads.wait()
        if b"Hello" in self.got:
            self._heard.set()
            if self.fails:
                raise OSError("the server lost its client")
            await self.reads.wait()


@dataclass
class House:
    """A surface made of doubles that count."""

    providers: list[Any]
    limiter: CountingLimiter = field(default_factory=CountingLimiter)
    tracer: CountingTracer = field(default_factory=CountingTracer)
    observer: RecordingObserver = field(default_factory=RecordingObserver)
    ledger: Ledger = field(default_factory=Ledger)
    cache: Recording = field(default_factory=Recording)
    inside: int = 0

    def __post_init__(self) -> None:
        self.breakers = [CountingBreaker(str(at)) for at in range(len(self.providers))]
        self.loads = [Load() for _ in self.providers]
        rows = zip(self.providers, self.breakers, strict=True)
        deployments = [
            Deployment(f"up/{at}", provider, "m", breaker, Timeouts(pool=0.5), load)
            for at, ((provider, breaker), load) in enumerate(zip(rows, self.loads, strict=True))
        ]
        pool = [
            Member(row, row.label, order=at, breaker=row.breaker, load=self.loads[at])
            for at, row in enumerate(deployments)
        ]
        self.snapshot = Snapshot(
            keys=OneKey(),
            routes=ModelTable([("chat", Route("chat", Pool("chat", pool)))]),
            limiter=self.limiter,
            cache=self.cache,
            condenser=KeepsContext(),
            ledger=self.ledger,
            recorder=Recorder(self.observer, self.tracer),
            max_body=1_000_000,
        )

    def enter(self) -> Snapshot:
        self.inside += 1
        return self.snapshot

    def leave(self, snapshot: Snapshot) -> None:
        self.inside -= 1

    @property
    def surface(self) -> Surface:
        return Surface(face_of(CHAT), self, StructuredLogger("test"))

    def ask(self, client: Client) -> asyncio.Task[None]:
        return asyncio.create_task(self.surface(client.scope, client.receive, client.send))

    @property
    def taken(self) -> dict[str, int]:
        """What is out at this moment, by its name."""
        started, finished = self.observer.of(RequestStarted), self.observer.of(RequestFinished)
        return {
            "slots": self.limiter.slots_in_use,
            "reservations": self.limiter.reservations_open,
            "permits": sum(breaker.permits_out for breaker in self.breakers),
            "spans": self.tracer.spans_open,
            "requests": len(started) - len(finished),
            "answers": sum(provider.open for provider in self.providers),
            "bodies": self.cache.open,
            "snapshots": self.inside,
            "places": self.snapshot.admission.in_flight,
            "turns": sum(load.in_flight + load.awaited for load in self.loads),
        }

    @property
    def charged(self) -> int:
        """Tokens of the key's limit that are used up."""
        tokens, _ = self.limiter.look("key", LIMITS)
        return tokens.limit - tokens.remaining

    @property
    def verdicts(self) -> list[list[str]]:
        return [[*breaker.verdicts] for breaker in self.breakers]

    def check_returned(self, outcome: str) -> None:
        """All is back, once: one event at the end, and each span ended one time."""
        assert {name: count for name, count in self.taken.items() if count} == {}
        assert [each.outcome for each in self.observer.of(RequestFinished)] == [outcome]
        assert [span.ended for span in self.tracer.spans] == [1] * len(self.tracer.spans)
        assert self.tracer.spans


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """After each test no task is left, and the loop has nothing to complain of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    assert complaints == []


async def within(happening: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> None:
    """Wait for its end, and cancel nothing: a cancellation could be what it waits for."""
    task = asyncio.ensure_future(happening)
    done, _ = await asyncio.wait({task}, timeout=PATIENT)
    assert done
    await task


ENDINGS = {
    "whole": (Script(),),
    "fails before": (Script(fails=FAILS),),
    "breaks before content": (Script(breaks_at=1),),
    "breaks after content": (Script(breaks_at=2),),
    "second answers": (Script(fails=FAILS), Script()),
    "second answers after a break": (Script(breaks_at=1), Script()),
    "all fail": (Script(fails=FAILS), Script(breaks_at=1)),
}
EXPECTED = {
    "whole": ("ok", 200, [["succeeded"]], 10),
    "fails before": ("failed", 502, [["failed"]], 0),
    "breaks before content": ("failed", 502, [["failed"]], 0),
    "breaks after content": ("failed", 200, [["failed"]], 0),
    "second answers": ("ok", 200, [["failed"], ["succeeded"]], 10),
    "second answers after a break": ("ok", 200, [["failed"], ["succeeded"]], 10),
    "all fail": ("failed", 502, [["failed"], ["failed"]], 0),
}


@pytest.mark.parametrize("signal", [True, False], ids=["signal", "watcher"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_answer_gives_all_back(ending: str, stream: bool, signal: bool) -> None:
    """However the upstreams answer, all is back afterwards, and what was used is charged."""
    house = House([FakeProvider(script) for script in ENDINGS[ending]])
    client = Client(stream=stream, signal=signal)
    await within(house.surface(client.scope, client.receive, client.send))
    outcome, status, verdicts, used = EXPECTED[ending]
    if ending == "breaks after content" and not stream:
        status = 502  # a whole answer is begun only when it is complete
    house.check_returned(outcome)
    assert (client.status, house.verdicts, house.charged) == (status, verdicts, used)
    assert [tokens for _, tokens in house.ledger.rows] == [used] * (client.status == 200)


def cancel(client: Client, task: asyncio.Task[None]) -> None:
    task.cancel()


def leave(client: Client, task: asyncio.Task[None]) -> None:
    client.leave()


@pytest.mark.parametrize("signal", [True, False], ids=["signal", "watcher"])
@pytest.mark.parametrize("end", [leave, cancel])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_who_leaves_before_content_gives_all_back(
    stream: bool, end: Callable[..., None], signal: bool
) -> None:
    """A request that ends before it is answered: all is back, what it reserved is charged."""
    provider = FakeProvider(Script(hangs=LONG))
    house, client = House([provider]), Client(stream=stream, signal=signal)
    task = house.ask(client)
    while not provider.open:
        await asyncio.sleep(0)
    assert {name for name, count in house.taken.items() if not count} == {"bodies"}
    end(client, task)
    await within(task)
    house.check_returned("failed" if end is cancel else "gone")
    assert house.verdicts == [["let_go"]]
    assert house.charged == house.limiter.reserved[0][1]
    if end is cancel:
        assert client.status == 503
        assert b"gateway_shutdown" in client.got


@pytest.mark.parametrize("signal", [True, False], ids=["signal", "watcher"])
@pytest.mark.parametrize("end", [leave, cancel])
@pytest.mark.parametrize("reads", [True, False], ids=["reads", "reads nothing"])
async def test_who_leaves_in_mid_stream_gives_all_back(
    reads: bool, end: Callable[..., None], signal: bool
) -> None:
    """A request that ends between two events, or while one can't be sent: all is back at once."""
    script = Script(chunks=(b"Hello", b"world"), content_at=0, pause=LONG)
    house, client = House([FakeProvider(script)]), Client(signal=signal)
    if not reads:
        client.reads.clear()
    task = house.ask(client)
    await within(client.has_content())
    await asyncio.sleep(0)
    assert all(house.taken.values())
    end(client, task)
    await within(task)
    house.check_returned("failed" if end is cancel else "gone")
    assert house.verdicts == [["let_go"]]
    assert house.charged == 0
    assert len(house.ledger.rows) == 1
    assert (b"gateway_shutdown" in client.got) == (end is cancel)


@pytest.mark.parametrize("fault", ["condenser", "cache", "ledger", "server"])
async def test_a_fault_of_ours_gives_all_back(fault: str) -> None:
    """When our own code, or the server's, raises in the middle of it, all is back."""
    house, client = House([FakeProvider()]), Client()
    if fault == "condenser":
        house.snapshot = replace(house.snapshot, condenser=Broken())
    house.cache.fails = fault == "cache"
    house.ledger.fails = fault == "ledger"
    client.fails = fault == "server"
    task = house.ask(client)
    with suppress(OSError):
        await within(task)
    house.check_returned("failed")
    assert task.done()


async def test_an_answer_of_the_cache_costs_no_tokens() -> None:
    """A hit asks nobody, takes no permit, and gives its reservation back in full."""
    house, client = House([FakeProvider()]), Client(stream=False)
    house.cache.known = Reply(Ready(b"Hello"))
    await within(house.surface(client.scope, client.receive, client.send))
    house.check_returned("ok")
    assert (client.got, house.charged, house.verdicts) == (b"Hello", 0, [[]])
    assert house.limiter.reserved[0][1] > 0


async def test_a_full_key_refuses_and_takes_nothing() -> None:
    """The fourth of three concurrent requests is refused, and the slots come back one by one."""
    provider = FakeProvider(Script(hangs=LONG))
    house = House([provider])
    clients = [Client() for _ in range(3)]
    tasks = [house.ask(client) for client in clients]
    while provider.open < 3:
        await asyncio.sleep(0)
    refused = Client()
    await within(house.ask(refused))
    assert (refused.status, house.limiter.slots_in_use) == (429, 3)
    for left, (client, task) in enumerate(zip(clients, tasks, strict=True), 1):
        client.leave()
        await within(task)
        assert house.limiter.slots_in_use == 3 - left


@pytest.mark.parametrize("ending", ["whole", "gone"])
async def test_the_client_is_forgotten_when_its_request_is_over(ending: str) -> None:
    """After its request, neither a client's end nor its cancellation touches the task any more."""
    script = Script() if ending == "whole" else Script(hangs=LONG)
    house, client = House([FakeProvider(script)]), Client()
    if ending == "gone":
        asyncio.get_running_loop().call_later(0.01, client.leave)
    await house.surface(client.scope, client.receive, client.send)  # in this very task
    client.leave()
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_nothing_follows_the_end() -> None:
    """When an answer is over, no comment is sent after it."""
    house, client = House([FakeProvider()]), Client()
    house.snapshot = replace(house.snapshot, rhythm=Rhythm(0.01, 0.01))
    await within(house.ask(client))
    got = client.got
    await asyncio.sleep(0.05)
    assert client.got == got


class Quiet:
    """An answer that says nothing by itself."""

    sent_at = 0.0
    begun = True
    wants_comments = True

    def __init__(self) -> None:
        self.comments = 0

    async def comment(self) -> None:
        self.comments += 1


async def test_an_answer_that_is_forgotten_gets_no_comments() -> None:
    """The pulse looks after an answer until it is over, and no longer."""
    pulse, answer = Pulse(), Quiet()
    pulse.watch(answer, Rhythm(0.01, 0.01))
    await asyncio.sleep(0.05)
    assert answer.comments
    pulse.forget(answer)
    told = answer.comments
    await asyncio.sleep(0.05)
    assert answer.comments == told


async def test_a_comment_that_nobody_reads_is_given_up() -> None:
    """A client that leaves while a comment waits to be written leaves no task behind."""
    house, client = House([FakeProvider(Script(hangs=LONG))]), Client()
    house.snapshot = replace(house.snapshot, rhythm=Rhythm(0.01, 0.01))
    client.reads.clear()
    task = house.ask(client)
    while b"keepalive" not in client.got:
        await asyncio.sleep(0.01)
    client.leave()
    await within(task)
    house.check_returned("gone")


HEAD = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: 1000\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
WHOLE = b'{"choices":[{"index":0,"message":{"content":"Hello"},"finish_reason":"stop"}]}'
WIRE = {
    "html": HEAD % (b"200 OK", b"text/html"),
    "500": HEAD % (b"500 Oh", b"application/json") + b"x" * 1000,
    "silent": b"",
    "begun": HEAD % (b"200 OK", b"text/event-stream"),
    "stream": HEAD % (b"200 OK", b"text/event-stream") + EVENT,
    "fine": (HEAD % (b"200 OK", b"application/json")).replace(b"1000", b"%d" % len(WHOLE)) + WHOLE,
}


class Wire(asyncio.Protocol):
    """One connection of an upstream that answers as the request's ``act`` says, and then waits."""

    def __init__(self, open_ones: set[Wire]) -> None:
        self._open = open_ones
        self._got = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._got += data
        for act, answer in WIRE.items():
            if f'"act": "{act}"'.encode() in self._got:
                self._got = b""
                self.transport.write(answer)


@asynccontextmanager
async def wired() -> AsyncIterator[tuple[House, HttpClient, set[Wire], str]]:
    """A house whose upstream is behind a real socket and a pool of one connection; its URL."""
    connections: set[Wire] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Wire(connections), "127.0.0.1", 0)
    http = HttpClient(PoolLimits(connections=1))
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    provider: Any = Counted(create_provider("openai_compatible", base_url=url, http=http), http)
    try:
        yield House([provider]), http, connections, url
    finally:
        await http.aclose()
        for connection in connections:
            connection.transport.abort()
        server.close()
        await asyncio.sleep(0)


class Counted:
    """A provider whose open answers are those of its HTTP client."""

    def __init__(self, provider: Provider, http: HttpClient) -> None:
        self.name = provider.name
        self.send = provider.send
        self._http = http

    @property
    def open(self) -> int:
        return self._http.open_responses


@pytest.mark.parametrize("act", ["html", "500", "silent", "begun", "stream", "fine"])
async def test_a_connection_is_free_again(act: str) -> None:
    """Whatever came over the only connection, it is free for the next request, at once."""
    async with wired() as (house, http, connections, _):
        client = Client(stream=act != "fine", text=act)
        task = house.ask(client)
        if act in ("silent", "begun"):
            while not (connections and house.taken["permits"]):
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
            assert http.open_responses == (act == "begun")
            client.leave()
        elif act == "stream":
            await within(client.has_content())
            assert http.open_responses == 1
            client.leave()
        await within(task)
        outcome = {"html": "failed", "500": "failed", "fine": "ok"}.get(act, "gone")
        house.check_returned(outcome)
        following = Client(stream=False, text="fine")
        await within(house.ask(following))
        assert (following.status, following.got) == (200, WHOLE)
        assert http.open_responses == 0
        assert len(connections) == 1


async def test_an_upstreams_body_ends_with_its_block() -> None:
    """Outside of the block of a client's, or a provider's, answer there is nothing more to read."""
    async with wired() as (house, http, _, url):
        request = HttpRequest("POST", url, [], b'{"act": "stream"}')
        async with http.send(request) as response:
            assert await anext(response.body) == EVENT
        with pytest.raises(StopAsyncIteration):
            await anext(response.body)
        call = CHAT.read(b'{"model": "m", "stream": true, "messages": [], "act": "stream"}')
        async with house.providers[0].send(call, model="m") as reply:
            assert EVENT.startswith((await anext(reply.body))[:5])
        with pytest.raises(StopAsyncIteration):
            await anext(reply.body)
        assert http.open_responses == 0


@pytest.mark.timeout(300)
def test_each_line_that_gives_something_back_is_missed() -> None:
    """Without any one of the lines of ``release_lines.py`` some test above, or its like, fails."""
    script = Path(__file__).with_name("release_lines.py")
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=290
    )
    assert run.returncode == 0, run.stdout + run.stderr
