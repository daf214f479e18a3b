"""How much memory this process has, and how much it may have: Linux's /proc and cgroups."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from proxy_context.errors import SettingsError

__all__ = ["give_back", "memory_limit", "read_rss"]


def read_rss() -> int:
    """Bytes of this process that are in memory. Raises SettingsError where /proc is not Linux's."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError) as error:
        raise SettingsError(
            "read_usage: /proc/self/statm can't be read here: give a function of your own"
        ) from error
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_limit(root: Path = Path("/")) -> int:
    """The least of the machine's memory and every cgroup limit above this process, in bytes.

    Both versions of cgroups are read. A limit is that of the group, which other processes may
    share. Raises SettingsError when nothing can be read.
    """
    limits = [*_machine(root), *_cgroups(root)]
    if not limits:
        raise SettingsError(
            "limit_bytes: no limit can be read from /proc or cgroups here: give one"
        )
    return min(limits)


def give_back() -> None:
    """Collect garbage and return free pages to the system (glibc). Tens of milliseconds."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _machine(root: Path) -> Iterator[int]:
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                yield int(line.split()[1]) * 1024


def _cgroups(root: Path) -> Iterator[int]:
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            for base in (mount, mount / "unified"):
                yield from _upwards(base, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _upwards(mount / "memory", path, "memory.limit_in_bytes")


def _upwards(base: Path, path: str, name: str) -> Iterator[int]:
    """The limit of a group and of each above it; in a container only the mount itself may exist."""
    group = base / path.lstrip("/")
    while True:
        # "max" means none.
        with suppress(OSError, ValueError):
            yield int((group / name).read_text())
        if group == base or base not in group.parents:
            return
        group = group.parent
