"""What models cost, as the operator writes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from proxy_api._settings_types import Section

__all__ = ["PriceSettings", "Prices", "PricingSettings", "TierSettings"]

_MOST: Final = 1_000_000
"""Dollars for a million tokens that nobody asks; more is a slip of the pen."""
_Dollars = Annotated[Decimal, Field(ge=0, le=_MOST)]
_Factor = Annotated[Decimal, Field(gt=0, le=100)]


class TierSettings(Section):
    """What changes for a long prompt; the whole request is charged so."""

    above: int = Field(ge=1, description="It holds for prompts of more tokens than this.")
    input: _Dollars | None = Field(default=None, description="None: as below.")
    output: _Dollars | None = Field(default=None, description="None: as below.")
    cached: _Dollars | None = Field(default=None, description="None: as below.")
    cache_write: _Dollars | None = Field(default=None, description="None: as below.")
    cache_write_1h: _Dollars | None = Field(default=None, description="None: as below.")


class PriceSettings(Section):
    """US dollars for a million tokens."""

    input: _Dollars = Field(description="US dollars for a million tokens of input.")
    output: _Dollars = Field(
        default=Decimal(0), description="US dollars for a million tokens of output."
    )
    cached: _Dollars | None = Field(
        default=None,
        description="US dollars for a million tokens of cached input; none: as input.",
    )
    cache_write: _Dollars | None = Field(
        default=None, description="Of input written to the provider's cache; none: as input."
    )
    cache_write_1h: _Dollars | None = Field(
        default=None, description="Of what is kept there for an hour; none: as cache_write."
    )
    audio_input: _Dollars | None = Field(
        default=None, description="Of audio in the prompt; none: as input."
    )
    audio_output: _Dollars | None = Field(
        default=None, description="Of audio in the answer; none: as output."
    )
    image_input: _Dollars | None = Field(
        default=None, description="Of images in the prompt; none: as input."
    )
    image_output: _Dollars | None = Field(
        default=None, description="Of images in the answer; none: as output."
    )
    reasoning: _Dollars | None = Field(default=None, description="Of reasoning; none: as output.")
    per_request: _Dollars | None = Field(
        default=None, description="US dollars for each answer, beside its tokens."
    )
    tiers: tuple[TierSettings, ...] = Field(
        default=(), description="Other prices for long prompts, the whole request at them."
    )
    since: date | None = Field(
        default=None,
        description="The day (UTC) from which it holds, where there is a list; none: always.",
        examples=["2027-01-01"],
    )


def _rows(value: Any) -> Any:
    """The one form of the three: ``free``, ``{input, …}``, ``[{input, …}, {since, …}]``."""
    if value == "free":
        return ({"input": 0},)
    if isinstance(value, Mapping | PriceSettings):
        return (value,)
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("must not be empty")
        return value
    if value is None:
        return None
    raise ValueError("must be {input: …, output: …} in US dollars for a million tokens, or free")


def _forms(schema: dict[str, Any]) -> None:
    """An editor's view: the short forms too."""
    listed, nothing = schema["anyOf"]
    short = ({"const": "free", "type": "string"}, dict(listed["items"]))
    schema["anyOf"] = [*short, {**listed, "minItems": 1}, nothing]


Prices = Annotated[
    tuple[PriceSettings, ...] | None,
    BeforeValidator(_rows),
    Field(
        description="US dollars for a million tokens, or free; none: what is published. "
        "A list has prices in time, each with the day since when it holds.",
        examples=[{"input": 0.25, "output": 2}, "free"],
        json_schema_extra=_forms,
    ),
]


class PricingSettings(Section):
    unpriced: Literal["block", "flag", "allow"] = Field(
        default="flag",
        description="What becomes of calls to a model whose price isn't known: refused, served and "
        "counted as unpriced, or served. Keys with a budget are always refused.",
    )
    published: bool = Field(
        default=True,
        description="Use the published prices of the package genai-prices where a model has none.",
    )
    multiplier: Mapping[str, _Factor] = Field(
        default_factory=dict,
        description="By provider, what its published prices are multiplied with: 0.9 is a tenth "
        "off. A model's own price stays as it is.",
        examples=[{"openai": 0.9}],
    )
