"""The logger that the other packages hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import structlog

from proxy_logging._events import RequestFinished
from proxy_logging._output import Level, Output, unconfigured

__all__ = ["StructuredLogger"]


@final
class StructuredLogger:
    """A named logger whose lines are fields: ``logger.info("started", port=4000)``.

    Immutable: `bind` returns a new one. It needs no configuration (JSON lines on standard error, a
    readable form when that is a terminal) and follows `configure_logging` whenever that is called.
    Logging never raises because of a value or a stream.

    Args:
        service: who speaks; the ``service`` field of every line.
    """

    __slots__ = ("_fields",)

    def __init__(self, service: str) -> None:
        self._fields: Final[dict[str, Any]] = {"service": service}

    def bind(self, **fields: object) -> StructuredLogger:
        """A logger with these fields on every line, besides those it has."""
        child = StructuredLogger(self._fields["service"])
        child._fields.update(fields)
        return child

    def debug(self, event: str, /, **fields: object) -> None:
        """Write a line for who looks for a fault."""
        _output().debug(event, self._fields, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Write a line about what is as it should be."""
        _output().info(event, self._fields, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Write a line about what somebody should look at."""
        _output().warning(event, self._fields, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Write a line about what failed."""
        _output().error(event, self._fields, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Write an error with the traceback of the exception that is being handled."""
        _output().error(event, self._fields, {"exc_info": True, **fields})

    def critical(self, event: str, /, **fields: object) -> None:
        """Write a line about what ends the process."""
        _output().critical(event, self._fields, fields)

    def write(self, level: Level, event: str, fields: Mapping[str, object]) -> None:
        """Write a line at a level by name, with fields that are a mapping already."""
        getattr(_output(), level)(event, self._fields, fields)

    def request(self, event: RequestFinished) -> None:
        """Write the line of a finished request: a warning when it failed, else at the level info.

        The latter may wait, as `configure_logging` says. What isn't set isn't on it; durations are
        in milliseconds, and a model's name is cut at 256 characters.
        """
        _output().request(self._fields, event)

    def flush(self) -> None:
        """Write the lines of requests that wait, whichever logger they came from."""
        _output().flush()

    def __repr__(self) -> str:
        return f"StructuredLogger({self._fields['service']!r})"


def _output() -> Output:
    """Ask structlog's configuration, the one place that knows; so a new one counts at once."""
    factory = structlog.get_config()["logger_factory"]
    return factory if isinstance(factory, Output) else unconfigured()
