"""Metrics: an observer that counts, and the Prometheus text that it gives.

Counts are kept in plain numbers under one lock and become Prometheus samples only when they are
asked for: an observation costs a fifth of what the library's own counters and histograms take.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy_logging._events import (
    AttemptFailed,
    BreakerChanged,
    ConfigReloaded,
    Event,
    RequestFinished,
    RequestStarted,
)
from proxy_logging._version import __version__

__all__ = ["Metrics", "NoMetrics"]

_Child = TypeVar("_Child")
_Labels = tuple[str, ...]

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


class _Count:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class _Spread:
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


class _Family(Generic[_Child]):
    """One metric's children by their label values, at most `limit` of them.

    What comes after that is counted together under ``other``: a label that turns out to be
    somebody's free text can't fill the memory.
    """

    def __init__(self, make: Callable[[], _Child], limit: int) -> None:
        self._make = make
        self._limit = limit
        self.children: dict[_Labels, _Child] = {}

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
    )

    def __init__(self, store: _Store, event: RequestFinished) -> None:
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


class _Store:
    """All numbers, under one lock; what each request does here makes few calls."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.lock = Lock()
        self.requests = _Family(_Count, limit)
        self.duration = _Family(lambda: _Spread(_DURATION), limit)
        self.first_token = _Family(lambda: _Spread(_FIRST_TOKEN), limit)
        self.overhead = _Spread(_OVERHEAD)
        self.tokens = _Family(_Count, limit)
        self.cost = _Family(_Count, limit)
        self.in_flight = _Family(_Count, limit)
        self.attempt_failures = _Family(_Count, limit)
        self.breaker_state = _Family(_Count, limit)
        self.breaker_transitions = _Family(_Count, limit)
        self.reloads = _Family(_Count, limit)
        self.reload_success = _Family(_Count, limit)
        self.reload_time = _Family(_Count, limit)
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
        key = (event.route, event.provider, event.status, event.outcome, event.surface)
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


def _add(spread: _Spread, value: float) -> None:
    spread.counts[bisect_left(spread.bounds, value)] += 1
    spread.total += value


class Metrics(Collector):
    """Prometheus metrics of the proxy; an observer of its events.

    Label values come from the configuration (surface, route, provider, deployment, breaker) or from
    us (status, outcome, reason), never from a client's text. Safe to call from several threads.

    Args:
        registry: where to register; a registry of its own when None, which then also has the
            process's metrics (CPU, memory, open files).
        version: the value of ``llm_proxy_build_info``'s label.
        max_series: per metric; what comes after that is counted under the label value ``other``.
        clock: the time of day in seconds since 1970, for the time of a reload.
    """

    handlers_say_all = True

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        version: str = __version__,
        max_series: int = 2_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._version = version
        self._store = store = _Store(max_series, clock)
        self.handlers: Mapping[type[Event], Callable[[Any], None]] = {
            RequestStarted: store.later,
            RequestFinished: store.later,
            AttemptFailed: store.attempt_failed,
            BreakerChanged: store.breaker_changed,
            ConfigReloaded: store.config_reloaded,
        }
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
        self.registry = registry
        registry.register(self)

    def __call__(self, event: Event, /) -> None:
        handler = self.handlers.get(type(event))
        if handler is not None:
            handler(event)

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """The body and the content type of an answer to a scrape.

        Args:
            accept: the scraper's ``Accept`` header; OpenMetrics when it asks for that, else
                Prometheus's text format.
        """
        try:
            encode, content_type = choose_encoder(accept or "")
        except (TypeError, ValueError):  # a version that is no version
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return encode(self.registry), content_type

    def collect(self) -> Iterable[Metric]:
        """All families with their present values, for the registry."""
        self._store.count()
        with self._store.lock:
            return list(self._families())

    def _families(self) -> Iterator[Metric]:
        store = self._store
        yield _counter(
            "requests",
            "Requests that are over.",
            ("surface", "route", "provider", "status", "outcome"),
            store.requests,
        )
        yield _histogram(
            "request_duration_seconds",
            "From a request's head to the last byte of its answer.",
            ("surface", "route"),
            store.duration.children,
        )
        yield _histogram(
            "time_to_first_token_seconds",
            "From a streamed request's head to its first content event.",
            ("route", "provider"),
            store.first_token.children,
        )
        yield _histogram(
            "overhead_seconds",
            "What the proxy itself took before the first attempt was sent.",
            (),
            {(): store.overhead},
        )
        yield _counter(
            "tokens",
            "Tokens as the providers reported them, or as estimated where they did not.",
            ("route", "provider", "direction"),
            store.tokens,
        )
        yield _counter(
            "cost_usd",
            "US dollars that providers take, where the price is known.",
            ("route", "provider"),
            store.cost,
        )
        yield _gauge(
            "in_flight_requests", "Requests that are not over.", ("surface",), store.in_flight
        )
        yield _counter(
            "attempt_failures",
            "Upstream attempts that failed.",
            ("deployment", "reason"),
            store.attempt_failures,
        )
        yield _gauge(
            "breaker_state", "0 closed, 1 half open, 2 open.", ("breaker",), store.breaker_state
        )
        yield _counter(
            "breaker_transitions",
            "Changes of a breaker's state.",
            ("breaker", "before", "after"),
            store.breaker_transitions,
        )
        yield from _reloads(store)
        yield InfoMetricFamily(
            "llm_proxy_build", "The version that runs.", value={"version": self._version}
        )


class NoMetrics:
    """Has the surface of `Metrics` and does nothing."""

    handlers_say_all = True
    handlers: Mapping[type[Event], Callable[[Any], None]] = MappingProxyType({})

    def __call__(self, event: Event, /) -> None:
        """Forget the event."""

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """An empty body in Prometheus's text format."""
        return b"", CONTENT_TYPE_PLAIN_0_0_4


def _counter(name: str, text: str, labels: _Labels, family: _Family[_Count]) -> Metric:
    metric = CounterMetricFamily(f"llm_proxy_{name}", text, labels=labels)
    for values, child in family.children.items():
        metric.add_metric(values, child.value)
    return metric


def _gauge(name: str, text: str, labels: _Labels, family: _Family[_Count]) -> Metric:
    metric = GaugeMetricFamily(f"llm_proxy_{name}", text, labels=labels)
    for values, child in family.children.items():
        metric.add_metric(values, child.value)
    return metric


def _histogram(name: str, text: str, labels: _Labels, children: dict[_Labels, _Spread]) -> Metric:
    metric = HistogramMetricFamily(f"llm_proxy_{name}", text, labels=labels)
    for values, child in children.items():
        metric.add_metric(values, child.cumulated(), child.total)
    return metric


def _reloads(store: _Store) -> Iterator[Metric]:
    yield _counter("config_reloads", "Reloads of the configuration.", ("result",), store.reloads)
    yield _gauge(
        "config_last_reload_successful",
        "1 when the last reload was taken or changed nothing, 0 when it was refused.",
        (),
        store.reload_success,
    )
    yield _gauge(
        "config_last_reload_success_timestamp_seconds",
        "When a reload last succeeded, in seconds since 1970.",
        (),
        store.reload_time,
    )
