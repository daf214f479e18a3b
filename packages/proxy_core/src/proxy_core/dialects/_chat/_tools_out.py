"""Tools and the choice among them, for an upstream."""

from __future__ import annotations

from typing import Any

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Conversation, Json, Tool, ToolChoice
from proxy_core.dialects._chat._wire import as_dict, cache_control
from proxy_core.dialects._codec import Losses

__all__ = ["written_tools"]


def written_tools(conversation: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    """``tools``, ``tool_choice`` and ``parallel_tool_calls``."""
    if not conversation.tools:
        return {}
    if not can.tools:
        losses.drop("tools", "the model takes no tools", grave=True)
        return {}
    written = [_tool(tool, f"tools[{n}]", can, losses) for n, tool in enumerate(conversation.tools)]
    tools = [tool for tool in written if tool is not None]
    if not tools:
        return {}
    body: dict[str, Any] = {"tools": tools}
    if conversation.tool_choice is not None:
        body |= _choice(conversation.tool_choice, conversation.tools, can, losses)
    if conversation.parallel is not None:
        if can.parallel_switch:
            body["parallel_tool_calls"] = conversation.parallel
        elif not conversation.parallel:
            losses.drop("parallel_tool_calls", "the model can't be told to call one tool at a time")
    return body


def _tool(tool: Tool, path: str, can: Abilities, losses: Losses) -> dict[str, Any] | None:
    if tool.kind not in ("function", "custom"):
        losses.drop(path, f"the tool {tool.kind!r} is another provider's own", grave=True)
        return None
    said: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        said["description"] = tool.description
    if tool.kind == "custom":
        said |= _format(tool.own)
    if tool.kind == "function" and tool.parameters is not None:
        said["parameters"] = tool.parameters
    if tool.strict is not None and can.strict_tools:
        said["strict"] = tool.strict
    elif tool.strict:
        losses.drop(f"{path}.strict", "the model is not strict about a tool's parameters")
    written: dict[str, Any] = {"type": tool.kind, tool.kind: said}
    if tool.cache is not None and can.cache_marks:
        written["cache_control"] = cache_control(tool.cache)
    elif tool.cache is not None:
        losses.drop(f"{path}.cache_control", "the provider takes no cache marks")
    return written


def _format(own: Json) -> dict[str, Any]:
    """A custom tool's grammar, which the Responses API has flat and this one nested."""
    form = as_dict(own)
    if form.get("type") != "grammar" or "grammar" in form:
        return {"format": form} if form.get("type") else {}
    grammar = {name: form.get(name) for name in ("syntax", "definition")}
    return {"format": {"type": "grammar", "grammar": grammar}}


def _choice(
    choice: ToolChoice, tools: tuple[Tool, ...], can: Abilities, losses: Losses
) -> dict[str, Any]:
    if choice.mode in ("required", "named") and not can.forced_tools:
        losses.drop("tool_choice", "the model can't be made to call a tool", grave=True)
        return {}
    if choice.mode != "named":
        return {"tool_choice": choice.mode}
    kinds = {tool.name: tool.kind for tool in tools}
    named = [_named(name, kinds.get(name, "function")) for name in choice.names]
    if len(named) == 1:
        return {"tool_choice": named[0]}
    allowed = {"mode": "required", "tools": named}
    return {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}


def _named(name: str, kind: str) -> dict[str, Any]:
    return {"type": kind, kind: {"name": name}}
