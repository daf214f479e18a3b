"""Gemini translated: requests, answers and streams in both directions, judged by Google's SDK."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterable
from typing import Any, get_args

import httpx
import pytest
from google import genai
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import Usage
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Answer,
    Begun,
    Broken,
    Choice,
    Citation,
    Closed,
    Conversation,
    Finished,
    Media,
    Opened,
    OutputFormat,
    Part,
    Piece,
    Reasoning,
    ReasoningWish,
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
from proxy_core.dialects._codec import Frame, Losses, Told
from proxy_core.dialects._fold import events_of, folded
from proxy_core.dialects._gemini import GEMINI_CODEC
from proxy_core.dialects._sse import EventSplitter
from proxy_core.errors import (
    InvalidRequest,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamThrottled,
)

SIGNED = Signature(origin="gemini.generate", value="c2lnbmVk")
FOREIGN = Signature(origin="anthropic.messages", value="EqQB+/==")
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
ASKED = Conversation(model="m", turns=(Turn(role="user", parts=(Text(text="hi"),)),))
TOLD = Told(model="mine", conversation=ASKED, request_id="req-1")
SCHEMA = {
    "type": "OBJECT",
    "properties": {
        "a": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "1"},
        "b": {"anyOf": [{"type": "NUMBER"}, {"type": "BOOLEAN"}]},
    },
    "required": ["a"],
}
SKIP = "skip_thought_signature_validator"


def read(body: dict[str, Any]) -> tuple[Conversation, list[str]]:
    losses = Losses()
    return GEMINI_CODEC.read_request(body, losses), [loss.field for loss in losses.all]


def write(
    *turns: Turn, can: Abilities | None = None, **said: Any
) -> tuple[dict[str, Any], list[tuple[str, bool]]]:
    losses = Losses()
    asked = Conversation(model="m", turns=turns or ASKED.turns, **said)
    body = GEMINI_CODEC.write_request(asked, "g", can or Abilities(), losses)
    judged(body)
    return body, [(loss.field, loss.grave) for loss in losses.all]


def judged(body: dict[str, Any]) -> None:
    """Google's own types, which forbid what they don't know."""
    for content in body["contents"]:
        types.Content.model_validate(content)
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)
    if "systemInstruction" in body:
        types.Content.model_validate(body["systemInstruction"])
    types.ToolConfig.model_validate(body.get("toolConfig", {}))
    types.GenerationConfig.model_validate(body.get("generationConfig", {}))


def user(*parts: Part | str) -> Turn:
    return Turn(role="user", parts=tuple(Text(text=p) if isinstance(p, str) else p for p in parts))


def model(*parts: Part | str) -> Turn:
    return Turn(
        role="assistant", parts=tuple(Text(text=p) if isinstance(p, str) else p for p in parts)
    )


def results(*parts: ToolResult) -> Turn:
    return Turn(role="tool", parts=parts)


def answer(*parts: Part, stop: Any = "end", usage: Usage | None = None) -> Answer:
    return Answer(
        id="r1",
        model="mine",
        choices=(Choice(parts=parts, stop=stop),),
        usage=usage or Usage(3, 2, reported=True),
    )


def streamed(events: Iterable[Any]) -> bytes:
    writer = GEMINI_CODEC.stream_writer(TOLD)
    return b"".join([*map(writer.write, events), writer.end()])


def heard(data: bytes, cut: int = 0) -> Answer:
    reader, splitter = GEMINI_CODEC.stream_reader(), EventSplitter()
    found = [*splitter.feed(data[:cut]), *splitter.feed(data[cut:])]
    events = [event for one in found if one.data for event in reader.read(Frame(one.data))]
    return folded([*events, *reader.end()])


def client(body: bytes, kind: str) -> genai.Client:
    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body, headers={"content-type": kind})

    return genai.Client(
        api_key="k",
        http_options=types.HttpOptions(client_args={"transport": httpx.MockTransport(handle)}),
    )


FULL: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "be brief"}]},
    "contents": [
        {
            "role": "user",
            "parts": [{"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}],
        },
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True},
                {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2lnbmVk"},
            ],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "f", "response": {"result": "ok"}}}],
        },
    ],
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "description": "does",
                    "parameters": {
                        "type": "OBJECT",
                        "properties": {"a": {"type": "INTEGER", "nullable": True}},
                        "required": ["a"],
                    },
                }
            ]
        },
        {"googleSearch": {}},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "candidateCount": 2,
        "maxOutputTokens": 100,
        "stopSequences": ["END"],
        "seed": 7,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "responseMimeType": "application/json",
        "responseSchema": {"type": "STRING", "enum": ["a"]},
        "responseModalities": ["TEXT"],
        "responseLogprobs": True,
        "logprobs": 3,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 2048},
    },
}


def test_read_request() -> None:
    """Each thing that Google's request says has its place in the canonical form."""
    got, lost = read(FULL)
    assert lost == []
    assert [turn.role for turn in got.turns] == ["system", "user", "assistant", "tool"]
    thought, call = got.turns[2].parts
    (result,) = got.turns[3].parts
    assert isinstance(call, ToolCall)
    assert thought == Reasoning(text="hm")
    assert (call.name, call.arguments, call.signature) == ("f", '{"a":1}', SIGNED)
    assert result == ToolResult(id=call.id, name="f", parts=(Text(text="ok"),))
    assert call.id.startswith("call_")
    assert got.turns[1].parts[1] == Media(
        kind="image", source=Source(kind="base64", data=PIXEL, media_type="image/png")
    )
    assert got.tools[0].parameters["properties"] == {"a": {"type": ["integer", "null"]}}
    assert got.tools[1] == Tool(name="googleSearch", kind="googleSearch", own={})
    assert got.tool_choice == ToolChoice(mode="named", names=("f",))
    assert got.sampling == Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        seed=7,
        logprobs=True,
        top_logprobs=3,
    )
    assert (got.n, got.max_tokens, got.stop, got.modalities) == (2, 100, ("END",), ("text",))
    assert got.output == OutputFormat(kind="schema", schema={"type": "string", "enum": ["a"]})
    assert got.reasoning == ReasoningWish(enabled=True, budget=2048, shown=True)


def snake(value: Any) -> Any:
    """The other spelling, as Google's SDK dumps it: not below what is the client's own."""
    if isinstance(value, list):
        return [snake(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        "".join("_" + c.lower() if c.isupper() else c for c in name): (
            one if name in ("args", "response", "properties") else snake(one)
        )
        for name, one in value.items()
    }


def test_read_the_other_spelling() -> None:
    """Names with underscores say the same."""
    plain, other = read(FULL)[0], read(snake(FULL))[0]
    assert plain.turns[:2] == other.turns[:2]
    assert (plain.tools, plain.tool_choice) == (other.tools, other.tool_choice)
    assert (plain.sampling, plain.output, plain.reasoning) == (
        other.sampling,
        other.output,
        other.reasoning,
    )


def test_schema_is_what_google_means_by_it() -> None:
    """Google's own converter reads a schema of the subset as we do."""
    body = {"contents": [], "generationConfig": {"responseSchema": SCHEMA}}
    output = read(body)[0].output
    judge = types.Schema.model_validate(SCHEMA).json_schema
    assert output is not None
    assert output.schema == json.loads(judge.model_dump_json(exclude_none=True, by_alias=True))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"contents": "hi"}, "contents"),
        ({"contents": [3]}, "contents[0]"),
        ({"contents": [{"role": "robot"}]}, "contents[0].role"),
        ({"contents": [{"parts": [{"text": 5}]}]}, "contents[0].parts[0].text"),
        (
            {"contents": [{"parts": [{"functionCall": {}}]}]},
            "contents[0].parts[0].functionCall.name",
        ),
        ({"contents": [{"parts": [{"inlineData": {}}]}]}, "contents[0].parts[0].inlineData.data"),
        ({"generationConfig": {"temperature": "x"}}, "generationConfig.temperature"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "X"}}},
            "toolConfig.functionCallingConfig.mode",
        ),
        ({"systemInstruction": 7}, "systemInstruction"),
    ],
)
def test_wrong_types(change: dict[str, Any], param: str) -> None:
    """A wrong type is refused with its path."""
    with pytest.raises(InvalidRequest) as caught:
        read({"contents": []} | change)
    assert caught.value.param == param


NAMES = [
    "contents",
    "parts",
    "text",
    "role",
    "functionCall",
    "functionResponse",
    "response",
    "inlineData",
    "name",
    "args",
    "tools",
    "functionDeclarations",
    "parameters",
    "generationConfig",
    "thinkingConfig",
    "responseSchema",
    "systemInstruction",
    "toolConfig",
    "functionCallingConfig",
    "mode",
    "thoughtSignature",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "user", "x", "OBJECT"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(NAMES),
        inner,
        max_size=3,
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(JSON, JSON, JSON)
def test_any_json_is_read_or_refused(contents: Any, config: Any, tools: Any) -> None:
    """Whatever JSON comes, nothing but InvalidRequest is raised."""
    for body in (
        {"contents": contents, "generationConfig": config, "tools": tools},
        {"contents": [{"parts": [contents]}], "systemInstruction": config, "toolConfig": tools},
    ):
        with contextlib.suppress(InvalidRequest):
            asked = read(body)[0]
            assert GEMINI_CODEC.write_request(asked, "g", Abilities(), Losses())["contents"]


def test_what_only_google_has_is_named() -> None:
    """Nothing is dropped in silence."""
    body = {
        "contents": [
            {"parts": [{"executableCode": {"code": "1"}}, {"text": "a", "videoMetadata": {}}]}
        ],
        "cachedContent": "c",
        "safetySettings": [],
        "labels": {"a": "b"},
        "generationConfig": {"speechConfig": {}, "mediaResolution": "LOW"},
        "brandNew": 1,
    }
    got, lost = read(body)
    assert set(lost) == {
        "contents[0].parts[0].executableCode",
        "contents[0].parts[1].videoMetadata",
        "cachedContent",
        "safetySettings",
        "generationConfig.speechConfig",
        "generationConfig.mediaResolution",
        "brandNew",
    }
    assert got.metadata == {"a": "b"}


def test_write_turns() -> None:
    """Two roles, instructions apart, results by name in one user's content after the calls."""
    body, lost = write(
        Turn(role="system", parts=(Text(text="one"),)),
        Turn(role="developer", parts=(Text(text="two"),)),
        user("hi"),
        user("there"),
        model(
            ToolCall(id="a", name="f", arguments='{"x":1}'),
            ToolCall(id="b", name="g", arguments=""),
        ),
        results(
            ToolResult(id="a", parts=(Text(text='{"r": 1}'),)),
            ToolResult(id="b", parts=(Text(text="no"),), is_error=True),
        ),
    )
    assert lost == []
    assert body["systemInstruction"] == {"parts": [{"text": "one"}, {"text": "two"}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "hi"}, {"text": "there"}]},
        {
            "role": "model",
            "parts": [
                {
                    "functionCall": {"id": "a", "name": "f", "args": {"x": 1}},
                    "thoughtSignature": SKIP,
                },
                {"functionCall": {"id": "b", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "a", "name": "f", "response": {"r": 1}}},
                {"functionResponse": {"id": "b", "name": "g", "response": {"error": "no"}}},
            ],
        },
    ]


def calls(*signatures: Signature | None) -> Turn:
    return model(
        *(
            ToolCall(id=f"c{at}", name="f", signature=signature)
            for at, signature in enumerate(signatures)
        )
    )


@pytest.mark.parametrize(
    ("turns", "can", "signatures"),
    [
        ((user("a"), calls(None, None)), Abilities(), [SKIP, None]),
        ((user("a"), calls(SIGNED, None)), Abilities(), [SIGNED.value, None]),
        ((user("a"), calls(FOREIGN)), Abilities(), [SKIP]),
        ((user("a"), calls(None), user("b")), Abilities(), [None]),
        ((user("a"), calls(None)), Abilities(reasoning=("budget",)), [None]),
        ((user("a"), calls(None)), Abilities(reasoning=()), [None]),
    ],
)
def test_signatures_of_calls(
    turns: tuple[Turn, ...], can: Abilities, signatures: list[str | None]
) -> None:
    """Only a first call of the current turn, for a model that checks, gets Google's stand-in."""
    body, _ = write(*turns, can=can)
    parts = [part for content in body["contents"] for part in content["parts"]]
    assert [p.get("thoughtSignature") for p in parts if "functionCall" in p] == signatures


def test_late_instructions() -> None:
    """An instruction in the middle goes as marked text, and that is announced."""
    body, lost = write(user("a"), Turn(role="system", parts=(Text(text="b"),)))
    assert body["contents"][0]["parts"][1] == {"text": "<system>\nb\n</system>"}
    assert lost == [("messages[1].role", False)]


def test_instructions_alone() -> None:
    """Google refuses a request without contents, so instructions alone are the user's."""
    body, _ = write(Turn(role="system", parts=(Text(text="b"),)))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "b"}]}]}


@pytest.mark.parametrize(
    "turns",
    [
        (results(ToolResult(id="x", parts=())),),
        (model(ToolCall(id="x", name="f", arguments="[1]")),),
        (model(ToolCall(id="x", name="f", arguments="{nope")),),
        (model(ToolCall(id="x", name="f" * 65)),),
    ],
)
def test_history_that_google_could_not_read(turns: tuple[Turn, ...]) -> None:
    """A result without its call, arguments that are no object and endless names are refused."""
    with pytest.raises(InvalidRequest):
        write(*turns)


@pytest.mark.parametrize("name", ["f", "a.b:c-d_e", "7zip", "-x", "a b", "näme", "lpn_x", "x" * 64])
def test_names_of_functions(name: str) -> None:
    """A name that Google refuses is coded, and comes back as it was."""
    body, _ = write(tools=(Tool(name=name),))
    sent = body["tools"][0]["functionDeclarations"][0]
    assert sent["parametersJsonSchema"] == {"type": "object", "properties": {}}
    back = GEMINI_CODEC.read_answer(called(sent["name"])).choices[0].parts[0]
    assert isinstance(back, ToolCall)
    assert back.name == name


def called(name: str) -> dict[str, Any]:
    part = {"functionCall": {"name": name}}
    return {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}


IMAGE = Media(kind="image", source=Source(kind="base64", data=PIXEL))
REMOTE = Media(kind="image", source=Source(kind="url", data="https://x.test/a.png?b=c"))


@pytest.mark.parametrize(
    ("media", "can", "part"),
    [
        (IMAGE, Abilities(), {"inlineData": {"mimeType": "image/png", "data": PIXEL}}),
        (IMAGE, Abilities(images=False), None),
        (
            REMOTE,
            Abilities(),
            {"fileData": {"mimeType": "image/png", "fileUri": REMOTE.source.data}},
        ),
        (REMOTE, Abilities(image_urls=False), None),
        (
            Media(kind="image", source=Source(kind="url", data="https://x.test/a")),
            Abilities(),
            None,
        ),
        (Media(kind="file", source=Source(kind="file", data="file-1")), Abilities(), None),
        (
            Media(kind="file", source=Source(kind="text", data="hi")),
            Abilities(),
            {"inlineData": {"mimeType": "text/plain", "data": "aGk="}},
        ),
    ],
)
def test_media(media: Media, can: Abilities, part: dict[str, Any] | None) -> None:
    """A picture goes in a form that the model takes, or is a grave loss."""
    body, lost = write(user("look", media), can=can)
    parts = body["contents"][0]["parts"]
    assert parts[1:] == ([] if part is None else [part])
    assert lost == ([("messages[0].content[1]", True)] if part is None else [])


@pytest.mark.parametrize(
    ("wish", "ways", "config"),
    [
        (
            ReasoningWish(effort="low"),
            ("effort",),
            {"includeThoughts": True, "thinkingLevel": "LOW"},
        ),
        (
            ReasoningWish(effort="max"),
            ("effort",),
            {"includeThoughts": True, "thinkingLevel": "XHIGH"},
        ),
        (ReasoningWish(effort="low", shown=False), ("budget",), {"thinkingBudget": 2048}),
        (ReasoningWish(budget=9000, shown=False), ("effort",), {"thinkingLevel": "HIGH"}),
        (ReasoningWish(budget=9000, shown=False), ("effort", "budget"), {"thinkingBudget": 9000}),
        (ReasoningWish(budget=5, shown=False), ("budget",), {"thinkingBudget": 1024}),
        (ReasoningWish(enabled=True, shown=False), ("budget",), {"thinkingBudget": -1}),
        (ReasoningWish(enabled=False), ("budget",), {"thinkingBudget": 0}),
        (ReasoningWish(effort="none"), ("effort",), {"thinkingLevel": "MINIMAL"}),
        (ReasoningWish(effort="high"), (), None),
    ],
)
def test_thinking(
    wish: ReasoningWish, ways: tuple[str, ...], config: dict[str, Any] | None
) -> None:
    """How much to think is said in the one way that the model takes."""
    body, _ = write(reasoning=wish, can=Abilities(reasoning=ways))
    assert body.get("generationConfig", {}).get("thinkingConfig") == config


def test_what_google_lacks_is_named() -> None:
    """Hints are announced, and what changes the answer is grave."""
    _, lost = write(
        user=("u"),
        sampling=Sampling(logit_bias={"1": 2}, seed=3),
        stop=tuple("abcdef"),
        n=2,
        parallel=False,
        store=False,
        tools=(Tool(name="web_search", kind="web_search_20250305"), Tool(name="c", kind="custom")),
        output=OutputFormat(kind="schema", schema={}),
        can=Abilities(seed=False, many_answers=False, json_schema=False),
    )
    assert set(lost) == {
        ("user", False),
        ("logit_bias", False),
        ("seed", False),
        ("stop", False),
        ("n", True),
        ("parallel_tool_calls", False),
        ("store", False),
        ("tools[0]", True),
        ("tools[1]", True),
        ("response_format", True),
    }


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
ids = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
objects = st.dictionaries(texts, st.integers() | texts | st.booleans(), max_size=3)
signed = st.sampled_from([None, SIGNED])


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """What Gemini's request carries; not: names, marks, foreign signatures, unsigned thoughts."""
    turns: list[Turn] = []
    if draw(st.booleans()):
        turns.append(Turn(role="system", parts=(Text(text=draw(texts)),)))
    for at in range(draw(st.integers(1, 2))):
        turns.append(
            user(
                draw(texts),
                Media(
                    kind="audio", source=Source(kind="base64", data="AA==", media_type="audio/wav")
                ),
            )
        )
        call = ToolCall(
            id=f"{draw(ids)}{at}",
            name=draw(ids),
            arguments=json.dumps(draw(objects), separators=(",", ":"), ensure_ascii=False),
            signature=SIGNED,
        )
        turns.append(model(Text(text=draw(texts), signature=draw(signed)), call))
        result = ToolResult(
            id=call.id,
            name=call.name,
            parts=(Text(text=draw(texts)),),
            is_error=draw(st.booleans()),
        )
        turns.append(results(result))
    return Conversation(
        model="",
        turns=tuple(turns),
        tools=(Tool(name="f", description=draw(texts), parameters={"type": "object"}),),
        tool_choice=draw(
            st.sampled_from([None, ToolChoice(mode="required"), ToolChoice(mode="none")])
        ),
        max_tokens=draw(st.none() | st.integers(1, 99)),
        sampling=Sampling(
            temperature=draw(st.none() | st.floats(0, 2)), seed=draw(st.none() | st.integers(0, 9))
        ),
        stop=tuple(draw(st.lists(texts, max_size=5))),
        output=draw(
            st.sampled_from(
                [
                    None,
                    OutputFormat(kind="json"),
                    OutputFormat(kind="schema", schema={"type": "object"}),
                ]
            )
        ),
        reasoning=draw(
            st.sampled_from([None, ReasoningWish(enabled=True, effort="low", shown=True)])
        ),
        include_usage=True,
    )


@settings(max_examples=25, deadline=None)
@given(conversations())
def test_request_there_and_back(asked: Conversation) -> None:
    """What Google's request can carry comes back as it was."""
    losses = Losses()
    body = GEMINI_CODEC.write_request(asked, "g", Abilities(), losses)
    judged(body)
    assert losses.all == []
    assert read(json.loads(json.dumps(body)))[0] == asked


PARTS = st.one_of(
    st.builds(Text, text=texts, signature=st.just(SIGNED) | st.just(FOREIGN)),
    st.builds(Reasoning, text=texts, signature=st.just(FOREIGN)),
    st.builds(Reasoning, redacted=st.just(True), signature=st.just(FOREIGN)),
    st.builds(
        ToolCall,
        id=ids,
        name=ids,
        arguments=objects.map(lambda o: json.dumps(o, separators=(",", ":"), ensure_ascii=False)),
        signature=st.sampled_from([None, SIGNED, FOREIGN]),
    ),
    st.just(Media(kind="image", source=Source(kind="base64", data=PIXEL, media_type="image/png"))),
)
"""Not: neighbouring texts without signatures, which Google's readers join."""


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    many = []
    for _ in range(draw(st.integers(1, 2))):
        parts = tuple(draw(st.lists(PARTS, max_size=4)))
        called = any(isinstance(part, ToolCall) for part in parts)
        ends: list[StopReason] = ["length", "content_filter", "tool_calls" if called else "end"]
        many.append(Choice(parts=parts, stop=draw(st.sampled_from(ends))))
    usage = Usage(
        30, 20, draw(st.integers(0, 30)), draw(st.integers(0, 20)), True, image_input_tokens=3
    )
    return Answer(id="r1", model="mine", choices=tuple(many), usage=usage)


@settings(max_examples=40, deadline=None)
@given(answers(), st.integers(0, 400))
def test_answer_there_and_back(said: Answer, cut: int) -> None:
    """Whole or streamed, in any pieces, an answer comes back as it was, and Google reads it."""
    whole = GEMINI_CODEC.write_answer(said, TOLD)
    types.GenerateContentResponse.model_validate(whole)
    assert GEMINI_CODEC.read_answer(whole) == said
    data = streamed(events_of(said))
    for event in EventSplitter().feed(data):
        types.GenerateContentResponse.model_validate_json(event.data or b"")
    assert heard(data, cut) == said


def test_sdk_reads_a_whole_answer() -> None:
    """Google's own client finds text, thoughts, calls and usage where it looks for them."""
    said = answer(
        Reasoning(text="hm", signature=FOREIGN),
        Text(text="hello"),
        ToolCall(id="c1", name="f", arguments='{"a":1}'),
        stop="tool_calls",
        usage=Usage(10, 9, 4, 5, True),
    )
    body = json.dumps(GEMINI_CODEC.write_answer(said, TOLD)).encode()
    with client(body, "application/json") as google:
        got = google.models.generate_content(model="mine", contents="hi")
    assert (got.text, got.model_version, got.response_id) == ("hello", "mine", "r1")
    assert got.function_calls == [types.FunctionCall(id="c1", name="f", args={"a": 1})]
    assert got.usage_metadata is not None
    assert got.usage_metadata.thoughts_token_count == 5
    # What the client keeps of a foreign signature comes back as that signature.
    kept = got.candidates[0].content.model_dump(mode="json", exclude_none=True)  # type: ignore[index,union-attr]
    again = read({"contents": [kept]})[0].turns[0].parts[0]
    assert again == Reasoning(text="hm", signature=FOREIGN)


def test_sdk_reads_a_stream() -> None:
    """Google's own client gets the text in pieces, calls whole, and the end with the usage."""
    said = answer(
        Text(text="hel"), ToolCall(id="c1", name="f", arguments='{"a":[1,2]}'), stop="tool_calls"
    )
    with client(streamed(events_of(said)), "text/event-stream") as google:
        chunks = list(google.models.generate_content_stream(model="mine", contents="hi"))
    assert chunks[0].text == "hel"
    assert [one.args for chunk in chunks for one in chunk.function_calls or ()] == [{"a": [1, 2]}]
    last = chunks[-1]
    assert last.candidates is not None
    assert last.candidates[0].finish_reason == types.FinishReason.STOP
    assert last.usage_metadata is not None
    assert last.usage_metadata.total_token_count == 5
    assert {chunk.response_id for chunk in chunks} == {"r1"}


def chunk(*parts: dict[str, Any], finish: str | None = None, **said: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}} | said
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "r1", "modelVersion": "g"}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)


@pytest.mark.parametrize(
    ("word", "stop"),
    [
        ("STOP", "end"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("SPII", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
    ],
)
def test_ends(word: str, stop: str) -> None:
    """Google's reasons have our names."""
    assert GEMINI_CODEC.read_answer(chunk({"text": "a"}, finish=word)).choices[0].stop == stop


@pytest.mark.parametrize("word", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER"])
def test_a_model_that_stumbles(word: str) -> None:
    """An answer that the model could not make is a failure that another try may heal."""
    with pytest.raises(UpstreamFailed) as caught:
        heard(sse(chunk({"text": "a"}), chunk(finish=word)))
    assert caught.value.retryable


def test_every_finish_reason_is_decided() -> None:
    """No reason that Google's SDK knows leads to a crash."""
    for word in types.FinishReason:
        with contextlib.suppress(UpstreamFailed, UpstreamProtocolError):
            got = GEMINI_CODEC.read_answer(chunk({"text": "a"}, finish=word.value))
            assert got.choices[0].stop in get_args(StopReason)


def test_blocked_prompt() -> None:
    """A 200 that says that the prompt was blocked is a refusal by content policy."""
    with pytest.raises(UpstreamRejected) as caught:
        GEMINI_CODEC.read_answer({"promptFeedback": {"blockReason": "SAFETY"}})
    assert (caught.value.upstream_code, caught.value.reason) == ("content_filter", "content_policy")


def test_several_ends_in_one_stream() -> None:
    """Ends that are repeated before the last event are one, behind everything that was said."""
    call = {"functionCall": {"name": "f", "args": {}}}
    got = heard(
        sse(
            chunk(call, finish="STOP"),
            chunk(call, finish="STOP"),
            chunk({"text": ""}, finish="STOP"),
        )
    )
    first, second = got.choices[0].parts
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first.id != second.id
    assert got.choices[0].stop == "tool_calls"


def test_signature_behind_the_text() -> None:
    """A signature that comes with an empty text belongs to the text before it."""
    got = heard(
        sse(
            chunk({"text": "a"}), chunk({"text": "", "thoughtSignature": "c2lnbmVk"}, finish="STOP")
        )
    )
    assert got.choices[0].parts == (Text(text="a", signature=SIGNED),)


def test_streams_that_break() -> None:
    """No end, an error and nonsense are told as what they are."""
    with pytest.raises(UpstreamDisconnected):
        heard(sse(chunk({"text": "a"})))
    with pytest.raises(UpstreamThrottled):
        heard(sse(chunk({"text": "a"}), {"error": {"code": 429, "message": "slow"}}))
    with pytest.raises(UpstreamProtocolError):
        heard(b"data: nope\n\n")
    with pytest.raises(UpstreamProtocolError):
        GEMINI_CODEC.read_answer({"candidates": [{"content": {"parts": 3}}]})
    with pytest.raises(UpstreamProtocolError):
        GEMINI_CODEC.read_answer({})


def test_nothing_follows_an_error() -> None:
    """A broken stream says so once."""
    reader = GEMINI_CODEC.stream_reader()
    data = json.dumps({"error": {"code": 503, "message": "full"}}).encode()
    (event,) = reader.read(Frame(data))
    assert isinstance(event, Broken)
    assert (reader.read(Frame(data)), reader.end()) == ([], [])


def test_grounding() -> None:
    """Sources of the web become citations, counted in characters, and go back in bytes."""
    ground = {
        "groundingChunks": [{"web": {"uri": "https://x.test", "title": "X"}}],
        "groundingSupports": [
            {
                "segment": {"startIndex": 2, "endIndex": 5, "text": "abc"},
                "groundingChunkIndices": [0],
            }
        ],
    }
    body = chunk({"text": "éabc"}, finish="STOP", groundingMetadata=ground)
    got = GEMINI_CODEC.read_answer(body)
    cited = Citation(kind="url", url="https://x.test", title="X", start=1, end=4)
    assert got.choices[0].parts == (Text(text="éabc", citations=(cited,)),)
    assert heard(streamed(events_of(got))).choices == got.choices
    again = GEMINI_CODEC.write_answer(got, TOLD)["candidates"][0]["groundingMetadata"]
    assert types.GroundingMetadata.model_validate(again) == types.GroundingMetadata.model_validate(
        ground
    )


def test_logprobs() -> None:
    """Likelihoods take OpenAI's shape, and Google's again."""
    one = {"token": "hé", "logProbability": -0.5}
    told = {"chosenCandidates": [one], "topCandidates": [{"candidates": [one]}]}
    got = GEMINI_CODEC.read_answer(chunk({"text": "hé"}, finish="STOP", logprobsResult=told))
    content = got.choices[0].logprobs["content"]
    assert content[0]["bytes"] == [104, 195, 169]
    assert content[0]["top_logprobs"][0]["logprob"] == -0.5
    assert GEMINI_CODEC.write_answer(got, TOLD)["candidates"][0]["logprobsResult"] == told
    assert heard(streamed(events_of(got))).choices == got.choices


def test_arguments_that_were_cut_off() -> None:
    """A call that a cap cut off is no object: its text is kept in one."""
    said = answer(ToolCall(id="c", name="f", arguments='{"a'), stop="length")
    body = GEMINI_CODEC.write_answer(said, TOLD)
    types.GenerateContentResponse.model_validate(body)
    assert body["candidates"][0]["content"]["parts"][0]["functionCall"]["args"] == {"_raw": '{"a'}


@pytest.mark.parametrize("count", [-1, 2.5, "x", 10**12])
def test_absurd_usage(count: Any) -> None:
    """Counts that can't be are as good as none."""
    body = chunk({"text": "a"}, finish="STOP") | {"usageMetadata": {"promptTokenCount": count}}
    assert GEMINI_CODEC.read_answer(body).usage == Usage()


def interleaved() -> list[Any]:
    """Two parts of an answer that take turns."""
    return [
        Begun(id="r1", model="mine"),
        Opened(index=0, part=Reasoning()),
        Opened(index=1, part=Text(text="")),
        Piece(index=0, text="h"),
        Piece(index=1, text="a"),
        Piece(index=0, text="m"),
        Closed(index=0),
        Piece(index=1, text="b"),
        Closed(index=1),
        Finished(stop="end"),
    ]


def test_parts_that_take_turns() -> None:
    """Each part of an answer is told as one stretch."""
    assert heard(streamed(interleaved())).choices[0].parts == (
        Reasoning(text="hm"),
        Text(text="ab"),
    )


def sdk_config() -> types.GenerateContentConfig:
    declared = types.FunctionDeclaration(
        name="f", description="does", parameters=types.Schema.model_validate(SCHEMA)
    )
    return types.GenerateContentConfig(
        system_instruction="be brief",
        temperature=0.5,
        top_k=4,
        stop_sequences=["END"],
        response_mime_type="application/json",
        response_json_schema={"type": "object"},
        thinking_config=types.ThinkingConfig(
            include_thoughts=True, thinking_level=types.ThinkingLevel.LOW
        ),
        tools=[types.Tool(function_declarations=[declared])],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY
            )
        ),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )


def sdk_history() -> list[types.Content]:
    return [
        types.Content(role="user", parts=[types.Part.from_text(text="hi")]),
        types.Content(
            role="model",
            parts=[
                types.Part(
                    function_call=types.FunctionCall(id="c", name="f", args={"a": 1}),
                    thought_signature=b"signed",
                )
            ],
        ),
        types.Content(
            role="user", parts=[types.Part.from_function_response(name="f", response={"r": 1})]
        ),
    ]


def test_sdk_request_is_understood() -> None:
    """What Google's own client sends loses nothing on its way there and back."""
    sent: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(200, json=chunk({"text": "a"}, finish="STOP"))

    options = types.HttpOptions(client_args={"transport": httpx.MockTransport(handle)})
    with genai.Client(api_key="k", http_options=options) as google:
        google.models.generate_content(model="mine", contents=sdk_history(), config=sdk_config())
    body = json.loads(sent[0])
    asked, lost = read(body)
    assert lost == []
    assert [turn.role for turn in asked.turns] == ["system", "user", "assistant", "tool"]
    assert asked.turns[2].parts == (
        ToolCall(id="c", name="f", arguments='{"a":1}', signature=SIGNED),
    )
    assert asked.turns[3].parts[0].id == "c"  # type: ignore[union-attr]
    assert asked.tool_choice == ToolChoice(mode="required")
    assert asked.reasoning == ReasoningWish(enabled=True, effort="low", shown=True)
    losses = Losses()
    again = GEMINI_CODEC.write_request(asked, "g", Abilities(), losses)
    judged(again)
    assert (losses.all, read(again)[0]) == ([], asked)
