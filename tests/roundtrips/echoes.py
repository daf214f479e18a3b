"""How each client's own SDK sends an answer back, as the history of its next request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from anthropic.types import Message
from google.genai.types import GenerateContentResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

__all__ = ["RESULT", "next_request"]

_Json = dict[str, Any]
RESULT: Final = "what the tool said"


def next_request(client: str, answer: _Json) -> _Json:
    """The request that follows this answer, with a result for each call in it."""
    wire = _NEXT[client](answer)
    return dict(json.loads(json.dumps(wire)))


def _chat(answer: _Json) -> _Json:
    message = ChatCompletion.model_validate(answer).choices[0].message
    echo = message.model_dump(exclude_none=True)
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": RESULT}
        for call in echo.get("tool_calls", ())
    ]
    asked = {"role": "user", "content": "hi"}
    return {"model": "m", "messages": [asked, echo, *(results or [asked])]}


def _responses(answer: _Json) -> _Json:
    items = [item.model_dump(exclude_none=True) for item in Response.model_validate(answer).output]
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": RESULT}
        for item in items
        if item["type"] == "function_call"
    ]
    asked = {"role": "user", "content": "hi"}
    return {"model": "m", "store": False, "input": [asked, *items, *(results or [asked])]}


def _anthropic(answer: _Json) -> _Json:
    blocks = [
        block.model_dump(exclude_none=True) for block in Message.model_validate(answer).content
    ]
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": RESULT}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    asked = {"role": "user", "content": "hi"}
    said = {"role": "assistant", "content": blocks}
    last = {"role": "user", "content": results} if results else asked
    return {"model": "m", "max_tokens": 9, "messages": [asked, said, last]}


def _gemini(answer: _Json) -> _Json:
    candidates = GenerateContentResponse.model_validate(answer).candidates
    assert candidates and candidates[0].content
    content = candidates[0].content.model_dump(exclude_none=True, by_alias=True, mode="json")
    results = [
        {"functionResponse": _result(part["functionCall"])}
        for part in content["parts"]
        if "functionCall" in part
    ]
    asked = {"role": "user", "parts": [{"text": "hi"}]}
    last = {"role": "user", "parts": results} if results else asked
    return {"contents": [asked, content, last]}


def _result(call: _Json) -> _Json:
    named = {name: call[name] for name in ("id", "name") if name in call}
    return named | {"response": {"result": RESULT}}


_NEXT: Final[Mapping[str, Callable[[_Json], _Json]]] = MappingProxyType(
    {
        "openai.chat": _chat,
        "openai.responses": _responses,
        "anthropic.messages": _anthropic,
        "gemini.generate": _gemini,
    }
)
