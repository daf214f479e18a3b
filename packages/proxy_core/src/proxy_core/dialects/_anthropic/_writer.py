"""Canonical events into the stream of an Anthropic client."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._anthropic._answers import block_of, message_told, stop_told, tier_told
from proxy_core.dialects._anthropic._carried import carrying
from proxy_core.dialects._anthropic._citations import citation_told
from proxy_core.dialects._anthropic._foreign import UNSIGNED
from proxy_core.dialects._anthropic._usage import usage_told
from proxy_core.dialects._anthropic._words import DIALECT
from proxy_core.dialects._canonical import (
    Begun,
    Closed,
    Counted,
    Event,
    Finished,
    Media,
    Opened,
    Part,
    Piece,
    Reasoning,
    Signature,
    Text,
    ToolCall,
)
from proxy_core.dialects._codec import Told
from proxy_core.dialects._ordered import Ordered
from proxy_core.dialects._seal import sealed

__all__ = ["AnthropicStreamWriter"]

_encode = msgspec.json.Encoder().encode


class AnthropicStreamWriter:
    """See ``StreamWriter``. The first choice alone is told: Anthropic has no others.

    ``message_start`` waits for the first block, so that it can tell the input's tokens where they
    are known by then; the end waits for ``end``, so that its usage is the last one.
    """

    def __init__(self, told: Told) -> None:
        self._told = told
        self._ordered = Ordered()
        self._begun = Begun(id="", model="")
        self._usage = Usage()
        self._finished: Finished | None = None
        self._is_started = False
        self._blocks = 0
        self._part: Part | None = None
        """The one that is open."""
        self._is_open = False
        """Whether its block has begun: that waits for its first piece."""
        self._has_input = False
        """Whether more than blanks came of a call's arguments: SDKs read no blanks alone."""
        self._signature: Signature | None = None
        """Of the open part, where it is thinking or is told late."""
        self._seen: list[Part] = []
        """Of each kind one, for the reason of the end."""

    def write(self, event: Event) -> bytes:
        return b"".join(self._write(one) for one in self._ordered.push(event))

    def end(self) -> bytes:
        finished = self._finished
        if finished is None:
            return b""
        delta = {
            "stop_reason": stop_told(finished.stop, tuple(self._seen)),
            "stop_sequence": finished.stop_sequence,
        }
        usage = usage_told(self._usage)
        del usage["cache_creation"]  # message_start alone tells it
        told = _event("message_delta", delta=delta, usage=usage)
        return self._start() + told + _event("message_stop")

    def _write(self, event: Event) -> bytes:
        match event:
            case Begun():
                self._begun = event
            case Counted():
                self._usage = event.usage
            case Opened(choice=0):
                return self._opened(event.part)
            case Piece(choice=0):
                return self._piece(event)
            case Closed(choice=0):
                return self._closed()
            case Finished(choice=0):
                self._finished = event
            case _:
                pass
        return b""

    def _opened(self, part: Part) -> bytes:
        self._part, self._is_open, self._signature = part, False, None
        self._has_input = False
        if not any(type(part) is type(one) for one in self._seen):
            self._seen.append(part)
        written = self._start()
        signature = getattr(part, "signature", None)
        if signature is not None and not isinstance(part, Reasoning | Media):
            written += self._lone(carrying(signature))
        if isinstance(part, ToolCall):
            told = msgspec.structs.replace(part, arguments="")
            return written + self._begin(block_of(told) or {}) + self._more(part.arguments)
        if isinstance(part, Reasoning) and part.redacted:
            block = block_of(part)
            return written + (b"" if block is None else self._lone(block))
        if isinstance(part, Media):
            return written + self._more((block_of(part) or {}).get("text", ""))
        return written + self._said(part)

    def _said(self, part: Part) -> bytes:
        """What a part says as it is opened."""
        written = self._more(getattr(part, "text", ""))
        if isinstance(part, Text):
            written += b"".join(self._delta(_cited(one)) for one in part.citations)
        if isinstance(part, Reasoning) and part.signature is not None:
            self._signature = part.signature
            written += self._delta(_signed(part.signature))
        return written

    def _piece(self, piece: Piece) -> bytes:
        if piece.citation is not None:
            return self._delta(_cited(piece.citation)) if isinstance(self._part, Text) else b""
        if piece.signature is None:
            return self._more(piece.text)
        self._signature = piece.signature
        if isinstance(self._part, Reasoning) and not self._part.redacted:
            return self._delta(_signed(piece.signature))
        return b""

    def _closed(self) -> bytes:
        written = b""
        if self._is_open:
            thinks, signature = isinstance(self._part, Reasoning), self._signature
            if thinks and signature is None:
                written += self._delta({"type": "signature_delta", "signature": UNSIGNED})
            written += _event("content_block_stop", index=self._blocks - 1)
            if not thinks and signature is not None:
                written += self._lone(carrying(signature, late=True))
        self._part, self._is_open, self._signature = None, False, None
        return written

    def _more(self, text: str) -> bytes:
        if isinstance(self._part, ToolCall) and not self._has_input:
            text = text.lstrip(" \t\r\n")
            self._has_input = bool(text)
        if not text:
            return b""
        if isinstance(self._part, ToolCall):
            return self._delta({"type": "input_json_delta", "partial_json": text})
        if isinstance(self._part, Reasoning):
            return self._delta({"type": "thinking_delta", "thinking": text})
        return self._delta({"type": "text_delta", "text": text})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        begun = b""
        if not self._is_open:
            thinks = isinstance(self._part, Reasoning)
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            begun = self._begin(empty if thinks else {"type": "text", "text": ""})
        return begun + _event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _begin(self, block: dict[str, Any]) -> bytes:
        self._is_open = True
        self._blocks += 1
        return _event("content_block_start", index=self._blocks - 1, content_block=block)

    def _lone(self, block: dict[str, Any]) -> bytes:
        """A block without deltas, which is not the open one."""
        was, index = self._is_open, self._blocks
        written = self._begin(block) + _event("content_block_stop", index=index)
        self._is_open = was
        return written

    def _start(self) -> bytes:
        if self._is_started:
            return b""
        self._is_started = True
        message = message_told(self._begun.id, self._told.model)
        message["usage"] = usage_told(self._usage) | tier_told(self._begun.service_tier)
        return _event("message_start", message=message)


def _cited(citation: Any) -> dict[str, Any]:
    return {"type": "citations_delta", "citation": citation_told(citation)}


def _signed(signature: Signature) -> dict[str, Any]:
    return {"type": "signature_delta", "signature": sealed(signature, DIALECT)}


def _event(kind: str, **fields: Any) -> bytes:
    """Both lines: events without a name are passed over by SDKs."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind} | fields))
