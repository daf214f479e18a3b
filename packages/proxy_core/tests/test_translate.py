from __future__ import annotations

import json
from typing import Any

import anthropic.types
import msgspec
import openai.types.chat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from proxy_core import CHAT, DIALECTS, Call, Usage, estimate_tokens
from proxy_core.dialects import CLIENT_CODECS, CODECS, FRAMINGS, framing_of
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._codec import Frame, Framing, Loss
from proxy_core.dialects._framing import EventFraming, LineFraming
from proxy_core.dialects._sse import EventTooLarge
from proxy_core.dialects._translate import DROPPED, Target, Translation, Translator, judged
from proxy_core.errors import (
    InvalidRequest,
    NotCarried,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamProtocolError,
)
from proxy_core.providers._signatures import SignatureMemory

SEED = Loss("seed", "it has no seed", False)
IMAGE = Loss("messages[0].content[1]", "it takes no pictures", True)
CLIENTS: dict[str, dict[str, Any]] = {
    "openai.chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "openai.responses": {"input": "Hi"},
    "anthropic.messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "gemini.generate": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}


def call_of(client: str, **fields: Any) -> Call:
    body = {**CLIENTS[client], **fields}
    stream = fields.get("stream", False)
    if client == "gemini.generate":
        body.pop("stream", None)
        return DIALECTS[client].read(json.dumps(body).encode(), model="mine", stream=stream)
    return DIALECTS[client].read(json.dumps({"model": "mine", **body}).encode())


def translation(
    client: str, upstream: str, call: Call, *, asks_usage: bool = True, **options: Any
) -> Translation:
    target = Target(CODECS[upstream], FRAMINGS[framing_of(upstream, {})], asks_usage)
    translator = Translator(CLIENT_CODECS[client], target, SignatureMemory(), **options)
    return translator.begin(call, "up-1", Abilities())


@pytest.mark.parametrize(
    ("losses", "unsupported", "refused", "told"),
    [
        ([], "strict", None, None),
        ([SEED], "refuse", None, b"seed"),
        ([SEED, IMAGE], "refuse", "messages[0].content[1]", None),
        ([SEED, IMAGE], "announce", None, b"seed, messages[0].content[1]"),
        ([SEED, IMAGE], "strict", "seed", None),
        ([SEED, SEED], "refuse", None, b"seed"),
    ],
)
def test_losses_are_refused_or_announced(
    losses: list[Loss], unsupported: Any, refused: str | None, told: bytes | None
) -> None:
    """What changes the answer is refused unless the operator says otherwise; the rest is named."""
    if refused is None:
        assert judged(losses, unsupported, "x") == ([(DROPPED, told)] if told else [])
        return
    with pytest.raises(NotCarried, match=r"x: it .*`unsupported: announce`") as caught:
        judged(losses, unsupported, "x")
    assert caught.value.param == refused
    assert (caught.value.retryable, caught.value.verdict) == (True, "let_go")


@given(st.lists(st.text(max_size=300), min_size=1, max_size=12))
@settings(max_examples=50)
def test_the_header_can_be_sent_whatever_a_client_calls_its_fields(fields: list[str]) -> None:
    """Printable ASCII, a kilobyte at most, each field once."""
    [(name, value)] = judged([Loss(field, "", False) for field in fields], "refuse", "x")
    assert name == DROPPED
    assert len(value) <= 1024
    assert all(0x20 <= byte <= 0x7E for byte in value)
    told = value.split(b", ")
    assert len(told) == len(set(told))


def test_a_clients_mistake_stays_its_own() -> None:
    """A wrong type is no failure of the upstream: no other deployment is asked."""
    call = call_of("openai.chat", temperature="hot")
    with pytest.raises(InvalidRequest) as caught:
        translation("openai.chat", "anthropic.messages", call)
    assert caught.value.param == "temperature"


def test_json_that_no_value_can_hold_is_the_clients_mistake() -> None:
    """The first reading looks at the top level alone; the second one raises no 500."""
    call = CHAT.read(b'{"model":"m","messages":[],"x":1e999}')
    with pytest.raises(InvalidRequest, match="out of range"):
        translation("openai.chat", "anthropic.messages", call)


def test_the_usage_of_a_stream_is_asked_for_where_the_upstream_takes_it() -> None:
    """Whether or not the client wants to see it."""
    call = call_of("anthropic.messages", stream=True)
    for asks in (True, False):
        way = translation("anthropic.messages", "openai.chat", call, asks_usage=asks)
        body = json.loads(way.request(call, "up-1", ask_usage=asks))
        assert (body.get("stream_options") == {"include_usage": True}) is asks
        assert body["stream"] is True


GEMINI = [
    (
        b'{"candidates":[{"content":{"role":"model","parts":[{"text":"Gr\xc3\xbc"}]},"index":0}],'
        b'"modelVersion":"up-1","responseId":"r1"}'
    ),
    (
        b'{"candidates":[{"content":{"role":"model","parts":[{"text":"sse"}]},"index":0,'
        b'"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3,'
        b'"totalTokenCount":10},"modelVersion":"up-1","responseId":"r1"}'
    ),
]
STREAM = b"".join(b"data: %b\r\n\r\n" % event for event in GEMINI)


def events_of(raw: bytes) -> list[Any]:
    return [json.loads(frame.data) for frame in EventFraming().feed(raw) if frame.data[:1] == b"{"]


@pytest.mark.parametrize("size", [1, 2, 5, 64, 10_000])
def test_a_stream_may_be_cut_anywhere(size: int) -> None:
    """The same bytes go to the client however they came, and its SDK reads them."""
    call = call_of("openai.chat", stream=True)
    usage = Usage()
    tap = translation("openai.chat", "gemini.generate", call).tap(call, usage)
    passed = b"".join(tap.feed(STREAM[at : at + size]) for at in range(0, len(STREAM), size))
    passed += tap.end()
    assert (tap.failure, tap.done, tap.has_content) == (None, True, True)
    assert passed.endswith(b"data: [DONE]\n\n")
    chunks = [openai.types.chat.ChatCompletionChunk.model_validate(e) for e in events_of(passed)]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Grüsse"
    assert {c.model for c in chunks} == {"mine"}
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert usage == Usage(7, 3, reported=True)


def test_a_stream_for_anthropics_sdk() -> None:
    """Its own types take every event, and the usage that was told late is in the last one."""
    call = call_of("anthropic.messages", stream=True)
    tap = translation("anthropic.messages", "gemini.generate", call).tap(call, Usage())
    passed = tap.feed(STREAM) + tap.end()
    reader = TypeAdapter[Any](anthropic.types.RawMessageStreamEvent)
    events = [reader.validate_python(event) for event in events_of(passed)]
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    assert (events[-2].usage.input_tokens, events[-2].usage.output_tokens) == (7, 3)


def test_content_is_seen_when_it_comes() -> None:
    """Not with the beginning, but with the first text; until told, usage is estimated."""
    call, usage = call_of("openai.chat", stream=True), Usage()
    tap = translation("openai.chat", "anthropic.messages", call).tap(call, usage)
    seen: list[bool] = []
    for event in (
        (
            b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":'
            b'"message","role":"assistant","model":"u","content":[],"stop_reason":null,'
            b'"stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":1}}}\n\n'
        ),
        (
            b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
            b'"content_block":{"type":"text","text":""}}\n\n'
        ),
        (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"text_delta","text":"Hello there"}}\n\n'
        ),
    ):
        tap.feed(event)
        seen.append(tap.has_content)
    assert seen == [False, False, True]
    assert (usage.input_tokens, usage.output_tokens) == (5, estimate_tokens(11))
    assert not usage.reported
    tap.end()
    assert type(tap.failure) is UpstreamDisconnected


def test_usage_that_nobody_tells_is_estimated_for_the_client_too() -> None:
    """Anthropic's clients need numbers: they get ours, and we know that they are ours."""
    call, usage = call_of("anthropic.messages", stream=True), Usage()
    tap = translation("anthropic.messages", "gemini.generate", call).tap(call, usage)
    last = msgspec.json.decode(GEMINI[1])
    del last["usageMetadata"]
    passed = tap.feed(b"data: " + msgspec.json.encode(last) + b"\n\n") + tap.end()
    assert tap.failure is None
    assert events_of(passed)[-2]["usage"]["output_tokens"] == usage.output_tokens > 0
    assert usage.input_tokens == estimate_tokens(len(call.body.raw))
    assert not usage.reported


def test_an_error_in_a_stream_comes_after_what_was_said() -> None:
    """The text before it goes on; the stream never ends as if it were whole."""
    call = call_of("openai.chat", stream=True)
    tap = translation("openai.chat", "gemini.generate", call).tap(call, Usage())
    error = b'data: {"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}\n\n'
    passed = tap.feed(b"data: %b\n\n" % GEMINI[0] + error)
    assert "Grü".encode() in passed or b"Gr\\u00fc" in passed
    assert type(tap.failure) is UpstreamFailed
    assert (tap.feed(STREAM), tap.end(), tap.done) == (b"", b"", False)


def test_nothing_is_read_behind_the_end() -> None:
    """What follows ``[DONE]`` is nobody's."""
    call = call_of("anthropic.messages", stream=True)
    tap = translation("anthropic.messages", "openai.chat", call).tap(call, Usage())
    chunk = (
        b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"u","choices":'
        b'[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    )
    passed = tap.feed(chunk + b"data: [DONE]\n\n" + chunk)
    assert (tap.done, tap.failure) == (True, None)
    assert passed.count(b"message_stop") == 2  # its name and its type
    assert (tap.feed(chunk), tap.end()) == (b"", b"")


WORDS = ["choices", "message", "delta", "content", "type", "text", "index", "output", "candidates"]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 9), st.sampled_from(["", "text", "x"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("upstream", [name for name in CODECS if name != "bedrock.converse"])
@given(client=st.sampled_from(list(CLIENT_CODECS)), answers=st.lists(JSON, max_size=3))
@settings(max_examples=30, deadline=None)
def test_nonsense_of_an_upstream_is_its_own_fault(
    upstream: str, client: str, answers: list[Any]
) -> None:
    """Whatever JSON it sends, whole or streamed, is an answer or an UpstreamError."""
    call = call_of(client, stream=True)
    way = translation(client, upstream, call, unsupported="announce")
    for answer in answers:
        try:
            json.loads(way.whole(call, json.dumps(answer).encode(), Usage()))
        except UpstreamError:
            continue
    tap = way.tap(call, Usage())
    before = b"" if framing_of(upstream, {}) == "lines" else b"data: "
    for answer in answers:
        tap.feed(before + json.dumps(answer).encode() + b"\n\n")
    tap.end()
    assert tap.done is (tap.failure is None)


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_no_answer(raw: bytes) -> None:
    """HTML, half a JSON and what is too deep: the next deployment is asked."""
    call = call_of("anthropic.messages")
    way = translation("anthropic.messages", "openai.chat", call)
    with pytest.raises(UpstreamProtocolError):
        way.whole(call, raw, Usage())


EVENTS = (
    b"\xef\xbb\xbfdata: {1}\n\n: comment\n\nevent: a\r\ndata: {2}\r\n\r\n"
    b"id: 7\n\ndata: {\ndata: 3}\n\nevent: b\n\ndata:{4}\r\rdata: \n\ndata: {5}"
)
FRAMES = [
    Frame(b"{1}"),
    Frame(b"{2}", "a"),
    Frame(b"{\n3}"),
    Frame(b"{4}"),
    Frame(b"{5}"),
]
LINES = b'{"a":1}\n\n {"b":2}\r\n{"c":3}'
LINE_FRAMES = [Frame(b'{"a":1}'), Frame(b'{"b":2}'), Frame(b'{"c":3}')]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("framing", "raw", "frames"),
    [(EventFraming, EVENTS, FRAMES), (LineFraming, LINES, LINE_FRAMES)],
)
def test_frames_are_the_same_however_they_are_cut(
    framing: type[EventFraming | LineFraming], raw: bytes, frames: list[Frame], size: int
) -> None:
    """Names, several data lines, a mark of the byte order, and a last one without its end."""
    one: Framing = framing()
    found = [f for at in range(0, len(raw), size) for f in one.feed(raw[at : at + size])]
    assert [*found, *one.end()] == frames
    assert framing().end() == []


def test_a_frame_has_a_largest_size() -> None:
    """Memory has an end, and so has an upstream's patience with us."""
    with pytest.raises(UpstreamProtocolError, match="a line of more than 9 bytes"):
        LineFraming(9).feed(b"0123456789")
    with pytest.raises(EventTooLarge):
        EventFraming(9).feed(b"data: 0123456789")
    call = CHAT.read(b'{"model":"m","messages":[],"stream":true}')
    way = translation("openai.chat", "gemini.generate", call)
    tap = way.tap(call, Usage())
    tap._framing = EventFraming(9)
    assert tap.feed(b"data: 0123456789") == b""
    assert type(tap.failure) is UpstreamProtocolError
