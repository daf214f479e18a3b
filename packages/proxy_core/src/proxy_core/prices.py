"""What tokens cost, in whole numbers: a nano-dollar is a billionth of a US dollar."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Final, Self

import msgspec

from proxy_core._types import Usage
from proxy_core.errors import ConfigurationError

__all__ = ["Price"]

_MILLION: Final = 1_000_000
_NANO: Final = 1_000_000_000
_DEAREST: Final = 1_000_000
"""Dollars for a million tokens that nobody asks; more is a slip of the pen."""


class Price(msgspec.Struct, frozen=True):
    """Nano-dollars for a million tokens.

    ::

        price = Price.usd(input="0.25", output="2")  # dollars for a million tokens
        price.of(usage)  # nano-dollars, rounded up
    """

    input: int
    output: int = 0
    cached: int = 0
    """Of the input, what the provider had cached."""

    @classmethod
    def usd(
        cls,
        *,
        input: str | Decimal,
        output: str | Decimal = "0",
        cached: str | Decimal | None = None,
    ) -> Self:
        """From US dollars for a million tokens; without ``cached``, such tokens cost as others do.

        Raises ConfigurationError for what is no amount of money.
        """
        whole = _nano("input", input)
        return cls(
            input=whole,
            output=_nano("output", output),
            cached=whole if cached is None else _nano("cached", cached),
        )

    def of(self, usage: Usage) -> int:
        """Nano-dollars of one answer, rounded up."""
        fresh = usage.input_tokens - usage.cached_tokens
        total = (
            fresh * self.input
            + usage.cached_tokens * self.cached
            + usage.output_tokens * self.output
        )
        return -(-total // _MILLION)

    def dearest(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-dollars that so many tokens cost at most: none of them cached."""
        total = input_tokens * max(self.input, self.cached) + output_tokens * self.output
        return -(-total // _MILLION)


def _nano(field: str, amount: str | Decimal) -> int:
    try:
        dollars = Decimal(amount)
    except InvalidOperation:
        dollars = Decimal("NaN")
    if not (dollars.is_finite() and 0 <= dollars <= _DEAREST):
        raise ConfigurationError(
            f"the price {field} is {amount!r}: give US dollars for a million tokens, such as 0.25",
            param=field,
        )
    return int((dollars * _NANO).to_integral_value(ROUND_CEILING))
