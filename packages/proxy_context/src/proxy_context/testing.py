"""Doubles for tests of code that uses this package. Deterministic, without sleeping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from proxy_context._cache import SmartCache
from proxy_context._keys import CacheKey
from proxy_context._recording import Recording
from proxy_context._store import Entry

__all__ = ["CountingCache", "FakeUsage", "ManualClock", "ScriptedFetch"]


class ManualClock:
    """A clock that stands still until it is told to go on. Seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Give the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; below zero, the clock goes back."""
        self.now += seconds


class CountingCache(SmartCache):
    """A SmartCache that counts the verbs it was asked: ``calls["lookup"]``, ``calls["store"]``."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.calls: Counter[str] = Counter()

    def lookup(self, key: CacheKey) -> Entry | None:
        """See SmartCache."""
        self.calls["lookup"] += 1
        return super().lookup(key)

    def store(
        self,
        key: CacheKey,
        chunks: bytes | Iterable[bytes],
        *,
        ttl: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """See SmartCache."""
        self.calls["store"] += 1
        return super().store(key, chunks, ttl=ttl, metadata=metadata)

    def recording(
        self, key: CacheKey, *, ttl: float | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Recording:
        """See SmartCache."""
        self.calls["recording"] += 1
        return super().recording(key, ttl=ttl, metadata=metadata)


class FakeUsage:
    """``read_usage`` by script: gives each number in turn, then the last one again and again."""

    def __init__(self, *readings: int) -> None:
        self.readings = list(readings)

    def __call__(self) -> int:
        """Give the next reading, in bytes."""
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def set(self, usage: int) -> None:
        """From now on the usage is this."""
        self.readings = [usage]


class ScriptedFetch:
    """A fetch of model lists by script: a list of ids is given, an exception raised, in turn.

    The last item is given again and again. ``calls`` counts.
    """

    def __init__(self, *script: Sequence[str] | Exception) -> None:
        self.script = list(script)
        self.calls = 0

    async def __call__(self) -> list[dict[str, Any]]:
        """Give or raise what the script says."""
        self.calls += 1
        item = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(item, Exception):
            raise item
        return [{"id": name} for name in item]
