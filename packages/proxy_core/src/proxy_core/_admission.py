"""How many requests a process takes at once: what is too much is refused at once, with a time."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from proxy_core.errors import ConfigurationError, Overloaded

__all__ = ["Admission", "AdmissionSettings", "LoopLag", "ProxyFull"]

_WEIGHT: Final = 0.05
"""Of the newest time of service in the average."""
_LONGEST: Final = 60.0
"""Seconds: SDKs give up on, or ignore, longer waits."""


class ProxyFull(Overloaded):
    """We have too much to do. ``retry_after``: seconds until there is a place, as far as we know.

    ``reason`` is ``full`` (all places are taken), ``waited`` (none was free in time) or ``lag``
    (the event loop is late).
    """

    def __init__(self, message: str, *, reason: str, retry_after: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSettings:
    """How much is too much. Raises ConfigurationError for what can't be used."""

    concurrent: int = 1000
    """Requests inside at once, streams to their end."""
    queue: int = 0
    """Requests that may wait for a place."""
    longest_wait: float = 1.0
    """Seconds that one waits there at most."""
    service: float = 5.0
    """Seconds that a request takes, until some have been seen."""
    max_lag: float = 0.1
    """Seconds that the event loop may be late; see ``lagged``."""
    late_samples: int = 3
    """Late samples in a row, so that one pause of the collector sheds nothing."""

    def __post_init__(self) -> None:
        for name, least in (("concurrent", 1), ("queue", 0), ("late_samples", 1)):
            self._check(name, getattr(self, name) >= least, f"a whole number, {least} or more")
        for name in ("longest_wait", "service", "max_lag"):
            self._check(name, 0 < getattr(self, name) < math.inf, "seconds above 0")

    def _check(self, name: str, fits: bool, remedy: str) -> None:
        if not fits:
            value = getattr(self, name)
            raise ConfigurationError(f"admission {name} is {value!r}: give {remedy}", param=name)


class Admission:
    """At most so many requests at once; the next is refused at once, or waits in a bounded queue.

    ::

        admission = Admission("proxy", AdmissionSettings(concurrent=100))
        async with admission:  # raises ProxyFull
            await serve()

    On a hot path: ``if not admission.enter(): await admission.wait()``, and ``leave`` at the end.

    The time in a refusal is that of a place: places come free each ``service / concurrent``
    seconds, ``service`` being the moving average of what requests took, and each refused client is
    told a later one. A thousand that are refused together don't come back together.

    It belongs to one event loop. Without a queue there is no loop in it.

    Args:
        name: in errors.
        settings: see AdmissionSettings.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str = "proxy",
        settings: AdmissionSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.settings = settings or AdmissionSettings()
        self.in_flight = 0
        """Those inside."""
        self.refused = 0
        """All that were refused so far."""
        self.service = self.settings.service
        """Seconds that a request takes, on average."""
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._promised = -math.inf
        self._late = 0
        self._room = self.settings.concurrent

    @property
    def waiting(self) -> int:
        """Those in the queue."""
        return len(self._waiting)

    @property
    def is_lagging(self) -> bool:
        """Whether new work is shed because the event loop is late."""
        return self._late >= self.settings.late_samples

    def lagged(self, seconds: float) -> None:
        """A sample of how late the event loop is; LoopLag gives them."""
        self._late = self._late + 1 if seconds > self.settings.max_lag else 0
        self._set_room()

    def enter(self) -> bool:
        """Take a place if there is one now."""
        if self.in_flight >= self._room:
            return False
        self.in_flight += 1
        return True

    def leave(self, seconds: float | None = None) -> None:
        """Give the place back; `seconds` is how long it was held."""
        if seconds is not None:
            self.service += _WEIGHT * (seconds - self.service)
        self.in_flight -= 1
        if self._waiting:
            self._hand_over()

    def place(self) -> Place:
        """A place for a ``with`` block, now. Raises ProxyFull."""
        if self.in_flight >= self._room:
            raise self.refusal()
        self.in_flight += 1
        clock = self._clock
        return Place(self, clock, clock())

    async def wait(self) -> None:
        """Wait for a place that ``enter`` did not have. Raises ProxyFull."""
        if self.is_lagging or len(self._waiting) >= self.settings.queue:
            raise self.refusal()
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append(place)
        timer = loop.call_later(self.settings.longest_wait, place.cancel)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was ours already: hand it on
                self.leave()
                raise
            if place in self._waiting:
                self._waiting.remove(place)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self.refusal("waited") from None
        finally:
            timer.cancel()

    def refusal(self, reason: str = "") -> ProxyFull:
        """The error for one more request, with a time at which there is a place for it."""
        self.refused += 1
        if self.is_lagging:
            told = f"{self.name}: the event loop is late, new requests are shed"
            return ProxyFull(told, reason="lag", retry_after=1.0)
        now = self._clock()
        each = self.service / self.settings.concurrent
        first = now + each * (1 + len(self._waiting))
        self._promised = min(max(first, self._promised + each), now + _LONGEST)
        return ProxyFull(
            f"{self.name}: all {self.settings.concurrent} places are taken",
            reason=reason or "full",
            retry_after=self._promised - now,
        )

    def retune(self, settings: AdmissionSettings) -> None:
        """Other settings from now on; who is inside stays."""
        self.settings = settings
        self._set_room()
        self._hand_over()

    def _set_room(self) -> None:
        """How many may be inside before the next is refused: one while the loop is late."""
        self._room = 1 if self.is_lagging else self.settings.concurrent

    async def __aenter__(self) -> Self:
        if not self.enter():
            await self.wait()
        return self

    async def __aexit__(self, *ending: object) -> None:
        self.leave()

    def _hand_over(self) -> None:
        """Give free places to those who wait, now: nobody can take them between."""
        while self._waiting and self.in_flight < self.settings.concurrent:
            first = self._waiting.popleft()
            if not first.done():  # else it was given up, and its task doesn't know yet
                self.in_flight += 1
                first.set_result(None)


# A struct, since one is made for each request: it begins without a Python frame.


class Place(msgspec.Struct, eq=False):
    """One request's place, from ``Admission.place``; given back when the block ends."""

    _admission: Admission
    _clock: Callable[[], float]
    _began: float

    def __enter__(self) -> None:
        """It is taken already."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # What failed at once says nothing about how long a request takes.
        self._admission.leave(None if error is not None else self._clock() - self._began)


class LoopLag:
    """Samples how late an event loop is, and tells it: the time that others' work holds it.

    ::

        lag = LoopLag(admission.lagged)
        lag.start()  # in the loop
        ...
        lag.stop()

    Args:
        tell: gets each sample, in seconds.
        every: seconds between two samples.
    """

    def __init__(self, tell: Callable[[float], None], *, every: float = 0.1) -> None:
        self.last = 0.0
        """The newest sample."""
        self._tell = tell
        self._every = every
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Sample from now on. Starting it again changes nothing."""
        if self._timer is None:
            self._loop = loop or asyncio.get_running_loop()
            self._next(self._loop)

    def stop(self) -> None:
        """No more samples."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self._every
        self._timer = loop.call_at(due, self._sample, loop, due)

    def _sample(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.last = max(0.0, loop.time() - due)
        self._next(loop)
        self._tell(self.last)
