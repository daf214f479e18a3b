"""MemoryManager: looks at the process's memory when asked, and sheds what can be spared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

import msgspec

from proxy_context._usage import give_back, memory_limit, read_rss
from proxy_context.errors import SettingsError

__all__ = ["Holder", "HolderReport", "MemoryManager", "MemoryReport", "MemorySettings", "Pressure"]

Level = Literal["normal", "elevated", "high", "critical"]
_LEVELS: tuple[Level, ...] = ("normal", "elevated", "high", "critical")


class Holder(Protocol):
    """Anything that holds memory which it can do without. The caches of this package do."""

    @property
    def held_bytes(self) -> int: ...

    def shed(self, bytes_to_free: int, /) -> int:
        """Let go of at least so many bytes if it has them; gives how many it let go."""
        ...


class MemorySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the limit. A level is entered at its share and left ``hysteresis`` below it."""

    elevated: float = 0.70
    high: float = 0.80
    critical: float = 0.90
    hysteresis: float = 0.05
    settle: float = 5.0
    """Seconds between two rounds of shedding, unless the level rises: memory that was freed may
    return to the system late, and the caches need not be emptied for that."""
    give_back: Callable[[], None] = give_back
    """Called when ``high`` is entered from below, after shedding."""

    def __post_init__(self) -> None:
        if not 0 < self.hysteresis < self.elevated < self.high < self.critical <= 1:
            raise SettingsError(
                "memory levels must rise: 0 < hysteresis < elevated < high < critical <= 1, not "
                f"{self.hysteresis}, {self.elevated}, {self.high}, {self.critical}"
            )


class Pressure(msgspec.Struct, frozen=True):
    """What a check found, before shedding, and what it did."""

    level: Level
    usage: int
    """Bytes in use."""
    limit: int
    freed: int
    """Bytes that the holders say they let go."""

    @property
    def ratio(self) -> float:
        return self.usage / self.limit


class HolderReport(msgspec.Struct, frozen=True):
    name: str
    priority: int
    held_bytes: int
    shed_bytes: int
    """Since it was registered."""
    failures: int
    """How often its ``shed`` raised; the others were asked all the same."""


class MemoryReport(msgspec.Struct, frozen=True):
    """The last check (None before the first), the largest usage seen, and every holder."""

    last: Pressure | None
    peak: int
    holders: tuple[HolderReport, ...]


class _Registered:
    __slots__ = ("failures", "holder", "name", "priority", "shed_bytes")

    def __init__(self, name: str, holder: Holder, priority: int) -> None:
        self.name = name
        self.holder = holder
        self.priority = priority
        self.shed_bytes = 0
        self.failures = 0

    def shed(self, wanted: int, *, half: bool) -> int:
        try:
            held = self.holder.held_bytes
            most = (held + 1) // 2 if half else held
            freed = self.holder.shed(min(wanted, most)) if most > 0 else 0
        except Exception:  # noqa: BLE001
            # Counted and reported: one broken holder must not keep the others from shedding.
            self.failures += 1
            return 0
        self.shed_bytes += freed
        return freed


class MemoryManager:
    """Compares usage with a limit, and sheds in the order of priority: the lowest goes first.

    Nothing runs by itself: whoever owns it calls ``check()``, once a second, say. ``limit_bytes``
    defaults to the least of the cgroup's limits and the machine's memory; processes that share a
    group should each be given their part.
    """

    def __init__(
        self,
        *,
        limit_bytes: int | None = None,
        read_usage: Callable[[], int] = read_rss,
        settings: MemorySettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if limit_bytes is not None and limit_bytes < 1:
            raise SettingsError(
                f"limit_bytes is {limit_bytes!r}: give bytes, 1 or more, or leave it out"
            )
        self.limit_bytes = memory_limit() if limit_bytes is None else limit_bytes
        self._read_usage = read_usage
        self._settings = settings or MemorySettings()
        self._clock = clock
        self._holders: list[_Registered] = []
        self._rank = 0
        self._shed_at: float | None = None
        self._last: Pressure | None = None
        self._peak = 0

    def register(self, name: str, holder: Holder, priority: int = 0) -> None:
        """Add a holder. Those of lower ``priority`` shed first; equals in the order of coming."""
        if any(known.name == name for known in self._holders):
            raise SettingsError(
                f"a holder named {name!r} is registered already: choose another name"
            )
        self._holders.append(_Registered(name, holder, priority))
        self._holders.sort(key=lambda known: known.priority)

    def unregister(self, name: str) -> None:
        self._holders = [known for known in self._holders if known.name != name]

    def check(self) -> Pressure:
        """Read usage, settle on a level, and shed when it is above normal.

        The aim is to come back to normal. While elevated, each holder gives half of what it holds
        at most; above that, all.
        """
        usage, now = self._read_usage(), self._clock()
        before, self._rank = self._rank, self._level(usage / self.limit_bytes)
        freed = 0
        if self._rank and (self._rank > before or self._settled(now)):
            self._shed_at = now
            freed = self._shed(usage)
        if before < 2 <= self._rank:
            self._settings.give_back()
        self._peak = max(self._peak, usage)
        self._last = Pressure(_LEVELS[self._rank], usage, self.limit_bytes, freed)
        return self._last

    def report(self) -> MemoryReport:
        """What is held by whom. Reads the holders, sheds nothing."""
        return MemoryReport(self._last, self._peak, tuple(self._reports()))

    def _level(self, ratio: float) -> int:
        settings = self._settings
        enter = (0.0, settings.elevated, settings.high, settings.critical)
        rank = self._rank
        while rank < 3 and ratio >= enter[rank + 1]:
            rank += 1
        while rank > 0 and ratio < enter[rank] - settings.hysteresis:
            rank -= 1
        return rank

    def _settled(self, now: float) -> bool:
        return self._shed_at is None or now - self._shed_at >= self._settings.settle

    def _shed(self, usage: int) -> int:
        normal = round(self.limit_bytes * (self._settings.elevated - self._settings.hysteresis))
        freed, wanted = 0, usage - normal
        for known in self._holders:
            if freed >= wanted:
                break
            freed += known.shed(wanted - freed, half=self._rank == 1)
        return freed

    def _reports(self) -> Iterable[HolderReport]:
        for known in self._holders:
            held = known.holder.held_bytes
            yield HolderReport(known.name, known.priority, held, known.shed_bytes, known.failures)
