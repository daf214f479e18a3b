"""Settings that are accepted and don't act yet. A line goes when its setting is wired."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy_api._settings import Settings

__all__ = ["not_in_force"]

Where = Callable[["Settings"], Iterator[str]]


@dataclass(frozen=True, slots=True)
class _Line:
    where: Where
    """The paths at which the setting is given."""
    effect: str


def _top(path: str, given: Callable[[Settings], object]) -> Where:
    return lambda settings: iter([path] if given(settings) else [])


_LINES: tuple[_Line, ...] = (
    _Line(_top("cache.enabled", lambda s: s.cache.enabled), "no answer is cached"),
    _Line(_top("context.enabled", lambda s: s.context.enabled), "nothing is condensed"),
    _Line(
        _top("observability.metrics.listen", lambda s: s.observability.metrics.listen),
        "metrics are served at /metrics of the one listener",
    ),
    _Line(_top("database", lambda s: s.database), "nothing is stored"),
)


def not_in_force(settings: Settings) -> tuple[str, ...]:
    """A sentence for each setting that was given and that this version doesn't act on."""
    return tuple(
        f"{path} is accepted, but not in force in this version: {line.effect}."
        for line in _LINES
        for path in line.where(settings)
    )
