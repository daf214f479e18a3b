"""Watches an Anthropic stream as it passes: renames, counts, tells whole from broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects._anthropic._usage import later_usage, usage_of
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._event_tap import EventTap, unreadable
from proxy_core.dialects._run import is_text
from proxy_core.dialects._sse import ServerEvent, read_event, with_data
from proxy_core.errors import UpstreamDisconnected, UpstreamError, UpstreamProtocolError

__all__ = ["AnthropicTap"]

_NOTHING: Final = msgspec.Raw()
_BOM: Final = b"\xef\xbb\xbf"
_DONE: Final = b"[DONE]"
_NULL: Final = b"null"
_FILLED_LATER: Final = frozenset({"text", "thinking"})
"""Blocks that begin empty; any other is content from its start."""


class _Inner(msgspec.Struct, gc=False):
    """A delta or a block, by what carries something."""

    type: str = ""
    text: msgspec.Raw = _NOTHING
    partial_json: msgspec.Raw = _NOTHING
    thinking: msgspec.Raw = _NOTHING
    citation: msgspec.Raw = _NOTHING
    input: msgspec.Raw = _NOTHING
    stop_reason: str | None = None

    def size(self) -> int:
        """Bytes of JSON of what it says; empty texts say nothing."""
        parts = (self.text, self.partial_json, self.thinking, self.citation)
        return sum(len(part) for part in parts if len(part) > 2)


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Inner | None = None
    content_block: _Inner | None = None
    message: msgspec.Raw = _NOTHING
    usage: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


_read = msgspec.json.Decoder(_Event).decode


class AnthropicTap(EventTap):
    """One streamed answer; see ``Tap``. Everything but the model's name passes as it came.

    What Anthropic's SDKs pass over in silence, or trip over, is put right (a name or a usage that
    is missing) or fails (events out of order).
    """

    __slots__ = ("_blocks", "_told")

    def __init__(self, model: str, usage: Usage) -> None:
        super().__init__(model, usage)
        self._blocks = 0
        self._told: dict[str, Any] | None = None
        """The usage that was reported; None before the message began."""

    def _break(self) -> UpstreamError | None:
        return None if self.done else _unfinished()

    def _event(self, event: ServerEvent) -> bytes:
        if event.raw.startswith(_BOM):
            event = read_event(event.raw.removeprefix(_BOM))
        if not is_text(event.raw):
            raise UpstreamProtocolError("the upstream's stream has an event that is not UTF-8")
        data = event.data
        if data is None or not data.strip():
            return event.raw
        if data.strip() == _DONE:
            return b""  # OpenAI's end, from an imitator: here it is no event
        try:
            told = _read(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if event.name == b"error":
                raise failure_in_body(data) from None
            raise unreadable(error) from None
        kind = told.type or event.name.decode()
        if kind == "error" or event.name == b"error" or _has_error(told):
            raise failure_in_body(data if told.error is _NOTHING else told.error)
        watch = self._WATCHES.get(kind)
        if watch is None:
            return event.raw
        if self._told is None and kind != "message_start":
            raise _early(kind)
        return watch(self, event if event.name.decode() == kind else _named(event, kind), told)

    def _begun(self, event: ServerEvent, told: _Event) -> bytes:
        self._told = {}
        try:
            whole = Document.parse(event.data or b"")
            message = Document.parse(bytes(told.message))
            self._count(message.fields.get("usage", _NOTHING))
            model = message.fields.get("model")
            if model is None or bytes(model) == self._name:
                return event.raw
            renamed = message.replaced({"model": self._name})
            return with_data(event, whole.replaced({"message": renamed}))
        except MalformedDocument as error:
            raise unreadable(error) from None

    def _opened(self, event: ServerEvent, told: _Event) -> bytes:
        block = told.content_block
        self._blocks += 1
        if block is not None:
            self._note(block.size() + (len(block.input) if len(block.input) > 2 else 0))
            self.has_content = self.has_content or block.type not in _FILLED_LATER
        return event.raw

    def _more(self, event: ServerEvent, told: _Event) -> bytes:
        if told.index >= self._blocks:
            raise UpstreamProtocolError(
                f"the upstream's stream has a delta for no block {told.index}"
            )
        if told.delta is not None:
            self._note(told.delta.size())
        return event.raw

    def _told_end(self, event: ServerEvent, told: _Event) -> bytes:
        self._count(told.usage)
        if told.delta is not None and told.delta.stop_reason:
            self.has_content = True
        if len(told.usage) and bytes(told.usage) != _NULL:
            return event.raw
        usage = b'{"output_tokens":%d}' % self._usage.output_tokens
        try:
            return with_data(event, Document.parse(event.data or b"").replaced({"usage": usage}))
        except MalformedDocument as error:
            raise unreadable(error) from None

    def _closed(self, event: ServerEvent, told: _Event) -> bytes:
        return event.raw

    def _stopped(self, event: ServerEvent, told: _Event) -> bytes:
        self.done = self.has_content = True
        return event.raw

    def _note(self, size: int) -> None:
        if size:
            self._note_said(size)

    def _count(self, raw: msgspec.Raw) -> None:
        if not len(raw) or bytes(raw) == _NULL:
            return
        try:
            self._told = later_usage(self._told or {}, msgspec.json.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise unreadable(error) from None
        reported = usage_of(self._told)
        if reported is not None:
            self._usage.take(reported)

    _WATCHES: ClassVar[Mapping[str, Callable[[AnthropicTap, ServerEvent, _Event], bytes]]] = (
        MappingProxyType(
            {
                "message_start": _begun,
                "content_block_start": _opened,
                "content_block_delta": _more,
                "content_block_stop": _closed,
                "message_delta": _told_end,
                "message_stop": _stopped,
            }
        )
    )


def _named(event: ServerEvent, kind: str) -> ServerEvent:
    """With its type as its name: SDKs pass over an event by another one, or without."""
    data = (event.data or b"").replace(b"\n", b"\ndata: ")
    return read_event(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))


def _has_error(told: _Event) -> bool:
    """OpenAI's form, from an imitator: SDKs would pass over it."""
    return not told.type and len(told.error) > 0 and bytes(told.error) != _NULL


def _early(kind: str) -> UpstreamError:
    if kind == "message_stop":
        return _unfinished()
    return UpstreamProtocolError(f"the upstream's stream has {kind} before message_start")


def _unfinished() -> UpstreamDisconnected:
    return UpstreamDisconnected("the upstream's stream ended without a whole message")
