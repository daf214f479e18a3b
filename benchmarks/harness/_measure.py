"""One run of one gateway: load, CPU time, and the audit of its books."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from harness._books import Books
from harness._figures import Figure
from harness._gateway import Running
from harness._site import BenchError
from harness._traffic import Load, Request, Watch, Window

__all__ = ["Measured", "Subject", "figure"]

_STREAMS = 32
_OPEN_CONNECTIONS = 64


@dataclass(frozen=True)
class Measured:
    """One run of one gateway."""

    cpu: float
    """Microseconds for each request, or for each event of a stream."""
    told: dict[str, Any]
    window: Window


class Subject:
    """A running gateway with its books: measures it, and audits each run."""

    def __init__(self, running: Running, load: Load) -> None:
        self.running = running
        self.books = Books(running)
        self._load = load

    def plain(self, request: Request, connections: int, seconds: int) -> Measured:
        """CPU for each request, closed loop, by wrk."""

        def send() -> dict[str, Any]:
            told = self._load.wrk(request, connections, seconds)
            if told["failed"]:
                raise BenchError(f"{told['failed']} of {told['done']} requests failed")
            return told

        return self._measure(send, "done", connections)

    def streamed(self, request: Request, seconds: int, connections: int = _STREAMS) -> Measured:
        """CPU for each event, closed loop, by our own client."""
        return self._measure(
            lambda: self._load.ours("closed", request, connections, seconds), "events", 0
        )

    def open_loop(self, request: Request, rate: float, seconds: int) -> Measured:
        """Latency from the time that each request was due."""
        return self._measure(
            lambda: self._load.ours("open", request, _OPEN_CONNECTIONS, seconds, rate), "done", 0
        )

    def exactly(self, request: Request, connections: int, count: int) -> Measured:
        return self._measure(
            lambda: self._load.ours("exact", request, connections, count), "done", 0
        )

    def _measure(self, send: Callable[[], dict[str, Any]], unit: str, in_flight: int) -> Measured:
        self.books.open()
        watch, before = Watch(), self.running.cpu()
        told = send()
        spent = self.running.cpu() - before
        window = watch.window(spent)
        if not told[unit]:
            raise BenchError(f"nothing was answered: {told}")
        self.books.audit(told["done"], in_flight)
        return Measured(spent * 1e6 / told[unit], told, window)


def figure(runs: Iterable[Measured], nginx: Iterable[Measured] = ()) -> Figure:
    """The median CPU of some runs, with the median of nginx's."""
    ours, theirs = list(runs), [run.cpu for run in nginx]
    return Figure(
        statistics.median(run.cpu for run in ours),
        statistics.median(theirs) if theirs else None,
        tuple(run.cpu for run in ours),
        load=max(run.window.load for run in ours),
        foreign=max(run.window.foreign for run in ours),
    )
