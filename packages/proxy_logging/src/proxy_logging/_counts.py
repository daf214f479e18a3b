"""The numbers behind the metrics, as events change them: plain, and under one lock."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from operator import add, attrgetter
from threading import Lock
from typing import Any, Generic, TypeVar

from proxy_logging._events import (
    AttemptFailed,
    BreakerChanged,
    ConfigReloaded,
    RequestFinished,
    RequestStarted,
)

__all__ = ["Count", "Family", "Labels", "Spread", "Store"]

_Child = TypeVar("_Child")
Labels = tuple[str, ...]

_OTHER = "other"
_SURFACE = attrgetter("surface")
_BREAKER_VALUES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}

# Seconds. A request to a model takes from tens of milliseconds (embeddings, a cache) to minutes
# (long streams); what the proxy adds takes from tens of microseconds to milliseconds.
_DURATION = (
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
_FIRST_TOKEN = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
_OVERHEAD = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.5)


class Count:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Spread:
    """A histogram's numbers: how many are at most as large as each bound, and the sum of all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = (*bounds, inf)
        self.counts = [0] * len(self.bounds)
        self.total = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Many together: once they are in order, each bound finds its number at once."""
        if values:
            at_most = map(partial(bisect_right, sorted(values)), self.bounds)
            self.counts = list(map(add, self.counts, at_most))
            self.total = sum(values, self.total)

    def cumulated(self) -> list[tuple[str, float]]:
        names = [*map(str, self.bounds[:-1]), "+Inf"]
        return list(zip(names, self.counts, strict=True))


class Family(Generic[_Child]):
    """One metric's children by their label values, at most `limit` of them.

    What comes after that is counted together under ``other``: a label that turns out to be
    somebody's free text can't fill the memory.
    """

    def __init__(self, make: Callable[[], _Child], limit: int) -> None:
        self._make = make
        self._limit = limit
        self.children: dict[Labels, _Child] = {}

    def child(self, *labels: str) -> _Child:
        found = self.children.get(labels)
        if found is not None:
            return found
        if len(self.children) >= self._limit:
            labels = (_OTHER,) * len(labels)
        return self.children.setdefault(labels, self._make())


_AT_ONCE = 64
"""Requests of a kind that are counted together."""

_Numbers = tuple[float, float | None, float | None, int | None, int | None, int | None, int | None]


class _Route:
    """The children that one kind of finished request counts in, looked up once, and what waits."""

    __slots__ = (
        "cached",
        "cost",
        "duration",
        "first_token",
        "in_flight",
        "input",
        "most",
        "output",
        "overhead",
        "requests",
        "unpriced",
        "waiting",
    )

    def __init__(self, store: Store, event: RequestFinished) -> None:
        surface, route, provider = event.surface, event.route, event.provider
        self.requests = store.requests.child(
            surface, route, provider, str(event.status), event.outcome
        )
        self.in_flight = store.in_flight.child(surface)
        self.duration = store.duration.child(surface, route)
        self.first_token = store.first_token.child(route, provider)
        self.overhead = store.overhead
        self.input = store.tokens.child(route, provider, "input")
        self.output = store.tokens.child(route, provider, "output")
        self.cached = store.tokens.child(route, provider, "cached")
        self.cost = store.cost.child(route, provider)
        self.unpriced = store.unpriced.child(route, provider) if event.unpriced else None
        self.waiting: list[_Numbers] = []
        self.most = _AT_ONCE

    def count(self) -> None:
        """Count what waits; with the store's lock."""
        # Others may append at any time; nobody else takes away.
        rows = self.waiting[:]
        if not rows:
            return
        del self.waiting[: len(rows)]
        self.requests.value += len(rows)
        self.in_flight.value -= len(rows)
        columns: Any = zip(*rows, strict=True)
        durations, first_tokens, overheads, inputs, outputs, cached, costs = columns
        self.duration.add(durations)
        self.first_token.add([seconds for seconds in first_tokens if seconds is not None])
        self.overhead.add([seconds for seconds in overheads if seconds is not None])
        self.input.value += sum(filter(None, inputs))
        self.output.value += sum(filter(None, outputs))
        self.cached.value += sum(filter(None, cached))
        paid = list(filter(None, costs))
        self.cost.value += sum(paid) / 1e9
        if self.unpriced is not None:
            self.unpriced.value += len(rows) - len(paid)


class Store:
    """All numbers, under one lock; what each request does here makes few calls."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.lock = Lock()
        self.requests = Family(Count, limit)
        self.duration = Family(lambda: Spread(_DURATION), limit)
        self.first_token = Family(lambda: Spread(_FIRST_TOKEN), limit)
        self.overhead = Spread(_OVERHEAD)
        self.tokens = Family(Count, limit)
        self.cost = Family(Count, limit)
        self.unpriced = Family(Count, limit)
        self.in_flight = Family(Count, limit)
        self.attempt_failures = Family(Count, limit)
        self.breaker_state = Family(Count, limit)
        self.breaker_transitions = Family(Count, limit)
        self.reloads = Family(Count, limit)
        self.reload_success = Family(Count, limit)
        self.reload_time = Family(Count, limit)
        self._clock = clock
        self._started: list[RequestStarted] = []
        self.started: Callable[[RequestStarted], None] = self._started.append
        """No more than an append: they are counted when some that ended are, or at a look."""
        self._routes: dict[tuple[object, ...], _Route] = {}
        self._limit = limit

    def finished(self, event: RequestFinished) -> None:
        """Count it by the next look at the latest: many in a row are a third of the work."""
        key = (
            event.route,
            event.provider,
            event.status,
            event.outcome,
            event.surface,
            event.unpriced,
        )
        try:
            route = self._routes[key]
        except KeyError:
            route = self._new_route(key, event)
        waiting = route.waiting
        waiting.append(
            (
                event.duration,
                event.first_token,
                event.overhead,
                event.input_tokens,
                event.output_tokens,
                event.cached_tokens,
                event.cost,
            )
        )
        if len(waiting) >= route.most:
            with self.lock:
                route.count()
                self._count_started()

    def count(self) -> None:
        """Count what waits."""
        with self.lock:
            for route in self._routes.values():
                route.count()
            # After those that have ended: each of them is among these, or was before.
            self._count_started()

    def _count_started(self) -> None:
        started = self._started[:]
        del self._started[: len(started)]
        for surface, many in Counter(map(_SURFACE, started)).items():
            self.in_flight.child(surface).value += many

    def _new_route(self, key: tuple[object, ...], event: RequestFinished) -> _Route:
        with self.lock:
            self._count_started()
            route = _Route(self, event)
            if len(self._routes) < self._limit:
                return self._routes.setdefault(key, route)
            route.most = 1  # nobody will find it again
            return route

    def attempt_failed(self, event: AttemptFailed) -> None:
        with self.lock:
            self.attempt_failures.child(event.deployment, event.reason).value += 1

    def breaker_changed(self, event: BreakerChanged) -> None:
        with self.lock:
            self.breaker_state.child(event.breaker).value = _BREAKER_VALUES[event.after]
            self.breaker_transitions.child(event.breaker, event.before, event.after).value += 1

    def config_reloaded(self, event: ConfigReloaded) -> None:
        success = event.result != "refused"
        with self.lock:
            self.reloads.child(event.result).value += 1
            self.reload_success.child().value = success
            if success:
                self.reload_time.child().value = self._clock()
