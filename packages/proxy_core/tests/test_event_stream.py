"""AWS event streams: written by the format's own description, judged by botocore's reader."""

from __future__ import annotations

import base64
import itertools
import struct
import sys
import zlib
from typing import Any

import msgspec
import pytest
from anthropic.types import RawMessageStreamEvent
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from proxy_core.dialects._bedrock import AnthropicChunksFraming, EventStreamFraming
from proxy_core.dialects._codec import Frame
from proxy_core.errors import ConfigurationError, UpstreamDisconnected, UpstreamProtocolError

EVENTS = TypeAdapter[RawMessageStreamEvent](RawMessageStreamEvent)


def message(payload: bytes, **headers: str) -> bytes:
    """One message of the wire: lengths, their checksum, headers, payload, checksum of it all."""
    told = b"".join(
        bytes([len(name) + 1])
        + f":{name.replace('_', '-')}".encode()
        + b"\x07"
        + struct.pack("!H", len(value))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(told) + len(payload), len(told))
    whole = prelude + struct.pack("!I", zlib.crc32(prelude)) + told + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


def event(name: str, payload: bytes) -> bytes:
    return message(payload, message_type="event", event_type=name)


def chunk(told: object) -> bytes:
    inner = base64.b64encode(msgspec.json.encode(told)).decode()
    return event("chunk", msgspec.json.encode({"bytes": inner, "p": "abcd"}))


STREAM = (
    event("messageStart", b'{"role":"assistant"}')
    + event("contentBlockDelta", '{"delta":{"text":"é"}}'.encode())
    + message(b'{"message":"slow"}', message_type="exception", exception_type="throttlingException")
    + message(b"", message_type="error", error_code="InternalError", error_message="oh")
)
FRAMES = [
    Frame(b'{"role":"assistant"}', "messageStart"),
    Frame('{"delta":{"text":"é"}}'.encode(), "contentBlockDelta"),
    Frame(b'{"message":"slow"}', "throttlingException"),
    Frame(b'{"code":"InternalError","message":"oh"}', "error"),
]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_frames_do_not_depend_on_the_pieces(cuts: list[int]) -> None:
    """Cut anywhere, a stream gives the same frames, as many as botocore itself reads."""
    framing, frames = EventStreamFraming(), []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        frames += framing.feed(STREAM[start:end])
    judge = EventStreamBuffer()
    judge.add_data(STREAM)
    assert frames + framing.end() == FRAMES
    assert [one.payload for one in judge][:3] == [frame.data for frame in frames][:3]


@pytest.mark.parametrize("at", [0, 9, 20, len(STREAM) // 2])
def test_a_changed_byte_is_a_protocol_error(at: int) -> None:
    """Lengths, headers and payloads are all under a checksum, which is checked."""
    broken = bytearray(STREAM)
    broken[at] ^= 1
    with pytest.raises(UpstreamProtocolError):
        EventStreamFraming().feed(bytes(broken))


def test_half_an_event_at_the_end_is_a_broken_stream() -> None:
    """A body that ends inside a message has lost something."""
    framing = EventStreamFraming()
    framing.feed(STREAM[:-1])
    with pytest.raises(UpstreamDisconnected):
        framing.end()


def test_an_event_is_at_most_8_mb() -> None:
    """A larger event is refused, also before all of it has come."""
    large = event("contentBlockDelta", bytes(8 * 1024 * 1024))
    with pytest.raises(UpstreamProtocolError, match="8388608"):
        EventStreamFraming().feed(large)
    with pytest.raises(UpstreamProtocolError, match="8388608"):
        EventStreamFraming().feed(large[:-1])
    assert EventStreamFraming().feed(large[: 8 * 1024 * 1024]) == []


def test_chunks_hold_the_events_of_anthropic() -> None:
    """InvokeModel's chunks become frames that Anthropic's own types read, by the event's name."""
    told: list[dict[str, Any]] = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "é"},
        },
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 1}},
    ]
    frames = AnthropicChunksFraming().feed(b"".join(map(chunk, told)))
    assert [frame.name for frame in frames] == [one["type"] for one in told]
    assert [msgspec.json.decode(frame.data) for frame in frames] == told
    assert [EVENTS.validate_json(frame.data).type for frame in frames] == [
        one["type"] for one in told
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", "rate_limit_error"),
        ("serviceUnavailableException", "overloaded_error"),
        ("validationException", "invalid_request_error"),
        ("modelStreamErrorException", "api_error"),
    ],
)
def test_exceptions_among_chunks_are_anthropic_s_errors(name: str, kind: str) -> None:
    """An exception of AWS comes as the error event that Anthropic's stream would have."""
    raw = message(b'{"message":"so"}', message_type="exception", exception_type=name)
    (frame,) = AnthropicChunksFraming().feed(raw)
    assert frame.name == "error"
    assert msgspec.json.decode(frame.data) == {
        "type": "error",
        "error": {"type": kind, "message": "so"},
    }


@pytest.mark.parametrize("payload", [b"{}", b'{"bytes":"%"}', b'{"bytes":"MQ=="}', b"\xff"])
def test_a_chunk_that_holds_no_event_is_a_protocol_error(payload: bytes) -> None:
    """What can't be unwrapped is never passed on."""
    with pytest.raises(UpstreamProtocolError):
        AnthropicChunksFraming().feed(event("chunk", payload))


def test_without_botocore_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks the extra is told the line that installs it."""
    monkeypatch.setitem(sys.modules, "botocore.eventstream", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'proxy-core\[bedrock\]'"):
        EventStreamFraming()
