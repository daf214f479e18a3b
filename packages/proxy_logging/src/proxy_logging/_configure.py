"""The one call with which a process says how its log shall look."""

from __future__ import annotations

import logging

import structlog

from proxy_logging._output import FORMATS, LEVELS, Format, Level, Output, Stream

__all__ = ["configure_logging", "use"]

_HOLD = 0.05
"""Seconds that lines of requests wait for others, so that one write takes several."""

_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
# They write a line for each request of ours when they are let.
_TALKATIVE = ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "asyncio")


def configure_logging(
    format: Format = "auto",
    level: Level = "info",
    stream: Stream | None = None,
    *,
    service: str | None = None,
) -> None:
    """Set the form of every log line of this process, the standard library's included.

    Loggers that exist already follow. The root logger's plain stream handlers are replaced by ours,
    and uvicorn's loggers lose theirs: pass ``log_config=None`` to uvicorn so that it doesn't set
    them again. HTTP client libraries speak from ``warning`` up, except at level ``debug``.

    JSON lines of finished requests that didn't fail are written eight at a time, or after 50 ms,
    where a loop runs: a process that is killed loses at most those. Any other line writes them
    first, and so do the process's end and `StructuredLogger.flush`.

    Args:
        format: ``json``, ``console``, or ``auto``: console on a terminal, else JSON.
        level: lines below it are dropped at the price of a call.
        stream: where the lines go; standard error when None, because standard output belongs to
            what a command was asked to print. When standard error is systemd's journal, JSON goes
            to the journal as entries with a priority and fields.
        service: the ``service`` of the standard library's lines, so that a process has one name;
            when None, the first part of their logger's name. ``logger`` has the whole name.

    Raises:
        ValueError: for an unknown format or level.
    """
    _check("format", format, FORMATS)
    _check("level", level, LEVELS)
    output = Output(format, level, stream, hold=_HOLD)
    use(output)
    _route_stdlib(output, service)


def use(output: Output) -> None:
    """Make structlog, and with it every StructuredLogger, write to this output."""
    before = structlog.get_config()["logger_factory"]
    if isinstance(before, Output):
        before.flush()
    structlog.configure(
        processors=output.processors,
        context_class=dict,
        wrapper_class=output.wrapper_class,
        logger_factory=output,
        cache_logger_on_first_use=False,
    )


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


class StdlibHandler(logging.Handler):
    """Writes the standard library's records through the same processors."""

    def __init__(self, output: Output, service: str | None = None) -> None:
        super().__init__(output.level.upper())
        self._output = output
        self._service = service

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except Exception:  # noqa: BLE001 - the wrong number of arguments for the message
            event = str(record.msg)
        service = self._service or record.name.partition(".")[0]
        fields: dict[str, object] = {"service": service, "logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        getattr(self._output, _method(record.levelno))(event, {}, fields)


def _method(levelno: int) -> Level:
    """The nearest level at or below a number (uvicorn's own TRACE is below debug)."""
    return LEVELS[min(max(levelno // 10 - 1, 0), len(LEVELS) - 1)]


def _route_stdlib(output: Output, service: str | None) -> None:
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        if isinstance(handler, StdlibHandler) or type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    root.addHandler(StdlibHandler(output, service))
    root.setLevel(output.level.upper())
    for name in _UVICORN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    quiet = logging.NOTSET if output.level == "debug" else logging.WARNING
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(quiet)
