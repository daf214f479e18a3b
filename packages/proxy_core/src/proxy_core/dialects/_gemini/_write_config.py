"""Everything of a request but its contents: generationConfig, tools, toolConfig, the tier."""

from __future__ import annotations

from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Conversation, ReasoningWish, Sampling, Tool
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import budget_of, effort_of, nearest_effort
from proxy_core.dialects._gemini._words import OWN_TOOLS, safe_name

__all__ = ["write_config", "write_tier", "write_tools"]

_Json = dict[str, Any]
_MOST_STOPS: Final = 5
"""https://ai.google.dev/api/generate-content#GenerationConfig"""
_LEVELS: Final = ("minimal", "low", "medium", "high", "xhigh")
_DYNAMIC: Final = -1
_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_TIERS: Final = {"default": "standard", "flex": "flex", "priority": "priority", "auto": ""}
_NO_SAMPLING: Final = "the model doesn't take it"


def write_config(conversation: Conversation, can: Abilities, losses: Losses) -> _Json:
    """The generationConfig; empty where nothing is said."""
    config: _Json = {}
    if conversation.max_tokens is not None:
        config["maxOutputTokens"] = conversation.max_tokens
    config |= _sampling(conversation.sampling, can, losses)
    config |= _stops(conversation.stop, can, losses)
    config |= _answers(conversation, can, losses)
    config |= _output(conversation, can, losses)
    if conversation.modalities and conversation.modalities != ("text",):
        config["responseModalities"] = [word.upper() for word in conversation.modalities]
    if conversation.reasoning is not None:
        thinking = _thinking(conversation.reasoning, can, losses)
        if thinking:
            config["thinkingConfig"] = thinking
    return config


def _sampling(asked: Sampling, can: Abilities, losses: Losses) -> _Json:
    temperature, hottest = asked.temperature, can.max_temperature
    if temperature is not None and hottest is not None and temperature > hottest:
        losses.drop("temperature", f"it is {hottest} at most, and sent so")
        temperature = hottest
    rows = (
        ("temperature", "temperature", temperature, can.temperature),
        ("top_p", "topP", asked.top_p, can.top_p),
        ("top_k", "topK", asked.top_k, can.top_k),
        ("presence_penalty", "presencePenalty", asked.presence_penalty, can.penalties),
        ("frequency_penalty", "frequencyPenalty", asked.frequency_penalty, can.penalties),
        ("seed", "seed", asked.seed, can.seed),
        ("logprobs", "responseLogprobs", asked.logprobs, can.logprobs),
        ("top_logprobs", "logprobs", asked.top_logprobs, can.logprobs),
    )
    config: _Json = {}
    for field, name, value, able in rows:
        if value is not None and able:
            config[name] = value
        elif value is not None:
            losses.drop(field, _NO_SAMPLING)
    if asked.logit_bias:
        losses.drop("logit_bias", "Gemini has no such field")
    return config


def _stops(stop: tuple[str, ...], can: Abilities, losses: Losses) -> _Json:
    most = _MOST_STOPS if can.most_stops is None else can.most_stops
    if len(stop) > most:
        losses.drop("stop", f"there can be {most} stop sequences: the first ones are sent")
    return {"stopSequences": list(stop[:most])} if stop[:most] else {}


def _answers(conversation: Conversation, can: Abilities, losses: Losses) -> _Json:
    n = conversation.n
    if n is None:
        return {}
    if n > 1 and not can.many_answers:
        losses.drop("n", "the model gives one answer", grave=True)
        return {}
    return {"candidateCount": n}


def _output(conversation: Conversation, can: Abilities, losses: Losses) -> _Json:
    output = conversation.output
    if output is None:
        return {}
    if output.kind == "schema" and can.json_schema:
        schema = output.schema
        if output.description and isinstance(schema, dict):
            schema = {"description": output.description} | schema
        return {"responseMimeType": "application/json", "responseJsonSchema": schema or {}}
    if output.kind == "schema":
        losses.drop("response_format", "the model follows no schema", grave=True)
    elif not can.json_object:
        losses.drop("response_format", "the model has no JSON mode", grave=True)
    return {"responseMimeType": "application/json"} if can.json_object else {}


def _thinking(wish: ReasoningWish, can: Abilities, losses: Losses) -> _Json:
    ways = can.reasoning
    if not ways:
        if wish.enabled is not False and wish.effort != "none":
            losses.drop("reasoning_effort", "the model's thinking can't be chosen")
        return {}
    if wish.enabled is False or wish.effort == "none":
        return _without_thinking(can, losses)
    thinking: _Json = {} if wish.shown is False else {"includeThoughts": True}
    if "effort" in ways and (wish.effort or "budget" not in ways):
        return thinking | _level(wish, can, losses)
    if "budget" in ways:
        return thinking | _budget(wish, can, losses)
    return thinking


def _without_thinking(can: Abilities, losses: Losses) -> _Json:
    if "budget" in can.reasoning:
        return {"thinkingBudget": 0}
    least = next((level for level in _LEVELS if level in can.efforts), None)
    losses.drop("reasoning_effort", "the model's thinking can't be switched off, only be least")
    return {} if least is None else {"thinkingLevel": least.upper()}


def _level(wish: ReasoningWish, can: Abilities, losses: Losses) -> _Json:
    asked = wish.effort or (None if wish.budget is None else effort_of(wish.budget))
    if asked is None:
        return {}
    level = nearest_effort(asked, tuple(word for word in _LEVELS if word in can.efforts))
    if level != asked:
        losses.drop("reasoning_effort", f"the model has no {asked}: sent as {level}")
    return {} if level is None else {"thinkingLevel": level.upper()}


def _budget(wish: ReasoningWish, can: Abilities, losses: Losses) -> _Json:
    budget = wish.budget
    if budget is None:
        budget = _DYNAMIC if wish.effort is None else budget_of(wish.effort)
    if 0 < budget < can.least_budget:
        losses.drop("reasoning.budget", f"it is {can.least_budget} at least, and sent so")
        budget = can.least_budget
    return {"thinkingBudget": budget}


def write_tools(conversation: Conversation, can: Abilities, losses: Losses) -> _Json:
    """``tools`` and ``toolConfig``, where they are wanted. Raises InvalidRequest."""
    if conversation.tools and not can.tools:
        losses.drop("tools", "the model calls no tools", grave=True)
        return {}
    functions: list[_Json] = []
    others: list[_Json] = []
    for place, tool in enumerate(conversation.tools):
        where = f"tools[{place}]"
        if tool.kind == "function":
            functions.append(_function(tool, where, losses))
        elif tool.kind in OWN_TOOLS:
            others.append({tool.kind: {} if tool.own is None else tool.own})
        else:
            losses.drop(where, f"Gemini has no tools of the kind {tool.kind}", grave=True)
    written = [{"functionDeclarations": functions}] if functions else []
    body: _Json = {"tools": [*written, *others]} if functions or others else {}
    return body | (_choice(conversation, can, losses) if functions else {})


def _function(tool: Tool, where: str, losses: Losses) -> _Json:
    if tool.strict:
        losses.drop(f"{where}.strict", "Gemini's functions have no such field")
    if tool.cache is not None:
        losses.drop(f"{where}.cache_control", "Gemini caches by itself")
    told: _Json = {"name": safe_name(tool.name, f"{where}.name")}
    if tool.description is not None:
        told["description"] = tool.description
    told["parametersJsonSchema"] = tool.parameters or {"type": "object", "properties": {}}
    return told


def _choice(conversation: Conversation, can: Abilities, losses: Losses) -> _Json:
    choice = conversation.tool_choice
    if choice is None:
        return {}
    if choice.mode in ("required", "named") and not can.forced_tools:
        losses.drop("tool_choice", "the model can't be made to call a tool", grave=True)
        return {}
    config: _Json = {"mode": _MODES[choice.mode]}
    if choice.mode == "named":
        config["allowedFunctionNames"] = [
            safe_name(name, "tool_choice.name") for name in choice.names
        ]
    return {"toolConfig": {"functionCallingConfig": config}}


def write_tier(conversation: Conversation, can: Abilities, losses: Losses) -> _Json:
    """``serviceTier``, which stands beside the generationConfig."""
    tier = conversation.service_tier
    if tier is None:
        return {}
    word = _TIERS.get(tier)
    if word is None or not can.service_tiers:
        losses.drop("service_tier", f"there is no tier {tier}")
        return {}
    return {"serviceTier": word} if word else {}
