"""What goes wrong on a wire, and what the client makes of it: sockets that are closed, reset, slow.

The servers here are protocols that see each byte, and tell when it comes.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
import random
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from proxy_core import HttpClient, HttpRequest, PoolLimits, Timeouts, _resolver
from proxy_core._http1._connection import Connection
from proxy_core._http1._dial import Dialer
from proxy_core.errors import (
    ConnectFailed,
    PoolExhausted,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamTimeout,
)

TLS = Path(__file__).with_name("tls")
TRUSTED = ssl.create_default_context(cafile=str(TLS / "authority.pem"))
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"2\r\nhi\r\n"
LAST = b"0\r\n\r\n"


class Wire:
    """One accepted connection, read and written by a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: its head, and its body by the length. Raises IncompleteReadError."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        sizes = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        return head, await self.reader.readexactly(int(sizes[0].split(b":")[1]) if sizes else 0)

    async def say(self, *words: bytes | float) -> None:
        """Write bytes, and wait for so many seconds where a number stands."""
        for word in words:
            if isinstance(word, bytes):
                self.writer.write(word)
                await self.writer.drain()
            else:
                await asyncio.sleep(word)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Play = Callable[[Wire, int], Awaitable[None]]


class Upstream:
    """Plays a function with each connection and its number, from 0; what is left open is closed."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.connections = 0
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/x"

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._serve(Wire(reader, writer), self.connections - 1))
        self.tasks.add(task)

    async def _serve(self, wire: Wire, number: int) -> None:
        try:
            await self._play(wire, number)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        except RuntimeError as error:  # uvloop's word for a transport that is closed
            if "closed" not in str(error):
                raise
        finally:
            wire.close()


class World:
    """Starts scripted servers and clients on one loop, and closes them."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def upstream(self, play: Play, **options: Any) -> Upstream:
        server = Upstream(play)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, **options)
        self._stack.callback(listener.close)
        server.port = listener.sockets[0].getsockname()[1]
        return server

    def client(self, limits: PoolLimits | None = None, **options: Any) -> HttpClient:
        made = HttpClient(limits or PoolLimits(), **(options or {"tls": TRUSTED}))
        self._stack.push_async_callback(self._close, made)
        return made

    async def _close(self, client: HttpClient) -> None:
        await client.aclose()
        assert client.open_responses == 0
        assert client.held_bytes == 0

    async def aclose(self) -> None:
        await self._stack.aclose()
        # Servers' tasks see their connections end.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop"):
    LOOPS["uvloop"] = importlib.import_module("uvloop").new_event_loop
Scenario = Callable[..., Coroutine[Any, Any, None]]


def on_each_loop(scenario: Scenario) -> Callable[..., None]:
    """Run a scenario, which is given a world, on asyncio's own loop and on uvloop if it is there.

    No socket may be left over.
    """

    @pytest.mark.parametrize("loop", LOOPS)
    @functools.wraps(scenario)
    def run(loop: str, **arguments: Any) -> None:
        async def play() -> None:
            world = World()
            before = sockets()
            try:
                await asyncio.wait_for(scenario(world, **arguments), 60)
            finally:
                await world.aclose()
            for _ in range(1000):
                if sockets() <= before:
                    break
                await asyncio.sleep(0.001)
            assert sockets() <= before

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(play())

    given = list(inspect.signature(scenario).parameters.values())[1:]
    own = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    given = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in given]
    ready: Callable[..., None] = run
    ready.__signature__ = inspect.Signature([*given, own])  # type: ignore[attr-defined]
    return ready


def sockets() -> int:
    """How many are open in this process."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += descriptor.readlink().name.startswith("socket:")
    return found


def serves(*words: bytes | float) -> Play:
    """Answers each request with the same words."""

    async def play(wire: Wire, number: int) -> None:
        while True:
            await wire.request()
            await wire.say(*words)

    return play


def certified() -> ssl.SSLContext:
    """What a server for localhost needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost.pem")
    return context


def post(url: str, body: bytes = b"{}", *headers: tuple[bytes, bytes]) -> HttpRequest:
    return HttpRequest("POST", url, list(headers), body)


async def ask(client: HttpClient, url: str, body: bytes = b"{}", /, **limits: float) -> bytes:
    async with client.send(post(url, body), timeouts=Timeouts(**limits)) as response:
        return await response.read()


# A kept connection that turns out dead


def dies(after: Callable[[Wire], Awaitable[None]]) -> Play:
    """The first connection answers once and then does ``after`` with the second request."""

    async def play(wire: Wire, number: int) -> None:
        await wire.request()
        await wire.say(OK)
        if number == 0:
            await after(wire)
        else:
            await serves(OK)(wire, number)

    return play


async def closes_at_once(wire: Wire) -> None:
    wire.close()


async def resets_at_once(wire: Wire) -> None:
    wire.reset()


async def closes_after_reading(wire: Wire) -> None:
    await wire.request()
    wire.close()


async def resets_after_reading(wire: Wire) -> None:
    await wire.request()
    wire.reset()


async def closes_in_the_request(wire: Wire) -> None:
    await wire.reader.readexactly(10)
    wire.close()


DEATHS = [
    closes_at_once,
    resets_at_once,
    closes_after_reading,
    resets_after_reading,
    closes_in_the_request,
]


@pytest.mark.parametrize("pause", [0.0, 0.02], ids=["at once", "later"])
@pytest.mark.parametrize("size", [2, 3_000_000], ids=["small", "large"])
@pytest.mark.parametrize("death", DEATHS)
@on_each_loop
async def test_a_dead_kept_connection_is_replaced(
    world: World, death: Callable[[Wire], Awaitable[None]], size: int, pause: float
) -> None:
    """It closed before, while or after we sent, and not a byte of an answer came: asked anew."""
    server = await world.upstream(dies(death))
    client = world.client()
    assert await ask(client, server.url) == b"hello"
    await asyncio.sleep(pause)
    assert await ask(client, server.url, b"x" * size) == b"hello"
    assert await ask(client, server.url) == b"hello"
    assert server.connections == 2


@pytest.mark.parametrize("words", [b"H", b"HTTP/1.1 200 OK\r\n", HEAD, HEAD + CHUNK])
@on_each_loop
async def test_an_answer_that_had_begun_is_not_asked_for_again(world: World, words: bytes) -> None:
    """One byte of it says that the request was read, and perhaps worked on."""

    async def begins(wire: Wire) -> None:
        await wire.request()
        await wire.say(words)
        wire.close()

    server = await world.upstream(dies(begins))
    client = world.client()
    await ask(client, server.url)
    with pytest.raises(UpstreamDisconnected):
        await ask(client, server.url)
    assert server.connections == 1


@on_each_loop
async def test_a_new_connection_that_dies_is_an_error(world: World) -> None:
    """There is no telling whether the request was worked on."""

    async def play(wire: Wire, number: int) -> None:
        await wire.request()

    server = await world.upstream(play)
    with pytest.raises(UpstreamDisconnected, match="without an answer"):
        await ask(world.client(), server.url)
    assert server.connections == 1


@on_each_loop
async def test_a_dead_connection_is_replaced_once(world: World) -> None:
    """The second one that dies is the upstream's failure."""

    async def play(wire: Wire, number: int) -> None:
        await wire.request()
        if number == 0:
            await wire.say(OK)
            await wire.request()

    server = await world.upstream(play)
    client = world.client()
    await ask(client, server.url)
    with pytest.raises(UpstreamDisconnected):
        await ask(client, server.url)
    assert server.connections == 2


@on_each_loop
async def test_a_connection_that_lived_for_long_was_not_dead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that breaks a second after it took the request may have been working on it."""
    monkeypatch.setattr(Connection, "tells_within", 0.05)

    async def works(wire: Wire) -> None:
        await wire.request()
        await asyncio.sleep(0.06)
        wire.close()

    server = await world.upstream(dies(works))
    client = world.client()
    await ask(client, server.url)
    with pytest.raises(UpstreamDisconnected):
        await ask(client, server.url)
    assert server.connections == 1


@on_each_loop
async def test_a_timeout_is_no_death(world: World) -> None:
    """A kept connection that is silent is not asked twice."""

    async def sleeps(wire: Wire) -> None:
        await wire.request()
        await asyncio.sleep(9)

    server = await world.upstream(dies(sleeps))
    client = world.client()
    await ask(client, server.url)
    with pytest.raises(UpstreamTimeout):
        await ask(client, server.url, first_byte=0.05)
    assert server.connections == 1


@on_each_loop
async def test_words_that_nobody_asked_for_end_an_idle_connection(world: World) -> None:
    """They would be taken for the answer to the next request."""

    async def babbles(wire: Wire) -> None:
        await wire.say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong")
        await wire.request()

    server = await world.upstream(dies(babbles))
    client = world.client()
    await ask(client, server.url)
    await asyncio.sleep(0.05)
    assert await ask(client, server.url) == b"hello"
    assert server.connections == 2


@pytest.mark.parametrize("more", [b"X", OK, b"\0"])
@on_each_loop
async def test_more_than_the_answer_ends_the_connection(world: World, more: bytes) -> None:
    """The answer is given as it is, and the next request gets none of the rest."""
    server = await world.upstream(serves(OK + more))
    client = world.client()
    for _ in range(3):
        assert await ask(client, server.url) == b"hello"
    assert server.connections == 3


# What answers may look like


@on_each_loop
async def test_interim_answers_are_skipped(world: World) -> None:
    """100 and 103 before the answer, in reads of their own."""
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    server = await world.upstream(serves(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, interim, 0.01, OK))
    client = world.client()
    for _ in range(2):
        async with client.send(post(server.url)) as response:
            assert (response.status, await response.read()) == (200, b"hello")
            assert response.header(b"link") == b""
    assert server.connections == 1


@on_each_loop
async def test_answers_without_bodies_keep_their_connection(world: World) -> None:
    """HEAD with a length, 204, 304 with a length."""

    async def play(wire: Wire, number: int) -> None:
        while True:
            head, _ = await wire.request()
            path = head.split(b" ")[1]
            await wire.say(
                {
                    b"/204": b"HTTP/1.1 204 No Content\r\n\r\n",
                    b"/304": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
                    b"/200": OK[:-5] if head.startswith(b"HEAD") else OK,
                }[path]
            )

    server = await world.upstream(play)
    client = world.client()
    url = f"http://127.0.0.1:{server.port}/"
    for method, path, body in [
        ("HEAD", "200", b""),
        ("GET", "200", b"hello"),
        ("GET", "204", b""),
        ("GET", "304", b""),
        ("HEAD", "200", b""),
        ("POST", "200", b"hello"),
    ]:
        async with client.send(HttpRequest(method, url + path, [])) as response:
            assert (response.status, await response.read()) == (int(path), body)
    assert server.connections == 1


@on_each_loop
async def test_a_body_may_end_with_its_connection(world: World) -> None:
    """Where neither a length nor chunks tell its end."""

    async def play(wire: Wire, number: int) -> None:
        await wire.request()
        await wire.say(b"HTTP/1.0 200 OK\r\n\r\nhel", 0.01, b"lo")

    server = await world.upstream(play)
    client = world.client()
    for _ in range(2):
        assert await ask(client, server.url) == b"hello"
    assert server.connections == 2


@on_each_loop
async def test_a_reset_is_not_the_end_of_a_body(world: World) -> None:
    """Even where the end of the connection would be."""

    async def play(wire: Wire, number: int) -> None:
        await wire.request()
        await wire.say(b"HTTP/1.0 200 OK\r\n\r\nhel", 0.05)
        wire.reset()

    server = await world.upstream(play)
    with pytest.raises(UpstreamDisconnected):
        await ask(world.client(), server.url)


@on_each_loop
async def test_an_upstream_that_closes_is_not_asked_again_on_the_same(world: World) -> None:
    """`connection: close` is believed before the connection ends."""
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"
    server = await world.upstream(serves(closing))
    client = world.client()
    for _ in range(2):
        assert await ask(client, server.url) == b"hello"
    assert server.connections == 2


@on_each_loop
async def test_what_came_together_is_given_together(world: World) -> None:
    """Chunks that were read while our reader was away are one."""
    server = await world.upstream(serves(HEAD, CHUNK, 0.01, CHUNK, 0.01, CHUNK + LAST))
    async with world.client().send(post(server.url)) as response:
        await asyncio.sleep(0.1)
        assert [part async for part in response.body] == [b"hihihi"]


@on_each_loop
async def test_a_block_left_early_keeps_the_connection_if_all_has_come(world: World) -> None:
    """Nothing has to be thrown away then; otherwise the connection is closed."""
    server = await world.upstream(serves(OK))
    client = world.client()
    for _ in range(3):
        async with client.send(post(server.url)) as response:
            await asyncio.sleep(0.02)
            assert response.status == 200
    assert server.connections == 1


@on_each_loop
async def test_a_body_is_read_by_one(world: World) -> None:
    """Two readers at once would each get half of it."""
    server = await world.upstream(serves(HEAD, 0.1, CHUNK + LAST))
    async with world.client().send(post(server.url)) as response:
        first = asyncio.ensure_future(anext(response.body))
        await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError, match="already being read"):
            await anext(response.body)
        assert await first == b"hi"


# Requests


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 5_000_000])
@on_each_loop
async def test_bodies_of_any_size_arrive(world: World, size: int) -> None:
    """Over plain TCP and TLS, to a slow reader too."""
    bodies = []

    async def play(wire: Wire, number: int) -> None:
        while True:
            bodies.append((await wire.request())[1])
            await wire.say(OK)

    body = random.Random(size).randbytes(size)
    context = certified()
    plain, tls = await world.upstream(play), await world.upstream(play, ssl=context)
    client = world.client()
    for url in (plain.url, f"https://localhost:{tls.port}/"):
        for _ in range(2):
            assert await ask(client, url, body) == b"hello"
    assert bodies == [body] * 4
    assert (plain.connections, tls.connections) == (1, 1)


@on_each_loop
async def test_an_upload_has_time_as_long_as_it_goes_on(world: World) -> None:
    """The first byte is awaited from when the request was sent; a stuck upload times out."""

    async def slow(wire: Wire, number: int) -> None:
        for _ in range(6):
            await asyncio.sleep(0.05)
            await wire.reader.readexactly(2_000_000)
        await wire.say(OK)

    async def stuck(wire: Wire, number: int) -> None:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(9)

    client = world.client()
    server = await world.upstream(slow)
    assert await ask(client, server.url, b"x" * 12_000_000, first_byte=0.2) == b"hello"
    server = await world.upstream(stuck)
    with pytest.raises(UpstreamTimeout) as caught:
        await ask(client, server.url, b"x" * 50_000_000, first_byte=0.1)
    assert caught.value.phase == "first_byte"


@on_each_loop
async def test_an_answer_before_the_end_of_the_request_counts(world: World) -> None:
    """A 413 comes while we still send; the rest is not sent, nor another request behind it."""

    async def play(wire: Wire, number: int) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        if number == 0:
            await wire.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
            await asyncio.sleep(9)
        await wire.say(OK)

    server = await world.upstream(play)
    client = world.client()
    async with client.send(post(server.url, b"x" * 20_000_000)) as response:
        assert (response.status, await response.read()) == (413, b"")
    assert await ask(client, server.url) == b"hello"
    assert server.connections == 2


REFUSED: list[tuple[str, list[tuple[bytes, bytes]]]] = [
    ("POST", [(b"a", b"sk-secret\r\nb: c")]),
    ("POST", [(b"a", b"sk-secret\nb: c")]),
    ("POST", [(b"a", b"sk-secret\r")]),
    ("POST", [(b"a", b"sk-secret\0")]),
    ("POST", [(b"a: sk-secret", b"b")]),
    ("POST", [(b"", b"sk-secret")]),
    ("POST", [(b"sk-secret\r\nb", b"c")]),
    ("POST", [(b"sk secret", b"c")]),
    ("POST", [(b"content-length", b"3")]),
    ("POST", [(b"Content-Length", b"2"), (b"content-length", b"2")]),
    ("POST", [(b"transfer-encoding", b"chunked")]),
    ("POST", [(b"host", b"a"), (b"Host", b"b")]),
    ("POST sk-secret", []),
    ("CONNECT", []),
    ("", []),
    ("G\u00cbT", []),
]


@pytest.mark.parametrize(("method", "headers"), REFUSED)
@on_each_loop
async def test_a_request_that_could_be_read_in_two_ways_is_not_sent(
    world: World, method: str, headers: list[tuple[bytes, bytes]]
) -> None:
    """Nor is anything of it quoted: headers hold keys."""
    server = await world.upstream(serves(OK))
    with pytest.raises(ConnectFailed, match="can't be sent") as caught:
        async with world.client().send(HttpRequest(method, server.url, headers, b"{}")):
            pass
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert server.connections == 0


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        ("http://h.example", b"/", b"h.example"),
        ("http://H.Example:80/a?b=c#d", b"/a?b=c", b"h.example"),
        ("http://h.example:8080?b", b"/?b", b"h.example:8080"),
        ("http://user:pass@h.example/a%2Fb", b"/a%2Fb", b"h.example"),
        ("http://h.example/ä", b"/%C3%A4", b"h.example"),
        ("http://bücher.example/", b"/", b"xn--bcher-kva.example"),
        ("http://[::1]:8080/", b"/", b"[::1]:8080"),
    ],
)
@on_each_loop
async def test_a_url_becomes_a_request_line(
    world: World, url: str, line: bytes, host: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path and query as they are, what is not ASCII encoded, no fragment, no password."""
    heads = []

    async def play(wire: Wire, number: int) -> None:
        heads.append((await wire.request())[0])
        await wire.say(OK)

    server = await world.upstream(play)
    open_connection = asyncio.get_running_loop().create_connection

    async def connect(self: object, address: str, target: Any, make: Any) -> Any:
        return (await open_connection(make, "127.0.0.1", server.port))[1]

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(_resolver, "looked_up", resolve)
    monkeypatch.setattr(Dialer, "_open", connect)
    await ask(world.client(), url)
    assert heads[0].split(b"\r\n")[0] == b"POST %b HTTP/1.1" % line
    assert b"\r\nhost: %b\r\n" % host in heads[0]


@on_each_loop
async def test_a_host_of_the_callers_is_the_one_that_is_sent(world: World) -> None:
    """Once, whatever the case of its name; so is what it accepts."""
    heads = []

    async def play(wire: Wire, number: int) -> None:
        heads.append((await wire.request())[0])
        await wire.say(OK)

    server = await world.upstream(play)
    headers = [(b"Host", b"other.example"), (b"Accept-Encoding", b"gzip")]
    async with world.client().send(HttpRequest("GET", server.url, headers)):
        pass
    lines = heads[0].lower().split(b"\r\n")[1:-2]
    assert lines == [b"host: other.example", b"accept-encoding: gzip"]


# The pool


@on_each_loop
async def test_who_waits_is_served_in_turn(world: World) -> None:
    """With one connection, ten requests come through it one after the other."""
    bodies = []

    async def play(wire: Wire, number: int) -> None:
        while True:
            bodies.append((await wire.request())[1])
            await wire.say(0.005, OK)

    server = await world.upstream(play)
    client = world.client(PoolLimits(connections=1))
    await asyncio.gather(*[ask(client, server.url, b"%d" % number) for number in range(10)])
    assert bodies == [b"%d" % number for number in range(10)]
    assert server.connections == 1


@on_each_loop
async def test_a_place_that_is_left_goes_to_who_waits(world: World) -> None:
    """Also when connections are not kept, and when opening one fails."""
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"
    server = await world.upstream(serves(0.005, closing))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        client = world.client(PoolLimits(connections=1))
        urls = [server.url, refused, server.url, refused, server.url]
        found = await asyncio.gather(*[ask(client, url) for url in urls], return_exceptions=True)
    assert [type(each) for each in found] == [bytes, ConnectFailed, bytes, ConnectFailed, bytes]


@on_each_loop
async def test_an_origin_and_a_queue_have_limits_of_their_own(world: World) -> None:
    """Another origin still gets a connection; who finds the queue full is shed at once."""
    slow, other = await world.upstream(serves(0.1, OK)), await world.upstream(serves(OK))
    client = world.client(PoolLimits(connections=3, connections_per_origin=1, waiting=1))
    first, second = (asyncio.ensure_future(ask(client, slow.url)) for _ in range(2))
    await asyncio.sleep(0.02)
    assert await ask(client, other.url) == b"hello"
    begun = time.monotonic()
    with pytest.raises(PoolExhausted, match="too many"):
        await ask(client, slow.url, pool=9)
    assert time.monotonic() - begun < 1
    assert [*await asyncio.gather(first, second)] == [b"hello"] * 2
    assert slow.connections == 1


@on_each_loop
async def test_idle_connections_are_closed_in_time(world: World) -> None:
    """The upstream sees the end, though nobody asks for anything any more."""
    ends: asyncio.Queue[float] = asyncio.Queue()

    async def play(wire: Wire, number: int) -> None:
        await wire.request()
        await wire.say(OK)
        assert await wire.reader.read() == b""
        ends.put_nowait(time.monotonic())

    server = await world.upstream(play)
    client = world.client(PoolLimits(keep_alive_for=0.1))
    await ask(client, server.url)
    kept_at = time.monotonic()
    assert 0.09 < await asyncio.wait_for(ends.get(), 2) - kept_at < 1


@on_each_loop
async def test_idle_connections_are_looked_for_again(world: World) -> None:
    """When none was left to look for, the next one that is kept has an end too."""
    ends: asyncio.Queue[int] = asyncio.Queue()

    async def play(wire: Wire, number: int) -> None:
        await wire.request()
        await wire.say(OK)
        assert await wire.reader.read() == b""
        ends.put_nowait(number)

    server = await world.upstream(play)
    client = world.client(PoolLimits(keep_alive_for=0.05))
    for number in range(3):
        await ask(client, server.url)
        assert await asyncio.wait_for(ends.get(), 2) == number


@on_each_loop
async def test_no_more_than_the_limit_are_kept(world: World) -> None:
    """And none at all where none may be."""
    for keep, left in ((2, 2), (0, 0)):
        server = await world.upstream(serves(0.02, OK))
        client = world.client(PoolLimits(keep_alive=keep))
        await asyncio.gather(*[ask(client, server.url) for _ in range(5)])
        await asyncio.sleep(0.05)
        assert sum(not task.done() for task in server.tasks) == left


@on_each_loop
async def test_a_closed_client_sends_nothing(world: World) -> None:
    """What was under way fails, and connections are gone when closing returns."""
    server = await world.upstream(serves(9.0))
    client = world.client(PoolLimits(connections=1))
    asked = [asyncio.ensure_future(ask(client, server.url)) for _ in range(2)]
    await asyncio.sleep(0.05)
    await client.aclose()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in found] == [UpstreamDisconnected, ConnectFailed]
    with pytest.raises(ConnectFailed, match="closed"):
        await ask(client, server.url)


def test_a_client_begins_anew_on_another_loop() -> None:
    """Connections belong to a loop: what one left behind is of no use in the next."""
    client = HttpClient(tls=TRUSTED)

    async def play(wire: Wire, number: int) -> None:
        await wire.request()
        await wire.say(OK)

    async def once() -> bytes:
        server = Upstream(play)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        try:
            return await ask(client, server.url)
        finally:
            listener.close()
            await asyncio.gather(*server.tasks)
            await asyncio.sleep(0.05)

    for new_loop in LOOPS.values():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            assert runner.run(once()) == b"hello"


async def is_whole(client: HttpClient, url: str, connections: int) -> None:
    """All connections can be had at once, again and again, and no request is left."""
    assert client.open_responses == 0
    for _ in range(3):
        asked = [ask(client, url, pool=2) for _ in range(connections)]
        assert await asyncio.gather(*asked) == [b"hihi"] * connections


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@on_each_loop
async def test_thousands_of_cancellations_leave_the_pool_whole(world: World, tls: bool) -> None:
    """10,000 at any moment of connecting, waiting, sending, reading: all 20 can be had again."""
    chance = random.Random(5)

    async def play(wire: Wire, number: int) -> None:
        while True:
            await wire.request()
            await wire.say(chance.random() / 2000, HEAD + CHUNK, chance.random() / 2000)
            await wire.say(CHUNK + LAST)

    server = await world.upstream(play, ssl=certified() if tls else None)
    url = f"https://localhost:{server.port}/" if tls else server.url
    client = world.client(PoolLimits(connections=20))
    before, left = sockets(), 1000 if tls else 10_000

    async def some() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            task = asyncio.ensure_future(ask(client, url, pool=0.01 * chance.random()))
            await asyncio.sleep(chance.choice((0, 0, 0.0005, 0.001, 0.003)) * chance.random())
            task.cancel()
            with suppress(asyncio.CancelledError, PoolExhausted):
                await task

    await asyncio.gather(*[some() for _ in range(60)])
    await is_whole(client, url, 20)
    await client.aclose()
    await asyncio.gather(*server.tasks)
    assert sockets() <= before


@on_each_loop
async def test_faults_of_every_kind_leave_the_pool_whole(world: World) -> None:
    """Resets, ends, garbage and silence at any moment, mixed with cancellations."""
    chance = random.Random(7)
    faults = True

    async def play(wire: Wire, number: int) -> None:
        while True:
            await wire.request()
            fault = chance.choice(("none", "none", "reset", "close", "garbage", "silence"))
            if not faults or fault == "none":
                await wire.say(HEAD + CHUNK + CHUNK + LAST)
                continue
            await wire.say(chance.choice((b"", b"HTTP/1.1 2", HEAD, HEAD + CHUNK)), 0.0)
            if fault == "silence":
                await asyncio.sleep(9)
            if fault == "garbage":
                await wire.say(b"\0garbage")
            wire.reset() if fault == "reset" else wire.close()
            return

    server = await world.upstream(play)
    client = world.client(PoolLimits(connections=4))
    limits = {"pool": 1.0, "first_byte": 0.02, "between_events": 0.02}

    async def some() -> None:
        for _ in range(50):
            task = asyncio.ensure_future(ask(client, server.url, **limits))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() / 500)
                task.cancel()
            with suppress(asyncio.CancelledError, UpstreamError):
                await task

    await asyncio.gather(*[some() for _ in range(8)])
    faults = False
    await is_whole(client, server.url, 4)


# Slow readers


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@on_each_loop
async def test_a_reader_that_never_reads_holds_little(world: World, tls: bool) -> None:
    """Of a stream of 200 MB the upstream can send what sockets hold; we hold less than 1 MB."""
    sent, size = 0, 200_000_000

    async def play(wire: Wire, number: int) -> None:
        nonlocal sent
        await wire.request()
        wire.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            await wire.say(bytes(50_000))
            sent += 50_000

    server = await world.upstream(play, ssl=certified() if tls else None)
    url = f"https://localhost:{server.port}/" if tls else server.url
    async with world.client().send(post(url)) as response:
        before = -1
        while before < sent:  # until nothing more fits
            before = sent
            await asyncio.sleep(0.05)
        assert 0 < sent < 20_000_000
        held = len(await anext(response.body))
        assert held < 256 * 1024
        assert len(await anext(response.body)) < 256 * 1024


@on_each_loop
async def test_a_slow_reader_gets_all_of_it(world: World) -> None:
    """Pausing and going on loses nothing and doubles nothing."""
    body = random.Random(1).randbytes(3_000_000)
    server = await world.upstream(
        serves(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    )
    client = world.client()
    for _ in range(2):
        parts = []
        async with client.send(post(server.url)) as response:
            async for part in response.body:
                parts.append(part)
                await asyncio.sleep(0.001)
        assert b"".join(parts) == body
        assert max(map(len, parts)) < 256 * 1024
    assert server.connections == 1


# Connecting


@on_each_loop
async def test_addresses_are_kept_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is resolved once for many connections, and anew when none of them works."""
    server = await world.upstream(serves(OK))
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(_resolver, "looked_up", resolve)
    client = world.client(PoolLimits(keep_alive=0))
    for _ in range(3):
        await ask(client, f"http://kept.example:{server.port}/")
    assert asked == ["kept.example"]
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for _ in range(2):
            with pytest.raises(ConnectFailed):
                await ask(client, f"http://kept.example:{nobody.getsockname()[1]}/")
    assert asked == ["kept.example"] * 2


@on_each_loop
async def test_a_handshake_has_a_limit(world: World) -> None:
    """A server that accepts and says nothing is a failed connection, in the connect limit."""

    async def play(wire: Wire, number: int) -> None:
        await asyncio.sleep(9)

    server = await world.upstream(play)
    begun = time.monotonic()
    with pytest.raises(ConnectFailed, match="too long"):
        await ask(world.client(), f"https://localhost:{server.port}/", connect=0.1)
    assert time.monotonic() - begun < 2


@on_each_loop
async def test_the_total_counts_while_connecting_and_waiting(world: World) -> None:
    """It is what is told where it ends first."""

    async def play(wire: Wire, number: int) -> None:
        await asyncio.sleep(9)

    server = await world.upstream(play)
    client = world.client(PoolLimits(connections=1))
    for limits in ({"connect": 5.0}, {"pool": 5.0}):
        hold = asyncio.ensure_future(ask(client, server.url)) if "pool" in limits else None
        await asyncio.sleep(0.02)
        with pytest.raises(UpstreamTimeout) as caught:
            url = server.url if hold else f"https://localhost:{server.port}/"
            await ask(client, url, total=0.1, **limits)
        assert caught.value.phase == "total"
        if hold:
            hold.cancel()
            await asyncio.wait((hold,))


@on_each_loop
async def test_tls_names_the_host_of_the_url(world: World) -> None:
    """The checked address is connected to, and the certificate is asked for by name."""
    named = []
    context = certified()
    context.sni_callback = lambda _, name, __: named.append(name)
    server = await world.upstream(serves(OK), ssl=context)
    assert await ask(world.client(), f"https://localhost:{server.port}/") == b"hello"
    assert named == ["localhost"]


@pytest.mark.parametrize("shown", [True, False])
@on_each_loop
async def test_a_client_certificate_is_shown(world: World, shown: bool) -> None:
    """To an upstream that asks for one, where the client has one."""
    certificate = ssl.PEM_cert_to_DER_cert(
        (TLS / "localhost.pem").read_text().partition("-----BEGIN EC")[0].strip()
    )
    seen = []

    def watch(_: object, direction: str, *message: Any) -> None:
        if direction == "read":
            seen.append(bytes(message[-1]))

    context = certified()
    context.load_verify_locations(TLS / "authority.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    # The tests' certificate is for servers only, so the handshake fails once it was shown.
    context._msg_callback = watch  # type: ignore[attr-defined]
    server = await world.upstream(serves(OK), ssl=context)
    cert = str(TLS / "localhost.pem") if shown else None
    client = world.client(ca=str(TLS / "authority.pem"), cert=cert)
    with suppress(UpstreamError):
        await ask(client, f"https://localhost:{server.port}/")
    assert any(certificate in message for message in seen) is shown
