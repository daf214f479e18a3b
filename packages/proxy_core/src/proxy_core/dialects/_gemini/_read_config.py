"""Everything of a request but its contents: generationConfig, tools, toolConfig."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy_core.dialects._canonical import (
    OutputFormat,
    ReasoningWish,
    Sampling,
    Tool,
    ToolChoice,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import BUDGETS
from proxy_core.dialects._gemini._read_turns import opened
from proxy_core.dialects._gemini._schema import json_schema
from proxy_core.dialects._gemini._words import OWN_TOOLS
from proxy_core.dialects._reading import Value

__all__ = ["Config", "read_config", "read_service_tier", "read_tool_choice", "read_tools"]

_CONFIG: Final = (
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseModalities",
    "responseLogprobs",
    "logprobs",
    "thinkingConfig",
)
_JSON: Final = "application/json"
_MODES: Final = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
_TIERS: Final = {"standard": "default", "flex": "flex", "priority": "priority"}
_DYNAMIC: Final = -1
"""A budget that the model chooses itself."""
_LEAST_SEED: Final = -(2**63)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a generationConfig says, in the canonical form's words."""

    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    n: int | None = None
    output: OutputFormat | None = None
    modalities: tuple[str, ...] = ()
    reasoning: ReasoningWish | None = None


def read_config(config: Value, losses: Losses) -> Config:
    """Raises InvalidRequest."""
    config.lose_others(losses, *_CONFIG)
    thinking = config.maybe("thinkingConfig")
    return Config(
        max_tokens=config.maybe_whole("maxOutputTokens"),
        sampling=_sampling(config),
        stop=tuple(item.text() for item in config.maybe_items("stopSequences")),
        n=config.maybe_whole("candidateCount", 1),
        output=_output(config, losses),
        modalities=tuple(
            item.text().lower()
            for item in config.maybe_items("responseModalities")
            if item.json != "MODALITY_UNSPECIFIED"
        ),
        reasoning=None if thinking is None else _thinking(opened(thinking), losses),
    )


def _sampling(config: Value) -> Sampling:
    top_k = config.maybe_number("topK")
    return Sampling(
        temperature=config.maybe_number("temperature"),
        top_p=config.maybe_number("topP"),
        top_k=None if top_k is None else int(top_k),
        presence_penalty=config.maybe_number("presencePenalty"),
        frequency_penalty=config.maybe_number("frequencyPenalty"),
        seed=config.maybe_whole("seed", _LEAST_SEED),
        logprobs=config.maybe_flag("responseLogprobs"),
        top_logprobs=config.maybe_whole("logprobs"),
    )


def _output(config: Value, losses: Losses) -> OutputFormat | None:
    kind = config.maybe_text("responseMimeType") or ""
    schema = config.maybe("responseJsonSchema")
    older = config.maybe("responseSchema")
    if kind not in ("", _JSON, "text/plain"):
        losses.drop(f"{config.path}.responseMimeType", f"{kind} has no name elsewhere", grave=True)
        return None
    if schema is not None:
        return OutputFormat(kind="schema", schema=schema.fields())
    if older is not None:
        return OutputFormat(kind="schema", schema=json_schema(older.fields()))
    return OutputFormat(kind="json") if kind == _JSON else None


def _thinking(config: Value, losses: Losses) -> ReasoningWish:
    config.lose_others(losses, "includeThoughts", "thinkingBudget", "thinkingLevel")
    budget = config.maybe_whole("thinkingBudget", _DYNAMIC)
    level = (config.maybe_text("thinkingLevel") or "").lower()
    effort = None if level in ("", "thinking_level_unspecified") else level
    if effort is not None and effort not in BUDGETS:
        words = (word.upper() for word in BUDGETS if word != "none")
        config.field("thinkingLevel").refuse("one of " + ", ".join(words))
    return ReasoningWish(
        enabled=budget != 0 if budget is not None else True if effort else None,
        effort=effort,
        budget=budget if budget is not None and budget > 0 else None,
        shown=config.maybe_flag("includeThoughts"),
    )


def read_tools(whole: Value, losses: Losses) -> tuple[Tool, ...]:
    """All functions, and Google's own tools by the name of their field."""
    tools: list[Tool] = []
    for item in whole.maybe_items("tools"):
        holder = opened(item)
        for name in holder.fields():
            if name == "functionDeclarations":
                declared = holder.maybe_items(name)
                tools += [_function(opened(one), losses) for one in declared]
            elif name not in holder:
                continue
            elif name in OWN_TOOLS:
                tools.append(Tool(name=name, kind=name, own=holder.field(name).json))
            else:
                losses.drop(f"{holder.path}.{name}", "it is not a known tool", grave=True)
    return tuple(tools)


def _function(declared: Value, losses: Losses) -> Tool:
    declared.lose_others(losses, "name", "description", "parameters", "parametersJsonSchema")
    newer, older = declared.maybe("parametersJsonSchema"), declared.maybe("parameters")
    parameters: Any = None
    if newer is not None:
        parameters = newer.fields()
    elif older is not None:
        parameters = json_schema(older.fields())
    return Tool(
        name=declared.field("name").text(),
        description=declared.maybe_text("description"),
        parameters=parameters,
    )


def read_tool_choice(whole: Value, losses: Losses) -> ToolChoice | None:
    told = whole.maybe("toolConfig")
    if told is None:
        return None
    holder = opened(told)
    holder.lose_others(losses, "functionCallingConfig")
    found = holder.maybe("functionCallingConfig")
    if found is None:
        return None
    config = opened(found)
    config.lose_others(losses, "mode", "allowedFunctionNames")
    given = config.maybe("mode")
    mode = "MODE_UNSPECIFIED" if given is None else given.one_of(*_MODES)
    names = tuple(item.text() for item in config.maybe_items("allowedFunctionNames"))
    if mode == "VALIDATED":
        losses.drop(f"{config.path}.mode", "other providers don't validate calls on request")
    if mode == "ANY":
        return ToolChoice(mode="named" if names else "required", names=names)
    if names:
        losses.drop(f"{config.path}.allowedFunctionNames", "it goes with the mode ANY alone")
    if mode == "NONE":
        return ToolChoice(mode="none")
    return None if mode == "MODE_UNSPECIFIED" else ToolChoice(mode="auto")


def read_service_tier(whole: Value) -> str | None:
    return _TIERS.get((whole.maybe_text("serviceTier") or "").lower())
