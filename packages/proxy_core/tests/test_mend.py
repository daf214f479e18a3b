"""Chunks that official SDKs trip over are put right; the SDK's own reader is the judge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from proxy_core import CHAT, Usage

HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "chat"}
STOP: Any = {"delta": {}, "finish_reason": "stop"}


def passed(*choices: Any, **more: Any) -> list[dict[str, Any]]:
    """What the client gets of a stream of these choices, one in each chunk."""
    call = CHAT.read(b'{"model":"chat","messages":[],"stream":true}')
    tap = CHAT.tap(call, Usage())
    got = b""
    for choice in choices:
        told = {**HEAD, **more, "choices": [{"index": 0, **choice}]}
        got += tap.feed(b"data: " + json.dumps(told).encode() + b"\n\n")
    got += tap.feed(b"data: [DONE]\n\n") + tap.end()
    assert tap.failure is None, tap.failure
    events = got.removesuffix(b"\n\n").split(b"\n\n")
    return [json.loads(event[6:]) for event in events if event != b"data: [DONE]"]


def read(chunks: list[dict[str, Any]]) -> Any:
    """The message that OpenAI's helper makes of them."""
    state = ChatCompletionStreamState()
    for chunk in chunks:
        full = {**chunk, "choices": [{"logprobs": None, **one} for one in chunk["choices"]]}
        state.handle_chunk(ChatCompletionChunk.model_validate(full))
    return state.get_final_completion().choices[0].message


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"delta": {"content": text, **more}, "finish_reason": None}


def calls(*pieces: dict[str, Any]) -> dict[str, Any]:
    return {"delta": {"tool_calls": list(pieces)}, "finish_reason": None}


def piece(arguments: Any, **more: Any) -> dict[str, Any]:
    name = more.pop("name", None)
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {"function": function, **more}


def test_a_role_in_each_chunk_is_told_once() -> None:
    """Also when the chunks are so alike that they are taken as a run."""
    chunks = passed(*(says(f"w{at} ", role="assistant") for at in range(40)), STOP)
    message = read(chunks)
    assert (message.role, message.content) == ("assistant", "".join(f"w{at} " for at in range(40)))


def test_a_role_that_nobody_told_is_told() -> None:
    """Once, with the first chunk, however many like it follow."""
    chunks = passed(*(says("x") for _ in range(20)), STOP)
    assert [at for at, one in enumerate(chunks) if "role" in one["choices"][0]["delta"]] == [0]
    assert read(chunks).content == "x" * 20


@pytest.mark.parametrize(
    "pieces",
    [
        [piece("", id="a", name="f", index=0), piece('{"x":1}', id="a", name="f", index=0)],
        [piece('{"x":1}', id="a", name="f")],
        [piece('{"x":1}', id="a", name="f", index=1)],
        [piece({"x": 1}, id="a", name="f", index=0)],
        [piece('{"x"', id="a", name="f"), piece(":1}")],
    ],
)
def test_a_call_is_one_call(pieces: list[dict[str, Any]]) -> None:
    """However its pieces are numbered, and however often they name it."""
    (call,) = read(passed(says("", role="assistant"), *map(calls, pieces), STOP)).tool_calls
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == (
        "a",
        "f",
        {"x": 1},
    )


def test_two_calls_under_one_number_are_two() -> None:
    """Servers that number each call 0 are understood by its id."""
    first, second = piece("{}", id="a", name="f", index=0), piece("{}", id="b", name="g", index=0)
    message = read(passed(says("", role="assistant"), calls(first), calls(second), STOP))
    assert [(call.id, call.function.name) for call in message.tool_calls] == [
        ("a", "f"),
        ("b", "g"),
    ]


def test_a_call_without_an_id_gets_one() -> None:
    """Agents answer a call by its id."""
    message = read(passed(says("", role="assistant"), calls(piece("{}", name="f", index=0)), STOP))
    assert message.tool_calls[0].id.startswith("call_")


def test_an_end_of_others_is_one_of_openais() -> None:
    """A client that waits for ``stop`` must not wait for ever."""
    told = passed(says("x", role="assistant"), {"delta": {}, "finish_reason": "end_turn"})
    assert told[-1]["choices"][0]["finish_reason"] == "stop"


def test_what_is_right_is_not_touched() -> None:
    """Not even its spelling."""
    raw = (
        b'data: {"choices":[ {"delta":{"role":"assistant","content":"\\u00e9"},"index":0} ],'
        b'"object":"chat.completion.chunk"}\n\n'
    )
    call = CHAT.read(b'{"model":"chat","messages":[],"stream":true}')
    assert CHAT.tap(call, Usage()).feed(raw) == raw
