"""The canonical form into a request for an upstream."""

from __future__ import annotations

from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Conversation, OutputFormat, Text, Turn
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import effort_of, nearest_effort
from proxy_core.dialects._responses._items_out import written_turns
from proxy_core.dialects._responses._tools import written_choice, written_tools
from proxy_core.dialects._responses._words import ENCRYPTED, LOGPROBS

__all__ = ["format_json", "instructions_of", "text_json", "write_request"]

_NO_WORD: Final = "OpenAI's Responses have no word for it"
_WORDLESS: Final = ("top_k", "presence_penalty", "frequency_penalty", "seed", "logit_bias")


def write_request(
    conversation: Conversation, model: str, can: Abilities, losses: Losses
) -> dict[str, Any]:
    """Nothing is stored unless the client says so; null fields are left out."""
    told = conversation
    first = instructions_of(told.turns)
    body: dict[str, Any] = {
        "model": model,
        "instructions": first,
        "input": written_turns(told.turns, can, losses)[first is not None :],
        "max_output_tokens": told.max_tokens,
        "store": bool(told.store),
        "stream": True if told.stream else None,
        "prompt_cache_key": told.cache_key,
        **_tools(told, can, losses),
        **_sampling(told, can, losses),
        **_texts(told, can, losses),
        **_reasoning(told, can, losses),
        **_labels(told, can, losses),
    }
    include = _include(told, can)
    if include:
        body["include"] = include
    _lose(told, losses)
    return {name: value for name, value in body.items() if value is not None}


def instructions_of(turns: tuple[Turn, ...]) -> str | None:
    """The system's word at the beginning, where it is one plain text and something follows."""
    if len(turns) > 1 and turns[0].role == "system" and turns[0].name is None:
        parts = turns[0].parts
        if len(parts) == 1 and isinstance(parts[0], Text):
            return parts[0].text
    return None


def _tools(told: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    tools = written_tools(told.tools, can, losses)
    body: dict[str, Any] = {}
    if tools:
        body["tools"] = tools
    if told.tool_choice is not None and (tools or told.tool_choice.mode in ("required", "named")):
        body["tool_choice"] = written_choice(told.tool_choice, told.tools, can, losses)
    if told.parallel is not None and tools:
        if can.parallel_switch:
            body["parallel_tool_calls"] = told.parallel
        elif not told.parallel:
            losses.drop("parallel_tool_calls", "this model can't be told to call one at a time")
    return body


def _sampling(told: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    sampling, wish = told.sampling, told.reasoning
    silent = not can.sampling_while_reasoning and wish is not None and wish.enabled is not False
    for name in _WORDLESS:
        if getattr(sampling, name) is not None:
            losses.drop(name, _NO_WORD)
    body: dict[str, Any] = {}
    for name, able in (("temperature", can.temperature), ("top_p", can.top_p)):
        value = getattr(sampling, name)
        if value is not None and (silent or not able):
            losses.drop(name, "this model doesn't take it")
        elif value is not None:
            body[name] = value
    most, warm = can.max_temperature, body.get("temperature")
    if most is not None and warm is not None and warm > most:
        losses.drop("temperature", f"this model takes {most} at most")
        body["temperature"] = most
    if sampling.logprobs and not can.logprobs:
        losses.drop("logprobs", "this model gives none")
    elif sampling.logprobs:
        body["top_logprobs"] = sampling.top_logprobs
    return body


def _include(told: Conversation, can: Abilities) -> list[str]:
    wish = told.reasoning
    reasons = bool(can.reasoning) and (wish is None or wish.enabled is not False)
    include = [ENCRYPTED] if reasons else []
    if told.sampling.logprobs and can.logprobs:
        include.append(LOGPROBS)
    return include


def _texts(told: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    form = told.output
    if form is not None and not (can.json_schema if form.kind == "schema" else can.json_object):
        losses.drop("response_format", "this model can't be held to it", grave=True)
        form = None
    text = text_json(form, told.verbosity)
    return {"text": text} if text else {}


def text_json(form: OutputFormat | None, verbosity: str | None) -> dict[str, Any]:
    """The field ``text``; empty where nothing is asked for."""
    text: dict[str, Any] = {} if form is None else {"format": format_json(form)}
    return text if verbosity is None else {**text, "verbosity": verbosity}


def format_json(form: OutputFormat) -> dict[str, Any]:
    if form.kind == "json":
        return {"type": "json_object"}
    written = {
        "type": "json_schema",
        "name": form.name or "answer",
        "schema": form.schema or {},
        "strict": form.strict,
        "description": form.description,
    }
    return {name: value for name, value in written.items() if value is not None}


def _reasoning(told: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    wish = told.reasoning
    if wish is None:
        return {}
    wanted = "none" if wish.enabled is False else wish.effort
    if wanted is None and wish.budget is not None:
        wanted = effort_of(wish.budget)
    summary = wish.summary or ("auto" if wish.shown else None)
    if not can.reasoning:
        if wanted not in (None, "none") or summary:
            losses.drop("reasoning_effort", "this model doesn't think")
        return {}
    effort = None if wanted is None else nearest_effort(wanted, can.efforts)
    if effort != wanted:
        losses.drop("reasoning_effort", f"this model's nearest to {wanted!r} is {effort!r}")
    said = {"effort": effort, "summary": summary}
    reasoning = {name: value for name, value in said.items() if value is not None}
    return {"reasoning": reasoning} if reasoning else {}


def _labels(told: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for field, name, value, able in (
        ("service_tier", "service_tier", told.service_tier, can.service_tiers),
        ("user", "safety_identifier", told.user, can.user),
        ("metadata", "metadata", told.metadata, can.metadata),
    ):
        if value is not None and able:
            body[name] = value
        elif value is not None:
            losses.drop(field, "this upstream doesn't take it")
    return body


def _lose(told: Conversation, losses: Losses) -> None:
    """Name what Responses have no word for at all."""
    if told.stop:
        losses.drop("stop", _NO_WORD)
    if (told.n or 1) > 1:
        losses.drop("n", "OpenAI's Responses give one answer", grave=True)
    if any(kind != "text" for kind in told.modalities):
        losses.drop("modalities", "OpenAI's Responses answer in text", grave=True)
    parts = (part for turn in told.turns for part in turn.parts)
    marks = [told.cache_all, *(getattr(one, "cache", None) for one in (*parts, *told.tools))]
    if any(mark is not None for mark in marks):
        losses.drop("cache_control", "OpenAI caches by itself")
