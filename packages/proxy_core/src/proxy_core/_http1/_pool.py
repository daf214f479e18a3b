"""Which connection a request gets, who waits, what is evicted. It computes; the client does I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Full", "Pool", "Ticket"]

C = TypeVar("C")


class Full(Exception):
    """So many wait already that one more would only wait in vain."""


class Ticket(Generic[C]):
    """A place in the queue. Once ``granted``, ``connection`` is to be used, or None: open one."""

    __slots__ = ("connection", "granted", "origin", "wake")

    def __init__(self, origin: str, wake: Callable[[], None]) -> None:
        self.origin = origin
        self.wake = wake
        self.granted = False
        self.connection: C | None = None


class Pool(Generic[C]):
    """Counts connections by origin and in all, and keeps idle ones: the last used is used first.

    A connection that is taken, or a place to open one, is given back by exactly one ``keep`` or
    ``leave``. Both return the ticket that they granted, whose owner is then to be woken. Idle
    connections that have to close are in ``evicted``.
    """

    def __init__(
        self,
        *,
        connections: int,
        idle: int,
        idle_for: float,
        per_origin: int | None = None,
        waiting: int = 10_000,
    ) -> None:
        self._most = connections
        self._most_per_origin = connections if per_origin is None else per_origin
        self._most_idle = idle
        self._most_waiting = waiting
        self._idle_for = idle_for
        self._counts: dict[str, int] = {}
        self._idle: dict[str, dict[C, float]] = {}
        """By origin: each connection and when its time is over, the last used at the end."""
        self._idle_count = 0
        self._waiting: deque[Ticket[C]] = deque()
        self.count = 0
        """Connections that are in use, idle or being opened."""
        self.evicted: list[C] = []

    @property
    def idle_count(self) -> int:
        return self._idle_count

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def take(self, origin: str, now: float) -> C | None:
        """Give an idle connection to this origin, if there is one whose time is not over."""
        idle = self._idle.get(origin)
        if not idle:
            return None
        connection, until = idle.popitem()
        self._idle_count -= 1
        if until > now:
            return connection
        self._evict(origin, connection)
        self.expire(now)
        return None

    def open(self, origin: str) -> bool:
        """Take a place for a new connection, if need be at the cost of another origin's."""
        if self._counts.get(origin, 0) >= self._most_per_origin:
            return False
        if self.count >= self._most and not self._evict_oldest():
            return False
        self.count += 1
        self._counts[origin] = self._counts.get(origin, 0) + 1
        return True

    def wait(self, origin: str, wake: Callable[[], None]) -> Ticket[C]:
        """Queue up; ``wake`` is for whoever hears that the ticket was granted. Raises Full."""
        if len(self._waiting) >= self._most_waiting:
            raise Full
        ticket = Ticket[C](origin, wake)
        self._waiting.append(ticket)
        return ticket

    def give_up(self, ticket: Ticket[C]) -> None:
        """Leave the queue, without having been granted anything."""
        self._waiting.remove(ticket)

    def keep(self, origin: str, connection: C, now: float) -> Ticket[C] | None:
        """Take back a connection that can be used again."""
        if self._waiting:
            for ticket in self._waiting:
                if ticket.origin == origin:
                    ticket.connection = connection
                    return self._grant(ticket)
        if self._idle_count >= self._most_idle:
            if self._most_idle <= 0:
                return self._close(origin, connection)
            self._evict_oldest()
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = {}
        idle[connection] = now + self._idle_for
        self._idle_count += 1
        # Those who wait for another origin can have its place.
        return self._grant_place() if self._waiting else None

    def leave(self, origin: str) -> Ticket[C] | None:
        """Take back the place of a connection that is closed or was never opened."""
        self._forget(origin)
        return self._grant_place() if self._waiting else None

    def drop(self, origin: str, connection: C) -> Ticket[C] | None:
        """Take out an idle connection that was closed by the other side."""
        if self._idle.get(origin, {}).pop(connection, None) is None:
            return None
        self._idle_count -= 1
        return self.leave(origin)

    def expire(self, now: float) -> float | None:
        """Evict what was idle for too long. Returns when to look again, None for not at all."""
        soonest: float | None = None
        for origin, idle in list(self._idle.items()):
            for connection, until in list(idle.items()):
                if until > now:
                    soonest = until if soonest is None else min(soonest, until)
                    break
                del idle[connection]
                self._idle_count -= 1
                self._evict(origin, connection)
            if not idle:
                del self._idle[origin]
        return soonest

    def _close(self, origin: str, connection: C) -> Ticket[C] | None:
        self.evicted.append(connection)
        return self.leave(origin)

    def _evict(self, origin: str, connection: C) -> None:
        self.evicted.append(connection)
        self._forget(origin)

    def _evict_oldest(self) -> bool:
        lanes = [(next(iter(idle.values())), origin) for origin, idle in self._idle.items() if idle]
        if not lanes:
            return False
        _, origin = min(lanes)
        connection = next(iter(self._idle[origin]))
        del self._idle[origin][connection]
        self._idle_count -= 1
        self._evict(origin, connection)
        return True

    def _forget(self, origin: str) -> None:
        self.count -= 1
        left = self._counts[origin] - 1
        if left:
            self._counts[origin] = left
        else:
            del self._counts[origin]

    def _grant(self, ticket: Ticket[C]) -> Ticket[C]:
        self._waiting.remove(ticket)
        ticket.granted = True
        return ticket

    def _grant_place(self) -> Ticket[C] | None:
        for ticket in self._waiting:
            if self.open(ticket.origin):
                return self._grant(ticket)
        return None
