"""OpenAI's Responses: https://platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from openai.types.responses import Response, ResponseStreamEvent, response_create_params
from pydantic import ConfigDict, TypeAdapter

from . import upstream_chat as chat
from .said import USAGE, Call, Heard, Said, judged_deeply

__all__ = ["ERRORS", "check", "events", "hear", "in_stream", "whole"]

ERRORS: Final = chat.ERRORS
_PARAMS: Final[TypeAdapter[Any]] = TypeAdapter(
    response_create_params.ResponseCreateParams, config=ConfigDict(extra="forbid")
)
_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)
_USAGE: Final = {
    "input_tokens": USAGE["input_tokens"],
    "input_tokens_details": {
        "cached_tokens": USAGE["cached_tokens"],
        "cache_write_tokens": USAGE["cache_write_tokens"],
    },
    "output_tokens": USAGE["output_tokens"],
    "output_tokens_details": {"reasoning_tokens": USAGE["reasoning_tokens"]},
    "total_tokens": USAGE["input_tokens"] + USAGE["output_tokens"],
}
_HEAD: Final = {
    "id": "resp_0a1",
    "object": "response",
    "created_at": 1763769600.0,
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "model": "gpt-5.2-2025-12-11",
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def _items(said: Said) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if said.thought:
        summary = [{"type": "summary_text", "text": said.thought}]
        thinking = {"id": "rs_0a1", "type": "reasoning", "summary": summary}
        items.append({**thinking, "encrypted_content": said.proof})
    if said.text:
        content = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        message = {"id": "msg_0a1", "type": "message", "status": "completed"}
        items.append({**message, "role": "assistant", "content": [content]})
    for number, one in enumerate(said.calls):
        call = {"id": f"fc_0a{number}", "type": "function_call", "status": "completed"}
        items.append({**call, "call_id": one.id, "name": one.name, "arguments": one.json})
    return items


def _response(said: Said) -> dict[str, Any]:
    body = {**_HEAD, "status": "completed", "output": _items(said), "usage": _USAGE}
    Response.model_validate(body)
    return body


def whole(said: Said) -> bytes:
    """The answer's body."""
    return json.dumps(_response(said)).encode()


def events(said: Said) -> bytes:
    """The stream."""
    begun = {**_HEAD, "status": "in_progress", "output": [], "usage": None}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for at, item in enumerate(_items(said)):
        told += [{**event, "output_index": at} for event in _ITEMS[item["type"]](item)]
    told.append({"type": "response.completed", "response": _response(said)})
    return b"".join(_event(one, number) for number, one in enumerate(told))


def _event(body: dict[str, Any], number: int) -> bytes:
    told = {**body, "sequence_number": number}
    _EVENT.validate_python(told)
    return b"event: %s\ndata: %s\n\n" % (body["type"].encode(), json.dumps(told).encode())


def _cut(text: str) -> list[str]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def _thinking(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    added, done = "response.output_item.added", "response.output_item.done"
    where = {"item_id": item["id"], "summary_index": 0}
    part = item["summary"][0]
    yield {"type": added, "item": {**item, "summary": [], "encrypted_content": ""}}
    name = "response.reasoning_summary"
    yield {"type": f"{name}_part.added", **where, "part": {**part, "text": ""}}
    for piece in _cut(part["text"]):
        yield {"type": f"{name}_text.delta", **where, "delta": piece}
    yield {"type": f"{name}_text.done", **where, "text": part["text"]}
    yield {"type": f"{name}_part.done", **where, "part": part}
    yield {"type": done, "item": item}


def _message(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    where = {"item_id": item["id"], "content_index": 0}
    part = item["content"][0]
    begun = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "item": begun}
    yield {"type": "response.content_part.added", **where, "part": {**part, "text": ""}}
    for piece in _cut(part["text"]):
        yield {"type": "response.output_text.delta", **where, "delta": piece, "logprobs": []}
    text = {"text": part["text"], "logprobs": []}
    yield {"type": "response.output_text.done", **where, **text}
    yield {"type": "response.content_part.done", **where, "part": part}
    yield {"type": "response.output_item.done", "item": item}


def _call(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**item, "status": "in_progress", "arguments": ""}
    name, where = "response.function_call_arguments", {"item_id": item["id"]}
    yield {"type": "response.output_item.added", "item": begun}
    for piece in _cut(item["arguments"]):
        yield {"type": f"{name}.delta", **where, "delta": piece}
    yield {
        "type": f"{name}.done",
        **where,
        "name": item["name"],
        "arguments": item["arguments"],
    }
    yield {"type": "response.output_item.done", "item": item}


_ITEMS: Final = {"reasoning": _thinking, "message": _message, "function_call": _call}


def in_stream() -> bytes:
    """A stream that breaks after its first words."""
    item = _items(Said(text="It"))[0]
    begun = {**_HEAD, "status": "in_progress", "output": [], "usage": None}
    told: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    told += [{**event, "output_index": 0} for event in list(_message(item))[:3]]
    message = "The server had an error while processing your request"
    error = {"code": "server_error", "message": message}
    failed = {**begun, "status": "failed", "error": error}
    told.append({"type": "response.failed", "response": failed})
    return b"".join(_event(one, number) for number, one in enumerate(told))


def check(body: dict[str, Any]) -> None:
    """Raises ValidationError for what OpenAI's own types don't know.

    They want an ``id`` of reasoning, which the API doesn't: who has none leaves it out, and one
    that isn't its own is refused. It refuses a ``content`` of reasoning, which the types allow.
    """
    plain = json.loads(json.dumps(body))
    for item in plain["input"] if isinstance(plain["input"], list) else ():
        if item.get("type") == "reasoning":
            assert item.setdefault("id", "rs_0a1") == "rs_0a1"
            assert not item.get("content")
    judged_deeply(_PARAMS.validate_python(plain))


def hear(path: str, body: dict[str, Any]) -> Heard:
    """What was asked. Raises KeyError for what has another form."""
    assert path == "/v1/responses"
    heard = Heard(stream=bool(body.get("stream")), system=body.get("instructions") or "")
    heard.effort = body.get("reasoning", {}).get("effort", "")
    form = body.get("text", {}).get("format", {})
    heard.schema = form.get("schema")
    for tool in body.get("tools", ()):
        heard.tools[tool["name"]] = tool["parameters"]
    items = body["input"]
    items = [{"role": "user", "content": items}] if isinstance(items, str) else items
    for item in items:
        if item.get("type") == "function_call":
            call = Call(item["call_id"], item["name"], json.loads(item["arguments"]))
            heard.calls.append(call)
        elif item.get("type") == "function_call_output":
            heard.results[item["call_id"]] = _text(item["output"])
        elif item.get("type") == "reasoning":
            heard.proofs.append(item["encrypted_content"])
        else:
            _heard_message(item, heard)
    return heard


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(one["text"] for one in content)


def _heard_message(item: dict[str, Any], heard: Heard) -> None:
    content = item["content"]
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        if part["type"] == "input_image":
            url = part["image_url"]
            if url.startswith("data:image/png;base64,"):
                heard.pictures.append(base64.b64decode(url.partition(",")[2]))
            else:
                heard.picture_urls.append(url)
        elif item["role"] in ("system", "developer"):
            heard.system += part["text"]
        elif item["role"] == "user":
            heard.texts.append(part["text"])
