"""The scenarios: what is done to a gateway, next to nginx in the same minutes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness._books import CheckFailed, check_answers
from harness._figures import Column, Figure
from harness._gateway import Gateway, Running
from harness._measure import Measured, Subject, figure
from harness._ours import Ours, import_seconds
from harness._site import BenchError, Unavailable, Upstream, fresh_folder, say
from harness._traffic import Load, Request, body

__all__ = ["FULL", "QUICK", "Bench", "Plan"]

BURST, PACED, IDLE = "[[burst 64]]", "[[paced 64 5]]", "[[idle]]"
SHORT = "[[burst 8]]"
"""For the first token: short enough that the slowest peer keeps up with the common rate."""
COMMON_RATE = 30
"""Requests a second that every gateway here can answer."""
_EXACT = 500
"""Requests of the run whose books must agree to the last one."""
_IDLE_SECONDS = 40


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    seconds: int = 2
    """Of one run."""
    repeats: int = 3
    open_repeats: int = 5
    idle_streams: int = 1000


QUICK: tuple[str, ...] = (
    *("memory", "exact", "cpu_1", "cpu_32", "burst", "paced", "body_50k", "half", "memory_after"),
)
FULL: tuple[str, ...] = (
    *("memory", "exact", "cpu_1", "cpu_32", "cpu_128", "burst", "paced", "body_50k", "body_1m"),
    *("half", "common", "first", "memory_after", "start", "idle", "import_core", "tls", "workers"),
)


class Bench:
    """Measures gateways one after the other; nginx and the mock run all the time."""

    def __init__(self, load: Load, upstream: Upstream, nginx: Running, plan: Plan) -> None:
        self.load = load
        self.upstream = upstream
        self.nginx = Subject(nginx, load)
        self.plan = plan
        self._folder = fresh_folder("direct")

    def column(self, gateway: Gateway, scenarios: tuple[str, ...]) -> Column:
        """Everything about one gateway. What can't be measured is said in the column."""
        column = Column(gateway.name, gateway.label, gateway.note)
        try:
            gateway.prepare()
            column.version = gateway.version()
            with Running(gateway, self.upstream) as running:
                _Trial(self, column, running).run(scenarios)
        except (Unavailable, BenchError) as error:
            self.give_up(column, "all", error)
        return column

    def give_up(self, column: Column, scenario: str, error: Exception) -> None:
        reason = str(error)
        say(f"{column.name}: {scenario}: {reason}")
        if isinstance(error, CheckFailed):
            column.broken.append(f"{scenario}: {reason}")
        else:
            column.failures[scenario] = reason[:400]

    def direct(self, name: str, *, stream: str = "") -> Request:
        """A request straight to the mock."""
        content = body("gpt-mock", stream=stream)
        port = self.upstream.port
        return Request.write(self._folder, name, port, "/v1/chat/completions", {}, content)


class _Trial:
    """One gateway that runs, and its column that fills."""

    def __init__(self, bench: Bench, column: Column, running: Running) -> None:
        self._bench = bench
        self._plan = bench.plan
        self._load = bench.load
        self._nginx = bench.nginx
        self._column = column
        self._running = running
        self._subject = Subject(running, bench.load)

    def run(self, scenarios: tuple[str, ...]) -> None:
        column = self._column
        self._note("start", Figure(self._running.first_answer))
        try:
            column.checks += check_answers(self._running)
        except CheckFailed as error:
            self._bench.give_up(column, "answers", error)
        common = 2 * self._plan.seconds  # few requests a second: a p99 needs some
        for scenario in scenarios:
            steps: dict[str, Callable[[], None]] = {
                "memory": lambda: self._memory("start"),
                "memory_after": lambda: self._memory("load"),
                "exact": self._exact,
                "cpu_1": lambda: self._plain("cpu_1", 1),
                "cpu_32": lambda: self._plain("cpu_32", 32),
                "cpu_128": lambda: self._plain("cpu_128", 128),
                "burst": self._burst,
                "paced": self._paced,
                "body_50k": lambda: self._plain("body_50k", 32, 50_000),
                "body_1m": lambda: self._plain("body_1m", 8, 1_000_000),
                "half": self._half,
                "common": lambda: self._open("common", "latency", COMMON_RATE, common),
                "first": lambda: self._open("first", "first", COMMON_RATE, common, stream=SHORT),
                "idle": self._idle,
                "start": self._start,
                "import_core": self._import,
                "tls": self._tls,
                "workers": self._workers,
            }
            try:
                steps[scenario]()
            except BenchError as error:
                self._bench.give_up(column, scenario, error)
                self._tell_log()
        column.checks.append(f"{self._subject.books.audited} runs audited")

    def _tell_log(self) -> None:
        """What it said of itself: its files go when the bench ends."""
        for process in self._running.processes:
            lines = process.said().splitlines()
            told = [line[:300] for line in lines if '"event":"request"' not in line]
            say("its log ends: " + "\n  ".join(told[-5:]))

    def _note(self, name: str, found: Figure) -> None:
        self._column.figures[name] = found
        ratio = f", {found.ratio:.2f} x nginx" if found.ratio else ""
        say(f"{self._column.name}: {name} {found.value:.5g}{ratio} {found.marks}")

    def _memory(self, when: str) -> None:
        memory = self._running.memory()
        self._note(f"rss_{when}", Figure(memory.rss))
        self._note(f"pss_{when}", Figure(memory.pss))

    def _exact(self) -> None:
        """A warm-up whose books must agree to the last request."""
        self._subject.exactly(self._running.request("plain"), 16, _EXACT)
        request = self._running.request("burst", stream=BURST)
        self._subject.exactly(request, 16, _EXACT // 10)
        self._nginx.exactly(self._nginx.running.request("plain"), 16, _EXACT)

    def _pairs(
        self, name: str, measure: Callable[[Subject, Request], Measured], **request: Any
    ) -> tuple[list[Measured], list[Measured]]:
        """Runs of nginx and of the gateway in turn."""
        theirs = self._nginx.running.request(name, **request)
        ours = self._running.request(name, **request)
        nginx, found = [], []
        for _ in range(self._plan.repeats):
            nginx.append(measure(self._nginx, theirs))
            found.append(measure(self._subject, ours))
        return found, nginx

    def _plain(self, name: str, connections: int, size: int = 950) -> None:
        seconds = self._plan.seconds
        found, nginx = self._pairs(
            name, lambda who, request: who.plain(request, connections, seconds), size=size
        )
        self._note(name, figure(found, nginx))
        if name in ("cpu_32", "cpu_128"):
            rates = [run.told["done"] / run.told["seconds"] for run in found]
            theirs = [run.told["done"] / run.told["seconds"] for run in nginx]
            told = self._column.figures[name]
            self._note(
                name.replace("cpu", "rps"),
                Figure(
                    statistics.median(rates),
                    statistics.median(theirs),
                    tuple(rates),
                    told.load,
                    told.foreign,
                ),
            )

    def _burst(self) -> None:
        seconds = self._plan.seconds
        found, nginx = self._pairs(
            "burst", lambda who, request: who.streamed(request, seconds), stream=BURST
        )
        self._note("burst", figure(found, nginx))

    def _paced(self) -> None:
        """CPU, and what is added to each chunk."""
        seconds = self._plan.seconds
        found, nginx = self._pairs(
            "paced", lambda who, request: who.streamed(request, seconds), stream=PACED
        )
        self._note("paced", figure(found, nginx))
        request = self._bench.direct("paced", stream=PACED)
        bare = [self._load.ours("closed", request, 32, seconds) for _ in range(self._plan.repeats)]
        told = [run.told for run in found]
        self._added("chunk_p50", told, bare, ("event", "p50"))
        self._added("chunk_p99", told, bare, ("event", "p99"))

    def _added(
        self,
        name: str,
        found: list[dict[str, Any]],
        bare: list[dict[str, Any]],
        field: tuple[str, str],
    ) -> None:
        """Microseconds at a share of the times, less those without a gateway."""
        kind, share = field
        if not all(run[kind] for run in found):
            raise BenchError(f"no times of its {kind}: it changes what the model said")
        times = [run[kind][share] / 1000 for run in found]
        least = statistics.median(run[kind][share] / 1000 for run in bare)
        samples = tuple(time - least for time in times)
        self._note(name, Figure(statistics.median(samples), samples=samples))

    def _half(self) -> None:
        """At half of what it answered in the closed loop with 32 connections."""
        capacity = self._column.figures.get("rps_32")
        if capacity is None:
            raise BenchError("its capacity was not measured")
        self._open("half", "latency", capacity.value / 2, self._plan.seconds)

    def _open(self, name: str, kind: str, rate: float, seconds: int, *, stream: str = "") -> None:
        """What is added to the times of one kind, when requests are due at a rate."""
        request = self._running.request(name, stream=stream)
        straight = self._bench.direct(name, stream=stream)
        found, bare = [], []
        for turn in range(self._plan.open_repeats):
            if turn < self._plan.repeats:
                bare.append(self._load.ours("open", straight, 64, seconds, rate))
            found.append(self._subject.open_loop(request, rate, seconds).told)
        self._added(f"{name}_p50", found, bare, (kind, "p50"))
        self._added(f"{name}_p99", found, bare, (kind, "p99"))

    def _start(self) -> None:
        """Again: the first start may have compiled and read from disk what later ones find."""
        times = []
        for _ in range(self._plan.repeats):
            with Running(self._running.gateway, self._bench.upstream) as again:
                times.append(again.first_answer)
        self._note("start", Figure(statistics.median(times), samples=tuple(times)))

    def _idle(self) -> None:
        """What a fresh process grows by, for each stream that waits for its next event."""
        wanted = self._plan.idle_streams
        with Running(self._running.gateway, self._bench.upstream) as fresh:
            self._load.ours("exact", fresh.request("burst", stream=BURST), 16, 50)
            before = fresh.memory().pss
            with self._load.idle(fresh.request("idle", stream=IDLE), wanted, _IDLE_SECONDS) as held:
                time.sleep(0.5)
                after = fresh.memory().pss
        self._note("idle_count", Figure(held))
        if held:
            self._note("idle", Figure((after - before) / held))
        if held < wanted:
            raise BenchError(f"only {held} of {wanted} streams began within {_IDLE_SECONDS} s")

    def _import(self) -> None:
        gateway = self._running.gateway
        if isinstance(gateway, Ours):
            self._note("import_core", Figure(import_seconds(gateway.python)))

    def _tls(self) -> None:
        """A second instance, and a second nginx, whose upstream speaks TLS."""
        upstream, load = self._bench.upstream.over_tls(), self._load
        seconds = self._plan.seconds
        with (
            Running(self._nginx.running.gateway, upstream) as theirs,
            Running(self._running.gateway, upstream) as ours,
        ):
            subjects = Subject(theirs, load), Subject(ours, load)
            requests = theirs.request("tls"), ours.request("tls")
            runs: tuple[list[Measured], list[Measured]] = [], []
            for _ in range(self._plan.repeats):
                for subject, request, found in zip(subjects, requests, runs, strict=True):
                    found.append(subject.plain(request, 32, seconds))
        self._note("tls", figure(runs[1], runs[0]))

    def _workers(self) -> None:
        """One and two instances on one port, as the unit's; limits would need a shared store."""
        gateway = self._running.gateway
        if not isinstance(gateway, Ours) or not gateway.full:
            return
        for count, name in ((1, "one_worker"), (2, "two_workers")):
            with Running(gateway.instance(), self._bench.upstream, count=count) as running:
                subject = Subject(running, self._load)
                request = running.request("plain")
                runs = [
                    subject.plain(request, 32, self._plan.seconds)
                    for _ in range(self._plan.repeats)
                ]
            self._note(name, figure(runs))
