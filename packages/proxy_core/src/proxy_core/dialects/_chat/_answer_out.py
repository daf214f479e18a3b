"""A whole answer for a client: every field that OpenAI's own description requires."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Final

from proxy_core.dialects._canonical import (
    Answer,
    Choice,
    Media,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
)
from proxy_core.dialects._chat._counts import written_usage
from proxy_core.dialects._chat._ends import finish_reason_of
from proxy_core.dialects._chat._reasoning import Places, for_client, is_said
from proxy_core.dialects._chat._wire import annotations_of, url_of, with_signature
from proxy_core.dialects._codec import Told

__all__ = ["answer_id", "spoken", "tier_of", "write_answer", "written_call", "written_image"]

_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})


def write_answer(answer: Answer, told: Told) -> dict[str, Any]:
    """A ``chat.completion``."""
    created = answer.created or told.created
    body: dict[str, Any] = {
        "id": answer_id(answer.id, told),
        "object": "chat.completion",
        "created": created,
        "model": told.model,
        "choices": [_choice(choice, index, created) for index, choice in enumerate(answer.choices)],
        "usage": written_usage(answer.usage),
    }
    return body | tier_of(answer.service_tier)


def answer_id(id: str, told: Told) -> str:
    """The upstream's, or one of ours where it gave none."""
    return id or f"chatcmpl-{told.request_id or secrets.token_hex(12)}"


def tier_of(tier: str | None) -> dict[str, str]:
    """The field, where the tier is one that OpenAI's clients know."""
    return {"service_tier": tier} if tier in _TIERS and tier is not None else {}


def written_call(call: ToolCall) -> dict[str, Any]:
    """A call in a message, of an answer or of a request."""
    said = {"name": call.name, ("input" if call.custom else "arguments"): call.arguments}
    kind = "custom" if call.custom else "function"
    return with_signature({"id": call.id, "type": kind, kind: said}, call.signature)


def written_image(picture: Media) -> dict[str, Any]:
    """A picture that the model made, as OpenRouter says it.

    Source: https://openrouter.ai/docs/guides/overview/multimodal/image-generation
    """
    url = url_of(picture.source, "image/png")
    return with_signature({"type": "image_url", "image_url": {"url": url}}, picture.signature)


def spoken(sound: Media, created: int) -> dict[str, Any]:
    """A message's ``audio``. No provider but OpenAI keeps it, so that it has expired already."""
    data = sound.source.data if sound.source.kind == "base64" else ""
    return {
        "id": sound.id or "",
        "data": data,
        "transcript": sound.transcript or "",
        "expires_at": created,
    }


def _choice(choice: Choice, index: int, created: int) -> dict[str, Any]:
    message = _message(choice, created)
    logprobs = choice.logprobs
    return {
        "index": index,
        "message": message,
        "logprobs": None if logprobs is None else {"content": None, "refusal": None} | logprobs,
        "finish_reason": finish_reason_of(choice.stop, called="tool_calls" in message),
    }


def _message(choice: Choice, created: int) -> dict[str, Any]:
    texts = [part for part in choice.parts if isinstance(part, Text)]
    refusals = [part.text for part in choice.parts if isinstance(part, Refusal)]
    content = "".join(part.text for part in texts)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content or None,
        "refusal": "".join(refusals) or None,
    }
    lists = {
        "annotations": _annotations(texts),
        "images": [written_image(part) for part in _media(choice, "image")],
        "tool_calls": [written_call(part) for part in choice.parts if isinstance(part, ToolCall)],
    }
    message |= {name: value for name, value in lists.items() if value}
    message |= _thinking(choice.parts)
    for sound in _media(choice, "audio"):
        message["audio"] = spoken(sound, created)
    signatures = [part.signature for part in texts if part.signature is not None]
    return with_signature(message, signatures[0] if signatures else None)


def _media(choice: Choice, kind: str) -> Iterable[Media]:
    return (part for part in choice.parts if isinstance(part, Media) and part.kind == kind)


def _annotations(texts: list[Text]) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    at = 0
    for text in texts:
        written += annotations_of(text.citations, at, at + len(text.text))
        at += len(text.text)
    return written


def _thinking(parts: Iterable[Part]) -> dict[str, Any]:
    """``reasoning_content`` for people, and the details for the turns to come."""
    places = Places()
    placed = [(part, places.take(part)) for part in parts if is_said(part)]
    thoughts = [(part, at) for part, at in placed if isinstance(part, Reasoning)]
    if not thoughts:
        return {}
    said = "".join(part.text for part, _ in thoughts)
    details = [for_client(part, at) for part, at in thoughts]
    return ({"reasoning_content": said} if said else {}) | {"reasoning_details": details}
