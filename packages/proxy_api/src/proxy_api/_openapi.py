"""The document of the API. The hot routes bypass FastAPI, so what they take is said here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from proxy_api._openapi_passed import PASSED_ROWS, PASSED_SCHEMAS
from proxy_api._openapi_schemas import SCHEMAS, TEXT, Schema, ref

__all__ = [
    "described",
    "document",
    "kept_route",
    "metrics_answers",
    "model_route",
    "models_route",
]


class _Row(NamedTuple):
    """A hot route: a sentence, and the names of its schemas."""

    summary: str
    request: str
    answer: str
    event: str | None = None
    error: str = "Error"


class _Listing(NamedTuple):
    list: str
    one: str
    error: str = "Error"


_HOT: Final[Mapping[str, _Row]] = MappingProxyType(
    {
        "/v1/chat/completions": _Row(
            "A chat completion, whole or streamed", "ChatRequest", "ChatAnswer", "ChatChunk"
        ),
        "/v1/completions": _Row(
            "A text completion, whole or streamed",
            "CompletionRequest",
            "CompletionAnswer",
            "CompletionAnswer",
        ),
        "/v1/embeddings": _Row("Embeddings", "EmbeddingRequest", "EmbeddingAnswer"),
        "/v1/responses": _Row(
            "An answer of OpenAI's Responses API, whole or streamed",
            "ResponsesRequest",
            "ResponsesAnswer",
            "ResponsesEvent",
        ),
        "/v1/messages": _Row(
            "An answer of Anthropic's Messages API, whole or streamed",
            "MessagesRequest",
            "MessagesAnswer",
            "MessagesEvent",
            "AnthropicError",
        ),
        "/v1/messages/count_tokens": _Row(
            "The tokens of a request of Anthropic's Messages API",
            "CountRequest",
            "CountAnswer",
            None,
            "AnthropicError",
        ),
        "/v1beta/models/{model:path}:generateContent": _Row(
            "An answer of Google's Gemini API, whole",
            "GenerateRequest",
            "GenerateAnswer",
            None,
            "GeminiError",
        ),
        "/v1beta/models/{model:path}:streamGenerateContent": _Row(
            "The same as a stream: of events with alt=sse, else as a JSON array",
            "GenerateRequest",
            "GenerateAnswers",
            "GenerateAnswer",
            "GeminiError",
        ),
        "/v1beta/models/{model:path}:countTokens": _Row(
            "The tokens of a request of Google's Gemini API",
            "GeminiCountRequest",
            "GeminiCountAnswer",
            None,
            "GeminiError",
        ),
    }
)
_IN_PATHS: Final = re.compile(r"\{(\w+)")
_LISTS: Final[Mapping[str, _Listing]] = MappingProxyType(
    {
        "/v1/models": _Listing("ModelList", "Model"),
        "/v1beta/models": _Listing("GeminiModelList", "GeminiModel", "GeminiError"),
    }
)
_ERRORS: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "The request can't be used; the error names the field.",
        401: "No key, or one that isn't known.",
        403: "The key may not do this.",
        404: "There is no such model.",
        413: "The body is too large.",
        415: "The body isn't JSON.",
        429: "A limit, of the key or of the upstream.",
        502: "The upstream failed.",
        503: "No upstream can be reached now.",
        504: "The upstream took too long.",
    }
)


def described(path: str) -> dict[str, Any]:
    """What ``add_api_route`` is told about a hot route; nothing about an alias, which is hidden."""
    row = _HOT.get(path)
    if row is None:
        return _passed(path)
    content: dict[str, Any] = {"application/json": {"schema": ref(row.answer)}}
    if row.event is not None:
        content["text/event-stream"] = {"schema": ref(row.event)}
    body = {"required": True, "content": {"application/json": {"schema": ref(row.request)}}}
    return {
        "summary": row.summary,
        "tags": ["inference"],
        "responses": {
            200: {"description": "The answer.", "content": content},
            **_error_answers(*_ERRORS, schema=row.error),
        },
        "openapi_extra": {"requestBody": body, **_named(path)},
    }


def _passed(path: str) -> dict[str, Any]:
    """The same about a route that is never translated."""
    row = PASSED_ROWS.get(path)
    if row is None:
        return {}
    return {
        "summary": row.summary,
        "tags": ["passed through"],
        "responses": {
            200: {"description": "The upstream's answer.", "content": row.answer},
            **_error_answers(*_ERRORS),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": row.request}},
    }


def kept_route(path: str, summary: str, takes: str) -> dict[str, Any]:
    """What a route is told that leads to what a provider keeps, or to the provider itself."""
    named = [
        {"name": name, "in": "path", "required": True, "schema": TEXT}
        for name in _IN_PATHS.findall(path)
    ]
    extra: dict[str, Any] = {"parameters": named}
    if takes:
        extra["requestBody"] = {"required": True, "content": {takes: {"schema": {}}}}
    return {
        "summary": summary,
        "tags": ["passed through"],
        "responses": {
            200: {"description": "The upstream's answer.", "content": {"*/*": {"schema": {}}}},
            **_error_answers(*_ERRORS),
        },
        "openapi_extra": extra,
    }


def models_route(path: str) -> dict[str, Any]:
    """What a route of the models' list is told."""
    schemas = _LISTS.get(path)
    if schemas is None:
        return {}
    answers = _error_answers(401, 403, schema=schemas.error)
    return {
        "summary": "The models that the key may ask for",
        "tags": ["models"],
        "responses": {200: _answer("The models.", schemas.list), **answers},
    }


def model_route(path: str) -> dict[str, Any]:
    """What the route of one model is told. FastAPI isn't shown the parameter: it adds a 422."""
    schemas = _LISTS.get(path.partition("/{")[0])
    if schemas is None:
        return {}
    answers = _error_answers(401, 403, 404, schema=schemas.error)
    return {
        "summary": "One model; its name may hold slashes",
        "tags": ["models"],
        "responses": {200: _answer("The model.", schemas.one), **answers},
        "openapi_extra": _named(path),
    }


def _named(path: str) -> dict[str, Any]:
    """The parameter of a path with a model in it."""
    if "{model" not in path:
        return {}
    return {"parameters": [{"name": "model", "in": "path", "required": True, "schema": TEXT}]}


def metrics_answers() -> dict[int | str, dict[str, Any]]:
    """``responses`` of the metrics."""
    text = {"text/plain": {"schema": TEXT}}
    return {200: {"description": "The metrics.", "content": text}, **_error_answers(401, 403)}


def document(app: FastAPI) -> Schema:
    """The whole OpenAPI document."""
    whole = get_openapi(
        title=app.title, version=app.version, routes=app.routes, summary="A gateway to LLMs"
    )
    components = whole.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **SCHEMAS, **PASSED_SCHEMAS}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    whole["security"] = [{"key": []}, {}]
    return whole


def _error_answers(*statuses: int, schema: str = "Error") -> dict[int | str, dict[str, Any]]:
    return {status: _answer(_ERRORS[status], schema) for status in statuses}


def _answer(told: str, schema: str) -> dict[str, Any]:
    return {"description": told, "content": {"application/json": {"schema": ref(schema)}}}
