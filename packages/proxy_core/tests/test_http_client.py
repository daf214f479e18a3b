"""The client, against scripted servers on real sockets: our engine on each loop, and httpx2."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from proxy_core import HttpClient, HttpRequest, PoolLimits, Timeouts, _resolver
from proxy_core.errors import (
    ConfigurationError,
    ConnectFailed,
    PoolExhausted,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)

TLS = Path(__file__).with_name("tls")
TRUSTED = ssl.create_default_context(cafile=str(TLS / "authority.pem"))
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """Plays one handler a connection and keeps what it read of each request."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.gone = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/x"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._read(reader):
                await self._handler(reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.gone.set()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        self.heads.append(head)
        sizes = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        self.bodies.append(await reader.readexactly(int(sizes[0].split(b":")[1]) if sizes else 0))
        return True


class World:
    """Starts scripted servers and clients on one loop, and closes them."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._stack = AsyncExitStack()

    async def upstream(self, handler: Handler, **options: Any) -> Upstream:
        server = Upstream(handler)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, **options)
        self._stack.callback(listener.close)
        server.port = listener.sockets[0].getsockname()[1]
        return server

    def client(self, limits: PoolLimits | None = None, **options: Any) -> HttpClient:
        made = HttpClient(limits or PoolLimits(), **(options or {"tls": TRUSTED}), **self._given)
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
WAYS: dict[str, tuple[str, dict[str, Any]]] = {loop: (loop, {}) for loop in LOOPS}
# Without TLS nothing is agreed, so that this engine too speaks HTTP/1.1.
WAYS["httpx2"] = ("asyncio", {"http2": True})
Scenario = Callable[..., Coroutine[Any, Any, None]]


def each_way(scenario: Scenario) -> Callable[..., None]:
    """Run a scenario, which is given a world, on each loop that is there and with each engine.

    No socket may be left over.
    """

    @pytest.mark.parametrize("way", WAYS)
    @functools.wraps(scenario)
    def run(way: str, **arguments: Any) -> None:
        loop, options = WAYS[way]

        async def play() -> None:
            world = World(options)
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
    own = inspect.Parameter("way", inspect.Parameter.KEYWORD_ONLY)
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


def says(*writes: bytes | float) -> Handler:
    """Write these bytes, and wait for so many seconds where a number stands."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for write in writes:
            if isinstance(write, bytes):
                writer.write(write)
                await writer.drain()
            else:
                await asyncio.sleep(write)

    return handler


def then_close(*writes: bytes | float) -> Handler:
    speak = says(*writes)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await speak(reader, writer)
        writer.close()

    return handler


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"2\r\nhi\r\n"
LAST = b"0\r\n\r\n"


def post(url: str, body: bytes = b"{}", *headers: tuple[bytes, bytes]) -> HttpRequest:
    return HttpRequest("POST", url, list(headers), body)


async def ask(client: HttpClient, url: str, **limits: float) -> bytes:
    async with client.send(post(url), timeouts=Timeouts(**limits)) as response:
        return await response.read()


@each_way
async def test_what_was_given_is_sent_and_nothing_else(world: World) -> None:
    """Method, path, headers and body, a length and that nothing be packed: no user agent."""
    client = world.client()
    server = await world.upstream(says(OK))
    request = post(server.url + "?a=%20b", b'{"a":1}', (b"X-Key", b"v"), (b"accept", b"*/*"))
    async with client.send(request) as response:
        assert (response.status, await response.read()) == (200, b"hello")
    first, *lines = server.heads[0].rstrip().split(b"\r\n")
    assert first == b"POST /v1/x?a=%20b HTTP/1.1"
    assert sorted(line.lower() for line in lines) == [
        b"accept-encoding: identity",
        b"accept: */*",
        b"content-length: 7",
        b"host: 127.0.0.1:%d" % server.port,
        b"x-key: v",
    ]
    assert server.bodies == [b'{"a":1}']


@each_way
async def test_headers_come_in_lower_case_and_order(world: World) -> None:
    """Names in lower case, values as they came, repeated ones kept."""
    client = world.client()
    server = await world.upstream(
        says(b"HTTP/1.1 200 OK\r\nX-A: One\r\nContent-Length: 0\r\nx-a: two\r\n\r\n")
    )
    async with client.send(post(server.url)) as response:
        assert response.headers == [(b"x-a", b"One"), (b"content-length", b"0"), (b"x-a", b"two")]
        assert response.header(b"x-a") == b"One"
        assert response.header(b"x-b") == b""


@each_way
async def test_chunks_come_as_they_arrive(world: World) -> None:
    """A chunk is given before the next one is sent."""
    client = world.client()
    gate = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + CHUNK)
        await gate.wait()
        writer.write(b"3\r\nyou\r\n" + LAST)

    server = await world.upstream(handler)
    got = []
    async with client.send(post(server.url)) as response:
        async for part in response.body:
            got.append(part)
            gate.set()
    assert got == [b"hi", b"you"]


@each_way
async def test_connections_are_used_again(world: World) -> None:
    """Whole answers leave their connection to the next request."""
    client = world.client()
    server = await world.upstream(says(OK))
    for _ in range(5):
        await ask(client, server.url)
    assert (server.connections, len(server.heads)) == (1, 5)


@each_way
async def test_a_block_that_is_left_early_closes_its_connection(world: World) -> None:
    """The upstream notices at once, and the answer is not counted as open any more."""
    client = world.client()

    async def until_it_leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + CHUNK)
        await reader.read()
        writer.close()

    server = await world.upstream(until_it_leaves)
    async with client.send(post(server.url)) as response:
        assert client.open_responses == 1
        assert await anext(response.body) == b"hi"
        assert not server.gone.is_set()
    assert client.open_responses == 0
    await asyncio.wait_for(server.gone.wait(), 1)


@each_way
async def test_redirects_are_not_followed(world: World) -> None:
    """A redirect is an answer like any other, and what it points to is never asked."""
    client = world.client()
    other = await world.upstream(says(OK))
    redirect = b"HTTP/1.1 302 Found\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n"
    server = await world.upstream(says(redirect % other.url.encode()))
    async with client.send(post(server.url)) as response:
        assert response.status == 302
    assert other.heads == []


@each_way
async def test_cookies_are_not_kept(world: World) -> None:
    """What one answer sets, no later request sends."""
    client = world.client()
    server = await world.upstream(
        says(b"HTTP/1.1 200 OK\r\nset-cookie: a=b; Path=/\r\ncontent-length: 0\r\n\r\n")
    )
    for _ in range(2):
        await ask(client, server.url)
    assert b"cookie" not in server.heads[1].lower()


@each_way
async def test_the_environment_says_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proxies and credentials of the environment are not for a gateway's requests."""
    proxy, server = await world.upstream(says(OK)), await world.upstream(says(OK))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(netrc))
    client = world.client()
    await ask(client, server.url)
    assert proxy.connections == 0
    assert b"authorization" not in server.heads[0].lower()


@each_way
async def test_an_answer_is_not_unpacked(world: World) -> None:
    """Compressed bytes stay as they are: nothing small becomes large here."""
    client = world.client()
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n"
    server = await world.upstream(says(head + b"\x1f\x8b"))
    assert await ask(client, server.url) == b"\x1f\x8b"


BREAKS: dict[str, tuple[Handler, type[UpstreamError]]] = {
    "closed without an answer": (then_close(), UpstreamDisconnected),
    "closed in the head": (then_close(b"HTTP/1.1 200 OK\r\ncont"), UpstreamDisconnected),
    "closed in a body with a length": (
        then_close(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"),
        UpstreamDisconnected,
    ),
    "closed between chunks": (then_close(HEAD + CHUNK), UpstreamDisconnected),
    "closed in a chunk": (then_close(HEAD + b"5\r\nhe"), UpstreamDisconnected),
    "no HTTP": (then_close(b"-ERR unknown command\r\n\r\n"), UpstreamDisconnected),
    "no chunk size": (then_close(HEAD + b"zz\r\nhi\r\n"), UpstreamDisconnected),
    "two lengths": (
        then_close(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"),
        UpstreamDisconnected,
    ),
    "endless headers": (
        then_close(b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 40_000 + b"\r\n"),
        UpstreamDisconnected,
    ),
}


@pytest.mark.parametrize(("handler", "kind"), BREAKS.values(), ids=list(BREAKS))
@each_way
async def test_a_broken_answer_is_an_error_of_ours(
    world: World, handler: Handler, kind: type[UpstreamError]
) -> None:
    """However it breaks, it is one error, before or while the body is read."""
    client = world.client()
    server = await world.upstream(handler)
    with pytest.raises(kind) as caught:
        await ask(client, server.url)
    assert type(caught.value) is kind
    assert caught.value.verdict == "failed"


@each_way
async def test_a_reset_in_the_body_is_a_break(world: World) -> None:
    """An RST after some chunks: the chunks came, then the error."""
    client = world.client()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + CHUNK)
        await writer.drain()
        await asyncio.sleep(0.05)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    server = await world.upstream(handler)
    got = []
    with pytest.raises(UpstreamDisconnected):
        async with client.send(post(server.url)) as response:
            async for part in response.body:
                got.append(part)
    assert got == [b"hi"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@each_way
async def test_a_refused_connection_sent_nothing(world: World) -> None:
    """Nobody listens: the way to the upstream failed."""
    client = world.client()
    with pytest.raises(ConnectFailed, match="could not be reached"):
        await ask(client, f"http://127.0.0.1:{free_port()}/v1")


@pytest.mark.parametrize(
    "url",
    [
        "http://nobody.invalid/v1",
        "http://" + "a" * 70 + ".example/v1",
        "ftp://127.0.0.1/v1",
        "http:///v1",
        "http://[::1/v1",
        "http://127.0.0.1:99999/v1",
        "http://a\tb/v1",
        "nonsense",
        "",
    ],
)
@each_way
async def test_a_url_that_leads_nowhere_is_a_failed_connection(world: World, url: str) -> None:
    """Names that don't resolve and URLs that are none raise no error of the engine's own."""
    client = world.client()
    with pytest.raises(ConnectFailed):
        await ask(client, url, connect=5)


@each_way
async def test_a_header_that_cannot_be_sent_is_not_repeated(world: World) -> None:
    """The engine would quote it in its error, and it may hold a key."""
    client = world.client()
    server = await world.upstream(says(OK))
    request = post(server.url, b"", (b"authorization", b"Bearer sk-secret\r\nx: y"))
    with pytest.raises(ConnectFailed) as caught:
        async with client.send(request):
            pass
    assert "sk-secret" not in f"{caught.value} {caught.value.__cause__}"
    assert caught.value.__suppress_context__
    assert "sk-secret" not in repr(request)


@each_way
async def test_connecting_has_a_limit_of_its_own(world: World) -> None:
    """A listener with a full queue swallows the handshake: that is a connect timeout."""
    client = world.client()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        begun = time.monotonic()
        with pytest.raises(ConnectFailed, match="too long"):
            await ask(client, f"http://127.0.0.1:{full.getsockname()[1]}/", connect=0.1)
        assert time.monotonic() - begun < 2
        for filler in fillers:
            filler.close()


@each_way
async def test_a_name_that_is_slow_to_resolve_counts_as_connecting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS is part of the connect limit."""
    client = world.client()
    monkeypatch.setattr(_resolver, "looked_up", lambda host, port: asyncio.sleep(9))
    with pytest.raises(ConnectFailed, match="too long"):
        await ask(client, "http://slow.example/", connect=0.05)


async def phase_of(client: HttpClient, server: Upstream, **limits: float) -> str:
    with pytest.raises(UpstreamTimeout) as caught:
        await ask(client, server.url, **limits)
    return caught.value.phase


@each_way
async def test_no_answer_is_a_timeout_of_the_first_byte(world: World) -> None:
    """The head must come in time."""
    client = world.client()
    server = await world.upstream(says(5.0))
    assert await phase_of(client, server, first_byte=0.05, between_events=5) == "first_byte"


@each_way
async def test_a_head_without_a_body_is_a_timeout_of_the_first_byte(world: World) -> None:
    """A model that still reads its prompt has sent the head already: the same limit again."""
    client = world.client()
    server = await world.upstream(says(HEAD, 5.0))
    assert await phase_of(client, server, first_byte=0.05, between_events=5) == "first_byte"


@each_way
async def test_silence_in_the_body_is_a_timeout_between_events(world: World) -> None:
    """After the first byte only the second limit counts."""
    client = world.client()
    server = await world.upstream(says(HEAD + CHUNK, 5.0))
    assert await phase_of(client, server, first_byte=5, between_events=0.05) == "between_events"


@each_way
async def test_the_limits_of_the_phases_are_not_mixed_up(world: World) -> None:
    """A first byte after ``between_events``, or a pause beyond ``first_byte``, is fine."""
    client = world.client()
    slow_start = await world.upstream(says(0.12, HEAD, 0.12, CHUNK, LAST))
    slow_middle = await world.upstream(says(HEAD + CHUNK, 0.2, CHUNK, LAST))
    answers = await asyncio.gather(
        ask(client, slow_start.url, first_byte=5, between_events=0.05),
        ask(client, slow_middle.url, first_byte=0.1, between_events=5),
    )
    assert [*answers] == [b"hi", b"hihi"]


@each_way
async def test_the_shorter_limit_counts_from_the_first_byte(world: World) -> None:
    """Who waits with patience for the first byte has none for silence behind it."""
    client = world.client()
    server = await world.upstream(says(HEAD, 0.1, CHUNK, 5.0))
    begun = time.monotonic()
    assert await phase_of(client, server, first_byte=5, between_events=0.05) == "between_events"
    assert 0.14 < time.monotonic() - begun < 2


@each_way
async def test_a_drip_is_bounded_by_the_total(world: World) -> None:
    """Bytes that always come in time don't make an answer that never ends."""
    client = world.client()
    drip: list[bytes | float] = [CHUNK, 0.02]
    server = await world.upstream(says(HEAD, *drip * 100))
    begun = time.monotonic()
    assert await phase_of(client, server, between_events=1, total=0.1) == "total"
    assert time.monotonic() - begun < 1.5


@each_way
async def test_the_total_counts_before_the_head_too(world: World) -> None:
    """It begins with the request."""
    client = world.client()
    server = await world.upstream(says(5.0))
    assert await phase_of(client, server, total=0.05) == "total"


@each_way
async def test_a_total_is_enough_where_it_ends_first(world: World) -> None:
    """With every limit alike it is the total that is told, before the head and after."""
    client = world.client()
    limits = {"first_byte": 0.05, "between_events": 0.05, "total": 0.05}
    for words in ((5.0,), (HEAD, 5.0), (HEAD + CHUNK, 5.0)):
        server = await world.upstream(says(*words))
        assert await phase_of(client, server, **limits) == "total"


@each_way
async def test_the_total_does_not_count_the_readers_time(world: World) -> None:
    """A client that stalls is no fault of the upstream, and its own task is not cancelled."""
    client = world.client()
    server = await world.upstream(says(HEAD + CHUNK, 0.01, CHUNK + LAST))
    request, limits = post(server.url), Timeouts(total=0.1)
    async with client.send(request, timeouts=limits) as response:
        parts = []
        async for part in response.body:
            parts.append(part)
            await asyncio.sleep(0.16)
    assert b"".join(parts) == b"hihi"


@each_way
async def test_the_total_is_raised_where_the_body_is_read(world: World) -> None:
    """Whoever reads gets the error at its read, and may go on with its block."""
    client = world.client()
    server = await world.upstream(says(HEAD + CHUNK, 5.0))
    async with client.send(post(server.url), timeouts=Timeouts(total=0.1)) as response:
        assert await anext(response.body) == b"hi"
        with pytest.raises(UpstreamTimeout) as caught:
            await anext(response.body)
        assert caught.value.phase == "total"
        await asyncio.sleep(0)


@each_way
async def test_a_timeout_of_the_caller_stays_the_callers(world: World) -> None:
    """Only our own limits become errors of the upstream."""
    client = world.client()
    server = await world.upstream(says(HEAD + CHUNK, 5.0))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ask(client, server.url)
    with pytest.raises(TimeoutError, match="mine"):
        async with client.send(post(server.url)):
            raise TimeoutError("mine")


@each_way
async def test_a_pool_has_an_end(world: World) -> None:
    """With every connection taken, a request waits for its limit and is shed: our own fault."""
    server = await world.upstream(says(HEAD + CHUNK, 5.0))
    client = world.client(PoolLimits(connections=1))
    async with client.send(post(server.url)) as response:
        await anext(response.body)
        with pytest.raises(PoolExhausted) as caught:
            await ask(client, server.url, pool=0.05)
        assert caught.value.verdict == "let_go"


@each_way
async def test_cancelled_requests_leave_the_pool_whole(world: World) -> None:
    """A hundred requests cancelled at any moment: afterwards all connections can be had."""
    server = await world.upstream(says(0.002, HEAD + CHUNK, 0.002, CHUNK + LAST))
    client = world.client(PoolLimits(connections=2))
    for number in range(100):
        task = asyncio.create_task(ask(client, server.url))
        await asyncio.sleep(number % 7 / 1000)
        task.cancel()
        await asyncio.wait((task,))
    assert client.open_responses == 0
    for answer in await asyncio.gather(*[ask(client, server.url) for _ in range(4)]):
        assert answer == b"hihi"


@each_way
async def test_a_whole_answer_has_a_cap(world: World) -> None:
    """An answer larger than the cap is cut, and what was held is let go."""
    server = await world.upstream(says(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"))
    for cap, fits in ((5, True), (4, False)):
        client = world.client(PoolLimits(max_answer=cap))
        if fits:
            assert await ask(client, server.url) == b"hello"
        else:
            with pytest.raises(UpstreamProtocolError, match="larger than 4 bytes"):
                await ask(client, server.url)
        assert client.held_bytes == 0


@each_way
async def test_held_bytes_are_what_is_collected(world: World) -> None:
    """An answer that is being read whole counts while its block lasts."""
    client = world.client()
    server = await world.upstream(says(OK))
    async with client.send(post(server.url)) as response:
        assert client.held_bytes == 0
        await response.read()
        assert client.held_bytes == 5


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0"])
@each_way
async def test_a_name_that_resolves_to_a_forbidden_address_is_not_called(
    world: World, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else it resolves to: no connection is made."""
    client = world.client()
    server = await world.upstream(says(OK))

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1", address]

    monkeypatch.setattr(_resolver, "looked_up", resolve)
    with pytest.raises(ConnectFailed, match="metadata"):
        await ask(client, f"http://harmless.example:{server.port}/")
    assert server.connections == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1%25lo]", "2852039166", "0.0.0.0"])
@each_way
async def test_a_forbidden_address_is_not_called(world: World, host: str) -> None:
    """The check stands between the engine and the network, whoever made the URL."""
    client = world.client()
    with pytest.raises(ConnectFailed, match=r"metadata|could not be resolved"):
        await ask(client, f"http://{host}/latest/meta-data", connect=2)


@each_way
async def test_the_checked_address_is_the_one_that_is_called(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is resolved once: a second, other answer of DNS has no chance."""
    client = world.client()
    server = await world.upstream(says(OK))
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) == 1 else "169.254.169.254"]

    monkeypatch.setattr(_resolver, "looked_up", resolve)
    assert await ask(client, f"http://moving.example:{server.port}/") == b"hello"
    assert asked.count("moving.example") == 1
    assert b"host: moving.example:%d" % server.port in server.heads[0].lower()


@each_way
async def test_the_next_address_is_tried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that refuses or swallows packets leaves time for the others."""
    client = world.client()
    server = await world.upstream(says(OK))

    async def resolve(host: str, port: int) -> list[str]:
        return ["::1", "127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr(_resolver, "looked_up", resolve)
    assert await ask(client, f"http://pool.example:{server.port}/") == b"hello"


async def tls_upstream(world: World) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost.pem")
    server = await world.upstream(says(OK), ssl=context)
    return f"https://localhost:{server.port}/v1"


@each_way
async def test_a_private_authority_is_trusted_where_it_is_named(world: World) -> None:
    """``ca`` is the file that makes an upstream with its own certificates work."""
    client = world.client(ca=str(TLS / "authority.pem"))
    assert await ask(client, await tls_upstream(world)) == b"hello"


@each_way
async def test_an_unknown_certificate_is_refused(world: World) -> None:
    """Without ``ca`` the same upstream can't be reached, and there is no way to look away."""
    client = world.client(tls=ssl.create_default_context())
    with pytest.raises(ConnectFailed, match="certificate verify failed"):
        await ask(client, await tls_upstream(world))


@each_way
async def test_a_certificate_for_another_name_is_refused(world: World) -> None:
    """Trust in the authority is not trust in each of its names."""
    url = (await tls_upstream(world)).replace("localhost", "127.0.0.2")
    client = world.client(ca=str(TLS / "authority.pem"))
    with pytest.raises(ConnectFailed):
        await ask(client, url)


@each_way
async def test_a_server_without_tls_is_a_failed_connection(world: World) -> None:
    """https to a port that speaks http."""
    client = world.client()
    server = await world.upstream(says(OK))
    with pytest.raises(ConnectFailed):
        await ask(client, server.url.replace("http://", "https://"), connect=0.1)


@pytest.mark.parametrize("content", [None, "no certificate"])
@pytest.mark.parametrize("field", ["ca", "cert"])
def test_files_that_are_no_certificates_are_named(
    field: str, content: str | None, tmp_path: Path
) -> None:
    """A missing or wrong file is said at construction, with the field and the path."""
    path = tmp_path / "some.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"some\.pem") as caught:
        HttpClient(**{field: str(path)})  # type: ignore[arg-type]
    assert caught.value.param == field
