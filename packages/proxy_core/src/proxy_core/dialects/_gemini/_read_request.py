"""A GenerateContentRequest as a client wrote it, into a Conversation.

https://ai.google.dev/api/generate-content, and the types of google-genai.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy_core.dialects._canonical import Conversation, Text, Turn
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._gemini._read_config import (
    Config,
    read_config,
    read_service_tier,
    read_tool_choice,
    read_tools,
)
from proxy_core.dialects._gemini._read_turns import opened, read_part, read_turns
from proxy_core.dialects._reading import Value

__all__ = ["read_request"]

_KNOWN: Final = (
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "cachedContent",
    "labels",
    "model",
    "serviceTier",
    "store",
)


def read_request(body: Mapping[str, Any], losses: Losses) -> Conversation:
    """What is asked for. Raises InvalidRequest."""
    whole = opened(Value(dict(body)))
    whole.lose_others(losses, *_KNOWN)
    system = _system(whole, losses)
    losses.places += ["systemInstruction"] * len(system)
    turns = (*system, *read_turns(whole.field("contents"), losses))
    told = whole.maybe("generationConfig")
    config = Config() if told is None else read_config(opened(told), losses)
    _lose(whole, losses)
    return Conversation(
        model=(whole.maybe_text("model") or "").removeprefix("models/"),
        turns=turns,
        tools=read_tools(whole, losses),
        tool_choice=read_tool_choice(whole, losses),
        service_tier=read_service_tier(whole),
        store=whole.maybe_flag("store"),
        metadata=_labels(whole),
        max_tokens=config.max_tokens,
        sampling=config.sampling,
        stop=config.stop,
        n=config.n,
        output=config.output,
        modalities=config.modalities,
        reasoning=config.reasoning,
        include_usage=True,
    )


def _system(whole: Value, losses: Losses) -> tuple[Turn, ...]:
    told = whole.maybe("systemInstruction")
    if told is None:
        return ()
    if isinstance(told.json, str):
        return (Turn(role="system", parts=(Text(text=told.json),)),)
    content = opened(told)
    content.lose_others(losses, "role", "parts")
    found = [read_part(part, losses) for part in content.maybe_items("parts")]
    parts = []
    for place, part in enumerate(found):
        if isinstance(part, Text):
            parts.append(part)
        elif part is not None:
            where = f"{content.path}.parts[{place}]"
            losses.drop(where, "only text can instruct the system", grave=True)
    return (Turn(role="system", parts=tuple(parts)),) if parts else ()


def _labels(whole: Value) -> dict[str, str] | None:
    labels = whole.maybe("labels")
    if labels is None:
        return None
    return {
        name: Value(value, f"{labels.path}.{name}").text()
        for name, value in labels.fields().items()
    }


def _lose(whole: Value, losses: Losses) -> None:
    if "safetySettings" in whole:
        losses.drop("safetySettings", "other providers have no thresholds of safety to set")
    if "cachedContent" in whole:
        why = "it is a part of the prompt which only Google has"
        losses.drop("cachedContent", why, grave=True)
