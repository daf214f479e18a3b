"""A client's request into the canonical form."""

from __future__ import annotations

from typing import Any, Final

from proxy_core.dialects._canonical import (
    Conversation,
    OutputFormat,
    ReasoningWish,
    Sampling,
    Text,
    Tool,
    Turn,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import effort_in
from proxy_core.dialects._reading import Value
from proxy_core.dialects._responses._items import read_items
from proxy_core.dialects._responses._namespaces import flat_names
from proxy_core.dialects._responses._tools import read_choice, read_tools
from proxy_core.dialects._responses._words import ENCRYPTED, LOGPROBS
from proxy_core.errors import InvalidRequest

__all__ = ["read_request"]

_STATEFUL: Final = ("previous_response_id", "conversation")
_KNOWN: Final = (
    *_STATEFUL,
    "background",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "metadata",
    "model",
    "parallel_tool_calls",
    "prompt",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)


def read_request(body: Value, losses: Losses) -> Conversation:
    """Raises InvalidRequest, also for what needs an answer that was stored."""
    body.lose_others(losses, *_KNOWN)
    _refuse_state(body)
    offered = read_tools(body, losses)
    choice, tools = read_choice(body, offered, losses)
    output, verbosity = _read_text(body, losses)
    metadata = body.maybe("metadata")
    stream = body.maybe_flag("stream") or False
    return Conversation(
        model=body.field("model").text(),
        turns=_read_turns(body, offered, losses),
        tools=tools,
        tool_choice=choice,
        parallel=body.maybe_flag("parallel_tool_calls"),
        max_tokens=body.maybe_whole("max_output_tokens"),
        sampling=_read_sampling(body, losses),
        output=output,
        reasoning=_read_reasoning(body, losses),
        verbosity=verbosity,
        service_tier=body.maybe_text("service_tier"),
        user=_read_user(body, losses),
        metadata=None if metadata is None else metadata.fields(),
        cache_key=body.maybe_text("prompt_cache_key"),
        store=body.maybe_flag("store"),
        stream=stream,
        include_usage=stream,
    )


def _refuse_state(body: Value) -> None:
    for name in _STATEFUL:
        if name in body:
            _refuse(name, "no answers are stored for this model")
    if "prompt" in body:
        _refuse("prompt", "this model's provider has no stored prompts")
    if body.maybe_flag("background"):
        raise InvalidRequest(
            "The field 'background' is true: no answers are stored for this model. "
            "Ask with 'background' false, and with 'stream' true for a long answer.",
            param="background",
        )


def _refuse(name: str, why: str) -> None:
    raise InvalidRequest(
        f"The field {name!r} can't be used: {why}. "
        "Send the whole conversation in 'input', with 'store' false.",
        param=name,
    )


def _read_turns(body: Value, tools: tuple[Tool, ...], losses: Losses) -> tuple[Turn, ...]:
    told, first = body.field("input"), body.maybe_text("instructions")
    if first is not None:
        losses.places.append("instructions")
    if isinstance(told.json, str):
        losses.places.append(told.path)
        turns: tuple[Turn, ...] = (Turn(role="user", parts=(Text(text=told.json),)),)
    elif isinstance(told.json, list):
        turns = read_items(told.items(), losses, flat_names(tools))
    else:
        told.refuse("a string or an array")
    if first is None:
        return turns
    return (Turn(role="system", parts=(Text(text=first),)), *turns)


def _read_sampling(body: Value, losses: Losses) -> Sampling:
    top = body.maybe_whole("top_logprobs")
    wanted = _read_include(body, losses) or bool(top)
    return Sampling(
        temperature=body.maybe_number("temperature"),
        top_p=body.maybe_number("top_p"),
        logprobs=True if wanted else None,
        top_logprobs=top if wanted else None,
    )


def _read_include(body: Value, losses: Losses) -> bool:
    """Whether logprobs are wanted. Sealed reasoning is in every answer."""
    wanted = False
    for value in body.maybe_items("include"):
        match value.text():
            case word if word == LOGPROBS:
                wanted = True
            case word if word != ENCRYPTED:
                losses.drop(value.path, f"the translation can't include {word!r}")
    truncation = body.maybe("truncation")
    if truncation is not None and truncation.one_of("auto", "disabled") == "auto":
        losses.drop("truncation", "only OpenAI shortens a conversation by itself")
    return wanted


def _read_text(body: Value, losses: Losses) -> tuple[OutputFormat | None, str | None]:
    text = body.maybe("text")
    if text is None:
        return None, None
    text.lose_others(losses, "format", "verbosity")
    form = text.maybe("format")
    return None if form is None else _read_format(form, losses), text.maybe_text("verbosity")


def _read_format(form: Value, losses: Losses) -> OutputFormat | None:
    kind = form.field("type").one_of("text", "json_object", "json_schema")
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat(kind="json")
    form.lose_others(losses, "type", "name", "schema", "strict", "description")
    return OutputFormat(
        kind="schema",
        name=form.maybe_text("name") or "",
        schema=form.field("schema").fields(),
        strict=form.maybe_flag("strict"),
        description=form.maybe_text("description"),
    )


def _read_reasoning(body: Value, losses: Losses) -> ReasoningWish | None:
    wish = body.maybe("reasoning")
    if wish is None:
        return None
    wish.lose_others(losses, "effort", "summary", "generate_summary")
    effort = effort_in(wish, "effort")
    summary = wish.maybe_text("summary") or wish.maybe_text("generate_summary")
    # Codex says "none" where it wants no summary.
    said: dict[str, Any] = {"summary": summary, "shown": True} if summary else {}
    if summary == "none":
        said = {"shown": False}
    if effort is None and not said:
        return None
    return ReasoningWish(effort=effort, enabled=False if effort == "none" else None, **said)


def _read_user(body: Value, losses: Losses) -> str | None:
    older, newer = body.maybe_text("user"), body.maybe_text("safety_identifier")
    if older is not None and newer is not None and older != newer:
        losses.drop("user", "'safety_identifier' says who asks")
    return older if newer is None else newer
