"""The canonical form of a request in Anthropic's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._anthropic._schema import closed_schema
from proxy_core.dialects._anthropic._thinking import think
from proxy_core.dialects._anthropic._words import TIERS_ASKED
from proxy_core.dialects._anthropic._write_blocks import TurnWriter, cache_told
from proxy_core.dialects._canonical import Conversation, Tool, ToolChoice
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._silence import message_of

__all__ = ["write_request"]

_HOTTEST: Final = 1.0
"""Anthropic's temperature ends where OpenAI's has its middle."""
_OWN_TOOL: Final = re.compile(r"[a-z0-9_]+_[0-9]{8}")
"""Anthropic's own tools bear their day: ``web_search_20250305``."""
_NONE_HERE: Final = (
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
)
_HINTS: Final = ("verbosity", "metadata", "store")
_MODES: Final[Mapping[str, str]] = MappingProxyType(
    {"auto": "auto", "none": "none", "required": "any", "named": "tool"}
)


def write_request(
    conversation: Conversation, model: str, can: Abilities, losses: Losses
) -> dict[str, Any]:
    """See ``UpstreamCodec.write_request``."""
    thinking = think(conversation, can, losses)
    turns = TurnWriter(can, losses)
    system, messages = turns.write(conversation.turns)
    if not messages:
        messages, system = message_of("content", system, losses, "Anthropic"), []
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": thinking.max_tokens,
        "messages": messages,
    }
    if system:
        body["system"] = system
    body |= _sampling(conversation, can, losses, thinks=thinking.is_on)
    body |= _tools(conversation, can, losses, turns)
    body |= _hints(conversation, can, losses)
    if thinking.config is not None:
        body["thinking"] = thinking.config
    output = _output(conversation, can, losses)
    if thinking.effort is not None:
        output["effort"] = thinking.effort
    if output:
        body["output_config"] = output
    if conversation.stream:
        body["stream"] = True
    _lose_what_is_foreign(conversation, losses)
    return body


def _sampling(
    conversation: Conversation, can: Abilities, losses: Losses, *, thinks: bool
) -> dict[str, Any]:
    sampling, told = conversation.sampling, {}
    for name, takes in (
        ("temperature", can.temperature),
        ("top_p", can.top_p),
        ("top_k", can.top_k),
    ):
        value = getattr(sampling, name)
        if value is None:
            continue
        if not takes:
            losses.drop(name, f"this model takes no {name}")
        elif thinks and not can.sampling_while_reasoning:
            losses.drop(name, f"this model takes no {name} while it thinks")
        elif name == "top_p" and "temperature" in told and not can.temperature_and_top_p:
            losses.drop(name, "this model takes a temperature or top_p, and not both")
        else:
            told[name] = value
    hottest = _HOTTEST if can.max_temperature is None else min(can.max_temperature, _HOTTEST)
    if told.get("temperature", 0) > hottest:
        losses.drop("temperature", f"Anthropic's ends at {hottest:g}, which was sent")
        told["temperature"] = hottest
    stops = _stops(conversation, can, losses)
    return told | {"stop_sequences": stops} if stops else told


def _stops(conversation: Conversation, can: Abilities, losses: Losses) -> list[str]:
    stops = [stop for stop in conversation.stop if stop.strip()]
    if len(stops) < len(conversation.stop):
        losses.drop("stop", "Anthropic takes no stop sequence of blanks alone")
    if can.most_stops is not None and len(stops) > can.most_stops:
        losses.drop("stop", f"this model takes {can.most_stops} stop sequences at most")
        stops = stops[: can.most_stops]
    return stops


def _tools(
    conversation: Conversation, can: Abilities, losses: Losses, turns: TurnWriter
) -> dict[str, Any]:
    told = []
    for at, tool in enumerate(conversation.tools):
        written = _tool(tool, f"tools[{at}]", can, losses)
        if written is not None:
            told.append(written | turns.cache(tool.cache))
    if not told:
        return {}
    choice = _tool_choice(conversation, can, losses)
    return {"tools": told, "tool_choice": choice} if choice else {"tools": told}


def _tool(tool: Tool, where: str, can: Abilities, losses: Losses) -> dict[str, Any] | None:
    if not can.tools:
        losses.drop(where, "this model calls no tools", grave=True)
        return None
    if tool.kind != "function":
        if isinstance(tool.own, dict) and _OWN_TOOL.fullmatch(tool.kind):
            return tool.own
        losses.drop(where, f"Anthropic has no tool of the kind {tool.kind!r}", grave=True)
        return None
    told: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        told["description"] = tool.description
    if isinstance(tool.parameters, dict) and tool.parameters:
        told["input_schema"] = {"type": "object", **tool.parameters}
    else:
        told["input_schema"] = {"type": "object", "properties": {}}
    if tool.strict is not None:
        if can.strict_tools:
            told["strict"] = tool.strict
            if tool.strict and not can.open_schemas:
                schema = closed_schema(told["input_schema"], f"{where}.parameters", losses)
                told["input_schema"] = schema
        elif tool.strict:
            losses.drop(f"{where}.strict", "this model's calls can't be held to a schema")
    return told


def _tool_choice(
    conversation: Conversation, can: Abilities, losses: Losses
) -> dict[str, Any] | None:
    """Only beside tools: without any, Anthropic refuses it."""
    choice, told = conversation.tool_choice, None
    if choice is not None:
        if choice.mode in {"required", "named"} and not can.forced_tools:
            losses.drop("tool_choice", "no tool can be demanded of this model", grave=True)
        else:
            told = _demand(choice, losses)
    if conversation.parallel is None or (told is not None and told["type"] == "none"):
        return told
    if not conversation.parallel and not can.parallel_switch:
        losses.drop("parallel_tool_calls", "this model can't be kept to one call at a time")
        return told
    if conversation.parallel and told is None:
        return None  # as it is by itself
    return (told or {"type": "auto"}) | {"disable_parallel_tool_use": not conversation.parallel}


def _demand(choice: ToolChoice, losses: Losses) -> dict[str, Any]:
    if choice.mode != "named":
        return {"type": _MODES[choice.mode]}
    if len(choice.names) == 1:
        return {"type": "tool", "name": choice.names[0]}
    losses.drop("tool_choice", "Anthropic takes one demanded tool, or any", grave=True)
    return {"type": "any"}


def _hints(conversation: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if conversation.user is not None:
        if can.user:
            told["metadata"] = {"user_id": conversation.user}
        else:
            losses.drop("user", "this model is not told who asks")
    tier = conversation.service_tier
    if tier is not None:
        asked = TIERS_ASKED.get(tier) if can.service_tiers else None
        if asked is None:
            losses.drop("service_tier", f"this model has no tier {tier!r}")
        else:
            told["service_tier"] = asked
    if conversation.cache_all is not None:
        if can.cache_marks:
            told["cache_control"] = cache_told(conversation.cache_all)
        else:
            losses.drop("cache_control", "this model's prompts can't be marked for caching")
    return told


def _output(conversation: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    wanted = conversation.output
    if wanted is None:
        return {}
    if wanted.kind != "schema" or not isinstance(wanted.schema, dict):
        losses.drop("response_format", "Anthropic wants a JSON Schema of the answer", grave=True)
        return {}
    if not can.json_schema:
        losses.drop("response_format", "this model's answers can't be held to a schema", grave=True)
        return {}
    schema = wanted.schema
    if not can.open_schemas:
        schema = closed_schema(schema, "response_format.schema", losses)
    return {"format": {"type": "json_schema", "schema": schema}}


def _lose_what_is_foreign(conversation: Conversation, losses: Losses) -> None:
    if conversation.sampling.seed is not None:  # 0 is one too
        losses.drop("seed", "Anthropic's messages have no seed")
    for name in _NONE_HERE:
        if getattr(conversation.sampling, name):
            losses.drop(name, f"Anthropic's messages have no {name}")
    for name in _HINTS:
        if getattr(conversation, name):
            losses.drop(name, f"Anthropic's messages have no {name}")
    if conversation.cache_key is not None:
        losses.drop("prompt_cache_key", "Anthropic finds what is cached by the prompt itself")
    if (conversation.n or 1) > 1:
        losses.drop("n", "Anthropic gives one answer", grave=True)
    if any(modality != "text" for modality in conversation.modalities):
        losses.drop("modalities", "Anthropic answers in text", grave=True)
    elif conversation.audio is not None:
        losses.drop("audio", "Anthropic does not speak")
