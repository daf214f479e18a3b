"""SmartCache: bounds, time, and its use as a mapping."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import pytest

from proxy_context import CacheKey, NoCache, ResponseCache, SmartCache
from proxy_context.errors import SettingsError
from proxy_context.testing import CountingCache, ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_the_line_from_the_readme_works() -> None:
    """A cache with a size and a time to live is used like a mapping."""
    cache = SmartCache(max_size=1000, ttl=3600)
    assert cache.get("a") is None
    assert cache.get("a", "nothing") == "nothing"
    assert cache.set("a", {"answer": 42})
    assert cache.get("a") == {"answer": 42}
    assert "a" in cache
    assert len(cache) == 1
    assert cache.delete("a")
    assert not cache.delete("a")
    assert "a" not in cache


def test_an_empty_cache_is_true() -> None:
    """``cache or default`` keeps a cache that is merely empty."""
    assert SmartCache()


def test_an_entry_ends_at_the_very_moment(clock: ManualClock) -> None:
    """An entry is served until just before its time to live has passed, and not at that moment."""
    cache = SmartCache(ttl=10, clock=clock)
    cache.set("a", b"1")
    clock.now = math.nextafter(1010.0, 0)
    assert cache.get("a") == b"1"
    clock.now = 1010.0
    assert cache.get("a") is None
    assert cache.stats.expired == 1


def test_its_own_ttl_goes_before_the_default(clock: ManualClock) -> None:
    """A ttl given with a value counts for that value alone."""
    cache = SmartCache(ttl=10, clock=clock)
    cache.set("short", 1, ttl=1)
    cache.set("usual", 2)
    cache.set("ever", 3, ttl=math.inf)
    clock.advance(1)
    assert [name in cache for name in ("short", "usual", "ever")] == [False, True, True]
    clock.advance(1e12)
    assert [name in cache for name in ("short", "usual", "ever")] == [False, False, True]


def test_a_new_value_has_a_new_life(clock: ManualClock) -> None:
    """Storing again starts the time anew, though the first life's end passes in between."""
    cache = SmartCache(ttl=10, clock=clock)
    cache.set("a", 1)
    clock.advance(9)
    cache.set("a", 2)
    clock.advance(9)
    assert cache.get("a") == 2
    assert len(cache) == 1


@pytest.mark.parametrize("ttl", [0, -1, math.nan])
def test_no_time_to_live_keeps_nothing(ttl: float) -> None:
    """A value that may not live is not kept, and takes the old one with it."""
    cache = SmartCache()
    cache.set("a", 1)
    assert not cache.set("a", 2, ttl=ttl)
    assert "a" not in cache


def test_too_large_is_refused_and_takes_the_old_value_with_it() -> None:
    """A value over the limit is not kept, and what it was to replace is not served either."""
    cache = SmartCache(max_entry_bytes=1000)
    key = cache.key("ann", "q")
    assert cache.store(key, b"old")
    assert not cache.store(key, b"x" * 1000)
    assert cache.lookup(key) is None
    assert cache.stats.rejected == 1


def test_the_largest_that_fits_is_kept() -> None:
    """The limit of an entry is met to the byte, overhead included."""
    cache = SmartCache(max_entry_bytes=1000)
    key = cache.key("ann", "q")
    assert cache.store(key, b"x" * (1000 - 512 - 48))
    assert not cache.store(key, b"x" * (1000 - 512 - 47))


def test_the_least_recently_used_goes_first() -> None:
    """A lookup saves an entry from the next eviction; ``in`` does not."""
    cache = SmartCache(max_size=2)
    cache.set("a", 1)
    cache.set("b", 2)
    cache.get("a")
    assert "b" in cache
    cache.set("c", 3)
    assert [name in cache for name in "abc"] == [True, False, True]
    assert cache.stats.evictions == 1


def test_an_expired_entry_goes_before_a_live_one(clock: ManualClock) -> None:
    """However recently it was used, an expired entry makes room first."""
    cache = SmartCache(max_size=2, clock=clock)
    cache.set("old", 1)
    cache.set("brief", 2, ttl=1)
    cache.get("brief")
    clock.advance(1)
    cache.set("new", 3)
    assert [name in cache for name in ("old", "brief", "new")] == [True, False, True]
    assert cache.stats.evictions == 0


def test_a_backlog_of_expired_entries_goes_before_a_live_one(clock: ManualClock) -> None:
    """Room for a large value comes from all that has expired, before anything live is touched."""
    cache = SmartCache(max_bytes=20_000, clock=clock)
    cache.set("old", bytes(440))
    for name in range(15):
        cache.set(str(name), bytes(440), ttl=1)
    clock.advance(1)
    assert cache.set("large", bytes(17_000))
    assert "old" in cache
    assert (cache.stats.evictions, cache.stats.expired) == (0, 15)


def test_expired_entries_go_without_being_asked_for(clock: ManualClock) -> None:
    """A cache that is only ever written to lets go of what has expired."""
    cache = SmartCache(max_size=100_000, ttl=1, clock=clock)
    for name in range(1000):
        cache.set(str(name), b"")
        clock.advance(0.01)
    assert len(cache._store) <= 101


def test_rewriting_one_key_does_not_grow_the_cache() -> None:
    """The bookkeeping of expiry stays in proportion to the entries."""
    cache = SmartCache()
    for _ in range(5000):
        cache.set("a", b"")
    assert len(cache._store._expiries) <= 66


def test_tenants_do_not_meet() -> None:
    """The same question of two tenants is two entries, and clearing one leaves the other."""
    cache = SmartCache()
    ann, bob = cache.key("ann", "q"), cache.key("bob", "q")
    cache.store(ann, b"1")
    assert cache.lookup(bob) is None
    cache.store(bob, b"2")
    assert cache.clear("ann") == 1
    assert cache.lookup(ann) is None
    kept = cache.lookup(bob)
    assert kept is not None
    assert kept.chunks == (b"2",)


def test_metadata_and_age_come_back(clock: ManualClock) -> None:
    """What was stored beside the chunks comes back with them, and how old they are."""
    cache = SmartCache(clock=clock)
    key = cache.key("ann", "q")
    cache.store(key, (chunk for chunk in (b"a", b"b")), metadata={"usage": 7})
    clock.advance(5)
    entry = cache.lookup(key)
    assert entry is not None
    assert entry.chunks == (b"a", b"b")
    assert entry.metadata == {"usage": 7}
    assert cache.age(entry) == 5
    assert entry.expires_at - entry.stored_at == 3600


def test_a_value_without_chunks_says_so() -> None:
    """Replaying a value that is not made of bytes is an error that names its type."""
    cache = SmartCache()
    key = cache.key("ann", "q")
    cache.set(key, {"a": 1})
    entry = cache.lookup(key)
    assert entry is not None
    with pytest.raises(TypeError, match="dict"):
        _ = entry.chunks


def test_held_bytes_are_what_the_process_holds() -> None:
    """The count of bytes lies between the memory really taken and a third more."""
    cache = SmartCache(max_size=100_000)
    keys = [cache.key("ann", number) for number in range(5000)]
    tracemalloc.start()
    try:
        for number, key in enumerate(keys):
            cache.store(key, [bytes(100) + number.to_bytes(4, "big") for _ in range(3)])
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # The keys, of about 150 bytes each, were made before; the cache alone keeps them in real life.
    taken += 150 * len(keys)
    assert taken <= cache.held_bytes <= taken * 1.35


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_size", 0), ("ttl", 0), ("ttl", math.nan), ("max_bytes", 0), ("max_entry_bytes", 0)],
)
def test_settings_that_cannot_work_are_refused_by_name(name: str, value: Any) -> None:
    """The error names the argument and the value."""
    with pytest.raises(SettingsError, match=f"{name} is {value!r}"):
        SmartCache(**{name: value})


def test_a_cache_that_is_off_keeps_nothing() -> None:
    """NoCache takes the same verbs, finds nothing and keeps nothing."""
    cache: ResponseCache = NoCache()
    key = cache.key("ann", "q")
    with cache.recording(key) as recording:
        recording.feed(b"a")
        recording.complete()
    assert not recording.stored
    assert recording.held_bytes == 0
    assert cache.lookup(key) is None


def test_the_counting_cache_counts() -> None:
    """The double counts the verbs and is a cache all the same."""
    cache: ResponseCache = CountingCache(max_size=1)
    key = cache.key("ann", "q")
    with cache.recording(key) as recording:
        recording.complete()
    assert cache.lookup(key) is not None
    assert isinstance(cache, CountingCache)
    assert cache.calls == {"recording": 1, "store": 1, "lookup": 1}


def test_a_key_shows_no_tenant() -> None:
    """A key in a log names nobody."""
    assert "ann" not in repr(SmartCache().key("ann", "q"))
    assert repr(CacheKey("ann", b"\x01" * 32)) == "CacheKey(0101010101010101…)"
