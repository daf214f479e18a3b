"""Watches a Gemini event stream as it passes: each event is a whole GenerateContentResponse."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._event_tap import EventTap, unreadable
from proxy_core.dialects._gemini._usage import read_usage
from proxy_core.dialects._sse import ServerEvent, with_data
from proxy_core.errors import UpstreamDisconnected, UpstreamError, UpstreamProtocolError

__all__ = ["GeminiTap"]

_MOST_CHOICES: Final = 1024
_QUIET: Final = frozenset({"thought", "thoughtSignature"})
"""Fields of a part that say nothing alone."""
_EMPTY: Final = frozenset({b'""', b"null"})
_UNSAID: Final = frozenset({"", "FINISH_REASON_UNSPECIFIED"})


class _Content(msgspec.Struct, gc=False):
    parts: list[dict[str, msgspec.Raw]] | None = None


class _Candidate(msgspec.Struct, gc=False):
    index: int | None = None
    content: _Content | None = None
    finish: str | None = msgspec.field(default=None, name="finishReason")

    def said(self) -> int:
        """Bytes that carry something."""
        if self.content is None:
            return 0
        return sum(
            len(value)
            for part in self.content.parts or ()
            for name, value in part.items()
            if name not in _QUIET and bytes(memoryview(value)[:4]) not in _EMPTY
        )


_read_candidates = msgspec.json.Decoder(list[_Candidate] | None).decode


class GeminiTap(EventTap):
    """One streamed answer. ``feed`` gives what goes on to the client, always whole events.

    The format has no last event: ``done`` stays False, and the end of the body tells whether each
    candidate that was seen has a ``finishReason``.
    """

    __slots__ = ("_blocked", "_finished", "_seen")

    def __init__(self, model: str, *, usage: Usage) -> None:
        super().__init__(model, usage)
        self._seen: tuple[int, ...] = ()
        self._finished: tuple[int, ...] = ()
        self._blocked = False

    def _break(self) -> UpstreamError | None:
        if self._is_whole():
            return None
        return UpstreamDisconnected("the upstream's stream ended without a finishReason")

    def _is_whole(self) -> bool:
        if not self._seen:
            return self._blocked
        return len(self._seen) == len(self._finished)

    def _event(self, event: ServerEvent) -> bytes:
        data = event.data
        if data is None or not data.strip():
            return self._without_data(event)
        try:
            chunk = Document.parse(data)
        except MalformedDocument as error:
            raise unreadable(error) from None
        fields = chunk.fields
        error_value = fields.get("error")
        if error_value is not None and bytes(error_value) != b"null":
            raise failure_in_body(error_value)
        if "candidates" in fields:
            self._watch(fields["candidates"])
        if "promptFeedback" in fields and b'"blockReason"' in bytes(fields["promptFeedback"]):
            self._blocked = self.has_content = True
        if "usageMetadata" in fields:
            reported = read_usage(fields["usageMetadata"])
            if reported is not None:
                self._usage.take(reported)
        return self._renamed(event, chunk)

    def _watch(self, raw: msgspec.Raw) -> None:
        """Note content and ends."""
        try:
            candidates = _read_candidates(raw) or ()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UpstreamProtocolError(
                f"the upstream's stream has malformed candidates: {error}"
            ) from None
        for place, candidate in enumerate(candidates):
            index = place if candidate.index is None else candidate.index
            self._seen = _noted(self._seen, index)
            said = candidate.said()
            if said:
                self._note_said(said)
            if candidate.finish and candidate.finish not in _UNSAID:
                self._finished = _noted(self._finished, index)
                self.has_content = True

    def _renamed(self, event: ServerEvent, chunk: Document) -> bytes:
        told = chunk.fields.get("modelVersion")
        if told is None or bytes(told) == self._name:
            return event.raw
        try:
            return with_data(event, chunk.replaced({"modelVersion": self._name}))
        except MalformedDocument as error:
            raise unreadable(error) from None


def _noted(known: tuple[int, ...], index: int) -> tuple[int, ...]:
    if index in known:
        return known
    if len(known) >= _MOST_CHOICES:
        raise UpstreamProtocolError(
            f"the upstream's stream has more than {_MOST_CHOICES} candidates"
        )
    return (*known, index)
