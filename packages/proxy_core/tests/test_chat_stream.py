"""Chat completions in translation: answers as streams, ours and those of odd upstreams."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy_core import Usage, errors
from proxy_core.dialects import EventSplitter
from proxy_core.dialects._canonical import (
    Answer,
    Begun,
    Broken,
    Choice,
    Citation,
    Conversation,
    Counted,
    Event,
    Finished,
    Media,
    Opened,
    Part,
    Piece,
    Reasoning,
    Refusal,
    Signature,
    Source,
    Text,
    ToolCall,
)
from proxy_core.dialects._chat import CHAT_CODEC
from proxy_core.dialects._codec import Frame, Told
from proxy_core.dialects._fold import events_of, folded

FEW = settings(max_examples=20, deadline=None)
TOLD = Told("asked", Conversation(model="asked", turns=(), stream=True, include_usage=True), "r", 9)

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
signatures = st.none() | st.builds(
    Signature,
    origin=st.sampled_from(["openai.chat", "anthropic.messages", "gemini.generate"]),
    value=names,
)
thoughts = st.builds(
    Reasoning,
    text=words,
    signature=signatures,
    summary=st.booleans(),
    id=st.none() | names,
)
hidden = st.builds(Reasoning, redacted=st.just(True), signature=signatures.filter(bool))
citations = st.builds(
    Citation,
    kind=st.just("url"),
    url=st.just("https://x.example"),
    title=st.none() | names,
    quote=st.none() | names,
    start=st.just(0),
    end=st.just(1),
)
texts = st.builds(
    Text,
    text=words,
    citations=st.lists(citations, max_size=2).map(tuple),
    signature=signatures,
)
logprobs = st.sampled_from(
    [
        None,
        {
            "content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}],
            "refusal": None,
        },
    ]
)
pictures = st.builds(
    Media,
    kind=st.just("image"),
    source=st.just(Source(kind="base64", data="aGk=", media_type="image/png")),
    signature=signatures,
)
SOUND = Media(kind="audio", source=Source(kind="base64", data="aGk="), id="au_1", transcript="hi")


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    """Whatever a message can carry, in the order in which it carries it."""
    said = draw(st.lists(texts, max_size=1))
    calls = [
        ToolCall(
            id=f"call_{n}",
            name=draw(names),
            arguments="text" if custom else '{"a":1}',
            custom=custom,
            signature=draw(signatures),
        )
        for n, custom in enumerate(draw(st.lists(st.booleans(), max_size=2)))
    ]
    refusals = draw(st.lists(st.builds(Refusal, text=words), max_size=1))
    shown = draw(st.lists(pictures, max_size=2) | st.just([SOUND] if not calls else []))
    ends = ["length", "content_filter", "tool_calls" if calls else "end"]
    return Choice(
        parts=(*draw(st.lists(thoughts | hidden, max_size=2)), *said, *refusals, *shown, *calls),
        stop=draw(st.sampled_from(ends)),
        logprobs=draw(logprobs) if said else None,
    )


counts = st.integers(0, 9)
usages = st.builds(
    Usage,
    input_tokens=st.integers(9, 99),
    output_tokens=st.integers(9, 99),
    cached_tokens=counts,
    reasoning_tokens=counts,
    cache_write_tokens=counts,
    audio_input_tokens=counts,
    audio_output_tokens=counts,
    image_input_tokens=counts,
    image_output_tokens=counts,
    reported=st.just(True),
)
answers = st.builds(
    Answer,
    id=names,
    model=st.just("asked"),
    choices=st.lists(choices(), min_size=1, max_size=3).map(tuple),
    usage=usages,
    created=st.integers(1, 2_000_000_000),
    service_tier=st.sampled_from([None, "flex"]),
)


def streamed(events: Iterable[Event], told: Told = TOLD) -> bytes:
    writer = CHAT_CODEC.stream_writer(told)
    return b"".join(writer.write(event) for event in events) + writer.end()


def events_in(stream: bytes, cuts: Iterable[int] = ()) -> list[Event]:
    """Read a stream that arrives in pieces."""
    places = sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)})
    splitter, reader = EventSplitter(), CHAT_CODEC.stream_reader()
    events: list[Event] = []
    for start, end in pairwise(places):
        for event in splitter.feed(stream[start:end]):
            if event.data is not None:
                events += reader.read(Frame(event.data, event.name.decode()))
    return events + reader.end()


def chunks_in(stream: bytes) -> list[dict[str, Any]]:
    told = [event.data for event in EventSplitter().feed(stream) if event.data]
    assert told[-1] == b"[DONE]"
    return [json.loads(data) for data in told[:-1]]


def upstream(*chunks: Any, done: bool = True) -> bytes:
    told = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return "".join(f"data: {data}\n\n" for data in [*told, *(["[DONE]"] if done else [])]).encode()


def delta(finish: Any = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return {"id": "up", "model": "m", "created": 5, "choices": [choice]}


def call(**fields: Any) -> dict[str, Any]:
    said = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return fields | {"function": said}


def parts_of(*chunks: Any) -> tuple[Part, ...]:
    return folded(events_in(upstream(*chunks))).choices[0].parts


@FEW
@given(answers)
def test_an_answer_comes_back_as_it_was(answer: Answer) -> None:
    """Written for a client and read as an upstream's, an answer is the same, and the SDK's strict
    type takes it."""
    body = CHAT_CODEC.write_answer(answer, TOLD)
    ChatCompletion.model_validate(body, strict=True)
    assert CHAT_CODEC.read_answer(json.loads(json.dumps(body))) == answer


@FEW
@given(answers, st.lists(st.integers(0, 10**6), max_size=9))
def test_a_stream_amounts_to_the_whole_answer(answer: Answer, cuts: list[int]) -> None:
    """Written as a stream and read back in pieces cut anywhere, an answer is the same."""
    assert folded(events_in(streamed(events_of(answer)), cuts)) == answer


@FEW
@given(answers)
def test_our_streams_keep_the_rules(answer: Answer) -> None:
    """One id, time and model; the role once; one end for each choice; usage null but in the last
    chunk; calls named once: and each chunk is what the SDK's strict type says."""
    chunks = chunks_in(streamed(events_of(answer)))
    assert {(one["id"], one["created"], one["model"]) for one in chunks} == {
        (answer.id, answer.created, "asked")
    }
    *inner, last = chunks
    assert last["choices"] == [] and last["usage"]["prompt_tokens"] == answer.usage.input_tokens
    assert all(one["usage"] is None for one in inner)
    for index, choice in enumerate(answer.choices):
        mine = [one["choices"][0] for one in inner if one["choices"][0]["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert not any("role" in one["delta"] for one in mine[1:])
        assert [one["finish_reason"] for one in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1]["finish_reason"] and mine[-1]["delta"] == {}
        calls = [said for one in mine for said in one["delta"].get("tool_calls", [])]
        made = [part.id for part in choice.parts if isinstance(part, ToolCall)]
        assert [said["id"] for said in calls if "id" in said] == made
    for one in chunks:
        if not any("custom" in str(choice["delta"]) for choice in one["choices"]):
            ChatCompletionChunk.model_validate(one, strict=True)


def bare(value: Any) -> Any:
    """Leave out what stands in streams alone, and the SDK's own field."""
    if isinstance(value, dict):
        own = ("index", "parsed_arguments")
        return {name: bare(inner) for name, inner in value.items() if name not in own}
    return [bare(inner) for inner in value] if isinstance(value, list) else value


@settings(max_examples=10, deadline=None)
@given(answers.filter(lambda answer: not any("custom=True" in str(c) for c in answer.choices)))
def test_the_sdk_gathers_the_same_message(answer: Answer) -> None:
    """What the official client gathers from our stream is the message of the whole answer, the
    fields of others than OpenAI included."""
    state = ChatCompletionStreamState()
    for chunk in chunks_in(streamed(events_of(answer))):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    gathered = state.current_completion_snapshot.model_dump()
    whole = ChatCompletion.model_validate(CHAT_CODEC.write_answer(answer, TOLD)).model_dump()
    for mine, theirs in zip(whole["choices"], gathered["choices"], strict=True):
        assert mine["finish_reason"] == theirs["finish_reason"]
        told = {name: value for name, value in mine["message"].items() if value}
        assert bare({name: theirs["message"][name] for name in told}) == bare(told)
    assert gathered["usage"] == whole["usage"]


def test_the_official_client_reads_our_bytes() -> None:
    """The official client's own helper, fed with our bytes, ends with text, call and usage."""
    parts = (Reasoning(text="hm"), Text(text="hi"), ToolCall(id="c", name="f", arguments='{"a":1}'))
    choice = Choice(parts=parts, stop="tool_calls")
    answer = Answer(
        id="a", model="m", choices=(choice,), usage=Usage(3, 2, reported=True), created=5
    )
    answered = httpx2.Response(
        200,
        content=streamed(events_of(answer)),
        headers={"content-type": "text/event-stream"},
    )
    transport = httpx2.MockTransport(lambda request: answered)
    client = openai.OpenAI(
        api_key="k",
        base_url="http://proxy.test",
        http_client=httpx2.Client(transport=transport),
    )
    with client, client.chat.completions.stream(model="asked", messages=[]) as stream:
        final = stream.get_final_completion()
    message = final.choices[0].message
    assert message.content == "hi" and final.usage and final.usage.total_tokens == 5
    assert message.tool_calls and message.tool_calls[0].function.arguments == '{"a":1}'
    assert final.choices[0].finish_reason == "tool_calls"


def test_usage_is_told_to_those_alone_who_asked() -> None:
    """Without ``include_usage`` no chunk has a usage."""
    answer = Answer(id="a", model="m", choices=(Choice(parts=(), stop="end"),), usage=Usage(1, 1))
    told = TOLD._replace(conversation=Conversation(model="asked", turns=(), stream=True))
    assert not any("usage" in one for one in chunks_in(streamed(events_of(answer), told)))


def test_a_call_without_arguments_has_an_empty_object() -> None:
    """A call that never said its arguments ends with ``{}``, which every client can read."""
    closed = events_in(upstream(delta(tool_calls=[call(index=0, id="c", name="f")]), delta("stop")))
    assert folded(closed).choices[0] == Choice(
        parts=(ToolCall(id="c", name="f", arguments="{}"),), stop="tool_calls"
    )
    assert '{"arguments":"{}"}' in streamed(closed).decode()


CALLS = (
    ToolCall(id="a", name="f", arguments='{"x":1}'),
    ToolCall(id="b", name="g", arguments='{"y":2}'),
)
F, G = '{"x":1}', '{"y":2}'


@pytest.mark.parametrize(
    "told",
    [
        [
            [call(index=0, id="a", name="f", arguments=F), call(index=1, id="b", name="g")],
            [call(index=1, arguments=G)],
        ],
        [[call(id="a", name="f", arguments=F), call(id="b", name="g", arguments=G)]],
        [
            [call(index=1, id="a", name="f", arguments=F)],
            [call(index=2, id="b", name="g")],
            [call(index=2, arguments=G)],
        ],
        [
            [call(index=0, id="a", name="f", arguments="")],
            [call(index=0, id="a", name="f", arguments=F)],
            [call(index=1, id="b", name="g", arguments=G)],
        ],
        [
            [call(index=0, id="a", name="f", arguments=None)],
            [call(index=1, id="b", name="g")],
            [call(index=1, arguments=G[:3])],
            [call(index=0, arguments=F)],
            [call(index=1, arguments=G[3:])],
        ],
        [
            [call(index=0, id="a", name="f", arguments={"x": 1})],
            [call(index=0, id="b", name="g", arguments={"y": 2})],
        ],
        [[call(id="a", name="f")], [call(arguments=F)], [call(id="b", name="g", arguments=G)]],
        [
            [{"index": 0, "id": "a"}],
            [call(index=0, arguments=F)],
            [call(index=0, name="f")],
            [call(index=1, id="b", name="g", arguments=G)],
        ],
    ],
)
def test_calls_are_told_apart(told: list[list[dict[str, Any]]]) -> None:
    """However a server numbers, repeats, splits or interleaves its calls, they are the same two."""
    chunks = [delta(role="assistant", tool_calls=calls) for calls in told]
    assert parts_of(*chunks, delta("tool_calls")) == CALLS


def test_calls_without_ids_get_their_own() -> None:
    """Calls that came without ids have different ones, and the deprecated form is a call too."""
    calls = [call(index=n, name="f", arguments="{}") for n in range(2)]
    made = parts_of(delta(tool_calls=calls), delta("stop"))
    assert len({part.id for part in made if isinstance(part, ToolCall)}) == 2
    (old,) = parts_of(
        delta(function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": F}),
        delta("function_call"),
    )
    assert isinstance(old, ToolCall) and (old.name, old.arguments) == ("f", F)


def test_parts_follow_each_other() -> None:
    """Thinking, text and calls take turns; a text after a call is another part, and empty texts
    beside thinking are none."""
    parts = parts_of(
        delta(role="assistant", content="", reasoning_content="h"),
        delta(role="assistant", content="", reasoning="m"),
        delta(content="a"),
        delta(content="b"),
        delta(tool_calls=[call(index=0, id="a", name="f", arguments=F)]),
        delta(content="c"),
        delta("stop"),
    )
    assert parts == (Reasoning(text="hm"), Text(text="ab"), CALLS[0], Text(text="c"))


def test_details_are_not_counted_twice() -> None:
    """The words of ``reasoning_details`` are those of the plain field beside them; a signature
    that comes last belongs to its thinking."""
    detail = {"type": "reasoning.text", "index": 0}
    parts = parts_of(
        delta(reasoning="h", reasoning_details=[detail | {"text": "h"}]),
        delta(reasoning="m", reasoning_details=[detail | {"text": "m"}]),
        delta(reasoning_details=[detail | {"signature": "s"}]),
        delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "d", "index": 0}]),
        delta(content="x"),
        delta("stop"),
    )
    own = [Signature(origin="openai.chat", value=value) for value in "sd"]
    assert parts == (
        Reasoning(text="hm", signature=own[0]),
        Reasoning(redacted=True, signature=own[1]),
        Text(text="x"),
    )


def test_details_of_two_kinds_are_two() -> None:
    """A summary and the thinking itself may bear the same number."""
    parts = parts_of(
        delta(reasoning_details=[{"type": "reasoning.summary", "index": 0, "summary": "so"}]),
        delta(reasoning_details=[{"type": "reasoning.text", "index": 0, "text": "because"}]),
        delta("stop", content="x"),
    )
    assert parts == (
        Reasoning(text="so", summary=True),
        Reasoning(text="because"),
        Text(text="x"),
    )


@pytest.mark.parametrize(
    ("chunks", "stop"),
    [
        ([delta("stop", content="x")], "end"),
        ([delta("end_turn", content="x")], "end"),
        ([delta("max_tokens", content="x")], "length"),
        ([delta("SAFETY", content="x")], "content_filter"),
        ([delta("stop", tool_calls=[call(id="a", name="f")])], "tool_calls"),
        (
            [
                delta("tool_calls", tool_calls=[call(id="a", name="f")]),
                delta("stop", tool_calls=[call(id="b", name="g")]),
            ],
            "tool_calls",
        ),
    ],
)
@pytest.mark.parametrize("done", [True, False])
def test_ends_are_understood(chunks: list[Any], stop: str, done: bool) -> None:
    """Whatever word a server has for the end, each choice ends once, with ``[DONE]`` or without."""
    azure = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
    events = events_in(upstream(azure, *chunks, done=done))
    ends = [event for event in events if isinstance(event, Finished)]
    assert [end.stop for end in ends] == [stop]
    assert [event for event in events if isinstance(event, Begun)] == [
        Begun(id="up", model="m", created=5)
    ]


@pytest.mark.parametrize(
    "chunks",
    [
        [delta("stop", content="x") | {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}],
        [
            delta("stop", content="x"),
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
        ],
        [
            delta(content="x") | {"usage": {"prompt_tokens": 3, "completion_tokens": 0}},
            delta("stop") | {"usage": {"prompt_tokens": 3, "completion_tokens": 1}},
        ],
    ],
)
def test_usage_comes_last(chunks: list[Any]) -> None:
    """Wherever a server tells its usage, the last event has it."""
    events = events_in(upstream(*chunks))
    assert events[-1] == Counted(Usage(3, 1, reported=True))


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("chunks", [[], [delta(content="x")], [delta("stop"), delta(index=1)]])
def test_a_stream_without_an_end_is_broken(chunks: list[Any], done: bool) -> None:
    """A stream is not whole while one of its choices has no end."""
    with pytest.raises(errors.UpstreamDisconnected):
        events_in(upstream(*chunks, done=done))


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (upstream({"error": {"message": "no", "code": "rate_limit_exceeded"}}), "Throttled"),
        (upstream({"error": "no"}), "Failed"),
        (upstream({"object": "error", "message": "no", "code": 400}), "Rejected"),
        (b'event: error\ndata: {"message": "no", "type": "overloaded_error"}\n\n', "Failed"),
        (upstream({"choices": [{"error": {"message": "no", "code": 429}}]}), "Throttled"),
        (upstream(delta(content="x"), delta("error")), "Failed"),
    ],
)
def test_an_error_in_a_stream_breaks_it(stream: bytes, kind: str) -> None:
    """An error among the events is the last one, and is what it would have been as an answer."""
    *_, last = events_in(stream)
    assert isinstance(last, Broken) and type(last.error).__name__ == f"Upstream{kind}"


@pytest.mark.parametrize("data", ["{", "[]", "5", '"x"'])
def test_what_is_no_chunk_is_refused(data: str) -> None:
    """An event that is no object is a fault of the upstream."""
    with pytest.raises(errors.UpstreamProtocolError):
        events_in(upstream(data))


def test_a_call_without_a_name_is_refused() -> None:
    """Nobody can run a call that has no name."""
    with pytest.raises(errors.UpstreamProtocolError):
        events_in(upstream(delta(tool_calls=[call(index=0, id="a", arguments=F)]), delta("stop")))


def test_a_sound_in_pieces_is_one() -> None:
    """The pieces of a spoken answer, each base64 by itself, are one sound."""
    said = [base64.b64encode(piece).decode() for piece in (b"a", b"bc")]
    (sound,) = parts_of(
        delta(audio={"id": "au", "transcript": "hel"}),
        delta(audio={"data": said[0], "transcript": "lo"}),
        delta(audio={"data": said[1]}),
        delta("stop", audio={"expires_at": 5}),
    )
    assert isinstance(sound, Media) and (sound.id, sound.transcript) == ("au", "hello")
    assert base64.b64decode(sound.source.data) == b"abc"


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
FIELDS = ("content", "reasoning", "reasoning_details", "tool_calls", "audio", "images", "refusal")
deltas = st.fixed_dictionaries({}, optional=dict.fromkeys((*FIELDS, "annotations"), junk))
odd = st.fixed_dictionaries(
    {},
    optional={
        "id": junk,
        "model": junk,
        "created": junk,
        "usage": junk,
        "choices": junk
        | st.lists(
            st.fixed_dictionaries(
                {}, optional={"index": junk, "delta": deltas, "finish_reason": junk}
            ),
            max_size=2,
        ),
    },
)


@settings(max_examples=30, deadline=None)
@given(st.lists(odd, max_size=3))
def test_no_chunk_surprises_the_reader(chunks: list[Any]) -> None:
    """With any value in any place a stream is read or is an upstream's error, and nothing else."""
    try:
        events = events_in(upstream(*chunks))
    except errors.UpstreamError:
        return
    seen: dict[tuple[int, int], str] = {}
    for event in events:
        if isinstance(event, Opened | Piece):
            assert ((event.choice, event.index) in seen) is isinstance(event, Piece)
            seen[event.choice, event.index] = "open"
