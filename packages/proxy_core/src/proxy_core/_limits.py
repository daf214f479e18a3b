"""What a subject may ask for: limits as frozen values, and how people write them."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from proxy_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Budget", "Limit", "LimitName", "LimitState", "Limits", "Period", "Unit"]

Unit = Literal["requests", "tokens", "input_tokens", "output_tokens"]
LimitName = Literal["requests", "tokens", "input_tokens", "output_tokens", "concurrent", "budget"]
Period = Literal["hour", "day", "week", "month", "total"]
UNITS: tuple[Unit, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
PERIODS: tuple[Period, ...] = ("hour", "day", "week", "month", "total")
NANO = 1_000_000_000
"""Nano-dollars in a dollar."""
MOST_NANO_USD = 2**53
"""Nine million dollars: what a store's numbers hold exactly."""

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
    """So many of a unit per so many seconds. Raises ConfigurationError if it can't be.

    ``tokens`` counts input and output together.
    """

    unit: Unit
    amount: int
    per: float
    """Seconds, counted to the microsecond."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigurationError(
                f"a limit counts {', '.join(UNITS)}, not {self.unit!r}", param="unit"
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
class Budget:
    """So much money per hour, day, week (from Monday) or month of UTC, or in all.

    ``hard`` refuses what doesn't fit in the rest; a soft budget is only told by ``look``.
    """

    nano_usd: int
    """Nano-dollars: whole numbers, so that nothing is rounded."""
    per: Period = "month"
    hard: bool = False

    def __post_init__(self) -> None:
        if type(self.nano_usd) is not int or not 0 < self.nano_usd <= MOST_NANO_USD:
            raise ConfigurationError(
                f"a budget is {self.nano_usd!r}: give whole nano-dollars, 1 to {MOST_NANO_USD}",
                param="nano_usd",
            )
        if self.per not in PERIODS:
            raise ConfigurationError(
                f"a budget's period is {self.per!r}: give one of {', '.join(PERIODS)}", param="per"
            )

    @classmethod
    def usd(
        cls, amount: Decimal | float | str, per: Period = "month", *, hard: bool = False
    ) -> Self:
        """``Budget.usd("12.50", "month", hard=True)``: dollars, to the nano-dollar."""
        try:
            nano = Decimal(str(amount)) * NANO
            whole = int(nano)
        except (ArithmeticError, ValueError) as error:
            raise ConfigurationError(
                f"{amount!r} is no sum of money: give dollars, such as 12.50", param="usd"
            ) from error
        if whole != nano:
            raise ConfigurationError(
                f"a budget of {amount} dollars: no more than 9 digits behind the point", param="usd"
            )
        return cls(whole, per, hard)

    def __str__(self) -> str:
        return f"{dollars(self.nano_usd)} {'in all' if self.per == 'total' else 'a ' + self.per}"


def dollars(nano_usd: int) -> str:
    """``$12.50``, and more digits only where they are needed."""
    whole, rest = divmod(nano_usd, NANO)
    return f"${whole}.{f'{rest:09d}'.rstrip('0').ljust(2, '0')}"


@dataclass(frozen=True, slots=True)
class Limits:
    """All that binds one subject; None is no limit. Keep the value: the same object is quickest."""

    requests: Limit | None = None
    tokens: Limit | None = None
    """Input and output together."""
    concurrent: int | None = None
    input_tokens: Limit | None = None
    output_tokens: Limit | None = None
    budget: Budget | None = None
    scope: str = ""
    """What the subject is, for whoever is refused: key, user, model. Empty: it isn't told."""
    fewest_tokens: int = field(init=False, repr=False, compare=False)
    """The smallest amount of the limits of tokens: what needs no more of them fits each."""

    def __post_init__(self) -> None:
        for unit in UNITS:
            limit = getattr(self, unit)
            if limit is not None and limit.unit != unit:
                raise ConfigurationError(
                    f"{unit} has a limit of {limit.unit}: give Limit.parse('{limit}', {unit!r})",
                    param=unit,
                )
        amounts = [limit.amount for limit in self.rates[1:] if limit is not None]
        object.__setattr__(self, "fewest_tokens", min(amounts, default=sys.maxsize))
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
        input_tokens: str | None = None,
        output_tokens: str | None = None,
        budget: Budget | None = None,
        scope: str = "",
    ) -> Self:
        """As a configuration has it: ``Limits.parse(requests="60/minute", concurrent=10)``."""
        return cls(
            None if requests is None else Limit.parse(requests, "requests"),
            None if tokens is None else Limit.parse(tokens, "tokens"),
            concurrent,
            None if input_tokens is None else Limit.parse(input_tokens, "input_tokens"),
            None if output_tokens is None else Limit.parse(output_tokens, "output_tokens"),
            budget,
            scope,
        )

    @property
    def rates(self) -> tuple[Limit | None, ...]:
        """In the order of UNITS."""
        return (self.requests, self.tokens, self.input_tokens, self.output_tokens)


class LimitState(NamedTuple):
    """Where a subject stands with one limit, for an answer's headers."""

    name: LimitName
    limit: int
    """Of a budget: nano-dollars."""
    remaining: int
    """What fits at this moment, never below 0."""
    reset_after: float
    """Seconds until all of it is free again, if nothing more is asked; 0.0 for ``concurrent``."""
