"""MemoryManager: levels with hysteresis, and who gives first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy_context import MemoryManager, MemorySettings, SmartCache, memory_limit, read_rss
from proxy_context.errors import SettingsError
from proxy_context.testing import FakeUsage, ManualClock


class Held:
    """A holder of so many bytes, which remembers what it was asked to give."""

    def __init__(self, held: int) -> None:
        self.held_bytes = held
        self.asked: list[int] = []

    def shed(self, bytes_to_free: int) -> int:
        self.asked.append(bytes_to_free)
        freed = min(bytes_to_free, self.held_bytes)
        self.held_bytes -= freed
        return freed


class Broken:
    """A holder whose shed always fails."""

    held_bytes = 10

    def shed(self, bytes_to_free: int) -> int:
        raise RuntimeError("broken")


class Bench:
    """A manager with a limit of 1000 bytes and everything in hand."""

    def __init__(self) -> None:
        self.usage = FakeUsage(0)
        self.clock = ManualClock()
        self.given_back = 0
        self.manager = MemoryManager(
            limit_bytes=1000,
            read_usage=self.usage,
            settings=MemorySettings(give_back=self.give_back),
            clock=self.clock,
        )

    def give_back(self) -> None:
        self.given_back += 1

    def level(self, usage: int) -> str:
        self.usage.set(usage)
        return self.manager.check().level


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_levels_have_hysteresis(bench: Bench) -> None:
    """A level is entered at its share, and left only five hundredths below it."""
    readings = [699, 700, 650, 649, 699, 800, 750, 749, 900, 850, 849, 750, 700, 649, 1200, 0]
    assert [bench.level(usage) for usage in readings] == [
        "normal",
        "elevated",
        "elevated",
        "normal",
        "normal",
        "high",
        "high",
        "elevated",
        "critical",
        "critical",
        "high",
        "high",
        "elevated",
        "normal",
        "critical",
        "normal",
    ]


def test_the_least_precious_gives_first_and_only_what_is_needed(bench: Bench) -> None:
    """Holders are asked in the order of priority, until usage would be back to normal."""
    first, second, last = Held(100), Held(200), Held(500)
    bench.manager.register("last", last, priority=9)
    bench.manager.register("first", first, priority=-1)
    bench.manager.register("second", second)
    bench.usage.set(850)
    pressure = bench.manager.check()
    assert (pressure.level, pressure.usage, pressure.limit, pressure.freed) == (
        "high",
        850,
        1000,
        200,
    )
    assert pressure.ratio == 0.85
    assert (first.asked, second.asked, last.asked) == ([100], [100], [])


def test_while_elevated_a_holder_keeps_half(bench: Bench) -> None:
    """The first level trims caches to half; what is missing is not taken by force."""
    holder = Held(20)
    bench.manager.register("cache", holder)
    bench.usage.set(710)
    assert bench.manager.check().freed == 10
    assert holder.held_bytes == 10


def test_shedding_waits_for_its_effect(bench: Bench) -> None:
    """Usage that falls late does not empty the caches: between two rounds there is a pause,
    unless it gets worse."""
    holder = Held(1000)
    bench.manager.register("cache", holder)
    bench.usage.set(710)
    freed = [bench.manager.check().freed]
    bench.clock.advance(4.9)
    freed.append(bench.manager.check().freed)
    bench.clock.advance(0.1)
    freed.append(bench.manager.check().freed)
    bench.usage.set(810)
    freed.append(bench.manager.check().freed)
    assert freed == [60, 0, 60, 160]


def test_pages_are_given_back_once_on_entering_high(bench: Bench) -> None:
    """The costly step runs when high is entered from below, not at every check."""
    for usage in (710, 810, 910, 860, 810):
        bench.level(usage)
    assert bench.given_back == 1
    bench.level(0)
    bench.level(950)
    assert bench.given_back == 2


def test_a_broken_holder_stops_nobody(bench: Bench) -> None:
    """An error in one holder is counted, and the next one is asked."""
    holder = Held(500)
    bench.manager.register("broken", Broken(), priority=-1)
    bench.manager.register("cache", holder)
    bench.usage.set(850)
    assert bench.manager.check().freed == 200
    broken, cache = bench.manager.report().holders
    assert (broken.name, broken.failures, broken.shed_bytes) == ("broken", 1, 0)
    assert (cache.name, cache.failures, cache.shed_bytes, cache.held_bytes) == (
        "cache",
        0,
        200,
        300,
    )


def test_the_report_sheds_nothing(bench: Bench) -> None:
    """A report has the last check, the peak and every holder, and leaves them alone."""
    assert bench.manager.report().last is None
    holder = Held(7)
    bench.manager.register("cache", holder, priority=3)
    bench.level(300)
    bench.level(200)
    report = bench.manager.report()
    assert report.last is not None
    assert (report.last.usage, report.peak) == (200, 300)
    assert [(known.name, known.priority, known.held_bytes) for known in report.holders] == [
        ("cache", 3, 7)
    ]
    assert holder.asked == []


def test_names_are_unique_until_they_are_given_up(bench: Bench) -> None:
    """A second holder of the same name is refused; after unregistering it is welcome."""
    bench.manager.register("cache", Held(1))
    with pytest.raises(SettingsError, match="'cache' is registered already"):
        bench.manager.register("cache", Held(1))
    bench.manager.unregister("cache")
    bench.manager.register("cache", Held(2))
    assert [known.held_bytes for known in bench.manager.report().holders] == [2]


def test_a_smart_cache_is_a_holder(bench: Bench) -> None:
    """The caches of this package can be registered as they are."""
    cache = SmartCache()
    for number in range(10):
        cache.set(str(number), b"")
    bench.manager.register("responses", cache)
    assert bench.level(1000) == "critical"
    assert len(cache) < 10


def test_this_process_can_be_measured() -> None:
    """Resident memory is above what was just touched, and below the limit."""
    touched = bytearray(os.urandom(1 << 20)) * 32
    assert len(touched) < read_rss() < memory_limit()
    assert MemoryManager().check().usage > len(touched)


def tree(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/meminfo").write_text("MemFree: 1 kB\nMemTotal:       1000 kB\n")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "300000", "a/memory.max": "max"}, 300_000),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "200000"}, 200_000),
        ("0::/\n", {"memory.max": "100000"}, 100_000),
        ("0::/outside/the/container\n", {"memory.max": "100000"}, 100_000),
        ("0::/a\n", {"a/memory.max": "max"}, 1_024_000),
        ("0::/a\n", {"unified/a/memory.max": "150000"}, 150_000),
        ("4:cpu,memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "250000"}, 250_000),
        ("4:memory:/a\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 1_024_000),
        ("0::/../x\n", {"memory.max": "400000"}, 400_000),
        ("", {}, 1_024_000),
    ],
)
def test_the_least_limit_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], limit: int
) -> None:
    """Both versions of cgroups, each group above, and the machine itself are taken into account."""
    assert memory_limit(tree(tmp_path, cgroup, files)) == limit


def test_no_limit_to_be_read_is_an_error(tmp_path: Path) -> None:
    """Where nothing says how much there is, the error names the argument."""
    with pytest.raises(SettingsError, match="limit_bytes"):
        memory_limit(tmp_path)


def test_settings_that_cannot_work_are_refused() -> None:
    """Levels must rise, and a limit must be positive."""
    with pytest.raises(SettingsError, match="levels must rise"):
        MemorySettings(high=0.6)
    with pytest.raises(SettingsError, match="limit_bytes is 0"):
        MemoryManager(limit_bytes=0)
