from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message, MessageTokensCount
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import Usage
from proxy_core.dialects import estimate_tokens
from proxy_core.dialects._anthropic import COUNT_TOKENS, MESSAGES
from proxy_core.dialects._dialect import Dialect, Tap
from proxy_core.errors import (
    InvalidRequest,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamThrottled,
)

ASKED = b'{ "model" : "chat", "max_tokens":1e2, "messages":[{"role":"user","content":"h\\u00e9"}]}'
USAGE = {
    "input_tokens": 3,
    "cache_read_input_tokens": 20,
    "cache_creation_input_tokens": 100,
    "cache_creation": {"ephemeral_1h_input_tokens": 60, "ephemeral_5m_input_tokens": 40},
    "output_tokens": 1,
}
ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-up",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


START = event("message_start", message=ANSWER | {"content": [], "stop_reason": None})
STOP = event("message_stop")
END = event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9})
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}


def opened(block: dict[str, Any], index: int = 0) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def delta(kind: str, value: Any, index: int = 0) -> bytes:
    name = {"input_json_delta": "partial_json"}.get(kind, kind.partition("_")[0])
    return event("content_block_delta", index=index, delta={"type": kind, name: value})


STREAM = [
    START,
    event("ping"),
    opened({"type": "thinking", "thinking": "", "signature": ""}),
    delta("thinking_delta", "hm"),
    delta("signature_delta", "sig=="),
    event("content_block_stop", index=0),
    opened({"type": "text", "text": ""}, 1),
    delta("text_delta", "h\u00e9", 1),
    b": a comment\n\n",
    event("content_block_stop", index=1),
    opened(TOOL, 2),
    delta("input_json_delta", '{"a":1}', 2),
    event("content_block_stop", index=2),
    END,
    STOP,
]


def tap_for(model: str = "chat") -> tuple[Tap, Usage]:
    usage = Usage()
    body = json.dumps({"model": model, "messages": []}).encode()
    return MESSAGES.tap(MESSAGES.read(body), usage), usage


def failure_of(*pieces: bytes) -> UpstreamError:
    tap, _ = tap_for()
    for piece in pieces:
        tap.feed(piece)
    if tap.failure is None:
        tap.end()
    assert tap.failure is not None
    return tap.failure


def test_both_are_dialects_at_their_paths() -> None:
    """Names and paths are those of Anthropic's own SDK, below a base URL without /v1."""
    dialects: list[Dialect] = [MESSAGES, COUNT_TOKENS]
    names = ["anthropic.messages", "anthropic.count_tokens"]
    assert [dialect.name for dialect in dialects] == names
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.path)
        return httpx2.Response(200, json=ANSWER | {"input_tokens": 5})

    client = anthropic.Anthropic(
        api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )
    with client:
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        client.messages.create(max_tokens=5, **asked)
        client.messages.count_tokens(**asked)
    assert seen == [dialect.path("m", stream=False) for dialect in dialects]


def test_a_request_passes_with_another_name_alone() -> None:
    """Every byte but the model's name is the client's."""
    call = MESSAGES.read(ASKED, "r1")
    assert (call.model, call.max_tokens, call.stream) == ("chat", 100, False)
    assert call.include_usage and call.request_id == "r1"
    told = MESSAGES.request(call, "claude-up", ask_usage=True)
    assert told == ASKED.replace(b'"chat"', b'"claude-up"')
    assert MESSAGES.request(call, "chat", ask_usage=True) is call.body.raw


def test_a_name_from_the_url_needs_none_in_the_body() -> None:
    """Where the URL says model and stream, the body need not, and gets the upstream's name."""
    call = MESSAGES.read(b'{"messages":[]}', model="chat", stream=True)
    assert (call.model, call.stream, call.max_tokens) == ("chat", True, None)
    told = MESSAGES.request(call, "chat", ask_usage=False)
    assert told == b'{"messages":[],"model":"chat"}'


def test_what_other_providers_signed_is_taken_out() -> None:
    """Anthropic gets no thinking that we sealed for another, and every other byte as it came."""
    said = b'{"role":"user","content":[{"type":"text","text":"lp1: \\u00e9", "n":1E400}]}'
    own = b'{ "type":"thinking","thinking":"a","signature":"c2ln"}'
    call = b'{"type":"tool_use","id":"t","name":"f","input":{"n":1.0}}'
    foreign = (
        b'{"type":"thinking","thinking":"b","signature":"lp1:gemini.generate:x"}',
        b'{"type":"thinking","thinking":"b","signature":"lp1::"}',
        b'{"type":"redacted_thinking","data":"lpn:lp1:gemini.generate:x"}',
        b'{"type":"redacted_thinking","data":"lp1:gemini.generate:x"}',
    )

    def body(name: bytes, *messages: bytes) -> bytes:
        return b'{"model":"%b","messages":[%b],"k":1E400}' % (name, b",".join(messages))

    def assistant(*blocks: bytes) -> bytes:
        return b'{"role":"assistant","content":[%b]}' % b",".join(blocks)

    asked = body(b"chat", said, assistant(own, *foreign, call), assistant(*foreign), said)
    told = MESSAGES.request(MESSAGES.read(asked), "up", ask_usage=True)
    assert told == body(b"up", said, assistant(own, call), said)
    for odd in (said, b'"lp1:"', b'{"content":"lp1:"}', b'{"content":["lp1:"]}'):
        untouched = body(b"chat", odd)
        assert MESSAGES.request(MESSAGES.read(untouched), "chat", ask_usage=True) == untouched


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":"x"}', "messages"),
        (b'{"model":"m","messages":null}', "messages"),
        (b'{"messages":[]}', "model"),
        (b'{"model":"","messages":[]}', "model"),
        (b'{"model":4,"messages":[]}', "model"),
        (b'{"model":"m","messages":[],"stream":"yes"}', "stream"),
        (b'{"model":"m","messages":[],"max_tokens":"many"}', "max_tokens"),
        (b'{"model":"m","messages":[],"model":"n"}', "model"),
        (b"[]", None),
        (b'{"model":"\xff","messages":[]}', None),
    ],
)
def test_what_cannot_be_read_names_its_field(body: bytes, param: str | None) -> None:
    """A wrong type, a missing or a repeated field is the client's to mend."""
    with pytest.raises(InvalidRequest) as refused:
        MESSAGES.read(body)
    assert refused.value.param == param


def test_a_whole_answer_has_the_asked_name_and_counts() -> None:
    """The name is the one asked for, the rest verbatim, and the input counts the caches in."""
    usage, raw = Usage(), json.dumps(ANSWER, indent=1).encode()
    told = MESSAGES.whole(MESSAGES.read(ASKED), raw, usage)
    assert told == raw.replace(b'"claude-up"', b'"chat"')
    assert Message.model_validate_json(told).model == "chat"
    assert usage == Usage(123, 1, 20, 0, True, 100, 60)


def test_an_answer_without_counts_is_estimated() -> None:
    """Absurd counts are no report."""
    bad = {"input_tokens": -1, "output_tokens": 5}
    reports: list[Any] = [
        None,
        bad,
        {"input_tokens": 1, "output_tokens": 10**10},
        [],
        {"input_tokens": 1},
    ]
    for told in reports:
        usage = Usage()
        MESSAGES.whole(MESSAGES.read(ASKED), json.dumps(ANSWER | {"usage": told}).encode(), usage)
        assert not usage.reported and usage.input_tokens == estimate_tokens(len(ASKED))
        assert usage.output_tokens > 0


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}', UpstreamFailed),
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"x"}}', UpstreamThrottled),
        (b'{"type":"error","error":{"type":"invalid_request_error"}}', UpstreamRejected),
        (b'{"type":"error"}', UpstreamFailed),
        (b'{"content":"hi"}', UpstreamProtocolError),
        (b"{}", UpstreamProtocolError),
        (b"<html>", UpstreamProtocolError),
    ],
)
def test_what_is_no_answer_is_an_error(raw: bytes, kind: type[UpstreamError]) -> None:
    """Errors inside a 200 and bodies that are none never pass as answers."""
    with pytest.raises(kind):
        MESSAGES.whole(MESSAGES.read(ASKED), raw, Usage())


def test_a_count_of_tokens_passes() -> None:
    """It needs its number, is never a stream, and costs no tokens itself."""
    call = COUNT_TOKENS.read(b'{"model":"chat","messages":[],"stream":true}')
    assert not call.stream
    usage = Usage()
    told = COUNT_TOKENS.whole(call, b'{"input_tokens": 14}', usage)
    assert MessageTokensCount.model_validate_json(told, strict=True).input_tokens == 14
    assert usage == Usage()
    for bad in (b'{"input_tokens":null}', b'{"tokens":1}', b'{"input_tokens":"4"}'):
        with pytest.raises(UpstreamProtocolError):
            COUNT_TOKENS.whole(call, bad, usage)


@given(st.lists(st.integers(0, sum(map(len, STREAM))), max_size=6), st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_stream_passes_verbatim_but_for_the_name(cuts: list[int], crlf: bool) -> None:
    """However the bytes are cut, all of them pass, and only ``message.model`` is another."""
    whole = b"".join(STREAM)
    if crlf:
        whole = whole.replace(b"\n", b"\r\n")
    tap, usage = tap_for('my "é" chat')
    marks = [0, *sorted(cuts), len(whole)]
    passed = b"".join(tap.feed(whole[a:b]) for a, b in pairwise(marks))
    passed += tap.end()
    name = json.dumps('my "é" chat', ensure_ascii=False).encode()
    assert passed == whole.replace(b'"claude-up"', name)
    assert tap.done and tap.failure is None and tap.has_content
    assert usage == Usage(123, 9, 20, 0, True, 100, 60)


@pytest.mark.parametrize(
    ("piece", "holds"),
    [
        (opened({"type": "text", "text": ""}), False),
        (opened({"type": "thinking", "thinking": "", "signature": ""}), False),
        (event("ping"), False),
        (delta("text_delta", ""), False),
        (delta("signature_delta", "s"), False),
        (delta("text_delta", "x"), True),
        (delta("thinking_delta", "x"), True),
        (delta("input_json_delta", "{"), True),
        (opened(TOOL), True),
        (opened({"type": "redacted_thinking", "data": "x"}), True),
        (END, True),
    ],
)
def test_content_begins_where_something_is_said(piece: bytes, holds: bool) -> None:
    """Empty blocks, pings and signatures are no content: another deployment can still be asked."""
    tap, _ = tap_for()
    tap.feed(START + opened({"type": "text", "text": ""}))
    assert not tap.has_content
    tap.feed(piece)
    assert tap.has_content is holds


def test_events_have_their_names() -> None:
    """Where an imitator leaves the name out, or gives another, SDKs would pass over the event."""
    said = START + opened({"type": "text", "text": ""}) + delta("text_delta", "x") + END + STOP
    lines = [line for line in said.split(b"\n") if not line.startswith(b"event:")]
    for imitated in (b"\n".join(lines), re.sub(rb"(?m)^event: .*$", b"event: message", said)):
        tap, _ = tap_for()
        assert tap.feed(imitated).replace(b"\n\n\n", b"\n\n") == tap_for()[0].feed(said)
        assert tap.done


@pytest.mark.parametrize("usage", [{}, {"usage": None}])
def test_an_end_has_a_usage(usage: dict[str, Any]) -> None:
    """Where an upstream tells none, the SDK's helper would trip: it gets what was counted."""
    end = event("message_delta", delta={"stop_reason": "end_turn"}, **usage)
    tap, counted = tap_for()
    block = opened({"type": "text", "text": ""})
    told = tap.feed(START + block + delta("text_delta", "x" * 300) + end + STOP)
    assert b'{"output_tokens":%d}' % counted.output_tokens in told
    assert counted.output_tokens > 50


@pytest.mark.parametrize(
    "pieces", [[delta("text_delta", "x")], [START, delta("text_delta", "x")], [END]]
)
def test_events_in_disorder_are_a_failure(pieces: list[bytes]) -> None:
    """What comes before its beginning is no answer: the SDK would trip over it, or lose it."""
    assert isinstance(failure_of(*pieces), UpstreamProtocolError)


def test_a_stream_that_breaks_off_is_counted_by_its_text() -> None:
    """Input is as reported at the start, output by what was said since, and not whole."""
    tap, usage = tap_for()
    tap.feed(START + opened({"type": "text", "text": ""}) + delta("text_delta", "x" * 300))
    tap.end()
    assert isinstance(tap.failure, UpstreamDisconnected)
    assert not usage.reported and usage.input_tokens == 123 and usage.output_tokens >= 100


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([START], UpstreamDisconnected),
        ([START, END], UpstreamDisconnected),
        ([STOP], UpstreamDisconnected),
        ([START, event("error", error={"type": "overloaded_error"})], UpstreamFailed),
        ([b'data: {"type":"error","error":{"type":"rate_limit_error"}}\n\n'], UpstreamThrottled),
        ([b"event: error\ndata: busy\n\n"], UpstreamFailed),
        ([b'data: {"error":{"type":"rate_limit_error"}}\n\n'], UpstreamThrottled),
        ([START, b"event: content_block_delta\ndata: {oops\n\n"], UpstreamProtocolError),
        ([START, delta("text_delta", "x").replace(b"x", b"\xff")], UpstreamProtocolError),
        ([event("message_start", message=4)], UpstreamProtocolError),
        ([b"data: " + b"[" * 5000 + b"\n\n"], UpstreamProtocolError),
        ([b"data: " + b"x" * 9_000_000], UpstreamProtocolError),
    ],
)
def test_a_broken_stream_is_told(pieces: list[bytes], kind: type[UpstreamError]) -> None:
    """An error, a lie or a missing end is a failure, and nothing of it reaches the client."""
    assert isinstance(failure_of(*pieces), kind)


def test_nothing_follows_a_failure_or_the_end() -> None:
    """After an error or ``message_stop`` nothing is read; OpenAI's end is no event here."""
    tap, _ = tap_for("claude-up")
    assert tap.feed(START + b"data: [DONE]\n\n" + STOP + b"event: x\n\n") == START + STOP
    assert tap.feed(START) == b"" == tap.end()
    tap, _ = tap_for()
    broken = event("error", error={"type": "api_error", "message": "down"})
    assert tap.feed(event("ping") + broken + STOP) == event("ping")
    assert tap.feed(STOP) == b"" == tap.end()


def test_a_last_event_without_its_blank_line_gets_one() -> None:
    """SDKs would lose it; and a byte order mark goes, since they would lose the first."""
    tap, _ = tap_for("claude-up")
    passed = tap.feed(b"\xef\xbb\xbf" + START + STOP.rstrip()) + tap.end()
    assert passed == START + STOP
    assert tap.failure is None and tap.done
