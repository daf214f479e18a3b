"""Anthropic's words and the canonical ones, side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from proxy_core.dialects._canonical import Json, StopReason

__all__ = [
    "DIALECT",
    "EFFORTS",
    "STOPS",
    "STOP_REASONS",
    "TIERS_ASKED",
    "TIERS_TOLD",
    "TOLD_TIERS",
    "given_id",
    "object_of",
    "safe_id",
]

DIALECT: Final = "anthropic.messages"

EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")

STOPS: Final[Mapping[str, StopReason]] = MappingProxyType(
    {
        "end_turn": "end",
        "stop_sequence": "stop_sequence",
        "max_tokens": "length",
        "tool_use": "tool_calls",
        "refusal": "refusal",
        "pause_turn": "pause",
        "model_context_window_exceeded": "context_window",
    }
)
STOP_REASONS: Final[Mapping[StopReason, str]] = MappingProxyType(
    {canonical: word for word, canonical in STOPS.items()} | {"content_filter": "refusal"}
)
TIERS_ASKED: Final[Mapping[str, str]] = MappingProxyType(
    {"auto": "auto", "priority": "auto", "default": "standard_only"}
)
"""Anthropic serves with priority where it can, unless it is told not to."""
TIERS_TOLD: Final[Mapping[str, str]] = MappingProxyType(
    {"standard": "default", "priority": "priority"}
)
TOLD_TIERS: Final[Mapping[str, str]] = MappingProxyType(
    {canonical: word for word, canonical in TIERS_TOLD.items()}
)

_PLAIN_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_MAPPED: Final = "lpx_"
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")


def safe_id(given: str) -> str:
    """An id in the letters that Anthropic takes, ``^[a-zA-Z0-9_-]+$``; ``given_id`` undoes it."""
    if _PLAIN_ID.fullmatch(given) and not given.startswith(_MAPPED):
        return given
    return _MAPPED + given.encode("utf-8", "surrogatepass").hex()


def given_id(safe: str) -> str:
    """The id that ``safe_id`` was given; one that it never made stays as it is."""
    mapped = safe.removeprefix(_MAPPED)
    if mapped is safe or mapped == safe or not _HEX.fullmatch(mapped):
        return safe
    try:
        return bytes.fromhex(mapped).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return safe


def object_of(arguments: str) -> dict[str, Json] | None:
    """A call's arguments as the object that they are; empty ones are none. None: they are not."""
    if not arguments.strip():
        return {}
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
