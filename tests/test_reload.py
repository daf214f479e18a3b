"""A reload under load: no request notices it, and a dropped provider ends at its last use."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest

from proxy_api import GatewayApp, Settings, create_app
from proxy_api._arrival import ADMIN_SOCKET
from proxy_api._reload import Reloader
from proxy_api.testing import serving
from proxy_core.errors import ConfigurationError

AT_ONCE = 50
RELOADS = 20
PATIENCE = 5.0
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def whole(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def event(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return chunk(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Upstream:
    """Says its own name, whole or as a stream of three parts; may wait before the last one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sockets = 0
        self.asked = 0
        self.fails = False
        self.go_on = threading.Event()
        self.go_on.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sockets += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                assert length is not None
                body = json.loads(await reader.readexactly(int(length[1])))
                self.asked += 1
                await self._answer(body, writer)
        finally:
            self.sockets -= 1

    async def _answer(self, body: Any, writer: asyncio.StreamWriter) -> None:
        if self.fails:
            writer.write(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")
        elif body.get("stream"):
            writer.write(STREAM + event(self.name))
            await self._wait()
            writer.write(event(self.name) + event(self.name, "stop"))
            writer.write(chunk(b"data: [DONE]\n\n") + END)
        else:
            await self._wait()
            writer.write(whole(self.name))

    async def _wait(self) -> None:
        await asyncio.sleep(0.01)
        while not self.go_on.is_set():
            await asyncio.sleep(0.005)


class House:
    """A real server before two upstreams, with an admin socket's reload; ``file`` is what it loads.

    The mark of the admin socket is put on ``/admin`` by the app's wrapper, as the server does it.
    """

    def __init__(self, one: str, two: str) -> None:
        self._urls = {"one": one, "two": two}
        self.file: Settings | None = None
        self.app: GatewayApp = create_app(settings=self.settings("one"))
        self.app.gateway.reloader = Reloader(self.app.gateway, self._load)
        self.url = ""
        self.client = httpx2.Client(timeout=PATIENCE)

    def settings(self, *names: str, **sections: Any) -> Settings:
        providers: Any = {
            name: {"kind": "openai_compatible", "base_url": self._urls[name]} for name in names
        }
        models: Any = [{"name": "chat", "target": f"{name}/m"} for name in names]
        return Settings(providers=providers, models=models, **sections)

    def _load(self) -> Settings:
        if self.file is None:
            raise ConfigurationError("the file is a mess")
        return self.file

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/admin/"):
            scope["extensions"] = {ADMIN_SOCKET: {}}
        await self.app(scope, receive, send)

    def reload(self, file: Settings | None) -> str:
        """Let it load this; None: something invalid."""
        self.file = file
        answer = self.client.post(f"{self.url}/admin/reload")
        return str(answer.json()["result"])

    def ask(self, *, stream: bool = False, key: str = "") -> tuple[int, str]:
        """The status and the text of an answer; an answer that isn't whole is an error."""
        answer = self.client.post(
            f"{self.url}/v1/chat/completions",
            json={"model": "chat", "messages": [], "stream": stream},
            headers={"x-api-key": key} if key else {},
        )
        return answer.status_code, told(answer.text, stream=stream)


def told(text: str, *, stream: bool) -> str:
    """The content of an answer: a stream is whole only with a finish reason and its end."""
    if not stream:
        body = json.loads(text)
        return body["choices"][0]["message"]["content"] if "choices" in body else str(body)
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    if not lines or lines[-1] != "[DONE]":
        return f"not whole: {text}"
    choices = [json.loads(line)["choices"][0] for line in lines[:-1]]
    assert choices[-1]["finish_reason"] == "stop"
    return " ".join(choice["delta"]["content"] for choice in choices)


@pytest.fixture
def upstreams(upstream: Callable[..., Any]) -> Iterator[tuple[House, Upstream, Upstream]]:
    """A house that serves from the first of two upstreams."""
    one, two = Upstream("one"), Upstream("two")
    house = House(upstream(one).url, upstream(two).url)
    with ExitStack() as stack:
        house.url = stack.enter_context(serving(house.asgi, interface="asgi3"))
        stack.enter_context(house.client)
        yield house, one, two
        one.go_on.set()
        two.go_on.set()


@asynccontextmanager
async def workers(house: House, count: int) -> AsyncIterator[list[tuple[int, str]]]:
    """So many clients that ask without a pause, every second one for a stream; what they got."""
    answers: list[tuple[int, str]] = []
    over = False

    async def work(client: httpx2.AsyncClient, *, stream: bool) -> None:
        body = {"model": "chat", "messages": [], "stream": stream}
        while not over:
            answer = await client.post(f"{house.url}/v1/chat/completions", json=body)
            answers.append((answer.status_code, told(answer.text, stream=stream)))

    async with httpx2.AsyncClient(timeout=PATIENCE, limits=httpx2.Limits()) as client:
        tasks = [
            asyncio.create_task(work(client, stream=bool(number % 2))) for number in range(count)
        ]
        try:
            yield answers
        finally:
            over = True
            await asyncio.gather(*tasks)


async def test_no_request_fails_while_the_configuration_changes(
    upstreams: tuple[House, Upstream, Upstream],
) -> None:
    """Twenty reloads, every other one invalid, under fifty clients: each answer is whole."""
    house, one, two = upstreams
    files = [house.settings("two"), None, house.settings("one"), None]
    results = []
    async with workers(house, AT_ONCE) as answers:
        for number in range(RELOADS):
            before = len(answers)
            results.append(await asyncio.to_thread(house.reload, files[number % len(files)]))
            while len(answers) < before + AT_ONCE // 2:
                await asyncio.sleep(0.005)
    assert results == ["applied", "refused"] * (RELOADS // 2)
    assert set(answers) == {(200, text) for text in ("one", "two", "one one one", "two two two")}
    until(lambda: house.app.gateway.in_flight == 0)
    until(lambda: two.sockets == 0)
    assert one.sockets > 0


@pytest.mark.parametrize("stream", [True, False], ids=["streams", "whole"])
def test_each_is_answered_by_the_configuration_that_it_began_with(
    upstreams: tuple[House, Upstream, Upstream], stream: bool
) -> None:
    """Who asked before the reload is answered by the old upstream, who asks after by the new."""
    house, one, two = upstreams
    one.go_on.clear()
    two.go_on.clear()
    text = " ".join(["{}"] * 3) if stream else "{}"
    with ThreadPoolExecutor(16) as pool:
        before = [pool.submit(house.ask, stream=stream) for _ in range(8)]
        until(lambda: one.asked == 8)
        assert house.reload(house.settings("two")) == "applied"
        assert house.reload(None) == "refused"
        after = [pool.submit(house.ask, stream=stream) for _ in range(8)]
        until(lambda: two.asked == 8)
        assert house.app.gateway.in_flight == 16
        one.go_on.set()
        two.go_on.set()
        assert {each.result() for each in before} == {(200, text.format(*["one"] * 3))}
        assert {each.result() for each in after} == {(200, text.format(*["two"] * 3))}


def test_a_stream_ends_whole_although_its_provider_is_gone(
    upstreams: tuple[House, Upstream, Upstream],
) -> None:
    """A removed provider's pool, idle connections too, is closed when its last stream has ended.

    Not before: that request may still ask it again.
    """
    house, one, _ = upstreams
    with ThreadPoolExecutor(2) as pool:
        one.go_on.clear()
        streams = [pool.submit(house.ask, stream=True) for _ in range(2)]
        until(lambda: one.asked == 2)
        one.go_on.set()
        assert {each.result() for each in streams} == {(200, "one one one")}
        one.go_on.clear()
        running = pool.submit(house.ask, stream=True)
        until(lambda: one.asked == 3)
        assert house.reload(house.settings("two")) == "applied"
        assert house.ask() == (200, "two")
        time.sleep(0.05)
        assert (one.sockets, running.done()) == (2, False)
        one.go_on.set()
        assert running.result() == (200, "one one one")
    until(lambda: one.sockets == 0)


def test_an_idle_pool_is_closed_at_once(upstreams: tuple[House, Upstream, Upstream]) -> None:
    """Without a request on it, a removed provider's kept connection is closed by the reload."""
    house, one, _ = upstreams
    assert house.ask() == (200, "one")
    assert one.sockets == 1
    house.reload(None)
    time.sleep(0.05)
    assert one.sockets == 1
    house.reload(house.settings("two"))
    until(lambda: one.sockets == 0)


def test_a_kept_provider_keeps_its_connections(
    upstreams: tuple[House, Upstream, Upstream],
) -> None:
    """A provider that both configurations name is asked over the connection that was open."""
    house, one, _ = upstreams
    assert house.ask() == (200, "one")
    house.reload(house.settings("one", server={"drain": 10}))
    assert house.ask() == (200, "one")
    assert (one.sockets, one.asked) == (1, 2)
    until(lambda: house.app.gateway.in_flight == 0)


def test_an_open_breaker_stays_open(upstreams: tuple[House, Upstream, Upstream]) -> None:
    """A sick upstream isn't asked again because somebody reloaded, whether valid or not."""
    house, one, _ = upstreams
    one.fails = True
    assert [house.ask()[0] for _ in range(5)] == [502] * 5
    rules = {"breaker": {"failures": 9, "open_for": "30s"}}
    results = [house.reload(file) for file in (None, house.settings("one", routing=rules))]
    assert results == ["refused", "applied"]
    assert house.ask()[0] == 503
    assert one.asked == 5


def test_a_limit_keeps_its_count(upstreams: tuple[House, Upstream, Upstream]) -> None:
    """What a key has used is used after the reload too; another limit acts at the next request."""
    house, _, _ = upstreams

    def file(requests: str) -> Settings:
        keys = [{"name": "ci", "key": "ci-key", "limits": {"requests": requests}}]
        return house.settings("one", keys=keys)

    house.reload(file("2/hour"))
    assert [house.ask(key="ci-key")[0] for _ in range(3)] == [200, 200, 429]
    house.reload(file("2/hour"))
    assert house.ask(key="ci-key")[0] == 429
    house.reload(file("3/hour"))
    assert [house.ask(key="ci-key")[0] for _ in range(2)] == [200, 429]


def test_a_removed_key_is_refused_while_its_stream_ends(
    upstreams: tuple[House, Upstream, Upstream],
) -> None:
    """The next request of a removed key gets 401; the stream that it had begun is whole."""
    house, one, _ = upstreams
    rows = [{"name": "old", "key": "old-key"}, {"name": "new", "key": "new-key"}]
    house.reload(house.settings("one", keys=rows))
    one.go_on.clear()
    with ThreadPoolExecutor(1) as pool:
        running: Future[tuple[int, str]] = pool.submit(house.ask, stream=True, key="old-key")
        until(lambda: one.asked == 1)
        house.reload(house.settings("one", keys=rows[1:]))
        assert house.ask(key="old-key")[0] == 401
        assert not running.done()
        one.go_on.set()
        assert running.result() == (200, "one one one")
    assert house.ask(key="new-key") == (200, "one")
