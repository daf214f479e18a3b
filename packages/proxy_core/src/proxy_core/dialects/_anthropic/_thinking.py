"""How much a model is to think, as its own version of the API has to be asked."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._anthropic._words import DIALECT, EFFORTS
from proxy_core.dialects._canonical import (
    Conversation,
    Reasoning,
    ReasoningWish,
    Signature,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import budget_of, effort_of, nearest_effort

__all__ = ["Thinking", "think"]

_FIELD: Final = "reasoning_effort"
_DEFAULT: Final = "medium"
_DEFAULT_CAP: Final = 4096
"""Output tokens beside the thinking, where neither client nor model says how many."""
_SHARE: Final = (4, 5)
"""Of the cap, at most, where the client said an effort and not tokens, so that an answer follows;
the share of high effort at OpenRouter (https://openrouter.ai/docs/use-cases/reasoning-tokens)."""


class Thinking(NamedTuple):
    """``thinking`` and ``output_config.effort``, and the ``max_tokens`` that has room for it."""

    max_tokens: int
    config: dict[str, Any] | None = None
    effort: str | None = None

    @property
    def is_on(self) -> bool:
        return self.config is not None and self.config["type"] != "disabled"


def think(conversation: Conversation, can: Abilities, losses: Losses) -> Thinking:
    """What to ask for; what must be rounded or left out goes to ``losses``, never gravely."""
    wish, cap = conversation.reasoning, _cap(conversation, can)
    if wish is None:
        return Thinking(cap)
    said = (wish.enabled, wish.effort, wish.budget) != (None, None, None)
    if wish.summary is not None:
        losses.drop("reasoning.summary", "Anthropic chooses the length of a summary itself")
    if not can.reasoning or not said:
        if said and _wants(wish):
            losses.drop(_FIELD, "this model does not think")
        return Thinking(cap)
    if not _wants(wish):
        return _off(cap, can, losses)
    if conversation.tool_choice is not None and conversation.tool_choice.mode in _FORCED:
        losses.drop(_FIELD, "Anthropic's models don't think where a tool is demanded")
        return Thinking(cap)
    effort = _effort(wish, can, losses)
    by_tokens = wish.budget is not None or "adaptive" not in can.reasoning
    if "budget" in can.reasoning and by_tokens:
        return _with_budget(conversation, can, losses, effort)
    if "adaptive" not in can.reasoning:
        return Thinking(cap, None, effort)
    display = "omitted" if wish.shown is False else "summarized"
    return Thinking(cap, {"type": "adaptive", "display": display}, effort)


_FORCED: Final = frozenset({"required", "named"})


def _wants(wish: ReasoningWish) -> bool:
    return wish.enabled is not False and wish.effort != "none" and wish.budget != 0


def _off(cap: int, can: Abilities, losses: Losses) -> Thinking:
    if "none" in can.efforts:
        return Thinking(cap, {"type": "disabled"})
    least = nearest_effort("none", tuple(one for one in EFFORTS if one in can.efforts))
    losses.drop(_FIELD, "this model's thinking can't be switched off")
    return Thinking(cap, None, least if "effort" in can.reasoning else None)


def _effort(wish: ReasoningWish, can: Abilities, losses: Losses) -> str | None:
    """The word for it, where this model takes one and the client gave something to say."""
    if "effort" not in can.reasoning:
        return None
    wanted = wish.effort
    if wanted is None:
        if wish.budget is None or "budget" in can.reasoning:
            return None
        wanted = effort_of(wish.budget)
    told = nearest_effort(wanted, tuple(one for one in EFFORTS if one in can.efforts))
    if told != wish.effort:
        losses.drop(_FIELD, f"this model's nearest effort is {told}")
    return told


def _with_budget(
    conversation: Conversation, can: Abilities, losses: Losses, effort: str | None
) -> Thinking:
    wish, cap = conversation.reasoning or ReasoningWish(), _cap(conversation, can)
    if _lacks_own_thinking(conversation):
        losses.drop(_FIELD, "Anthropic goes on with calls only after thinking that it signed")
        return Thinking(cap, None, effort)
    wanted = wish.budget if wish.budget is not None else budget_of(wish.effort or _DEFAULT)
    if conversation.max_tokens is None and can.output_cap is None:
        cap += wanted
    part, whole = _SHARE
    room = cap - 1 if wish.budget is not None else max(can.least_budget, cap * part // whole)
    budget = max(can.least_budget, min(wanted, room))
    if budget >= cap:
        losses.drop(_FIELD, f"max_tokens {cap} has no room for {can.least_budget} of thinking")
        return Thinking(cap, None, effort)
    if wish.budget is not None and budget != wish.budget:
        losses.drop(_FIELD, f"its budget became {budget} tokens, to fit under max_tokens")
    config: dict[str, Any] = {"type": "enabled", "budget_tokens": budget}
    if wish.shown is not None:
        config["display"] = "summarized" if wish.shown else "omitted"
    return Thinking(cap, config, effort)


def _cap(conversation: Conversation, can: Abilities) -> int:
    if conversation.max_tokens is not None:
        return conversation.max_tokens
    return can.output_cap or _DEFAULT_CAP


def _lacks_own_thinking(conversation: Conversation) -> bool:
    """Whether results of calls come last, and the calls had no thinking of Anthropic's before.

    It refuses those with a budget: "Expected `thinking` or `redacted_thinking`, but found
    `tool_use`" (https://platform.claude.com/docs/en/build-with-claude/extended-thinking).
    """
    in_loop = False
    for turn in reversed(conversation.turns):
        if turn.role == "assistant":
            thought = (part.signature for part in turn.parts if isinstance(part, Reasoning))
            return in_loop and not any(_is_own(signature) for signature in thought)
        in_loop = in_loop or turn.role == "tool"
    return False


def _is_own(signature: Signature | None) -> bool:
    return signature is not None and signature.origin == DIALECT
