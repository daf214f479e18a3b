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
    Sampling,
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
