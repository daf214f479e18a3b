"""Processes under measurement: where they run, what CPU and memory their whole tree took."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness._site import BenchError

__all__ = ["Memory", "Process", "core_times", "start"]

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Bytes of a whole process tree. What processes share is counted once each in `rss`."""

    rss: int
    pss: int


class Process:
    """A running program with its children. Stopped by SIGTERM, then SIGKILL, to its own group."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.log = log

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def cpu(self) -> float:
        """Seconds of user and system time, of those children too that have ended."""
        return sum(_cpu(pid) for pid in self.tree())

    def memory(self) -> Memory:
        rss = pss = 0
        for pid in self.tree():
            for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1]) * 1024
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1]) * 1024
        return Memory(rss, pss)

    def tree(self) -> list[int]:
        parents: dict[int, list[int]] = {}
        for pid, fields in _processes():
            parents.setdefault(int(fields[1]), []).append(pid)
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += parents.get(pid, [])
        return found

    def said(self) -> str:
        return _read(str(self.log))[-2000:]

    def stop(self) -> None:
        for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            if self.alive:
                os.killpg(self.pid, number)
                try:
                    self._popen.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue
        # Children that outlived their parent are in its group still.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def start(
    command: Sequence[str | Path],
    *,
    core: int,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start a program on one core; what it says goes to ``log``."""
    words = ["taskset", "-c", str(core), *map(str, command)]
    with log.open("ab") as output:
        try:
            popen = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchError(f"{words[3]} can't be started: {error}") from error
    return Process(popen, log)


def core_times(core: int) -> tuple[float, float]:
    """Seconds that a core was busy, and by the clock: differences tell how busy it is."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            numbers = [int(text) for text in line.split()[1:9]]
            idle = numbers[3] + numbers[4]
            return (sum(numbers) - idle) * _TICK, time.monotonic()
    raise BenchError(f"/proc/stat knows no cpu{core}")


def _read(name: str) -> str:
    try:
        return Path(name).read_text(errors="replace")
    except OSError:
        return ""  # it has just ended


def _fields(pid: int | str) -> list[str]:
    """Those of /proc/PID/stat from the state on: a name may hold anything, brackets too."""
    return _read(f"/proc/{pid}/stat").rpartition(") ")[2].split()


def _processes() -> Iterator[tuple[int, list[str]]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (fields := _fields(path.name)):
            yield int(path.name), fields


def _cpu(pid: int) -> float:
    fields = _fields(pid)
    return sum(int(text) for text in fields[11:15]) * _TICK if fields else 0.0
