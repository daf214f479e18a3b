"""Streams of upstreams into canonical events, also of servers that tell less than OpenAI.

What an event leaves out is taken from the next that says it: a text that had no deltas from its
end, an item that was never told from the whole response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._canonical import (
    Begun,
    Broken,
    Counted,
    Event,
    Finished,
    Json,
    Refusal,
    ToolCall,
)
from proxy_core.dialects._codec import Frame
from proxy_core.dialects._reading import Value
from proxy_core.dialects._responses._answer_in import failure_of, head_of, reason_of
from proxy_core.dialects._responses._citations import read_annotation
from proxy_core.dialects._responses._counts import read_counts
from proxy_core.dialects._responses._parts_in import Parts, Slot
from proxy_core.dialects._responses._words import stop_of
from proxy_core.errors import InvalidRequest, UpstreamDisconnected, UpstreamProtocolError

__all__ = ["ResponsesReader"]

_decode = msgspec.json.Decoder().decode


class _Said(NamedTuple):
    """Where the text of an event belongs."""

    slot: Slot
    field: str
    """Of the event that ends it."""
    number: str
    """The field that counts the parts of a slot, or the slots of an item."""


_TEXTS: Final[Mapping[str, _Said]] = MappingProxyType(
    {
        "response.output_text": _Said("text", "text", "content_index"),
        "response.refusal": _Said("refusal", "refusal", "content_index"),
        "response.reasoning_text": _Said("content", "text", "content_index"),
        "response.reasoning_summary_text": _Said("summary", "text", "summary_index"),
        "response.function_call_arguments": _Said("call", "arguments", ""),
        "response.custom_tool_call_input": _Said("call", "input", ""),
    }
)
_SLOTS: Final[Mapping[str, Slot]] = MappingProxyType(
    {"output_text": "text", "refusal": "refusal", "reasoning_text": "content"}
)
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_FAILED: Final = frozenset({"response.failed", "response.cancelled"})


class ResponsesReader:
    """One stream."""

    def __init__(self) -> None:
        self._parts = Parts()
        self._begun = False
        self._over = False

    def read(self, frame: Frame) -> list[Event]:
        if self._over or not frame.data.strip() or frame.data.strip() == b"[DONE]":
            return []
        try:
            body = _decode(frame.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamProtocolError(f"the upstream's event is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise UpstreamProtocolError("the upstream's event is not an object")
        kind = body.get("type") or frame.name
        if kind == "error" or body.get("error"):
            return self._broken(body.get("error") or body)
        try:
            return self._read(kind, Value(body))
        except InvalidRequest as error:
            raise UpstreamProtocolError(f"the upstream's event is malformed: {error}") from None

    def end(self) -> list[Event]:
        if not self._over:
            raise UpstreamDisconnected("the upstream's stream ended without a response.completed")
        return []

    def _read(self, kind: Json, body: Value) -> list[Event]:
        if not isinstance(kind, str):
            return []
        response = body.json.get("response")
        told = self._begin(response if isinstance(response, dict) else {}, kind)
        if kind in _FAILED:
            return told + self._broken(response.get("error") if response else None)
        if kind in _ENDS:
            return told + self._finish(body.field("response"), kind)
        read = self._readers.get(kind)
        if read is not None:
            return told + read(self, body)
        stem, _, verb = kind.rpartition(".")
        said = _TEXTS.get(stem)
        return told if said is None else told + self._text(said, verb, body)

    def _begin(self, response: dict[str, Json], kind: str) -> list[Event]:
        if self._begun or not kind.startswith("response."):
            return []
        self._begun = True
        return [Begun(**head_of(response))]

    def _broken(self, error: Json) -> list[Event]:
        self._over = True
        return [Broken(failure_of(error))]

    def _finish(self, response: Value, kind: str) -> list[Event]:
        told: list[Event] = []
        for at, item in enumerate(response.maybe_items("output")):
            if not self._parts.knows(at, item.maybe_text("id")):
                told += self._parts.item(at, item)
        told += self._parts.close_all()
        fields = response.fields()
        reason = reason_of(fields)
        if reason is None and kind == "response.incomplete":
            reason = "max_output_tokens"
        opened = self._parts.opened
        stop = stop_of(reason, has_call=ToolCall in opened, has_refusal=Refusal in opened)
        self._over = True
        usage = read_counts(fields.get("usage")) or Usage()
        return [*told, Finished(stop=stop), Counted(usage)]

    def _text(self, said: _Said, verb: str, body: Value) -> list[Event]:
        """A delta, or the end of a text, which says it once more."""
        if verb not in ("delta", "done"):
            return []
        text = body.maybe_text("delta" if verb == "delta" else said.field) or ""
        number = (said.number and body.maybe_whole(said.number)) or 0
        slot = said.slot
        place = self._parts.place(_item_key(body), slot, number)
        logprobs = [one.fields() for one in body.maybe_items("logprobs")] if slot == "text" else []
        if verb == "done":
            return self._parts.complete(place, slot, text, number, logprobs)
        return self._parts.say(place, slot, text, number, logprobs)

    def _added(self, body: Value) -> list[Event]:
        item = body.maybe("item")
        if item is None:
            return []
        return self._parts.begin(_item_key(body, item), item)

    def _done(self, body: Value) -> list[Event]:
        item = body.field("item")
        return self._parts.item(_item_key(body, item), item)

    def _part_added(self, body: Value) -> list[Event]:
        kind = body.field("part").maybe_text("type")
        slot = _SLOTS.get(kind or "")
        if slot is None:
            return []
        number = body.maybe_whole("content_index") or 0
        return self._parts.open(self._parts.place(_item_key(body), slot, number), slot, number)

    def _part_done(self, body: Value) -> list[Event]:
        part = body.field("part")
        slot = _SLOTS.get(part.maybe_text("type") or "")
        if slot not in ("text", "refusal"):
            return []
        number = body.maybe_whole("content_index") or 0
        return self._parts.content(self._parts.place(_item_key(body), slot, number), slot, part)

    def _cited(self, body: Value) -> list[Event]:
        note = body.maybe("annotation")
        citation = None if note is None else read_annotation(note)
        if citation is None:
            return []
        number = body.maybe_whole("content_index") or 0
        return self._parts.cite(self._parts.place(_item_key(body), "text", number), citation)

    _readers: ClassVar[Mapping[str, Callable[[ResponsesReader, Value], list[Event]]]] = (
        MappingProxyType(
            {
                "response.output_item.added": _added,
                "response.output_item.done": _done,
                "response.content_part.added": _part_added,
                "response.content_part.done": _part_done,
                "response.output_text.annotation.added": _cited,
            }
        )
    )


def _item_key(body: Value, item: Value | None = None) -> int | str:
    """Which item an event is about: its place, or its id where a server says no place."""
    index = body.maybe_whole("output_index")
    if index is not None:
        return index
    named = body.maybe_text("item_id")
    if named is None and item is not None:
        named = item.maybe_text("id") or item.maybe_text("call_id")
    return named or ""
