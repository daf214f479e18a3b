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


Finished = tuple[RequestFinished, str, float]
"""A request, the service that logs it, and when: seconds since 1970."""


class _Names(msgspec.Struct, omit_defaults=True, gc=False):
    """What many requests have in common, in the line's order."""

    surface: str
    model: str = ""
    route: str = ""
    deployment: str = ""
    key: str = ""
    status: int | None = None
    outcome: str = ""
    stream: bool | None = None
    attempts: int = 0
    cache: str = "off"


class _Line(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields in their order; one that has its default here is left out.

    A `Raw` gets into the JSON as it stands: it has the value, and the fields that follow.
    """

    timestamp: str
    level: str | msgspec.Raw
    """With ``service`` and ``event``."""
    request_id: str
    surface: str | msgspec.Raw
    """With the others of `_Names`."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    usage_estimated: bool = False
    cost_usd: float | None = None
    duration_ms: float | None = None
    first_token_ms: float | None = None
    overhead_ms: float | None = None
    error: str = ""


def _names(event: RequestFinished) -> _Names:
    return _Names(
        event.surface,
        event.model[:_MAX_NAME],
        event.route,
        event.deployment,
        event.key,
        event.status,
        event.outcome,
        event.stream,
        event.attempts,
        event.cache,
    )


def _line(
    event: RequestFinished, timestamp: str, level: str | msgspec.Raw, surface: str | msgspec.Raw
) -> _Line:
    return _Line(
        timestamp,
        level,
        event.request_id,
        surface,
        event.input_tokens,
        event.output_tokens,
        event.cached_tokens,
        event.usage_estimated,
        None if event.cost is None else event.cost / 1e9,
        round(event.duration * 1e6) / 1e3,  # a third of the price of round(…, 3)
        None if event.first_token is None else round(event.first_token * 1e6) / 1e3,
        None if event.overhead is None else round(event.overhead * 1e6) / 1e3,
        event.error,
    )


def request_fields(event: RequestFinished) -> dict[str, object]:
    """The line's fields without the four that every line has; those that aren't set are left out.

    Durations are in milliseconds; a model's name, the client's own text, is cut at 256 characters.
    """
    try:
        line = _line(event, "", "", event.surface)
    except (OverflowError, ValueError):  # no number: it has no place on a line
        event = msgspec.structs.replace(event, duration=0.0, first_token=None, overhead=None)
        line = _line(event, "", "", event.surface)
    names: dict[str, object] = msgspec.to_builtins(_names(event), enc_hook=repr)
    others: dict[str, object] = msgspec.to_builtins(line, enc_hook=repr)
    del others["timestamp"], others["level"]
    return {"request_id": others["request_id"], **names, **others}


def _is_clean(text: str) -> bool:
    """Whether JSON escapes all of a text that may be more than text to who reads the log."""
    return text.isascii() and "\x7f" not in text


class RequestLines:
    """Finished requests as lines of JSON, the same that the log's general way gives.

    The names on them are few, and are looked at and made to text once. One that may hold a secret
    goes the general way.

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
        self._known: Final[dict[tuple[object, ...], tuple[msgspec.Raw, msgspec.Raw]]] = {}

    def text(self, finished: Sequence[Finished]) -> str:
        """Their text, in order, each with its end; never raises."""
        try:
            return self._encode(map(self._line, finished)).decode()
        except Exception:  # noqa: BLE001 - what a line can't have: the general way knows all
            return "".join([f"{self._general(self._fields(*one))}\n" for one in finished])

    def _fields(self, event: RequestFinished, service: str, when: float) -> dict[str, Any]:
        try:
            fields = request_fields(event)
        except Exception:  # noqa: BLE001 - then as it is, in the event's own units
            fields = msgspec.structs.asdict(event)
        own = {"level": "info", "service": service, "event": "request"}
        return {"timestamp": self._timestamp(when), **own, **fields}

    def _line(self, one: Finished) -> _Line:
        event, service, when = one
        if event.request_id.rstrip(_HEX) != "req_":  # no secret looks like an id of ours
            self._check_id(event.request_id)
        key = (
            service,
            event.error,
            event.surface,
            event.model,
            event.route,
            event.deployment,
            event.key,
            event.status,
            event.outcome,
            event.stream,
            event.attempts,
            event.cache,
        )
        try:
            level, surface = self._known[key]
        except KeyError:
            level, surface = self._texts(key, service, event)
        return _line(event, self._timestamp(when), level, surface)

    def _texts(
        self, key: tuple[object, ...], service: str, event: RequestFinished
    ) -> tuple[msgspec.Raw, msgspec.Raw]:
        """What stands for `level` and for `surface` on all lines like this one."""
        names = _names(event)
        self._check(
            service,
            event.error,
            names.surface,
            names.model,
            names.route,
            names.deployment,
            names.key,
        )
        level = b'"info","service":%b,"event":"request"' % self._encode((service,)).rstrip()
        surface = self._encode((names,)).rstrip()[len(b'{"surface":') : -1]
        texts = msgspec.Raw(level), msgspec.Raw(surface)
        if len(event.model) <= _MAX_NAME:  # or the key would be as long as its client likes
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = texts
        return texts

    def _check_id(self, request_id: str) -> None:
        if not (_is_clean(request_id) and looks_safe(request_id)):
            raise ValueError("an id that may hold a secret")

    def _check(self, *names: str) -> None:
        """Refuse what redaction would change; the others are remembered."""
        if self._harmless.issuperset(names):
            return
        for name in names:
            if len(name) > _MAX_NAME or not _is_clean(name) or redact(name) != name:
                raise ValueError("a name that may hold a secret")
        if len(self._harmless) > _MAX_KNOWN:
            self._harmless.clear()
        self._harmless.update(names)
