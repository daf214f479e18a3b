"""Watches a Gemini event stream as it passes: each event is a whole GenerateContentResponse."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._gemini._usage import read_usage
from proxy_core.dialects._sse import (
    EventSplitter,
    EventTooLarge,
    ServerEvent,
    read_event,
    with_data,
)
from proxy_core.dialects._usage import estimate_tokens
from proxy_core.errors import UpstreamDisconnected, UpstreamError, UpstreamProtocolError

__all__ = ["GeminiTap"]

_BOM: Final = b"\xef\xbb\xbf"
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


class GeminiTap:
    """One streamed answer. ``feed`` gives what goes on to the client, always whole events.

    The format has no last event: ``done`` stays False, and the end of the body tells whether each
    candidate that was seen has a ``finishReason``.
    """

    __slots__ = (
        "_blocked",
        "_finished",
        "_name",
        "_said",
        "_seen",
        "_splitter",
        "_usage",
        "done",
        "failure",
        "has_content",
    )

    def __init__(self, model: str, *, usage: Usage) -> None:
        self._name = msgspec.json.encode(model)
        self._usage = usage
        self._splitter = EventSplitter()
        self._seen: tuple[int, ...] = ()
        self._finished: tuple[int, ...] = ()
        self._blocked = False
        self._said = 0
        self.done = False
        self.has_content = False
        self.failure: UpstreamError | None = None

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for what was read from the upstream."""
        if self.failure is not None:
            return b""
        out: list[bytes] = []
        splitter = self._splitter
        splitter.push(data)
        try:
            while (event := splitter.pop()) is not None:
                out.append(self._event(event))
        except UpstreamError as failure:
            self.failure = failure
        except EventTooLarge as error:
            self.failure = UpstreamProtocolError(f"the upstream's stream was cut: {error}")
        return out[0] if len(out) == 1 else b"".join(out)

    def end(self) -> bytes:
        """The stream has ended: what the client is still owed. Sets ``failure`` if it broke off."""
        owed, last = b"", self._splitter.rest
        try:
            if last.strip() and self.failure is None:
                if not last.endswith(b"\r\r"):
                    last = last.rstrip(b"\r\n") + b"\n\n"
                owed = self._event(read_event(last))
        except UpstreamError as failure:
            self.failure = failure
        if self.failure is None and not self._is_whole():
            self.failure = UpstreamDisconnected(
                "the upstream's stream ended without a finishReason"
            )
        return owed

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
            raise _unreadable(error) from None
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
                self._said += said
                self._note_said()
            if candidate.finish and candidate.finish not in _UNSAID:
                self._finished = _noted(self._finished, index)
                self.has_content = True

    def _note_said(self) -> None:
        usage = self._usage
        self.has_content = True
        usage.reported = False  # a report that came before this text did not count it
        usage.output_tokens = max(usage.output_tokens, estimate_tokens(self._said))

    def _without_data(self, event: ServerEvent) -> bytes:
        """Comments go on. Ids, retry hints and bare names don't: SDKs look for JSON in them."""
        bare = event.raw.removeprefix(_BOM)
        if bare is not event.raw and not bare.startswith(_BOM):
            return self._event(read_event(bare))
        try:
            event.raw.decode()
        except UnicodeDecodeError:
            return b""
        is_comment = all(line[:1] in (b"", b":") for line in event.raw.splitlines())
        return event.raw if is_comment else b""

    def _renamed(self, event: ServerEvent, chunk: Document) -> bytes:
        told = chunk.fields.get("modelVersion")
        if told is None or bytes(told) == self._name:
            return event.raw
        try:
            return with_data(event, chunk.replaced({"modelVersion": self._name}))
        except MalformedDocument as error:
            raise _unreadable(error) from None


def _unreadable(error: MalformedDocument) -> UpstreamProtocolError:
    return UpstreamProtocolError(
        f"the upstream's stream has an event that could not be read: {error}"
    )


def _noted(known: tuple[int, ...], index: int) -> tuple[int, ...]:
    if index in known:
        return known
    if len(known) >= _MOST_CHOICES:
        raise UpstreamProtocolError(
            f"the upstream's stream has more than {_MOST_CHOICES} candidates"
        )
    return (*known, index)
