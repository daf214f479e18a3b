"""Comment lines for a client whose stream is silent, whatever it is that takes so long.

Until the first of them a failure still gets a status and another deployment. With it the 200 is
spent. Balancers close connections that are idle for 60 seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["Pulse", "Rhythm", "Silent"]

_LOOKS: Final = 20
"""How often, in the shortest silence that matters, the answers are looked at."""
_SHORTEST_LOOK: Final = 0.01


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Seconds of silence before the status is spent for a comment, and between comments."""

    patience: float = 20.0
    heartbeat: float = 15.0


class Silent(Protocol):
    """What a pulse looks at: one answer on its way."""

    sent_at: float
    """``time.monotonic()`` when something was last sent, or when the request came."""

    @property
    def begun(self) -> bool:
        """Whether a status has been sent."""
        ...

    @property
    def wants_comments(self) -> bool:
        """False while something is being sent, and for answers that are no stream."""
        ...

    def comment(self) -> Awaitable[None]: ...


class Pulse:
    """Looks after the answers that are on their way, with one timer for all of them."""

    def __init__(self) -> None:
        self._answers: dict[Silent, Rhythm] = {}
        self._beats: dict[Silent, asyncio.Future[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        """That of the timer; None while there is none."""

    def watch(self, answer: Silent, rhythm: Rhythm) -> None:
        """Keep this answer alive, until it is forgotten."""
        self._answers[answer] = rhythm
        if asyncio.get_running_loop() is not self._loop:
            self._begin(rhythm)

    def forget(self, answer: Silent) -> None:
        """The answer is over: nothing follows."""
        del self._answers[answer]
        if self._beats:
            beat = self._beats.pop(answer, None)
            if beat is not None:
                beat.cancel()

    def _begin(self, rhythm: Rhythm) -> None:
        self._loop = loop = asyncio.get_running_loop()
        shortest = min(rhythm.patience, rhythm.heartbeat)
        self._look(loop, max(shortest / _LOOKS, _SHORTEST_LOOK))

    def _look(self, loop: asyncio.AbstractEventLoop, pause: float) -> None:
        if loop is not self._loop:
            return
        now = time.monotonic()
        for answer, rhythm in self._answers.items():
            limit = rhythm.heartbeat if answer.begun else rhythm.patience
            if answer.wants_comments and now - answer.sent_at >= limit:
                self._beats[answer] = asyncio.ensure_future(answer.comment())
        if self._answers:
            loop.call_later(pause, self._look, loop, pause)
        else:
            self._loop = None
