"""How long an open breaker leaves its endpoint alone."""

from __future__ import annotations

import math
from collections.abc import Callable

from proxy_core._breaker_settings import BreakerSettings

__all__ = ["Pause"]


class Pause:
    """The open time: it doubles with each opening, and healthy times take doublings back."""

    __slots__ = ("_level", "_rng", "began", "settings", "trickle_at", "until")

    def __init__(self, settings: BreakerSettings, rng: Callable[[], float]) -> None:
        self.settings = settings
        self.began = 0.0
        self.until = 0.0
        self.trickle_at = 0.0
        """When those who have nobody else to ask may try."""
        self._level = 0
        self._rng = rng

    def over_at(self, *, last: bool) -> float:
        """When a call may try; ``last``: of those who have nobody else to ask."""
        return min(self.until, self.trickle_at) if last else self.until

    def begin(self, now: float, error: BaseException | None) -> None:
        """Open from now on. The error may ask for a longer time."""
        settings = self.settings
        wait = min(settings.open_time * 2.0**self._level, settings.open_cap)
        if wait < settings.open_cap:  # beyond the cap a level would only take longer to decay
            self._level += 1
        wait *= 1 + settings.jitter * (2 * self._rng() - 1)
        asked = self._asked(error)
        self.began = now
        self.until = now + max(wait, asked)
        self.trickle_at = now + max(settings.trickle, asked)

    def go_on(self, now: float, error: BaseException | None) -> None:
        """A probe before the time has failed: what is left of the time stays as it was."""
        asked = self._asked(error)
        self.began = now
        self.until = max(self.until, now + asked)
        self.trickle_at = now + max(self.settings.trickle, asked)

    def hold(self, now: float, seconds: float | None) -> None:
        """Open by hand, without a trickle; None: without an end."""
        self.began = now
        self.until = self.trickle_at = math.inf if seconds is None else now + seconds

    def heal(self, seconds: float) -> None:
        """It has been closed for so long."""
        self._level = max(0, self._level - int(seconds // self.settings.healthy_interval))

    def reset(self) -> None:
        """The next open time is the first again."""
        self._level = 0

    def _asked(self, error: BaseException | None) -> float:
        """How long the upstream itself wants to be left alone."""
        asked = getattr(error, "retry_after", None)
        return min(asked, self.settings.retry_after_cap) if isinstance(asked, int | float) else 0.0
