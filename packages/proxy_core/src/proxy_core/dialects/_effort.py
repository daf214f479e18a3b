"""How much thinking, between those who say it in words and those who say it in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy_core.dialects._reading import Value

__all__ = ["BUDGETS", "budget_of", "effort_in", "effort_of", "nearest_effort"]

BUDGETS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "none": 0,
        "minimal": 1024,
        "low": 2048,
        "medium": 8192,
        "high": 16_384,
        "xhigh": 24_576,
        "max": 32_768,
    }
)
"""Tokens. Rounded from what Google documents for the levels of its compatible endpoint
(https://ai.google.dev/gemini-api/docs/openai#thinking); other providers publish no such table."""


def effort_in(fields: Value, name: str) -> str | None:
    """The effort that a client's object names. Raises InvalidRequest for a word that is none."""
    effort = fields.maybe(name)
    return None if effort is None else effort.one_of(*BUDGETS)


def budget_of(effort: str) -> int:
    """Tokens for an effort; an unknown word counts as medium."""
    return BUDGETS.get(effort, BUDGETS["medium"])


def effort_of(budget: int) -> str:
    """The smallest effort that has room for so many tokens."""
    return next((effort for effort, tokens in BUDGETS.items() if tokens >= budget), "max")


def nearest_effort(effort: str, known: tuple[str, ...]) -> str | None:
    """The one of ``known`` that is nearest, the smaller of two; None where there is none.

    A little is never answered with ``none`` where there is something.
    """
    wanted = budget_of(effort)
    if effort in known or not known:
        return effort if effort in known else None
    some = [one for one in known if one != "none"] or known
    return min(some, key=lambda one: (abs(budget_of(one) - wanted), budget_of(one)))
