"""What one deployment is doing: how much is out, how soon it answers, and whether it is paused."""

# ruff: noqa: SLF001 - a load and its turns are two halves of one

from __future__ import annotations

from math import exp
from typing import Final

__all__ = ["Load", "Turn"]

_MEMORY: Final = 10.0
"""Seconds in which a time of answering fades to a third; Finagle's and linkerd's figure."""
_UNKNOWN: Final = 60.0
"""Seconds assumed of a deployment whose first answer is still awaited: one try at a time."""
_DEAREST: Final = 60.0
"""Seconds that a row of failures counts for at most."""


class Load:
    """The state of one deployment that a choice looks at; all times are monotonic seconds.

    ::

        load = Load()
        turn = load.begin(now)  # an attempt begins
        turn.answered(now)  # its first content is here
        turn.end(now)  # its last byte, or failed=True

    The time to the first content is kept as a peak EWMA, as in Finagle: a slower answer counts at
    once, faster ones by and by. While nothing is awaited it fades, so that a deployment that was
    slow, and is unused since, gets another try. While an answer is awaited it doesn't: silence is
    no recommendation.
    """

    __slots__ = (
        "_at",
        "_seconds",
        "awaited",
        "in_flight",
        "pause_reason",
        "paused_until",
        "trouble",
    )

    def __init__(self) -> None:
        self._at = 0.0
        self._seconds: float | None = None
        self.awaited = 0
        """Attempts without content yet."""
        self.in_flight = 0
        """Attempts that have not ended, streams included."""
        self.paused_until = 0.0
        self.pause_reason = ""
        self.trouble = False
        """Whether a choice has to look closer: paused, or its breaker was open."""

    def begin(self, now: float) -> Turn:
        """One attempt begins."""
        self.in_flight += 1
        self.awaited += 1
        return Turn(self, now)

    def seconds(self, now: float) -> float | None:
        """How soon it answers, as far as one can tell now; None when nobody knows."""
        if self._seconds is None or self.awaited:
            return self._seconds
        return self._seconds * exp((self._at - now) / _MEMORY)

    def cost(self, now: float) -> float:
        """What one more request would meet: its time of answering, for each that is in flight."""
        if self._seconds is None:
            return _UNKNOWN * self.in_flight
        if self.awaited:
            return self._seconds * (self.in_flight + 1)
        return self._seconds * exp((self._at - now) / _MEMORY) * (self.in_flight + 1)

    def pause(self, until: float, reason: str) -> None:
        """Leave it out until then; a shorter pause never ends a longer one.

        For what is no sickness: an upstream's 429 for all of its credentials (``throttled``), or
        credentials that it refuses (``quarantined``).
        """
        if until > self.paused_until:
            self.paused_until = until
            self.pause_reason = reason
            self.trouble = True

    def resume(self) -> None:
        """End a pause before its time."""
        self.paused_until = 0.0

    def _observe(self, now: float, seconds: float) -> None:
        known = self._seconds
        if known is not None and seconds < known:
            kept = exp((self._at - now) / _MEMORY)
            seconds += (known - seconds) * kept
        self._seconds = seconds
        self._at = now


class Turn:
    """One attempt at a deployment, from ``Load.begin``. ``end`` it whatever happens."""

    __slots__ = ("_awaited", "_began", "_load")

    def __init__(self, load: Load, began: float) -> None:
        self._load: Load | None = load
        self._began = began
        self._awaited = True

    def answered(self, now: float, *, timed: bool = True) -> None:
        """The first content is here. ``timed=False``: its time says nothing (a whole answer)."""
        if self._awaited and self._load is not None:
            self._awaited = False
            self._load.awaited -= 1
            if timed:
                self._load._observe(now, now - self._began)

    def end(self, now: float, *, failed: bool = False) -> None:
        """It is over; saying it again changes nothing.

        A failure without content counts as twice the time known: what fails fast isn't fast. One
        that was given up (a client left) counts when it had already taken longer than is usual.
        """
        load = self._load
        if load is None:
            return
        self._load = None
        load.in_flight -= 1
        if not self._awaited:
            return
        load.awaited -= 1
        taken = now - self._began
        known = load._seconds or 0.0
        if failed:
            load._observe(now, min(_DEAREST, max(taken, 2 * known, 1.0)))
        elif taken > known and load._seconds is not None:
            load._observe(now, taken)
