"""Where settings come from: a YAML or TOML file and the environment, as plain nested data."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from proxy_api._settings_errors import InvalidSettings, Path, Problem, dotted, nearest

__all__ = ["PREFIX", "overlay", "read_environment", "read_file", "which_file"]

PREFIX = "LLM_PROXY_"
"""``LLM_PROXY_SERVER__PORT`` is ``server.port``."""
_CONFIG_VARIABLE = "LLM_PROXY_CONFIG"
_NO_SETTINGS = frozenset(
    {
        _CONFIG_VARIABLE,
        "LLM_PROXY_ADMIN_SOCKET",
        "LLM_PROXY_KEY",
        "LLM_PROXY_URL",
        "LLM_PROXY_WORKER_CHOICES",
    }
)
"""Variables of ours that the command reads: for the file, for client commands, for workers."""
_USUAL_FILE = FilePath("/etc/proxy/config.yaml")
_MAX_VALUES = 200_000
_MAX_DEPTH = 32
_MAX_LEVELS = 100
"""Where reading YAML ends: libyaml's binding has no bound on nesting but the stack."""

_TEXT = "tag:yaml.org,2002:str"
_BOOLEAN = "tag:yaml.org,2002:bool"
_INTEGER = "tag:yaml.org,2002:int"
_READ_BY_OURSELVES = frozenset({_BOOLEAN, _INTEGER, "tag:yaml.org,2002:timestamp"})
_TRUE_OR_FALSE = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_WHOLE = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_DIGITS = "-+0123456789"


def which_file(
    config_path: str | FilePath | None, environ: Mapping[str, str], usual: FilePath = _USUAL_FILE
) -> FilePath | None:
    """The file to read: the one that was named, else the usual one if it is there, else None.

    Raises ``InvalidSettings`` when a file that was named isn't there.
    """
    named = environ.get(_CONFIG_VARIABLE) or None
    if config_path is not None:
        path, who = FilePath(config_path), ""
    elif named is not None:
        path, who = FilePath(named), f" (${_CONFIG_VARIABLE} names it)"
    else:
        path, who = usual, ""
        with suppress(OSError):
            if not usual.exists():
                return None
    try:
        is_file, is_there = path.is_file(), path.exists()
    except OSError as error:
        told = f"can't be read: {error.strerror}{who}"
        raise InvalidSettings([Problem(str(path), told)]) from None
    if not is_file:
        what = "is not a file" if is_there else "there is no such file"
        raise InvalidSettings([Problem(str(path), f"{what}{who}")])
    return path


def read_file(path: FilePath) -> dict[str, Any]:
    """The file's mapping. Raises ``InvalidSettings`` with the file, the line and the column."""
    readers: dict[str, Callable[[str, str], Any]] = {
        ".yaml": _yaml,
        ".yml": _yaml,
        ".toml": _toml,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise _refusal(path, "its name must end in .yaml, .yml or .toml")
    data = reader(_read_text(path), str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise _refusal(path, "must hold a mapping at the top, such as version: 1")
    problems = _odd_names(data)
    if problems:
        raise InvalidSettings(problems, source=str(path))
    return data


def _refusal(path: FilePath, message: str) -> InvalidSettings:
    return InvalidSettings([Problem(str(path), message)])


def _read_text(path: FilePath) -> str:
    reason = ""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = f"can't be read: {os.strerror(error.errno) if error.errno else 'unknown reason'}"
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        reason = f"is not UTF-8 text (line {line})"
    raise _refusal(path, reason)


def _resolvers() -> dict[str, list[tuple[str, Any]]]:
    table = {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in _READ_BY_OURSELVES]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for firsts, tag, pattern in (("tTfF", _BOOLEAN, _TRUE_OR_FALSE), (_DIGITS, _INTEGER, _WHOLE)):
        for first in firsts:
            table.setdefault(first, []).append((tag, pattern))
    return table


class _Meaning(SafeConstructor):
    """YAML as people mean it: no name twice, and only ``true`` and ``false`` are booleans.

    YAML 1.1 reads ``on``, ``no``, dates and ``10:30`` as booleans, dates and numbers; YAML 1.2
    doesn't, and ``on:`` is a name in our own schema.
    """

    yaml_implicit_resolvers = _resolvers()
    name: str
    duplicates: list[Problem]
    tags: dict[str, str]
    """What texts without quotes stand for; most of them stand there for every key."""
    level: int

    def descend_resolver(self, *_: Any) -> None:
        self.level += 1
        if self.level > _MAX_LEVELS:
            raise RecursionError

    def ascend_resolver(self) -> None:
        self.level -= 1

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is not yaml.ScalarNode or not implicit[0]:
            return super().resolve(kind, value, implicit)  # type: ignore[misc]
        tag = self.tags.get(value)
        if tag is None:
            tag = self.tags[value] = super().resolve(kind, value, implicit)  # type: ignore[misc]
        return tag

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag == _TEXT and type(node) is yaml.ScalarNode:
            return node.value
        return super().construct_object(node, deep)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            names = [name for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
            if len({name.value for name in names}) < len(names):
                self._tell_duplicates(names)
        return super().construct_mapping(node, deep=deep)

    def _tell_duplicates(self, names: Iterable[yaml.ScalarNode]) -> None:
        seen: dict[str, int] = {}
        for name in names:
            line = name.start_mark.line + 1
            first = seen.get(name.value)
            if first is None:
                seen[name.value] = line
                continue
            self.duplicates.append(
                Problem(
                    f"{self.name}, line {line}",
                    f"{name.value!r} stands here again",
                    f"It is already on line {first}: keep one of them",
                )
            )


class _Loader(_Meaning, yaml.SafeLoader):
    """The one that says best what is wrong."""


class _QuickLoader(_Meaning, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Six times as quick, where libyaml is there: a thousand keys take the other 0.6 s."""


def _yaml(text: str, name: str) -> Any:
    with suppress(yaml.YAMLError, InvalidSettings):
        return _loaded(_QuickLoader, text, name)
    return _loaded(_Loader, text, name)


def _loaded(kind: Any, text: str, name: str) -> Any:
    data: Any = None
    problems: list[Problem] = []
    try:
        loader = kind(text)
        loader.name, loader.duplicates, loader.tags, loader.level = name, problems, {}, 0
        data = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        problems = [_yaml_problem(error, name)]
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", "it can't be read")
        problems = [Problem(name, f"not YAML: {reason}")]
    except RecursionError:
        problems = [Problem(name, "nested too deep")]
    if problems:
        raise InvalidSettings(problems)
    return data


def _yaml_problem(error: yaml.MarkedYAMLError, name: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
    what = error.problem or error.context or "it cannot be read"
    hint = "Indent with spaces, not with tabs" if "'\\t'" in what else ""
    return Problem(where, f"not YAML: {what}", hint)


def _toml(text: str, name: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
    except RecursionError:
        message = "nested too deep"
    what, _, place = message.rpartition(" (at ")
    where = f"{name}, {place.rstrip(')')}" if what else name
    raise InvalidSettings([Problem(where, f"not TOML: {what or message}")])


def _odd_names(data: Mapping[Any, Any]) -> list[Problem]:
    """Names that are not text. Also the end of a file that refers to itself by YAML anchors."""
    problems: list[Problem] = []
    pending: list[tuple[Path, Any]] = [((), data)]
    seen = 0
    while pending:
        path, value = pending.pop()
        seen += len(value)
        if len(path) >= _MAX_DEPTH or seen > _MAX_VALUES:
            return [Problem(dotted(path[:2]), "nested too deep, or far too much")]
        if isinstance(value, dict):
            problems += [_odd_name(path, name) for name in value if not isinstance(name, str)]
            inside: Iterable[tuple[Any, Any]] = zip(map(str, value), value.values(), strict=True)
        else:
            inside = enumerate(value)
        pending += [((*path, at), item) for at, item in inside if isinstance(item, dict | list)]
    return problems


def _odd_name(path: Path, name: object) -> Problem:
    kinds = {bool: "true or false", int: "a number", float: "a number", type(None): "empty"}
    shown = {True: "true", False: "false"}.get(name, name) if isinstance(name, bool) else name
    return Problem(
        dotted(path) or "the top",
        f"the name {shown} is {kinds.get(type(name), 'not text')}, not text",
        f'Put it in quotes: "{shown}"',
    )


def read_environment(
    environ: Mapping[str, str],
    is_container: Callable[[Path], bool | None],
    *,
    sections: tuple[str, ...],
    used: set[str],
) -> tuple[dict[str, Any], list[Problem]]:
    """Nested data of the ``LLM_PROXY_…`` variables, and what is wrong with them.

    ``is_container`` says whether a setting takes a list or a mapping (written as JSON), a plain
    value, or (None) isn't known; ``used``: variables that the configuration refers to by ``${…}``,
    which therefore aren't settings. An empty variable counts as not set.
    """
    data: dict[str, Any] = {}
    problems: list[Problem] = []
    for variable in sorted(environ):
        text = environ[variable]
        if not variable.startswith(PREFIX) or variable in _NO_SETTINGS or not text:
            continue
        path = tuple(variable[len(PREFIX) :].lower().split("__"))
        if path[0] not in sections:
            if variable not in used:
                problems.append(_unknown_variable(variable, path, sections))
            continue
        try:
            value: Any = _json(text) if is_container(path) else text
            _put(data, path, value)
        except ValueError as error:
            problems.append(Problem(variable, str(error)))
    return data, problems


def _json(text: str) -> Any:
    if text.strip() == "null":
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
    except RecursionError:
        place = "nested too deep"
    raise ValueError(f"must be a list or a mapping in JSON, and isn't JSON ({place})")


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        below: Any = data.setdefault(part, {})
        if not isinstance(below, dict):
            message = "another variable already gives the whole of it"
            raise ValueError(message)  # noqa: TRY004 - the value is wrong, no argument's type
        data = below
    there = data.get(path[-1])
    data[path[-1]] = overlay(there, value) if isinstance(there, dict) else value


def _unknown_variable(variable: str, path: Path, sections: tuple[str, ...]) -> Problem:
    first = str(path[0])
    section = next((name for name in sections if first.startswith(f"{name}_")), None)
    meant = f"{section}__{first[len(section) + 1:]}" if section else nearest(first, sections)
    rest = "".join(f"__{part}" for part in path[1:])
    if meant is None:
        hint = f"{PREFIX}… is for settings; they are {', '.join(sections)}"
    else:
        hint = f"Did you mean {PREFIX}{(meant + rest).upper()}?"
    return Problem(variable, "unknown setting", hint)


def overlay(under: Any, over: Any) -> Any:
    """``over`` on ``under``: mappings are merged, name by name; anything else is replaced."""
    if not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return over
    merged = dict(under)
    for name, value in over.items():
        merged[name] = overlay(under[name], value) if name in under else value
    return merged
