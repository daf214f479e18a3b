"""The configuration's JSON Schema, for editors. It is kept as ``schema/config.schema.json``.

``python -m proxy_api._schema`` prints it; ``--check`` says whether the file is what the models give
(exit 1 when it isn't), ``--write`` writes it. Editors take it by a first line in the configuration,
such as ``# yaml-language-server: $schema=…/config.schema.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from proxy_api._settings import Settings

__all__ = ["SCHEMA_FILE", "config_schema", "main"]

SCHEMA_FILE = Path(__file__).parent / "schema" / "config.schema.json"

_REFERENCE = {"$ref": "#/$defs/Reference"}
_FALLBACKS: Mapping[str, Any] = {
    "anyOf": [
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"$ref": "#/$defs/FallbackSettings"},
        {"type": "array", "items": {"$ref": "#/$defs/FallbackSettings"}, "minItems": 1},
    ]
}


def config_schema() -> dict[str, Any]:
    """The schema, JSON Schema 2020-12. Where a number may stand, ``${VAR}`` may stand too."""
    schema = Settings.model_json_schema(mode="validation")
    schema.pop("description", None)
    definitions = schema.pop("$defs")
    properties = schema["properties"]
    properties["fallbacks"]["additionalProperties"] = dict(_FALLBACKS)
    client_cert = definitions["ProviderSettings"]["properties"]["client_cert"]
    client_cert["anyOf"].insert(0, {"type": "string"})
    for definition in definitions.values():
        definition["properties"] = _tidied(definition["properties"])
    definitions["Reference"] = {
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
        "description": "A value from the environment: ${VAR} or ${VAR:-default}.",
    }
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "LLM Proxy configuration",
        "description": "What `llm-proxy serve --config` reads, as YAML or TOML.",
        **{name: value for name, value in schema.items() if name not in ("title", "properties")},
        "properties": _tidied(properties),
        "$defs": dict(sorted(definitions.items())),
    }


def _tidied(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Without the titles, which repeat the names, and open to references."""
    return {
        name: _open(
            {key: value for key, value in definition.items() if key not in ("title", "writeOnly")}
        )
        for name, definition in properties.items()
    }


def _open(schema: Any) -> Any:
    """``schema``, where every number, boolean or choice may be a reference instead."""
    if not isinstance(schema, dict):
        return schema
    opened = {name: value for name, value in _open_items(schema) if name != "anyOf"}
    choices = _choices(schema)
    if all(_takes_no_reference(choice) for choice in choices) and any(map(_is_plain, choices)):
        choices.append(dict(_REFERENCE))
    if len(choices) == 1:
        return opened
    kept = {name: value for name, value in opened.items() if name in _ABOUT}
    return {"anyOf": choices, **kept}


def _choices(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The alternatives in one flat list; a schema that has none is the only one."""
    if "anyOf" not in schema:
        return [{name: value for name, value in _open_items(schema) if name not in _ABOUT}]
    return [choice for part in schema["anyOf"] for choice in _choices(part)]


def _open_items(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in schema.items():
        if name in ("items", "additionalProperties"):
            yield name, _open(value)
        elif name not in ("format", "writeOnly"):
            yield name, value


def _takes_no_reference(schema: Mapping[str, Any]) -> bool:
    """Whether a text such as ``${PORT}`` would be refused."""
    return schema.get("type") != "string" or "enum" in schema or "pattern" in schema


def _is_plain(schema: Mapping[str, Any]) -> bool:
    """Whether it is one value, which a text from the environment can give."""
    return (
        schema.get("type") in ("integer", "number", "boolean", "string") and "const" not in schema
    )


_ABOUT = ("description", "default", "examples")


def main(arguments: Sequence[str] | None = None) -> int:
    """Nothing: print it; ``--check`` or ``--write``. Gives the exit status."""
    chosen = list(sys.argv[1:] if arguments is None else arguments)
    text = json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"
    if chosen == ["--write"]:
        SCHEMA_FILE.parent.mkdir(exist_ok=True)
        SCHEMA_FILE.write_text(text, encoding="utf-8")
        return 0
    if not chosen:
        sys.stdout.write(text)
        return 0
    if chosen != ["--check"]:
        sys.stderr.write("usage: python -m proxy_api._schema [--check | --write]\n")
        return 2
    if SCHEMA_FILE.is_file() and SCHEMA_FILE.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{SCHEMA_FILE} is stale: run python -m proxy_api._schema --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
