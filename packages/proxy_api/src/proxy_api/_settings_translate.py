"""pydantic's errors in the words of somebody who has a file in front of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from proxy_api._references import is_secret
from proxy_api._settings_errors import Path, Problem, dotted, nearest

__all__ = ["is_container", "problem_of"]

_TYPES: Mapping[type, str] = MappingProxyType(
    {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        tuple: "a list",
        dict: "a mapping",
        type(None): "nothing",
    }
)
_WANTED: Mapping[str, str] = MappingProxyType(
    {
        "string": "text",
        "int": "a whole number",
        "float": "a number",
        "decimal": "a number",
        "bool": "true or false",
        "tuple": "a list",
        "list": "a list",
        "dict": "a mapping (name: value)",
        "mapping": "a mapping (name: value)",
        "model": "a mapping (name: value)",
    }
)
_BOUNDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "greater_than_equal": ("ge", "must be at least"),
        "greater_than": ("gt", "must be more than"),
        "less_than_equal": ("le", "must be at most"),
        "less_than": ("lt", "must be less than"),
    }
)
_MAX_SHOWN = 60


def problem_of(
    error: ErrorDetails, path: Path, root: type[BaseModel], borrowed: set[Path]
) -> Problem:
    """The problem that pydantic's error stands for; ``borrowed``: see ``Resolved``."""
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown(path, root)
    if kind == "missing":
        return Problem(dotted(path), "is missing", _described(path, root))
    value = error["input"]
    shown = "" if is_secret(path) or path in borrowed else _shown(value)
    if kind == "value_error":
        return Problem(dotted(path), f"{error['ctx']['error']}{shown}")
    if kind == "literal_error":
        return _not_one_of(path, root, value, shown)
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return Problem(dotted(path), f"{words} {error['ctx'][name]}{shown}")
    if kind in ("too_short", "string_too_short"):
        return Problem(dotted(path), "must not be empty")
    wanted = _WANTED.get(kind.partition("_")[0])
    if wanted is None or kind.endswith("pattern_mismatch"):
        return Problem(dotted(path), f"can't be read{shown}", _described(path, root))
    return _wrong_type(path, wanted, value, shown)


def _shown(value: object) -> str:
    """``, not 'abc'``: only plain values, and no address that may hold a password."""
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    if isinstance(value, int | float) or (
        isinstance(value, str) and len(value) <= _MAX_SHOWN and "@" not in value
    ):
        return f", not {value!r}"
    return ""


def _wrong_type(path: Path, wanted: str, value: object, shown: str) -> Problem:
    given = _TYPES.get(type(value), "something else")
    plain = wanted in ("text", "a whole number", "a number", "true or false")
    if plain and shown:
        message = f"must be {wanted}{shown}"
    elif given == wanted or (given == "text" and plain):
        message = f"must be {wanted}"
    else:
        message = f"must be {wanted}, not {given}"
    hint = ""
    if wanted == "text" and isinstance(value, bool | int | float):
        hint = "Put it in quotes"
    return Problem(dotted(path), message, hint)


def _unknown(path: Path, root: type[BaseModel]) -> Problem:
    model = _model_at(path[:-1], root)
    known = list(model.model_fields) if model else []
    meant = nearest(str(path[-1]), known)
    hint = f"Did you mean {meant!r}?" if meant else f"Known here: {', '.join(known)}"
    return Problem(dotted(path), "unknown setting", hint)


def _not_one_of(path: Path, root: type[BaseModel], value: object, shown: str) -> Problem:
    choices = _choices(_annotation_at(path, root))
    words = ", ".join(str(choice) for choice in choices)
    message = f"must be {words}{shown}" if len(choices) == 1 else f"must be one of {words}{shown}"
    if isinstance(value, str) and value in map(str, choices):
        return Problem(dotted(path), message, f"Write {value} without quotes")
    meant = nearest(value, map(str, choices)) if isinstance(value, str) else None
    return Problem(dotted(path), message, f"Did you mean {meant!r}?" if meant else "")


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(choice for part in get_args(annotation) for choice in _choices(part))


def _described(path: Path, root: type[BaseModel]) -> str:
    model = _model_at(path[:-1], root)
    info = model.model_fields.get(str(path[-1])) if model else None
    return (info.description or "").rstrip(".") if info else ""


def _model_at(path: Path, root: type[BaseModel]) -> type[BaseModel] | None:
    structure = _first(_annotation_at(path, root), _is_structure)
    if get_origin(structure) is tuple:  # a list's short form, which is one row without the list
        structure = get_args(structure)[0]
    model: type[BaseModel] | None = _first(structure, _is_model)
    return model


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _first(annotation: Any, wanted: Callable[[Any], bool]) -> Any:
    """The first of the alternatives of an optional or annotated type that is wanted."""
    if wanted(annotation):
        return annotation
    origin = get_origin(annotation)
    if origin is Annotated:
        return _first(get_args(annotation)[0], wanted)
    if origin in (Union, UnionType):
        found = (_first(part, wanted) for part in get_args(annotation))
        return next((part for part in found if part is not None), None)
    return None


def _is_structure(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return _is_model(annotation) or (
        isinstance(origin, type) and issubclass(origin, Mapping | tuple)
    )


def _annotation_at(path: Path, root: type[BaseModel]) -> Any:
    """The type of the setting at ``path``; None where there is no such setting."""
    annotation: Any = root
    for part in path:
        # A fallback may be written without its list, so a name can stand where a list is declared.
        structure = _first(annotation, _is_structure)
        if structure is None:
            return None
        if get_origin(structure) is tuple and not isinstance(part, int):
            structure = _first(get_args(structure)[0], _is_structure)
        if _is_model(structure):
            info = structure.model_fields.get(str(part))
            annotation = info.annotation if info else None
        else:
            parts = get_args(structure)
            annotation = parts[0] if get_origin(structure) is tuple else parts[1]
    return annotation


def is_container(path: Path, root: type[BaseModel]) -> bool | None:
    """Whether the setting at ``path`` is a list or a mapping; None: there is no such setting."""
    annotation = _annotation_at(path, root)
    if annotation is None:
        return None
    return _first(annotation, _is_structure) is not None
