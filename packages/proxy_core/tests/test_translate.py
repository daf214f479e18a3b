from __future__ import annotations

import json
import re
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


@pytest.mark.parametrize(
    ("client", "fields", "param"),
    [
        ("gemini.generate", {"generationConfig": {"candidateCount": 2}}, "candidateCount"),
        (
            "gemini.generate",
            {
                "generationConfig": {
                    "responseMimeType": "application/json",
                    "responseSchema": {"type": "OBJECT"},
                }
            },
            "responseSchema",
        ),
        ("gemini.generate", {"generationConfig": {"seed": 7}}, "seed"),
        ("openai.responses", {"text": {"format": {"type": "json_object"}}}, "text.format"),
        ("openai.responses", {"safety_identifier": "me"}, "safety_identifier"),
        ("openai.responses", {"user": "me"}, "user"),
        ("anthropic.messages", {"metadata": {"user_id": "me"}}, "metadata.user_id"),
        ("openai.chat", {"n": 2}, "n"),
    ],
)
def test_a_refusal_speaks_the_clients_own_words(
    client: str, fields: dict[str, Any], param: str
) -> None:
    """The field is named as the client's dialect calls it, in the message and in the param."""
    can = Abilities(
        many_answers=False, json_schema=False, json_object=False, seed=False, user=False
    )
    target = Target(CODECS["openai.chat"], FRAMINGS[framing_of("openai.chat", {})], True)
    if client == "openai.chat":
        target = Target(CODECS["gemini.generate"], FRAMINGS[framing_of("gemini.generate", {})])
    translator = Translator(CLIENT_CODECS[client], target, SignatureMemory(), unsupported="strict")
    with pytest.raises(NotCarried) as caught:
        translator.begin(call_of(client, **fields), "up-1", can)
    told = param if client != "gemini.generate" else f"generationConfig.{param}"
    assert caught.value.param == told
    assert f"'{told}'" in caught.value.message


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


def test_a_refusal_says_what_to_add() -> None:
    """Where something is missing, the remedy isn't to leave out more."""
    call = call_of("openai.chat", messages=[{"role": "user", "content": " "}])
    with pytest.raises(NotCarried, match=r"a user's message with text in it.*\. Add one, ask"):
        translation("openai.chat", "anthropic.messages", call)


PICTURE = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "r"}
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "Hi"},
    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
    {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "a", "output": "r"},
    {"type": "function_call_output", "call_id": "b", "output": "r"},
    {"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]},
]
ODD_CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "[1]"}
PICTURE_URL = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}


@pytest.mark.parametrize(
    ("client", "fields", "place"),
    [
        (
            "anthropic.messages",
            {"system": "S", "messages": [{"role": "user", "content": [PICTURE]}]},
            "messages[0].content[0]",
        ),
        (
            "anthropic.messages",
            {
                "system": "S",
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": [USE]},
                    {"role": "user", "content": [RESULT, PICTURE]},
                ],
            },
            "messages[2]",
        ),
        ("openai.responses", {"instructions": "S", "input": ITEMS}, "input[5]"),
        (
            "gemini.generate",
            {
                "systemInstruction": {"parts": [{"text": "S"}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "a"}]},
                    {"role": "model", "parts": [{"text": "b"}]},
                    {"role": "user", "parts": [{"fileData": {"fileUri": "https://x/y.png"}}]},
                ],
            },
            "contents[2]",
        ),
        (
            "openai.chat",
            {
                "messages": [
                    *({"role": "tool", "tool_call_id": one, "content": "r"} for one in "ab"),
                    {"role": "user", "content": [PICTURE_URL]},
                ]
            },
            "messages[2].content[0]",
        ),
        ("openai.responses", {"input": [*ITEMS[:1], ODD_CALL]}, "input[1]"),
    ],
)
def test_what_is_refused_is_found_in_the_clients_own_request(
    client: str, fields: dict[str, Any], place: str
) -> None:
    """Neither a system prompt nor results in turns of their own move the place that is named."""
    is_odd = ODD_CALL in fields.get("input", ())
    target = "anthropic.messages" if is_odd else "bedrock.converse"
    with pytest.raises((NotCarried, InvalidRequest), match=re.escape(place)) as refused:
        translation(client, target, call_of(client, **fields))
    assert refused.value.param == place


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
    call = call_of("openai.chat", stream=True)
    way = translation("openai.chat", "gemini.generate", call)
    tap = way.tap(call, Usage())
    tap._framing = EventFraming(9)
    assert tap.feed(b"data: 0123456789") == b""
    assert type(tap.failure) is UpstreamProtocolError


class Remembered:
    """A memory that writes down what it is asked, and knows nothing."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.heard: list[str] = []

    def restored(self, conversation: Any, origin: str, scope: str = "") -> Any:
        self.told.append(("restored", conversation.model, origin, scope))
        return conversation

    def remember(self, answer: Any, scope: str = "") -> None:
        self.told.append(("remember", answer.id, scope))

    def listener(self, scope: str = "") -> Remembered:
        self.told.append(("listener", scope))
        return self

    def hear(self, event: Any) -> None:
        self.heard.append(type(event).__name__)


def chunk(finish: str | None = None, **more: Any) -> bytes:
    fields = {"index": 0, "delta": more.pop("delta", {}), "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c1", "choices": [fields], **more}).encode() + b"\n\n"


WHOLE = {
    "id": "c1",
    "choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
}
COUNTS = {"prompt_tokens": 7, "completion_tokens": 3}


def test_the_memory_is_asked_for_the_calls_scope() -> None:
    """Of the upstream's dialect before, and with the whole answer or each event after."""
    memory = Remembered()
    call = msgspec.structs.replace(call_of("anthropic.messages", stream=True), scope="key-1")
    target = Target(CODECS["openai.chat"], FRAMINGS[framing_of("openai.chat", {})])
    translator = Translator(CLIENT_CODECS["anthropic.messages"], target, memory)
    way = translator.begin(call, "up-1", Abilities())
    assert memory.told == [("restored", "mine", "openai.chat", "key-1")]
    way.whole(call, json.dumps(WHOLE).encode(), Usage())
    tap = way.tap(call, Usage())
    assert memory.told[1:] == [("remember", "c1", "key-1"), ("listener", "key-1")]
    tap.feed(chunk(delta={"content": "Hi"}, usage=COUNTS) + chunk("stop") + b"data: [DONE]\n\n")
    assert memory.heard == ["Begun", "Opened", "Piece", "Closed", "Finished"]


@pytest.mark.parametrize("stream", [True, False])
def test_the_call_says_what_its_body_may_not(stream: bool) -> None:
    """Its model, whether it streams and whether usage is told to the client."""
    call = msgspec.structs.replace(
        call_of("openai.chat", stream=not stream),
        stream=stream,
        include_usage=stream,
        model="alias",
    )
    way = translation("openai.chat", "openai.chat", call)
    body = json.loads(way.request(call, "other", ask_usage=False))
    assert (body["model"], body.get("stream", False)) == ("up-1", stream)
    tap = way.tap(call, Usage())
    raw = tap.feed(chunk(delta={"content": "Hi"}, usage=COUNTS) + chunk("stop")) + tap.end()
    chunks = [openai.types.chat.ChatCompletionChunk.model_validate(e) for e in events_of(raw)]
    assert {one.model for one in chunks} == {"alias"}
    assert [one.usage.total_tokens for one in chunks if one.usage] == ([10] if stream else [])


def test_a_target_has_the_last_word_on_a_body() -> None:
    """It takes out what goes by the address, and free text stays where there is a word for it."""
    tools = [{"type": "custom", "custom": {"name": "p"}}]
    call = call_of("openai.chat", tools=tools)
    seen: list[Call] = []

    def finish(body: dict[str, Any], call: Call) -> dict[str, Any]:
        seen.append(call)
        return {"kind": body["tools"][0]["type"], "field": sorted(body)}

    for customs, kind in ((True, "custom"), (False, "function")):
        target = Target(
            CODECS["openai.chat"], FRAMINGS["events"], False, customs=customs, finish=finish
        )
        translator = Translator(CLIENT_CODECS["openai.chat"], target, SignatureMemory())
        way = translator.begin(call, "up-1", Abilities())
        body = json.loads(way.request(call, "up-1", ask_usage=True))
        assert body == {"kind": kind, "field": ["messages", "model", "tools"]}
        assert way.announced == []
        made = {
            "id": "c",
            "type": "function",
            "function": {"name": "p", "arguments": '{"input":"x"}'},
        }
        message = {"role": "assistant", "content": None, "tool_calls": [made]}
        answer = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
        whole = json.loads(way.whole(call, json.dumps(answer).encode(), Usage()))
        (called,) = whole["choices"][0]["message"]["tool_calls"]
        assert called["type"] == ("function" if customs else "custom")
        tap = way.tap(call, Usage())
        raw = tap.feed(chunk(delta={"tool_calls": [{"index": 0, **made}]}) + chunk("tool_calls"))
        assert (b'"custom"' in raw + tap.end()) is not customs
    assert seen == [call, call]


def test_a_whole_answers_usage_is_told_or_estimated() -> None:
    """The client and we have the same numbers."""
    call = call_of("openai.chat")
    way = translation("openai.chat", "openai.chat", call)
    usage = Usage()
    told = json.loads(way.whole(call, json.dumps({**WHOLE, "usage": COUNTS}).encode(), usage))
    assert usage == Usage(7, 3, reported=True) and told["usage"]["total_tokens"] == 10
    raw, usage = json.dumps(WHOLE).encode(), Usage()
    told = json.loads(way.whole(call, raw, usage))
    asked, said = estimate_tokens(len(call.body.raw)), estimate_tokens(len(raw))
    assert usage == Usage(asked, said)
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (asked, said)


@pytest.mark.parametrize(
    ("delta", "speaks"),
    [
        ({"role": "assistant", "content": ""}, False),
        ({"content": "Hi"}, True),
        ({"reasoning_content": "Hm"}, True),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, True),
        ({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}, True),
        ({"images": [{"image_url": {"url": "https://x.example/a.png"}}]}, True),
        ({"annotations": [{"url_citation": {"url": "u"}}]}, True),
        ({"extra_content": {"google": {"thought_signature": "s"}}}, False),
    ],
)
def test_each_event_speaks_or_not(delta: dict[str, Any], speaks: bool) -> None:
    """What a client could see of it is content; until then another deployment may be asked."""
    call = call_of("anthropic.messages", stream=True)
    tap = translation("anthropic.messages", "openai.chat", call).tap(call, Usage())
    tap.feed(chunk(delta=delta))
    assert (tap.has_content, tap.done, tap.failure) == (speaks, False, None)
    tap.feed(chunk("stop") + b"data: [DONE]\n\n")
    assert (tap.has_content, tap.done, tap.failure) == (True, True, None)


def test_counts_before_the_end_do_not_count_what_follows() -> None:
    """Usage that came early is an estimate again when more is said; the last report counts."""
    call, usage = call_of("openai.chat", stream=True), Usage()
    tap = translation("openai.chat", "openai.chat", call).tap(call, usage)
    assert (usage.input_tokens, usage.reported) == (estimate_tokens(len(call.body.raw)), False)
    tap.feed(chunk(delta={"content": "Hé"}, usage=COUNTS))
    assert usage == Usage(7, 3, reported=True)
    tap.feed(chunk(delta={"content": "x" * 30}))
    assert usage == Usage(7, estimate_tokens(33))
    tap.feed(chunk(delta={"content": "y"}))
    assert usage == Usage(7, estimate_tokens(34))
    tap.feed(chunk("stop", usage={"prompt_tokens": 7, "completion_tokens": 20}))
    assert usage == Usage(7, 20, reported=True)
    assert tap.end().endswith(b"[DONE]\n\n") and tap.end() == b""


def test_told_counts_are_told_once() -> None:
    """No estimate is put behind the counts of the upstream."""
    call, usage = (
        call_of("openai.chat", stream=True, stream_options={"include_usage": True}),
        Usage(),
    )
    tap = translation("openai.chat", "openai.chat", call).tap(call, usage)
    raw = tap.feed(
        chunk(delta={"content": "Hi"}) + chunk("stop", usage=COUNTS) + b"data: [DONE]\n\n"
    )
    last = events_of(raw)[-1]
    assert last["usage"]["prompt_tokens"] == 7 and usage == Usage(7, 3, reported=True)


def test_a_stream_may_end_with_its_last_event() -> None:
    """Anthropic's comes before the connection closes: the client has its own at once."""
    call = call_of("openai.chat", stream=True)
    tap = translation("openai.chat", "anthropic.messages", call).tap(call, Usage())
    start = {
        "type": "message_start",
        "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": []},
    }
    stopped = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    raw = b""
    for one in (start, stopped, {"type": "message_stop"}):
        assert not tap.done
        name = str(one["type"]).encode()
        raw += tap.feed(b"event: %b\ndata: %b\n\n" % (name, json.dumps(one).encode()))
    assert tap.done and raw.endswith(b"data: [DONE]\n\n")
    assert tap.feed(b"event: ping\ndata: {}\n\n") == tap.end() == b"" and tap.failure is None


def test_an_error_in_an_array_is_its_error() -> None:
    """Gemini puts one there where a stream was meant; two answers are none."""
    call = call_of("openai.chat")
    way = translation("openai.chat", "gemini.generate", call)
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    with pytest.raises(UpstreamFailed, match="overloaded"):
        way.whole(call, json.dumps([error]).encode(), Usage())
    with pytest.raises(UpstreamProtocolError):
        way.whole(call, json.dumps([error, error]).encode(), Usage())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (["a" * 1024], b"a" * 1024),
        (["a" * 1025], b"a" * 1024),
        (["a" * 1000, "b" * 22], b"a" * 1000 + b", " + b"b" * 22),
        (["a" * 1000, "b" * 23], b"a" * 1000),
        (["a,b\n\xe9 ~!"], b"a?b???~!"),
    ],
)
def test_the_header_holds_whole_names(fields: list[str], told: bytes) -> None:
    """As many as there is room for, each with what a header can hold."""
    losses = [Loss(field, "", False) for field in fields]
    assert judged(losses, "announce", "x") == [(DROPPED, told)]
