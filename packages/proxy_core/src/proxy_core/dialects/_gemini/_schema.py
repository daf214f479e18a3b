"""Google's subset of OpenAPI's schemas into JSON Schema.

https://ai.google.dev/api/caching#Schema
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["camel", "camel_fields", "json_schema"]

_SNAKE: Final = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")
_COUNTS: Final = frozenset(
    {"maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"}
)
"""Google writes 64-bit numbers as texts."""
_DROPPED: Final = frozenset({"nullable", "propertyOrdering", "example"})
_RENAMED: Final[Mapping[str, str]] = MappingProxyType({"defs": "$defs", "ref": "$ref"})
_MAPS: Final = frozenset({"properties", "$defs", "defs"})
_UNSPECIFIED: Final = "TYPE_UNSPECIFIED"
_DEEPEST: Final = 128


def camel(name: str) -> str:
    """Google's JSON takes each name in two spellings."""
    return _SNAKE.sub(lambda match: match[1].upper(), name)


def camel_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """One object, its names in the first spelling; what is inside stays."""
    return {camel(name): value for name, value in fields.items()}


def json_schema(schema: Any, depth: int = 0) -> Any:
    """The JSON Schema of Google's; JSON Schema already stays what it is."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema
    fields = camel_fields(schema)
    out: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in _DROPPED and not (name == "type" and value == _UNSPECIFIED):
            out[_RENAMED.get(name, name)] = _converted(name, value, depth + 1)
    return _with_null(out) if fields.get("nullable") is True else out


def _converted(name: str, value: Any, depth: int) -> Any:
    if name == "type":
        return value.lower() if isinstance(value, str) else value
    if name in _COUNTS and isinstance(value, str) and value.isdecimal():
        return int(value)
    if name in _MAPS and isinstance(value, dict):
        return {key: json_schema(one, depth) for key, one in value.items()}
    if name in ("items", "additionalProperties"):
        return json_schema(value, depth)
    if name == "anyOf" and isinstance(value, list):
        return [json_schema(one, depth) for one in value]
    return value


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    if isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema
