"""Parts that take turns, one after the other: for writers whose dialect wants them so."""

from __future__ import annotations

from collections import deque

from proxy_core.dialects._canonical import Closed, Event, Finished, Opened, Piece

__all__ = ["Ordered"]


class Ordered:
    """Holds back the events of a part until the one before it is closed.

    Parts keep the order in which they were opened; each choice is ordered by itself. What belongs
    to no part passes at once. Where a choice ends, parts that were left open are closed.
    """

    __slots__ = ("_choices",)

    def __init__(self) -> None:
        self._choices: dict[int, _Queue] = {}

    def push(self, event: Event) -> list[Event]:
        """What may be written now."""
        match event:
            case Opened() | Piece() | Closed():
                return self._choices.setdefault(event.choice, _Queue()).push(event)
            case Finished():
                queue = self._choices.pop(event.choice, None)
                return [event] if queue is None else [*queue.rest(event.choice), event]
            case _:
                return [event]


class _Queue:
    """One choice: its first part is being told, the events of the others wait."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[int, deque[Event]] = {}

    def push(self, event: Opened | Piece | Closed) -> list[Event]:
        waiting = self._waiting
        if isinstance(event, Opened):
            waiting.setdefault(event.index, deque())
        first = next(iter(waiting), None)
        if event.index != first:
            if event.index in waiting:
                waiting[event.index].append(event)
            return []
        if not isinstance(event, Closed):
            return [event]
        del waiting[event.index]
        return [event, *self._next()]

    def rest(self, choice: int) -> list[Event]:
        """All that waits, each part with its end."""
        told: list[Event] = []
        for index, events in self._waiting.items():
            told += events
            if not events or not isinstance(events[-1], Closed):
                told.append(Closed(index=index, choice=choice))
        return told

    def _next(self) -> list[Event]:
        """What waited for the part that was just closed."""
        told: list[Event] = []
        for index in list(self._waiting):
            events = self._waiting[index]
            told += events
            if not events or not isinstance(events[-1], Closed):
                events.clear()
                break
            del self._waiting[index]
        return told
