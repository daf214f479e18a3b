"""One flight per key: many ask for the same thing, one goes and gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import msgspec

__all__ = ["Flights"]

T = TypeVar("T")


class _TakeOver(msgspec.Struct, frozen=True):
    """To one waiter: the leader is gone, you lead."""


class _Landed(msgspec.Struct, frozen=True):
    value: Any


class _Crashed(msgspec.Struct, frozen=True):
    error: Exception


_News = _TakeOver | _Landed | _Crashed


class _Flight:
    """Waiters in the order of their coming, and how many leaders have failed."""

    __slots__ = ("failures", "waiters")

    def __init__(self) -> None:
        self.failures = 0
        self.waiters: dict[asyncio.Future[_News], None] = {}

    def hand_on(self) -> bool:
        """Wake the first waiter to lead. False when nobody waits."""
        while self.waiters:
            waiter = next(iter(self.waiters))
            del self.waiters[waiter]
            if not waiter.done():
                waiter.set_result(_TakeOver())
                return True
        return False

    def tell(self, news: _News) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(news)
        self.waiters.clear()


class Flights:
    """Single-flight. The leader runs the factory in its own task, so its cancellation is its own.

    A leader that fails or is cancelled wakes one waiter, which takes over with its own factory.
    When a second leader fails, its error goes to all who still wait: a provider that is down is
    not asked once for each of them.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}

    async def run(self, key: Hashable, factory: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The value, and whether this caller made it and may keep it (see ``forget``)."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            return await self._lead(key, flight, factory)
        news = await self._follow(key, flight)
        if isinstance(news, _TakeOver):
            return await self._lead(key, flight, factory)
        if isinstance(news, _Crashed):
            raise news.error
        return news.value, False

    def forget(self, key: Hashable) -> None:
        """Let the flight under way land for those who wait; the next caller starts a new one."""
        self._flights.pop(key, None)

    def forget_all(self, which: Callable[[Any], bool]) -> None:
        for key in [key for key in self._flights if which(key)]:
            self.forget(key)

    async def _lead(
        self, key: Hashable, flight: _Flight, factory: Callable[[], Awaitable[T]]
    ) -> tuple[T, bool]:
        try:
            value = await factory()
        except Exception as error:
            flight.failures += 1
            if flight.failures > 1:
                flight.tell(_Crashed(error))
            self._pass_on(key, flight)
            raise
        except BaseException:
            self._pass_on(key, flight)
            raise
        flight.tell(_Landed(value))
        return value, self._end(key, flight)

    async def _follow(self, key: Hashable, flight: _Flight) -> _News:
        waiter: asyncio.Future[_News] = asyncio.get_running_loop().create_future()
        flight.waiters[waiter] = None
        try:
            return await waiter
        except asyncio.CancelledError:
            flight.waiters.pop(waiter, None)
            # Woken to lead and cancelled before it could: the next in line must hear of it.
            if waiter.done() and not waiter.cancelled() and isinstance(waiter.result(), _TakeOver):
                self._pass_on(key, flight)
            raise

    def _pass_on(self, key: Hashable, flight: _Flight) -> None:
        if not flight.hand_on():
            self._end(key, flight)

    def _end(self, key: Hashable, flight: _Flight) -> bool:
        """True when the flight was still the one for its key."""
        if self._flights.get(key) is not flight:
            return False
        del self._flights[key]
        return True
