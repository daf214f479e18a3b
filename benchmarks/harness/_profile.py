"""Where the time goes: py-spy for Python, perf for the rest, under load."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from harness._environments import make_python
from harness._gateway import Gateway, Running
from harness._site import BenchError, Unavailable, Upstream, run, say
from harness._traffic import Load

__all__ = ["profile"]

_CONNECTIONS = 32


def profile(gateway: Gateway, upstream: Upstream, load: Load, folder: Path, seconds: int) -> int:
    """Save two profiles of a gateway under load: one with each tool, one after the other."""
    folder.mkdir(parents=True)
    gateway.prepare()
    with Running(gateway, upstream) as running:
        load.wrk(running.request("plain"), _CONNECTIONS, 1)
        tools = (("py-spy", _py_spy), ("perf", _perf))
        for name, record in tools:
            say(f"{name}, {seconds} s with {_CONNECTIONS} connections")
            sender = threading.Thread(
                target=load.wrk, args=(running.request("plain"), _CONNECTIONS, seconds + 3)
            )
            sender.start()
            try:
                record(running.processes[0].pid, folder, seconds)
            except (BenchError, Unavailable) as error:
                say(f"{name}: {error}")
            sender.join()
    found = sorted(folder.iterdir())
    say("saved: " + ", ".join(str(path) for path in found))
    return 0 if found else 1


def _py_spy(pid: int, folder: Path, seconds: int) -> None:
    program = make_python("profile", ["py-spy==0.4.3"]) / "py-spy"
    common = ("--pid", str(pid), "--duration", str(seconds), "--rate", "500", "--nonblocking")
    run(program, "record", *common, "--format", "raw", "--output", folder / "py-spy.txt")
    (folder / "py-spy-self.txt").write_text(_by_function((folder / "py-spy.txt").read_text()))


def _by_function(stacks: str) -> str:
    """Shares of samples by the function on top, most first."""
    counts: dict[str, int] = {}
    for line in stacks.splitlines():
        stack, _, number = line.rpartition(" ")
        top = stack.rpartition(";")[2]
        counts[top] = counts.get(top, 0) + int(number)
    total = sum(counts.values()) or 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return "".join(f"{count / total:7.2%}  {top}\n" for top, count in ranked)


def _perf(pid: int, folder: Path, seconds: int) -> None:
    if shutil.which("perf") is None:
        raise Unavailable("perf is needed: apt install linux-perf")
    data = folder / "perf.data"
    event = "cpu-clock"  # virtual machines rarely have a cycle counter
    run(
        "perf",
        "record",
        "-q",
        "-e",
        event,
        "-F",
        "997",
        "-g",
        "-p",
        str(pid),
        "-o",
        data,
        "--",
        "sleep",
        str(seconds),
    )
    for name, keys in (("perf-libraries.txt", "dso"), ("perf-functions.txt", "dso,symbol")):
        report = run(
            "perf",
            "report",
            "--stdio",
            "-q",
            "--no-children",
            "-g",
            "none",
            "--percent-limit",
            "0.3",
            "--sort",
            keys,
            "-i",
            data,
        )
        (folder / name).write_text(report)
    data.unlink()
