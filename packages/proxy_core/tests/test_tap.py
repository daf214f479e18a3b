from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core import Usage
from proxy_core.dialects import StreamTap, estimate_tokens
from proxy_core.dialects._sse import MAX_EVENT
from proxy_core.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamThrottled,
)

DONE = b"data: [DONE]\n\n"
STOP: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c", **fields}).encode() + b"\n\n"


def says(**delta: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": None}])


def tap_for(model: str = "chat", *, keep_usage: bool = False) -> tuple[StreamTap, Usage]:
    usage = Usage(input_tokens=5)
    return StreamTap(model, keep_usage=keep_usage, usage=usage), usage


def failure_of(*pieces: bytes) -> UpstreamError:
    tap, _ = tap_for()
    for piece in pieces:
        tap.feed(piece)
    if tap.failure is None:
        tap.end()
    assert tap.failure is not None
    return tap.failure


def test_a_whole_stream_passes_verbatim_but_for_the_name() -> None:
    """Odd spacing, numbers, unknown fields and comments stay; ``model`` becomes the asked name."""
    pieces = [
        b": hi\n\n",
        b'data: {"model": "up/x" ,"n":1E400, "choices":[{"delta":{"content":"H\\u00e9"}}]}\n\n',
        b'event: message\r\nid: 7\r\ndata:{"choices":[],"model":"up/x","new":{"a":-0.0}}\r\n\r\n',
        event(choices=[STOP]),
        DONE,
    ]
    tap, _ = tap_for('my "é" model')
    passed = b"".join(tap.feed(piece) for piece in pieces)
    name = json.dumps('my "é" model', ensure_ascii=False).encode()
    assert passed == b"".join(pieces).replace(b'"up/x"', name)
    assert tap.done and tap.failure is None


def test_a_name_that_fits_is_not_touched() -> None:
    """Events that already carry the asked name, or none, are the upstream's own bytes."""
    raw = b'data: {"model":"chat","choices":[]}\n\n'
    tap, _ = tap_for("chat")
    assert tap.feed(raw) == raw
    assert tap.feed(b'data: { "choices" : [] }\n\n') == b'data: { "choices" : [] }\n\n'


def test_data_over_several_lines_is_renamed_in_place() -> None:
    """The lines stay lines, with their endings and spacing."""
    raw = b'data: {"choices":[],\r\ndata:"model":"x",\r\ndata: "a":1}\r\n\r\n'
    assert tap_for()[0].feed(raw) == raw.replace(b'"x"', b'"chat"')


@pytest.mark.parametrize("keep", [True, False])
def test_the_usage_event_passes_when_it_was_asked_for(keep: bool) -> None:
    """An event of usage alone goes only to clients that asked; both settle by it."""
    tap, usage = tap_for(keep_usage=keep)
    last = event(choices=[], usage=USAGE)
    tap.feed(says(content="x") + event(choices=[STOP]))
    assert tap.feed(last) == (last if keep else b"")
    assert usage == Usage(9, 4, reported=True)


def test_usage_beside_a_choice_is_not_stripped() -> None:
    """Some upstreams report with the last choice: that event is the client's too."""
    tap, usage = tap_for()
    last = event(choices=[STOP], usage=USAGE)
    assert tap.feed(last) == last
    assert usage.reported and usage.output_tokens == 4


def test_an_empty_choices_event_without_usage_passes() -> None:
    """Azure's filter results come with no choices and no usage; they are no usage event."""
    first = event(choices=[], prompt_filter_results=[], usage=None)
    assert tap_for()[0].feed(first) == first


def test_the_last_usage_counts() -> None:
    """Cumulative reports are not summed, and a broken one does not undo a good one."""
    tap, usage = tap_for()
    for told in ({**USAGE, "completion_tokens": 1}, USAGE, {"prompt_tokens": -1}):
        tap.feed(event(choices=[], usage=told))
    assert usage == Usage(9, 4, reported=True)


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        [],
        "many",
        {"prompt_tokens": -1, "completion_tokens": 4},
        {"prompt_tokens": 9, "completion_tokens": -4},
        {"prompt_tokens": 9.5, "completion_tokens": 4},
        {"prompt_tokens": "9", "completion_tokens": 4},
        {"prompt_tokens": 9, "completion_tokens": 10**12},
        {"prompt_tokens": 10**40, "completion_tokens": 4},
        {"prompt_tokens": 9},
        {"completion_tokens": 4},
        {"prompt_tokens": 9, "total_tokens": 3},
        {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 99},
        },
        {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": 7},
        {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": -1},
        },
        {**USAGE, "completion_tokens_details": {"reasoning_tokens": -1}},
    ],
)
def test_hostile_usage_is_estimated_instead(told: Any) -> None:
    """What can't be true is not believed: an upper estimate of what was said, and marked so."""
    tap, usage = tap_for()
    text = "x" * 300
    tap.feed(says(content=text) + event(choices=[STOP], usage=told) + DONE)
    assert not usage.reported
    assert usage.input_tokens == 5
    assert usage.output_tokens == estimate_tokens(len(text) + 2)


def test_details_of_usage_are_kept() -> None:
    """Cached and reasoning tokens are read where they are told."""
    tap, usage = tap_for()
    details: dict[str, Any] = {
        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    tap.feed(event(choices=[], usage={**USAGE, **details}))
    assert usage == Usage(9, 4, 3, 2, reported=True)


def test_a_broken_report_beside_content_still_counts_the_content() -> None:
    """The estimate follows what was said also when each event has a report that can't be read."""
    tap, usage = tap_for()
    tap.feed(event(choices=[{"delta": {"content": "x" * 28}}], usage={"prompt_tokens": -1}))
    assert usage.output_tokens == 10


CONTENT: list[dict[str, Any]] = [
    {"content": "H"},
    {"content": " "},
    {"content": [{"type": "text", "text": "H"}]},
    {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]},
    {"function_call": {"name": "f"}},
    {"reasoning_content": "hm"},
    {"reasoning": "hm"},
    {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
    {"refusal": "no"},
    {"audio": {"data": "AA"}},
]
NO_CONTENT: list[dict[str, Any]] = [
    {},
    {"role": "assistant"},
    {"role": "assistant", "content": "", "refusal": None},
    {"content": None, "tool_calls": []},
    {"function_call": {}},
]


@pytest.mark.parametrize("delta", CONTENT)
def test_this_is_content(delta: dict[str, Any]) -> None:
    """Text, tool calls, reasoning, refusals and audio commit the answer."""
    tap, usage = tap_for()
    tap.feed(says(**delta))
    assert tap.has_content
    assert usage.output_tokens > 0


@pytest.mark.parametrize("delta", NO_CONTENT)
def test_this_is_no_content_yet(delta: dict[str, Any]) -> None:
    """A role, empty text and nulls commit nothing: another deployment may still be asked."""
    tap, _ = tap_for()
    tap.feed(says(**delta) + event(choices=[]) + b": note\n\n" + event(choices=None))
    assert not tap.has_content


def test_a_finish_reason_is_content_and_legacy_text_too() -> None:
    """An empty answer that ends properly is an answer; completions carry ``text``."""
    for raw in (event(choices=[STOP]), event(choices=[{"text": "H", "finish_reason": None}])):
        tap, _ = tap_for()
        tap.feed(raw)
        assert tap.has_content


def test_an_empty_finish_reason_finishes_nothing() -> None:
    """Some upstreams write ``""`` on every chunk where others write null."""
    still = event(choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": ""}])
    tap, _ = tap_for()
    tap.feed(still)
    assert not tap.has_content
    assert isinstance(failure_of(still, says(content="x"), still), UpstreamDisconnected)


@pytest.mark.parametrize(
    ("raw", "kind", "message"),
    [
        (
            event(error={"message": "full", "code": "rate_limit_exceeded"}),
            UpstreamThrottled,
            "full",
        ),
        (event(error={"message": "full", "code": 429}), UpstreamThrottled, "full"),
        (event(error="it broke"), UpstreamFailed, "it broke"),
        (event(error={"message": "no"}, choices=[STOP]), UpstreamFailed, "no"),
        (b'event: error\ndata: {"message":"flat","code":"500"}\n\n', UpstreamFailed, "flat"),
        (b'event: error\ndata: {"error":{"message":"in"}}\n\n', UpstreamFailed, "in"),
        (b'event: error\ndata: {"error":"text"}\n\n', UpstreamFailed, "text"),
        (b"event: error\ndata: not JSON\n\n", UpstreamFailed, "reported an error"),
        (b"event: error\n\n", UpstreamFailed, "reported an error"),
        (
            event(error={"message": "long", "type": "exceed_context_size_error", "code": 400}),
            UpstreamRejected,
            "long",
        ),
    ],
)
def test_errors_in_the_stream_are_failures(
    raw: bytes, kind: type[UpstreamError], message: str
) -> None:
    """Nested, as a string, flat under ``event: error``: the failure says what it said."""
    tap, _ = tap_for()
    before = says(content="x")
    assert tap.feed(before + raw + says(content="y")) == before
    assert type(tap.failure) is kind
    assert message in str(tap.failure)


def test_a_null_error_is_none() -> None:
    """Some upstreams write ``"error": null`` into every chunk."""
    raw = event(error=None, choices=[STOP])
    tap, _ = tap_for()
    assert tap.feed(raw) == raw
    assert tap.failure is None


BROKEN = {
    "no JSON": b"data: {oops}\n\n",
    "cut JSON": b'data: {"choices":[{"delta"\n\n',
    "NaN": b'data: {"choices":[],"n":NaN}\n\n',
    "an array": b"data: []\n\n",
    "a string": b'data: "hi"\n\n',
    "a number": b"data: 7\n\n",
    "null": b"data: null\n\n",
    "invalid UTF-8": b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
    "invalid UTF-8 beside the data": b': \xff\ndata: {"choices":[]}\n\n',
    "choices as an object": event(choices={"0": STOP}),
    "choices as text": event(choices="x"),
    "a null choice": event(choices=[None]),
    "a choice that is a number": event(choices=[7]),
    "a delta that is text": event(choices=[{"delta": "x"}]),
    "an index that is text": event(choices=[{"index": "0"}]),
    "a finish_reason that is a number": event(choices=[{"finish_reason": 1}]),
    "nested too deep": b'data: {"a":' + b"[" * 200 + b"]" * 200 + b"}\n\n",
    "invalid UTF-8 with the end": b": \xff\ndata: [DONE]\n\n",
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=list(BROKEN))
def test_malformed_events_are_not_forwarded(raw: bytes) -> None:
    """What SDKs would stumble over ends the stream as an error of the upstream."""
    tap, _ = tap_for()
    before = event(choices=[STOP])
    assert tap.feed(before + raw) == before
    assert type(tap.failure) is UpstreamProtocolError
    assert tap.failure.verdict == "failed"


@pytest.mark.parametrize(
    "raw",
    [
        b"data:\n\n",
        b"data: \n\n",
        b"data:  \t \n\n",
        b"data\n\n",
        b"retry: 3000\n\n",
        b"id: 5\n\n",
        b"event: ping\n\n",
        b": \xff\n\n",
    ],
)
def test_events_without_data_are_left_out(raw: bytes) -> None:
    """SDKs would read JSON where there is none; the stream goes on."""
    tap, _ = tap_for()
    after = event(choices=[STOP]) + DONE
    assert tap.feed(raw + after) == after
    assert tap.failure is None


def test_comments_pass() -> None:
    """Keepalives of the upstream keep the client's connection too, in any alphabet."""
    raw = b": OPENROUTER PROCESSING\n\n:\r\n\r\n: \xc3\xa9\n\n"
    assert tap_for()[0].feed(raw) == raw


def test_a_byte_order_mark_is_taken_off() -> None:
    """SDKs would lose the first event with it."""
    first = says(content="x")
    tap, _ = tap_for()
    assert tap.feed(b"\xef\xbb\xbf" + first) == first
    assert tap.has_content


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (DONE,),
        (says(content="x"),),
        (says(content="x"), DONE),
        (event(choices=[]), DONE),
        (event(choices=[STOP, {"index": 1, "delta": {"content": "x"}}]), DONE),
        (event(choices=[STOP, {"index": 1, "delta": {"content": "x"}}]),),
    ],
)
def test_an_end_without_each_finish_is_a_break(pieces: tuple[bytes, ...]) -> None:
    """A clean end or ``[DONE]`` is no success while a choice is unfinished."""
    failure = failure_of(*pieces)
    assert type(failure) is UpstreamDisconnected
    assert "finish_reason" in str(failure)


def test_a_broken_end_does_not_pass_as_done() -> None:
    """The client never sees ``[DONE]`` after an answer that was cut."""
    tap, _ = tap_for()
    before = says(content="x")
    assert tap.feed(before + DONE) == before


def test_each_choice_must_finish() -> None:
    """With several choices the last of them makes the stream whole."""
    tap, _ = tap_for()
    for index in (2, 0, 1):
        tap.feed(event(choices=[{"index": index, "delta": {"content": "x"}}]))
    for index in (0, 1, 2):
        tap.feed(event(choices=[{"index": index, "finish_reason": "stop"}]))
    assert tap.feed(DONE) == DONE
    assert tap.failure is None


def test_an_end_without_done_is_whole_after_a_finish() -> None:
    """Not every upstream says ``[DONE]``."""
    tap, _ = tap_for()
    tap.feed(says(content="x") + event(choices=[STOP]))
    assert tap.end() == b""
    assert tap.failure is None


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"\r"])
def test_the_last_event_may_lack_its_blank_line(ending: bytes) -> None:
    """SDKs would lose it, so it gets one."""
    last = event(choices=[STOP]).rstrip(b"\n")
    tap, _ = tap_for()
    assert tap.feed(says(content="x") + last + ending) == says(content="x")
    assert tap.end() == last + b"\n\n"
    assert tap.failure is None


def test_carriage_returns_alone_end_with_the_stream() -> None:
    """The last event could be half of a line ending, so it waits for the end."""
    stop, done = (raw.replace(b"\n", b"\r") for raw in (event(choices=[STOP]), DONE))
    tap, _ = tap_for()
    assert tap.feed(stop + done) == stop
    assert tap.end() == done
    assert tap.done and tap.failure is None


def test_half_an_event_at_the_end_is_a_break() -> None:
    """Cut JSON is not forwarded, and not forgotten."""
    assert type(failure_of(event(choices=[STOP]), b'data: {"choi')) is UpstreamProtocolError


def test_nothing_passes_after_done() -> None:
    """What an upstream says after ``[DONE]`` is dropped."""
    tap, _ = tap_for()
    assert tap.feed(event(choices=[STOP]) + b"data: [DONE] \n\n" + says(content="x")).endswith(
        b"data: [DONE] \n\n"
    )
    assert tap.feed(says(content="y")) == b""


def test_an_event_without_an_end_is_cut() -> None:
    """More than 8 MB without a blank line is an error of the upstream."""
    tap, _ = tap_for()
    assert tap.feed(b"data: " + b"x" * MAX_EVENT) == b""
    assert type(tap.failure) is UpstreamProtocolError


PIECES = st.lists(
    st.sampled_from(
        [
            says(content="é"),
            event(choices=[STOP], model="x"),
            event(choices=[], usage=USAGE),
            b'event: error\r\ndata: {"message":"m"}\r\n\r\n',
            *BROKEN.values(),
            b": c\n\n",
            b"data: \xf0\x9f\n\n",
            b"\xff",
            b"\r",
            DONE,
        ]
    ),
    max_size=6,
)


@given(pieces=PIECES, noise=st.binary(max_size=6), data=st.data())
def test_whatever_comes_the_client_gets_whole_valid_events(
    pieces: list[bytes], noise: bytes, data: st.DataObject
) -> None:
    """Any bytes in any chunks: valid UTF-8 in whole events, the same for each chunking."""
    raw = b"".join(pieces) + noise
    at = data.draw(st.integers(0, len(raw)))
    outcomes = []
    for chunks in ((raw,), (raw[:at], raw[at:])):
        tap, usage = tap_for()
        out = b"".join(tap.feed(chunk) for chunk in chunks if tap.failure is None)
        if tap.failure is None and not tap.done:
            out += tap.end()
        outcomes.append((out, str(tap.failure), tap.has_content, usage))
        out.decode()
        assert not out or out.endswith((b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b"\r\n\r"))
        assert tap.failure is not None or b'"stop"' in out
    assert outcomes[0] == outcomes[1]


def test_text_after_an_early_report_is_counted() -> None:
    """A report can't count what comes after it: the estimate stands until the next report."""
    tap, usage = tap_for()
    tap.feed(event(choices=[], usage=USAGE) + says(content="x" * 3000))
    assert not usage.reported
    assert usage.output_tokens >= 1000
    assert usage.input_tokens == 9
    tap.feed(event(choices=[STOP]) + event(choices=[], usage={**USAGE, "completion_tokens": 700}))
    assert usage == Usage(9, 700, reported=True)


def test_an_early_report_is_not_undone_by_less_or_by_an_end() -> None:
    """What was reported was generated, and an event without text adds nothing to it."""
    tap, usage = tap_for()
    tap.feed(event(choices=[], usage=USAGE) + event(choices=[STOP]))
    assert usage == Usage(9, 4, reported=True)
    tap.feed(says(content="x"))
    assert (usage.output_tokens, usage.reported) == (4, False)


def test_an_event_that_is_too_slow_to_rename_is_broken() -> None:
    """A large value under a key that comes twice is a failure, not an exception of another kind."""
    large = b"[" + b"[]," * 100_000 + b"1]"
    raw = b'data: {"x":%s,"x":1,"model":"up","choices":[]}\n\n' % large
    failure = failure_of(raw)
    assert type(failure) is UpstreamProtocolError
    assert "too large to skip" in failure.message
