from __future__ import annotations

import json
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import (
    Response,
    ResponseInputItemParam,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseStreamEvent,
)
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.response_output_text import AnnotationURLCitation
from pydantic import TypeAdapter

from proxy_core import Usage
from proxy_core.dialects import CODECS
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
    UpstreamFailed,
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
        ({"model": "m", "input": "x", "reasoning": {"effort": "hi"}}, "reasoning.effort"),
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
    """Items with words of their own are grave losses, hints are not; none is silent."""
    call = {"type": "local_shell_call_output", "id": "sh_1", "output": "ok"}
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


# Each word of a request by itself.


def asked_with(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A request with these fields, or with these items as its input."""
    return {"model": "m", "input": list(items) or "x", **fields}


FORM = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0.5}, {"sampling": Sampling(temperature=0.5)}),
        ({"top_p": 0.5}, {"sampling": Sampling(top_p=0.5)}),
        ({"top_logprobs": 0}, {}),
        ({"top_logprobs": 1}, {"sampling": Sampling(logprobs=True, top_logprobs=1)}),
        (
            {"include": ["message.output_text.logprobs"], "top_logprobs": 0},
            {"sampling": Sampling(logprobs=True, top_logprobs=0)},
        ),
        ({"include": ["reasoning.encrypted_content"]}, {}),
        ({"max_output_tokens": 0}, {"max_tokens": 0}),
        ({"parallel_tool_calls": False}, {"parallel": False}),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"user": "a"}, {"user": "a"}),
        ({"safety_identifier": "b"}, {"user": "b"}),
        ({"user": "a", "safety_identifier": "a"}, {"user": "a"}),
        ({"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
        ({"prompt_cache_key": "k"}, {"cache_key": "k"}),
        ({"store": True}, {"store": True}),
        ({"store": False}, {"store": False}),
        ({"stream": True}, {"stream": True, "include_usage": True}),
        ({"stream": False}, {}),
        ({"background": False}, {}),
        ({"truncation": "disabled"}, {}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"output": OutputFormat(kind="json")}),
        (
            {"text": {"format": {**FORM, "strict": False, "description": "d"}, "verbosity": "low"}},
            {
                "output": OutputFormat(
                    kind="schema",
                    name="n",
                    schema={"type": "object"},
                    strict=False,
                    description="d",
                ),
                "verbosity": "low",
            },
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "", "schema": {}}}},
            {"output": OutputFormat(kind="schema", schema={})},
        ),
        ({"reasoning": {}}, {}),
        ({"reasoning": {"effort": "low"}}, {"reasoning": ReasoningWish(effort="low")}),
        (
            {"reasoning": {"effort": "none"}},
            {"reasoning": ReasoningWish(effort="none", enabled=False)},
        ),
        (
            {"reasoning": {"summary": "concise"}},
            {"reasoning": ReasoningWish(summary="concise", shown=True)},
        ),
        (
            {"reasoning": {"generate_summary": "detailed"}},
            {"reasoning": ReasoningWish(summary="detailed", shown=True)},
        ),
    ],
)
def test_each_field_of_a_request_is_read(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """What OpenAI's own type takes in a field is all that the field says, without a loss."""
    body = asked_with(**fields)
    PARAMS.validate_python({name: value for name, value in body.items() if name != "stream"})
    conversation, losses = read(body)
    assert not losses.all
    plain = Conversation(model="m", turns=(Turn(role="user", parts=(Text(text="x"),)),))
    assert conversation == msgspec.structs.replace(plain, **expected)


def test_codex_says_in_a_word_that_it_wants_no_summary() -> None:
    """``none`` as a summary hides the thinking, and says nothing of the effort."""
    wish = read(asked_with(reasoning={"summary": "none"}))[0].reasoning
    assert wish == ReasoningWish(shown=False)


def test_instructions_are_the_first_system_message() -> None:
    """Also where the input is a list of items."""
    system = Turn(role="system", parts=(Text(text="i"),))
    for body in (
        asked_with(instructions="i"),
        asked_with({"role": "user", "content": "x"}, instructions="i"),
    ):
        assert read(body)[0].turns == (system, Turn(role="user", parts=(Text(text="x"),)))


IMAGE: dict[str, Any] = {"type": "input_image", "image_url": "https://a.example/b.png"}
FILE: dict[str, Any] = {"type": "input_file", "file_data": "data:application/pdf;base64,aGk="}
SOUND: dict[str, Any] = {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}}
MARK = {"prompt_cache_breakpoint": {"mode": "explicit"}}
PNG = Source(kind="base64", data="aGk=", media_type="image/png")
AT_A = Source(kind="url", data="https://a.example/b.png")
STORED = Source(kind="file", data="file-1")
PDF = Source(kind="base64", data="aGk=", media_type="application/pdf")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"type": "input_text", "text": "a", **MARK}, Text(text="a", cache=CacheMark())),
        ({"type": "text", "text": "a"}, Text(text="a")),
        ({"type": "refusal", "refusal": "no"}, Refusal(text="no")),
        ({**IMAGE, "detail": "low"}, Media(kind="image", source=AT_A, detail="low")),
        (
            {"type": "input_image", "image_url": "data:image/png;base64,aGk=", **MARK},
            Media(kind="image", source=PNG, cache=CacheMark()),
        ),
        ({"type": "input_image", "file_id": "file-1"}, Media(kind="image", source=STORED)),
        (
            {"type": "input_image", "image_url": "data:,aGk="},
            Media(kind="image", source=Source(kind="url", data="data:,aGk=")),
        ),
        (
            {"type": "input_image", "image_url": "https://a.example/x;base64,a"},
            Media(kind="image", source=Source(kind="url", data="https://a.example/x;base64,a")),
        ),
        (
            {**FILE, "filename": "a.pdf", **MARK},
            Media(kind="file", source=PDF, name="a.pdf", cache=CacheMark()),
        ),
        (
            {"type": "input_file", "file_data": "aGk="},
            Media(kind="file", source=Source(kind="base64", data="aGk=")),
        ),
        (
            {"type": "input_file", "file_url": "https://a.example/b.png"},
            Media(kind="file", source=AT_A),
        ),
        ({"type": "input_file", "file_id": "file-1"}, Media(kind="file", source=STORED)),
        (
            SOUND,
            Media(
                kind="audio",
                source=Source(kind="base64", data="aGk=", media_type="audio/mpeg"),
            ),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            Media(kind="audio", source=Source(kind="base64", data="aGk=", media_type="audio/wav")),
        ),
    ],
)
def test_each_content_is_read(content: dict[str, Any], expected: Part) -> None:
    """In a message, and what a tool may say in its result too."""
    conversation, losses = read(asked_with({"role": "user", "content": [content]}))
    assert not losses.all and conversation.turns == (Turn(role="user", parts=(expected,)),)
    item = {"type": "function_call_output", "call_id": "c", "output": [content]}
    parts = () if isinstance(expected, Refusal) else (expected,)
    result = Turn(role="tool", parts=(ToolResult(id="c", parts=parts),))  # type: ignore[arg-type]
    assert read(asked_with(item))[0].turns == (result,)


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (
            {"type": "url_citation", "url": "u", "title": "t", "start_index": 1, "end_index": 2},
            Citation(kind="url", url="u", title="t", start=1, end=2),
        ),
        ({"type": "url_citation"}, Citation(kind="url", url="")),
        (
            {"type": "file_citation", "file_id": "f", "filename": "n", "index": 3},
            Citation(kind="file", file_id="f", title="n", start=3),
        ),
        (
            {"type": "file_path", "file_id": "f", "index": 0},
            Citation(kind="file", file_id="f", start=0),
        ),
        (
            {
                "type": "container_file_citation",
                "container_id": "c",
                "file_id": "f",
                "filename": "n",
                "start_index": 4,
                "end_index": 5,
            },
            Citation(kind="file", file_id="f", title="n", start=4, end=5),
        ),
    ],
)
def test_each_annotation_is_read(note: dict[str, Any], expected: Citation) -> None:
    """Those of a client's history, of a whole answer and of a stream are the same."""
    content = {"type": "output_text", "text": "a", "annotations": [{"type": "new"}, note]}
    cited = (Text(text="a", citations=(expected,)),)
    history, losses = read(asked_with({"role": "assistant", "content": [content]}))
    assert not losses.all and history.turns[0].parts == cited
    item = {"type": "message", "role": "assistant", "content": [content]}
    assert RESPONSES_CODEC.read_answer({"output": [item]}).choices[0].parts == cited
    place = {"output_index": 0, "content_index": 0}
    deltas = [
        {"type": "response.output_text.delta", "delta": "a", **place},
        {"type": "response.output_text.annotation.added", "annotation": {"type": "new"}, **place},
        {"type": "response.output_text.annotation.added", "annotation": note, **place},
    ]
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    assert folded(events_in(sse(*deltas, done, COMPLETED))).choices[0].parts == cited
    assert folded(events_in(sse(done, COMPLETED))).choices[0].parts == cited


SPOKEN: dict[str, Any] = {"type": "message", "role": "user", "content": "a"}
CALLED: dict[str, Any] = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
WRITTEN: dict[str, Any] = {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"}
RESULT: dict[str, Any] = {"type": "function_call_output", "call_id": "c", "output": "x"}
THOUGHT: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": []}
DRAWN: dict[str, Any] = {"type": "image_generation_call", "id": "ig_1", "result": "aGk="}
FUNCTION: dict[str, Any] = {"type": "function", "name": "f"}
NAMESPACE: dict[str, Any] = {
    "type": "namespace",
    "name": "n",
    "description": "d",
    "tools": [FUNCTION],
}
ALLOWED: dict[str, Any] = {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION]}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([{**SPOKEN, "id": "msg_1", "status": "completed"}], [("user", Text(text="a"))]),
        ([{**SPOKEN, "role": "developer"}], [("developer", Text(text="a"))]),
        ([SPOKEN, SPOKEN], [("user", Text(text="a")), ("user", Text(text="a"))]),
        (
            [{**CALLED, "id": "fc_1", "status": "completed"}],
            [("assistant", ToolCall(id="c", name="f"))],
        ),
        ([{**CALLED, "arguments": ""}], [("assistant", ToolCall(id="c", name="f"))]),
        (
            [{**WRITTEN, "id": "ctc_1", "input": ""}],
            [("assistant", ToolCall(id="c", name="f", arguments="", custom=True))],
        ),
        (
            [{**CALLED, "namespace": "n"}, {**RESULT, "id": "fco_1", "status": "completed"}],
            [
                ("assistant", ToolCall(id="c", name="n__f")),
                ("tool", ToolResult(id="c", name="n__f", parts=(Text(text="x"),))),
            ],
        ),
        (
            [{**RESULT, "name": "g"}],
            [("tool", ToolResult(id="c", name="g", parts=(Text(text="x"),)))],
        ),
        (
            [{**RESULT, "name": "g", "namespace": "n"}],
            [("tool", ToolResult(id="c", name="n__g", parts=(Text(text="x"),)))],
        ),
        (
            [{**RESULT, "type": "custom_tool_call_output", "output": ""}],
            [("tool", ToolResult(id="c", custom=True))],
        ),
        (
            [
                {
                    **THOUGHT,
                    "status": "completed",
                    "content": [{"type": "reasoning_text", "text": "h"}],
                }
            ],
            [("assistant", Reasoning(text="h", id="rs_1"))],
        ),
        (
            [{**THOUGHT, "summary": [{"type": "summary_text", "text": "h"}]}],
            [("assistant", Reasoning(text="h", id="rs_1", summary=True))],
        ),
        (
            [{**THOUGHT, "encrypted_content": "gA"}],
            [
                (
                    "assistant",
                    Reasoning(
                        redacted=True, id="rs_1", signature=Signature(origin=OWN, value="gA")
                    ),
                )
            ],
        ),
        ([DRAWN], [("assistant", Media(kind="image", source=PNG))]),
        (
            [{**DRAWN, "output_format": "webp"}],
            [
                (
                    "assistant",
                    Media(
                        kind="image",
                        source=Source(kind="base64", data="aGk=", media_type="image/webp"),
                    ),
                )
            ],
        ),
        ([{**DRAWN, "result": None}, SPOKEN], [("user", Text(text="a"))]),
    ],
)
def test_each_item_is_read(items: list[dict[str, Any]], expected: list[tuple[Any, Part]]) -> None:
    """An item is a turn's part, without a loss, whatever ids and states it bears."""
    conversation, losses = read(asked_with(*items))
    assert not losses.all
    assert conversation.turns == tuple(Turn(role=role, parts=(part,)) for role, part in expected)


def test_thinking_and_its_summary_are_two() -> None:
    """The seal of an item with both belongs to the thinking, which comes last."""
    item = {
        **THOUGHT,
        "summary": [{"type": "summary_text", "text": "s"}],
        "content": [{"type": "reasoning_text", "text": "t"}],
        "encrypted_content": "gA",
    }
    expected = (
        Reasoning(text="s", summary=True, id="rs_1"),
        Reasoning(text="t", id="rs_1", signature=Signature(origin=OWN, value="gA")),
    )
    assert read(asked_with(item))[0].turns[0].parts == expected
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    assert folded(events_in(sse(done, COMPLETED))).choices[0].parts == expected


@pytest.mark.parametrize(
    ("lost", "item"),
    [
        ("what it belongs to", {**THOUGHT, "encrypted_content": "lp-call:1:clp1:gemini:s"}),
        ("what it belongs to", {**THOUGHT, "encrypted_content": "lp-text:0:lp1:gemini:s"}),
        ("the picture", {**THOUGHT, "encrypted_content": "lp-media:0:lp1:gemini:s"}),
    ],
)
def test_a_signature_without_what_it_signed_is_a_loss(lost: str, item: dict[str, Any]) -> None:
    """It is announced, and is no reasoning of its own."""
    conversation, losses = read(asked_with(SPOKEN, item))
    assert [turn.role for turn in conversation.turns] == ["user"]
    (loss,) = losses.all
    assert lost in loss.why and not loss.grave
    assert loss.field == ("input" if lost == "the picture" else "input[1]")


TEXT_PART = {"type": "input_text", "text": "a"}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (asked_with({**SPOKEN, "odd": 1}), "input[0]"),
        (asked_with({"role": "user", "content": [{**TEXT_PART, "odd": 1}]}), "input[0].content[0]"),
        (asked_with({"role": "user", "content": [{**IMAGE, "odd": 1}]}), "input[0].content[0]"),
        (asked_with({"role": "user", "content": [{**FILE, "odd": 1}]}), "input[0].content[0]"),
        (asked_with({"role": "user", "content": [{**SOUND, "odd": 1}]}), "input[0].content[0]"),
        (
            asked_with(
                {"role": "user", "content": [{"type": "refusal", "refusal": "n", "odd": 1}]}
            ),
            "input[0].content[0]",
        ),
        (asked_with({**CALLED, "odd": 1}), "input[0]"),
        (asked_with({**WRITTEN, "odd": 1}), "input[0]"),
        (asked_with({**RESULT, "odd": 1}), "input[0]"),
        (asked_with({**THOUGHT, "odd": 1}), "input[0]"),
        (asked_with(tools=[{**FUNCTION, "odd": 1}]), "tools[0]"),
        (asked_with(tools=[{"type": "custom", "name": "p", "odd": 1}]), "tools[0]"),
        (asked_with(tools=[{**NAMESPACE, "odd": 1}]), "tools[0]"),
        (asked_with(tools=[FUNCTION], tool_choice={**ALLOWED, "odd": 1}), "tool_choice"),
        (asked_with(text={"odd": 1}), "text"),
        (asked_with(text={"format": {**FORM, "odd": 1}}), "text.format"),
        (asked_with(reasoning={"odd": 1}), "reasoning"),
    ],
)
def test_an_unknown_field_is_named_by_its_path(body: dict[str, Any], path: str) -> None:
    """At each place it alone is a loss, and not a grave one."""
    losses = read(body)[1]
    assert [(loss.field, loss.grave) for loss in losses.all] == [(f"{path}.odd", False)]


def in_content(part: Any) -> dict[str, Any]:
    return asked_with({"role": "user", "content": [part]})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        *[
            (asked_with(**{name: [7]}), name)
            for name in (
                *("instructions", "temperature", "top_p", "top_logprobs", "truncation", "text"),
                *("reasoning", "user", "safety_identifier", "metadata", "prompt_cache_key"),
                *("store", "stream", "parallel_tool_calls", "service_tier", "tool_choice"),
                *("max_output_tokens", "background"),
            )
        ],
        (asked_with(include="x"), "include"),
        (asked_with(include=[7]), "include[0]"),
        (asked_with(tools="x"), "tools"),
        (asked_with(tools=[7]), "tools[0]"),
        (asked_with(tools=[{}]), "tools[0].type"),
        (asked_with(text={"verbosity": 7}), "text.verbosity"),
        (asked_with(text={"format": 7}), "text.format"),
        (asked_with(text={"format": {}}), "text.format.type"),
        (asked_with(text={"format": {"type": "json_schema"}}), "text.format.schema"),
        *[
            (asked_with(text={"format": {**FORM, name: 7}}), f"text.format.{name}")
            for name in ("name", "schema", "strict", "description")
        ],
        *[
            (asked_with(reasoning={name: 7}), f"reasoning.{name}")
            for name in ("effort", "summary", "generate_summary")
        ],
        *[
            (asked_with(tools=[{**FUNCTION, name: 7}]), f"tools[0].{name}")
            for name in ("name", "description", "parameters", "strict")
        ],
        *[
            (asked_with(tools=[{"type": "custom", "name": "p", name: 7}]), f"tools[0].{name}")
            for name in ("name", "description", "format")
        ],
        (asked_with(tools=[{"type": "custom"}]), "tools[0].name"),
        (
            asked_with(tools=[{"type": "custom", "name": "p", "format": {"type": 7}}]),
            "tools[0].format.type",
        ),
        (asked_with(tools=[{"type": "mcp", "server_label": 7}]), "tools[0].server_label"),
        (asked_with(tools=[{"type": "mcp", "name": 7}]), "tools[0].name"),
        *[
            (asked_with(tools=[{**NAMESPACE, name: 7}]), f"tools[0].{name}")
            for name in ("name", "description", "tools")
        ],
        (asked_with(tools=[{"type": "namespace", "name": "n"}]), "tools[0].tools"),
        (asked_with(tools=[{**NAMESPACE, "tools": [{}]}]), "tools[0].tools[0].type"),
        (asked_with(tools=[{**NAMESPACE, "tools": [NAMESPACE]}]), "tools[0].tools[0].type"),
        (asked_with(tool_choice={}), "tool_choice.type"),
        (asked_with(tool_choice={"type": "function", "name": 7}), "tool_choice.name"),
        (asked_with(tool_choice={"type": "mcp", "server_label": 7}), "tool_choice.server_label"),
        (asked_with(tool_choice={"type": "allowed_tools"}), "tool_choice.tools"),
        (asked_with(tool_choice={"type": "allowed_tools", "tools": []}), "tool_choice.mode"),
        (asked_with(tool_choice={**ALLOWED, "mode": "none"}), "tool_choice.mode"),
        (asked_with(tool_choice={**ALLOWED, "tools": [{}]}), "tool_choice.tools[0].type"),
        (
            asked_with(tool_choice={**ALLOWED, "tools": [{"type": "namespace"}]}),
            "tool_choice.tools[0].name",
        ),
        (asked_with({"type": 7}), "input[0].type"),
        (asked_with({"role": "user", "content": 7}), "input[0].content"),
        (in_content({}), "input[0].content[0].type"),
        (in_content({"type": "input_text"}), "input[0].content[0].text"),
        (in_content({"type": "refusal"}), "input[0].content[0].refusal"),
        (in_content({"type": "input_image"}), "input[0].content[0].image_url"),
        (in_content({**IMAGE, "detail": 7}), "input[0].content[0].detail"),
        (in_content({**IMAGE, "file_id": 7}), "input[0].content[0].file_id"),
        (in_content({"type": "input_file"}), "input[0].content[0].file_url"),
        (in_content({**FILE, "file_data": 7}), "input[0].content[0].file_data"),
        (in_content({**FILE, "filename": 7}), "input[0].content[0].filename"),
        (in_content({"type": "input_audio"}), "input[0].content[0].input_audio"),
        (
            in_content({"type": "input_audio", "input_audio": {"data": "a"}}),
            "input[0].content[0].input_audio.format",
        ),
        (
            in_content({"type": "input_audio", "input_audio": {"format": "wav"}}),
            "input[0].content[0].input_audio.data",
        ),
        (in_content({**TEXT_PART, "annotations": 7}), "input[0].content[0].annotations"),
        *[
            (
                in_content({**TEXT_PART, "annotations": [{"type": "url_citation", name: -1}]}),
                f"input[0].content[0].annotations[0].{name}",
            )
            for name in ("url", "title", "start_index", "end_index")
        ],
        *[
            (
                in_content({**TEXT_PART, "annotations": [{"type": "file_citation", name: -1}]}),
                f"input[0].content[0].annotations[0].{name}",
            )
            for name in ("file_id", "filename", "index", "start_index", "end_index")
        ],
        *[
            (asked_with({**CALLED, name: 7}), f"input[0].{name}")
            for name in ("call_id", "name", "arguments", "namespace")
        ],
        (asked_with({**WRITTEN, "input": 7}), "input[0].input"),
        (asked_with({"type": "function_call", "call_id": "c"}), "input[0].name"),
        (asked_with({"type": "function_call_output", "output": "x"}), "input[0].call_id"),
        (asked_with({"type": "function_call_output", "call_id": "c"}), "input[0].output"),
        (asked_with({**RESULT, "name": 7}), "input[0].name"),
        (asked_with({**THOUGHT, "encrypted_content": 7}), "input[0].encrypted_content"),
        (asked_with({**THOUGHT, "summary": 7}), "input[0].summary"),
        (asked_with({**THOUGHT, "summary": [{}]}), "input[0].summary[0].text"),
        (asked_with({**THOUGHT, "content": [{"text": 7}]}), "input[0].content[0].text"),
        (asked_with({**THOUGHT, "id": 7, "encrypted_content": "g"}), "input[0].id"),
        (asked_with({**DRAWN, "result": 7}), "input[0].result"),
        (asked_with({**DRAWN, "output_format": 7}), "input[0].output_format"),
    ],
)
def test_each_wrong_value_is_named_by_its_path(body: dict[str, Any], param: str) -> None:
    """A value that can't be, or is missing, is refused at its own place."""
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    assert caught.value.param == param


def test_null_says_nothing() -> None:
    """Each field that OpenAI's type knows may be null."""
    nulls = dict.fromkeys(ResponseCreateParamsNonStreaming.__annotations__)
    conversation, losses = read({**nulls, "model": "m", "input": "x"})
    assert not losses.all
    assert conversation == asks(Text(text="x"))


GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (FUNCTION, Tool(name="f")),
        (
            {**FUNCTION, "description": "d", "parameters": {"a": 1}, "strict": True},
            Tool(name="f", description="d", parameters={"a": 1}, strict=True),
        ),
        ({"type": "custom", "name": "p"}, Tool(name="p", kind="custom")),
        (
            {"type": "custom", "name": "p", "description": "d", "format": {"type": "text"}},
            Tool(name="p", kind="custom", description="d"),
        ),
        (
            {"type": "custom", "name": "p", "format": GRAMMAR},
            Tool(name="p", kind="custom", own=GRAMMAR),
        ),
        (
            {"type": "mcp", "server_label": "s"},
            Tool(name="s", kind="mcp", own={"type": "mcp", "server_label": "s"}),
        ),
        ({"type": "shell"}, Tool(name="shell", kind="shell", own={"type": "shell"})),
        (
            {"type": "odd", "name": "o"},
            Tool(name="o", kind="odd", own={"type": "odd", "name": "o"}),
        ),
    ],
)
def test_each_tool_is_read(tool: dict[str, Any], expected: Tool) -> None:
    """A function, a custom tool with its grammar, and OpenAI's own by name or label."""
    conversation, losses = read(asked_with(tools=[tool]))
    assert not losses.all and conversation.tools == (expected,)


def test_the_tools_of_a_namespace_stand_in_its_place() -> None:
    """What is said of all of them goes with the first, and a choice finds them by their names."""
    inner = [{**FUNCTION, "description": "F"}, {"type": "custom", "name": "p"}]
    body = asked_with(tools=[{**NAMESPACE, "tools": inner}, {**FUNCTION, "name": "g"}])
    first, second, third = read(body)[0].tools
    assert (first.name, first.description) == ("n__f", "d\n\nF")
    assert (second.name, second.kind, second.description) == ("n__p", "custom", None)
    assert third == Tool(name="g")
    for choice, names_of in (
        ({"type": "function", "name": "f"}, ("n__f",)),
        ({"type": "custom", "name": "p"}, ("n__p",)),
        ({"type": "function", "name": "g"}, ("g",)),
        ({"type": "function", "name": "gone"}, ("gone",)),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "namespace", "name": "n"}],
            },
            ("n__f", "n__p"),
        ),
    ):
        chosen = read({**body, "tool_choice": choice})[0].tool_choice
        assert chosen == ToolChoice(mode="named", names=names_of)
    for mode in ("auto", "none", "required"):
        assert read({**body, "tool_choice": mode})[0].tool_choice == ToolChoice(mode=mode)
    labelled = asked_with(
        tools=[{"type": "mcp", "server_label": "s"}],
        tool_choice={"type": "mcp", "server_label": "s"},
    )
    assert read(labelled)[0].tool_choice == ToolChoice(mode="named", names=("s",))


def test_only_the_first_of_a_silent_namespace_stays_silent() -> None:
    """A namespace without a description adds none; one without its functions' has its own."""
    silent = {name: value for name, value in NAMESPACE.items() if name != "description"}
    assert read(asked_with(tools=[silent]))[0].tools[0].description is None
    assert read(asked_with(tools=[NAMESPACE]))[0].tools[0].description == "d"


# Each word of a request for an upstream by itself.


def spoke(*parts: Part, role: Any = "assistant") -> Conversation:
    return Conversation(model="m", turns=(Turn(role=role, parts=parts),))


LINK = Citation(kind="url", url="u", title="t", start=1, end=2)
OWN_SIGNED = Signature(origin=OWN, value="gA")
FOREIGN = Signature(origin="gemini.generate", value="s")
TEXT_FILE = Source(kind="text", data="hi", media_type="text/markdown")


@pytest.mark.parametrize(
    ("conversation", "items"),
    [
        (spoke(Text(text="a"), role="user"), [SPOKEN]),
        (spoke(role="user"), [{**SPOKEN, "content": ""}]),
        (spoke(Text(text="a"), role="system"), [{**SPOKEN, "role": "system"}]),
        (
            spoke(Text(text="a"), Refusal(text="b"), role="user"),
            [{**SPOKEN, "content": [TEXT_PART, {"type": "input_text", "text": "b"}]}],
        ),
        (spoke(Text(text="a")), [{**SPOKEN, "role": "assistant"}]),
        (
            spoke(Text(text="a", citations=(LINK,)), Refusal(text="b")),
            [
                {
                    "type": "message",
                    "id": "msg_0",
                    "role": "assistant",
                    "status": "completed",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "a",
                            "annotations": [
                                {
                                    "type": "url_citation",
                                    "url": "u",
                                    "title": "t",
                                    "start_index": 1,
                                    "end_index": 2,
                                }
                            ],
                        },
                        {"type": "refusal", "refusal": "b"},
                    ],
                }
            ],
        ),
        (
            spoke(
                Text(text="a"),
                ToolCall(id="c", name="f"),
                ToolCall(id="c", name="f", arguments="x", custom=True),
                Text(text="b"),
            ),
            [
                {**SPOKEN, "role": "assistant"},
                CALLED,
                WRITTEN,
                {**SPOKEN, "role": "assistant", "content": "b"},
            ],
        ),
        (
            spoke(Media(kind="image", source=PNG)),
            [{**DRAWN, "id": "ig_0", "status": "completed"}],
        ),
        (
            spoke(
                Reasoning(text="s", summary=True, id="rs_1", signature=OWN_SIGNED),
                Reasoning(text="t", id="rs_1", signature=OWN_SIGNED),
                Reasoning(text="u", signature=OWN_SIGNED),
                Reasoning(redacted=True, signature=OWN_SIGNED),
            ),
            [
                {
                    **THOUGHT,
                    "summary": [{"type": "summary_text", "text": "s"}],
                    "encrypted_content": "gA",
                },
                {
                    **THOUGHT,
                    "content": [{"type": "reasoning_text", "text": "t"}],
                    "encrypted_content": "gA",
                },
                {
                    "type": "reasoning",
                    "summary": [{"type": "summary_text", "text": "u"}],
                    "encrypted_content": "gA",
                },
                {"type": "reasoning", "summary": [], "encrypted_content": "gA"},
            ],
        ),
        (
            spoke(
                ToolResult(id="c", parts=(Text(text="x"),)),
                ToolResult(id="c", parts=(Media(kind="image", source=PNG),)),
                ToolResult(id="c", custom=True),
                role="tool",
            ),
            [
                RESULT,
                {
                    **RESULT,
                    "output": [
                        {
                            "type": "input_image",
                            "detail": "auto",
                            "image_url": "data:image/png;base64,aGk=",
                        }
                    ],
                },
                {**RESULT, "type": "custom_tool_call_output", "output": ""},
            ],
        ),
    ],
)
def test_each_part_of_a_history_is_written(
    conversation: Conversation, items: list[dict[str, Any]]
) -> None:
    """As OpenAI's own type has it, without a loss; only a reasoning may lack its id."""
    body, losses = written(conversation)
    assert not losses.all and body["input"] == items
    ITEMS.validate_python([one for one in body["input"] if one["type"] != "reasoning"])


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (
            Media(kind="image", source=AT_A, detail="high"),
            {"type": "input_image", "detail": "high", "image_url": "https://a.example/b.png"},
        ),
        (
            Media(kind="image", source=STORED),
            {"type": "input_image", "detail": "auto", "file_id": "file-1"},
        ),
        (
            Media(kind="image", source=Source(kind="base64", data="aGk=")),
            {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="},
        ),
        (
            Media(kind="file", source=PDF, name="a.pdf"),
            {**FILE, "filename": "a.pdf"},
        ),
        (
            Media(kind="file", source=Source(kind="base64", data="aGk=")),
            {"type": "input_file", "file_data": "aGk="},
        ),
        (
            Media(kind="file", source=AT_A, name="n"),
            {"type": "input_file", "file_url": "https://a.example/b.png", "filename": "n"},
        ),
        (
            Media(kind="file", source=STORED, name="n"),
            {"type": "input_file", "file_id": "file-1", "filename": "n"},
        ),
        (
            Media(kind="file", source=TEXT_FILE),
            {
                "type": "input_file",
                "file_data": "data:text/markdown;base64,aGk=",
                "filename": "document.txt",
            },
        ),
        (
            Media(kind="file", source=Source(kind="text", data="hi"), name="n"),
            {"type": "input_file", "file_data": "data:text/plain;base64,aGk=", "filename": "n"},
        ),
    ],
)
def test_each_picture_and_file_is_written(part: Media, content: dict[str, Any]) -> None:
    """By address, id or bytes; bytes that nobody named are a picture's or a plain text's."""
    body, losses = written(asks(Text(text="a"), part))
    assert not losses.all
    assert body["input"][0]["content"] == [TEXT_PART, content]
    ITEMS.validate_python(body["input"])


def late(*roles: Any) -> Conversation:
    return Conversation(
        model="m", turns=tuple(Turn(role=role, parts=(Text(text="a"),)) for role in roles)
    )


def test_system_messages_stand_at_the_start_or_become_the_users() -> None:
    """The first of them are the system's; a later one is marked, where a model takes none."""
    conversation = late("developer", "system", "user", "developer", "system")
    body, losses = written(conversation, Abilities(late_system=False))
    roles = ["developer", "system", "user", "user", "user"]
    assert [item["role"] for item in body["input"]] == roles
    assert [(loss.field, loss.grave) for loss in losses.all] == [
        ("messages[3].role", False),
        ("messages[4].role", False),
    ]
    marker, said = body["input"][3]["content"]
    assert "System message" in marker["text"] and said == TEXT_PART
    ITEMS.validate_python(body["input"])
    assert not written(conversation)[1].all


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (Turn(role="system", parts=(Text(text="a"),)), "a"),
        (Turn(role="developer", parts=(Text(text="a"),)), None),
        (Turn(role="system", parts=(Text(text="a"), Text(text="b"))), None),
        (Turn(role="system", parts=(Text(text="a"),), name="n"), None),
        (Turn(role="user", parts=(Text(text="a"),)), None),
        (Turn(role="system", parts=()), None),
    ],
)
def test_one_plain_system_text_is_the_instructions(turn: Turn, expected: str | None) -> None:
    """Any other stands among the items; alone it is what is asked."""
    body = written(Conversation(model="m", turns=(turn, *HELLO.turns)))[0]
    assert body.get("instructions") == expected
    assert len(body["input"]) == (1 if expected else 2)
    assert "instructions" not in written(Conversation(model="m", turns=(turn,)))[0]


CALLS_F = Tool(name="f")
STRICT_F = Tool(name="f", strict=True, parameters={"a": 1}, description="d")
OF_F: dict[str, Any] = {
    "type": "function",
    "name": "f",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
WARM = Sampling(temperature=1.5, top_p=0.5)
THINKS = ReasoningWish(effort="low")
NO_LABELS = Abilities(user=False, metadata=False, service_tiers=False)
SCHEMA = OutputFormat(kind="schema", schema={"type": "object"})


@pytest.mark.parametrize(
    ("fields", "can", "wire", "lost"),
    [
        ({}, CAN, {}, []),
        ({"store": True}, CAN, {"store": True}, []),
        ({"max_tokens": 0}, CAN, {"max_output_tokens": 0}, []),
        ({"stream": True}, CAN, {"stream": True}, []),
        ({"cache_key": "k"}, CAN, {"prompt_cache_key": "k"}, []),
        (
            {"service_tier": "flex", "user": "u", "metadata": {}},
            CAN,
            {"service_tier": "flex", "safety_identifier": "u", "metadata": {}},
            [],
        ),
        (
            {"service_tier": "flex", "user": "u", "metadata": {}},
            NO_LABELS,
            {},
            ["service_tier", "user", "metadata"],
        ),
        ({"sampling": WARM}, CAN, {"temperature": 1.5, "top_p": 0.5}, []),
        ({"sampling": WARM}, Abilities(top_p=False), {"temperature": 1.5}, ["top_p"]),
        ({"sampling": WARM}, Abilities(temperature=False), {"top_p": 0.5}, ["temperature"]),
        (
            {"sampling": WARM},
            Abilities(max_temperature=1.0),
            {"temperature": 1.0, "top_p": 0.5},
            ["temperature"],
        ),
        (
            {"sampling": WARM},
            Abilities(max_temperature=1.5),
            {"temperature": 1.5, "top_p": 0.5},
            [],
        ),
        (
            {"sampling": WARM, "reasoning": THINKS},
            Abilities(sampling_while_reasoning=False),
            {"reasoning": {"effort": "low"}},
            ["temperature", "top_p"],
        ),
        (
            {"sampling": WARM, "reasoning": ReasoningWish(enabled=False)},
            Abilities(sampling_while_reasoning=False),
            {
                "temperature": 1.5,
                "top_p": 0.5,
                "reasoning": {"effort": "none"},
                "include": None,
            },
            [],
        ),
        (
            {"sampling": WARM},
            Abilities(sampling_while_reasoning=False),
            {"temperature": 1.5, "top_p": 0.5},
            [],
        ),
        (
            {
                "sampling": Sampling(
                    top_k=0, presence_penalty=0, frequency_penalty=0, seed=0, logit_bias={}
                )
            },
            CAN,
            {},
            ["top_k", "presence_penalty", "frequency_penalty", "seed", "logit_bias"],
        ),
        (
            {"sampling": Sampling(logprobs=True, top_logprobs=2)},
            CAN,
            {
                "top_logprobs": 2,
                "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
            },
            [],
        ),
        (
            {"sampling": Sampling(logprobs=True, top_logprobs=2)},
            Abilities(logprobs=False),
            {},
            ["logprobs"],
        ),
        ({"sampling": Sampling(logprobs=False)}, Abilities(logprobs=False), {}, []),
        ({"verbosity": "low"}, CAN, {"text": {"verbosity": "low"}}, []),
        (
            {"output": OutputFormat(kind="json"), "verbosity": "low"},
            CAN,
            {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
            [],
        ),
        (
            {"output": SCHEMA},
            CAN,
            {"text": {"format": {**FORM, "name": "answer"}}},
            [],
        ),
        (
            {"output": OutputFormat(kind="schema", name="n", strict=False, description="d")},
            CAN,
            {
                "text": {
                    "format": {**FORM, "schema": {}, "strict": False, "description": "d"},
                }
            },
            [],
        ),
        ({"output": SCHEMA}, Abilities(json_schema=False), {}, ["response_format!"]),
        (
            {"output": SCHEMA},
            Abilities(json_object=False),
            {"text": {"format": {**FORM, "name": "answer"}}},
            [],
        ),
        ({"reasoning": ReasoningWish()}, CAN, {}, []),
        ({"reasoning": ReasoningWish(enabled=True)}, CAN, {}, []),
        (
            {"reasoning": ReasoningWish(effort="high", budget=1, summary="concise")},
            CAN,
            {"reasoning": {"effort": "high", "summary": "concise"}},
            [],
        ),
        (
            {"reasoning": ReasoningWish(effort="high", enabled=False)},
            CAN,
            {"reasoning": {"effort": "none"}, "include": None},
            [],
        ),
        ({"reasoning": ReasoningWish(shown=False)}, CAN, {}, []),
        (
            {"reasoning": ReasoningWish(shown=True)},
            CAN,
            {"reasoning": {"summary": "auto"}},
            [],
        ),
        (
            {"reasoning": THINKS},
            Abilities(reasoning=()),
            {"include": None},
            ["reasoning_effort"],
        ),
        (
            {"reasoning": ReasoningWish(shown=True)},
            Abilities(reasoning=()),
            {"include": None},
            ["reasoning_effort"],
        ),
        (
            {"reasoning": ReasoningWish(enabled=False)},
            Abilities(reasoning=()),
            {"include": None},
            [],
        ),
        ({"n": 1}, CAN, {}, []),
        ({"n": 2}, CAN, {}, ["n!"]),
        ({"modalities": ("text",)}, CAN, {}, []),
        ({"cache_all": CacheMark()}, CAN, {}, ["cache_control"]),
        (
            {"tools": (STRICT_F,)},
            CAN,
            {"tools": [{**OF_F, "parameters": {"a": 1}, "strict": True, "description": "d"}]},
            [],
        ),
        (
            {"tools": (STRICT_F,)},
            Abilities(strict_tools=False),
            {"tools": [{**OF_F, "parameters": {"a": 1}, "description": "d"}]},
            ["tools[0].strict"],
        ),
        ({"tools": (CALLS_F,)}, Abilities(strict_tools=False), {"tools": [OF_F]}, []),
        (
            {"tools": (Tool(name="p", kind="custom", description="d"),)},
            CAN,
            {"tools": [{"type": "custom", "name": "p", "description": "d"}]},
            [],
        ),
        (
            {"tools": (Tool(name="f", cache=CacheMark()),)},
            CAN,
            {"tools": [OF_F]},
            ["cache_control"],
        ),
        (
            {"tools": (Tool(name="w", kind="web_search", own={"type": "other"}), CALLS_F)},
            CAN,
            {"tools": [OF_F]},
            ["tools[0]!"],
        ),
        ({"tools": (Tool(name="w", kind="web_search"),)}, CAN, {}, ["tools[0]!"]),
        ({"tools": (CALLS_F, CALLS_F)}, Abilities(tools=False), {}, ["tools[0]!", "tools[1]!"]),
        (
            {"tools": (CALLS_F,), "parallel": False},
            CAN,
            {"tools": [OF_F], "parallel_tool_calls": False},
            [],
        ),
        (
            {"tools": (CALLS_F,), "parallel": True},
            Abilities(parallel_switch=False),
            {"tools": [OF_F]},
            [],
        ),
        (
            {"tools": (CALLS_F,), "parallel": False},
            Abilities(parallel_switch=False),
            {"tools": [OF_F]},
            ["parallel_tool_calls"],
        ),
        ({"parallel": False}, Abilities(parallel_switch=False), {}, []),
        ({"tool_choice": ToolChoice(mode="auto")}, CAN, {}, []),
        ({"tool_choice": ToolChoice(mode="required")}, CAN, {"tool_choice": "required"}, []),
        (
            {"tool_choice": ToolChoice(mode="required")},
            Abilities(tools=False),
            {},
            ["tool_choice!"],
        ),
        (
            {"tools": (CALLS_F,), "tool_choice": ToolChoice(mode="named", names=("f",))},
            Abilities(forced_tools=False),
            {"tools": [OF_F]},
            ["tool_choice!"],
        ),
        (
            {"tools": (CALLS_F,), "tool_choice": ToolChoice(mode="none")},
            Abilities(forced_tools=False),
            {"tools": [OF_F], "tool_choice": "none"},
            [],
        ),
        (
            {"tools": (CALLS_F,), "tool_choice": ToolChoice(mode="named", names=("g",))},
            CAN,
            {"tools": [OF_F], "tool_choice": {"type": "function", "name": "g"}},
            [],
        ),
        (
            {
                "tools": (
                    Tool(name="s", kind="mcp", own={"type": "mcp", "server_label": "s"}),
                    IMAGES,
                ),
                "tool_choice": ToolChoice(mode="named", names=("s", "image_generation")),
            },
            CAN,
            {
                "tools": [{"type": "mcp", "server_label": "s"}, {"type": "image_generation"}],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [
                        {"type": "mcp", "server_label": "s"},
                        {"type": "image_generation"},
                    ],
                },
            },
            [],
        ),
    ],
)
def test_each_wish_is_written(
    fields: dict[str, Any], can: Abilities, wire: dict[str, Any], lost: list[str]
) -> None:
    """It is in the body by OpenAI's word, or among the losses, of which those with ! are grave."""
    body, losses = written(asks(Text(text="a"), **fields), can)
    PARAMS.validate_python({name: v for name, v in body.items() if name != "stream"})
    plain = {
        "model": "m",
        "input": [SPOKEN],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    assert body == {name: v for name, v in (plain | wire).items() if v is not None}
    assert [loss.field + "!" * loss.grave for loss in losses.all] == lost


@pytest.mark.parametrize(
    ("conversation", "can", "lost"),
    [
        (spoke(Media(kind="audio", source=PNG)), CAN, ["messages[0].content[0]!"]),
        (spoke(Text(text="a"), Media(kind="image", source=AT_A)), CAN, ["messages[0].content[1]!"]),
        (spoke(Media(kind="image", source=PNG, signature=FOREIGN)), CAN, ["messages[0].reasoning"]),
        (spoke(Text(text="a", signature=FOREIGN)), CAN, ["messages[0].reasoning"]),
        (spoke(Reasoning(text="a")), CAN, ["messages[0].reasoning"]),
        (
            spoke(ToolResult(id="c", is_error=True, parts=(Text(text="x"),)), role="tool"),
            CAN,
            ["messages[0].content[0].is_error"],
        ),
        (
            spoke(
                ToolResult(id="b"),
                ToolResult(id="c", parts=(Text(text="x"), Media(kind="video", source=AT_A))),
                role="tool",
            ),
            CAN,
            ["messages[0].content[1].content[1]!"],
        ),
        (
            Conversation(model="m", turns=(Turn(role="user", parts=(Text(text="a"),), name="n"),)),
            CAN,
            ["messages[0].name"],
        ),
        (
            asks(Media(kind="image", source=PNG)),
            Abilities(images=False),
            ["messages[0].content[0]!"],
        ),
        (asks(Media(kind="image", source=TEXT_FILE)), CAN, ["messages[0].content[0]!"]),
        (asks(Media(kind="image", source=PNG)), Abilities(image_urls=False), []),
        (asks(Media(kind="file", source=PDF)), Abilities(files=False), ["messages[0].content[0]!"]),
        (
            asks(Media(kind="file", source=PDF, context="c", cites=True)),
            CAN,
            ["messages[0].content[0].context", "messages[0].content[0].citations"],
        ),
        (asks(ToolCall(id="c", name="f")), CAN, ["messages[0].content[0]!"]),
    ],
)
def test_each_content_that_is_lost_is_named_by_its_place(
    conversation: Conversation, can: Abilities, lost: list[str]
) -> None:
    """With ! where the answer would be another one; the turn and the part are counted from 0."""
    body, losses = written(conversation, can)
    assert [loss.field + "!" * loss.grave for loss in losses.all] == lost
    ITEMS.validate_python(body["input"])


# Each part of an answer for a client by itself.


def checked(answer: Answer, told: Told | None = None) -> list[dict[str, Any]]:
    """The events of its stream, after OpenAI's types and the rules that its own streams keep."""
    body = RESPONSES_CODEC.write_answer(answer, told or told_of())
    RESPONSE.validate_json(json.dumps(body), strict=True)
    events = wire_events(streamed(answer, told))
    for event in events:
        EVENTS.validate_json(json.dumps(event), strict=True)
    assert events[-1]["response"] == body
    return events


PREFIXES = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
    "image_generation_call": "ig_",
}
HELD = {"function_call_arguments": "arguments", "custom_tool_call_input": "input"}


@settings(max_examples=10, deadline=None)
@given(answers())
def test_a_stream_tells_its_items_as_openai_does(answer: Answer) -> None:
    """Each item has its kind's id, begins in progress and without content, ends as it stands in
    the whole response, and its texts are the sum of their deltas."""
    answer = msgspec.structs.replace(answer, id="chatcmpl-7")
    events = checked(answer)
    output = events[-1]["response"]["output"]
    own_ids = {part.id for part in answer.choices[0].parts if isinstance(part, Reasoning)}
    for kind, state in (("added", "in_progress"), ("done", None)):
        told = [one for one in events if one["type"] == f"response.output_item.{kind}"]
        assert sorted(one["output_index"] for one in told) == list(range(len(output)))
        for one in told:
            final = output[one["output_index"]]
            item = one["item"]
            assert (item["id"], item["type"]) == (final["id"], final["type"])
            if item["id"] not in own_ids:
                assert item["id"].startswith(PREFIXES[item["type"]] + "chatcmpl-7_")
            if state is None:
                assert item == final
                continue
            assert item.get("status", state) == state
            assert not (item.get("content") or item.get("summary") or item.get("arguments"))
            assert not (item.get("input") or item.get("result"))
    said: dict[tuple[int, int, str], str] = {}
    for event in events:
        kind, _, verb = event["type"].removeprefix("response.").rpartition(".")
        if "item_id" not in event:
            continue
        item = output[event["output_index"]]
        assert event["item_id"] == item["id"]
        at = event.get("content_index", event.get("summary_index", 0))
        if verb == "delta":
            place = (event["output_index"], at, kind)
            said[place] = said.get(place, "") + event["delta"]
        elif verb == "done" and kind in HELD:
            assert event[HELD[kind]] == item[HELD[kind]]
            assert said.get((event["output_index"], 0, kind), "") == item[HELD[kind]]
            assert event.get("name") == (item["name"] if HELD[kind] == "arguments" else None)
        elif verb == "done" and "part" not in event:
            field = "refusal" if kind == "refusal" else "text"
            part = item["summary" if "summary" in kind else "content"][at]
            assert event[field] == part[field] == said[event["output_index"], at, kind]


def test_a_stream_says_a_whole_call() -> None:
    """A call that says nothing has an empty object, a custom tool's call an empty text."""
    for call, deltas in (
        (ToolCall(id="c", name="f", arguments=""), ["{}"]),
        (ToolCall(id="c", name="f", arguments="", custom=True), []),
    ):
        answer = Answer(
            id="a", model="m", choices=(Choice(parts=(call,), stop="tool_calls"),), usage=Usage()
        )
        events = checked(answer)
        assert [one["delta"] for one in events if one["type"].endswith(".delta")] == deltas
        (item,) = events[-1]["response"]["output"]
        assert item.get("arguments", item.get("input")) == "".join(deltas)
        assert (item["call_id"], item["name"]) == ("c", "f")


def test_what_is_known_at_once_is_told_at_once() -> None:
    """Words, citations, arguments and signatures of a part that opens with them are not lost."""
    parts: list[Part] = [
        Text(text="hi", citations=(LINK,), signature=FOREIGN),
        Refusal(text="no"),
        ToolCall(id="c", name="f", arguments='{"a":', signature=FOREIGN),
        Reasoning(text="hm", id="rs_1", signature=FOREIGN),
    ]
    writer = RESPONSES_CODEC.stream_writer(told_of())
    raw = writer.write(Begun(id="x", model="m"))
    for index, part in enumerate(parts):
        raw += writer.write(Opened(index=index, part=part))
        if isinstance(part, ToolCall):
            raw += writer.write(Piece(index=index, text="1}"))
        raw += writer.write(Closed(index=index))
    raw += writer.write(Finished(stop="tool_calls")) + writer.end()
    for event in wire_events(raw):
        EVENTS.validate_json(json.dumps(event), strict=True)
    whole = msgspec.structs.replace(parts[2], arguments='{"a":1}')
    assert folded(events_in(raw)).choices[0].parts == (*parts[:2], whole, parts[3])


def test_other_answers_than_the_first_are_left_out() -> None:
    """Responses have one; pieces of parts that never opened say nothing."""
    two = Answer(
        id="a",
        model="m",
        choices=(
            Choice(parts=(Text(text="one"),), stop="end"),
            Choice(parts=(Text(text="two"),), stop="length"),
        ),
        usage=Usage(),
    )
    events = checked(two)
    assert [one.get("delta") for one in events if "delta" in one] == ["one"]
    assert events[-1]["type"] == "response.completed"
    writer = RESPONSES_CODEC.stream_writer(told_of())
    writer.write(Begun(id="a", model="m"))
    assert writer.write(Piece(index=3, text="x")) == writer.write(Closed(index=3)) == b""
    assert writer.write(Opened(index=0, part=ToolResult(id="c"))) == b""


OUTPUT_TEXT = {"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}


@pytest.mark.parametrize(
    ("media", "items"),
    [
        (
            Media(kind="audio", source=PNG, transcript="hi"),
            [("message", [OUTPUT_TEXT])],
        ),
        (Media(kind="audio", source=PNG), []),
        (Media(kind="image", source=AT_A), []),
        (Media(kind="image", source=PNG), [("image_generation_call", "png")]),
        (
            Media(
                kind="image",
                source=Source(kind="base64", data="aGk=", media_type="image/x-odd"),
            ),
            [("image_generation_call", None)],
        ),
    ],
)
def test_of_other_media_than_pictures_the_words_are_left(media: Media, items: list[Any]) -> None:
    """A picture tells its format where OpenAI knows it, a sound what was spoken."""
    choice = Choice(parts=(Text(text="a"), media), stop="end")
    answer = Answer(id="a", model="m", choices=(choice,), usage=Usage())
    _, *output = checked(answer)[-1]["response"]["output"]
    assert [
        (item["type"], item.get("content", item.get("output_format"))) for item in output
    ] == items
    assert all(item["status"] == "completed" for item in output)
    assert all(item["id"].startswith(PREFIXES[item["type"]]) for item in output)


@pytest.mark.parametrize(
    ("citation", "note"),
    [
        (
            Citation(kind="url", url="u"),
            {"type": "url_citation", "url": "u", "title": "", "start_index": 0, "end_index": 1},
        ),
        (
            Citation(kind="file", file_id="f", title="t", start=3, end=9),
            {"type": "file_citation", "file_id": "f", "filename": "t", "index": 3},
        ),
        (
            Citation(kind="document", source=2),
            {"type": "file_citation", "file_id": "document-2", "filename": "", "index": 0},
        ),
        (
            Citation(kind="document"),
            {"type": "file_citation", "file_id": "document-0", "filename": "", "index": 0},
        ),
    ],
)
def test_each_citation_is_an_annotation(citation: Citation, note: dict[str, Any]) -> None:
    """Where a source has neither address nor id, its number stands for it."""
    part = Text(text="a", citations=(LINK, citation))
    choice = Choice(parts=(Refusal(text="r"), part), stop="end")
    events = checked(Answer(id="a", model="m", choices=(choice,), usage=Usage()))
    told = [one for one in events if one["type"] == "response.output_text.annotation.added"]
    assert [(one["content_index"], one["annotation_index"]) for one in told] == [(1, 0), (1, 1)]
    assert told[1]["annotation"] == note
    assert events[-1]["response"]["output"][0]["content"][1]["annotations"][1] == note


CLAUDES_CITATION = {"type": "web_search_result_location", "url": "https://e.com", "title": "T"}
CLAUDES_CITATION |= {"encrypted_index": "x", "cited_text": "c"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_citation_without_a_place_is_one_of_its_block(stream: bool) -> None:
    """Anthropic cites for a block of text: OpenAI's client finds the words that rest upon it."""
    blocks = [{"type": "text", "text": "Look: "}, {"type": "text", "text": "Spain won"}]
    cited = {"type": "content_block_delta", "index": 1}
    wires: list[dict[str, Any]] = [{"type": "message_start", "message": {"id": "m", "model": "c"}}]
    for at, block in enumerate(blocks):
        opened = {"type": "text", "text": ""}
        wires.append({"type": "content_block_start", "index": at, "content_block": opened})
        if at:
            wires.append(
                {**cited, "delta": {"type": "citations_delta", "citation": CLAUDES_CITATION}}
            )
        for text in (block["text"][:3], block["text"][3:]):
            said = {"type": "text_delta", "text": text}
            wires.append({"type": "content_block_delta", "index": at, "delta": said})
        wires.append({"type": "content_block_stop", "index": at})
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}
    wires += [ended, {"type": "message_stop"}]
    whole: dict[str, Any] = {"type": "message", "role": "assistant", "id": "m", "usage": {}}
    whole |= {"content": [blocks[0], {**blocks[1], "citations": [CLAUDES_CITATION]}]}
    claude = CODECS["anthropic.messages"]
    if stream:
        reader, writer = claude.stream_reader(), RESPONSES_CODEC.stream_writer(told_of())
        events = [one for wire in wires for one in reader.read(Frame(json.dumps(wire).encode()))]
        told = wire_events(b"".join(map(writer.write, events)) + writer.end())
        response = RESPONSE.validate_python(told[-1]["response"])
        kinds = [one["type"] for one in told]
        noted = kinds.index("response.output_text.annotation.added")
        assert told[noted]["annotation"]["end_index"] == len("Spain won")
        assert kinds[noted + 1] == "response.output_text.done"
    else:
        answer = claude.read_answer({**whole, "stop_reason": "end_turn"})
        response = RESPONSE.validate_python(RESPONSES_CODEC.write_answer(answer, told_of()))
    (message,) = response.output
    assert isinstance(message, ResponseOutputMessage)
    first, second = message.content
    assert isinstance(first, ResponseOutputText) and isinstance(second, ResponseOutputText)
    assert first.annotations == []
    (note,) = second.annotations
    assert isinstance(note, AnnotationURLCitation)
    assert second.text[note.start_index : note.end_index] == "Spain won"


def test_sure_tokens_have_their_bytes() -> None:
    """OpenAI's type wants the bytes and a number; where nobody said them they are made."""
    sure = [
        {"token": "é", "logprob": -1.5, "top_logprobs": [{"token": "a", "bytes": None}]},
        {"token": "b", "logprob": None, "bytes": [1, 2]},
        {},
    ]
    choice = Choice(parts=(Text(text="éb"),), stop="end", logprobs={"content": sure})
    events = checked(Answer(id="a", model="m", choices=(choice,), usage=Usage()))
    expected = [
        {
            "token": "é",
            "logprob": -1.5,
            "bytes": [195, 169],
            "top_logprobs": [{"token": "a", "logprob": 0.0, "bytes": [97]}],
        },
        {"token": "b", "logprob": 0.0, "bytes": [1, 2], "top_logprobs": []},
        {"token": "", "logprob": 0.0, "bytes": [], "top_logprobs": []},
    ]
    told = [one["logprobs"] for one in events if one["type"].startswith("response.output_text")]
    assert told == [expected, expected]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == expected


@pytest.mark.parametrize(
    ("stop", "parts", "reason"),
    [
        ("end", (), None),
        ("stop_sequence", (), None),
        ("pause", (), None),
        ("length", (), "max_output_tokens"),
        ("context_window", (), "max_output_tokens"),
        ("content_filter", (Refusal(text="n"),), "content_filter"),
        ("refusal", (), "content_filter"),
        ("refusal", (Refusal(text="n"),), None),
    ],
)
def test_each_end_has_its_status(stop: Any, parts: tuple[Part, ...], reason: str | None) -> None:
    """Complete, or incomplete for one of OpenAI's two reasons; the first events are neither."""
    events = checked(
        Answer(id="", model="m", choices=(Choice(parts=parts, stop=stop),), usage=Usage())
    )
    status = "completed" if reason is None else "incomplete"
    last = events[-1]["response"]
    assert (events[-1]["type"], last["status"]) == (f"response.{status}", status)
    assert last["incomplete_details"] == (None if reason is None else {"reason": reason})
    assert last["id"] == "resp_req" and last["created_at"] == 1700
    assert [item["status"] for item in last["output"]] == [status] * len(last["output"])
    for event, kind in zip(events, ("created", "in_progress"), strict=False):
        begun = event["response"]
        assert event["type"] == f"response.{kind}" and begun["status"] == "in_progress"
        assert (begun["output"], begun["usage"], begun["error"]) == ([], None, None)
        assert begun["incomplete_details"] is None and "service_tier" not in begun


def test_ids_are_made_where_nobody_has_one() -> None:
    """Two answers without any id have different ones."""
    told = told_of()._replace(request_id="")
    answer = Answer(id="", model="m", choices=(Choice(parts=(), stop="end"),), usage=Usage())
    made = {RESPONSES_CODEC.write_answer(answer, told)["id"] for _ in range(2)}
    assert len(made) == 2 and all(len(one) == len("resp_") + 24 for one in made)


def test_an_answer_says_of_its_request_what_was_not_said_too() -> None:
    """OpenAI's defaults stand where the client said nothing, in OpenAI's own shape."""
    body = RESPONSES_CODEC.write_answer(FULL, told_of())
    echo = {
        "object": "response",
        "background": False,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
    }
    assert {name: body[name] for name in echo} == echo
    assert "prompt_cache_key" not in body and "safety_identifier" not in body
    asked = RESPONSES_CODEC.write_answer(FULL, told_of(ASKED))
    assert (asked["prompt_cache_key"], asked["safety_identifier"]) == ("k", "u")
    assert asked["reasoning"] == {"effort": "low", "summary": "auto"}
    assert asked["top_logprobs"] == 3
    assert asked["text"]["format"] == {**FORM, "strict": True} and "format" in asked["text"]
    assert asked["tool_choice"]["tools"] == [
        {"type": "function", "name": "f"},
        {"type": "custom", "name": "p"},
    ]
    assert body["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    }


def test_a_tool_of_a_namespace_is_the_clients_own_again() -> None:
    """Its call bears the names that the client knows, and the echo has it where it stood."""
    tools = [
        {**NAMESPACE, "tools": [{**FUNCTION, "description": "F"}]},
        {"type": "function", "name": "g", "parameters": {}, "strict": True},
    ]
    asked = read(asked_with(tools=tools))[0]
    parts = (ToolCall(id="c", name="n__f"), ToolCall(id="d", name="g"))
    answer = Answer(
        id="a", model="m", choices=(Choice(parts=parts, stop="tool_calls"),), usage=Usage()
    )
    body = RESPONSES_CODEC.write_answer(answer, told_of(asked))
    first, second = body["output"]
    assert (first["name"], first["namespace"]) == ("f", "n")
    assert second["name"] == "g" and "namespace" not in second
    group, plain = body["tools"]
    assert (group["type"], group["name"], group["description"]) == ("namespace", "n", "d")
    assert [(one["name"], one["description"]) for one in group["tools"]] == [("f", "F")]
    assert plain["name"] == "g"


# Each event of an upstream by itself.


def heard(*events: dict[str, Any], end: dict[str, Any] = COMPLETED) -> Answer:
    return folded(events_in(sse(*events, end)))


def told_at(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


HEAD = {"id": "resp_1", "model": "up", "created_at": 12.5, "service_tier": "flex"}


@pytest.mark.parametrize(
    ("head", "begun"),
    [
        (HEAD, Begun(id="resp_1", model="up", created=12, service_tier="flex")),
        ({}, Begun(id="", model="")),
        (
            {"id": 7, "model": None, "created_at": "x", "service_tier": 7},
            Begun(id="", model=""),
        ),
        ({"created_at": -1}, Begun(id="", model="")),
        ({"created_at": 1e11}, Begun(id="", model="")),
        ({"created_at": 0}, Begun(id="", model="")),
    ],
)
def test_the_head_of_an_answer_is_read(head: dict[str, Any], begun: Begun) -> None:
    """What a server says of itself is told first and once, and what can't be is not believed."""
    created = told_at("created", response=head)
    events = events_in(sse(created, created, COMPLETED))
    assert [event for event in events if isinstance(event, Begun)] == [begun] == events[:1]
    answer = RESPONSES_CODEC.read_answer({**head, "output": []})
    assert (answer.id, answer.model, answer.created, answer.service_tier) == (
        begun.id,
        begun.model,
        begun.created,
        begun.service_tier,
    )


@pytest.mark.parametrize(
    ("kind", "response", "stop"),
    [
        ("completed", {}, "end"),
        ("completed", {"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ("completed", {"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ("completed", {"incomplete_details": {"reason": 7}}, "end"),
        ("completed", {"status": "incomplete"}, "length"),
        ("incomplete", {}, "length"),
        ("incomplete", {"incomplete_details": 7}, "length"),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        (
            "incomplete",
            {"status": "incomplete", "incomplete_details": {"reason": "new"}},
            "length",
        ),
        ("completed", {"output": [CALL]}, "tool_calls"),
        (
            "completed",
            {"output": [{**MESSAGE, "content": [{"type": "refusal", "refusal": "n"}]}]},
            "refusal",
        ),
        ("incomplete", {"output": [CALL]}, "length"),
    ],
)
def test_each_end_is_understood(kind: str, response: dict[str, Any], stop: str) -> None:
    """By its event, its status or its details, in a stream as in a whole answer."""
    events = events_in(sse(told_at(kind, response=response)))
    assert isinstance(events[-1], Counted) and events[-2] == Finished(
        stop=stop  # type: ignore[arg-type]
    )
    status = {"status": "incomplete"} if kind == "incomplete" else {}
    whole = RESPONSES_CODEC.read_answer({"output": [], **status, **response})
    assert whole.choices[0].stop == stop


@pytest.mark.parametrize("kind", ["completed", "incomplete"])
def test_nothing_is_read_behind_the_end(kind: str) -> None:
    """Not even an error; blank events and the end of another dialect say nothing."""
    reader = RESPONSES_CODEC.stream_reader()
    for data in (b"", b" ", b"[DONE]", b" [DONE] ", b'{"type":7}', b'{"type":"new.event"}'):
        assert reader.read(Frame(data)) == []
    end = json.dumps(told_at(kind, response={})).encode()
    assert len(reader.read(Frame(end))) == 3
    assert reader.read(Frame(b"{")) == reader.read(Frame(end)) == reader.end() == []


def test_an_event_may_be_named_outside_its_json() -> None:
    """Servers that say the type in the frame alone are understood."""
    reader = RESPONSES_CODEC.stream_reader()
    delta = reader.read(Frame(b'{"delta":"a"}', "response.output_text.delta"))
    assert delta[-1] == Piece(index=0, text="a")
    (broken,) = RESPONSES_CODEC.stream_reader().read(Frame(b'{"message":"no"}', "error"))
    assert isinstance(broken, Broken)


SIGNED = Signature(origin=OWN, value="gA")
CITED = {"type": "url_citation", "url": "u", "title": "t", "start_index": 1, "end_index": 2}
SURE = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        ([told_at("refusal.delta", delta="no", output_index=0)], (Refusal(text="no"),)),
        ([told_at("refusal.done", refusal="no", output_index=0)], (Refusal(text="no"),)),
        ([told_at("reasoning_text.delta", delta="h", output_index=0)], (Reasoning(text="h"),)),
        ([told_at("reasoning_text.done", text="h", output_index=0)], (Reasoning(text="h"),)),
        (
            [told_at("reasoning_summary_text.done", text="h", output_index=0, summary_index=0)],
            (Reasoning(text="h", summary=True),),
        ),
        (
            [
                told_at("output_item.added", output_index=0, item={**THOUGHT, "id": "rs_2"}),
                told_at("reasoning_text.delta", delta="h", output_index=0, content_index=0),
                told_at("reasoning_text.delta", delta="i", output_index=0, content_index=1),
                told_at("reasoning_text.done", text="i", output_index=0, content_index=1),
            ],
            (Reasoning(text="h\n\ni", id="rs_2"),),
        ),
        (
            [
                told_at("output_item.added", output_index=2, item=CALL),
                told_at("function_call_arguments.done", arguments='{"b":2}', output_index=2),
            ],
            (ToolCall(id="c1", name="f", arguments='{"b":2}'),),
        ),
        (
            [
                told_at("output_item.added", item={**WRITTEN, "id": "ctc_1"}),
                told_at("custom_tool_call_input.delta", delta="x", item_id="ctc_1"),
                told_at("custom_tool_call_input.delta", delta="y", item_id="ctc_1"),
                told_at("custom_tool_call_input.done", input="xy", item_id="ctc_1"),
            ],
            (ToolCall(id="c", name="f", arguments="xy", custom=True),),
        ),
        (
            [
                told_at("output_item.added", item=CALLED),
                told_at("function_call_arguments.delta", delta="{}"),
                told_at("output_item.done", item=CALLED),
            ],
            (ToolCall(id="c", name="f", arguments="{}"),),
        ),
        (
            [
                told_at("output_item.added", item={**CALLED, "call_id": "a"}),
                told_at("output_item.added", item={**CALLED, "call_id": "b"}),
                told_at("function_call_arguments.delta", delta='{"b":1}', item_id="b"),
                told_at("function_call_arguments.delta", delta='{"a":1}', item_id="a"),
            ],
            (
                ToolCall(id="a", name="f", arguments='{"a":1}'),
                ToolCall(id="b", name="f", arguments='{"b":1}'),
            ),
        ),
        (
            [
                told_at("output_text.delta", delta="a", output_index=0, content_index=0),
                told_at("output_text.delta", delta="b", output_index=0, content_index=1),
                told_at("refusal.delta", delta="c", output_index=0, content_index=2),
                told_at("output_text.delta", delta="d", output_index=1, content_index=0),
            ],
            (Text(text="a"), Text(text="b"), Refusal(text="c"), Text(text="d")),
        ),
        (
            [
                told_at("content_part.added", part={"type": "output_text"}, output_index=0),
                told_at(
                    "content_part.done",
                    part={"type": "output_text", "text": "a", "annotations": [CITED]},
                    output_index=0,
                ),
                told_at("output_text.delta", delta="late", output_index=0),
                told_at("output_text.annotation.added", annotation=CITED, output_index=0),
            ],
            (Text(text="a", citations=(LINK,)),),
        ),
        (
            [
                told_at(
                    "content_part.added",
                    part={"type": "refusal"},
                    output_index=0,
                    content_index=1,
                ),
                told_at(
                    "content_part.done",
                    part={"type": "refusal", "refusal": "no"},
                    output_index=0,
                    content_index=1,
                ),
            ],
            (Refusal(text="no"),),
        ),
        (
            [
                told_at("content_part.added", part={"type": "reasoning_text"}, output_index=0),
                told_at("reasoning_text.delta", delta="h", output_index=0),
                told_at(
                    "content_part.done",
                    part={"type": "reasoning_text", "text": "h"},
                    output_index=0,
                ),
                told_at("content_part.added", part={"type": "new"}, output_index=1),
                told_at("content_part.done", part={"type": "new"}, output_index=1),
            ],
            (Reasoning(text="h"),),
        ),
        (
            [
                told_at("content_part.added", part={"type": "output_text"}, output_index=0),
                told_at(
                    "output_text.annotation.added",
                    annotation=CITED,
                    output_index=0,
                    content_index=1,
                ),
            ],
            (Text(text=""), Text(text="", citations=(LINK,))),
        ),
        (
            [told_at("output_item.done", output_index=0, item={**THOUGHT, "summary": []})],
            (),
        ),
        (
            [
                told_at("reasoning_text.delta", delta="h", output_index=0),
                told_at(
                    "output_item.done",
                    output_index=0,
                    item={**THOUGHT, "encrypted_content": "gA"},
                ),
            ],
            (Reasoning(text="h", signature=SIGNED),),
        ),
        (
            [told_at("output_item.done", item={**THOUGHT, "encrypted_content": "gA"})],
            (Reasoning(redacted=True, id="rs_1", signature=SIGNED),),
        ),
        (
            [told_at("output_item.done", output_index=0, item=DRAWN)],
            (Media(kind="image", source=PNG),),
        ),
        ([told_at("output_item.done", output_index=0, item={**DRAWN, "result": None})], ()),
        ([told_at("output_item.done", output_index=0, item={"type": "web_search_call"})], ()),
        ([told_at("output_item.added", output_index=0)], ()),
        ([told_at("function_call_arguments.delta", delta="{}", output_index=0)], ()),
        ([told_at("output_text.delta", delta="", output_index=0)], ()),
        ([told_at("output_text.annotation.added", output_index=0)], ()),
        ([told_at("output_text.other", text="x"), told_at("new.delta", delta="x")], ()),
    ],
)
def test_each_event_is_read(events: list[dict[str, Any]], parts: tuple[Part, ...]) -> None:
    """It adds what it says to the item and the part that it names, and parts open and close."""
    assert heard(*events).choices[0].parts == parts
    told = events_in(sse(*events, COMPLETED))
    opened = [event.index for event in told if isinstance(event, Opened)]
    closed = [event.index for event in told if isinstance(event, Closed)]
    assert opened == sorted(closed) == list(range(len(parts)))


def test_whole_items_are_told_once() -> None:
    """The response at the end holds them all again: those that are news alone are told."""
    text = told_at("output_item.done", output_index=0, item={**MESSAGE, "id": "msg_1"})
    by_id = told_at("output_item.done", item={**CALL, "id": "fc_9"})
    seen = [{**MESSAGE, "id": "msg_1"}, {**CALL, "id": "fc_9"}, {**DRAWN, "id": "ig_9"}]
    end = told_at("completed", response={"output": seen})
    assert heard(text, by_id, end=end).choices[0].parts == (
        Text(text="Hello"),
        ToolCall(id="c1", name="f", arguments='{"a":1}'),
        Media(kind="image", source=PNG),
    )


def test_sure_tokens_are_heard() -> None:
    """Those of deltas, of a text's end that had none, and of whole answers."""
    place = {"output_index": 0, "content_index": 0}
    expected = {"content": [SURE], "refusal": None}
    item = {**MESSAGE, "content": [{"type": "output_text", "text": "a", "logprobs": [SURE]}]}
    for event in (
        told_at("output_text.delta", delta="a", logprobs=[SURE], **place),
        told_at("output_text.done", text="a", logprobs=[SURE], **place),
        told_at("output_item.done", item=item, **place),
    ):
        choice = heard(event).choices[0]
        assert choice.logprobs == expected and choice.parts == (Text(text="a"),)
    assert heard(told_at("refusal.delta", delta="a", logprobs=[SURE])).choices[0].logprobs is None
    output = [{"type": "reasoning", "summary": []}, item]
    assert RESPONSES_CODEC.read_answer({"output": output}).choices[0].logprobs == expected
    assert RESPONSES_CODEC.read_answer({"output": [MESSAGE]}).choices[0].logprobs is None
    with pytest.raises(UpstreamProtocolError):
        RESPONSES_CODEC.read_answer({"output": [{**MESSAGE, "content": [7]}]})


def test_an_unsaid_item_belongs_to_the_newest_open_part() -> None:
    """A server that doesn't say whose arguments it tells means the call that began last."""
    first, second = {**CALL, "id": "fc_1"}, {**CALL, "id": "fc_2", "call_id": "c2", "name": "g"}
    answer = heard(
        told_at("output_item.added", output_index=0, item=first),
        told_at("function_call_arguments.delta", delta="{}", output_index=0),
        told_at("output_item.done", output_index=0, item={**first, "arguments": "{}"}),
        told_at("output_item.added", output_index=1, item=second),
        told_at("function_call_arguments.delta", delta='{"b":1}'),
    )
    assert answer.choices[0].parts == (
        ToolCall(id="c1", name="f", arguments="{}"),
        ToolCall(id="c2", name="g", arguments='{"b":1}'),
    )


COUNTS = {
    "input_tokens": 50,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 30},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 59,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            Usage(50, 9, 20, 4, True, cache_write_tokens=30),
        ),
        (
            {"input_tokens_details": None, "output_tokens_details": None},
            Usage(50, 9, reported=True),
        ),
        (
            {"output_tokens_details": {"reasoning_tokens": 99}, "input_tokens_details": {}},
            Usage(50, 9, reasoning_tokens=9, reported=True),
        ),
        ({"input_tokens": 49}, Usage()),
        ({"output_tokens": -1, "output_tokens_details": None}, Usage()),
        ({"output_tokens_details": {"reasoning_tokens": -1}}, Usage()),
        ({"input_tokens_details": {"cached_tokens": -1}}, Usage()),
        ({"input_tokens_details": {"cache_write_tokens": -1}}, Usage()),
        (
            {
                "output_tokens": 1_000_000_000,
                "input_tokens_details": None,
                "output_tokens_details": None,
            },
            Usage(50, 1_000_000_000, reported=True),
        ),
        ({"output_tokens": 1_000_000_001}, Usage()),
        ({"input_tokens": 1_000_000_001}, Usage()),
    ],
)
def test_counts_are_read_with_distrust(changes: dict[str, Any], expected: Usage) -> None:
    """Whole or streamed, they are the same; what can't be is as good as none."""
    usage = COUNTS | changes
    assert RESPONSES_CODEC.read_answer({"output": [], "usage": usage}).usage == expected
    assert heard(end=told_at("completed", response={"usage": usage})).usage == expected


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, UpstreamFailed),
        ({"code": "server_error", "message": "m"}, UpstreamFailed),
        ({"code": "empty_image_file", "message": "m"}, UpstreamRejected),
        ({"code": "unsupported_image_media_type", "message": "m"}, UpstreamRejected),
        ({"code": "image_too_large", "message": "m"}, UpstreamRejected),
        ({"code": "invalid_prompt", "message": "m"}, UpstreamRejected),
        ({"code": 7, "message": "m"}, UpstreamFailed),
    ],
)
@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_each_failure_is_the_error_that_fits(error: Any, kind: type[Exception], state: str) -> None:
    """Requests that OpenAI blames are the client's fault, whole or streamed."""
    end = told_at(state, response={"error": error})
    (broken,) = [one for one in events_in(sse(end)) if isinstance(one, Broken)]
    assert type(broken.error) is kind
    with pytest.raises(kind):
        RESPONSES_CODEC.read_answer({"status": "failed", "error": error, "output": []})
    if error is not None:
        with pytest.raises(kind):
            RESPONSES_CODEC.read_answer({"error": error, "output": []})


@pytest.mark.parametrize(
    "event",
    [
        told_at("output_item.done"),
        told_at("content_part.added"),
        told_at("content_part.added", part={"type": 7}),
        told_at("content_part.done"),
        told_at("content_part.done", part={"type": 7}),
        told_at("completed"),
        told_at("completed", response={"output": 7}),
        told_at("output_item.done", output_index=-1, item=MESSAGE),
        told_at("output_text.delta", delta=7),
        told_at("output_text.done", text=7),
        told_at("output_text.delta", delta="x", content_index="x"),
        told_at("output_text.delta", delta="x", item_id=7),
        told_at("output_text.delta", delta="x", logprobs=[7]),
        told_at("output_item.added", item={**CALL, "name": None}),
        told_at("output_item.added", item={**CALL, "id": 7}),
        told_at("reasoning_summary_text.delta", delta="x", summary_index=-1),
    ],
)
def test_each_odd_event_is_a_protocol_error(event: dict[str, Any]) -> None:
    """A field that is missing or has another type is the upstream's fault."""
    with pytest.raises(UpstreamProtocolError):
        events_in(sse(event))
