"""OpenAI's SDK, Responses."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import openai
from openai.types.responses import Response

from .client_chat import KINDS, connect, refusal
from .said import SCHEMA, TOOL, Asked, Call, Got

__all__ = ["ENDS", "KINDS", "LOSES", "ask", "connect", "refusal"]

ENDS: Final = ("completed", "completed")
LOSES: Final = frozenset[str]()


def ask(sdk: openai.OpenAI, model: str, asked: Asked) -> Got:
    """One question, and its answer."""
    wishes: dict[str, Any] = {"model": model, "input": _items(asked), "store": False}
    if asked.system:
        wishes["instructions"] = asked.system
    if asked.tools:
        tool = {"type": "function", "name": "get_weather", "description": "The weather"}
        wishes["tools"] = [{**tool, "parameters": dict(TOOL), "strict": False}]
    if asked.schema:
        form = {"type": "json_schema", "name": "weather", "schema": dict(SCHEMA), "strict": True}
        wishes["text"] = {"format": form}
    if asked.effort:
        wishes["reasoning"] = {"effort": asked.effort, "summary": "auto"}
        wishes["include"] = ["reasoning.encrypted_content"]
    if not asked.stream:
        return _got(sdk.responses.create(**wishes))
    told = ""
    with sdk.responses.stream(**wishes) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                told += event.delta
            elif event.type == "error":
                raise openai.APIError(event.message, stream._response.request, body=None)
            elif event.type == "response.failed":
                failed = event.response.error
                message = "" if failed is None else failed.message
                raise openai.APIError(message, stream._response.request, body=None)
        answer = stream.get_final_response()
    assert told == answer.output_text
    return _got(answer)


def _items(asked: Asked) -> list[Any]:
    content: list[dict[str, Any]] = [{"type": "input_text", "text": asked.text}]
    if asked.picture:
        url = f"data:image/png;base64,{base64.b64encode(asked.picture).decode()}"
        content.append({"type": "input_image", "image_url": url, "detail": "auto"})
    if asked.picture_url:
        content.append({"type": "input_image", "image_url": asked.picture_url, "detail": "auto"})
    said: list[Any] = [] if asked.before is None else list(asked.before.echo)
    for call, text in asked.said:
        said.append({"type": "function_call_output", "call_id": call.id, "output": text})
    return [{"role": "user", "content": content}, *said]


def _got(answer: Response) -> Got:
    calls = [
        Call(one.call_id, one.name, json.loads(one.arguments))
        for one in answer.output
        if one.type == "function_call"
    ]
    thoughts = [one for one in answer.output if one.type == "reasoning"]
    usage = answer.usage
    assert usage is not None
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    echo = [one.model_dump(exclude_none=True) for one in answer.output]
    for item in echo:
        item.pop("parsed_arguments", None)
        for part in item.get("content") or ():
            part.pop("parsed", None)
    return Got(
        text=answer.output_text,
        calls=tuple(calls),
        stop=str(answer.status),
        usage={
            "input_tokens": usage.input_tokens,
            "cached_tokens": usage.input_tokens_details.cached_tokens,
            "cache_write_tokens": usage.input_tokens_details.cache_write_tokens or 0,
            "output_tokens": usage.output_tokens,
            "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
        },
        thought="".join(
            part.text for one in thoughts for part in (*one.summary, *(one.content or ()))
        ),
        echo=echo,
        answers=(answer.output_text,),
    )
