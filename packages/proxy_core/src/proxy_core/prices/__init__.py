"""What tokens cost: prices as whole numbers, their dates, and those that are published."""

from __future__ import annotations

from proxy_core.prices._list import DatedPrice, PriceList
from proxy_core.prices._price import KINDS, Amount, Amounts, Price, Tier
from proxy_core.prices._published import PublishedPrices, price_of

__all__ = [
    "Amount",
    "Amounts",
    "DatedPrice",
    "KINDS",
    "Price",
    "PriceList",
    "PublishedPrices",
    "Tier",
    "price_of",
]
