"""Tools in a namespace of the Responses API, as Codex sends them, over dialects without any."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import NamespaceTool, Response, ResponseOutputItemDoneEvent
from openai.types.responses.response_input_param import ResponseInputParam
from pydantic import TypeAdapter

from proxy_core import DIALECTS, Usage
from proxy_core.dialects import CLIENT_CODECS, CODECS, FRAMINGS, framing_of
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._translate import Target, Translation, Translator
from proxy_core.errors import InvalidRequest
from proxy_core.providers._signatures import SignatureMemory

SCHEMA = {"type": "object", "properties": {"target": {"type": "string"}}}
AGENTS = {
    "type": "namespace",
    "name": "agents",
    "description": "Tools for sub-agents.",
    "tools": [
        {"type": "function", "name": "spawn", "description": "Begins one", "parameters": SCHEMA},
        {"type": "function", "name": "close", "description": "Ends one", "parameters": SCHEMA},
        {"type": "custom", "name": "tell", "description": "Says a word"},
    ],
}
PLAIN = {"type": "function", "name": "shell", "parameters": SCHEMA, "strict": False}
SAID = '{"target":"a"}'


def translation(upstream: str, *, stream: bool = False, **fields: Any) -> Translation:
    body = {"model": "mine", "input": "Hi", "stream": stream, "tools": [PLAIN, AGENTS], **fields}
    call = DIALECTS["openai.responses"].read(json.dumps(body).encode())
    target = Target(CODECS[upstream], FRAMINGS[framing_of(upstream, {})])
    translator = Translator(CLIENT_CODECS["openai.responses"], target, SignatureMemory())
    return translator.begin(call, "up-1", Abilities())


def asked(told: Translation) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(told._body)
    return body


def read_names(*tools: Any) -> list[str]:
    body = {"model": "m", "input": "x", "tools": list(tools)}
    return [
        one.name for one in CLIENT_CODECS["openai.responses"].read_request(body, Losses()).tools
    ]


def chat_answer(name: str, arguments: str = SAID) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return {"id": "c", "object": "chat.completion", "model": "up-1", "choices": [choice]}


def answered(told: Translation, name: str, arguments: str = SAID) -> dict[str, Any]:
    call = DIALECTS["openai.responses"].read(b'{"model":"mine","input":"Hi"}')
    raw = json.dumps(chat_answer(name, arguments)).encode()
    body: dict[str, Any] = json.loads(told.whole(call, raw, Usage()))
    return body


def test_the_functions_of_a_namespace_are_tools_of_their_own() -> None:
    """Nothing is refused; each has one flat name, and what is said of all of them is told once."""
    told = translation("openai.chat")
    tools = [one["function"] for one in asked(told)["tools"]]
    assert [one["name"] for one in tools] == [
        "shell",
        "agents__spawn",
        "agents__close",
        "agents__tell",
    ]
    assert [one.get("description") for one in tools[1:]] == [
        "Tools for sub-agents.\n\nBegins one",
        "Ends one",
        "Says a word",
    ]
    assert tools[1]["parameters"] == SCHEMA
    assert told.announced == []


def test_a_call_comes_back_by_the_names_that_the_client_knows() -> None:
    """A whole answer names the function and its namespace, also of a tool of free text."""
    told = translation("openai.chat")
    body = answered(told, "agents__close")
    (item,) = Response.model_validate(body).output
    assert item.type == "function_call"
    assert (item.namespace, item.name, item.arguments) == ("agents", "close", SAID)
    (item,) = Response.model_validate(answered(told, "agents__tell", '{"input":"a"}')).output
    assert item.type == "custom_tool_call"
    assert (item.namespace, item.name, item.input) == ("agents", "tell", "a")
    (item,) = Response.model_validate(answered(told, "shell")).output
    assert item.type == "function_call"
    assert (item.namespace, item.name) == (None, "shell")


def test_an_answer_says_the_namespace_that_was_asked_for() -> None:
    """The tools that an answer repeats stand where the client had put them."""
    _, group = answered(translation("openai.chat"), "shell")["tools"]
    told = NamespaceTool.model_validate(group)
    assert (told.name, told.description) == ("agents", "Tools for sub-agents.")
    assert [(one.type, one.name, one.description) for one in told.tools] == [
        ("function", "spawn", "Begins one"),
        ("function", "close", "Ends one"),
        ("custom", "tell", "Says a word"),
    ]


def test_a_streamed_call_does_so_too() -> None:
    """Each event of a stream that holds the item has both names."""
    told = translation("openai.chat", stream=True)
    call = chat_answer("agents__close")["choices"][0]["message"]["tool_calls"][0]
    deltas: list[Any] = [({"role": "assistant", "tool_calls": [{"index": 0, **call}]}, None)]
    tap = told.tap(DIALECTS["openai.responses"].read(b'{"model":"m","input":"x"}'), Usage())
    got = b""
    for delta, end in [*deltas, ({}, "tool_calls")]:
        choice = {"index": 0, "delta": delta, "finish_reason": end}
        got += tap.feed(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n")
    got += tap.feed(b"data: [DONE]\n\n")
    events = [json.loads(line[6:]) for line in got.splitlines() if line.startswith(b"data: ")]
    items = [event["item"] for event in events if "item" in event]
    assert {(one["namespace"], one["name"]) for one in items} == {("agents", "close")}
    done = [event for event in events if event["type"] == "response.output_item.done"]
    item = ResponseOutputItemDoneEvent.model_validate(done[0]).item
    assert item.type == "function_call"
    assert (item.namespace, item.arguments) == ("agents", SAID)


@pytest.mark.parametrize("upstream", ["openai.chat", "anthropic.messages", "gemini.generate"])
@pytest.mark.parametrize("offered", [True, False])
def test_a_call_in_the_history_has_the_flat_name(upstream: str, offered: bool) -> None:
    """The upstream reads of its own call by the name that it called, also when it is no more."""
    call = {"type": "function_call", "call_id": "call_1", "arguments": SAID}
    history = [
        {"role": "user", "content": "Hi"},
        {**call, "name": "close", "namespace": "agents"},
        {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
    ]
    TypeAdapter(ResponseInputParam).validate_python(history)
    tools = [PLAIN, AGENTS] if offered else [PLAIN]
    told = translation(upstream, input=history, tools=tools)
    turns = asked(told)["contents" if upstream == "gemini.generate" else "messages"]
    names = re.findall(r'"name": "([a-z_]+)"', json.dumps(turns))
    assert names and set(names) == {"agents__close"}
    assert told.announced == []


NAMES = st.text("ab_-.é", max_size=70)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NAMES.filter(bool), st.lists(NAMES, max_size=3)), max_size=3), NAMES)
def test_flat_names_are_fit_and_all_different(
    spaces: list[tuple[str, list[str]]], plain: str
) -> None:
    """Whatever a client calls them: 64 letters that every provider takes, each name once."""
    first = f"{spaces[0][0].rstrip('_')}__{spaces[0][1][0]}" if spaces and spaces[0][1] else plain
    groups = [
        {**AGENTS, "name": space, "tools": [{"type": "function", "name": one} for one in ones]}
        for space, ones in spaces
    ]
    names = read_names({"type": "function", "name": first}, *groups)
    assert names[0] == first
    assert len(set(names)) == len(names) == 1 + sum(len(ones) for _, ones in spaces)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names[1:])


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "function", "name": "close"}, "agents__close"),
        ({"type": "function", "name": "shell"}, "shell"),
    ],
)
def test_a_choice_may_name_a_function_of_a_namespace(choice: Any, names: str) -> None:
    """It has no word for the namespace: the function is found by its own name."""
    told = asked(translation("openai.chat", tool_choice=choice))
    assert told["tool_choice"]["function"]["name"] == names


def test_a_namespace_may_be_allowed_as_a_whole() -> None:
    """Of some allowed tools a namespace names all that it holds; the others are hidden."""
    allowed = {"type": "allowed_tools", "mode": "auto"}
    allowed["tools"] = [{"type": "namespace", "name": "agents"}]  # type: ignore[assignment]
    tools = asked(translation("openai.chat", tool_choice=allowed))["tools"]
    names = [one["function"]["name"] for one in tools]
    assert names == ["agents__spawn", "agents__close", "agents__tell"]


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "namespace", "tools": []}, "tools[0].name"),
        ({"type": "namespace", "name": "a"}, "tools[0].tools"),
        ({**AGENTS, "tools": [{"type": "mcp"}]}, "tools[0].tools[0].type"),
        ({**AGENTS, "tools": [{"type": "function"}]}, "tools[0].tools[0].name"),
    ],
)
def test_a_wrong_namespace_names_its_field(tool: Any, param: str) -> None:
    """What is no namespace is refused with the path of what is wrong."""
    with pytest.raises(InvalidRequest) as refused:
        read_names(tool)
    assert refused.value.param == param


def test_a_format_that_looks_like_a_home_is_none() -> None:
    """A custom tool's format is the client's own JSON: whatever stands in it harms nobody."""
    form = {"type": "odd", "namespace": "a", "name": "b", "about": 5}
    assert read_names({"type": "custom", "name": "c", "format": form}) == ["c"]
