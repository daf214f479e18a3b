"""What a subject may ask for: limits as frozen values, and how people write them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from proxy_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Limit", "LimitState", "Limits", "Unit"]

Unit = Literal["requests", "tokens"]

_PERIODS: Mapping[str, float] = MappingProxyType(
    {
        name: seconds
        for names, seconds in (
            ("s sec second seconds", 1.0),
            ("m min minute minutes", 60.0),
            ("h hour hours", 3600.0),
            ("d day days", 86400.0),
        )
        for name in names.split()
    }
)
_NAMES: Mapping[float, str] = MappingProxyType(
    {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
)
_TEXT = re.compile(r"([0-9][0-9_]{0,17})\s*/\s*([0-9]{0,9})\s*([a-z]+)")
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests or tokens per so many seconds. Raises ConfigurationError if it can't be."""

    unit: Unit
    amount: int
    per: float
    """Seconds, counted to the microsecond."""

    def __post_init__(self) -> None:
        if self.unit not in ("requests", "tokens"):
            raise ConfigurationError(
                f"a limit counts requests or tokens, not {self.unit!r}", param="unit"
            )
        if type(self.amount) is not int or self.amount < 1:
            raise ConfigurationError(
                f"a limit's amount is {self.amount!r}: give a whole number, 1 or more",
                param="amount",
            )
        if not 1e-6 <= self.per < math.inf:
            raise ConfigurationError(
                f"a limit's period is {self.per!r}: give seconds above 0", param="per"
            )

    @classmethod
    def parse(cls, text: str, unit: Unit = "requests") -> Limit:
        """``60/minute``, ``1_000/hour``, ``5/10s``: a whole number per second, minute, hour or day.

        Raises ConfigurationError that shows the text and these forms.
        """
        match = _TEXT.fullmatch(text.strip().lower()) if len(text) <= _LONGEST else None
        seconds = _PERIODS.get(match[3]) if match else None
        times = int(match[2] or 1) if match else 0
        if match is None or seconds is None or times == 0:
            raise ConfigurationError(
                f"{text[:_LONGEST]!r} is no limit: write it like 60/minute, 1000/hour or 5/10s "
                "(a whole number per second, minute, hour or day)"
            )
        return cls(unit, int(match[1]), times * seconds)

    def __str__(self) -> str:
        return f"{self.amount}/{_NAMES.get(self.per) or f'{self.per:g}s'}"


@dataclass(frozen=True, slots=True)
class Limits:
    """All that binds one subject; None is no limit. Keep the value: the same object is quickest."""

    requests: Limit | None = None
    tokens: Limit | None = None
    concurrent: int | None = None

    def __post_init__(self) -> None:
        for unit in ("requests", "tokens"):
            limit = getattr(self, unit)
            if limit is not None and limit.unit != unit:
                raise ConfigurationError(
                    f"{unit} has a limit of {limit.unit}: give Limit.parse('{limit}', {unit!r})",
                    param=unit,
                )
        if self.concurrent is not None and self.concurrent < 1:
            raise ConfigurationError(
                f"concurrent is {self.concurrent!r}: give 1 or more, or leave it out",
                param="concurrent",
            )

    @classmethod
    def parse(
        cls,
        *,
        requests: str | None = None,
        tokens: str | None = None,
        concurrent: int | None = None,
    ) -> Limits:
        """As a configuration has it: ``Limits.parse(requests="60/minute", concurrent=10)``."""
        return cls(
            None if requests is None else Limit.parse(requests, "requests"),
            None if tokens is None else Limit.parse(tokens, "tokens"),
            concurrent,
        )


class LimitState(NamedTuple):
    """Where a subject stands with one limit, for an answer's headers."""

    name: Literal["requests", "tokens", "concurrent"]
    limit: int
    remaining: int
    """What fits at this moment, never below 0."""
    reset_after: float
    """Seconds until all of it is free again, if nothing more is asked; 0.0 for ``concurrent``."""
