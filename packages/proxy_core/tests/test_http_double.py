"""The client without a network that ``proxy_core.testing`` has for others."""

from __future__ import annotations

import doctest

import pytest

from proxy_core import CHAT, HttpRequest, HttpSender, create_provider, testing
from proxy_core.errors import ConnectFailed, UpstreamDisconnected, UpstreamProtocolError
from proxy_core.testing import FakeHttp

GET = HttpRequest("GET", "http://gpu.example/", [])


def test_its_example_works() -> None:
    """What the docstring shows is what one gets."""
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(testing.FakeHttp, "FakeHttp", globs={}):
        runner.run(test)
    assert runner.summarize(verbose=False) == doctest.TestResults(failed=0, attempted=11)


async def test_it_stands_in_for_a_client() -> None:
    """A provider takes it, asks it, and closes it."""
    body = b'{"model":"m","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}'
    http: HttpSender = FakeHttp(lambda _: (200, [(b"content-type", b"application/json")], [body]))
    provider = create_provider("vllm", http=http)
    call = CHAT.read(b'{"model":"chat","messages":[]}')
    async with provider.send(call, model="m") as reply:
        assert b'"Hi"' in b"".join([chunk async for chunk in reply.body])
    await provider.aclose()
    assert isinstance(http, FakeHttp)
    assert http.closed
    assert [request.url for request in http.requests] == [
        "http://127.0.0.1:8000/v1/chat/completions"
    ]


@pytest.mark.parametrize("raises", [True, False])
async def test_an_error_comes_before_the_head(raises: bool) -> None:
    """Raised by the function or given by it: nothing is open."""

    def upstream(request: HttpRequest) -> ConnectFailed:
        if raises:
            raise ConnectFailed("no")
        return ConnectFailed("no")

    http = FakeHttp(upstream)
    with pytest.raises(ConnectFailed):
        async with http.send(GET):
            pass
    assert (http.open, len(http.requests)) == (0, 1)


async def test_an_error_among_the_chunks_comes_in_its_turn() -> None:
    """The chunks before it are given."""
    http = FakeHttp(lambda _: (200, [], [b"a", b"b", UpstreamDisconnected("cut")]))
    got = []
    with pytest.raises(UpstreamDisconnected, match="cut"):
        async with http.send(GET) as response:
            assert http.open == 1
            async for chunk in response.body:
                got.append(chunk)
    assert (got, http.open) == ([b"a", b"b"], 0)


async def test_it_holds_what_is_read_whole_within_a_cap() -> None:
    """As a client does, and no longer than the block lasts."""
    http = FakeHttp(lambda _: (200, [], [b"abc", b"de"]))
    async with http.send(GET) as response:
        assert await response.read() == b"abcde"
        assert http.held_bytes == 5
    assert http.held_bytes == 0
    with pytest.raises(UpstreamProtocolError, match="larger than 4"):
        async with http.send(GET) as response:
            await response.read(4)
