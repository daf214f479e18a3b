"""Ollama's chat, judged by the types of its own client."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama._types import ChatRequest, ChatResponse

from proxy_core._types import Usage
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Answer,
    Broken,
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
from proxy_core.dialects._codec import Frame, Losses
from proxy_core.dialects._fold import folded
from proxy_core.dialects._ollama import OLLAMA_CODEC
from proxy_core.errors import UpstreamDisconnected, UpstreamError, UpstreamProtocolError

PNG = base64.b64encode(b"\x89PNG").decode()
HELLO = Turn(role="user", parts=(Text(text="Hi"),))
EVERYTHING = Abilities()


def written(
    *turns: Turn, can: Abilities = EVERYTHING, **more: Any
) -> tuple[dict[str, Any], list[tuple[str, bool]]]:
    losses = Losses()
    asked = Conversation(model="m", turns=turns, **more)
    body = OLLAMA_CODEC.write_request(asked, "llama3.2", can, losses)
    judged = ChatRequest.model_validate_json(msgspec.json.encode(body))
    assert judged.model_dump(exclude_none=True, by_alias=True).keys() == body.keys()
    return body, [(loss.field, loss.grave) for loss in losses.all]


def test_a_full_request_is_what_ollama_s_client_takes() -> None:
    """Everything that Ollama has a word for is written, and nothing is lost."""
    body, losses = written(
        Turn(role="developer", parts=(Text(text="Be kind."),)),
        Turn(
            role="user",
            parts=(
                Text(text="Look: "),
                Media(kind="image", source=Source(kind="base64", data=PNG)),
                Media(kind="file", source=Source(kind="text", data="words")),
            ),
        ),
        Turn(
            role="assistant",
            parts=(
                Reasoning(text="Hm."),
                Text(text="I look."),
                ToolCall(id="call_1", name="look", arguments='{"at":[1]}'),
            ),
        ),
        Turn(role="tool", parts=(ToolResult(id="call_1", parts=(Text(text="gone"),)),)),
        tools=(Tool(name="look", description="Looks.", parameters={"type": "object"}),),
        max_tokens=9,
        sampling=Sampling(temperature=0.0, top_p=0.5, top_k=7, seed=0, presence_penalty=1.0),
        stop=("END",),
        output=OutputFormat(kind="schema", schema={"type": "object"}),
        reasoning=ReasoningWish(effort="low"),
        stream=True,
    )
    assert losses == []
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Look: words", "images": [PNG]},
        {
            "role": "assistant",
            "content": "I look.",
            "thinking": "Hm.",
            "tool_calls": [{"function": {"name": "look", "arguments": {"at": [1]}}}],
        },
        {"role": "tool", "content": "gone", "tool_name": "look"},
    ]
    assert body["options"] == {
        "num_predict": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 7,
        "seed": 0,
        "presence_penalty": 1.0,
        "stop": ["END"],
    }
    assert body["format"] == {"type": "object"}
    assert body["think"] == "low" and body["stream"] is True and body["model"] == "llama3.2"


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ({"tool_choice": ToolChoice(mode="required")}, ("tool_choice", True)),
        ({"n": 2}, ("n", True)),
        ({"sampling": Sampling(logit_bias={"1": 1})}, ("logit_bias", False)),
        ({"tools": (Tool(name="p", kind="custom"),)}, ("tools[0]", True)),
        ({"reasoning": ReasoningWish(effort="xhigh")}, ("reasoning_effort", False)),
        ({"service_tier": "flex"}, ("service_tier", False)),
    ],
)
def test_what_ollama_has_no_word_for_is_a_loss(
    more: dict[str, Any], lost: tuple[str, bool]
) -> None:
    """An option that can't be carried is named, and is grave only where it changes the answer."""
    assert written(HELLO, **more)[1] == [lost]


def test_content_that_ollama_can_t_take_is_a_grave_loss() -> None:
    """A picture by its address and a picture from a tool are named by their places."""
    far = Media(kind="image", source=Source(kind="url", data="https://x.example/a.png"))
    result = ToolResult(id="1", name="f", parts=(Text(text="see"), far))
    _, losses = written(
        Turn(role="user", parts=(Text(text="a"), far)), Turn(role="tool", parts=(result,))
    )
    assert losses == [("messages[0].content[1]", True), ("messages[1].content[0].content[1]", True)]


def test_results_stand_in_the_order_of_their_calls() -> None:
    """Two results of one function have nothing but their order to tell them apart."""
    calls = [
        ToolCall(id=one, name="weather", arguments=f'{{"city":"{city}"}}')
        for one, city in (("t1", "Paris"), ("t2", "Rom"))
    ]
    results = [
        ToolResult(id=one, name="weather", parts=(Text(text=said),))
        for one, said in (("t2", "rain"), ("t1", "sun"))
    ]
    body, _ = written(
        Turn(role="assistant", parts=tuple(calls)), Turn(role="tool", parts=tuple(results))
    )
    assert [message["content"] for message in body["messages"][1:]] == ["sun", "rain"]


def test_foreign_signatures_are_announced() -> None:
    """The words of another provider's reasoning go on, its signature does not."""
    thought = Reasoning(text="Hm.", signature=Signature(origin="anthropic.messages", value="x"))
    body, losses = written(HELLO, Turn(role="assistant", parts=(thought,)))
    assert losses == [("messages[1].reasoning", False)]
    assert body["messages"][1] == {"role": "assistant", "content": "", "thinking": "Hm."}


@pytest.mark.parametrize(
    ("wish", "think"),
    [
        (ReasoningWish(enabled=True), True),
        (ReasoningWish(effort="none"), False),
        (ReasoningWish(budget=0), False),
        (ReasoningWish(budget=8000), "medium"),
    ],
)
def test_thinking(wish: ReasoningWish, think: bool | str) -> None:
    """A switch or a level, whichever the client said."""
    body, losses = written(HELLO, reasoning=wish)
    assert body["think"] == think and losses == []


@pytest.mark.parametrize(
    ("can", "more", "options", "lost"),
    [
        (Abilities(seed=False), {"sampling": Sampling(seed=1)}, {}, "seed"),
        (
            Abilities(max_temperature=1.0),
            {"sampling": Sampling(temperature=1.5)},
            {"temperature": 1.0},
            "temperature",
        ),
        (Abilities(most_stops=1), {"stop": ("a", "b")}, {"stop": ["a"]}, "stop"),
        (Abilities(most_stops=0), {"stop": ("a",)}, {}, "stop"),
        (
            Abilities(sampling_while_reasoning=False),
            {"sampling": Sampling(top_k=3), "reasoning": ReasoningWish(effort="low")},
            {},
            "top_k",
        ),
        (
            Abilities(reasoning=()),
            {"reasoning": ReasoningWish(effort="low")},
            {},
            "reasoning_effort",
        ),
        (Abilities(tools=False), {"tools": (Tool(name="f"),)}, {}, "tools[0]"),
        (
            Abilities(strict_tools=False),
            {"tools": (Tool(name="f", strict=True),)},
            {},
            "tools[0].strict",
        ),
        (
            Abilities(json_object=False),
            {"output": OutputFormat(kind="json")},
            {},
            "response_format",
        ),
    ],
)
def test_what_a_model_can_t_do_is_not_asked_of_it(
    can: Abilities, more: dict[str, Any], options: dict[str, Any], lost: str
) -> None:
    """A row that says what a model takes is obeyed, and what was left out is named."""
    body, losses = written(HELLO, can=can, **more)
    assert body["options"] == options and [field for field, _ in losses] == [lost]


def line(**more: Any) -> dict[str, Any]:
    told = {"model": "llama3.2", "created_at": "2023-08-04T19:22:45.499127846Z", "done": False}
    message = {"role": "assistant", "content": ""} | more.pop("message", {})
    whole = told | {"message": message} | more
    ChatResponse.model_validate(whole)
    return whole


END = {"done": True, "done_reason": "stop", "prompt_eval_count": 26, "eval_count": 282}
CALLS = [{"function": {"name": "look", "arguments": {"at": "Lübeck"}}}]


def streamed(*lines: dict[str, Any]) -> Answer:
    reader = OLLAMA_CODEC.stream_reader()
    read = [event for one in lines for event in reader.read(Frame(msgspec.json.encode(one)))]
    return folded([*read, *reader.end()])


def without_ids(answer: Answer) -> list[Any]:
    return [
        msgspec.structs.replace(part, id="") if isinstance(part, ToolCall) else part
        for part in answer.choices[0].parts
    ]


def test_an_answer_is_read_whole_and_streamed_alike() -> None:
    """Thinking, text, calls and counts are read, and a stream says the same as the whole."""
    whole = OLLAMA_CODEC.read_answer(
        line(message={"thinking": "Hm.", "content": "Blue.", "tool_calls": CALLS}, **END)
    )
    stream = streamed(
        line(message={"thinking": "H"}),
        line(message={"thinking": "m."}),
        line(message={"content": "Bl"}),
        line(message={"content": "ue."}),
        line(message={"tool_calls": CALLS}),
        line(**END),
    )
    parts = [
        Reasoning(text="Hm."),
        Text(text="Blue."),
        ToolCall(id="", name="look", arguments='{"at":"Lübeck"}'),
    ]
    assert without_ids(whole) == without_ids(stream) == parts
    assert whole.usage == stream.usage == Usage(26, 282, reported=True)
    assert whole.choices[0].stop == stream.choices[0].stop == "tool_calls"
    assert whole.model == stream.model == "llama3.2"
    assert whole.created == stream.created == 1691176965


def test_calls_without_ids_get_their_own() -> None:
    """Ollama gives no ids, so each call gets one, and no two are the same."""
    answer = OLLAMA_CODEC.read_answer(line(message={"tool_calls": CALLS * 3}, **END))
    ids = {part.id for part in answer.choices[0].parts if isinstance(part, ToolCall)}
    assert len(ids) == 3 and all(one.startswith("call_") and len(one) == 29 for one in ids)


@pytest.mark.parametrize(
    ("reason", "stop"), [("stop", "end"), ("length", "length"), ("load", "end"), (None, "end")]
)
def test_stop_reasons(reason: str | None, stop: str) -> None:
    """Each reason to be done has its word."""
    told = line(message={"content": "x"}, **END | {"done_reason": reason})
    assert OLLAMA_CODEC.read_answer(told).choices[0].stop == stop


def test_an_error_line_breaks_the_stream() -> None:
    """An error among the lines is a Broken with Ollama's words; a whole one is raised."""
    reader = OLLAMA_CODEC.stream_reader()
    reader.read(Frame(msgspec.json.encode(line(message={"content": "x"}))))
    (broken,) = reader.read(Frame(b'{"error":"out of memory"}'))
    assert isinstance(broken, Broken) and str(broken.error) == "out of memory"
    with pytest.raises(UpstreamError, match="out of memory"):
        OLLAMA_CODEC.read_answer({"error": "out of memory"})


def test_what_is_no_answer_is_an_error_of_the_upstream() -> None:
    """Garbage is a protocol error, and an answer that is not done is not taken for whole."""
    for data in (b"", b"[]", b'{"message":7}', b'{"model":"\xff"}'):
        with pytest.raises(UpstreamProtocolError):
            OLLAMA_CODEC.stream_reader().read(Frame(data))
    with pytest.raises(UpstreamDisconnected):
        streamed(line(message={"content": "x"}))


@pytest.mark.parametrize("count", [-1, 1e12, "7", None])
def test_absurd_counts_are_not_believed(count: Any) -> None:
    """A usage that can't be true counts as not reported."""
    told = line(message={"content": "x"}, done=True)
    assert not OLLAMA_CODEC.read_answer(told | {"eval_count": count}).usage.reported


@settings(max_examples=30, deadline=None)
@given(
    st.text('aé{}"\\ \n', min_size=1, max_size=9),
    st.dictionaries(st.text(max_size=3), st.integers()),
)
def test_an_answer_sent_back_as_history_is_the_same_answer(
    text: str, arguments: dict[str, int]
) -> None:
    """What is written of an assistant's turn reads as the same parts."""
    call = ToolCall(id="", name="f", arguments=msgspec.json.encode(arguments).decode())
    parts = (Reasoning(text=text), Text(text=text), call)
    body, losses = written(HELLO, Turn(role="assistant", parts=parts))
    read = OLLAMA_CODEC.read_answer(line(message=body["messages"][1], **END))
    assert losses == [] and without_ids(read) == list(parts)
    assert read.choices[0] == Choice(parts=read.choices[0].parts, stop="tool_calls")


# Each wish and each word by itself.


NEAR = Source(kind="base64", data=PNG)
F = Tool(name="f")
WIRE_F = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
}
NO_LEVELS = Abilities(reasoning=("budget",))


@pytest.mark.parametrize(
    ("more", "can", "wire", "lost"),
    [
        ({}, EVERYTHING, {}, []),
        ({"stream": True}, EVERYTHING, {"stream": True}, []),
        ({"max_tokens": 0}, EVERYTHING, {"options": {"num_predict": 0}}, []),
        (
            {"sampling": Sampling(frequency_penalty=0.5)},
            EVERYTHING,
            {"options": {"frequency_penalty": 0.5}},
            [],
        ),
        (
            {"sampling": Sampling(temperature=0.5, top_p=0.5)},
            Abilities(temperature_and_top_p=False),
            {"options": {"temperature": 0.5}},
            ["top_p"],
        ),
        ({"tools": (F,)}, EVERYTHING, {"tools": [WIRE_F]}, []),
        (
            {"tools": (F,), "tool_choice": ToolChoice(mode="auto")},
            EVERYTHING,
            {"tools": [WIRE_F]},
            [],
        ),
        ({"tools": (F,), "tool_choice": ToolChoice(mode="none")}, EVERYTHING, {}, []),
        (
            {"tools": (F,), "tool_choice": ToolChoice(mode="named", names=("f",))},
            EVERYTHING,
            {"tools": [WIRE_F]},
            ["tool_choice!"],
        ),
        (
            {"tools": (Tool(name="w", kind="web"), F)},
            EVERYTHING,
            {"tools": [WIRE_F]},
            ["tools[0]!"],
        ),
        (
            {"tools": (Tool(name="f", strict=True, cache=CacheMark()),)},
            EVERYTHING,
            {"tools": [WIRE_F]},
            ["tools[0].cache_control", "tools[0].strict"],
        ),
        ({"output": OutputFormat(kind="json")}, EVERYTHING, {"format": "json"}, []),
        (
            {"output": OutputFormat(kind="schema", schema={"a": 1})},
            Abilities(json_object=False),
            {"format": {"a": 1}},
            [],
        ),
        (
            {"output": OutputFormat(kind="schema", schema={"a": 1})},
            Abilities(json_schema=False),
            {},
            ["response_format!"],
        ),
        ({"modalities": ("text", "audio")}, EVERYTHING, {}, ["modalities!"]),
        ({"reasoning": ReasoningWish(enabled=False)}, EVERYTHING, {"think": False}, []),
        ({"reasoning": ReasoningWish(shown=False)}, EVERYTHING, {}, []),
        ({"reasoning": ReasoningWish(effort="high")}, EVERYTHING, {"think": "high"}, []),
        ({"reasoning": ReasoningWish(effort="high")}, NO_LEVELS, {"think": True}, []),
        ({"reasoning": ReasoningWish(effort="none")}, NO_LEVELS, {"think": False}, []),
        (
            {"reasoning": ReasoningWish(effort="max")},
            EVERYTHING,
            {"think": "high"},
            ["reasoning_effort"],
        ),
        (
            {"reasoning": ReasoningWish(effort="high")},
            Abilities(efforts=("max",)),
            {"think": True},
            ["reasoning_effort"],
        ),
        (
            {"reasoning": ReasoningWish(effort="high")},
            Abilities(efforts=("low", "xhigh")),
            {"think": "low"},
            ["reasoning_effort"],
        ),
    ],
)
def test_each_wish_is_written(
    more: dict[str, Any], can: Abilities, wire: dict[str, Any], lost: list[str]
) -> None:
    """It is in the body by Ollama's word, or among the losses, of which those with ! are grave."""
    body, losses = written(HELLO, can=can, **more)
    plain = {
        "model": "llama3.2",
        "stream": False,
        "options": {},
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert body == plain | wire
    assert [field + "!" * grave for field, grave in losses] == lost


@pytest.mark.parametrize(
    ("turn", "messages", "lost"),
    [
        (Turn(role="user", parts=()), [{"role": "user", "content": ""}], []),
        (
            Turn(role="user", parts=(Text(text="a"), Refusal(text="b")), name="n"),
            [{"role": "user", "content": "ab"}],
            ["messages[0].name"],
        ),
        (
            Turn(role="user", parts=(Media(kind="image", source=NEAR, detail="low"),)),
            [{"role": "user", "content": "", "images": [PNG]}],
            ["messages[0].content[0].detail"],
        ),
        (
            Turn(role="user", parts=(Text(text="a"), Media(kind="audio", source=NEAR))),
            [{"role": "user", "content": "a"}],
            ["messages[0].content[1]!"],
        ),
        (
            Turn(
                role="assistant",
                parts=(
                    Reasoning(text="h"),
                    Reasoning(text="m"),
                    ToolCall(id="c", name="f", arguments=" "),
                    ToolCall(id="d", name="f", arguments="text"),
                    ToolCall(id="e", name="f", arguments='{"a":1}', custom=True),
                    ToolCall(id="g", name="f", arguments="[1]"),
                ),
            ),
            [
                {
                    "role": "assistant",
                    "content": "",
                    "thinking": "hm",
                    "tool_calls": [
                        {"function": {"name": "f", "arguments": arguments}}
                        for arguments in (
                            {},
                            {"input": "text"},
                            {"input": '{"a":1}'},
                            {"input": "[1]"},
                        )
                    ],
                }
            ],
            [],
        ),
        (
            Turn(
                role="tool",
                parts=(
                    ToolResult(id="c", parts=(Text(text="a"), Text(text="b"))),
                    ToolResult(id="d", name="g", is_error=True),
                ),
            ),
            [
                {"role": "tool", "content": "ab", "tool_name": ""},
                {"role": "tool", "content": "", "tool_name": "g"},
            ],
            ["messages[0].content[1].is_error"],
        ),
        (
            Turn(role="user", parts=(Text(text="a", cache=CacheMark()),)),
            [{"role": "user", "content": "a"}],
            ["messages[0].cache_control"],
        ),
        (
            Turn(
                role="assistant",
                parts=(Text(text="a", citations=(Citation(kind="url", url="u"),)),),
            ),
            [{"role": "assistant", "content": "a"}],
            ["messages[0].content[0].citations"],
        ),
    ],
)
def test_each_part_of_a_history_is_written(
    turn: Turn, messages: list[dict[str, Any]], lost: list[str]
) -> None:
    """Texts are joined, calls and thinking stand beside them, and what is lost is named."""
    body, losses = written(turn)
    assert body["messages"] == messages
    assert [field + "!" * grave for field, grave in losses] == lost


def test_a_model_without_pictures_gets_none() -> None:
    """Not even in base64."""
    turn = Turn(role="user", parts=(Text(text="a"), Media(kind="image", source=NEAR)))
    body, losses = written(turn, can=Abilities(images=False))
    assert body["messages"] == [{"role": "user", "content": "a"}]
    assert losses == [("messages[0].content[1]", True)]


def test_calls_of_one_answer_are_apart() -> None:
    """Each with its own id and arguments, text and thinking between them in parts of their own."""
    calls = [
        {"id": "own", "function": {"name": "f", "arguments": {"a": 1}}},
        {"function": {"name": "g"}},
    ]
    answer = streamed(
        {"message": {"content": "a"}},
        {"message": {"tool_calls": calls, "content": "b"}},
        {"message": {"thinking": "h", "content": "c"}},
        {"message": {"content": None}},
        {},
        {"done": True, "done_reason": "length", "prompt_eval_count": 4, "eval_count": 3.0},
    )
    first, call, other, thought, last = answer.choices[0].parts
    assert (first, thought, last) == (Text(text="ab"), Reasoning(text="h"), Text(text="c"))
    assert call == ToolCall(id="own", name="f", arguments='{"a":1}')
    assert isinstance(other, ToolCall) and (other.name, other.arguments) == ("g", "{}")
    assert answer.choices[0].stop == "length"
    assert answer.usage == Usage(4, 3, reported=True)
    assert (answer.id, answer.model, answer.created) == ("", "", 0)


def test_events_open_and_close_in_their_order() -> None:
    """The head comes first and once, a call is closed as soon as it is told."""
    reader = OLLAMA_CODEC.stream_reader()
    told = [
        event
        for one in (line(), line(message={"tool_calls": CALLS}), line(**END))
        for event in reader.read(Frame(msgspec.json.encode(one)))
    ]
    kinds = [type(event).__name__ for event in told]
    assert kinds == ["Begun", "Opened", "Piece", "Closed", "Finished", "Counted"]


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_eval_count": 5, "eval_count": 0}, Usage(5, 0, reported=True)),
        ({"eval_count": 3}, Usage(0, 3, reported=True)),
        ({"prompt_eval_count": 5}, Usage(5, 0)),
        ({"eval_count": 1_000_000_000}, Usage(0, 1_000_000_000, reported=True)),
        ({"eval_count": 1_000_000_001}, Usage()),
        ({"eval_count": True}, Usage()),
        ({}, Usage()),
    ],
)
def test_each_count_is_read(counts: dict[str, Any], usage: Usage) -> None:
    """A prompt out of the cache isn't counted by Ollama; without the output nothing is told."""
    assert OLLAMA_CODEC.read_answer({"done": True, **counts}).usage == usage


@pytest.mark.parametrize(
    "date", ["", "yesterday", "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+14:00"]
)
def test_an_odd_date_is_none(date: str) -> None:
    """A time that can't be read, or can't be, is not told."""
    assert OLLAMA_CODEC.read_answer({"done": True, "created_at": date}).created <= 0


def test_nothing_of_an_error_is_lost() -> None:
    """An error ends the stream, whatever it is made of."""
    reader = OLLAMA_CODEC.stream_reader()
    (broken,) = reader.read(Frame(b'{"error":{"message":"no"}}'))
    assert isinstance(broken, Broken) and "no" in str(broken.error) and reader.end() == []


def test_only_signatures_of_others_are_announced() -> None:
    """What the target's own dialect signed is no loss, what another one did is."""
    for origin, lost in (("ollama.chat", []), ("openai.chat", [("messages[1].reasoning", False)])):
        text = Text(text="a", signature=Signature(origin=origin, value="s"))
        assert written(HELLO, Turn(role="assistant", parts=(text,)))[1] == lost
