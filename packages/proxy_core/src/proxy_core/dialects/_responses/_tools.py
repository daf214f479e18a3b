"""Tools and the choice among them, in both directions."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Json, Tool, ToolChoice
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._reading import Value
from proxy_core.dialects._responses._namespaces import flattened, format_of, homes_of, inside
from proxy_core.dialects._responses._words import HOSTED

__all__ = ["is_known", "read_choice", "read_tools", "tool_json", "written_choice", "written_tools"]

_FUNCTION: Final = ("type", "name", "description", "parameters", "strict")
_CUSTOM: Final = ("type", "name", "description", "format")


def read_tools(body: Value, losses: Losses) -> tuple[Tool, ...]:
    """Those of a namespace stand in its place, each by a flat name."""
    read: list[Tool] = []
    for tool in body.maybe_items("tools"):
        if tool.field("type").text() == "namespace":
            read += _read_namespace(tool, losses)
        else:
            read.append(_read_tool(tool, losses))
    return flattened(read)


def _read_namespace(value: Value, losses: Losses) -> list[Tool]:
    """Its functions. What is said of all of them is told with the first."""
    value.lose_others(losses, "type", "name", "description", "tools")
    namespace, about = value.field("name").text(), value.maybe_text("description")
    tools: list[Tool] = []
    for one in value.field("tools").items():
        one.field("type").one_of("function", "custom")
        tool = inside(_read_tool(one, losses), namespace, about)
        if about and not tools:
            told = "\n\n".join((about, tool.description or "")).strip()
            tool = msgspec.structs.replace(tool, description=told)
        tools.append(tool)
    return tools


def _read_tool(value: Value, losses: Losses) -> Tool:
    kind = value.field("type").text()
    if kind == "function":
        value.lose_others(losses, *_FUNCTION)
        schema = value.maybe("parameters")
        return Tool(
            name=value.field("name").text(),
            description=value.maybe_text("description"),
            parameters=None if schema is None else schema.fields(),
            strict=value.maybe_flag("strict"),
        )
    if kind == "custom":
        value.lose_others(losses, *_CUSTOM)
        form = value.maybe("format")
        return Tool(
            name=value.field("name").text(),
            description=value.maybe_text("description"),
            kind="custom",
            own=None if form is None or form.maybe_text("type") == "text" else form.fields(),
        )
    name = value.maybe_text("server_label") or value.maybe_text("name") or kind
    return Tool(name=name, kind=kind, own=value.fields())


def read_choice(
    body: Value, tools: tuple[Tool, ...], losses: Losses
) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools that it leaves: of some allowed ones, the others are hidden."""
    value = body.maybe("tool_choice")
    if value is None:
        return None, tools
    if isinstance(value.json, str):
        return ToolChoice(mode=_mode(value)), tools
    kind = value.field("type").text()
    if kind != "allowed_tools":
        return ToolChoice(mode="named", names=(_named(value, tools),)), tools
    value.lose_others(losses, "type", "mode", "tools")
    names = tuple(name for one in value.field("tools").items() for name in _allowed(one, tools))
    if value.field("mode").one_of("auto", "required") == "required":
        return ToolChoice(mode="named", names=names), tools
    return ToolChoice(mode="auto"), tuple(tool for tool in tools if tool.name in names)


def _mode(value: Value) -> Literal["auto", "none", "required"]:
    mode: Literal["auto", "none", "required"]
    mode = value.one_of("auto", "none", "required")  # type: ignore[assignment]
    return mode


def _allowed(value: Value, tools: tuple[Tool, ...]) -> list[str]:
    """The tools that one of those allowed names: a namespace names all that it holds."""
    if value.maybe_text("type") != "namespace":
        return [_named(value, tools)]
    namespace = value.field("name").text()
    return [name for name, home in homes_of(tools).items() if home.namespace == namespace]


def _named(value: Value, tools: tuple[Tool, ...]) -> str:
    """The tool that a choice names, by its name or by its kind."""
    name = value.maybe_text("name") or value.maybe_text("server_label")
    if name is not None:
        if any(tool.name == name for tool in tools):
            return name
        inner = (flat for flat, home in homes_of(tools).items() if home.name == name)
        return next(inner, name)
    kind = value.field("type").text()
    return next((tool.name for tool in tools if tool.kind == kind), kind)


def tool_json(tool: Tool, *, strict: bool = True) -> dict[str, Any]:
    """A tool as Responses say it, where nothing said is not strict: their own default is."""
    if tool.kind == "function":
        return {
            "type": "function",
            "name": tool.name,
            **_described(tool),
            "parameters": tool.parameters or {"type": "object", "properties": {}},
            "strict": bool(strict and tool.strict),
        }
    if tool.kind == "custom":
        form = format_of(tool)
        named = {"type": "custom", "name": tool.name, **_described(tool)}
        return named if form is None else {**named, "format": form}
    return dict(tool.own)


def _described(tool: Tool) -> dict[str, Any]:
    return {} if tool.description is None else {"description": tool.description}


def is_known(tool: Tool) -> bool:
    """Whether it is a tool of Responses, and not another provider's own."""
    if tool.kind in ("function", "custom"):
        return True
    return tool.kind in HOSTED and isinstance(tool.own, dict) and tool.own.get("type") == tool.kind


def written_tools(tools: tuple[Tool, ...], can: Abilities, losses: Losses) -> list[dict[str, Any]]:
    """For an upstream. A tool that it can't have is a grave loss."""
    written = []
    for at, tool in enumerate(tools):
        field = f"tools[{at}]"
        if not can.tools:
            losses.drop(field, "this model takes no tools", grave=True)
            continue
        if not is_known(tool):
            losses.drop(field, f"OpenAI's Responses have no {tool.kind!r}", grave=True)
            continue
        if tool.strict and not can.strict_tools:
            losses.drop(f"{field}.strict", "this model knows no strict tools")
        written.append(tool_json(tool, strict=can.strict_tools))
    return written


def written_choice(
    choice: ToolChoice, tools: tuple[Tool, ...], can: Abilities, losses: Losses
) -> Json:
    """For an upstream, or for the echo to a client; None where it is lost."""
    demands = choice.mode in ("required", "named")
    if demands and not (can.tools and can.forced_tools):
        losses.drop("tool_choice", "no tool can be demanded of this model", grave=True)
        return None
    if choice.mode != "named":
        return choice.mode
    found = {tool.name: tool for tool in tools}
    named = [_choice_of(name, found.get(name)) for name in choice.names]
    if len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "mode": "required", "tools": named}


def _choice_of(name: str, tool: Tool | None) -> dict[str, Any]:
    if tool is None or tool.kind in ("function", "custom"):
        return {"type": "function" if tool is None else tool.kind, "name": name}
    if tool.kind == "mcp":
        return {"type": "mcp", "server_label": name}
    return {"type": tool.kind}
