"""Tools of a request and the choice among them, the deprecated functions included."""

from __future__ import annotations

from typing import Final, Literal, cast

import msgspec

from proxy_core.dialects._canonical import Json, Tool, ToolChoice
from proxy_core.dialects._chat._parts_in import cache_of
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._reading import Value

__all__ = ["read_tool_choice", "read_tools"]

_MODES: Final = ("none", "auto", "required")


def read_tools(request: Value, losses: Losses) -> tuple[Tool, ...]:
    """``tools``, then ``functions``. Raises InvalidRequest."""
    tools = [_tool(tool, losses) for tool in request.maybe_items("tools")]
    tools += [_function(function, losses) for function in request.maybe_items("functions")]
    return tuple(tools)


def read_tool_choice(
    request: Value, tools: tuple[Tool, ...], losses: Losses
) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools that it leaves. Raises InvalidRequest.

    Tools that are not among those allowed are left out where the model may also use none of them:
    no other dialect has a word for that, and it comes to the same.
    """
    choice = request.maybe("tool_choice")
    if choice is None:
        older = request.maybe("function_call")
        if older is None:
            return None, tools
        if isinstance(older.json, str):
            return _mode(older), tools
        return ToolChoice(mode="named", names=(older.field("name").text(),)), tools
    if isinstance(choice.json, str):
        return _mode(choice), tools
    kind = choice.field("type").one_of("function", "custom", "allowed_tools")
    if kind != "allowed_tools":
        return ToolChoice(mode="named", names=(choice.field(kind).field("name").text(),)), tools
    allowed = choice.field("allowed_tools")
    allowed.lose_others(losses, "mode", "tools")
    names = tuple(_allowed(tool) for tool in allowed.field("tools").items())
    if allowed.field("mode").one_of("auto", "required") == "required":
        return ToolChoice(mode="named", names=names), tools
    return ToolChoice(mode="auto"), tuple(tool for tool in tools if tool.name in names)


def _mode(choice: Value) -> ToolChoice:
    mode = choice.one_of(*_MODES)
    return ToolChoice(mode=cast("Literal['none', 'auto', 'required']", mode))


def _allowed(tool: Value) -> str:
    kind = tool.field("type").one_of("function", "custom")
    return tool.field(kind).field("name").text()


def _tool(tool: Value, losses: Losses) -> Tool:
    kind = tool.field("type").text()
    mark = cache_of(tool)
    if kind == "function":
        tool.lose_others(losses, "type", "function", "cache_control")
        read = _function(tool.field("function"), losses)
        return read if mark is None else msgspec.structs.replace(read, cache=mark)
    if kind != "custom":
        return Tool(name=tool.maybe_text("name") or kind, kind=kind, own=tool.fields(), cache=mark)
    tool.lose_others(losses, "type", "custom", "cache_control")
    said = tool.field("custom")
    said.lose_others(losses, "name", "description", "format")
    return Tool(
        name=said.field("name").text(),
        description=said.maybe_text("description"),
        kind="custom",
        own=_format(said),
        cache=mark,
    )


def _function(function: Value, losses: Losses) -> Tool:
    function.lose_others(losses, "name", "description", "parameters", "strict", "cache_control")
    parameters = function.maybe("parameters")
    return Tool(
        name=function.field("name").text(),
        description=function.maybe_text("description"),
        parameters=None if parameters is None else parameters.fields(),
        strict=function.maybe_flag("strict"),
        cache=cache_of(function),
    )


def _format(said: Value) -> Json:
    """A custom tool's grammar, flat as the Responses API has it; None for any text."""
    form = said.maybe("format")
    if form is None or form.field("type").one_of("text", "grammar") == "text":
        return None
    grammar = form.field("grammar")
    return {
        "type": "grammar",
        "syntax": grammar.field("syntax").one_of("lark", "regex"),
        "definition": grammar.field("definition").text(),
    }
