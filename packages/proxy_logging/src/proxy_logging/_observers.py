"""Observers: one that hands on to many, and one that writes log lines."""

from __future__ import annotations

from collections.abc import Callable

from proxy_logging._events import (
    AttemptFailed,
    BreakerChanged,
    ConfigReloaded,
    Event,
    Observer,
    RequestFinished,
)
from proxy_logging._logger import StructuredLogger
from proxy_logging._output import Level

__all__ = ["LogObserver", "fan_out"]

_MAX_NAME = 256


def fan_out(
    *observers: Observer, on_error: Callable[[Observer, Exception], object] | None = None
) -> Observer:
    """One observer that hands each event to all of them, in order.

    An observer that raises stops neither the others nor the request. Its first failure is reported
    to `on_error`, or as an error line when that is None; later ones are silent.

    Args:
        observers: whom to tell; none at all is fine.
        on_error: gets the observer and what it raised.
    """
    return _FanOut(observers, _logged if on_error is None else on_error)


def _logged(observer: Observer, error: Exception) -> None:
    name = getattr(observer, "__qualname__", type(observer).__qualname__)
    StructuredLogger("proxy-logging").error("observer_failed", observer=name, exc_info=error)


class _FanOut:
    def __init__(
        self, observers: tuple[Observer, ...], on_error: Callable[[Observer, Exception], object]
    ) -> None:
        self._observers = observers
        self._on_error = on_error
        self._failed: set[int] = set()

    def __call__(self, event: Event, /) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - an observer is anybody's code
                self._report(observer, error)

    def _report(self, observer: Observer, error: Exception) -> None:
        if id(observer) in self._failed:
            return
        self._failed.add(id(observer))
        try:
            self._on_error(observer, error)
        except Exception:  # noqa: BLE001 - the report is a courtesy, the request is not
            return


class LogObserver:
    """Writes a line per finished request, failed attempt, change of a breaker and reload.

    A line has only the fields that are set. Requests are ``info``, and ``warning`` when they
    failed; a refused reload is an ``error``. Durations are in milliseconds.
    """

    def __init__(self, logger: StructuredLogger) -> None:
        self._logger = logger

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, RequestFinished):
            level: Level = "warning" if event.outcome == "failed" else "info"
            self._logger.write(level, "request", _request_fields(event))
        elif isinstance(event, AttemptFailed):
            self._logger.write("warning", "attempt_failed", _attempt_fields(event))
        elif isinstance(event, BreakerChanged):
            write = self._logger.info if event.after == "closed" else self._logger.warning
            write(
                "breaker_changed",
                breaker=event.breaker,
                before=event.before,
                after=event.after,
                reason=event.reason,
            )
        elif isinstance(event, ConfigReloaded):
            refused = event.result == "refused"
            self._logger.write(
                "error" if refused else "info", "config_reloaded", _reload_fields(event)
            )


def _request_fields(event: RequestFinished) -> dict[str, object]:
    fields: dict[str, object] = {"request_id": event.request_id, "surface": event.surface}
    if event.model:
        fields["model"] = event.model[:_MAX_NAME]
    if event.route:
        fields["route"] = event.route
    if event.deployment:
        fields["deployment"] = event.deployment
    if event.key:
        fields["key"] = event.key
    fields["status"] = event.status
    fields["outcome"] = event.outcome
    fields["stream"] = event.stream
    if event.attempts:
        fields["attempts"] = event.attempts
    if event.cache != "off":
        fields["cache"] = event.cache
    _add_tokens(fields, event)
    fields["duration_ms"] = round(event.duration * 1e3, 3)
    if event.first_token is not None:
        fields["first_token_ms"] = round(event.first_token * 1e3, 3)
    if event.overhead is not None:
        fields["overhead_ms"] = round(event.overhead * 1e3, 3)
    if event.error:
        fields["error"] = event.error
    return fields


def _add_tokens(fields: dict[str, object], event: RequestFinished) -> None:
    if event.input_tokens is not None:
        fields["input_tokens"] = event.input_tokens
    if event.output_tokens is not None:
        fields["output_tokens"] = event.output_tokens
    if event.cached_tokens is not None:
        fields["cached_tokens"] = event.cached_tokens
    if event.usage_estimated:
        fields["usage_estimated"] = True


def _attempt_fields(event: AttemptFailed) -> dict[str, object]:
    fields: dict[str, object] = {
        "request_id": event.request_id,
        "route": event.route,
        "deployment": event.deployment,
        "provider": event.provider,
        "reason": event.reason,
    }
    if event.upstream_status is not None:
        fields["upstream_status"] = event.upstream_status
    if event.duration:
        fields["duration_ms"] = round(event.duration * 1e3, 3)
    if event.message:
        fields["message"] = event.message
    return fields


def _reload_fields(event: ConfigReloaded) -> dict[str, object]:
    fields: dict[str, object] = {"result": event.result, "changes": list(event.changes)}
    if event.detail:
        fields["detail"] = event.detail
    return fields
