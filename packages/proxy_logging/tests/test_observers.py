"""fan_out and LogObserver."""

from __future__ import annotations

from typing import Any

import pytest

from proxy_logging import (
    AttemptFailed,
    BreakerChanged,
    ConfigReloaded,
    Event,
    LogObserver,
    Metrics,
    NoMetrics,
    Observer,
    RequestFinished,
    RequestStarted,
    StructuredLogger,
    fan_out,
)
from proxy_logging.testing import RecordingObserver, captured

STARTED = RequestStarted(request_id="req", surface="chat")


def failing(event: Event, /) -> None:
    raise RuntimeError("observer broke")


class TestFanOut:
    def test_hands_on_to_all_in_order(self) -> None:
        """Each observer gets each event, in the order given."""
        seen: list[str] = []
        observe = fan_out(lambda event: seen.append("a"), lambda event: seen.append("b"))
        observe(STARTED)
        observe(STARTED)
        assert seen == ["a", "b", "a", "b"]

    def test_of_nobody_is_fine(self) -> None:
        """No observers is an observer too."""
        fan_out()(STARTED)

    def test_a_failing_observer_stops_nobody_and_is_logged_once(self) -> None:
        """The others get every event; the failure is one error line, whose traceback says why."""
        others = RecordingObserver()
        observe = fan_out(failing, others)
        with captured() as lines:
            observe(STARTED)
            observe(STARTED)
        assert others.events == [STARTED, STARTED]
        (line,) = lines
        assert (line["level"], line["event"]) == ("error", "observer_failed")
        assert line["observer"] == "failing"
        assert "observer broke" in line["exception"]

    def test_each_failing_observer_is_reported(self) -> None:
        """Once per observer, also for two of a class; `on_error` is asked in place of a line."""

        class Fails:
            def __call__(self, event: Event, /) -> None:
                raise KeyError("x")

        one, two = Fails(), Fails()
        reports: list[tuple[Observer, Exception]] = []
        observe = fan_out(one, two, on_error=lambda who, error: reports.append((who, error)))
        with captured() as lines:
            observe(STARTED)
            observe(STARTED)
        assert [who for who, _ in reports] == [one, two]
        assert all(isinstance(error, KeyError) for _, error in reports)
        assert lines == []

    def test_an_observer_that_derives_from_ours_is_called_itself(self) -> None:
        """A call of its own sees every event, also those that ours does nothing with."""

        class Mine(Metrics):
            def __call__(self, event: Event, /) -> None:
                seen.append(event)

        class Logs(LogObserver):
            def __call__(self, event: Event, /) -> None:
                seen.append(event)

        seen: list[Event] = []
        observe = fan_out(Mine(), Logs(StructuredLogger("s")), NoMetrics())
        observe(STARTED)
        observe(FULL)
        assert seen == [STARTED, STARTED, FULL, FULL]

    def test_hands_each_kind_to_ours(self) -> None:
        """Logs and metrics behind it see what they see without it, whichever event comes first."""
        metrics = Metrics()
        with captured() as lines:
            observe = fan_out(LogObserver(StructuredLogger("s")), metrics)
            for event in (STARTED, STARTED, FULL, ConfigReloaded(result="unchanged", changes=())):
                observe(event)
        assert [line["event"] for line in lines] == ["request", "config_reloaded"]
        value = metrics.registry.get_sample_value
        assert value("llm_proxy_in_flight_requests", {"surface": "chat"}) == 1
        assert value("llm_proxy_config_reloads_total", {"result": "unchanged"}) == 1

    def test_a_failing_report_is_swallowed(self) -> None:
        """Even a broken `on_error` doesn't reach the request."""

        def on_error(who: Observer, error: Exception) -> None:
            raise RuntimeError("broken too")

        fan_out(failing, on_error=on_error)(STARTED)

    def test_lets_cancellations_through(self) -> None:
        """What isn't an Exception is not an observer's failure."""

        def stops(event: Event, /) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fan_out(stops)(STARTED)


FULL = RequestFinished(
    request_id="req",
    surface="chat",
    status=200,
    outcome="ok",
    duration=1.25,
    model="gpt",
    route="gpt-*",
    deployment="openai/gpt-5-mini",
    provider="openai",
    key="ci",
    stream=True,
    attempts=2,
    first_token=0.5,
    overhead=0.00025,
    input_tokens=10,
    output_tokens=0,
    cached_tokens=3,
    usage_estimated=True,
    cache="miss",
)


class TestLogObserver:
    def line(self, event: Event) -> dict[str, Any]:
        with captured() as lines:
            LogObserver(StructuredLogger("s"))(event)
        (line,) = lines
        del line["timestamp"]
        return line

    def test_a_finished_request_is_one_line(self) -> None:
        """Everything that is set is there, durations in milliseconds."""
        assert self.line(FULL) == {
            "level": "info",
            "service": "s",
            "event": "request",
            "request_id": "req",
            "surface": "chat",
            "model": "gpt",
            "route": "gpt-*",
            "deployment": "openai/gpt-5-mini",
            "key": "ci",
            "status": 200,
            "outcome": "ok",
            "stream": True,
            "attempts": 2,
            "cache": "miss",
            "input_tokens": 10,
            "output_tokens": 0,
            "cached_tokens": 3,
            "usage_estimated": True,
            "duration_ms": 1250.0,
            "first_token_ms": 500.0,
            "overhead_ms": 0.25,
        }

    def test_what_is_not_set_is_not_there(self) -> None:
        """A request that was refused early has a short line."""
        event = RequestFinished(
            request_id="r", surface="chat", status=401, outcome="refused", duration=0.001,
            error="invalid_api_key",
        )  # fmt: skip
        assert set(self.line(event)) == {
            "level", "service", "event", "request_id", "surface", "status", "outcome", "stream",
            "duration_ms", "error",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("outcome", "level"),
        [("ok", "info"), ("refused", "info"), ("gone", "info"), ("failed", "warning")],
    )
    def test_only_failures_are_warnings(self, outcome: Any, level: str) -> None:
        """A refused request is its client's affair, a failed one is the operator's."""
        event = RequestFinished(
            request_id="r", surface="chat", status=500, outcome=outcome, duration=0.0
        )
        assert self.line(event)["level"] == level

    def test_a_models_name_is_cut(self) -> None:
        """The client's own text can't fill the log."""
        event = RequestFinished(
            request_id="r", surface="chat", status=404, outcome="refused", duration=0.0,
            model="m" * 10_000,
        )  # fmt: skip
        assert self.line(event)["model"] == "m" * 256

    def test_a_failed_attempt_is_a_warning(self) -> None:
        """It says which deployment failed and why; a key in the message is hidden."""
        line = self.line(
            AttemptFailed(
                request_id="r",
                route="chat",
                deployment="openai/x",
                provider="openai",
                reason="upstream_auth",
                upstream_status=401,
                duration=0.1,
                message="Incorrect API key provided: sk-proj-CANARY12345",
            )
        )
        assert (line["level"], line["event"]) == ("warning", "attempt_failed")
        assert (line["deployment"], line["reason"]) == ("openai/x", "upstream_auth")
        assert (line["upstream_status"], line["duration_ms"]) == (401, 100.0)
        assert line["message"] == "Incorrect API key provided: sk-***"

    @pytest.mark.parametrize(
        ("after", "level"), [("open", "warning"), ("half_open", "warning"), ("closed", "info")]
    )
    def test_a_breaker_that_opens_is_a_warning(self, after: Any, level: str) -> None:
        """Closing is good news."""
        line = self.line(BreakerChanged(breaker="b", before="open", after=after, reason="why"))
        assert (line["event"], line["level"]) == ("breaker_changed", level)
        assert (line["breaker"], line["after"], line["reason"]) == ("b", after, "why")

    @pytest.mark.parametrize(
        ("result", "level"), [("applied", "info"), ("unchanged", "info"), ("refused", "error")]
    )
    def test_a_reload_is_one_line(self, result: Any, level: str) -> None:
        """It says what came of it and what changed; one that was refused is an error."""
        changes = ("models: gpt was added", "limits: api_key=sk-proj-CANARY12345")
        line = self.line(ConfigReloaded(result=result, changes=changes))
        assert line == {
            "level": level,
            "service": "s",
            "event": "config_reloaded",
            "result": result,
            "changes": ["models: gpt was added", "limits: api_key=***"],
        }

    def test_a_refused_reload_says_why(self) -> None:
        """The detail is there when there is one."""
        event = ConfigReloaded(result="refused", changes=(), detail="models[0].name is missing")
        line = self.line(event)
        assert (line["changes"], line["detail"]) == ([], "models[0].name is missing")

    def test_other_events_write_nothing(self) -> None:
        """A started request has no line of its own."""
        with captured() as lines:
            LogObserver(StructuredLogger("s"))(STARTED)
        assert lines == []
