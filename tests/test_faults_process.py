"""The command itself, between sockets of ours: who leaves, who never reads, who never ends.

Others are served meanwhile, what was taken is given back, and memory has a bound.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import resource
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

MB = 1_000_000
KERNEL = sum(int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2]) for way in "rw")
"""Bytes that the kernel may hold of one stream: the most of a receiver and a sender."""
MAX_BODY = 12 * MB
HUGE = 200 * MB
LIMIT = 0.1
"""Seconds from a client's close to its upstream's."""


# --- The upstream: what it does is in the request's field ``act``. ---


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
ROLE, WORD, STOP = event({"role": "assistant"}), event({"content": "word"}), event({}, "stop")
LONG = event({"content": "x" * 8000})
DONE = b"data: [DONE]\n\n"
TEXT = ROLE + WORD + STOP + DONE
ANSWER = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" b"content-length: %d\r\n\r\n%s" % (
    len(ANSWER),
    ANSWER,
)
BEGINNINGS = {
    "silent": b"",
    "role": EVENTS + ROLE,
    "words": EVENTS + ROLE + WORD * 20,
    "half": WHOLE[:-20],
    "stream": EVENTS + TEXT,
}
PACKED = b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(20 * MB), 1)
FLOODS = {
    "flood": (EVENTS + ROLE, LONG),
    "endless line": (EVENTS + ROLE + WORD + b"data: ", b"x" * 100_000),
    "endless body": (b"HTTP/1.1 200 OK\r\n\r\n[", b"x" * 100_000),
    "endless headers": (b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n" * 10_000),
    "endless header": (b"HTTP/1.1 200 OK\r\nx-a: ", b"b" * 100_000),
    "endless comments": (EVENTS, b": hello\n\n" * 10_000),
    "bomb": (WHOLE.partition(b"content-length")[0] + PACKED, b"%x\r\n%s\r\n" % (len(BOMB), BOMB)),
}
"""How each begins, and what then never ends."""


class Upstream:
    """Answers, or begins to; counts what it could send, and notes when it is let go."""

    def __init__(self) -> None:
        self.arrived: list[int] = []
        """The sizes of the requests."""
        self.closed: list[float] = []
        self.sent = 0
        """Of all floods."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        act = "whole"
        while act == "whole":
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            assert length is not None
            body = await reader.readexactly(int(length[1]))
            named = re.search(rb'"act": ?"([a-z ]+)"', body[:1000])
            act = named[1].decode() if named else "whole"
            self.arrived.append(len(body))
            writer.write(FLOODS[act][0] if act in FLOODS else BEGINNINGS.get(act, WHOLE))
        if act == "stream":
            return
        try:
            if act in FLOODS:
                await self._flood(writer, FLOODS[act][1])
            await reader.read()
        finally:
            self.closed.append(time.monotonic())

    async def _flood(self, writer: asyncio.StreamWriter, part: bytes) -> None:
        for _ in range(HUGE // len(part)):
            writer.write(part)
            self.sent += len(part)
            await writer.drain()


# --- The house. ---


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def read_answer(reader: asyncio.StreamReader, *, bare: bool = False) -> Answer:
    """One answer, framed as it says; ``bare``: that to a HEAD."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = b""
    if bare or status.split()[1] == "100":
        pass
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        assert headers["transfer-encoding"] == "chunked"
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        assert await reader.readexactly(2) == b"\r\n"
    return Answer(int(status.split()[1]), headers, body)


def head(path: str = "/v1/chat/completions", method: str = "POST", **headers: str | int) -> bytes:
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{named}\r\n".encode()


def request(
    act: str = "whole", *, stream: bool = False, padding: int = 0, model: str = "chat"
) -> bytes:
    told = {"model": model, "stream": stream, "act": act, "messages": [], "pad": "x" * padding}
    body = json.dumps(told).encode()
    return head(content_type="application/json", content_length=len(body)) + body


class Client:
    """A connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def answer(self, *, bare: bool = False) -> Answer:
        async with asyncio.timeout(10):
            return await read_answer(self.reader, bare=bare)

    def leave(self, how: str) -> None:
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            self.writer.transport.abort()
        elif how == "half-close":
            self.writer.write_eof()
        else:
            self.writer.close()


class House:
    """The command, in a process of its own, and its upstream."""

    def __init__(self, process: Any, upstream: Upstream) -> None:
        self.process = process
        self.upstream = upstream

    @asynccontextmanager
    async def client(self, *, reads: bool = True) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.process.port)
        if not reads:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, *parts: bytes) -> Answer:
        async with self.client() as client:
            client.send(*parts)
            return await client.answer()

    async def told(self, field: str, value: str) -> list[dict[str, Any]]:
        """The lines of the log in which a field has this value; waits for the first."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(5):
            while not found:
                await asyncio.sleep(0.01)
                found = [line for line in self.process.lines if line.get(field) == value]
        return found

    async def check_nothing_is_left(self) -> None:
        """No request is in flight."""
        in_flight = {""}
        async with asyncio.timeout(1):
            while in_flight != {"0.0"}:
                told = (await self.ask(head("/metrics", "GET"))).body.decode()
                in_flight = set(re.findall(r"\nllm_proxy_in_flight_requests\S* (\S+)", told))

    @contextmanager
    def growing(self) -> Iterator[list[int]]:
        """What the process needed more at its peak, in bytes; known after the block."""
        process = Path(f"/proc/{self.process.child.pid}")
        (process / "clear_refs").write_text("5")  # the peak begins anew
        before, grown = self.resident(), [0]
        yield grown
        peak = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
        assert peak is not None
        grown[0] = int(peak[1]) * 1024 - before

    def cpu_time(self) -> float:
        """Seconds, in user and system."""
        stat = Path(f"/proc/{self.process.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        pages = Path(f"/proc/{self.process.child.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()


async def until(happened: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.002)


CONFIG = """
version: 1
server: {{max_body: {max_body}}}
providers: {{up: {{kind: openai_compatible, base_url: "{url}"}}}}
models: [{{name: chat, target: up/chat}}, {{name: "any-*", target: "up/any-*"}}]
routing: {{breaker: {{failures: 1000}}}}
observability: {{logs: json}}
"""


@pytest.fixture(scope="module")
def house(lasting_process: Callable[..., Any], lasting_upstream: Callable[..., Any]) -> House:
    upstream = Upstream()
    url = lasting_upstream(upstream).url
    return House(lasting_process(CONFIG.format(url=url, max_body=MAX_BODY)), upstream)


# --- Clients that leave. ---

PHASES = {
    "before the head": ("silent", True),
    "before the first token": ("role", True),
    "mid-stream": ("words", True),
    "in a flood": ("flood", True),
    "before a whole answer": ("silent", False),
    "in the middle of a whole answer": ("half", False),
}


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("phase", list(PHASES))
async def test_a_client_that_leaves_takes_its_upstream_along(
    house: House, phase: str, how: str
) -> None:
    """Its upstream is closed within 100 ms, one record tells of it, and nothing is left."""
    act, stream = PHASES[phase]
    model = f"any-{phase}-{how}"
    arrived, closed = len(house.upstream.arrived), len(house.upstream.closed)
    async with house.client() as client:
        client.send(request(act, stream=stream, model=model))
        await until(lambda: len(house.upstream.arrived) > arrived)
        if act in ("words", "flood"):
            async with asyncio.timeout(5):
                await client.reader.readuntil(b"word" if act == "words" else b"xxx")
        await asyncio.sleep(0.02)
        left_at = time.monotonic()
        client.leave(how)
        await until(lambda: len(house.upstream.closed) > closed)
    assert house.upstream.closed[-1] - left_at < LIMIT
    told = await house.told("model", model)
    await house.check_nothing_is_left()
    assert [(line["event"], line["outcome"]) for line in told] == [("request", "gone")]
    assert told[0]["status"] == (200 if act in ("words", "flood") else 499)
    assert len(house.upstream.arrived) == arrived + 1


async def test_what_was_delivered_is_charged(house: House) -> None:
    """Who leaves mid-stream is charged for the text that came, by our own estimate."""
    async with house.client() as client:
        client.send(request("words", stream=True, model="any-charged"))
        got = b""
        async with asyncio.timeout(5):
            while got.count(b"word") < 20:
                got += await client.reader.read(65536)
    told = (await house.told("model", "any-charged"))[0]
    assert (told["outcome"], told["usage_estimated"]) == ("gone", True)
    assert 20 <= told["output_tokens"] <= 60


# --- Clients that don't read. ---

STUCK = 4


async def test_who_does_not_read_costs_no_memory(house: House) -> None:
    """Of a 200 MB stream that nobody reads the upstream gets rid of what buffers hold: ≤ 1 MB.

    A megabyte more is for what streams share, and what an allocator keeps.
    """
    upstream = house.upstream
    closed = len(upstream.closed) + 1
    async with house.client() as client:
        # Memory that one stream at full speed needs is there from now on.
        client.send(request("flood", stream=True))
        await client.reader.readexactly(30 * MB)
    await until(lambda: len(upstream.closed) == closed)
    upstream.sent = 0
    with house.growing() as grown:
        async with AsyncExitStack() as stack:
            for _ in range(STUCK):
                client = await stack.enter_async_context(house.client(reads=False))
                client.send(request("flood", stream=True))
            sent = -1
            while upstream.sent != sent or sent <= 0:
                sent = upstream.sent
                await asyncio.sleep(0.25)
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await client.reader.readexactly(2 * KERNEL)
            assert upstream.sent > sent
    print(f"{grown[0] / STUCK / MB:.2f} MB for each; the upstreams sent {sent / MB:.0f} MB")
    assert sent < STUCK * (2 * KERNEL + MB)
    assert grown[0] < STUCK * MB + MB
    await until(lambda: len(upstream.closed) == closed + STUCK)


# --- Upstreams that never end. ---


@pytest.mark.parametrize(
    ("act", "stream", "status", "most"),
    [
        ("endless line", True, 200, 8),
        ("endless body", False, 502, 64),
        ("endless headers", False, 502, 0),
        ("endless header", True, 502, 0),
        ("bomb", False, 502, 0),
    ],
)
async def test_what_never_ends_is_cut(
    house: House, act: str, stream: bool, status: int, most: int
) -> None:
    """At a cap of ``most`` MB: the upstream sends little more, and memory for little more is used.

    What is collected is held twice for a moment, when its parts are joined.
    """
    house.upstream.sent = 0
    with house.growing() as grown:
        answer = await house.ask(request(act, stream=stream, model=f"any-{act}"))
    print(f"{grown[0] / MB:.1f} MB; the upstream sent {house.upstream.sent / MB:.0f} MB")
    assert answer.status == status
    told = json.loads(answer.body.removesuffix(b"\n\n").rpartition(b"data: ")[2])
    assert told["error"]["code"] in ("bad_upstream_response", "upstream_disconnected")
    assert house.upstream.sent < most * MB + 2 * KERNEL + MB
    assert grown[0] < 2.5 * most * MB + 3 * MB


async def test_comments_without_end_are_not_kept(house: House) -> None:
    """A stream that says nothing is not held back for ever, nor does it fill the memory."""
    with house.growing() as grown:
        async with house.client() as client:
            client.send(request("endless comments", stream=True))
            assert b" 200 " in await client.reader.readline()
            await client.reader.readexactly(MB)
    assert grown[0] < 5 * MB


# --- Large requests. ---


async def test_ten_megabytes_hold_up_nobody(house: House) -> None:
    """While prompts of 10 MB pass, others are answered; the slowest waits for less than 1 s."""
    large = request(padding=10 * MB)
    arrived = len(house.upstream.arrived)

    async def send_large() -> None:
        for _ in range(3):
            answer = await house.ask(large)
            assert (answer.status, answer.body) == (200, ANSWER)

    sending = asyncio.create_task(send_large())
    took = []
    while not sending.done():
        began = time.monotonic()
        assert (await house.ask(request())).body == ANSWER
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.005)
    await sending
    assert sum(size > 10 * MB for size in house.upstream.arrived[arrived:]) == 3
    print(f"median {sorted(took)[len(took) // 2]:.4f} s, slowest {max(took):.4f} s of {len(took)}")
    assert sorted(took)[len(took) // 2] < 0.1, took
    assert max(took) < 1.0, took


MALICE = {
    "a million keys": b'{"model":"chat","messages":[],%s}'
    % b",".join(b'"%x":1' % number for number in range(1_000_000)),
    "a million equal keys": b'{"model":"chat","messages":[],%s}'
    % b",".join([b'"a":1'] * 1_000_000),
    "a million keys inside": b'{"model":"chat","messages":[{%s}]}'
    % b",".join(b'"%x":1' % number for number in range(1_000_000)),
    "a million escapes": b'{"model":"chat","messages":["%s"]}' % (b"\\\\" * 1_000_000),
    "five million brackets": b'{"model":"chat","messages":%s' % (b"[" * 5_000_000),
    "five million objects": b'{"model":"chat","messages":[%s0]}' % (b"{}," * 3_000_000),
    "a long number": b'{"model":"chat","messages":[],"max_tokens":%s}' % (b"9" * 5_000_000),
}


MOST_CPU = 0.4
"""Seconds of the gateway's CPU time, in which it serves nobody else."""


@pytest.mark.parametrize("name", list(MALICE))
async def test_malice_in_a_body_holds_up_nobody(house: House, name: str) -> None:
    """A body that is made to be slow takes little time, and who asks meanwhile is answered."""
    body = MALICE[name]
    shape = head(content_type="application/json", content_length=len(body))
    before = house.cpu_time()
    asking = asyncio.create_task(house.ask(shape, body))
    await asyncio.sleep(0.01)
    assert (await house.ask(request())).body == ANSWER
    answer = await asking
    used = house.cpu_time() - before
    print(f"{used:.2f} s")
    if answer.status != 200:
        assert answer.status == 400
        assert set(json.loads(answer.body)) == {"error"}
    assert used < MOST_CPU


async def test_too_much_is_refused_before_it_is_read(house: House) -> None:
    """In chunks, without a length, 413 comes once it is too much: the rest is not taken."""
    async with house.client() as client:
        client.send(head(content_type="application/json", transfer_encoding="chunked"))
        answering = asyncio.create_task(client.answer())
        part = b"%x\r\n%s\r\n" % (100_000, b" " * 100_000)
        sent = 0
        while not answering.done() and sent < HUGE:
            client.send(part)
            sent += len(part)
            try:
                await asyncio.wait_for(client.writer.drain(), 0.05)
            except TimeoutError:
                continue
            except ConnectionError:
                break
        answer = await answering
    assert answer.status == 413
    assert json.loads(answer.body)["error"]["code"] == "request_too_large"
    assert MAX_BODY < sent < MAX_BODY + 2 * KERNEL + 5 * MB
    await house.check_nothing_is_left()


async def test_half_a_large_body_is_not_kept(house: House) -> None:
    """Who leaves in the middle of a body takes it along: nothing was asked of any upstream."""
    arrived = len(house.upstream.arrived)
    for _ in range(5):
        async with house.client() as client:
            client.send(head(content_type="application/json", content_length=10 * MB))
            client.send(b" " * 5 * MB)
            await client.writer.drain()
    await house.check_nothing_is_left()
    assert len(house.upstream.arrived) == arrived


async def test_a_body_too_long_by_its_length_is_refused_unread(house: House) -> None:
    """With a length that is too large 413 comes at once, and nobody is asked to go on."""
    async with house.client() as client:
        client.send(
            head(content_type="application/json", content_length=HUGE, expect="100-continue")
        )
        answer = await client.answer()
    assert answer.status == 413


# --- Unusual requests. ---


async def test_requests_in_a_pipeline_are_answered_in_turn(house: House) -> None:
    """A stream, a whole answer, a refusal and a probe, sent at once, come in their order."""
    async with house.client() as client:
        client.send(
            request("stream", stream=True),
            request(),
            head(content_type="application/json", content_length=2) + b"{}",
            head("/livez", "GET"),
            request(),
        )
        answers = [await client.answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 400, 200, 200]
    assert [answers[0].body, answers[1].body, answers[4].body] == [TEXT, ANSWER, ANSWER]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 5


@pytest.mark.parametrize("pieces", [1, 7, 100])
async def test_a_request_in_pieces_is_a_request(house: House, pieces: int) -> None:
    """Where the bytes of a request are cut does not matter, in the head, the body or between."""
    whole = request() + request("stream", stream=True)
    async with house.client() as client:
        for at in range(0, len(whole), pieces):
            client.send(whole[at : at + pieces])
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.answer()).body == ANSWER
        assert (await client.answer()).body == TEXT


async def test_a_body_in_chunks_is_a_body(house: House) -> None:
    """Without a length, with extensions and trailers, it is read all the same."""
    body = request().partition(b"\r\n\r\n")[2]
    async with house.client() as client:
        client.send(
            head(content_type="application/json", transfer_encoding="chunked"),
            *(b"1;a=b\r\n%c\r\n" % byte for byte in body),
            b"0\r\nx-a: b\r\n\r\n",
            request(),
        )
        assert (await client.answer()).body == ANSWER
        assert (await client.answer()).body == ANSWER


async def test_a_client_may_wait_for_100(house: House) -> None:
    """With ``Expect: 100-continue`` the word comes before the body, and then the answer."""
    body = request().partition(b"\r\n\r\n")[2]
    async with house.client() as client:
        client.send(
            head(content_type="application/json", content_length=len(body), expect="100-continue")
        )
        assert (await client.answer()).status == 100
        client.send(body)
        assert (await client.answer()).body == ANSWER


async def test_a_client_need_not_wait_for_100(house: House) -> None:
    """One that sends its body at once gets one final answer, whether or not the word comes."""
    body = request().partition(b"\r\n\r\n")[2]
    async with house.client() as client:
        client.send(
            head(content_type="application/json", content_length=len(body), expect="100-continue"),
            body,
            request(),
        )
        statuses: list[int] = []
        while statuses.count(200) < 2:
            statuses.append((await client.answer()).status)
    assert set(statuses) <= {100, 200}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/livez", 200), ("/readyz", 200), ("/v1/chat/completions", 405), ("/nothing", 404)],
)
async def test_the_answer_to_head_has_no_body(house: House, path: str, status: int) -> None:
    """HEAD gets a head alone, and the connection goes on as before."""
    async with house.client() as client:
        client.send(head(path, "HEAD"), request())
        answer = await client.answer(bare=True)
        assert (answer.status, "content-length" in answer.headers) == (status, True)
        assert (await client.answer()).body == ANSWER


# --- The log. ---


NAMES = ("no\r\nFORGED", 'no\n{"event":"FORGED"}', "no\x1b[2JFORGED", "no\u2028\x85FORGED")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("known", [False, True])
async def test_a_name_makes_no_line_of_the_log(house: House, name: str, known: bool) -> None:
    """Each line is one JSON object, whatever is in a model's name; none was made by a client."""
    model = f"any-{name}" if known else name
    fields = {"model": model, "messages": [], "user": name, "metadata": {name: name}}
    body = json.dumps(fields).encode()
    answer = await house.ask(
        head(
            content_type="application/json",
            content_length=len(body),
            x_request_id="FORGED",
            traceparent="00-FORGED-00",
        ),
        body,
    )
    assert answer.status == (200 if known else 404)
    assert all(value.isascii() and value.isprintable() for value in answer.headers.values())
    told = await house.told("request_id", answer.headers["x-request-id"])
    assert [line["event"] for line in told] == ["request"]
    for line in house.process.log.removesuffix("\n").split("\n"):
        assert line.isprintable()
        if "FORGED" in line:
            assert json.loads(line)["event"] == "request"


async def test_a_name_makes_no_line_for_people(
    process: Callable[..., Any], upstream: Callable[..., Any]
) -> None:
    """The lines that people read are as safe: one a request, and nothing that moves a cursor."""
    url = upstream(Upstream()).url
    config = CONFIG.format(url=url, max_body=MAX_BODY).replace("logs: json", "logs: console")
    house = House(process(config), Upstream())
    for name in NAMES:
        body = json.dumps({"model": name, "messages": []}).encode()
        shape = head(content_type="application/json", content_length=len(body))
        assert (await house.ask(shape, body)).status == 404

    def forged() -> list[str]:
        return [line for line in house.process.log.split("\n") if "FORGED" in line]

    await until(lambda: len(forged()) >= len(NAMES))
    assert len(forged()) == len(NAMES)
    for line in forged():
        assert line.isprintable()
        assert "request" in line.partition("FORGED")[0]


async def test_names_do_not_multiply_the_metrics(house: House) -> None:
    """Hundreds of model names, known by a pattern and unknown, make no series of their own."""

    async def series() -> int:
        return len((await house.ask(head("/metrics", "GET"))).body.splitlines())

    async def ask(name: str) -> int:
        body = json.dumps({"model": name, "messages": []}).encode()
        told = head(content_type="application/json", content_length=len(body))
        return (await house.ask(told, body)).status

    assert (await ask("any-first"), await ask("first")) == (200, 404)
    before = await series()
    for number in range(150):
        assert await ask(f"any-{number}") == 200
        assert await ask(f"../../{number}") == 404
    assert await series() == before
