"""Anthropic's messages, as https://platform.claude.com/docs/en/api/messages describes them."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from anthropic.types import Message, RawMessageStreamEvent, message_create_params
from pydantic import ConfigDict, TypeAdapter

from .said import USAGE, Call, Heard, Said, judged_deeply

__all__ = ["ERRORS", "check", "events", "hear", "in_stream", "whole"]

_PARAMS: Final[TypeAdapter[Any]] = TypeAdapter(
    message_create_params.MessageCreateParams, config=ConfigDict(extra="forbid")
)
_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(RawMessageStreamEvent)
_FRESH: Final = USAGE["input_tokens"] - USAGE["cached_tokens"] - USAGE["cache_write_tokens"]
_USAGE: Final = {
    "input_tokens": _FRESH,
    "cache_creation_input_tokens": USAGE["cache_write_tokens"],
    "cache_read_input_tokens": USAGE["cached_tokens"],
    "output_tokens": USAGE["output_tokens"],
    "output_tokens_details": {"thinking_tokens": USAGE["reasoning_tokens"]},
}
_CREATION: Final = {
    "ephemeral_5m_input_tokens": USAGE["cache_write_tokens"],
    "ephemeral_1h_input_tokens": 0,
}


def _blocks(said: Said) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if said.thought:
        blocks.append({"type": "thinking", "thinking": said.thought, "signature": said.proof})
    if said.text:
        blocks.append({"type": "text", "text": said.text})
    for one in said.calls:
        call = {"type": "tool_use", "id": one.id, "name": one.name}
        blocks.append({**call, "input": dict(one.arguments)})
    return blocks


def _message(said: Said) -> dict[str, Any]:
    body = {
        "id": "msg_01Abc",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-6",
        "content": _blocks(said),
        "stop_reason": _end(said),
        "stop_sequence": None,
        "usage": {**_USAGE, "cache_creation": _CREATION, "service_tier": "standard"},
    }
    Message.model_validate(body)
    return body


def _end(said: Said) -> str:
    return "tool_use" if said.calls else "end_turn"


def whole(said: Said) -> bytes:
    """The answer's body."""
    return json.dumps(_message(said)).encode()


def events(said: Said) -> bytes:
    """The stream, with pings."""
    message = _message(said)
    begun_usage = {**message["usage"], "output_tokens": 1}
    del begun_usage["output_tokens_details"]
    begun = {**message, "content": [], "stop_reason": None, "usage": begun_usage}
    out = [_event({"type": "message_start", "message": begun}), _PING]
    for at, block in enumerate(message["content"]):
        empty, deltas = _pieces(block)
        out.append(_event({"type": "content_block_start", "index": at, "content_block": empty}))
        out += [
            _event({"type": "content_block_delta", "index": at, "delta": one}) for one in deltas
        ]
        out.append(_event({"type": "content_block_stop", "index": at}))
    delta = {"stop_reason": _end(said), "stop_sequence": None}
    out.append(_event({"type": "message_delta", "delta": delta, "usage": _USAGE}))
    return b"".join([*out, _event({"type": "message_stop"})])


def _pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": one} for one in _cut(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if block["type"] == "text":
        deltas = [{"type": "text_delta", "text": one} for one in _cut(block["text"])]
        return {"type": "text", "text": ""}, deltas
    # The first piece of a tool's input is empty, and pieces are cut anywhere.
    pieces = ["", *_cut(json.dumps(block["input"]))]
    deltas = [{"type": "input_json_delta", "partial_json": one} for one in pieces]
    return {**block, "input": {}}, deltas


def _cut(text: str) -> list[str]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def _event(body: dict[str, Any]) -> bytes:
    _EVENT.validate_python(body)
    return b"event: %s\ndata: %s\n\n" % (body["type"].encode(), json.dumps(body).encode())


_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'


def _error(kind: str, message: str) -> bytes:
    error = {"type": kind, "message": message}
    return json.dumps({"type": "error", "error": error, "request_id": "req_011"}).encode()


# https://platform.claude.com/docs/en/api/errors
ERRORS: Final = {
    "too_long": (
        400,
        {},
        _error("invalid_request_error", "prompt is too long: 200123 tokens > 200000 maximum"),
    ),
    "key": (401, {}, _error("authentication_error", "invalid x-api-key")),
    "throttled": (
        429,
        {"retry-after": "7"},
        _error("rate_limit_error", "This request would exceed your organization's rate limit."),
    ),
    "busy": (529, {}, _error("overloaded_error", "Overloaded")),
}


def in_stream() -> bytes:
    """A stream that breaks after its first words."""
    whole_stream = events(Said(text="It"))
    begun = whole_stream[: whole_stream.index(b"event: content_block_stop")]
    return begun + b"event: error\ndata: %s\n\n" % _error("overloaded_error", "Overloaded")


def check(body: dict[str, Any]) -> None:
    """Raises ValidationError for what Anthropic's own types don't know."""
    judged_deeply(_PARAMS.validate_python(body))


def hear(path: str, body: dict[str, Any]) -> Heard:
    """What was asked. Raises KeyError for what has another form."""
    assert path == "/v1/messages"
    assert body["max_tokens"] > 0
    heard = Heard(stream=bool(body.get("stream")), system=_text(body.get("system") or ""))
    output = body.get("output_config") or {}
    heard.schema = (output.get("format") or {}).get("schema")
    heard.effort = output.get("effort") or ""
    assert not heard.effort or body["thinking"]["type"] == "adaptive"
    for tool in body.get("tools", ()):
        heard.tools[tool["name"]] = tool["input_schema"]
    for message in body["messages"]:
        heard.roles.append(message["role"])
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            _heard_block(message["role"], block, heard)
    return heard


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(one["text"] for one in content)


def _heard_block(role: str, block: dict[str, Any], heard: Heard) -> None:
    kind = block["type"]
    if kind == "image" and block["source"]["type"] == "base64":
        assert block["source"]["media_type"] == "image/png"
        heard.pictures.append(base64.b64decode(block["source"]["data"]))
    elif kind == "image":
        heard.picture_urls.append(block["source"]["url"])
    elif kind == "tool_use":
        heard.calls.append(Call(block["id"], block["name"], block["input"]))
    elif kind == "tool_result":
        heard.results[block["tool_use_id"]] = _text(block["content"])
    elif kind == "thinking":
        heard.proofs.append(block["signature"])
    elif kind == "text" and role == "user":
        heard.texts.append(block["text"])
