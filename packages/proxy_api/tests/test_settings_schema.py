"""The JSON Schema that editors use agrees with what is accepted."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from proxy_api import _schema
from proxy_api._schema import SCHEMA_FILE, config_schema, main

ROOT = next(path for path in Path(__file__).parents if (path / "systemd").is_dir())


@pytest.fixture(scope="module")
def validator() -> Any:
    """A validator of the schema, which is a valid one itself."""
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_shipped_schema_is_the_models_one() -> None:
    """The file in the package is what the models give; --check watches it."""
    assert json.loads(SCHEMA_FILE.read_text()) == config_schema()
    assert main(["--check"]) == 0


def test_a_stale_schema_is_told_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--check fails on a file that isn't the models', --write makes it so, others are refused."""
    monkeypatch.setattr(_schema, "SCHEMA_FILE", tmp_path / "schema" / "config.schema.json")
    assert main(["--check"]) == 1
    assert "--write" in capsys.readouterr().err
    assert main(["--write"]) == 0
    assert main(["--check"]) == 0
    assert main(["--chek"]) == 2


def test_the_examples_fit_the_schema(validator: Any) -> None:
    """An editor finds nothing wrong with the examples."""
    yaml_example = yaml.safe_load((ROOT / "systemd/config.example.yaml").read_text())
    toml_example = tomllib.loads((ROOT / "systemd/config.example.toml").read_text())
    assert [error.message for error in validator.iter_errors(yaml_example)] == []
    assert [error.message for error in validator.iter_errors(toml_example)] == []


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"server": {"port": "${PORT:-4000}", "drain": "1h30m", "max_body": 1}},
        {"routing": {"strategy": "${STRATEGY}"}, "cache": {"enabled": "${CACHE}"}},
        {"fallbacks": {"a": ["b"], "b": {"on": "error", "to": ["c"]}, "c": [{"to": ["d"]}]}},
        {"providers": {"a": {"kind": "vllm", "client_cert": "/a.pem", "timeouts": {"total": 5}}}},
        {"models": [{"name": "a", "target": "b/c", "price": {"input": 0.25, "output": "1.10"}}]},
        {"redis": None, "observability": {"metrics": {"listen": None}}},
    ],
)
def test_the_schema_takes_what_is_accepted(validator: Any, config: dict[str, Any]) -> None:
    """References may stand for numbers and choices, and every form of a setting is known."""
    assert [error.message for error in validator.iter_errors(config)] == []


@pytest.mark.parametrize(
    "config",
    [
        {"servr": {}},
        {"version": 2},
        {"server": {"port": 70000}},
        {"server": {"port": "four"}},
        {"server": {"drain": "soon"}},
        {"providers": {"a": {}}},
        {"providers": {"a": {"kind": "vllm", "api_kye": "x"}}},
        {"models": [{"name": "a"}]},
        {"routing": {"strategy": "fast"}},
        {"fallbacks": {"a": {"on": "sunday", "to": ["b"]}}},
        {"keys": [{"name": "a", "key": "b", "limits": {"requests": "many"}}]},
    ],
)
def test_the_schema_refuses_what_is_refused(validator: Any, config: dict[str, Any]) -> None:
    """An editor marks unknown names, missing ones and values out of range."""
    assert not validator.is_valid(config)


def test_every_setting_is_described() -> None:
    """Whoever writes a configuration is told what each setting is."""
    schema = config_schema()
    sections = {"the top": schema, **schema["$defs"]}
    silent = [
        f"{section}.{name}"
        for section, definition in sections.items()
        for name, setting in definition.get("properties", {}).items()
        if not setting.get("description")
    ]
    assert silent == []
    assert len(schema["$defs"]) > 15


def test_without_arguments_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m proxy_api._schema`` is a way to see it, whole."""
    assert main([]) == 0
    assert capsys.readouterr().out == SCHEMA_FILE.read_text(encoding="utf-8")
