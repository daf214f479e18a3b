"""Gemini's own wire format on its way: what is read, what is renamed, what counts as whole."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import Usage
from proxy_core.dialects._gemini import COUNT, GENERATE, EventsAsArray
from proxy_core.errors import (
    InvalidRequest,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamThrottled,
)

ASKED = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}],  "tomorrow": 1e2}'
SAID = {
    "candidates": [{"content": {"parts": [{"text": "Hel"}], "role": "model"}, "index": 0}],
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r1",
}
LAST = {
    "candidates": [
        {
            "content": {"parts": [{"text": "lo"}], "role": "model"},
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 10,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 7,
        "toolUsePromptTokenCount": 3,
        "totalTokenCount": 25,
        "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 2}],
    },
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r1",
}


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)


def tapped(data: bytes, *cuts: int) -> tuple[bytes, Any, Usage]:
    call, usage = GENERATE.read(ASKED, model="mine", stream=True), Usage()
    tap = GENERATE.tap(call, usage)
    edges = [0, *sorted(cuts), len(data)]
    out = b"".join(tap.feed(data[a:b]) for a, b in itertools.pairwise(edges))
    return out + tap.end(), tap, usage


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("gemini-2.5-flash", False, "/v1beta/models/gemini-2.5-flash:generateContent"),
        ("models/g", False, "/v1beta/models/g:generateContent"),
        ("tunedModels/x-1", True, "/v1beta/tunedModels/x-1:streamGenerateContent?alt=sse"),
        ("a b?#:../x", False, "/v1beta/models/a%20b%3F%23%3A..%2Fx:generateContent"),
    ],
)
def test_path(model: str, stream: bool, path: str) -> None:
    """The model stands in the URL, and can't break out of its place there."""
    assert GENERATE.path(model, stream=stream) == path


def test_path_of_a_count() -> None:
    """Counting has one URL, streamed or not."""
    assert COUNT.path("g", stream=True) == "/v1beta/models/g:countTokens"


def test_request_is_the_clients_own_bytes() -> None:
    """A body without a model goes on byte for byte."""
    call = GENERATE.read(ASKED, "id", model="models/mine", stream=True)
    assert (call.model, call.stream, call.include_usage) == ("mine", True, True)
    assert GENERATE.request(call, "other", ask_usage=True) == ASKED


@pytest.mark.parametrize("name", ["maxOutputTokens", "max_output_tokens"])
def test_cap_is_read(name: str) -> None:
    """The cap on the output is known in both spellings."""
    raw = b'{"contents":[],"generationConfig":{"%b":64}}' % name.encode()
    assert GENERATE.read(raw, model="m").max_tokens == 64


def test_model_inside_a_count_is_replaced() -> None:
    """The request inside a countTokens names the upstream's model."""
    raw = b'{"generateContentRequest": {"model": "models/mine", "contents": []}}'
    sent = COUNT.request(COUNT.read(raw, model="mine"), "theirs", ask_usage=False)
    assert json.loads(sent)["generateContentRequest"]["model"] == "models/theirs"
    assert sent.replace(b"theirs", b"mine") == raw


@pytest.mark.parametrize(
    ("raw", "model", "param"),
    [
        (b"{}", "m", "contents"),
        (b'{"contents":"hi"}', "m", "contents"),
        (b'{"contents":[]}', "", "model"),
        (b'{"contents":[],"generationConfig":{"maxOutputTokens":"x"}}', "m", "generationConfig"),
        (b'{"contents":[],"generationConfig":7}', "m", "generationConfig"),
        (b"[", "m", None),
    ],
)
def test_bad_requests(raw: bytes, model: str, param: str | None) -> None:
    """What can't be read is refused with the name of its field."""
    with pytest.raises(InvalidRequest) as caught:
        GENERATE.read(raw, model=model)
    assert caught.value.param == param


def test_whole_answer() -> None:
    """A whole answer differs by its model's name alone, and its tokens are counted."""
    call, usage = GENERATE.read(ASKED, model="mine"), Usage()
    raw = json.dumps(LAST, indent=1).encode()
    out = GENERATE.whole(call, raw, usage)
    assert out == raw.replace(b"gemini-2.5-flash", b"mine")
    assert usage == Usage(13, 12, 4, 7, True, image_input_tokens=2)
    types.GenerateContentResponse.model_validate_json(out)


def test_count_answer() -> None:
    """A count passes as it is."""
    call = COUNT.read(ASKED, model="mine")
    assert COUNT.whole(call, b'{"totalTokens": 31}', Usage()) == b'{"totalTokens": 31}'


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b'[{"error":{"code":429,"message":"slow","status":"X"}}]', UpstreamThrottled),
        (b'{"error":{"code":503,"message":"full"}}', UpstreamFailed),
        (b'{"usageMetadata":{}}', UpstreamProtocolError),
        (b'{"candidates":[ ]}', UpstreamProtocolError),
        (b"<html>", UpstreamProtocolError),
    ],
)
def test_answers_that_are_none(raw: bytes, error: type[Exception]) -> None:
    """An error inside a 200 is one, also in an array, and nothing is no answer."""
    with pytest.raises(error):
        GENERATE.whole(GENERATE.read(ASKED, model="m"), raw, Usage())


def test_blocked_prompt_passes() -> None:
    """A client of Google's own format gets Google's own words about its prompt."""
    raw = b'{"promptFeedback":{"blockReason":"SAFETY"}}'
    assert GENERATE.whole(GENERATE.read(ASKED, model="m"), raw, Usage()) == raw
    assert tapped(b"data: " + raw + b"\n\n")[1].failure is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, len(sse(SAID, LAST)) + 8), max_size=6))
def test_stream_in_any_pieces(cuts: list[int]) -> None:
    """Wherever the bytes are cut, the stream passes verbatim but for its model's name."""
    data = b": hello\n\n" + sse(SAID, LAST)
    out, tap, usage = tapped(data, *cuts)
    assert out == data.replace(b"gemini-2.5-flash", b"mine")
    assert (tap.failure, tap.done, tap.has_content) == (None, False, True)
    assert usage == Usage(13, 12, 4, 7, True, image_input_tokens=2)


def test_last_event_without_its_blank_line() -> None:
    """An end that an SDK would lose is completed."""
    out, tap, _ = tapped(sse(SAID, LAST).rstrip())
    assert tap.failure is None
    assert out.endswith(b"\n\n")


def test_stream_that_breaks_off() -> None:
    """Without a finishReason for each candidate a stream is not whole."""
    second = {"candidates": [{"content": {"parts": [{"text": "b"}]}, "index": 1}]}
    assert isinstance(tapped(sse(SAID))[1].failure, UpstreamDisconnected)
    assert isinstance(tapped(sse(SAID, second, LAST))[1].failure, UpstreamDisconnected)
    assert isinstance(tapped(b"")[1].failure, UpstreamDisconnected)


def test_error_in_a_stream() -> None:
    """An error is held back and told as what it is; nothing behind it passes."""
    out, tap, _ = tapped(sse(SAID, {"error": {"code": 429, "message": "slow"}}, LAST))
    assert isinstance(tap.failure, UpstreamThrottled)
    assert out == sse(SAID | {"modelVersion": "mine"})


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ({"text": ""}, False),
        ({"text": "", "thought": True}, False),
        ({"text": "hm", "thought": True}, True),
        ({"functionCall": {"name": "f"}}, True),
        ({"inlineData": {"mimeType": "image/png", "data": "AA=="}}, True),
    ],
)
def test_what_is_content(part: dict[str, Any], content: bool) -> None:
    """Failover ends with the first part that says something."""
    event = {"candidates": [{"content": {"parts": [part]}}]}
    assert tapped(sse(event))[1].has_content is content


@pytest.mark.parametrize(
    "data", [b'data: {"candidates":3}\n\n', b"data: nope\n\n", b"data: \xff\n\n"]
)
def test_nonsense_in_a_stream(data: bytes) -> None:
    """What is no event of Google's breaks the stream."""
    assert isinstance(tapped(data)[1].failure, UpstreamProtocolError)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(sse(SAID, LAST))))
def test_events_as_an_array(cut: int) -> None:
    """Events become the JSON array of the same responses, however they were cut."""
    data, array = sse(SAID, LAST), EventsAsArray()
    out = array.feed(data[:cut]) + array.feed(data[cut:]) + array.end()
    assert json.loads(out) == [SAID, LAST]


def test_empty_array() -> None:
    """No events are an empty array."""
    assert json.loads(EventsAsArray().end()) == []


FOREIGN = base64.urlsafe_b64encode(b"lp1:anthropic.messages:EqQB").decode()
OWN = base64.b64encode(b"signed by Google").decode()
SKIP = "skip_thought_signature_validator"


@pytest.mark.parametrize("name", ["thoughtSignature", "thought_signature"])
@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ({"text": "hm", "thought": True}, None),
        ({"text": ""}, None),
        ({"text": "a", "thought": False}, {"text": "a", "thought": False}),
        ({"text": "a"}, {"text": "a"}),
        ({"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}),
        ({"function_call": {"name": "f"}}, {"function_call": {"name": "f"}}),
    ],
)
def test_what_others_signed_stays_behind(
    part: dict[str, Any], kept: dict[str, Any] | None, name: str
) -> None:
    """Thinking goes with its signature, text stays, and a call gets Google's word for it."""
    asked = {"role": "user", "parts": [{"text": "hi"}]}
    own = {"text": "b", name: OWN}
    said = {"role": "model", "parts": [part | {name: FOREIGN}, own]}
    alone = {"role": "model", "parts": [part | {name: FOREIGN}]}
    raw = json.dumps({"contents": [asked, said, alone]}).encode()
    sent = json.loads(GENERATE.request(GENERATE.read(raw, model="m"), "m", ask_usage=False))
    is_call = any("all" in field for field in part)
    left = [] if kept is None else [kept | ({name: SKIP} if is_call else {})]
    wanted = [asked, {"role": "model", "parts": [*left, own]}]
    assert sent["contents"] == wanted + ([{"role": "model", "parts": left}] if left else [])


def test_a_body_with_nothing_to_take_out_is_the_same_bytes() -> None:
    """A mark outside of a signature is the client's own word."""
    mark = base64.b64encode(b"lp1:x").decode()
    for contents in (
        [{"parts": [{"text": mark}]}],
        [{"role": "model", "parts": [{"text": "a", "thoughtSignature": OWN}]}],
        [{"parts": mark}],
        [mark],
    ):
        raw = json.dumps({"contents": contents}, indent=2).encode()
        assert GENERATE.request(GENERATE.read(raw, model="m"), "n", ask_usage=False) == raw


@pytest.mark.parametrize(
    ("model", "name"),
    [("theirs", "models/theirs"), ("models/a", "models/a"), ("tunedModels/b", "tunedModels/b")],
)
def test_a_model_in_the_body_is_the_upstreams(model: str, name: str) -> None:
    """Where a body names its model, it is replaced by the upstream's resource."""
    raw = b'{"model": "models/mine", "contents": []}'
    call = GENERATE.read(raw, model="models/mine")
    assert call.stream is False
    sent = GENERATE.request(call, model, ask_usage=False)
    assert json.loads(sent) == {"model": name, "contents": []}


@pytest.mark.parametrize(
    ("config", "cap"),
    [
        ({"generationConfig": {"maxOutputTokens": 0}}, 0),
        ({"generationConfig": {"maxOutputTokens": -1}}, None),
        ({"generationConfig": None}, None),
        ({"generationConfig": {}, "generation_config": {"maxOutputTokens": 5}}, 5),
        ({"generationConfig": None, "generation_config": {"max_output_tokens": 6}}, 6),
        ({"generationConfig": {"maxOutputTokens": 7, "max_output_tokens": 8}}, 7),
    ],
)
def test_caps(config: dict[str, Any], cap: int | None) -> None:
    """The cap is found in either spelling, and below zero there is none."""
    raw = json.dumps({"contents": []} | config).encode()
    assert GENERATE.read(raw, model="m").max_tokens == cap


@pytest.mark.parametrize(("size", "shown"), [(38, 40), (39, 40), (200, 40)])
def test_a_long_value_is_shown_by_its_beginning(size: int, shown: int) -> None:
    """An error says what it is in at most 40 characters."""
    value = json.dumps("x" * size)
    with pytest.raises(InvalidRequest) as caught:
        GENERATE.read(b'{"contents":%b}' % value.encode(), model="m")
    wanted = value if len(value) <= shown else value[: shown - 3] + "..."
    assert f"is {wanted}: it must" in caught.value.message


def test_counts_have_their_own_requests() -> None:
    """Only a count may wrap its request, and what is wrapped must be an object."""
    wrapped = b'{"generateContentRequest": {"contents": []}}'
    call = COUNT.read(wrapped, "r", model="m", stream=True)
    assert (call.stream, call.request_id, call.dialect) == (False, "r", "gemini.count_tokens")
    assert COUNT.request(call, "n", ask_usage=False) == wrapped
    with pytest.raises(InvalidRequest) as caught:
        GENERATE.read(wrapped, model="m")
    assert caught.value.param == "contents"
    bad = COUNT.read(b'{"generateContentRequest": 4}', model="m")
    with pytest.raises(InvalidRequest) as caught:
        COUNT.request(bad, "n", ask_usage=False)
    assert caught.value.param == "generateContentRequest"


def test_an_answer_without_counts_is_estimated() -> None:
    """Input and output are counted by their bytes where Google tells nothing."""
    call, usage = GENERATE.read(ASKED, model="gemini-2.5-flash"), Usage()
    raw = json.dumps(SAID).encode()
    assert GENERATE.whole(call, raw, usage) == raw
    size = len(json.dumps(SAID["candidates"]))
    assert usage == Usage(-(-len(ASKED) // 3), -(-size // 3))
    nameless = b'{"candidates":[{}],"error":null}'
    assert GENERATE.whole(call, nameless, Usage()) == nameless
    with pytest.raises(UpstreamProtocolError):
        COUNT.whole(call, b'{"promptFeedback":{}}', Usage())


def test_candidates_that_end_apart() -> None:
    """Each candidate needs its own end, by its index or else by its place."""
    two = {"candidates": [{"content": {"parts": [{"text": one}]}} for one in "ab"]}
    ends = {"candidates": [{"finishReason": "STOP"}, {"finishReason": "MAX_TOKENS"}]}
    half = {"candidates": [{"finishReason": "STOP"}, {"finishReason": ""}]}
    unsaid = {
        "candidates": [{"finishReason": "STOP"}, {"finishReason": "FINISH_REASON_UNSPECIFIED"}]
    }
    assert tapped(sse(two, ends))[1].failure is None
    for lacking in (half, unsaid):
        assert isinstance(tapped(sse(two, lacking))[1].failure, UpstreamDisconnected)
    assert tapped(sse({"candidates": [{"finishReason": "STOP"}]}))[1].has_content
    assert not tapped(sse({"candidates": [{"finishReason": ""}]}))[1].has_content


@pytest.mark.parametrize(("count", "failure"), [(1024, None), (1025, UpstreamProtocolError)])
def test_candidates_without_end(count: int, failure: type[Exception] | None) -> None:
    """No stream may hold more candidates than anybody asked for."""
    many = {"candidates": [{"finishReason": "STOP", "index": at} for at in range(count)]}
    got = tapped(sse(many))[1].failure
    assert got is None if failure is None else isinstance(got, failure)
