"""Recordings: whole streams only, and never more memory than was granted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_context import SmartCache
from proxy_context.errors import RecordingEnded

CHUNK = 1000 - 48


def test_a_complete_recording_is_replayed_chunk_by_chunk() -> None:
    """What was fed comes back as it was fed, with what complete() said of it."""
    cache = SmartCache()
    key = cache.key("ann", "q")
    with cache.recording(key, metadata={"usage": None}) as recording:
        recording.feed(b"a")
        recording.feed(b"bc")
        assert cache.lookup(key) is None
        recording.complete({"usage": 3})
    assert recording.stored
    entry = cache.lookup(key)
    assert entry is not None
    assert entry.chunks == (b"a", b"bc")
    assert entry.metadata == {"usage": 3}


def test_without_complete_nothing_is_kept() -> None:
    """A block that is left before complete() leaves nothing behind."""
    cache = SmartCache()
    with cache.recording(cache.key("ann", "q")) as recording:
        recording.feed(b"half")
    assert not recording.stored
    assert len(cache) == cache.held_bytes == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_an_exception_drops_even_a_complete_recording(error: type[BaseException]) -> None:
    """A block that is left by an exception keeps nothing, and the exception goes on."""
    cache = SmartCache()
    with pytest.raises(error), cache.recording(cache.key("ann", "q")) as recording:
        recording.feed(b"all")
        recording.complete()
        raise error
    assert not recording.stored
    assert len(cache) == cache.held_bytes == 0


def test_a_recording_that_grows_too_large_gives_up() -> None:
    """Past the limit of an entry the memory is let go at once, and the stream goes on."""
    cache = SmartCache(max_entry_bytes=3000)
    with cache.recording(cache.key("ann", "q")) as recording:
        recording.feed(bytes(CHUNK))
        recording.feed(bytes(CHUNK))
        assert recording.held_bytes == cache.held_bytes == 2000
        recording.feed(bytes(CHUNK))
        assert recording.held_bytes == cache.held_bytes == 0
        recording.feed(b"more")
        recording.complete()
    assert not recording.stored
    assert cache.stats.rejected == 1


def test_feeding_outside_the_recording_is_an_error() -> None:
    """Chunks are taken inside the block and before complete() only."""
    cache = SmartCache()
    recording = cache.recording(cache.key("ann", "q"))
    with pytest.raises(RecordingEnded):
        recording.feed(b"early")
    with recording:
        recording.complete()
        with pytest.raises(RecordingEnded):
            recording.feed(b"late")
    with pytest.raises(RecordingEnded):
        recording.feed(b"later")
    with pytest.raises(RecordingEnded):
        recording.complete()


@pytest.mark.parametrize("how", ["invalidate", "clear", "clear tenant"])
def test_what_was_invalidated_meanwhile_is_not_kept(how: str) -> None:
    """An answer that was under way when its key was forgotten does not come back."""
    cache = SmartCache()
    key, other = cache.key("ann", "q"), cache.key("bob", "q")
    with cache.recording(key) as recording, cache.recording(other) as untouched:
        recording.feed(b"old")
        untouched.feed(b"new")
        if how == "invalidate":
            cache.invalidate(key)
        else:
            cache.clear("ann" if "tenant" in how else None)
        recording.complete()
        untouched.complete()
    assert not recording.stored
    assert cache.lookup(key) is None
    assert untouched.stored == (how != "clear")


def test_recordings_share_a_quarter_of_the_memory() -> None:
    """Many streams at once can't push out more than a quarter of what is kept."""
    cache = SmartCache(max_bytes=100_000, max_entry_bytes=10_000)
    for number in range(90):
        cache.store(cache.key("ann", number), bytes(CHUNK - 512))
    kept = len(cache)
    recordings = [cache.recording(cache.key("bob", number)) for number in range(10)]
    for recording in recordings:
        recording.__enter__()
        for _ in range(5):
            recording.feed(bytes(CHUNK))
            assert cache.held_bytes <= 100_000
    assert sum(recording.held_bytes for recording in recordings) == 25_000
    assert len(cache) >= kept * 0.75
    for recording in recordings:
        recording.__exit__(None, None, None)
    assert cache.held_bytes == len(cache) * 1000


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["feed", "complete", "leave", "break"])))
)
def test_memory_is_always_given_back(steps: list[tuple[int, str]]) -> None:
    """Whatever recordings do, the bound holds, and at the end only entries hold memory."""
    cache = SmartCache(max_bytes=5000, max_entry_bytes=2500)
    open_ones = {
        number: cache.recording(cache.key("ann", number)).__enter__() for number in range(4)
    }
    finished: set[int] = set()
    for number, step in steps:
        recording = open_ones.get(number)
        if recording is None:
            continue
        if step == "feed" and number not in finished:
            recording.feed(bytes(700))
        elif step == "complete":
            finished.add(number)
            recording.complete()
        elif step in ("leave", "break"):
            recording.__exit__(RuntimeError if step == "break" else None, None, None)
            del open_ones[number]
        assert cache.held_bytes <= 5000
    for recording in open_ones.values():
        recording.__exit__(None, None, None)
    entries = [cache.lookup(cache.key("ann", number)) for number in range(4)]
    assert cache.held_bytes == sum(entry.size for entry in entries if entry is not None)
    assert cache._recordings == set()
