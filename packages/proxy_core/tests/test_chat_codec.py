"""Chat completions in translation: requests and whole answers."""

from __future__ import annotations

import json
from typing import Any

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
