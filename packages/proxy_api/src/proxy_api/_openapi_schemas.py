"""Schemas of what the hot routes take and give.

They name what the proxy reads and what SDKs rely on; every other field passes through, so each
schema allows more. Sources: the API references that OpenAI, Anthropic and Google publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["SCHEMAS", "Schema", "TEXT", "ref"]

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TEXT_OR_PARTS: Final[Schema] = {"type": ["string", "array"]}


def _object(required: list[str], **properties: Schema) -> Schema:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": True,
    }


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
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
_HEAD: Final[dict[str, Schema]] = {"id": TEXT, "created": {"type": "integer"}, "model": TEXT}

SCHEMAS: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "ChatRequest": _object(
            ["model", "messages"],
            model=_MODEL,
            messages={
                **_array(
                    _object(["role"], role=TEXT, content={"type": ["string", "array", "null"]}),
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
                    message=_object(["role"], role=TEXT, content={"type": ["string", "null"]}),
                    finish_reason=_FINISH,
                )
            ),
            usage=ref("Usage"),
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
                    text=TEXT,
                    finish_reason=_FINISH,
                )
            ),
            usage=ref("Usage"),
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
            model=TEXT,
            data=_array(
                _object(
                    ["index", "embedding"],
                    index=_COUNT,
                    embedding={"type": ["array", "string"]},
                    object=TEXT,
                )
            ),
            usage=ref("Usage"),
        ),
        "Model": _object(
            ["id", "object", "created", "owned_by"],
            id=TEXT,
            object={"const": "model"},
            created={"type": "integer"},
            owned_by=TEXT,
        ),
        "ModelList": _object(
            ["object", "data"], object={"const": "list"}, data=_array(ref("Model"))
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
                message=TEXT,
                type=TEXT,
                param={"type": ["string", "null"]},
                code={"type": ["string", "null"]},
            ),
        ),
        "MessagesRequest": _object(
            ["model", "messages", "max_tokens"],
            model=_MODEL,
            messages=_array(_object(["role", "content"], role=TEXT, content=_TEXT_OR_PARTS)),
            system=_TEXT_OR_PARTS,
            max_tokens={"type": "integer"},
            stream=_STREAM,
        ),
        "MessagesAnswer": _object(
            ["id", "type", "role", "content", "model", "stop_reason", "usage"],
            id=TEXT,
            type={"const": "message"},
            role={"const": "assistant"},
            content=_array(_object(["type"], type=TEXT)),
            model=TEXT,
            stop_reason={"type": ["string", "null"]},
            usage=_object(
                ["input_tokens", "output_tokens"], input_tokens=_COUNT, output_tokens=_COUNT
            ),
        ),
        "MessagesEvent": _object(["type"], type=TEXT),
        "CountRequest": _object(
            ["model", "messages"], model=_MODEL, messages=_array(_object(["role", "content"]))
        ),
        "CountAnswer": _object(["input_tokens"], input_tokens=_COUNT),
        "ResponsesRequest": _object(
            ["model"], model=_MODEL, input=_TEXT_OR_PARTS, stream=_STREAM, max_output_tokens=_CAP
        ),
        "ResponsesAnswer": _object(
            ["id", "object", "model", "output", "status"],
            id=TEXT,
            object={"const": "response"},
            model=TEXT,
            output=_array(_object(["type"], type=TEXT)),
            status=TEXT,
        ),
        "ResponsesEvent": _object(["type", "sequence_number"], type=TEXT, sequence_number=_COUNT),
        "GenerateRequest": _object(
            ["contents"],
            contents=_array(_object(["parts"], role=TEXT, parts=_array(_object([])))),
            systemInstruction=_object([]),
            generationConfig=_object([]),
        ),
        "GenerateAnswer": _object(
            [], candidates=_array(_object([])), usageMetadata=_object([]), modelVersion=TEXT
        ),
        "GenerateAnswers": _array(ref("GenerateAnswer")),
        "GeminiCountRequest": _object(
            [], contents=_array(_object(["parts"])), generateContentRequest=_object([])
        ),
        "GeminiCountAnswer": _object(["totalTokens"], totalTokens=_COUNT),
        "GeminiModel": _object(
            ["name", "displayName", "supportedGenerationMethods"],
            name=TEXT,
            displayName=TEXT,
            supportedGenerationMethods=_array(TEXT),
        ),
        "GeminiModelList": _object(["models"], models=_array(ref("GeminiModel"))),
        "AnthropicError": _object(
            ["type", "error", "request_id"],
            type={"const": "error"},
            error=_object(["type", "message"], type=TEXT, message=TEXT),
            request_id=TEXT,
        ),
        "GeminiError": _object(
            ["error"],
            error=_object(
                ["code", "message", "status"],
                code=_COUNT,
                message=TEXT,
                status=TEXT,
                details=_array(_object(["@type"])),
            ),
        ),
    }
)
