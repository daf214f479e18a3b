"""An Anthropic upstream's stream into canonical events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core.dialects._anthropic._answers import part_of, tier_of
from proxy_core.dialects._anthropic._citations import citation_of
from proxy_core.dialects._anthropic._foreign import UNSIGNED
from proxy_core.dialects._anthropic._usage import later_usage, usage_of
from proxy_core.dialects._anthropic._words import DIALECT, STOPS
from proxy_core.dialects._canonical import (
    Begun,
    Broken,
    Closed,
    Counted,
    Event,
    Finished,
    Opened,
    Part,
    Piece,
    Reasoning,
    Signature,
    Text,
    ToolCall,
)
from proxy_core.dialects._codec import Frame
from proxy_core.errors import UpstreamDisconnected, UpstreamProtocolError

__all__ = ["AnthropicStreamReader"]

_TEXTS: Final[Mapping[str, str]] = MappingProxyType(
    {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
)


class _Open:
    """A block that is being told. ``index`` is None for one that has no part."""

    __slots__ = ("index", "owed")

    def __init__(self, index: int | None, owed: str) -> None:
        self.index = index
        self.owed = owed
        """The arguments of a call that was told whole, if no piece of them follows."""


class AnthropicStreamReader:
    """See ``StreamReader``."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Open] = {}
        self._parts = 0
        self._usage: dict[str, Any] = {}
        self._is_begun = False
        self._is_finished = False
        self._is_over = False

    def read(self, frame: Frame) -> list[Event]:
        if not frame.data.strip() or frame.data == b"[DONE]" or self._is_over:
            return []
        try:
            told = msgspec.json.decode(frame.data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            if frame.name == "error":
                return self._broken(frame.data)
            raise UpstreamProtocolError(
                f"the upstream's stream has an event that could not be read: {error}"
            ) from None
        if not isinstance(told, dict):
            raise UpstreamProtocolError("the upstream's stream has an event that is no object")
        kind = told.get("type") or ("error" if told.get("error") else frame.name)
        if kind == "error" or frame.name == "error":
            return self._broken(msgspec.json.encode(told.get("error") or told))
        read = self._READS.get(kind) if isinstance(kind, str) else None
        if read is None:
            return []
        if not self._is_begun and kind != "message_start":
            raise UpstreamProtocolError(f"the upstream's stream has {kind} before message_start")
        return read(self, told)

    def end(self) -> list[Event]:
        if not self._is_over:
            raise UpstreamDisconnected("the upstream's stream ended without a whole message")
        return []

    def _broken(self, error: bytes) -> list[Event]:
        self._is_over = True
        return [Broken(failure_in_body(error))]

    def _begin(self, told: dict[str, Any]) -> list[Event]:
        message = _object(told, "message")
        if self._is_begun:
            return []
        self._is_begun = True
        usage = message.get("usage")
        begun = Begun(
            id=str(message.get("id") or ""),
            model=str(message.get("model") or ""),
            service_tier=tier_of(usage) if isinstance(usage, dict) else None,
        )
        return [begun, *self._count(usage)]

    def _open(self, told: dict[str, Any]) -> list[Event]:
        block, number = _object(told, "content_block"), _number(told)
        if number in self._blocks:
            raise UpstreamProtocolError(f"the upstream's stream opens block {number} twice")
        part, owed = part_of(block), ""
        if isinstance(part, ToolCall):
            owed, part = part.arguments, msgspec.structs.replace(part, arguments="")
        if part is None:
            self._blocks[number] = _Open(None, "")
            return []
        index = self._parts
        self._parts += 1
        self._blocks[number] = _Open(index, owed)
        return [Opened(index=index, part=_bare(part)), *_at_once(part, index)]

    def _more(self, told: dict[str, Any]) -> list[Event]:
        number, delta = _number(told), _object(told, "delta")
        block = self._blocks.get(number)
        if block is None:
            raise UpstreamProtocolError(f"the upstream's stream has a delta for no block {number}")
        index = block.index
        if index is None:
            return []
        kind = delta.get("type")
        if kind == "signature_delta":
            value = delta.get("signature")
            if not isinstance(value, str) or value in {"", UNSIGNED}:
                return []
            return [Piece(index=index, signature=Signature(origin=DIALECT, value=value))]
        if kind == "citations_delta":
            citation = citation_of(delta.get("citation"))
            return [] if citation is None else [Piece(index=index, citation=citation)]
        text = delta.get(_TEXTS.get(kind, "")) if isinstance(kind, str) else None
        if not isinstance(text, str) or not text:
            return []
        block.owed = ""
        return [Piece(index=index, text=text)]

    def _close(self, told: dict[str, Any]) -> list[Event]:
        block = self._blocks.pop(_number(told), None)
        return [] if block is None else _closing(block)

    def _told_end(self, told: dict[str, Any]) -> list[Event]:
        delta = _object(told, "delta")
        stop, sequence = delta.get("stop_reason"), delta.get("stop_sequence")
        counted = self._count(told.get("usage"))
        if not isinstance(stop, str):
            return counted
        return [*self._finish(stop, sequence if isinstance(sequence, str) else None), *counted]

    def _stop(self, told: dict[str, Any]) -> list[Event]:
        self._is_over = True
        return self._finish("end_turn", None)

    def _finish(self, stop: str, sequence: str | None) -> list[Event]:
        if self._is_finished:
            return []
        self._is_finished = True
        closed = [event for block in self._blocks.values() for event in _closing(block)]
        self._blocks.clear()
        return [*closed, Finished(stop=STOPS.get(stop, "end"), stop_sequence=sequence)]

    def _count(self, usage: object) -> list[Event]:
        self._usage = later_usage(self._usage, usage)
        counted = usage_of(self._usage)
        return [] if counted is None else [Counted(counted)]

    _READS: ClassVar[
        Mapping[str, Callable[[AnthropicStreamReader, dict[str, Any]], list[Event]]]
    ] = MappingProxyType(
        {
            "message_start": _begin,
            "content_block_start": _open,
            "content_block_delta": _more,
            "content_block_stop": _close,
            "message_delta": _told_end,
            "message_stop": _stop,
        }
    )
    """All others (pings, and what may come) are passed over."""


def _bare(part: Part) -> Part:
    """A part without what follows in pieces."""
    match part:
        case Text():
            return Text(text="")
        case Reasoning() if not part.redacted:
            return Reasoning()
        case _:
            return part


def _at_once(part: Part, index: int) -> list[Event]:
    """What a block says in its first event already."""
    told: list[Event] = []
    if isinstance(part, Text | Reasoning) and part.text:
        told.append(Piece(index=index, text=part.text))
    if isinstance(part, Text):
        told += [Piece(index=index, citation=one) for one in part.citations]
    if isinstance(part, Reasoning) and not part.redacted and part.signature is not None:
        told.append(Piece(index=index, signature=part.signature))
    return told


def _closing(block: _Open) -> list[Event]:
    if block.index is None:
        return []
    owed = [Piece(index=block.index, text=block.owed)] if block.owed else []
    return [*owed, Closed(index=block.index)]


def _object(told: dict[str, Any], name: str) -> dict[str, Any]:
    value = told.get(name)
    if not isinstance(value, dict):
        raise UpstreamProtocolError(f"the upstream's stream has {told.get('type')} without {name}")
    return value


def _number(told: dict[str, Any]) -> int:
    index = told.get("index")
    if not isinstance(index, int) or isinstance(index, bool):
        raise UpstreamProtocolError(f"the upstream's stream has {told.get('type')} without index")
    return index
