"""ModelCache: asked rarely, answered always, never beyond its word."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from proxy_context import ModelCache, ModelCacheSettings, ModelKey
from proxy_context.errors import CredentialRefused, ModelListUnavailable, SettingsError
from proxy_context.testing import ManualClock, ScriptedFetch

KEY = ModelKey("openai", "fingerprint-1")
NO_JITTER = ModelCacheSettings(jitter=0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def cache(clock: ManualClock) -> AsyncIterator[ModelCache]:
    made = ModelCache(ttl=100, stale_for=1000, negative_ttl=10, settings=NO_JITTER, clock=clock)
    yield made
    await made.aclose()


class Gate:
    """A fetch that waits until it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.calls = 0
        self.cancelled = False

    async def __call__(self) -> list[dict[str, Any]]:
        self.calls += 1
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return [{"id": "gated"}]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_provider_is_asked_once_while_the_list_is_fresh(
    cache: ModelCache, clock: ManualClock
) -> None:
    """Up to its time to live a list is served from memory, with its age."""
    fetch = ScriptedFetch(["a", "b"])
    first = await cache.get(KEY, fetch)
    assert (first.ids, first.source, first.age, first.stale) == (("a", "b"), "upstream", 0, False)
    clock.advance(99.9)
    again = await cache.get(("openai", "fingerprint-1"), fetch)
    assert (again.ids, again.source, again.stale) == (("a", "b"), "memory", False)
    assert again.age == pytest.approx(99.9)
    assert fetch.calls == 1


async def test_a_stale_list_is_served_while_a_new_one_is_fetched(
    cache: ModelCache, clock: ManualClock
) -> None:
    """From its time to live on, the old list is given at once and the new one fetched behind."""
    fetch = ScriptedFetch(["old"], ["new"])
    await cache.get(KEY, fetch)
    clock.advance(100)
    stale = await cache.get(KEY, fetch)
    assert (stale.ids, stale.stale) == (("old",), True)
    await settle()
    fresh = await cache.get(KEY, fetch)
    assert (fresh.ids, fresh.stale, fresh.age) == (("new",), False, 0)
    assert fetch.calls == 2


async def test_a_list_too_old_to_serve_is_waited_for(cache: ModelCache, clock: ManualClock) -> None:
    """At the end of stale_for the caller waits for the provider."""
    fetch = ScriptedFetch(["old"], ["new"])
    await cache.get(KEY, fetch)
    clock.advance(1100)
    assert (await cache.get(KEY, fetch)).ids == ("new",)


async def test_a_provider_that_fails_leaves_the_stale_list(
    cache: ModelCache, clock: ManualClock
) -> None:
    """An error behind a stale list is not seen, nor repeated before negative_ttl has passed."""
    fetch = ScriptedFetch(["old"], ConnectionError("down"))
    await cache.get(KEY, fetch)
    clock.advance(100)
    for _ in range(3):
        assert (await cache.get(KEY, fetch)).ids == ("old",)
        await settle()
    assert fetch.calls == 2
    clock.advance(10)
    await cache.get(KEY, fetch)
    await settle()
    assert fetch.calls == 3


async def test_a_failure_is_remembered_briefly(cache: ModelCache, clock: ManualClock) -> None:
    """With nothing to serve, the error says when to ask again; until then nobody is asked."""
    fetch = ScriptedFetch(ConnectionError("down"), ["a"])
    with pytest.raises(ModelListUnavailable, match="'openai' can't be had: down") as caught:
        await cache.get(KEY, fetch)
    assert caught.value.retry_after == 10
    assert isinstance(caught.value.__cause__, ConnectionError)
    clock.advance(9)
    with pytest.raises(ModelListUnavailable) as again:
        await cache.get(KEY, fetch)
    assert again.value.retry_after == 1
    assert again.value is not caught.value
    assert fetch.calls == 1
    clock.advance(1)
    assert (await cache.get(KEY, fetch)).ids == ("a",)


async def test_refresh_asks_now(cache: ModelCache) -> None:
    """With refresh neither a list nor a failure is an answer, and success ends the failure."""
    fetch = ScriptedFetch(["old"], ConnectionError("down"), ["new"])
    await cache.get(KEY, fetch)
    fallback = await cache.get(KEY, fetch, refresh=True)
    assert (fallback.ids, fallback.stale) == (("old",), True)
    assert (await cache.get(KEY, fetch, refresh=True)).ids == ("new",)
    assert fetch.calls == 3
    cache.shed(10**9)
    assert (await cache.get(KEY, fetch)).ids == ("new",)


async def test_a_refused_credential_loses_its_list(clock: ManualClock, tmp_path: Path) -> None:
    """After a 401 the old list is gone from memory and disk, and callers get the refusal."""
    cache = ModelCache(directory=tmp_path, settings=NO_JITTER, clock=clock)
    fetch = ScriptedFetch(["a"], CredentialRefused("key revoked"))
    await cache.get(KEY, fetch)
    assert len(list(tmp_path.iterdir())) == 1
    for _ in range(2):
        with pytest.raises(CredentialRefused, match="key revoked"):
            await cache.get(KEY, fetch, refresh=fetch.calls == 1)
    assert fetch.calls == 2
    assert list(tmp_path.iterdir()) == []
    await cache.aclose()


async def test_callers_share_one_fetch(cache: ModelCache) -> None:
    """Any number of callers at once cost one call, and one that leaves takes nothing with it."""
    gate = Gate()
    tasks = [asyncio.create_task(cache.get(KEY, gate)) for _ in range(50)]
    await settle()
    tasks[0].cancel()
    await settle()
    gate.opened.set()
    lists = await asyncio.gather(*tasks[1:])
    assert {found.ids for found in lists} == {("gated",)}
    assert (gate.calls, gate.cancelled, tasks[0].cancelled()) == (1, False, True)


async def test_credentials_have_lists_of_their_own(cache: ModelCache) -> None:
    """What one key may use says nothing of another, nor one provider of another."""
    assert (await cache.get(("p", "one"), ScriptedFetch(["a"]))).ids == ("a",)
    assert (await cache.get(("p", "two"), ScriptedFetch(["b"]))).ids == ("b",)
    assert (await cache.get(("q", "one"), ScriptedFetch(["c"]))).ids == ("c",)
    assert (await cache.get(("p", "one"), ScriptedFetch(["never"]))).ids == ("a",)


async def test_closing_ends_what_is_under_way(cache: ModelCache) -> None:
    """aclose() cancels fetches, waits for them, and tells those who waited."""
    gate = Gate()
    waiting = asyncio.create_task(cache.get(KEY, gate))
    await settle()
    await cache.aclose()
    assert gate.cancelled
    with pytest.raises(ModelListUnavailable):
        await waiting
    with pytest.raises(ModelListUnavailable, match="closed"):
        await cache.get(KEY, gate)
    assert [task for task in asyncio.all_tasks() if "models" in task.get_name()] == []


async def test_a_fetch_that_hangs_is_a_failure() -> None:
    """A provider that doesn't answer in time counts as one that failed."""
    cache = ModelCache(settings=ModelCacheSettings(fetch_timeout=0.001))
    gate = Gate()
    with pytest.raises(ModelListUnavailable, match="TimeoutError"):
        await cache.get(KEY, gate)
    assert gate.cancelled


@pytest.mark.parametrize("models", [[{"name": "a"}], [{"id": 7}], ["a"], None])
async def test_a_list_that_is_none_is_a_failure(cache: ModelCache, models: Any) -> None:
    """An answer whose models have no id is not kept."""

    async def fetch() -> Any:
        return models

    with pytest.raises(ModelListUnavailable):
        await cache.get(KEY, fetch)
    assert cache.held_bytes == 0


async def test_lists_do_not_expire_together(clock: ManualClock) -> None:
    """Times to live spread over the jitter, the same for the same seed."""
    ends = []
    for _ in range(2):
        settings = ModelCacheSettings(jitter=0.1, rng=random.Random(7))
        cache = ModelCache(ttl=100, settings=settings, clock=clock)
        for number in range(200):
            await cache.get(("p", str(number)), ScriptedFetch(["a"]))
        ends.append([kept.fresh_until - clock.now for kept in cache._kept.values()])
    assert ends[0] == ends[1]
    assert 90 <= min(ends[0]) < 92
    assert 108 < max(ends[0]) <= 110


async def test_memory_is_bounded_and_can_be_shed(clock: ManualClock) -> None:
    """No more keys than max_keys are kept, lists and failures alike; shedding starts with the
    longest unused."""
    cache = ModelCache(settings=ModelCacheSettings(max_keys=3), clock=clock)
    for name in "abcd":
        await cache.get(("p", name), ScriptedFetch([name]))
        with pytest.raises(ModelListUnavailable):
            await cache.get(("broken", name), ScriptedFetch(ConnectionError()))
    assert (len(cache._kept), len(cache._failures)) == (3, 3)
    await cache.get(("p", "b"), ScriptedFetch(["never"]))
    held = cache.held_bytes
    freed = cache.shed(1)
    assert 0 < freed == held - cache.held_bytes
    assert [key.credential for key in cache._kept] == ["d", "b"]
    assert cache.shed(10**9) == held - freed
    assert cache.held_bytes == 0


class OnDisk:
    """Caches that share a directory, each like a process started anew."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wall = ManualClock(1_000_000)

    def start(self, max_keys: int = 1000) -> ModelCache:
        settings = ModelCacheSettings(jitter=0, wall=self.wall, max_keys=max_keys)
        return ModelCache(
            ttl=100,
            stale_for=1000,
            directory=self.directory,
            settings=settings,
            clock=ManualClock(5),
        )


@pytest.fixture
def disk(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path / "models")


async def test_a_restart_finds_the_list_on_disk(disk: OnDisk) -> None:
    """Another process serves what was saved, with its age, without asking."""
    await disk.start().get(KEY, ScriptedFetch(["a"]))
    disk.wall.advance(60)
    found = await disk.start().get(KEY, ScriptedFetch(["never"]))
    assert (found.ids, found.source, found.stale, found.age) == (("a",), "disk", False, 60)


async def test_an_old_file_is_stale_and_a_very_old_one_nothing(disk: OnDisk) -> None:
    """Age counts on disk as it does in memory."""
    await disk.start().get(KEY, ScriptedFetch(["a"]))
    disk.wall.advance(100)
    cache = disk.start()
    stale = await cache.get(KEY, ScriptedFetch(ConnectionError()))
    assert (stale.ids, stale.stale) == (("a",), True)
    await settle()
    disk.wall.advance(1000)
    with pytest.raises(ModelListUnavailable):
        await disk.start().get(KEY, ScriptedFetch(ConnectionError()))


async def test_a_file_from_the_future_is_not_fresh(disk: OnDisk) -> None:
    """When the wall clock went back, the list is served stale and asked for again."""
    await disk.start().get(KEY, ScriptedFetch(["a"]))
    disk.wall.advance(-5000)
    cache = disk.start()
    fetch = ScriptedFetch(["b"])
    assert (await cache.get(KEY, fetch)).stale
    await settle()
    assert fetch.calls == 1
    await cache.aclose()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"saved_at":1000000,"models":[{"id":"x"}],"version":2}',
        b'{"saved_at":1000000,"models":[{"name":"x"}]}',
        b'{"saved_at":"now","models":[]}',
        b"[" * 100_000,
    ],
)
async def test_a_damaged_file_is_ignored_and_rewritten(disk: OnDisk, damage: bytes) -> None:
    """What can't be read is as if it weren't there, and the next list takes its place."""
    await disk.start().get(KEY, ScriptedFetch(["a"]))
    (file,) = disk.directory.iterdir()
    good = file.read_bytes()
    file.write_bytes(damage)
    assert (await disk.start().get(KEY, ScriptedFetch(["a"]))).source == "upstream"
    assert file.read_bytes() == good


async def test_files_tell_nothing_by_their_names_and_are_private(disk: OnDisk) -> None:
    """A listing shows digests; only the owner may read; no temporary file is left."""
    await disk.start().get(KEY, ScriptedFetch(["a"]))
    (file,) = disk.directory.iterdir()
    assert "openai" not in file.name
    assert "fingerprint" not in file.name
    assert b"fingerprint" not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(disk.directory.stat().st_mode) == 0o700


async def test_the_number_of_files_is_bounded(disk: OnDisk) -> None:
    """Beyond max_keys the oldest files go."""
    cache = disk.start(max_keys=3)
    for number in range(6):
        await cache.get(("p", str(number)), ScriptedFetch(["a"]))
    assert len(list(disk.directory.iterdir())) == 3


async def test_a_disk_that_refuses_is_no_failure(tmp_path: Path) -> None:
    """Without a place to write, lists are served all the same."""
    (tmp_path / "file").write_bytes(b"")
    cache = OnDisk(tmp_path / "file" / "models").start()
    assert (await cache.get(KEY, ScriptedFetch(["a"]))).ids == ("a",)
    assert (await cache.get(KEY, ScriptedFetch(["never"]))).ids == ("a",)
    await cache.forget(KEY)
    assert (await cache.get(KEY, ScriptedFetch(["b"]))).ids == ("b",)


async def test_what_json_cannot_say_is_served_but_not_saved(disk: OnDisk) -> None:
    """A list that can't be written to disk is kept in memory, and no file is left behind."""

    async def fetch() -> list[dict[str, Any]]:
        return [{"id": "a", "odd": object()}]

    assert (await disk.start().get(KEY, fetch)).ids == ("a",)
    assert list(disk.directory.iterdir()) == []


@pytest.mark.parametrize("name", ["ttl", "stale_for", "negative_ttl"])
def test_times_below_zero_are_refused(name: str) -> None:
    """The error names the argument and the value."""
    with pytest.raises(SettingsError, match=f"{name} is -1"):
        ModelCache(**cast("dict[str, Any]", {name: -1}))


@pytest.mark.parametrize(("name", "value"), [("jitter", 1), ("max_keys", 0), ("fetch_timeout", 0)])
def test_settings_that_cannot_work_are_refused(name: str, value: int) -> None:
    """The error names the setting and the value."""
    with pytest.raises(SettingsError, match=f"{name} is {value}"):
        ModelCacheSettings(**cast("dict[str, Any]", {name: value}))
