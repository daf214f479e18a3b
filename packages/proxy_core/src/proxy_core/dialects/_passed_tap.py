"""Watches what passes without being translated: events of images and sound, or plain bytes."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects._event_tap import EventTap, unreadable
from proxy_core.dialects._run import is_text
from proxy_core.dialects._sse import ServerEvent
from proxy_core.dialects._usage import read_usage
from proxy_core.errors import UpstreamDisconnected, UpstreamError, UpstreamProtocolError

__all__ = ["PassedTap", "PlainTap", "read_counts"]

_ABSURD: Final = 1_000_000_000
_LARGEST_EVENT: Final = 64 * 1024 * 1024
"""Bytes; an event may hold a whole picture."""
_NULL: Final = b"null"
_DONE: Final = b"[DONE]"
_ENDS: Final = (".done", ".completed")
"""How the types of last events end: ``transcript.text.done``, ``image_generation.completed``."""
_NOTHING: Final = msgspec.Raw()


class _Details(msgspec.Struct):
    audio_tokens: int = 0
    image_tokens: int = 0
    cached_tokens: int = 0


class _Counts(msgspec.Struct):
    """How images and transcriptions are counted, and what rerankers have in common."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    input_token_details: _Details | None = None
    """So it is spelled where sound is transcribed."""


class _Head(msgspec.Struct, gc=False):
    type: str = ""
    error: msgspec.Raw = _NOTHING
    usage: msgspec.Raw = _NOTHING


_read_event_head = msgspec.json.Decoder(_Head).decode
_decode = msgspec.json.Decoder(_Counts).decode


def read_counts(raw: msgspec.Raw | None) -> Usage | None:
    """The reported usage; None where there is none, or none that can be believed."""
    if not raw:
        return None
    if (known := read_usage(raw)) is not None:
        return known
    try:
        told = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    read = told.total_tokens if told.input_tokens is None else told.input_tokens
    made = told.output_tokens or 0
    of_input = told.input_tokens_details or told.input_token_details or _Details()
    of_output = told.output_tokens_details or _Details()
    if read is None or not (0 <= read <= _ABSURD and 0 <= made <= _ABSURD):
        return None
    usage = Usage(read, made, reported=True)
    if _is_within(of_input, read) and _is_within(of_output, made):
        usage.cached_tokens = of_input.cached_tokens
        usage.audio_input_tokens = of_input.audio_tokens
        usage.image_input_tokens = of_input.image_tokens
        usage.audio_output_tokens = of_output.audio_tokens
        usage.image_output_tokens = of_output.image_tokens
    return usage


def _is_within(details: _Details, most: int) -> bool:
    audio, image, cached = details.audio_tokens, details.image_tokens, details.cached_tokens
    return min(audio, image, cached) >= 0 and audio + image <= most and cached <= most


class PassedTap(EventTap):
    """One stream of events: the Tap of the dialects that are never translated."""

    __slots__ = ("_has_ended",)

    def __init__(self, model: str, usage: Usage) -> None:
        super().__init__(model, usage, largest=_LARGEST_EVENT)
        self._has_ended = False

    def _break(self) -> UpstreamError | None:
        if self._has_ended:
            return None
        return UpstreamDisconnected("the upstream's stream ended before its last event")

    def _event(self, event: ServerEvent) -> bytes:
        data = (event.data or b"").strip()
        if not data:
            return self._without_data(event)
        if data == _DONE:
            self.done = self._has_ended = self.has_content = True
            return event.raw
        try:
            if not is_text(event.raw):
                raise UpstreamProtocolError("the upstream's stream has an event that is no UTF-8")
            head = _read_event_head(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise unreadable(error) from None
        kind = head.type or event.name.decode()
        if kind == "error" or bytes(head.error) not in (b"", _NULL):
            raise failure_in_body(head.error if len(head.error) > len(_NULL) else data)
        if kind.endswith(_ENDS):
            self._has_ended = True
        counts = read_counts(head.usage)
        if counts is not None:
            self._usage.take(counts)
        self.has_content = True
        return event.raw


class PlainTap:
    """Bytes that nobody looks at."""

    __slots__ = ("_may_be_empty", "done", "failure", "has_content")

    def __init__(self, *, may_be_empty: bool) -> None:
        self._may_be_empty = may_be_empty
        self.done = False
        self.has_content = False
        self.failure: UpstreamError | None = None

    def feed(self, data: bytes) -> bytes:
        """The same."""
        self.has_content = self.has_content or bool(data)
        return data

    def end(self) -> bytes:
        """Sets ``failure`` where nothing came and something should have."""
        if not self.has_content and not self._may_be_empty:
            self.failure = UpstreamProtocolError("the upstream's answer is empty")
        return b""
