"""A bounded store in memory: entries, bytes and time. It knows nothing of requests."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import msgspec

from proxy_context._keys import CacheKey

__all__ = ["Counts", "Entry", "MemoryStore"]

_SWEEP = 8
"""Expired entries dropped with each put: more than come in, so that a backlog always shrinks."""


class Entry(msgspec.Struct, frozen=True):
    """What is kept under a key. Times are seconds of the cache's own clock."""

    value: Any
    metadata: Mapping[str, Any]
    stored_at: float
    expires_at: float
    """The first moment at which the entry is no longer served."""
    size: int
    """Bytes it counts for, overhead included."""

    @property
    def chunks(self) -> tuple[bytes, ...]:
        """The value as it was fed, for replay. Raises TypeError when it is not made of bytes."""
        if isinstance(self.value, bytes):
            return (self.value,)
        if isinstance(self.value, tuple):
            return self.value
        raise TypeError(f"this entry holds a {type(self.value).__name__}, which has no chunks")


class Counts(msgspec.Struct):
    """What happened since the start. Only the store that owns it writes it."""

    hits: int = 0
    misses: int = 0
    stores: int = 0
    evictions: int = 0
    expired: int = 0
    rejected: int = 0


class MemoryStore:
    """Least recently used goes first, but an expired entry always goes before a live one.

    Expiry is lazy: a lookup drops the entry that it finds expired, a put drops up to eight more,
    and whoever asks for a size or a count drops them all. There is no thread and no timer.
    """

    def __init__(self, max_entries: int, max_bytes: int, clock: Callable[[], float]) -> None:
        self.counts = Counts()
        self.bytes = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._reserved = 0
        self._entries: OrderedDict[CacheKey, Entry] = OrderedDict()
        # Earliest expiry first. An item outlives its entry when that is replaced or removed.
        self._expiries: list[tuple[float, int, CacheKey]] = []
        self._serial = count()

    def get(self, key: CacheKey) -> Entry | None:
        """The live entry, now the most recently used, or None. Counts a hit or a miss."""
        entry = self.peek(key)
        if entry is None:
            self.counts.misses += 1
            return None
        self._entries.move_to_end(key)
        self.counts.hits += 1
        return entry

    def peek(self, key: CacheKey) -> Entry | None:
        """The live entry or None; neither its place nor the hit count changes."""
        entry = self._entries.get(key)
        if entry is None or entry.expires_at > self._clock():
            return entry
        self._expire(key)
        return None

    def put(
        self, key: CacheKey, value: Any, size: int, ttl: float, metadata: Mapping[str, Any]
    ) -> bool:
        """Keep ``value`` for ``ttl`` seconds; others make room. False when that is not enough."""
        now = self._clock()
        self.pop(key)
        entry = Entry(value, metadata, now, now + ttl, size)
        self._entries[key] = entry
        self.bytes += size
        self.counts.stores += 1
        if entry.expires_at != math.inf:
            heapq.heappush(self._expiries, (entry.expires_at, next(self._serial), key))
        self._sweep(now, _SWEEP)
        self._make_room(now)
        if len(self._expiries) > 2 * len(self._entries) + 64:
            self._rebuild()
        return key in self._entries

    def pop(self, key: CacheKey) -> Entry | None:
        """Take the entry out, live or expired."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size
        return entry

    def clear(self, tenant: str | None) -> int:
        """Drop the entries of one tenant, or all. Gives how many. O(entries)."""
        doomed = [key for key in self._entries if tenant is None or key.tenant == tenant]
        for key in doomed:
            self.pop(key)
        self._rebuild()
        return len(doomed)

    def free(self, wanted: int) -> int:
        """Drop entries until ``wanted`` bytes are free or none is left. Gives the bytes freed."""
        before = self.bytes
        now = self._clock()
        while self._entries and before - self.bytes < wanted:
            self._drop_one(now)
        return before - self.bytes

    def reserve(self, change: int) -> None:
        """Take bytes out of the store's budget for something else, or give them back."""
        self._reserved += change
        if self.bytes + self._reserved > self._max_bytes:
            self._make_room(self._clock())

    def sweep(self) -> None:
        """Drop everything that has expired."""
        self._sweep(self._clock(), len(self._expiries))

    def __len__(self) -> int:
        return len(self._entries)

    def _make_room(self, now: float) -> None:
        while len(self._entries) > self._max_entries or (
            self._entries and self.bytes + self._reserved > self._max_bytes
        ):
            self._drop_one(now)

    def _drop_one(self, now: float) -> None:
        before = len(self._entries)
        while self._expiries and self._expiries[0][0] <= now and len(self._entries) == before:
            self._sweep(now, 1)
        if len(self._entries) == before:
            self.pop(next(iter(self._entries)))
            self.counts.evictions += 1

    def _sweep(self, now: float, most: int) -> None:
        heap = self._expiries
        while heap and most > 0 and heap[0][0] <= now:
            key = heapq.heappop(heap)[2]
            most -= 1
            entry = self._entries.get(key)
            if entry is not None and entry.expires_at <= now:
                self._expire(key)

    def _expire(self, key: CacheKey) -> None:
        self.pop(key)
        self.counts.expired += 1

    def _rebuild(self) -> None:
        self._expiries = [
            (entry.expires_at, next(self._serial), key)
            for key, entry in self._entries.items()
            if entry.expires_at != math.inf
        ]
        heapq.heapify(self._expiries)
