from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import httpx2
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import message_create_params as beta_params
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from proxy_core import Usage
from proxy_core.dialects import EventSplitter
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._anthropic import ANTHROPIC_CODEC
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
    StopReason,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import ClientCodec, Frame, Losses, Told, UpstreamCodec
from proxy_core.dialects._fold import events_of, folded
from proxy_core.errors import InvalidRequest, ThreadNotCarried, UpstreamError, UpstreamProtocolError

CLIENT: ClientCodec = ANTHROPIC_CODEC
UPSTREAM: UpstreamCodec = ANTHROPIC_CODEC
OWN = "anthropic.messages"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
TOLD = Told("chat", Conversation(model="chat", turns=()))

_judge_request = TypeAdapter(MessageCreateParamsNonStreaming)
_judge_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def exhaust(value: Any) -> Any:
    """Pydantic judges the items of an iterable only when somebody takes them."""
    if isinstance(value, dict):
        return {key: exhaust(item) for key, item in value.items()}
    if isinstance(value, str | int | float | bool | None):
        return value
    return [exhaust(item) for item in value]


def user(*parts: Part) -> Turn:
    return Turn(role="user", parts=parts)


def said(text: str) -> Turn:
    return user(Text(text=text))


def asks(*turns: Turn, **fields: Any) -> Conversation:
    return Conversation(model="chat", turns=turns or (said("hi"),), **fields)


def written(conversation: Conversation, **can: Any) -> tuple[dict[str, Any], Losses]:
    """The request that the SDK's own types accept."""
    losses = Losses()
    body = UPSTREAM.write_request(conversation, "claude-up", Abilities(**can), losses)
    json.dumps(body, allow_nan=False)
    exhaust(_judge_request.validate_python({k: v for k, v in body.items() if k != "stream"}))
    return body, losses


def lost(losses: Losses) -> dict[str, bool]:
    return {loss.field: loss.grave for loss in losses.all}


def read(body: dict[str, Any]) -> tuple[Conversation, Losses]:
    losses = Losses()
    whole = {"model": "chat", "max_tokens": 9, "messages": [], **body}
    return CLIENT.read_request(whole, losses), losses


words = st.text('aé😀"\\ <', max_size=5).map(lambda text: f"w{text}w")
names = st.text("abXY09_-", min_size=1, max_size=8)
marks = st.sampled_from([None, None, CacheMark(), CacheMark(ttl="5m"), CacheMark(ttl="1h")])
ids = st.one_of(names, st.text(max_size=5), st.just("lpx_00"))
objects = st.dictionaries(words, st.one_of(st.integers(-9, 9), words, st.none()), max_size=2)
arguments = objects.map(lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False))
own = st.binary(min_size=1, max_size=6).map(
    lambda raw: Signature(origin=OWN, value=base64.b64encode(raw).decode())
)
counts = st.integers(0, 99)
citations = st.one_of(
    st.builds(
        Citation,
        kind=st.just("document"),
        quote=words,
        title=st.none() | words,
        source=counts,
        source_start=counts,
        source_end=counts,
        unit=st.sampled_from(["char", "page", "block"]),
    ),
    st.builds(Citation, kind=st.just("url"), quote=words, url=words, title=words, sealed=words),
    st.builds(
        Citation,
        kind=st.just("search"),
        quote=words,
        url=words,
        source=counts,
        source_start=counts,
        source_end=counts,
        unit=st.just("block"),
    ),
)
texts = st.builds(Text, text=words, cache=marks)
plain = st.builds(Text, text=words)
pictures = st.builds(
    Media,
    kind=st.just("image"),
    source=st.one_of(
        st.just(Source(kind="base64", data=PNG, media_type="image/png")),
        st.builds(Source, kind=st.sampled_from(["url", "file"]), data=words),
    ),
)
documents = st.builds(
    Media,
    kind=st.just("file"),
    source=st.one_of(
        st.builds(Source, kind=st.just("text"), data=words, media_type=st.just("text/plain")),
        st.just(Source(kind="base64", data="JVBERi0=", media_type="application/pdf")),
        st.builds(Source, kind=st.sampled_from(["url", "file"]), data=words),
    ),
    name=st.none() | words,
    context=st.none() | words,
    cites=st.booleans(),
    cache=marks,
)
thoughts = st.one_of(
    st.builds(Reasoning, text=st.just("") | words, signature=own),
    st.builds(Reasoning, signature=own, redacted=st.just(True)),
)
calls = st.builds(ToolCall, id=ids, name=names, arguments=arguments, cache=marks)
results = st.builds(
    ToolResult,
    id=ids,
    parts=st.lists(st.one_of(plain, pictures), max_size=2).map(tuple),
    is_error=st.booleans(),
    cache=marks,
)
cited = st.builds(Text, text=words, citations=st.lists(citations, max_size=2).map(tuple))


def turns_of(role: str, parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Turn]:
    listed = st.lists(parts, min_size=1, max_size=3)
    return listed.map(lambda drawn: Turn(role=role, parts=tuple(drawn)))  # type: ignore[arg-type]


@st.composite
def dialogues(draw: st.DrawFn) -> tuple[Turn, ...]:
    """As Anthropic's clients have them: one system prompt, then turns that alternate."""
    turns = [draw(turns_of("system", texts))] if draw(st.booleans()) else []
    turns.append(draw(turns_of("user", st.one_of(texts, pictures, documents))))
    if draw(st.booleans()):
        turns.append(draw(turns_of("assistant", st.one_of(thoughts, cited, calls))))
        turns.append(draw(turns_of("tool", results)))
        if draw(st.booleans()):
            turns.append(draw(turns_of("user", texts)))
    return tuple(turns)


tools = st.one_of(
    st.builds(
        Tool,
        name=names,
        description=st.none() | words,
        parameters=st.just({"type": "object", "properties": {"a": {"type": "integer"}}}),
        strict=st.none() | st.booleans(),
        cache=marks,
    ),
    st.just(
        Tool(
            name="web_search",
            kind="web_search_20250305",
            own={"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        )
    ),
)
wishes = st.one_of(
    st.none(),
    st.just(ReasoningWish(enabled=False)),
    st.builds(
        ReasoningWish,
        enabled=st.just(True),
        effort=st.none() | st.sampled_from(["low", "medium", "high", "xhigh", "max"]),
        shown=st.booleans(),
    ),
)
unit = st.none() | st.sampled_from([0.0, 0.5, 1.0])
conversations = st.builds(
    Conversation,
    model=st.just("claude-up"),
    turns=dialogues(),
    tools=st.lists(tools, min_size=1, max_size=2).map(tuple),
    tool_choice=st.sampled_from([None, ToolChoice(mode="auto"), ToolChoice(mode="none")]),
    max_tokens=st.integers(1, 9999),
    sampling=st.builds(Sampling, temperature=unit, top_p=unit, top_k=st.none() | counts),
    stop=st.lists(words, max_size=3).map(tuple),
    output=st.none() | st.just(OutputFormat(kind="schema", schema={"type": "object"})),
    reasoning=wishes,
    service_tier=st.sampled_from([None, "auto", "default"]),
    user=st.none() | words,
    cache_all=marks,
)


@given(conversations)
@settings(max_examples=25, deadline=None)
def test_a_request_survives_its_dialect(conversation: Conversation) -> None:
    """What Anthropic carries is the same after it was written, judged by its SDK, and read."""
    body, losses = written(conversation)
    again = Losses()
    assert CLIENT.read_request(json.loads(json.dumps(body)), again) == conversation
    assert not losses.all and not again.all


@pytest.mark.parametrize("choice", [("required", ()), ("named", ("f",))])
@pytest.mark.parametrize("parallel", [None, False])
def test_a_demanded_tool_survives(choice: Any, parallel: bool | None) -> None:
    """So does the wish for one call at a time; and thinking gives way, which is announced."""
    tool = Tool(name="f", parameters={"type": "object"})
    asked = asks(
        tools=(tool,),
        tool_choice=ToolChoice(mode=choice[0], names=choice[1]),
        parallel=parallel,
        reasoning=ReasoningWish(effort="high"),
    )
    body, losses = written(asked)
    again = CLIENT.read_request(body, Losses())
    assert (again.tool_choice, again.parallel) == (asked.tool_choice, parallel)
    assert "thinking" not in body and lost(losses) == {"reasoning_effort": False}


scalars: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**400, "", "text", "user", [], {}]
)
fields = ["type", "text", "content", "source", "id", "input", "name", "data", "citations", "title"]
kinds = ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"]
typed = st.sampled_from(kinds).map(lambda kind: {"type": kind})
leaves = st.dictionaries(st.sampled_from(fields), scalars | typed, max_size=4)
blocks = st.builds(lambda *parts: {**parts[0], **parts[1]}, leaves, typed)
content = st.one_of(scalars, blocks, st.lists(blocks, max_size=2))
tops = [
    *("system", "tools", "tool_choice", "thinking", "output_config", "output_format", "metadata"),
    *("cache_control", "stop_sequences", "temperature", "mcp_servers", "service_tier", "stream"),
]


@given(
    st.dictionaries(st.sampled_from(tops), content, max_size=2),
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", 4]), "content": content}),
)
@settings(max_examples=60, deadline=None)
def test_no_json_breaks_the_reading(body: dict[str, Any], message: dict[str, Any]) -> None:
    """Whatever comes is a conversation or an InvalidRequest that names its field."""
    refused: InvalidRequest | None = None
    try:
        read(body | {"messages": [message]})
    except InvalidRequest as error:
        refused = error
    assert refused is None or refused.param


CLAUDE_CODE: dict[str, Any] = {
    "model": "chat",
    "max_tokens": 32000,
    "stream": True,
    "metadata": {"user_id": "user_1_session_2"},
    "thinking": {"type": "adaptive", "display": "summarized"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "system": [{"type": "text", "text": "You are", "cache_control": {"type": "ephemeral"}}],
    "tools": [
        {"name": "Bash", "description": "d", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
    ],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "messages": [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"c": "ls"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>"},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": "a.txt",
                    "is_error": False,
                    "cache_control": {"type": "ephemeral", "ttl": "1h"},
                },
            ],
        },
        {"role": "system", "content": "be short"},
    ],
}


def test_what_claude_code_sends_is_understood() -> None:
    """Adaptive thinking, effort, marks, results with words beside them, late system messages."""
    judge = TypeAdapter(beta_params.MessageCreateParamsStreaming)
    exhaust(judge.validate_python(CLAUDE_CODE))
    losses = Losses()
    told = CLIENT.read_request(CLAUDE_CODE, losses)
    assert lost(losses) == {"context_management": False}
    assert told.reasoning == ReasoningWish(enabled=True, effort="high", shown=True)
    assert told.user == "user_1_session_2" and told.stream and told.include_usage
    assert told.parallel is False and told.tool_choice == ToolChoice(mode="auto")
    assert [turn.role for turn in told.turns] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
        "system",
    ]
    assert told.turns[2].parts[0] == Reasoning(
        text="hm", signature=Signature(origin=OWN, value="c2ln")
    )
    assert told.turns[3].parts == (
        ToolResult(id="toolu_1", parts=(Text(text="a.txt"),), cache=CacheMark(ttl="1h")),
    )
    assert told.tools[1].kind == "web_search_20250305" and told.tools[1].own["max_uses"] == 8


def test_blocks_without_like_are_named() -> None:
    """The work of Anthropic's own tools, and what comes tomorrow, is lost gravely and named."""
    blocks = [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
        {"type": "tomorrow"},
        {"type": "text", "text": "found", "odd": 1},
    ]
    servers = [{"type": "url", "url": "https://x", "name": "x"}]
    told, losses = read(
        {
            "messages": [{"role": "assistant", "content": blocks}],
            "mcp_servers": servers,
            "speed": "fast",
        }
    )
    assert told.turns == (Turn(role="assistant", parts=(Text(text="found"),)),)
    assert lost(losses) == {
        "speed": False,
        "mcp_servers": True,
        **{f"messages[0].content[{at}]": True for at in range(3)},
        "messages[0].content[3].odd": False,
    }


def test_a_search_result_and_a_documents_blocks_become_text() -> None:
    """Their words survive where no dialect has such blocks."""
    inner = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    search = {"type": "search_result", "title": "T", "source": "S", "content": inner}
    document = {"type": "document", "source": {"type": "content", "content": inner}}
    told, losses = read({"messages": [{"role": "user", "content": [search, document]}]})
    found, media = told.turns[0].parts
    assert found == Text(text="T\nS\n\none\ntwo") and not losses.all
    assert isinstance(media, Media) and media.source.data == "one\n\ntwo"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        ({"system": 4}, "system"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"output_config": {"effort": "hi"}}, "output_config.effort"),
    ],
)
def test_a_wrong_request_names_its_field(body: dict[str, Any], param: str) -> None:
    """The path leads to the value that has to be mended."""
    with pytest.raises(InvalidRequest) as refused:
        read(body)
    assert refused.value.param == param


def test_an_openai_dialogue_becomes_alternate_messages() -> None:
    """Leading system turns go on top, results first into one user message, late system to text."""
    call, other = ToolCall(id="call.1", name="f"), ToolCall(id="c2", name="g", arguments="")
    turns = (
        Turn(role="system", parts=(Text(text="a"),)),
        Turn(role="developer", parts=(Text(text="b"),)),
        said("hi"),
        said("  "),
        said("there"),
        Turn(role="assistant", parts=(Text(text=""), Refusal(text="no"), call, other)),
        Turn(role="system", parts=(Text(text="late"),)),
        Turn(role="tool", parts=(ToolResult(id="call.1", parts=(Text(text="1"),)),)),
        said("and?"),
        Turn(role="tool", parts=(ToolResult(id="c2"),)),
        Turn(role="assistant", parts=(Text(text="so \n"),)),
    )
    body, losses = written(asks(*turns), late_system=False)
    assert [block["text"] for block in body["system"]] == ["a", "b"]
    first, answer, second, last = body["messages"]
    assert [block["text"] for block in first["content"]] == ["hi", "there"]
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in answer["content"][1:]] == [{}, {}]
    kinds = [block.get("text", block["type"]) for block in second["content"]]
    assert kinds == ["tool_result", "tool_result", "<system>late</system>", "and?"]
    assert second["content"][0]["tool_use_id"] == answer["content"][1]["id"] == "lpx_63616c6c2e31"
    assert last["content"] == [{"type": "text", "text": "so"}]
    assert body["max_tokens"] > 0 and not losses.all
    assert written(asks(*turns))[0]["messages"] == body["messages"]


@pytest.mark.parametrize(
    ("roles", "told"),
    [
        ("us", "us"),
        ("usa", "usa"),
        ("ussa", "usa"),
        ("uas", "uau"),
        ("uasu", "uau"),
        ("usu", "u"),
        ("suas", "uau"),
    ],
)
def test_a_system_message_stands_where_it_may(roles: str, told: str) -> None:
    """Behind a user's message, before an assistant's or last; elsewhere it is the user's, marked.

    A model that takes none gets all of them so.
    """
    known: dict[str, Any] = {"u": "user", "a": "assistant", "s": "system"}
    turns = [
        Turn(role=known[role], parts=(Text(text=f"{role}{at}"),)) for at, role in enumerate(roles)
    ]
    body, losses = written(asks(*turns))
    assert "".join(message["role"][0] for message in body["messages"]) == told
    older, _ = written(asks(*turns), late_system=False)
    assert "system" not in {message["role"] for message in older["messages"]}
    late = [f"s{at}" for at, role in enumerate(roles) if role == "s" and at]
    assert all(f"<system>{text}</system>" in json.dumps(older) for text in late)
    assert all(f'"{text}"' in json.dumps(body) or f">{text}<" in json.dumps(body) for text in late)
    assert not losses.all


def test_instructions_alone_are_what_is_asked() -> None:
    """Anthropic wants a user's message: where none says a thing, the system's text is it."""
    system = Turn(role="system", parts=(Text(text="Greet"),))
    for turns in ((system,), (system, said(" \n"))):
        body, losses = written(asks(*turns))
        assert body["messages"] == [
            {"role": "user", "content": [{"type": "text", "text": "Greet"}]}
        ]
        assert "system" not in body and not losses.all


def test_a_request_that_says_nothing_is_refused() -> None:
    """No message without words is sent, and what was lost of it is named first."""
    assert lost(written(asks(said(" ")))[1]) == {"messages": True}
    video = Media(kind="video", source=Source(kind="url", data="https://x/y.mp4"))
    assert list(lost(written(asks(user(video)))[1])) == ["messages[0].content[0]", "messages"]


@pytest.mark.parametrize("thread", [{"type": "create"}, {"type": "continue"}, 4])
def test_a_thread_is_never_dropped(thread: Any) -> None:
    """What Anthropic keeps for a client, no other provider has: its SDK has to send it all."""
    with pytest.raises(ThreadNotCarried, match=r"'messages', without 'thread'") as refused:
        read({"thread": thread})
    assert refused.value.param == "thread"
    assert not read({"thread": None})[1].all


def test_what_anthropic_has_not_is_announced_or_refused() -> None:
    """Hints are announced; what makes another answer of it is grave."""
    asked = asks(
        sampling=Sampling(temperature=1.7, seed=1, presence_penalty=0.5, logprobs=True),
        stop=("\n", "END"),
        n=2,
        output=OutputFormat(kind="json"),
        modalities=("text", "audio"),
        metadata={"a": "b"},
        verbosity="low",
        store=True,
        cache_key="k",
        service_tier="flex",
        tools=(Tool(name="c", kind="custom"), Tool(name="w", kind="web_search", own={"type": "x"})),
    )
    body, losses = written(asked)
    assert body["temperature"] == 1.0 and body["stop_sequences"] == ["END"]
    told = lost(losses)
    grave = {field for field, is_grave in told.items() if is_grave}
    assert grave == {"n", "response_format", "modalities", "tools[0]", "tools[1]"}
    assert set(told) - grave == {
        "temperature",
        "seed",
        "presence_penalty",
        "logprobs",
        "stop",
        "metadata",
        "verbosity",
        "store",
        "prompt_cache_key",
        "service_tier",
    }
    assert "tools" not in body and "tool_choice" not in body


def test_a_model_gets_no_more_than_it_can() -> None:
    """Each ability that is lacking takes its field away, and says so."""
    picture = Media(kind="image", source=Source(kind="url", data="https://x/y.png"))
    asked = asks(
        user(Text(text="x", cache=CacheMark()), picture),
        sampling=Sampling(temperature=0.3, top_p=0.4, top_k=5),
        user="u",
        service_tier="auto",
        stop=("a", "b"),
        parallel=False,
        tools=(Tool(name="f", strict=True),),
        tool_choice=ToolChoice(mode="required"),
        output=OutputFormat(kind="schema", schema={}),
        reasoning=ReasoningWish(effort="high"),
    )
    body, losses = written(
        asked,
        temperature=False,
        top_p=False,
        top_k=False,
        user=False,
        service_tiers=False,
        most_stops=1,
        parallel_switch=False,
        strict_tools=False,
        forced_tools=False,
        json_schema=False,
        reasoning=(),
        cache_marks=False,
        image_urls=False,
    )
    assert set(body) == {"model", "max_tokens", "messages", "stop_sequences", "tools"}
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    grave = {field for field, is_grave in lost(losses).items() if is_grave}
    assert grave == {"messages[0].content[1]", "tool_choice", "response_format"}
    assert len(losses.all) == 13


@pytest.mark.parametrize(
    ("data", "media_type", "told"),
    [
        (PNG, "", "image/png"),
        (PNG, "image/jpeg", "image/png"),
        (base64.b64encode(b"\xff\xd8\xff" + bytes(9)).decode(), "", "image/jpeg"),
        (base64.b64encode(b"RIFF....WEBP").decode(), "", "image/webp"),
        ("AAAA", "image/jpg", "image/jpeg"),
    ],
)
def test_a_pictures_media_type_is_that_of_its_bytes(data: str, media_type: str, told: str) -> None:
    """Anthropic refuses a wrong one, and clients often say none."""
    source = Source(kind="base64", data=data, media_type=media_type)
    body, _ = written(asks(user(Media(kind="image", source=source))))
    assert body["messages"][0]["content"][0]["source"]["media_type"] == told


def test_bytes_of_no_known_form_are_refused() -> None:
    """Without a type nobody can read them; with one that another takes, they are lost gravely."""
    with pytest.raises(InvalidRequest, match=r"messages\[0\].content\[0\]"):
        written(asks(user(Media(kind="image", source=Source(kind="base64", data="AAAA")))))
    svg = Source(kind="base64", data="AAAA", media_type="image/svg+xml")
    sound = Media(kind="audio", source=Source(kind="base64", data="AAAA"))
    csv = Source(kind="base64", data="YSxi", media_type="text/csv")
    body, losses = written(
        asks(user(Media(kind="image", source=svg), sound, Media(kind="file", source=csv)))
    )
    assert lost(losses) == {"messages[0].content[0]": True, "messages[0].content[1]": True}
    assert body["messages"][0]["content"][0]["source"]["data"] == "a,b"


def test_arguments_that_are_no_object_are_refused() -> None:
    """The error names the call and where it stands."""
    bad = Turn(role="assistant", parts=(ToolCall(id="c1", name="f", arguments="[1"),))
    with pytest.raises(InvalidRequest) as refused:
        written(asks(said("x"), bad))
    assert refused.value.param == "messages[1].content[0]" and "'c1'" in refused.value.message


def test_foreign_signatures_do_not_reach_anthropic() -> None:
    """Thinking that another signed, or nobody, is left out and announced; its own goes as it is."""
    foreign = Signature(origin="gemini.generate", value="x")
    turn = Turn(
        role="assistant",
        parts=(
            Reasoning(text="a", signature=foreign),
            Reasoning(text="b"),
            Reasoning(text="c", signature=Signature(origin=OWN, value="s")),
            Text(text="d", signature=foreign),
        ),
    )
    body, losses = written(asks(said("x"), turn, said("y")))
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "c", "signature": "s"},
        {"type": "text", "text": "d"},
    ]
    assert lost(losses) == {"messages[1].reasoning": False}


BUDGET = {"reasoning": ("budget",), "output_cap": 64_000}
ADAPTIVE = {"reasoning": ("effort", "adaptive"), "efforts": ("low", "medium", "high", "max")}
SHOWN = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    ("wish", "max_tokens", "can", "thinking", "effort"),
    [
        ({"effort": "high"}, None, BUDGET, {"type": "enabled", "budget_tokens": 16_384}, None),
        ({"effort": "high"}, 5000, BUDGET, {"type": "enabled", "budget_tokens": 4000}, None),
        ({"effort": "low"}, 1025, BUDGET, {"type": "enabled", "budget_tokens": 1024}, None),
        ({"effort": "low"}, 1024, BUDGET, None, None),
        ({"budget": 9000}, 8000, BUDGET, {"type": "enabled", "budget_tokens": 7999}, None),
        ({"budget": 3}, 8000, BUDGET, {"type": "enabled", "budget_tokens": 1024}, None),
        ({"effort": "none"}, 8000, BUDGET, {"type": "disabled"}, None),
        ({"budget": 0}, 8000, BUDGET, {"type": "disabled"}, None),
        ({"enabled": True}, None, ADAPTIVE, SHOWN, None),
        ({"effort": "xhigh"}, None, ADAPTIVE, SHOWN, "high"),
        ({"effort": "minimal"}, None, ADAPTIVE, SHOWN, "low"),
        ({"budget": 2000, "shown": False}, 99, ADAPTIVE, SHOWN | {"display": "omitted"}, "low"),
        ({"enabled": False}, None, ADAPTIVE, None, "low"),
        ({"shown": True}, None, ADAPTIVE, None, None),
        ({"effort": "high"}, None, {"reasoning": ("effort",)}, None, "high"),
    ],
)
def test_thinking_is_asked_for_as_the_model_takes_it(
    wish: dict[str, Any],
    max_tokens: int | None,
    can: dict[str, Any],
    thinking: dict[str, Any] | None,
    effort: str | None,
) -> None:
    """In tokens below the cap, or in words that this model knows; never more than it takes."""
    asked = asks(reasoning=ReasoningWish(**wish), max_tokens=max_tokens)
    body, _ = written(asked, **can)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert body["max_tokens"] == (max_tokens or can.get("output_cap", 4096))


def test_thinking_in_tokens_gives_way_where_it_would_be_refused() -> None:
    """Results whose calls had no thinking of Anthropic's can't go on with a budget."""
    history = (
        said("x"),
        Turn(role="assistant", parts=(ToolCall(id="c", name="f"),)),
        Turn(role="tool", parts=(ToolResult(id="c"),)),
    )
    body, losses = written(asks(*history, reasoning=ReasoningWish(effort="low")), **BUDGET)
    assert "thinking" not in body and lost(losses) == {"reasoning_effort": False}
    body, losses = written(asks(*history, reasoning=ReasoningWish(effort="low")), **ADAPTIVE)
    assert "thinking" in body and not losses.all


def test_sampling_gives_way_to_thinking() -> None:
    """Where a model takes no temperature while it thinks, thinking wins and says so."""
    asked = asks(sampling=Sampling(temperature=0.2), reasoning=ReasoningWish(effort="low"))
    body, losses = written(asked, sampling_while_reasoning=False)
    assert "temperature" not in body and lost(losses) == {"temperature": False}


_stops: list[StopReason] = ["end", "stop_sequence", "length", "refusal", "pause", "context_window"]
usages = st.builds(
    lambda fresh, cached, kept, kept_1h, made, thought: Usage(
        input_tokens=fresh + cached + kept,
        output_tokens=made,
        cached_tokens=cached,
        reasoning_tokens=min(thought, made),
        reported=True,
        cache_write_tokens=kept,
        cache_write_1h_tokens=min(kept_1h, kept),
    ),
    *[counts] * 6,
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    thinking = st.builds(Reasoning, text=words, signature=st.none() | own) | thoughts
    bare_calls = st.builds(ToolCall, id=ids, name=names, arguments=arguments)
    parts = tuple(draw(st.lists(st.one_of(thinking, cited, bare_calls), max_size=4)))
    called = any(isinstance(part, ToolCall) for part in parts)
    stop = "tool_calls" if called else draw(st.sampled_from(_stops))
    sequence = draw(words) if stop == "stop_sequence" else None
    choice = Choice(parts=parts, stop=stop, stop_sequence=sequence)
    tier = draw(st.sampled_from([None, "default", "priority"]))
    usage = draw(usages)
    return Answer(id="msg_1", model="chat", choices=(choice,), usage=usage, service_tier=tier)


def stream_of(events: Iterator[Event] | list[Event], told: Told = TOLD) -> bytes:
    writer = CLIENT.stream_writer(told)
    return b"".join([*(writer.write(event) for event in events), writer.end()])


def events_in(stream: bytes) -> list[Event]:
    reader = UPSTREAM.stream_reader()
    told: list[Event] = []
    for event in EventSplitter().feed(stream):
        told += reader.read(Frame(event.data or b"", event.name.decode()))
    return told + reader.end()


def seen_by_sdk(stream: bytes) -> Message:
    """What the SDK's own accumulator makes of a stream."""
    head = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=head, content=stream))
    http = httpx2.Client(transport=transport)
    with anthropic.Anthropic(api_key="k", http_client=http) as client:
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        with client.messages.stream(max_tokens=5, **asked) as told:
            return told.get_final_message()


@pytest.mark.parametrize(("pieces", "read"), [((" ", "\n"), {}), ((" ", '{"a":', " 1}"), {"a": 1})])
def test_blanks_before_arguments_are_not_streamed(pieces: tuple[str, ...], read: Any) -> None:
    """The SDK can't read blanks alone as JSON; within the arguments they stay."""
    call = ToolCall(id="c", name="f", arguments="")
    told = [Piece(index=0, text=text) for text in pieces]
    end = Finished(stop="tool_calls")
    stream = stream_of(
        [Begun(id="m", model="m"), Opened(index=0, part=call), *told, Closed(index=0), end]
    )
    (block,) = seen_by_sdk(stream).content
    assert block.type == "tool_use" and block.input == read


@given(answers())
@settings(max_examples=25, deadline=None)
def test_an_answer_survives_its_dialect(answer: Answer) -> None:
    """Whole: every field that Anthropic's own type requires, and the same answer when read."""
    body = CLIENT.write_answer(answer, TOLD)
    Message.model_validate_json(json.dumps(body), strict=True)
    assert UPSTREAM.read_answer(body) == answer


@given(answers())
@settings(max_examples=25, deadline=None)
def test_a_stream_says_what_the_whole_answer_says(answer: Answer) -> None:
    """Written, judged event by event, read and folded, a stream is the answer."""
    stream = stream_of(events_of(answer))
    for event in EventSplitter().feed(stream):
        told = _judge_event.validate_json(event.data or b"", strict=True)
        assert event.name.decode() == told.type
    again = folded(events_in(stream))
    again.usage.cache_write_1h_tokens = answer.usage.cache_write_1h_tokens
    assert again == answer


def test_the_sdk_gathers_what_was_streamed() -> None:
    """Parts that take turns come one after the other, with usage that is told last."""
    call = ToolCall(id="call 1", name="f", arguments="")
    foreign = Signature(origin="gemini.generate", value="proof")
    events: list[Event] = [
        Begun(id="chatcmpl-1", model="gpt"),
        Opened(index=0, part=Reasoning()),
        Piece(index=0, text="hm"),
        Opened(index=1, part=Text(text="")),
        Piece(index=1, text="h\u00e9"),
        Opened(index=2, part=call),
        Piece(index=2, text='{"a":'),
        Piece(index=0, signature=foreign),
        Closed(index=0),
        Closed(index=1),
        Opened(index=0, part=Text(text=""), choice=1),
        Piece(index=0, text="unseen", choice=1),
        Closed(index=0, choice=1),
        Piece(index=2, text="1}"),
        Closed(index=2),
        Finished(stop="end"),
        Finished(stop="end", choice=1),
        Counted(Usage(10, 4, 3, 2, reported=True)),
    ]
    message = seen_by_sdk(stream_of(events))
    thought, text, used = message.content
    assert thought.type == "thinking" and thought.thinking == "hm"
    assert text.type == "text" and text.text == "h\u00e9"
    assert used.type == "tool_use" and used.input == {"a": 1}
    assert message.model == "chat" and message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 4)
    assert message.usage.cache_read_input_tokens == 3
    sent = [block.to_dict() for block in message.content]
    again, losses = read({"messages": [{"role": "assistant", "content": sent}]})
    reasoning, _, told = again.turns[0].parts
    assert reasoning == Reasoning(text="hm", signature=foreign) and not losses.all
    assert isinstance(told, ToolCall) and told.id == "call 1"


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (
            Media(kind="image", source=Source(kind="base64", data=PNG, media_type="image/png")),
            "[A picture (image/png) was left out: ",
        ),
        (Media(kind="audio", source=Source(kind="base64", data="AA")), "[A sound was left out: "),
        (Media(kind="image", source=Source(kind="url", data="https://x/y")), "https://x/y"),
        (
            Media(kind="audio", source=Source(kind="base64", data="AA"), transcript="hello"),
            "hello",
        ),
    ],
)
def test_a_picture_in_an_answer_leaves_a_word(part: Media, told: str) -> None:
    """Anthropic's clients see no picture, but that there was one, whole and streamed alike."""
    proof = Signature(origin="gemini.generate", value="p")
    signed = Media(
        **{name: getattr(part, name) for name in part.__struct_fields__} | {"signature": proof}
    )
    for media in (part, signed):
        choice = Choice(parts=(media,), stop="end")
        answer = Answer(id="a", model="m", choices=(choice,), usage=Usage())
        (block,) = CLIENT.write_answer(answer, TOLD)["content"]
        (streamed,) = seen_by_sdk(stream_of(events_of(answer))).content
        assert block["text"].startswith(told) and streamed.to_dict()["text"] == block["text"]


def test_thinking_that_nobody_signed_is_known_again() -> None:
    """Its block bears a mark in the signature's place, so that Anthropic never gets it."""
    bare = Reasoning(text="hm")
    answer = Answer(id="a", model="m", choices=(Choice(parts=(bare,), stop="end"),), usage=Usage())
    (block,) = seen_by_sdk(stream_of(events_of(answer))).content
    (whole,) = CLIENT.write_answer(answer, TOLD)["content"]
    assert block.to_dict() == whole and whole["signature"] == "lp1::"
    again, _ = read({"messages": [{"role": "assistant", "content": [whole]}]})
    assert again.turns[0].parts == (bare,)


@pytest.mark.parametrize("late", [True, False])
def test_a_signed_call_comes_back_signed(late: bool) -> None:
    """Gemini's proof of a call survives an Anthropic client, streamed or whole."""
    proof = Signature(origin="gemini.generate", value="p+/=")
    bare = ToolCall(id="c", name="f", arguments="{}", signature=None if late else proof)
    signed = ToolCall(id="c", name="f", arguments="{}", signature=proof)
    after = Text(text="x")
    choice = Choice(parts=(signed, after), stop="tool_calls")
    whole = Answer(id="a", model="m", choices=(choice,), usage=Usage())
    events: list[Event] = [
        Begun(id="a", model="m"),
        Opened(index=0, part=bare),
        *([Piece(index=0, signature=proof)] if late else []),
        Closed(index=0),
        Opened(index=1, part=after),
        Closed(index=1),
        Finished(stop="tool_calls"),
    ]
    streamed = [block.to_dict() for block in seen_by_sdk(stream_of(events)).content]
    for content in (streamed, CLIENT.write_answer(whole, TOLD)["content"]):
        again, losses = read({"messages": [{"role": "assistant", "content": content}]})
        assert again.turns[0].parts == (signed, after) and not losses.all


@pytest.mark.parametrize(
    ("stop", "parts", "reason"),
    [
        ("end", (), "end_turn"),
        ("end", (ToolCall(id="c", name="f"),), "tool_use"),
        ("end", (Refusal(text="no"),), "refusal"),
        ("length", (ToolCall(id="c", name="f", arguments='{"a'),), "max_tokens"),
        ("content_filter", (), "refusal"),
        (None, (), "end_turn"),
    ],
)
def test_an_end_is_said_in_anthropics_words(
    stop: Any, parts: tuple[Part, ...], reason: str
) -> None:
    """Calls say tool_use whatever their provider said, and arguments that broke off stay seen."""
    choice = Choice(parts=parts, stop=stop)
    answer = Answer(id="", model="m", choices=(choice,), usage=Usage())
    body = CLIENT.write_answer(answer, TOLD)
    message = Message.model_validate_json(json.dumps(body), strict=True)
    assert message.stop_reason == reason == seen_by_sdk(stream_of(events_of(answer))).stop_reason
    assert message.id.startswith("msg_")
    if stop == "length":
        assert body["content"][0]["input"] == {"_raw": '{"a'}


def event(kind: str, **fields: Any) -> Frame:
    return Frame(json.dumps({"type": kind, **fields}).encode(), kind)


BEGUN = event("message_start", message={"id": "m", "model": "c", "usage": {"input_tokens": 1}})


def test_an_upstreams_own_tools_and_news_are_passed_over() -> None:
    """Parts count without gaps though blocks of Anthropic's own tools stand between them."""
    reader = UPSTREAM.stream_reader()
    frames = [
        BEGUN,
        event("ping"),
        event("content_block_start", index=0, content_block={"type": "server_tool_use", "id": "s"}),
        event(
            "content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "{}"}
        ),
        event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block={"type": "text", "text": "a"}),
        event("content_block_delta", index=1, delta={"type": "news_delta"}),
        event("tomorrow"),
        event(
            "content_block_start",
            index=2,
            content_block={"type": "tool_use", "id": "t", "name": "f"},
        ),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 5}),
        event("message_stop"),
    ]
    answer = folded([told for frame in frames for told in reader.read(frame)] + reader.end())
    parts = (Text(text="a"), ToolCall(id="t", name="f", arguments="{}"))
    assert answer.choices == (Choice(parts=parts, stop="tool_calls"),)
    assert answer.usage == Usage(1, 5, reported=True)


def test_an_error_in_a_stream_ends_it() -> None:
    """It is told as what it is, and nothing follows."""
    reader = UPSTREAM.stream_reader()
    reader.read(BEGUN)
    frame = event("error", error={"type": "overloaded_error", "message": "busy"})
    (broken,) = reader.read(frame)
    assert isinstance(broken, Broken) and isinstance(broken.error, UpstreamError)
    assert broken.error.upstream_code == "overloaded_error"
    assert reader.read(event("message_stop")) == [] == reader.end()


@pytest.mark.parametrize(
    "frames",
    [
        [Frame(b"{oops")],
        [Frame(b"[]")],
        [event("content_block_stop", index=0)],
        [BEGUN, event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x"})],
        [BEGUN, event("content_block_start", index="0", content_block={"type": "text"})],
        [BEGUN, event("content_block_start", index=0, content_block={})],
        [BEGUN, event("message_delta")],
        [event("message_start", message=[])],
        [BEGUN, *[event("content_block_start", index=0, content_block={"type": "text"})] * 2],
    ],
)
def test_a_stream_that_is_none_is_a_protocol_error(frames: list[Frame]) -> None:
    """Whatever breaks the order or the shape is the upstream's failure, no crash of ours."""
    reader = UPSTREAM.stream_reader()
    with pytest.raises(UpstreamProtocolError):
        for frame in frames:
            reader.read(frame)


def test_a_stream_without_its_end_is_broken() -> None:
    """Only ``message_stop`` makes it whole."""
    reader = UPSTREAM.stream_reader()
    reader.read(BEGUN)
    reader.read(event("message_delta", delta={"stop_reason": "end_turn"}, usage={}))
    with pytest.raises(UpstreamError, match="without a whole message"):
        reader.end()


@pytest.mark.parametrize(
    "body",
    [
        {"type": "error", "error": {"type": "api_error", "message": "x"}},
        {"type": "error"},
        {"content": "x"},
        {"content": [3]},
        {"content": [{"text": "x"}]},
        {},
    ],
)
def test_a_body_that_is_no_answer_is_an_error(body: dict[str, Any]) -> None:
    """Errors inside a 200, and what is no message, never become answers."""
    with pytest.raises(UpstreamError):
        UPSTREAM.read_answer(body)


EVERY_FIELD: dict[str, Any] = {
    "model": "chat",
    "max_tokens": 9,
    "stream": False,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 4,
    "service_tier": "standard_only",
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u"},
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
    "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
    "output_config": {
        "effort": "low",
        "format": {"type": "json_schema", "schema": {"type": "object"}},
    },
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "tools": [
        {
            "type": "custom",
            "name": "f",
            "description": "does",
            "input_schema": {"type": "object"},
            "strict": True,
            "cache_control": {"type": "ephemeral", "ttl": "5m"},
        }
    ],
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                    "cache_control": {"type": "ephemeral"},
                },
                {"type": "image", "source": {"type": "url", "url": "https://x.test/a"}},
                {
                    "type": "document",
                    "source": {"type": "file", "file_id": "file_1"},
                    "title": "t",
                    "context": "c",
                    "citations": {"enabled": True},
                    "cache_control": {"type": "ephemeral"},
                },
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                },
                {
                    "type": "search_result",
                    "title": "T",
                    "source": "S",
                    "content": [{"type": "text", "text": "one"}],
                    "cache_control": {"type": "ephemeral"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "c2ln"},
                {
                    "type": "tool_use",
                    "id": "t1",
                    "name": "f",
                    "input": {"a": 1},
                    "cache_control": {"type": "ephemeral"},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [{"type": "text", "text": "r"}],
                    "is_error": True,
                    "cache_control": {"type": "ephemeral"},
                }
            ],
        },
        {"role": "system", "content": [{"type": "text", "text": "late"}]},
    ],
}
"""A request in which each field stands that is read."""
FREE = ("input", "input_schema", "schema")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All values of a JSON and the ways to them; nothing below what is the client's own."""
    yield path, value
    if path and path[-1] in FREE:
        return
    inner: Any = value.items() if isinstance(value, dict) else ()
    for name, one in enumerate(value) if isinstance(value, list) else inner:
        yield from places(one, (*path, name))


def named(path: tuple[Any, ...]) -> str:
    told = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path)
    return told.removeprefix(".")


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The body with another value in one place."""
    if not path:
        return value
    copy = dict(body) if isinstance(body, dict) else list(body)
    copy[path[0]] = changed(copy[path[0]] if len(path) > 1 else None, path[1:], value)
    return copy


PLACES = [(path, value) for path, value in places(EVERY_FIELD) if path]


@pytest.mark.parametrize("path", [path for path, _ in PLACES], ids=named)
def test_a_wrong_type_is_named_wherever_it_stands(path: tuple[Any, ...]) -> None:
    """Every field that is read has its type, and its full path when it is refused."""
    value = dict(PLACES)[path]
    wrong: Any = 7.5 if isinstance(value, dict | list | str | bool) else "much"
    with pytest.raises(InvalidRequest) as refused:
        CLIENT.read_request(changed(EVERY_FIELD, path, wrong), Losses())
    assert refused.value.param == named(path)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path, value in [((), EVERY_FIELD), *PLACES]
        if isinstance(value, dict)
        and (not path or path[-1] not in FREE)
        and path != ("messages", 0, "content", 4, "source")
        and path[-1:] != ("citations",)
    ],
    ids=named,
)
def test_an_unknown_field_is_named_wherever_it_stands(path: tuple[Any, ...]) -> None:
    """What the translation doesn't know is announced by its path, and no known field is."""
    losses = Losses()
    CLIENT.read_request(EVERY_FIELD, losses)
    assert not losses.all
    CLIENT.read_request(changed(EVERY_FIELD, (*path, "brand_new"), 1), losses)
    assert lost(losses) == {named((*path, "brand_new")): False}
    assert all(loss.why for loss in losses.all)


def test_every_field_is_read() -> None:
    """Each field that Anthropic's types know and we read has its canonical place."""
    judged = {key: value for key, value in EVERY_FIELD.items() if key != "stream"}
    judge = TypeAdapter(beta_params.MessageCreateParamsNonStreaming)
    exhaust(judge.validate_python(judged))
    mark = CacheMark()
    own = Signature(origin=OWN, value="c2ln")
    assert CLIENT.read_request(EVERY_FIELD, Losses()) == Conversation(
        model="chat",
        max_tokens=9,
        sampling=Sampling(temperature=0.5, top_p=0.9, top_k=4),
        service_tier="default",
        stop=("END",),
        user="u",
        cache_all=CacheMark(ttl="1h"),
        reasoning=ReasoningWish(enabled=True, effort="low", budget=2000, shown=False),
        output=OutputFormat(kind="schema", schema={"type": "object"}),
        tool_choice=ToolChoice(mode="named", names=("f",)),
        parallel=False,
        tools=(
            Tool(
                name="f",
                description="does",
                parameters={"type": "object"},
                strict=True,
                cache=CacheMark(ttl="5m"),
            ),
        ),
        turns=(
            Turn(role="system", parts=(Text(text="s", cache=mark),)),
            user(
                Text(text="a", cache=mark),
                Media(
                    kind="image",
                    source=Source(kind="base64", data=PNG, media_type="image/png"),
                    cache=mark,
                ),
                Media(kind="image", source=Source(kind="url", data="https://x.test/a")),
                Media(
                    kind="file",
                    source=Source(kind="file", data="file_1"),
                    name="t",
                    context="c",
                    cites=True,
                    cache=mark,
                ),
                Media(kind="file", source=Source(kind="text", data="d", media_type="text/plain")),
                Text(text="T\nS\n\none", cache=mark),
            ),
            Turn(
                role="assistant",
                parts=(
                    Reasoning(text="hm", signature=own),
                    Reasoning(signature=own, redacted=True),
                    ToolCall(id="t1", name="f", arguments='{"a":1}', cache=mark),
                ),
            ),
            Turn(
                role="tool",
                parts=(ToolResult(id="t1", parts=(Text(text="r"),), is_error=True, cache=mark),),
            ),
            Turn(role="system", parts=(Text(text="late"),)),
        ),
    )


def test_a_request_that_says_nothing_else() -> None:
    """What a client leaves out is left to the provider; empty texts are no parts."""
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]
    told, losses = read({"messages": messages, "system": ""})
    turns = (said("hi"), Turn(role="assistant", parts=()))
    assert told == Conversation(model="chat", max_tokens=9, turns=turns) and not losses.all


@pytest.mark.parametrize(
    ("body", "name", "value"),
    [
        ({"tool_choice": {"type": "auto"}}, "tool_choice", ToolChoice(mode="auto")),
        ({"tool_choice": {"type": "any"}}, "tool_choice", ToolChoice(mode="required")),
        ({"tool_choice": {"type": "none"}}, "tool_choice", ToolChoice(mode="none")),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": False}}, "parallel", True),
        ({"service_tier": "auto"}, "service_tier", "auto"),
        ({"thinking": {"type": "disabled"}}, "reasoning", ReasoningWish(enabled=False)),
        (
            {"thinking": {"type": "adaptive", "display": "summarized"}},
            "reasoning",
            ReasoningWish(enabled=True, shown=True),
        ),
        ({"output_config": {"effort": "max"}}, "reasoning", ReasoningWish(effort="max")),
        ({"output_config": {}}, "reasoning", None),
        (
            {"output_format": {"type": "json_schema", "schema": {"a": 1}}},
            "output",
            OutputFormat(kind="schema", schema={"a": 1}),
        ),
        ({"metadata": {}}, "user", None),
        ({"stream": True}, "stream", True),
        ({"stream": True}, "include_usage", True),
        (
            {"tools": [{"type": "bash_20250124"}]},
            "tools",
            (Tool(name="bash_20250124", kind="bash_20250124", own={"type": "bash_20250124"}),),
        ),
        ({"tools": [{"name": "f"}]}, "tools", (Tool(name="f"),)),
    ],
)
def test_words_of_a_request(body: dict[str, Any], name: str, value: Any) -> None:
    """Each word of Anthropic's has its canonical one, and loses nothing."""
    told, losses = read(body)
    assert getattr(told, name) == value and not losses.all


TOOL_RESULT = {"type": "tool_result", "tool_use_id": "t"}
PICTURE = {"type": "image", "source": {"type": "url", "url": "u"}}


@pytest.mark.parametrize(
    ("body", "field", "grave"),
    [
        ({"thinking": {"type": "between_tools"}}, "thinking.type", False),
        (
            {"messages": [{"role": "assistant", "content": [TOOL_RESULT]}]},
            "messages[0].content",
            True,
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            TOOL_RESULT | {"content": [{"type": "thinking", "thinking": "x"}]}
                        ],
                    }
                ]
            },
            "messages[0].content[0].content[0]",
            True,
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "content", "content": [PICTURE]},
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].source.content[0]",
            True,
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "search_result",
                                "title": "T",
                                "source": "S",
                                "content": [PICTURE],
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].content[0]",
            True,
        ),
    ],
)
def test_what_has_no_like_elsewhere(body: dict[str, Any], field: str, grave: bool) -> None:
    """Content that only Anthropic takes is a grave loss by its place, a hint is announced."""
    _, losses = read(body)
    assert lost(losses) == {field: grave} and all(loss.why for loss in losses.all)


def test_a_result_keeps_its_words_and_pictures() -> None:
    """Results stand before the words beside them; a bare string is their text."""
    content = [
        {"type": "text", "text": "x"},
        TOOL_RESULT | {"content": [{"type": "text", "text": "r"}, PICTURE]},
        TOOL_RESULT | {"content": "s"},
        TOOL_RESULT,
    ]
    told, losses = read({"messages": [{"role": "user", "content": content}]})
    picture = Media(kind="image", source=Source(kind="url", data="u"))
    assert told.turns == (
        Turn(
            role="tool",
            parts=(
                ToolResult(id="t", parts=(Text(text="r"), picture)),
                ToolResult(id="t", parts=(Text(text="s"),)),
                ToolResult(id="t"),
            ),
        ),
        said("x"),
    )
    assert not losses.all


FORMS: tuple[tuple[str, str, Literal["char", "page", "block"]], ...] = (
    ("char_location", "char_index", "char"),
    ("page_location", "page_number", "page"),
    ("content_block_location", "block_index", "block"),
)
CITED: list[tuple[dict[str, Any], Citation]] = [
    (
        {
            "type": form,
            "cited_text": "q",
            "document_title": "t",
            "document_index": 1,
            f"start_{name}": 2,
            f"end_{name}": 3,
            "file_id": "file_1",
        },
        Citation(
            kind="document",
            quote="q",
            title="t",
            source=1,
            source_start=2,
            source_end=3,
            unit=unit_of,
            file_id="file_1",
        ),
    )
    for form, name, unit_of in FORMS
] + [
    (
        {
            "type": "web_search_result_location",
            "cited_text": "q",
            "url": "u",
            "title": "t",
            "encrypted_index": "e",
        },
        Citation(kind="url", quote="q", url="u", title="t", sealed="e"),
    ),
    (
        {
            "type": "search_result_location",
            "cited_text": "q",
            "source": "s",
            "title": "t",
            "search_result_index": 1,
            "start_block_index": 2,
            "end_block_index": 3,
        },
        Citation(
            kind="search",
            quote="q",
            url="s",
            title="t",
            source=1,
            source_start=2,
            source_end=3,
            unit="block",
        ),
    ),
]


@pytest.mark.parametrize(("told", "citation"), CITED, ids=[str(one["type"]) for one, _ in CITED])
def test_citations_in_every_form(told: dict[str, Any], citation: Citation) -> None:
    """Each field of Anthropic's five forms is read, streamed, written and sent back."""
    body = {"content": [{"type": "text", "text": "x", "citations": [told, {"type": "new"}, 4]}]}
    answer = UPSTREAM.read_answer(body)
    text = Text(text="x", citations=(citation,))
    assert answer.choices[0].parts == (text,)
    block = CLIENT.write_answer(answer, TOLD)["content"][0]
    assert block == {"type": "text", "text": "x", "citations": [told]}
    streamed = seen_by_sdk(stream_of(events_of(answer))).content[0].to_dict()
    assert streamed["citations"] == [told]
    sent, losses = written(asks(said("a"), Turn(role="assistant", parts=(text,))))
    back = {key: value for key, value in told.items() if key != "file_id"}
    assert sent["messages"][1]["content"][0]["citations"] == [back] and not losses.all
    messages = [{"role": "assistant", "content": [block]}]
    assert read({"messages": messages})[0].turns[0].parts == (text,)


@pytest.mark.parametrize(("told", "citation"), CITED, ids=[str(one["type"]) for one, _ in CITED])
def test_citations_that_say_little(told: dict[str, Any], citation: Citation) -> None:
    """What nobody said is empty or 0 for a client, and Anthropic never gets such a one back."""
    bare = {"type": told["type"]} | {
        key: True for key in told if key.endswith(("_index", "_number")) and key[0] in "sed"
    }
    answer = UPSTREAM.read_answer({"content": [{"type": "text", "text": "x", "citations": [bare]}]})
    (text,) = answer.choices[0].parts
    unit_of = citation.unit
    assert text == Text(text="x", citations=(Citation(kind=citation.kind, unit=unit_of),))
    body = CLIENT.write_answer(answer, TOLD)
    Message.model_validate_json(json.dumps(body), strict=True)
    empty = {
        key: 0 if isinstance(value, int) else None if key.endswith("title") else ""
        for key, value in told.items()
        if key not in ("type", "file_id")
    }
    assert body["content"][0]["citations"] == [{"type": told["type"]} | empty]
    sent, losses = written(asks(said("a"), Turn(role="assistant", parts=(text, Text(text="y")))))
    assert "citations" not in sent["messages"][1]["content"][0]
    assert lost(losses) == {"messages[1].content[0].citations": False}


CALLED = Turn(role="assistant", parts=(ToolCall(id="c", name="f"),))
ANSWERED = Turn(role="tool", parts=(ToolResult(id="c"),))
IMAGE = Media(kind="image", source=Source(kind="base64", data=PNG, media_type="image/png"))
F = (Tool(name="f"),)


def detailed(detail: str) -> Media:
    return Media(kind="image", source=IMAGE.source, detail=detail)


@pytest.mark.parametrize(
    ("asked", "can", "wanted"),
    [
        ({"sampling": Sampling(seed=0)}, {}, {"seed": False}),
        ({"sampling": Sampling(presence_penalty=1.0)}, {}, {"presence_penalty": False}),
        ({"sampling": Sampling(frequency_penalty=1.0)}, {}, {"frequency_penalty": False}),
        ({"sampling": Sampling(logit_bias={"1": 2})}, {}, {"logit_bias": False}),
        ({"sampling": Sampling(logprobs=True)}, {}, {"logprobs": False}),
        ({"sampling": Sampling(top_logprobs=2)}, {}, {"top_logprobs": False}),
        ({"sampling": Sampling(temperature=1.5)}, {}, {"temperature": False}),
        ({"sampling": Sampling(temperature=1.0)}, {}, {}),
        ({"sampling": Sampling(temperature=0.9)}, {"max_temperature": 0.8}, {"temperature": False}),
        ({"sampling": Sampling(temperature=0.9)}, {"temperature": False}, {"temperature": False}),
        ({"sampling": Sampling(top_p=0.9)}, {"top_p": False}, {"top_p": False}),
        ({"sampling": Sampling(top_k=9)}, {"top_k": False}, {"top_k": False}),
        (
            {"sampling": Sampling(temperature=0.9, top_p=0.9)},
            {"temperature_and_top_p": False},
            {"top_p": False},
        ),
        ({"sampling": Sampling(top_p=0.9)}, {"temperature_and_top_p": False}, {}),
        ({"stop": (" ", "a")}, {}, {"stop": False}),
        ({"stop": ("a", "b")}, {"most_stops": 1}, {"stop": False}),
        ({"stop": ("a", "b")}, {"most_stops": 2}, {}),
        ({"verbosity": "low"}, {}, {"verbosity": False}),
        ({"metadata": {"a": "b"}}, {}, {"metadata": False}),
        ({"store": True}, {}, {"store": False}),
        ({"store": False}, {}, {}),
        ({"cache_key": "k"}, {}, {"prompt_cache_key": False}),
        ({"cache_all": CacheMark()}, {"cache_marks": False}, {"cache_control": False}),
        ({"user": "u"}, {"user": False}, {"user": False}),
        ({"service_tier": "flex"}, {}, {"service_tier": False}),
        ({"service_tier": "auto"}, {"service_tiers": False}, {"service_tier": False}),
        ({"n": 2}, {}, {"n": True}),
        ({"n": 1}, {}, {}),
        ({"modalities": ("text", "image")}, {}, {"modalities": True}),
        ({"modalities": ("text",), "audio": {"voice": "v"}}, {}, {"audio": False}),
        ({"output": OutputFormat(kind="json")}, {}, {"response_format": True}),
        (
            {"output": OutputFormat(kind="schema", schema={})},
            {"json_schema": False},
            {"response_format": True},
        ),
        ({"tools": F}, {"tools": False}, {"tools[0]": True}),
        ({"tools": (*F, Tool(name="g", kind="custom"))}, {}, {"tools[1]": True}),
        (
            {"tools": (Tool(name="f", strict=True),)},
            {"strict_tools": False},
            {"tools[0].strict": False},
        ),
        ({"tools": (Tool(name="f", strict=False),)}, {"strict_tools": False}, {}),
        (
            {"tools": (Tool(name="f", cache=CacheMark()),)},
            {"cache_marks": False},
            {"cache_control": False},
        ),
        (
            {"tools": F, "tool_choice": ToolChoice(mode="named", names=("f",))},
            {"forced_tools": False},
            {"tool_choice": True},
        ),
        ({"tools": F, "tool_choice": ToolChoice(mode="named", names=("f", "g"))}, {}, None),
        (
            {"tools": F, "parallel": False},
            {"parallel_switch": False},
            {"parallel_tool_calls": False},
        ),
        ({"tools": F, "parallel": True}, {"parallel_switch": False}, {}),
        ({"reasoning": ReasoningWish(summary="auto")}, {}, {"reasoning.summary": False}),
        (
            {"reasoning": ReasoningWish(effort="low")},
            {"reasoning": ()},
            {"reasoning_effort": False},
        ),
        ({"reasoning": ReasoningWish(effort="none")}, {"reasoning": ()}, {}),
        (
            {"reasoning": ReasoningWish(enabled=False)},
            {"efforts": ("low",)},
            {"reasoning_effort": False},
        ),
        ({"reasoning": ReasoningWish(effort="minimal")}, {}, {"reasoning_effort": False}),
        (
            {"reasoning": ReasoningWish(budget=9000), "max_tokens": 9000},
            {"reasoning": ("budget",)},
            {"reasoning_effort": False},
        ),
        (
            {"reasoning": ReasoningWish(budget=9000), "max_tokens": 9001},
            {"reasoning": ("budget",)},
            {},
        ),
        (
            {"reasoning": ReasoningWish(budget=9), "max_tokens": 1024},
            {"reasoning": ("budget",)},
            {"reasoning_effort": False},
        ),
        (
            {"turns": (Turn(role="user", parts=(Text(text="a"),), name="eve"),)},
            {},
            {"messages[0].name": False},
        ),
        (
            {"turns": (Turn(role="system", parts=(Text(text="a"), IMAGE)), said("b"))},
            {},
            {"messages[0].content[1]": True},
        ),
        (
            {"turns": (user(Text(text="a"), detailed("low")),)},
            {},
            {"messages[0].content[1].detail": False},
        ),
        ({"turns": (user(Text(text="a"), detailed("auto")),)}, {}, {}),
        (
            {"turns": (said("a"), Turn(role="assistant", parts=(Text(text="b"), IMAGE)))},
            {},
            {"messages[1].content[1]": True},
        ),
        (
            {
                "turns": (
                    said("a"),
                    CALLED,
                    Turn(role="tool", parts=(ToolResult(id="c", parts=(Text(text="x"), IMAGE)),)),
                )
            },
            {"images": False},
            {"messages[2].content[0].content[1]": True},
        ),
        (
            {"turns": (user(Text(text="a"), Media(kind="file", source=IMAGE.source)),)},
            {"files": False},
            {"messages[0].content[1]": True},
        ),
        (
            {"turns": (user(Text(text="a"), Media(kind="video", source=IMAGE.source)),)},
            {},
            {"messages[0].content[1]": True},
        ),
        (
            {"turns": (user(Text(text="a", cache=CacheMark())),)},
            {"cache_marks": False},
            {"cache_control": False},
        ),
    ],
)
def test_losses_have_the_clients_words(
    asked: dict[str, Any], can: dict[str, Any], wanted: dict[str, bool] | None
) -> None:
    """Each loss is named as its client said it, says why, and is grave where the answer differs."""
    _, losses = written(Conversation(**({"model": "chat", "turns": (said("hi"),)} | asked)), **can)
    assert lost(losses) == ({"tool_choice": True} if wanted is None else wanted)
    assert all(loss.why for loss in losses.all)


@pytest.mark.parametrize(
    ("asked", "can", "name", "value"),
    [
        ({"sampling": Sampling(temperature=1.5)}, {}, "temperature", 1.0),
        ({"sampling": Sampling(temperature=1.5)}, {"max_temperature": 0.7}, "temperature", 0.7),
        ({"sampling": Sampling(temperature=1.5)}, {"max_temperature": 2.0}, "temperature", 1.0),
        ({"stop": ("a", "b", " ")}, {"most_stops": 1}, "stop_sequences", ["a"]),
        ({"stop": (" ",)}, {}, "stop_sequences", None),
        ({"service_tier": "priority"}, {}, "service_tier", "auto"),
        ({"service_tier": "default"}, {}, "service_tier", "standard_only"),
        ({"user": "u"}, {}, "metadata", {"user_id": "u"}),
        (
            {"cache_all": CacheMark(ttl="5m")},
            {},
            "cache_control",
            {"type": "ephemeral", "ttl": "5m"},
        ),
        ({"stream": True}, {}, "stream", True),
        ({"tool_choice": ToolChoice(mode="auto")}, {}, "tool_choice", None),
        ({"tools": F, "parallel": True}, {}, "tool_choice", None),
        (
            {"tools": F, "parallel": False},
            {},
            "tool_choice",
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        (
            {"tools": F, "parallel": True, "tool_choice": ToolChoice(mode="required")},
            {},
            "tool_choice",
            {"type": "any", "disable_parallel_tool_use": False},
        ),
        (
            {"tools": F, "parallel": False, "tool_choice": ToolChoice(mode="none")},
            {},
            "tool_choice",
            {"type": "none"},
        ),
        (
            {"tools": F, "tool_choice": ToolChoice(mode="named", names=("f", "g"))},
            {},
            "tool_choice",
            {"type": "any"},
        ),
        (
            {"tools": (Tool(name="f", description="d", parameters={"properties": {}}),)},
            {},
            "tools",
            [
                {
                    "name": "f",
                    "description": "d",
                    "input_schema": {"type": "object", "properties": {}},
                }
            ],
        ),
        (
            {"tools": F},
            {},
            "tools",
            [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
        ),
        ({"reasoning": ReasoningWish(effort="low")}, {"output_cap": 77}, "max_tokens", 77),
        ({"max_tokens": 5}, {"output_cap": 77}, "max_tokens", 5),
        (
            {"reasoning": ReasoningWish(effort="low")},
            {"reasoning": ("budget",)},
            "max_tokens",
            4096 + 2048,
        ),
        (
            {"reasoning": ReasoningWish(enabled=True)},
            {"reasoning": ("budget",)},
            "thinking",
            {"type": "enabled", "budget_tokens": 8192},
        ),
        (
            {"reasoning": ReasoningWish(effort="low", shown=False)},
            {"reasoning": ("budget",)},
            "thinking",
            {"type": "enabled", "budget_tokens": 2048, "display": "omitted"},
        ),
        (
            {"reasoning": ReasoningWish(effort="low", shown=True)},
            {"reasoning": ("budget",)},
            "thinking",
            {"type": "enabled", "budget_tokens": 2048, "display": "summarized"},
        ),
        (
            {"reasoning": ReasoningWish(budget=2000, effort="low"), "max_tokens": 9000},
            {},
            "output_config",
            {"effort": "low"},
        ),
        (
            {"reasoning": ReasoningWish(budget=2000, effort="low"), "max_tokens": 9000},
            {},
            "thinking",
            {"type": "enabled", "budget_tokens": 2000},
        ),
        ({"reasoning": ReasoningWish(summary="auto")}, {}, "thinking", None),
        (
            {"reasoning": ReasoningWish(enabled=False)},
            {"efforts": ("low",), "reasoning": ("budget",)},
            "output_config",
            None,
        ),
    ],
)
def test_what_is_sent(asked: dict[str, Any], can: dict[str, Any], name: str, value: Any) -> None:
    """Each wish stands under Anthropic's own name for it, or is left out."""
    body, _ = written(Conversation(**({"model": "chat", "turns": (said("hi"),)} | asked)), **can)
    assert body.get(name) == value


@pytest.mark.parametrize(
    ("turns", "thinks"),
    [
        ((said("a"), CALLED, ANSWERED), False),
        ((said("a"), CALLED, ANSWERED, said("b")), False),
        ((said("a"), CALLED), True),
        ((said("a"),), True),
        (
            (
                said("a"),
                Turn(
                    role="assistant",
                    parts=(
                        Reasoning(text="x", signature=Signature(origin=OWN, value="s")),
                        *CALLED.parts,
                    ),
                ),
                ANSWERED,
            ),
            True,
        ),
        (
            (
                said("a"),
                Turn(role="assistant", parts=(Reasoning(text="x"), *CALLED.parts)),
                ANSWERED,
            ),
            False,
        ),
        (
            (
                said("a"),
                Turn(
                    role="assistant",
                    parts=(
                        Reasoning(text="x", signature=Signature(origin="gemini", value="s")),
                        *CALLED.parts,
                    ),
                ),
                ANSWERED,
            ),
            False,
        ),
    ],
)
def test_a_budget_wants_thinking_before_calls(turns: tuple[Turn, ...], thinks: bool) -> None:
    """Only Anthropic's own signed thinking lets it go on with results by a budget."""
    body, _ = written(asks(*turns, reasoning=ReasoningWish(effort="low")), **BUDGET)
    assert ("thinking" in body) is thinks


@pytest.mark.parametrize(
    ("media", "source"),
    [
        (
            Media(kind="image", source=Source(kind="url", data="u")),
            {"type": "url", "url": "u"},
        ),
        (
            Media(kind="file", source=Source(kind="file", data="file_1")),
            {"type": "file", "file_id": "file_1"},
        ),
        (
            Media(kind="file", source=Source(kind="text", data="w")),
            {"type": "text", "media_type": "text/plain", "data": "w"},
        ),
        (
            Media(kind="file", source=Source(kind="base64", data="JVBERi0=")),
            {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        ),
        (
            Media(
                kind="file",
                source=Source(kind="base64", data="e30=", media_type="application/json"),
            ),
            {"type": "text", "media_type": "text/plain", "data": "{}"},
        ),
        (
            Media(kind="file", source=Source(kind="base64", data="YQ==", media_type="text/html")),
            {"type": "text", "media_type": "text/plain", "data": "a"},
        ),
        (
            Media(kind="file", source=Source(kind="base64", data="AA==", media_type="a/zip")),
            None,
        ),
        (Media(kind="file", source=Source(kind="base64", data="AA==")), None),
        (Media(kind="image", source=Source(kind="text", data="w")), None),
    ],
)
def test_media_in_the_form_that_anthropic_takes(
    media: Media, source: dict[str, Any] | None
) -> None:
    """A PDF as it is, texts as text, addresses and files by name, and all else is a grave loss."""
    body, losses = written(asks(user(Text(text="x"), media)))
    told = body["messages"][0]["content"][1:]
    assert [block["source"] for block in told] == ([] if source is None else [source])
    assert lost(losses) == ({"messages[0].content[1]": True} if source is None else {})


def test_documents_that_are_no_text_are_refused() -> None:
    """What says to be text and is none is the client's to mend, by its place."""
    for data in ("/w==", "%"):
        source = Source(kind="base64", data=data, media_type="text/plain")
        with pytest.raises(InvalidRequest) as refused:
            written(asks(user(Media(kind="file", source=source))))
        assert refused.value.param == "messages[0].content[0]"


def test_a_mark_inside_a_result_stands_on_it() -> None:
    """Anthropic takes a mark on the result and none within; a custom call's text is its input."""
    call = ToolCall(id="c", name="f", arguments="free", custom=True, cache=CacheMark())
    inner = (Text(text="x", cache=CacheMark(ttl="1h")), Text(text=" "), IMAGE)
    result = ToolResult(id="c", parts=inner, is_error=True)
    turns = (
        said("a"),
        Turn(role="assistant", parts=(call,)),
        Turn(role="tool", parts=(result, ToolResult(id="c", cache=CacheMark()))),
    )
    body, losses = written(asks(*turns))
    mark = {"type": "ephemeral"}
    used = {"type": "tool_use", "id": "c", "name": "f", "input": {"input": "free"}}
    assert body["messages"][1]["content"] == [used | {"cache_control": mark}]
    assert body["messages"][2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "c",
            "content": [
                {"type": "text", "text": "x"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                },
            ],
            "is_error": True,
            "cache_control": mark | {"ttl": "1h"},
        },
        {"type": "tool_result", "tool_use_id": "c", "cache_control": mark},
    ]
    assert not losses.all


def frames_of(*blocks: dict[str, Any], stop: str = "end_turn", **usage: Any) -> list[Frame]:
    opened = [
        event("content_block_start", index=at, content_block=block)
        for at, block in enumerate(blocks)
    ]
    end = event(
        "message_delta",
        delta={"stop_reason": stop, "stop_sequence": "S"},
        usage={"output_tokens": 5} | usage,
    )
    return [BEGUN, *opened, end, event("message_stop")]


def folded_of(frames: list[Frame]) -> Answer:
    reader = UPSTREAM.stream_reader()
    return folded([told for frame in frames for told in reader.read(frame)] + reader.end())


def test_blocks_that_begin_full() -> None:
    """What an upstream tells in a block's first event is no less told."""
    cited, citation = CITED[0]
    got = folded_of(
        frames_of(
            {"type": "text", "text": "a", "citations": [cited]},
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "c2ln"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            {"type": "thinking", "thinking": "x", "signature": "lp1::"},
            stop="stop_sequence",
        )
    )
    own = Signature(origin=OWN, value="c2ln")
    assert got.choices == (
        Choice(
            parts=(
                Text(text="a", citations=(citation,)),
                Reasoning(text="hm", signature=own),
                Reasoning(signature=own, redacted=True),
                ToolCall(id="t", name="f", arguments='{"a":1}'),
                Reasoning(text="x"),
            ),
            stop="stop_sequence",
            stop_sequence="S",
        ),
    )
    assert (got.id, got.model) == ("m", "c")


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"input_tokens": 7}, Usage(7, 5, reported=True)),
        ({"cache_read_input_tokens": 2}, Usage(3, 5, 2, reported=True)),
        (
            {
                "cache_creation_input_tokens": 4,
                "cache_creation": {"ephemeral_1h_input_tokens": 9},
            },
            Usage(5, 5, reported=True, cache_write_tokens=4, cache_write_1h_tokens=4),
        ),
        ({"output_tokens_details": {"thinking_tokens": 3}}, Usage(1, 5, 0, 3, True)),
        ({"output_tokens_details": {"thinking_tokens": 30}}, Usage(1, 5, 0, 5, True)),
        ({"input_tokens": None}, Usage(1, 5, reported=True)),
        ({"output_tokens": 10**9}, Usage(1, 10**9, reported=True)),
        ({"output_tokens": 10**9 + 1}, Usage()),
        ({"cache_read_input_tokens": -1}, Usage()),
        ({"cache_creation_input_tokens": True}, Usage()),
        ({"cache_creation": {"ephemeral_1h_input_tokens": "4"}}, Usage()),
        ({"output_tokens_details": {"thinking_tokens": 1.5}}, Usage()),
        ({"output_tokens": None}, Usage(1, 5, reported=True)),
    ],
)
def test_counts_of_a_stream(usage: dict[str, Any], told: Usage) -> None:
    """The last count of each kind counts, and one that can't be makes the report none."""
    given: dict[str, Any] = {"output_tokens": 5} | {k: v for k, v in usage.items() if v is not None}
    got = folded_of(frames_of(**given)).usage
    assert got == told
    body = {"content": [], "usage": {"input_tokens": 1, **given}}
    assert UPSTREAM.read_answer(body).usage == told
    if told.reported:
        again = UPSTREAM.read_answer(
            CLIENT.write_answer(
                Answer(id="", model="", choices=(Choice(parts=(), stop="end"),), usage=told), TOLD
            )
        )
        assert again.usage == told


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ({"type": "overloaded_error", "message": "busy"}, "overloaded_error", "busy"),
        ({"type": "rate_limit_error", "message": "slow"}, "rate_limit_error", "slow"),
    ],
)
def test_an_upstreams_words_about_its_failure(error: dict[str, Any], code: str, words: str) -> None:
    """Whole or streamed, named or not, an error says what Anthropic said."""
    for body in ({"type": "error", "error": error}, {"error": error}):
        with pytest.raises(UpstreamError, match=words) as failed:
            UPSTREAM.read_answer(body)
        assert failed.value.upstream_code == code
        for name in ("", "error"):
            reader = UPSTREAM.stream_reader()
            (broken,) = reader.read(Frame(json.dumps(body).encode(), name))
            assert isinstance(broken, Broken) and isinstance(broken.error, UpstreamError)
            assert (broken.error.upstream_code, str(broken.error)) == (code, words)
    (broken,) = UPSTREAM.stream_reader().read(Frame(b"{no", "error"))
    assert isinstance(broken, Broken)


def test_an_answer_without_its_frame() -> None:
    """What an imitator leaves out is empty, and its tier is told where it is known."""
    got = UPSTREAM.read_answer({"content": [{"type": "text"}, {"type": "tool_use", "input": 4}]})
    assert got.choices == (
        Choice(parts=(Text(text=""), ToolCall(id="", name="", arguments="{}")), stop=None),
    )
    assert (got.id, got.model, got.usage, got.service_tier) == ("", "", Usage(), None)
    for told, tier in (("standard", "default"), ("priority", "priority"), ("batch", None)):
        usage = {"input_tokens": 1, "output_tokens": 1, "service_tier": told}
        body = {"content": [], "stop_reason": "odd", "usage": usage}
        assert UPSTREAM.read_answer(body).service_tier == tier
        assert UPSTREAM.read_answer(body).choices[0].stop == "end"


@pytest.mark.parametrize(
    ("part", "blocks"),
    [
        (Refusal(text="no"), [{"type": "text", "text": "no", "citations": None}]),
        (Refusal(text=""), []),
        (Text(text=""), []),
        (Reasoning(), []),
        (Reasoning(redacted=True), []),
        (
            Media(kind="audio", source=Source(kind="base64", data="x"), transcript="hi"),
            [{"type": "text", "text": "hi", "citations": None}],
        ),
        (
            Media(kind="image", source=Source(kind="url", data="u")),
            [{"type": "text", "text": "u", "citations": None}],
        ),
        (
            ToolCall(id="a.b", name="f", arguments=""),
            [{"type": "tool_use", "id": "lpx_612e62", "name": "f", "input": {}}],
        ),
    ],
)
def test_parts_for_a_client(part: Part, blocks: list[dict[str, Any]]) -> None:
    """Whole and streamed alike, each part is a block that Anthropic's own types know, or none."""
    choice = Choice(parts=(part,), stop="end")
    answer = Answer(id="a", model="m", choices=(choice,), usage=Usage())
    assert CLIENT.write_answer(answer, TOLD)["content"] == blocks
    told = [block.to_dict() for block in seen_by_sdk(stream_of(events_of(answer))).content]
    bare = [{k: v for k, v in block.items() if v is not None} for block in blocks]
    assert told == bare


@pytest.mark.parametrize("kind", ["image", "document"])
def test_files_by_their_ids(kind: str) -> None:
    """A picture or a document that Anthropic keeps is named by its id, there and back."""
    block = {"type": kind, "source": {"type": "file", "file_id": "file_1"}}
    told, losses = read({"messages": [{"role": "user", "content": [block]}]})
    (media,) = told.turns[0].parts
    assert isinstance(media, Media)
    assert media.source == Source(kind="file", data="file_1") and not losses.all
    assert written(told)[0]["messages"][0]["content"] == [block]
