"""What each deployment costs: the operator's price, else the published one, else nobody knows."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from proxy_api._plan import Cost
from proxy_api._settings_pricing import PriceSettings
from proxy_core.errors import ConfigurationError
from proxy_core.prices import DatedPrice, Price, PriceList, PublishedPrices
from proxy_core.providers import BUILT_IN, Registry

if TYPE_CHECKING:
    from proxy_api._settings import Settings
    from proxy_api._settings_models import ModelSettings

__all__ = ["cost_of", "costs_of", "told_price"]

_MOST_NAMES: Final = 1024
_ANY: Final = "*"
_NANO: Final = 1e9


def cost_of(
    settings: Settings, model: ModelSettings, published: PublishedPrices, kinds: Registry = BUILT_IN
) -> Cost | None:
    """What a deployment costs, whatever its target's ``*`` stands for; None: nobody knows.

    Raises ConfigurationError.
    """
    if model.price is not None:
        try:
            return _given(model.price)
        except ConfigurationError as error:
            told = f"the price of the model {model.name!r}: {error.message}"
            raise ConfigurationError(told, param="models") from None
    return (
        None
        if _ANY in model.upstream
        else _published(settings, model, published, kinds)(model.upstream)
    )


def costs_of(
    settings: Settings, model: ModelSettings, published: PublishedPrices, kinds: Registry = BUILT_IN
) -> Callable[[str], Cost | None] | None:
    """What it costs by the upstream's name, where a ``*`` leaves that open. It is looked up once.

    None: it needs no look.
    """
    if model.price is not None or _ANY not in model.upstream:
        return None
    find = _published(settings, model, published, kinds)
    find(model.upstream)  # the data is loaded now, not while somebody waits
    return lru_cache(maxsize=_MOST_NAMES)(find)


def told_price(cost: Cost | None) -> dict[str, Any] | None:
    """A price as JSON has it, in US dollars for a million tokens; None: it isn't known."""
    if cost is None:
        return None
    read, made = cost.rates
    return {
        "input": read / _NANO,
        "output": made / _NANO,
        "source": cost.source or "configured",
    }


def _given(rows: tuple[PriceSettings, ...]) -> Cost:
    dated = (DatedPrice(_price(row), _since(row.since)) for row in rows)
    ordered = sorted(dated, key=lambda row: row.since)
    return PriceList(ordered).settled()


def _since(day: date | None) -> float:
    return -math.inf if day is None else datetime.combine(day, time(), UTC).timestamp()


def _price(row: PriceSettings) -> Price:
    amounts = row.model_dump(exclude={"tiers", "since", "per_request"})
    tiers = {tier.above: tier.model_dump(exclude={"above"}) for tier in row.tiers}
    return Price.usd(**amounts, request=row.per_request, tiers=tiers)


def _published(
    settings: Settings, model: ModelSettings, published: PublishedPrices, kinds: Registry
) -> Callable[[str], Cost | None]:
    pricing, name = settings.pricing, model.provider
    row = settings.providers[name]
    kind, base_url = row.kind, row.base_url or kinds.row(row.kind).base_url
    factor = pricing.multiplier.get(name)

    def find(upstream: str) -> Cost | None:
        prices = published.find(kind, upstream, base_url) if pricing.published else None
        if prices is None:
            return None
        return (prices if factor is None else prices.times(factor)).settled()

    return find
