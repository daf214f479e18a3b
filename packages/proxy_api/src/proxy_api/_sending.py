"""The messages of one answer: whole, as a stream of events, or as a JSON array that grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import ClassVar, Final

from starlette.types import Message, Send

from proxy_api._arrival import Arrival
from proxy_api._edge._cycle import Cycle
from proxy_api._error_shapes import answer_to
from proxy_api._errors import fault_of
from proxy_core import Headers, Ready, Reply
from proxy_core.dialects._gemini import EventsAsArray
from proxy_core.errors import UpstreamProtocolError

__all__ = ["ArraySending", "Sending"]

_UNBUFFERED: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
"""What somebody else has made is no page of ours."""
_BODILESS: Final = frozenset({204, 304})
_JSON: Final = (b"content-type", b"application/json")


class Sending:
    """The ASGI messages of one answer; after ``begun`` its status is spent."""

    __slots__ = ("_arrival", "_busy", "_cycle", "_last", "_send", "ended", "sent_at")

    _STREAM: ClassVar[tuple[tuple[bytes, bytes], ...]] = (
        (b"content-type", b"text/event-stream; charset=utf-8"),
        *_UNBUFFERED,
    )

    def __init__(self, arrival: Arrival, send: Send) -> None:
        self._arrival = arrival
        self._send = send
        # What stands between the server and us is to see each message; as a rule nothing does.
        own = getattr(send, "__self__", None)
        self._cycle = own if isinstance(own, Cycle) else None
        self._busy = False
        self._last = b""
        """The events that were sent last."""
        self.ended = False
        self.sent_at = arrival.received_at

    @property
    def begun(self) -> bool:
        return self._arrival.is_committed

    @property
    def wants_comments(self) -> bool:
        return self._arrival.is_stream and not self._busy and not self.ended

    async def comment(self) -> None:
        """What says nothing, at the boundary of two events."""
        if not self.begun:
            await self._head(200, list(self._STREAM))
        await self._part(self._arrival.face.shape.keepalive)

    def reply(self, reply: Reply) -> Awaitable[None]:
        """All of an answer."""
        if reply.media is not None:
            return self._as_it_comes(reply, reply.media)
        if reply.stream:
            return self._events(reply)
        body = reply.body
        return self._json(reply, body.take()) if isinstance(body, Ready) else self._joined(reply)

    def _json(self, reply: Reply, body: bytes) -> Awaitable[None]:
        length = (b"content-length", b"%d" % len(body))
        return self._whole(200, [_JSON, length, *reply.headers], body)

    async def _joined(self, reply: Reply) -> None:
        await self._json(reply, b"".join([chunk async for chunk in reply.body]))

    async def _events(self, reply: Reply) -> None:
        if not self.begun:
            await self._head(200, [*self._STREAM, *reply.headers])
        async with aclosing(reply.body) as chunks:
            await self._pass(chunks)

    async def _as_it_comes(self, reply: Reply, media: bytes) -> None:
        """An answer of the upstream's own type."""
        if self.begun:
            raise UpstreamProtocolError("the upstream answered whole where events were asked for")
        kind = [(b"content-type", media)] if media else []
        headers = [*kind, _NO_SNIFFING, *reply.headers]
        body = reply.body
        if not isinstance(body, Ready):
            await self._head(reply.status, headers)
            async with aclosing(body) as chunks:
                await self._pass(chunks)
            return
        whole = body.take()
        if reply.status not in _BODILESS:
            headers.append((b"content-length", b"%d" % len(whole)))
        await self._whole(reply.status, headers, whole)

    async def _pass(self, chunks: AsyncGenerator[bytes, None]) -> None:
        """The events of a stream, as they come."""
        pour = getattr(chunks, "pour", None)
        if self._cycle is None or pour is None:
            async for chunk in chunks:
                self._last = chunk
                await self._part(chunk)
            return
        # Pieces are written while the loop reads them: no task is switched to for each.
        while not await pour(self._write):
            # An empty part is none, but waits until the client has room for more.
            await self._part(b"")

    async def fail(self, error: Exception) -> None:
        """A status while there is still one to give; after it the error travels in the stream."""
        arrival = self._arrival
        shape = arrival.face.shape
        if not self.begun:
            answer = answer_to(error, shape, arrival.request_id)
            await self._whole(answer.status, answer.headers + arrival.trail, answer.body)
            return
        # No [DONE] follows: the stream must not end as if it were whole.
        if not arrival.is_stream:
            raise error
        await self._part(self._failed(error))
        await self.end()

    def _failed(self, error: Exception) -> bytes:
        """The last of a stream that broke."""
        arrival = self._arrival
        return arrival.face.shape.event(fault_of(error), arrival.request_id, self._last)

    async def end(self) -> None:
        """Nothing more comes."""
        if not self.ended:
            self.ended = True
            await self._out({"type": "http.response.body", "body": b"", "more_body": False})

    async def _whole(self, status: int, headers: Headers, body: bytes) -> None:
        self.ended = True
        cycle = self._cycle
        if cycle is not None and cycle.connection.writable is None:
            self._begin(headers)
            cycle.start(status, headers)
            cycle.write(body, more=False)
            return
        await self._send(self._start(status, headers))
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _head(self, status: int, headers: Headers) -> Awaitable[None]:
        return self._out(self._start(status, headers))

    def _begin(self, headers: Headers) -> None:
        arrival = self._arrival
        arrival.is_committed = True
        request_id = arrival.request_id.encode()
        for name in arrival.face.shape.id_headers:
            headers.append((name, request_id))

    def _start(self, status: int, headers: Headers) -> Message:
        self._begin(headers)
        return {"type": "http.response.start", "status": status, "headers": headers}

    def _part(self, chunk: bytes) -> Awaitable[None]:
        return self._out({"type": "http.response.body", "body": chunk, "more_body": True})

    def _write(self, chunk: bytes) -> bool:
        """The same at once. False when the client has to be waited for."""
        self._last = chunk
        self.sent_at = time.monotonic()
        return self._cycle is not None and self._cycle.write(chunk, more=True)

    async def _out(self, message: Message) -> None:
        self._busy = True
        await self._send(message)
        self._busy = False
        self.sent_at = time.monotonic()


class ArraySending(Sending):
    """A stream for who didn't ask for events: Google then sends one JSON array, as it grows."""

    __slots__ = ("_array",)

    _STREAM: ClassVar = (_JSON, *_UNBUFFERED)

    def __init__(self, arrival: Arrival, send: Send) -> None:
        super().__init__(arrival, send)
        self._array = EventsAsArray()

    async def reply(self, reply: Reply) -> None:
        """All of an answer: it is not complete without the array's end."""
        try:
            await super().reply(reply)
        except asyncio.CancelledError:
            reply.given = False
            raise

    async def comment(self) -> None:
        """Space between two items, or before all of them."""
        if not self.begun:
            await self._head(200, list(self._STREAM))
        await self._part(b"\n")

    async def _pass(self, chunks: AsyncGenerator[bytes, None]) -> None:
        async for chunk in chunks:
            if items := self._array.feed(chunk):
                await self._part(items)
        await self._part(self._array.end())

    def _failed(self, error: Exception) -> bytes:
        arrival = self._arrival
        whole = arrival.face.shape.whole(fault_of(error), arrival.request_id)
        return self._array.value(whole) + self._array.end()
