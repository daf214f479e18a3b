"""One choice of a stream while it is told: which parts are open, and what each chunk adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from proxy_core.dialects._body import joined_base64
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
    Source,
    Text,
)
from proxy_core.dialects._chat._answer_in import content_parts
from proxy_core.dialects._chat._calls_in import CallsReader
from proxy_core.dialects._chat._ends import stop_of
from proxy_core.dialects._chat._reasoning import (
    ENCRYPTED,
    SUMMARY,
    reasoning_text,
    signature_of_detail,
    text_of_detail,
)
from proxy_core.dialects._chat._wire import (
    as_dict,
    as_list,
    as_text,
    citations_of,
    image_of,
    signature_in,
)

__all__ = ["ChoiceReader"]

_PLAIN: Final = ("reasoning", None, None)
_TEXT: Final = ("text", None, None)
_REFUSAL: Final = ("refusal", None, None)
_WORDS: Final = frozenset({"role", "content"})

_Key = tuple[str, Json, Json]
"""Which part a delta belongs to: its sort, and of a detail the type and index."""


class ChoiceReader:
    """Texts, thinking and refusals follow each other; calls stay open until the choice ends."""

    __slots__ = ("_calls", "_index", "_key", "_open", "_parts", "_reason", "_sound", "_stopped_by")

    def __init__(self, index: int) -> None:
        self._index = index
        self._parts = 0
        self._key: _Key | None = None
        self._open = 0
        self._calls = CallsReader(index)
        self._sound: dict[str, list[str]] = {}
        self._reason = ""
        self._stopped_by: Json = None

    @property
    def finished(self) -> bool:
        """Whether a ``finish_reason`` was seen."""
        return bool(self._reason)

    def read(self, told: Mapping[str, Json]) -> list[Event]:
        """What a chunk adds. Raises UpstreamFailed, UpstreamProtocolError."""
        delta = as_dict(told.get("delta")) or as_dict(told.get("message"))
        events: list[Event] = []
        if delta:
            self._delta(delta, events)
        logprobs = as_list(as_dict(told.get("logprobs")).get("content"))
        if logprobs:
            self._bear(logprobs, events)
        reason = as_text(told.get("finish_reason"))
        if reason:
            self._reason = reason
            self._stopped_by = told.get("stop_reason")
            stop_of(reason, None, called=False)
        return events

    def end(self) -> list[Event]:
        """The stream is complete: close what is open. Raises UpstreamProtocolError."""
        events: list[Event] = []
        self._close(events)
        if self._sound:
            self._whole(self._spoken(), events)
        self._parts = self._calls.end(self._parts, events)
        stop = stop_of(self._reason, self._stopped_by, called=self._calls.any)
        matched = as_text(self._stopped_by) if stop == "stop_sequence" else ""
        events.append(Finished(stop=stop, stop_sequence=matched or None, choice=self._index))
        return events

    def _delta(self, delta: dict[str, Json], events: list[Event]) -> None:
        content = delta.get("content")
        if isinstance(content, str) and delta.keys() <= _WORDS:  # nearly every chunk
            self._say(_TEXT, Text(text=""), content, events)
            return
        self._think(delta, events)
        if content:
            for part in content_parts(content):
                self._add(part, events)
        if as_text(delta.get("refusal")):
            self._say(_REFUSAL, Refusal(text=""), as_text(delta.get("refusal")), events)
        self._cite(delta, events)
        for name, value in as_dict(delta.get("audio")).items():
            if as_text(value):
                self._sound.setdefault(name, []).append(value)
        for picture in filter(None, map(image_of, as_list(delta.get("images")))):
            self._whole(picture, events)
        calls = as_list(delta.get("tool_calls"))
        if isinstance(delta.get("function_call"), dict):
            calls = [*calls, {"index": 0, "function": delta["function_call"]}]
        if calls:
            self._close(events)
            self._parts = self._calls.read(calls, self._parts, events)

    def _think(self, delta: dict[str, Json], events: list[Event]) -> None:
        """The details where they have words, else the plain field: the words are the same."""
        details = [as_dict(detail) for detail in as_list(delta.get("reasoning_details"))]
        plain = reasoning_text(delta)
        if plain and not any(text_of_detail(detail) for detail in details):
            self._say(_PLAIN, Reasoning(), plain, events)
        for detail in details:
            self._detail(detail, events)

    def _detail(self, detail: dict[str, Json], events: list[Event]) -> None:
        text, signature = text_of_detail(detail), signature_of_detail(detail)
        item = as_text(detail.get("id")) or None
        if detail.get("type") == ENCRYPTED:
            if signature is not None:
                self._whole(Reasoning(redacted=True, signature=signature, id=item), events)
            return
        key: _Key = ("reasoning", as_text(detail.get("type")), _place(detail.get("index")))
        opened = Reasoning(summary=detail.get("type") == SUMMARY, id=item)
        if text:
            self._say(key, opened, text, events)
        if signature is not None:
            # Where plain fields told the thinking, a detail may bring no more than its signature.
            key = _PLAIN if self._key == _PLAIN else key
            self._sign(key, opened, signature, events)

    def _add(self, part: Part, events: list[Event]) -> None:
        match part:
            case Text():
                self._say(_TEXT, Text(text=""), part.text, events)
            case Reasoning():
                self._say(_PLAIN, Reasoning(), part.text, events)
            case Refusal():
                self._say(_REFUSAL, Refusal(text=""), part.text, events)
            case _:
                self._whole(part, events)

    def _cite(self, delta: dict[str, Json], events: list[Event]) -> None:
        for citation in citations_of(delta.get("annotations")):
            at = self._reach(_TEXT, Text(text=""), events)
            events.append(Piece(index=at, choice=self._index, citation=citation))
        signature = signature_in(delta)
        if signature is not None:
            self._sign(_TEXT, Text(text=""), signature, events)

    def _say(self, key: _Key, opened: Part, text: str, events: list[Event]) -> None:
        if text:
            at = self._reach(key, opened, events)
            events.append(Piece(index=at, choice=self._index, text=text))

    def _sign(self, key: _Key, opened: Part, signature: Signature, events: list[Event]) -> None:
        at = self._reach(key, opened, events)
        events.append(Piece(index=at, choice=self._index, signature=signature))

    def _bear(self, logprobs: list[Json], events: list[Event]) -> None:
        """Hang them on the chunk's own text, else on the open one."""
        for at, event in enumerate(events):
            if isinstance(event, Piece) and event.text:
                events[at] = msgspec.structs.replace(event, logprobs=logprobs)
                return
        if self._key == _TEXT:
            events.append(Piece(index=self._open, choice=self._index, logprobs=logprobs))

    def _reach(self, key: _Key, opened: Part, events: list[Event]) -> int:
        """The open part of this key; another one is closed and this one opened."""
        if self._key != key:
            self._close(events)
            self._key, self._open = key, self._parts
            events.append(Opened(index=self._open, part=opened, choice=self._index))
            self._parts += 1
        return self._open

    def _whole(self, part: Part, events: list[Event]) -> None:
        self._close(events)
        events.append(Opened(index=self._parts, part=part, choice=self._index))
        events.append(Closed(index=self._parts, choice=self._index))
        self._parts += 1

    def _close(self, events: list[Event]) -> None:
        if self._key is not None:
            events.append(Closed(index=self._open, choice=self._index))
            self._key = None

    def _spoken(self) -> Media:
        return Media(
            kind="audio",
            source=Source(kind="base64", data=joined_base64(self._sound.get("data", []))),
            id="".join(self._sound.get("id", [])[:1]) or None,
            transcript="".join(self._sound.get("transcript", [])) or None,
        )


def _place(value: Json) -> int | None:
    return value if isinstance(value, int) else None
