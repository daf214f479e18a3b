"""How long a request may take, and what of that is left for an attempt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self

import msgspec

from proxy_core._types import Timeouts

__all__ = ["Deadline", "patience"]

_USUAL: Final[Mapping[str, float]] = MappingProxyType({"600": 599.0, "600.0": 599.0})
"""What the SDKs send unless they are told otherwise."""
_LONGEST: Final = 24 * 3600.0
_MARGIN: Final = 1.0
"""Seconds, or a tenth of a short patience, kept for the way back to the client."""
_ON_THE_WAY: Final = 0.05
"""Seconds that reading and planning a request may have taken without changing its attempt."""


def patience(read_timeout: str) -> float | None:
    """Seconds that a client waits, from its ``x-stainless-read-timeout``, less the way back.

    OpenAI's and Anthropic's SDKs send it with each request, 600 by default. None where it is
    missing or no number of seconds above 0.
    """
    if read_timeout in _USUAL:
        return _USUAL[read_timeout]
    if not read_timeout or len(read_timeout) > 20:
        return None
    try:
        seconds = float(read_timeout)
    except ValueError:
        return None
    if not 0 < seconds < math.inf:
        return None
    return min(seconds, _LONGEST) - min(_MARGIN, seconds / 10)


class Deadline(msgspec.Struct, frozen=True):
    """When a request has to be answered, on a monotonic clock. A value: the time is an argument.

    ::

        deadline = Deadline.after(600, now=began, read_timeout="30")
        deadline.left(now)  # seconds, never below 0
    """

    at: float

    @classmethod
    def after(cls, seconds: float, *, now: float, read_timeout: str = "") -> Self:
        """So many seconds from `now`, or as long as the client waits if that is shorter."""
        waits = patience(read_timeout) if read_timeout else None
        if waits is not None and waits < seconds:
            seconds = waits
        return cls(now + seconds if seconds > 0.0 else now)

    def left(self, now: float) -> float:
        """Seconds that are left, 0 when it is over."""
        return max(0.0, self.at - now)

    def fits(self, seconds: float, now: float) -> bool:
        """Whether something that takes so long can still be done; nothing can when it is over."""
        return now < self.at and now + seconds <= self.at

    def inherited(self, own: Timeouts, now: float, *, stream: bool = False) -> Timeouts:
        """What an attempt may take: its own times, none longer than what is left.

        A stream has to begin in time; how long it lasts, once it talks, is for its own ``total``.
        """
        left = self.at - now
        if left + _ON_THE_WAY >= (own.first_byte if stream else own.total):
            return own
        left = max(0.0, left)
        return Timeouts(
            connect=min(own.connect, left),
            first_byte=min(own.first_byte, left),
            between_events=own.between_events if stream else min(own.between_events, left),
            total=own.total if stream else min(own.total, left),
            pool=min(own.pool, left),
        )
