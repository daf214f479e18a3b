"""Published prices: the data of genai-prices, as it came in its wheel. Nothing is fetched.

https://github.com/pydantic/genai-prices has the data, its sources and the rules of matching.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from proxy_core.errors import ConfigurationError
from proxy_core.prices._list import DatedPrice, PriceList
from proxy_core.prices._price import Amounts, Price

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

__all__ = ["PublishedPrices", "price_of"]

_PROVIDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic": "anthropic",
        "azure": "azure",
        "baseten": "baseten",
        "bedrock": "aws",
        "cerebras": "cerebras",
        "cohere": "cohere",
        "deepseek": "deepseek",
        "fireworks": "fireworks",
        "gemini": "google",
        "groq": "groq",
        "minimax": "minimax",
        "mistral": "mistral",
        "moonshot": "moonshotai",
        "novita": "novita",
        "openai": "openai",
        "openrouter": "openrouter",
        "perplexity": "perplexity",
        "together": "together",
        "vertex": "google",
        "xai": "x-ai",
        "zai": "zai",
        "zhipu": "zhipuai",
    }
)
"""Our kinds and the package's providers."""
_OWN: Final = frozenset({"llamacpp", "lmstudio", "ollama", "ollama_native", "vllm"})
"""Kinds that run on the operator's own machines, wherever those are."""
_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "input_mtok": "input",
        "output_mtok": "output",
        "cache_read_mtok": "cached",
        "cache_write_mtok": "cache_write",
        "cache_write_1h_mtok": "cache_write_1h",
        "input_audio_mtok": "audio_input",
        "output_audio_mtok": "audio_output",
        "input_image_mtok": "image_input",
        "output_image_mtok": "image_output",
        "output_reasoning_mtok": "reasoning",
    }
)
"""The package's names of prices for a million tokens, and ours. What a provider takes for searches,
pages, seconds or pixels isn't in an answer's usage."""
_REQUESTS: Final = "requests_kcount"
_FREE: Final = ":free"
"""How OpenRouter ends the names of models that cost nothing; other models without prices are those
whose prices the package doesn't know."""
_MOST_NAMES: Final = 2048
_EPOCH: Final = date(1970, 1, 1)


class PublishedPrices:
    """Prices by kind of provider and name of model, loaded when the first is asked for (0.7 s)."""

    def __init__(self) -> None:
        self._found = lru_cache(maxsize=_MOST_NAMES)(self._look_up)

    def find(self, kind: str, model: str, base_url: str | None = None) -> PriceList | None:
        """What is published for a model at a kind of provider; None: nothing.

        Of a kind that has no list, it is the one of whoever has this address. A machine that is
        reached by plain http is one's own: nothing is published for it. ``model`` is the upstream's
        name; dated names and the clouds' own spellings are known.
        Raises ConfigurationError without the extra ``prices``.
        """
        return self._found(kind, model, base_url) if _may_be_there(kind, base_url) else None

    @cached_property
    def source(self) -> str:
        """The package and its version."""
        _load()
        from genai_prices import __version__

        return f"genai-prices {__version__}"

    @cached_property
    def _providers(self) -> list[Provider]:
        return _load()

    def _look_up(self, kind: str, model: str, base_url: str | None) -> PriceList | None:
        provider = self._provider(kind, base_url or "")
        if provider is None:
            return None
        found = provider.find_model(model, all_providers=self._providers)
        if found is None:
            return None
        rows = _rows(found, f"{self.source}, {provider.id}/{found.id}")
        return PriceList(rows) if rows else None

    def _provider(self, kind: str, address: str) -> Provider | None:
        known = _PROVIDERS.get(kind)
        for provider in self._providers:
            if provider.id == known or (not known and re.match(provider.api_pattern, address)):
                return provider
        return None


def price_of(kind: str, model: str, base_url: str | None = None) -> PriceList | None:
    """For those who ask once: ``price_of("openai", "gpt-5-mini")`` is PublishedPrices().find."""
    return PublishedPrices().find(kind, model, base_url)


def _may_be_there(kind: str, base_url: str | None) -> bool:
    if base_url is None:
        return kind in _PROVIDERS
    return kind not in _OWN and base_url.startswith("https://")


def _load() -> list[Provider]:
    try:
        from genai_prices.data import providers
    except ImportError:
        raise ConfigurationError(
            "published prices need genai-prices: pip install 'proxy-core[prices]'"
        ) from None
    return providers


def _rows(model: ModelInfo, source: str) -> list[DatedPrice]:
    """Empty for what isn't sold by tokens, at some time or always."""
    if not isinstance(model.prices, list):
        price = _price(model.prices, model.id, source)
        return [] if price is None else [DatedPrice(price)]
    rows = []
    for row in model.prices:
        price = _price(row.prices, model.id, source)
        if price is None:
            return []
        rows.append(_dated(price, row.constraint))
    return rows


def _dated(price: Price, constraint: Any) -> DatedPrice:
    from genai_prices.types import StartDateConstraint, TimeOfDateConstraint

    if isinstance(constraint, StartDateConstraint):
        midnight = datetime.combine(constraint.start_date, time(), UTC)
        return DatedPrice(price, midnight.timestamp())
    if isinstance(constraint, TimeOfDateConstraint):
        hours = (_second(constraint.start_time), _second(constraint.end_time))
        return DatedPrice(price, daily=hours)
    return DatedPrice(price)


def _second(at: time) -> float:
    """Seconds of the day in UTC; without a zone it is UTC."""
    return datetime.combine(_EPOCH, at.replace(tzinfo=at.tzinfo or UTC)).timestamp() % 86400


def _price(prices: Any, model: str, source: str) -> Price | None:
    """None for what isn't sold by tokens."""
    given = {key: value for key, value in vars(prices).items() if value is not None}
    if not given and model.endswith(_FREE):
        return Price.usd(input="0", source=source)
    if "input_mtok" not in given:
        return None
    amounts: dict[str, Decimal] = {}
    tiers: dict[int, dict[str, Any]] = {}
    for key, value in given.items():
        kind = _KEYS.get(key)
        if kind is None:
            continue
        amounts[kind] = getattr(value, "base", value)
        for tier in getattr(value, "tiers", ()):
            tiers.setdefault(tier.start, {})[kind] = tier.price
    if _REQUESTS in given:
        amounts["request"] = given[_REQUESTS] / 1000
    told: Amounts = amounts  # type: ignore[assignment]
    return Price.usd(tiers=tiers, source=source, **told)
