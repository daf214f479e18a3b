"""Bedrock's Converse, judged by botocore's own model of the service and its parsers."""

from __future__ import annotations

import base64
from typing import Any, Literal

import msgspec
import pytest
from botocore.loaders import Loader  # type: ignore[import-untyped]
from botocore.model import ServiceModel  # type: ignore[import-untyped]
from botocore.parsers import create_parser  # type: ignore[import-untyped]
from botocore.validate import ParamValidator  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core._types import Usage
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._bedrock import CONVERSE_CODEC
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
from proxy_core.dialects._fold import events_of, folded
from proxy_core.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamThrottled,
)

SERVICE = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
CONVERSE = SERVICE.operation_model("Converse")
PNG = base64.b64encode(b"\x89PNG").decode()
OURS = Signature(origin="bedrock.converse", value="EqQB")
FOREIGN = Signature(origin="gemini.generate", value="CiQ")
EVERYTHING = Abilities()


def asked(*turns: Turn, **more: Any) -> Conversation:
    return Conversation(model="m", turns=turns, **more)


def said(*parts: Any, role: Any = "user") -> Turn:
    return Turn(role=role, parts=parts)


def written(
    conversation: Conversation, can: Abilities = EVERYTHING
) -> tuple[dict[str, Any], list[tuple[str, bool]]]:
    losses = Losses()
    body = CONVERSE_CODEC.write_request(conversation, "m", can, losses)
    report = ParamValidator().validate({"modelId": "m"} | blobs(body), CONVERSE.input_shape)
    assert not report.has_errors(), report.generate_report()
    return body, [(loss.field, loss.grave) for loss in losses.all]


def blobs(value: Any) -> Any:
    """The body with bytes where its base64 stands, as botocore's callers give them."""
    if isinstance(value, dict):
        return {
            key: base64.b64decode(item) if key in ("bytes", "redactedContent") else blobs(item)
            for key, item in value.items()
        }
    return [blobs(item) for item in value] if isinstance(value, list) else value


def test_a_full_request_is_valid_and_loses_nothing() -> None:
    """What Converse has a word for is written by botocore's model of it, and nothing is lost."""
    body, losses = written(
        asked(
            said(Text(text="Be kind.", cache=CacheMark(ttl="1h")), role="system"),
            said(
                Text(text="Look:"),
                Media(kind="image", source=Source(kind="base64", data=PNG, media_type="image/png")),
                Media(kind="file", name="a_b.pdf", source=Source(kind="text", data="words")),
                Media(
                    kind="video",
                    source=Source(kind="url", data="s3://films/a.mp4", media_type="video/mp4"),
                ),
            ),
            said(
                Reasoning(text="Hm.", signature=OURS),
                Reasoning(redacted=True, signature=OURS),
                Text(text="I look it up."),
                ToolCall(id="tooluse_1", name="look", arguments='{"at":[1,2.5]}'),
                role="assistant",
            ),
            said(
                ToolResult(id="tooluse_1", parts=(Text(text="gone"),), is_error=True), role="tool"
            ),
            said(Text(text="And?", cache=CacheMark())),
            tools=(Tool(name="look", description="Looks.", parameters={"type": "object"}),),
            tool_choice=ToolChoice(mode="named", names=("look",)),
            max_tokens=9000,
            sampling=Sampling(temperature=0.0, top_p=0.5, top_k=7),
            stop=("END",),
            output=OutputFormat(kind="schema", name="out", schema={"type": "object"}),
            reasoning=ReasoningWish(effort="medium"),
            service_tier="flex",
            metadata={"team": "a"},
        )
    )
    assert losses == []
    assert body["system"] == [
        {"text": "Be kind."},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
    ]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"][2]["document"] == {
        "format": "txt",
        "name": "a-b-pdf",
        "source": {"bytes": base64.b64encode(b"words").decode()},
    }
    assert body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "EqQB"}}},
        {"reasoningContent": {"redactedContent": "EqQB"}},
        {"text": "I look it up."},
        {"toolUse": {"toolUseId": "tooluse_1", "name": "look", "input": {"at": [1, 2.5]}}},
    ]
    result = {"toolUseId": "tooluse_1", "content": [{"text": "gone"}], "status": "error"}
    assert body["messages"][2]["content"] == [
        {"toolResult": result},
        {"text": "And?"},
        {"cachePoint": {"type": "default"}},
    ]
    assert body["inferenceConfig"] == {
        "maxTokens": 9000,
        "temperature": 0.0,
        "topP": 0.5,
        "stopSequences": ["END"],
    }
    assert body["additionalModelRequestFields"] == {
        "thinking": {"type": "enabled", "budget_tokens": 8192},
        "top_k": 7,
    }
    assert body["toolConfig"]["toolChoice"] == {"tool": {"name": "look"}}
    assert body["serviceTier"] == {"type": "flex"}
    assert body["requestMetadata"] == {"team": "a"}


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ({"n": 2}, ("n", True)),
        ({"modalities": ("audio",)}, ("modalities", True)),
        ({"output": OutputFormat(kind="json")}, ("response_format", True)),
        ({"tools": (Tool(name="w", kind="web_search"),)}, ("tools[0]", True)),
        ({"sampling": Sampling(seed=0)}, ("seed", False)),
        ({"sampling": Sampling(temperature=1.5)}, ("temperature", False)),
        ({"sampling": Sampling(logit_bias={"1": 2})}, ("logit_bias", False)),
        ({"user": "u"}, ("user", False)),
        ({"metadata": {"a": "ü"}}, ("metadata", False)),
        ({"service_tier": "scale"}, ("service_tier", False)),
        ({"parallel": False}, ("parallel_tool_calls", False)),
        ({"max_tokens": 9, "reasoning": ReasoningWish(effort="low")}, ("reasoning_effort", False)),
    ],
)
def test_what_converse_has_no_word_for_is_a_loss(
    more: dict[str, Any], lost: tuple[str, bool]
) -> None:
    """An option that can't be carried is named, and is grave only where it changes the answer."""
    _, losses = written(asked(said(Text(text="Hi")), **more))
    assert losses == [lost]


@pytest.mark.parametrize(
    ("part", "lost"),
    [
        (Media(kind="image", source=Source(kind="url", data="https://x.example/a.png")), True),
        (Media(kind="file", source=Source(kind="file", data="file-1")), True),
        (
            Media(kind="image", source=Source(kind="base64", data=PNG, media_type="image/tiff")),
            True,
        ),
    ],
)
def test_media_that_converse_refuses_is_a_grave_loss(part: Media, lost: bool) -> None:
    """A picture or file that can't be sent is named by its place, and the rest is sent."""
    body, losses = written(asked(said(Text(text="Look"), part)))
    assert losses == [("messages[0].content[1]", lost)]
    assert body["messages"] == [{"role": "user", "content": [{"text": "Look"}]}]


def test_a_picture_by_its_address_is_refused_with_the_remedy() -> None:
    """Who sends an address learns what Bedrock takes in its place."""
    losses, source = Losses(), Source(kind="url", data="https://x.example/a.png")
    conversation = asked(said(Media(kind="image", source=source)))
    CONVERSE_CODEC.write_request(conversation, "m", EVERYTHING, losses)
    assert "address" in losses.all[0].why
    assert "base64" in losses.all[0].why
    assert "s3://" in losses.all[0].why


def test_foreign_signatures_and_odd_ids_do_not_reach_aws() -> None:
    """Reasoning that another provider signed is left out; a call and its result share a new id."""
    body, losses = written(
        asked(
            said(Text(text="Hi")),
            said(
                Reasoning(text="Hm.", signature=FOREIGN),
                ToolCall(id="é" * 70, name="look", arguments="no json"),
                role="assistant",
            ),
            said(ToolResult(id="é" * 70, parts=()), role="tool"),
        )
    )
    assert losses == [("messages[1].reasoning", False)]
    use = body["messages"][1]["content"][0]["toolUse"]
    assert use["input"] == {"input": "no json"}
    assert body["messages"][2]["content"][0]["toolResult"]["toolUseId"] == use["toolUseId"]


def test_turns_are_merged_and_late_system_turns_are_marked() -> None:
    """Two turns of the user are one message; a system turn among them is marked as such."""
    body, losses = written(
        asked(said(Text(text="a")), said(Text(text="b"), role="developer"), said(Text(text="c")))
    )
    assert losses == []
    texts = [block["text"] for block in body["messages"][0]["content"]]
    assert texts == ["a", "<system>\nb\n</system>", "c"]
    assert len(body["messages"]) == 1 and "system" not in body


def test_instructions_alone_are_what_is_asked() -> None:
    """Converse wants a user's message: it is the system's text, or the request is refused."""
    system = said(Text(text="Greet"), role="system")
    body, losses = written(asked(system, said(Text(text=" "))))
    assert body["messages"] == [{"role": "user", "content": [{"text": "Greet"}]}]
    assert losses == [] and "system" not in body
    assert written(asked(said(Text(text=" "))))[1] == [("messages", True)]


def test_documents_of_one_name_are_told_apart() -> None:
    """Converse refuses two documents of one name, so the second gets a number."""
    file = Media(kind="file", name="R&D (1).txt", source=Source(kind="text", data="x"))
    body, _ = written(asked(said(Text(text="Read"), file, file)))
    names = [block["document"]["name"] for block in body["messages"][0]["content"][1:]]
    assert names == ["R-D (1)-txt", "R-D (1)-txt 2"]


@pytest.mark.parametrize(
    ("mode", "names", "tools", "choice"),
    [
        ("auto", (), ["a", "b"], {"auto": {}}),
        ("required", (), ["a", "b"], {"any": {}}),
        ("named", ("b",), ["a", "b"], {"tool": {"name": "b"}}),
        ("named", ("a", "b"), ["a", "b"], {"any": {}}),
        ("none", (), [], None),
    ],
)
def test_tool_choices(
    mode: Any, names: tuple[str, ...], tools: list[str], choice: dict[str, Any] | None
) -> None:
    """Each choice has its word in Converse; none at all means that no tools are sent."""
    body, losses = written(
        asked(
            said(Text(text="Hi")),
            tools=(Tool(name="a"), Tool(name="b")),
            tool_choice=ToolChoice(mode=mode, names=names),
        )
    )
    config = body.get("toolConfig", {"tools": []})
    assert losses == []
    assert [tool["toolSpec"]["name"] for tool in config["tools"]] == tools
    assert config.get("toolChoice") == choice


@pytest.mark.parametrize(
    ("wish", "ways", "fields", "effort"),
    [
        (ReasoningWish(enabled=False), ("budget",), {"type": "disabled"}, None),
        (ReasoningWish(budget=3000), ("budget",), {"type": "enabled", "budget_tokens": 3000}, None),
        (ReasoningWish(effort="high"), ("adaptive", "effort"), {"type": "adaptive"}, "high"),
        (ReasoningWish(budget=2000), ("effort",), None, "low"),
    ],
)
def test_thinking_is_asked_for_in_the_model_s_way(
    wish: ReasoningWish, ways: tuple[str, ...], fields: dict[str, Any] | None, effort: str | None
) -> None:
    """A budget, an adaptive mode or an effort: whichever the model's row says."""
    body, losses = written(asked(said(Text(text="x")), reasoning=wish), Abilities(reasoning=ways))
    assert losses == []
    assert body.get("additionalModelRequestFields", {}).get("thinking") == fields
    assert body.get("outputConfig", {}).get("effort") == effort


def test_a_budget_is_at_least_the_models_least() -> None:
    """Where nobody gave a cap there is room for it; the rounding is announced."""
    asks = asked(said(Text(text="x")), reasoning=ReasoningWish(budget=10))
    body, losses = written(asks, Abilities(reasoning=("budget",), least_budget=1024))
    thinking = body["additionalModelRequestFields"]["thinking"]
    assert thinking == {"type": "enabled", "budget_tokens": 1024}
    assert losses == [("reasoning_effort", False)]


# What AWS answers: written by these functions, and each is held to botocore's own parser.


def parsed(body: dict[str, Any]) -> dict[str, Any]:
    raw = {"status_code": 200, "headers": {}, "body": msgspec.json.encode(body)}
    return dict(create_parser("rest-json").parse(raw, CONVERSE.output_shape))


BLOCKS: list[dict[str, Any]] = [
    {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "EqQB"}}},
    {"reasoningContent": {"redactedContent": "UkVE"}},
    {
        "citationsContent": {
            "content": [{"text": "Blue."}],
            "citations": [
                {
                    "title": "Sky",
                    "sourceContent": [{"text": "is blue"}],
                    "location": {"documentPage": {"documentIndex": 1, "start": 2, "end": 3}},
                }
            ],
        }
    },
    {"toolUse": {"toolUseId": "tooluse_1", "name": "look", "input": {"at": 1}}},
]
USAGE = {
    "inputTokens": 10,
    "outputTokens": 5,
    "totalTokens": 48,
    "cacheReadInputTokens": 20,
    "cacheWriteInputTokens": 13,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 4}, {"ttl": "5m", "inputTokens": 9}],
}
WHOLE = {
    "output": {"message": {"role": "assistant", "content": BLOCKS}},
    "stopReason": "tool_use",
    "usage": USAGE,
    "metrics": {"latencyMs": 1},
}
EXPECTED = Answer(
    id="",
    model="",
    choices=(
        Choice(
            parts=(
                Reasoning(text="Hm.", signature=OURS),
                Reasoning(
                    redacted=True, signature=Signature(origin="bedrock.converse", value="UkVE")
                ),
                Text(
                    text="Blue.",
                    citations=(
                        Citation(
                            kind="document",
                            title="Sky",
                            quote="is blue",
                            source=1,
                            source_start=2,
                            source_end=3,
                            unit="page",
                        ),
                    ),
                ),
                ToolCall(id="tooluse_1", name="look", arguments='{"at":1}'),
            ),
            stop="tool_calls",
        ),
    ),
    usage=Usage(
        input_tokens=43,
        output_tokens=5,
        cached_tokens=20,
        reported=True,
        cache_write_tokens=13,
        cache_write_1h_tokens=4,
    ),
)
STREAM: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"reasoningContent": {"text": "H"}}}),
    ("contentBlockDelta", {"delta": {"reasoningContent": {"text": "m."}}}),
    ("contentBlockDelta", {"delta": {"reasoningContent": {"signature": "EqQB"}}}),
    ("contentBlockStop", {}),
    (
        "contentBlockDelta",
        {"contentBlockIndex": 1, "delta": {"reasoningContent": {"redactedContent": "UkVE"}}},
    ),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"text": "Blue."}}),
    (
        "contentBlockDelta",
        {
            "contentBlockIndex": 2,
            "delta": {"citation": BLOCKS[2]["citationsContent"]["citations"][0]},
        },
    ),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    (
        "contentBlockStart",
        {
            "contentBlockIndex": 3,
            "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "look"}},
        },
    ),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": '{"at"'}}}),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": ":1}"}}}),
    ("contentBlockStop", {"contentBlockIndex": 3}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}}),
]


def streamed(frames: list[tuple[str, dict[str, Any]]]) -> Answer:
    reader = CONVERSE_CODEC.stream_reader()
    events = [
        event
        for name, data in frames
        for event in reader.read(Frame(msgspec.json.encode(data), name))
    ]
    return folded([*events, *reader.end()])


def test_an_answer_is_read_whole_and_streamed_alike() -> None:
    """Every block of an answer that botocore understands is read, and a stream says the same."""
    assert parsed(WHOLE)["output"]["message"]["content"][3] == BLOCKS[3]
    assert CONVERSE_CODEC.read_answer(WHOLE) == EXPECTED
    assert streamed(STREAM) == EXPECTED


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", "end"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop_sequence"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_model_output", None),
        ("malformed_tool_use", None),
        ("model_context_window_exceeded", "context_window"),
    ],
)
def test_stop_reasons(reason: str, stop: str | None) -> None:
    """Each stop reason has its word; an answer that AWS could not read is a failure."""
    body = WHOLE | {"stopReason": reason}
    frames = [STREAM[0], ("messageStop", {"stopReason": reason})]
    if stop is None:
        with pytest.raises(UpstreamFailed, match=reason):
            CONVERSE_CODEC.read_answer(body)
        with pytest.raises(UpstreamFailed, match=reason):
            streamed(frames)
    else:
        assert CONVERSE_CODEC.read_answer(body).choices[0].stop == stop
        assert streamed(frames).choices[0].stop == stop


def test_every_stop_reason_of_the_model_is_tried() -> None:
    """The reasons that the test above tries are those that botocore's model knows."""
    tried = {values[0] for mark in test_stop_reasons.pytestmark for values in mark.args[1]}  # type: ignore[attr-defined]
    assert tried == set(SERVICE.shape_for("StopReason").enum)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("internalServerException", UpstreamFailed),
        ("modelStreamErrorException", UpstreamFailed),
        ("throttlingException", UpstreamThrottled),
        ("validationException", UpstreamRejected),
        ("serviceUnavailableException", UpstreamFailed),
        ("someNewException", UpstreamFailed),
    ],
)
def test_an_exception_in_a_stream_breaks_it(name: str, kind: type[UpstreamError]) -> None:
    """An exception event is a Broken with the error that fits, and AWS's words."""
    reader = CONVERSE_CODEC.stream_reader()
    (broken,) = reader.read(Frame(b'{"message":"so it is"}', name))
    assert isinstance(broken, Broken) and type(broken.error) is kind
    assert str(broken.error) == "so it is"


def test_a_call_without_arguments_and_a_server_s_tool() -> None:
    """A call that streams no input takes an empty object; a tool of AWS's own is no call."""
    use = {"toolUseId": "s", "name": "search"}
    answer = streamed(
        [
            STREAM[0],
            ("contentBlockStart", {"start": {"toolUse": use | {"type": "server_tool_use"}}}),
            ("contentBlockDelta", {"delta": {"toolUse": {"input": "{}"}}}),
            ("contentBlockStop", {}),
            ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": use}}),
            ("contentBlockStop", {"contentBlockIndex": 1}),
            ("messageStop", {"stopReason": "tool_use"}),
        ]
    )
    assert answer.choices[0].parts == (ToolCall(id="s", name="search", arguments="{}"),)


def test_what_is_no_answer_is_an_error_of_the_upstream() -> None:
    """Garbage is a protocol error, and a stream without its end is not taken for whole."""
    bodies: list[dict[str, Any]] = [
        {},
        {"output": 1},
        WHOLE | {"output": {"message": {"content": [7]}}},
    ]
    for body in bodies:
        with pytest.raises(UpstreamProtocolError):
            CONVERSE_CODEC.read_answer(body)
    with pytest.raises(UpstreamProtocolError):
        streamed([("contentBlockDelta", {"delta": 1})])
    with pytest.raises(UpstreamDisconnected):
        streamed(STREAM[:-2])


def test_absurd_counts_are_not_believed() -> None:
    """A usage that can't be true counts as not reported."""
    for tokens in (-1, 1e12, "7", None, True):
        answer = CONVERSE_CODEC.read_answer(WHOLE | {"usage": USAGE | {"inputTokens": tokens}})
        assert answer.usage == Usage()


TEXTS = st.text('aé{}"\\ \n', min_size=1, max_size=6)
PARTS = st.lists(
    st.one_of(
        st.builds(Text, text=TEXTS.filter(str.strip)),
        st.builds(Reasoning, text=TEXTS, signature=st.just(OURS)),
        st.builds(
            ToolCall,
            id=st.from_regex(r"[a-zA-Z0-9_.:-]{1,8}", fullmatch=True),
            name=st.just("f"),
            arguments=st.sampled_from(("{}", '{"a":[1,null]}', '{"b":"\\"é"}')),
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(PARTS)
def test_an_answer_sent_back_as_history_is_the_same_answer(parts: list[Any]) -> None:
    """What is written of an assistant's turn reads as the same parts, byte for byte."""
    body, losses = written(asked(said(Text(text="Hi")), said(*parts, role="assistant")))
    told = {"message": {"role": "assistant", "content": body["messages"][1]["content"]}}
    read = CONVERSE_CODEC.read_answer({"output": told, "stopReason": "end_turn"})
    assert losses == []
    assert list(read.choices[0].parts) == parts
    assert folded(events_of(read)) == read


FORMATS = {
    "image": "ImageFormat",
    "audio": "AudioFormat",
    "video": "VideoFormat",
    "file": "DocumentFormat",
}
FILM = Source(kind="url", data="s3://films/a", media_type="video/mp4")
PICTURE = Media(kind="image", source=Source(kind="base64", data=PNG, media_type="image/png"))


@pytest.mark.parametrize(
    ("kind", "media_type", "form"),
    [
        ("image", "image/jpg", "jpeg"),
        ("image", "IMAGE/PNG; a=b", "png"),
        ("audio", "audio/mpeg", "mp3"),
        ("video", "video/quicktime", "mov"),
        ("video", "video/3gpp", "three_gp"),
        ("file", "text/markdown", "md"),
        ("file", "application/pdf", "pdf"),
    ],
)
def test_formats_are_those_of_the_service(kind: Any, media_type: str, form: str) -> None:
    """A media type becomes the format that botocore's model of the service knows."""
    source = Source(kind="base64", data=PNG, media_type=media_type)
    body, losses = written(asked(said(Text(text="a"), Media(kind=kind, source=source))))
    (block,) = body["messages"][0]["content"][1].values()
    assert (block["format"], losses) == (form, [])
    assert block["source"] == {"bytes": PNG}
    assert form in SERVICE.shape_for(FORMATS[kind]).enum


F = Tool(name="f", description="does", parameters={"type": "object"})
MARKED = Text(text="a", cache=CacheMark())
CALLED = said(ToolCall(id="c", name="f"), role="assistant")
ANSWERED = said(ToolResult(id="c", parts=(Text(text="r"), PICTURE)), role="tool")


@pytest.mark.parametrize(
    ("more", "can", "lost"),
    [
        ({"sampling": Sampling(temperature=1.0)}, {}, []),
        (
            {"sampling": Sampling(temperature=0.9)},
            {"max_temperature": 0.5},
            [("temperature", False)],
        ),
        (
            {"sampling": Sampling(temperature=1.5)},
            {"max_temperature": 2.0},
            [("temperature", False)],
        ),
        ({"sampling": Sampling(top_k=4)}, {"top_k": False}, [("top_k", False)]),
        ({"service_tier": "auto"}, {}, []),
        ({"metadata": dict.fromkeys(map(str, range(16)), "x")}, {}, []),
        ({"metadata": dict.fromkeys(map(str, range(17)), "x")}, {}, [("metadata", False)]),
        ({"metadata": {"a": "x" * 256}}, {}, []),
        ({"metadata": {"a": "x" * 257}}, {}, [("metadata", False)]),
        ({"metadata": {"a": 1}}, {}, [("metadata", False)]),
        ({"tools": (F,)}, {"tools": False}, [("tools[0]", True)]),
        (
            {"tools": (F,), "tool_choice": ToolChoice(mode="required")},
            {"forced_tools": False},
            [("tool_choice", True)],
        ),
        (
            {"tools": (F,), "tool_choice": ToolChoice(mode="auto")},
            {"forced_tools": False},
            [],
        ),
        (
            {
                "turns": (said(Text(text="a")), CALLED, ANSWERED),
                "tools": (F,),
                "tool_choice": ToolChoice(mode="none"),
            },
            {},
            [("tool_choice", True)],
        ),
        (
            {"tools": (msgspec.structs.replace(F, strict=True),)},
            {"strict_tools": False},
            [("tools[0].strict", False)],
        ),
        (
            {"output": OutputFormat(kind="schema", schema={})},
            {"json_schema": False},
            [("response_format", True)],
        ),
        (
            {"reasoning": ReasoningWish(effort="low")},
            {"reasoning": ()},
            [("reasoning_effort", False)],
        ),
        ({"reasoning": ReasoningWish(enabled=False)}, {"reasoning": ()}, []),
        (
            {"reasoning": ReasoningWish(effort="minimal")},
            {"reasoning": ("effort",)},
            [("reasoning_effort", False)],
        ),
        (
            {"reasoning": ReasoningWish(budget=8), "max_tokens": 9000},
            {"reasoning": ("budget",)},
            [("reasoning_effort", False)],
        ),
        (
            {"reasoning": ReasoningWish(budget=2000), "max_tokens": 2000},
            {"reasoning": ("budget",)},
            [("reasoning_effort", False)],
        ),
        ({"reasoning": ReasoningWish(budget=2000), "max_tokens": 2001}, {}, []),
        ({"turns": (said(MARKED),)}, {"cache_marks": False}, [("messages[0].content[0]", False)]),
        (
            {"turns": (said(Text(text="a"), PICTURE),)},
            {"images": False},
            [("messages[0].content[1]", True)],
        ),
        (
            {"turns": (said(Text(text="a")), said(Text(text="b"), PICTURE, role="assistant"))},
            {},
            [("messages[1].content[1]", True)],
        ),
        (
            {"turns": (said(Text(text="a")), CALLED, ANSWERED)},
            {"images": False},
            [("messages[2].content[0].content[1]", True)],
        ),
        (
            {
                "turns": (
                    said(Text(text="a")),
                    said(Text(text="b"), Reasoning(text="x"), role="assistant"),
                )
            },
            {},
            [("messages[1].reasoning", False)],
        ),
    ],
)
def test_losses_have_the_clients_words(
    more: dict[str, Any], can: dict[str, Any], lost: list[tuple[str, bool]]
) -> None:
    """Each loss is named as its client said it, says why, and is grave where the answer differs."""
    turns = more.get("turns", (said(Text(text="Hi")),))
    rest = {name: value for name, value in more.items() if name != "turns"}
    losses = Losses()
    CONVERSE_CODEC.write_request(asked(*turns, **rest), "m", Abilities(**can), losses)
    told = [(loss.field.removesuffix(".cache_control"), loss.grave) for loss in losses.all]
    assert told == lost
    assert all(loss.why for loss in losses.all)


@pytest.mark.parametrize(
    ("more", "can", "path", "value"),
    [
        (
            {"output": OutputFormat(kind="schema", name="n", description="d", schema={"a": 1})},
            {},
            ("outputConfig", "textFormat"),
            {
                "type": "json_schema",
                "structure": {"jsonSchema": {"schema": '{"a":1}', "name": "n", "description": "d"}},
            },
        ),
        (
            {"output": OutputFormat(kind="schema", schema={})},
            {},
            ("outputConfig", "textFormat", "structure", "jsonSchema"),
            {"schema": "{}"},
        ),
        (
            {"sampling": Sampling(temperature=0.9)},
            {"max_temperature": 0.5},
            ("inferenceConfig", "temperature"),
            0.5,
        ),
        (
            {"tools": (msgspec.structs.replace(F, strict=True, cache=CacheMark(ttl="1h")),)},
            {},
            ("toolConfig", "tools"),
            [
                {
                    "toolSpec": {
                        "name": "f",
                        "description": "does",
                        "inputSchema": {"json": {"type": "object"}},
                        "strict": True,
                    }
                },
                {"cachePoint": {"type": "default", "ttl": "1h"}},
            ],
        ),
        (
            {"tools": (Tool(name="f", strict=False),)},
            {"strict_tools": False},
            ("toolConfig", "tools"),
            [
                {
                    "toolSpec": {
                        "name": "f",
                        "inputSchema": {"json": {"type": "object", "properties": {}}},
                    }
                }
            ],
        ),
        (
            {"reasoning": ReasoningWish(budget=8), "max_tokens": 9000},
            {"reasoning": ("budget",)},
            ("additionalModelRequestFields", "thinking"),
            {"type": "enabled", "budget_tokens": 1024},
        ),
        (
            {"reasoning": ReasoningWish(enabled=True)},
            {"reasoning": ("budget",)},
            ("additionalModelRequestFields", "thinking"),
            {"type": "enabled", "budget_tokens": 8192},
        ),
        (
            {"reasoning": ReasoningWish(budget=5000), "max_tokens": 2000},
            {"reasoning": ("budget",)},
            ("additionalModelRequestFields", "thinking"),
            {"type": "enabled", "budget_tokens": 1999},
        ),
        (
            {"reasoning": ReasoningWish(budget=5000), "max_tokens": 1025},
            {"reasoning": ("budget",)},
            ("additionalModelRequestFields", "thinking"),
            {"type": "enabled", "budget_tokens": 1024},
        ),
        (
            {"reasoning": ReasoningWish(effort="minimal")},
            {"reasoning": ("effort",)},
            ("outputConfig", "effort"),
            "low",
        ),
        (
            {"cache_all": CacheMark(ttl="1h")},
            {},
            ("messages", 0, "content"),
            [{"text": "Hi"}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        ),
    ],
)
def test_what_is_sent(
    more: dict[str, Any], can: dict[str, Any], path: tuple[Any, ...], value: Any
) -> None:
    """Each wish stands where botocore's model of the service has its place."""
    found: Any = written(asked(said(Text(text="Hi")), **more), Abilities(**can))[0]
    for step in path:
        found = found[step]
    assert found == value


def test_a_request_that_says_nothing_else() -> None:
    """What nobody said is left out, and blanks are no text."""
    body, losses = written(asked(said(Text(text="a"), Text(text=" "), MARKED)))
    blocks = [{"text": "a"}, {"text": "a"}, {"cachePoint": {"type": "default"}}]
    assert (body, losses) == ({"messages": [{"role": "user", "content": blocks}]}, [])
    body, _ = written(asked(said(MARKED), cache_all=CacheMark()))
    assert len(body["messages"][0]["content"]) == 2


def test_documents_say_what_is_about_them() -> None:
    """A name in the letters that AWS takes, and the words and the wish for citations."""
    file = Media(
        kind="file",
        name=" é_ö ",
        source=Source(kind="text", data="x"),
        context="from 1900",
        cites=True,
    )
    long = msgspec.structs.replace(file, name="b" * 300, context=None, cites=False)
    bare = msgspec.structs.replace(long, name="")
    body, losses = written(asked(said(Text(text="a"), file, long, bare)))
    told = [block["document"] for block in body["messages"][0]["content"][1:]]
    assert told[0]["name"] == "-"
    assert (told[0]["context"], told[0]["citations"]) == ("from 1900", {"enabled": True})
    assert (told[1]["name"], told[2]["name"]) == ("b" * 180, "document")
    assert told[1].keys() == {"format", "source", "name"}
    assert losses == []


PLACES: tuple[tuple[str, Literal["char", "page", "block"]], ...] = (
    ("documentChar", "char"),
    ("documentPage", "page"),
    ("documentChunk", "block"),
)


@pytest.mark.parametrize(
    ("location", "citation"),
    [
        (
            {"web": {"url": "https://x.test"}},
            Citation(kind="url", url="https://x.test", title="T", quote="ab"),
        ),
        ({"web": {"url": 4}}, Citation(kind="url", title="T", quote="ab")),
        *(
            (
                {name: {"documentIndex": 1, "start": 2, "end": 3}},
                Citation(
                    kind="document",
                    title="T",
                    quote="ab",
                    source=1,
                    source_start=2,
                    source_end=3,
                    unit=unit,
                ),
            )
            for name, unit in PLACES
        ),
        (
            {"searchResultLocation": {"searchResultIndex": 0, "start": 2, "end": 3}},
            Citation(
                kind="search",
                title="T",
                quote="ab",
                source=0,
                source_start=2,
                source_end=3,
                unit="block",
            ),
        ),
        ({"newPlace": {}}, Citation(kind="document", title="T", quote="ab")),
        (None, Citation(kind="document", title="T", quote="ab")),
    ],
)
def test_places_of_citations(location: Any, citation: Citation) -> None:
    """Each place that AWS names is told, and the words of the source in any case."""
    told = {"title": "T", "sourceContent": [{"text": "a"}, {}, {"text": "b"}], "location": location}
    block = {"citationsContent": {"content": [{"text": "x"}, {"text": "y"}], "citations": [told]}}
    body = WHOLE | {"output": {"message": {"role": "assistant", "content": [block]}}}
    text = Text(text="xy", citations=(citation,))
    assert CONVERSE_CODEC.read_answer(body).choices[0].parts == (text,)
    frames = [
        STREAM[0],
        ("contentBlockDelta", {"delta": {"text": "xy"}}),
        ("contentBlockDelta", {"delta": {"citation": told}}),
        ("messageStop", {"stopReason": "end_turn"}),
    ]
    assert streamed(frames).choices[0].parts == (text,)


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"text": ""}, (Text(text=""),)),
        ({"image": {"format": "jpeg", "source": {"bytes": PNG}}}, "image/jpeg"),
        ({"image": {"source": {"bytes": PNG}}}, "image/png"),
        ({"image": {"format": "png"}}, ()),
        ({"toolUse": {"toolUseId": "t", "name": "f"}}, (ToolCall(id="t", name="f"),)),
        ({"toolUse": {"toolUseId": "t", "name": "f", "type": "server_tool_use"}}, ()),
        ({"reasoningContent": {"reasoningText": {"text": "x"}}}, (Reasoning(text="x"),)),
        ({"reasoningContent": {}}, (Reasoning(),)),
        ({"citationsContent": {}}, (Text(text=""),)),
        ({"somethingNew": {}}, ()),
    ],
)
def test_blocks_of_an_answer(block: dict[str, Any], parts: Any) -> None:
    """Each block is the part that it says, and one of AWS's own is none."""
    body = WHOLE | {"output": {"message": {"role": "assistant", "content": [block]}}}
    if isinstance(parts, str):
        source = Source(kind="base64", data=PNG, media_type=parts)
        parts = (Media(kind="image", source=source),)
    assert CONVERSE_CODEC.read_answer(body).choices[0].parts == parts


def test_a_call_whose_input_is_no_object() -> None:
    """Arguments that no tool could take are the upstream's fault."""
    block = {"toolUse": {"toolUseId": "t", "name": "f", "input": [1]}}
    with pytest.raises(UpstreamProtocolError):
        CONVERSE_CODEC.read_answer(WHOLE | {"output": {"message": {"content": [block]}}})


def test_a_picture_comes_in_pieces() -> None:
    """Its base64 is gathered and told whole, also where the stream has no end of the block."""
    start = ("contentBlockStart", {"start": {"image": {"format": "webp"}}})
    data = base64.b64encode(b"abcdef").decode()
    pieces = [
        (
            "contentBlockDelta",
            {"delta": {"image": {"source": {"bytes": base64.b64encode(one).decode()}}}},
        )
        for one in (b"ab", b"cdef")
    ]
    end = ("messageStop", {"stopReason": "end_turn"})
    ends: list[list[tuple[str, dict[str, Any]]]] = [[("contentBlockStop", {})], []]
    for stop in ends:
        (part,) = streamed([STREAM[0], start, *pieces, *stop, end]).choices[0].parts
        source = Source(kind="base64", data=data, media_type="image/webp")
        assert part == Media(kind="image", source=source)


def test_what_a_stream_leaves_open_is_closed() -> None:
    """Calls without arguments and texts without an end are told before the end of the answer."""
    use = {"toolUseId": "s", "name": "search"}
    frames = [
        STREAM[0],
        ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": use}}),
        ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"text": "a"}}),
        ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"reasoningContent": {}}}),
        ("contentBlockDelta", {"contentBlockIndex": 7, "delta": {"toolUse": {"input": "{}"}}}),
        ("newEvent", {}),
        ("messageStop", {"stopReason": "tool_use"}),
    ]
    parts = (ToolCall(id="s", name="search", arguments="{}"), Text(text="a"))
    assert streamed(frames).choices[0].parts == parts


@pytest.mark.parametrize("name", ["throttlingException", "newException", "error"])
def test_after_an_exception_a_stream_has_ended(name: str) -> None:
    """It is broken, and not cut off as well."""
    reader = CONVERSE_CODEC.stream_reader()
    (broken,) = reader.read(Frame(b'{"message":"so"}', name))
    assert isinstance(broken, Broken)
    assert reader.end() == []


@pytest.mark.parametrize(
    ("change", "usage"),
    [
        ({"outputTokens": None}, Usage()),
        ({"cacheReadInputTokens": None}, Usage(23, 5, 0, 0, True, 13, 4)),
        ({"cacheReadInputTokens": -5}, Usage(23, 5, 0, 0, True, 13, 4)),
        ({"cacheWriteInputTokens": 2}, Usage(32, 5, 20, 0, True, 2, 2)),
        ({"cacheDetails": None}, Usage(43, 5, 20, 0, True, 13, 0)),
        ({"cacheDetails": [4, {"ttl": "1h"}]}, Usage(43, 5, 20, 0, True, 13, 0)),
        (
            {"cacheDetails": [{"ttl": "1h", "inputTokens": 2}, {"ttl": "1h", "inputTokens": 3}]},
            Usage(43, 5, 20, 0, True, 13, 5),
        ),
        ({"inputTokens": 10**9}, Usage(10**9 + 33, 5, 20, 0, True, 13, 4)),
        ({"inputTokens": 10**9 + 1}, Usage()),
    ],
)
def test_counts_of_an_answer(change: dict[str, Any], usage: Usage) -> None:
    """What caches gave and took is input too, and a count that can't be is none."""
    assert CONVERSE_CODEC.read_answer(WHOLE | {"usage": USAGE | change}).usage == usage


@pytest.mark.parametrize(("told", "kept"), [("a" * 64, True), ("a" * 65, False), ("", False)])
def test_ids_of_calls(told: str, kept: bool) -> None:
    """An id of up to 64 letters goes as it is, and another gets one that AWS takes."""
    call = said(ToolCall(id=told, name="f"), ToolCall(id="other", name="f"), role="assistant")
    body, _ = written(asked(said(Text(text="a")), call))
    used = body["messages"][1]["content"][0]["toolUse"]["toolUseId"]
    assert (used == told) is kept
    assert 1 <= len(used) <= 64 and used.isascii() and used != "other"


def test_a_citation_may_come_before_its_text() -> None:
    """It opens the text that it belongs to."""
    told = {"title": "T", "location": {"web": {"url": "u"}}}
    frames: list[tuple[str, dict[str, Any]]] = [
        STREAM[0],
        ("contentBlockDelta", {"delta": {"citation": told}}),
        ("contentBlockDelta", {"delta": {"text": "a"}}),
        ("messageStop", {"stopReason": "end_turn"}),
    ]
    cited = Citation(kind="url", url="u", title="T")
    assert streamed(frames).choices[0].parts == (Text(text="a", citations=(cited,)),)


def test_a_mark_in_a_late_system_turn_stays_a_mark() -> None:
    """Only the words of a late instruction are marked as such."""
    body, losses = written(asked(said(Text(text="a")), said(MARKED, PICTURE, role="system")))
    _, words, point, picture = body["messages"][0]["content"]
    assert words == {"text": "<system>\na\n</system>"}
    assert point == {"cachePoint": {"type": "default"}}
    assert (picture.keys(), losses) == ({"image"}, [])
