"""Chunks of a chat that official SDKs trip over, put right; all others are not touched.

OpenAI's own clients join what a stream says of a role or a call's name, so that a role in each
chunk becomes ``assistantassistant``; they fail on a delta that is null, and pass over a chunk whose
``object`` is another one. Servers that imitate OpenAI's do all of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from proxy_core.dialects._body import fresh_call_id

__all__ = ["ENDS", "Mender"]

ENDS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_LIKE_ENDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "end_turn": "stop",
        "eos": "stop",
        "eos_token": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_length": "length",
        "tool_use": "tool_calls",
    }
)
_Json = dict[str, Any]


class Mender:
    """What one stream has said so far of roles and calls."""

    __slots__ = ("_calls", "_roles")

    def __init__(self) -> None:
        self._roles: tuple[int, ...] = ()
        self._calls: dict[int, _Calls] | None = None

    def has_role(self, index: int) -> bool:
        """Whether a choice has its role."""
        return index in self._roles

    def note_role(self, index: int) -> None:
        """It got it in a chunk that passes as it is."""
        self._roles = (*self._roles, index)

    def mended(self, choices: list[Any]) -> bool:
        """Put the choices of a chunk right, in place; whether anything was wrong."""
        changes = [self._choice(choice) for choice in choices if isinstance(choice, dict)]
        return any(changes)

    def _choice(self, choice: _Json) -> bool:
        index, delta = choice.get("index", 0), choice.get("delta")
        changed = not isinstance(delta, dict)
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
        if index not in self._roles:
            changed = changed or delta.get("role") is None
            if delta.get("role") is None:
                choice["delta"] = delta = {**delta, "role": "assistant"}
            self.note_role(index)
        elif delta.pop("role", None) is not None:
            changed = True
        end = choice.get("finish_reason")
        if isinstance(end, str) and end and end not in ENDS:
            choice["finish_reason"] = _LIKE_ENDS.get(end, "stop")
            changed = True
        calls = delta.get("tool_calls")
        return self._call_pieces(index, calls) or changed if isinstance(calls, list) else changed

    def _call_pieces(self, index: int, pieces: list[Any]) -> bool:
        if self._calls is None:
            self._calls = {}
        known = self._calls.setdefault(index, _Calls())
        changes = [known.mended(piece) for piece in pieces if isinstance(piece, dict)]
        return True in changes


class _Calls:
    """The calls of one choice, in the order in which they came."""

    __slots__ = ("_ids", "_of")

    def __init__(self) -> None:
        self._of: dict[object, int] = {}
        self._ids: list[str] = []

    def mended(self, piece: _Json) -> bool:
        """Put one piece of a call right; whether anything was wrong."""
        place = self._place(piece)
        told, function = piece.get("index"), piece.get("function")
        changed = type(told) is not int or told != place
        piece["index"] = place
        if place == len(self._ids):
            changed = self._begin(piece) or changed
        else:
            changed = _without(piece, "id", "type") or changed
            if isinstance(function, dict):
                changed = _without(function, "name") or changed
        if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
            function["arguments"] = msgspec.json.encode(function["arguments"]).decode()
            changed = True
        return changed

    def _begin(self, piece: _Json) -> bool:
        """The first piece of a call has an id and a type; whether one was missing."""
        has_id = bool(piece.get("id"))
        if not has_id:
            piece["id"] = fresh_call_id()
        self._ids.append(piece["id"])
        if "custom" in piece or piece.get("type") == "function":
            return not has_id
        piece["type"] = "function"
        return True

    def _place(self, piece: _Json) -> int:
        """Which call it belongs to, by our own count."""
        told, name = piece.get("index"), piece.get("id") or None
        if name is not None and name in self._ids:
            return self._ids.index(name)
        if isinstance(told, int) and told in self._of:
            if name is None:
                return self._of[told]
        elif told is None and name is None and self._ids:
            return len(self._ids) - 1
        # A new one: also where an index is used again with another id.
        place = len(self._ids)
        if isinstance(told, int):
            self._of[told] = place
        return place


def _without(values: _Json, *names: str) -> bool:
    """Take these out; whether one was there."""
    found = [name for name in names if name in values]
    for name in found:
        del values[name]
    return bool(found)
