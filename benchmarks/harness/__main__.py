"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness._gateway import Gateway, Running, post
from harness._micro import run_micro
from harness._nginx import Nginx, tls_front
from harness._ours import Borders, Ours
from harness._peers import PEERS
from harness._policies import policies
from harness._process import start
from harness._profile import profile
from harness._report import Report
from harness._scenarios import FULL, QUICK, Bench, Plan
from harness._site import (
    BENCHMARKS,
    GATEWAY_CPU,
    LOAD_CPU,
    RESULTS,
    ROOT,
    BenchError,
    Upstream,
    alone,
    free_port,
    fresh_folder,
    say,
)
from harness._tools import Tools, certificate, ensure_tools, machine
from harness._traffic import Load

_EXAMPLES = """\
  scripts/bench --quick                        this project beside nginx, under two minutes
  scripts/bench --full                         every column; writes benchmarks/RESULTS.md
  scripts/bench --full --only ours --only envoy --seconds 1
  scripts/bench --profile                      py-spy and perf, saved beside the results
  scripts/bench --micro                        the parts on the hot path, one by one
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures what the gateway costs, next to nginx and its peers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="with nginx alone; the default")
    kind.add_argument("--full", action="store_true", help="every column and every scenario")
    kind.add_argument("--profile", action="store_true", help="where the time goes, 32 connections")
    kind.add_argument("--micro", action="store_true", help="micro-benchmarks of the hot parts")
    names = [gateway.name for gateway in _gateways(ROOT / ".venv/bin/python")]
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=names,
        metavar="NAME",
        help=f"only this column, repeatable: {', '.join(names)}",
    )
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        choices=FULL,
        metavar="NAME",
        help=f"only this scenario, repeatable: {', '.join(FULL)}",
    )
    parser.add_argument("--seconds", type=int, help="of one run (2)")
    parser.add_argument("--repeats", type=int, help="of each run, of which the median counts")
    parser.add_argument(
        "--python",
        type=Path,
        default=ROOT / ".venv/bin/python",
        help="the interpreter with this project (.venv's)",
    )
    parser.add_argument(
        "--system-python",
        default="/usr/bin/python3",
        help="the interpreter of the columns ours-system (/usr/bin/python3)",
    )
    return parser.parse_args()


def _gateways(python: Path, tools: Tools | None = None, system: str = "") -> list[Gateway]:
    ours: list[Gateway] = [
        Ours("ours", "LLM Proxy", python=python),
        Ours("ours-bare", "LLM Proxy, bare", python=python, full=False),
        Ours("ours-system", "LLM Proxy, system's Python", base=system),
        Ours("ours-system-bare", "LLM Proxy, bare, system's Python", base=system, full=False),
        Borders(python),
    ]
    return [*ours, Nginx(tools), *(peer() for peer in PEERS)]


@contextmanager
def _upstream(tools: Tools) -> Iterator[Upstream]:
    """The mock, in clear and behind TLS, on the load's core."""
    folder = fresh_folder("mock")
    pair = certificate()
    upstream = Upstream(free_port(), free_port(), pair.ca)
    front = tls_front(tools, folder, upstream.tls_port, upstream.port, pair)
    log = folder / "mock.log"
    mock = start([tools.mock, str(upstream.port)], core=LOAD_CPU, log=log)
    tls = start(front.command, core=LOAD_CPU, log=log)
    try:
        for _ in range(200):
            time.sleep(0.01)
            try:
                post(upstream.port, "/", {}, b"{}")
                break
            except OSError:
                continue
        if not (mock.alive and tls.alive):
            raise BenchError(f"the mock upstream doesn't run: {mock.said()}")
        yield upstream
    finally:
        tls.stop()
        mock.stop()


def _measure(options: argparse.Namespace) -> int:
    if GATEWAY_CPU == LOAD_CPU:
        raise BenchError("two cores are needed: one for the gateway, one for load and mock")
    about = machine(tools := ensure_tools())
    known = {one.name: one for one in _gateways(options.python, tools, options.system_python)}
    wanted = options.only or (list(known) if options.full else ["ours"])
    scenarios = FULL if options.full else QUICK
    say(policies(options.python))
    if options.scenario:
        scenarios = tuple(name for name in FULL if name in options.scenario)
    usual = Plan() if options.full else Plan(repeats=1, open_repeats=1)
    plan = replace(
        usual,
        seconds=options.seconds or usual.seconds,
        repeats=options.repeats or usual.repeats,
    )
    columns = []
    with _upstream(tools) as upstream, Running(Nginx(tools), upstream) as nginx:
        bench = Bench(Load(tools), upstream, nginx, plan)
        for name in wanted:
            say(f"--- {name}")
            columns.append(bench.column(known[name], scenarios))
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    report = Report(about, shlex.join(["scripts/bench", *sys.argv[1:]]), when, columns)
    is_whole = options.full and not options.only and not options.scenario
    return _tell(report, keep=is_whole)


def _tell(report: Report, *, keep: bool) -> int:
    """Print and save; ``keep``: also as the RESULTS.md that git has. Returns the exit code."""
    paths = report.save(RESULTS / time.strftime("%Y%m%d-%H%M%S", time.gmtime()))
    print(report.markdown())
    say(f"saved: {', '.join(str(path.relative_to(ROOT)) for path in paths)}")
    if report.broken:
        say("checks FAILED: the figures can't be believed\n  " + "\n  ".join(report.broken))
        return 1
    if any(one.failures for one in report.columns if one.name.startswith("ours")):
        say("this project could not be measured whole: see the last table")
        return 1
    if keep:
        shutil.copy(paths[1], BENCHMARKS / "RESULTS.md")
        shutil.copy(paths[2], BENCHMARKS / "cpu.svg")
        say("wrote benchmarks/RESULTS.md and benchmarks/cpu.svg")
    return 0


def _profile(options: argparse.Namespace) -> int:
    tools = ensure_tools()
    gateway = Ours("ours", "LLM Proxy", python=options.python)
    folder = RESULTS / time.strftime("profile-%Y%m%d-%H%M%S", time.gmtime())
    with _upstream(tools) as upstream:
        return profile(gateway, upstream, Load(tools), folder, options.seconds or 5)


def main() -> int:
    """Do what the command line says."""
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is stopped
    os.environ.pop("PYTHONPATH", None)  # ours alone: what is measured must not see it
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each start would compile what it imports
    try:
        with alone():
            if options.micro:
                return run_micro(options.python)
            return _profile(options) if options.profile else _measure(options)
    except BenchError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
