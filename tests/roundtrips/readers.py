"""Requests of the dialects that only providers speak, read as their documentation says.

They share nothing with the writers that they judge: only what the pages under ``PAGES`` describe.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from proxy_core.dialects import _canonical as form

__all__ = ["READERS"]

_Json = dict[str, Any]


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _tool(function: _Json, parameters: str = "parameters") -> form.Tool:
    return form.Tool(
        name=function["name"],
        description=function.get("description"),
        parameters=function[parameters],
        strict=function.get("strict"),
    )


def _wish(thinking: _Json | None, budget: str) -> form.ReasoningWish | None:
    if thinking is None:
        return None
    if thinking["type"] == "disabled":
        return form.ReasoningWish(enabled=False)
    return form.ReasoningWish(enabled=True, budget=thinking.get(budget))


# --- Converse


def read_converse(body: _Json) -> form.Conversation:
    config, extra = body.get("inferenceConfig", {}), body.get("additionalModelRequestFields", {})
    turns = [form.Turn(role="system", parts=_blocks(body.get("system", [])))]
    for message in body["messages"]:
        parts = _blocks(message["content"])
        results = tuple(part for part in parts if isinstance(part, form.ToolResult))
        others = tuple(part for part in parts if not isinstance(part, form.ToolResult))
        assert not (results and parts[: len(results)] != results), "results come first"
        turns += [form.Turn(role="tool", parts=results)] if results else []
        turns += [form.Turn(role=message["role"], parts=others)] if others else []
    tools = body.get("toolConfig", {})
    output = body.get("outputConfig", {}).get("textFormat")
    schema = output and json.loads(output["structure"]["jsonSchema"]["schema"])
    return form.Conversation(
        model="",
        turns=tuple(turn for turn in turns if turn.parts),
        tools=_specs(tools.get("tools", [])),
        tool_choice=_converse_choice(tools.get("toolChoice")),
        max_tokens=config.get("maxTokens"),
        stop=tuple(config.get("stopSequences", ())),
        sampling=form.Sampling(
            temperature=config.get("temperature"),
            top_p=config.get("topP"),
            top_k=extra.get("top_k"),
        ),
        output=form.OutputFormat(kind="schema", schema=schema) if output else None,
        reasoning=_wish(extra.get("thinking"), "budget_tokens"),
        service_tier=body.get("serviceTier", {}).get("type"),
        metadata=body.get("requestMetadata"),
    )


def _blocks(blocks: Iterable[_Json]) -> tuple[Any, ...]:
    parts: list[Any] = []
    for block in blocks:
        ((kind, said),) = block.items()
        if kind == "cachePoint":
            assert said["type"] == "default"
            mark = form.CacheMark(ttl=said.get("ttl"))
            parts[-1] = msgspec.structs.replace(parts[-1], cache=mark)
        else:
            parts.append(_BLOCKS[kind](said))
    return tuple(parts)


def _media(kind: Any) -> Callable[[_Json], form.Media]:
    def read(said: _Json) -> form.Media:
        (source,) = said["source"].values()
        data = source["uri"] if isinstance(source, dict) else source
        media_type = "text/plain" if said["format"] == "txt" else ""
        source = form.Source(kind="base64", data=data, media_type=media_type)
        return form.Media(kind=kind, source=source)

    return read


def _use(said: _Json) -> form.ToolCall:
    assert set(said) == {"toolUseId", "name", "input"} and isinstance(said["input"], dict)
    arguments = json.dumps(said["input"])
    return form.ToolCall(id=said["toolUseId"], name=said["name"], arguments=arguments)


def _converse_result(said: _Json) -> form.ToolResult:
    return form.ToolResult(
        id=said["toolUseId"],
        parts=_blocks(said["content"]),
        is_error=said.get("status", "success") == "error",
    )


def _converse_reasoning(said: _Json) -> form.Reasoning:
    if "redactedContent" in said:
        value = form.Signature(origin="bedrock.converse", value=said["redactedContent"])
        return form.Reasoning(redacted=True, signature=value)
    told = said["reasoningText"]
    value = form.Signature(origin="bedrock.converse", value=told["signature"])
    return form.Reasoning(text=told["text"], signature=value)


_BLOCKS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "text": lambda text: form.Text(text=text),
        "image": _media("image"),
        "document": _media("file"),
        "audio": _media("audio"),
        "video": _media("video"),
        "toolUse": _use,
        "toolResult": _converse_result,
        "reasoningContent": _converse_reasoning,
    }
)


def _specs(listed: list[_Json]) -> tuple[form.Tool, ...]:
    tools: list[form.Tool] = []
    for one in listed:
        if "cachePoint" in one:
            tools[-1] = msgspec.structs.replace(tools[-1], cache=form.CacheMark())
        else:
            spec = one["toolSpec"]
            tools.append(_tool(spec | spec["inputSchema"], "json"))
    return tuple(tools)


def _converse_choice(choice: _Json | None) -> form.ToolChoice | None:
    if choice is None or "auto" in choice:
        return None
    if "any" in choice:
        return form.ToolChoice(mode="required")
    return form.ToolChoice(mode="named", names=(choice["tool"]["name"],))


# --- Ollama


def read_ollama(body: _Json) -> form.Conversation:
    options, think, output = body["options"], body.get("think"), body.get("format")
    turns: list[form.Turn] = []
    for message in body["messages"]:
        turns = _added(turns, _ollama_turn(message))
    wish = None
    if think is not None:
        effort = think if isinstance(think, str) else None
        wish = form.ReasoningWish(enabled=bool(think), effort=effort)
    kind: Any = "json" if output == "json" else "schema"
    return form.Conversation(
        model=body["model"],
        turns=tuple(turns),
        tools=tuple(_tool(tool["function"]) for tool in body.get("tools", ())),
        max_tokens=options.get("num_predict"),
        stop=tuple(options.get("stop", ())),
        sampling=form.Sampling(
            **{name: options.get(name) for name in ("temperature", "top_p", "top_k", "seed")},
            presence_penalty=options.get("presence_penalty"),
            frequency_penalty=options.get("frequency_penalty"),
        ),
        output=form.OutputFormat(kind=kind, schema=output) if output else None,
        reasoning=wish,
    )


def _added(turns: list[form.Turn], turn: form.Turn) -> list[form.Turn]:
    """Results that follow each other stand in one turn."""
    if turns and turn.role == turns[-1].role == "tool":
        return [*turns[:-1], form.Turn(role="tool", parts=(*turns[-1].parts, *turn.parts))]
    return [*turns, turn]


def _ollama_turn(message: _Json) -> form.Turn:
    allowed = {"role", "content", "thinking", "images", "tool_calls", "tool_name"}
    assert set(message) <= allowed, set(message) - allowed
    text = message["content"]
    if message["role"] == "tool":
        name = message["tool_name"]
        result = form.ToolResult(id=name, name=name, parts=(form.Text(text=text),))
        return form.Turn(role="tool", parts=(result,))
    thinking = message.get("thinking")
    parts: list[form.Part] = [form.Reasoning(text=thinking)] if thinking else []
    parts += [form.Text(text=text)] if text else []
    for data in message.get("images", ()):
        parts.append(form.Media(kind="image", source=form.Source(kind="base64", data=data)))
    for call in message.get("tool_calls", ()):
        function = call["function"]
        arguments = json.dumps(function["arguments"])
        parts.append(form.ToolCall(id="", name=function["name"], arguments=arguments))
    return form.Turn(role=message["role"], parts=tuple(parts))


# --- Cohere


def read_cohere(body: _Json) -> form.Conversation:
    turns: list[form.Turn] = []
    for message in body["messages"]:
        turns = _added(turns, _cohere_turn(message))
    tools = tuple(_tool(tool["function"]) for tool in body.get("tools", ()))
    if body.get("strict_tools"):
        tools = tuple(msgspec.structs.replace(tool, strict=True) for tool in tools)
    modes: dict[str | None, Any] = {"NONE": "none", "REQUIRED": "required"}
    mode, output = modes.get(body.get("tool_choice")), body.get("response_format")
    schema = None if output is None else output.get("json_schema")
    kind: Any = "json" if schema is None else "schema"
    return form.Conversation(
        model=body["model"],
        turns=tuple(turns),
        tools=tools,
        tool_choice=None if mode is None else form.ToolChoice(mode=mode),
        max_tokens=body.get("max_tokens"),
        stop=tuple(body.get("stop_sequences", ())),
        sampling=form.Sampling(
            temperature=body.get("temperature"),
            top_p=body.get("p"),
            top_k=body.get("k"),
            seed=body.get("seed"),
            presence_penalty=body.get("presence_penalty"),
            frequency_penalty=body.get("frequency_penalty"),
        ),
        output=form.OutputFormat(kind=kind, schema=schema) if output else None,
        reasoning=_wish(body.get("thinking"), "token_budget"),
    )


def _cohere_turn(message: _Json) -> form.Turn:
    content = message.get("content", [])
    if message["role"] == "tool":
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        text = "".join(block["text"] for block in blocks)
        result = form.ToolResult(id=message["tool_call_id"], parts=(form.Text(text=text),))
        return form.Turn(role="tool", parts=(result,))
    plan = message.get("tool_plan")
    parts: list[form.Part] = [form.Reasoning(text=plan)] if plan else []
    parts += [_COHERE[block["type"]](block) for block in content]
    for call in message.get("tool_calls", ()):
        function = call["function"]
        assert isinstance(function["arguments"], str)
        parts.append(form.ToolCall(id=call["id"], **function))
    return form.Turn(role=message["role"], parts=tuple(parts))


def _cohere_image(block: _Json) -> form.Media:
    url = block["image_url"]["url"]
    head, comma, data = url.partition(";base64,")
    if comma:
        base64.b64decode(data, validate=True)
        source = form.Source(kind="base64", data=data, media_type=head.removeprefix("data:"))
    else:
        source = form.Source(kind="url", data=url)
    return form.Media(kind="image", source=source, detail=block["image_url"].get("detail"))


_COHERE: Final[Mapping[str, Callable[[_Json], Any]]] = MappingProxyType(
    {
        "text": lambda block: form.Text(text=block["text"]),
        "thinking": lambda block: form.Reasoning(text=block["thinking"]),
        "image_url": _cohere_image,
    }
)

READERS: Final[Mapping[str, Callable[[_Json], form.Conversation]]] = MappingProxyType(
    {
        "bedrock.converse": read_converse,
        "ollama.chat": read_ollama,
        "cohere.chat": read_cohere,
    }
)
