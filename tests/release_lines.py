"""Neutralises each line that gives something back, one by one; the tests must fail each time.

Run it as a script: it prints a table and exits with 1 when a change goes unnoticed. Each change is
made in a copy of its package, which stands before the real one, in a process of its own.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RELEASES = "test_releases.py"
GONE = "test_client_gone.py"
RELOAD = "test_reload.py"
STREAMS = "test_streams.py"
EDGE = "../packages/proxy_api/tests/test_edge_time.py"
AT_ONCE = 2
OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider", "--timeout=8"),
    # What a change leaves open may be told when all is over: a test has failed by then.
    *("-p", "no:threadexception", "-p", "no:unraisableexception"),
    *("-p", "pytest_asyncio.plugin", "-p", "pytest_timeout"),
)
PRELOADED = ["fastapi", "httpx2", "msgspec", "prometheus_client", "pytest", "structlog", "uvicorn"]
"""Each process is a fork of one that has these: importing them takes longer than most tests."""


@dataclass(frozen=True)
class Line:
    """A line of a package's source, what it gives back, and the tests that must miss it."""

    file: str
    text: str
    gives_back: str
    tests: str
    """An expression for pytest's ``-k``."""
    instead: str = "pass"
    module: str = RELEASES


LINES = (
    Line(
        "proxy_api/_journey.py",
        "reservation.settle(tokens, output=output, money=money)",
        "the tokens that were reserved and not used",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_journey.py",
        "reservation.settle(0, output=0, money=0)",
        "the tokens that a hit of the cache did not use",
        "of_the_cache",
    ),
    Line(
        "proxy_api/_journey.py",
        "house.ledger.record(record.request_id, record.key.id, reply.usage)",
        "the ledger's row",
        "answer_gives and whole",
    ),
    Line(
        "proxy_core/_limiter.py",
        "self._limiter._close(self, self._account)",
        "the slot",
        "answer_gives and whole",
    ),
    Line(
        "proxy_core/_limiter.py",
        "self.settle(0 if isinstance(error, Exception) else self.tokens)",
        "the tokens of a request that failed",
        "answer_gives and fails",
    ),
    Line(
        "proxy_core/_admission.py",
        "self._admission.leave(None if error is not None else self._clock() - self._began)",
        "the place",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_recorder.py",
        "self._turn.end(time.monotonic(), failed=failed)",
        "the turn of the deployment's load",
        "answer_gives and whole",
    ),
    Line(
        "proxy_core/_breaker_permit.py",
        "self._machine.permits_out -= 1",
        "the permit",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_recorder.py",
        "self._recorder.observer(self._finished(error))",
        "the request in flight",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_recorder.py",
        "self._tracing.__exit__(None, None, None)",
        "the span",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_sending.py",
        "async with aclosing(reply.body) as chunks:",
        "the body that was being sent",
        "mid_stream or fault_of_ours",
        instead="if chunks := reply.body:",
    ),
    Line(
        "proxy_api/_response.py",
        "self._house.leave(house)",
        "the snapshot",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_gateway.py",
        "self._inside -= 1",
        "the request's count",
        "its_connections",
        module=RELOAD,
    ),
    Line(
        "proxy_api/_gateway.py",
        "self._former[snapshot] -= 1",
        "a former snapshot, and the pools that it alone names",
        "ends_whole",
        module=RELOAD,
    ),
    Line(
        "proxy_api/_gateway.py",
        "await provider.aclose()",
        "the connections of a provider that is gone",
        "idle_pool",
        module=RELOAD,
    ),
    Line(
        "proxy_api/_arrival.py",
        "self._signal.callback = None",
        "the client's hold on the task",
        "is_forgotten",
    ),
    Line(
        "proxy_api/_arrival.py",
        "self._watcher.cancel()",
        "the watcher",
        "answer_gives and whole",
    ),
    Line(
        "proxy_api/_arrival.py",
        "others = self._task.uncancel()",
        "the cancellation",
        "is_forgotten",
        instead="others = 0",
    ),
    Line(
        "proxy_api/_arrival.py",
        'self._task.cancel("the client has gone")',
        "the task of a client that left",
        "leaves_before",
    ),
    Line(
        "proxy_api/_pulse.py",
        "del self._answers[answer]",
        "the answer that the comments are for",
        "is_forgotten_gets",
    ),
    Line(
        "proxy_api/_pulse.py",
        "beat.cancel()",
        "the comment on its way",
        "given_up",
    ),
    Line(
        "proxy_core/_http1/_exchange.py",
        "engine.open.discard(self)",
        "the count of open answers",
        "connection_is_free",
    ),
    Line(
        "proxy_core/_http1/_exchange.py",
        "engine.give_back(connection)",
        "the connection",
        "connection_is_free",
    ),
    Line(
        "proxy_core/_http1/_exchange.py",
        "connection, self._connection = self._connection, None",
        "the rest of an upstream's body",
        "upstreams_body",
        instead="connection = self._connection",
    ),
    Line(
        "proxy_core/providers/_http_provider.py",
        "await body.aclose()",
        "the rest of a provider's body",
        "upstreams_body",
    ),
    Line(
        "proxy_api/_edge/_connection.py",
        "running.callback()",
        "what a client that left was waiting for",
        "half_close_counts and asyncio",
        module=GONE,
    ),
    Line(
        "proxy_api/_edge/_connection.py",
        "self._tell()",
        "what a client that broke off was waiting for",
        "within and asyncio and reset",
        module=GONE,
    ),
    Line(
        "proxy_api/_edge/_wire.py",
        "self.transport.resume_reading()",
        "reading, when the app has taken a part of a large body",
        "reads_late and asyncio",
        module=EDGE,
    ),
    Line(
        "proxy_api/_edge/_connection.py",
        "transport.abort()",
        "the connection of a client that reads nothing",
        "does_not_read and half_close and asyncio",
        module=GONE,
    ),
    Line(
        "proxy_api/_edge/_cycle.py",
        "tasks.discard(self.task)",
        "the task of a request that is over",
        "tasks_are_forgotten and asyncio",
        module=EDGE,
    ),
    Line(
        "proxy_api/_protocol.py",
        "self._look_at_unsent(now)",
        "the upstream of a client that takes nothing",
        "takes_nothing",
        module=STREAMS,
    ),
)
TOGETHER = {
    RELEASES: "answer_gives or leaves_before or is_forgotten or upstreams_body",
    GONE: "half_close_counts and asyncio",
    RELOAD: "its_connections or ends_whole or idle_pool",
    STREAMS: "takes_nothing",
    EDGE: "asyncio and (reads_late or tasks_are_forgotten)",
}
"""What must pass while nothing is changed."""


def failure(line: Line, folder: Path) -> str:
    """Why this line could not be judged, or that no test missed it; empty when one did."""
    package, _, inside = line.file.partition("/")
    copy = folder / package
    shutil.copytree(ROOT / "packages" / package / "src" / package, copy)
    source = (copy / inside).read_text().splitlines(keepends=True)
    found = [at for at, text in enumerate(source) if text.strip() == line.text]
    if len(found) != 1:
        return f"the line stands {len(found)} times in its file: change the table with the code"
    source[found[0]] = source[found[0]].replace(line.text, line.instead)
    (copy / inside).write_text("".join(source))
    code, told = tested(line.module, line.tests, folder)
    if code == 1:
        return ""
    return "SURVIVES: no test misses it" if code == 0 else f"pytest exits with {code}:\n{told}"


def tested(module: str, tests: str, folder: Path) -> tuple[int, str]:
    """Run these tests with what is in the folder in the place of the real packages."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    with redirect_stdout(io.StringIO()) as told, redirect_stderr(told):
        code = pytest.main([*OPTIONS, "-k", tests, f"tests/{module}"])
    for copy in folder.iterdir() if code in (0, 1) else ():
        assert sys.modules[copy.name].__file__ == str(copy / "__init__.py")
    return int(code), told.getvalue()[-4000:]


def judged(line: Line) -> tuple[str, float]:
    """What is wrong with this line, and the seconds that it took to find out."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        told = failure(line, Path(folder))
    return told, time.monotonic() - began


def untouched(module: str) -> str:
    """Say when the tests fail although nothing was changed: then they prove nothing."""
    with tempfile.TemporaryDirectory() as folder:
        code, told = tested(module, TOGETHER[module], Path(folder))
    return f"{module} fails without any change:\n{told}" if code else ""


def table() -> tuple[str, bool]:
    """Judge all lines, two at once: what there is to say, and whether all are missed."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(AT_ONCE, forks, max_tasks_per_child=1) as pool:
        broken = [told for told in pool.map(untouched, TOGETHER) if told]
        if broken:
            return "\n".join(broken), False
        verdicts = list(pool.map(judged, LINES))
    rows = [
        f"{told or 'missed':8} {took:5.1f} s  {line.file}: {line.text}  ({line.gives_back})"
        for line, (told, took) in zip(LINES, verdicts, strict=True)
    ]
    missed = sum(not told for told, _ in verdicts)
    rows.append(f"{missed} of {len(LINES)} lines are missed by a test when they are gone")
    return "\n".join(rows), missed == len(LINES)


if __name__ == "__main__":
    told, well = table()
    print(told)
    sys.exit(not well)
