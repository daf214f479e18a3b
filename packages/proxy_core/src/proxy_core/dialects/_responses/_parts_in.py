"""The parts of a streamed answer, by the item that they belong to."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from proxy_core.dialects._canonical import (
    Citation,
    Closed,
    Event,
    Json,
    Media,
    Opened,
    Part,
    Piece,
    Reasoning,
    Refusal,
    Signature,
    Text,
)
from proxy_core.dialects._reading import Value
from proxy_core.dialects._responses._content import read_citations
from proxy_core.dialects._responses._items import (
    kind_of,
    read_call,
    read_image,
    reasonings,
    texts_of,
)
from proxy_core.dialects._responses._kept import Kept, read_kept
from proxy_core.dialects._responses._words import PARAGRAPH

__all__ = ["Parts", "Place", "Slot"]

Slot = Literal["text", "refusal", "summary", "content", "call"]
_CALLS: Final = ("function_call", "custom_tool_call")


class Place(NamedTuple):
    """Of a part: which item, and which of its texts."""

    item: int | str
    name: str


class _Part:
    __slots__ = ("call", "cited", "index", "number", "open", "said", "slot")

    def __init__(self, index: int, slot: str, number: int, call: str = "") -> None:
        self.index = index
        self.slot = slot
        self.number = number
        """Which part of a summary was the last to be said."""
        self.call = call
        self.cited = 0
        self.said = False
        self.open = True


class Parts:
    """They are numbered by their beginnings."""

    def __init__(self) -> None:
        self.opened: set[type[Part]] = set()
        """Of what kinds there were parts."""
        self._parts: dict[Place, _Part] = {}
        self._ids: dict[int | str, str] = {}
        self._known: set[int | str] = set()
        self._count = 0
        self._for_media: Signature | None = None

    def knows(self, at: int, name: str | None) -> bool:
        """Whether this item of the whole response was told before."""
        return at in self._known or (name is not None and name in self._known)

    def place(self, item: int | str, slot: Slot, number: int) -> Place:
        """A summary is one part, however many it has; each text of a message is one."""
        return Place(item, f"{slot}{number}" if slot in ("text", "refusal") else slot)

    def begin(self, key: int | str, item: Value) -> list[Event]:
        """An item was added."""
        self._note(key, item)
        if kind_of(item) not in _CALLS or Place(key, "call") in self._parts:
            return []
        call = msgspec.structs.replace(read_call(item), arguments="")
        return self._opened(Place(key, "call"), call, call.id)

    def item(self, key: int | str, item: Value) -> list[Event]:
        """An item is done: what was not told of it is told now."""
        self._note(key, item)
        kind = kind_of(item)
        if kind in _CALLS:
            call = read_call(item)
            told = self.begin(key, item)
            told += self.complete(Place(key, "call"), "call", call.arguments, 0, [])
            return told + self._close(key)
        if kind == "reasoning":
            return self._reasoning(key, item) + self._close(key)
        if kind == "image_generation_call":
            return self._image(read_image(item))
        told = []
        if kind == "message":
            for number, part in enumerate(item.maybe_items("content")):
                slot: Slot = "refusal" if part.maybe_text("type") == "refusal" else "text"
                told += self.content(self.place(key, slot, number), slot, part)
        return told + self._close(key)

    def open(self, place: Place, slot: Slot, number: int) -> list[Event]:
        """A part begins, where it hasn't; a call can't begin without its name."""
        if place in self._parts or slot == "call":
            return []
        named = self._ids.get(place.item)
        match slot:
            case "text":
                part: Part = Text(text="")
            case "refusal":
                part = Refusal(text="")
            case _:
                part = Reasoning(summary=slot == "summary", id=named)
        return self._opened(place, part, number=number)

    def say(
        self, place: Place, slot: Slot, text: str, number: int, logprobs: list[Json]
    ) -> list[Event]:
        """More of a text."""
        if not text and not logprobs:
            return []
        told = self.open(place, slot, number)
        part = self._parts.get(place) or self._last(slot)
        if part is None or not part.open:
            return told
        if number != part.number and part.said and slot in ("summary", "content"):
            told.append(Piece(index=part.index, text=PARAGRAPH))
        part.number, part.said = number, True
        return [*told, Piece(index=part.index, text=text, logprobs=logprobs or None)]

    def complete(
        self, place: Place, slot: Slot, text: str, number: int, logprobs: list[Json]
    ) -> list[Event]:
        """The whole of a text: news only where nothing of it was told."""
        part = self._parts.get(place)
        if part is not None and part.said and part.number == number:
            return []
        return self.say(place, slot, text, number, logprobs)

    def content(self, place: Place, slot: Slot, part: Value) -> list[Event]:
        """A text of a message is done."""
        told = self.open(place, slot, 0)
        known = self._parts[place]
        if not known.open:
            return told
        field = "refusal" if slot == "refusal" else "text"
        sure = [one.fields() for one in part.maybe_items("logprobs")]
        told += self.complete(place, slot, part.maybe_text(field) or "", known.number, sure)
        for citation in read_citations(part)[known.cited :]:
            told += self.cite(place, citation)
        known.open = False
        return [*told, Closed(index=known.index)]

    def cite(self, place: Place, citation: Citation) -> list[Event]:
        told = self.open(place, "text", 0)
        part = self._parts[place]
        if not part.open:
            return told
        part.cited += 1
        return [*told, Piece(index=part.index, citation=citation)]

    def close_all(self) -> list[Event]:
        """The answer is over."""
        left = [part for part in self._parts.values() if part.open]
        for part in left:
            part.open = False
        return [Closed(index=part.index) for part in left]

    def _note(self, key: int | str, item: Value) -> None:
        named = item.maybe_text("id")
        self._known.add(key)
        if named is not None:
            self._known.add(named)
            self._ids[key] = named

    def _opened(self, place: Place, part: Part, call: str = "", *, number: int = 0) -> list[Event]:
        self._parts[place] = known = _Part(self._count, place.name, number, call)
        self.opened.add(type(part))
        self._count += 1
        return [Opened(index=known.index, part=part)]

    def _close(self, key: int | str) -> list[Event]:
        left = [part for place, part in self._parts.items() if place.item == key and part.open]
        for part in left:
            part.open = False
        return [Closed(index=part.index) for part in left]

    def _last(self, slot: str, call: str = "") -> _Part | None:
        """The newest open part of a kind: where a server doesn't say whose text it tells."""
        for part in reversed(self._parts.values()):
            if part.open and part.slot.startswith(slot) and (not call or part.call == call):
                return part
        return None

    def _reasoning(self, key: int | str, item: Value) -> list[Event]:
        sealed = item.maybe_text("encrypted_content")
        kept = read_kept(sealed or "")
        if kept is not None and kept.use not in ("reasoning", "redacted"):
            return self._signed(kept)
        told: list[Event] = []
        slots: tuple[Slot, ...] = ("summary", "content")
        for slot in slots:
            text, place = texts_of(item, slot), Place(key, slot)
            if text and place not in self._parts:
                told += self.say(place, slot, text, 0, [])
        last = self._last_of(key)
        if kept is None:
            return told
        if last is not None:
            return [*told, Piece(index=last.index, signature=kept.signature)]
        return told + self._opened(Place(key, "content"), reasonings(item, kept)[-1])

    def _last_of(self, key: int | str) -> _Part | None:
        return self._parts.get(Place(key, "content")) or self._parts.get(Place(key, "summary"))

    def _signed(self, kept: Kept) -> list[Event]:
        """The signature of something else, which is still open or not told yet."""
        if kept.use == "media":
            self._for_media = kept.signature
            return []
        slot = "call" if kept.use == "call" else "text"
        part = self._last(slot, kept.call)
        return [] if part is None else [Piece(index=part.index, signature=kept.signature)]

    def _image(self, media: Media | None) -> list[Event]:
        if media is None:
            return []
        index, self._count = self._count, self._count + 1
        signed = msgspec.structs.replace(media, signature=self._for_media)
        self._for_media = None
        self.opened.add(Media)
        return [Opened(index=index, part=signed), Closed(index=index)]
