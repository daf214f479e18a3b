"""From an event's fields to one line on a stream: the two forms, and where the lines go."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import stat
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from proxy_logging._events import RequestFinished
from proxy_logging._journal import SOCKET, Journal, Prefixed, journal_lines, stderr_is_journal
from proxy_logging._redact import Plain, looks_safe, names_look_safe, plain_fields
from proxy_logging._request import REQUEST_FIELDS
from proxy_logging._request_line import Finished, RequestLines, request_fields

__all__ = ["FORMATS", "Format", "LEVELS", "Level", "Output", "Stream", "unconfigured"]

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error", "critical"]

FORMATS: tuple[Format, ...] = ("auto", "json", "console")
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")

_SCALARS = frozenset({str, int, float, bool, type(None)})
_NUMBERS = frozenset({float, bool, type(None)})
_NEEDS_QUOTES = re.compile(r"[\s=\"']")
_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))
_COLOURS = {"debug": 2, "info": 32, "warning": 33, "error": 31, "critical": 31}
_MOST_WAITING = 8
"""Lines of requests that wait: together less than PIPE_BUF, for a pipe that processes share."""
_MOST_FOR_A_FILE = 64
_OWN_NAMES = frozenset({"timestamp", "level", "event"})

# What JSON leaves unescaped but a terminal or a log reader may take for the end of a line, or for
# a command: DEL and C1, the Unicode line ends, and marks that turn the reading direction.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Stream(Protocol):
    """What lines are written to: a text file, ``sys.stderr``, ``io.StringIO``."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


class Timestamps:
    """The time of now as RFC 3339 in UTC with milliseconds; the second's text is made once."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second = (-1.0, "")

    def __call__(self) -> str:
        return self.of(self._clock())

    def of(self, now: float) -> str:
        """A time, in seconds since 1970, as text."""
        second = now // 1
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return text + _MILLISECONDS[int((now - second) * 1000)]


class Complete:
    """Puts the line's own four fields first, then the request's, then what is bound and given.

    A field of somebody's that is called like one of the line's own stays, as ``level_``.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.timestamp = Timestamps(clock)

    def __call__(
        self, method: str, event: object, bound: Mapping[str, Any], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        fields = {
            "timestamp": self.timestamp(),
            "level": method,
            "service": "",
            "event": event,
            **REQUEST_FIELDS.get(),
            **bound,
            **given,
        }
        if fields["event"] is event and fields["level"] is method and "timestamp" not in given:
            return fields
        theirs = {**REQUEST_FIELDS.get(), **bound, **given}
        return self(method, event, {_renamed(name): theirs[name] for name in theirs}, {})

    def processor(self, _logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        """The same for loggers of structlog's own."""
        return self(method, fields.pop("event", ""), {}, fields)


def _renamed(name: str) -> str:
    return f"{name}_" if name in _OWN_NAMES else name


def exception_text(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """A processor: ``exc_info`` becomes ``exception``, the traceback's text."""
    given = fields.get("exc_info")
    try:
        return structlog.processors.format_exc_info(logger, method, fields)
    except Exception:  # noqa: BLE001 - not what the standard library means by exc_info
        return {**fields, "exc_info": given}


class JsonLine:
    """The last processor: one line of JSON, always, without secrets.

    Most lines hold only plain values and nothing that looks like a secret: they are encoded as they
    are. Any doubt sends the line through the walk that cleans each value.
    """

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, _logger: WrappedLogger, _method: str, fields: EventDict) -> str:
        return self.general(fields)

    def general(self, fields: Mapping[str, Any]) -> str:
        """Any fields as a line; never raises."""
        if not _need_no_walk(fields):
            return self._line(plain_fields(fields))
        try:
            return self._line(fields)
        except (OverflowError, ValueError):  # an integer past 64 bits, a lone surrogate
            return self._line(plain_fields(fields))

    def _line(self, fields: Mapping[str, Any]) -> str:
        line = self._encode(fields).decode()
        if line.isascii() and "\x7f" not in line:
            return line
        return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _need_no_walk(fields: Mapping[str, Any]) -> bool:
    """Whether all values are plain and none looks like a secret: true for most lines."""
    values = fields.values()
    return (
        _SCALARS.issuperset(map(type, values))
        and names_look_safe(tuple(fields))
        and looks_safe("\n".join([value for value in values if type(value) is str]))
    )


class ConsoleLine:
    """The last processor of the console form: for people, one line, and tracebacks set in below."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: WrappedLogger, method: str, fields: EventDict) -> str:
        rest = dict(fields) if _need_no_walk(fields) else plain_fields(fields)
        trace = rest.pop("exception", None)
        time_of_day = str(rest.pop("timestamp"))[11:-1]
        rest.pop("level")
        service, event = (_one_line(str(rest.pop(name))) for name in ("service", "event"))
        pairs = [f"{_shown_name(name)}={_shown(value)}" for name, value in rest.items()]
        level = self._paint(f"{method:<8}", _COLOURS.get(method, 0))
        line = " ".join([time_of_day, level, service, self._paint(event, 1), *pairs])
        if trace is None:
            return line
        return "\n    ".join([line, *map(_one_line, str(trace).splitlines())])

    def _paint(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    text = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no encoding


@functools.lru_cache(maxsize=512)
def _shown_name(name: str) -> str:
    return _one_line(name)


def _shown(value: Plain) -> str:
    if type(value) is int:
        # A decimal form of thousands of digits is an error.
        return repr(value) if abs(value) < 2**63 else f"{value:#x}"
    if type(value) in _NUMBERS:
        return repr(value)
    if isinstance(value, str) and value and not _NEEDS_QUOTES.search(value):
        return _one_line(value)
    return _one_line(repr(value))


class _Lines:
    """What structlog calls a wrapped logger: a method per level, each writes one line.

    A line is written when the method returns, and those that wait go before it. A stream that can't
    be written to costs what was to be written and nothing else: the requests go on.

    Args:
        render: the text of what waits.
        hold: seconds that what is given to `later` may wait where a loop runs; 0: nothing waits.
    """

    def __init__(
        self, stream: Stream | None, render: Callable[[Sequence[Finished]], str], hold: float
    ) -> None:
        self._stream = stream
        self._render = render
        self._hold = hold
        self._lock = threading.RLock()  # a signal's handler may log too
        self._waiting: list[Finished] = []
        self._timed: asyncio.AbstractEventLoop | None = None
        self._most = _most_waiting(stream) if hold else 1

    def info(self, line: str) -> None:
        with self._lock:
            self.flush()
            self._write(line + "\n")

    debug = warning = error = critical = info

    def now(self, one: Finished) -> None:
        text = self._render((one,))
        with self._lock:
            self._write(text)

    def later(self, one: Finished) -> None:
        waiting = self._waiting
        waiting.append(one)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if len(waiting) >= self._most:
            self.flush()
        elif loop is not self._timed:
            self._timed = loop
            loop.call_later(self._hold, self._tick)

    def _tick(self) -> None:
        self._timed = None
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            # Others may append at any time; nobody else takes away.
            waiting = self._waiting[:]
            if waiting:
                del self._waiting[: len(waiting)]
                self._write(self._render(waiting))

    def _write(self, text: str) -> None:
        stream = sys.stderr if self._stream is None else self._stream
        try:
            stream.write(text)
            stream.flush()
        except UnicodeEncodeError:
            self._write(text.encode("ascii", "backslashreplace").decode())
        except (AttributeError, OSError, RuntimeError, ValueError):
            return  # no stream, a full disk, a write inside a write (signals), closed


def _most_waiting(stream: Stream | None) -> int:
    try:
        mode = os.fstat((stream or sys.stderr).fileno()).st_mode  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):  # a stream without a file
        return _MOST_WAITING
    return _MOST_FOR_A_FILE if stat.S_ISREG(mode) else _MOST_WAITING


class Output:
    """A form, a level and a stream: a method per level writes a line, a disabled one does nothing.

    Immutable. structlog's configuration holds it as its logger factory, which is how every logger
    finds it, and structlog's own loggers go through the same processors.

    ``stream=None`` is ``sys.stderr`` as it is at the time of each line. ``format="auto"`` is the
    console form when the stream is a terminal, else JSON.

    With no stream and systemd's journal as standard error, JSON goes to the journal's socket, each
    line as an entry with its level and its fields; console lines get systemd's ``<N>`` prefix.

    Args:
        hold: seconds that the JSON line of a finished request may wait on its way to a stream, so
            that several travel in one write; it waits only where a loop runs.
    """

    def __init__(
        self,
        format: Format = "auto",
        level: Level = "info",
        stream: Stream | None = None,
        *,
        clock: Callable[[], float] = time.time,
        journal: str = SOCKET,
        hold: float = 0.0,
    ) -> None:
        terminal = bool(getattr(stream or sys.stderr, "isatty", bool)())
        json = JsonLine()
        last: Callable[[WrappedLogger, str, EventDict], str] = json
        console = format == "console" or (format == "auto" and terminal)
        if console:
            last = ConsoleLine(colours=terminal and "NO_COLOR" not in os.environ)
        self.level = level
        self._clock = clock
        self._complete = Complete(clock)
        self._last = last
        requests = RequestLines(json.general, self._complete.timestamp.of)
        plain = _Lines(stream, requests.text, hold)
        lines: _Lines | Prefixed | Journal = plain
        if stream is None and stderr_is_journal():
            lines = journal_lines(plain.info, console=console, path=journal)
        self._lines = lines
        self.flush = plain.flush
        weakref.finalize(self, plain.flush)  # at the interpreter's end too
        self.processors: list[structlog.typing.Processor] = [
            self._complete.processor,
            exception_text,
            last,
        ]
        self.wrapper_class = structlog.make_filtering_bound_logger(level)
        puts = {name: getattr(lines, name) for name in LEVELS[LEVELS.index(level) :]}
        self.debug, self.info, self.warning, self.error, self.critical = (
            functools.partial(self._write, puts[name], name) if name in puts else _nothing
            for name in LEVELS
        )
        self._requests = requests
        self._put: Callable[[Finished], None] = self._to_journal
        if lines is plain:
            self._put = plain.later if hold else plain.now
        self.request: Callable[[Mapping[str, Any], RequestFinished], None] = self._request_quickly
        if console or "info" not in puts:
            self.request = self._request

    def __call__(self, *_: Any) -> _Lines | Prefixed | Journal:
        return self._lines

    def _request_quickly(self, bound: Mapping[str, Any], event: RequestFinished) -> None:
        if event.outcome == "failed" or len(bound) > 1 or REQUEST_FIELDS.get():
            self._request(bound, event)
        else:
            self._put((event, bound["service"], self._clock()))

    def _to_journal(self, one: Finished) -> None:
        self._lines.info(self._requests.text((one,))[:-1])

    def _request(self, bound: Mapping[str, Any], event: RequestFinished) -> None:
        put = self.warning if event.outcome == "failed" else self.info
        put("request", bound, request_fields(event))

    def _write(
        self,
        put: Callable[[str], None],
        level: Level,
        event: object,
        bound: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        fields = self._complete(level, event, bound, given)
        if "exc_info" in fields:
            fields = dict(exception_text(None, level, fields))
        put(self._last(None, level, fields))


def _nothing(event: object, bound: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """What a disabled level costs."""


@functools.cache
def unconfigured() -> Output:
    """The output of a process that has configured nothing."""
    return Output()
