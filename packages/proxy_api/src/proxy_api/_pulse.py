"""Comment lines for a client whose stream is silent, whatever it is that takes so long.

Until the first of them a failure still gets a status and another deployment. With it the 200 is
spent. Balancers close connections that are idle for 60 seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol, Self

__all__ = ["Pulse", "Rhythm", "Silent"]


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Seconds of silence before the status is spent for a comment, and between comments."""

    patience: float = 20.0
    heartbeat: float = 15.0


class Silent(Protocol):
    """What a pulse looks at: one answer on its way."""

    sent_at: float
    """The loop's time when something was last sent, or when the request came."""

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
    """A ``with`` block around an answer, in the task that sends it. While it talks: one timer."""

    __slots__ = ("_answer", "_beat", "_loop", "_rhythm", "_timer")

    def __init__(self, rhythm: Rhythm, answer: Silent) -> None:
        self._rhythm = rhythm
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._beat: asyncio.Future[None] | None = None
        soonest = min(rhythm.patience, rhythm.heartbeat)
        self._timer = self._loop.call_later(soonest, self._look)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None:
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def _look(self) -> None:
        limit = self._rhythm.heartbeat if self._answer.begun else self._rhythm.patience
        left = self._answer.sent_at + limit - self._loop.time()
        if left <= 0 and self._answer.wants_comments:
            self._beat = asyncio.ensure_future(self._answer.comment())
        self._timer = self._loop.call_later(
            left if left > 0 else self._rhythm.heartbeat, self._look
        )
