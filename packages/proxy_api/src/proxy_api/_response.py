"""The response owns its journey: the block closes when the last byte is out or the client gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing, suppress
from typing import Final, Protocol

from starlette.types import Message, Receive, Scope, Send

from proxy_api._arrival import Arrival, ClientGone
from proxy_api._edge._cycle import Cycle
from proxy_api._errors import answer_to, error_event
from proxy_api._journey import journey
from proxy_api._pulse import Pulse
from proxy_api._snapshot import Snapshot
from proxy_core import Headers, Ready, Reply
from proxy_core.dialects import OpenAIDialect
from proxy_core.errors import ProxyError, ShuttingDown
from proxy_logging import StructuredLogger

__all__ = ["HasSnapshot", "Surface"]

_STREAM: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_JSON: Final = (b"content-type", b"application/json")
_COMMENT: Final = b": keepalive\n\n"
_LAST_WORDS: Final = 1.0
"""Seconds for a client that takes nothing to take them."""
_STOPS: Final = "The proxy stops, and the time that server.drain gives is over: ask again."


class HasSnapshot(Protocol):
    """Where a surface finds the snapshot of the moment, and says for how long it needs it."""

    def enter(self) -> Snapshot: ...
    def leave(self, snapshot: Snapshot) -> None: ...


class Surface:
    """One hot route, as a bare ASGI app: it reads, runs the journey, and sends."""

    def __init__(
        self, dialect: OpenAIDialect, house: HasSnapshot, logger: StructuredLogger
    ) -> None:
        self._dialect = dialect
        self._name = dialect.name.rpartition(".")[2]
        self._house = house
        self._logger = logger
        self._pulse = Pulse()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        house = self._house.enter()
        arrival = Arrival(scope, receive, self._dialect, self._name)
        sending = _Sending(arrival, send)
        self._pulse.watch(sending, house.rhythm)
        try:
            with arrival.departure:
                try:
                    await journey(arrival, house, sending.reply)
                except BaseException as error:  # noqa: BLE001 - what isn't answered is raised again
                    await self._fail(error, arrival, sending)
                else:
                    if not sending.ended:
                        await sending.end()
        finally:
            self._pulse.forget(sending)
            self._house.leave(house)

    async def _fail(self, error: BaseException, arrival: Arrival, sending: _Sending) -> None:
        if isinstance(error, ClientGone):
            return
        if isinstance(error, asyncio.CancelledError) and not arrival.departure.gone:
            # Not the client: the server ends, and waits for no more than these last words.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await sending.fail(ShuttingDown(_STOPS))
            return
        if not isinstance(error, Exception):
            raise error
        if not isinstance(error, ProxyError):
            self._logger.error("request_broke", request_id=arrival.request_id, exc_info=error)
        await sending.fail(error)


class _Sending:
    """The ASGI messages of one answer; after ``begun`` its status is spent."""

    __slots__ = ("_arrival", "_busy", "_cycle", "_loop", "_send", "ended", "sent_at")

    def __init__(self, arrival: Arrival, send: Send) -> None:
        self._arrival = arrival
        self._send = send
        # What stands between the server and us is to see each message; as a rule nothing does.
        own = getattr(send, "__self__", None)
        self._cycle = own if isinstance(own, Cycle) else None
        self._loop = asyncio.get_running_loop()
        self._busy = False
        self.ended = False
        self.sent_at = self._loop.time()

    @property
    def begun(self) -> bool:
        return self._arrival.is_committed

    @property
    def wants_comments(self) -> bool:
        return self._arrival.is_stream and not self._busy and not self.ended

    async def comment(self) -> None:
        """A line that says nothing, at the boundary of two events."""
        if not self.begun:
            await self._head(200, list(_STREAM))
        await self._part(_COMMENT)

    async def reply(self, reply: Reply) -> None:
        """All of an answer."""
        if not reply.stream:
            body = reply.body
            whole = (
                body.take()
                if isinstance(body, Ready)
                else b"".join([chunk async for chunk in body])
            )
            length = (b"content-length", b"%d" % len(whole))
            await self._whole(200, [_JSON, length, *reply.headers], whole)
            return
        if not self.begun:
            await self._head(200, [*_STREAM, *reply.headers])
        async with aclosing(reply.body) as chunks:
            pour = getattr(chunks, "pour", None)
            if self._cycle is None or pour is None:
                async for chunk in chunks:
                    await self._part(chunk)
                return
            # Pieces are written while the loop reads them: no task is switched to for each.
            while not await pour(self._write):
                # An empty part is none, but waits until the client has room for more.
                await self._part(b"")

    async def fail(self, error: Exception) -> None:
        """A status while there is still one to give; after it the error travels in the stream."""
        if not self.begun:
            answer = answer_to(error)
            await self._whole(answer.status, answer.headers + self._arrival.trail, answer.body)
            return
        # No [DONE] follows: the stream must not end as if it were whole.
        if not self._arrival.is_stream:
            raise error
        await self._part(error_event(error))
        await self.end()

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
        headers.append((b"x-request-id", arrival.request_id.encode()))

    def _start(self, status: int, headers: Headers) -> Message:
        self._begin(headers)
        return {"type": "http.response.start", "status": status, "headers": headers}

    def _part(self, chunk: bytes) -> Awaitable[None]:
        return self._out({"type": "http.response.body", "body": chunk, "more_body": True})

    def _write(self, chunk: bytes) -> bool:
        """The same at once. False when the client has to be waited for."""
        self.sent_at = self._loop.time()
        return self._cycle is not None and self._cycle.write(chunk, more=True)

    async def _out(self, message: Message) -> None:
        self._busy = True
        await self._send(message)
        self._busy = False
        self.sent_at = self._loop.time()
