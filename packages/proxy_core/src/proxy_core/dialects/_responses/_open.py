"""Output items of one part each, while they are told: calls and reasoning."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from proxy_core.dialects._canonical import Json, Reasoning, Signature, ToolCall
from proxy_core.dialects._responses._kept import UNSIGNED, Use, keep
from proxy_core.dialects._responses._namespaces import Home

__all__ = ["CallItem", "Place", "ReasoningItem", "Wire", "added", "done"]

Wire = dict[str, Any]
"""An event for a client, without its number."""


class Place(NamedTuple):
    """Which item an event is about."""

    id: str
    at: int

    def event(self, kind: str, **fields: Any) -> Wire:
        return {"type": kind, "item_id": self.id, "output_index": self.at, **fields}


def added(place: Place, item: Wire) -> Wire:
    return {"type": "response.output_item.added", "output_index": place.at, "item": item}


def done(place: Place, item: Wire) -> Wire:
    return {"type": "response.output_item.done", "output_index": place.at, "item": item}


class _Wrapped(msgspec.Struct):
    input: str


class CallItem:
    """A call of a function, or of a custom tool.

    To a provider without custom tools one is a function of a single ``input``: what its model
    calls so is told to the client as the custom tool's own text, when all of it is there.
    """

    def __init__(
        self, place: Place, call: ToolCall, home: Home | None = None, *, wrapped: bool
    ) -> None:
        """``home`` is where the client has the tool, whose name here is a flat one."""
        self.item: Wire
        self._wrapped = wrapped
        self._place = place
        self._said: list[str] = []
        self._first = call.arguments
        custom = call.custom or wrapped
        self._field = "input" if custom else "arguments"
        named = {"id": place.id, "call_id": call.id, "name": call.name}
        if home is not None:
            named |= home._asdict()
        if custom:
            self.item = {"type": "custom_tool_call", **named, "input": ""}
            self._event = "response.custom_tool_call_input"
        else:
            status = {"status": "in_progress"}
            self.item = {"type": "function_call", **named, "arguments": "", **status}
            self._event = "response.function_call_arguments"

    def begin(self) -> list[Wire]:
        told = [added(self._place, dict(self.item))]
        return told + self.piece(self._first, None) if self._first else told

    def piece(self, text: str, logprobs: Json) -> list[Wire]:
        self._said.append(text)
        return [] if self._wrapped else [self._delta(text)]

    def close(self) -> list[Wire]:
        """Arguments that nobody said are those of a call without any."""
        told: list[Wire] = []
        if not self._said and self._field == "arguments":
            told = self.piece("{}", None)
        said = "".join(self._said)
        if self._wrapped:
            said = _input_of(said)
            told = [self._delta(said)] if said else []
        self.item[self._field] = said
        if "status" in self.item:
            self.item["status"] = "completed"
        ended = self._place.event(f"{self._event}.done", **{self._field: said})
        if self._field == "arguments":
            ended["name"] = self.item["name"]
        return [*told, ended, done(self._place, self.item)]

    def _delta(self, text: str) -> Wire:
        return self._place.event(f"{self._event}.delta", delta=text)


def _input_of(arguments: str) -> str:
    """The one argument of a custom tool; the text as it is where there is none."""
    try:
        return msgspec.json.decode(arguments, type=_Wrapped).input
    except msgspec.DecodeError:
        return arguments


class ReasoningItem:
    """Thinking, or a summary of it, or what is sealed alone."""

    def __init__(self, place: Place, part: Reasoning) -> None:
        self.item: Wire = {"type": "reasoning", "id": place.id, "summary": []}
        self.signature: Signature | None = part.signature
        self._place = place
        self._said: list[str] = []
        self._redacted = part.redacted
        self._summary = part.summary

    def begin(self) -> list[Wire]:
        return [added(self._place, {**self.item, "summary": [], "status": "in_progress"})]

    def piece(self, text: str, logprobs: Json) -> list[Wire]:
        told = [] if self._said else [self._part_event("added", "")]
        self._said.append(text)
        return [*told, self._event("delta", delta=text)]

    def close(self) -> list[Wire]:
        said, told = "".join(self._said), []
        if self._said:
            self.item["summary" if self._summary else "content"] = [self._part(said)]
            told = [self._event("done", text=said), self._part_event("done", said)]
        use: Use = "redacted" if self._redacted else "reasoning"
        self.item["encrypted_content"] = keep(self.signature or UNSIGNED, use)
        self.item["status"] = "completed"
        return [*told, done(self._place, self.item)]

    def _part(self, text: str) -> Wire:
        return {"type": "summary_text" if self._summary else "reasoning_text", "text": text}

    def _event(self, verb: str, **fields: Any) -> Wire:
        if self._summary:
            kind = f"response.reasoning_summary_text.{verb}"
            return self._place.event(kind, summary_index=0, **fields)
        return self._place.event(f"response.reasoning_text.{verb}", content_index=0, **fields)

    def _part_event(self, verb: str, text: str) -> Wire:
        part = self._part(text)
        if self._summary:
            kind = f"response.reasoning_summary_part.{verb}"
            return self._place.event(kind, summary_index=0, part=part)
        return self._place.event(f"response.content_part.{verb}", content_index=0, part=part)
