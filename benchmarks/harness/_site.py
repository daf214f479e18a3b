"""Where the benchmark's files are, how it says what it does, and how it runs tools."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BENCHMARKS",
    "CACHE",
    "ENVIRONMENTS",
    "GATEWAY_CPU",
    "LOAD_CPU",
    "RESULTS",
    "ROOT",
    "BenchError",
    "Unavailable",
    "Upstream",
    "alone",
    "free_port",
    "fresh_folder",
    "missing",
    "run",
    "say",
]

BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent
CACHE = ROOT / ".bench"
"""Programs and environments: made once, removed by hand. Git never sees it."""
ENVIRONMENTS = CACHE / "envs"
RESULTS = BENCHMARKS / "results"

_CPUS = sorted(os.sched_getaffinity(0))
GATEWAY_CPU, LOAD_CPU = _CPUS[0], _CPUS[-1]
_BEGAN = time.monotonic()
_RUN = CACHE / f"run-{os.getpid()}"


class BenchError(Exception):
    """The benchmark can't go on, or what it measured can't be believed."""


class Unavailable(Exception):
    """This gateway can't be measured here; the rest can."""


@dataclass(frozen=True)
class Upstream:
    """Where the mock listens, in clear and behind TLS."""

    port: int
    tls_port: int
    ca: Path
    tls: bool = False

    @property
    def origin(self) -> str:
        scheme, port = ("https", self.tls_port) if self.tls else ("http", self.port)
        return f"{scheme}://127.0.0.1:{port}"

    def over_tls(self) -> Upstream:
        return Upstream(self.port, self.tls_port, self.ca, tls=True)


def say(text: str) -> None:
    """Progress goes to standard error, with the seconds since the start."""
    print(f"[{time.monotonic() - _BEGAN:5.0f}s] {text}", file=sys.stderr, flush=True)


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> str:
    """Run a tool to its end and return its standard output. Raises BenchError with what it said."""
    words = [str(word) for word in command]
    environment = {**os.environ, **(env or {})}
    try:
        result = subprocess.run(
            words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BenchError(f"{words[0]} can't be run: {error}") from error
    if check and result.returncode:
        told = (result.stderr.strip() or result.stdout.strip())[-2000:]
        raise BenchError(f"{' '.join(words)} ended with {result.returncode}:\n{told}")
    return result.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fresh_folder(*parts: str) -> Path:
    """An empty folder, kept until the `alone` block ends."""
    folder = _RUN.joinpath(*parts)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other bench of this checkout runs; remove this run's files at the end."""
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waits for another bench to end: the two would disturb each other")
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            shutil.rmtree(_RUN, ignore_errors=True)


def missing(tools: Sequence[str]) -> list[str]:
    return [tool for tool in tools if shutil.which(tool) is None]
