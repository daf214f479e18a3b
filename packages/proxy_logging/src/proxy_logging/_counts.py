"""The numbers behind the metrics, as events change them: plain, and under one lock."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

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
    """A histogram's numbers: how many fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def cumulated(self) -> list[tuple[str, float]]:
        names = [*map(str, self.bounds), "+Inf"]
        sums: list[tuple[str, float]] = []
        so_far = 0
        for name, count in zip(names, self.counts, strict=True):
            so_far += count
            sums.append((name, so_far))
        return sums


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
"""Requests that are counted together."""


class _Route:
    """The children that one kind of finished request counts in, looked up once."""

    __slots__ = (
        "cached",
        "cost",
        "duration",
        "first_token",
        "in_flight",
        "input",
        "output",
        "requests",
        "unpriced",
    )

    def __init__(self, store: Store, event: RequestFinished) -> None:
        surface, route, provider = event.surface, event.route, event.provider
        self.requests = store.requests.child(
            surface, route, provider, str(event.status), event.outcome
        )
        self.in_flight = store.in_flight.child(surface)
        self.duration = store.duration.child(surface, route)
        self.first_token = store.first_token.child(route, provider)
        self.input = store.tokens.child(route, provider, "input")
        self.output = store.tokens.child(route, provider, "output")
        self.cached = store.tokens.child(route, provider, "cached")
        self.cost = store.cost.child(route, provider)
        self.unpriced = store.unpriced.child(route, provider) if event.unpriced else None


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
        self._waiting: list[RequestStarted | RequestFinished] = []
        self._routes: dict[tuple[object, ...], _Route] = {}
        self._limit = limit

    def later(self, event: RequestStarted | RequestFinished) -> None:
        """Count it by the next look at the latest: many in a row are a third of the work."""
        waiting = self._waiting
        waiting.append(event)
        if len(waiting) >= _AT_ONCE:
            self.count()

    def count(self) -> None:
        """Count what waits."""
        with self.lock:
            # Others may append at any time; nobody else takes away.
            waiting = self._waiting[:]
            del self._waiting[: len(waiting)]
            for event in waiting:
                if isinstance(event, RequestStarted):
                    self.in_flight.child(event.surface).value += 1
                else:
                    self._finish(event)

    def _finish(self, event: RequestFinished) -> None:
        key = (
            event.route,
            event.provider,
            event.status,
            event.outcome,
            event.surface,
            event.unpriced,
        )
        self._finished(self._routes.get(key) or self._new_route(key, event), event)

    def _finished(self, route: _Route, event: RequestFinished) -> None:
        route.in_flight.value -= 1
        route.requests.value += 1
        _add(route.duration, event.duration)
        if event.first_token is not None:
            _add(route.first_token, event.first_token)
        if event.overhead is not None:
            _add(self.overhead, event.overhead)
        if event.input_tokens:
            route.input.value += event.input_tokens
        if event.output_tokens:
            route.output.value += event.output_tokens
        if event.cached_tokens:
            route.cached.value += event.cached_tokens
        if event.cost:
            route.cost.value += event.cost / 1e9
        elif route.unpriced is not None:
            route.unpriced.value += 1

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

    def _new_route(self, key: tuple[object, ...], event: RequestFinished) -> _Route:
        route = _Route(self, event)
        if len(self._routes) < self._limit:
            self._routes[key] = route
        return route


def _add(spread: Spread, value: float) -> None:
    spread.counts[bisect_left(spread.bounds, value)] += 1
    spread.total += value
