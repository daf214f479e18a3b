"""What a client asks for, into the canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy_core.dialects._canonical import (
    CacheMark,
    Conversation,
    OutputFormat,
    ReasoningWish,
    Sampling,
    Tool,
    ToolChoice,
)
from proxy_core.dialects._chat._messages_in import read_messages
from proxy_core.dialects._chat._parts_in import read_cache
from proxy_core.dialects._chat._tools_in import read_tool_choice, read_tools
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import effort_in
from proxy_core.dialects._reading import Value

__all__ = ["read_request"]

_KNOWN: Final = (
    *("model", "messages", "audio", "cache_control", "frequency_penalty", "function_call"),
    *("functions", "include_reasoning", "logit_bias", "logprobs", "max_completion_tokens"),
    *("max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "presence_penalty"),
    *("prompt_cache_key", "reasoning", "reasoning_effort", "response_format"),
    *("safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options"),
    *("temperature", "thinking", "tool_choice", "tools", "top_k", "top_logprobs", "top_p"),
    *("user", "verbosity", "moderation", "prediction", "prompt_cache_options"),
    *("prompt_cache_retention", "web_search_options"),
)

_DROPPED: Final = (
    ("web_search_options", "a search by the provider can't be translated", True),
    ("moderation", "OpenAI alone moderates its own answers", True),
    ("prediction", "OpenAI alone takes a predicted answer", False),
    ("prompt_cache_options", "it is OpenAI's own way of caching", False),
    ("prompt_cache_retention", "it is OpenAI's own way of caching", False),
)


def read_request(body: Mapping[str, Any], losses: Losses) -> Conversation:
    """The conversation in a body. Raises InvalidRequest."""
    request = Value(dict(body))
    for field, why, grave in _DROPPED:
        if field in request:
            losses.drop(field, why, grave=grave)
    request.lose_others(losses, *_KNOWN)
    tools = read_tools(request, losses)
    choice, tools = read_tool_choice(request, tools, losses)
    stream = request.maybe_flag("stream") or False
    return Conversation(
        model=request.field("model").text(),
        turns=read_messages(request.field("messages"), losses),
        stream=stream,
        include_usage=stream and _wants_usage(request, losses),
        **_settings(request, losses, tools, choice),
    )


def _settings(
    request: Value, losses: Losses, tools: tuple[Tool, ...], choice: ToolChoice | None
) -> dict[str, Any]:
    """Everything but the messages."""
    audio, metadata, cache = (
        request.maybe(name) for name in ("audio", "metadata", "cache_control")
    )
    mark: CacheMark | None = None if cache is None else read_cache(cache)
    return {
        "tools": tools,
        "tool_choice": choice,
        "parallel": request.maybe_flag("parallel_tool_calls"),
        "max_tokens": _cap(request),
        "sampling": _sampling(request),
        "stop": _stops(request),
        "n": request.maybe_whole("n", 1),
        "output": _output(request, losses),
        "modalities": tuple(item.text() for item in request.maybe_items("modalities")),
        "audio": None if audio is None else audio.fields(),
        "reasoning": _wish(request),
        "verbosity": request.maybe_text("verbosity"),
        "service_tier": request.maybe_text("service_tier"),
        "user": _user(request, losses),
        "metadata": None if metadata is None else metadata.fields(),
        "cache_key": request.maybe_text("prompt_cache_key"),
        "cache_all": mark,
        "store": request.maybe_flag("store"),
    }


def _cap(request: Value) -> int | None:
    """The newer name counts; a negative number is how local servers are told of no cap."""
    newer = request.maybe_whole("max_completion_tokens", -1)
    cap = request.maybe_whole("max_tokens", -1)
    cap = cap if newer is None else newer
    return None if cap is None or cap < 0 else cap


def _sampling(request: Value) -> Sampling:
    bias, top_k = request.maybe("logit_bias"), request.maybe_whole("top_k", -1)
    return Sampling(
        temperature=request.maybe_number("temperature"),
        top_p=request.maybe_number("top_p"),
        top_k=None if top_k is None or top_k < 1 else top_k,  # vLLM's -1 and 0 are no limit
        presence_penalty=request.maybe_number("presence_penalty"),
        frequency_penalty=request.maybe_number("frequency_penalty"),
        seed=request.maybe_whole("seed", -(2**63)),
        logit_bias=None if bias is None else bias.fields(),
        logprobs=request.maybe_flag("logprobs"),
        top_logprobs=request.maybe_whole("top_logprobs"),
    )


def _stops(request: Value) -> tuple[str, ...]:
    stop = request.maybe("stop")
    if stop is None:
        return ()
    if isinstance(stop.json, str):
        return (stop.json,)
    if not isinstance(stop.json, list):
        stop.refuse("a string or an array of strings")
    return tuple(item.text() for item in stop.items())


def _output(request: Value, losses: Losses) -> OutputFormat | None:
    wanted = request.maybe("response_format")
    if wanted is None:
        return None
    kind = wanted.field("type").one_of("text", "json_object", "json_schema")
    if kind != "json_schema":
        return None if kind == "text" else OutputFormat(kind="json")
    said = wanted.field("json_schema")
    said.lose_others(losses, "name", "schema", "strict", "description")
    schema = said.maybe("schema")
    return OutputFormat(
        kind="schema",
        name=said.maybe_text("name") or "",
        schema={} if schema is None else schema.fields(),
        strict=said.maybe_flag("strict"),
        description=said.maybe_text("description"),
    )


def _wish(request: Value) -> ReasoningWish | None:
    """OpenAI's effort, OpenRouter's ``reasoning``, and ``thinking`` as DeepSeek and others take it.

    Source: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens.
    """
    effort, enabled, budget, shown = (
        effort_in(request, "reasoning_effort"),
        None,
        None,
        request.maybe_flag("include_reasoning"),
    )
    said = request.maybe("reasoning")
    if said is not None:
        effort = effort or effort_in(said, "effort")
        budget = said.maybe_whole("max_tokens")
        enabled = said.maybe_flag("enabled")
        hidden = said.maybe_flag("exclude")
        shown = shown if hidden is None else not hidden
    thinking = request.maybe("thinking")
    if thinking is not None:
        enabled = thinking.field("type").one_of("enabled", "disabled", "adaptive") != "disabled"
        budget = budget or thinking.maybe_whole("budget_tokens")
    if effort == "none" or budget == 0:
        enabled, budget = False, None
    if (effort, enabled, budget, shown) == (None, None, None, None):
        return None
    return ReasoningWish(enabled=enabled, effort=effort, budget=budget, shown=shown)


def _user(request: Value, losses: Losses) -> str | None:
    user, identifier = request.maybe_text("user"), request.maybe_text("safety_identifier")
    if user is not None and identifier is not None and user != identifier:
        losses.drop("safety_identifier", "the request names its user in 'user' already")
    return identifier if user is None else user


def _wants_usage(request: Value, losses: Losses) -> bool:
    options = request.maybe("stream_options")
    if options is None:
        return False
    options.lose_others(losses, "include_usage", "include_obfuscation")
    if options.maybe_flag("include_obfuscation"):
        losses.drop("stream_options.include_obfuscation", "OpenAI alone pads its chunks")
    return options.maybe_flag("include_usage") or False
