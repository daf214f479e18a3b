"""Gemini's generateContent, as https://ai.google.dev/api/generate-content describes it."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from google.genai import types

from .said import USAGE, Call, Heard, Said

__all__ = ["ERRORS", "check", "events", "hear", "in_stream", "whole"]

_USAGE: Final = {
    "promptTokenCount": USAGE["input_tokens"],
    "cachedContentTokenCount": USAGE["cached_tokens"],
    "candidatesTokenCount": USAGE["output_tokens"] - USAGE["reasoning_tokens"],
    "thoughtsTokenCount": USAGE["reasoning_tokens"],
    "totalTokenCount": USAGE["input_tokens"] + USAGE["output_tokens"],
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": USAGE["input_tokens"]}],
}
_TAIL: Final = {"modelVersion": "gemini-3-flash-preview", "responseId": "abcDEF"}


def _parts(said: Said) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if said.thought:
        parts.append({"text": said.thought, "thought": True})
    if said.text:
        parts.append({"text": said.text})
    for one in said.calls:
        parts.append({"functionCall": {"name": one.name, "args": dict(one.arguments)}})
    if said.proof:
        # https://ai.google.dev/gemini-api/docs/thought-signatures: on the first call, or at the end
        first = next((part for part in parts if "functionCall" in part), parts[-1])
        first["thoughtSignature"] = said.proof
    return parts


def _body(candidates: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    body = {"candidates": candidates, "usageMetadata": usage, **_TAIL}
    types.GenerateContentResponse.model_validate(body)
    return body


def _candidate(parts: list[dict[str, Any]], at: int, **more: Any) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": parts}, "index": at, **more}


def whole(said: Said) -> bytes:
    """The answer's body."""
    answers = [_parts(said), *([{"text": text}] for text in said.others)]
    stop = {"finishReason": "STOP"}
    candidates = [_candidate(parts, at, **stop) for at, parts in enumerate(answers)]
    return json.dumps(_body(candidates, _USAGE)).encode()


def events(said: Said) -> bytes:
    """The stream: usage grows with every chunk, the signature may come with an empty text."""
    begun = {"promptTokenCount": USAGE["input_tokens"], "totalTokenCount": USAGE["input_tokens"]}
    chunks: list[bytes] = []
    for part in _parts(said):
        cut = [part]
        if "text" in part and "thoughtSignature" not in part:
            text = part["text"]
            cut = [{**part, "text": text[at : at + 7]} for at in range(0, len(text), 7)]
        chunks += [_event(_body([_candidate([piece], 0)], begun)) for piece in cut]
    for at, text in enumerate(said.others, 1):
        chunks.append(_event(_body([_candidate([{"text": text}], at)], begun)))
    last = [
        _candidate([{"text": ""}], at, finishReason="STOP") for at in range(1 + len(said.others))
    ]
    return b"".join([*chunks, _event(_body(last, _USAGE))])


def _event(body: dict[str, Any]) -> bytes:
    return b"data: %s\r\n\r\n" % json.dumps(body).encode()


def _error(code: int, status: str, message: str, *details: dict[str, Any]) -> bytes:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = list(details)
    return json.dumps({"error": error}).encode()


# https://ai.google.dev/gemini-api/docs/troubleshooting
ERRORS: Final[dict[str, tuple[int, dict[str, str], bytes]]] = {
    "too_long": (
        400,
        {},
        _error(
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed "
            "(1048576).",
        ),
    ),
    "key": (
        400,
        {},
        _error(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            },
        ),
    ),
    "throttled": (
        429,
        {},
        _error(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details.",
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
        ),
    ),
    "busy": (
        503,
        {},
        _error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    ),
}


def in_stream() -> bytes:
    """A stream that breaks after its first words."""
    begun = events(Said(text="It")).partition(b"\r\n\r\n")[0]
    return begun + b"\r\n\r\ndata: %s\r\n\r\n" % ERRORS["busy"][2]


_FIELDS: Final[dict[str, Any]] = {
    "systemInstruction": types.Content,
    "generationConfig": types.GenerationConfig,
    "toolConfig": types.ToolConfig,
}
_LISTS: Final[dict[str, Any]] = {
    "contents": types.Content,
    "tools": types.Tool,
    "safetySettings": types.SafetySetting,
}


def check(body: dict[str, Any]) -> None:
    """Raises ValidationError for what Google's own types don't know."""
    _plain(body)


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """By the names of Google's page: names with underscores are taken too, its SDK sends some."""
    plain: dict[str, Any] = {}
    for name, value in body.items():
        if name in _LISTS:
            plain[name] = [_one(_LISTS[name], one) for one in value]
        else:
            plain[name] = _one(_FIELDS[name], value)
    return plain


def _one(kind: Any, value: Any) -> Any:
    judged = kind.model_validate_json(json.dumps(value))
    return judged.model_dump(mode="json", by_alias=True, exclude_unset=True)


def hear(path: str, body: dict[str, Any]) -> Heard:
    """What was asked. Raises KeyError for what has another form."""
    model = "/v1beta/models/gemini-3-flash-preview:"
    assert path in (f"{model}generateContent", f"{model}streamGenerateContent?alt=sse"), path
    heard = Heard(stream="stream" in path)
    body = _plain(body)
    config = body.get("generationConfig", {})
    heard.schema = config.get("responseJsonSchema") or config.get("responseSchema")
    heard.effort = config.get("thinkingConfig", {}).get("thinkingLevel", "").lower()
    heard.answers = config.get("candidateCount", 1)
    for part in body.get("systemInstruction", {}).get("parts", ()):
        heard.system += part["text"]
    for tool in body.get("tools", ()):
        for one in tool["functionDeclarations"]:
            heard.tools[one["name"]] = one.get("parametersJsonSchema") or one["parameters"]
    for content in body["contents"]:
        heard.roles.append(content.get("role", "user"))
        for part in content["parts"]:
            _heard_part(content.get("role", "user"), part, heard)
    return heard


def _heard_part(role: str, part: dict[str, Any], heard: Heard) -> None:
    if "thoughtSignature" in part:
        heard.proofs.append(part["thoughtSignature"])
    if "inlineData" in part:
        assert part["inlineData"]["mimeType"] == "image/png"
        heard.pictures.append(base64.urlsafe_b64decode(part["inlineData"]["data"]))
    elif "fileData" in part:
        heard.picture_urls.append(part["fileData"]["fileUri"])
    elif "functionCall" in part:
        call = part["functionCall"]
        heard.calls.append(Call(call.get("id", ""), call["name"], call["args"]))
    elif "functionResponse" in part:
        told = part["functionResponse"]
        name = f"{told['name']} {len(heard.results)}"
        heard.results[name] = json.dumps(told["response"])
    elif role == "user":
        heard.texts.append(part["text"])
