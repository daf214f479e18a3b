from __future__ import annotations

import json
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseInputItemParam, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from proxy_core import Usage
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Answer,
    Begun,
    Broken,
    CacheMark,
    Choice,
    Citation,
    Closed,
    Conversation,
    Counted,
    Event,
    Finished,
    Media,
    Opened,
    OutputFormat,
    Part,
    Piece,
    Reasoning,
    ReasoningWish,
    Refusal,
    Sampling,
    Signature,
    Source,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import Frame, Losses, Told
from proxy_core.dialects._fold import events_of, folded
from proxy_core.dialects._responses import RESPONSES_CODEC
from proxy_core.dialects._sse import EventSplitter
from proxy_core.errors import (
    InvalidRequest,
    UpstreamDisconnected,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamThrottled,
)

CAN = Abilities()
OWN = "openai.responses"
IMAGES = Tool(name="image_generation", kind="image_generation", own={"type": "image_generation"})
RESPONSE = TypeAdapter(Response)
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
PARAMS: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsNonStreaming)
ITEMS: TypeAdapter[Any] = TypeAdapter(list[ResponseInputItemParam])

NOTHING: st.SearchStrategy[Any] = st.none()
words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
names = st.from_regex(r"[a-z_]{2,8}", fullmatch=True)
origins = st.sampled_from([OWN, "anthropic.messages", "gemini.generate"])
signatures = st.builds(
    Signature, origin=origins, value=st.from_regex(r"[\w+/=]{1,9}", fullmatch=True)
)
own_signatures = st.builds(
    Signature, origin=st.just(OWN), value=st.from_regex(r"gAAA\w{1,9}", fullmatch=True)
)
foreign = st.builds(Signature, origin=st.just("gemini.generate"), value=names)
sources = st.one_of(
    st.builds(
        Source, kind=st.just("base64"), data=st.just("aGk="), media_type=st.just("image/png")
    ),
    st.builds(Source, kind=st.just("url"), data=st.just("https://a.example/b.png")),
    st.builds(Source, kind=st.just("file"), data=st.just("file-1")),
)
images = st.builds(
    Media, kind=st.just("image"), source=sources, detail=st.sampled_from(["low", "high", "auto"])
)
files = st.builds(Media, kind=st.just("file"), source=sources, name=names)
texts = st.builds(Text, text=words)
urls = st.builds(
    Citation,
    kind=st.just("url"),
    url=st.just("https://a.example"),
    title=words,
    start=st.integers(0, 9),
    end=st.integers(9, 20),
)
cited_files = st.builds(
    Citation, kind=st.just("file"), file_id=names, title=names, start=st.integers(0, 9)
)
citations = st.lists(urls | cited_files, max_size=2).map(tuple)
said = st.builds(Text, text=words, citations=citations)
own_reasoning = st.builds(
    Reasoning, text=words, signature=own_signatures, summary=st.booleans(), id=st.just("rs_7")
) | st.builds(Reasoning, redacted=st.just(True), signature=own_signatures, id=st.just("rs_8"))


@st.composite
def calls(draw: st.DrawFn, signature: st.SearchStrategy[Any] = NOTHING) -> ToolCall:
    custom = draw(st.booleans())
    arguments = draw(words) if custom else json.dumps({"a": draw(words)})
    called = f"call_{draw(st.integers(0, 10**9))}"
    name = draw(names)
    return ToolCall(
        id=called, name=name, arguments=arguments, custom=custom, signature=draw(signature)
    )


@st.composite
def turns(draw: st.DrawFn) -> tuple[Turn, ...]:
    """An assistant never speaks twice in a row, which items can't say."""
    made: list[Turn] = []
    role: st.SearchStrategy[Any] = st.sampled_from(["system", "developer"])
    for _ in range(draw(st.integers(0, 2))):
        made.append(
            Turn(role=draw(role), parts=tuple(draw(st.lists(texts, min_size=1, max_size=2))))
        )
    for _ in range(draw(st.integers(1, 3))):
        parts = draw(st.lists(texts | images | files, min_size=1, max_size=3))
        made.append(Turn(role="user", parts=tuple(parts)))
        spoken = draw(
            st.lists(said | st.builds(Refusal, text=words) | own_reasoning | calls(), max_size=4)
        )
        if not spoken:
            continue
        made.append(Turn(role="assistant", parts=tuple(spoken)))
        results = tuple(
            ToolResult(
                id=part.id,
                name=part.name,
                custom=part.custom,
                parts=tuple(draw(st.lists(texts | images, max_size=2))),
            )
            for part in {p.id: p for p in spoken if isinstance(p, ToolCall)}.values()
        )
        if results:
            made.append(Turn(role="tool", parts=results))
    return tuple(made)


tools = st.lists(
    st.builds(
        Tool,
        name=names,
        description=st.none() | words,
        parameters=st.just({"type": "object", "properties": {"a": {"type": "string"}}}),
        strict=st.booleans(),
    )
    | st.builds(
        Tool,
        name=names,
        kind=st.just("custom"),
        own=st.none() | st.just({"type": "grammar", "syntax": "lark", "definition": "start: /a/"}),
    )
    | st.just(IMAGES),
    min_size=1,
    max_size=3,
    unique_by=lambda tool: tool.name,
).map(tuple)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    given_tools = draw(st.just(()) | tools)
    choices: st.SearchStrategy[ToolChoice | None] = st.none()
    if given_tools:
        choices |= st.sampled_from([ToolChoice(mode="auto"), ToolChoice(mode="required")])
        choices |= st.just(ToolChoice(mode="named", names=(given_tools[0].name,)))
        choices |= st.just(ToolChoice(mode="named", names=tuple(t.name for t in given_tools)))
    schema = OutputFormat(kind="schema", name="n", schema={"type": "object"}, strict=True)
    wishes = [
        None,
        ReasoningWish(effort="high"),
        ReasoningWish(effort="none", enabled=False),
        ReasoningWish(effort="low", summary="auto", shown=True),
    ]
    top = draw(st.none() | st.integers(1, 20))
    stream = draw(st.booleans())
    return Conversation(
        model="m",
        turns=draw(turns()),
        tools=given_tools,
        tool_choice=draw(choices),
        parallel=draw(st.sampled_from([None, True, False])) if given_tools else None,
        max_tokens=draw(st.none() | st.integers(16, 999)),
        sampling=Sampling(
            temperature=draw(st.none() | st.floats(0, 2)),
            top_p=draw(st.none() | st.floats(0, 1)),
            logprobs=None if top is None else True,
            top_logprobs=top,
        ),
        output=draw(st.sampled_from([None, OutputFormat(kind="json"), schema])),
        reasoning=draw(st.sampled_from(wishes)),
        verbosity=draw(st.sampled_from([None, "low", "high"])),
        service_tier=draw(st.sampled_from([None, "flex"])),
        user=draw(st.none() | names),
        metadata=draw(st.none() | st.just({"a": "b"})),
        cache_key=draw(st.none() | names),
        store=draw(st.booleans()),
        stream=stream,
        include_usage=stream,
    )


def written(conversation: Conversation, can: Abilities = CAN) -> tuple[dict[str, Any], Losses]:
    losses = Losses()
    return RESPONSES_CODEC.write_request(conversation, conversation.model, can, losses), losses


def read(body: Any) -> tuple[Conversation, Losses]:
    losses = Losses()
    return RESPONSES_CODEC.read_request(body, losses), losses


def asks(*parts: Part, **fields: Any) -> Conversation:
    return Conversation(model="m", turns=(Turn(role="user", parts=parts),), **fields)


HELLO = asks(Text(text="hi"))
ASKED = Conversation(
    model="m",
    turns=(Turn(role="system", parts=(Text(text="Be brief."),)), *HELLO.turns),
    tools=(
        Tool(name="f", description="d", parameters={"type": "object"}, strict=True),
        Tool(
            name="p", kind="custom", own={"type": "grammar", "syntax": "regex", "definition": "a"}
        ),
        IMAGES,
        Tool(name="bash", kind="bash_20250124", own={"type": "bash_20250124"}),
    ),
    tool_choice=ToolChoice(mode="named", names=("f", "p")),
    parallel=False,
    max_tokens=99,
    sampling=Sampling(temperature=0.5, top_p=1, logprobs=True, top_logprobs=3),
    output=OutputFormat(kind="schema", name="n", schema={"type": "object"}, strict=True),
    reasoning=ReasoningWish(effort="low", summary="auto", shown=True),
    verbosity="low",
    user="u",
    metadata={"a": "b"},
    cache_key="k",
)


@settings(max_examples=25, deadline=None)
@given(conversations())
def test_a_request_comes_back_as_it_was(conversation: Conversation) -> None:
    """What is written for an upstream reads as the same conversation, without a loss."""
    body, losses = written(conversation)
    assert not losses.all
    PARAMS.validate_python({name: v for name, v in body.items() if name != "stream"})
    back, losses = read(json.loads(json.dumps(body)))
    assert not losses.all
    assert back == conversation


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (None, None),
        ([], None),
        ({"model": "m"}, "input"),
        ({"input": "x"}, "model"),
        ({"model": 7, "input": "x"}, "model"),
        ({"model": "m", "input": 7}, "input"),
        ({"model": "m", "input": [7]}, "input[0]"),
        ({"model": "m", "input": [{"role": "x", "content": "a"}]}, "input[0].role"),
        ({"model": "m", "input": [{"role": "user"}]}, "input[0].content"),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
        ),
        ({"model": "m", "input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"model": "m", "input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"model": "m", "input": "x", "tool_choice": "any"}, "tool_choice"),
        ({"model": "m", "input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"model": "m", "input": "x", "reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"model": "m", "input": "x", "max_output_tokens": -1}, "max_output_tokens"),
        ({"model": "m", "input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"model": "m", "input": "x", "conversation": {"id": "c"}}, "conversation"),
        ({"model": "m", "input": "x", "prompt": {"id": "p"}}, "prompt"),
        ({"model": "m", "input": "x", "background": True}, "background"),
        ({"model": "m", "input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"model": "m", "input": [{"id": "msg_1"}]}, "input[0]"),
    ],
)
def test_a_wrong_request_names_its_field(body: Any, param: str | None) -> None:
    """Each wrong type, missing field and need of a store is an InvalidRequest with the path."""
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    assert caught.value.param == param


def test_what_needs_a_store_says_the_remedy() -> None:
    """A client that continues a stored answer learns to send the whole conversation."""
    with pytest.raises(InvalidRequest, match="whole conversation in 'input'"):
        read({"model": "m", "input": "x", "previous_response_id": "resp_1"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "role", "content", "text", "id", "call_id", "summary", "name"]),
        inner
        | st.sampled_from(["message", "user", "function_call", "reasoning", "input_text", "mcp"]),
        max_size=4,
    ),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["input", "tools", "tool_choice", "text", "reasoning", "include", "stream"]
        ),
        json_values,
        max_size=4,
    )
)
def test_odd_json_is_read_or_refused(body: dict[str, Any]) -> None:
    """Whatever a client sends, nothing but InvalidRequest is raised."""
    try:
        back, _ = read({"model": "m", "input": "x", **body})
    except InvalidRequest:
        return
    assert back.model == "m"


CODEX: dict[str, Any] = {
    "model": "gpt-5-codex",
    "instructions": "You are Codex.",
    "input": [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "sandbox"}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix it"}]},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "**Looking**"}],
            "content": None,
            "encrypted_content": "gAAAA",
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "On it."}],
        },
        {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "call_1"},
        {"type": "custom_tool_call", "name": "apply_patch", "input": "***", "call_id": "call_2"},
        {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Done"},
    ],
    "tools": [
        {
            "type": "function",
            "name": "shell",
            "description": "Runs",
            "strict": False,
            "parameters": {"type": "object", "properties": {}},
        },
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Edits",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"},
        },
        {"type": "local_shell"},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "session",
    "text": {"verbosity": "medium"},
}


def test_what_codex_sends_is_understood_whole() -> None:
    """Its history keeps order and ids, calls and results of one step share a turn each."""
    conversation, losses = read(CODEX)
    assert not losses.all
    assert [turn.role for turn in conversation.turns] == [
        "system",
        "developer",
        "user",
        "assistant",
        "tool",
    ]
    assert conversation.turns[3].parts == (
        Reasoning(text="**Looking**", summary=True, signature=Signature(origin=OWN, value="gAAAA")),
        Text(text="On it."),
        ToolCall(id="call_1", name="shell"),
        ToolCall(id="call_2", name="apply_patch", arguments="***", custom=True),
    )
    results = conversation.turns[4].parts
    assert [
        (part.id, part.name, part.custom) for part in results if isinstance(part, ToolResult)
    ] == [
        ("call_1", "shell", False),
        ("call_2", "apply_patch", True),
    ]
    assert [tool.kind for tool in conversation.tools] == ["function", "custom", "local_shell"]
    body, losses = written(conversation)
    assert not losses.all
    assert {name: body[name] for name in CODEX if name not in ("model", "input")} == {
        name: value for name, value in CODEX.items() if name not in ("model", "input")
    }
    ITEMS.validate_python([item for item in body["input"] if item["type"] != "reasoning"])


def test_what_the_canonical_form_has_no_word_for_is_named() -> None:
    """Hosted calls are grave losses, hints are not, and nothing is dropped in silence."""
    call = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    body = {
        "model": "m",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a", "odd": 1}]},
            {"role": "user", "content": [{"type": "input_video", "url": "x"}]},
            call,
        ],
        "include": ["file_search_call.results", "message.output_text.logprobs"],
        "truncation": "auto",
        "max_tool_calls": 3,
        "user": "a",
        "safety_identifier": "b",
    }
    conversation, losses = read(body)
    assert {loss.field for loss in losses.all if loss.grave} == {"input[1].content[0]", "input[2]"}
    assert {loss.field for loss in losses.all if not loss.grave} == {
        "input[0].content[0].odd",
        "include[0]",
        "truncation",
        "max_tool_calls",
        "user",
    }
    assert conversation.user == "b" and conversation.sampling.logprobs


@pytest.mark.parametrize(
    ("choice", "expected", "left"),
    [
        ({"type": "function", "name": "a"}, ToolChoice(mode="named", names=("a",)), 3),
        ({"type": "image_generation"}, ToolChoice(mode="named", names=("image_generation",)), 3),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "a"}, {"type": "image_generation"}],
            },
            ToolChoice(mode="named", names=("a", "image_generation")),
            3,
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "a"}],
            },
            ToolChoice(mode="auto"),
            1,
        ),
    ],
)
def test_a_choice_names_tools_by_name_or_kind(
    choice: dict[str, Any], expected: ToolChoice, left: int
) -> None:
    """Allowed tools hide the others where none is demanded."""
    given_tools = [
        {"type": "function", "name": "a", "parameters": {}, "strict": None},
        {"type": "function", "name": "b", "parameters": {}, "strict": None},
        {"type": "image_generation"},
    ]
    body = {"model": "m", "input": "x", "tools": given_tools, "tool_choice": choice}
    PARAMS.validate_python(body)
    conversation, losses = read(body)
    assert not losses.all
    assert conversation.tool_choice == expected and len(conversation.tools) == left


@pytest.mark.parametrize(
    ("conversation", "can", "field", "grave"),
    [
        (asks(Text(text="x"), stop=("a",)), CAN, "stop", False),
        (asks(Text(text="x"), n=2), CAN, "n", True),
        (asks(Text(text="x"), modalities=("audio",)), CAN, "modalities", True),
        (asks(Text(text="x"), sampling=Sampling(seed=1)), CAN, "seed", False),
        (asks(Text(text="x"), sampling=Sampling(top_k=1)), CAN, "top_k", False),
        (asks(Text(text="x"), sampling=Sampling(logit_bias={"1": 2})), CAN, "logit_bias", False),
        (
            asks(Text(text="x"), sampling=Sampling(temperature=1.5)),
            Abilities(max_temperature=1.0),
            "temperature",
            False,
        ),
        (asks(Text(text="x", cache=CacheMark())), CAN, "cache_control", False),
        (asks(Text(text="x"), metadata={"a": "b"}), Abilities(metadata=False), "metadata", False),
        (
            asks(Text(text="x"), output=OutputFormat(kind="json")),
            Abilities(json_object=False),
            "response_format",
            True,
        ),
        (asks(Text(text="x"), tools=(Tool(name="f"),)), Abilities(tools=False), "tools[0]", True),
        (
            asks(Text(text="x"), tools=(Tool(name="bash", kind="bash_20250124", own={}),)),
            CAN,
            "tools[0]",
            True,
        ),
        (
            asks(Text(text="x"), tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="required")),
            Abilities(forced_tools=False),
            "tool_choice",
            True,
        ),
        (
            asks(Media(kind="audio", source=Source(kind="base64", data="aa"))),
            CAN,
            "messages[0].content[0]",
            True,
        ),
        (
            asks(Media(kind="image", source=Source(kind="url", data="https://a.example"))),
            Abilities(image_urls=False),
            "messages[0].content[0]",
            True,
        ),
        (
            asks(Text(text="x"), reasoning=ReasoningWish(effort="xhigh")),
            Abilities(efforts=("low", "high")),
            "reasoning_effort",
            False,
        ),
    ],
)
def test_what_responses_cannot_say_is_a_loss(
    conversation: Conversation, can: Abilities, field: str, grave: bool
) -> None:
    """It is named in words of the client, grave where the answer would be another one."""
    body, losses = written(conversation, can)
    assert [(loss.field, loss.grave) for loss in losses.all] == [(field, grave)]
    PARAMS.validate_python(body)


def test_foreign_signatures_do_not_reach_openai() -> None:
    """Thinking that another provider signed is left out and announced, its calls stay."""
    signed = Signature(origin="anthropic.messages", value="sig")
    parts = (Reasoning(text="hm", signature=signed), ToolCall(id="c", name="f", signature=signed))
    turns = (*HELLO.turns, Turn(role="assistant", parts=parts))
    body, losses = written(Conversation(model="m", turns=turns))
    assert [item["type"] for item in body["input"]] == ["message", "function_call"]
    assert {(loss.field, loss.grave) for loss in losses.all} == {("messages[1].reasoning", False)}
    assert body["store"] is False and body["include"] == ["reasoning.encrypted_content"]


def test_a_budget_of_thinking_becomes_an_effort() -> None:
    """Responses know only efforts: the smallest that has room for the tokens."""
    body, losses = written(asks(Text(text="x"), reasoning=ReasoningWish(budget=4000, shown=True)))
    assert body["reasoning"] == {"effort": "medium", "summary": "auto"}
    assert not losses.all


# What a client gets.


def told_of(conversation: Conversation = HELLO) -> Told:
    return Told(model="asked", conversation=conversation, request_id="req", created=1700)


def streamed(answer: Answer, told: Told | None = None) -> bytes:
    writer = RESPONSES_CODEC.stream_writer(told or told_of())
    return b"".join([writer.write(event) for event in events_of(answer)]) + writer.end()


def wire_events(raw: bytes) -> list[dict[str, Any]]:
    found = EventSplitter().feed(raw)
    for event in found:
        assert event.name.decode() == json.loads(event.data or b"")["type"]
    return [json.loads(event.data or b"") for event in found]


def events_in(raw: bytes) -> list[Event]:
    reader = RESPONSES_CODEC.stream_reader()
    events: list[Event] = []
    for event in EventSplitter().feed(raw):
        events += reader.read(Frame(event.data or b"", event.name.decode()))
    return events + reader.end()


logprobs = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]
text_answers = st.builds(Text, text=words, citations=citations, signature=st.none() | foreign)
thoughts = st.builds(
    Reasoning, text=words, signature=st.none() | signatures, summary=st.booleans(), id=names
) | st.builds(Reasoning, redacted=st.just(True), signature=signatures, id=names)
made_images = st.builds(
    Media,
    kind=st.just("image"),
    source=st.builds(
        Source, kind=st.just("base64"), data=st.just("aGk="), media_type=st.just("image/png")
    ),
    signature=st.none() | foreign,
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Parts that Responses carry. Ends of other kinds than these have no word of their own."""
    refusal = st.builds(Refusal, text=words)
    parts = draw(
        st.lists(
            text_answers | thoughts | calls(st.none() | foreign) | made_images | refusal,
            max_size=5,
            unique_by=lambda part: getattr(part, "id", None) or id(part),
        )
    )
    stop: Any = draw(st.sampled_from(["end", "length", "content_filter"]))
    if stop == "end" and any(isinstance(part, ToolCall) for part in parts):
        stop = "tool_calls"
    elif stop == "end" and any(isinstance(part, Refusal) for part in parts):
        stop = "refusal"
    has_text = any(isinstance(part, Text) for part in parts)
    sure = {"content": logprobs, "refusal": None} if has_text and draw(st.booleans()) else None
    return Answer(
        id="resp_abc",
        model="asked",
        created=1234,
        service_tier=draw(st.sampled_from([None, "flex"])),
        choices=(Choice(parts=tuple(parts), stop=stop, logprobs=sure),),
        usage=Usage(
            input_tokens=90,
            output_tokens=40,
            cached_tokens=30,
            cache_write_tokens=20,
            reasoning_tokens=10,
            reported=True,
        ),
    )


@settings(max_examples=25, deadline=None)
@given(answers(), st.sampled_from([HELLO, ASKED]))
def test_an_answer_comes_back_as_it_was_whole_or_streamed(
    answer: Answer, conversation: Conversation
) -> None:
    """OpenAI's own types take it, and both ways read as the answer that was written."""
    told = told_of(conversation)
    body = RESPONSES_CODEC.write_answer(answer, told)
    RESPONSE.validate_json(json.dumps(body), strict=True)
    assert RESPONSES_CODEC.read_answer(json.loads(json.dumps(body))) == answer
    raw = streamed(answer, told)
    found = wire_events(raw)
    for number, event in enumerate(found):
        assert event["sequence_number"] == number
        EVENTS.validate_json(json.dumps(event), strict=True)
    assert found[-1]["response"] == body
    assert folded(events_in(raw)) == answer


@settings(max_examples=25, deadline=None)
@given(answers())
def test_events_of_a_stream_are_in_their_order(answer: Answer) -> None:
    """Parts count from 0, open before they speak and close before the end."""
    events = events_in(streamed(answer))
    assert isinstance(events[0], Begun) and isinstance(events[-1], Counted)
    assert isinstance(events[-2], Finished)
    still: set[int] = set()
    begun = 0
    for event in events[1:-2]:
        if isinstance(event, Opened):
            assert event.index == begun
            begun += 1
            still.add(event.index)
        elif isinstance(event, Piece | Closed):
            assert event.index in still
            if isinstance(event, Closed):
                still.remove(event.index)
    assert not still


@settings(max_examples=25, deadline=None)
@given(answers())
def test_what_a_client_keeps_comes_back_signed(answer: Answer) -> None:
    """Sent back as history, output items hold each signature, whoever's it was."""
    output = RESPONSES_CODEC.write_answer(answer, told_of())["output"]
    for item in output:
        if item["type"] == "reasoning":
            del item["id"]  # as Codex does
    history = [{"role": "user", "content": "hi"}, *output]
    conversation, losses = read({"model": "m", "input": history})
    back = [part for turn in conversation.turns[1:] for part in turn.parts]
    parts = answer.choices[0].parts
    assert [getattr(part, "signature", None) for part in back] == [
        getattr(part, "signature", None) for part in parts
    ]
    assert [type(part) for part in back] == [type(part) for part in parts]
    assert [part.redacted for part in back if isinstance(part, Reasoning)] == [
        part.redacted for part in parts if isinstance(part, Reasoning)
    ]
    assert not any(loss.grave for loss in losses.all)


def test_calls_that_take_turns_keep_their_signatures() -> None:
    """Arguments of two calls come mixed, as do their signatures, and each gets its own."""
    signed = [Signature(origin="gemini.generate", value=value) for value in ("one", "two")]
    events: list[Event] = [
        Begun(id="x", model="m"),
        Opened(index=0, part=ToolCall(id="a:b", name="f", arguments="")),
        Opened(index=1, part=ToolCall(id="c", name="g", arguments="")),
        Piece(index=1, text="{}"),
        Piece(index=0, text='{"a":'),
        Piece(index=0, signature=signed[0]),
        Piece(index=1, signature=signed[1]),
        Piece(index=0, text="1}"),
        Closed(index=1),
        Closed(index=0),
        Finished(stop="tool_calls"),
        Counted(Usage()),
    ]
    writer = RESPONSES_CODEC.stream_writer(told_of())
    raw = b"".join([writer.write(event) for event in events]) + writer.end()
    assert folded(events_in(raw)).choices[0].parts == (
        ToolCall(id="a:b", name="f", arguments='{"a":1}', signature=signed[0]),
        ToolCall(id="c", name="g", arguments="{}", signature=signed[1]),
    )


def client_for(raw: bytes, kind: str) -> openai.OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=raw, headers={"content-type": kind})

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(
        api_key="k", base_url="http://a.example/v1", http_client=httpx2.Client(transport=transport)
    )


FULL = Answer(
    id="chatcmpl-1",
    model="up",
    choices=(
        Choice(
            parts=(
                Reasoning(text="hm", summary=True),
                Text(text="Hello ", citations=(Citation(kind="url", url="https://a.example"),)),
                Text(text="you"),
                ToolCall(id="call_1", name="f", arguments='{"a":1}'),
                ToolCall(id="call_2", name="p", arguments="*** patch", custom=True),
            ),
            stop="tool_calls",
        ),
    ),
    usage=Usage(input_tokens=3, output_tokens=4, reported=True),
)


@pytest.mark.parametrize(
    ("arguments", "text"), [('{"input":"*** Begin"}', "*** Begin"), ("*** odd", "*** odd")]
)
def test_a_custom_tool_that_was_called_as_a_function_is_one_again(
    arguments: str, text: str
) -> None:
    """A provider without free text calls it with one argument; the client sees its own tool."""
    call = ToolCall(id="c1", name="p", arguments=arguments)
    answer = msgspec.structs.replace(FULL, choices=(Choice(parts=(call,), stop="tool_calls"),))
    expected = (ToolCall(id="c1", name="p", arguments=text, custom=True),)
    assert folded(events_in(streamed(answer, told_of(ASKED)))).choices[0].parts == expected
    body = RESPONSES_CODEC.write_answer(answer, told_of(ASKED))
    RESPONSE.validate_json(json.dumps(body), strict=True)
    assert RESPONSES_CODEC.read_answer(body).choices[0].parts == expected


def test_an_answer_says_what_was_asked() -> None:
    """OpenAI's own type reads the request's fields back, but for another provider's tool."""
    body = RESPONSES_CODEC.write_answer(FULL, told_of(ASKED))
    answer = RESPONSE.validate_json(json.dumps(body), strict=True)
    assert (answer.model, answer.instructions, answer.created_at) == ("asked", "Be brief.", 1700)
    assert (answer.temperature, answer.top_p, answer.max_output_tokens) == (0.5, 1, 99)
    assert answer.parallel_tool_calls is False and answer.metadata == {"a": "b"}
    assert [tool.type for tool in answer.tools] == ["function", "custom", "image_generation"]
    assert answer.text is not None and answer.text.verbosity == "low"
    assert answer.reasoning is not None and answer.reasoning.effort == "low"
    assert not isinstance(answer.tool_choice, str) and answer.tool_choice.type == "allowed_tools"


def test_the_sdk_accumulates_our_stream() -> None:
    """The helper of OpenAI's own client ends with the same response as its plain call."""
    asked: Any = {"model": "asked", "input": "hi"}
    with client_for(streamed(FULL), "text/event-stream").responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    whole = json.dumps(RESPONSES_CODEC.write_answer(FULL, told_of())).encode()
    plain = client_for(whole, "application/json").responses.create(**asked)
    assert final.output_text == plain.output_text == "Hello you"
    assert final.id == plain.id == "resp_chatcmpl-1" and final.status == "completed"
    assert [item.type for item in final.output] == [
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
    ]
    ids: list[list[Any]] = [
        [getattr(item, "id", None) for item in one.output] for one in (final, plain)
    ]
    assert ids[0] == ids[1] and all(ids[0])
    assert plain.usage is not None and plain.usage.total_tokens == 7
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds[-1] == "response.completed"


def test_events_come_in_the_official_order() -> None:
    """Each thing is added, told, done: as OpenAI's own streams are."""
    kinds = [event["type"].removeprefix("response.") for event in wire_events(streamed(FULL))]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "completed",
    ]


def test_a_cut_answer_is_incomplete() -> None:
    """The cap and the filter are told apart, in the terminal event too."""
    for stop, reason in (("length", "max_output_tokens"), ("content_filter", "content_filter")):
        answer = msgspec.structs.replace(
            FULL, choices=(Choice(parts=(Text(text="a"),), stop=stop),)  # type: ignore[arg-type]
        )
        last = wire_events(streamed(answer))[-1]
        assert last["type"] == "response.incomplete"
        assert last["response"]["incomplete_details"] == {"reason": reason}
        assert last["response"]["output"][0]["status"] == "incomplete"


# What an upstream sends.


def sse(*events: dict[str, Any], named: bool = True) -> bytes:
    return b"".join(
        (f"event: {event['type']}\n" if named else "").encode()
        + b"data: "
        + json.dumps(event).encode()
        + b"\n\n"
        for event in events
    )


COMPLETED = {"type": "response.completed", "response": {"id": "resp_1", "usage": None}}
MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello"}],
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "response.output_item.done", "item": MESSAGE}, COMPLETED],
        [
            {"type": "response.output_text.delta", "delta": "Hel", "item_id": "m"},
            {"type": "response.output_text.delta", "delta": "lo", "item_id": "m"},
            COMPLETED,
        ],
        [{"type": "response.output_text.done", "text": "Hello", "output_index": 0}, COMPLETED],
        [{"type": "response.completed", "response": {"output": [MESSAGE], "status": "completed"}}],
        [
            {"type": "response.created", "response": {"id": "resp_1"}},
            {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message"}},
            {"type": "response.output_text.delta", "delta": "Hello", "output_index": 0},
            {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
            {"type": "response.completed", "response": {"output": [MESSAGE]}},
        ],
    ],
)
def test_servers_that_tell_less_are_understood(events: list[dict[str, Any]]) -> None:
    """Without numbers, parts, deltas or items the text is still there, once."""
    answer = folded(events_in(sse(*events, named=False)))
    assert answer.choices[0].parts == (Text(text="Hello"),)
    assert answer.choices[0].stop == "end"


def test_a_citation_that_its_own_event_alone_tells() -> None:
    """It is kept; and what is said of a text after its end is not."""
    said = {"item_id": "m", "output_index": 0, "content_index": 0}
    note = {"type": "url_citation", "url": "https://a.example", "title": "A"}
    where = note | {"start_index": 0, "end_index": 5}
    events: list[dict[str, Any]] = [
        {"type": "response.output_text.delta", "delta": "Hello", **said},
        {"type": "response.output_text.annotation.added", "annotation": where, **said},
    ]
    ended = {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE}
    late = {"type": "response.output_text.delta", "delta": "Hello", **said}
    cited = folded(events_in(sse(*events, COMPLETED))).choices[0].parts
    whole = folded(events_in(sse(events[0], ended, late, COMPLETED))).choices[0].parts
    citation = Citation(kind="url", url="https://a.example", title="A", start=0, end=5)
    assert cited == (Text(text="Hello", citations=(citation,)),)
    assert whole == (Text(text="Hello"),)


def test_a_call_without_deltas_is_whole() -> None:
    """Arguments that come with the item's end are told, and not twice."""
    for events in (
        [{"type": "response.output_item.done", "item": CALL, "output_index": 0}],
        [
            {"type": "response.output_item.added", "item": CALL},
            {"type": "response.function_call_arguments.delta", "delta": '{"a":', "item_id": "fc_1"},
            {"type": "response.function_call_arguments.delta", "delta": "1}", "item_id": "fc_1"},
            {"type": "response.output_item.done", "item": CALL},
        ],
    ):
        answer = folded(events_in(sse(*events, COMPLETED)))
        assert answer.choices[0].parts == (ToolCall(id="c1", name="f", arguments='{"a":1}'),)
        assert answer.choices[0].stop == "tool_calls"


def test_parts_of_a_summary_are_one_text() -> None:
    """Streamed or whole, paragraphs stay apart and the seal stays with them."""
    parts = [{"type": "summary_text", "text": text} for text in ("one", "two")]
    item = {"type": "reasoning", "id": "rs_1", "summary": parts, "encrypted_content": "gA"}
    deltas = [
        {
            "type": "response.reasoning_summary_text.delta",
            "output_index": 0,
            "summary_index": at,
            "delta": text,
        }
        for at, text in ((0, "o"), (0, "ne"), (1, "two"))
    ]
    added = {**item, "summary": [], "encrypted_content": None}
    raw = sse(
        {"type": "response.output_item.added", "output_index": 0, "item": added},
        *deltas,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        COMPLETED,
    )
    thought = Reasoning(
        text="one\n\ntwo", summary=True, id="rs_1", signature=Signature(origin=OWN, value="gA")
    )
    assert folded(events_in(raw)).choices[0].parts == (thought,)
    assert RESPONSES_CODEC.read_answer({"output": [item]}).choices[0].parts == (thought,)


def test_a_stream_without_its_end_is_broken_off() -> None:
    """Only a terminal event makes an answer whole."""
    with pytest.raises(UpstreamDisconnected):
        events_in(sse({"type": "response.output_text.delta", "delta": "x", "output_index": 0}))


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "rate_limit_exceeded", "message": "slow"}},
            },
            UpstreamThrottled,
        ),
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "invalid_image_url", "message": "no"}},
            },
            UpstreamRejected,
        ),
        ({"type": "error", "code": "context_length_exceeded", "message": "long"}, UpstreamRejected),
    ],
)
def test_a_failure_in_a_stream_is_broken(event: dict[str, Any], kind: type[Exception]) -> None:
    """A failed response and an error event carry the error that fits, and nothing follows."""
    events = events_in(sse(event, COMPLETED))
    last = events[-1]
    assert isinstance(last, Broken) and isinstance(last.error, kind)


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"type":"response.output_item.done","item":7}', b"\xff"]
)
def test_odd_events_are_a_protocol_error(data: bytes) -> None:
    """What is no event, or one of another shape, is the upstream's fault."""
    with pytest.raises(UpstreamProtocolError):
        RESPONSES_CODEC.stream_reader().read(Frame(data))


@pytest.mark.parametrize("body", [{}, {"output": None}, {"output": [{"type": "function_call"}]}])
def test_what_is_no_answer_is_a_protocol_error(body: dict[str, Any]) -> None:
    """An answer has output, and its items have what makes them so."""
    with pytest.raises(UpstreamProtocolError):
        RESPONSES_CODEC.read_answer(body)


def test_a_failed_answer_raises_its_error() -> None:
    """Status and error say it, whatever output there is."""
    error = {"code": "rate_limit_exceeded", "message": "slow down"}
    with pytest.raises(UpstreamThrottled, match="slow down"):
        RESPONSES_CODEC.read_answer({"status": "failed", "error": error, "output": []})


@pytest.mark.parametrize("wrong", [-1, 2_000_000_000, "9", None])
def test_absurd_counts_are_not_believed(wrong: Any) -> None:
    """Usage that can't be is as good as none."""
    usage = {"input_tokens": wrong, "output_tokens": 1, "total_tokens": 1}
    assert not RESPONSES_CODEC.read_answer({"output": [], "usage": usage}).usage.reported
