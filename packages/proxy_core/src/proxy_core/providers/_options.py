"""The settings that stand in a provider's URLs: each is a part of one, and leads nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from proxy_core.errors import ConfigurationError

__all__ = ["checked_settings"]


class _Shape(NamedTuple):
    pattern: re.Pattern[str]
    wanted: str


_WORDS: Final = re.compile(r"[a-z0-9]{1,32}(-[a-z0-9]{1,32}){0,7}")
_SHAPES: Final = MappingProxyType(
    {
        "region": _Shape(_WORDS, "one of AWS's in small letters, such as eu-central-1"),
        "location": _Shape(
            _WORDS, "one of Google's in small letters, such as europe-west4 or global"
        ),
        "project": _Shape(
            re.compile(r"([a-z0-9.-]{1,100}:)?[a-z0-9][a-z0-9-]{0,62}"),
            "the id or the number of one of Google's, such as my-project-123",
        ),
        "api_version": _Shape(
            re.compile(r"[A-Za-z0-9.-]{1,64}"), "one of Azure's, such as 2024-10-21"
        ),
    }
)
"""https://cloud.google.com/resource-manager/docs/creating-managing-projects for projects; an older
one has its organisation's domain and a colon before it."""


def checked_settings(options: Mapping[str, Any]) -> dict[str, str]:
    """Those that are given. Raises ConfigurationError."""
    given = {name: value for name in _SHAPES if (value := options.get(name))}
    for name, value in given.items():
        shape = _SHAPES[name]
        if not (isinstance(value, str) and shape.pattern.fullmatch(value)):
            raise ConfigurationError(
                f"The {name} is {value!r}: it must be {shape.wanted}.", param=name
            )
    return given
