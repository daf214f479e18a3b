"""The observer that writes log lines."""

from __future__ import annotations

from collections.abc import Mapping

from proxy_logging._events import (
    AttemptFailed,
    BreakerChanged,
    ConfigReloaded,
    CredentialChanged,
    Event,
    RequestFinished,
    StoreChanged,
)
from proxy_logging._fan_out import Handler
from proxy_logging._logger import StructuredLogger

__all__ = ["LogObserver"]


class LogObserver:
    """Writes a line per finished request, failed attempt, changed breaker, credential, and reload.

    A line has only the fields that are set. Requests are ``info``, and ``warning`` when they
    failed; a refused reload is an ``error``. Durations are in milliseconds.
    """

    handlers_say_all = True

    def __init__(self, logger: StructuredLogger) -> None:
        self._logger = logger
        self.handlers: Mapping[type[Event], Handler] = {
            RequestFinished: logger.request,
            AttemptFailed: self._attempt_failed,
            BreakerChanged: self._breaker_changed,
            CredentialChanged: self._credential_changed,
            StoreChanged: self._store_changed,
            ConfigReloaded: self._config_reloaded,
        }

    def __call__(self, event: Event, /) -> None:
        handler = self.handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _attempt_failed(self, event: AttemptFailed) -> None:
        self._logger.write("warning", "attempt_failed", _attempt_fields(event))

    def _breaker_changed(self, event: BreakerChanged) -> None:
        write = self._logger.info if event.after == "closed" else self._logger.warning
        write(
            "breaker_changed",
            breaker=event.breaker,
            before=event.before,
            after=event.after,
            reason=event.reason,
        )

    def _credential_changed(self, event: CredentialChanged) -> None:
        if event.after == "usable":
            self._logger.info("credential_usable", credential=event.credential)
        else:
            self._logger.error(
                "credential_quarantined",
                credential=event.credential,
                reason=event.reason,
                retry_in=round(event.retry_in, 1),
            )

    def _store_changed(self, event: StoreChanged) -> None:
        if event.after == "back":
            self._logger.info("store_back", store=event.store)
        else:
            self._logger.error("store_away", store=event.store)

    def _config_reloaded(self, event: ConfigReloaded) -> None:
        refused = event.result == "refused"
        self._logger.write("error" if refused else "info", "config_reloaded", _reload_fields(event))


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
