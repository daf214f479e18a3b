"""What tokens cost, in whole numbers: a nano-dollar is a billionth of a US dollar."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final, Required, Self, TypedDict, Unpack

import msgspec

from proxy_core._types import Usage
from proxy_core.errors import ConfigurationError

__all__ = ["KINDS", "Amount", "Amounts", "Price", "Tier"]

Amount = str | Decimal

_MILLION: Final = 1_000_000
_NANO: Final = 1_000_000_000
_NANO_DIGITS: Final = 9
_DEAREST: Final = 1_000_000
"""Dollars for a million tokens that nobody asks; more is a slip of the pen."""
_MOST_DIGITS: Final = 30
"""Behind the point. Published prices have up to 17, where they were divided by three."""
_ELSE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cached": "input",
        "cache_write": "input",
        "cache_write_1h": "cache_write",
        "audio_input": "input",
        "image_input": "input",
        "audio_output": "output",
        "image_output": "output",
        "reasoning": "output",
    }
)
"""As which other kind tokens are charged that have no price of their own."""
KINDS: Final = ("input", "output", *_ELSE)
"""The kinds of tokens that may have a price."""
_INPUT: Final = ("input", "cached", "cache_write", "cache_write_1h", "audio_input", "image_input")
_OUTPUT: Final = ("output", "audio_output", "image_output", "reasoning")
_DETAILS: Final = tuple(kind for kind in _ELSE if kind != "cached")


class Amounts(TypedDict, total=False):
    """US dollars for a million tokens of a kind; ``request``: US dollars for one request."""

    input: Required[Amount]
    output: Amount | None
    cached: Amount | None
    cache_write: Amount | None
    cache_write_1h: Amount | None
    audio_input: Amount | None
    audio_output: Amount | None
    image_input: Amount | None
    image_output: Amount | None
    reasoning: Amount | None
    request: Amount | None


class Tier(msgspec.Struct, frozen=True):
    """A long prompt's price: it holds for the whole request, not for what is above alone."""

    above: int
    """More tokens of input than this."""
    price: Price


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes: nano-dollars for ``per`` tokens of each kind.

    ::

        price = Price.usd(input="0.25", output="2", cached="0.025")  # dollars for a million tokens
        price.of(usage)  # nano-dollars of one answer, rounded up
    """

    input: int
    output: int
    cached: int
    """Of the input, what the provider had cached."""
    cache_write: int
    cache_write_1h: int
    audio_input: int
    audio_output: int
    image_input: int
    image_output: int
    reasoning: int
    request: int = 0
    """For ``per`` requests."""
    per: int = _MILLION
    """As many that every rate is whole."""
    tiers: tuple[Tier, ...] = ()
    """The shortest first."""
    source: str = ""
    """Who published it; empty: nobody, it was given."""
    _above: int = sys.maxsize
    _is_detailed: bool = False

    def __post_init__(self) -> None:
        if self.tiers:
            msgspec.structs.force_setattr(self, "_above", self.tiers[0].above)
        differs = any(getattr(self, kind) != getattr(self, _ELSE[kind]) for kind in _DETAILS)
        msgspec.structs.force_setattr(self, "_is_detailed", differs)

    @classmethod
    def usd(
        cls,
        *,
        tiers: Mapping[int, Mapping[str, Amount | None]] | None = None,
        source: str = "",
        **amounts: Unpack[Amounts],
    ) -> Self:
        """From US dollars for a million tokens, and ``request`` in US dollars for one.

        What has no price of its own costs what its like does: cached, audio and image input as
        input, ``cache_write_1h`` as ``cache_write``, audio, images and reasoning as output.
        ``tiers`` has the prices of prompts with more tokens than its keys; what a tier doesn't say
        is as it was below. Raises ConfigurationError for what is no amount of money.
        """
        base: dict[str, Amount] = {k: v for k, v in amounts.items() if v is not None}  # type: ignore[misc]
        changed, steps = dict(base), []
        for above, changes in sorted((tiers or {}).items()):
            changed |= {kind: amount for kind, amount in changes.items() if amount is not None}
            steps.append(Tier(above, cls._of_amounts(changed, (), source)))
        return cls._of_amounts(base, tuple(steps), source)

    @classmethod
    def _of_amounts(
        cls, amounts: Mapping[str, Amount], tiers: tuple[Tier, ...], source: str
    ) -> Self:
        dollars = {kind: _dollars(kind, amount) for kind, amount in amounts.items()}
        dollars.setdefault("output", Decimal(0))
        for kind, other in _ELSE.items():
            dollars.setdefault(kind, dollars[other])
        per = _MILLION * 10 ** max(0, _digits(dollars.values()) - _NANO_DIGITS)
        request = _whole(dollars.pop("request", Decimal(0)), per)
        rates: dict[str, Any] = {
            kind: _whole(amount, per // _MILLION) for kind, amount in dollars.items()
        }
        return cls(**rates, request=request, per=per, tiers=tiers, source=source)

    def of(self, usage: Usage) -> int:
        """Nano-dollars of one answer, rounded up."""
        read, kept = usage.input_tokens, usage.cached_tokens
        if read > self._above:
            return self._tier(read).of(usage)
        if self._is_detailed and _has_details(usage):
            total = self._detailed(usage)
        else:
            # More tokens cached than there are would be paid back.
            if kept > read:  # noqa: PLR1730 - min() would be a call for each answer
                kept = read
            total = (
                (read - kept) * self.input + kept * self.cached + usage.output_tokens * self.output
            )
        return -(-(total + self.request) // self.per)

    def dearest(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-dollars that so many tokens, or fewer, cost at most, whatever kind they are of."""
        reached = [tier.price for tier in self.tiers if input_tokens > tier.above]
        return max(_most(price, input_tokens, output_tokens) for price in (self, *reached))

    def times(self, factor: Decimal) -> Self:
        """This price with a discount (0.9) or a surcharge (1.1), exactly."""
        by, over = factor.as_integer_ratio()
        rates = {kind: getattr(self, kind) * by for kind in (*KINDS, "request")}
        tiers = tuple(Tier(tier.above, tier.price.times(factor)) for tier in self.tiers)
        return msgspec.structs.replace(self, **rates, per=self.per * over, tiers=tiers)

    @property
    def rates(self) -> tuple[float, float]:
        """Nano-dollars for a million tokens of input and of output, to compare prices by."""
        return self.input * _MILLION / self.per, self.output * _MILLION / self.per

    def at(self, unix: float) -> Price:
        """The price at a time: this one holds always."""
        return self

    def _tier(self, read: int) -> Price:
        return next(tier.price for tier in reversed(self.tiers) if read > tier.above)

    def _detailed(self, usage: Usage) -> int:
        written = usage.cache_write_tokens
        hour = min(usage.cache_write_1h_tokens, written)
        made = _shares(
            usage.output_tokens,
            (usage.audio_output_tokens, self.audio_output),
            (usage.image_output_tokens, self.image_output),
            (usage.reasoning_tokens, self.reasoning),
            rest=self.output,
        )
        # What is both cached and audio isn't told apart: the part that comes first here is whole,
        # and nobody publishes cached audio that costs more than audio.
        return made + _shares(
            usage.input_tokens,
            (usage.audio_input_tokens, self.audio_input),
            (usage.image_input_tokens, self.image_input),
            (hour, self.cache_write_1h),
            (written - hour, self.cache_write),
            (usage.cached_tokens, self.cached),
            rest=self.input,
        )


def _most(price: Price, input_tokens: int, output_tokens: int) -> int:
    """At the dearest rates, the tiers aside."""
    read: int = max(getattr(price, kind) for kind in _INPUT)
    made: int = max(getattr(price, kind) for kind in _OUTPUT)
    return -(-(price.request + input_tokens * read + output_tokens * made) // price.per)


def _has_details(usage: Usage) -> int:
    return (
        usage.cache_write_tokens
        or usage.reasoning_tokens
        or usage.audio_input_tokens
        or usage.audio_output_tokens
        or usage.image_input_tokens
        or usage.image_output_tokens
    )


def _shares(left: int, *parts: tuple[int, int], rest: int) -> int:
    """Tokens by their kinds and what those cost; more tokens than there are cost nothing."""
    total = 0
    for tokens, rate in parts:
        if tokens:
            some = min(tokens, left)
            left -= some
            total += some * rate
    return total + left * rest


def _dollars(field: str, amount: Amount) -> Decimal:
    try:
        dollars = Decimal(amount)
    except InvalidOperation:
        dollars = Decimal("NaN")
    if not (dollars.is_finite() and 0 <= dollars <= _DEAREST):
        raise ConfigurationError(
            f"the price {field} is {amount}: give US dollars for a million tokens, from 0 to "
            f"{_DEAREST}, such as 0.25",
            param=field,
        )
    if _digits([dollars]) > _MOST_DIGITS:
        raise ConfigurationError(
            f"the price {field} has more than {_MOST_DIGITS} digits behind the point", param=field
        )
    return dollars


def _digits(amounts: Iterable[Decimal]) -> int:
    """The most digits behind the point."""
    return max(-int(amount.as_tuple().exponent) for amount in amounts)


def _whole(dollars: Decimal, times: int) -> int:
    """Nano-dollars, ``times`` over; a Decimal's own multiplication would round."""
    return int(Fraction(dollars) * _NANO * times)
