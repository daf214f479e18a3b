"""SmartCache: exact answers, bounded in entries, bytes and time, a tenant in every key."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import msgspec

from proxy_context._flight import Flights
from proxy_context._keys import CacheKey, KeyMaker, Part
from proxy_context._recording import Recording
from proxy_context._sizes import CHUNK_OVERHEAD, ENTRY_OVERHEAD, size_of
from proxy_context._store import Entry, MemoryStore
from proxy_context.errors import SettingsError

__all__ = ["CacheStats", "NoCache", "ResponseCache", "SmartCache"]

T = TypeVar("T")
_MIB = 1 << 20
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class CacheStats(msgspec.Struct, frozen=True):
    """Counts since the start, and what is held now."""

    hits: int
    misses: int
    stores: int
    evictions: int
    """Live entries that had to go for others, or were shed."""
    expired: int
    rejected: int
    """Values that were too large to keep, recordings that gave up included."""
    entries: int
    bytes: int


class ResponseCache(Protocol):
    """What a gateway's journey needs of a cache; SmartCache and NoCache have it."""

    def key(self, tenant: str, *parts: Part) -> CacheKey: ...

    def lookup(self, key: CacheKey) -> Entry | None: ...

    def recording(
        self, key: CacheKey, *, ttl: float | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Recording: ...


class SmartCache:
    """A response cache. For one event loop and one thread; time is ``clock``, in seconds.

    ``max_size`` entries and ``max_bytes`` in all (recordings under way included) are never
    exceeded; ``ttl`` is the default life in seconds, ``math.inf`` for ever. A value larger than
    ``max_entry_bytes`` (default: a sixteenth of ``max_bytes``, at least 1 MiB) is not kept.
    ``secret`` keys the digests: give the same one wherever keys must agree.

    An entry is served while ``clock() < stored_at + ttl``, not at that moment itself.
    """

    def __init__(
        self,
        max_size: int = 1000,
        ttl: float = 3600,
        *,
        max_bytes: int = 64 * _MIB,
        max_entry_bytes: int | None = None,
        secret: bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _at_least_one("max_size", max_size)
        _at_least_one("max_bytes", max_bytes)
        if not ttl > 0:
            raise SettingsError(f"ttl is {ttl!r}: give seconds above zero, or math.inf")
        limit = (
            max(min(max_bytes, _MIB), max_bytes // 16)
            if max_entry_bytes is None
            else max_entry_bytes
        )
        _at_least_one("max_entry_bytes", limit)
        self._ttl = ttl
        self._max_entry_bytes = min(limit, max_bytes)
        self._recording_budget = max(self._max_entry_bytes, max_bytes // 4)
        self._recording_bytes = 0
        self._recordings: set[Recording] = set()
        self._clock = clock
        self._keys = KeyMaker(secret)
        self._store = MemoryStore(max_size, max_bytes, clock)
        self._flights = Flights()

    def key(self, tenant: str, *parts: Part) -> CacheKey:
        """The key of what was asked (str, bytes, numbers, None), for ``tenant`` and nobody else."""
        return self._keys.key(tenant, *parts)

    def lookup(self, key: CacheKey) -> Entry | None:
        """The live entry or None. Counts a hit or a miss; a hit is now the last to be evicted."""
        return self._store.get(key)

    def store(
        self,
        key: CacheKey,
        chunks: bytes | Iterable[bytes],
        *,
        ttl: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Keep an answer's chunks for replay. False, and nothing kept, when it is too large.

        What the key held before is gone in either case. ``ttl`` of zero or less keeps nothing.
        """
        parts = (chunks,) if isinstance(chunks, bytes) else tuple(map(bytes, chunks))
        return self._put(
            key, parts, sum(map(len, parts)) + len(parts) * CHUNK_OVERHEAD, ttl, metadata
        )

    def recording(
        self, key: CacheKey, *, ttl: float | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Recording:
        """A block that records a stream and stores it if it was whole."""
        return Recording(self, key, ttl, metadata)

    def age(self, entry: Entry) -> float:
        """Seconds since the entry was stored: HTTP's ``Age``."""
        return self._clock() - entry.stored_at

    async def get_or_compute(
        self, key: CacheKey | str, factory: Callable[[], Awaitable[T]], *, ttl: float | None = None
    ) -> T:
        """The kept value, or what ``factory`` gives: one caller computes while the others wait.

        A leader that fails or is cancelled raises its own error and wakes one waiter to take over
        with its own factory; when a second one fails, its error goes to all who wait. A factory
        must not ask for its own key: it would wait for itself.
        """
        key = self._as_key(key)
        entry = self._store.get(key)
        if entry is not None:
            kept: T = entry.value
            return kept
        value, mine = await self._flights.run(key, factory)
        if mine:
            self._put(key, value, size_of(value), ttl, None)
        return value

    def get(self, key: CacheKey | str, default: Any = None) -> Any:
        """The live value or ``default``. Counts like ``lookup``."""
        entry = self._store.get(self._as_key(key))
        return default if entry is None else entry.value

    def set(self, key: CacheKey | str, value: Any, ttl: float | None = None) -> bool:
        """Keep ``value``; False when it is too large.

        The object itself is kept, not a copy. Its size is exact for bytes and strings, and walks
        the standard containers; for other objects give the cache a generous ``max_size`` only.
        """
        return self._put(self._as_key(key), value, size_of(value), ttl, None)

    def delete(self, key: CacheKey | str) -> bool:
        """Forget a key; True when something was there.

        Computations and recordings under way for it reach their own callers, but are not kept.
        """
        key = self._as_key(key)
        self._flights.forget(key)
        self._drop_recordings(lambda other: other == key)
        there = self._store.peek(key) is not None
        self._store.pop(key)
        return there

    invalidate = delete

    def clear(self, tenant: str | None = None) -> int:
        """Forget one tenant's entries, or all (``None``); gives how many. O(entries)."""

        def ours(key: CacheKey) -> bool:
            return tenant is None or key.tenant == tenant

        self._flights.forget_all(ours)
        self._drop_recordings(ours)
        self._store.sweep()
        return self._store.clear(tenant)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, (CacheKey, str)) and self._store.peek(self._as_key(key)) is not None

    def __len__(self) -> int:
        self._store.sweep()
        return len(self._store)

    def __bool__(self) -> bool:
        # Without this, ``cache or default`` would throw away a cache that is merely empty.
        return True

    @property
    def held_bytes(self) -> int:
        """Bytes of live entries and of recordings under way; never above ``max_bytes``."""
        self._store.sweep()
        return self._store.bytes + self._recording_bytes

    @property
    def stats(self) -> CacheStats:
        entries, held = len(self), self.held_bytes
        return CacheStats(**msgspec.structs.asdict(self._store.counts), entries=entries, bytes=held)

    def shed(self, bytes_to_free: int) -> int:
        """Drop entries, the expired and then the least recently used first; gives bytes freed."""
        return self._store.free(bytes_to_free)

    def begin(self, recording: Recording) -> None:
        """See Recorder."""
        self._recordings.add(recording)

    def grant(self, held: int, more: int) -> bool:
        """See Recorder."""
        too_large = held + more + ENTRY_OVERHEAD > self._max_entry_bytes
        if too_large or self._recording_bytes + more > self._recording_budget:
            self._store.counts.rejected += 1
            return False
        self._recording_bytes += more
        self._store.reserve(more)
        return True

    def finish(
        self,
        recording: Recording,
        chunks: tuple[bytes, ...] | None,
        metadata: Mapping[str, Any] | None,
    ) -> bool:
        """See Recorder."""
        self._recording_bytes -= recording.held_bytes
        self._store.reserve(-recording.held_bytes)
        self._recordings.discard(recording)
        if chunks is None:
            return False
        return self.store(recording.key, chunks, ttl=recording.ttl, metadata=metadata)

    def _drop_recordings(self, which: Callable[[CacheKey], bool]) -> None:
        for recording in [one for one in self._recordings if which(one.key)]:
            recording.drop()

    def _as_key(self, key: CacheKey | str) -> CacheKey:
        return key if isinstance(key, CacheKey) else self._keys.plain(key)

    def _put(
        self,
        key: CacheKey,
        value: Any,
        size: int,
        ttl: float | None,
        metadata: Mapping[str, Any] | None,
    ) -> bool:
        life = self._ttl if ttl is None else ttl
        size += ENTRY_OVERHEAD + (size_of(metadata) if metadata else 0)
        if not life > 0:
            self._store.pop(key)
            return False
        if size > self._max_entry_bytes:
            self._store.pop(key)
            self._store.counts.rejected += 1
            return False
        return self._store.put(key, value, size, life, metadata or _NOTHING)


class NoCache:
    """The cache that is switched off: it finds nothing and keeps nothing."""

    _KEY = CacheKey("off", b"")

    def key(self, tenant: str, *parts: Part) -> CacheKey:
        return self._KEY

    def lookup(self, key: CacheKey) -> Entry | None:
        return None

    def recording(
        self, key: CacheKey, *, ttl: float | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Recording:
        return Recording(self, key)

    def begin(self, recording: Recording) -> None:
        pass

    def grant(self, held: int, more: int) -> bool:
        return False

    def finish(
        self,
        recording: Recording,
        chunks: tuple[bytes, ...] | None,
        metadata: Mapping[str, Any] | None,
    ) -> bool:
        return False


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise SettingsError(f"{name} is {value!r}: give 1 or more")
