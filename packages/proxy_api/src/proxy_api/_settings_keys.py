"""The section ``keys`` of the configuration, and what limits them and deployments alike."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from proxy_api._settings_types import Duration, Printable, Rate, Section
from proxy_core import ChaosSettings
from proxy_core.errors import ConfigurationError

__all__ = ["BudgetSettings", "KeyChaosSettings", "KeySettings", "LimitSettings"]


class LimitSettings(Section):
    requests: Rate | None = Field(default=None, description="Requests, such as 60/minute.")
    tokens: Rate | None = Field(
        default=None, description="Tokens, in and out, such as 100000/minute."
    )
    input_tokens: Rate | None = Field(default=None, description="Tokens of prompts alone.")
    output_tokens: Rate | None = Field(default=None, description="Tokens of answers alone.")
    concurrent: int | None = Field(default=None, ge=1, description="Requests at the same time.")


class BudgetSettings(Section):
    usd: Decimal = Field(gt=0, description="US dollars.")
    per: Literal["hour", "day", "week", "month", "total"] = Field(
        default="month", description="When it begins anew, by UTC; weeks begin on Monday."
    )
    hard: bool = Field(
        default=False, description="Refuse when it is used up; otherwise it is only told."
    )


Share = Annotated[float, Field(ge=0, le=1)]


class KeyChaosSettings(Section):
    """Faults for the calls of a test key. Shares are from 0 to 1, together at most 1."""

    throttled: Share = Field(default=0.0, description="429 with Retry-After.")
    overloaded: Share = Field(default=0.0, description="529 with Retry-After.")
    stalled_head: Share = Field(default=0.0, description="Silence before the answer.")
    stalled_stream: Share = Field(default=0.0, description="Silence in a stream.")
    broken_stream: Share = Field(default=0.0, description="An error in a stream.")
    cut_stream: Share = Field(default=0.0, description="A stream that ends too early.")
    slow_tokens: Share = Field(default=0.0, description="A pause before each event.")
    retry_after: Duration = Field(default=2.0, description="What 429 and 529 say.")
    stall: Duration = Field(default=30.0, description="How long a silence lasts.")
    pause: Duration = Field(default=0.5, description="How long slow tokens take, each.")
    seed: int | None = Field(default=None, description="The same seed gives the same faults.")

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        try:
            self.faults()
        except ConfigurationError as error:
            raise ValueError(error.message) from None
        return self

    def faults(self) -> ChaosSettings:
        """As the core has them. Raises ConfigurationError for shares that are too many."""
        return ChaosSettings(**self.model_dump())


class KeySettings(Section):
    name: str = Field(min_length=1, description="Who uses the key; stands in logs and usage.")
    key: Printable = Field(
        description="Any printable text: ${VAR}, credential:NAME (systemd) or file:/path.",
        examples=["${CI_KEY}", "credential:ci"],
    )
    models: tuple[str, ...] = Field(
        default=("*",),
        min_length=1,
        description="Models that the key may ask for: names or patterns with one *. "
        "Without it: every model, but none for a key with scopes.",
        examples=[["chat", "claude-*"]],
    )
    scopes: tuple[Literal["metrics", "docs", "admin", "passthrough"], ...] = Field(
        default=(),
        description="What else it opens where the listener isn't a loopback one; passthrough: "
        "/providers/NAME/..., with the provider's own credential.",
    )
    limits: LimitSettings | None = Field(default=None, description="What it may ask for.")
    budget: BudgetSettings | None = Field(default=None, description="What it may cost.")
    tags: tuple[str, ...] = Field(
        default=(), description="What routing rules may go by.", examples=[["batch"]]
    )
    chaos: KeyChaosSettings | None = Field(
        default=None,
        description="Faults on purpose for its calls, to test a client with; for test keys only.",
    )
