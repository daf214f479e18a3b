"""Whole journeys on a virtual clock: ``python tests/simulation/journeys.py FIRST COUNT``.

Each seed is a house of its own, with the parts that serve in production; only the upstreams, the
clients and time are played. What must hold of every run is asserted here; a sum is printed as JSON.
One seed can be played again: ``python tests/simulation/journeys.py SEED 1``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import selectors
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


class Clock:
    """Moves when nothing else can happen."""

    now = 1000.0

    def read(self) -> float:
        return self.now


CLOCK = Clock()
# Before anything of ours is imported: it keeps the clock that it finds.
time.monotonic = CLOCK.read

from proxy_api import _compose  # noqa: E402
from proxy_api._face import face_of  # noqa: E402
from proxy_api._gateway import Gateway  # noqa: E402
from proxy_api._response import Surface  # noqa: E402
from proxy_api._settings import Settings  # noqa: E402
from proxy_core import CHAT, Call, Reply, Timeouts, Usage  # noqa: E402
from proxy_core.errors import (  # noqa: E402
    ConnectFailed,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamThrottled,
    UpstreamTimeout,
)
from proxy_core.testing import FakeProvider, Script  # noqa: E402
from proxy_logging import (  # noqa: E402
    Event,
    NoMetrics,
    NoTracer,
    RequestFinished,
    StructuredLogger,
    configure_logging,
)

REQUESTS = 10
KINDS = ("none", "dead", "hanging", "throttled", "failing", "breaking", "anything")
PRICE = {"input": "1", "output": "2"}
BUDGET = "0.002"
BUDGET_NANO = 2_000_000
MOST_NANO = 150_000
"""What is reserved for one request, from above."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is the clock's, and to wait is to move it."""

    def __init__(self) -> None:
        super().__init__(_NeverWaits())

    def time(self) -> float:
        return CLOCK.now


class _NeverWaits(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:  # a thread is to say something, or nobody ever will
            found = super().select(5.0)
            if not found:
                raise RuntimeError("everybody waits for somebody")
            return list(found)
        CLOCK.now += max(0.0, timeout)
        return []


@dataclass
class Upstream:
    """One deployment: its fault decides what each call meets."""

    name: str
    fault: str
    rng: random.Random
    asked: Counter[str] = field(default_factory=Counter)
    open: int = 0

    @asynccontextmanager
    async def send(
        self, call: Call, *, model: str, timeouts: Timeouts = Timeouts()
    ) -> AsyncIterator[Reply]:
        self.asked[call.request_id] += 1
        fault = self._drawn()
        await asyncio.sleep(self.rng.uniform(0.001, 0.3))
        if fault == "hanging":
            await asyncio.sleep(timeouts.first_byte)
            raise UpstreamTimeout("silent", phase="first_byte")
        provider = FakeProvider(self._script(fault), name=self.name)
        self.open += 1
        try:
            async with provider.send(call, model=model, timeouts=timeouts) as reply:
                yield reply
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        return

    def _drawn(self) -> str:
        if self.fault == "anything":
            return self.rng.choice(KINDS)
        return self.fault

    def _script(self, fault: str) -> Script:
        chunks = [_chunk(self.name, part) for part in ("", "a", "b", "c")]
        whole = [*chunks, _chunk(self.name, None), b"data: [DONE]\n\n"]
        failures: dict[str, UpstreamError] = {
            "dead": ConnectFailed("refused"),
            "throttled": UpstreamThrottled("slow", retry_after=self.rng.choice([None, 1.0, 40.0])),
            "failing": UpstreamFailed("500", upstream_status=500),
        }
        if fault == "none" and self.rng.random() < 0.02:
            return Script(fails=UpstreamRejected("no", upstream_status=400))
        usage = Usage(40, self.rng.randrange(1, 30), reported=True)
        return Script(
            whole,
            fails=failures.get(fault),
            hangs=self.rng.choice([0.0, 0.0, 0.4, 25.0]),
            breaks_at=self.rng.randrange(len(chunks)) if fault == "breaking" else None,
            breaks_with=UpstreamDisconnected("it broke off"),
            pause=self.rng.choice([0.0, 0.01, 0.2]),
            usage=usage,
        )


def _chunk(name: str, text: str | None) -> bytes:
    delta = {} if text is None else {"content": text and f"{name}:{text} "}
    end = "stop" if text is None else None
    choice = {"index": 0, "delta": delta, "finish_reason": end}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "chat"}
    return b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"


@dataclass
class Client:
    """One request. It may leave, and it may read slowly."""

    number: int
    key: str
    rng: random.Random
    leaves: float | None
    slow: float
    sent: list[MutableMapping[str, Any]] = field(default_factory=list)
    raised: BaseException | None = None

    async def ask(self, app: Any) -> None:
        body = {
            "model": "chat",
            "stream": True,
            "max_tokens": 50,
            "messages": [{"role": "user", "content": f"question {self.number}"}],
        }
        inbox = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        gone = asyncio.Event()
        if self.leaves is not None:
            asyncio.get_running_loop().call_later(self.leaves, gone.set)

        async def receive() -> MutableMapping[str, Any]:
            if inbox:
                return inbox.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            await asyncio.sleep(self.slow)
            self.sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/json"),
                (b"authorization", f"Bearer {self.key}".encode()),
                (b"x-stainless-retry-count", b"0"),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 4000),
        }
        try:
            await app(scope, receive, send)
        except Exception as error:  # looked at when all is over
            self.raised = error

    @property
    def status(self) -> int:
        return self.sent[0]["status"] if self.sent else 0

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def settings(rng: random.Random) -> Settings:
    """A house of three deployments, two keys, and policies that are drawn."""
    strategy = rng.choice(["weighted", "least_busy", "fastest", "cheapest"])
    limits = rng.choice([None, {"concurrent": 3}, {"requests": "10/second"}])
    budget = rng.choice([None, {"usd": BUDGET, "per": "day", "hard": True}])
    rows: dict[str, Any] = {
        "providers": {
            name: {"kind": "openai_compatible", "base_url": f"http://{name}.test/v1"}
            for name in ("one", "two", "three")
        },
        "models": [
            {"name": "chat", "target": f"{name}/m", "price": PRICE, "order": rng.choice([1, 1, 2])}
            for name in ("one", "two", "three")
        ],
        "routing": {"strategy": strategy, "sticky": rng.random() < 0.3},
        "timeouts": {"first_byte": 10, "between_events": 30, "total": 60},
        "keys": [
            {"name": "free", "key": "free"},
            {"name": "bound", "key": "bound", "limits": limits, "budget": budget},
        ],
        "server": {"limits": {"requests": rng.choice([4, 100])}},
    }
    return Settings.model_validate(rows)


@dataclass
class Run:
    """What one seed has shown."""

    kind: str
    clients: list[Client]
    upstreams: list[Upstream]
    events: list[Event]
    in_flight: int
    spent: int | None

    @property
    def finished(self) -> list[RequestFinished]:
        return [event for event in self.events if isinstance(event, RequestFinished)]

    def transcript(self) -> str:
        told = [(client.status, client.body.decode()) for client in self.clients]
        order = [(event.deployment, event.status, event.attempts) for event in self.finished]
        return hashlib.sha256(repr((told, order)).encode()).hexdigest()


def play(seed: int) -> Run:
    """One seed, from the start of its house to its end."""
    CLOCK.now = 1000.0
    rng = random.Random(seed)
    random.seed(seed)  # the parts draw from the module's own generator
    kind = KINDS[seed % len(KINDS)]
    faults = [kind, "none", "none"] if kind != "anything" else ["anything"] * 3
    rng.shuffle(faults)
    upstreams = {
        name: Upstream(name, fault, random.Random(f"{seed}{name}"))
        for name, fault in zip(("one", "two", "three"), faults, strict=True)
    }
    setattr(_compose, "create_provider", lambda _, *, name, **__: upstreams[name])  # noqa: B010
    events: list[Event] = []
    logger = StructuredLogger("simulation")
    parts = _compose.Parts(events.append, NoTracer())
    gateway = Gateway(settings(rng), NoMetrics(), parts, logger)
    surface = Surface(face_of(CHAT), gateway, logger)
    clients = [
        Client(
            number,
            rng.choice(["free", "bound"]),
            rng,
            leaves=rng.choice([None, None, None, rng.uniform(0.0, 3.0)]),
            slow=rng.choice([0.0, 0.0, 0.05]),
        )
        for number in range(REQUESTS)
    ]
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        spent = runner.run(_through(gateway, surface, clients, rng))
    return Run(kind, clients, list(upstreams.values()), events, gateway.in_flight, spent)


async def _through(
    gateway: Gateway, surface: Surface, clients: list[Client], rng: random.Random
) -> int | None:
    """All requests; what they have cost the key with a budget, in nano-dollars."""
    await gateway.start()
    tasks = []
    for client in clients:
        tasks.append(asyncio.create_task(client.ask(surface)))
        await asyncio.sleep(rng.expovariate(4.0))
    await asyncio.gather(*tasks)
    key = next(row for row in gateway.settings.keys if row.name == "bound")
    snapshot = gateway.snapshot
    limits = _compose._limits("key", key.limits, key.budget)
    states = {state.name: state for state in snapshot.limiter.look("bound", limits)}
    spent = BUDGET_NANO - states["budget"].remaining if "budget" in states else None
    if "concurrent" in states:
        assert states["concurrent"].remaining == states["concurrent"].limit, "a slot was kept"
    for deployment in snapshot.deployments:
        assert deployment.load is not None
        assert deployment.load.in_flight == deployment.load.awaited == 0, "a turn never ended"
    await gateway.aclose()
    return spent


def check(run: Run) -> None:
    """What must hold of every run. Raises AssertionError."""
    assert run.in_flight == 0, "a request never ended"
    assert all(upstream.open == 0 for upstream in run.upstreams), "an answer was never closed"
    assert len(run.finished) == len(run.clients), "a request has no record, or two"
    for upstream in run.upstreams:
        assert max(upstream.asked.values(), default=0) <= 1, "one was asked twice for one request"
    for event in run.finished:
        assert event.attempts <= 3, event
        assert sum(event.request_id in it.asked for it in run.upstreams) == event.attempts, event
    for client in run.clients:
        check_answer(client)
    if run.spent is not None:
        bound = [event for event in run.finished if event.key == "bound"]
        known = sum(event.cost or 0 for event in bound)
        # Nobody knows what is charged for an answer that wasn't waited for: all that was reserved.
        unknown = [event for event in bound if event.outcome == "gone" and event.cost is None]
        most = len(unknown) * MOST_NANO
        assert known <= run.spent <= min(known + most, BUDGET_NANO), (run.spent, known, most)


def check_answer(client: Client) -> None:
    """That a client was told the truth, or left before it was told anything."""
    if client.raised is not None or not client.sent:
        assert client.leaves is not None and client.raised is None, client.raised
        return
    body = client.body
    if client.leaves is not None and client.sent[-1].get("more_body", True):
        return  # it left in the middle of it
    if client.status != 200:
        error = json.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return
    events = [line for line in body.split(b"\n\n") if line and not line.startswith(b":")]
    speakers = {
        event.split(b'"content": "')[1].split(b":")[0] for event in events if b":a" in event
    }
    assert len(speakers) <= 1, "two upstreams speak in one answer"
    is_whole = body.endswith(b"data: [DONE]\n\n")
    has_error = b'{"error":' in body
    assert is_whole != has_error, body
    is_spent = b":a " in body or b": keepalive" in body
    assert is_spent or not has_error, "the status was spent before there was anything to say"
    assert not (is_whole and b'"stop"' not in body), "an end without a reason"


def main() -> None:
    first, count = int(sys.argv[1]), int(sys.argv[2])
    configure_logging(level="critical")
    asked: Counter[str] = Counter()
    good: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    transcripts = {}
    for seed in range(first, first + count):
        run = play(seed)
        try:
            check(run)
        except AssertionError as error:
            raise SystemExit(f"seed {seed} ({run.kind}): {error!r}") from error
        transcripts[seed] = run.transcript()
        for event in run.finished:
            outcomes[event.error or event.outcome] += 1
            if event.outcome in ("ok", "failed") and event.error != "overloaded":
                asked[run.kind] += 1
                good[run.kind] += event.outcome == "ok"
    told = {"outcomes": outcomes, "answered": {kind: good[kind] / asked[kind] for kind in asked}}
    print(json.dumps({**told, "transcripts": transcripts}))


if __name__ == "__main__":
    main()
