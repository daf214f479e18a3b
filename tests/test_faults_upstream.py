"""However an upstream breaks: what the client gets, what is told of it, and that nothing is left.

Both ends are sockets of ours. A row says what the upstream does once it has the request, step by
step, and what must come of it.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy_api import create_app
from proxy_api.testing import serving, settings_for
from proxy_logging.testing import captured

TLS = Path(__file__).parents[1] / "packages" / "proxy_core" / "tests" / "tls"
MB = 1_000_000
KERNEL = sum(int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2]) for way in "rw")
"""Bytes that may be on their way when the reader closes."""
BRIEF = {"connect": "300ms", "first_byte": "250ms", "between_events": "250ms", "total": "500ms"}
LIMIT = 1.0
"""Seconds in which a broken connection is let go."""


# --- What the upstream does. ---


class Times(NamedTuple):
    """The same bytes so often."""

    data: bytes
    often: int


FIN, RST = "FIN", "RST"
Steps = tuple[bytes | float | str | Times, ...]
"""Bytes are sent, numbers are pauses in seconds, FIN and RST end the connection."""


@dataclass
class Seen:
    """One request, as the upstream saw it."""

    head: bytes = b""
    sent: int = 0
    closed: bool = False
    """Whether its connection has ended since."""


class Stage:
    """Plays the steps of the row that a request's model names, once all of the request is here."""

    def __init__(self, scripts: dict[str, Steps]) -> None:
        self.scripts = scripts
        self.seen: dict[str, list[Seen]] = {name: [] for name in scripts}

    async def rudely(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The same as soon as the request has begun; the rest of it is never read."""
        await reader.readuntil(b"\r\n\r\n")
        named = re.search(rb'"model": ?"([^"]+)"', await reader.readexactly(1000))
        assert named is not None
        seen = Seen()
        self.seen[named[1].decode()].append(seen)
        await play(self.scripts[named[1].decode()], writer, seen)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        held: list[Seen] = []
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                assert length is not None
                name = json.loads(await reader.readexactly(int(length[1])))["model"]
                seen = Seen(head)
                held.append(seen)
                self.seen.setdefault(name, []).append(seen)
                steps = self.scripts[name] if name in self.scripts else cut(name)
                await play(steps, writer, seen)
                if FIN in steps:
                    await reader.read()
        finally:
            for seen in held:
                seen.closed = True


async def play(steps: Steps, writer: asyncio.StreamWriter, seen: Seen) -> None:
    for step in steps:
        if isinstance(step, float):
            await asyncio.sleep(step)
        elif step == FIN:
            with suppress(OSError):  # the other end may have been quicker
                writer.write_eof()
        elif step == RST:
            await asyncio.sleep(0.05)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        else:
            data, often = step if isinstance(step, Times) else (step, 1)
            assert isinstance(data, bytes)
            for _ in range(often):
                writer.write(data)
                seen.sent += len(data)
                await writer.drain()


# --- What it says. ---


def head(kind: str = "application/json", status: str = "200 OK", more: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n".encode() + more


class Whole(bytes):
    """All of an HTTP answer, whatever it says: its connection may be kept."""


def whole(
    body: bytes, kind: str = "application/json", status: str = "200 OK", more: bytes = b""
) -> Whole:
    framing = b"content-length: %d\r\n\r\n" % len(body)
    return Whole(head(kind, status, more) + framing + body)


def framed(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [choice]}
    told = json.dumps(chunk, ensure_ascii=False)
    return b"data: " + told.encode() + b"\n\n"


JSON = head() + b"content-length: 500\r\n\r\n"
UNTIL_CLOSED = head("text/event-stream") + b"\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
EVENTS = head("text/event-stream") + CHUNKED
LAST = b"0\r\n\r\n"
ROLE, WORD, STOP = event({"role": "assistant"}), event({"content": "wörld"}), event({}, "stop")
DONE = b"data: [DONE]\n\n"
BEGUN = framed(ROLE, WORD)
ANSWER = (
    '{"choices":[{"index":0,"message":{"content":"grün 世"},"finish_reason":"stop"}]}'
).encode()
ERROR = b'{"error":{"message":"boom","type":"server_error","code":null}}'
ERROR_EVENT = b"data: " + ERROR + b"\n\n"
GARBAGE = b"data: {not json at all\n\n"
BOMB = gzip.compress(bytes(20 * MB), 1)
PACKED = head(more=b"content-encoding: gzip\r\n" + CHUNKED)
METADATA = b"location: http://169.254.169.254/latest/meta-data/\r\n"
CUT = '{"choices":[{"index":0,"delta":{"content":"世'.encode()[:-1]


# --- The rows. ---


@dataclass(frozen=True)
class Row:
    """What an upstream does, and the status and the code that come of it."""

    steps: Steps
    status: int
    code: str
    modes: tuple[str, ...] = ("whole", "stream")
    waits: bool = False
    """Whether it may take until a time limit of the deployment has passed; then that is short."""
    sends: float = float("inf")
    """Bytes that the upstream may get rid of at most."""
    at: str = "up"
    """The provider."""


W, S = ("whole",), ("stream",)
MANY = MB * 100


def broke(*steps: Any, **more: Any) -> Row:
    return Row(steps, 502, "upstream_disconnected", **more)


def bad(*steps: Any, **more: Any) -> Row:
    return Row(steps, 502, "bad_upstream_response", **more)


def late(*steps: Any, **more: Any) -> Row:
    return Row(steps, 504, "upstream_timeout", waits=True, **more)


def unreachable(**more: Any) -> Row:
    return Row((), 503, "upstream_unreachable", **more)


ROWS = {
    "1 refuses": unreachable(at="refuses"),
    "1 has no address": unreachable(at="nowhere", waits=True),
    "2 never answers": late(),
    "2 accepts no connection": unreachable(at="full", waits=True),
    "3 never shakes hands": unreachable(at="mute", waits=True),
    "3 unknown certificate": unreachable(at="unknown"),
    "3 certificate for another name": unreachable(at="other"),
    "3 no TLS at all": unreachable(at="plain"),
    "4 resets before the head": broke(RST),
    "4 closes before the head": broke(FIN),
    "4 resets in the head": broke(b"HTTP/1.1 200 OK\r\ncontent-", RST),
    "4 closes in the head": broke(b"HTTP/1.1 200 OK\r\ncontent-", FIN),
    "5 resets after the head": broke(JSON, RST, modes=W),
    "5 resets in the body": broke(JSON, ANSWER[:20], RST, modes=W),
    "5 resets after the role": broke(EVENTS + framed(ROLE), RST, modes=S),
    "6 closes in the body": broke(JSON, ANSWER[:20], FIN, modes=W),
    "6 closes in a chunk": broke(head() + CHUNKED + b"ff\r\n" + ANSWER[:20], FIN, modes=W),
    "6 ends without a finish": broke(EVENTS + framed(ROLE) + LAST, modes=S),
    "6 is done without a finish": broke(EVENTS + framed(ROLE, DONE) + LAST, modes=S),
    "6 says nothing": broke(EVENTS + LAST, modes=S),
    "6 closes before an event": broke(UNTIL_CLOSED, FIN, modes=S),
    "7 stalls in the head": late(b"HTTP/1.1 200 OK\r\ncontent-"),
    "7 stalls after the head": late(EVENTS, modes=S),
    "7 stalls in the body": late(JSON, ANSWER[:20], modes=W),
    "7 stalls after the role": late(EVENTS + framed(ROLE), modes=S),
    "8 drips headers": late(b"HTTP/1.1 200 OK\r\n", *[b"x-a: b\r\n", 0.02] * 90),
    "8 drips a body": late(JSON, *[b" ", 0.02] * 100, modes=W),
    "8 drips no event": late(EVENTS, *[framed(b"d"), 0.02] * 100, modes=S),
    "8 drips comments": late(EVENTS, *[framed(b": hi\n\n"), 0.02] * 100, modes=S),
    "9 garbage first": bad(EVENTS + framed(ROLE, GARBAGE), modes=S),
    "9 garbage whole": bad(whole(b"{not json at all")),
    "10 not UTF-8": bad(whole(ANSWER.replace("世".encode(), b"\xff")), modes=W),
    "10 cut in a character": bad(whole(CUT), modes=W),
    "10 not UTF-8 in an event": bad(EVENTS + framed(WORD.replace(b"w", b"\xff")), modes=S),
    "10 UTF-16": bad(whole(ANSWER.decode().encode("utf-16"))),
    "11 endless headers": broke(
        b"HTTP/1.1 200 OK\r\n", Times(b"x-a: b\r\n" * 1000, 12_500), sends=KERNEL + MB
    ),
    "11 one endless header": broke(
        b"HTTP/1.1 200 OK\r\nx-a: ", Times(b"b" * MB, 100), sends=KERNEL + MB
    ),
    "11 endless chunk line": broke(
        EVENTS + b"1;", Times(b"x" * MB, 100), modes=S, sends=KERNEL + MB
    ),
    "11 endless trailers": broke(
        EVENTS + LAST[:-2], Times(b"x-a: b\r\n" * 1000, 12_500), modes=S, sends=KERNEL + MB
    ),
    "11 endless reason": broke(b"HTTP/1.1 200 ", Times(b"O" * MB, 100), sends=KERNEL + MB),
    "11 endless line": bad(
        UNTIL_CLOSED + b"data: ", Times(b"x" * MB, 100), modes=S, sends=KERNEL + 10 * MB
    ),
    "11 endless body": bad(
        head() + b'\r\n{"choices":["', Times(b"x" * MB, 100), modes=W, sends=KERNEL + 70 * MB
    ),
    "11 a body announced as huge": bad(
        head() + b"content-length: %d\r\n\r\n[" % MANY,
        Times(b"x" * MB, 100),
        modes=W,
        sends=KERNEL + 70 * MB,
    ),
    "12 HTML": bad(whole(b"<html>down</html>", "text/html")),
    "12 HTML as a stream": broke(EVENTS + framed(b"<html>down</html>") + LAST, modes=S),
    "12 HTML as JSON": bad(whole(b"<html>down</html>")),
    "12 XML": bad(whole(b"<x/>", "application/xml")),
    "12 an image": bad(whole(b"\x89PNG", "image/png")),
    "12 nothing": bad(whole(b"", status="204 No Content")),
    "13 error with 200": Row((whole(ERROR),), 502, "upstream_failed"),
    "13 error event first": Row((EVENTS + framed(ROLE, ERROR_EVENT),), 502, "upstream_failed", S),
    **{
        f"18 redirects by {status}": bad(whole(b"", status=f"{status} Moved", more=METADATA))
        for status in (301, 302, 303, 307, 308)
    },
    "19 gzip bomb": bad(PACKED, Times(framed(BOMB), 200), sends=KERNEL + MB),
    "19 gzip in layers": bad(whole(ANSWER, more=b"content-encoding: gzip, gzip\r\n")),
    "19 brotli": bad(whole(ANSWER, more=b"content-encoding: br\r\n")),
    "19 zstd": bad(whole(ANSWER, more=b"content-encoding: identity, zstd\r\n")),
    "100 for ever": broke(
        Times(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 4000), waits=True, sends=KERNEL + MB
    ),
    "101": broke(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    "two lengths": broke(head() + b"content-length: 5\r\n" + whole(ANSWER)[17:]),
    "length and chunked": broke(
        head() + b"content-length: 5\r\n" + CHUNKED + framed(ANSWER) + LAST
    ),
    "no such chunk size": broke(head() + CHUNKED + b"zz\r\n" + ANSWER, modes=W),
    "packed by the transfer": broke(
        head() + b"transfer-encoding: gzip, chunked\r\n\r\n" + framed(BOMB[:1000]) + LAST
    ),
    "another protocol": broke(b"SSH-2.0-OpenSSH_9.6\r\n", waits=True),
    "HTTP/2": broke(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
}
LATER: dict[str, Steps] = {
    "5 resets": (EVENTS + BEGUN, RST),
    "5 resets after more": (EVENTS + BEGUN + framed(WORD) * 20, RST),
    "5 resets in an event": (EVENTS + BEGUN + framed(WORD[:20]), RST),
    "6 ends": (EVENTS + BEGUN + LAST,),
    "6 closes": (EVENTS + BEGUN, FIN),
    "6 closes in a chunk": (EVENTS + BEGUN + b"ff\r\ndata", FIN),
    "6 is done": (EVENTS + BEGUN + framed(DONE) + LAST,),
    "6 closes without a length": (UNTIL_CLOSED + ROLE + WORD, FIN),
    "no such chunk size": (EVENTS + BEGUN + b"zz\r\n",),
    "7 stalls": (EVENTS + BEGUN,),
    "8 drips no event": (EVENTS + BEGUN, *(framed(b"d"), 0.02) * 100),
    "9 garbage": (EVENTS + BEGUN + framed(GARBAGE, STOP, DONE) + LAST,),
    "9 no object": (EVENTS + BEGUN + framed(b"data: [1]\n\n", STOP, DONE) + LAST,),
    "10 not UTF-8": (EVENTS + BEGUN + framed(WORD.replace(b"w", b"\xff"), STOP, DONE) + LAST,),
    "10 cut in a character": (EVENTS + BEGUN + framed(b"data: " + CUT + b"\n\n", STOP) + LAST,),
    "11 endless line": (UNTIL_CLOSED + ROLE + WORD + b"data: ", Times(b"x" * MB, 100)),
    "12 HTML": (EVENTS + BEGUN + framed(b"<html>down</html>\n\n"), FIN),
    "13 error": (EVENTS + BEGUN + framed(ERROR_EVENT, STOP, DONE) + LAST,),
}
"""Faults after content, when the 200 is spent."""
LATER_CODES = {
    "7": "upstream_timeout",
    "8": "upstream_timeout",
    "9": "bad_upstream_response",
    "10": "bad_upstream_response",
    "11": "bad_upstream_response",
    "13": "upstream_failed",
}
"""By the row's number; the others are upstream_disconnected."""


# --- The house. ---


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def answered(reader: asyncio.StreamReader) -> Answer:
    """One answer, framed as it says. Raises IncompleteReadError if it isn't whole."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        assert headers["transfer-encoding"] == "chunked"
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
    return Answer(int(status.split()[1]), headers, body)


def request(model: str, *, stream: bool, padding: int = 0) -> bytes:
    told = {"model": model, "stream": stream, "messages": [], "padding": "x" * padding}
    body = json.dumps(told).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer k\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )


class House:
    """A gateway, the upstreams behind it, and all that can be seen of them."""

    def __init__(self, app: Any, url: str, stage: Stage) -> None:
        self.app = app
        self.port = int(url.rpartition(":")[2])
        self.stage = stage

    async def ask(self, model: str, *, stream: bool, padding: int = 0) -> Answer:
        """One request on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request(model, stream=stream, padding=padding))
        try:
            async with asyncio.timeout(20):
                return await answered(reader)
        finally:
            writer.close()

    def check_nothing_is_left(self) -> None:
        gateway = self.app.gateway
        assert gateway.in_flight == 0
        assert gateway.snapshot.limiter.reservations_open == 0
        assert gateway.snapshot.limiter.slots_in_use == 0
        assert {each.permits_out for each in gateway.runtime.breakers.values()} == {0}
        assert {each.held_bytes for each in gateway.runtime.providers.values()} == {0}

    def breaker(self, model: str) -> str:
        """Its state. One failure opens it, and nothing else does."""
        breakers = self.app.gateway.runtime.breakers.values()
        return next(str(each.state) for each in breakers if each.name.endswith(f"/{model}"))

    def metrics(self) -> list[str]:
        return str(self.app.gateway.metrics.render()[0].decode()).splitlines()


def samples(metrics: list[str], name: str, *labels: str) -> list[float]:
    """The values of a metric whose labels hold all of these."""
    return [
        float(line.rpartition(" ")[2])
        for line in metrics
        if line.startswith(f"llm_proxy_{name}") and all(each in line for each in labels)
    ]


async def until(happened: Callable[[], bool], seconds: float = LIMIT) -> None:
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.002)


def model_of(*words: str) -> str:
    """The row's own model, and so its own deployment and breaker."""
    return "-".join(words).replace(" ", "-")


CASES = [(name, mode) for name, row in ROWS.items() for mode in row.modes]
STREAM = EVENTS + framed(b": hello\n\n", ROLE) + framed(WORD + WORD, STOP + DONE) + LAST
TEXT = b": hello\n\n" + ROLE + WORD + WORD + STOP + DONE
"""What the client gets of it."""
ODD: dict[str, tuple[Steps, bytes]] = {
    "100 before": ((b"HTTP/1.1 100 Continue\r\n\r\n" + whole(ANSWER),), ANSWER),
    "100 long before": ((b"HTTP/1.1 100 Continue\r\n\r\n", 0.05, STREAM), TEXT),
    "103 before": ((b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 3, STREAM), TEXT),
    "no reason": ((b"HTTP/1.1 200\r\n" + whole(ANSWER)[17:],), ANSWER),
    "no type": ((b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(ANSWER), ANSWER), ANSWER),
    "HTTP/1.0": ((b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER, FIN), ANSWER),
    "ends with its connection": ((UNTIL_CLOSED + TEXT, FIN), TEXT),
    "ends without a blank line": ((UNTIL_CLOSED + TEXT[:-2], FIN), TEXT),
    "is done without an end": ((EVENTS + framed(TEXT),), TEXT),
    "chunks with extensions": ((EVENTS + b"%x;a=b\r\n%s\r\n" % (len(TEXT), TEXT) + LAST,), TEXT),
    "trailers": ((EVENTS + framed(TEXT) + b"0\r\nx-a: b\r\n\r\n",), TEXT),
    "closes politely": ((whole(ANSWER, more=b"connection: close\r\n"), FIN), ANSWER),
    "closes at once": ((whole(ANSWER), FIN), ANSWER),
    "says more than it should": ((Whole(whole(ANSWER) + whole(b"{}")),), ANSWER),
    "one event in pieces": (
        (EVENTS, *(framed(TEXT[i : i + 7]) for i in range(0, len(TEXT), 7))),
        TEXT,
    ),
    "drips": (tuple(bytes([byte]) for byte in STREAM), TEXT),
}
"""What is unusual, and right."""
HEADERS = (
    b"set-cookie: a=b\r\nx-llm-proxy-cost: 9\r\nx-request-id: req_theirs\r\nserver: x\r\n"
    b"x-odd: \xff\xfe\r\naccess-control-allow-origin: *\r\nretry-after: 7\r\n"
)
HOSTILE = json.dumps(
    {"error": {"message": "a\r\nx-b: c", "code": "d\r\nx-e: f", "param": "g\n{}", "type": "\0"}}
).encode()
TOO_BIG = whole(b'{"error":{"message":"too big","code":"too_big"}}', status="413 Content Too Large")
SCRIPTS: dict[str, Steps] = {
    **{model_of(name, mode): ROWS[name].steps for name, mode in CASES},
    **{model_of("later", name): steps for name, steps in LATER.items()},
    **{model_of(name): steps for name, (steps, _) in ODD.items()},
    "whole": (whole(ANSWER),),
    "dripping": tuple(part for byte in STREAM for part in (bytes([byte]), 0.002)),
    "then-good": (RST,),
    **{f"refused-{number}": (whole(ANSWER),) for number in range(5)},
    "m-refused": (),
    "m-reset": (RST,),
    "m-silent": (),
    "m-garbage": (whole(b"{not json"),),
    "m-later": LATER["6 closes"],
    "headers": (whole(ANSWER, more=HEADERS),),
    "hostile": (whole(HOSTILE, status="400 Bad\tRequest"),),
    "slams": (RST,),
    "slams-later": (0.1, RST),
    "answers-early": (TOO_BIG, 0.2, FIN, 0.2),
    "trusted": (whole(ANSWER),),
}
SHORT = {model_of(name, mode) for name, mode in CASES if ROWS[name].waits}
CHAOS = {
    f"chaos-{model}": model
    for model in (*(model_of(name, mode) for name, mode in CASES), *map(model_of, ODD))
    if "-body-" not in model
} | {model_of("chaos-later", name): model_of("later", name) for name in LATER}
"""The same once more, for all at once: a row's own deployment is asked but once."""
SCRIPTS |= {chaos: SCRIPTS[model] for chaos, model in CHAOS.items()}
RUDE = ("slams", "slams-later", "answers-early")
SHORT |= {"m-silent", "later-7-stalls", "later-8-drips-no-event"}


def cut(name: str) -> Steps:
    """``cut-stream-7-90`` is the stream in three parts, each long after the other."""
    _, kind, *places = name.split("-")
    raw = STREAM if kind == "stream" else whole(ANSWER)
    bounds = [0, *map(int, places), len(raw)]
    steps: list[bytes | float] = []
    for begin, end in pairwise(bounds):
        steps += (raw[begin:end], 0.005)
    return tuple(steps)


@contextmanager
def full() -> Iterator[int]:
    """A port whose queue of connections is full: who connects hangs."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as other:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (one, other):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


class Ears:
    """An upstream that keeps what it is told, and says one thing or nothing."""

    def __init__(self, says: bytes = b"") -> None:
        self.heard: list[bytearray] = []
        self._says = says

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        self.heard.append(heard)
        while part := await reader.read(65536):
            heard += part
            writer.write(self._says)


@pytest.fixture(scope="module")
def ears() -> dict[str, Ears]:
    """The upstreams of row 3; those with certificates hear what comes behind the handshake."""
    plain = Ears(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    return {"mute": Ears(), "plain": plain, "unknown": Ears(), "other": Ears()}


@pytest.fixture(scope="module")
def house(ears: dict[str, Ears], lasting_upstream: Callable[..., Any]) -> Iterator[House]:
    stage = Stage(SCRIPTS)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "localhost.pem")
    authority = {"ca": str(TLS / "authority.pem")}
    with socket.socket() as closed, full() as full_port, ExitStack() as stack:
        closed.bind(("127.0.0.1", 0))
        up, trusted = lasting_upstream(stage).port, lasting_upstream(stage, ssl=context).port
        rude = lasting_upstream(stage.rudely).port
        mute, plain = lasting_upstream(ears["mute"]).port, lasting_upstream(ears["plain"]).port
        unknown = lasting_upstream(ears["unknown"], ssl=context).port
        other = lasting_upstream(ears["other"], ssl=context, host="127.0.0.2").port
        urls: dict[str, dict[str, str]] = {
            "up": {"base_url": f"http://127.0.0.1:{up}/v1"},
            "rude": {"base_url": f"http://127.0.0.1:{rude}/v1"},
            "trusted": {"base_url": f"https://localhost:{trusted}/v1", **authority},
            "refuses": {"base_url": f"http://127.0.0.1:{closed.getsockname()[1]}/v1"},
            "nowhere": {"base_url": "http://nowhere.invalid/v1"},
            "full": {"base_url": f"http://127.0.0.1:{full_port}/v1"},
            "mute": {"base_url": f"https://127.0.0.1:{mute}/v1"},
            "plain": {"base_url": f"https://127.0.0.1:{plain}/v1"},
            "unknown": {"base_url": f"https://localhost:{unknown}/v1"},
            "other": {"base_url": f"https://127.0.0.2:{other}/v1", **authority},
        }
        where = {model_of(name, mode): ROWS[name].at for name, mode in CASES}
        where |= {"trusted": "trusted", "m-refused": "refuses"} | dict.fromkeys(RUDE, "rude")
        where |= {f"refused-{number}": "refuses" for number in range(5)}
        where |= {chaos: where.get(model, "up") for chaos, model in CHAOS.items()}
        short = SHORT | {chaos for chaos, model in CHAOS.items() if model in SHORT}
        models: list[dict[str, Any]] = [
            {"name": name, "target": f"{where.get(name, 'up')}/{name}"}
            | ({"timeouts": BRIEF} if name in short else {})
            for name in SCRIPTS
        ]
        models += [
            {"name": name, "target": "up/whole", "order": 2}
            for name in ("then-good", *(f"refused-{number}" for number in range(5)))
        ]
        settings = settings_for(
            "http://127.0.0.1:9/v1",
            providers={name: {"kind": "openai_compatible", **url} for name, url in urls.items()},
            models=[*models, {"name": "cut-*", "target": "up/cut-*"}],
            keys=[{"name": "k", "key": "k", "limits": {"tokens": "1000000000/minute"}}],
            routing={"breaker": {"failures": 1, "open_for": "60s"}},
        )
        app = create_app(settings=settings)
        url = stack.enter_context(serving(app))
        yield House(app, url, stage)


async def after(
    house: House, model: str, lines: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was told of the one request, and of its failed attempts; nothing of it may be left."""

    def told() -> list[dict[str, Any]]:
        return [each for each in lines if (each["event"], each.get("model")) == ("request", model)]

    await until(lambda: bool(told()))
    await until(lambda: house.app.gateway.in_flight == 0)
    house.check_nothing_is_left()
    assert [line["route"] for line in told()] == [model]
    own = [line for line in lines if line.get("request_id") == told()[0]["request_id"]]
    assert {line["event"] for line in own} <= {"request", "attempt_failed"}
    return told()[0], [line for line in own if line["event"] == "attempt_failed"]


def check_error(body: bytes, code: str) -> None:
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code, error


def times_asked(at: str, steps: Steps) -> tuple[int, ...]:
    """Once; and once more where a kept connection seems to have been dead already."""
    if at != "up":
        return (0,)
    return (1, 2) if steps and steps[0] in (FIN, RST) else (1,)


def is_whole(steps: Steps) -> bool:
    """Whether they end with the end of an HTTP answer."""
    end = steps[-1] if steps else b""
    return isinstance(end, bytes) and (isinstance(end, Whole) or end.endswith(LAST))


def check_heard(at: str, heard: list[bytearray]) -> None:
    """Nothing was ever said in the clear, nor to who has no good certificate."""
    if at in ("mute", "plain"):
        assert heard
        assert all(each.startswith(b"\x16\x03") and b"HTTP" not in each for each in heard)
    else:
        assert heard == []


@pytest.mark.parametrize(("name", "mode"), CASES, ids=[f"{name}-{mode}" for name, mode in CASES])
async def test_a_fault_before_content_is_told(
    house: House, ears: dict[str, Ears], name: str, mode: str
) -> None:
    """A status and a code, one record, a breaker that counts it, and nothing kept of it."""
    row, model = ROWS[name], model_of(name, mode)
    began = time.monotonic()
    with captured() as lines:
        answer = await house.ask(model, stream=mode == "stream")
        took = time.monotonic() - began
        told, failed = await after(house, model, lines)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (row.status, row.code)
    check_error(answer.body, row.code)
    assert took < 5
    assert ("retry-after" in answer.headers) == (row.status == 503)
    assert (told["status"], told["outcome"], told["error"]) == (row.status, "failed", row.code)
    assert [line["reason"] for line in failed] == [row.code]
    assert house.breaker(model) == "open"
    seen = house.stage.seen[model]
    assert len(seen) in times_asked(row.at, row.steps)
    assert all(each.sent <= row.sends for each in seen)
    if row.at in ears:
        check_heard(row.at, ears[row.at].heard)
    if not is_whole(row.steps):
        await until(lambda: all(each.closed for each in seen))


@pytest.mark.parametrize("name", list(LATER))
async def test_a_fault_after_content_is_told_in_the_stream(house: House, name: str) -> None:
    """The events that came, one error, no clean end; the text is charged, the failure counted."""
    model = model_of("later", name)
    code = LATER_CODES.get(name.partition(" ")[0], "upstream_disconnected")
    with captured() as lines:
        answer = await house.ask(model, stream=True)
        told, _ = await after(house, model, lines)
    assert answer.status == 200
    *events, last = [part + b"\n\n" for part in answer.body.split(b"\n\n")[:-1]]
    assert events[:2] == [ROLE, WORD]
    assert set(events[2:]) <= {WORD}
    check_error(last.removeprefix(b"data: "), code)
    assert answer.body.decode()
    assert (told["status"], told["outcome"], told["error"]) == (200, "failed", code)
    assert told["usage_estimated"]
    assert told["output_tokens"] >= len(events) - 1
    assert house.breaker(model) == "open"
    seen = house.stage.seen[model]
    assert len(seen) == 1
    if not is_whole(LATER[name]):
        await until(lambda: all(each.closed for each in seen))


async def test_with_good_tls_it_is_answered(house: House) -> None:
    """The same certificate is good for its own name, to who trusts its authority."""
    answer = await house.ask("trusted", stream=False)
    assert (answer.status, answer.body) == (200, ANSWER)


# --- Another deployment. ---


async def test_both_attempts_are_in_the_record(house: House) -> None:
    """After a reset one other deployment is asked, once; lines and metrics tell of both."""
    with captured() as lines:
        answer = await house.ask("then-good", stream=False)
        told, failed = await after(house, "then-good", lines)
    assert (answer.status, answer.body) == (200, ANSWER)
    assert [(each["deployment"], each["reason"]) for each in failed] == [
        ("up/then-good", "upstream_disconnected")
    ]
    assert failed[0]["request_id"] == told["request_id"] == answer.headers["x-request-id"]
    assert (told["deployment"], told["attempts"], told["outcome"]) == ("up/whole", 2, "ok")
    assert len(house.stage.seen["then-good"]) in times_asked("up", (RST,))
    failures = samples(house.metrics(), "attempt_failures_total", 'deployment="up/then-good"')
    assert failures == [1.0]
    assert (house.breaker("then-good"), house.breaker("whole")) == ("open", "closed")


async def test_a_refusal_costs_less_than_100_ms(house: House) -> None:
    """Where nobody listens another deployment answers at once: the best of five tries counts."""
    took = []
    for number in range(5):
        began = time.monotonic()
        answer = await house.ask(f"refused-{number}", stream=False)
        took.append(time.monotonic() - began)
        assert (answer.body, answer.headers["x-llm-proxy-attempts"]) == (ANSWER, "2")
    assert min(took) < 0.1, took


async def test_the_metrics_tell_the_same(house: House) -> None:
    """Each failed request and each failed attempt counts once, by its code; none is in flight."""
    codes = {
        "m-refused": "upstream_unreachable",
        "m-reset": "upstream_disconnected",
        "m-silent": "upstream_timeout",
        "m-garbage": "bad_upstream_response",
        "m-later": "upstream_disconnected",
    }
    statuses = {}
    for model in codes:
        with captured() as lines:
            statuses[model] = (await house.ask(model, stream=model == "m-later")).status
            await after(house, model, lines)
    told = house.metrics()
    for model, code in codes.items():
        route, status = f'route="{model}"', f'status="{statuses[model]}"'
        assert samples(told, "requests_total", route) == [1.0]
        assert samples(told, "requests_total", route, status, 'outcome="failed"') == [1.0]
        failures = f'/{model}"', f'reason="{code}"'
        assert samples(told, "attempt_failures_total", *failures) == [1.0]
    assert samples(told, "in_flight_requests") == [0.0]


# --- What is odd, and right. ---


@pytest.mark.parametrize("name", list(ODD))
async def test_what_is_odd_and_right_passes(house: House, name: str) -> None:
    """An unusual answer is an answer, to the byte; the next request is not harmed by it."""
    model, (_, wanted) = model_of(name), ODD[name]
    for _ in range(2):
        answer = await house.ask(model, stream=wanted == TEXT)
        assert (answer.status, answer.body) == (200, wanted)
    await until(lambda: house.app.gateway.in_flight == 0)
    house.check_nothing_is_left()
    assert house.breaker(model) == "closed"
    assert len(house.stage.seen[model]) == 2


async def ask_cut(house: House, names: list[str]) -> None:
    """Ask for these, 32 at a time; each gives what was meant."""
    free = asyncio.Semaphore(32)

    async def check(name: str) -> None:
        stream = "stream" in name
        async with free:
            answer = await house.ask(name, stream=stream)
        assert (answer.status, answer.body) == (200, TEXT if stream else ANSWER), name

    await asyncio.gather(*map(check, names))


async def test_where_an_answer_is_cut_does_not_matter(house: House) -> None:
    """Split at every position, head and framing included, it gives the client the same bytes."""
    stream = [f"cut-stream-{place}" for place in range(1, len(STREAM))]
    await ask_cut(house, stream + [f"cut-whole-{place}" for place in range(1, len(whole(ANSWER)))])


async def test_cut_in_many_places_it_is_the_same(house: House) -> None:
    """The same in any number of pieces."""
    rng = random.Random(5)
    names = []
    for _ in range(100):
        places = sorted(rng.sample(range(1, len(STREAM)), rng.randrange(2, 12)))
        names.append("-".join(["cut-stream", *map(str, places)]))
    await ask_cut(house, names)


async def test_a_drip_holds_up_nobody(house: House) -> None:
    """While a stream comes byte by byte, others are answered as quickly as ever."""
    began = asyncio.create_task(house.ask("dripping", stream=True))
    took = []
    while not began.done():
        since = time.monotonic()
        assert (await house.ask("whole", stream=False)).body == ANSWER
        took.append(time.monotonic() - since)
    assert (await began).body == TEXT
    assert len(took) >= 20
    assert sorted(took)[len(took) // 2] < 0.1, took


# --- All at once. ---


async def leave_early(house: House, model: str, seconds: float) -> None:
    """Ask, and leave after so long, whatever has come by then."""
    _, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(request(model, stream=not model.endswith("-whole")))
    await asyncio.sleep(seconds)
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_all_faults_at_once_leave_nothing(house: House) -> None:
    """Every row at the same time, half of their clients leaving: each has one record, no rest."""
    rng = random.Random(7)
    models = rng.sample(list(CHAOS), len(CHAOS))
    free = asyncio.Semaphore(24)

    async def ask(model: str) -> None:
        async with free:
            if rng.random() < 0.5:
                await leave_early(house, model, rng.choice((0.0, 0.001, 0.01, 0.1, 0.3)))
            else:
                answer = await house.ask(model, stream=not model.endswith("-whole"))
                assert answer.status in (200, 502, 503, 504)

    with captured() as lines:
        await asyncio.gather(*map(ask, models))
        await until(lambda: house.app.gateway.in_flight == 0)
        told = [line for line in lines if line["event"] == "request"]
    house.check_nothing_is_left()
    named = [line.get("model") for line in told]
    assert len(named) == len(set(named))
    assert {line["outcome"] for line in told} == {"ok", "failed", "gone"}
    assert not [line for line in lines if line["level"] == "error"]
    odd = {model_of("chaos", name) for name in ODD}
    asked = {name: seen for name, seen in house.stage.seen.items() if name in CHAOS}
    broken = [
        each
        for name, seen in asked.items()
        if name not in odd and not is_whole(SCRIPTS[name])
        for each in seen
    ]
    assert len(broken) > 30
    await until(lambda: all(each.closed for each in broken))
    assert (await house.ask("whole", stream=False)).body == ANSWER


# --- As we send. ---


@pytest.mark.parametrize("model", ["slams", "slams-later"])
async def test_an_upstream_may_close_as_we_send(house: House, model: str) -> None:
    """One that resets in the middle of a large request is a failure like any other."""
    with captured() as lines:
        answer = await house.ask(model, stream=False, padding=4 * MB)
        told, _ = await after(house, model, lines)
    assert answer.status == 502
    check_error(answer.body, "upstream_disconnected")
    assert told["outcome"] == "failed"
    assert house.breaker(model) == "open"


async def test_an_answer_before_the_end_of_the_request_counts(house: House) -> None:
    """An upstream that refuses a request after its first bytes is heard, and no breaker minds."""
    answer = await house.ask("answers-early", stream=False, padding=4 * MB)
    assert answer.status == 413
    check_error(answer.body, "too_big")
    assert house.breaker("answers-early") == "closed"


# --- Nothing is injected. ---

OURS = {"content-type", "content-length", "date", "server", "x-request-id", "connection"}


async def test_an_upstreams_headers_stay_where_they_are(house: House) -> None:
    """No header of an answer is the upstream's own: no cookie, no id, no price."""
    answer = await house.ask("headers", stream=False)
    assert (answer.status, answer.body) == (200, ANSWER)
    extra = set(answer.headers) - OURS
    assert extra <= {f"x-llm-proxy-{name}" for name in ("deployment", "attempts", "overhead-ms")}
    assert answer.headers["x-request-id"] != "req_theirs"
    assert answer.headers.get("server") != "x"


async def test_an_upstreams_error_injects_nothing(house: House) -> None:
    """Line breaks in its message, code and param are JSON in the body, and nothing elsewhere."""
    with captured() as lines:
        answer = await house.ask("hostile", stream=False)
        await after(house, "hostile", lines)
    assert answer.status == 400
    check_error(answer.body, "d\r\nx-e: f")
    assert not {"x-b", "x-e"} & set(answer.headers)
