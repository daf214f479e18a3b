"""Watches a stream of Responses as it passes: renames, counts, tells whole from broken."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._responses._answer_in import failure_of
from proxy_core.dialects._responses._counts import read_raw_counts
from proxy_core.dialects._run import is_text
from proxy_core.dialects._sse import (
    EventSplitter,
    EventTooLarge,
    ServerEvent,
    read_event,
    with_data,
)
from proxy_core.dialects._usage import estimate_tokens
from proxy_core.errors import UpstreamDisconnected, UpstreamError, UpstreamProtocolError

__all__ = ["ResponsesTap", "renamed"]

_NOTHING: Final = msgspec.Raw()
_NULL: Final = b"null"
_EMPTY: Final = 2
"""Bytes of an empty JSON string."""
_BOM: Final = b"\xef\xbb\xbf"
_DONE: Final = b"[DONE]"
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_FAILED: Final = frozenset({"response.failed", "response.cancelled"})
_QUIET: Final = (b'"message"', b'"reasoning"')
"""Items that begin without saying anything."""


class _Item(msgspec.Struct, gc=False):
    type: msgspec.Raw = _NOTHING


class _Head(msgspec.Struct, gc=False):
    """What is read of each event: the rest of it is checked to be JSON, and not decoded."""

    type: str = ""
    delta: msgspec.Raw = _NOTHING
    response: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING
    item: msgspec.Raw = _NOTHING


_read_head = msgspec.json.Decoder(_Head).decode
_read_item = msgspec.json.Decoder(_Item).decode
_plain = msgspec.json.Decoder().decode


class ResponsesTap:
    """One streamed answer: the Tap of ``openai.responses``."""

    __slots__ = (
        "_name",
        "_said",
        "_splitter",
        "_usage",
        "done",
        "failure",
        "has_content",
    )

    def __init__(self, model: str, usage: Usage) -> None:
        self._name = msgspec.json.encode(model)
        self._usage = usage
        self._splitter = EventSplitter()
        self._said = 0
        self.done = False
        self.has_content = False
        self.failure: UpstreamError | None = None

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for what was read from the upstream."""
        out: list[bytes] = []
        if self.done or self.failure is not None:
            return b""
        self._splitter.push(data)
        try:
            self._pass_on(out)
        except UpstreamError as failure:
            self.failure = failure
        except EventTooLarge as error:
            self.failure = UpstreamProtocolError(f"the upstream's stream was cut: {error}")
        return out[0] if len(out) == 1 else b"".join(out)

    def end(self) -> bytes:
        """The stream has ended: what the client is still owed. Sets ``failure`` if it broke off."""
        owed = b""
        last = self._splitter.rest
        try:
            if last.strip() and not self.done and self.failure is None:
                # An event without its blank line: SDKs would lose it.
                owed = self._event(read_event(last.rstrip(b"\r\n") + b"\n\n"))
        except UpstreamError as failure:
            self.failure = failure
        if self.failure is None and not self.done:
            self.failure = _unfinished()
        return owed

    def _pass_on(self, out: list[bytes]) -> None:
        while not self.done and (event := self._splitter.pop()) is not None:
            out.append(self._event(event))

    def _event(self, event: ServerEvent) -> bytes:
        if not is_text(event.raw):
            raise UpstreamProtocolError("the upstream's stream has an event that is not UTF-8")
        data = event.data
        if data is None or not data.strip():
            return self._without_data(event)
        if data.strip() == _DONE:
            raise _unfinished()
        try:
            head = _read_head(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(error) from None
        kind = head.type or event.name.decode()
        if kind == "error" or bytes(head.error) not in (b"", _NULL):
            raise failure_of(_plain(head.error if len(head.error) > len(_NULL) else data))
        if head.response is not _NOTHING and bytes(head.response) != _NULL:
            return self._lifecycle(event, kind, bytes(head.response))
        if len(head.delta) > _EMPTY and kind.endswith(".delta"):
            self._note_said(len(head.delta))
        elif not self.has_content and kind.startswith("response.output_item."):
            self.has_content = kind.endswith(".done") or _speaks(head.item)
        return event.raw

    def _without_data(self, event: ServerEvent) -> bytes:
        """Comments go on. Ids, retry hints and bare names don't: SDKs look for JSON in them."""
        bare = event.raw.removeprefix(_BOM)
        if bare is not event.raw and not bare.startswith(_BOM):
            return self._event(read_event(bare))
        is_comment = all(line[:1] in (b"", b":") for line in event.raw.splitlines())
        return event.raw if is_comment else b""

    def _lifecycle(self, event: ServerEvent, kind: str, raw: bytes) -> bytes:
        """An event that holds the response."""
        try:
            response = Document.parse(raw)
            if kind in _FAILED:
                error = response.fields.get("error")
                raise failure_of(None if error is None else _plain(error))
            if kind in _ENDS:
                self._end_with(response)
            passed = renamed(response, self._name)
            if passed is raw:
                return event.raw
            whole = Document.parse(event.data or b"")
            return with_data(event, whole.replaced({"response": passed}))
        except MalformedDocument as error:
            raise _unreadable(error) from None

    def _end_with(self, response: Document) -> None:
        self.done = self.has_content = True
        told = response.fields.get("usage")
        reported = None if told is None else read_raw_counts(told)
        if reported is not None:
            self._usage.take(reported)
        elif not self._said:
            self._note_said(len(response.fields.get("output", b"")))

    def _note_said(self, size: int) -> None:
        self._said += size
        self.has_content = True
        self._usage.output_tokens = estimate_tokens(self._said)


def renamed(response: Document, name: bytes) -> bytes:
    """The same response by this name, given as JSON. Raises MalformedDocument."""
    told = response.fields.get("model")
    if told is None or bytes(told) == name:
        return response.raw
    return response.replaced({"model": name})


def _speaks(item: msgspec.Raw) -> bool:
    """Whether an item that has begun says something by that: a call does."""
    try:
        return len(item) > 0 and bytes(_read_item(item).type) not in _QUIET
    except msgspec.DecodeError:
        return False


def _unfinished() -> UpstreamDisconnected:
    return UpstreamDisconnected("the upstream's stream ended without a response.completed")


def _unreadable(error: Exception) -> UpstreamProtocolError:
    return UpstreamProtocolError(
        f"the upstream's stream has an event that could not be read: {error}"
    )
