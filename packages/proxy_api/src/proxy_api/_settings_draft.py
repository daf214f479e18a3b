"""Data on its way to settings: what has errors is left out, so that all the rest is checked too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from proxy_api._references import Resolved
from proxy_api._settings_errors import Path, Problem
from proxy_api._settings_translate import problem_of

__all__ = ["Draft"]

Model = TypeVar("Model", bound=BaseModel)


class Draft(Generic[Model]):
    """One configuration, validated as far as it goes. ``problems`` has what pydantic found."""

    def __init__(self, resolved: Resolved, model: type[Model]) -> None:
        self._resolved = resolved
        self._model = model
        self.problems: list[Problem] = []
        self.places: dict[str, list[int]] = {
            section: _indices(resolved.data.get(section)) for section in ("models", "keys")
        }
        """Where the rows of ``models`` and ``keys`` that are left stood in the file."""

    def validated(self) -> Model | None:
        """The settings of what is in order; None when not even that can be had."""
        data = self._resolved.data
        settings, errors = self._attempt(data)
        if settings is not None:
            return settings
        for error in errors:
            path = _path(error, data)
            if path not in self._resolved.failed:
                found = problem_of(error, path, self._model, self._resolved.borrowed)
                self.problems.append(found)
        data = _without_leaves(data, {_path(error, data) for error in errors})
        settings, errors = self._attempt(data)
        if settings is None:
            data = self._without_rows(data, {_path(error, data) for error in errors})
            settings, _ = self._attempt(data)
        return settings

    def _attempt(self, data: Mapping[str, Any]) -> tuple[Model | None, list[ErrorDetails]]:
        try:
            return self._model(**data), []
        except ValidationError as error:
            return None, error.errors(include_url=False)

    def _without_rows(self, data: Mapping[str, Any], paths: set[Path]) -> dict[str, Any]:
        rest = dict(data)
        for section in {str(path[0]) for path in paths}:
            rows = rest.pop(section, None)
            bad = {path[1] if len(path) > 1 else None for path in paths if path[0] == section}
            if None in bad or not isinstance(rows, Mapping | list):
                kept: list[int] = []
            elif isinstance(rows, Mapping):
                rest[section] = {name: row for name, row in rows.items() if name not in bad}
                continue
            else:
                kept = [i for i in range(len(rows)) if i not in bad]
                rest[section] = [rows[i] for i in kept]
            if section in self.places:
                self.places[section] = kept
        return rest


def _indices(rows: Any) -> list[int]:
    return list(range(len(rows))) if isinstance(rows, list | tuple) else []


def _path(error: ErrorDetails, data: Any) -> Path:
    """Where the error is in the file: a fallback's short form has no list."""
    path: list[str | int] = []
    for part in error["loc"]:
        if isinstance(part, int) and not isinstance(data, list | tuple):
            continue
        if part != "[key]":
            path.append(part)
            data = _at(data, part)
    return tuple(path)


def _at(data: Any, part: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _without_leaves(data: Any, paths: set[Path]) -> Any:
    """A copy without the named settings at the ends of ``paths``; list items stay."""
    if not paths or () in paths:
        return data
    if isinstance(data, Mapping):
        return {
            name: _without_leaves(item, _below(paths, name))
            for name, item in data.items()
            if (name,) not in paths
        }
    if isinstance(data, list):
        return [_without_leaves(item, _below(paths, i)) for i, item in enumerate(data)]
    return data


def _below(paths: set[Path], part: str | int) -> set[Path]:
    return {path[1:] for path in paths if path[0] == part}
