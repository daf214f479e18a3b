"""Gemini's own wire format on its way: what is read, what is renamed, what counts as whole."""

from __future__ import annotations

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
