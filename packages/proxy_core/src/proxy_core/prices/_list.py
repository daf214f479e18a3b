"""Prices in time: which one holds at a moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final, NamedTuple

from proxy_core._types import Usage
from proxy_core.errors import ConfigurationError
from proxy_core.prices._price import Price

__all__ = ["DatedPrice", "PriceList"]

_DAY: Final = 86400
_AHEAD: Final = 3600
"""Seconds after which an answer that begins now has ended."""


class DatedPrice(NamedTuple):
    """A price and when it holds."""

    price: Price
    since: float = -math.inf
    """Unix time."""
    daily: tuple[float, float] | None = None
    """Seconds of the day in UTC, from and until; the second may be of the next day."""

    def holds(self, unix: float) -> bool:
        """Whether it may be asked for at this time."""
        if unix < self.since:
            return False
        if self.daily is None:
            return True
        begin, end = self.daily
        second = unix % _DAY
        return begin <= second < end if begin <= end else second >= begin or second < end

    def turns(self, unix: float) -> float:
        """The next time at which the answer to that may be another one."""
        if unix < self.since:
            return self.since
        if self.daily is None:
            return math.inf
        day = unix - unix % _DAY
        return min(at for edge in self.daily for at in (day + edge, day + edge + _DAY) if at > unix)


class PriceList:
    """The prices of one model in time. The last row that holds is the price, else the first.

    Which one it is, is looked up when the next date has come, not for each request.
    Raises ConfigurationError without a row.
    """

    __slots__ = ("_clock", "_price", "_since", "_until", "rows")

    def __init__(
        self, rows: Iterable[DatedPrice], *, clock: Callable[[], float] = time.time
    ) -> None:
        self.rows = tuple(rows)
        if not self.rows:
            raise ConfigurationError("a list of prices is empty: give one price or more")
        self._clock = clock
        self._turn(clock())

    def at(self, unix: float) -> Price:
        """The price that holds then."""
        if not self._since <= unix < self._until:
            self._turn(unix)
        return self._price

    def of(self, usage: Usage) -> int:
        """Nano-dollars of one answer that ends now, rounded up."""
        return self.at(self._clock()).of(usage)

    def dearest(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-dollars that so many tokens cost at most, by the price of now and of an hour on."""
        now = self._clock()
        most = self.at(now).dearest(input_tokens, output_tokens)
        if now + _AHEAD < self._until:
            return most
        return max(most, self._holding(now + _AHEAD).dearest(input_tokens, output_tokens))

    def times(self, factor: Decimal) -> PriceList:
        """These prices with a discount (0.9) or a surcharge (1.1), exactly."""
        rows = (row._replace(price=row.price.times(factor)) for row in self.rows)
        return PriceList(rows, clock=self._clock)

    @property
    def rates(self) -> tuple[float, float]:
        """Nano-dollars for a million tokens of input and of output at this time."""
        return self.at(self._clock()).rates

    @property
    def source(self) -> str:
        """Who published it; empty: nobody, it was given."""
        return self._price.source

    def settled(self) -> Price | PriceList:
        """The price alone when it is the last: then no clock is asked."""
        return self._price if self._until == math.inf else self

    def _turn(self, unix: float) -> None:
        self._price = self._holding(unix)
        self._since = unix
        self._until = min(row.turns(unix) for row in self.rows)

    def _holding(self, unix: float) -> Price:
        held = (row.price for row in reversed(self.rows) if row.holds(unix))
        return next(held, self.rows[0].price)
