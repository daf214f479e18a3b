"""OpenAI's tools of free text where the upstream has none: out as functions, back as they were."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core._types import Usage
from proxy_core.dialects._canonical import (
    Answer,
    Choice,
    Conversation,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from proxy_core.dialects._customs import CustomCalls, custom_names, without_customs
from proxy_core.dialects._fold import events_of, folded

PATCH = Tool(
    name="apply_patch",
    description="Changes files.",
    kind="custom",
    own={"type": "grammar", "syntax": "lark", "definition": "start: LINE+"},
)
OTHER = Tool(name="look", parameters={"type": "object", "properties": {}})


def asked(text: str) -> Conversation:
    call = ToolCall(id="c1", name="apply_patch", arguments=text, custom=True)
    return Conversation(
        model="m",
        turns=(
            Turn(role="assistant", parts=(Text(text="so"), call)),
            Turn(
                role="tool", parts=(ToolResult(id="c1", parts=(Text(text="done"),), custom=True),)
            ),
        ),
        tools=(PATCH, OTHER),
    )


@given(st.text())
@settings(max_examples=50)
def test_a_call_goes_out_and_comes_back(text: str) -> None:
    """What the model once wrote reaches it as a function's argument, and the client as it was."""
    plain = without_customs(asked(text))
    call = plain.turns[0].parts[1]
    assert isinstance(call, ToolCall) and not call.custom
    answer = Answer(
        id="a", model="m", choices=(Choice(parts=(call,), stop="tool_calls"),), usage=Usage()
    )
    names = custom_names(asked(text))
    streamed = CustomCalls(names)
    events = [one for event in events_of(answer) for one in streamed.events(event)]
    assert folded(events).choices == CustomCalls(names).answer(answer).choices
    (back,) = answer.choices[0].parts
    assert back == asked(text).turns[0].parts[1]


def test_other_tools_stay_as_they_are() -> None:
    """A function is none of a client's free texts, and its calls aren't either."""
    plain = without_customs(asked("x"))
    assert plain.tools[1] is OTHER
    assert plain.turns[1].parts == (ToolResult(id="c1", parts=(Text(text="done"),)),)
    call = ToolCall(id="c2", name="look", arguments='{"input":"x"}')
    answer = Answer(id="a", model="m", choices=(Choice(parts=(call,), stop=None),), usage=Usage())
    assert CustomCalls(frozenset({"apply_patch"})).answer(answer).choices[0].parts == (call,)


def test_the_grammar_is_told_in_words() -> None:
    """A model that can't be held to a grammar reads it in the description."""
    description = without_customs(asked("x")).tools[0].description or ""
    assert "Changes files." in description and "start: LINE+" in description


def test_arguments_that_are_no_such_object_are_given_as_they_are() -> None:
    """A model that ignores the schema loses nothing of what it said."""
    call = ToolCall(id="c", name="apply_patch", arguments='{"patch": 1}')
    answer = Answer(id="a", model="m", choices=(Choice(parts=(call,), stop=None),), usage=Usage())
    (back,) = CustomCalls(frozenset({"apply_patch"})).answer(answer).choices[0].parts
    assert isinstance(back, ToolCall) and (back.custom, back.arguments) == (True, '{"patch": 1}')
