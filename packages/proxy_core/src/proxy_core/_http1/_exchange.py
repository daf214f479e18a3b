"""One request and its answer: the block that a caller is in while the body is read."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from proxy_core._http import HttpRequest, HttpResponse
from proxy_core._http1._connection import Connection
from proxy_core._types import Timeouts

if TYPE_CHECKING:
    from proxy_core._http1._client import Http1Client

__all__ = ["Exchange"]


class Body(AsyncGenerator[bytes, None]):
    """The bytes of an answer as they come; what came together is given together.

    ``left`` is what is left of the total. Only waiting uses it up: our own reader may be slow.
    """

    __slots__ = ("_left", "_limit", "_next_limit", "_phase", "connection")

    def __init__(self, connection: Connection, timeouts: Timeouts, left: float) -> None:
        self.connection: Connection | None = connection
        self._left = left
        self._limit, self._phase = timeouts.first_byte, "first_byte"
        self._next_limit = timeouts.between_events

    async def __anext__(self) -> bytes:
        connection = self.connection
        if connection is None:
            raise StopAsyncIteration
        parser = connection.parser
        while not parser.parts:
            if parser.complete:
                raise StopAsyncIteration
            if connection.error is not None:
                raise connection.error from None
            began = time.monotonic()
            if self._left <= self._limit:
                await connection.more(self._left, "total")
            else:
                await connection.more(self._limit, self._phase)
            self._left -= time.monotonic() - began
        self._limit, self._phase = self._next_limit, "between_events"
        return connection.take()

    async def asend(self, value: None) -> bytes:
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> bytes:
        self.connection = None
        raise typ if val is None else val

    async def aclose(self) -> None:
        self.connection = None


class Exchange:
    """Sends when it is entered; gives the connection back, or closes it, when it is left."""

    __slots__ = ("_body", "_client", "_connection", "_request", "_response", "_timeouts")

    def __init__(self, client: Http1Client, request: HttpRequest, timeouts: Timeouts) -> None:
        self._client = client
        self._request = request
        self._timeouts = timeouts
        self._connection: Connection | None = None

    async def __aenter__(self) -> HttpResponse:
        client, request, timeouts = self._client, self._request, self._timeouts
        until = time.monotonic() + timeouts.total
        target, head = client.compose(request)
        connection = client.taken(target)
        try:
            if connection is None:
                connection = await client.connection(target, timeouts, until)
            self._connection = connection
            is_head = request.method == "HEAD"
            try:
                connection.send(head, request.body, is_head=is_head)
                await connection.head(timeouts.first_byte, until)
            except Exception:
                if not connection.was_dead:
                    raise
                self._connection = None
                connection = await client.replaced(connection, target, timeouts, until)
                self._connection = connection
                connection.send(head, request.body, is_head=is_head)
                await connection.head(timeouts.first_byte, until)
        except BaseException:
            if self._connection is not None:
                client.give_back(self._connection)
            raise
        self._body = Body(connection, timeouts, until - time.monotonic())
        parser = connection.parser
        self._response = HttpResponse(parser.status, parser.headers, self._body, client.max_answer)
        client.open.add(self._response)
        return self._response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        client, connection = self._client, self._connection
        self._body.connection = None
        client.open.discard(self._response)
        if connection is not None:
            client.give_back(connection)
