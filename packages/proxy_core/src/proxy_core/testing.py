"""Doubles for those who build on proxy_core, and for its own tests.

``FakeProvider`` answers calls as scripted, ``FakeHttp`` HTTP requests; both count what is open.
``Valkey`` is no double: it is the server itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from proxy_core._doubles import CountingBreaker, CountingLimiter, ManualClock
from proxy_core._http_types import HttpRequest, HttpResponse, PoolLimits
from proxy_core._types import Call, Headers, Reply, Timeouts, Usage
from proxy_core._valkey import Valkey
from proxy_core.errors import UpstreamError

__all__ = [
    "CountingBreaker",
    "CountingLimiter",
    "FakeHttp",
    "FakeProvider",
    "ManualClock",
    "Script",
    "Valkey",
]

_HEAD = b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"fake","choices":'
_CHUNKS = (
    _HEAD + b'[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n',
    _HEAD + b'[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n',
    _HEAD + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
)


@dataclass(frozen=True, slots=True)
class Script:
    """What a FakeProvider does with one call.

    ``fails``: raised before anything; ``hangs``: seconds of silence before the first chunk;
    ``breaks_at``: the chunk before which ``breaks_with`` is raised; ``content_at``: the first chunk
    that counts as content; ``pause``: seconds between chunks.
    """

    chunks: Sequence[bytes] = _CHUNKS
    fails: BaseException | None = None
    hangs: float = 0.0
    breaks_at: int | None = None
    breaks_with: BaseException = field(
        default_factory=lambda: UpstreamError("the fake upstream broke off")
    )
    content_at: int = 1
    pause: float = 0.0
    usage: Usage = field(default_factory=lambda: Usage(7, 3, reported=True))


class FakeProvider:
    """A provider without a network. Plays its scripts in turn, the last one for ever.

    ``calls`` has what was asked, ``open`` counts answers being read, ``opened`` those begun.
    """

    def __init__(self, *scripts: Script, name: str = "fake") -> None:
        self.name = name
        self._scripts = scripts or (Script(),)
        self.calls: list[tuple[Call, str]] = []
        self.open = 0
        self.opened = 0

    @asynccontextmanager
    async def send(
        self, call: Call, *, model: str, timeouts: Timeouts = Timeouts()
    ) -> AsyncIterator[Reply]:
        """Play the next script."""
        script = self._scripts[min(len(self.calls), len(self._scripts) - 1)]
        self.calls.append((call, model))
        if script.fails is not None:
            raise script.fails
        self.open += 1
        self.opened += 1
        try:
            reply = Reply(body=iter_chunks(()), stream=call.stream)
            reply.body = _play(script, reply)
            async with aclosing(reply.body):
                yield reply
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        """Nothing to close."""


async def _play(script: Script, reply: Reply) -> AsyncGenerator[bytes, None]:
    await asyncio.sleep(script.hangs)
    for number, chunk in enumerate(script.chunks):
        if number == script.breaks_at:
            raise script.breaks_with
        if number >= script.content_at and reply.content_at is None:
            reply.content_at = time.monotonic()
        yield chunk
        await asyncio.sleep(script.pause)
    reply.usage.take(script.usage)


async def iter_chunks(chunks: Sequence[bytes | BaseException]) -> AsyncGenerator[bytes, None]:
    """These chunks as a body; an exception among them is raised in its turn."""
    for chunk in chunks:
        if isinstance(chunk, BaseException):
            raise chunk
        yield chunk


Answer = tuple[int, Headers, Sequence[bytes | BaseException]]
"""Status, headers with lower-case names, and what comes of the body, piece by piece."""


class FakeHttp:
    """A client without a network, for whoever takes an HttpClient: ``create_provider(http=…)``.

    ``answer`` makes an Answer of a request. An error that it raises, or gives instead of an answer,
    is raised before the head; one among the chunks when the body is read so far:

    >>> import asyncio
    >>> from proxy_core import HttpRequest
    >>> from proxy_core.errors import ConnectFailed, UpstreamDisconnected
    >>> from proxy_core.testing import FakeHttp
    >>> def upstream(request):
    ...     if request.url.endswith("/v1/models"):
    ...         return 200, [(b"content-type", b"application/json")], [b'{"data":', b"[]}"]
    ...     if request.url.endswith("/cut"):
    ...         return 200, [], [b"half of ", UpstreamDisconnected("it broke off")]
    ...     return ConnectFailed("nobody listens there")
    >>> http = FakeHttp(upstream)
    >>> async def get(path):
    ...     request = HttpRequest("GET", f"http://gpu.example{path}", [])
    ...     try:
    ...         async with http.send(request) as response:
    ...             return response.status, await response.read()
    ...     except (ConnectFailed, UpstreamDisconnected) as failure:
    ...         return failure.code
    >>> asyncio.run(get("/v1/models"))
    (200, b'{"data":[]}')
    >>> asyncio.run(get("/cut"))
    'upstream_disconnected'
    >>> asyncio.run(get("/"))
    'upstream_unreachable'
    >>> [request.url for request in http.requests], http.open
    (['http://gpu.example/v1/models', 'http://gpu.example/cut', 'http://gpu.example/'], 0)

    ``open`` counts the answers whose block is not left, ``closed`` says whether it was closed.
    """

    def __init__(self, answer: Callable[[HttpRequest], Answer | Exception]) -> None:
        self._answer = answer
        self._held: set[HttpResponse] = set()
        self.requests: list[HttpRequest] = []
        self.open = 0
        self.closed = False

    @property
    def held_bytes(self) -> int:
        """Bytes of answers that are being collected."""
        return sum(response.held_bytes for response in self._held)

    @asynccontextmanager
    async def send(
        self, request: HttpRequest, *, timeouts: Timeouts = Timeouts()
    ) -> AsyncIterator[HttpResponse]:
        """Answer as the function says."""
        self.requests.append(request)
        answer = self._answer(request)
        if isinstance(answer, Exception):
            raise answer
        status, headers, chunks = answer
        response = HttpResponse(status, headers, iter_chunks(chunks), PoolLimits().max_answer)
        self.open += 1
        self._held.add(response)
        try:
            async with aclosing(response.body):
                yield response
        finally:
            self.open -= 1
            self._held.discard(response)

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True
