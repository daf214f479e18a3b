"""The engine: a pool of connections, the wheel of their deadlines, and who is woken when."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

from proxy_core._http1._connection import READ_BYTES, Connection
from proxy_core._http1._dial import Dialer
from proxy_core._http1._exchange import Exchange
from proxy_core._http1._pool import Full, Pool, Ticket
from proxy_core._http1._request import Composer, Target
from proxy_core._http1._wheel import Alarm, Wheel
from proxy_core._http_types import HttpRequest, PoolLimits, timed_out
from proxy_core._types import Timeouts
from proxy_core.errors import ConnectFailed, PoolExhausted

__all__ = ["Http1Engine"]

_TOO_LONG = "connecting to the upstream took too long"
_NONE_FREE = "no connection to the upstream was free in time"


class Http1Engine:
    """A pool of HTTP/1.1 connections, for one event loop at a time."""

    def __init__(self, limits: PoolLimits, tls: ssl.SSLContext) -> None:
        self.max_answer = limits.max_answer
        self.compose = Composer()
        self.open: set[Exchange] = set()
        """Answers that have begun and are not closed."""
        self._limits = limits
        self._dialer = Dialer(tls)
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._all: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: Pool[Connection]
        self._wheel: Wheel
        self._sweep: _Sweep
        self._is_sweeping = False
        """Whether it is known when to look for what was idle for too long."""
        self._emptied: asyncio.Future[None] | None = None
        self._is_closed = False

    def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """Send, and hold the connection until the block is left. Raises UpstreamError."""
        return Exchange(self, request, timeouts)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail, later ones are refused."""
        self._is_closed = True
        if self._loop is not asyncio.get_running_loop():
            return
        for connection in self._all:
            connection.abort()
        if self._all:
            self._emptied = self._loop.create_future()
            await self._emptied
        self._wheel.stop()

    # what an exchange asks for

    def taken(self, target: Target, now: float) -> Connection | None:
        """Take an idle connection, if there is one."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move(loop)
        return self._pool.take(target.origin, now)

    async def connection(self, target: Target, timeouts: Timeouts, until: float) -> Connection:
        """Open a connection, or wait for one. Raises UpstreamError."""
        has_place = self._pool.open(target.origin)
        self._wake(None)
        if not has_place:
            kept = await self._queued(target, timeouts, until)
            if kept is not None:
                return kept
        return await self._opened(target, timeouts, until)

    async def replaced(
        self, dead: Connection, target: Target, timeouts: Timeouts, until: float
    ) -> Connection:
        """Open a connection in the place of one that turned out dead. Raises UpstreamError."""
        dead.abort()
        return await self._opened(target, timeouts, until)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection that can be used again, close it otherwise."""
        pool = self._pool
        if self._is_closed or not connection.rest():
            connection.abort()
            self._wake(pool.leave(connection.origin))
            return
        now = time.monotonic()
        ticket = pool.keep(connection.origin, connection, now)
        if ticket is not None or pool.evicted:
            self._wake(ticket)
        if not self._is_sweeping:
            self._is_sweeping = True
            self._wheel.set(self._sweep, now + self._limits.keep_alive_for)

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        limits = self._limits
        for connection in self._all:
            with suppress(RuntimeError):  # a loop that is closed takes no calls
                connection.abort()
        self._all.clear()
        self._loop = loop
        self._wheel = Wheel(loop)
        self._sweep = _Sweep(self._swept)
        self._is_sweeping = False
        self._pool = Pool(
            connections=limits.connections,
            per_origin=limits.connections_per_origin,
            idle=limits.keep_alive,
            idle_for=limits.keep_alive_for,
            waiting=limits.waiting,
        )

    async def _queued(self, target: Target, timeouts: Timeouts, until: float) -> Connection | None:
        """Wait for a connection, or for a place to open one, which is None."""
        bell = _Bell(asyncio.get_running_loop().create_future())
        try:
            ticket = self._pool.wait(target.origin, bell.ring)
        except Full:
            raise PoolExhausted("too many requests wait for a connection already") from None
        ends = time.monotonic() + timeouts.pool
        self._wheel.set(bell, min(ends, until))
        try:
            await bell.future
        except BaseException:
            self._disclaim(ticket)
            raise
        finally:
            self._wheel.forget(bell)
        if not ticket.granted:
            self._disclaim(ticket)
            raise timed_out("total") if until < ends else PoolExhausted(_NONE_FREE)
        return ticket.connection

    def _disclaim(self, ticket: Ticket[Connection]) -> None:
        if not ticket.granted:
            self._pool.give_up(ticket)
        elif ticket.connection is not None:
            self.give_back(ticket.connection)
        else:
            self._wake(self._pool.leave(ticket.origin))

    async def _opened(self, target: Target, timeouts: Timeouts, until: float) -> Connection:
        """Open a connection in a place that was taken; without success the place is left."""
        left = until - time.monotonic()
        try:
            if self._is_closed:
                raise ConnectFailed("this client is closed")
            limit = min(timeouts.connect, left)
            connection = await self._dialer.connect(target, self._made(target), limit)
            self._all.add(connection)
        except BaseException as error:
            self._wake(self._pool.leave(target.origin))
            if not isinstance(error, TimeoutError):
                raise
            if left <= timeouts.connect:  # by what it was given, not by when the timers rang
                raise timed_out("total") from None
            raise ConnectFailed(f"{_TOO_LONG}: {target.host}:{target.port}") from None
        if connection.is_gone:
            self._all.discard(connection)
        return connection

    def _made(self, target: Target) -> Callable[[], Connection]:
        origin, wheel, buffer = target.origin, self._wheel, self._buffer
        return lambda: Connection(origin, wheel, buffer, self._ended)

    def _ended(self, connection: Connection) -> None:
        self._wake(self._pool.drop(connection.origin, connection))
        if connection.is_gone:
            self._all.discard(connection)
            if not self._all and self._emptied is not None and not self._emptied.done():
                self._emptied.set_result(None)

    def _wake(self, ticket: Ticket[Connection] | None) -> None:
        if ticket is not None:
            ticket.wake()
        evicted = self._pool.evicted
        while evicted:
            evicted.pop().close()

    def _swept(self) -> None:
        soonest = self._pool.expire(time.monotonic())
        self._wake(None)
        self._is_sweeping = soonest is not None
        if soonest is not None:
            self._wheel.set(self._sweep, soonest)


class _Sweep(Alarm):
    """When to look for connections that were idle for too long."""

    __slots__ = ("_sweep",)

    def __init__(self, sweep: Callable[[], None]) -> None:
        super().__init__()
        self._sweep = sweep

    def ring(self) -> None:
        """Look."""
        self._sweep()


class _Bell(Alarm):
    """Wakes who waits in the queue: when it is granted something, and when its time is over."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        super().__init__()
        self.future = future

    def ring(self) -> None:
        """Wake."""
        if not self.future.done():
            self.future.set_result(None)
