from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

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
from proxy_core.errors import InvalidRequest, UpstreamError, UpstreamProtocolError

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
    with_system, _ = written(asks(*turns))
    assert [turn["role"] for turn in with_system["messages"]].count("system") == 1


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
