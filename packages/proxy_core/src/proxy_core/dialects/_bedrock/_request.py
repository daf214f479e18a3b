"""A conversation as a request of Converse."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any, Final

import msgspec

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._anthropic._schema import closed_schema
from proxy_core.dialects._bedrock._content import ContentWriter, cache_point
from proxy_core.dialects._canonical import Conversation, Tool, ToolCall, ToolResult
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import budget_of, nearest_effort
from proxy_core.dialects._silence import message_of
from proxy_core.dialects._upstream import (
    effort_wished,
    lose_marks,
    takes_output,
    tools_for,
    wishes,
)

__all__ = ["write_request"]

_WHO: Final = "Bedrock's Converse"
_INFERENCE: Final = MappingProxyType(
    {
        "max_tokens": "maxTokens",
        "temperature": "temperature",
        "top_p": "topP",
        "stop": "stopSequences",
    }
)
_OTHERS: Final = MappingProxyType(
    {name: name for name in ("top_k", "service_tier", "metadata", "cache_control")}
)
_HOTTEST: Final = 1.0
"""https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InferenceConfiguration.html"""
_TIERS: Final = frozenset({"default", "flex", "priority"})
_MOST_METADATA: Final = 16
_METADATA: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,\-.]{0,256}")
_ANY_OBJECT: Final = MappingProxyType({"type": "object", "properties": {}})


def write_request(conversation: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    """The body of Converse and of ConverseStream."""
    hottest = min(_HOTTEST, _HOTTEST if can.max_temperature is None else can.max_temperature)
    can = msgspec.structs.replace(can, max_temperature=hottest)
    told = wishes(conversation, can, losses, _WHO, {**_INFERENCE, **_OTHERS})
    lose_marks(conversation, "bedrock.converse", losses, caches=True)
    content = ContentWriter(can, losses)
    messages, system = content.messages(conversation.turns), content.system
    if not messages:
        messages, system = message_of("content", system, losses, "Bedrock"), []
    body: dict[str, Any] = {"messages": messages}
    if system:
        body["system"] = system
    if "cache_control" in told and messages:
        last = messages[-1]["content"]
        if "cachePoint" not in last[-1]:
            last.append(cache_point(told["cache_control"]))
    inference = {name: told[name] for name in _INFERENCE.values() if name in told}
    if inference:
        body["inferenceConfig"] = inference
    _add_tools(body, conversation, can, losses)
    _add_output(body, conversation, can, losses)
    _add_thinking(body, conversation, can, losses)
    if "top_k" in told:
        _set_own(body, can.top_k_field, told["top_k"])
    _add_tier(body, told.get("service_tier", "auto"), losses)
    _add_metadata(body, told.get("metadata"), losses)
    return body


def _set_own(body: dict[str, Any], path: str, value: Any) -> None:
    """Set a field of the model's own."""
    fields = body.setdefault("additionalModelRequestFields", {})
    *outer, name = path.split(".")
    for step in outer:
        fields = fields.setdefault(step, {})
    fields[name] = value


def _add_tier(body: dict[str, Any], tier: str, losses: Losses) -> None:
    if tier in _TIERS:
        body["serviceTier"] = {"type": tier}
    elif tier != "auto":
        losses.drop("service_tier", f"Bedrock has no tier {tier!r}")


def _add_metadata(body: dict[str, Any], metadata: Any, losses: Losses) -> None:
    if not metadata:
        return
    fits = isinstance(metadata, dict) and len(metadata) <= _MOST_METADATA
    if fits and all(_is_plain(word) for pair in metadata.items() for word in pair):
        body["requestMetadata"] = metadata
    else:
        losses.drop("metadata", "Bedrock takes 16 short texts without unusual characters")


def _is_plain(word: object) -> bool:
    return isinstance(word, str) and _METADATA.fullmatch(word) is not None


def _add_tools(
    body: dict[str, Any], conversation: Conversation, can: Abilities, losses: Losses
) -> None:
    tools, choice = tools_for(conversation, can, losses, _WHO), conversation.tool_choice
    mode = "auto" if choice is None else choice.mode
    names = () if choice is None else choice.names
    if mode == "none":
        # There is no such choice, and a history with calls is refused without their tools.
        if not _has_calls(conversation):
            return
        losses.drop("tool_choice", "Bedrock can't forbid tools that were called before", grave=True)
    if mode == "named" and len(names) != 1:
        tools, mode = [tool for tool in tools if tool.name in names], "required"
    if not tools:
        return
    config: dict[str, Any] = {"tools": _tools(tools, conversation, can, losses)}
    if mode in ("required", "named") and not can.forced_tools:
        losses.drop("tool_choice", "the model can't be told to use a tool", grave=True)
    elif mode in ("required", "named"):
        config["toolChoice"] = {"any": {}} if mode == "required" else {"tool": {"name": names[0]}}
    elif choice is not None:
        config["toolChoice"] = {"auto": {}}
    body["toolConfig"] = config


def _has_calls(conversation: Conversation) -> bool:
    parts = (part for turn in conversation.turns for part in turn.parts)
    return any(isinstance(part, ToolCall | ToolResult) for part in parts)


def _tools(
    tools: list[Tool], conversation: Conversation, can: Abilities, losses: Losses
) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    for tool in tools:
        spec: dict[str, Any] = {"name": tool.name}
        if tool.description:
            spec["description"] = tool.description
        spec["inputSchema"] = {"json": tool.parameters or dict(_ANY_OBJECT)}
        if tool.strict is not None and can.strict_tools:
            spec["strict"] = tool.strict
            if tool.strict and not can.open_schemas:
                field = f"tools[{conversation.tools.index(tool)}].parameters"
                asked = closed_schema(spec["inputSchema"]["json"], field, losses)
                spec["inputSchema"] = {"json": asked}
        written.append({"toolSpec": spec})
        if tool.cache is not None and can.cache_marks:
            written.append(cache_point(tool.cache))
    return written


def _add_output(
    body: dict[str, Any], conversation: Conversation, can: Abilities, losses: Losses
) -> None:
    output = conversation.output
    if output is None or not takes_output(conversation, can, losses):
        return
    if output.kind == "json":
        why = "Bedrock keeps to a JSON Schema, and has no mode for any JSON"
        losses.drop("response_format", why, grave=True)
        return
    asked = output.schema
    if not can.open_schemas:
        asked = closed_schema(asked, "response_format.schema", losses)
    schema = {"schema": msgspec.json.encode(asked).decode()}
    schema |= {"name": output.name} if output.name else {}
    schema |= {"description": output.description} if output.description else {}
    form = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    body["outputConfig"] = {"textFormat": form}


def _add_thinking(
    body: dict[str, Any], conversation: Conversation, can: Abilities, losses: Losses
) -> None:
    """By a budget where the model takes one, as most of Claude do; else by an effort."""
    wish = conversation.reasoning
    if wish is None:
        return
    effort = effort_wished(wish)
    thinking: dict[str, Any] | None = None
    if not can.reasoning:
        if effort != "none":
            losses.drop("reasoning_effort", "the model does not think")
    elif can.effort_field:
        _add_own_effort(body, effort, can, losses)
    elif effort == "none":
        thinking = {"type": "disabled"}
    elif "budget" in can.reasoning:
        thinking = _budget(wish.budget or budget_of(effort or "medium"), conversation, can, losses)
    else:
        if "adaptive" in can.reasoning:
            thinking = {"type": "adaptive"}
        _add_effort(body, effort, can, losses)
    if thinking is not None:
        _set_own(body, "thinking", thinking)


def _add_own_effort(
    body: dict[str, Any], effort: str | None, can: Abilities, losses: Losses
) -> None:
    """For models of others than Anthropic. Where it can be none, that goes without saying."""
    nearest = nearest_effort(effort or "medium", can.efforts)
    if effort is not None and nearest != effort:
        losses.drop("reasoning_effort", f"the nearest that the model knows is {nearest}")
    if nearest in (None, "none"):
        return
    outer, dot, _ = can.effort_field.partition(".")
    if dot:
        _set_own(body, f"{outer}.type", "enabled")
    _set_own(body, can.effort_field, nearest)


def _add_effort(body: dict[str, Any], effort: str | None, can: Abilities, losses: Losses) -> None:
    if effort is None or "effort" not in can.reasoning:
        return
    known = tuple(one for one in can.efforts if one not in ("none", "minimal"))
    nearest = nearest_effort(effort, known)
    if nearest != effort:
        losses.drop("reasoning_effort", f"the nearest that the model knows is {nearest}")
    if nearest is not None:
        body.setdefault("outputConfig", {})["effort"] = nearest


def _budget(
    budget: int, conversation: Conversation, can: Abilities, losses: Losses
) -> dict[str, Any] | None:
    """A budget is at least the model's least, and below the cap of the whole answer."""
    cap = conversation.max_tokens
    wanted = max(budget, can.least_budget)
    fitting = wanted if cap is None else min(wanted, cap - 1)
    if fitting < can.least_budget:
        losses.drop("reasoning_effort", f"max_tokens leaves no room for {can.least_budget} tokens")
        return None
    if fitting != budget:
        losses.drop("reasoning_effort", f"the nearest budget that fits is {fitting} tokens")
    return {"type": "enabled", "budget_tokens": fitting}
