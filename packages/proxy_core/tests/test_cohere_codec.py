"""Cohere's chat, judged by the types of its own client."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from cohere import AssistantChatMessageV2, SystemChatMessageV2, ToolChatMessageV2, UserChatMessageV2
from cohere.types import JsonObjectResponseFormatV2, Thinking, ToolV2
from cohere.v2.client import V2Client
from cohere.v2.types import V2ChatResponse, V2ChatStreamResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from proxy_core._types import Usage
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Answer,
    Broken,
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
from proxy_core.dialects._codec import Frame, Losses
from proxy_core.dialects._cohere import COHERE_CODEC
from proxy_core.dialects._fold import folded
from proxy_core.errors import UpstreamDisconnected, UpstreamFailed, UpstreamProtocolError

EVENTS = TypeAdapter[Any](V2ChatStreamResponse)
MESSAGES: dict[str, Any] = {
    "user": UserChatMessageV2,
    "assistant": AssistantChatMessageV2,
    "system": SystemChatMessageV2,
    "tool": ToolChatMessageV2,
}
HELLO = Turn(role="user", parts=(Text(text="Hi"),))
EVERYTHING = Abilities()


def written(
    *turns: Turn, can: Abilities = EVERYTHING, **more: Any
) -> tuple[dict[str, Any], list[tuple[str, bool]]]:
    losses = Losses()
    asked = Conversation(model="m", turns=turns, **more)
    body = COHERE_CODEC.write_request(asked, "command-a", can, losses)
    known = inspect.signature(V2Client.chat).parameters
    assert body.keys() - {"stream"} <= known.keys()
    for message in body["messages"]:
        judged = MESSAGES[message["role"]].model_validate(message)
        assert judged.model_dump(exclude_none=True) == message
    return body, [(loss.field, loss.grave) for loss in losses.all]


def test_a_full_request_is_what_cohere_s_client_takes() -> None:
    """Everything that Cohere has a word for is written, and nothing is lost."""
    body, losses = written(
        Turn(role="developer", parts=(Text(text="Be kind."),)),
        Turn(
            role="user",
            parts=(
                Text(text="Look:"),
                Media(
                    kind="image", source=Source(kind="base64", data="eA==", media_type="image/png")
                ),
                Media(kind="image", source=Source(kind="url", data="https://x.example/a.png")),
            ),
        ),
        Turn(role="assistant", parts=(Reasoning(text="Hm."), Text(text="Well."))),
        HELLO,
        Turn(
            role="assistant",
            parts=(
                Reasoning(text="I look it up."),
                ToolCall(id="look_1", name="look", arguments='{"at":1}'),
            ),
        ),
        Turn(role="tool", parts=(ToolResult(id="look_1", parts=(Text(text="gone"),)),)),
        tools=(Tool(name="look", description="Looks.", strict=True), Tool(name="other")),
        tool_choice=ToolChoice(mode="named", names=("look",)),
        max_tokens=9,
        sampling=Sampling(temperature=0.0, top_p=0.5, top_k=7, seed=0, frequency_penalty=1.0),
        stop=("END",),
        output=OutputFormat(kind="schema", schema={"type": "object"}),
        reasoning=ReasoningWish(budget=500),
    )
    assert losses == []
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]
    assert [block["image_url"]["url"] for block in body["messages"][1]["content"][1:]] == [
        "data:image/png;base64,eA==",
        "https://x.example/a.png",
    ]
    assert body["messages"][2]["content"][0] == {"type": "thinking", "thinking": "Hm."}
    function = {"name": "look", "arguments": '{"at":1}'}
    assert body["messages"][4] == {
        "role": "assistant",
        "tool_plan": "I look it up.",
        "tool_calls": [{"id": "look_1", "type": "function", "function": function}],
    }
    assert [ToolV2.model_validate(one).function.name for one in body["tools"]] == ["look"]  # type: ignore[union-attr]
    assert body["tool_choice"] == "REQUIRED" and body["strict_tools"] is True
    assert JsonObjectResponseFormatV2.model_validate(body["response_format"]).json_schema == {
        "type": "object"
    }
    assert Thinking.model_validate(body["thinking"]).token_budget == 500
    assert (body["p"], body["k"], body["temperature"], body["seed"]) == (0.5, 7, 0.0, 0)
    assert body["stop_sequences"] == ["END"] and body["frequency_penalty"] == 1.0


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ({"n": 2}, ("n", True)),
        ({"sampling": Sampling(logprobs=True)}, ("logprobs", False)),
        ({"parallel": False}, ("parallel_tool_calls", False)),
        ({"tools": (Tool(name="w", kind="web_search"),)}, ("tools[0]", True)),
        ({"metadata": {"a": "b"}}, ("metadata", False)),
    ],
)
def test_what_cohere_has_no_word_for_is_a_loss(
    more: dict[str, Any], lost: tuple[str, bool]
) -> None:
    """An option that can't be carried is named, and is grave only where it changes the answer."""
    assert written(HELLO, **more)[1] == [lost]


def test_what_goes_without_saying_is_no_loss() -> None:
    """Defaults that a client spells out are not announced as lost."""
    plain: dict[str, Any] = {"n": 1, "parallel": True, "store": False, "service_tier": "auto"}
    sampling = Sampling(logit_bias={}, logprobs=False)
    assert written(HELLO, modalities=("text",), sampling=sampling, **plain)[1] == []


def test_content_that_cohere_can_t_take_is_a_grave_loss() -> None:
    """A sound is named by its place, and the words beside it are sent."""
    sound = Media(kind="audio", source=Source(kind="base64", data="eA==", media_type="audio/wav"))
    body, losses = written(Turn(role="user", parts=(sound, Text(text="Hear"))))
    assert losses == [("messages[0].content[0]", True)]
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Hear"}]


WHOLE = {
    "id": "c1",
    "finish_reason": "TOOL_CALL",
    "message": {
        "role": "assistant",
        "tool_plan": "I look it up.",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Blue."}],
        "citations": [
            {
                "start": 0,
                "end": 4,
                "text": "Blue",
                "content_index": 1,
                "sources": [{"type": "document", "id": "d", "document": {"title": "Sky"}}],
            }
        ],
        "tool_calls": [
            {
                "id": "look_1",
                "type": "function",
                "function": {"name": "look", "arguments": '{"at":1}'},
            }
        ],
    },
    "usage": {
        "billed_units": {"input_tokens": 3.0},
        "tokens": {"input_tokens": 30.0, "output_tokens": 5.0},
        "cached_tokens": 8.0,
    },
}
EXPECTED = Answer(
    id="c1",
    model="",
    choices=(
        Choice(
            parts=(
                Reasoning(text="I look it up."),
                Reasoning(text="Hm."),
                Text(
                    text="Blue.",
                    citations=(Citation(kind="document", title="Sky", start=0, end=4),),
                ),
                ToolCall(id="look_1", name="look", arguments='{"at":1}'),
            ),
            stop="tool_calls",
        ),
    ),
    usage=Usage(30, 5, 8, reported=True),
)


def event(kind: str, index: int = 0, message: Any = None, **more: Any) -> dict[str, Any]:
    told = {"type": kind, "index": index, "delta": {"message": message or {}} | more}
    return told | ({"id": "c1"} if kind == "message-start" else {})


STREAM = [
    event("message-start", message={"role": "assistant"}),
    event("tool-plan-delta", message={"tool_plan": "I look "}),
    event("tool-plan-delta", message={"tool_plan": "it up."}),
    event("content-start", message={"content": {"type": "thinking", "thinking": ""}}),
    event("content-delta", message={"content": {"thinking": "Hm."}}),
    event("content-end"),
    event("content-start", 1, message={"content": {"type": "text", "text": "B"}}),
    event("content-delta", 1, message={"content": {"text": "lue."}}),
    event("content-end", 1),
    event("citation-start", message={"citations": WHOLE["message"]["citations"][0]}),  # type: ignore[index]
    event("citation-end"),
    event(
        "tool-call-start",
        message={
            "tool_calls": {
                "id": "look_1",
                "type": "function",
                "function": {"name": "look", "arguments": ""},
            }
        },
    ),
    event("tool-call-delta", message={"tool_calls": {"function": {"arguments": '{"at"'}}}),
    event("tool-call-delta", message={"tool_calls": {"function": {"arguments": ":1}"}}}),
    event("tool-call-end"),
    event("message-end", finish_reason="TOOL_CALL", usage=WHOLE["usage"]),
]


def streamed(*events: dict[str, Any]) -> Answer:
    reader = COHERE_CODEC.stream_reader()
    read = [
        one
        for told in events
        for one in reader.read(Frame(msgspec.json.encode(told), told["type"]))
    ]
    return folded([*read, *reader.end()])


def test_an_answer_is_read_whole_and_streamed_alike() -> None:
    """Plan, thinking, text, citations, calls and counts: a stream says the same as the whole."""
    judged = V2ChatResponse.model_validate(WHOLE)
    assert judged.message.tool_calls and judged.message.tool_calls[0].id == "look_1"
    assert [EVENTS.validate_python(one).type for one in STREAM] == [one["type"] for one in STREAM]
    assert COHERE_CODEC.read_answer(WHOLE) == EXPECTED
    assert streamed(*STREAM) == EXPECTED


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("COMPLETE", "end"),
        ("STOP_SEQUENCE", "stop_sequence"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("ERROR", None),
        ("TIMEOUT", None),
    ],
)
def test_finish_reasons(reason: str, stop: str | None) -> None:
    """Each finish reason has its word; a failure is none."""
    if stop is None:
        with pytest.raises(UpstreamFailed, match=reason):
            COHERE_CODEC.read_answer(WHOLE | {"finish_reason": reason})
    else:
        answer = COHERE_CODEC.read_answer(WHOLE | {"finish_reason": reason})
        assert answer.choices[0].stop == stop


def test_an_error_at_the_end_breaks_the_stream() -> None:
    """The error of a last event is a Broken with Cohere's words."""
    reader = COHERE_CODEC.stream_reader()
    told = event("message-end", finish_reason="ERROR", error="out of luck")
    (broken,) = reader.read(Frame(msgspec.json.encode(told)))
    assert isinstance(broken, Broken) and str(broken.error) == "out of luck"


def test_what_is_no_answer_is_an_error_of_the_upstream() -> None:
    """Garbage is a protocol error, and a stream without its end is not taken for whole."""
    for body in ({}, {"finish_reason": "COMPLETE", "message": 7}):
        with pytest.raises(UpstreamProtocolError):
            COHERE_CODEC.read_answer(body)
    with pytest.raises(UpstreamProtocolError):
        COHERE_CODEC.stream_reader().read(Frame(b"[DONE]"))
    with pytest.raises(UpstreamDisconnected):
        streamed(*STREAM[:-1])


@pytest.mark.parametrize("count", [-1, 1e12, 1.5, "7", None])
def test_absurd_counts_are_not_believed(count: Any) -> None:
    """A usage that can't be true counts as not reported."""
    usage = {"tokens": {"input_tokens": count, "output_tokens": 5}}
    assert not COHERE_CODEC.read_answer(WHOLE | {"usage": usage}).usage.reported


@settings(max_examples=30, deadline=None)
@given(st.text('aé{}"\\ \n', min_size=1, max_size=9), st.booleans())
def test_an_answer_sent_back_as_history_is_the_same_answer(text: str, calls: bool) -> None:
    """What is written of an assistant's turn reads as the same parts."""
    tool = ToolCall(id="look_1", name="look", arguments='{"a":[1]}')
    parts = (Reasoning(text=text), Text(text=text), *((tool,) if calls else ()))
    body, losses = written(HELLO, Turn(role="assistant", parts=parts))
    read = COHERE_CODEC.read_answer(WHOLE | {"message": body["messages"][1]})
    assert losses == [] and read.choices[0].parts == parts


# Each wish and each word by itself.


NEAR = Source(kind="base64", data="eA==", media_type="image/png")
FAR = Source(kind="url", data="https://x.example/a.png")
F = Tool(name="f")
WIRE_F, WIRE_G = (
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {}}},
    }
    for name in "fg"
)


@pytest.mark.parametrize(
    ("more", "can", "wire", "lost"),
    [
        ({}, EVERYTHING, {}, []),
        ({"stream": True}, EVERYTHING, {"stream": True}, []),
        (
            {"max_tokens": 0, "sampling": Sampling(presence_penalty=0.5)},
            EVERYTHING,
            {"max_tokens": 0, "presence_penalty": 0.5},
            [],
        ),
        ({"tools": (F,)}, EVERYTHING, {"tools": [WIRE_F]}, []),
        *[
            (
                {"tools": (F, Tool(name="g")), "tool_choice": choice},
                EVERYTHING,
                {"tools": offered} | ({} if word is None else {"tool_choice": word}),
                [],
            )
            for choice, word, offered in (
                (
                    ToolChoice(mode="auto"),
                    None,
                    [WIRE_F, WIRE_G],
                ),
                (
                    ToolChoice(mode="none"),
                    "NONE",
                    [WIRE_F, WIRE_G],
                ),
                (
                    ToolChoice(mode="required"),
                    "REQUIRED",
                    [WIRE_F, WIRE_G],
                ),
                (ToolChoice(mode="named", names=("f",)), "REQUIRED", [WIRE_F]),
            )
        ],
        (
            {"tools": (Tool(name="f", strict=True),)},
            Abilities(strict_tools=False),
            {"tools": [WIRE_F]},
            ["tools[0].strict"],
        ),
        (
            {"tools": (Tool(name="f", strict=False),)},
            EVERYTHING,
            {"tools": [WIRE_F]},
            [],
        ),
        (
            {"tools": (F, Tool(name="f", strict=True))},
            EVERYTHING,
            {"tools": [WIRE_F, WIRE_F], "strict_tools": True},
            [],
        ),
        (
            {"tools": (F,), "tool_choice": ToolChoice(mode="none")},
            Abilities(tools=False),
            {},
            ["tools[0]!"],
        ),
        (
            {"output": OutputFormat(kind="json")},
            EVERYTHING,
            {"response_format": {"type": "json_object"}},
            [],
        ),
        (
            {"output": OutputFormat(kind="schema", schema={"a": 1})},
            EVERYTHING,
            {"response_format": {"type": "json_object", "json_schema": {"a": 1}}},
            [],
        ),
        (
            {"output": OutputFormat(kind="json")},
            Abilities(json_object=False),
            {},
            ["response_format!"],
        ),
        (
            {"reasoning": ReasoningWish(enabled=False)},
            EVERYTHING,
            {"thinking": {"type": "disabled"}},
            [],
        ),
        (
            {"reasoning": ReasoningWish(effort="none")},
            EVERYTHING,
            {"thinking": {"type": "disabled"}},
            [],
        ),
        (
            {"reasoning": ReasoningWish(enabled=True)},
            EVERYTHING,
            {"thinking": {"type": "enabled"}},
            [],
        ),
        (
            {"reasoning": ReasoningWish(effort="low")},
            EVERYTHING,
            {"thinking": {"type": "enabled", "token_budget": 2048}},
            [],
        ),
        (
            {"reasoning": ReasoningWish(effort="low", budget=7)},
            EVERYTHING,
            {"thinking": {"type": "enabled", "token_budget": 7}},
            [],
        ),
        (
            {"reasoning": ReasoningWish(effort="low")},
            Abilities(reasoning=()),
            {},
            ["reasoning_effort"],
        ),
    ],
)
def test_each_wish_is_written(
    more: dict[str, Any], can: Abilities, wire: dict[str, Any], lost: list[str]
) -> None:
    """It is in the body by Cohere's word, or among the losses, of which those with ! are grave."""
    body, losses = written(HELLO, can=can, **more)
    plain = {
        "model": "command-a",
        "stream": False,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    assert body == plain | wire
    assert [field + "!" * grave for field, grave in losses] == lost


def picture(**more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": "https://x.example/a.png", **more}}


@pytest.mark.parametrize(
    ("turn", "messages", "lost"),
    [
        (Turn(role="user", parts=(Text(text=""),)), [], []),
        (
            Turn(role="user", parts=(Media(kind="image", source=FAR, detail="low"),)),
            [{"role": "user", "content": [picture(detail="low")]}],
            [],
        ),
        (
            Turn(role="user", parts=(Media(kind="image", source=FAR, detail="original"),)),
            [{"role": "user", "content": [picture()]}],
            [],
        ),
        (
            Turn(role="user", parts=(Media(kind="file", source=Source(kind="text", data="a")),)),
            [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
            [],
        ),
        (
            Turn(role="assistant", parts=(Text(text="a"), Media(kind="image", source=NEAR))),
            [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}],
            ["messages[0].content[1]!"],
        ),
        (
            Turn(role="assistant", parts=(Reasoning(text=""), Refusal(text="no"))),
            [{"role": "assistant", "content": [{"type": "text", "text": "no"}]}],
            [],
        ),
        (
            Turn(
                role="assistant",
                parts=(Text(text="a"), ToolCall(id="c", name="f", arguments="x", custom=True)),
            ),
            [
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"input":"x"}'},
                        }
                    ],
                    "content": [{"type": "text", "text": "a"}],
                }
            ],
            [],
        ),
        (
            Turn(
                role="assistant",
                parts=(
                    Reasoning(text="h"),
                    Reasoning(text="m"),
                    ToolCall(id="c", name="f", arguments=""),
                ),
            ),
            [
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                    "tool_plan": "hm",
                }
            ],
            [],
        ),
        (
            Turn(
                role="tool",
                parts=(
                    ToolResult(id="c", parts=(Text(text="a"), Text(text="b"))),
                    ToolResult(id="d", is_error=True, parts=(Media(kind="image", source=FAR),)),
                ),
            ),
            [
                {"role": "tool", "tool_call_id": "c", "content": "ab"},
                {"role": "tool", "tool_call_id": "d", "content": ""},
            ],
            ["messages[0].content[1].is_error", "messages[0].content[1].content[0]!"],
        ),
    ],
)
def test_each_part_of_a_history_is_written(
    turn: Turn, messages: list[dict[str, Any]], lost: list[str]
) -> None:
    """In Cohere's form; a turn that says nothing is left out, and what is lost is named."""
    body, losses = written(turn)
    assert body["messages"] == messages
    assert [field + "!" * grave for field, grave in losses] == lost


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ({"type": "document", "id": "d", "document": {"title": "T"}}, "T"),
        ({"type": "document", "id": "d", "document": {"title": 7}}, None),
        ({"type": "document", "id": "d", "document": {}}, None),
        ({"type": "tool", "id": "t"}, "t"),
        ({"type": "tool", "id": 7}, None),
        ({}, None),
    ],
)
def test_each_source_is_a_citation(source: dict[str, Any], title: str | None) -> None:
    """By its title, or by its id where it is no document; each source is one."""
    told = {"start": 1, "end": 3, "text": "lu", "content_index": 0}
    message = {"content": [{"type": "text", "text": "Blue."}]}
    expected = Citation(kind="document", title=title, start=1, end=3)
    bare = Citation(kind="document", start=1, end=3)
    for sources, cited in (
        ([source, source], (expected, expected)),
        ([], (bare,)),
        (None, (bare,)),
    ):
        citation = told | {"sources": sources}
        whole = WHOLE | {"message": message | {"citations": [citation]}}
        assert COHERE_CODEC.read_answer(whole).choices[0].parts == (
            Text(text="Blue.", citations=cited),
        )
        stream = [
            event("content-start", message={"content": {"type": "text", "text": "Blue."}}),
            event("citation-start", message={"citations": citation}),
            event("citation-start", message={"citations": citation | {"content_index": 1}}),
            event("content-delta", message={"content": {"text": "!"}}),
            event("message-end", finish_reason="COMPLETE"),
        ]
        assert streamed(*stream).choices[0].parts == (Text(text="Blue.!", citations=cited),)


def test_parts_follow_each_other() -> None:
    """Whatever begins closes what was open; calls that take turns each keep their arguments."""

    def called(kind: str, index: int, **call: Any) -> dict[str, Any]:
        return event(kind, index, message={"tool_calls": call})

    answer = streamed(
        event("message-start"),
        event("content-start", message={"content": {"type": "thinking", "thinking": "h"}}),
        event("content-start", 1, message={"content": {"type": "text", "text": ""}}),
        event("content-delta", 1, message={"content": {"text": "a"}}),
        event("tool-plan-delta", message={"tool_plan": "p"}),
        event("tool-plan-delta", message={"tool_plan": ""}),
        called("tool-call-start", 0, id="c", function={"name": "f", "arguments": '{"a"'}),
        called("tool-call-delta", 0, function={"arguments": ":1}"}),
        called("tool-call-delta", 1, function={"arguments": "lost"}),
        event("tool-call-end"),
        called("tool-call-delta", 0, function={"arguments": "late"}),
        called("tool-call-start", 1, id="d", function={"name": "g"}),
        event("tool-call-delta", 1),
        event("content-start", 2),
        event("citation-start"),
        event("debug", message={"content": {"text": "x"}}),
        event("message-end", finish_reason="TOOL_CALL"),
    )
    assert answer.choices[0].parts == (
        Reasoning(text="h"),
        Text(text="a"),
        Reasoning(text="p"),
        ToolCall(id="c", name="f", arguments='{"a":1}'),
        ToolCall(id="d", name="g", arguments=""),
    )
    assert (answer.id, answer.model) == ("c1", "")


def test_a_whole_answer_without_words_is_one() -> None:
    """Texts that follow each other are parts of their own, and nothing is needed but an end."""
    bare = COHERE_CODEC.read_answer({"finish_reason": "COMPLETE", "message": {}})
    assert bare == Answer(id="", model="", choices=(Choice(parts=(), stop="end"),), usage=Usage())
    texts = [{"type": "text", "text": one} for one in ("a", "b")]
    two = COHERE_CODEC.read_answer(WHOLE | {"message": {"content": texts}})
    assert two.choices[0].parts == (Text(text="a"), Text(text="b"))
    calls = [{"id": one, "function": {"name": one}} for one in ("c", "d")]
    made = COHERE_CODEC.read_answer(WHOLE | {"message": {"tool_calls": calls}})
    assert [part.id for part in made.choices[0].parts if isinstance(part, ToolCall)] == ["c", "d"]


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("ERROR_LIMIT", "context_window"), ("ERROR_TOXIC", "content_filter"), ("NEW", "end")],
)
def test_each_end_is_understood(reason: str, stop: str) -> None:
    """Words of Cohere's older answers, and those that nobody knows yet."""
    assert COHERE_CODEC.read_answer(WHOLE | {"finish_reason": reason}).choices[0].stop == stop
    end = event("message-end", finish_reason=reason)
    assert streamed(event("message-start"), end).choices[0].stop == stop


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"tokens": 7}, Usage()),
        ({"tokens": {"input_tokens": 9, "output_tokens": 0}}, Usage(9, 0, reported=True)),
        ({"tokens": {"input_tokens": 9}}, Usage(9, 0)),
        ({"tokens": {"output_tokens": 9}}, Usage(0, 9)),
        (
            {"tokens": {"input_tokens": 9, "output_tokens": 1}, "cached_tokens": 99},
            Usage(9, 1, 9, reported=True),
        ),
        (
            {"tokens": {"input_tokens": 9, "output_tokens": 1}, "cached_tokens": -1},
            Usage(9, 1, reported=True),
        ),
        ({"cached_tokens": 5}, Usage()),
    ],
)
def test_each_count_is_read(usage: Any, expected: Usage) -> None:
    """All of the tokens, whole or streamed; the cache holds no more than the prompt."""
    assert COHERE_CODEC.read_answer(WHOLE | {"usage": usage}).usage == expected
    end = event("message-end", finish_reason="COMPLETE", usage=usage)
    assert streamed(event("message-start"), end).usage == expected


@pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT"])
def test_an_end_without_its_answer_breaks_the_stream(reason: str) -> None:
    """Without Cohere's words the reason is named."""
    reader = COHERE_CODEC.stream_reader()
    told = event("message-end", finish_reason=reason)
    (broken,) = reader.read(Frame(msgspec.json.encode(told)))
    assert isinstance(broken, Broken) and reason in str(broken.error)
    told = event("message-end", finish_reason="COMPLETE", error="odd")
    (broken,) = COHERE_CODEC.stream_reader().read(Frame(msgspec.json.encode(told)))
    assert isinstance(broken, Broken) and str(broken.error) == "odd"


def test_only_signatures_of_others_are_announced() -> None:
    """What the target's own dialect signed is no loss, what another one did is."""
    for origin, lost in (("cohere.chat", []), ("openai.chat", [("messages[1].reasoning", False)])):
        text = Text(text="a", signature=Signature(origin=origin, value="s"))
        assert written(HELLO, Turn(role="assistant", parts=(text,)))[1] == lost
