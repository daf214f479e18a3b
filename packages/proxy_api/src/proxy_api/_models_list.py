"""The models that a key may ask for, as the SDKs of OpenAI, Anthropic and Google list them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from proxy_api._error_shapes import ANTHROPIC, GEMINI, OPENAI, Shape

__all__ = ["Listed", "listed", "listed_one"]

_METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens")
_PREFIX: Final = "models/"


@dataclass(frozen=True, slots=True)
class Listed:
    """One model."""

    name: str
    owner: str
    """The provider that is asked first."""
    since: int
    """Unix time."""


def listed(models: Sequence[Listed], shape: Shape) -> dict[str, Any]:
    """A list of all of them: one page, whatever size of page was asked for."""
    return _LISTS[shape]([listed_one(model, shape) for model in models])


def listed_one(model: Listed, shape: Shape) -> dict[str, Any]:
    return _MODELS[shape](model)


def _openai(model: Listed) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.since,
        "owned_by": model.owner,
    }


def _anthropic(model: Listed) -> dict[str, Any]:
    since = datetime.fromtimestamp(model.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": since,
        "lifecycle": "active",
    }


def _gemini(model: Listed) -> dict[str, Any]:
    return {
        "name": _PREFIX + model.name,
        "baseModelId": model.name,
        "displayName": model.name,
        "version": "1",
        "supportedGenerationMethods": list(_METHODS),
    }


def _openai_list(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": models}


def _anthropic_list(models: list[dict[str, Any]]) -> dict[str, Any]:
    ids = [model["id"] for model in models] or [None]
    return {"data": models, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}


def _gemini_list(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {"models": models}


_MODELS: Final[Mapping[Shape, Callable[[Listed], dict[str, Any]]]] = MappingProxyType(
    {OPENAI: _openai, ANTHROPIC: _anthropic, GEMINI: _gemini}
)
_LISTS: Final[Mapping[Shape, Callable[[list[dict[str, Any]]], dict[str, Any]]]] = MappingProxyType(
    {OPENAI: _openai_list, ANTHROPIC: _anthropic_list, GEMINI: _gemini_list}
)
