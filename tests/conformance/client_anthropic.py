"""Anthropic's SDK."""

from __future__ import annotations

import base64
from typing import Any, Final

import anthropic
import httpx2
from anthropic.types import Message

from .said import SCHEMA, TOOL, Asked, Call, Got

__all__ = ["ENDS", "KINDS", "LOSES", "ask", "connect", "refusal"]

ENDS: Final = ("end_turn", "tool_use")
LOSES: Final = frozenset[str]()
KINDS: Final[dict[str, Any]] = {
    "too_long": (anthropic.BadRequestError, "invalid_request_error"),
    "key": (anthropic.InternalServerError, "api_error"),
    "throttled": (anthropic.RateLimitError, "rate_limit_error"),
    "busy": (anthropic.OverloadedError, "overloaded_error"),
}


def connect(url: str, key: str, http: httpx2.Client) -> anthropic.Anthropic:
    """The SDK."""
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, http_client=http)


def ask(sdk: anthropic.Anthropic, model: str, asked: Asked) -> Got:
    """One question, and its answer."""
    wishes: dict[str, Any] = {"model": model, "messages": _messages(asked), "max_tokens": 32_000}
    if asked.system:
        wishes["system"] = asked.system
    if asked.tools:
        tool = {"name": "get_weather", "description": "The weather", "input_schema": dict(TOOL)}
        wishes["tools"] = [tool]
    output: dict[str, Any] = {}
    if asked.schema:
        output["format"] = {"type": "json_schema", "schema": dict(SCHEMA)}
    if asked.effort:
        output["effort"] = asked.effort
        wishes["thinking"] = {"type": "adaptive", "display": "summarized"}
    if output:
        wishes["output_config"] = output
    if not asked.stream:
        return _got(sdk.messages.create(**wishes, timeout=30))
    with sdk.messages.stream(**wishes) as stream:
        told = "".join(stream.text_stream)
        answer = stream.get_final_message()
    got = _got(answer)
    assert told == got.text
    return got


def _messages(asked: Asked) -> list[Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": asked.text}]
    if asked.picture:
        data = base64.b64encode(asked.picture).decode()
        source = {"type": "base64", "media_type": "image/png", "data": data}
        content.append({"type": "image", "source": source})
    if asked.picture_url:
        source = {"type": "url", "url": asked.picture_url}
        content.append({"type": "image", "source": source})
    said: list[Any] = [{"role": "user", "content": content}]
    if asked.before is not None:
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": text}
            for call, text in asked.said
        ]
        said += [
            {"role": "assistant", "content": asked.before.echo},
            {"role": "user", "content": results},
        ]
    return said


def _got(answer: Message) -> Got:
    calls = [
        Call(one.id, one.name, dict(one.input)) for one in answer.content if one.type == "tool_use"
    ]
    usage = answer.usage
    cached = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    details = usage.output_tokens_details
    text = "".join(one.text for one in answer.content if one.type == "text")
    return Got(
        text=text,
        calls=tuple(calls),
        stop=str(answer.stop_reason),
        usage={
            "input_tokens": usage.input_tokens + cached + written,
            "cached_tokens": cached,
            "cache_write_tokens": written,
            "output_tokens": usage.output_tokens,
            "reasoning_tokens": 0 if details is None else details.thinking_tokens,
        },
        thought="".join(one.thinking for one in answer.content if one.type == "thinking"),
        echo=[one.model_dump(exclude_none=True) for one in answer.content],
        answers=(text,),
    )


def refusal(error: Exception) -> tuple[Any, str, str, str]:
    """Class, type, message and the seconds to wait. Raises for what isn't the SDK's."""
    if not isinstance(error, anthropic.APIStatusError):
        raise error
    body: Any = error.body
    wait = error.response.headers.get("retry-after", "")
    return type(error), str(error.type), str(body["error"]["message"]), wait
