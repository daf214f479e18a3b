"""Which deployments a request may go to, and in which order. Pure functions and values, no I/O."""

from __future__ import annotations

import difflib
import math
import random
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from proxy_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Match", "ModelTable", "Weighted", "expand_target", "match_model", "order_deployments"]

_T = TypeVar("_T")

_LONGEST_NAME = 256
"""Longer names match nothing: nobody's model is called so."""
_MOST_COMPARED = 32
"""Names that ``nearest`` compares in full, at about 0.1 ms each."""


class Weighted(Protocol):
    """What the order of deployments needs to know of each."""

    @property
    def order(self) -> int:
        """Lower is asked first; the next only when all of these have failed."""

    @property
    def weight(self) -> float:
        """The share of the traffic among those of the same order. Finite, 0 or more."""


_W = TypeVar("_W", bound=Weighted)


def order_deployments(
    candidates: Sequence[_W], rng: Callable[[], float] = random.random
) -> list[_W]:
    """The candidates in the order in which to ask them.

    Lower ``order`` first; within one, drawn by weight without replacement, so that who is first
    falls by the weights, and who is second by the weights of the rest. Weight 0 takes a candidate
    out of traffic: it is left out unless nothing else is there.

    The draw is Efraimidis and Spirakis' (2006), as waiting times: the shortest of
    ``-ln(1 - u) / weight`` wins. `rng` gives numbers from 0 to below 1.
    """
    live = [candidate for candidate in candidates if candidate.weight > 0]
    if len(live) == 1:
        return live
    if not live:
        drawn = [(candidate.order, rng(), at) for at, candidate in enumerate(candidates)]
        return [candidates[at] for _, _, at in sorted(drawn)]
    drawn = [
        (candidate.order, -math.log(1.0 - rng()) / candidate.weight, at)
        for at, candidate in enumerate(live)
    ]
    return [live[at] for _, _, at in sorted(drawn)]


def match_model(name: str, patterns: Iterable[str]) -> tuple[str, str] | None:
    """The pattern that fits a name best, and what its ``*`` stands for; None when none does.

    The exact name beats each pattern; then the most literal text wins, of equals the longer
    beginning, then the first. ``*`` may stand for nothing; an exact name gives "". For many
    lookups, build a ModelTable.

    Raises ConfigurationError for a pattern with more than one ``*``.
    """
    found = ModelTable((pattern, None) for pattern in patterns).lookup(name)
    return None if found is None else (found.pattern, found.wildcard)


def expand_target(target: str, wildcard: str) -> str:
    """``expand_target("claude/claude-*", "opus-4")`` is ``claude/claude-opus-4``.

    Without a ``*`` the target stays as it is. A ``*`` inside of `wildcard` is plain text.
    """
    return target.replace("*", wildcard)


@dataclass(frozen=True, slots=True)
class Match(Generic[_T]):
    """What a name was found under: the configured pattern, what its ``*`` stands for, the pool."""

    pattern: str
    wildcard: str
    values: tuple[_T, ...]


@dataclass(frozen=True, slots=True)
class _Pattern(Generic[_T]):
    text: str
    prefix: str
    suffix: str
    values: tuple[_T, ...]


class ModelTable(Generic[_T]):
    """Names and patterns with one ``*`` each, built once from rows; a repeated name is a pool.

    An exact name is one look in a dict; otherwise each pattern costs two comparisons of text,
    never more than the name is long.

    Args:
        rows: (name, value) as configured.

    Raises:
        ConfigurationError: a name is empty, too long, or has more than one ``*``.
    """

    def __init__(self, rows: Iterable[tuple[str, _T]]) -> None:
        pools: dict[str, list[_T]] = {}
        for name, value in rows:
            _check(name)
            pools.setdefault(name, []).append(value)
        self._all = tuple(pools)
        self._exact = {
            name: Match(name, "", tuple(values))
            for name, values in pools.items()
            if "*" not in name
        }
        patterns = [
            _Pattern(name, *_halves(name), tuple(values))
            for name, values in pools.items()
            if "*" in name
        ]
        self._patterns = sorted(patterns, key=lambda p: (-len(p.text), -len(p.prefix)))
        self.knows: Callable[[str], bool] = self._finds if patterns else self._exact.__contains__
        """Whether ``lookup`` finds a name."""

    def overlapping(self, pattern: str) -> Iterator[Match[_T]]:
        """What some name that fits `pattern` may be found under; a wildcard stays empty."""
        if "*" not in pattern:
            found = self.lookup(pattern)
            yield from () if found is None else (found,)
            return
        asked = ModelTable([(pattern, None)])
        yield from (match for name, match in self._exact.items() if asked.lookup(name))
        prefix, suffix = _halves(pattern)
        for one in self._patterns:
            if _begin_alike(prefix, one.prefix) and _begin_alike(suffix[::-1], one.suffix[::-1]):
                yield Match(one.text, "", one.values)

    def lookup(self, name: str) -> Match[_T] | None:
        """Where `name` belongs: the exact name before all patterns, then the most literal one."""
        exact = self._exact.get(name)
        if exact is not None:
            return exact
        size = len(name)
        if not 0 < size <= _LONGEST_NAME:
            return None
        for pattern in self._patterns:
            prefix, suffix = pattern.prefix, pattern.suffix
            end = size - len(suffix)
            if end >= len(prefix) and name.startswith(prefix) and name.endswith(suffix):
                return Match(pattern.text, name[len(prefix) : end], pattern.values)
        return None

    def _finds(self, name: str) -> bool:
        return self.lookup(name) is not None

    def names(self, *, patterns: bool = False) -> tuple[str, ...]:
        """The configured names in their order, with or without those that have a ``*``."""
        return self._all if patterns else tuple(self._exact)

    def nearest(self, name: str) -> str | None:
        """The exact name that was probably meant, None when none is near."""
        if len(name) > _LONGEST_NAME:
            return None
        asked = name.lower()
        known = {exact.lower(): exact for exact in self._exact}
        if len(known) > _MOST_COMPARED:  # a full comparison of all costs too much
            alike = sorted(known, key=lambda other: _shared(asked, other), reverse=True)
            known = {other: known[other] for other in alike[:_MOST_COMPARED]}
        found = difflib.get_close_matches(asked, known, n=1)
        return known[found[0]] if found else None


def _check(name: str) -> None:
    if not 0 < len(name) <= _LONGEST_NAME:
        raise ConfigurationError(
            f"the model name {name[:40]!r} has {len(name)} characters: give 1 to {_LONGEST_NAME}"
        )
    if name.count("*") > 1:
        raise ConfigurationError(
            f"the model name {name!r} has more than one *: leave one, at the place that varies"
        )


def _halves(name: str) -> tuple[str, str]:
    prefix, _, suffix = name.partition("*")
    return prefix, suffix


def _begin_alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _shared(one: str, other: str) -> int:
    """How many characters two names begin with alike."""
    return len(commonprefix((one, other)))  # noqa: RUF071 - characters are what is meant
