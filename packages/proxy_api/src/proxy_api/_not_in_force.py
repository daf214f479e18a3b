"""Settings that are accepted and don't act yet. A line goes when its setting is wired."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy_api._settings import Settings

__all__ = ["REDIS_IS_WIRED", "not_in_force"]

REDIS_IS_WIRED = False
"""Whether limits are shared by Redis: only then may several processes have limits."""

Where = Callable[["Settings"], Iterator[str]]


@dataclass(frozen=True, slots=True)
class _Line:
    where: Where
    """The paths at which the setting is given."""
    effect: str


def _top(path: str, given: Callable[[Settings], object]) -> Where:
    return lambda settings: iter([path] if given(settings) else [])


def _rows(section: str, name: str) -> Where:
    return lambda settings: (
        f"{section}[{i}].{name}"
        for i, row in enumerate(getattr(settings, section))
        if getattr(row, name) is not None
    )


_LINES: tuple[_Line, ...] = (
    _Line(
        lambda settings: (
            f"providers.{name}.api_keys"
            for name, provider in settings.providers.items()
            if len(provider.api_keys) > 1
        ),
        "the first key alone is used",
    ),
    _Line(_rows("models", "limits"), "the deployment has no limits"),
    _Line(_rows("models", "price"), "the cost is not computed"),
    _Line(_rows("models", "context"), "the window is not checked"),
    _Line(
        _top("routing.strategy", lambda s: s.routing.strategy != "weighted"),
        "deployments are chosen by weight",
    ),
    _Line(_top("routing.sticky", lambda s: s.routing.sticky), "no deployment is preferred"),
    _Line(
        _top("routing.retry.budget", lambda s: "budget" in s.routing.retry.model_fields_set),
        "retries are limited for each request alone",
    ),
    _Line(_rows("keys", "budget"), "costs are not limited"),
    _Line(_top("cache.enabled", lambda s: s.cache.enabled), "no answer is cached"),
    _Line(_top("context.enabled", lambda s: s.context.enabled), "nothing is condensed"),
    _Line(
        _top("observability.metrics.listen", lambda s: s.observability.metrics.listen),
        "metrics are served at /metrics of the one listener",
    ),
    _Line(_top("redis", lambda s: s.redis), "limits are counted in this process"),
    _Line(_top("database", lambda s: s.database), "nothing is stored"),
    _Line(_top("plugins", lambda s: s.plugins), "no plugin is loaded"),
)


def not_in_force(settings: Settings) -> tuple[str, ...]:
    """A sentence for each setting that was given and that this version doesn't act on."""
    return tuple(
        f"{path} is accepted, but not in force in this version: {line.effect}."
        for line in _LINES
        for path in line.where(settings)
    )
