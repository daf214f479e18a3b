from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from proxy_core import CHAT, Call, Reply, hold
from proxy_core.errors import UpstreamFailed
from proxy_core.testing import FakeProvider, Script


@pytest.fixture
def call() -> Call:
    return CHAT.read(b'{"model":"chat","messages":[],"stream":true}')


@pytest.fixture(autouse=True)
async def nothing_is_left_running() -> AsyncIterator[None]:
    """No task outlives a test, and no exception is left for the loop to log."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: complaints.append(what))
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    gc.collect()
    assert complaints == []


async def collect(body: AsyncIterator[bytes]) -> list[bytes]:
    return [chunk async for chunk in body]


async def test_a_failure_before_content_is_raised_at_once(call: Call) -> None:
    """Nothing was promised to the client yet: another deployment may be asked."""
    provider = FakeProvider(Script(breaks_at=1, breaks_with=UpstreamFailed("early")))
    async with provider.send(call, model="m") as reply:
        with pytest.raises(UpstreamFailed, match="early"):
            await hold(reply)
    assert provider.open == 0


async def test_what_came_before_content_is_given_with_it(call: Call) -> None:
    """The reply has all of its body, the events that were held included, in their order."""
    script = Script()
    async with FakeProvider(script).send(call, model="m") as reply:
        await hold(reply)
        assert reply.has_content
        assert await collect(reply.body) == [b"".join(script.chunks[:2]), *script.chunks[2:]]
    assert reply.usage.reported


async def test_a_failure_after_content_travels(call: Call) -> None:
    """What came is given, then the error is raised where the body is read."""
    script = Script(breaks_at=2)
    got = []
    async with FakeProvider(script).send(call, model="m") as reply:
        await hold(reply)
        with pytest.raises(type(script.breaks_with)):
            async for chunk in reply.body:
                got.append(chunk)
    assert b"".join(got) == b"".join(script.chunks[:2])


async def test_the_rest_is_not_read_ahead(call: Call) -> None:
    """After content the client's pace is the upstream's: nothing more is read than is taken."""
    read: list[bytes] = []
    reply = Reply(body=AsyncIteratorOf([b"1", b"2", b"3"], read), stream=True, content_at=1.0)
    await hold(reply)
    assert read == [b"1"]
    await anext(reply.body)
    await anext(reply.body)
    assert read == [b"1", b"2"]


class AsyncIteratorOf(AsyncGenerator[bytes, None]):
    """Chunks that are noted when they are asked for."""

    def __init__(self, chunks: list[bytes], read: list[bytes]) -> None:
        self._chunks = iter(chunks)
        self._read = read

    async def asend(self, value: None) -> bytes:
        for chunk in self._chunks:
            self._read.append(chunk)
            return chunk
        raise StopAsyncIteration

    async def athrow(self, *error: object) -> bytes:
        raise StopAsyncIteration


async def test_a_stream_without_content_is_given_when_it_ends(call: Call) -> None:
    """It ended properly, so it is an answer."""
    script = Script(content_at=99)
    provider = FakeProvider(script)
    async with asyncio.timeout(5), provider.send(call, model="m") as reply:
        await hold(reply)
        assert await collect(reply.body) == list(script.chunks)


async def test_a_stream_that_talks_without_content_is_not_held_for_ever(call: Call) -> None:
    """More than 256 KB are not kept back: what fails later travels."""
    script = Script(chunks=[b"x" * 100_000] * 5, content_at=99, breaks_at=4)
    got = []
    async with FakeProvider(script).send(call, model="m") as reply:
        await hold(reply)
        with pytest.raises(type(script.breaks_with)):
            async for chunk in reply.body:
                got.append(chunk)
    assert b"".join(got) == b"x" * 400_000


async def test_a_whole_answer_is_read_before_it_is_given() -> None:
    """Only at its end is it known to be one; what fails until then is raised here."""
    call = CHAT.read(b'{"model":"chat","messages":[]}')
    whole = FakeProvider(Script(chunks=[b'{"a":', b"1}"]))
    async with whole.send(call, model="m") as reply:
        await hold(reply)
        assert await collect(reply.body) == [b'{"a":', b"1}"]
    broken = FakeProvider(Script(breaks_at=1))
    async with broken.send(call, model="m") as reply:
        with pytest.raises(type(Script().breaks_with)):
            await hold(reply)


async def wait_for_content(provider: FakeProvider, call: Call) -> None:
    async with provider.send(call, model="m") as reply:
        await hold(reply)


async def test_cancelled_while_waiting_nothing_is_left(call: Call) -> None:
    """A client that leaves before the first event: the upstream is let go at once."""
    provider = FakeProvider(Script(hangs=30))
    task = asyncio.create_task(wait_for_content(provider, call))
    await asyncio.sleep(0.01)
    assert provider.open == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert provider.open == 0
