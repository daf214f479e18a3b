"""Answers of every provider, whole and streamed, as they stand on the wire.

Those of the dialects that only providers speak are written here, from their documentation.
"""

from __future__ import annotations

import binascii
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

from proxy_core._types import Usage
from proxy_core.dialects import CLIENT_CODECS, FRAMINGS
from proxy_core.dialects import _canonical as form
from proxy_core.dialects import framing_of
from proxy_core.dialects._codec import Frame, Told
from proxy_core.dialects._fold import events_of

__all__ = ["STOP_WORDS", "TOLD", "frames", "streamed", "whole"]

_Json = dict[str, Any]
ASKED: Final = form.Conversation(model="asked", turns=(), stream=True, include_usage=True)
TOLD: Final = Told("asked", ASKED, "req-1", 1_700_000_000)

STOP_WORDS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "bedrock.converse": {
            "end": "end_turn",
            "stop_sequence": "stop_sequence",
            "length": "max_tokens",
            "tool_calls": "tool_use",
            "content_filter": "content_filtered",
            "context_window": "model_context_window_exceeded",
        },
        "ollama.chat": {"end": "stop", "length": "length", "tool_calls": "stop"},
        "cohere.chat": {
            "end": "COMPLETE",
            "stop_sequence": "STOP_SEQUENCE",
            "length": "MAX_TOKENS",
            "tool_calls": "TOOL_CALL",
        },
    }
)


def whole(origin: str, answer: form.Answer) -> _Json:
    """The body of an answer that is not streamed."""
    if origin in CLIENT_CODECS:
        written = CLIENT_CODECS[origin].write_answer(answer, TOLD)
    else:
        written = _WHOLE[origin](answer)
    return dict(json.loads(json.dumps(written)))


def streamed(origin: str, answer: form.Answer) -> bytes:
    """The same as a stream."""
    if origin not in CLIENT_CODECS:
        return b"".join(_STREAMS[origin](answer))
    writer = CLIENT_CODECS[origin].stream_writer(TOLD)
    return b"".join([*map(writer.write, events_of(answer)), writer.end()])


def frames(origin: str, data: bytes, cuts: list[int]) -> Iterator[Frame]:
    """What the framing makes of these bytes, cut where it is said."""
    framing = FRAMINGS[framing_of(origin, {})]()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        yield from framing.feed(data[start:end])
    yield from framing.end()


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _stop(origin: str, answer: form.Answer) -> str:
    return STOP_WORDS[origin][answer.choices[0].stop or "end"]


# --- Converse: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html


def _converse_usage(usage: Usage) -> _Json:
    kept = usage.cache_write_1h_tokens
    return {
        "inputTokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "cacheReadInputTokens": usage.cached_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
        "cacheDetails": [{"ttl": "1h", "inputTokens": kept}] if kept else [],
    }


def _converse_block(part: form.Part) -> _Json:
    match part:
        case form.Reasoning():
            told = {"text": part.text}
            if part.signature is not None:
                told["signature"] = part.signature.value
            return {"reasoningContent": {"reasoningText": told}}
        case form.ToolCall():
            given = json.loads(part.arguments)
            return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": given}}
        case form.Text():
            return {"text": part.text}
    raise AssertionError(part)


def _converse(answer: form.Answer) -> _Json:
    content = [_converse_block(part) for part in answer.choices[0].parts]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _stop("bedrock.converse", answer),
        "usage": _converse_usage(answer.usage),
        "metrics": {"latencyMs": 7},
    }


def _aws(name: str, payload: _Json) -> bytes:
    """One message of an event stream, as the Smithy specification lays it out.

    https://smithy.io/2.0/aws/amazon-eventstream.html
    """
    body, headers = _dump(payload), b""
    for key, value in (
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ):
        headers += bytes([len(key)]) + key.encode() + b"\x07"
        headers += struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    message = prelude + headers + body
    return message + struct.pack(">I", binascii.crc32(message))


def _converse_stream(answer: form.Answer) -> Iterator[bytes]:
    yield _aws("messageStart", {"role": "assistant"})
    for at, part in enumerate(answer.choices[0].parts):
        where = {"contentBlockIndex": at}
        ((kind, said),) = _converse_block(part).items()
        deltas: list[_Json] = []
        if kind == "toolUse":
            assert isinstance(part, form.ToolCall)
            start = {name: said[name] for name in ("toolUseId", "name")}
            yield _aws("contentBlockStart", where | {"start": {"toolUse": start}})
            pieces = (part.arguments[:3], part.arguments[3:])
            deltas = [{"toolUse": {"input": piece}} for piece in pieces]
        elif kind == "reasoningContent":
            deltas = [{kind: {name: value}} for name, value in said["reasoningText"].items()]
        else:
            deltas = [{"text": said[:2]}, {"text": said[2:]}]
        for delta in deltas:
            yield _aws("contentBlockDelta", where | {"delta": delta})
        yield _aws("contentBlockStop", where)
    yield _aws("messageStop", {"stopReason": _stop("bedrock.converse", answer)})
    yield _aws("metadata", {"usage": _converse_usage(answer.usage), "metrics": {"latencyMs": 7}})


# --- Ollama: https://docs.ollama.com/api/chat


def _ollama_messages(answer: form.Answer) -> Iterator[_Json]:
    for part in answer.choices[0].parts:
        match part:
            case form.Reasoning():
                yield {"role": "assistant", "content": "", "thinking": part.text}
            case form.Text():
                yield {"role": "assistant", "content": part.text}
            case form.ToolCall():
                function = {"name": part.name, "arguments": json.loads(part.arguments)}
                yield {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}


def _ollama_line(answer: form.Answer, message: _Json, *, done: bool) -> _Json:
    line = {"model": answer.model, "created_at": "2026-01-02T03:04:05Z", "message": message}
    if not done:
        return line | {"done": False}
    usage = answer.usage
    counts = {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens}
    return line | {"done": True, "done_reason": _stop("ollama.chat", answer)} | counts


def _ollama(answer: form.Answer) -> _Json:
    message: _Json = {"role": "assistant", "content": ""}
    for one in _ollama_messages(answer):
        for name, value in one.items():
            message[name] = value if name == "role" else message.get(name, type(value)()) + value
    return _ollama_line(answer, message, done=True)


def _ollama_stream(answer: form.Answer) -> Iterator[bytes]:
    for message in _ollama_messages(answer):
        yield _dump(_ollama_line(answer, message, done=False)) + b"\n"
    last = {"role": "assistant", "content": ""}
    yield _dump(_ollama_line(answer, last, done=True)) + b"\n"


# --- Cohere: https://docs.cohere.com/reference/chat and https://docs.cohere.com/docs/streaming


def _cohere_usage(usage: Usage) -> _Json:
    counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return {"billed_units": counts, "tokens": counts, "cached_tokens": usage.cached_tokens}


def _cohere_call(part: form.ToolCall) -> _Json:
    function = {"name": part.name, "arguments": part.arguments}
    return {"id": part.id, "type": "function", "function": function}


def _cohere(answer: form.Answer) -> _Json:
    message: _Json = {"role": "assistant", "content": []}
    for part in answer.choices[0].parts:
        match part:
            case form.Reasoning():
                message["content"].append({"type": "thinking", "thinking": part.text})
            case form.Text():
                message["content"].append({"type": "text", "text": part.text})
            case form.ToolCall():
                message.setdefault("tool_calls", []).append(_cohere_call(part))
    return {
        "id": answer.id,
        "finish_reason": _stop("cohere.chat", answer),
        "message": message,
        "usage": _cohere_usage(answer.usage),
    }


def _cohere_stream(answer: form.Answer) -> Iterator[bytes]:
    yield _sse("message-start", id=answer.id, delta={"message": {"role": "assistant"}})
    content = calls = 0
    for part in answer.choices[0].parts:
        match part:
            case form.ToolCall():
                function = {"name": part.name, "arguments": ""}
                start = _cohere_call(part) | {"function": function}
                yield _cohere_event("tool-call-start", calls, {"tool_calls": start})
                for piece in (part.arguments[:3], part.arguments[3:]):
                    said = {"function": {"arguments": piece}}
                    yield _cohere_event("tool-call-delta", calls, {"tool_calls": said})
                yield _cohere_event("tool-call-end", calls, None)
                calls += 1
            case form.Reasoning() | form.Text():
                kind = "text" if isinstance(part, form.Text) else "thinking"
                opened = {"content": {"type": kind, kind: ""}}
                yield _cohere_event("content-start", content, opened)
                for piece in (part.text[:2], part.text[2:]):
                    yield _cohere_event("content-delta", content, {"content": {kind: piece}})
                yield _cohere_event("content-end", content, None)
                content += 1
    end = {"finish_reason": _stop("cohere.chat", answer), "usage": _cohere_usage(answer.usage)}
    yield _sse("message-end", id=answer.id, delta=end)


def _cohere_event(kind: str, index: int, message: _Json | None) -> bytes:
    return _sse(kind, index=index, **({} if message is None else {"delta": {"message": message}}))


def _sse(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _dump({"type": kind, **fields}))


_WHOLE: Final[Mapping[str, Callable[[form.Answer], _Json]]] = MappingProxyType(
    {"bedrock.converse": _converse, "ollama.chat": _ollama, "cohere.chat": _cohere}
)
_STREAMS: Final[Mapping[str, Callable[[form.Answer], Iterator[bytes]]]] = MappingProxyType(
    {
        "bedrock.converse": _converse_stream,
        "ollama.chat": _ollama_stream,
        "cohere.chat": _cohere_stream,
    }
)
