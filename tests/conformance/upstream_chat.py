"""OpenAI's chat, as https://platform.openai.com/docs/api-reference/chat describes it.

The field ``reasoning_content`` is that of those who speak the same and show the thinking:
https://api-docs.deepseek.com/guides/thinking_mode
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from openai.types.chat import ChatCompletion, ChatCompletionChunk, completion_create_params
from pydantic import ConfigDict, TypeAdapter

from .said import USAGE, Call, Heard, Said, judged_deeply

__all__ = ["ERRORS", "check", "events", "hear", "in_stream", "whole"]

_PARAMS: Final[TypeAdapter[Any]] = TypeAdapter(
    completion_create_params.CompletionCreateParams, config=ConfigDict(extra="forbid")
)
_HEAD: Final = {"id": "chatcmpl-D1x2", "created": 1763769600, "model": "gpt-5.2-2025-12-11"}
_USAGE: Final = {
    "prompt_tokens": USAGE["input_tokens"],
    "completion_tokens": USAGE["output_tokens"],
    "total_tokens": USAGE["input_tokens"] + USAGE["output_tokens"],
    "prompt_tokens_details": {
        "cached_tokens": USAGE["cached_tokens"],
        "cache_write_tokens": USAGE["cache_write_tokens"],
        "audio_tokens": 0,
    },
    "completion_tokens_details": {
        "reasoning_tokens": USAGE["reasoning_tokens"],
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def whole(said: Said) -> bytes:
    """The answer's body."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.thought:
        message["reasoning_content"] = said.thought
    if said.calls:
        message["tool_calls"] = [
            {
                "id": one.id,
                "type": "function",
                "function": {"name": one.name, "arguments": one.json},
            }
            for one in said.calls
        ]
    messages = [message, *({**message, "content": text} for text in said.others)]
    choices = [
        {"index": number, "message": one, "logprobs": None, "finish_reason": _end(said)}
        for number, one in enumerate(messages)
    ]
    body = {**_HEAD, "object": "chat.completion", "choices": choices, "usage": _USAGE}
    ChatCompletion.model_validate(body, strict=True)
    return json.dumps({**body, "service_tier": "default", "system_fingerprint": None}).encode()


def events(said: Said) -> bytes:
    """The stream, with its usage at the end, as it is when ``include_usage`` is set."""
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": "" if said.text else None, "refusal": None}
    ]
    deltas += [{"reasoning_content": piece} for piece in _cut(said.thought)]
    deltas += [{"content": piece} for piece in _cut(said.text)]
    for number, one in enumerate(said.calls):
        function = {"name": one.name, "arguments": ""}
        begun = {"index": number, "id": one.id, "type": "function", "function": function}
        deltas.append({"tool_calls": [begun]})
        deltas += [
            {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}
            for piece in _cut(one.json)
        ]
    chunks = [[_choice(0, delta)] for delta in deltas]
    chunks += [[_choice(at, {"content": text})] for at, text in enumerate(said.others, 1)]
    chunks += [[_choice(at, {}, _end(said))] for at in range(1 + len(said.others))]
    out = [_chunk(choices=choices, usage=None) for choices in chunks]
    return b"".join([*out, _chunk(choices=[], usage=_USAGE), b"data: [DONE]\n\n"])


def _choice(at: int, delta: dict[str, Any], end: str | None = None) -> dict[str, Any]:
    return {"index": at, "delta": delta, "logprobs": None, "finish_reason": end}


def _chunk(**fields: Any) -> bytes:
    body = {**_HEAD, "object": "chat.completion.chunk", **fields}
    ChatCompletionChunk.model_validate(body, strict=True)
    return b"data: %s\n\n" % json.dumps(body).encode()


def _end(said: Said) -> str:
    return "tool_calls" if said.calls else "stop"


def _cut(text: str) -> list[str]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def _error(message: str, kind: str, code: str | None, param: str | None = None) -> bytes:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}).encode()


# https://platform.openai.com/docs/guides/error-codes
ERRORS: Final = {
    "too_long": (
        400,
        {},
        _error(
            "This model's maximum context length is 400000 tokens. However, your messages resulted "
            "in 400123 tokens. Please reduce the length of the messages.",
            "invalid_request_error",
            "context_length_exceeded",
            "messages",
        ),
    ),
    "key": (
        401,
        {},
        _error(
            "Incorrect API key provided: sk-up***3456. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            "invalid_request_error",
            "invalid_api_key",
        ),
    ),
    "throttled": (
        429,
        {"retry-after": "7"},
        _error(
            "Rate limit reached for gpt-5.2 in organization org-1 on tokens per min (TPM).",
            "tokens",
            "rate_limit_exceeded",
        ),
    ),
    "busy": (
        503,
        {},
        _error(
            "That model is currently overloaded with other requests.",
            "server_error",
            "server_is_overloaded",
        ),
    ),
}


def in_stream() -> bytes:
    """A stream that breaks after its first words."""
    begun = _chunk(choices=[_choice(0, {"role": "assistant", "content": "It"})], usage=None)
    error = _error("The server had an error while processing your request", "server_error", None)
    return begun + b"data: %s\n\n" % error


def check(body: dict[str, Any]) -> None:
    """Raises ValidationError for what OpenAI's own types don't know."""
    plain = json.loads(json.dumps(body))
    for message in plain["messages"]:
        message.pop("reasoning_content", None)
    judged_deeply(_PARAMS.validate_python(plain))


def hear(path: str, body: dict[str, Any]) -> Heard:
    """What was asked. Raises KeyError for what has another form."""
    heard = Heard(stream=bool(body.get("stream")), effort=body.get("reasoning_effort", ""))
    heard.answers = body.get("n", 1)
    assert path == "/v1/chat/completions"
    assert not heard.stream or body["stream_options"]["include_usage"] is True
    if "response_format" in body:
        heard.schema = body["response_format"]["json_schema"]["schema"]
    for tool in body.get("tools", ()):
        heard.tools[tool["function"]["name"]] = tool["function"]["parameters"]
    for message in body["messages"]:
        if message["role"] not in ("system", "developer"):
            heard.roles.append(message["role"])
        for call in message.get("tool_calls", ()):
            function = call["function"]
            arguments = json.loads(function["arguments"])
            heard.calls.append(Call(call["id"], function["name"], arguments))
        content = message.get("content") or ""
        parts: list[Any] = [{"type": "text", "text": content}]
        if not isinstance(content, str):
            parts = content
        for part in parts:
            if part["type"] == "image_url":
                _picture(part["image_url"]["url"], heard)
            elif message["role"] == "tool":
                heard.results[message["tool_call_id"]] = part["text"]
            elif message["role"] in ("system", "developer"):
                heard.system += part["text"]
            elif message["role"] == "user":
                heard.texts.append(part["text"])
    return heard


def _picture(url: str, heard: Heard) -> None:
    if url.startswith("data:image/png;base64,"):
        heard.pictures.append(base64.b64decode(url.partition(",")[2]))
    else:
        heard.picture_urls.append(url)
