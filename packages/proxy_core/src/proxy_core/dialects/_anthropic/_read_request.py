"""A client's request in Anthropic's words into the canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from proxy_core.dialects._anthropic._read_blocks import read_blocks, read_cache, read_texts
from proxy_core.dialects._canonical import (
    Conversation,
    OutputFormat,
    Part,
    ReasoningWish,
    Sampling,
    Tool,
    ToolChoice,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import effort_in
from proxy_core.dialects._reading import Value
from proxy_core.errors import ThreadNotCarried

__all__ = ["read_request"]

_KNOWN: Final = (
    "cache_control",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "thread",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
)
_GRAVE: Final = MappingProxyType({"mcp_servers": "only Anthropic asks MCP servers by itself"})
_TIERS: Final = MappingProxyType({"auto": "auto", "standard_only": "default"})
_MODES: Final = MappingProxyType({"auto": "auto", "any": "required", "none": "none"})


def read_request(body: Mapping[str, Any], losses: Losses) -> Conversation:
    """See ``ClientCodec.read_request``. Raises ThreadNotCarried too."""
    given = Value(dict(body))
    given.lose_others(losses, *_KNOWN, *_GRAVE)
    _refuse_thread(given)
    for field, why in _GRAVE.items():
        if given.fields().get(field):
            losses.drop(field, why, grave=True)
    choice, parallel = _tool_choice(given, losses)
    stream = bool(given.maybe_flag("stream"))
    return Conversation(
        model=given.field("model").text(),
        turns=_turns(given, losses),
        tools=tuple(_tool(tool, losses) for tool in given.maybe_items("tools")),
        tool_choice=choice,
        parallel=parallel,
        max_tokens=given.maybe_whole("max_tokens"),
        sampling=Sampling(
            temperature=given.maybe_number("temperature"),
            top_p=given.maybe_number("top_p"),
            top_k=given.maybe_whole("top_k"),
        ),
        stop=tuple(stop.text() for stop in given.maybe_items("stop_sequences")),
        output=_output(given, losses),
        reasoning=_reasoning(given, losses),
        service_tier=_tier(given),
        user=_user(given, losses),
        cache_all=read_cache(given, losses),
        stream=stream,
        include_usage=stream,
    )


def _refuse_thread(given: Value) -> None:
    """Without it the model would be asked the last message alone: the rest is at Anthropic."""
    if "thread" in given:
        raise ThreadNotCarried(
            "The field 'thread' can't be carried over: this model's provider keeps no "
            "conversations. Send the whole conversation in 'messages', without 'thread'.",
            param="thread",
        )


def _turns(given: Value, losses: Losses) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    system = given.maybe("system")
    if system is not None and (texts := read_texts(system, losses)):
        turns.append(Turn(role="system", parts=texts))
        losses.places.append(system.path)
    for message in given.field("messages").items():
        message.lose_others(losses, "role", "content")
        content = message.field("content")
        match message.field("role").one_of("user", "assistant", "system"):
            case "system":
                turns.append(Turn(role="system", parts=read_texts(content, losses)))
            case "assistant":
                parts = _allowed(content, read_blocks(content, losses), losses, results=False)
                turns.append(Turn(role="assistant", parts=parts))
            case _:
                turns += _user_turns(content, losses)
        losses.places += [message.path] * (len(turns) - len(losses.places))
    return tuple(turns)


def _user_turns(content: Value, losses: Losses) -> list[Turn]:
    """Results of tools stand first, as Anthropic demands it, and in a turn of their own."""
    parts = read_blocks(content, losses)
    results = tuple(part for part in parts if isinstance(part, ToolResult))
    others = tuple(part for part in parts if not isinstance(part, ToolResult))
    turns = [Turn(role="tool", parts=results)] if results else []
    if others or not results:
        turns.append(Turn(role="user", parts=_allowed(content, others, losses)))
    return turns


def _allowed(
    content: Value, parts: tuple[Part, ...] | list[Part], losses: Losses, *, results: bool = True
) -> tuple[Part, ...]:
    """The parts but for results of tools where nobody but a user may give them."""
    if not results and any(isinstance(part, ToolResult) for part in parts):
        losses.drop(content.path, "an assistant's message holds no results of tools", grave=True)
    return tuple(part for part in parts if not isinstance(part, ToolResult))


def _tool(tool: Value, losses: Losses) -> Tool:
    kind, name = tool.maybe_text("type") or "custom", tool.maybe_text("name")
    if kind != "custom":
        return Tool(name=name or kind, kind=kind, own=tool.fields())
    tool.lose_others(
        losses, "type", "name", "description", "input_schema", "strict", "cache_control"
    )
    schema = tool.maybe("input_schema")
    return Tool(
        name=tool.field("name").text(),
        description=tool.maybe_text("description"),
        parameters=None if schema is None else schema.fields(),
        strict=tool.maybe_flag("strict"),
        cache=read_cache(tool, losses),
    )


def _tool_choice(given: Value, losses: Losses) -> tuple[ToolChoice | None, bool | None]:
    """Which tools, and whether several at once."""
    choice = given.maybe("tool_choice")
    if choice is None:
        return None, None
    choice.lose_others(losses, "type", "name", "disable_parallel_tool_use")
    alone = choice.maybe_flag("disable_parallel_tool_use")
    parallel = None if alone is None else not alone
    kind = choice.field("type").one_of("auto", "any", "tool", "none")
    if kind == "tool":
        return ToolChoice(mode="named", names=(choice.field("name").text(),)), parallel
    return ToolChoice(mode=_MODES[kind]), parallel  # type: ignore[arg-type]


def _output(given: Value, losses: Losses) -> OutputFormat | None:
    config = given.maybe("output_config")
    if config is not None:
        config.lose_others(losses, "effort", "format")
    wanted = config.maybe("format") if config is not None else None
    wanted = wanted or given.maybe("output_format")  # its older name
    if wanted is None:
        return None
    wanted.lose_others(losses, "type", "schema")
    wanted.field("type").one_of("json_schema")
    return OutputFormat(kind="schema", schema=wanted.field("schema").fields())


def _reasoning(given: Value, losses: Losses) -> ReasoningWish | None:
    config, thinking = given.maybe("output_config"), given.maybe("thinking")
    effort = effort_in(config, "effort") if config is not None else None
    if thinking is None:
        return None if effort is None else ReasoningWish(effort=effort)
    thinking.lose_others(losses, "type", "budget_tokens", "display")
    kind = thinking.field("type").one_of("enabled", "adaptive", "disabled", "between_tools")
    if kind == "between_tools":
        losses.drop("thinking.type", "thinking between tools only is Anthropic's own")
    display = thinking.maybe("display")
    return ReasoningWish(
        enabled=kind != "disabled",
        effort=effort,
        budget=thinking.field("budget_tokens").whole() if kind == "enabled" else None,
        shown=None if display is None else display.one_of("summarized", "omitted") != "omitted",
    )


def _tier(given: Value) -> str | None:
    tier = given.maybe("service_tier")
    return None if tier is None else _TIERS[tier.one_of(*_TIERS)]


def _user(given: Value, losses: Losses) -> str | None:
    metadata = given.maybe("metadata")
    if metadata is None:
        return None
    metadata.lose_others(losses, "user_id")
    return metadata.maybe_text("user_id")
