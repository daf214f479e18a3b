from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import Usage
from proxy_core.dialects._dialect import Dialect, Tap
from proxy_core.dialects._responses import RESPONSES
from proxy_core.dialects._sse import MAX_EVENT
from proxy_core.errors import (
    InvalidRequest,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamThrottled,
)

BODY = b'{"model":"chat","input":"hi","new":{"a":1E400}, "stream":true}'
CALL = RESPONSES.read(BODY)
USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 59,
}


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, "sequence_number": 0, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def response(status: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "up/x",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **fields,
    }


MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
TEXT = {"type": "output_text", "text": "Hé", "annotations": [], "logprobs": []}
AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
STREAM = [
    b": hello\n\n",
    event("response.created", response=response("in_progress")),
    event("response.in_progress", response=response("in_progress")),
    event("response.output_item.added", output_index=0, item={**MESSAGE, "content": []}),
    event("response.content_part.added", part={**TEXT, "text": ""}, **AT),
    event("response.output_text.delta", delta="H", logprobs=[], **AT),
    event("response.output_text.delta", delta="é", logprobs=[], obfuscation="xx", **AT),
    event("response.output_text.done", text="Hé", logprobs=[], **AT),
    event("response.content_part.done", part=TEXT, **AT),
    event("response.output_item.done", output_index=0, item={**MESSAGE, "content": [TEXT]}),
    event(
        "response.completed",
        response=response("completed", output=[{**MESSAGE, "content": [TEXT]}], usage=USAGE),
    ),
]


def tap() -> tuple[Tap, Usage]:
    usage = Usage()
    return RESPONSES.tap(CALL, usage), usage


def failure_of(*pieces: bytes) -> UpstreamError:
    watching, _ = tap()
    for piece in pieces:
        watching.feed(piece)
    if watching.failure is None:
        watching.end()
    assert watching.failure is not None
    return watching.failure


def test_it_is_a_dialect() -> None:
    """Its name and its path are what providers look it up by."""
    dialect: Dialect = RESPONSES
    assert dialect.name == "openai.responses" and dialect.streams
    assert dialect.path("m", stream=True) == "/responses"


def test_a_request_passes_but_for_the_model() -> None:
    """Every byte outside the model's name is the client's, and the fields that we own are read."""
    call = RESPONSES.read(BODY, "req")
    assert (call.dialect, call.model, call.stream) == ("openai.responses", "chat", True)
    assert call.request_id == "req" and call.max_tokens is None
    assert RESPONSES.request(call, "chat", ask_usage=True) == BODY
    assert RESPONSES.request(call, "up/x", ask_usage=True) == BODY.replace(b"chat", b"up/x")


def test_the_cap_is_read() -> None:
    """It is what a reservation of tokens rests upon; none, null and -1 are no cap."""
    for raw, cap in ((b"7", 7), (b"null", None), (b"-1", None)):
        body = b'{"model":"m","input":[],"max_output_tokens":' + raw + b"}"
        assert RESPONSES.read(body).max_tokens == cap


def test_model_and_stream_may_come_from_elsewhere() -> None:
    """Where a URL says them the body need not, and the upstream is told the model."""
    call = RESPONSES.read(b'{"input":"x"}', model="m", stream=True)
    assert (call.model, call.stream) == ("m", True)
    assert json.loads(RESPONSES.request(call, "m", ask_usage=False)) == {"input": "x", "model": "m"}


@pytest.mark.parametrize("field", ["prompt", "previous_response_id", "conversation"])
def test_an_input_may_be_with_the_provider(field: str) -> None:
    """A stored prompt, answer or conversation can stand alone."""
    assert RESPONSES.read(f'{{"model":"m","{field}":{{"id":"x"}}}}'.encode()).model == "m"


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"[]", None),
        (b"{", None),
        (b'{"model":"\xff","input":"x"}', None),
        (b'{"input":"x"}', "model"),
        (b'{"model":"","input":"x"}', "model"),
        (b'{"model":7,"input":"x"}', "model"),
        (b'{"model":"m"}', "input"),
        (b'{"model":"m","input":null,"prompt":null}', "input"),
        (b'{"model":"m","input":{}}', "input"),
        (b'{"model":"m","input":"x","stream":1}', "stream"),
        (b'{"model":"m","input":"x","max_output_tokens":"7"}', "max_output_tokens"),
        (b'{"model":"m","input":"x","model":"n"}', "model"),
    ],
)
def test_a_wrong_request_names_its_field(raw: bytes, param: str | None) -> None:
    """Nothing but InvalidRequest, with the field at fault."""
    with pytest.raises(InvalidRequest) as caught:
        RESPONSES.read(raw)
    assert caught.value.param == param


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(b"".join(STREAM))), max_size=6))
def test_a_stream_passes_verbatim_but_for_the_model(cuts: list[int]) -> None:
    """However it is cut, each byte but the model's name is the upstream's, and usage is read."""
    raw = b"".join(STREAM)
    watching, usage = tap()
    places = [0, *sorted(cuts), len(raw)]
    passed = b"".join([watching.feed(raw[start:end]) for start, end in pairwise(places)])
    assert passed + watching.end() == raw.replace(b'"up/x"', b'"chat"')
    assert watching.done and watching.failure is None and watching.has_content
    assert usage == Usage(50, 9, 20, 4, True, cache_write_tokens=5)


def test_a_passed_stream_is_one_for_the_sdk() -> None:
    """OpenAI's own helper accumulates it, by the name that was asked for."""
    watching, _ = tap()
    passed = watching.feed(b"".join(STREAM))
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(
            200, content=passed, headers={"content-type": "text/event-stream"}
        )
    )
    client = openai.OpenAI(
        api_key="k", base_url="http://a.example", http_client=httpx2.Client(transport=transport)
    )
    with client.responses.stream(model="chat", input="hi") as stream:
        final = stream.get_final_response()
    assert (final.model, final.output_text) == ("chat", "Hé")


def noticed(*pieces: bytes) -> tuple[bool, Usage]:
    watching, usage = tap()
    for piece in pieces:
        watching.feed(piece)
    return watching.has_content, usage


def test_content_is_noticed_when_it_is_there() -> None:
    """Beginnings say nothing; text, a call, and an end do."""
    assert noticed(*STREAM[:5])[0] is False
    speaks, usage = noticed(*STREAM[:6])
    assert speaks and usage.output_tokens == 1 and not usage.reported
    assert noticed(STREAM[-2])[0] and noticed(STREAM[-1])[0]
    for kind, speaks in (("function_call", True), ("reasoning", False), ("mcp_call", True)):
        item = event("response.output_item.added", item={"type": kind}, output_index=0)
        assert noticed(item)[0] is speaks


def test_nothing_is_read_behind_the_end() -> None:
    """What follows the terminal event is no part of the answer."""
    watching, _ = tap()
    assert watching.feed(STREAM[-1] + b"data: [DONE]\n\ngarbage\n\n").endswith(b"}\n\n")
    assert watching.feed(b"more") == b"" and watching.end() == b"" and watching.failure is None


def test_an_end_without_its_blank_line_counts() -> None:
    """The last event is given on with the blank line that it lacks."""
    watching, usage = tap()
    watching.feed(STREAM[-1].rstrip(b"\n"))
    assert watching.end() == STREAM[-1].replace(b"up/x", b"chat")
    assert watching.failure is None and usage.reported


def test_an_incomplete_answer_is_whole() -> None:
    """Ended by its cap, an answer is what was asked for."""
    watching, usage = tap()
    details = {"reason": "max_output_tokens"}
    watching.feed(
        event("response.incomplete", response=response("incomplete", incomplete_details=details))
    )
    assert watching.done and watching.failure is None and not usage.reported


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        (STREAM[:-1], UpstreamDisconnected),
        ([b"data: [DONE]\n\n"], UpstreamDisconnected),
        ([b"event: response.output_text.delta\ndata: {oops\n\n"], UpstreamProtocolError),
        (
            [b'data: {"type":"response.output_text.delta","delta":"\xff"}\n\n'],
            UpstreamProtocolError,
        ),
        ([b": \xff\n\n"], UpstreamProtocolError),
        ([b"data: [1]\n\n"], UpstreamProtocolError),
        ([b'data: {"type":"response.created","response":7}\n\n'], UpstreamProtocolError),
        ([b"data: " + b"x" * (MAX_EVENT + 1)], UpstreamProtocolError),
        ([event("error", code="rate_limit_exceeded", message="slow")], UpstreamThrottled),
        ([b'data: {"error":{"message":"no","type":"server_error"}}\n\n'], UpstreamFailed),
        ([b'event: error\ndata: {"message":"no"}\n\n'], UpstreamFailed),
        (
            [
                event(
                    "response.failed",
                    response=response("failed", error={"code": "server_error", "message": "no"}),
                )
            ],
            UpstreamFailed,
        ),
        (
            [
                event(
                    "response.failed",
                    response=response("failed", error={"code": "invalid_prompt", "message": "no"}),
                )
            ],
            UpstreamRejected,
        ),
        ([event("response.failed", response=response("failed"))], UpstreamFailed),
    ],
)
def test_a_broken_stream_has_its_failure(pieces: list[bytes], kind: type[UpstreamError]) -> None:
    """An error is told from an answer, half an answer from a whole one, and noise from both."""
    assert type(failure_of(*pieces)) is kind


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=12) | st.sampled_from(STREAM), max_size=5))
def test_odd_bytes_are_told_and_not_raised(pieces: list[bytes]) -> None:
    """Whatever comes, a tap has passed valid UTF-8 and knows whether it was an answer."""
    watching, _ = tap()
    passed = b"".join([watching.feed(piece) for piece in pieces]) + watching.end()
    passed.decode()
    assert watching.done or watching.failure is not None


def test_ids_and_bare_names_do_not_pass() -> None:
    """SDKs look for JSON in every event that isn't a comment."""
    watching, _ = tap()
    assert watching.feed(b"id: 7\n\nevent: ping\n\n: hi\n\n") == b": hi\n\n"


WHOLE = json.dumps(response("completed", usage=USAGE, error=None)).encode()


def test_a_whole_answer_passes_but_for_the_model() -> None:
    """Its bytes are the upstream's, and its usage is read."""
    usage = Usage()
    assert RESPONSES.whole(CALL, WHOLE, usage) == WHOLE.replace(b"up/x", b"chat")
    assert usage == Usage(50, 9, 20, 4, True, cache_write_tokens=5)


@pytest.mark.parametrize(
    "told",
    [
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": 10**10},
        {"input_tokens": 1, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 2}},
        {"input_tokens": 1.5, "output_tokens": 1},
        "many",
        None,
    ],
)
def test_absurd_counts_are_not_believed(told: Any) -> None:
    """The estimate stands where a report can't be true."""
    usage = Usage()
    RESPONSES.whole(CALL, json.dumps(response("completed", usage=told)).encode(), usage)
    assert not usage.reported and usage.input_tokens == -(-len(BODY) // 3)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"<html>", UpstreamProtocolError),
        (b"[]", UpstreamProtocolError),
        (b'{"id":"x"}', UpstreamProtocolError),
        (b'{"output":"text"}', UpstreamProtocolError),
        (b'{"output":["\xff"]}', UpstreamProtocolError),
        (b'{"error":{"message":"no","code":"rate_limit_exceeded"}}', UpstreamThrottled),
        (json.dumps(response("failed", error=None)).encode(), UpstreamFailed),
    ],
)
def test_what_is_no_answer_raises(raw: bytes, kind: type[UpstreamError]) -> None:
    """An error inside a 200 is one, and so is an answer without output."""
    with pytest.raises(kind):
        RESPONSES.whole(CALL, raw, Usage())


def sealing(value: str) -> str:
    return f"sealed-{value}"


SEALED = msgspec.structs.replace(CALL, seal=sealing)
CHAIN = {"previous_response_id": "resp_0"}


def test_what_a_client_sees_of_ids_is_sealed() -> None:
    """The response's own id and that before it, whole or streamed; what is no text stays."""
    for fields, expected in (
        (CHAIN, {"id": "sealed-resp_1", "previous_response_id": "sealed-resp_0"}),
        ({}, {"id": "sealed-resp_1"}),
        ({"id": None, "previous_response_id": None}, {"id": None, "previous_response_id": None}),
    ):
        whole = response("completed", **fields)
        want = whole | expected | {"model": "chat"}
        passed = RESPONSES.whole(SEALED, json.dumps(whole).encode(), Usage())
        assert json.loads(passed) == want
        watching = RESPONSES.tap(SEALED, Usage())
        told = watching.feed(event("response.completed", response=whole))
        assert json.loads(told.partition(b"data: ")[2]) == {
            "type": "response.completed",
            "sequence_number": 0,
            "response": want,
        }


@pytest.mark.parametrize("fields", [{"model": "chat"}, {}])
def test_an_answer_by_the_right_name_is_not_touched(fields: dict[str, Any]) -> None:
    """Whole or streamed, its very bytes go on; an answer without a name gets none."""
    told = {"output": [], "status": "completed", **fields}
    raw = json.dumps(told).encode()
    passed = RESPONSES.whole(CALL, raw, Usage())
    streamed = b"data: " + json.dumps({"type": "response.completed", "response": told}).encode()
    watching = RESPONSES.tap(CALL, Usage())
    heard = watching.feed(streamed + b"\n\n")
    assert (passed, heard) == (raw, streamed + b"\n\n")


def test_what_was_not_counted_is_estimated() -> None:
    """A third of the bytes of the request, and of what was said: the deltas, else the output."""
    raw = json.dumps(response("completed", output=[{**MESSAGE, "content": [TEXT]}])).encode()
    size = len(json.dumps([{**MESSAGE, "content": [TEXT]}]).encode())
    usage = Usage()
    RESPONSES.whole(CALL, raw, usage)
    assert usage == Usage(-(-len(BODY) // 3), -(-size // 3))
    watching, usage = tap()
    assert usage == Usage(-(-len(BODY) // 3), 0)
    watching.feed(b'data: {"type":"response.completed","response":' + raw + b"}\n\n")
    assert usage == Usage(-(-len(BODY) // 3), -(-size // 3))
    watching, usage = tap()
    for text in ("a" * 10, "b" * 4, ""):
        watching.feed(event("response.output_text.delta", delta=text, **AT))
    assert usage.output_tokens == -(-(12 + 6) // 3)
    watching.feed(b'data: {"type":"response.completed","response":' + raw + b"}\n\n")
    assert usage.output_tokens == -(-(12 + 6) // 3) and not usage.reported


@pytest.mark.parametrize(
    ("pieces", "speaks"),
    [
        ([event("response.output_text.delta", delta="", **AT)], False),
        ([event("response.output_text.delta", delta="x", **AT)], True),
        ([event("response.output_text.done", delta="x", **AT)], False),
        ([event("response.output_item.added", item={"type": "message"})], False),
        ([event("response.output_item.added", item={"type": "reasoning"})], False),
        ([event("response.output_item.added", item={})], True),
        ([event("response.output_item.added", item=7)], False),
        ([event("response.output_item.added")], False),
        ([event("response.output_item.done", item={"type": "message"})], True),
        ([event("response.new", item={"type": "function_call"})], False),
        ([event("response.created", response=response("in_progress"))], False),
        ([event("response.queued", response=None)], False),
        ([b'event: response.output_text.delta\ndata: {"delta":"x"}\n\n'], True),
    ],
)
def test_each_event_speaks_or_not(pieces: list[bytes], speaks: bool) -> None:
    """What a client could see of it decides, and an event's name stands for a missing type."""
    assert noticed(*pieces)[0] is speaks


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (event("response.cancelled", response=response("cancelled")), UpstreamFailed),
        (event("response.created", error={"code": "rate_limit_exceeded"}), UpstreamThrottled),
        (event("error", error={"code": "rate_limit_exceeded"}), UpstreamThrottled),
        (event("error", error=None, code="rate_limit_exceeded"), UpstreamThrottled),
        (b"data:  [DONE] \n\n", UpstreamDisconnected),
    ],
)
def test_each_break_has_its_kind(data: bytes, kind: type[UpstreamError]) -> None:
    """Cancelled, failed or told by an error, inside an event or beside it."""
    assert type(failure_of(data)) is kind


def test_a_null_error_is_none() -> None:
    """OpenAI's own events and answers have the field without an error in it."""
    watching, _ = tap()
    quiet = event("response.created", error=None, response=response("in_progress", error=None))
    assert watching.feed(quiet) == quiet.replace(b"up/x", b"chat")
    assert watching.failure is None and watching.feed(b"data: \n\n") == b""
    RESPONSES.whole(CALL, json.dumps(response("completed", error=None)).encode(), Usage())
    with pytest.raises(UpstreamProtocolError):
        RESPONSES.whole(CALL, json.dumps({"output": None}).encode(), Usage())


@pytest.mark.parametrize(
    ("size", "shown"), [(40, '"' + "x" * 38 + '"'), (41, '"' + "x" * 36 + "...")]
)
def test_a_long_value_is_shown_by_its_beginning(size: int, shown: str) -> None:
    """Of a wrong value an error shows forty characters."""
    raw = b'{"model":"m","input":"x","stream":"' + b"x" * (size - 2) + b'"}'
    with pytest.raises(InvalidRequest) as caught:
        RESPONSES.read(raw)
    assert f"is {shown}:" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (b'"input":null', "input"),
        (b'"input":null,"conversation":null', "input"),
        (b'"input":7', "input"),
        (b'"input":"x","stream":"yes"', "stream"),
        (b'"input":"x","max_output_tokens":1.5', "max_output_tokens"),
    ],
)
def test_each_field_that_is_read_is_checked(fields: bytes, param: str) -> None:
    """The native way refuses what it must understand, by the field's name."""
    with pytest.raises(InvalidRequest) as caught:
        RESPONSES.read(b'{"model":"m",' + fields + b"}")
    assert caught.value.param == param


def test_null_says_nothing() -> None:
    """A null stream is none, a null input one that is elsewhere."""
    call = RESPONSES.read(b'{"model":"m","input":null,"prompt":{"id":"p"},"stream":null}')
    assert (call.stream, call.max_tokens, call.include_usage) == (False, None, True)
    assert RESPONSES.read(b'{"model":"m","input":"x","max_output_tokens":0}').max_tokens == 0
    with pytest.raises(InvalidRequest) as caught:
        RESPONSES.read(b'{"model":null,"input":"x"}')
    assert caught.value.param == "model" and "missing" in str(caught.value)
    with pytest.raises(InvalidRequest, match="empty"):
        RESPONSES.read(b'{"model":"","input":"x"}')


def test_the_model_of_the_address_counts() -> None:
    """Over that of the body, and whether it streams too."""
    call = RESPONSES.read(BODY, model="other", stream=False)
    assert (call.model, call.stream) == ("other", False)


def test_reasoning_of_others_does_not_pass() -> None:
    """What another provider sealed stays behind; the rest of the input, and a body that only
    speaks of such a seal, goes on."""
    said = {"type": "message", "role": "user", "content": "hi"}
    seal = {"type": "reasoning", "summary": [], "encrypted_content": "lp1:anthropic.messages:sig"}
    kept = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    call = RESPONSES.read(json.dumps({"model": "m", "input": [said, seal, kept]}).encode())
    sent = json.loads(RESPONSES.request(call, "m", ask_usage=True))
    assert sent == {"model": "m", "input": [said, kept]}
    for fields in ({"input": "lp1:a:b"}, {"prompt": {"id": "lp1:a:b"}}):
        raw = json.dumps({"model": "m", **fields}).encode()
        assert RESPONSES.request(RESPONSES.read(raw), "m", ask_usage=True) == raw
