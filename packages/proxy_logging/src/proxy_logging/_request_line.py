"""The line of a finished request, the one that every request writes: made without a walk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from proxy_logging._events import RequestFinished
from proxy_logging._redact import looks_safe, redact

__all__ = ["Finished", "RequestLines", "request_fields"]

_MAX_NAME = 256
_MAX_KNOWN = 4_096
_HEX = "0123456789abcdef"
_OWN = ("timestamp", "level", "service", "event")


Finished = tuple[RequestFinished, str, float]
"""A request, the service that logs it, and when: seconds since 1970."""


class RequestLine(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields in their order; one that has its default here is left out."""

    timestamp: str
    level: str
    service: str
    event: str
    request_id: str
    surface: str
    model: str = ""
    route: str = ""
    deployment: str = ""
    key: str = ""
    status: int | None = None
    outcome: str = ""
    stream: bool | None = None
    attempts: int = 0
    cache: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    usage_estimated: bool = False
    cost_usd: float | None = None
    duration_ms: float | None = None
    first_token_ms: float | None = None
    overhead_ms: float | None = None
    error: str = ""


def _line(event: RequestFinished, service: str, timestamp: str) -> RequestLine:
    duration, first_token, overhead = event.duration, event.first_token, event.overhead
    try:  # a third of the price of round(…, 3)
        duration = round(duration * 1e6) / 1e3
        first_token = None if first_token is None else round(first_token * 1e6) / 1e3
        overhead = None if overhead is None else round(overhead * 1e6) / 1e3
    except (OverflowError, ValueError):  # no number: it has no place on a line
        duration, first_token, overhead = 0.0, None, None
    return RequestLine(
        timestamp,
        "info",
        service,
        "request",
        event.request_id,
        event.surface,
        event.model[:_MAX_NAME],
        event.route,
        event.deployment,
        event.key,
        event.status,
        event.outcome,
        event.stream,
        event.attempts,
        "" if event.cache == "off" else event.cache,
        event.input_tokens,
        event.output_tokens,
        event.cached_tokens,
        event.usage_estimated,
        None if event.cost is None else event.cost / 1e9,
        duration,
        first_token,
        overhead,
        event.error,
    )


def request_fields(event: RequestFinished) -> dict[str, object]:
    """The line's fields without the four that every line has; those that aren't set are left out.

    Durations are in milliseconds; a model's name, the client's own text, is cut at 256 characters.
    """
    fields: dict[str, object] = msgspec.to_builtins(_line(event, "", ""))
    for name in _OWN:
        del fields[name]
    return fields


class RequestLines:
    """Finished requests as lines of JSON, the same that the log's general way gives.

    The names on them are few, and are looked at once. One that may hold a secret goes the general
    way.

    Args:
        general: any fields as a line of JSON; never raises.
        timestamp: a time, in seconds since 1970, as text.
    """

    def __init__(
        self, general: Callable[[Mapping[str, Any]], str], timestamp: Callable[[float], str]
    ) -> None:
        self._general: Final = general
        self._timestamp: Final = timestamp
        self._encode: Final = msgspec.json.Encoder().encode_lines
        self._harmless: Final[set[str]] = set()

    def text(self, finished: Sequence[Finished]) -> str:
        """Their text, in order, each with its end; never raises."""
        try:
            lines = [self._line(*one) for one in finished]
            text = self._encode(lines).decode() if all(map(self._is_harmless, lines)) else "\x7f"
        except Exception:  # noqa: BLE001 - what a line can't have: the general way knows all
            text = "\x7f"
        if text.isascii() and "\x7f" not in text:
            return text
        return "".join([f"{self._general(self._fields(*one))}\n" for one in finished])

    def _fields(self, event: RequestFinished, service: str, when: float) -> dict[str, Any]:
        try:
            fields: dict[str, Any] = msgspec.to_builtins(
                self._line(event, service, when), enc_hook=repr
            )
        except Exception:  # noqa: BLE001 - then as it is, in the event's own units
            own = (self._timestamp(when), "info", service, "request")
            fields = dict(zip(_OWN, own, strict=True)) | msgspec.structs.asdict(event)
        return fields

    def _line(self, event: RequestFinished, service: str, when: float) -> RequestLine:
        return _line(event, service, self._timestamp(when))

    def _is_harmless(self, line: RequestLine) -> bool:
        """Whether no text of it may hold a secret."""
        name = line.request_id
        # No secret looks like an id of ours; others are looked at each time.
        if not (name.rstrip(_HEX) == "req_" or looks_safe(name)):
            return False
        names = (
            line.model,
            line.key,
            line.deployment,
            line.route,
            line.error,
            line.surface,
            line.service,
        )
        return self._harmless.issuperset(names) or self._are_harmless(names)

    def _are_harmless(self, names: tuple[str, ...]) -> bool:
        """Whether redaction would leave them as they are; they are remembered then."""
        for name in names:
            if len(name) > _MAX_NAME or redact(name) != name:
                return False
        if len(self._harmless) > _MAX_KNOWN:
            self._harmless.clear()
        self._harmless.update(names)
        return True
