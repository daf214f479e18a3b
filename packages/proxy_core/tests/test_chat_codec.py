"""Chat completions in translation: requests and whole answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, completion_create_params
from pydantic import TypeAdapter

from proxy_core import Usage, errors
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Answer,
    CacheMark,
    Choice,
    Citation,
    Conversation,
    Media,
    OutputFormat,
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
from proxy_core.dialects._chat import CHAT_CODEC
from proxy_core.dialects._codec import Losses, Told

REQUEST: TypeAdapter[Any] = TypeAdapter(completion_create_params.CompletionCreateParamsBase)
FEW = settings(max_examples=20, deadline=None)

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
marks = st.none() | st.builds(CacheMark, ttl=st.sampled_from([None, "5m", "1h"]))
schemas = st.sampled_from([{"type": "object", "properties": {"x": {"type": "integer"}}}, {}])
texts = st.builds(Text, text=words, cache=marks)
pictures = st.builds(
    Media,
    kind=st.just("image"),
    source=st.sampled_from(
        [
            Source(kind="base64", data="aGk=", media_type="image/png"),
            Source(kind="url", data="https://x.example/a.png"),
        ]
    ),
    detail=st.sampled_from([None, "low", "high"]),
    cache=marks,
)
sounds = st.builds(
    lambda kind: Media(kind="audio", source=Source(kind="base64", data="aGk=", media_type=kind)),
    st.sampled_from(["audio/wav", "audio/mpeg"]),
)
papers = st.builds(
    Media,
    kind=st.just("file"),
    source=st.sampled_from(
        [
            Source(kind="base64", data="aGk=", media_type="application/pdf"),
            Source(kind="file", data="file-1"),
        ]
    ),
    name=st.sampled_from([None, "a.pdf"]),
)
users = st.builds(
    Turn,
    role=st.just("user"),
    parts=st.lists(texts | pictures | sounds | papers, max_size=3).map(tuple),
    name=st.none() | names,
)
systems = st.builds(Turn, role=st.just("system"), parts=st.tuples(texts))
own = st.none() | st.builds(Signature, origin=st.just("openai.chat"), value=names)
thoughts = st.builds(Reasoning, text=words, signature=own.filter(bool), id=st.none() | names)


@st.composite
def exchanges(draw: st.DrawFn) -> list[Turn]:
    """An assistant's turn that calls tools, and what they said."""
    count = draw(st.integers(0, 2))
    calls = [
        ToolCall(
            id=f"call_{draw(names)}{n}",
            name=draw(names),
            arguments=draw(st.sampled_from(["{}", '{"a": 1}'])) if n else "any text",
            custom=n == 0,
            signature=draw(own),
        )
        for n in range(count)
    ]
    said = draw(st.lists(texts, max_size=2))
    refused = draw(st.booleans())
    parts = (
        *draw(st.lists(thoughts, max_size=2)),
        *said,
        *((Refusal(text="no"),) if refused else ()),
        *calls,
    )
    results = tuple(
        ToolResult(
            id=call.id,
            name=call.name,
            parts=tuple(draw(st.lists(st.builds(Text, text=words), max_size=2))),
            custom=call.custom,
            cache=draw(marks),
        )
        for call in calls
    )
    turns = [Turn(role="assistant", parts=parts)]
    return [*turns, Turn(role="tool", parts=results)] if results else turns


functions = st.builds(
    Tool,
    name=names,
    description=st.none() | words,
    parameters=st.none() | schemas,
    strict=st.none() | st.booleans(),
    cache=marks,
)
customs = st.builds(
    Tool,
    name=names,
    kind=st.just("custom"),
    own=st.sampled_from([None, {"type": "grammar", "syntax": "lark", "definition": "start: A"}]),
)
choices = st.sampled_from(
    [
        None,
        ToolChoice(mode="auto"),
        ToolChoice(mode="none"),
        ToolChoice(mode="required"),
        ToolChoice(mode="named", names=("f",)),
        ToolChoice(mode="named", names=("f", "g")),
    ]
)
numbers = st.none() | st.floats(0, 1, width=16)
samplings = st.builds(
    Sampling,
    temperature=numbers,
    top_p=numbers,
    top_k=st.none() | st.integers(1, 9),
    presence_penalty=numbers,
    frequency_penalty=numbers,
    seed=st.none() | st.integers(-5, 5),
    logit_bias=st.sampled_from([None, {"50256": -100}]),
    logprobs=st.none() | st.booleans(),
    top_logprobs=st.none() | st.integers(0, 5),
)
formats = st.sampled_from(
    [
        None,
        OutputFormat(kind="json"),
        OutputFormat(kind="schema", name="n", schema={"type": "object"}, strict=True),
        OutputFormat(kind="schema", name="n", schema={}, description="d"),
    ]
)
wishes = st.sampled_from(
    [
        None,
        ReasoningWish(effort="low"),
        ReasoningWish(effort="max"),
        ReasoningWish(enabled=False, effort="none"),
    ]
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Whatever this dialect can carry."""
    tools = tuple(draw(st.lists(functions | customs, max_size=3)))
    stream = draw(st.booleans())
    turns = [*draw(st.lists(systems, max_size=1)), draw(users), *draw(exchanges()), draw(users)]
    return Conversation(
        model="asked",
        turns=tuple(turns),
        tools=tools,
        tool_choice=draw(choices) if tools else None,
        parallel=draw(st.none() | st.booleans()) if tools else None,
        max_tokens=draw(st.none() | st.integers(1, 99)),
        sampling=draw(samplings),
        stop=tuple(draw(st.lists(words, max_size=2))),
        n=draw(st.none() | st.integers(1, 3)),
        output=draw(formats),
        modalities=draw(st.sampled_from([(), ("text", "audio")])),
        audio=draw(st.sampled_from([None, {"voice": "alloy", "format": "mp3"}])),
        reasoning=draw(wishes),
        verbosity=draw(st.sampled_from([None, "low"])),
        service_tier=draw(st.sampled_from([None, "flex"])),
        user=draw(st.none() | names),
        metadata=draw(st.sampled_from([None, {"a": "b"}])),
        cache_key=draw(st.none() | names),
        cache_all=draw(marks),
        store=draw(st.none() | st.booleans()),
        stream=stream,
        include_usage=stream,
    )


def read(body: dict[str, Any]) -> tuple[Conversation, Losses]:
    losses = Losses()
    return CHAT_CODEC.read_request(body, losses), losses


def write(conversation: Conversation, **can: Any) -> tuple[dict[str, Any], Losses]:
    losses = Losses()
    return CHAT_CODEC.write_request(conversation, "theirs", Abilities(**can), losses), losses


def exhaust(value: Any) -> None:
    """Pydantic checks an Iterable as it is read: read all of them."""
    for inner in value.values() if isinstance(value, dict) else value:
        if not isinstance(inner, str | bytes | int | float | None):
            exhaust(inner)


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields


def said(*messages: dict[str, Any]) -> tuple[Turn, ...]:
    return read(ask(messages=list(messages)))[0].turns


def grave(losses: Losses) -> list[str]:
    return [loss.field for loss in losses.all if loss.grave]


def named(losses: Losses) -> list[str]:
    return [loss.field for loss in losses.all]


@FEW
@given(conversations())
def test_a_request_comes_back_as_it_was(conversation: Conversation) -> None:
    """Written for an upstream and read as a client's, a request is the same, and OpenAI's own
    types take it."""
    body, losses = write(conversation)
    assert losses.all == []
    exhaust(REQUEST.validate_python(body))
    again, losses = read(json.loads(json.dumps(body)))
    assert again == Conversation(
        **{name: getattr(conversation, name) for name in conversation.__struct_fields__}
        | {"model": "theirs"}
    )
    assert losses.all == []


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=30, deadline=None)
@given(conversations(), junk, st.randoms(use_true_random=False))
def test_no_body_surprises_the_reader(conversation: Conversation, wrong: Any, random: Any) -> None:
    """With any value in any place a request is read or refused, and nothing else."""
    body = json.loads(json.dumps(write(conversation)[0]))
    place, key = body, random.choice(list(body))
    while isinstance(place[key], dict | list) and place[key] and random.random() < 0.8:
        place = place[key]
        key = random.choice(list(place) if isinstance(place, dict) else range(len(place)))
    place[key] = wrong
    try:
        read(body)
    except errors.InvalidRequest as error:
        refused = error
        assert refused.param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "smell", "smell": {}}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            "messages[0].tool_calls[0].function",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"temperature": "warm"}, "temperature"),
        ({"reasoning_effort": "hi"}, "reasoning_effort"),
        ({"reasoning": {"effort": "hi"}}, "reasoning.effort"),
        ({"stop": [1]}, "stop[0]"),
        ({"stop": 1}, "stop"),
        ({"n": 0}, "n"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"stream_options": {"include_usage": "yes"}, "stream": True}, "stream_options"),
    ],
)
def test_a_wrong_type_is_refused_by_its_path(fields: dict[str, Any], param: str) -> None:
    """What has a wrong type is refused with the path of the field that has it."""
    with pytest.raises(errors.InvalidRequest) as refused:
        read(ask(**fields))
    assert (refused.value.param or "").startswith(param)


def test_null_is_as_good_as_absent() -> None:
    """Fields that are null, as some clients send all of them, say nothing."""
    fields = completion_create_params.CompletionCreateParamsBase.__annotations__
    nulls = dict.fromkeys(fields) | ask()
    assert read(nulls)[0] == read(ask())[0]


@pytest.mark.parametrize(
    ("field", "value", "is_grave"),
    [
        ("web_search_options", {}, True),
        ("moderation", {"model": "m"}, True),
        ("prediction", {"type": "content", "content": "x"}, False),
        ("prompt_cache_retention", "24h", False),
        ("tomorrows_field", 1, False),
    ],
)
def test_what_has_no_word_is_named(field: str, value: Any, is_grave: bool) -> None:
    """A field that can't be translated is among the losses."""
    losses = read(ask(**{field: value}))[1]
    assert [(loss.field, loss.grave) for loss in losses.all] == [(field, is_grave)]


def test_every_field_of_the_sdk_is_known() -> None:
    """No parameter of the official client is unknown to the translation."""
    known = completion_create_params.CompletionCreateParamsStreaming.__annotations__
    inherited = completion_create_params.CompletionCreateParamsBase.__annotations__
    for name in {**known, **inherited}:
        try:
            losses = read(ask() | {name: {}})[1]
        except errors.InvalidRequest:
            continue
        assert all("not known" not in loss.why for loss in losses.all if loss.field == name)


def test_deprecated_functions_are_tools() -> None:
    """``functions`` and ``function_call`` are read as tools, calls and results that belong
    together."""
    body = ask(
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
        messages=[
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
            {"role": "function", "name": "f", "content": "5"},
        ],
    )
    conversation = read(body)[0]
    assert conversation.tools == (Tool(name="f", parameters={"type": "object"}),)
    assert conversation.tool_choice == ToolChoice(mode="named", names=("f",))
    (call,), (result,) = (turn.parts for turn in conversation.turns)
    assert isinstance(call, ToolCall) and call.arguments == "{}"
    assert result == ToolResult(id=call.id, name="f", parts=(Text(text="5"),))


def test_the_newer_cap_counts_and_minus_one_is_none() -> None:
    """Of two caps the newer one counts; -1 is how local servers are told that there is none."""
    assert read(ask(max_tokens=5, max_completion_tokens=7))[0].max_tokens == 7
    assert read(ask(max_tokens=5))[0].max_tokens == 5
    assert read(ask(max_tokens=-1))[0].max_tokens is None


def test_allowed_tools_leave_out_the_others() -> None:
    """Where the model may pick among some of the tools or none, the others are not offered."""
    tools = [{"type": "function", "function": {"name": name}} for name in "fg"]
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    conversation = read(ask(tools=tools, tool_choice=choice))[0]
    assert [tool.name for tool in conversation.tools] == ["g"]
    assert conversation.tool_choice == ToolChoice(mode="auto")


def test_arguments_that_are_no_object_are_kept() -> None:
    """What a model wrote instead of JSON goes on as the text of one field, and is announced."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{oops"}}
    conversation, losses = read(ask(messages=[{"role": "assistant", "tool_calls": [call]}]))
    (read_call,) = conversation.turns[0].parts
    assert isinstance(read_call, ToolCall) and json.loads(read_call.arguments) == {"_raw": "{oops"}
    assert named(losses) == ["messages[0].tool_calls[0].function.arguments"]


def test_wishes_for_reasoning_in_others_words() -> None:
    """OpenRouter's and DeepSeek's ways to ask for thinking are understood."""
    wish = read(ask(reasoning={"max_tokens": 2000, "exclude": True}))[0].reasoning
    assert wish == ReasoningWish(budget=2000, shown=False)
    off = read(ask(thinking={"type": "disabled"}))[0].reasoning
    assert off == ReasoningWish(enabled=False)


FOREIGN = Signature(origin="anthropic.messages", value="c2ln")
THOUGHT = (
    Reasoning(text="hm", signature=FOREIGN),
    Reasoning(redacted=True, signature=FOREIGN),
    Reasoning(text="in short", summary=True, id="rs_1"),
    Text(text="hi", signature=Signature(origin="gemini.generate", value="dGV4dA==")),
    ToolCall(
        id="toolu_1", name="f", signature=Signature(origin="gemini.generate", value="Y2FsbA==")
    ),
)
TOLD = Told("asked", Conversation(model="asked", turns=()), "r1", 1_700_000_000)


def answered(*parts: Any, stop: Any = "end", **fields: Any) -> dict[str, Any]:
    choice = Choice(parts=parts, stop=stop)
    answer = Answer(id="a", model="m", choices=(choice,), usage=Usage(1, 2, reported=True))
    for name, value in fields.items():
        setattr(answer, name, value)
    body = CHAT_CODEC.write_answer(answer, TOLD)
    ChatCompletion.model_validate(body, strict=True)
    return body


def test_a_client_that_sends_an_answer_back_carries_the_signatures() -> None:
    """A message that the official client was given, sent back as the client has it, holds
    reasoning, texts and calls with the signatures of whoever signed them, and once."""
    message = ChatCompletion.model_validate(answered(*THOUGHT)).choices[0].message
    assert message.model_extra and message.model_extra["reasoning_content"] == "hmin short"
    assert said(message.model_dump())[0].parts == THOUGHT


def test_foreign_signatures_never_reach_an_upstream() -> None:
    """What another provider signed is left out of a request and announced, without being grave."""
    turn = Turn(role="assistant", parts=THOUGHT)
    body, losses = write(Conversation(model="m", turns=(turn,)))
    assert "c2ln" not in json.dumps(body) and "Y2FsbA" not in json.dumps(body)
    assert body["messages"][0]["reasoning_content"] == "in short"
    assert grave(losses) == [] and set(named(losses)) == {"messages[0].reasoning"}


def test_openrouters_details_go_back_unchanged() -> None:
    """Details that a compatible upstream gave are sent back to it with their formats, for it wants
    them unchanged."""
    details: list[dict[str, Any]] = [
        {"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1"},
        {"type": "reasoning.summary", "summary": "u", "id": "rs", "signature": "v"},
        {"type": "reasoning.encrypted", "data": "d", "id": "rs", "format": "openai-responses-v1"},
    ]
    details = [{"index": n, **detail} for n, detail in enumerate(details)]
    message = {"role": "assistant", "content": "x", "reasoning": "tu", "reasoning_details": details}
    answer = CHAT_CODEC.read_answer({"choices": [{"message": message, "finish_reason": "stop"}]})
    turn = Turn(role="assistant", parts=answer.choices[0].parts)
    body, losses = write(Conversation(model="m", turns=(turn,)))
    assert body["messages"][0]["reasoning_details"] == details
    assert losses.all == []


@pytest.mark.parametrize(
    ("can", "fields", "field", "is_grave"),
    [
        ({"temperature": False}, {"sampling": Sampling(temperature=1)}, "temperature", False),
        ({"max_temperature": 1}, {"sampling": Sampling(temperature=2)}, "temperature", False),
        (
            {"sampling_while_reasoning": False},
            {"sampling": Sampling(top_p=1), "reasoning": ReasoningWish(effort="low")},
            "top_p",
            False,
        ),
        ({"seed": False}, {"sampling": Sampling(seed=1)}, "seed", False),
        ({"most_stops": 1}, {"stop": ("a", "b")}, "stop", False),
        ({"many_answers": False}, {"n": 2}, "n", True),
        ({"tools": False}, {"tools": (Tool(name="f"),)}, "tools", True),
        ({}, {"tools": (Tool(name="s", kind="web_search_20250305"),)}, "tools[0]", True),
        (
            {"forced_tools": False},
            {"tools": (Tool(name="f"),), "tool_choice": ToolChoice(mode="required")},
            "tool_choice",
            True,
        ),
        (
            {"parallel_switch": False},
            {"tools": (Tool(name="f"),), "parallel": False},
            "parallel_tool_calls",
            False,
        ),
        ({"json_object": False}, {"output": OutputFormat(kind="json")}, "response_format", True),
        (
            {"json_schema": False},
            {"output": OutputFormat(kind="schema", schema={})},
            "response_format",
            True,
        ),
        ({"efforts": ("low",)}, {"reasoning": ReasoningWish(effort="max")}, "reasoning_effort", 0),
        ({}, {"reasoning": ReasoningWish(budget=3000)}, "reasoning_effort", False),
        ({"reasoning": ()}, {"reasoning": ReasoningWish(effort="low")}, "reasoning_effort", False),
        ({"user": False}, {"user": "u"}, "user", False),
        ({"store": False}, {"store": True}, "store", False),
        ({"service_tiers": False}, {"service_tier": "flex"}, "service_tier", False),
        ({"cache_marks": False}, {"cache_all": CacheMark()}, "cache_control", False),
    ],
)
def test_what_the_model_does_not_take_is_named(
    can: dict[str, Any], fields: dict[str, Any], field: str, is_grave: bool
) -> None:
    """Each ability that a model lacks leaves its field out, and says so."""
    turns = (Turn(role="user", parts=(Text(text="hi"),)),)
    body, losses = write(Conversation(model="m", turns=turns, **fields), **can)
    exhaust(REQUEST.validate_python(body))
    assert [(loss.field, loss.grave) for loss in losses.all] == [(field, is_grave)]


@pytest.mark.parametrize(
    ("can", "part"),
    [
        ({"images": False}, Media(kind="image", source=Source(kind="url", data="https://x"))),
        ({"image_urls": False}, Media(kind="image", source=Source(kind="url", data="https://x"))),
        ({"audio": False}, Media(kind="audio", source=Source(kind="base64", data="aGk="))),
        ({}, Media(kind="audio", source=Source(kind="url", data="https://x"))),
        ({"video": False}, Media(kind="video", source=Source(kind="url", data="https://x"))),
        ({"files": False}, Media(kind="file", source=Source(kind="file", data="f"))),
    ],
)
def test_content_that_is_not_taken_is_a_grave_loss(can: dict[str, Any], part: Media) -> None:
    """A picture, sound, film or file that can't go is named by its place, and it is grave."""
    turns = (Turn(role="user", parts=(Text(text="hi"), part)),)
    body, losses = write(Conversation(model="m", turns=turns), **can)
    assert grave(losses) == ["messages[0].content[1]"]
    assert body["messages"] == [{"role": "user", "content": "hi"}]


def test_a_tools_picture_follows_as_the_users() -> None:
    """A tool's message takes text alone: pictures follow, behind all results of the turn."""
    picture = Media(kind="image", source=Source(kind="url", data="https://x.example/p.png"))
    results = (ToolResult(id="a", parts=(picture,)), ToolResult(id="b", parts=(Text(text="5"),)))
    body, losses = write(Conversation(model="m", turns=(Turn(role="tool", parts=results),)))
    exhaust(REQUEST.validate_python(body))
    assert [message["role"] for message in body["messages"]] == ["tool", "tool", "user"]
    assert body["messages"][2]["content"][1]["image_url"]["url"] == "https://x.example/p.png"
    assert losses.all == []


def test_late_system_messages_become_the_users() -> None:
    """A model without late system messages gets them as a user's marked text."""
    turns = (
        Turn(role="developer", parts=(Text(text="be kind"),)),
        Turn(role="user", parts=(Text(text="hi"),)),
        Turn(role="system", parts=(Text(text="be brief"),)),
    )
    body, losses = write(Conversation(model="m", turns=turns), late_system=False)
    assert [message["role"] for message in body["messages"]] == ["system", "user", "user"]
    assert "be brief" in body["messages"][2]["content"]
    assert named(losses) == ["messages[2]"] and grave(losses) == []


def test_ids_that_are_too_long_stay_together() -> None:
    """A call and its result keep one id of a length that OpenAI takes."""
    long = "x" * 100
    call = Turn(role="assistant", parts=(ToolCall(id=long, name="f"),))
    result = Turn(role="tool", parts=(ToolResult(id=long),))
    first, second = write(Conversation(model="m", turns=(call, result)))[0]["messages"]
    assert first["tool_calls"][0]["id"] == second["tool_call_id"]
    assert len(second["tool_call_id"]) <= 40


def test_cache_marks_go_to_nobody_who_refuses_them() -> None:
    """Marks of Claude Code's kind, on texts, tools and results, are left out, each by its name."""
    mark = CacheMark()
    call = ToolCall(id="c", name="f", arguments="{}")
    result = ToolResult(id="c", name="f", parts=(Text(text="ok", cache=mark),), cache=mark)
    turns = (
        Turn(role="system", parts=(Text(text="a"), Text(text="b", cache=mark))),
        Turn(role="assistant", parts=(call,)),
        Turn(role="tool", parts=(result,)),
    )
    asked = Conversation(model="m", turns=turns, tools=(Tool(name="f", cache=mark),))
    body, losses = write(asked, cache_marks=False)
    assert "cache_control" not in json.dumps(body)
    assert grave(losses) == []
    assert sorted(named(losses)) == [
        "messages[0].content[1].cache_control",
        "messages[2].content[0].cache_control",
        "messages[2].content[0].content[0].cache_control",
        "tools[0].cache_control",
    ]


def test_the_cap_goes_by_the_name_that_the_target_knows() -> None:
    """The cap is ``max_completion_tokens`` unless the target knows the older name alone."""
    conversation = Conversation(model="m", turns=(), max_tokens=5)
    assert write(conversation)[0]["max_completion_tokens"] == 5
    assert write(conversation, cap_field="max_tokens")[0]["max_tokens"] == 5


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end", "stop"),
        ("stop_sequence", "stop"),
        ("pause", "stop"),
        ("length", "length"),
        ("context_window", "length"),
        ("refusal", "content_filter"),
        ("content_filter", "content_filter"),
        (None, "stop"),
    ],
)
def test_stop_reasons_are_openais_own(stop: Any, reason: str) -> None:
    """Each stop reason has one word of OpenAI's, and a call makes an ordinary end one of calls."""
    assert answered(Text(text="x"), stop=stop)["choices"][0]["finish_reason"] == reason
    called = answered(ToolCall(id="a", name="f"), stop=stop)["choices"][0]["finish_reason"]
    assert called == ("tool_calls" if reason == "stop" else reason)


def test_an_empty_answer_has_every_required_field() -> None:
    """Where an upstream told nothing the required fields are there all the same."""
    body = answered(id="", created=0, service_tier="standard_only")
    assert body["id"] == "chatcmpl-r1" and body["created"] == TOLD.created
    assert body["choices"][0]["message"] == {"role": "assistant", "content": None, "refusal": None}
    assert "service_tier" not in body


def test_citations_stand_where_their_text_does() -> None:
    """The places of citations count in the whole message, though each text counts for itself."""
    cited = Text(text="snow", citations=(Citation(kind="search", url="https://x", start=1, end=3),))
    body = answered(Text(text="See: "), cited)
    annotations = ChatCompletion.model_validate(body).choices[0].message.annotations
    assert annotations and len(annotations) == 1
    content = body["choices"][0]["message"]["content"]
    place = annotations[0].url_citation
    assert content[place.start_index : place.end_index] == "no"


@pytest.mark.parametrize(
    ("told", "want"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 9}, (3, 6)),
        ({"prompt_tokens": -3, "completion_tokens": 2}, None),
        ({"prompt_tokens": 3, "completion_tokens": 2e10}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": 3}, None),
        ("many", None),
    ],
)
def test_usage_is_distrusted(told: Any, want: tuple[int, int] | None) -> None:
    """Counts that can't be are none; thinking that stands in the total alone is output."""
    message = {"role": "assistant", "content": "x"}
    body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": told}
    usage = CHAT_CODEC.read_answer(body).usage
    assert usage.reported is (want is not None)
    assert want is None or (usage.input_tokens, usage.output_tokens) == want


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "slow down", "code": 429}}, errors.UpstreamThrottled),
        ({"object": "error", "message": "maximum context length"}, errors.UpstreamRejected),
        ({"choices": [{"error": {"message": "no", "code": 502}}]}, errors.UpstreamFailed),
        ({"choices": []}, errors.UpstreamProtocolError),
        ({"choices": [{}]}, errors.UpstreamProtocolError),
        (
            {"choices": [{"message": {"content": ""}, "finish_reason": "error"}]},
            errors.UpstreamFailed,
        ),
        (
            {"choices": [{"message": {"tool_calls": [{"function": {}}]}}]},
            errors.UpstreamProtocolError,
        ),
    ],
)
def test_what_is_no_answer_is_an_error(body: dict[str, Any], kind: type[Exception]) -> None:
    """An error inside a 200, or a body without an answer, is raised as what it is."""
    with pytest.raises(kind):
        CHAT_CODEC.read_answer(body)


def test_an_imitators_answer_is_understood() -> None:
    """Mistral's thinking in the content, arguments as an object, a call without an id, vLLM's
    matched stop and a word of Anthropic's for the end are read as what they mean."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    message = {
        "content": [thinking, {"type": "text", "text": "hi"}],
        "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
    }
    body = {"choices": [{"message": message, "finish_reason": "end_turn"}]}
    choice = CHAT_CODEC.read_answer(body).choices[0]
    thought, text, call = choice.parts
    assert (thought, text) == (Reasoning(text="hm"), Text(text="hi"))
    assert isinstance(call, ToolCall) and json.loads(call.arguments) == {"a": 1}
    assert call.id.startswith("call_") and choice.stop == "tool_calls"
    stopped = {"message": {"content": "x"}, "finish_reason": "stop", "stop_reason": "END"}
    choice = CHAT_CODEC.read_answer({"choices": [stopped]}).choices[0]
    assert (choice.stop, choice.stop_sequence) == ("stop_sequence", "END")


# Each word of a request by itself.


FUNCTION: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
CUSTOM: dict[str, Any] = {"type": "custom", "custom": {"name": "p"}}
SCHEMA = {"name": "n", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0}, {"sampling": Sampling(temperature=0)}),
        ({"top_p": 0.5}, {"sampling": Sampling(top_p=0.5)}),
        ({"presence_penalty": -1}, {"sampling": Sampling(presence_penalty=-1)}),
        ({"frequency_penalty": -2}, {"sampling": Sampling(frequency_penalty=-2)}),
        ({"seed": -5}, {"sampling": Sampling(seed=-5)}),
        ({"seed": -(2**63)}, {"sampling": Sampling(seed=-(2**63))}),
        ({"logit_bias": {"1": -100}}, {"sampling": Sampling(logit_bias={"1": -100})}),
        ({"logprobs": False}, {"sampling": Sampling(logprobs=False)}),
        ({"top_logprobs": 0}, {"sampling": Sampling(top_logprobs=0)}),
        ({"top_k": 1}, {"sampling": Sampling(top_k=1)}),
        ({"top_k": 0}, {}),
        ({"top_k": -1}, {}),
        ({"max_tokens": 0}, {"max_tokens": 0}),
        ({"max_completion_tokens": 0, "max_tokens": 5}, {"max_tokens": 0}),
        ({"max_completion_tokens": -1, "max_tokens": 5}, {}),
        ({"stop": "a"}, {"stop": ("a",)}),
        ({"stop": ["a", "b"]}, {"stop": ("a", "b")}),
        ({"n": 1}, {"n": 1}),
        ({"modalities": ["text", "audio"]}, {"modalities": ("text", "audio")}),
        ({"audio": {"voice": "v"}}, {"audio": {"voice": "v"}}),
        ({"verbosity": "low"}, {"verbosity": "low"}),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"user": "a"}, {"user": "a"}),
        ({"safety_identifier": "b"}, {"user": "b"}),
        ({"user": "a", "safety_identifier": "a"}, {"user": "a"}),
        ({"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
        ({"prompt_cache_key": "k"}, {"cache_key": "k"}),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_all": CacheMark()}),
        (
            {"cache_control": {"type": "ephemeral", "ttl": "5m"}},
            {"cache_all": CacheMark(ttl="5m")},
        ),
        (
            {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"cache_all": CacheMark(ttl="1h")},
        ),
        ({"store": False}, {"store": False}),
        ({"parallel_tool_calls": False}, {"parallel": False}),
        ({"stream": True}, {"stream": True}),
        (
            {"stream": True, "stream_options": {"include_usage": True}},
            {"stream": True, "include_usage": True},
        ),
        ({"stream": True, "stream_options": {"include_usage": False}}, {"stream": True}),
        (
            {"stream": True, "stream_options": {"include_obfuscation": False}},
            {"stream": True},
        ),
        ({"stream": False, "stream_options": {"include_usage": True}}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"output": OutputFormat(kind="json")}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            {"output": OutputFormat(kind="schema", name="n", schema={})},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {**SCHEMA, "strict": False, "description": "d"},
                }
            },
            {
                "output": OutputFormat(
                    kind="schema",
                    name="n",
                    schema={"type": "object"},
                    strict=False,
                    description="d",
                )
            },
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            {"output": OutputFormat(kind="schema", schema={})},
        ),
        ({"reasoning_effort": "low"}, {"reasoning": ReasoningWish(effort="low")}),
        (
            {"reasoning_effort": "none"},
            {"reasoning": ReasoningWish(effort="none", enabled=False)},
        ),
        ({"include_reasoning": False}, {"reasoning": ReasoningWish(shown=False)}),
        ({"reasoning": {}}, {}),
        ({"reasoning": {"effort": "high"}}, {"reasoning": ReasoningWish(effort="high")}),
        (
            {"reasoning_effort": "low", "reasoning": {"effort": "high"}},
            {"reasoning": ReasoningWish(effort="low")},
        ),
        ({"reasoning": {"max_tokens": 0}}, {"reasoning": ReasoningWish(enabled=False)}),
        ({"reasoning": {"enabled": True}}, {"reasoning": ReasoningWish(enabled=True)}),
        (
            {"include_reasoning": True, "reasoning": {"exclude": True}},
            {"reasoning": ReasoningWish(shown=False)},
        ),
        (
            {"include_reasoning": True, "reasoning": {}},
            {"reasoning": ReasoningWish(shown=True)},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 9}},
            {"reasoning": ReasoningWish(enabled=True, budget=9)},
        ),
        ({"thinking": {"type": "adaptive"}}, {"reasoning": ReasoningWish(enabled=True)}),
        (
            {"thinking": {"type": "enabled"}, "reasoning": {"max_tokens": 5}},
            {"reasoning": ReasoningWish(enabled=True, budget=5)},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 9}, "reasoning": {"max_tokens": 5}},
            {"reasoning": ReasoningWish(enabled=True, budget=5)},
        ),
    ],
)
def test_each_field_of_a_request_is_read(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """What a field says is all that it says, and it is no loss."""
    conversation, losses = read(ask(**fields))
    turns = (Turn(role="user", parts=(Text(text="hi"),)),)
    assert losses.all == []
    assert conversation == Conversation(**{"model": "m", "turns": turns} | expected)


GRAMMAR = {"syntax": "lark", "definition": "start: A"}


@pytest.mark.parametrize(
    ("fields", "tools", "choice"),
    [
        ({"tools": [FUNCTION]}, (Tool(name="f"),), None),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "description": "d",
                            "parameters": {"a": 1},
                            "strict": False,
                        },
                        "cache_control": {"type": "ephemeral", "ttl": "1h"},
                    }
                ]
            },
            (
                Tool(
                    name="f",
                    description="d",
                    parameters={"a": 1},
                    strict=False,
                    cache=CacheMark(ttl="1h"),
                ),
            ),
            None,
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "cache_control": {"type": "ephemeral"}},
                    }
                ]
            },
            (Tool(name="f", cache=CacheMark()),),
            None,
        ),
        (
            {"tools": [{**CUSTOM, "cache_control": {"type": "ephemeral"}}]},
            (Tool(name="p", kind="custom", cache=CacheMark()),),
            None,
        ),
        (
            {
                "tools": [
                    {
                        "type": "custom",
                        "custom": {
                            "name": "p",
                            "description": "d",
                            "format": {"type": "grammar", "grammar": GRAMMAR},
                        },
                    }
                ]
            },
            (Tool(name="p", kind="custom", description="d", own={"type": "grammar", **GRAMMAR}),),
            None,
        ),
        (
            {
                "tools": [
                    {"type": "custom", "custom": {"name": "p", "format": {"type": "text"}}},
                ]
            },
            (Tool(name="p", kind="custom"),),
            None,
        ),
        (
            {"tools": [{"type": "web_search"}, {"type": "odd", "name": "o"}]},
            (
                Tool(name="web_search", kind="web_search", own={"type": "web_search"}),
                Tool(name="o", kind="odd", own={"type": "odd", "name": "o"}),
            ),
            None,
        ),
        (
            {"tools": [FUNCTION], "functions": [{"name": "g"}], "function_call": "none"},
            (Tool(name="f"), Tool(name="g")),
            ToolChoice(mode="none"),
        ),
        (
            {"tools": [FUNCTION], "tool_choice": "required", "function_call": "none"},
            (Tool(name="f"),),
            ToolChoice(mode="required"),
        ),
        (
            {"tools": [FUNCTION], "tool_choice": "auto"},
            (Tool(name="f"),),
            ToolChoice(mode="auto"),
        ),
        (
            {"tools": [FUNCTION], "tool_choice": FUNCTION},
            (Tool(name="f"),),
            ToolChoice(mode="named", names=("f",)),
        ),
        (
            {"tools": [CUSTOM], "tool_choice": CUSTOM},
            (Tool(name="p", kind="custom"),),
            ToolChoice(mode="named", names=("p",)),
        ),
        (
            {
                "tools": [FUNCTION, CUSTOM],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [CUSTOM]},
                },
            },
            (Tool(name="f"), Tool(name="p", kind="custom")),
            ToolChoice(mode="named", names=("p",)),
        ),
    ],
)
def test_each_tool_and_choice_is_read(
    fields: dict[str, Any], tools: tuple[Tool, ...], choice: ToolChoice | None
) -> None:
    """Functions, custom tools, the provider's own, and the choice among them, without a loss."""
    conversation, losses = read(ask(**fields))
    assert losses.all == []
    assert (conversation.tools, conversation.tool_choice) == (tools, choice)


PNG = Source(kind="base64", data="aGk=", media_type="image/png")
AT_A = Source(kind="url", data="https://a.example/b.png")
EPHEMERAL = {"cache_control": {"type": "ephemeral"}}


def data_of(kind: str) -> Source:
    return Source(kind="base64", data="aGk=", media_type=kind)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "", **EPHEMERAL}, Text(text="", cache=CacheMark())),
        (
            {"type": "text", "text": "a", "prompt_cache_breakpoint": {"ttl": "30m"}},
            Text(text="a", cache=CacheMark(ttl="1h")),
        ),
        (
            {"type": "text", "text": "a", "prompt_cache_breakpoint": {}},
            Text(text="a", cache=CacheMark()),
        ),
        ({"type": "refusal", "refusal": "no"}, Text(text="no")),
        (
            {
                "type": "image_url",
                "image_url": {"url": "https://a.example/b.png", "detail": "low"},
                **EPHEMERAL,
            },
            Media(kind="image", source=AT_A, detail="low", cache=CacheMark()),
        ),
        (
            {"type": "image_url", "image_url": "https://a.example/b.png", **EPHEMERAL},
            Media(kind="image", source=AT_A, cache=CacheMark()),
        ),
        (
            {"type": "image_url", "image_url": {"url": "DATA:image/png;BASE64,aGk="}},
            Media(kind="image", source=PNG),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png,aGk="}},
            Media(kind="image", source=Source(kind="url", data="data:image/png,aGk=")),
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://a.example/x;base64,a"}},
            Media(kind="image", source=Source(kind="url", data="https://a.example/x;base64,a")),
        ),
        (
            {"type": "video_url", "video_url": {"url": "https://a.example/b.png"}},
            Media(kind="video", source=AT_A),
        ),
        (
            {"type": "audio_url", "audio_url": {"url": "https://a.example/b.png"}},
            Media(kind="audio", source=AT_A),
        ),
        *[
            (
                {
                    "type": "input_audio",
                    "input_audio": {"data": "aGk=", "format": name},
                    **EPHEMERAL,
                },
                Media(kind="audio", source=data_of(kind), cache=CacheMark()),
            )
            for name, kind in (
                ("wav", "audio/wav"),
                ("mp3", "audio/mpeg"),
                ("pcm16", "audio/pcm"),
                ("opus", "audio/ogg"),
                ("", ""),
            )
        ],
        (
            {"type": "file", "file": {"file_id": "f", "filename": "n.pdf"}, **EPHEMERAL},
            Media(
                kind="file",
                source=Source(kind="file", data="f"),
                name="n.pdf",
                cache=CacheMark(),
            ),
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/csv;base64,aGk=", "file_id": "f"}},
            Media(kind="file", source=data_of("text/csv")),
        ),
        (
            {"type": "file", "file": {"file_data": "HTTPS://a.example/x"}},
            Media(kind="file", source=Source(kind="url", data="HTTPS://a.example/x")),
        ),
        *[
            (
                {"type": "file", "file": {"file_data": "aGk=", "filename": name}},
                Media(kind="file", source=data_of(kind), name=name),
            )
            for name, kind in (
                ("a.PDF", "application/pdf"),
                ("a.b.txt", "text/plain"),
                ("a.md", "text/markdown"),
                ("csv", "text/csv"),
                ("a.html", "text/html"),
                ("a.odd", ""),
            )
        ],
        ({"type": "file", "file": {"file_data": "aGk="}}, Media(kind="file", source=data_of(""))),
    ],
)
def test_each_content_is_read(part: dict[str, Any], expected: Any) -> None:
    """Of a user, a system and a tool alike, without a loss."""
    messages = [
        {"role": "user", "content": [part]},
        {"role": "system", "content": [part]},
        {"role": "tool", "tool_call_id": "c", "content": [part]},
    ]
    conversation, losses = read(ask(messages=messages))
    assert losses.all == []
    assert conversation.turns == (
        Turn(role="user", parts=(expected,)),
        Turn(role="system", parts=(expected,)),
        Turn(role="tool", parts=(ToolResult(id="c", parts=(expected,)),)),
    )


GOOGLE = {"extra_content": {"google": {"thought_signature": "s"}}}
OWN_SIGNED = Signature(origin="openai.chat", value="s")
NOTE = {
    "type": "url_citation",
    "url_citation": {
        "url": "u",
        "title": "t",
        "content": "q",
        "start_index": 0,
        "end_index": 1,
    },
}
LINK = Citation(kind="url", url="u", title="t", quote="q", start=0, end=1)
CALL: dict[str, Any] = {**FUNCTION, "id": "c"}
CALLED = {**CALL, "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": ""}, ()),
        ({"content": None}, ()),
        ({"content": "a", "name": "n"}, (Text(text="a"),)),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, (Refusal(text="no"),)),
        ({"content": "a", "refusal": "no"}, (Text(text="a"), Refusal(text="no"))),
        ({"refusal": ""}, ()),
        (
            {
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                "annotations": [7, {"type": "odd"}, NOTE],
                **GOOGLE,
            },
            (Text(text="a"), Text(text="b", citations=(LINK,), signature=OWN_SIGNED)),
        ),
        (
            {"content": "a", "annotations": [{"url_citation": {"url": "u"}}]},
            (Text(text="a", citations=(Citation(kind="url", url="u"),)),),
        ),
        ({"content": "a", **GOOGLE}, (Text(text="a", signature=OWN_SIGNED),)),
        (
            {
                "images": [
                    {
                        "type": "image_url",
                        "image_url": {"url": "https://a.example/b.png"},
                        **GOOGLE,
                    },
                    7,
                    {},
                ]
            },
            (Media(kind="image", source=AT_A, signature=OWN_SIGNED),),
        ),
        (
            {"audio": {"id": "au"}},
            (Media(kind="audio", source=Source(kind="file", data="au"), id="au"),),
        ),
        ({"tool_calls": [CALL]}, (ToolCall(id="c", name="f"),)),
        (
            {"tool_calls": [{**CALLED, **GOOGLE, **EPHEMERAL}]},
            (
                ToolCall(
                    id="c",
                    name="f",
                    arguments='{"a":1}',
                    signature=OWN_SIGNED,
                    cache=CacheMark(),
                ),
            ),
        ),
        (
            {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]},
            (ToolCall(id="c", name="f", arguments='{"a":1}'),),
        ),
        (
            {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": " "}}]},
            (ToolCall(id="c", name="f"),),
        ),
        (
            {
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "custom",
                        "custom": {"name": "p", "input": ""},
                        **GOOGLE,
                        **EPHEMERAL,
                    }
                ]
            },
            (
                ToolCall(
                    id="c",
                    name="p",
                    arguments="",
                    custom=True,
                    signature=OWN_SIGNED,
                    cache=CacheMark(),
                ),
            ),
        ),
        (
            {
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                **EPHEMERAL,
            },
            (Text(text="a"), Text(text="b", cache=CacheMark())),
        ),
        ({"content": "a", "refusal": "no", **EPHEMERAL}, (Text(text="a"), Refusal(text="no"))),
        ({"content": "", **EPHEMERAL}, ()),
        (
            {"content": "a", "tool_calls": [CALL], **EPHEMERAL},
            (Text(text="a"), ToolCall(id="c", name="f", cache=CacheMark())),
        ),
    ],
)
def test_each_word_of_an_assistant_is_read(message: dict[str, Any], parts: Any) -> None:
    """Texts, refusals, pictures, sounds and calls in their order, with marks and signatures."""
    conversation, losses = read(ask(messages=[{"role": "assistant", **message}]))
    assert losses.all == []
    assert conversation.turns == (Turn(role="assistant", parts=parts, name=message.get("name")),)


def test_results_know_their_calls() -> None:
    """A result has the name and the kind of the call that it answers; those that follow each
    other are one turn, another begins after other words."""
    custom = {"id": "p", "type": "custom", "custom": {"name": "p", "input": "x"}}
    turns = said(
        {"role": "assistant", "tool_calls": [CALL, custom]},
        {"role": "tool", "tool_call_id": "c", "content": "1", **EPHEMERAL},
        {"role": "tool", "tool_call_id": "p", "content": "2"},
        {"role": "user", "content": "x", "name": "n"},
        {"role": "tool", "tool_call_id": "c", "content": "3", "name": "own"},
        {"role": "tool", "tool_call_id": "gone", "content": ""},
        {"role": "function", "name": "old", "content": "4"},
        {"role": "developer", "content": "d", "name": "n"},
    )
    assert turns[1].parts == (
        ToolResult(id="c", name="f", parts=(Text(text="1"),), cache=CacheMark()),
        ToolResult(id="p", name="p", parts=(Text(text="2"),), custom=True),
    )
    assert turns[2] == Turn(role="user", parts=(Text(text="x"),), name="n")
    first, second, third = turns[3].parts
    assert first == ToolResult(id="c", name="own", parts=(Text(text="3"),))
    assert second == ToolResult(id="gone")
    assert isinstance(third, ToolResult) and (third.name, third.id) == ("old", "call_messages6")
    assert turns[4] == Turn(role="developer", parts=(Text(text="d"),), name="n")


def heard(message: dict[str, Any]) -> dict[str, Any]:
    return ask(messages=[message])


def content(part: Any) -> dict[str, Any]:
    return heard({"role": "user", "content": [part]})


def spoken(**fields: Any) -> dict[str, Any]:
    return heard({"role": "assistant", **fields})


def tooled(tool: Any) -> dict[str, Any]:
    return ask(tools=[tool])


AUDIO = {"data": "aGk=", "format": "wav"}
ALLOWED: dict[str, Any] = {"mode": "auto", "tools": [FUNCTION]}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (heard({"role": "user", "content": "a", "odd": 1}), "messages[0]"),
        (heard({"role": "system", "content": "a", "odd": 1}), "messages[0]"),
        (heard({"role": "tool", "tool_call_id": "c", "content": "a", "odd": 1}), "messages[0]"),
        (heard({"role": "function", "name": "f", "content": "a", "odd": 1}), "messages[0]"),
        (spoken(content="a", odd=1), "messages[0]"),
        (content({"type": "text", "text": "a", "odd": 1}), "messages[0].content[0]"),
        (
            content({"type": "image_url", "image_url": {"url": "u", "odd": 1}}),
            "messages[0].content[0].image_url",
        ),
        (
            content({"type": "input_audio", "input_audio": {**AUDIO, "odd": 1}}),
            "messages[0].content[0].input_audio",
        ),
        (
            content({"type": "file", "file": {"file_id": "f", "odd": 1}}),
            "messages[0].content[0].file",
        ),
        (tooled({**FUNCTION, "odd": 1}), "tools[0]"),
        (tooled({"type": "function", "function": {"name": "f", "odd": 1}}), "tools[0].function"),
        (tooled({**CUSTOM, "odd": 1}), "tools[0]"),
        (tooled({"type": "custom", "custom": {"name": "p", "odd": 1}}), "tools[0].custom"),
        (ask(functions=[{"name": "f", "odd": 1}]), "functions[0]"),
        (
            ask(
                response_format={"type": "json_schema", "json_schema": {**SCHEMA, "odd": 1}},
            ),
            "response_format.json_schema",
        ),
        (
            ask(tool_choice={"type": "allowed_tools", "allowed_tools": {**ALLOWED, "odd": 1}}),
            "tool_choice.allowed_tools",
        ),
        (ask(stream=True, stream_options={"odd": 1}), "stream_options"),
    ],
)
def test_an_unknown_field_is_named_by_its_path(body: dict[str, Any], path: str) -> None:
    """At each place it alone is a loss, and not a grave one."""
    losses = read(body)[1]
    assert (named(losses), grave(losses)) == ([f"{path}.odd"], [])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt_cache_options": {}}, "prompt_cache_options"),
        ({"user": "a", "safety_identifier": "b"}, "safety_identifier"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
    ],
)
def test_each_hint_that_has_no_word_is_named(fields: dict[str, Any], field: str) -> None:
    """It is announced, and not grave."""
    losses = read(ask(**fields))[1]
    assert (named(losses), grave(losses)) == ([field], [])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        *[
            (ask(**{name: [[7]]}), name)
            for name in (
                *("model", "temperature", "top_p", "top_k", "presence_penalty", "store", "seed"),
                *("frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "n", "audio"),
                *("max_tokens", "max_completion_tokens", "verbosity", "service_tier", "user"),
                *("safety_identifier", "metadata", "prompt_cache_key", "parallel_tool_calls"),
                *("response_format", "reasoning_effort", "reasoning", "include_reasoning"),
                *("thinking", "cache_control", "stream", "tool_choice", "function_call"),
            )
        ],
        *[(ask(**{name: [7]}), f"{name}[0]") for name in ("tools", "functions", "modalities")],
        (ask(stream=True, stream_options=7), "stream_options"),
        (ask(stream=True, stream_options={"include_usage": 7}), "stream_options.include_usage"),
        (
            ask(stream=True, stream_options={"include_obfuscation": 7}),
            "stream_options.include_obfuscation",
        ),
        (ask(top_k=-2), "top_k"),
        (ask(max_tokens=-2), "max_tokens"),
        (ask(max_completion_tokens=-2), "max_completion_tokens"),
        (ask(seed=-(2**63) - 1), "seed"),
        (ask(top_logprobs=-1), "top_logprobs"),
        (ask(response_format={}), "response_format.type"),
        (ask(response_format={"type": "json_schema"}), "response_format.json_schema"),
        *[
            (
                ask(response_format={"type": "json_schema", "json_schema": {name: 7}}),
                f"response_format.json_schema.{name}",
            )
            for name in ("name", "schema", "strict", "description")
        ],
        *[
            (ask(reasoning={name: "x"}), f"reasoning.{name}")
            for name in ("max_tokens", "enabled", "exclude")
        ],
        (ask(reasoning={"effort": 7}), "reasoning.effort"),
        (ask(thinking={}), "thinking.type"),
        (ask(thinking={"type": "odd"}), "thinking.type"),
        (ask(thinking={"type": "enabled", "budget_tokens": "x"}), "thinking.budget_tokens"),
        (ask(cache_control={}), "cache_control.type"),
        (ask(cache_control={"type": "odd"}), "cache_control.type"),
        (ask(cache_control={"type": "ephemeral", "ttl": "2h"}), "cache_control.ttl"),
        (tooled({}), "tools[0].type"),
        (tooled({"type": "function"}), "tools[0].function"),
        *[
            (
                tooled({"type": "function", "function": {"name": "f", name: 7}}),
                f"tools[0].function.{name}",
            )
            for name in ("name", "description", "parameters", "strict", "cache_control")
        ],
        (tooled({"type": "custom"}), "tools[0].custom"),
        *[
            (
                tooled({"type": "custom", "custom": {"name": "p", name: 7}}),
                f"tools[0].custom.{name}",
            )
            for name in ("name", "description", "format")
        ],
        (tooled({"type": "custom", "custom": {}}), "tools[0].custom.name"),
        *[
            (
                tooled({"type": "custom", "custom": {"name": "p", "format": form}}),
                f"tools[0].custom.format.{where}",
            )
            for form, where in (
                ({}, "type"),
                ({"type": "odd"}, "type"),
                ({"type": "grammar"}, "grammar"),
                ({"type": "grammar", "grammar": {}}, "grammar.syntax"),
                ({"type": "grammar", "grammar": {"syntax": "odd"}}, "grammar.syntax"),
                ({"type": "grammar", "grammar": {"syntax": "regex"}}, "grammar.definition"),
            )
        ],
        (tooled({"type": "odd", "name": 7}), "tools[0].name"),
        (tooled({**FUNCTION, "cache_control": 7}), "tools[0].cache_control"),
        (ask(tool_choice={}), "tool_choice.type"),
        (ask(tool_choice={"type": "odd"}), "tool_choice.type"),
        (ask(tool_choice={"type": "function"}), "tool_choice.function"),
        (ask(tool_choice={"type": "custom", "custom": {}}), "tool_choice.custom.name"),
        (ask(tool_choice={"type": "allowed_tools"}), "tool_choice.allowed_tools"),
        *[
            (
                ask(tool_choice={"type": "allowed_tools", "allowed_tools": allowed}),
                f"tool_choice.allowed_tools.{where}",
            )
            for allowed, where in (
                ({}, "tools"),
                ({"tools": []}, "mode"),
                ({"tools": [], "mode": "none"}, "mode"),
                ({"tools": [{}], "mode": "auto"}, "tools[0].type"),
                ({"tools": [{"type": "mcp"}], "mode": "auto"}, "tools[0].type"),
                ({"tools": [{"type": "function"}], "mode": "auto"}, "tools[0].function"),
                (
                    {"tools": [{"type": "custom", "custom": {}}], "mode": "auto"},
                    "tools[0].custom.name",
                ),
            )
        ],
        (ask(function_call={}), "function_call.name"),
        (ask(messages=[7]), "messages[0]"),
        (heard({}), "messages[0].role"),
        (heard({"role": "user", "content": 7}), "messages[0].content"),
        (heard({"role": "user", "content": "a", "name": 7}), "messages[0].name"),
        (heard({"role": "system"}), "messages[0].content"),
        (heard({"role": "tool", "tool_call_id": "c"}), "messages[0].content"),
        (heard({"role": "tool", "tool_call_id": 7, "content": "a"}), "messages[0].tool_call_id"),
        (heard({"role": "function", "content": "a"}), "messages[0].name"),
        (content({}), "messages[0].content[0].type"),
        (content({"type": "text"}), "messages[0].content[0].text"),
        (content({"type": "refusal", "refusal": 7}), "messages[0].content[0].refusal"),
        (content({"type": "image_url"}), "messages[0].content[0].image_url"),
        (
            content({"type": "image_url", "image_url": {}}),
            "messages[0].content[0].image_url.url",
        ),
        (
            content({"type": "image_url", "image_url": {"url": "u", "detail": 7}}),
            "messages[0].content[0].image_url.detail",
        ),
        *[
            (
                content({"type": "input_audio", "input_audio": sound}),
                f"messages[0].content[0].input_audio.{where}",
            )
            for sound, where in (({}, "data"), ({"data": "a"}, "format"))
        ],
        (content({"type": "file", "file": {}}), "messages[0].content[0].file"),
        *[
            (
                content({"type": "file", "file": {"file_id": "f", name: 7}}),
                f"messages[0].content[0].file.{name}",
            )
            for name in ("file_id", "file_data", "filename")
        ],
        (
            content({"type": "text", "text": "a", "cache_control": 7}),
            "messages[0].content[0].cache_control",
        ),
        (
            content({"type": "text", "text": "a", "prompt_cache_breakpoint": {"ttl": 7}}),
            "messages[0].content[0].prompt_cache_breakpoint.ttl",
        ),
        *[
            (spoken(**{name: 7}), f"messages[0].{name}")
            for name in (
                *("content", "refusal", "audio", "tool_calls", "function_call", "name"),
                *("reasoning_content", "reasoning", "reasoning_details"),
            )
        ],
        (spoken(audio={}), "messages[0].audio.id"),
        (spoken(reasoning_details=[7]), "messages[0].reasoning_details[0]"),
        (spoken(tool_calls=[7]), "messages[0].tool_calls[0]"),
        (spoken(tool_calls=[{}]), "messages[0].tool_calls[0].id"),
        (spoken(tool_calls=[{"id": "c", "type": 7}]), "messages[0].tool_calls[0].type"),
        *[
            (spoken(tool_calls=[{"id": "c", **call}]), f"messages[0].tool_calls[0].{where}")
            for call, where in (
                ({}, "function"),
                ({"function": {}}, "function.name"),
                ({"function": {"name": "f", "arguments": 7}}, "function.arguments"),
                ({"type": "custom"}, "custom"),
                ({"type": "custom", "custom": {}}, "custom.name"),
                ({"type": "custom", "custom": {"name": "p"}}, "custom.input"),
                ({**FUNCTION, "cache_control": 7}, "cache_control"),
            )
        ],
        (spoken(function_call={}), "messages[0].function_call.name"),
        (
            spoken(function_call={"name": "f", "arguments": 7}),
            "messages[0].function_call.arguments",
        ),
    ],
)
def test_each_wrong_value_is_named_by_its_path(body: dict[str, Any], param: str) -> None:
    """A value that can't be, or is missing, is refused at its own place."""
    with pytest.raises(errors.InvalidRequest) as refused:
        read(body)
    assert refused.value.param == param


# Each word of a request for an upstream by itself.


def spoke(*parts: Any, role: Any = "assistant", **fields: Any) -> Conversation:
    return Conversation(model="m", turns=(Turn(role=role, parts=parts, **fields),))


FROM_GOOGLE = Signature(origin="gemini.generate", value="s")
FILE_ID = Source(kind="file", data="f")
NOTES = Source(kind="text", data="words")
TEXT_A = {"type": "text", "text": "a"}
MARKED = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("conversation", "messages"),
    [
        (spoke(Text(text="a"), role="user"), [{"role": "user", "content": "a"}]),
        (spoke(role="user", name="n"), [{"role": "user", "content": "", "name": "n"}]),
        (
            spoke(
                Text(text="a"),
                Text(text="a", cache=CacheMark(ttl="1h")),
                role="developer",
                name="n",
            ),
            [
                {
                    "role": "system",
                    "content": [
                        TEXT_A,
                        {**TEXT_A, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                    ],
                    "name": "n",
                }
            ],
        ),
        (
            spoke(Text(text="a", cache=CacheMark()), role="user"),
            [{"role": "user", "content": [TEXT_A | MARKED]}],
        ),
        (spoke(), [{"role": "assistant", "content": ""}]),
        (spoke(Text(text="a"), name="n"), [{"role": "assistant", "content": "a", "name": "n"}]),
        (
            spoke(Text(text="a"), Refusal(text="b"), Refusal(text="c")),
            [{"role": "assistant", "content": "a", "refusal": "bc"}],
        ),
        (spoke(Refusal(text="b")), [{"role": "assistant", "content": None, "refusal": "b"}]),
        (
            spoke(
                Text(text="a", signature=Signature(origin="openai.chat", value="x")),
                Text(text="a", signature=OWN_SIGNED),
                ToolCall(id="c", name="f", signature=OWN_SIGNED),
                ToolCall(id="d", name="p", arguments="t", custom=True),
            ),
            [
                {
                    "role": "assistant",
                    "content": [TEXT_A, TEXT_A],
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                            **GOOGLE,
                        },
                        {"id": "d", "type": "custom", "custom": {"name": "p", "input": "t"}},
                    ],
                    **GOOGLE,
                }
            ],
        ),
        (
            spoke(
                Media(kind="image", source=AT_A, signature=OWN_SIGNED),
                Media(kind="image", source=Source(kind="base64", data="aGk=")),
                Media(kind="audio", source=FILE_ID, id="au"),
            ),
            [
                {
                    "role": "assistant",
                    "content": "",
                    "images": [
                        {
                            "type": "image_url",
                            "image_url": {"url": "https://a.example/b.png"},
                            **GOOGLE,
                        },
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                    ],
                    "audio": {"id": "au"},
                }
            ],
        ),
        (
            spoke(
                ToolResult(id="c", parts=(Text(text="a"),), cache=CacheMark()),
                ToolResult(id="d", is_error=True),
                ToolResult(id="e", parts=(Text(text="a"), Text(text="a"))),
                role="tool",
            ),
            [
                {"role": "tool", "tool_call_id": "c", "content": "a", **MARKED},
                {"role": "tool", "tool_call_id": "d", "content": "error"},
                {"role": "tool", "tool_call_id": "e", "content": [TEXT_A, TEXT_A]},
            ],
        ),
    ],
)
def test_each_part_of_a_history_is_written(
    conversation: Conversation, messages: list[dict[str, Any]]
) -> None:
    """As OpenAI's own type has it, a string where that says all of it, without a loss."""
    body, losses = write(conversation)
    assert losses.all == [] and body == {"model": "theirs", "messages": messages}
    exhaust(REQUEST.validate_python(body))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            Media(kind="image", source=AT_A, detail="low", cache=CacheMark()),
            [
                {
                    "type": "image_url",
                    "image_url": {"url": "https://a.example/b.png", "detail": "low"},
                    **MARKED,
                }
            ],
        ),
        (
            Media(kind="image", source=Source(kind="base64", data="aGk=")),
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}],
        ),
        (
            Media(kind="image", source=FILE_ID, name="n"),
            [{"type": "file", "file": {"file_id": "f", "filename": "n"}}],
        ),
        *[
            (
                Media(kind="audio", source=data_of(kind)),
                [{"type": "input_audio", "input_audio": {"data": "aGk=", "format": form}}],
            )
            for kind, form in (
                ("audio/wav", "wav"),
                ("audio/x-wav", "wav"),
                ("audio/wave", "wav"),
                ("audio/vnd.wave", "wav"),
                ("Audio/MPEG ; rate=1", "mp3"),
                ("audio/mp3", "mp3"),
                ("audio/pcm;rate=24000", "pcm16"),
                ("audio/ogg", "opus"),
                ("audio/flac", "flac"),
                ("", "wav"),
            )
        ],
        (
            Media(kind="video", source=AT_A),
            [{"type": "video_url", "video_url": {"url": "https://a.example/b.png"}}],
        ),
        (
            Media(kind="video", source=data_of("")),
            [{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,aGk="}}],
        ),
        (
            Media(kind="file", source=NOTES, name="n", context="about"),
            [{"type": "text", "text": "about"}, {"type": "text", "text": "n\n\nwords"}],
        ),
        (Media(kind="file", source=NOTES), [{"type": "text", "text": "words"}]),
        (
            Media(kind="file", source=data_of("application/pdf"), name="n", detail="auto"),
            [
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "n"},
                }
            ],
        ),
        (Media(kind="file", source=data_of("")), [{"type": "file", "file": {"file_data": "aGk="}}]),
        (
            Media(kind="file", source=AT_A),
            [{"type": "file", "file": {"file_data": "https://a.example/b.png"}}],
        ),
        (Media(kind="file", source=FILE_ID), [{"type": "file", "file": {"file_id": "f"}}]),
    ],
)
def test_each_picture_sound_film_and_file_is_written(part: Media, expected: list[Any]) -> None:
    """By address, id or bytes, with what it is where the bytes alone don't say it."""
    body, losses = write(spoke(Text(text="a"), part, role="user"))
    assert losses.all == []
    assert body["messages"] == [{"role": "user", "content": [TEXT_A, *expected]}]


LENT = ToolResult(id="c", parts=(Text(text="a"),))


@pytest.mark.parametrize(
    ("conversation", "can", "lost"),
    [
        (spoke(Text(text="a"), Refusal(text="b"), role="user"), {}, ["messages[0].content[1]!"]),
        (
            spoke(Text(text="a", cache=CacheMark()), role="user"),
            {"cache_marks": False},
            ["messages[0].content[0].cache_control"],
        ),
        (
            spoke(msgspec.structs.replace(LENT, cache=CacheMark()), role="tool"),
            {"cache_marks": False},
            ["messages[0].content[0].cache_control"],
        ),
        (
            spoke(LENT, msgspec.structs.replace(LENT, is_error=True), role="tool"),
            {},
            ["messages[0].content[1].is_error"],
        ),
        (
            spoke(
                LENT,
                ToolResult(id="d", parts=(Media(kind="audio", source=AT_A),)),
                role="tool",
            ),
            {},
            ["messages[0].content[1]!"],
        ),
        (spoke(Text(text="a", citations=(LINK,))), {}, ["messages[0].content.citations"]),
        (spoke(Text(text="a", signature=FROM_GOOGLE)), {}, ["messages[0].reasoning"]),
        (
            spoke(ToolCall(id="c", name="f", signature=FROM_GOOGLE, cache=CacheMark())),
            {},
            ["messages[0].cache_control", "messages[0].reasoning"],
        ),
        (
            spoke(Media(kind="image", source=PNG, signature=FROM_GOOGLE)),
            {},
            ["messages[0].reasoning"],
        ),
        (spoke(Media(kind="image", source=PNG)), {"images": False}, ["messages[0].image!"]),
        (spoke(Media(kind="image", source=FILE_ID)), {}, ["messages[0].image!"]),
        (spoke(Media(kind="video", source=PNG)), {}, ["messages[0].video!"]),
        (spoke(Media(kind="audio", source=PNG, id="au")), {}, ["messages[0].audio!"]),
        (spoke(Media(kind="audio", source=PNG, transcript="t")), {}, ["messages[0].audio"]),
        (spoke(Reasoning(text="t")), {"reasoning": ()}, ["messages[0].reasoning"]),
        (spoke(Reasoning(text="t")), {"reasoning_back": False}, ["messages[0].reasoning"]),
        (spoke(Reasoning(text="t")), {}, []),
        (
            spoke(Media(kind="file", source=PNG, cites=True, detail="low"), role="user"),
            {},
            ["messages[0].content[0].citations", "messages[0].content[0].detail"],
        ),
        (spoke(Media(kind="video", source=FILE_ID), role="user"), {}, ["messages[0].content[0]!"]),
        (spoke(Media(kind="image", source=PNG), role="user"), {"image_urls": False}, []),
        (spoke(Media(kind="file", source=NOTES), role="user"), {"files": False}, []),
        (
            spoke(Media(kind="image", source=NOTES), role="user"),
            {"images": False},
            ["messages[0].content[0]!"],
        ),
        (spoke(Media(kind="audio", source=NOTES), role="user"), {}, ["messages[0].content[0]!"]),
    ],
)
def test_each_content_that_is_lost_is_named_by_its_place(
    conversation: Conversation, can: dict[str, Any], lost: list[str]
) -> None:
    """With ! where the answer would be another one; turns and parts are counted from 0."""
    body, losses = write(conversation, **can)
    assert [loss.field + "!" * loss.grave for loss in losses.all] == lost
    exhaust(REQUEST.validate_python(body))


def test_a_transcript_stands_for_a_sound() -> None:
    """What the model spoke goes back as its words, behind the text that it wrote."""
    sound = Media(kind="audio", source=PNG, id="au", transcript="spoken")
    for parts, said_ in (((sound,), "spoken"), ((Text(text="a "), sound), "a spoken")):
        assert write(spoke(*parts))[0]["messages"][0]["content"] == said_


def test_late_system_messages_lose_nothing_but_their_role() -> None:
    """Only those behind a user or an assistant are late, and a model that takes them gets them."""
    system = Turn(role="system", parts=(Text(text="a"), Text(text="b")))
    turns = (system, Turn(role="assistant", parts=(Text(text="c"),)), system)
    body, losses = write(Conversation(model="m", turns=turns), late_system=False)
    assert [message["role"] for message in body["messages"]] == ["system", "assistant", "user"]
    assert body["messages"][2]["content"] == "<system>\na\nb\n</system>"
    assert named(losses) == ["messages[2]"]
    body, losses = write(Conversation(model="m", turns=turns))
    assert body["messages"][2]["role"] == "system" and losses.all == []


@pytest.mark.parametrize(
    ("size", "id", "same"),
    [
        (None, "x" * 40, True),
        (None, "x" * 41, False),
        (None, "\ud800" * 41, False),
        (9, "abcDEF123", True),
        (9, "abcDEF12-", False),
        (9, "abcDEF12é", False),
        (9, "abcDEF1234", False),
        (9, "\ud800", False),
    ],
)
def test_each_id_fits_and_stays_with_its_result(size: int | None, id: str, same: bool) -> None:
    """An id of the size that the target takes stays; others get one, the same for both."""
    call = Turn(role="assistant", parts=(ToolCall(id=id, name="f"),))
    result = Turn(role="tool", parts=(ToolResult(id=id),))
    conversation = Conversation(model="m", turns=(call, result))
    first, second = write(conversation, call_id_size=size)[0]["messages"]
    made = second["tool_call_id"]
    assert first["tool_calls"][0]["id"] == made and (made == id) is same
    assert same or (len(made) == (size or 37) and made.isascii())
    assert same or made.removeprefix("" if size else "call_").isalnum()
    other = Conversation(model="m", turns=(Turn(role="tool", parts=(ToolResult(id=id + "y"),)),))
    assert write(other, call_id_size=size)[0]["messages"][0]["tool_call_id"] != made


F = (Tool(name="f"),)
WARM = Sampling(temperature=1.5, top_p=0.5)
ALL_SAMPLING = Sampling(
    temperature=0.5,
    top_p=0.5,
    top_k=1,
    presence_penalty=0.5,
    frequency_penalty=0.25,
    seed=0,
    logit_bias={},
    logprobs=True,
    top_logprobs=0,
)
THINKS = ReasoningWish(effort="low")
WIRE_F = {"tools": [FUNCTION]}


@pytest.mark.parametrize(
    ("fields", "can", "wire", "lost"),
    [
        ({}, {}, {}, []),
        (
            {"stream": True},
            {},
            {"stream": True, "stream_options": {"include_usage": True}},
            [],
        ),
        ({"max_tokens": 0}, {}, {"max_completion_tokens": 0}, []),
        (
            {"sampling": ALL_SAMPLING},
            {},
            {
                "temperature": 0.5,
                "top_p": 0.5,
                "top_k": 1,
                "presence_penalty": 0.5,
                "frequency_penalty": 0.25,
                "seed": 0,
                "logit_bias": {},
                "logprobs": True,
                "top_logprobs": 0,
            },
            [],
        ),
        *[
            (
                {"sampling": msgspec.structs.replace(Sampling(), **dict.fromkeys(names_, value))},
                {able: False},
                {},
                list(names_),
            )
            for able, names_, value in (
                ("temperature", ("temperature",), 1),
                ("top_p", ("top_p",), 1),
                ("top_k", ("top_k",), 1),
                ("penalties", ("presence_penalty", "frequency_penalty"), 1),
                ("seed", ("seed",), 1),
                ("logit_bias", ("logit_bias",), {}),
                ("logprobs", ("logprobs", "top_logprobs"), 1),
            )
        ],
        (
            {"sampling": WARM},
            {"temperature_and_top_p": False},
            {"temperature": 1.5},
            ["top_p"],
        ),
        (
            {"sampling": Sampling(top_p=0.5)},
            {"temperature_and_top_p": False},
            {"top_p": 0.5},
            [],
        ),
        (
            {"sampling": WARM},
            {"max_temperature": 1},
            {"temperature": 1, "top_p": 0.5},
            ["temperature"],
        ),
        (
            {"sampling": WARM},
            {"max_temperature": 1.5},
            {"temperature": 1.5, "top_p": 0.5},
            [],
        ),
        ({}, {"max_temperature": 0.5}, {}, []),
        (
            {"sampling": ALL_SAMPLING, "reasoning": ReasoningWish(enabled=True)},
            {"sampling_while_reasoning": False},
            {
                "seed": 0,
                "logit_bias": {},
                "logprobs": True,
                "top_logprobs": 0,
                "reasoning_effort": "medium",
            },
            ["temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty"],
        ),
        (
            {"sampling": WARM, "reasoning": ReasoningWish(enabled=False)},
            {"sampling_while_reasoning": False},
            {"temperature": 1.5, "top_p": 0.5, "reasoning_effort": "none"},
            [],
        ),
        (
            {"sampling": WARM},
            {"sampling_while_reasoning": False},
            {"temperature": 1.5, "top_p": 0.5},
            [],
        ),
        ({"stop": ("a", "b")}, {"most_stops": 2}, {"stop": ["a", "b"]}, []),
        ({"stop": ("a", "b")}, {"most_stops": 1}, {"stop": ["a"]}, ["stop"]),
        ({"stop": ("a", "b")}, {"most_stops": 0}, {}, ["stop"]),
        ({"n": 1}, {}, {"n": 1}, []),
        ({"n": 1}, {"many_answers": False}, {}, []),
        ({"n": 2}, {"many_answers": False}, {}, ["n!"]),
        ({"modalities": ("text",)}, {}, {}, []),
        ({"modalities": ("text", "audio")}, {}, {"modalities": ["text", "audio"]}, []),
        (
            {"audio": {"voice": "v"}, "verbosity": "low"},
            {},
            {"audio": {"voice": "v"}, "verbosity": "low"},
            [],
        ),
        (
            {"output": OutputFormat(kind="json")},
            {"json_schema": False},
            {"response_format": {"type": "json_object"}},
            [],
        ),
        ({"output": OutputFormat(kind="json")}, {"json_object": False}, {}, ["response_format!"]),
        (
            {"output": OutputFormat(kind="schema", schema={"type": "object"})},
            {},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {**SCHEMA, "name": "answer"},
                }
            },
            [],
        ),
        (
            {
                "output": OutputFormat(
                    kind="schema",
                    name="n",
                    schema={"type": "object"},
                    strict=False,
                    description="d",
                )
            },
            {"json_object": False},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {**SCHEMA, "strict": False, "description": "d"},
                }
            },
            [],
        ),
        (
            {"output": OutputFormat(kind="schema", schema={})},
            {"json_schema": False},
            {"response_format": {"type": "json_object"}},
            ["response_format!"],
        ),
        (
            {"output": OutputFormat(kind="schema", schema={})},
            {"json_schema": False, "json_object": False},
            {},
            ["response_format!"],
        ),
        ({"reasoning": ReasoningWish()}, {}, {}, []),
        ({"reasoning": ReasoningWish(enabled=True)}, {}, {"reasoning_effort": "medium"}, []),
        (
            {"reasoning": ReasoningWish(enabled=False, effort="high", budget=9)},
            {},
            {"reasoning_effort": "none"},
            [],
        ),
        (
            {"reasoning": ReasoningWish(effort="high", budget=1024)},
            {},
            {"reasoning_effort": "high"},
            [],
        ),
        ({"reasoning": ReasoningWish(budget=1024)}, {}, {"reasoning_effort": "minimal"}, []),
        (
            {"reasoning": ReasoningWish(budget=1025)},
            {},
            {"reasoning_effort": "low"},
            ["reasoning_effort"],
        ),
        (
            {"reasoning": ReasoningWish(effort="low", shown=False, summary="auto")},
            {},
            {"reasoning_effort": "low"},
            ["reasoning.shown", "reasoning.summary"],
        ),
        ({"reasoning": THINKS}, {"reasoning": ("budget",)}, {}, ["reasoning_effort"]),
        ({"reasoning": ReasoningWish(enabled=False)}, {"reasoning": ("budget",)}, {}, []),
        ({"reasoning": THINKS}, {"efforts": ()}, {}, ["reasoning_effort"]),
        (
            {"reasoning": THINKS},
            {"efforts": ("medium",)},
            {"reasoning_effort": "medium"},
            ["reasoning_effort"],
        ),
        (
            {
                "service_tier": "flex",
                "user": "u",
                "metadata": {},
                "store": False,
                "cache_key": "k",
                "cache_all": CacheMark(ttl="1h"),
            },
            {},
            {
                "service_tier": "flex",
                "user": "u",
                "metadata": {},
                "store": False,
                "prompt_cache_key": "k",
                "cache_control": {"type": "ephemeral", "ttl": "1h"},
            },
            [],
        ),
        *[
            ({field: value}, {able: False}, {}, lost)
            for field, value, able, lost in (
                ("service_tier", "flex", "service_tiers", ["service_tier"]),
                ("user", "u", "user", ["user"]),
                ("metadata", {}, "metadata", ["metadata"]),
                ("store", True, "store", ["store"]),
                ("store", False, "store", []),
                ("cache_key", "k", "cache_key", ["prompt_cache_key"]),
                ("cache_all", CacheMark(), "cache_marks", ["cache_control"]),
            )
        ],
        (
            {
                "tools": (
                    Tool(
                        name="f",
                        description="d",
                        parameters={"a": 1},
                        strict=False,
                        cache=CacheMark(),
                    ),
                )
            },
            {},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "description": "d",
                            "parameters": {"a": 1},
                            "strict": False,
                        },
                        **MARKED,
                    }
                ]
            },
            [],
        ),
        (
            {"tools": (Tool(name="f", strict=True, cache=CacheMark()),)},
            {"strict_tools": False, "cache_marks": False},
            WIRE_F,
            ["tools[0].strict", "tools[0].cache_control"],
        ),
        ({"tools": (Tool(name="f", strict=False),)}, {"strict_tools": False}, WIRE_F, []),
        (
            {
                "tools": (
                    Tool(
                        name="p", kind="custom", description="d", own={"type": "grammar", **GRAMMAR}
                    ),
                )
            },
            {},
            {
                "tools": [
                    {
                        "type": "custom",
                        "custom": {
                            "name": "p",
                            "description": "d",
                            "format": {"type": "grammar", "grammar": GRAMMAR},
                        },
                    }
                ]
            },
            [],
        ),
        (
            {
                "tools": (
                    Tool(name="p", kind="custom", own={"type": "grammar", "grammar": GRAMMAR}),
                    Tool(name="p", kind="custom", own={"odd": 1}),
                )
            },
            {},
            {
                "tools": [
                    {
                        "type": "custom",
                        "custom": {
                            "name": "p",
                            "format": {"type": "grammar", "grammar": GRAMMAR},
                        },
                    },
                    CUSTOM,
                ]
            },
            [],
        ),
        (
            {"tools": (Tool(name="w", kind="web"), *F), "parallel": True},
            {},
            {**WIRE_F, "parallel_tool_calls": True},
            ["tools[0]!"],
        ),
        ({"tools": (Tool(name="w", kind="web"),), "parallel": True}, {}, {}, ["tools[0]!"]),
        (
            {"tools": F, "parallel": True},
            {"parallel_switch": False},
            WIRE_F,
            [],
        ),
        (
            {"tools": F, "tool_choice": ToolChoice(mode="none")},
            {"forced_tools": False},
            {**WIRE_F, "tool_choice": "none"},
            [],
        ),
        (
            {"tools": F, "tool_choice": ToolChoice(mode="named", names=("f",))},
            {"forced_tools": False},
            WIRE_F,
            ["tool_choice!"],
        ),
        (
            {"tools": F, "tool_choice": ToolChoice(mode="named", names=("g",))},
            {},
            {**WIRE_F, "tool_choice": {"type": "function", "function": {"name": "g"}}},
            [],
        ),
        (
            {
                "tools": (*F, Tool(name="p", kind="custom")),
                "tool_choice": ToolChoice(mode="named", names=("p", "f")),
            },
            {},
            {
                "tools": [FUNCTION, CUSTOM],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [CUSTOM, FUNCTION]},
                },
            },
            [],
        ),
    ],
)
def test_each_wish_is_written(
    fields: dict[str, Any], can: dict[str, Any], wire: dict[str, Any], lost: list[str]
) -> None:
    """It is in the body by OpenAI's word, or among the losses, of which those with ! are grave."""
    turns = (Turn(role="user", parts=(Text(text="a"),)),)
    body, losses = write(Conversation(model="m", turns=turns, **fields), **can)
    assert body == {"model": "theirs", "messages": [{"role": "user", "content": "a"}]} | wire
    assert [loss.field + "!" * loss.grave for loss in losses.all] == lost


# Each part of an answer by itself.


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({}, ()),
        ({"content": 7, "refusal": 7, "tool_calls": 7, "images": 7, "audio": 7}, ()),
        ({"content": "a", "refusal": "no"}, (Text(text="a"), Refusal(text="no"))),
        (
            {
                "content": [
                    7,
                    {"type": "text", "text": "a"},
                    {"type": "text", "text": ""},
                    {"type": "output_text", "text": "b"},
                    {"type": "thinking", "thinking": "c"},
                    {"type": "refusal", "refusal": "d"},
                    {"type": "refusal"},
                    {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
                    {"type": "image_url"},
                    {"type": "odd"},
                ]
            },
            (
                Text(text="a"),
                Text(text="b"),
                Reasoning(text="c"),
                Refusal(text="d"),
                Media(kind="image", source=AT_A),
            ),
        ),
        (
            {"content": "a", "annotations": [NOTE], **GOOGLE},
            (Text(text="a", citations=(LINK,), signature=OWN_SIGNED),),
        ),
        (
            {"refusal": "no", "annotations": [NOTE], **GOOGLE},
            (Text(text="", citations=(LINK,), signature=OWN_SIGNED), Refusal(text="no")),
        ),
        (
            {"annotations": [{"url_citation": {"url": "u", "start_index": True, "title": ""}}]},
            (Text(text="", citations=(Citation(kind="url", url="u"),)),),
        ),
        ({"audio": {"transcript": "t"}}, ()),
        (
            {"audio": {"id": "au"}},
            (Media(kind="audio", source=Source(kind="base64", data=""), id="au"),),
        ),
        (
            {"audio": {"data": "aGk=", "transcript": "t"}},
            (Media(kind="audio", source=Source(kind="base64", data="aGk="), transcript="t"),),
        ),
        (
            {"images": [{"image_url": {"url": "https://a.example/b.png"}, **GOOGLE}, {}]},
            (Media(kind="image", source=AT_A, signature=OWN_SIGNED),),
        ),
        (
            {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": None}, **GOOGLE}]},
            (ToolCall(id="c", name="f", signature=OWN_SIGNED),),
        ),
        (
            {"tool_calls": [{"id": "c", "custom": {"name": "p", "input": ""}}]},
            (ToolCall(id="c", name="p", arguments="", custom=True),),
        ),
    ],
)
def test_each_word_of_an_answer_is_read(message: dict[str, Any], parts: Any) -> None:
    """In their order; what is no word of this dialect says nothing."""
    answer = CHAT_CODEC.read_answer({"choices": [{"message": message, "finish_reason": "length"}]})
    assert answer.choices[0].parts == parts and answer.choices[0].stop == "length"


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        (None, None),
        ("length", "length"),
        ("max_tokens", "length"),
        ("model_length", "context_window"),
        ("tool_calls", "tool_calls"),
        ("tool_use", "tool_calls"),
        ("function_call", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("content_filter", "content_filter"),
        ("refusal", "refusal"),
        ("stop_sequence", "stop_sequence"),
        ("stop", "end"),
        ("new", "end"),
    ],
)
def test_each_end_is_understood(reason: str | None, stop: str | None) -> None:
    """Whoever's word it is; an ordinary end becomes one of a call, a cut stays one."""
    choice = {"message": {"content": "a"}, "finish_reason": reason, "stop_reason": 7}
    answer = CHAT_CODEC.read_answer({"choices": [choice, {"message": {}}]})
    assert [one.stop for one in answer.choices] == [stop, None]
    assert answer.choices[0].stop_sequence is None
    called = {"message": {"tool_calls": [CALL]}, "finish_reason": reason, "stop_reason": "E"}
    read_ = CHAT_CODEC.read_answer({"choices": [called]}).choices[0]
    is_end = stop in (None, "end", "stop_sequence")
    assert read_.stop == ("tool_calls" if is_end else stop)
    assert read_.stop_sequence is None


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ({}, ("", "", 0, None)),
        (
            {"id": "a", "model": "m", "created": 5.5, "service_tier": "flex"},
            ("a", "m", 5, "flex"),
        ),
        ({"id": 7, "model": 7, "created": "x", "service_tier": 7}, ("", "", 0, None)),
        ({"created": -1, "service_tier": ""}, ("", "", 0, None)),
        ({"created": 1e12}, ("", "", 0, None)),
    ],
)
def test_the_head_of_an_answer_is_read(head: dict[str, Any], expected: Any) -> None:
    """What can't be is as good as not said."""
    logprobs: dict[str, Any] = {"content": [], "refusal": None}
    choices_ = [{"message": {}, "logprobs": 7}, {"message": {}, "logprobs": logprobs}]
    answer = CHAT_CODEC.read_answer({**head, "choices": choices_})
    assert (answer.id, answer.model, answer.created, answer.service_tier) == expected
    assert [choice.logprobs for choice in answer.choices] == [None, logprobs]


MOST = 1_000_000_000


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, Usage(9, 5, reported=True)),
        ({"total_tokens": 20}, Usage(9, 11, reported=True)),
        ({"total_tokens": -1}, Usage(9, 5, reported=True)),
        ({"prompt_tokens": MOST}, Usage(MOST, 5, reported=True)),
        ({"prompt_tokens": MOST + 1}, Usage()),
        ({"completion_tokens": 0}, Usage(9, 0, reported=True)),
        ({"completion_tokens": None}, Usage()),
        (
            {
                "prompt_tokens_details": {
                    "cached_tokens": 1,
                    "cache_write_tokens": 2,
                    "audio_tokens": 3,
                    "image_tokens": 4,
                },
                "completion_tokens_details": {
                    "reasoning_tokens": 1,
                    "audio_tokens": 2,
                    "image_tokens": 3,
                },
            },
            Usage(
                9,
                5,
                1,
                1,
                True,
                cache_write_tokens=2,
                audio_input_tokens=3,
                audio_output_tokens=2,
                image_input_tokens=4,
                image_output_tokens=3,
            ),
        ),
        (
            {
                "prompt_tokens_details": {
                    "cached_tokens": 99,
                    "cache_write_tokens": 99,
                    "audio_tokens": 99,
                    "image_tokens": 99,
                },
                "completion_tokens_details": {
                    "reasoning_tokens": 99,
                    "audio_tokens": 99,
                    "image_tokens": 99,
                },
            },
            Usage(
                9,
                5,
                9,
                5,
                True,
                cache_write_tokens=9,
                audio_input_tokens=9,
                audio_output_tokens=5,
                image_input_tokens=9,
                image_output_tokens=5,
            ),
        ),
        ({"prompt_cache_hit_tokens": 3}, Usage(9, 5, 3, reported=True)),
        ({"cached_tokens": 3}, Usage(9, 5, 3, reported=True)),
        (
            {"prompt_tokens_details": {"cached_tokens": -1}, "prompt_cache_hit_tokens": 2},
            Usage(9, 5, 2, reported=True),
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": 0}, "prompt_cache_hit_tokens": 2},
            Usage(9, 5, reported=True),
        ),
        (
            {"prompt_tokens_details": 7, "completion_tokens_details": 7},
            Usage(9, 5, reported=True),
        ),
    ],
)
def test_each_count_is_read(told: dict[str, Any], expected: Usage) -> None:
    """Each by its own name, and no part is more than the whole."""
    usage = {"prompt_tokens": 9, "completion_tokens": 5} | told
    assert CHAT_CODEC.read_answer({"choices": [{"message": {}}], "usage": usage}).usage == expected


def test_counts_that_are_seldom_are_named_where_they_are() -> None:
    """Those that OpenAI's type requires are always there, others only where they say something."""
    full = Usage(90, 50, 1, 2, True, 3, 0, 4, 5, 6, 7)
    body = answered(usage=full)["usage"]
    assert body == {
        "prompt_tokens": 90,
        "completion_tokens": 50,
        "total_tokens": 140,
        "prompt_tokens_details": {
            "cached_tokens": 1,
            "audio_tokens": 4,
            "cache_write_tokens": 3,
            "image_tokens": 6,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 2,
            "audio_tokens": 5,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
            "image_tokens": 7,
        },
    }
    plain = answered()["usage"]
    assert plain["prompt_tokens_details"] == {"cached_tokens": 0, "audio_tokens": 0}
    assert "image_tokens" not in plain["completion_tokens_details"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Text(text="a", signature=FROM_GOOGLE), {"content": "a"}),
        (Refusal(text="no"), {"refusal": "no"}),
        (
            ToolCall(id="c", name="p", arguments="t", custom=True),
            {"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "p", "input": "t"}}]},
        ),
        (
            Media(kind="image", source=Source(kind="base64", data="aGk=")),
            {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
        ),
        (
            Media(kind="audio", source=AT_A),
            {"audio": {"id": "", "data": "", "transcript": "", "expires_at": 1_700_000_000}},
        ),
        (
            Media(kind="audio", source=PNG, id="au", transcript="t"),
            {
                "audio": {
                    "id": "au",
                    "data": "aGk=",
                    "transcript": "t",
                    "expires_at": 1_700_000_000,
                }
            },
        ),
        (Media(kind="video", source=PNG), {}),
        (Text(text="a", citations=(Citation(kind="document", title="t"),)), {"content": "a"}),
        (
            Text(text="abc", citations=(Citation(kind="url", url="u"),)),
            {
                "content": "abc",
                "annotations": [
                    {
                        "type": "url_citation",
                        "url_citation": {
                            "start_index": 0,
                            "end_index": 3,
                            "url": "u",
                            "title": "",
                        },
                    }
                ],
            },
        ),
        (
            Text(text="abc", citations=(LINK,)),
            {"content": "abc", "annotations": [NOTE]},
        ),
    ],
)
def test_each_part_of_an_answer_is_written(part: Any, message: dict[str, Any]) -> None:
    """By the names of OpenAI's own type; a signature goes in the way of Google's endpoint."""
    body = answered(part)
    assert body["object"] == "chat.completion" and body["model"] == "asked"
    (choice,) = body["choices"]
    told = choice["message"]
    signed = told.pop("extra_content", None)
    assert told == {"role": "assistant", "content": None, "refusal": None} | message
    assert (signed is None) is (getattr(part, "signature", None) is None)
    assert (choice["index"], choice["logprobs"]) == (0, None)


@pytest.mark.parametrize(
    ("tier", "shown"), [("flex", True), ("fast", True), ("new", False), (None, False)]
)
def test_a_tier_is_told_to_clients_that_know_it(tier: str | None, shown: bool) -> None:
    """OpenAI's own types are strict about the word."""
    assert ("service_tier" in answered(service_tier=tier)) is shown


def test_ids_are_made_where_nobody_has_one() -> None:
    """Two answers without any id have different ones."""
    told = TOLD._replace(request_id="")
    answer = Answer(id="", model="m", choices=(Choice(parts=(), stop="end"),), usage=Usage())
    made = {CHAT_CODEC.write_answer(answer, told)["id"] for _ in range(2)}
    assert len(made) == 2 and all(len(one) == len("chatcmpl-") + 24 for one in made)
    sure = Choice(parts=(Text(text="a"),), stop="end", logprobs={"content": []})
    body = CHAT_CODEC.write_answer(
        Answer(id="a", model="m", choices=(sure, sure), usage=Usage()), TOLD
    )
    ChatCompletion.model_validate(body, strict=True)
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["choices"][1]["logprobs"] == {"content": [], "refusal": None}
