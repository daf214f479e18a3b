"""Watches a stream of Responses as it passes: renames, counts, tells whole from broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._event_tap import EventTap, unreadable
from proxy_core.dialects._responses._answer_in import failure_of
from proxy_core.dialects._responses._counts import read_raw_counts
from proxy_core.dialects._run import is_text
from proxy_core.dialects._sse import ServerEvent, with_data
from proxy_core.errors import UpstreamDisconnected, UpstreamError, UpstreamProtocolError

__all__ = ["ResponsesTap", "renamed"]

_NOTHING: Final = msgspec.Raw()
_NULL: Final = b"null"
_EMPTY: Final = 2
"""Bytes of an empty JSON string."""
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


Seal = Callable[[str], str]

_IDS: Final = ("id", "previous_response_id")
_encode = msgspec.json.Encoder().encode
_read_text = msgspec.json.Decoder(str).decode
_read_head = msgspec.json.Decoder(_Head).decode
_read_item = msgspec.json.Decoder(_Item).decode
_plain = msgspec.json.Decoder().decode


class ResponsesTap(EventTap):
    """One streamed answer: the Tap of ``openai.responses``. ``seal`` makes its ids the client's."""

    __slots__ = ("_seal",)

    def __init__(self, model: str, usage: Usage, seal: Seal | None = None) -> None:
        super().__init__(model, usage)
        self._seal = seal

    def _break(self) -> UpstreamError | None:
        return None if self.done else _unfinished()

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
            raise unreadable(error) from None
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

    def _lifecycle(self, event: ServerEvent, kind: str, raw: bytes) -> bytes:
        """An event that holds the response."""
        try:
            response = Document.parse(raw)
            if kind in _FAILED:
                error = response.fields.get("error")
                raise failure_of(None if error is None else _plain(error))
            if kind in _ENDS:
                self._end_with(response)
            passed = renamed(response, self._name, self._seal)
            if passed is raw:
                return event.raw
            whole = Document.parse(event.data or b"")
            return with_data(event, whole.replaced({"response": passed}))
        except MalformedDocument as error:
            raise unreadable(error) from None

    def _end_with(self, response: Document) -> None:
        self.done = self.has_content = True
        told = response.fields.get("usage")
        reported = None if told is None else read_raw_counts(told)
        if reported is not None:
            self._usage.take(reported)
        elif not self._said:
            self._note_said(len(response.fields.get("output", b"")))


def renamed(response: Document, name: bytes, seal: Seal | None = None) -> bytes:
    """The same response by this name, given as JSON, its ids sealed. Raises MalformedDocument."""
    told = response.fields.get("model")
    edits = {} if told is None or bytes(told) == name else {"model": name}
    if seal is not None:
        for field in _IDS:
            plain = bytes(response.fields.get(field, b""))
            if plain.startswith(b'"'):
                edits[field] = _encode(seal(_read_text(plain)))
    return response.replaced(edits) if edits else response.raw


def _speaks(item: msgspec.Raw) -> bool:
    """Whether an item that has begun says something by that: a call does."""
    try:
        return len(item) > 0 and bytes(_read_item(item).type) not in _QUIET
    except msgspec.DecodeError:
        return False


def _unfinished() -> UpstreamDisconnected:
    return UpstreamDisconnected("the upstream's stream ended without a response.completed")
