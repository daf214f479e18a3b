"""Doubles for those who build on proxy_core, and for its own tests.

``FakeProvider`` answers calls as scripted, ``FakeHttp`` HTTP requests; both count what is open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from proxy_core._doubles import CountingBreaker, CountingLimiter, ManualClock
from proxy_core._http import HttpRequest, HttpResponse
from proxy_core._types import Call, Headers, Reply, Timeouts, Usage
from proxy_core.errors import UpstreamError

__all__ = [
    "CountingBreaker",
    "CountingLimiter",
    "FakeHttp",
    "FakeProvider",
    "ManualClock",
    "Script",
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


async def iter_chunks(chunks: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
    """These chunks as a body."""
    for chunk in chunks:
        yield chunk


Answer = tuple[int, Headers, Sequence[bytes]]


class FakeHttp:
    """A client without a network: ``answer`` turns a request into an Answer, or raises."""

    held_bytes = 0

    def __init__(self, answer: Callable[[HttpRequest], Answer]) -> None:
        self._answer = answer
        self.requests: list[HttpRequest] = []
        self.open = 0
        self.closed = False

    @asynccontextmanager
    async def send(
        self, request: HttpRequest, *, timeouts: Timeouts
    ) -> AsyncIterator[HttpResponse]:
        """Answer as the function says."""
        self.requests.append(request)
        status, headers, chunks = self._answer(request)
        self.open += 1
        try:
            yield HttpResponse(status, headers, iter_chunks(chunks), 64 * 1024 * 1024)
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True
