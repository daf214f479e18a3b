"""One connection: its requests in their order, their refusals, and the moment its client leaves."""

from __future__ import annotations

from typing import Any, Final

from proxy_api._edge._cycle import Cycle
from proxy_api._edge._known import KnownHead
from proxy_api._edge._proxy_protocol import NotProxied, read_preface
from proxy_api._edge._reader import Reader
from proxy_api._edge._refusals import FOREIGN_PAGE, FULL, TOO_MANY, Refusal, bad
from proxy_api._edge._wire import Wire, reset

__all__ = ["Connection"]

_MOST_AHEAD: Final = 1024 * 1024
"""Bytes of bodies that one connection may send ahead. No client of ours sends any."""
_MOST_DROPPED: Final = 64 * 1024 * 1024
"""Bytes that such a client may still send."""
_MOST_TURNED_AWAY: Final = 128
"""Connections above their limit that are told so; further ones are only closed."""


class Connection(Wire):
    """Reads, answers in turn, and refuses. Its end in time is the subclass's."""

    __slots__ = (
        "_dropped",
        "_drops",
        "_last_words",
        "_lingers",
        "_odd",
        "_preface",
        "_reader",
        "_since",
        "has_asked",
        "queue",
        "running",
    )

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.has_asked = False
        """Whether this connection has ever had a request."""
        self.running: Cycle | None = None
        """The request that is being answered."""
        self.queue: list[tuple[Cycle, dict[str, Any], Any]] = []
        """Requests behind it, each with its scope and its app."""
        self._last_words: Refusal | None = None
        self._odd = self._drops = self._lingers = False
        self._preface: bytes | None = None
        self._dropped = 0

    @property
    def reads_head(self) -> bool:
        """Whether a part of a request's head has come."""
        return self._reader.reads_head

    # The transport calls.

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        state, house = self.server_state, self.house
        others = len(state.connections)
        state.connections.add(self)
        house.enter(self.loop, self.write_stall)
        self._reader = Reader(self, house)
        self._since = house.now
        if others >= house.rules.connections + _MOST_TURNED_AWAY:
            self.transport.abort()
        elif others >= house.rules.connections:
            self._refuse(FULL)
        elif house.rules.proxy_protocol and self.is_trusted:
            self._odd, self._preface = True, b""

    def data_received(self, data: bytes) -> None:
        if self._odd:
            data = self._set_aside(data)
            if not data:
                return
        fault = self._reader.feed(data)
        if fault is not None and not self._drops:
            self._refuse(fault)
        if self.queue:
            if self.running is None:
                self._begin()
            if self.queue:
                self._check_ahead()

    def eof_received(self) -> None:
        transport = self.transport
        if self._tell():
            # A plain close would first wait until the client has read what it was sent.
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)
        self._tell()
        self.hear_no_more()
        self._reader.close()
        self.resume_writing()

    # The reader and the cycles call.

    def asked(
        self,
        cycle: Cycle,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        named: dict[bytes, bytes],
        known: KnownHead | None = None,
    ) -> None:
        """A request's head has been read, or was known."""
        cycle.connection = self
        self.has_asked = True
        app, cors = self.app, self.house.rules.cors
        if cors is not None:
            origin = named.get(b"origin")
            cycle.cors = cors.lines(origin)
            if origin is not None and cors.is_preflight(cycle.method, named):
                if not cors.allows(origin):
                    self._reader.refuse(FOREIGN_PAGE)
                app = cors.preflight
        self.queue.append((cycle, self.scope(cycle, url, headers, known), app))

    def hold(self, cycle: Cycle) -> None:
        """Much of this body waits. No more is read of it; behind a whole one, reading goes on."""
        if cycle is self.running and not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()

    def hear_no_more(self) -> None:
        """Nothing that comes from now on counts."""
        self._odd = self._drops = True

    def answered(self, cycle: Cycle) -> None:
        """The last byte of this answer has been written."""
        self.running = None
        self.server_state.total_requests += 1
        self._since = self.house.now
        if cycle.is_waited_for:
            cycle.wake()
        if self.transport.is_closing():
            return
        if cycle.more_body or not cycle.keep_alive:
            self._end(unread=cycle.more_body)
        elif self.queue:
            self._begin()
        elif self._last_words is not None:
            self._say(self._last_words)
        elif self._drops:
            self._end(unread=True)

    def broke(self, cycle: Cycle, refusal: Refusal) -> None:
        """The app has ended before its answer did."""
        if cycle is not self.running or cycle.gone:
            return
        self.running = None
        self.queue.clear()
        if not cycle.begun:
            self._say(refusal, cycle.cors)
        elif cycle.ends_by_close:
            # The body must not look whole.
            reset(self.transport)
        else:
            self.transport.close()

    def end_after_this(self) -> None:
        """Close after the last answer that is owed, if its head can still say so."""
        last = self.queue[-1][0] if self.queue else self.running
        if last is not None and not last.begun:
            last.keep_alive = False

    # The rest is our own.

    def _begin(self) -> None:
        cycle, scope, app = self.queue.pop(0)
        self.running = cycle
        tasks = self.server_state.tasks
        cycle.task = task = self.loop.create_task(cycle.run(app, scope, tasks))
        tasks.add(task)

    def _tell(self) -> bool:
        """Tell the request that is being answered, once. False when there is none."""
        running, self.running = self.running, None
        self.queue.clear()
        if running is None:
            return False
        running.gone = True
        running.wake()
        self.resume_writing()
        if running.callback is not None:
            running.callback()
        return True

    def _set_aside(self, data: bytes) -> bytes:
        """What of this is HTTP, and still counts."""
        if self._drops:
            self._dropped += len(data)
            if self._dropped > _MOST_DROPPED:
                self.transport.abort()
            return b""
        self._preface = data = (self._preface or b"") + data
        try:
            read = read_preface(data)
        except NotProxied:
            self._refuse(bad("this peer is a proxy, and begins without the PROXY protocol"))
            return b""
        if read is None:
            return b""
        self._odd, self._preface = False, None
        if read.client is not None:
            # Headers are now this client's own: the balancer doesn't look into them.
            self.client = read.client
            self.is_trusted = self.house.rules.trust.includes(read.client[0])
        return data[read.size :]

    def _refuse(self, refusal: Refusal) -> None:
        """Read no more, and say why when all that came before has been answered."""
        self.house.refuse(refusal, self.client[0] if self.client else None)
        self.hear_no_more()
        broken, running = self._reader.drop(), self.running
        if broken is not None and broken is running:
            if self._tell() and broken.begun:
                self.transport.abort()
            else:
                self._say(refusal, broken.cors)
            return
        if broken is not None and self.queue and self.queue[-1][0] is broken:
            self.queue.pop()
        if refusal is TOO_MANY:
            # What fits is answered; the last one says that it is the last.
            self.end_after_this()
        elif running is None and not self.queue:
            self._say(refusal)
        else:
            self._last_words = refusal

    def _check_ahead(self) -> None:
        if sum(cycle.size for cycle, _, _ in self.queue) > _MOST_AHEAD and not self._drops:
            self._refuse(TOO_MANY)

    def _say(self, refusal: Refusal, more: bytes = b"") -> None:
        if not self.transport.is_closing():
            self.transport.write(refusal.render(self.house.head(refusal.status), more))
            self._end(unread=True)

    def _end(self, *, unread: bool) -> None:
        """Close. A client that is still sending gets time to take its answer."""
        self.hear_no_more()
        self.queue.clear()
        self.resume_reading()
        if not unread and not self._dropped:
            self.transport.close()
            return
        self._lingers = True
        self._since = self.house.now
        if self.transport.can_write_eof():
            self.transport.write_eof()
