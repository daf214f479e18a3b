"""Whole answers, between Anthropic's words and the canonical ones."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects._anthropic._carried import carrying
from proxy_core.dialects._anthropic._citations import citation_of, citation_told
from proxy_core.dialects._anthropic._foreign import UNSIGNED
from proxy_core.dialects._anthropic._usage import usage_of, usage_told
from proxy_core.dialects._anthropic._words import (
    DIALECT,
    STOP_REASONS,
    STOPS,
    TIERS_TOLD,
    TOLD_TIERS,
    given_id,
    object_of,
    safe_id,
)
from proxy_core.dialects._canonical import (
    Answer,
    Choice,
    Media,
    Part,
    Reasoning,
    Refusal,
    Signature,
    StopReason,
    Text,
    ToolCall,
)
from proxy_core.dialects._codec import Told
from proxy_core.dialects._seal import sealed
from proxy_core.errors import UpstreamProtocolError

__all__ = [
    "block_of",
    "message_told",
    "part_of",
    "read_answer",
    "stop_told",
    "tier_of",
    "tier_told",
    "write_answer",
]

Block = dict[str, Any]

_MEDIA: Final = MappingProxyType(
    {"image": "picture", "audio": "sound", "video": "video", "file": "file"}
)


def read_answer(body: Mapping[str, Any]) -> Answer:
    """See ``UpstreamCodec.read_answer``."""
    if body.get("type") == "error" or body.get("error"):
        raise failure_in_body(msgspec.json.encode(body.get("error")))
    content = body.get("content")
    if not isinstance(content, list):
        raise UpstreamProtocolError("the upstream's answer has no 'content'")
    found = (part_of(block) for block in content)
    stop, sequence, usage = body.get("stop_reason"), body.get("stop_sequence"), body.get("usage")
    told = usage if isinstance(usage, dict) else {}
    choice = Choice(
        parts=tuple(part for part in found if part is not None),
        stop=STOPS.get(stop, "end") if isinstance(stop, str) else None,
        stop_sequence=sequence if isinstance(sequence, str) else None,
    )
    return Answer(
        id=_text(body, "id"),
        model=_text(body, "model"),
        choices=(choice,),
        usage=usage_of(told) or Usage(),
        service_tier=tier_of(told),
    )


def part_of(block: object) -> Part | None:
    """The part that a block is; None for the work of Anthropic's own tools.

    Raises UpstreamProtocolError for what is no block.
    """
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise UpstreamProtocolError("the upstream's answer has a content block without a type")
    read = _PARTS.get(block["type"])
    return None if read is None else read(block)


def tier_of(usage: Mapping[str, Any]) -> str | None:
    tier = usage.get("service_tier")
    return TIERS_TOLD.get(tier) if isinstance(tier, str) else None


def write_answer(answer: Answer, told: Told) -> dict[str, Any]:
    """See ``ClientCodec.write_answer``. Of several choices Anthropic's clients see the first."""
    choice = answer.choices[0] if answer.choices else Choice(parts=(), stop=None)
    message = message_told(answer.id, told.model)
    message["content"] = [block for part in choice.parts for block in _blocks_of(part)]
    message["stop_reason"] = stop_told(choice.stop or "end", choice.parts)
    message["stop_sequence"] = choice.stop_sequence
    message["usage"] |= usage_told(answer.usage) | tier_told(answer.service_tier)
    return message


def message_told(answer_id: str, model: str) -> dict[str, Any]:
    """A message before its content."""
    return {
        "id": answer_id or f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {},
    }


def stop_told(stop: StopReason, parts: tuple[Part, ...]) -> str:
    """The word for an end. Agents look at it: calls say so, whatever their provider said."""
    if stop == "end" and any(isinstance(part, ToolCall) for part in parts):
        stop = "tool_calls"
    if stop == "end" and any(isinstance(part, Refusal) for part in parts):
        stop = "refusal"
    return STOP_REASONS[stop]


def tier_told(tier: str | None) -> Block:
    word = TOLD_TIERS.get(tier or "")
    return {} if word is None else {"service_tier": word}


def _blocks_of(part: Part) -> list[Block]:
    block = block_of(part)
    signature = getattr(part, "signature", None)
    if block is None or signature is None or isinstance(part, Reasoning | Media):
        return [] if block is None else [block]
    return [carrying(signature), block]


def block_of(part: Part) -> Block | None:
    """The block that says it; None where there is nothing to say."""
    match part:
        case Text():
            cited = [citation_told(one) for one in part.citations] or None
            block = {"type": "text", "text": part.text, "citations": cited}
            return block if part.text or cited else None
        case Refusal():
            return _plain(part.text)
        case Media():
            return _plain(_media_told(part))
        case ToolCall():
            given = object_of(part.arguments)
            given = {"_raw": part.arguments} if given is None else given
            return {"type": "tool_use", "id": safe_id(part.id), "name": part.name, "input": given}
        case Reasoning():
            return _thinking(part)
        case _:
            return None


def _media_told(part: Media) -> str:
    """An answer's headers are out when its content comes: what is left out is said in its place."""
    if part.transcript:
        return part.transcript
    if part.source.kind == "url":
        return part.source.data
    kind = f" ({part.source.media_type})" if part.source.media_type else ""
    what = f"A {_MEDIA[part.kind]}{kind}"
    return f"[{what} was left out: Anthropic's messages have no place for it in an answer.]"


def _plain(text: str) -> Block | None:
    return {"type": "text", "text": text, "citations": None} if text else None


def _thinking(part: Reasoning) -> Block | None:
    value = UNSIGNED if part.signature is None else sealed(part.signature, DIALECT)
    if part.signature is None and (part.redacted or not part.text):
        return None
    if part.redacted:
        return {"type": "redacted_thinking", "data": value}
    return {"type": "thinking", "thinking": part.text, "signature": value}


def _text(block: Mapping[str, Any], name: str) -> str:
    value = block.get(name)
    return value if isinstance(value, str) else ""


def _own(value: str) -> Signature | None:
    """A proxy of ours may be the upstream: what it sealed is its own."""
    return Signature(origin=DIALECT, value=value) if value and value != UNSIGNED else None


def _text_of(block: Block) -> Part:
    cited = block.get("citations")
    found = [citation_of(one) for one in cited] if isinstance(cited, list) else []
    return Text(text=_text(block, "text"), citations=tuple(one for one in found if one is not None))


def _call_of(block: Block) -> Part:
    given = block.get("input")
    return ToolCall(
        id=given_id(_text(block, "id")),
        name=_text(block, "name"),
        arguments=msgspec.json.encode(given if isinstance(given, dict) else {}).decode(),
    )


def _thinking_of(block: Block) -> Part:
    return Reasoning(text=_text(block, "thinking"), signature=_own(_text(block, "signature")))


def _redacted_of(block: Block) -> Part:
    return Reasoning(signature=_own(_text(block, "data")), redacted=True)


_PARTS: Final[Mapping[str, Callable[[Block], Part]]] = MappingProxyType(
    {
        "text": _text_of,
        "tool_use": _call_of,
        "thinking": _thinking_of,
        "redacted_thinking": _redacted_of,
    }
)
