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
    Closed,
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
from proxy_core.dialects._codec import Frame, Losses, Told
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


def claudes(value: str, **more: Any) -> Reasoning:
    return Reasoning(signature=Signature(origin="anthropic.messages", value=value), **more)


FIRST, SECOND = claudes("s1", text="First I look."), claudes("s2", text="Then I act.")
HIDDEN = claudes("s3", redacted=True)
HI, USE = Text(text="Hi."), ToolCall(id="call_1", name="f", arguments="{}")
INTERLEAVED: tuple[tuple[Part, ...], ...] = (
    (FIRST, SECOND, HI, USE),
    (FIRST, HI, SECOND, USE),
    (FIRST, USE, SECOND, ToolCall(id="call_2", name="g", arguments="{}")),
    (HI, FIRST, HIDDEN, USE),
    (HIDDEN, HI, FIRST, SECOND, USE, HIDDEN),
    (HI, Reasoning(text="Nobody signs."), USE),
    (HI, FIRST, SECOND),
)


def in_letters(parts: tuple[Part, ...]) -> Iterable[Event]:
    answer = Answer(id="a", model="m", choices=(Choice(parts=parts, stop="end"),), usage=Usage())
    for event in events_of(answer):
        if isinstance(event, Piece) and len(event.text) > 2:
            yield from (Piece(index=event.index, text=letter) for letter in event.text)
        else:
            yield event


def sent_back(message: Any) -> tuple[Part, ...]:
    """The parts of a message that a client puts into its history as it got it."""
    echo = json.loads(json.dumps(message))
    told = CHAT_CODEC.read_request({"model": "m", "messages": [echo]}, Losses())
    return told.turns[0].parts


@pytest.mark.parametrize("parts", INTERLEAVED)
def test_thinking_comes_back_where_it_stood(parts: tuple[Part, ...]) -> None:
    """Anthropic refuses blocks in another order: the SDK's message holds it, whole and gathered."""
    answer = Answer(id="a", model="m", choices=(Choice(parts=parts, stop="end"),), usage=Usage())
    whole = ChatCompletion.model_validate(CHAT_CODEC.write_answer(answer, TOLD))
    assert sent_back(whole.choices[0].message.model_dump(exclude_none=True)) == parts
    state = ChatCompletionStreamState()
    for chunk in chunks_in(streamed(in_letters(parts))):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    gathered = state.current_completion_snapshot.choices[0].message
    assert sent_back(gathered.model_dump(exclude_none=True)) == parts


@pytest.mark.parametrize("parts", INTERLEAVED)
def test_details_that_a_client_did_not_join_are_joined(parts: tuple[Part, ...]) -> None:
    """Who keeps the pieces of ``reasoning_details`` as they came brings the same thinking back."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_details": []}
    for chunk in chunks_in(streamed(in_letters(parts))):
        for choice in chunk["choices"]:
            message["content"] += choice["delta"].get("content") or ""
            message["reasoning_details"] += choice["delta"].get("reasoning_details", [])
    thoughts = [part for part in parts if isinstance(part, Reasoning)]
    assert [part for part in sent_back(message) if isinstance(part, Reasoning)] == thoughts


def test_texts_that_became_one_do_not_move_the_thinking() -> None:
    """A message has one text, however many the answer had, before its thinking and behind it."""
    more = Text(text=" And more.")
    for parts in ((FIRST, HI, more, SECOND, USE), (FIRST, HI, SECOND, more, USE)):
        answer = folded(in_letters(parts))
        whole = CHAT_CODEC.write_answer(answer, TOLD)["choices"][0]["message"]
        joined = (FIRST, Text(text="Hi. And more."), SECOND, USE)
        assert sent_back(whole) == joined


@pytest.mark.parametrize("indexes", [(0, 1), (0, 0), (None, None)])
def test_others_indexes_leave_thinking_first(indexes: tuple[Any, Any]) -> None:
    """Where the details of another producer only count, thinking stands before what was said."""
    details = [
        {"type": "reasoning.text", "text": text, "signature": text, "index": index}
        for text, index in zip("ab", indexes, strict=True)
    ]
    parts = sent_back({"role": "assistant", "content": "Hi.", "reasoning_details": details})
    assert [type(part) for part in parts] == [Reasoning, Reasoning, Text]
    assert [part.text for part in parts if isinstance(part, Reasoning)] == ["a", "b"]


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


# Each word of an upstream's chunk by itself.


GOOGLE = {"extra_content": {"google": {"thought_signature": "s"}}}
OWN_SIGNED = Signature(origin="openai.chat", value="s")
NOTE = {"type": "url_citation", "url_citation": {"url": "u", "title": "t"}}
LINK = Citation(kind="url", url="u", title="t")
AT_A = Source(kind="url", data="https://a.example/b.png")
PICTURE = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
SURE = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]


@pytest.mark.parametrize(
    ("deltas", "parts"),
    [
        ([{"content": "a"}, {"content": "b", "role": "assistant"}], (Text(text="ab"),)),
        ([{"content": ""}, {"content": None}, {"content": 7}, {}], ()),
        (
            [{"content": "a", "refusal": "n"}, {"refusal": "o"}],
            (Text(text="a"), Refusal(text="no")),
        ),
        (
            [
                {"content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "n"}]},
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]},
                {"content": [PICTURE]},
                {"content": "b"},
            ],
            (
                Text(text="a"),
                Refusal(text="n"),
                Reasoning(text="h"),
                Media(kind="image", source=AT_A),
                Text(text="b"),
            ),
        ),
        (
            [{"content": "a"}, {"annotations": [NOTE, 7]}, {"content": "b", **GOOGLE}],
            (Text(text="ab", citations=(LINK,), signature=OWN_SIGNED),),
        ),
        ([{"annotations": [NOTE]}], (Text(text="", citations=(LINK,)),)),
        ([GOOGLE], (Text(text="", signature=OWN_SIGNED),)),
        (
            [{"content": "a"}, {"images": [{**PICTURE, **GOOGLE}, 7]}, {"content": "b"}],
            (
                Text(text="a"),
                Media(kind="image", source=AT_A, signature=OWN_SIGNED),
                Text(text="b"),
            ),
        ),
        (
            [{"content": "a"}, {"audio": {"transcript": "t", "expires_at": 5}}],
            (
                Text(text="a"),
                Media(kind="audio", source=Source(kind="base64", data=""), transcript="t"),
            ),
        ),
        (
            [{"audio": {"id": "x", "data": "aGk="}}, {"audio": {"id": "y"}}, {"audio": 7}],
            (Media(kind="audio", source=Source(kind="base64", data="aGk="), id="x"),),
        ),
        (
            [
                {"tool_calls": [{"index": 0, "id": "c", "custom": {"name": "p", "input": "x"}}]},
                {"tool_calls": [{"index": 0, "custom": {"input": "y"}}]},
            ],
            (ToolCall(id="c", name="p", arguments="xy", custom=True),),
        ),
        (
            [{"tool_calls": [{"index": 0, "id": "c", "custom": {"name": "p"}}]}],
            (ToolCall(id="c", name="p", arguments="", custom=True),),
        ),
        (
            [
                {"content": "a"},
                {"tool_calls": [{**call(index=0, id="c", name="f"), **GOOGLE}]},
                {"tool_calls": [call(index=0, arguments="{}")]},
            ],
            (Text(text="a"), ToolCall(id="c", name="f", signature=OWN_SIGNED)),
        ),
        (
            [
                {"tool_calls": [call(id="c", name="f", arguments="")]},
                {"tool_calls": [call(id="d", name="g", arguments="{}")]},
                {"tool_calls": [call(id="c", arguments='{"a":1}')]},
            ],
            (ToolCall(id="c", name="f", arguments='{"a":1}'), ToolCall(id="d", name="g")),
        ),
        (
            [
                {"tool_calls": [call(index=0, id="c", name="f")]},
                {"tool_calls": [call(index=0, id="d", arguments="{}")]},
            ],
            (ToolCall(id="c", name="f"),),
        ),
        (
            [{"reasoning_content": "h", "content": "a"}, {"reasoning": "i"}],
            (Reasoning(text="h"), Text(text="a"), Reasoning(text="i")),
        ),
        (
            [
                {"reasoning_details": [{"type": "reasoning.text", "text": "h", "id": "r"}]},
                {"reasoning_details": [{"type": "reasoning.text", "text": "i", "index": True}]},
            ],
            (Reasoning(text="h", id="r"), Reasoning(text="i")),
        ),
        (
            [
                {"reasoning": "h"},
                {"reasoning_details": [{"type": "reasoning.text", "signature": "s"}]},
                {"reasoning_details": [{"type": "reasoning.encrypted"}, 7]},
            ],
            (Reasoning(text="h", signature=OWN_SIGNED),),
        ),
        (
            [
                {
                    "reasoning_details": [
                        {"type": "reasoning.summary", "summary": "h", "id": "r", "index": 0},
                        {"type": "reasoning.encrypted", "data": "s", "id": "e", "index": 1},
                    ]
                },
            ],
            (
                Reasoning(text="h", summary=True, id="r"),
                Reasoning(redacted=True, signature=OWN_SIGNED, id="e"),
            ),
        ),
    ],
)
@pytest.mark.parametrize("index", [0, 2])
def test_each_word_of_a_delta_is_read(
    deltas: list[dict[str, Any]], parts: tuple[Part, ...], index: int
) -> None:
    """In the order in which they come, of the choice that they are for."""
    chunks = [delta(index=index, **one) for one in deltas]
    events = events_in(upstream(*chunks, delta("length", index=index)))
    (choice,) = folded(events).choices
    assert (choice.parts, choice.stop) == (parts, "length")
    of_choice = [event for event in events if isinstance(event, Opened | Piece | Closed | Finished)]
    assert {event.choice for event in of_choice} == {index}
    opened = [event.index for event in events if isinstance(event, Opened)]
    closed = [event.index for event in events if isinstance(event, Closed)]
    assert opened == sorted(closed) == list(range(len(parts)))


def test_a_nameless_fragment_belongs_to_the_newest_call() -> None:
    """Without index and id, more arguments are of the call before, and a name begins another."""
    assert (
        parts_of(
            delta(tool_calls=[call(name="f", id="a", arguments='{"x"')]),
            delta(tool_calls=[call(arguments=":1}")]),
            delta(tool_calls=[call(name="g")]),
            delta(tool_calls=[call(arguments=G)], finish="tool_calls"),
        )[0]
        == CALLS[0]
    )
    _, second = parts_of(
        delta(tool_calls=[call(name="f", id="a", arguments=F)]),
        delta("stop", tool_calls=[call(name="g"), call(arguments=G)]),
    )
    assert isinstance(second, ToolCall) and (second.name, second.arguments) == ("g", G)
    assert second.id.startswith("call_") and len(second.id) > 20


def told_by(*choices_: Any, **fields: Any) -> dict[str, Any]:
    return {"choices": list(choices_), **fields}


@pytest.mark.parametrize(
    ("chunk", "begun"),
    [
        (
            told_by({"delta": {}}, id="a", model="m", created=5.5, service_tier="flex"),
            Begun(id="a", model="m", created=5, service_tier="flex"),
        ),
        (
            told_by({"delta": {}}, id=7, model=7, created="x", service_tier=7),
            Begun(id="", model=""),
        ),
        (told_by({"delta": {}}, created=-1, service_tier=""), Begun(id="", model="")),
        (told_by(usage={"prompt_tokens": 1, "completion_tokens": 1}), Begun(id="", model="")),
    ],
)
def test_the_head_of_a_stream_is_read(chunk: dict[str, Any], begun: Begun) -> None:
    """Once, at the first chunk that says anything; what can't be is as good as not said."""
    events = events_in(upstream(chunk, delta("stop", content="x")))
    assert [event for event in events if isinstance(event, Begun)] == [begun] == events[:1]


@pytest.mark.parametrize(
    ("choice", "stop", "matched"),
    [
        ({"finish_reason": "stop", "stop_reason": "END"}, "stop_sequence", "END"),
        ({"finish_reason": "stop", "stop_reason": 7}, "end", None),
        ({"finish_reason": "stop_sequence"}, "stop_sequence", None),
        ({"finish_reason": "length", "stop_reason": "END"}, "length", None),
        ({"index": -1, "finish_reason": "stop"}, "end", None),
        ({"index": True, "finish_reason": "stop"}, "end", None),
        ({"index": "x", "finish_reason": "stop"}, "end", None),
        ({"message": {"content": "x"}, "finish_reason": "stop"}, "end", None),
        ({"delta": {"content": "x"}, "finish_reason": "refusal"}, "refusal", None),
    ],
)
def test_each_end_says_why(choice: dict[str, Any], stop: str, matched: str | None) -> None:
    """vLLM's matched stop is told where it is a text; an odd index is that of the first choice."""
    events = events_in(upstream(told_by(choice)))
    (end,) = [event for event in events if isinstance(event, Finished)]
    assert (end.stop, end.stop_sequence, end.choice) == (stop, matched, 0)
    texts_ = [event.text for event in events if isinstance(event, Piece)]
    assert texts_ == (["x"] if "x" in str(choice.get("delta", choice.get("message"))) else [])


def test_sure_tokens_hang_on_their_text() -> None:
    """On the chunk's own, else on the text that is open, else on none."""

    def sure(**fields: Any) -> dict[str, Any]:
        one = {"index": 0, "delta": fields, "logprobs": {"content": SURE}}
        return {"choices": [one | {"finish_reason": None}]}

    events = events_in(
        upstream(
            sure(),
            sure(reasoning="h"),
            sure(content="a"),
            sure(content="", role="assistant"),
            delta(tool_calls=[call(index=0, id="c", name="f")]),
            sure(),
            delta("stop"),
        )
    )
    borne = [(one.index, one.text) for one in events if isinstance(one, Piece) and one.logprobs]
    assert borne == [(0, "h"), (1, "a"), (1, "")]
    assert folded(events).choices[0].logprobs == {"content": SURE * 3, "refusal": None}


def test_what_is_odd_around_chunks_is_borne() -> None:
    """Blank data, another [DONE] and what follows the end are nothing; a choice's own error and
    an error without any shape break the stream."""
    reader = CHAT_CODEC.stream_reader()
    assert reader.read(Frame(b" ")) == reader.read(Frame(b'{"choices":[]}')) == []
    end = json.dumps(delta("stop", content="x")).encode()
    assert len(reader.read(Frame(end))) == 3
    assert len(reader.read(Frame(b" [DONE] "))) == 2
    assert reader.read(Frame(b"[DONE]")) == reader.read(Frame(end)) == reader.end() == []
    for frame in (
        Frame(b"oops", "error"),
        Frame(b'{"detail":"no"}', "error"),
        Frame(b'{"choices":[{"delta":{}},{"error":{"message":"no"}}]}'),
    ):
        broken_reader = CHAT_CODEC.stream_reader()
        (broken,) = broken_reader.read(frame)
        assert isinstance(broken, Broken) and isinstance(broken.error, errors.UpstreamError)
        assert broken_reader.read(Frame(end)) == broken_reader.end() == []


def test_a_stream_has_so_many_choices_at_most() -> None:
    """No upstream makes us hold choices without an end."""
    choices_ = [
        {"index": n, "delta": {"content": "x"}, "finish_reason": "stop"} for n in range(1025)
    ]
    assert len(folded(events_in(upstream(told_by(*choices_[:1024])))).choices) == 1024
    with pytest.raises(errors.UpstreamProtocolError):
        events_in(upstream(told_by(*choices_)))


# Each event of an answer for a client by itself.


def deltas_of(*events: Event, told: Told = TOLD) -> list[dict[str, Any]]:
    """The deltas of the first choice, behind its first one and before its end."""
    chunks = chunks_in(streamed([Begun(id="a", model="m"), *events], told))
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        if "custom" not in json.dumps(chunk):
            ChatCompletionChunk.model_validate(chunk, strict=True)
    return [chunk["choices"][0]["delta"] for chunk in chunks[1:]]


GOT = {"index": 0, "function": {"arguments": ""}}
WROTE = {"index": 0, "custom": {"input": ""}}
SEALED = Signature(origin="gemini.generate", value="s")


@pytest.mark.parametrize(
    ("events", "deltas"),
    [
        (
            [
                Opened(index=0, part=ToolCall(id="c", name="f", arguments="")),
                Piece(index=0, text='{"a":'),
                Piece(index=0, text="1}"),
                Piece(index=0, signature=OWN_SIGNED),
                Closed(index=0),
            ],
            [
                {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": ""},
                        }
                    ]
                },
                {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
                {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
                {"tool_calls": [GOT | GOOGLE]},
            ],
        ),
        (
            [
                Opened(
                    index=0, part=ToolCall(id="c", name="f", arguments="{}", signature=OWN_SIGNED)
                ),
                Closed(index=0),
            ],
            [
                {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": ""},
                        }
                    ]
                },
                {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
                {"tool_calls": [GOT | GOOGLE]},
            ],
        ),
        (
            [
                Opened(index=0, part=ToolCall(id="c", name="p", arguments="", custom=True)),
                Piece(index=0, text="x"),
                Piece(index=0, signature=OWN_SIGNED),
                Closed(index=0),
            ],
            [
                {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "c",
                            "type": "custom",
                            "custom": {"name": "p", "input": ""},
                        }
                    ]
                },
                {"tool_calls": [{"index": 0, "custom": {"input": "x"}}]},
                {"tool_calls": [WROTE | GOOGLE]},
            ],
        ),
        (
            [
                Opened(index=0, part=ToolCall(id="c", name="p", arguments="", custom=True)),
                Closed(index=0),
            ],
            [
                {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "c",
                            "type": "custom",
                            "custom": {"name": "p", "input": ""},
                        }
                    ]
                }
            ],
        ),
        (
            [
                Opened(index=0, part=Text(text="ab", citations=(LINK,))),
                Piece(index=0, text="c"),
                Piece(index=0, text="", logprobs=SURE),
                Piece(index=0),
                Piece(index=0, citation=LINK),
                Piece(index=0, citation=Citation(kind="document")),
                Piece(index=0, signature=OWN_SIGNED),
                Closed(index=0),
                Opened(index=1, part=Text(text="de", signature=OWN_SIGNED)),
                Piece(index=1, citation=Citation(kind="url", url="u", start=1, end=2)),
                Closed(index=1),
            ],
            [
                {"content": "ab"},
                {
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url_citation": {
                                "start_index": 0,
                                "end_index": 0,
                                "url": "u",
                                "title": "t",
                            },
                            "index": 0,
                        }
                    ]
                },
                {"content": "c"},
                {"content": ""},
                {
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url_citation": {
                                "start_index": 0,
                                "end_index": 3,
                                "url": "u",
                                "title": "t",
                            },
                            "index": 1,
                        }
                    ]
                },
                GOOGLE,
                {"content": "de"},
                {
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url_citation": {
                                "start_index": 4,
                                "end_index": 5,
                                "url": "u",
                                "title": "",
                            },
                            "index": 2,
                        }
                    ]
                },
            ],
        ),
        (
            [
                Opened(index=0, part=Refusal(text="n")),
                Piece(index=0, text="o"),
                Piece(index=0, text=""),
                Closed(index=0),
            ],
            [{"refusal": "n"}, {"refusal": "o"}],
        ),
        (
            [
                Opened(index=0, part=Media(kind="image", source=AT_A)),
                Closed(index=0),
                Opened(index=1, part=Media(kind="image", source=AT_A, signature=OWN_SIGNED)),
                Closed(index=1),
                Opened(index=2, part=Media(kind="audio", source=AT_A, id="x")),
                Closed(index=2),
                Opened(index=3, part=Media(kind="video", source=AT_A)),
                Closed(index=3),
                Piece(index=9, text="x"),
            ],
            [
                {"images": [PICTURE | {"index": 0}]},
                {"images": [PICTURE | GOOGLE | {"index": 1}]},
                {"audio": {"id": "x", "data": "", "transcript": "", "expires_at": 9}},
            ],
        ),
    ],
)
def test_each_event_is_a_delta(events: list[Event], deltas: list[dict[str, Any]]) -> None:
    """Of the official form, and nothing is told where an event says nothing."""
    assert deltas_of(*events) == deltas


def test_calls_are_numbered_by_their_beginnings() -> None:
    """Whatever else a message holds, a second call's fragments have the index 1."""
    told = deltas_of(
        Opened(index=0, part=Text(text="a")),
        Opened(index=1, part=ToolCall(id="c", name="f", arguments="")),
        Opened(index=2, part=ToolCall(id="d", name="g", arguments="")),
        Piece(index=2, text="{}"),
        Piece(index=1, text="{}"),
        Closed(index=1),
        Closed(index=2),
        Finished(stop="end"),
    )
    calls = [one["tool_calls"][0] for one in told if "tool_calls" in one]
    assert [(one["index"], one.get("id")) for one in calls] == [
        (0, "c"),
        (1, "d"),
        (1, None),
        (0, None),
    ]


@pytest.mark.parametrize(
    ("stop", "called", "reason"),
    [
        ("end", False, "stop"),
        ("end", True, "tool_calls"),
        ("length", True, "length"),
        ("pause", False, "stop"),
        ("refusal", False, "content_filter"),
    ],
)
def test_each_stream_ends_with_its_reason(stop: Any, called: bool, reason: str) -> None:
    """In a chunk of its own, whose delta is empty; without a beginning one is made."""
    part: Part = ToolCall(id="c", name="f") if called else Text(text="a")
    events: list[Event] = [Opened(index=0, part=part), Closed(index=0), Finished(stop=stop)]
    first, *_, last = chunks_in(streamed(events))
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}]
    assert (first["id"], first["model"], first["created"]) == ("chatcmpl-r", "asked", 9)
    assert first["usage"] is None and "service_tier" not in first
    assert first["choices"][0]["finish_reason"] is None
    sure = chunks_in(streamed([Piece(index=0, text="a", logprobs=SURE)]))
    assert len(sure) == 1
    sure = chunks_in(
        streamed([Opened(index=0, part=Text(text="")), Piece(index=0, text="a", logprobs=SURE)])
    )
    assert sure[1]["choices"][0]["logprobs"] == {"content": SURE, "refusal": None}


def test_the_head_of_our_streams_says_what_is_known() -> None:
    """The upstream's id, time and tier where it told them; a tier of others is left out."""
    begun = Begun(id="up", model="m", created=7, service_tier="flex")
    head = chunks_in(streamed([begun]))[0]
    assert (head["id"], head["created"], head["service_tier"]) == ("up", 7, "flex")
    other = chunks_in(streamed([Begun(id="up", model="m", service_tier="new")]))[0]
    assert other["created"] == 9 and "service_tier" not in other
    broken = CHAT_CODEC.stream_writer(TOLD)
    assert broken.write(Broken(errors.UpstreamFailed("no"))) == b""
    assert broken.write(Counted(Usage(1, 2))) == b""
    (last,) = chunks_in(broken.end())
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 3
