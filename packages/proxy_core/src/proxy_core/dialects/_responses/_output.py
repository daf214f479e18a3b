"""An answer's events into output items, and into the events that tell of them.

A whole answer goes the same way, so that a stream and a whole answer can't differ.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from proxy_core.dialects._canonical import (
    Closed,
    Event,
    Finished,
    Json,
    Media,
    Opened,
    Part,
    Piece,
    Reasoning,
    Refusal,
    Signature,
    Text,
    Tool,
    ToolCall,
)
from proxy_core.dialects._responses._kept import Use, keep
from proxy_core.dialects._responses._message import Message, TextPart
from proxy_core.dialects._responses._namespaces import homes_of
from proxy_core.dialects._responses._open import (
    CallItem,
    Place,
    ReasoningItem,
    Wire,
    added,
    done,
)
from proxy_core.dialects._responses._words import incomplete_reason

__all__ = ["Output"]

_FORMATS: Final = frozenset({"png", "webp", "jpeg", "gif", "svg"})


class _OpenPart(Protocol):
    def piece(self, text: str, logprobs: Json) -> list[Wire]: ...
    def close(self) -> list[Wire]: ...


class Output:
    """The output items of one answer. Indices of items are in the order of their beginnings."""

    def __init__(self, stem: str, tools: tuple[Tool, ...] = ()) -> None:
        """``stem`` makes the ids of items: the answer's own id. ``tools`` are the client's."""
        self._customs = frozenset(tool.name for tool in tools if tool.kind == "custom")
        self._homes = homes_of(tools)
        self.items: list[dict[str, Any]] = []
        self.reason: str | None = None
        """Why the answer is incomplete."""
        self._stem = stem
        self._parts: dict[int, _OpenPart] = {}
        self._calls: dict[int, str] = {}
        self._message: Message | None = None
        self._has_refusal = False

    def take(self, event: Event) -> list[Wire]:
        """What a client is told, without its number. Other answers than the first are left out."""
        match event:
            case Opened(choice=0):
                return self._open(event.index, event.part)
            case Piece(choice=0):
                return self._piece(event)
            case Closed(choice=0):
                part = self._parts.pop(event.index, None)
                return [] if part is None else part.close()
            case Finished(choice=0):
                self.reason = incomplete_reason(event.stop, self._has_refusal)
                return self._end_message("completed" if self.reason is None else "incomplete")
        return []

    def _open(self, index: int, part: Part) -> list[Wire]:
        match part:
            case Text() | Refusal():
                return self._text(index, part)
            case ToolCall():
                told = self._end_message()
                wrapped = not part.custom and part.name in self._customs
                place = self._place("ctc" if part.custom or wrapped else "fc")
                call = CallItem(place, part, self._homes.get(part.name), wrapped=wrapped)
                self.items.append(call.item)
                self._parts[index], self._calls[index] = call, part.id
                told += call.begin()
            case Reasoning():
                told = self._end_message()
                told += self._reasoning(index, part)
            case Media():
                told = self._end_message()
                told += self._media(part)
            case _:
                return []
        signature = part.signature
        if signature is not None and isinstance(part, ToolCall):
            told += self._sign(signature, "call", part.id)
        return told

    def _text(self, index: int, part: Text | Refusal) -> list[Wire]:
        message, told = self._message, []
        if message is None:
            message = self._message = Message(self._place("msg"))
            self.items.append(message.item)
            told = message.begin()
        self._has_refusal = self._has_refusal or isinstance(part, Refusal)
        self._parts[index] = opened = TextPart(message, is_refusal=isinstance(part, Refusal))
        told += opened.begin()
        if part.text:
            told += opened.piece(part.text, None)
        if isinstance(part, Text):
            for citation in part.citations:
                told += opened.cite(citation)
            if part.signature is not None:
                told += self._sign_text(part.signature)
        return told

    def _reasoning(self, index: int, part: Reasoning) -> list[Wire]:
        place = self._place("rs")
        if part.id:
            place = place._replace(id=part.id)
        opened = ReasoningItem(place, part)
        self.items.append(opened.item)
        self._parts[index] = opened
        told = opened.begin()
        return told + opened.piece(part.text, None) if part.text else told

    def _piece(self, piece: Piece) -> list[Wire]:
        part = self._parts.get(piece.index)
        if part is None:
            return []
        told: list[Wire] = []
        if piece.text or piece.logprobs:
            told += part.piece(piece.text, piece.logprobs)
        if piece.citation is not None and isinstance(part, TextPart):
            told += part.cite(piece.citation)
        if piece.signature is not None:
            told += self._signed(piece.index, part, piece.signature)
        return told

    def _signed(self, index: int, part: _OpenPart, signature: Signature) -> list[Wire]:
        if isinstance(part, ReasoningItem):
            part.signature = signature
            return []
        if isinstance(part, CallItem):
            return self._sign(signature, "call", self._calls[index])
        return self._sign_text(signature)

    def _sign_text(self, signature: Signature) -> list[Wire]:
        """No other text joins this message, so that the signature belongs to its last one."""
        return self._end_message() + self._sign(signature, "text")

    def _sign(self, signature: Signature, use: Use, call: str = "") -> list[Wire]:
        """A reasoning item that holds nothing but the signature of something else."""
        place = self._place("rs")
        item = {
            "type": "reasoning",
            "id": place.id,
            "summary": [],
            "encrypted_content": keep(signature, use, call),
            "status": "completed",
        }
        self.items.append(item)
        return [added(place, {**item, "status": "in_progress"}), done(place, item)]

    def _media(self, part: Media) -> list[Wire]:
        """A picture. Responses have no other media; of a spoken answer its words are left."""
        if part.kind != "image" or part.source.kind != "base64":
            return self._spoken(part.transcript) if part.transcript else []
        told = [] if part.signature is None else self._sign(part.signature, "media")
        place = self._place("ig")
        item: dict[str, Any] = {
            "type": "image_generation_call",
            "id": place.id,
            "status": "completed",
            "result": part.source.data,
        }
        form = part.source.media_type.removeprefix("image/")
        if form in _FORMATS:
            item["output_format"] = form
        self.items.append(item)
        begun = {**item, "status": "in_progress", "result": None}
        return [*told, added(place, begun), done(place, item)]

    def _spoken(self, words: str) -> list[Wire]:
        message = Message(self._place("msg"))
        self.items.append(message.item)
        part = TextPart(message, is_refusal=False)
        told = message.begin() + part.begin() + part.piece(words, None) + part.close()
        return told + message.end("completed")

    def _end_message(self, status: str = "completed") -> list[Wire]:
        message, self._message = self._message, None
        return [] if message is None else message.end(status)

    def _place(self, kind: str) -> Place:
        index = len(self.items)
        return Place(f"{kind}_{self._stem}_{index}", index)
