"""What is asked and answered in the matrix, in no dialect's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

__all__ = [
    "PICTURE",
    "PICTURE_URL",
    "SCHEMA",
    "TOOL",
    "USAGE",
    "Asked",
    "Call",
    "Got",
    "Heard",
    "Said",
    "judged_deeply",
]

PICTURE: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6260000000000500017a5eab3f0000000049454e44ae426082"
)
"""A PNG of one pixel."""
PICTURE_URL: Final = "https://example.com/pixel.png"
SCHEMA: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "degrees": {"type": "number"}},
        "required": ["city", "degrees"],
        "additionalProperties": False,
    }
)
TOOL: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where"}},
        "required": ["city"],
    }
)
"""The parameters of ``get_weather``."""
USAGE: Final[Mapping[str, int]] = MappingProxyType(
    {
        "input_tokens": 160,
        "cached_tokens": 40,
        "cache_write_tokens": 20,
        "output_tokens": 30,
        "reasoning_tokens": 12,
    }
)
"""Whole sums: input holds what was read from the cache and written to it, output the reasoning."""


@dataclass(frozen=True)
class Call:
    """A tool's call. ``arguments`` is an object."""

    id: str
    name: str
    arguments: Mapping[str, Any]

    @property
    def json(self) -> str:
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True)
class Said:
    """An answer that an upstream gives. ``others`` are further answers to the same question."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    thought: str = ""
    proof: str = ""
    """The signature of the thought, in base64."""
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A question for an SDK. ``effort``: low, medium, high."""

    text: str = "What is it?"
    system: str = ""
    stream: bool = False
    picture: bytes = b""
    picture_url: str = ""
    tools: bool = False
    schema: bool = False
    effort: str = ""
    answers: int = 1
    before: Got | None = None
    """An answer with calls."""
    results: tuple[str, ...] = ()
    """What the tools said, in the order of the calls."""

    @property
    def said(self) -> list[tuple[Call, str]]:
        """The calls and what the tools said to them."""
        return (
            [] if self.before is None else list(zip(self.before.calls, self.results, strict=True))
        )


@dataclass(frozen=True)
class Got:
    """An answer as a user of an SDK sees it."""

    text: str
    calls: tuple[Call, ...]
    stop: str
    usage: Mapping[str, int]
    thought: str
    echo: Any
    """What the user puts into the history."""
    answers: tuple[str, ...] = ()


@dataclass
class Heard:
    """What an upstream was asked."""

    texts: list[str] = field(default_factory=list)
    system: str = ""
    pictures: list[bytes] = field(default_factory=list)
    picture_urls: list[str] = field(default_factory=list)
    tools: dict[str, Any] = field(default_factory=dict)
    """The parameters, by name."""
    calls: list[Call] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    """By the id of the call, or (Gemini) its name and number."""
    proofs: list[str] = field(default_factory=list)
    schema: Any = None
    effort: str = ""
    answers: int = 1
    stream: bool = False
    roles: list[str] = field(default_factory=list)
    """Of the messages, but for the system's."""


def judged_deeply(value: Any) -> Any:
    """The same with every lazy iterator walked: pydantic judges what is in them only then."""
    if isinstance(value, dict):
        return {name: judged_deeply(one) for name, one in value.items()}
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return value
    return [judged_deeply(one) for one in value]
