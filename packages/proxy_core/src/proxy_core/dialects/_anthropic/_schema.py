"""JSON Schemas as Anthropic's structured outputs take them.

Objects must be closed, and keywords that nothing holds the model to are refused; so those are told
to it in words, as Anthropic's own SDKs do:
https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations and
https://github.com/anthropics/anthropic-sdk-python/blob/main/src/anthropic/lib/_parse/_transform.py
"""

from __future__ import annotations

from typing import Any, Final

from proxy_core.dialects._codec import Losses

__all__ = ["closed_schema"]

_FORMATS: Final = frozenset(
    {
        "date",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "time",
        "uri",
        "uuid",
    }
)
_UNIONS: Final = (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf"))
"""The first that is there counts, under its second name."""
_DEFINITIONS: Final = ("$defs", "definitions")
_SILENT: Final = frozenset({"$schema", "$id", "$comment", "type", *_DEFINITIONS})
"""What says nothing about the answer, or is written elsewhere."""
_WORDS: Final = ("description", "title")
_HINTS: Final = frozenset({"default", "deprecated", "example", "examples", "readOnly", "writeOnly"})
"""Keywords that hold nobody to anything."""


def closed_schema(schema: Any, field: str, losses: Losses) -> Any:
    """The same with closed objects; what can't be demanded any more stands in its descriptions.

    Losses of ``field``: objects that took other fields than the named ones, and such demands.
    """
    closer = _Closer()
    closed = closer.close(schema)
    if closer.has_open:
        losses.drop(field, "Anthropic's objects hold the named fields alone")
    if closer.moved:
        named = ", ".join(sorted(closer.moved))
        losses.drop(field, f"Anthropic can't be held to {named}: the description says it")
    return closed


class _Closer:
    def __init__(self) -> None:
        self.has_open = False
        """Whether an object took fields that nobody named."""
        self.moved: set[str] = set()
        """The keywords that became words."""

    def close(self, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        out: dict[str, Any] = {
            name: self._each(schema[name])
            for name in _DEFINITIONS
            if isinstance(schema.get(name), dict)
        }
        if isinstance(schema.get("$ref"), str):
            return out | {"$ref": schema["$ref"]}
        left = {name: value for name, value in schema.items() if name not in _SILENT}
        out |= _literals(left)
        has_literals = bool(out.keys() & {"enum", "const"})
        kinds = () if has_literals else _kinds(schema)
        out |= self._union(left) or ({"type": schema.get("type", "object")} if kinds else {})
        out |= {name: left.pop(name) for name in _WORDS if isinstance(left.get(name), str)}
        for kind in kinds:
            if kind in _INSIDE:
                out |= _INSIDE[kind](self, left)
        return self._told(out, left)

    def _each(self, schemas: dict[str, Any]) -> dict[str, Any]:
        return {name: self.close(one) for name, one in schemas.items()}

    def _union(self, left: dict[str, Any]) -> dict[str, Any]:
        for name, written in _UNIONS:
            if isinstance(left.get(name), list):
                return {written: [self.close(one) for one in left.pop(name)]}
        return {}

    def object(self, left: dict[str, Any]) -> dict[str, Any]:
        named, others = left.pop("properties", None), left.pop("additionalProperties", None)
        is_map = named is None and others is None
        self.has_open = self.has_open or is_map or others not in (None, False)
        out = {
            "properties": self._each(named) if isinstance(named, dict) else {},
            "additionalProperties": False,
        }
        required = left.pop("required", None)
        return out if required is None else out | {"required": required}

    def array(self, left: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if isinstance(left.get("items"), dict):
            out["items"] = self.close(left.pop("items"))
        least = left.pop("minItems", None)
        if least in (0, 1):
            out["minItems"] = least
        elif least is not None:
            left["minItems"] = least
        return out

    def string(self, left: dict[str, Any]) -> dict[str, Any]:
        form = left.pop("format", None)
        if isinstance(form, str) and form in _FORMATS:
            return {"format": form}
        if form is not None:
            left["format"] = form
        return {}

    def _told(self, out: dict[str, Any], left: dict[str, Any]) -> dict[str, Any]:
        """With what is left as words."""
        if not left:
            return out
        self.moved |= left.keys() - _HINTS
        told = "{" + ", ".join(f"{name}: {value}" for name, value in left.items()) + "}"
        before = out.get("description")
        return out | {"description": f"{before}\n\n{told}" if before else told}


_INSIDE: Final = {
    "object": _Closer.object,
    "array": _Closer.array,
    "string": _Closer.string,
}


def _kinds(schema: dict[str, Any]) -> tuple[str, ...]:
    """The types that a value may have; empty: nobody said it."""
    told = schema.get("type", "object" if "properties" in schema else None)
    if isinstance(told, list):
        return tuple(kind for kind in told if isinstance(kind, str))
    return (told,) if isinstance(told, str) else ()


def _literals(left: dict[str, Any]) -> dict[str, Any]:
    """The values that alone may be given, taken out of ``left``: their type is plain."""
    out: dict[str, Any] = {}
    values = left.get("enum")
    if isinstance(values, list) and values and all(map(_is_plain, values)):
        out["enum"] = left.pop("enum")
    if "const" in left and _is_plain(left["const"]):
        out["const"] = left.pop("const")
    return out


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
