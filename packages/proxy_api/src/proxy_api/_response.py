"""The response owns its journey: the block closes when the last byte is out or the client gone."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from starlette.types import Receive, Scope, Send

from proxy_api._arrival import Arrival, ClientGone
from proxy_api._errors import answer_to, error_event
from proxy_api._journey import journey
from proxy_api._snapshot import Snapshot
from proxy_core import Reply
from proxy_core.dialects import OpenAIDialect
from proxy_core.errors import ProxyError
from proxy_logging import StructuredLogger

__all__ = ["Surface"]

_STREAM: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Surface:
    """One hot route, as a bare ASGI app: it reads, runs the journey, and sends."""

    def __init__(
        self, dialect: OpenAIDialect, house: SnapshotSource, logger: StructuredLogger
    ) -> None:
        self._dialect = dialect
        self._house = house
        self._logger = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrival = Arrival(scope, receive, self._dialect)
        sending = _Sending(arrival, send)
        with arrival.departure:
            try:
                async with journey(arrival, self._house.snapshot) as reply, aclosing(reply.body):
                    if reply.stream:
                        await sending.stream(reply)
                    else:
                        await sending.whole(reply)
            except ClientGone:
                return
            except ProxyError as error:
                await sending.fail(error)
            except Exception as error:
                self._logger.exception("request_broke", request_id=arrival.request_id)
                await sending.fail(error)
            else:
                await sending.end()


class SnapshotSource:
    """Where a surface finds the snapshot of the moment."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


class _Sending:
    """The ASGI messages of one answer, and whether its status is spent."""

    __slots__ = ("_arrival", "_begun", "_send")

    def __init__(self, arrival: Arrival, send: Send) -> None:
        self._arrival = arrival
        self._send = send
        self._begun = False

    async def stream(self, reply: Reply) -> None:
        await self._head(200, [*_STREAM, *reply.headers])
        async for chunk in reply.body:
            await self._part(chunk)

    async def whole(self, reply: Reply) -> None:
        body = b"".join([chunk async for chunk in reply.body])
        shape = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self._head(200, shape + reply.headers)
        await self._part(body)

    async def fail(self, error: Exception) -> None:
        """A status while there is still one to give; after it the error travels in the stream."""
        if self._begun:
            # No [DONE] follows: the stream must not end as if it were whole.
            await self._part(error_event(error))
        else:
            answer = answer_to(error)
            await self._head(answer.status, answer.headers)
            await self._part(answer.body)
        await self.end()

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _part(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._begun = True
        request_id = (b"x-request-id", self._arrival.request_id.encode())
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, request_id]}
        )
