"""The line of a finished request, the one that every request writes: made without a walk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from proxy_logging._events import RequestFinished
from proxy_logging._redact import looks_safe, redact

__all__ = ["RequestLine", "RequestLines", "request_fields"]

_MAX_NAME = 256
_MAX_KNOWN = 4_096
_HEX = "0123456789abcdef"
_OWN = ("timestamp", "level", "service", "event")


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
        timestamp: the time of now.
    """

    def __init__(
        self, general: Callable[[Mapping[str, Any]], str], timestamp: Callable[[], str]
    ) -> None:
        self._general: Final = general
        self._timestamp: Final = timestamp
        self._encode: Final = msgspec.json.Encoder().encode_lines
        self._harmless: Final[set[str]] = set()

    def line(self, event: RequestFinished, service: str) -> RequestLine | None:
        """What becomes the line; None when a text of it may hold a secret."""
        name = event.request_id
        # No secret looks like an id of ours; others are looked at each time.
        if not (name.rstrip(_HEX) == "req_" or looks_safe(name)):
            return None
        line = _line(event, service, self._timestamp())
        names = (
            line.model,
            event.key,
            event.deployment,
            event.route,
            event.error,
            event.surface,
            service,
        )
        if self._harmless.issuperset(names) or self._are_harmless(names):
            return line
        return None

    def text(self, lines: Sequence[RequestLine]) -> str:
        """Their text, in order, each with its end; never raises."""
        try:
            text = self._encode(lines).decode()
        except Exception:  # noqa: BLE001 - one that has no encoding: the general way knows all
            text = "\x7f"
        if text.isascii() and "\x7f" not in text:
            return text
        plain = [msgspec.to_builtins(line, enc_hook=repr) for line in lines]
        return "".join([f"{self._general(fields)}\n" for fields in plain])

    def _are_harmless(self, names: tuple[str, ...]) -> bool:
        """Whether redaction would leave them as they are; they are remembered then."""
        for name in names:
            if len(name) > _MAX_NAME or redact(name) != name:
                return False
        if len(self._harmless) > _MAX_KNOWN:
            self._harmless.clear()
        self._harmless.update(names)
        return True
