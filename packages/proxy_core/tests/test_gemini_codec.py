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
from proxy_core.dialects import CODECS
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Answer,
    Begun,
    Broken,
    CacheMark,
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
from proxy_core.dialects._codec import Frame, Losses, Told
from proxy_core.dialects._fold import events_of, folded
from proxy_core.dialects._gemini import GEMINI_CODEC
from proxy_core.dialects._sse import EventSplitter
from proxy_core.dialects._translate import judged as refused
from proxy_core.errors import (
    InvalidRequest,
    NotCarried,
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
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "HI"}}},
            "generationConfig.thinkingConfig.thinkingLevel",
        ),
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
            losses = Losses()
            assert GEMINI_CODEC.write_request(asked, "g", Abilities(), losses)["contents"] or (
                "messages" in [loss.field for loss in losses.all]
            )


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


@pytest.mark.parametrize(
    "uri",
    [
        "gs://bucket/x.png",
        "https://generativelanguage.googleapis.com/v1beta/files/abc",
        "files/abc",
    ],
)
@pytest.mark.parametrize("upstream", ["anthropic.messages", "openai.chat", "openai.responses"])
def test_a_file_at_google_is_not_another_provider_s(upstream: str, uri: str) -> None:
    """Nobody else can read it: the error says what to send instead, and no id is made of it."""
    part = types.Part.from_uri(file_uri=uri, mime_type="image/png")
    told = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    losses = Losses()
    asked = GEMINI_CODEC.read_request({"contents": [{"parts": [{"text": "Hi"}, told]}]}, losses)
    body = CODECS[upstream].write_request(asked, "m", Abilities(), losses)
    assert uri not in json.dumps(body)
    with pytest.raises(
        NotCarried, match=r"Send its bytes as inlineData, or an http\(s\)"
    ) as caught:
        refused(losses.all, "refuse", upstream)
    assert caught.value.param == "contents[0].parts[1].fileData.fileUri"


def test_a_public_address_is_one_elsewhere_too() -> None:
    """``from_uri`` with an address that anybody can read is a picture by its address."""
    part = types.Part.from_uri(file_uri="https://example.com/x.png", mime_type="image/png")
    told = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    losses = Losses()
    asked = GEMINI_CODEC.read_request({"contents": [{"parts": [told]}]}, losses)
    body = CODECS["anthropic.messages"].write_request(asked, "m", Abilities(), losses)
    source = {"type": "url", "url": "https://example.com/x.png"}
    assert body["messages"][0]["content"] == [{"type": "image", "source": source}]
    assert losses.all == []


EVERY_FIELD: dict[str, Any] = {
    "model": "models/mine",
    "serviceTier": "FLEX",
    "store": True,
    "labels": {"team": "a"},
    "systemInstruction": {"role": "user", "parts": [{"text": "be brief"}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "look", "thought": False, "thoughtSignature": "c2lnbmVk"},
                {"inlineData": {"mimeType": "audio/wav", "data": "AA==", "displayName": "a.wav"}},
                {
                    "fileData": {
                        "mimeType": "video/mp4",
                        "fileUri": "https://x.test/a",
                        "displayName": "b",
                    }
                },
            ],
        },
        {
            "role": "model",
            "parts": [{"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}}],
        },
        {
            "role": "function",
            "parts": [
                {
                    "functionResponse": {
                        "id": "c1",
                        "name": "f",
                        "response": {"output": "ok"},
                        "parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}],
                    }
                }
            ],
        },
    ],
    "tools": [
        {
            "functionDeclarations": [
                {"name": "f", "description": "does", "parameters": {"type": "OBJECT"}},
                {"name": "g", "parametersJsonSchema": {"type": "object"}},
            ]
        }
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": FULL["generationConfig"]
    | {
        "responseJsonSchema": {"type": "string"},
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 8, "thinkingLevel": "LOW"},
    },
}
"""A request in which each field stands that is read."""
OWN_JSON = ("args", "response", "parameters", "parametersJsonSchema", "labels")
OWN_SCHEMAS = ("responseSchema", "responseJsonSchema")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[tuple[Any, ...], Any]]:
    """All values of a JSON and the ways to them; nothing below what is the client's own."""
    yield path, value
    if path and path[-1] in (*OWN_JSON, *OWN_SCHEMAS):
        return
    inner: Iterable[Any] = value.items() if isinstance(value, dict) else ()
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


UNREAD = [("systemInstruction", "role"), ("generationConfig", "responseSchema")]
"""What is passed over: a role that can be but one, and the older of two schemas."""


@pytest.mark.parametrize("path", [path for path, _ in PLACES if path not in UNREAD], ids=named)
def test_a_wrong_type_is_named_wherever_it_stands(path: tuple[Any, ...]) -> None:
    """Every field that is read has its type, and its full path when it is refused."""
    value = dict(PLACES)[path]
    wrong: Any = 7.5 if isinstance(value, dict | list | str | bool) else "much"
    with pytest.raises(InvalidRequest) as caught:
        read(changed(EVERY_FIELD, path, wrong))
    assert caught.value.param == named(path)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path, value in [((), EVERY_FIELD), *PLACES]
        if isinstance(value, dict) and (not path or path[-1] not in (*OWN_JSON, *OWN_SCHEMAS))
    ],
    ids=named,
)
def test_an_unknown_field_is_named_wherever_it_stands(path: tuple[Any, ...]) -> None:
    """What the translation doesn't know is announced by its path, and no known field is."""
    assert read(EVERY_FIELD)[1] == []
    added = changed(EVERY_FIELD, (*path, "brandNew"), 1)
    assert read(added)[1] == [named((*path, "brandNew"))]


def test_every_field_is_read() -> None:
    """Each field that Google's types know and we read has its place in the canonical form."""
    types.Content.model_validate(EVERY_FIELD["contents"][0])
    got, lost = read(EVERY_FIELD)
    assert lost == []
    assert (got.model, got.service_tier, got.store) == ("mine", "flex", True)
    assert (got.metadata, got.include_usage, got.stream) == ({"team": "a"}, True, False)
    assert got.turns[0] == Turn(role="system", parts=(Text(text="be brief"),))
    assert got.turns[1].parts == (
        Text(text="look", signature=SIGNED),
        Media(
            kind="audio",
            source=Source(kind="base64", data="AA==", media_type="audio/wav"),
            name="a.wav",
        ),
        Media(
            kind="video",
            source=Source(kind="url", data="https://x.test/a", media_type="video/mp4"),
            name="b",
        ),
    )
    picture = Source(kind="base64", data=PIXEL, media_type="image/png")
    parts = (Text(text="ok"), Media(kind="image", source=picture))
    assert got.turns[3] == results(ToolResult(id="c1", name="f", parts=parts))
    assert got.tools == (
        Tool(name="f", description="does", parameters={"type": "object"}),
        Tool(name="g", parameters={"type": "object"}),
    )
    assert got.output == OutputFormat(kind="schema", schema={"type": "string"})
    assert got.reasoning == ReasoningWish(enabled=True, effort="low", budget=8, shown=True)


def test_a_request_that_says_nothing_else() -> None:
    """What a client leaves out is left to the provider."""
    got, lost = read({"contents": [{"parts": [{"text": "hi"}]}]})
    assert (got, lost) == (Conversation(model="", turns=(user("hi"),), include_usage=True), [])


@pytest.mark.parametrize(
    ("config", "output", "lost"),
    [
        ({"responseMimeType": "text/plain"}, None, []),
        ({"responseMimeType": "application/json"}, OutputFormat(kind="json"), []),
        ({"responseMimeType": "text/x.enum"}, None, ["generationConfig.responseMimeType"]),
        ({"responseSchema": {"type": "STRING"}}, {"type": "string"}, []),
    ],
)
def test_forms_of_the_output(config: dict[str, Any], output: Any, lost: list[str]) -> None:
    """JSON with and without a schema is known, and no form of its own but text."""
    got, told = read({"contents": [], "generationConfig": config})
    wanted = OutputFormat(kind="schema", schema=output) if isinstance(output, dict) else output
    assert (got.output, told) == (wanted, lost)


@pytest.mark.parametrize(
    ("config", "wish"),
    [
        ({}, ReasoningWish()),
        ({"thinkingBudget": 0}, ReasoningWish(enabled=False)),
        ({"thinkingBudget": -1}, ReasoningWish(enabled=True)),
        ({"thinkingBudget": 1}, ReasoningWish(enabled=True, budget=1)),
        ({"thinkingLevel": "HIGH"}, ReasoningWish(enabled=True, effort="high")),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, ReasoningWish()),
        ({"includeThoughts": False}, ReasoningWish(shown=False)),
    ],
)
def test_wishes_for_thinking(config: dict[str, Any], wish: ReasoningWish) -> None:
    """Nothing is no thinking, -1 as much as the model likes, and a level is an effort."""
    types.ThinkingConfig.model_validate(config)
    asked = {"contents": [], "generationConfig": {"thinkingConfig": config}}
    assert read(asked)[0].reasoning == wish


CALLING = "toolConfig.functionCallingConfig"


@pytest.mark.parametrize(
    ("config", "choice", "lost"),
    [
        ({}, None, []),
        ({"functionCallingConfig": {}}, None, []),
        ({"functionCallingConfig": {"mode": "MODE_UNSPECIFIED"}}, None, []),
        ({"functionCallingConfig": {"mode": "AUTO"}}, ToolChoice(mode="auto"), []),
        ({"functionCallingConfig": {"mode": "NONE"}}, ToolChoice(mode="none"), []),
        ({"functionCallingConfig": {"mode": "ANY"}}, ToolChoice(mode="required"), []),
        (
            {"functionCallingConfig": {"mode": "VALIDATED"}},
            ToolChoice(mode="auto"),
            [f"{CALLING}.mode"],
        ),
        (
            {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["f"]}},
            ToolChoice(mode="auto"),
            [f"{CALLING}.allowedFunctionNames"],
        ),
        (
            {"functionCallingConfig": {"mode": "NONE", "allowedFunctionNames": ["f"]}},
            ToolChoice(mode="none"),
            [f"{CALLING}.allowedFunctionNames"],
        ),
    ],
)
def test_choices_of_tools(
    config: dict[str, Any], choice: ToolChoice | None, lost: list[str]
) -> None:
    """Each mode of Google's has its canonical word, and what goes with none is announced."""
    types.ToolConfig.model_validate(config)
    got, told = read({"contents": [], "toolConfig": config})
    assert (got.tool_choice, told) == (choice, lost)


def grave_of(body: dict[str, Any]) -> list[tuple[str, bool]]:
    losses = Losses()
    GEMINI_CODEC.read_request({"contents": []} | body, losses)
    assert all(loss.why for loss in losses.all)
    return [(loss.field, loss.grave) for loss in losses.all]


@pytest.mark.parametrize(
    ("body", "field", "grave"),
    [
        ({"tools": [{"brandNew": {}}]}, "tools[0].brandNew", True),
        ({"tools": [{"functionDeclarations": [{"name": "f", "behavior": "BLOCKING"}]}]}, None, 0),
        ({"cachedContent": "c"}, "cachedContent", True),
        ({"safetySettings": [{}]}, "safetySettings", False),
        (
            {"systemInstruction": {"parts": [{"text": "a"}, {"inlineData": {"data": "AA=="}}]}},
            "systemInstruction.parts[1]",
            True,
        ),
        ({"contents": [{"parts": [{"newPart": {}}]}]}, "contents[0].parts[0].newPart", True),
        (
            {"contents": [{"parts": [{"thought": True, "newPart": {}}]}]},
            "contents[0].parts[0].newPart",
            True,
        ),
        (
            {
                "contents": [
                    {"parts": [{"functionResponse": {"name": "f"}, "thoughtSignature": "c2lnbmVk"}]}
                ]
            },
            "contents[0].parts[0].functionResponse.thoughtSignature",
            False,
        ),
        ({"generationConfig": {"responseMimeType": "a/b"}}, "generationConfig.responseMimeType", 1),
    ],
)
def test_what_has_no_like_elsewhere(body: dict[str, Any], field: str | None, grave: bool) -> None:
    """A part or a tool that only Google has is a grave loss; a threshold or a proof is not."""
    wanted = field or "tools[0].functionDeclarations[0].behavior"
    assert grave_of(body) == [(wanted, bool(grave))]


@pytest.mark.parametrize(
    ("response", "text", "failed"),
    [
        ({"result": "a"}, "a", False),
        ({"output": "a"}, "a", False),
        ({"error": "a"}, "a", True),
        ({"error": {"a": 1}}, '{"error":{"a":1}}', False),
        ({"other": "a"}, '{"other":"a"}', False),
        ({"result": "a", "b": 1}, '{"result":"a","b":1}', False),
        ({}, None, False),
        (None, None, False),
    ],
)
def test_results_of_functions(response: Any, text: str | None, failed: bool) -> None:
    """A lone word of Google's is unwrapped, and any other object stays one."""
    part = {"functionResponse": {"name": "f", "id": "c", "response": response}}
    (turn,) = read({"contents": [{"parts": [part]}]})[0].turns
    parts = () if text is None else (Text(text=text),)
    assert turn == results(ToolResult(id="c", name="f", parts=parts, is_error=failed))
    if text is not None:
        history = (user("a"), model(ToolCall(id="c", name="f")), turn)
        sent = write(*history)[0]["contents"][2]["parts"][0]["functionResponse"]["response"]
        again = {"functionResponse": {"name": "f", "id": "c", "response": sent}}
        assert read({"contents": [{"parts": [again]}]})[0].turns == (turn,)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('{"a": 1}', {"a": 1}),
        (' {"a": 1, "result": "x"}', {"a": 1, "result": "x"}),
        ('{"result": "x"}', {"result": '{"result": "x"}'}),
        ('{"error": "x"}', {"result": '{"error": "x"}'}),
        ("{}", {"result": "{}"}),
        ("[1]", {"result": "[1]"}),
        ("{no", {"result": "{no"}),
        ("", {"result": ""}),
    ],
)
def test_words_of_a_result(text: str, sent: dict[str, Any]) -> None:
    """An object goes as it is unless Google would take it for a wrap, and all else in one."""
    turn = results(ToolResult(id="c", name="f", parts=(Text(text=text),)))
    body, _ = write(user("a"), turn)
    assert body["contents"][0]["parts"][1]["functionResponse"]["response"] == sent


def test_turns_of_a_history() -> None:
    """Contents are turns of their own, results of calls gather, and ids are paired by name."""
    call, other = {"functionCall": {"name": "f"}}, {"functionCall": {"name": "g"}}
    told, late = {"functionResponse": {"name": "f"}}, {"functionResponse": {"name": "g"}}
    contents = [
        {"parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "user", "parts": [{"text": "c"}]},
        {"role": "model", "parts": [{"text": "x"}, call, call, other, {"text": ""}]},
        {"role": "user", "parts": [late, told, told]},
        {"role": "user", "parts": [told, {"text": "d"}]},
    ]
    got = read({"contents": contents})[0].turns
    assert [turn.role for turn in got] == ["user", "user", "assistant", "tool", "user"]
    assert [part.text for part in got[0].parts if isinstance(part, Text)] == ["a", "b"]
    called = [part.id for part in got[2].parts if isinstance(part, ToolCall)]
    answered = [part.id for part in got[3].parts if isinstance(part, ToolResult)]
    assert len(set(called)) == 3
    assert answered[:3] == [called[2], called[0], called[1]]
    assert answered[3] not in called
    assert all(one.startswith("call_") and len(one) == 29 for one in [*called, *answered])


def test_a_result_that_names_its_call_takes_it() -> None:
    """A later result without an id goes to a call that is still open."""
    calls = [{"functionCall": {"name": "f", "id": one}} for one in ("c1", "c2")]
    told = [{"functionResponse": {"name": "f", "id": "c1"}}, {"functionResponse": {"name": "f"}}]
    got = read({"contents": [{"role": "model", "parts": calls}, {"parts": told}]})[0].turns
    assert [part.id for part in got[1].parts if isinstance(part, ToolResult)] == ["c1", "c2"]


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (
            [{"text": "a", "thought": True}, {"text": "b", "thought": True}],
            (Reasoning(text="ab"),),
        ),
        (
            [
                {"text": "a", "thought": True},
                {"text": "", "thought": True, "thoughtSignature": "c2lnbmVk"},
                {"text": "b", "thought": True},
            ],
            (Reasoning(text="a", signature=SIGNED), Reasoning(text="b")),
        ),
        (
            [{"text": "", "thought": True, "thoughtSignature": "c2lnbmVk"}],
            (Reasoning(redacted=True, signature=SIGNED),),
        ),
        ([{"thoughtSignature": "c2lnbmVk"}], (Text(text="", signature=SIGNED),)),
    ],
)
def test_thoughts_that_a_client_kept(parts: list[dict[str, Any]], told: tuple[Part, ...]) -> None:
    """The pieces of a streamed thought are one again, and end with its signature."""
    split = [{"role": "model", "parts": [part]} for part in parts]
    for contents in ([{"role": "model", "parts": parts}], split):
        turns = read({"contents": contents})[0].turns
        assert tuple(part for turn in turns for part in turn.parts) == told
        assert {turn.role for turn in turns} == {"assistant"}


WEB = {"groundingChunks": [{"web": {"uri": "https://x.test", "title": "X"}}]}
SHELF = {
    "groundingChunks": [
        {"retrievedContext": {"uri": "gs://a", "title": "A", "text": "words"}},
        {"maps": {"uri": "https://maps.test"}},
    ],
    "groundingSupports": [{"groundingChunkIndices": [0, 1, 2, -1]}],
}


@pytest.mark.parametrize(
    ("said", "cited"),
    [
        ({"groundingMetadata": WEB}, [Citation(kind="url", url="https://x.test", title="X")]),
        (
            {"groundingMetadata": SHELF},
            [Citation(kind="document", url="gs://a", title="A", quote="words")],
        ),
        (
            {
                "groundingMetadata": WEB
                | {
                    "groundingSupports": [
                        {"segment": {"endIndex": 2}, "groundingChunkIndices": [0]},
                        {"segment": {"startIndex": 1}, "groundingChunkIndices": [0]},
                        {"segment": {"startIndex": -3, "endIndex": -1}},
                    ]
                }
            },
            [
                Citation(kind="url", url="https://x.test", title="X", start=0, end=1),
                Citation(kind="url", url="https://x.test", title="X"),
            ],
        ),
        (
            {
                "citationMetadata": {
                    "citations": [{"uri": "u", "title": "t", "startIndex": 2, "endIndex": 3}],
                    "citationSources": [{"uri": "v", "endIndex": 2}, {"uri": "w"}],
                }
            },
            [
                Citation(kind="url", url="u", title="t", start=1, end=2),
                Citation(kind="url", url="v", start=0, end=1),
                Citation(kind="url", url="w"),
            ],
        ),
        ({"groundingMetadata": {"groundingChunks": 3}}, []),
        ({"citationMetadata": {"citations": [{"uri": 3}]}}, []),
    ],
)
def test_sources_of_an_answer(said: dict[str, Any], cited: list[Citation]) -> None:
    """Whatever Google's citations leave out, the rest of them is told."""
    got = GEMINI_CODEC.read_answer(chunk({"text": "éa"}, finish="STOP", **said))
    assert got.choices[0].parts == (Text(text="éa", citations=tuple(cited)),)
    whole = GEMINI_CODEC.write_answer(got, TOLD)["candidates"][0].get("groundingMetadata", {})
    types.GroundingMetadata.model_validate(whole)
    again = GEMINI_CODEC.read_answer(chunk({"text": "éa"}, finish="STOP", groundingMetadata=whole))
    assert again.choices == got.choices


def test_no_source_is_told_twice() -> None:
    """Google repeats the sources of a stream in its later events."""
    first = chunk({"text": "a"}, groundingMetadata=WEB)
    last = chunk({"text": ""}, finish="STOP", groundingMetadata=WEB)
    cited = Citation(kind="url", url="https://x.test", title="X")
    got = heard(sse(first, last)).choices[0].parts
    assert got == (Text(text="a", citations=(cited,)),)


def test_sources_without_text_have_their_own() -> None:
    """Behind a call there is no text that they could belong to."""
    call = {"functionCall": {"name": "f", "id": "c"}}
    got = heard(sse(chunk(call), chunk(finish="STOP", groundingMetadata=WEB)))
    cited = Citation(kind="url", url="https://x.test", title="X")
    assert got.choices[0].parts == (
        ToolCall(id="c", name="f"),
        Text(text="", citations=(cited,)),
    )


def test_kinds_of_sources_on_their_way_out() -> None:
    """Pages of the web are Google's ``web``, and all else is a retrieved context."""
    cited = (
        Citation(kind="url", url="u", title="t", quote="q"),
        Citation(kind="search", url="s"),
        Citation(kind="document", title="d", quote="q"),
        Citation(kind="file", url="f", start=0),
    )
    body = GEMINI_CODEC.write_answer(answer(Text(text="abc", citations=cited)), TOLD)
    ground = body["candidates"][0]["groundingMetadata"]
    types.GroundingMetadata.model_validate(ground)
    assert ground == {
        "groundingChunks": [
            {"web": {"uri": "u", "title": "t"}},
            {"web": {"uri": "s"}},
            {"retrievedContext": {"title": "d", "text": "q"}},
            {"retrievedContext": {"uri": "f"}},
        ],
        "groundingSupports": [{"groundingChunkIndices": [at]} for at in range(4)],
    }


LIKELY = {"token": "a", "logProbability": -0.5}


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        ({"chosenCandidates": [LIKELY]}, [("a", -0.5, [])]),
        ({"chosenCandidates": [{}]}, [("", 0.0, [])]),
        (
            {"chosenCandidates": [LIKELY, LIKELY], "topCandidates": [{"candidates": [LIKELY]}]},
            [("a", -0.5, [("a", -0.5)]), ("a", -0.5, [])],
        ),
        ({"chosenCandidates": 3}, None),
        ({"topCandidates": [{}]}, None),
    ],
)
def test_likelihoods(told: dict[str, Any], tokens: Any) -> None:
    """A token without its rivals has none, and nonsense is no likelihood."""
    body = chunk({"text": "a"}, finish="STOP", logprobsResult=told)
    got = GEMINI_CODEC.read_answer(body).choices[0].logprobs
    found = [
        (
            one["token"],
            one["logprob"],
            [(top["token"], top["logprob"]) for top in one["top_logprobs"]],
        )
        for one in (got or {"content": []})["content"]
    ]
    assert found == (tokens or [])
    assert (got is None) == (tokens is None)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (
            {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
            Media(kind="image", source=Source(kind="base64", data=PIXEL, media_type="image/png")),
        ),
        (
            {"fileData": {"mimeType": "audio/wav", "fileUri": "https://x.test/a"}},
            Media(
                kind="audio",
                source=Source(kind="url", data="https://x.test/a", media_type="audio/wav"),
            ),
        ),
        (
            {"inlineData": {"mimeType": "application/pdf", "data": "AA=="}},
            Media(
                kind="file",
                source=Source(kind="base64", data="AA==", media_type="application/pdf"),
            ),
        ),
        (
            {"executableCode": {"language": "PYTHON", "code": "1"}},
            Text(text="\n```python\n1\n```\n"),
        ),
        ({"codeExecutionResult": {"output": "2"}}, Text(text="\n```\n2\n```\n")),
        ({"functionCall": {"id": "c", "name": "f"}}, ToolCall(id="c", name="f")),
    ],
)
def test_parts_of_an_answer(part: dict[str, Any], told: Part) -> None:
    """Each part that Google's types know is told, with its signature, and ends the text before."""
    types.Part.model_validate(part)
    body = chunk({"text": "a"}, part, {"text": "b"}, finish="STOP")
    got = GEMINI_CODEC.read_answer(body).choices[0].parts
    if isinstance(told, Text):
        assert got == (Text(text=f"a{told.text}b"),)
        return
    assert got == (Text(text="a"), told, Text(text="b"))
    signed = GEMINI_CODEC.read_answer(
        chunk(part | {"thoughtSignature": "c2lnbmVk"}, finish="STOP")
    ).choices[0]
    assert isinstance(signed.parts[0], Media | ToolCall)
    assert signed.parts[0].signature == SIGNED
    written = GEMINI_CODEC.write_answer(answer(signed.parts[0]), TOLD)["candidates"][0]
    again = types.Content.model_validate(written["content"]).parts or []
    assert again == [types.Part.model_validate(part | {"thoughtSignature": "c2lnbmVk"})] or (
        "functionCall" in part
    )


def unproven(part: dict[str, Any]) -> dict[str, Any]:
    """A call without the mark that may stand in place of its signature."""
    is_call = "functionCall" in part
    return {k: v for k, v in part.items() if not (is_call and k == "thoughtSignature")}


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (Refusal(text="no"), [{"text": "no"}]),
        (Media(kind="audio", source=Source(kind="text", data="w")), [{"text": "w"}]),
        (
            Media(kind="audio", source=Source(kind="base64", data="AA=="), transcript="hi"),
            [
                {"inlineData": {"mimeType": "application/octet-stream", "data": "AA=="}},
                {"text": "hi"},
            ],
        ),
        (
            Media(kind="file", source=Source(kind="url", data="u"), transcript="hi"),
            [{"fileData": {"fileUri": "u"}}, {"text": "hi"}],
        ),
        (
            ToolCall(id="c", name="f", arguments="free", custom=True),
            [{"functionCall": {"id": "c", "name": "f", "args": {"input": "free"}}}],
        ),
        (
            ToolCall(id="c", name="f", arguments="[1]"),
            [{"functionCall": {"id": "c", "name": "f", "args": {"_raw": "[1]"}}}],
        ),
        (
            ToolCall(id="c", name="f", arguments=""),
            [{"functionCall": {"id": "c", "name": "f", "args": {}}}],
        ),
        (Reasoning(text="hm", signature=SIGNED), None),
        (Text(text="", signature=SIGNED), [{"text": "", "thoughtSignature": SIGNED.value}]),
        (Text(text=""), [{"text": ""}]),
    ],
)
def test_parts_for_a_client(part: Part, sent: list[dict[str, Any]] | None) -> None:
    """Whole and streamed alike, each part has a form that Google's own types read."""
    sent = sent or [{"text": "hm", "thought": True, "thoughtSignature": SIGNED.value}]
    whole = GEMINI_CODEC.write_answer(answer(part), TOLD)
    types.GenerateContentResponse.model_validate(whole)
    content = whole["candidates"][0]["content"]
    assert (content["role"], list(map(unproven, content["parts"]))) == ("model", sent)
    told = [
        json.loads(event.data or b"")
        for event in EventSplitter().feed(streamed(events_of(answer(part))))
    ]
    assert {event["modelVersion"] for event in told} == {"mine"}
    pieces = [one for event in told for one in event["candidates"][0]["content"]["parts"]]
    assert "".join(one.get("text", "") for one in pieces) == "".join(
        one.get("text", "") for one in sent
    )
    whole_ones = [unproven(one) for one in pieces if "text" not in one]
    assert whole_ones == [one for one in sent if "text" not in one]


@pytest.mark.parametrize(
    ("stop", "word"),
    [
        ("end", "STOP"),
        ("stop_sequence", "STOP"),
        ("tool_calls", "STOP"),
        ("pause", "STOP"),
        ("length", "MAX_TOKENS"),
        ("context_window", "MAX_TOKENS"),
        ("content_filter", "SAFETY"),
        ("refusal", "SAFETY"),
        (None, "STOP"),
    ],
)
def test_ends_for_a_client(stop: Any, word: str) -> None:
    """Every end has a word of Google's, whole and streamed."""
    said = answer(Text(text="a"), stop=stop)
    assert GEMINI_CODEC.write_answer(said, TOLD)["candidates"][0]["finishReason"] == word
    last = EventSplitter().feed(streamed(events_of(said)))[-1]
    got = types.GenerateContentResponse.model_validate_json(last.data or b"")
    assert got.candidates is not None
    assert got.candidates[0].finish_reason == types.FinishReason(word)


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (Usage(3, 2), {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}),
        (
            Usage(30, 20, 4, 5, True),
            {
                "promptTokenCount": 30,
                "candidatesTokenCount": 15,
                "totalTokenCount": 50,
                "cachedContentTokenCount": 4,
                "thoughtsTokenCount": 5,
            },
        ),
        (
            Usage(30, 20, image_input_tokens=3, audio_input_tokens=4, audio_output_tokens=20),
            {
                "promptTokenCount": 30,
                "candidatesTokenCount": 20,
                "totalTokenCount": 50,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 23},
                    {"modality": "IMAGE", "tokenCount": 3},
                    {"modality": "AUDIO", "tokenCount": 4},
                ],
                "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}],
            },
        ),
        (
            Usage(1, 9, image_output_tokens=9),
            {
                "promptTokenCount": 1,
                "candidatesTokenCount": 9,
                "totalTokenCount": 10,
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 9}],
            },
        ),
    ],
)
def test_usage_for_a_client(usage: Usage, told: dict[str, Any]) -> None:
    """Counts have Google's names and add up as its own do; what is none goes unsaid."""
    body = GEMINI_CODEC.write_answer(answer(Text(text="a"), usage=usage), TOLD)
    types.GenerateContentResponseUsageMetadata.model_validate(body["usageMetadata"])
    assert body["usageMetadata"] == told
    again = GEMINI_CODEC.read_answer(body).usage
    usage.reported = True
    assert again == usage


@pytest.mark.parametrize(
    ("more", "is_told"),
    [
        ({"cachedContentTokenCount": 10}, True),
        ({"cachedContentTokenCount": 11}, False),
        ({"cachedContentTokenCount": -1}, False),
        ({"thoughtsTokenCount": -1}, False),
        ({"candidatesTokenCount": -1, "thoughtsTokenCount": 5}, False),
        ({"toolUsePromptTokenCount": -1}, False),
        ({"candidatesTokenCount": 10**9}, True),
        ({"candidatesTokenCount": 10**9 + 1}, False),
        ({"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": -1}]}, False),
        ({"promptTokensDetails": [{"modality": "IMAGE", "tokenCount": -1}]}, False),
        ({"candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": -1}]}, False),
        ({"candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": -1}]}, False),
        ({"candidatesTokensDetails": [{"modality": "IMAGE"}, {"modality": "AUDIO"}]}, True),
        ({"promptTokenCount": None}, False),
    ],
)
def test_credible_usage(more: dict[str, Any], is_told: bool) -> None:
    """One count that can't be makes the whole report none; a count that is missing is zero."""
    counts = {"promptTokenCount": 10} | more
    got = GEMINI_CODEC.read_answer(chunk({"text": "a"}, finish="STOP") | {"usageMetadata": counts})
    assert got.usage.reported is is_told
    assert got.usage.input_tokens == (10 if is_told else 0)
    assert got.usage.output_tokens == (more.get("candidatesTokenCount", 0) if is_told else 0)


EVERY_WISH = Sampling(
    temperature=0.5,
    top_p=0.9,
    top_k=4,
    presence_penalty=0.1,
    frequency_penalty=0.2,
    seed=0,
    logprobs=True,
    top_logprobs=3,
)


def test_every_wish_has_googles_name() -> None:
    """What the request says of sampling and form stands under the names of Google's types."""
    body, lost = write(
        max_tokens=9,
        sampling=EVERY_WISH,
        stop=("a", "b", "c", "d", "e"),
        n=2,
        modalities=("text", "image"),
        output=OutputFormat(kind="schema", schema={"type": "object"}, description="d"),
        service_tier="default",
    )
    assert lost == []
    assert body["serviceTier"] == "standard"
    assert body["generationConfig"] == {
        "maxOutputTokens": 9,
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 4,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "seed": 0,
        "responseLogprobs": True,
        "logprobs": 3,
        "stopSequences": ["a", "b", "c", "d", "e"],
        "candidateCount": 2,
        "responseMimeType": "application/json",
        "responseJsonSchema": {"description": "d", "type": "object"},
        "responseModalities": ["TEXT", "IMAGE"],
    }


@pytest.mark.parametrize(
    ("said", "config"),
    [
        ({"modalities": ("text",)}, None),
        ({"output": OutputFormat(kind="json")}, {"responseMimeType": "application/json"}),
        ({"output": OutputFormat(kind="schema")}, {"responseJsonSchema": {}}),
        ({"n": 1}, {"candidateCount": 1}),
    ],
)
def test_small_wishes(said: dict[str, Any], config: dict[str, Any] | None) -> None:
    """A text is what Google answers by itself, and a schema needs its type of content."""
    if config is not None and "responseJsonSchema" in config:
        config |= {"responseMimeType": "application/json"}
    assert write(**said)[0].get("generationConfig") == config


FUNCTION = Tool(name="f")
SYSTEM_IMAGE = Turn(role="system", parts=(Text(text="a", cache=CacheMark()), IMAGE))
LOSSES: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, bool]]]] = [
    ({"user": "u"}, {}, [("user", False)]),
    ({"metadata": {"a": "b"}}, {}, [("metadata", False)]),
    ({"verbosity": "low"}, {}, [("verbosity", False)]),
    ({"cache_key": "k"}, {}, [("prompt_cache_key", False)]),
    ({"cache_all": CacheMark()}, {}, [("cache_control", False)]),
    ({"audio": {"voice": "v"}}, {}, [("audio", False)]),
    ({"store": True}, {}, [("store", False)]),
    ({"parallel": False}, {}, [("parallel_tool_calls", False)]),
    ({"parallel": True}, {}, []),
    ({"service_tier": "auto"}, {}, []),
    ({"service_tier": "scale"}, {}, [("service_tier", False)]),
    ({"service_tier": "flex"}, {"service_tiers": False}, [("service_tier", False)]),
    ({"sampling": EVERY_WISH}, {"temperature": False}, [("temperature", False)]),
    ({"sampling": EVERY_WISH}, {"max_temperature": 0.4}, [("temperature", False)]),
    ({"sampling": EVERY_WISH}, {"max_temperature": 0.5}, []),
    ({"sampling": EVERY_WISH}, {"top_p": False}, [("top_p", False)]),
    ({"sampling": EVERY_WISH}, {"top_k": False}, [("top_k", False)]),
    (
        {"sampling": EVERY_WISH},
        {"penalties": False},
        [("presence_penalty", False), ("frequency_penalty", False)],
    ),
    ({"sampling": EVERY_WISH}, {"seed": False}, [("seed", False)]),
    (
        {"sampling": EVERY_WISH},
        {"logprobs": False},
        [("logprobs", False), ("top_logprobs", False)],
    ),
    ({"stop": ("a", "b")}, {"most_stops": 1}, [("stop", False)]),
    ({"stop": ("a", "b")}, {"most_stops": 2}, []),
    ({"n": 2}, {"many_answers": False}, [("n", True)]),
    ({"n": 1}, {"many_answers": False}, []),
    (
        {"output": OutputFormat(kind="json")},
        {"json_object": False},
        [("response_format", True)],
    ),
    ({"output": OutputFormat(kind="schema")}, {"json_object": False}, []),
    ({"tools": (FUNCTION,)}, {"tools": False}, [("tools", True)]),
    ({"tools": (Tool(name="f", strict=True),)}, {}, [("tools[0].strict", False)]),
    ({"tools": (Tool(name="f", cache=CacheMark()),)}, {}, [("tools[0].cache_control", False)]),
    ({"tools": (FUNCTION, Tool(name="x", kind="bash"))}, {}, [("tools[1]", True)]),
    (
        {"tools": (FUNCTION,), "tool_choice": ToolChoice(mode="required")},
        {"forced_tools": False},
        [("tool_choice", True)],
    ),
    (
        {"tools": (FUNCTION,), "tool_choice": ToolChoice(mode="auto")},
        {"forced_tools": False},
        [],
    ),
    ({"reasoning": ReasoningWish(effort="low")}, {"reasoning": ()}, [("reasoning_effort", False)]),
    ({"reasoning": ReasoningWish(effort="none")}, {"reasoning": ()}, []),
    ({"reasoning": ReasoningWish(enabled=False)}, {"reasoning": ()}, []),
    (
        {"reasoning": ReasoningWish(enabled=False)},
        {"reasoning": ("effort",)},
        [("reasoning_effort", False)],
    ),
    (
        {"reasoning": ReasoningWish(effort="max")},
        {"reasoning": ("effort",)},
        [("reasoning_effort", False)],
    ),
    (
        {"reasoning": ReasoningWish(budget=1023)},
        {"reasoning": ("budget",)},
        [("reasoning.budget", False)],
    ),
    ({"reasoning": ReasoningWish(budget=1024)}, {"reasoning": ("budget",)}, []),
    (
        {"turns": (SYSTEM_IMAGE, user("a"))},
        {},
        [("messages[0].content[0].cache_control", False), ("messages[0].content[1]", True)],
    ),
    (
        {"turns": (user("a"), Turn(role="user", parts=(Text(text="b"),), name="eve"))},
        {},
        [("messages[1].name", False)],
    ),
    (
        {"turns": (user(Text(text="a", cache=CacheMark())),)},
        {},
        [("messages[0].content[0].cache_control", False)],
    ),
    (
        {"turns": (user(Text(text="a", citations=(Citation(kind="url"),))),)},
        {},
        [("messages[0].content[0].citations", False)],
    ),
    (
        {
            "turns": (
                user(
                    "a",
                    Media(kind="image", source=IMAGE.source, detail="low", name="n", cites=True),
                ),
            )
        },
        {},
        [(f"messages[0].content[1].{one}", False) for one in ("detail", "name", "citations")],
    ),
    ({"turns": (user(Media(kind="image", source=IMAGE.source, detail="auto")),)}, {}, []),
    (
        {"turns": (user("a"), model("b", Reasoning(text="hm")))},
        {},
        [("messages[1].reasoning", False)],
    ),
    (
        {"turns": (user("a"), model("b", Reasoning(text="hm", signature=FOREIGN)))},
        {},
        [("messages[1].reasoning", False)],
    ),
    (
        {"turns": (user("a"), results(ToolResult(id="c", name="f", parts=(IMAGE,))))},
        {"images": False},
        [("messages[1].content[0].content[0]", True)],
    ),
]


@pytest.mark.parametrize(("said", "can", "lost"), LOSSES)
def test_losses_have_the_clients_words(
    said: dict[str, Any], can: dict[str, Any], lost: list[tuple[str, bool]]
) -> None:
    """Each loss is named as its client said it, says why, and is grave where the answer differs."""
    losses = Losses()
    asked = Conversation(**({"model": "m", "turns": ASKED.turns} | said))
    judged(GEMINI_CODEC.write_request(asked, "g", Abilities(**can), losses))
    assert [(loss.field, loss.grave) for loss in losses.all] == lost
    assert all(loss.why for loss in losses.all)


@pytest.mark.parametrize(
    ("said", "can", "config"),
    [
        ({"sampling": Sampling(temperature=2.0)}, {"max_temperature": 1.5}, {"temperature": 1.5}),
        ({"stop": tuple("abcdef")}, {}, {"stopSequences": ["a", "b", "c", "d", "e"]}),
        ({"stop": ("a",)}, {"most_stops": 0}, None),
        (
            {"output": OutputFormat(kind="schema", schema={"a": 1})},
            {"json_schema": False},
            {"responseMimeType": "application/json"},
        ),
        ({"output": OutputFormat(kind="json")}, {"json_object": False}, None),
        ({"n": 2}, {"many_answers": False}, None),
    ],
)
def test_what_goes_in_place_of_a_loss(
    said: dict[str, Any], can: dict[str, Any], config: dict[str, Any] | None
) -> None:
    """The nearest that the model takes is sent, or nothing."""
    assert write(can=Abilities(**can), **said)[0].get("generationConfig") == config


@pytest.mark.parametrize(
    ("wish", "can", "config"),
    [
        (
            ReasoningWish(enabled=False),
            {"reasoning": ("effort",), "efforts": ("low", "high")},
            {"thinkingLevel": "LOW"},
        ),
        (ReasoningWish(enabled=False), {"reasoning": ("effort",), "efforts": ("max",)}, None),
        (
            ReasoningWish(effort="low", shown=False),
            {"reasoning": ("effort",), "efforts": ("none",)},
            None,
        ),
        (ReasoningWish(enabled=True), {"reasoning": ("effort",)}, {"includeThoughts": True}),
        (ReasoningWish(enabled=True), {"reasoning": ("adaptive",)}, {"includeThoughts": True}),
        (
            ReasoningWish(effort="high"),
            {"reasoning": ("effort", "budget")},
            {"includeThoughts": True, "thinkingLevel": "HIGH"},
        ),
    ],
)
def test_thinking_of_models_that_take_less(
    wish: ReasoningWish, can: dict[str, Any], config: dict[str, Any] | None
) -> None:
    """The nearest level that the model knows is asked for, and none where it knows none."""
    body, _ = write(reasoning=wish, can=Abilities(**can))
    assert body.get("generationConfig", {}).get("thinkingConfig") == config


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (None, None),
        (ToolChoice(mode="auto"), {"mode": "AUTO"}),
        (ToolChoice(mode="none"), {"mode": "NONE"}),
        (ToolChoice(mode="required"), {"mode": "ANY"}),
        (
            ToolChoice(mode="named", names=("f", "a b")),
            {"mode": "ANY", "allowedFunctionNames": ["f", "lpn_meqge"]},
        ),
    ],
)
def test_choices_are_sent(choice: ToolChoice | None, config: dict[str, Any] | None) -> None:
    """Each choice has Google's mode, and names are coded as the tools' are."""
    body, lost = write(tools=(FUNCTION,), tool_choice=choice)
    assert body.get("toolConfig", {}).get("functionCallingConfig") == config
    assert lost == []
    assert "toolConfig" not in write(tool_choice=choice)[0]


@pytest.mark.parametrize(("size", "fits"), [(36, True), (37, True), (38, False)])
def test_how_long_a_coded_name_may_be(size: int, fits: bool) -> None:
    """Coded, a name takes eight fifths of its bytes and a mark, and Google takes 64 letters."""
    tool = Tool(name=f"a {'b' * (size - 2)}")
    if not fits:
        with pytest.raises(InvalidRequest):
            write(tools=(tool,))
        return
    sent = write(tools=(tool,))[0]["tools"][0]["functionDeclarations"][0]["name"]
    assert len(sent) <= 64
    (back,) = GEMINI_CODEC.read_answer(called(sent)).choices[0].parts
    assert isinstance(back, ToolCall)
    assert back.name == tool.name


def test_googles_own_tools_are_sent() -> None:
    """Functions stand in one tool, and each of Google's own in one of its own."""
    own = (Tool(name="s", kind="googleSearch"), Tool(name="u", kind="urlContext", own={}))
    described = Tool(name="f", description="does", parameters={"type": "object"})
    body, _ = write(tools=(own[0], described, own[1]))
    declared = {"name": "f", "description": "does", "parametersJsonSchema": {"type": "object"}}
    assert body["tools"] == [
        {"functionDeclarations": [declared]},
        {"googleSearch": {}},
        {"urlContext": {}},
    ]


@pytest.mark.parametrize(
    ("history", "param"),
    [
        ((user("a"), results(ToolResult(id="x", parts=()))), "messages[1].content[0]"),
        (
            (user("a"), model("b", ToolCall(id="x", name="f", arguments="[1]"))),
            "messages[1].content[1].arguments",
        ),
        ((user("a"), model(ToolCall(id="x", name="f" * 65))), "messages[1].content[0].name"),
        ((user("a"), results(ToolResult(id="x", name="f" * 65))), "messages[1].content[0].name"),
    ],
)
def test_a_history_that_is_refused_is_named(history: tuple[Turn, ...], param: str) -> None:
    """The error leads to the part that has to be mended."""
    with pytest.raises(InvalidRequest) as caught:
        write(*history)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"tools": (FUNCTION, Tool(name="f" * 65))}, "tools[1].name"),
        ({"tools": (Tool(name=""),)}, "tools[0].name"),
        (
            {
                "tools": (FUNCTION,),
                "tool_choice": ToolChoice(mode="named", names=("f" * 65,)),
            },
            "tool_choice.name",
        ),
    ],
)
def test_a_name_that_is_refused_is_named(said: dict[str, Any], param: str) -> None:
    """A name without room for its code is the client's to mend."""
    with pytest.raises(InvalidRequest) as caught:
        write(**said)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("lead", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF....WEBP", "image/webp"),
        (b"%PDF-1.7", "application/pdf"),
    ],
)
def test_a_type_that_nobody_said(lead: bytes, kind: str) -> None:
    """The first bytes tell what a picture is; without any type Google refuses it."""
    data = base64.b64encode(lead + bytes(6)).decode()
    body, lost = write(user(Media(kind="image", source=Source(kind="base64", data=data))))
    assert body["contents"][0]["parts"][0]["inlineData"]["mimeType"] == kind
    assert lost == []
    known = Source(kind="base64", data=data, media_type="image/x")
    body, _ = write(user(Media(kind="image", source=known)))
    assert body["contents"][0]["parts"][0]["inlineData"]["mimeType"] == "image/x"


GOOGLES = "https://generativelanguage.googleapis.com/v1beta/files/1"


@pytest.mark.parametrize(
    ("media", "can", "parts"),
    [
        (
            Media(kind="file", source=Source(kind="file", data=GOOGLES)),
            {},
            [{"fileData": {"fileUri": GOOGLES}}],
        ),
        (
            Media(kind="file", source=Source(kind="file", data="gs://a", media_type="text/csv")),
            {},
            [{"fileData": {"mimeType": "text/csv", "fileUri": "gs://a"}}],
        ),
        (
            Media(
                kind="file", source=Source(kind="text", data="hi"), context="a letter", name=None
            ),
            {},
            [{"text": "a letter"}, {"inlineData": {"mimeType": "text/plain", "data": "aGk="}}],
        ),
        (
            Media(kind="audio", source=Source(kind="base64", data=""), transcript="hello"),
            {},
            [{"text": "hello"}],
        ),
        (Media(kind="audio", source=Source(kind="base64", data="")), {}, []),
        (
            Media(kind="file", source=Source(kind="text", data="hi"), context="a letter"),
            {"files": False},
            [{"text": "a letter"}],
        ),
        (Media(kind="video", source=Source(kind="url", data="https://x/a.mp4")), {}, None),
        (Media(kind="video", source=Source(kind="url", data="https://x/a.mp4")), {"video": 0}, []),
        (Media(kind="audio", source=Source(kind="url", data="https://x/a.mp3")), {"audio": 0}, []),
        (Media(kind="image", source=Source(kind="url", data="https://[x/a.png")), {}, []),
    ],
)
def test_media_by_other_ways(
    media: Media, can: dict[str, Any], parts: list[dict[str, Any]] | None
) -> None:
    """Files of Google's, words of a document and the text of a sound go where their bytes can't."""
    told = {"fileData": {"mimeType": "video/mp4", "fileUri": "https://x/a.mp4"}}
    wanted = [told] if parts is None else parts
    body, lost = write(user("a", media), can=Abilities(**can))
    assert body["contents"][0]["parts"][1:] == wanted
    is_lost = not any("inlineData" in one or "fileData" in one for one in wanted)
    assert lost == ([("messages[0].content[1]", True)] if is_lost and not media.transcript else [])


def test_what_else_stands_in_a_turn() -> None:
    """A refusal is text, media bear signatures, a custom tool's text is an argument."""
    picture = Media(kind="image", source=IMAGE.source, signature=SIGNED)
    body, lost = write(
        user("a"),
        model(
            Refusal(text="no"),
            picture,
            Reasoning(text="hm", signature=SIGNED),
            Text(text="", signature=SIGNED),
            Text(text=""),
            ToolCall(id="", name="f", arguments="free", custom=True, signature=SIGNED),
        ),
        results(ToolResult(id="", name="f", parts=(Text(text="a"), IMAGE, Text(text="b")))),
    )
    signed = {"thoughtSignature": SIGNED.value}
    blob = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
    assert lost == []
    assert body["contents"][1]["parts"] == [
        {"text": "no"},
        blob | signed,
        {"text": "hm", "thought": True} | signed,
        {"text": ""} | signed,
        {"functionCall": {"name": "f", "args": {"input": "free"}}} | signed,
    ]
    told = {"name": "f", "response": {"result": "a\nb"}, "parts": [blob]}
    assert body["contents"][2] == {"role": "user", "parts": [{"functionResponse": told}]}


def test_a_history_without_a_question_is_signed_too() -> None:
    """Where no user spoke, every step is of the current turn."""
    body, _ = write(calls(None), results(ToolResult(id="c0")), calls(None, None))
    parts = [part for content in body["contents"] for part in content["parts"]]
    signed = [part.get("thoughtSignature") for part in parts if "functionCall" in part]
    assert signed == [SKIP, SKIP, None]


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": "TYPE_UNSPECIFIED"}, {}),
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        ({"nullable": True, "anyOf": [{"type": "STRING"}]}, {"anyOf": [{}, {}]}),
        ({"nullable": True, "enum": ["a"]}, {"enum": ["a", None]}),
        ({"nullable": True, "enum": [None]}, {"enum": [None]}),
        (
            {"nullable": False, "example": 1, "propertyOrdering": ["a"], "title": "T"},
            {"title": "T"},
        ),
        ({"maxItems": "3", "min_length": "4", "maxLength": "x"}, None),
        ({"ref": "#/$defs/a", "defs": {"a": {"type": "INTEGER"}}}, None),
        ({"additional_properties": {"type": "NUMBER"}, "items": {"type": "STRING"}}, None),
        ({"properties": {"max_items": {"type": "STRING"}}}, None),
    ],
)
def test_schemas_of_google(schema: dict[str, Any], wanted: dict[str, Any] | None) -> None:
    """Types get JSON Schema's names, counts are numbers, and names of properties stay."""
    output = read({"contents": [], "generationConfig": {"responseSchema": schema}})[0].output
    assert output is not None
    told = {
        "maxItems": {"maxItems": 3, "minLength": 4, "maxLength": "x"},
        "ref": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}},
        "additional_properties": {
            "additionalProperties": {"type": "number"},
            "items": {"type": "string"},
        },
        "properties": {"properties": {"max_items": {"type": "string"}}},
    }.get(next(iter(schema)), wanted)
    if wanted == {"anyOf": [{}, {}]}:
        told = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert output.schema == told


def test_candidates_of_a_stream() -> None:
    """Each candidate is told apart by its index, or its place, and ends by its own word."""
    both = {"candidates": [chunk({"text": one})["candidates"][0] for one in "ab"]}
    second = chunk({"text": "d"}, finish="MAX_TOKENS", index=1)
    first = chunk({"text": "c"}, finish="STOP", index=0)
    got = heard(sse(both, second, first, chunk(finish="FINISH_REASON_UNSPECIFIED", index=1)))
    assert [one.parts for one in got.choices] == [(Text(text="ac"),), (Text(text="bd"),)]
    assert [one.stop for one in got.choices] == ["end", "length"]
    with pytest.raises(UpstreamDisconnected):
        heard(sse(both, second))
    with pytest.raises(UpstreamProtocolError):
        heard(sse(chunk({"text": "a"}, index=-1)))


@pytest.mark.parametrize(("count", "is_read"), [(1024, True), (1025, False)])
def test_candidates_without_end(count: int, is_read: bool) -> None:
    """No answer may hold more candidates than anybody asked for."""
    body = {"candidates": [{"finishReason": "STOP", "index": at} for at in range(count)]}
    if is_read:
        assert len(GEMINI_CODEC.read_answer(body).choices) == count
    else:
        with pytest.raises(UpstreamProtocolError):
            GEMINI_CODEC.read_answer(body)


def test_what_a_failure_says() -> None:
    """Google's own words about it reach whoever reads the error."""
    stumbled = chunk(finish="OTHER", finishMessage="so it is")
    with pytest.raises(UpstreamFailed, match="with OTHER: so it is") as failed:
        GEMINI_CODEC.read_answer(stumbled)
    assert failed.value.upstream_code == "OTHER"
    feedback = {"blockReason": "OTHER", "blockReasonMessage": "it was so"}
    with pytest.raises(UpstreamRejected, match="prompt: it was so"):
        GEMINI_CODEC.read_answer({"promptFeedback": feedback})
    with pytest.raises(UpstreamRejected, match="prompt: SAFETY"):
        GEMINI_CODEC.read_answer({"promptFeedback": {"blockReason": "SAFETY"}})
    with pytest.raises(UpstreamThrottled):
        GEMINI_CODEC.read_answer({"error": {"code": 429, "message": "slow"}})


def test_feedback_beside_an_answer_is_none() -> None:
    """Only a prompt without an answer was blocked."""
    body = chunk({"text": "a"}, finish="STOP") | {"promptFeedback": {"blockReason": "SAFETY"}}
    assert GEMINI_CODEC.read_answer(body).choices[0].parts == (Text(text="a"),)
    body = chunk({"text": "a"}, finish="STOP") | {"promptFeedback": {"safetyRatings": []}}
    assert GEMINI_CODEC.read_answer(body).choices[0].stop == "end"


def test_what_an_answer_is_called() -> None:
    """Its id and model are Google's, and the request's id where it has none."""
    got = GEMINI_CODEC.read_answer(chunk({"text": "a"}, finish="STOP"))
    assert (got.id, got.model) == ("r1", "g")
    bare = GEMINI_CODEC.read_answer({"candidates": [{"finishReason": "STOP"}]})
    assert (bare.id, bare.model, bare.usage) == ("", "", Usage())
    told = GEMINI_CODEC.write_answer(bare, TOLD)
    assert (told["responseId"], told["modelVersion"]) == ("req-1", "mine")
    assert told["candidates"][0]["index"] == 0
    (last,) = EventSplitter().feed(streamed(events_of(bare)))
    assert json.loads(last.data or b"")["responseId"] == "req-1"


def test_signed_and_plain_text_are_not_joined() -> None:
    """A signature ends the text that bears it, and thoughts and texts never mix."""
    parts: list[dict[str, Any]] = [
        {"text": "a"},
        {"text": "b", "thoughtSignature": "c2lnbmVk"},
        {"text": "c"},
        {"text": "d", "thought": True},
        {"text": "e", "thought": True},
        {"text": "", "thoughtSignature": "c2lnbmVk", "thought": True},
        {"text": "f"},
        {"text": "", "thought": True, "thoughtSignature": "c2lnbmVk"},
    ]
    wanted = (
        Text(text="a"),
        Text(text="b", signature=SIGNED),
        Text(text="c"),
        Reasoning(text="de", signature=SIGNED),
        Text(text="f"),
        Reasoning(redacted=True, signature=SIGNED),
    )
    whole = chunk(*parts, finish="STOP")
    pieces = sse(*(chunk(part) for part in parts), chunk(finish="STOP"))
    assert GEMINI_CODEC.read_answer(whole).choices[0].parts == wanted
    assert heard(pieces).choices[0].parts == wanted


def test_what_is_known_when_a_part_opens_is_told() -> None:
    """A call, a text or a thought may be told at its opening, and end with a late signature."""
    cited = Citation(kind="url", url="u", start=0, end=1)
    events: list[Any] = [
        Begun(id="", model="x"),
        Opened(index=0, part=Reasoning(text="h", signature=SIGNED)),
        Closed(index=0),
        Opened(index=1, part=Text(text="a", citations=(cited,))),
        Piece(index=1, signature=FOREIGN),
        Closed(index=1),
        Opened(index=2, part=ToolCall(id="c", name="f", arguments='{"a":', signature=SIGNED)),
        Piece(index=2, text="1}"),
        Closed(index=2),
        Opened(index=3, part=ToolCall(id="d", name="f", arguments="", signature=SIGNED)),
        Piece(index=3, signature=FOREIGN),
        Closed(index=3),
        Finished(stop="tool_calls"),
    ]
    got = heard(streamed(events))
    assert got.id == "req-1"
    assert got.choices[0].parts == (
        Reasoning(text="h", signature=SIGNED),
        Text(text="a", citations=(cited,), signature=FOREIGN),
        ToolCall(id="c", name="f", arguments='{"a":1}', signature=SIGNED),
        ToolCall(id="d", name="f", arguments="{}", signature=FOREIGN),
    )


def test_bare_words_of_a_request() -> None:
    """An instruction may be a string, and only the model's empty texts are passed over."""
    contents = [{"parts": [{"text": ""}]}, {"role": "model", "parts": [{"text": ""}]}]
    got, lost = read({"systemInstruction": "be brief", "contents": contents})
    assert got.turns == (Turn(role="system", parts=(Text(text="be brief"),)), user(""))
    assert lost == []
