"""What the document says of routes that are never translated. Source: OpenAI's API reference."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from proxy_api._openapi_schemas import TEXT, Schema, ref

__all__ = ["PASSED_ROWS", "PASSED_SCHEMAS"]


class _Row(NamedTuple):
    summary: str
    request: dict[str, Any]
    answer: dict[str, Any]


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


_FILE: Final[Schema] = {"type": "string", "format": "binary"}
_ARRAY: Final[Schema] = {"type": "array"}
PASSED_SCHEMAS: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "ModerationRequest": _object(
            ["model", "input"], model=TEXT, input={"type": ["string", "array"]}
        ),
        "ModerationAnswer": _object(["results"], results=_ARRAY),
        "ImageRequest": _object(["model", "prompt"], model=TEXT, prompt=TEXT),
        "ImageAnswer": _object(["data"], data=_ARRAY),
        "RerankRequest": _object(
            ["model", "query", "documents"], model=TEXT, query=TEXT, documents=_ARRAY
        ),
        "RerankAnswer": _object([], results=_ARRAY),
        "SpeechRequest": _object(["model", "input"], model=TEXT, input=TEXT, voice={}),
        "SoundForm": _object(["model", "file"], model=TEXT, file=_FILE, stream=TEXT),
        "ImageForm": _object(["model"], model=TEXT, image=_FILE),
        "TranscriptionAnswer": _object(["text"], text=TEXT),
    }
)


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": ref(name)}}


def _form(name: str) -> dict[str, Any]:
    return {"multipart/form-data": {"schema": ref(name)}}


_SOUND: Final = {"audio/*": {"schema": _FILE}}
_EVENTS: Final = {"text/event-stream": {"schema": TEXT}}
_SAID: Final = _json("TranscriptionAnswer") | {"text/plain": {"schema": TEXT}}
_IMAGES: Final = _json("ImageAnswer")
PASSED_ROWS: Final[Mapping[str, _Row]] = MappingProxyType(
    {
        "/v1/moderations": _Row(
            "Whether texts or images are harmful",
            _json("ModerationRequest"),
            _json("ModerationAnswer"),
        ),
        "/v1/images/generations": _Row(
            "Images of what a text says", _json("ImageRequest"), _IMAGES | _EVENTS
        ),
        "/v1/images/edits": _Row("Images from images", _form("ImageForm"), _IMAGES | _EVENTS),
        "/v1/images/variations": _Row("Variations of an image", _form("ImageForm"), _IMAGES),
        "/v1/audio/speech": _Row("A text as speech", _json("SpeechRequest"), _SOUND | _EVENTS),
        "/v1/audio/transcriptions": _Row("Speech as text", _form("SoundForm"), _SAID | _EVENTS),
        "/v1/audio/translations": _Row("Speech as English text", _form("SoundForm"), _SAID),
        "/v1/rerank": _Row(
            "Documents by how well they answer", _json("RerankRequest"), _json("RerankAnswer")
        ),
    }
)
"""By their paths."""
