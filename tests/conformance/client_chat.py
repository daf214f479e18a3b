"""OpenAI's SDK, chat."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import httpx2
import openai
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion

from .said import SCHEMA, TOOL, Asked, Call, Got

__all__ = ["ENDS", "KINDS", "LOSES", "ask", "connect", "refusal"]

ENDS: Final = ("stop", "tool_calls")
"""Of an answer, and of one with calls."""
LOSES: Final = frozenset[str]()
"""Of usage, what the SDK has no word for."""
KINDS: Final[dict[str, Any]] = {
    "too_long": (openai.BadRequestError, "context_length_exceeded"),
    "key": (openai.InternalServerError, "upstream_credential_refused"),
    "throttled": (openai.RateLimitError, "upstream_rate_limited"),
    "busy": (openai.InternalServerError, "upstream_failed"),
}
"""The exception, and the code or type in it."""


def connect(url: str, key: str, http: httpx2.Client) -> openai.OpenAI:
    """The SDK."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http)


def ask(sdk: openai.OpenAI, model: str, asked: Asked) -> Got:
    """One question, and its answer."""
    wishes: dict[str, Any] = {"model": model, "messages": _messages(asked)}
    if asked.tools:
        function = {"name": "get_weather", "description": "The weather", "parameters": dict(TOOL)}
        wishes["tools"] = [{"type": "function", "function": function}]
    if asked.schema:
        form = {"name": "weather", "schema": dict(SCHEMA), "strict": True}
        wishes["response_format"] = {"type": "json_schema", "json_schema": form}
    if asked.effort:
        wishes["reasoning_effort"] = asked.effort
    if asked.answers > 1:
        wishes["n"] = asked.answers
    if not asked.stream:
        return _got(sdk.chat.completions.create(**wishes))
    options = {"include_usage": True}
    state = ChatCompletionStreamState()
    create: Any = sdk.chat.completions.create
    for chunk in create(**wishes, stream=True, stream_options=options):
        state.handle_chunk(chunk)
    return _got(state.get_final_completion())


def _messages(asked: Asked) -> list[Any]:
    system = [{"role": "system", "content": asked.system}] if asked.system else []
    content: list[dict[str, Any]] = [{"type": "text", "text": asked.text}]
    if asked.picture:
        url = f"data:image/png;base64,{base64.b64encode(asked.picture).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    if asked.picture_url:
        content.append({"type": "image_url", "image_url": {"url": asked.picture_url}})
    said: list[Any] = [] if asked.before is None else [asked.before.echo]
    for call, text in asked.said:
        said.append({"role": "tool", "tool_call_id": call.id, "content": text})
    return [*system, {"role": "user", "content": content}, *said]


def _got(answer: ChatCompletion) -> Got:
    choice = answer.choices[0]
    message = choice.message
    calls = [
        Call(one.id, one.function.name, json.loads(one.function.arguments))
        for one in message.tool_calls or ()
        if one.type == "function"
    ]
    echo = message.model_dump(exclude_none=True, exclude={"parsed"})
    for call in echo.get("tool_calls", ()):
        call.pop("index", None)  # what the SDK puts together from chunks keeps theirs
    usage = answer.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return Got(
        text=message.content or "",
        calls=tuple(calls),
        stop=choice.finish_reason,
        usage={
            "input_tokens": usage.prompt_tokens,
            "cached_tokens": usage.prompt_tokens_details.cached_tokens or 0,
            "cache_write_tokens": usage.prompt_tokens_details.cache_write_tokens or 0,
            "output_tokens": usage.completion_tokens,
            "reasoning_tokens": usage.completion_tokens_details.reasoning_tokens or 0,
        },
        thought=getattr(message, "reasoning_content", None) or "",
        echo=echo,
        answers=tuple(one.message.content or "" for one in answer.choices),
    )


def refusal(error: Exception) -> tuple[Any, str, str, str]:
    """Class, code, message and the seconds to wait. Raises for what isn't the SDK's."""
    if not isinstance(error, openai.APIError):
        raise error
    wait = error.response.headers.get("retry-after", "") if hasattr(error, "response") else ""
    return type(error), str(error.code), error.message, wait
