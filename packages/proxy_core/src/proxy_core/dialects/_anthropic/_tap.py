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

__all__ = ["AnthropicTap"]

_NOTHING: Final = msgspec.Raw()
_BOM: Final = b"\xef\xbb\xbf"
_DONE: Final = b"[DONE]"
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
    delta: _Inner | None = None
    content_block: _Inner | None = None
    message: msgspec.Raw = _NOTHING
    usage: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


_read = msgspec.json.Decoder(_Event).decode


class AnthropicTap:
    """One streamed answer; see ``Tap``. Everything but the model's name passes as it came."""

    __slots__ = ("_name", "_said", "_splitter", "_told", "_usage", "done", "failure", "has_content")

    def __init__(self, model: str, usage: Usage) -> None:
        self._name = msgspec.json.encode(model)
        self._usage = usage
        self._splitter = EventSplitter()
        self._said = 0
        self._told: dict[str, Any] | None = None
        """The usage that was reported; None before the message began."""
        self.done = False
        self.has_content = False
        self.failure: UpstreamError | None = None

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for what was read from the upstream: whole events."""
        if self.done or self.failure is not None:
            return b""
        out: list[bytes] = []
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
            raise _unreadable(error) from None
        kind = told.type or event.name.decode()
        if kind == "error" or event.name == b"error" or _has_error(told):
            raise failure_in_body(data if told.error is _NOTHING else told.error)
        watch = self._WATCHES.get(kind)
        return event.raw if watch is None else watch(self, event, told)

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
            raise _unreadable(error) from None

    def _opened(self, event: ServerEvent, told: _Event) -> bytes:
        block = told.content_block
        if block is not None:
            self._note(block.size() + (len(block.input) if len(block.input) > 2 else 0))
            self.has_content = self.has_content or block.type not in _FILLED_LATER
        return event.raw

    def _more(self, event: ServerEvent, told: _Event) -> bytes:
        if told.delta is not None:
            self._note(told.delta.size())
        return event.raw

    def _told_end(self, event: ServerEvent, told: _Event) -> bytes:
        self._count(told.usage)
        if told.delta is not None and told.delta.stop_reason:
            self.has_content = True
        return event.raw

    def _stopped(self, event: ServerEvent, told: _Event) -> bytes:
        if self._told is None:
            raise _unfinished()
        self.done = self.has_content = True
        return event.raw

    def _note(self, size: int) -> None:
        if size:
            self._said += size
            self.has_content = True
            usage = self._usage
            usage.reported = False  # a report that came before this text did not count it
            usage.output_tokens = max(usage.output_tokens, estimate_tokens(self._said))

    def _count(self, raw: msgspec.Raw) -> None:
        if not len(raw):
            return
        try:
            self._told = later_usage(self._told or {}, msgspec.json.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(error) from None
        reported = usage_of(self._told)
        if reported is not None:
            self._usage.take(reported)

    _WATCHES: ClassVar[Mapping[str, Callable[[AnthropicTap, ServerEvent, _Event], bytes]]] = (
        MappingProxyType(
            {
                "message_start": _begun,
                "content_block_start": _opened,
                "content_block_delta": _more,
                "message_delta": _told_end,
                "message_stop": _stopped,
            }
        )
    )


def _has_error(told: _Event) -> bool:
    """OpenAI's form, from an imitator: SDKs would pass over it."""
    return not told.type and len(told.error) > 0 and bytes(told.error) != b"null"


def _unfinished() -> UpstreamDisconnected:
    return UpstreamDisconnected("the upstream's stream ended without a whole message")


def _unreadable(error: Exception) -> UpstreamProtocolError:
    return UpstreamProtocolError(
        f"the upstream's stream has an event that could not be read: {error}"
    )
