"""Metrics: what is counted, under which labels, and how it is rendered."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy_logging import (
    AttemptFailed,
    BreakerChanged,
    ConfigReloaded,
    Event,
    Metrics,
    NoMetrics,
    Observer,
    RequestFinished,
    RequestStarted,
)


def finished(**fields: Any) -> RequestFinished:
    given: dict[str, Any] = {
        "request_id": "req",
        "surface": "chat",
        "status": 200,
        "outcome": "ok",
        "duration": 0.3,
        "route": "gpt",
        "provider": "openai",
    }
    return RequestFinished(**{**given, **fields})


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"llm_proxy_{name}", labels)


def test_a_finished_request_is_counted_everywhere() -> None:
    """One event moves the counter, the three histograms and the tokens, and nothing twice."""
    metrics = Metrics()
    metrics(RequestStarted(request_id="req", surface="chat"))
    metrics(
        finished(
            first_token=0.2, overhead=0.0001, input_tokens=10, output_tokens=5, cached_tokens=4
        )
    )
    labels = {"surface": "chat", "route": "gpt", "provider": "openai"}
    assert value(metrics, "requests_total", **labels, status="200", outcome="ok") == 1
    duration = {"surface": "chat", "route": "gpt"}
    assert value(metrics, "request_duration_seconds_count", **duration) == 1
    assert value(metrics, "request_duration_seconds_sum", **duration) == 0.3
    assert value(metrics, "request_duration_seconds_bucket", **duration, le="0.25") == 0
    assert value(metrics, "request_duration_seconds_bucket", **duration, le="0.5") == 1
    assert value(metrics, "request_duration_seconds_bucket", **duration, le="+Inf") == 1
    route = {"route": "gpt", "provider": "openai"}
    assert value(metrics, "time_to_first_token_seconds_sum", **route) == 0.2
    assert value(metrics, "time_to_first_token_seconds_bucket", **route, le="0.2") == 1
    assert value(metrics, "overhead_seconds_sum") == 0.0001
    assert value(metrics, "tokens_total", **route, direction="input") == 10
    assert value(metrics, "tokens_total", **route, direction="output") == 5
    assert value(metrics, "tokens_total", **route, direction="cached") == 4


def test_what_an_event_does_not_know_is_not_observed() -> None:
    """A request that never had a first token isn't one of zero seconds."""
    metrics = Metrics()
    metrics(finished())
    route = {"route": "gpt", "provider": "openai"}
    assert value(metrics, "time_to_first_token_seconds_count", **route) == 0
    assert value(metrics, "overhead_seconds_count") == 0
    assert value(metrics, "tokens_total", **route, direction="input") == 0


def test_in_flight_is_what_started_and_did_not_finish() -> None:
    """The gauge goes up and down with the requests of a surface."""
    metrics = Metrics()
    for _ in range(3):
        metrics(RequestStarted(request_id="req", surface="chat"))
    metrics(finished())
    assert value(metrics, "in_flight_requests", surface="chat") == 2


def test_attempts_and_breakers() -> None:
    """Failures are counted by deployment and reason, a breaker shows its state and its changes."""
    metrics = Metrics()
    metrics(
        AttemptFailed(
            request_id="r", route="gpt", deployment="openai/x", provider="openai", reason="timeout"
        )
    )
    metrics(BreakerChanged(breaker="openai/x", before="closed", after="open", reason="r"))
    failures = {"deployment": "openai/x", "reason": "timeout"}
    assert value(metrics, "attempt_failures_total", **failures) == 1
    assert value(metrics, "breaker_state", breaker="openai/x") == 2
    metrics(BreakerChanged(breaker="openai/x", before="open", after="half_open", reason="r"))
    assert value(metrics, "breaker_state", breaker="openai/x") == 1
    metrics(BreakerChanged(breaker="openai/x", before="half_open", after="closed", reason="r"))
    assert value(metrics, "breaker_state", breaker="openai/x") == 0
    change = {"breaker": "openai/x", "before": "closed", "after": "open"}
    assert value(metrics, "breaker_transitions_total", **change) == 1


def test_reloads() -> None:
    """Each is counted by its result; gauges say whether the last was taken, and when one was."""
    times = iter([1_000.5, 2_000.0])
    metrics = Metrics(clock=lambda: next(times))
    assert value(metrics, "config_last_reload_successful") is None
    gauges = []
    for result in ("applied", "refused", "unchanged", "refused"):
        metrics(ConfigReloaded(result=result, changes=(), detail="CLIENT"))
        gauges.append(
            (
                value(metrics, "config_last_reload_successful"),
                value(metrics, "config_last_reload_success_timestamp_seconds"),
            )
        )
    assert gauges == [(1, 1_000.5), (0, 1_000.5), (1, 2_000), (0, 2_000)]
    counts = [
        value(metrics, "config_reloads_total", result=result)
        for result in ("applied", "unchanged", "refused")
    ]
    assert counts == [1, 1, 2]
    assert b"CLIENT" not in metrics.render()[0]


def test_the_time_of_a_reload_is_the_time_of_day() -> None:
    """Without a clock of somebody's it is in seconds since 1970."""
    metrics = Metrics()
    before = time.time()
    metrics(ConfigReloaded(result="applied", changes=("models: gpt was added",)))
    when = value(metrics, "config_last_reload_success_timestamp_seconds")
    assert when is not None
    assert before <= when <= time.time()


def test_the_clients_text_is_no_label() -> None:
    """Neither the model's name nor the request's id, key or error is anywhere in the output."""
    metrics = Metrics()
    metrics(finished(model="CLIENT", request_id="CLIENT", key="CLIENT", error="CLIENT"))
    assert b"CLIENT" not in metrics.render()[0]


def test_series_are_bounded() -> None:
    """A label that turns out to be free text ends in `other`, and no event is lost."""
    metrics = Metrics(max_series=10)
    for number in range(100):
        metrics(finished(route=f"route-{number}", input_tokens=1))
    families = {family.name: family for family in parse_text(metrics.render()[0].decode())}
    requests = [s for s in families["llm_proxy_requests"].samples if s.name.endswith("_total")]
    assert len(requests) == 11
    assert sum(sample.value for sample in requests) == 100
    assert any(sample.labels["route"] == "other" for sample in requests)
    tokens = [s for s in families["llm_proxy_tokens"].samples if s.name.endswith("_total")]
    assert sum(sample.value for sample in tokens) == 100


def test_renders_prometheus_text_and_openmetrics() -> None:
    """Both forms parse, say their content type and agree; OpenMetrics only when asked for."""
    metrics = Metrics(version="1.2.3")
    metrics(finished())
    text, kind = metrics.render()
    assert kind.startswith("text/plain; version=0.0.4")
    open_text, open_kind = metrics.render("application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert open_kind.startswith("application/openmetrics-text; version=1.0.0")
    assert open_text.endswith(b"# EOF\n")
    plain = {family.name for family in parse_text(text.decode())}
    parse_open: Any = openmetrics.text_string_to_metric_families
    opened = {family.name for family in parse_open(open_text.decode())}
    assert {"llm_proxy_requests", "llm_proxy_tokens"} <= plain & opened
    assert b'llm_proxy_build_info{version="1.2.3"} 1.0' in text
    assert all(family.documentation for family in parse_text(text.decode()))


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/html", "application/openmetrics-text;version=x"]
)
def test_any_accept_header_gets_an_answer(accept: str) -> None:
    """A scraper's odd header is answered with a form that it can read."""
    body, kind = Metrics().render(accept)
    assert b"llm_proxy_build_info" in body
    assert kind.startswith(("text/plain", "application/openmetrics-text"))


def test_registries_are_separate() -> None:
    """Two Metrics in a process don't share a number; a given registry is used."""
    one, two = Metrics(), Metrics()
    one(RequestStarted(request_id="r", surface="chat"))
    assert value(two, "in_flight_requests", surface="chat") is None
    mine = CollectorRegistry()
    Metrics(mine)(RequestStarted(request_id="r", surface="chat"))
    assert mine.get_sample_value("llm_proxy_in_flight_requests", {"surface": "chat"}) == 1
    assert mine.get_sample_value("process_open_fds") is None
    assert one.registry.get_sample_value("process_open_fds") is not None


def test_threads_lose_no_count() -> None:
    """Observations from several threads, with scrapes between, add up."""
    metrics = Metrics()

    def observe() -> None:
        for _ in range(2_000):
            metrics(finished(input_tokens=1))

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        metrics.render()
    for thread in threads:
        thread.join()
    route = {"route": "gpt", "provider": "openai"}
    assert value(metrics, "tokens_total", **route, direction="input") == 8_000


def test_no_metrics_has_the_same_surface() -> None:
    """The null object observes and renders nothing."""
    observer: Observer = NoMetrics()
    observer(finished())
    assert NoMetrics().render("*/*") == (b"", "text/plain; version=0.0.4; charset=utf-8")


def test_unknown_events_are_ignored() -> None:
    """An event of a later version, or of a plugin, is not an error."""

    class Later(Event, frozen=True, kw_only=True, gc=False):
        x: int

    Metrics()(Later(x=1))


@given(
    st.lists(
        st.builds(
            finished,
            duration=st.sampled_from([0.0, 0.025, 0.3, 0.5, 600.0, 601.0]),
            first_token=st.none() | st.sampled_from([0.0, 0.2, 0.25, 61.0]),
            overhead=st.none() | st.sampled_from([0.0, 5e-5, 6e-5, 1.0]),
            input_tokens=st.none() | st.integers(0, 9),
            cost=st.none() | st.integers(0, 10**9),
            unpriced=st.booleans(),
            status=st.sampled_from([200, 400]),
            provider=st.sampled_from(["openai", "other"]),
        ),
        max_size=200,
    )
)
@settings(max_examples=50)
def test_many_together_are_counted_as_one_by_one(events: list[RequestFinished]) -> None:
    """Who looks after each event finds what who looks once does; a bound belongs to its bucket."""
    together, alone = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    for event in events:
        together(event)
        alone(event)
        alone.render()
    found, expected = (
        {
            (sample.name, *sample.labels.items()): sample.value
            for family in metrics.collect()
            for sample in family.samples
        }
        for metrics in (together, alone)
    )
    assert found == pytest.approx(expected)
    for bound in (0.25, 0.5, 600.0):
        counted = {
            key: number
            for key, number in found.items()
            if key[0] == "llm_proxy_request_duration_seconds_bucket" and ("le", str(bound)) in key
        }
        assert sum(counted.values()) == sum(event.duration <= bound for event in events)


def test_a_look_at_any_time_finds_all() -> None:
    """However many of how many kinds wait, a scrape has each of them."""
    metrics = Metrics()
    for number in range(1_000):
        metrics(RequestStarted(request_id="req", surface="chat"))
        metrics(finished(status=200 + number % 3))
        if number in (0, 63, 64, 500, 999):
            families = {family.name: family for family in metrics.collect()}
            assert sum(s.value for s in families["llm_proxy_requests"].samples) == number + 1
            assert value(metrics, "in_flight_requests", surface="chat") == 0


def test_surfaces_are_in_the_order_of_their_first_requests() -> None:
    """Which of them ends first doesn't matter."""
    metrics = Metrics()
    for surface in ("chat", "embeddings"):
        metrics(RequestStarted(request_id="req", surface=surface))
    metrics(finished(surface="embeddings"))
    families = {family.name: family for family in metrics.collect()}
    found = families["llm_proxy_in_flight_requests"].samples
    assert [(sample.labels["surface"], sample.value) for sample in found] == [
        ("chat", 1),
        ("embeddings", 0),
    ]


@pytest.fixture
def _switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_switching")
def test_the_gauge_never_goes_below_what_is_in_flight() -> None:
    """A request that ends while somebody looks isn't taken off before it was added."""
    metrics = Metrics(CollectorRegistry())
    seen = []
    done = threading.Event()

    def observe() -> None:
        for number in range(20_000):
            metrics(RequestStarted(request_id="req", surface="chat"))
            metrics(finished(route=f"route-{number % 100}"))
        done.set()

    thread = threading.Thread(target=observe)
    thread.start()
    while not done.is_set():
        seen.append(value(metrics, "in_flight_requests", surface="chat") or 0)
    thread.join()
    assert min(seen) >= 0
    assert value(metrics, "in_flight_requests", surface="chat") == 0
