"""A tapped stream gives the same poured as iterated, and pours while the loop reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from proxy_core import CHAT, Call, HttpClient, HttpRequest, Reply, hold
from proxy_core._http_types import HttpResponse
from proxy_core._tapped import Tapped, poured
from proxy_core.errors import UpstreamDisconnected, UpstreamError, UpstreamThrottled

CHUNK = b'data: {"object":"chat.completion.chunk","model":"m","choices":'
EVENT = CHUNK + b'[{"index":0,"delta":{"content":"%b"}}]}\n\n'
FINISH = CHUNK + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
FAULT = b'data: {"error":{"message":"full","code":"rate_limit_exceeded"}}\n\n'
ROLE = CHUNK + b'[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

STREAMS: list[list[bytes]] = [
    [EVENT % b"a", EVENT % b"b", EVENT % b"c", FINISH, DONE],
    [ROLE, EVENT % b"a" + EVENT % b"b", FINISH + DONE],
    [EVENT % b"a", FINISH, DONE, b"more"],
    [EVENT % b"a", FINISH],
    [EVENT % b"a", FINISH[:-2]],
    [EVENT % b"a", EVENT % b"b"],
    [EVENT % b"a", EVENT % b"b" + FAULT, EVENT % b"c"],
    [FAULT],
    [],
]


class Stream:
    """A tapped stream of these reads, and what it says of itself."""

    def __init__(self, call: Call, reads: list[bytes]) -> None:
        self.signed: list[UpstreamError] = []
        response = HttpResponse(200, [], _given(reads), 10_000)
        self.reply = Reply(body=response.body, stream=True)
        self.body = Tapped(
            response, CHAT.tap(call, self.reply.usage), self.reply, self.signed.append
        )
        self.reply.body = self.body


class Taken:
    """A sink that keeps what it is given, and says once that its client has to be waited for."""

    def __init__(self, wait_at: int) -> None:
        self.got: list[bytes] = []
        self._wait_at = wait_at

    def __call__(self, part: bytes) -> bool:
        self.got.append(part)
        return len(self.got) != self._wait_at


async def _given(reads: list[bytes]) -> AsyncGenerator[bytes, None]:
    for read in reads:
        yield read


@pytest.fixture
def call() -> Call:
    return CHAT.read(b'{"model":"chat","messages":[],"stream":true}')


async def told(of: Callable[[list[bytes]], object]) -> tuple[bytes, str]:
    """All bytes, and how it ended."""
    got: list[bytes] = []
    try:
        await of(got)  # type: ignore[misc]
    except UpstreamError as error:
        return b"".join(got), error.code
    return b"".join(got), "whole"


@pytest.mark.parametrize("every", [1, 2, 99], ids=["each", "second", "none"])
@pytest.mark.parametrize("reads", STREAMS)
async def test_poured_it_is_what_it_is_iterated(call: Call, reads: list[bytes], every: int) -> None:
    """The same bytes, end, usage and signature, also when the client often has to be waited for."""
    one, other = Stream(call, reads), Stream(call, reads)

    async def iterate(got: list[bytes]) -> None:
        async for part in one.body:
            got.append(part)

    async def pour(got: list[bytes]) -> None:
        def sink(part: bytes) -> bool:
            got.append(part)
            return len(got) % every != 0

        while not await poured(other.body, sink):
            pass

    assert await told(iterate) == await told(pour)
    assert one.reply.usage == other.reply.usage
    assert one.reply.has_content == other.reply.has_content
    assert [each.code for each in one.signed] == [each.code for each in other.signed]
    assert await poured(other.body, lambda _: False)


async def test_what_was_held_is_poured_first(call: Call) -> None:
    """Held events come as one piece before the rest, whichever way the rest is read."""
    stream = Stream(call, STREAMS[1])
    await hold(stream.reply)
    taken = Taken(1)
    assert not await poured(stream.reply.body, taken)
    assert await poured(stream.reply.body, taken)
    assert b"".join(taken.got) == b"".join(STREAMS[1]).replace(b'"m"', b'"chat"')
    assert len(taken.got) == 2


async def test_a_body_without_a_way_of_its_own_is_poured() -> None:
    """Any async generator can be poured, and poured on."""
    body, taken = _given([b"1", b"2", b"3"]), Taken(1)
    assert not await poured(body, taken)
    assert await poured(body, taken)
    assert taken.got == [b"1", b"2", b"3"]


async def test_a_failure_is_signed_once(call: Call) -> None:
    """What breaks off is told with whose it is, where it is poured."""
    stream = Stream(call, STREAMS[5])
    with pytest.raises(UpstreamDisconnected):
        await stream.body.pour(lambda _: True)
    assert len(stream.signed) == 1
    faulty = Stream(call, [FAULT])
    with pytest.raises(UpstreamThrottled):
        await anext(faulty.body)
    assert len(faulty.signed) == 1


async def test_a_closed_stream_gives_nothing_more(call: Call) -> None:
    """Whoever closed it reads no more."""
    stream = Stream(call, STREAMS[0])
    await anext(stream.body)
    await stream.body.aclose()
    assert [part async for part in stream.body] == []
    assert await stream.body.pour(lambda _: False)


async def test_a_stream_that_is_closed_while_it_is_read_gives_nothing_more(call: Call) -> None:
    """What was under way then is the last that is given, also when it is the first content."""
    stream, taken = Stream(call, []), Taken(2)

    async def reads() -> AsyncGenerator[bytes, None]:
        yield ROLE
        await stream.body.aclose()
        yield EVENT % b"a"
        yield EVENT % b"b"

    response = HttpResponse(200, [], reads(), 10_000)
    tap = CHAT.tap(call, stream.reply.usage)
    stream.body = Tapped(response, tap, stream.reply, stream.signed.append)
    assert not await stream.body.pour(taken)
    assert await stream.body.pour(taken)
    assert len(taken.got) == 2


class Upstream:
    """Sends its head at once and each further piece when it is told to."""

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.writer = writer
        writer.write(HEAD)
        self.asked.set()

    def say(self, piece: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))


async def test_pieces_are_given_without_a_switch_of_tasks() -> None:
    """The sink hears of a piece while the task that pours waits for the end; False wakes it."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = HttpClient()
    heard: list[tuple[bytes, object]] = []

    def sink(part: bytes) -> bool:
        try:
            here: object = asyncio.current_task()
        except RuntimeError:
            here = None
        heard.append((part, here))
        if part == b"break":
            raise ValueError("mine")
        return part != b"wait"

    request = HttpRequest("GET", f"http://127.0.0.1:{port}/", [])
    async with client.send(request) as response:
        pouring = asyncio.create_task(response.pour(sink))
        for piece in (b"one", b"two", b"wait"):
            upstream.say(piece)
            while not heard or heard[-1][0] != piece:
                await asyncio.sleep(0.001)
        assert not await pouring
        assert [part for part, _ in heard] == [b"one", b"two", b"wait"]
        assert {here for _, here in heard} == {None}
        upstream.say(b"kept")
        await asyncio.sleep(0.02)
        assert len(heard) == 3
        pouring = asyncio.create_task(response.pour(sink))
        upstream.say(b"break")
        with pytest.raises(ValueError, match="mine"):
            await pouring
        pouring = asyncio.create_task(response.pour(sink))
        await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError, match="already being read"):
            await response.pour(sink)
        upstream.writer.write(b"0\r\n\r\n")
        assert await pouring and await response.pour(sink)
    upstream.writer.close()
    server.close()
    await client.aclose()
