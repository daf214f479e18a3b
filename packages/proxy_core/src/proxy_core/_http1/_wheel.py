"""Deadlines for thousands of requests with one timer of the loop.

Setting a deadline is an assignment: an alarm stays filed where it is and is looked at when that
time comes, since nearly all deadlines move on long before. Hashed wheels are from Varghese & Lauck,
"Hashed and Hierarchical Timing Wheels", 1987.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Final

__all__ = ["Alarm", "Wheel"]

_NEVER: Final = math.inf


class Alarm:
    """Something with a deadline, in the wheel's seconds; ``math.inf`` is none."""

    __slots__ = ("deadline", "due")

    def __init__(self) -> None:
        self.deadline = _NEVER
        self.due = _NEVER
        """When the wheel looks at it next. Only the wheel writes it."""

    @abstractmethod
    def ring(self) -> None:
        """Do what the deadline is for. Called once, never early, with the deadline taken away."""


class Wheel:
    """Rings alarms at most ``grain`` seconds (and the loop's own delay) after their deadline."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        grain: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._grain = grain
        self._clock = clock
        self._slots: dict[float, set[Alarm]] = {}
        self._order: list[float] = []
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots.values())

    def set(self, alarm: Alarm, deadline: float) -> None:
        """Give it a deadline, or move it; ``math.inf`` takes it away."""
        alarm.deadline = deadline
        if deadline < alarm.due - self._grain:  # otherwise it is looked at early enough
            self._file(alarm)

    def forget(self, alarm: Alarm) -> None:
        """Let go of an alarm that will not be used again."""
        alarm.deadline = _NEVER
        if alarm.due is not _NEVER:
            self._slots[alarm.due].discard(alarm)
            alarm.due = _NEVER

    def stop(self) -> None:
        """Ring nothing any more."""
        for slot in self._slots.values():
            for alarm in slot:
                alarm.due = _NEVER
        self._slots.clear()
        self._order.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _file(self, alarm: Alarm) -> None:
        if alarm.due is not _NEVER:
            self._slots[alarm.due].discard(alarm)
        due = alarm.due = (math.floor(alarm.deadline / self._grain) + 1) * self._grain
        slot = self._slots.get(due)
        if slot is None:
            self._slots[due] = {alarm}
            heapq.heappush(self._order, due)
            if self._order[0] == due:
                self._schedule()
        else:
            slot.add(alarm)

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(max(0.0, self._order[0] - self._clock()), self._turn)

    def _turn(self) -> None:
        self._handle = None
        now = self._clock()
        while self._order and self._order[0] <= now:
            for alarm in self._slots.pop(heapq.heappop(self._order)):
                alarm.due = _NEVER
                if alarm.deadline <= now:
                    alarm.deadline = _NEVER
                    alarm.ring()
                elif alarm.deadline < _NEVER:
                    self._file(alarm)
        if self._order:
            self._schedule()
