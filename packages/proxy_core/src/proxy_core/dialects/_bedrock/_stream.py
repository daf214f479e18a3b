"""The stream of ConverseStream into events."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import msgspec

from proxy_core._failures import failure_from_answer
from proxy_core.dialects._bedrock._answer import (
    Image,
    SaidCitation,
    ToolUse,
    citation_of,
    image_of,
    signed,
    stop_of,
    usage_of,
)
from proxy_core.dialects._body import joined_base64
from proxy_core.dialects._canonical import (
    Begun,
    Broken,
    Counted,
    Event,
    Finished,
    Reasoning,
    Text,
    ToolCall,
)
from proxy_core.dialects._codec import Frame
from proxy_core.dialects._upstream import PartsReader, read_frame
from proxy_core.errors import UpstreamFailed

__all__ = ["ConverseReader"]

_STATUSES: Final = MappingProxyType(
    {
        "internalServerException": 500,
        "modelStreamErrorException": 424,
        "modelTimeoutException": 408,
        "serviceUnavailableException": 503,
        "throttlingException": 429,
        "validationException": 400,
        "error": 500,
    }
)
"""Of the exceptions that come inside a stream:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html"""


class _Start(msgspec.Struct, rename="camel"):
    tool_use: ToolUse | None = None
    image: Image | None = None


class _ReasoningDelta(msgspec.Struct, rename="camel"):
    text: str | None = None
    redacted_content: str | None = None
    signature: str | None = None


class _Delta(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: _ReasoningDelta | None = None
    citation: SaidCitation | None = None
    image: Image | None = None


class _Payload(msgspec.Struct, rename="camel"):
    """What the events hold, all of them together."""

    content_block_index: int = 0
    start: _Start = msgspec.field(default_factory=_Start)
    delta: _Delta = msgspec.field(default_factory=_Delta)
    stop_reason: str = ""
    usage: Any = None


_PAYLOADS: Final = msgspec.json.Decoder(_Payload)


class ConverseReader(PartsReader):
    """One answer. Texts and reasoning begin without a start of their own."""

    def __init__(self) -> None:
        super().__init__()
        self._images: dict[int, tuple[str, list[str]]] = {}
        self._silent: set[int] = set()
        """Calls that are open and have no arguments yet."""

    def read(self, frame: Frame) -> list[Event]:
        status = _STATUSES.get(frame.name)
        if status is not None or frame.name.endswith("Exception"):
            self._ended = True
            return [Broken(failure_from_answer(status or 500, (), frame.data))]
        payload = read_frame(frame.data, _PAYLOADS)
        match frame.name:
            case "messageStart":
                return [Begun(id="", model="")]
            case "contentBlockStart":
                return self._start(payload.content_block_index, payload.start)
            case "contentBlockDelta":
                return self._said(payload.content_block_index, payload.delta)
            case "contentBlockStop":
                return self._stop(payload.content_block_index)
            case "messageStop":
                return self._end(payload.stop_reason)
            case "metadata":
                return [Counted(usage_of(payload.usage))]
        return []

    def _start(self, at: int, start: _Start) -> list[Event]:
        if start.image is not None:
            self._images[at] = (start.image.format, [])
        if start.tool_use is None or start.tool_use.type is not None:
            return []
        self._silent.add(at)
        use = start.tool_use
        return self._parts.start(at, ToolCall(id=use.tool_use_id, name=use.name, arguments=""))

    def _said(self, at: int, delta: _Delta) -> list[Event]:
        if delta.text is not None:
            return self._parts.piece(at, Text(text=""), text=delta.text)
        if delta.citation is not None:
            return self._parts.piece(at, Text(text=""), citation=citation_of(delta.citation))
        if delta.reasoning_content is not None:
            return self._thought(at, delta.reasoning_content)
        if delta.tool_use is not None and at in self._parts and delta.tool_use.input:
            self._silent.discard(at)
            return self._parts.piece(at, Text(text=""), text=str(delta.tool_use.input))
        if delta.image is not None and delta.image.source is not None and at in self._images:
            self._images[at][1].append(delta.image.source.bytes or "")
        return []

    def _thought(self, at: int, delta: _ReasoningDelta) -> list[Event]:
        if delta.redacted_content is not None:
            part = Reasoning(redacted=True, signature=signed(delta.redacted_content))
            return self._parts.start(at, part)
        if delta.signature:
            return self._parts.piece(at, Reasoning(), signature=signed(delta.signature))
        return self._parts.piece(at, Reasoning(), text=delta.text) if delta.text else []

    def _stop(self, at: int) -> list[Event]:
        events: list[Event] = []
        if at in self._silent:
            self._silent.discard(at)
            events += self._parts.piece(at, Text(text=""), text="{}")
        if at in self._images:
            form, pieces = self._images.pop(at)
            events += self._parts.whole(("image", at), image_of(form, joined_base64(pieces)))
        return events + self._parts.close(at)

    def _end(self, reason: str) -> list[Event]:
        self._ended = True
        owed = [
            event for at in sorted(self._silent | set(self._images)) for event in self._stop(at)
        ]
        try:
            stop = stop_of(reason)
        except UpstreamFailed as failure:
            return [Broken(failure)]
        return [*owed, *self._parts.close_but(), Finished(stop=stop)]
