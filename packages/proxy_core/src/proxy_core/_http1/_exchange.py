"""One request and its answer: the block that a caller is in while the body is read."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from proxy_core._http1._connection import Connection
from proxy_core._http_types import HttpRequest, HttpResponse
from proxy_core._types import Headers, Timeouts
from proxy_core.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from proxy_core._http1._engine import Http1Engine

__all__ = ["Exchange"]


class Exchange(HttpResponse, AsyncGenerator[bytes, None]):
    """Sends when it is entered; gives the connection back, or closes it, when it is left.

    It is the answer too, and the answer's body: one object for each request. What came together is
    given together. Of the total only waiting is taken: our own reader may be slow.
    """

    __slots__ = (
        "_connection",
        "_engine",
        "_head",
        "_is_closed",
        "_left",
        "_limit",
        "_phase",
        "_request",
        "_timeouts",
    )

    def __init__(self, engine: Http1Engine, request: HttpRequest, timeouts: Timeouts) -> None:
        self._engine = engine
        self._request = request
        self._timeouts = timeouts
        self._connection: Connection | None = None
        self._is_closed = False
        self.held_bytes = 0

    # the block

    async def __aenter__(self) -> HttpResponse:
        engine, request, timeouts = self._engine, self._request, self._timeouts
        del self._request  # a stream may be open for long, and needs no prompt any more
        now = time.monotonic()
        until = now + timeouts.total
        target, head = engine.compose(request)
        connection = engine.taken(target, now)
        if connection is None:
            connection = await engine.connection(target, timeouts, until)
            now = time.monotonic()
        self._connection = connection
        body, limit, is_head = request.body, timeouts.first_byte, request.method == "HEAD"
        try:
            await connection.ask(head, body, now, limit, until, is_head=is_head)
            if not connection.parser.status:
                if connection.was_dead:
                    self._connection = None
                    connection = await engine.replaced(connection, target, timeouts, until)
                    self._connection = connection
                    now = time.monotonic()
                    await connection.ask(head, body, now, limit, until, is_head=is_head)
                connection.check()
        except BaseException:
            if self._connection is not None:
                engine.give_back(self._connection)
            raise
        parser = connection.parser
        self.status, self._head = parser.status, parser.head
        if not parser.complete:
            self._left = until - time.monotonic()
            self._limit, self._phase = limit, "first_byte"
        engine.open.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection, self._connection = self._connection, None
        engine = self._engine
        engine.open.discard(self)
        if connection is not None:
            engine.give_back(connection)

    # the answer

    @property
    def headers(self) -> Headers:
        """Lower-case names and values, in their order."""
        return self._head.headers

    @property  # type: ignore[misc]
    def body(self) -> AsyncGenerator[bytes, None]:
        return self

    def header(self, name: bytes) -> bytes:
        """The first value of a header, empty when it is missing. ``name`` is lower-case."""
        return self._head.first(name)

    async def read(self, at_most: int | None = None) -> bytes:
        """The whole body. Raises UpstreamProtocolError when it is larger than the cap."""
        connection = self._connection
        cap = self._engine.max_answer if at_most is None else at_most
        if connection is None or not connection.parser.complete:
            return await super().read(cap)
        whole = connection.take()
        held = self.held_bytes = self.held_bytes + len(whole)
        if held > cap:
            raise UpstreamProtocolError(f"the upstream's answer is larger than {cap} bytes")
        return whole

    # its body

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None or self._is_closed:
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
        self._limit, self._phase = self._timeouts.between_events, "between_events"
        return connection.take()

    async def pour(self, sink: Callable[[bytes], bool]) -> bool:
        connection = self._connection
        while connection is not None and not self._is_closed:
            parser, between = connection.parser, self._timeouts.between_events
            if parser.parts:
                self._limit, self._phase = between, "between_events"
                if not sink(connection.take()):
                    return False
            if parser.complete and not parser.parts:
                return True
            if connection.error is not None:
                raise connection.error from None
            began = time.monotonic()
            until = began + self._left
            try:
                goes_on = await connection.pour(sink, self._limit, self._phase, until, between)
            finally:
                self._left -= time.monotonic() - began
            if not goes_on:
                return False
        return True

    async def asend(self, value: None) -> bytes:
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> bytes:
        self._is_closed = True
        raise typ if val is None else val

    async def aclose(self) -> None:
        """Read no more of the body."""
        self._is_closed = True
