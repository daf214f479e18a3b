"""Prices are whole numbers, and nothing is cheaper than it is."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core import Usage
from proxy_core.errors import ConfigurationError
from proxy_core.prices import Price

dollars = st.decimals("0", "1000", places=4)
tokens = st.integers(0, 2_000_000)


def test_a_price_is_dollars_for_a_million_tokens() -> None:
    """A million tokens of input and of output cost what the list says, in nano-dollars."""
    price = Price.usd(input="0.25", output="2")
    assert price.of(Usage(1_000_000, 1_000_000)) == 2_250_000_000


def test_cached_tokens_have_their_own_price() -> None:
    """Of the input, what was cached is charged as such; without a price of its own, as any."""
    usage = Usage(1_000_000, 0, cached_tokens=400_000)
    assert Price.usd(input="1", cached="0.1").of(usage) == 640_000_000
    assert Price.usd(input="1").of(usage) == 1_000_000_000


@given(dollars, dollars, dollars, tokens, tokens, st.integers(0, 100))
def test_the_cost_is_exact_and_rounded_up(
    read: Decimal, made: Decimal, kept: Decimal, prompt: int, answer: int, share: int
) -> None:
    """It is the exact cost or less than a nano-dollar above it, and never above the dearest."""
    cached = prompt * share // 100
    price = Price.usd(input=read, output=made, cached=kept)
    exact = (
        Fraction(read) * (prompt - cached) + Fraction(kept) * cached + Fraction(made) * answer
    ) * 1000
    cost = price.of(Usage(prompt, answer, cached))
    assert 0 <= cost - exact < 1
    assert cost <= price.dearest(prompt, answer)


@pytest.mark.parametrize("amount", ["-1", "free", "NaN", "Infinity", "1e9"])
def test_what_is_no_price_is_refused_by_name(amount: str) -> None:
    """The error names the field and shows the value."""
    with pytest.raises(ConfigurationError, match="the price output is") as caught:
        Price.usd(input="1", output=amount)
    assert caught.value.param == "output"
    assert repr(amount) in caught.value.message
