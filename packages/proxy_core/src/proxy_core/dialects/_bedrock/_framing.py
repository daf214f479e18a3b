"""AWS event streams into frames. The extra ``bedrock`` brings botocore, which reads them.

The format: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy_core.dialects._codec import Frame
from proxy_core.errors import ConfigurationError, UpstreamDisconnected, UpstreamProtocolError

if TYPE_CHECKING:
    from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]

__all__ = ["AnthropicChunksFraming", "EventStreamFraming"]

_MOST: Final = 8 * 1024 * 1024
"""Bytes of one message."""
_ERRORS: Final = MappingProxyType(
    {
        "throttlingException": "rate_limit_error",
        "validationException": "invalid_request_error",
        "serviceUnavailableException": "overloaded_error",
    }
)
"""What an exception of AWS is in Anthropic's words; the others are ``api_error``.
https://docs.anthropic.com/en/api/errors"""


class EventStreamFraming:
    """Frames by the name of their event, or of their exception (``throttlingException``).

    A fault that has no such name is called ``error``; its data is JSON with ``code`` and
    ``message``. Raises ConfigurationError where botocore is missing.
    """

    def __init__(self) -> None:
        self._buffer, self._malformed = _event_stream_buffer()
        self._held = 0

    def feed(self, data: bytes) -> list[Frame]:
        self._buffer.add_data(data)
        self._held += len(data)
        frames: list[Frame] = []
        try:
            for message in self._buffer:
                self._check(message.prelude.total_length)
                self._held -= message.prelude.total_length
                frames.append(self._frame(message.headers, message.payload))
        except self._malformed as error:
            raise UpstreamProtocolError(
                f"the upstream's event stream could not be read: {error}"
            ) from None
        self._check(self._held)
        return frames

    def end(self) -> list[Frame]:
        if self._held:
            raise UpstreamDisconnected("the upstream's stream ended in the middle of an event")
        return []

    def _check(self, size: int) -> None:
        if size > _MOST:
            raise UpstreamProtocolError(
                f"the upstream's stream was cut: an event is larger than {_MOST} bytes"
            )

    def _frame(self, headers: Mapping[str, Any], payload: bytes) -> Frame:
        kind = headers.get(":message-type")
        if kind == "event":
            return Frame(payload, str(headers.get(":event-type", "")))
        if kind == "exception":
            return Frame(payload, str(headers.get(":exception-type", "error")))
        told = {name: str(headers.get(f":error-{name}", "")) for name in ("code", "message")}
        return Frame(msgspec.json.encode(told), "error")


class AnthropicChunksFraming(EventStreamFraming):
    """InvokeModelWithResponseStream of a Claude: frames as Anthropic's own stream gives them."""

    def _frame(self, headers: Mapping[str, Any], payload: bytes) -> Frame:
        frame = super()._frame(headers, payload)
        if frame.name != "chunk":
            return _as_anthropic_error(frame)
        try:
            data = base64.b64decode(_CHUNKS.decode(payload).bytes, validate=True)
            return Frame(data, _KINDS.decode(data).type)
        except (msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error) as error:
            raise UpstreamProtocolError(
                f"the upstream's stream has a chunk that could not be read: {error}"
            ) from None


class _Chunk(msgspec.Struct):
    bytes: str


class _Kind(msgspec.Struct):
    type: str


class _Fault(msgspec.Struct):
    message: str = ""


_CHUNKS: Final = msgspec.json.Decoder(_Chunk)
_KINDS: Final = msgspec.json.Decoder(_Kind)
_FAULTS: Final = msgspec.json.Decoder(_Fault)


def _as_anthropic_error(frame: Frame) -> Frame:
    try:
        message = _FAULTS.decode(frame.data).message
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        message = ""
    error = {"type": _ERRORS.get(frame.name, "api_error"), "message": message or frame.name}
    return Frame(msgspec.json.encode({"type": "error", "error": error}), "error")


def _event_stream_buffer() -> tuple[EventStreamBuffer, type[Exception]]:
    try:
        from botocore.eventstream import (
            EventStreamBuffer,
            ParserError,
        )
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"Bedrock's streams need the package {missing.name!r}, which is not installed: "
            "pip install 'proxy-core[bedrock]'."
        ) from None
    return EventStreamBuffer(), ParserError
