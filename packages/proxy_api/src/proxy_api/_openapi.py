"""The document of the API. The hot routes bypass FastAPI, so their schemas are written here.

They name what the proxy reads and what SDKs rely on; every other field passes through, so each
schema allows more. Source: OpenAI's published API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

__all__ = ["described", "document", "metrics_answers", "model_route", "models_answers"]

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}


def _object(required: list[str], **properties: Schema) -> Schema:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": True,
    }


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_MODEL: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "description": "One of GET /v1/models.",
    "examples": ["smollm2"],
}
_STREAM: Final[Schema] = {
    "type": ["boolean", "null"],
    "default": False,
    "description": "Answer with server-sent events.",
}
_STREAM_OPTIONS: Final[Schema] = {
    "anyOf": [_object([], include_usage={"type": "boolean"}), {"type": "null"}],
    "description": "`include_usage` asks for a last event with the usage.",
}
_CAP: Final[Schema] = {"type": ["integer", "null"], "description": "The most tokens to generate."}
_FINISH: Final[Schema] = {
    "enum": ["stop", "length", "tool_calls", "content_filter", "function_call", None],
}
_HEAD: Final[dict[str, Schema]] = {"id": _TEXT, "created": {"type": "integer"}, "model": _TEXT}

_SCHEMAS: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "ChatRequest": _object(
            ["model", "messages"],
            model=_MODEL,
            messages={
                **_array(
                    _object(["role"], role=_TEXT, content={"type": ["string", "array", "null"]}),
                ),
                "examples": [[{"role": "user", "content": "Hello"}]],
            },
            stream=_STREAM,
            stream_options=_STREAM_OPTIONS,
            max_completion_tokens=_CAP,
            max_tokens=_CAP,
        ),
        "ChatAnswer": _object(
            ["id", "object", "created", "model", "choices"],
            **_HEAD,
            object={"const": "chat.completion"},
            choices=_array(
                _object(
                    ["index", "message", "finish_reason"],
                    index=_COUNT,
                    message=_object(["role"], role=_TEXT, content={"type": ["string", "null"]}),
                    finish_reason=_FINISH,
                )
            ),
            usage=_ref("Usage"),
        ),
        "ChatChunk": _object(
            ["id", "object", "created", "model", "choices"],
            **_HEAD,
            object={"const": "chat.completion.chunk"},
            choices=_array(
                _object(["index", "delta"], index=_COUNT, delta=_object([]), finish_reason=_FINISH)
            ),
        ),
        "CompletionRequest": _object(
            ["model", "prompt"],
            model=_MODEL,
            prompt={"type": ["string", "array"]},
            stream=_STREAM,
            stream_options=_STREAM_OPTIONS,
            max_tokens=_CAP,
        ),
        "CompletionAnswer": _object(
            ["id", "object", "created", "model", "choices"],
            **_HEAD,
            object={"const": "text_completion"},
            choices=_array(
                _object(
                    ["index", "text", "finish_reason"],
                    index=_COUNT,
                    text=_TEXT,
                    finish_reason=_FINISH,
                )
            ),
            usage=_ref("Usage"),
        ),
        "EmbeddingRequest": _object(
            ["model", "input"],
            model=_MODEL,
            input={"type": ["string", "array"]},
            encoding_format={"enum": ["float", "base64"]},
        ),
        "EmbeddingAnswer": _object(
            ["object", "model", "data"],
            object={"const": "list"},
            model=_TEXT,
            data=_array(
                _object(
                    ["index", "embedding"],
                    index=_COUNT,
                    embedding={"type": ["array", "string"]},
                    object=_TEXT,
                )
            ),
            usage=_ref("Usage"),
        ),
        "Model": _object(
            ["id", "object", "created", "owned_by"],
            id=_TEXT,
            object={"const": "model"},
            created={"type": "integer"},
            owned_by=_TEXT,
        ),
        "ModelList": _object(
            ["object", "data"], object={"const": "list"}, data=_array(_ref("Model"))
        ),
        "Usage": _object(
            ["prompt_tokens", "total_tokens"],
            prompt_tokens=_COUNT,
            completion_tokens=_COUNT,
            total_tokens=_COUNT,
        ),
        "Error": _object(
            ["error"],
            error=_object(
                ["message", "type", "param", "code"],
                message=_TEXT,
                type=_TEXT,
                param={"type": ["string", "null"]},
                code={"type": ["string", "null"]},
            ),
        ),
    }
)

_HOT: Final[Mapping[str, tuple[str, str, str, str | None]]] = MappingProxyType(
    {
        "/v1/chat/completions": (
            "A chat completion, whole or streamed",
            "ChatRequest",
            "ChatAnswer",
            "ChatChunk",
        ),
        "/v1/completions": (
            "A text completion, whole or streamed",
            "CompletionRequest",
            "CompletionAnswer",
            "CompletionAnswer",
        ),
        "/v1/embeddings": ("Embeddings", "EmbeddingRequest", "EmbeddingAnswer", None),
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
    """What ``add_api_route`` is told about a hot route."""
    summary, request, answer, chunk = _HOT[path]
    content: dict[str, Any] = {"application/json": {"schema": _ref(answer)}}
    if chunk is not None:
        content["text/event-stream"] = {"schema": _ref(chunk)}
    body = {"required": True, "content": {"application/json": {"schema": _ref(request)}}}
    return {
        "summary": summary,
        "tags": ["inference"],
        "responses": {
            200: {"description": "The answer.", "content": content},
            **_error_answers(*_ERRORS),
        },
        "openapi_extra": {"requestBody": body},
    }


def models_answers() -> dict[int | str, dict[str, Any]]:
    """``responses`` of the models' list."""
    return {200: _answer("The models.", "ModelList"), **_error_answers(401, 403)}


def model_route() -> dict[str, Any]:
    """What the route of one model is told. FastAPI isn't shown the parameter: it adds a 422."""
    name = {"name": "model", "in": "path", "required": True, "schema": _TEXT}
    answers = {200: _answer("The model.", "Model"), **_error_answers(401, 403, 404)}
    return {"responses": answers, "openapi_extra": {"parameters": [name]}}


def metrics_answers() -> dict[int | str, dict[str, Any]]:
    """``responses`` of the metrics."""
    text = {"text/plain": {"schema": _TEXT}}
    return {200: {"description": "The metrics.", "content": text}, **_error_answers(401, 403)}


def document(app: FastAPI) -> Schema:
    """The whole OpenAPI document."""
    whole = get_openapi(
        title=app.title, version=app.version, routes=app.routes, summary="A gateway to LLMs"
    )
    components = whole.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **_SCHEMAS}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    whole["security"] = [{"key": []}, {}]
    return whole


def _error_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _answer(_ERRORS[status], "Error") for status in statuses}


def _answer(told: str, schema: str) -> dict[str, Any]:
    return {"description": told, "content": {"application/json": {"schema": _ref(schema)}}}
