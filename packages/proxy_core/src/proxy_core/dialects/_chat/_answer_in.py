"""A whole answer of an upstream, of OpenAI or of one of its many imitators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._body import fresh_call_id
from proxy_core.dialects._canonical import (
    Answer,
    Choice,
    Json,
    Media,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
)
from proxy_core.dialects._chat._counts import usage_of
from proxy_core.dialects._chat._ends import failure_in, stop_of
from proxy_core.dialects._chat._reasoning import in_places
from proxy_core.dialects._chat._wire import (
    arguments_of,
    as_dict,
    as_list,
    as_text,
    citations_of,
    image_of,
    signature_in,
)
from proxy_core.errors import UpstreamProtocolError

__all__ = ["audio_of", "content_parts", "read_answer", "read_created"]


def read_answer(body: Mapping[str, Any]) -> Answer:
    """The answer in a body. Raises UpstreamProtocolError, or the error that the body reports."""
    failure = failure_in(body)
    if failure is not None:
        raise failure
    choices = [as_dict(choice) for choice in as_list(body.get("choices"))]
    if not choices:
        raise UpstreamProtocolError("the upstream's answer has nothing in 'choices'")
    return Answer(
        id=as_text(body.get("id")),
        model=as_text(body.get("model")),
        choices=tuple(_choice(choice) for choice in choices),
        usage=usage_of(body.get("usage")) or Usage(),
        created=read_created(body),
        service_tier=as_text(body.get("service_tier")) or None,
    )


def read_created(body: Mapping[str, Json]) -> int:
    """A Unix time in seconds; some servers send a fraction."""
    created = body.get("created")
    return int(created) if isinstance(created, int | float) and 0 <= created < 1e12 else 0


def content_parts(content: Json) -> Iterator[Text | Reasoning | Media | Refusal]:
    """Of a message or a delta: a string, or Mistral's list of parts, where thinking stands too.

    Source: https://docs.mistral.ai/capabilities/reasoning
    """
    if isinstance(content, str):
        if content:
            yield Text(text=content)
        return
    for part in map(as_dict, as_list(content)):
        match part.get("type"):
            case "text" | "output_text" if as_text(part.get("text")):
                yield Text(text=as_text(part.get("text")))
            case "thinking":
                said = "".join(as_text(as_dict(one).get("text")) for one in _thinking(part))
                yield Reasoning(text=said or as_text(part.get("thinking")))
            case "refusal" if as_text(part.get("refusal")):
                yield Refusal(text=as_text(part.get("refusal")))
            case "image_url":
                picture = image_of(part)
                if picture is not None:
                    yield picture


def audio_of(told: Json) -> Media | None:
    """What the model spoke. Its format is the one that was asked for; nothing here says it."""
    audio = as_dict(told)
    if not (as_text(audio.get("data")) or as_text(audio.get("id"))):
        return None
    return Media(
        kind="audio",
        source=Source(kind="base64", data=as_text(audio.get("data"))),
        id=as_text(audio.get("id")) or None,
        transcript=as_text(audio.get("transcript")) or None,
    )


def _thinking(part: dict[str, Json]) -> list[Json]:
    return as_list(part.get("thinking"))


def _choice(choice: dict[str, Json]) -> Choice:
    failure = failure_in({"error": choice.get("error")})
    if failure is not None:
        raise failure
    message = choice.get("message")
    if not isinstance(message, dict):
        raise UpstreamProtocolError("the upstream's answer has a choice without a message")
    parts = tuple(in_places(message, tuple(_parts(message))))
    called = any(isinstance(part, ToolCall) for part in parts)
    reason, matched = as_text(choice.get("finish_reason")), choice.get("stop_reason")
    stop = stop_of(reason, matched, called=called) if reason or called else None
    logprobs = choice.get("logprobs")
    return Choice(
        parts=parts,
        stop=stop,
        stop_sequence=as_text(matched) if stop == "stop_sequence" and as_text(matched) else None,
        logprobs=logprobs if isinstance(logprobs, dict) else None,
    )


def _parts(message: dict[str, Json]) -> Iterator[Part]:
    yield from _annotated(list(content_parts(message.get("content"))), message)
    if as_text(message.get("refusal")):
        yield Refusal(text=as_text(message.get("refusal")))
    spoken = audio_of(message.get("audio"))
    if spoken is not None:
        yield spoken
    yield from filter(None, map(image_of, as_list(message.get("images"))))
    yield from map(_call, as_list(message.get("tool_calls")))
    if isinstance(message.get("function_call"), dict):
        yield _call({"function": message["function_call"]})


def _annotated(
    parts: list[Text | Reasoning | Media | Refusal], message: dict[str, Json]
) -> list[Text | Reasoning | Media | Refusal]:
    """The last text bears the message's citations and its signature."""
    citations, signature = citations_of(message.get("annotations")), signature_in(message)
    if not citations and signature is None:
        return parts
    at = next((n for n in reversed(range(len(parts))) if isinstance(parts[n], Text)), None)
    if at is None:
        return [*parts, Text(text="", citations=citations, signature=signature)]
    parts[at] = msgspec.structs.replace(parts[at], citations=citations, signature=signature)
    return parts


def _call(told: Json) -> ToolCall:
    call = as_dict(told)
    custom = isinstance(call.get("custom"), dict)
    said = as_dict(call.get("custom" if custom else "function"))
    name = as_text(said.get("name"))
    if not name:
        raise UpstreamProtocolError("the upstream's answer has a tool call without a name")
    arguments = arguments_of(said.get("input" if custom else "arguments"))
    return ToolCall(
        id=as_text(call.get("id")) or fresh_call_id(),
        name=name,
        arguments=arguments if custom else arguments or "{}",
        custom=custom,
        signature=signature_in(call),
    )
