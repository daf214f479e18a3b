"""The body for an upstream's ``/chat/completions``."""

from __future__ import annotations

from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Conversation, OutputFormat, ReasoningWish
from proxy_core.dialects._chat._messages_out import written_messages
from proxy_core.dialects._chat._tools_out import written_tools
from proxy_core.dialects._chat._wire import cache_control
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import BUDGETS, effort_of, nearest_effort

__all__ = ["write_request"]

_CAP: Final = "max_completion_tokens"
_WHILE_THINKING: Final = frozenset(
    {"temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty"}
)
_NOT_TAKEN: Final = "the model does not take it"


def write_request(
    conversation: Conversation, model: str, can: Abilities, losses: Losses
) -> dict[str, Any]:
    """What isn't carried is named in ``losses``. A stream is asked for its usage always."""
    body: dict[str, Any] = {
        "model": model,
        "messages": written_messages(conversation, can, losses),
    }
    body |= written_tools(conversation, can, losses)
    if conversation.max_tokens is not None:
        body[can.cap_field or _CAP] = conversation.max_tokens
    body |= _sampling(conversation, can, losses)
    body |= _stops(conversation, can, losses)
    body |= _form(conversation, can, losses)
    body |= _effort(conversation.reasoning, can, losses)
    body |= _platform(conversation, can, losses)
    if conversation.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _sampling(conversation: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    said = conversation.sampling
    fields: tuple[tuple[str, Any, bool], ...] = (
        ("temperature", said.temperature, can.temperature),
        ("top_p", said.top_p, can.top_p),
        ("top_k", said.top_k, can.top_k),
        ("presence_penalty", said.presence_penalty, can.penalties),
        ("frequency_penalty", said.frequency_penalty, can.penalties),
        ("seed", said.seed, can.seed),
        ("logit_bias", said.logit_bias, can.logit_bias),
        ("logprobs", said.logprobs, can.logprobs),
        ("top_logprobs", said.top_logprobs, can.logprobs),
    )
    thinking = not can.sampling_while_reasoning and _thinks(conversation.reasoning)
    body: dict[str, Any] = {}
    for name, value, taken in fields:
        if value is None:
            continue
        if not taken:
            losses.drop(name, _NOT_TAKEN)
        elif name == "top_p" and "temperature" in body and not can.temperature_and_top_p:
            losses.drop(name, "the model takes a temperature or top_p, and not both")
        elif thinking and name in _WHILE_THINKING:
            losses.drop(name, "the model does not take it while it reasons")
        else:
            body[name] = value
    highest = can.max_temperature
    if highest is not None and body.get("temperature", 0) > highest:
        losses.drop("temperature", f"the model takes {highest:g} at most, which it gets")
        body["temperature"] = highest
    return body


def _thinks(wish: ReasoningWish | None) -> bool:
    return wish is not None and wish.enabled is not False


def _stops(conversation: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    stops, most = conversation.stop, can.most_stops
    if most is not None and len(stops) > most:
        losses.drop("stop", f"the model takes {most} stop sequences at most")
        stops = stops[:most]
    return {"stop": list(stops)} if stops else {}


def _form(conversation: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    """How many answers, and in which form."""
    body: dict[str, Any] = {}
    n, output = conversation.n, conversation.output
    if n is not None and can.many_answers:
        body["n"] = n
    elif n is not None and n > 1:
        losses.drop("n", "the model gives one answer at a time", grave=True)
    if output is not None:
        body |= _output(output, can, losses)
    if conversation.modalities not in ((), ("text",)):
        body["modalities"] = list(conversation.modalities)
    if conversation.audio is not None:
        body["audio"] = conversation.audio
    if conversation.verbosity is not None:
        body["verbosity"] = conversation.verbosity
    return body


def _output(output: OutputFormat, can: Abilities, losses: Losses) -> dict[str, Any]:
    if output.kind == "json":
        if can.json_object:
            return {"response_format": {"type": "json_object"}}
        losses.drop("response_format", "the model has no JSON mode", grave=True)
        return {}
    if not can.json_schema:
        losses.drop("response_format", "the model does not follow a JSON Schema", grave=True)
        return {"response_format": {"type": "json_object"}} if can.json_object else {}
    schema: dict[str, Any] = {"name": output.name or "answer", "schema": output.schema}
    if output.strict is not None:
        schema["strict"] = output.strict
    if output.description is not None:
        schema["description"] = output.description
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _effort(wish: ReasoningWish | None, can: Abilities, losses: Losses) -> dict[str, Any]:
    """``reasoning_effort``: this dialect has no other word for it."""
    if wish is None:
        return {}
    for name, value in (("shown", wish.shown), ("summary", wish.summary)):
        if value is not None:
            losses.drop(f"reasoning.{name}", "chat completions have no word for it")
    effort, exact = _wanted(wish)
    if effort is None:
        return {}
    if "effort" not in can.reasoning:
        if effort != "none":
            losses.drop("reasoning_effort", _NOT_TAKEN)
        return {}
    nearest = nearest_effort(effort, can.efforts)
    if nearest is None:
        losses.drop("reasoning_effort", _NOT_TAKEN)
        return {}
    if nearest != effort or not exact:
        losses.drop("reasoning_effort", f"it was rounded to {nearest!r}")
    return {"reasoning_effort": nearest}


def _wanted(wish: ReasoningWish) -> tuple[str | None, bool]:
    """The effort, and whether it says exactly what was wished."""
    if wish.enabled is False:
        return "none", True
    if wish.effort is not None:
        return wish.effort, True
    if wish.budget is not None:
        effort = effort_of(wish.budget)
        return effort, BUDGETS[effort] == wish.budget
    return ("medium", True) if wish.enabled else (None, True)


def _platform(conversation: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    """What concerns the provider's service rather than the answer.

    Keeping answers and cache keys are OpenAI's own, as is the metadata of what it keeps.
    """
    mark = conversation.cache_all
    fields: tuple[tuple[str, Any, bool], ...] = (
        ("service_tier", conversation.service_tier, can.service_tiers),
        ("user", conversation.user, can.user),
        ("metadata", conversation.metadata, can.metadata),
        ("store", conversation.store, can.store),
        ("prompt_cache_key", conversation.cache_key, can.cache_key),
        ("cache_control", None if mark is None else cache_control(mark), can.cache_marks),
    )
    body: dict[str, Any] = {}
    for name, value, taken in fields:
        if value is not None and taken:
            body[name] = value
        elif value is not None and value is not False:  # what isn't wished for is no loss
            losses.drop(name, "the provider does not take it")
    return body
