"""One request and its answer, as ASGI has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from proxy_api._edge._refusals import BROKE, STOPS

if TYPE_CHECKING:
    from proxy_api._edge._connection import Connection

__all__ = ["HIGH", "MUCH", "Cycle"]

HIGH: Final = 128 * 1024
"""Bytes of a body that are kept for an app that doesn't read."""
MUCH: Final = 1024 * 1024
"""Bytes for which an app that waits is woken: each part that it gets costs a copy."""
_BODILESS: Final = frozenset({204, 304, *range(100, 200)})
_COPIED: Final = 16 * 1024
"""Bytes of a body up to which a copy costs less than to write it apart from its head."""


class Cycle:
    """``receive`` and ``send`` of one request; also the GoneSignal that it offers."""

    # Most of these keep their default for most requests: no slots, which would all be set.
    connection: Connection
    task: asyncio.Task[None] | None = None
    callback: Callable[[], None] | None = None
    """Called when the client has gone."""
    is_old: bool = False
    """Whether it is HTTP/1.0."""
    expects: bool = False
    """Whether the client waits for ``100 Continue``."""
    cors: bytes = b""
    """Header lines for the browser of a page."""
    size: int = 0
    """Bytes in ``parts``."""
    received: int = 0
    """Bytes of the body that have come."""
    more_body: bool = True
    begun: bool = False
    """Whether the head of the answer is on its way."""
    complete: bool = False
    gone: bool = False

    _start: Any = None
    """Status and headers of the answer."""
    _chunked: bool = False
    _left: int = -1
    _given: bool = False
    _news: asyncio.Event | None = None

    def __init__(self, method: str, *, keep_alive: bool) -> None:
        self.method = method
        self.keep_alive = keep_alive
        self.parts: list[bytes] = []
        self._is_bare = method == "HEAD"

    @property
    def is_waited_for(self) -> bool:
        """Whether the app waits for more of the body."""
        return self._news is not None

    @property
    def ends_by_close(self) -> bool:
        """Whether the client takes a close for the end of the body."""
        return self.begun and not self._chunked and self._left < 0

    def wake(self) -> None:
        """There is something for who waits in ``receive``."""
        news, self._news = self._news, None
        if news is not None:
            news.set()

    async def run(self, app: Any, scope: dict[str, Any], tasks: set[Any]) -> None:
        """Let the app answer."""
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            # The server stops: whoever is cancelled by its client's leave has gone already.
            self.connection.broke(self, STOPS)
        except Exception:
            self.connection.house.logger.exception("asgi_app_broke", path=scope["path"])
            self.connection.broke(self, BROKE)
        else:
            if not self.complete and not self.gone:
                self.connection.house.logger.error("asgi_app_left_off", path=scope["path"])
                self.connection.broke(self, BROKE)
        finally:
            tasks.discard(self.task)

    async def receive(self) -> dict[str, Any]:
        """The next part of the body, rather a large one; after its end, the client's leave."""
        if self._given or (self.more_body and self.size < MUCH):
            await self._wait()
        if self.gone or self.complete:
            return {"type": "http.disconnect"}
        parts, self.parts = self.parts, []
        self.size = 0
        self._given = not self.more_body
        if self.connection.reading_paused:
            self.connection.resume_reading()
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def _wait(self) -> None:
        if self.gone or self.complete:
            return
        if self.expects and not self.begun and not self.received:
            self.expects = False
            self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.connection.reading_paused:
            self.connection.resume_reading()
        if self._news is None:
            self._news = asyncio.Event()
        await self._news.wait()

    async def send(self, message: Any) -> None:
        """A message of the answer. The head waits for the first part, and goes out with it."""
        writable = self.connection.writable
        if writable is not None and not self.gone:
            await writable.wait()
        if self.gone:
            return
        if self._start is not None:
            if message["type"] != "http.response.body":
                raise self._out_of_turn(message["type"])
            self.write(message.get("body", b""), more=message.get("more_body", False))
        elif message["type"] == "http.response.start":
            self.start(message["status"], message.get("headers") or ())
        else:
            raise self._out_of_turn(message["type"])

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """The head of the answer, once."""
        self._start = (status, headers)

    def write(self, body: bytes, *, more: bool) -> bool:
        """A part of the body, at once. False when the next one has to wait, or need not come.

        Who calls it and gets False goes on with ``send``, which waits.
        """
        connection = self.connection
        if self.gone:
            return False
        if more and body and self._chunked and self.begun and not self.complete:
            connection.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
            return connection.writable is None
        if self.complete:
            raise self._out_of_turn("http.response.body")
        head = b"" if self.begun else self._head(len(body), more=more)
        body = self._framed(body, more=more)
        if head:
            self.begun = True
            if len(body) > _COPIED:
                connection.transport.write(head)
            else:
                body = head + body
        if body:
            connection.transport.write(body)
        if not more:
            self.complete = True
            connection.answered(self)
        return connection.writable is None

    def _framed(self, body: bytes, *, more: bool) -> bytes:
        if self._left >= 0:
            # A body that is longer than it was said to be would be read as another answer.
            left = self._left - len(body)
            if left < 0 or (left and not more):
                raise RuntimeError("the body is not as long as its content-length says")
            self._left = left
        elif self._chunked:
            # An empty chunk would be the last one.
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return framed if more else framed + b"0\r\n\r\n"
        elif self._is_bare:
            return b""
        return body

    def _out_of_turn(self, kind: str) -> RuntimeError:
        return RuntimeError(f"the ASGI message {kind!r} is out of turn")

    def _head(self, size: int, *, more: bool) -> bytes:
        """The status line and all headers, with what frames the body."""
        connection, (status, headers) = self.connection, self._start
        house = connection.house
        parts = [house.head(status), self.cors]
        length = connects = None
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                length = value
            elif name == b"connection":
                connects = value
        lines = house.lines + len(headers) + 1
        if length is None or self._is_bare or status == 304:
            framing = self._framing(status, size, more=more)
            parts.append(framing)
            lines += framing.count(b"\n")
        else:
            self._left = int(length)
        if self.more_body or (house.closes and not connection.queue) or connects == b"close":
            self.keep_alive = False
        if not self.keep_alive and connects is None:
            parts.append(b"connection: close\r\n")
            lines += 1
        parts.append(b"\r\n")
        head = b"".join(parts)
        if self.cors:
            lines += self.cors.count(b"\n")
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise RuntimeError("a header of the answer has a line end in it")
        return head

    def _framing(self, status: int, size: int, *, more: bool) -> bytes:
        if self._is_bare or status in _BODILESS:
            self._is_bare = True
            return b""
        if not more:
            self._left = size
            return b"content-length: %d\r\n" % size
        if self.is_old:
            # Only the end of the connection tells the end of such a body.
            self.keep_alive = False
            return b""
        self._chunked = True
        return b"transfer-encoding: chunked\r\n"
