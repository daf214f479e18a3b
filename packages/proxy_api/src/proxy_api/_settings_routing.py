"""The sections ``routing`` and ``fallbacks`` of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from proxy_api._settings_types import Duration, Section
from proxy_core import Rule

__all__ = [
    "BreakerSettings",
    "FallbackSettings",
    "RetrySettings",
    "RoutingSettings",
    "RuleConditions",
    "RuleSettings",
    "fallback_rules",
]


class FallbackSettings(Section):
    on: Literal["error", "context_length", "content_policy"] = Field(
        default="error", description="What has to happen."
    )
    to: tuple[str, ...] = Field(
        min_length=1, description="The models that are asked instead, in this order."
    )


def fallback_rules(value: Any) -> Any:
    """The one form of the three: ``[x]``, ``{on, to}``, ``[{on, to}, …]`` as a list of rules."""
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, str):
        return [{"to": [value]}]
    if isinstance(value, list | tuple) and not value:
        raise ValueError("must not be empty")
    if isinstance(value, list | tuple) and any(isinstance(item, str) for item in value):
        return [{"to": list(value)}]
    return value


class RetrySettings(Section):
    attempts: int = Field(
        default=3, ge=1, le=10, description="Deployments asked for one request, at most."
    )
    budget: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Retries as a share of the requests, so that a bad day isn't made worse.",
    )


class BreakerSettings(Section):
    failures: int = Field(
        default=5, ge=1, description="Failures in a row after which a deployment isn't asked."
    )
    open_for: Duration = Field(
        default=10.0,
        description="How long at first; it doubles up to 2 minutes. Then one request after the "
        "other tries it, and three good answers close it.",
    )


class RuleConditions(Section):
    """All that is given has to hold."""

    key: str | None = Field(
        default=None, min_length=1, description="The name of the client's key, or a pattern."
    )
    header: Mapping[str, str] = Field(
        default_factory=dict,
        description="Headers and their values, or patterns of them; * alone: it is there.",
        examples=[{"x-tier": "batch"}],
    )
    tag: str | None = Field(default=None, min_length=1, description="A tag of the client's key.")
    tokens_above: int | None = Field(
        default=None, ge=0, description="The prompt has more tokens than this, by a high guess."
    )


class RuleSettings(Section):
    model: str = Field(
        default="*", min_length=1, description="The model that is asked for, or a pattern."
    )
    when: RuleConditions = Field(description="What has to hold; at least one condition.")
    to: str = Field(min_length=1, description="The model whose deployments serve it then.")

    def rule(self) -> Rule:
        """As the core has it. Raises ConfigurationError for one that can't be."""
        when = self.when
        return Rule(
            to=self.to,
            model=self.model,
            key=when.key or "",
            header=when.header,
            tag=when.tag or "",
            tokens_above=when.tokens_above,
        )


class RoutingSettings(Section):
    strategy: Literal["weighted", "least_busy", "fastest", "cheapest"] = Field(
        default="weighted", description="Which deployment of the lowest order is asked first."
    )
    sticky: bool = Field(
        default=False, description="Keep a conversation where the provider has it cached."
    )
    rules: tuple[RuleSettings, ...] = Field(
        default=(), description="Send some requests to another model; the first that holds counts."
    )
    unsupported: Literal["refuse", "announce", "strict"] = Field(
        default="refuse",
        description="What becomes of a request in one dialect that a provider of another one can't "
        "take whole: refuse it where the answer would be another one and announce the rest in "
        "x-llm-proxy-dropped; announce everything; or strict: refuse always.",
    )
    retry: RetrySettings = Field(default_factory=RetrySettings, description="Second attempts.")
    breaker: BreakerSettings = Field(
        default_factory=BreakerSettings, description="When a deployment is left alone."
    )
