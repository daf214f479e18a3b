from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from anthropic.types import MessageCountTokensParams, MessageTokensCount
from google.genai import types as google
from pydantic import TypeAdapter

from proxy_core import (
    CHAT,
    DIALECTS,
    EMBEDDINGS,
    Call,
    create_provider,
    provider_kinds,
    provider_row,
)
from proxy_core._types import Headers, Ready
from proxy_core.dialects._bedrock import CONVERSE_CODEC
from proxy_core.dialects._canonical import (
    Answer,
    Choice,
    Conversation,
    Reasoning,
    ReasoningWish,
    Sampling,
    Signature,
    Text,
    ToolCall,
    Turn,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._fold import events_of
from proxy_core.errors import (
    InvalidRequest,
    NotCarried,
    UpstreamDisconnected,
    UpstreamModelMissing,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamThrottled,
)
from proxy_core.providers._models import abilities_of
from proxy_core.providers._signatures import SignatureMemory
from proxy_core.testing import FakeHttp

JSON: Headers = [(b"content-type", b"application/json")]
SSE: Headers = [(b"content-type", b"text/event-stream")]
SETTINGS = {"region": "eu-central-1", "project": "p", "location": "europe-west4"}
CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
MESSAGE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"up","content":[{"type":"text",'
    b'"text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{"input_tokens":3,"output_tokens":2}}'
)
BODIES: dict[str, dict[str, Any]] = {
    "openai.chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "openai.completions": {"prompt": "Hi"},
    "openai.embeddings": {"input": "Hi"},
    "openai.responses": {"input": "Hi"},
    "anthropic.messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "anthropic.count_tokens": {"messages": [{"role": "user", "content": "Hi"}]},
    "gemini.generate": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    "gemini.count_tokens": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}


def answering(*chunks: bytes, status: int = 200, headers: Headers = JSON) -> FakeHttp:
    return FakeHttp(lambda request: (status, headers, chunks))


def made(kind: str, http: FakeHttp, **options: Any) -> Any:
    if kind in ("vertex", "bedrock"):
        options = {**SETTINGS, **options}
    return create_provider(kind, api_key="k-0123", http=http, **options)


def call_of(client: str, headers: Sequence[tuple[bytes, bytes]] = (), **fields: Any) -> Call:
    body = {**BODIES[client], **fields}
    if client.startswith("gemini"):
        stream = bool(body.pop("stream", False))
        call = DIALECTS[client].read(json.dumps(body).encode(), model="mine", stream=stream)
    else:
        call = DIALECTS[client].read(json.dumps({"model": "mine", **body}).encode())
    return Call(
        call.dialect,
        call.body,
        call.model,
        call.stream,
        max_tokens=call.max_tokens,
        headers=tuple(headers),
    )


async def sent(provider: Any, http: FakeHttp, call: Call, model: str = "up") -> Any:
    """The request that went out, whatever came back."""
    try:
        async with provider.send(call, model=model):
            pass
    except (UpstreamDisconnected, Exception):
        assert http.requests
    return http.requests[-1]


AZURE = "https://me.openai.azure.com"
GOOGLE = "/v1/projects/p/locations/europe-west4/publishers"


@pytest.mark.parametrize(
    ("kind", "options", "client", "model", "stream", "url"),
    [
        ("anthropic", {}, "anthropic.messages", "m", True, "https://api.anthropic.com/v1/messages"),
        (
            "anthropic",
            {"base_url": "http://up/v1"},
            "anthropic.messages",
            "m",
            False,
            "http://up/v1/messages",
        ),
        ("anthropic", {}, "openai.chat", "m", True, "https://api.anthropic.com/v1/messages"),
        (
            "anthropic",
            {},
            "anthropic.count_tokens",
            "m",
            False,
            "https://api.anthropic.com/v1/messages/count_tokens",
        ),
        (
            "llamacpp",
            {},
            "anthropic.messages",
            "m",
            False,
            "http://127.0.0.1:8080/v1/messages",
        ),
        ("openai", {}, "openai.responses", "m", True, "https://api.openai.com/v1/responses"),
        (
            "gemini",
            {},
            "gemini.generate",
            "gemini-3-flash",
            True,
            (
                "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-flash"
                ":streamGenerateContent?alt=sse"
            ),
        ),
        (
            "gemini",
            {},
            "openai.chat",
            "gemini-3-flash",
            False,
            (
                "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-flash"
                ":generateContent"
            ),
        ),
        (
            "azure",
            {"base_url": AZURE},
            "openai.chat",
            "d",
            True,
            f"{AZURE}/openai/v1/chat/completions",
        ),
        (
            "azure",
            {"base_url": f"{AZURE}/openai/v1/"},
            "openai.responses",
            "d",
            True,
            f"{AZURE}/openai/v1/responses",
        ),
        (
            "azure",
            {"base_url": AZURE, "api_version": "2024-10-21"},
            "openai.chat",
            "my deployment",
            False,
            f"{AZURE}/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21",
        ),
        (
            "azure",
            {"base_url": f"{AZURE}/openai", "api_version": "2024-10-21"},
            "openai.embeddings",
            "e",
            False,
            f"{AZURE}/openai/deployments/e/embeddings?api-version=2024-10-21",
        ),
        (
            "vertex",
            {},
            "gemini.generate",
            "gemini-2.5-pro",
            True,
            (
                f"https://europe-west4-aiplatform.googleapis.com{GOOGLE}/google/models/gemini-2.5-pro"
                ":streamGenerateContent?alt=sse"
            ),
        ),
        (
            "vertex",
            {"location": "global"},
            "anthropic.messages",
            "claude-sonnet-4-5@20250929",
            True,
            (
                "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/anthropic"
                "/models/claude-sonnet-4-5@20250929:streamRawPredict"
            ),
        ),
        (
            "vertex",
            {},
            "openai.chat",
            "claude-sonnet-4-5",
            False,
            (
                f"https://europe-west4-aiplatform.googleapis.com{GOOGLE}/anthropic/models"
                "/claude-sonnet-4-5:rawPredict"
            ),
        ),
        (
            "vertex",
            {},
            "gemini.generate",
            "claude-sonnet-4-5",
            True,
            (
                f"https://europe-west4-aiplatform.googleapis.com{GOOGLE}/anthropic/models"
                "/claude-sonnet-4-5:streamRawPredict"
            ),
        ),
        (
            "vertex",
            {},
            "gemini.count_tokens",
            "gemini-2.5-pro",
            False,
            (
                f"https://europe-west4-aiplatform.googleapis.com{GOOGLE}/google/models"
                "/gemini-2.5-pro:countTokens"
            ),
        ),
        (
            "bedrock",
            {},
            "anthropic.messages",
            CLAUDE,
            True,
            (
                "https://bedrock-runtime.eu-central-1.amazonaws.com/model/"
                "eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream"
            ),
        ),
        (
            "bedrock",
            {},
            "openai.chat",
            "amazon.nova-pro-v1:0",
            True,
            (
                "https://bedrock-runtime.eu-central-1.amazonaws.com/model/amazon.nova-pro-v1%3A0"
                "/converse-stream"
            ),
        ),
        ("cohere", {}, "gemini.generate", "m", True, "https://api.cohere.com/v2/chat"),
        ("ollama_native", {}, "openai.chat", "m", True, "http://127.0.0.1:11434/api/chat"),
    ],
)
async def test_each_way_has_its_url(
    kind: str, options: dict[str, Any], client: str, model: str, stream: bool, url: str
) -> None:
    """As the provider's documentation has it, for whole answers and for streams."""
    http = answering()
    asked: dict[str, Any] = {"stream": True} if stream else {}
    call = call_of(client, **asked)
    request = await sent(made(kind, http, **options), http, call, model)
    assert request.url == url


@pytest.mark.parametrize(
    ("kind", "options", "header"),
    [
        ("anthropic", {}, (b"x-api-key", b"k-0123")),
        ("gemini", {}, (b"x-goog-api-key", b"k-0123")),
        ("azure", {"base_url": AZURE}, (b"api-key", b"k-0123")),
        ("bedrock", {}, (b"authorization", b"Bearer k-0123")),
        ("vertex", {}, (b"x-goog-api-key", b"k-0123")),
        ("cohere", {}, (b"authorization", b"Bearer k-0123")),
        ("anthropic", {}, (b"anthropic-version", b"2023-06-01")),
    ],
)
async def test_each_kind_shows_its_key_in_its_own_header(
    kind: str, options: dict[str, Any], header: tuple[bytes, bytes]
) -> None:
    """And what else its provider demands."""
    http = answering()
    request = await sent(made(kind, http, **options), http, call_of("openai.chat"))
    assert header in request.headers


BETA = (b"anthropic-beta", b"context-1m-2025-08-07, other-beta")


async def test_headers_of_the_dialect_go_on_to_the_same_dialect() -> None:
    """Those that the row lets pass take the place of ours, never of the operator's."""
    http = answering(MESSAGE)
    version = (b"anthropic-version", b"2099-01-01")
    call = call_of("anthropic.messages", (BETA, version, (b"x-other", b"1")))
    request = await sent(made("anthropic", http), http, call)
    assert {BETA, version} <= set(request.headers)
    assert (b"anthropic-version", b"2023-06-01") not in request.headers
    assert not [name for name, _ in request.headers if name == b"x-other"]

    provider = made("anthropic", http, headers={"anthropic-beta": "mine"})
    request = await sent(provider, http, call)
    assert [v for name, v in request.headers if name == b"anthropic-beta"] == [b"mine"]

    request = await sent(made("openai", http), http, call)
    assert BETA not in request.headers


async def test_vertex_and_bedrock_have_the_model_in_the_url_alone() -> None:
    """Their version stands in the body instead, and numbers keep their spelling."""
    raw = (
        b'{"model":"mine", "max_tokens": 9, "stream":true, "temperature":1.0,'
        b' "messages":[{"role":"user","content":"Hi"}]}'
    )
    call = DIALECTS["anthropic.messages"].read(raw)
    http = answering()
    body = (await sent(made("vertex", http), http, call, "claude-opus-4-5")).body
    told = json.loads(body)
    assert told["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in told and told["stream"] is True
    assert b'"temperature":1.0' in body

    call = call_of("anthropic.messages", (BETA,), stream=True, anthropic_version="mine")
    told = json.loads((await sent(made("bedrock", http), http, call, CLAUDE)).body)
    assert "model" not in told and "stream" not in told
    assert told["anthropic_version"] == "mine"
    assert told["anthropic_beta"] == ["context-1m-2025-08-07", "other-beta"]

    told = json.loads(
        (await sent(made("bedrock", http), http, call_of("openai.chat"), CLAUDE)).body
    )
    assert told["anthropic_version"] == "bedrock-2023-05-31"
    assert "model" not in told and "stream" not in told


async def test_what_is_dropped_is_announced() -> None:
    """Once for its own answer: the next one has its own header, or none."""
    http = answering(MESSAGE)
    provider = made("anthropic", http)
    asked: list[tuple[dict[str, Any], set[str]]] = [
        ({"seed": 1, "logit_bias": {"5": 1}}, {"seed", "logit_bias"}),
        ({}, set()),
    ]
    for fields, told in asked:
        async with provider.send(call_of("openai.chat", **fields), model="up") as reply:
            found = {field for _, value in reply.headers for field in value.decode().split(", ")}
            assert found == told
            body = json.loads(b"".join([chunk async for chunk in reply.body]))
        assert body["choices"][0]["message"]["content"] == "Hello"
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3, 2)


async def test_what_would_be_another_request_is_refused_before_it_is_sent() -> None:
    """Another deployment may take it; nothing is held against this one. The operator may say no."""
    http = answering(MESSAGE)
    call = call_of("openai.chat", n=3)
    with pytest.raises(NotCarried, match="'n' can't be carried") as caught:
        async with made("anthropic", http).send(call, model="up"):
            pass
    assert (caught.value.deployment, caught.value.param) == ("anthropic/up", "n")
    assert http.requests == []
    async with made("anthropic", http, unsupported="announce").send(call, model="up") as reply:
        assert reply.headers == [(b"x-llm-proxy-dropped", b"n")]


async def test_a_clients_mistake_is_raised_as_it_is() -> None:
    """It is no UpstreamError: no other deployment is asked for it."""
    http = answering(MESSAGE)
    with pytest.raises(InvalidRequest, match="temperature"):
        async with made("anthropic", http).send(
            call_of("openai.chat", temperature="hot"), model="up"
        ):
            pass
    assert http.requests == []


async def test_what_has_no_translation_is_not_sent() -> None:
    """Embeddings of a provider that has none, or of a model that makes none."""
    http = answering(MESSAGE)
    with pytest.raises(UpstreamModelMissing, match="does not speak"):
        async with made("anthropic", http).send(call_of("openai.embeddings"), model="up"):
            pass
    with pytest.raises(UpstreamModelMissing, match="for this model"):
        async with made("bedrock", http).send(call_of("openai.embeddings"), model="amazon.nova-2"):
            pass


@pytest.mark.parametrize(
    ("client", "field"),
    [("anthropic.count_tokens", "input_tokens"), ("gemini.count_tokens", "totalTokens")],
)
async def test_a_count_that_nobody_makes_is_guessed(client: str, field: str) -> None:
    """Clients ask for it before each turn: a number that says it is a guess, and asks nobody."""
    http, call = answering(MESSAGE), call_of(client)
    async with made("openai", http).send(call, model="up") as reply:
        assert isinstance(reply.body, Ready)
        tokens = json.loads(reply.body.take())[field]
        assert dict(reply.headers)[b"x-llm-proxy-estimated"] == b"true"
    assert 0 < tokens < len(call.body.raw)
    assert http.requests == [] and reply.usage.input_tokens == 0


WRAPPED = {"generateContentRequest": {"model": "models/m", **BODIES["gemini.count_tokens"]}}
TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
VERTEX = f"https://europe-west4-aiplatform.googleapis.com{GOOGLE}"
COUNTS: dict[str, tuple[str, str, str, dict[str, Any], str]] = {
    "an Anthropic client of Gemini": (
        "gemini",
        "anthropic.count_tokens",
        "gemini-2.5-pro",
        {"system": "Be brief.", "tools": [TOOL]},
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:countTokens",
    ),
    "an Anthropic client of Vertex": (
        "vertex",
        "anthropic.count_tokens",
        "gemini-2.5-pro",
        {"system": "Be brief.", "tools": [TOOL]},
        f"{VERTEX}/google/models/gemini-2.5-pro:countTokens",
    ),
    "a Gemini client of Anthropic": (
        "anthropic",
        "gemini.count_tokens",
        "claude-sonnet-4-5",
        {},
        "https://api.anthropic.com/v1/messages/count_tokens",
    ),
    "a Gemini client of Claude on Vertex": (
        "vertex",
        "gemini.count_tokens",
        "claude-sonnet-4-5",
        WRAPPED,
        f"{VERTEX}/anthropic/models/count-tokens:rawPredict",
    ),
}


@pytest.mark.parametrize("who", COUNTS)
async def test_a_count_is_asked_in_the_upstreams_own_dialect(who: str) -> None:
    """The prompt is translated as for an answer; the number is the upstream's, and no guess."""
    kind, client, model, fields, url = COUNTS[who]
    http = answering(b'{"totalTokens": 31, "input_tokens": 31}')
    async with made(kind, http).send(call_of(client, **fields), model=model) as reply:
        assert isinstance(reply.body, Ready)
        answer = reply.body.take()
        assert reply.headers == []
    (request,) = http.requests
    assert request.url == url
    asked = json.loads(request.body)
    if client == "gemini.count_tokens":
        assert google.CountTokensResponse.model_validate_json(answer).total_tokens == 31
        assert TypeAdapter(MessageCountTokensParams).validate_python(asked)["model"] == model
        assert asked["messages"][0]["role"] == "user"
        return
    assert MessageTokensCount.model_validate_json(answer).input_tokens == 31
    if kind == "gemini":
        assert set(asked) == {"generateContentRequest"}
        asked = asked["generateContentRequest"]
        assert asked.pop("model") == f"models/{model}"
    assert set(asked) == {"contents", "systemInstruction", "tools"}
    said = google.Content.model_validate(asked["contents"][0]).parts or []
    assert [part.text for part in said] == ["Hi"]
    tools = google.Tool.model_validate(asked["tools"][0]).function_declarations or []
    assert [tool.name for tool in tools] == ["look"]


@pytest.mark.parametrize("told", [b"{}", b'{"totalTokens":"7"}', b'{"totalTokens":-1}', b"[", b"1"])
async def test_a_count_is_a_whole_number(told: bytes) -> None:
    """Anything else is no answer, and nothing is made up in its place."""
    http = answering(told)
    with pytest.raises(UpstreamProtocolError):
        async with made("gemini", http).send(call_of("anthropic.count_tokens"), model="up"):
            pass


async def test_an_error_in_the_place_of_a_count_is_told() -> None:
    """The upstream's own words, as for an answer."""
    http = answering(b'{"error":{"code":400,"message":"too odd","status":"INVALID_ARGUMENT"}}')
    with pytest.raises(UpstreamRejected, match="too odd"):
        async with made("gemini", http).send(call_of("anthropic.count_tokens"), model="up"):
            pass


async def test_a_count_says_what_it_is_without() -> None:
    """A field that the upstream has no word for is named: the count goes on."""
    http, call = answering(b'{"totalTokens":1}'), call_of("anthropic.count_tokens", speed="fast")
    async with made("gemini", http).send(call, model="up") as reply:
        assert reply.headers == [(b"x-llm-proxy-dropped", b"speed")]


async def test_a_stream_of_lines_becomes_events() -> None:
    """Ollama's own stream, to a client of OpenAI's."""
    lines = (
        b'{"model":"u","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant",'
        b'"content":"Hel"},"done":false}\n{"model":"u","created_at":"2026-01-01T00:00:00Z",'
        b'"message":{"role":"assistant","content":"lo"},"done":true,"done_reason":"stop",'
        b'"prompt_eval_count":4,"eval_count":2}\n'
    )
    headers: Headers = [(b"content-type", b"application/x-ndjson")]
    http = answering(lines[:50], lines[50:], headers=headers)
    async with made("ollama_native", http).send(
        call_of("openai.chat", stream=True), model="u"
    ) as reply:
        passed = b"".join([chunk async for chunk in reply.body])
    said = [json.loads(e[6:]) for e in passed.split(b"\n\n") if e.startswith(b"data: {")]
    deltas = [e["choices"][0]["delta"].get("content") or "" for e in said if e["choices"]]
    assert "".join(deltas) == "Hello"
    assert passed.endswith(b"data: [DONE]\n\n")
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.reported) == (
        4,
        2,
        True,
    )


def aws_message(payload: bytes, **headers: str) -> bytes:
    """One message of an AWS event stream; botocore reads it, and checks its sums."""
    told = b"".join(
        bytes([len(name) + 1]) + b":" + name.replace("_", "-").encode() + b"\x07"
        + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )  # fmt: skip
    prelude = struct.pack(">II", 16 + len(told) + len(payload), len(told))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + told + payload
    return message + struct.pack(">I", binascii.crc32(message))


def chunk(event: dict[str, Any]) -> bytes:
    inner = base64.b64encode(json.dumps(event).encode()).decode()
    payload = json.dumps({"bytes": inner}).encode()
    return aws_message(payload, message_type="event", event_type="chunk")


AWS: Headers = [(b"content-type", b"application/vnd.amazon.eventstream")]
SAID: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            **json.loads(MESSAGE),
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "Hello"},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
]


@pytest.mark.parametrize("client", ["anthropic.messages", "openai.chat"])
async def test_claude_on_bedrock_streams(client: str) -> None:
    """AWS's messages become the client's events, in the same dialect and in another one."""
    raw = b"".join(chunk(event) for event in SAID)
    http = answering(*[raw[at : at + 100] for at in range(0, len(raw), 100)], headers=AWS)
    call = call_of(client, stream=True)
    async with made("bedrock", http).send(call, model=CLAUDE) as reply:
        passed = b"".join([part async for part in reply.body])
        assert reply.has_content
    assert b'"Hello"' in passed and b'"mine"' in passed
    last = b"message_stop" if client == "anthropic.messages" else b"[DONE]"
    assert last in passed.rpartition(b"\n\n")[0].rpartition(b"\n\n")[2]
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3, 2)


@pytest.mark.parametrize("client", ["anthropic.messages", "openai.chat"])
async def test_an_exception_in_bedrocks_stream_is_one_of_ours(client: str) -> None:
    """It is no end of an answer: throttled is throttled, also in the middle."""
    fault = aws_message(
        b'{"message":"slow down"}',
        message_type="exception",
        exception_type="throttlingException",
    )
    http = answering(b"".join(map(chunk, SAID[:3])) + fault, headers=AWS)
    call = call_of(client, stream=True)
    with pytest.raises(UpstreamThrottled, match="slow down"):
        async with made("bedrock", http).send(call, model=CLAUDE) as reply:
            async for _ in reply.body:
                pass


class Stamp:
    """Signs with what it was given."""

    async def sign(self, method: str, url: str, headers: Headers, body: bytes) -> Headers:
        return [*headers, (b"authorization", f"{method} {url} {len(body)}".encode())]


async def test_a_signer_signs_what_is_sent() -> None:
    """The URL and the bytes of the request, the last thing before it goes."""
    http = answering(MESSAGE)
    provider = create_provider("bedrock", region="us-east-1", http=http, signer=Stamp())
    async with provider.send(call_of("anthropic.messages"), model=CLAUDE):
        pass
    [request] = http.requests
    told = f"POST {request.url} {len(request.body)}".encode()
    assert (b"authorization", told) in request.headers


THOUGHT = {"type": "thinking", "thinking": "Look it up.", "signature": "c2lnbmVk"}
CALLED = {"type": "tool_use", "id": "toolu_01A", "name": "look", "input": {"at": 1}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
HISTORY = [
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "toolu_01A",
                "type": "function",
                "function": {"name": "look", "arguments": '{"at":1}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "toolu_01A", "content": "there"},
]


def thinking_answer(stream: bool) -> tuple[Headers, bytes]:
    whole = {**json.loads(MESSAGE), "content": [THOUGHT, CALLED], "stop_reason": "tool_use"}
    if not stream:
        return JSON, json.dumps(whole).encode()
    events: list[dict[str, Any]] = [
        SAID[0],
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        *(
            {"type": "content_block_delta", "index": 0, "delta": delta}
            for delta in (
                {"type": "thinking_delta", "thinking": "Look "},
                {"type": "thinking_delta", "thinking": "it up."},
                {"type": "signature_delta", "signature": "c2lnbmVk"},
            )
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {**CALLED, "input": {}}},
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": '{"at":1}'},
        },
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
        SAID[-1],
    ]
    return SSE, b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())
        for event in events
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_survives_a_client_that_drops_it(stream: bool) -> None:
    """The history comes back without it; the upstream gets its own signed block again, first."""
    headers, raw = thinking_answer(stream)
    http = answering(raw, headers=headers)
    provider = made("anthropic", http)
    wish: dict[str, Any] = {"tools": [TOOL], "reasoning_effort": "low", "max_tokens": 9000}
    call = call_of("openai.chat", stream=stream, **wish)
    async with provider.send(call, model="claude-sonnet-4-5") as reply:
        assert b"toolu_01A" in b"".join([part async for part in reply.body])
    assert provider.signatures.held_bytes > 0
    call = call_of("openai.chat", messages=HISTORY, stream=stream, **wish)
    async with provider.send(call, model="claude-sonnet-4-5") as reply:
        assert reply.headers == []
    turn = json.loads(http.requests[-1].body)["messages"][1]
    assert turn == {"role": "assistant", "content": [THOUGHT, CALLED]}


def signed_call(number: int, size: int = 10) -> Answer:
    signature = Signature(origin="x", value="s" * size)
    parts = (
        Reasoning(text=f"t{number}", signature=signature),
        Text(text="so"),
        ToolCall(id=f"c{number}", name="f", signature=signature),
    )
    return Answer(id="", model="", choices=(Choice(parts=parts, stop=None),), usage=None)  # type: ignore[arg-type]


def history_of(*numbers: int) -> Conversation:
    calls = tuple(ToolCall(id=f"c{number}", name="f") for number in numbers)
    turn = Turn(role="assistant", parts=(Text(text="so"), *calls))
    return Conversation(model="m", turns=(turn,))


def test_signatures_are_found_by_the_id_of_the_call() -> None:
    """Thinking goes before its turn's text, that of a later call before that call, once each."""
    memory = SignatureMemory()
    for number in (1, 2):
        memory.remember(signed_call(number))
    [turn] = memory.restored(history_of(1, 2, 3), "x").turns
    told = [getattr(part, "text", None) or getattr(part, "id", None) for part in turn.parts]
    assert told == ["t1", "so", "c1", "t2", "c2", "c3"]
    signed = [getattr(part, "signature", None) is not None for part in turn.parts]
    assert signed == [True, False, True, True, True, False]
    again = memory.restored(Conversation(model="m", turns=(turn,)), "x")
    assert again.turns == (turn,)
    assert memory.restored(history_of(1), "y") == history_of(1)


def test_a_stream_is_remembered_like_the_whole_of_it() -> None:
    """Pieces of thinking and a signature that comes last make the same."""
    whole, heard = SignatureMemory(), SignatureMemory()
    answer = signed_call(1)
    whole.remember(answer)
    listener = heard.listener()
    for event in list(events_of(answer))[:-1]:
        listener.hear(event)
    assert heard.restored(history_of(1), "x") == whole.restored(history_of(1), "x")
    assert heard.held_bytes == whole.held_bytes


def test_the_memory_of_signatures_has_bounds() -> None:
    """A number of calls, bytes, and an hour from the last use; the oldest goes first."""
    now = 0.0
    memory = SignatureMemory(most=2, most_bytes=5000, ttl=60, clock=lambda: now)
    for number in (1, 2, 3):
        memory.remember(signed_call(number))
    assert len(memory) == 2
    assert memory.restored(history_of(1), "x") == history_of(1)
    now = 50.0
    assert memory.restored(history_of(2), "x") != history_of(2)
    now = 100.0
    assert memory.restored(history_of(2), "x") != history_of(2)
    assert memory.restored(history_of(3), "x") == history_of(3)
    memory.remember(signed_call(4, 2400))
    assert memory.held_bytes <= 5000
    memory.remember(signed_call(5, 2_000_000))
    assert memory.restored(history_of(5), "x") == history_of(5)
    memory.shed()
    assert (len(memory), memory.held_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "dialect", "model", "field", "value"),
    [
        ("anthropic", "anthropic.messages", "claude-sonnet-4-5", "late_system", False),
        ("anthropic", "anthropic.messages", "claude-opus-4-7", "late_system", False),
        ("anthropic", "anthropic.messages", "claude-opus-4-8", "late_system", True),
        ("anthropic", "anthropic.messages", "claude-haiku-5-5", "late_system", True),
        ("openai", "openai.chat", "gpt-5-mini", "temperature", False),
        ("openai", "openai.chat", "gpt-5.2", "sampling_while_reasoning", False),
        ("openai", "openai.chat", "gpt-4o", "reasoning", ()),
        ("openai", "openai.responses", "o3", "efforts", ("low", "medium", "high")),
        ("openrouter", "openai.chat", "openai/gpt-4o", "cap_field", "max_tokens"),
        ("groq", "openai.chat", "openai/gpt-oss-20b", "logprobs", False),
        ("mistral", "openai.chat", "mistral-large", "seed", False),
        ("anthropic", "anthropic.messages", "claude-sonnet-4-5-20250929", "output_cap", 64_000),
        ("anthropic", "anthropic.messages", "claude-opus-4-7", "temperature", False),
        ("bedrock", "anthropic.messages", CLAUDE, "reasoning", ("budget",)),
        ("vertex", "anthropic.messages", "claude-3-5-haiku@20241022", "reasoning", ()),
        ("vertex", "anthropic.messages", "claude-opus-4-8", "image_urls", False),
        ("bedrock", "anthropic.messages", CLAUDE, "image_urls", False),
        ("anthropic", "anthropic.messages", "claude-opus-4-8", "image_urls", True),
        ("gemini", "gemini.generate", "gemini-2.5-flash", "reasoning", ("budget",)),
        ("gemini", "gemini.generate", "gemini-3-flash-preview", "reasoning", ("effort",)),
        ("bedrock", "bedrock.converse", "amazon.nova-pro-v1:0", "temperature", True),
        ("openai", "openai.chat", "gpt-5.6", "cache_marks", False),
        ("azure", "openai.chat", "my-deployment", "cache_marks", False),
        ("mistral", "openai.chat", "mistral-large", "cache_marks", False),
        ("groq", "openai.chat", "llama-3.3-70b", "cache_marks", False),
        ("cerebras", "openai.chat", "gpt-oss-120b", "cache_marks", False),
        ("fireworks", "openai.chat", "kimi-k2p6", "cache_marks", False),
        ("openrouter", "openai.chat", "anthropic/claude-sonnet-4.5", "cache_marks", True),
        ("bedrock", "bedrock.converse", "us.amazon.nova-pro-v1:0", "reasoning", ()),
        ("bedrock", "bedrock.converse", "us.amazon.nova-pro-v1:0", "cache_marks", True),
        ("bedrock", "bedrock.converse", "us.meta.llama3-3-70b-instruct-v1:0", "top_k", False),
        ("bedrock", "bedrock.converse", "us.deepseek.r1-v1:0", "reasoning", ()),
        ("bedrock", "bedrock.converse", "openai.gpt-oss-120b-1:0", "top_k", False),
    ],
)
def test_what_a_model_takes_is_known(
    kind: str, dialect: str, model: str, field: str, value: Any
) -> None:
    """As its maker's documentation says; who has no row takes everything."""
    assert getattr(abilities_of(kind, dialect, model), field) == value


@pytest.mark.parametrize(
    ("model", "own", "lost"),
    [
        (CLAUDE, {"thinking": {"type": "enabled", "budget_tokens": 2048}}, ("top_k",)),
        ("us.amazon.nova-pro-v1:0", {"inferenceConfig": {"topK": 7}}, ("reasoning_effort",)),
        (
            "global.amazon.nova-2-lite-v1:0",
            {
                "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"},
                "inferenceConfig": {"topK": 7},
            },
            (),
        ),
        ("openai.gpt-oss-120b-1:0", {"reasoning_effort": "low"}, ("top_k",)),
        ("cohere.command-r-plus-v1:0", {"k": 7}, ("reasoning_effort",)),
        ("mistral.mixtral-8x7b-instruct-v0:1", {"top_k": 7}, ("reasoning_effort",)),
        ("meta.llama3-8b-instruct-v1:0", None, ("top_k", "reasoning_effort")),
        ("us.deepseek.r1-v1:0", None, ("top_k", "reasoning_effort")),
    ],
)
def test_a_model_on_bedrock_gets_fields_that_are_its_own(
    model: str, own: dict[str, Any] | None, lost: tuple[str, ...]
) -> None:
    """Each family on Bedrock is asked in its own words; what it has none for is announced."""
    wish, losses = ReasoningWish(effort="low"), Losses()
    turns = (Turn(role="user", parts=(Text(text="hi"),)),)
    asked = Conversation(model="m", turns=turns, reasoning=wish, sampling=Sampling(top_k=7))
    can = abilities_of("bedrock", "bedrock.converse", model)
    body = CONVERSE_CODEC.write_request(asked, model, can, losses)
    assert body.get("additionalModelRequestFields") == own
    assert [(loss.field, loss.grave) for loss in losses.all] == [(name, False) for name in lost]


async def test_an_operator_knows_better() -> None:
    """Words of the configuration come before what is known."""
    http = answering(MESSAGE)
    provider = made("anthropic", http, abilities={"my-*": {"output_cap": 77}})
    for model, cap in (("my-claude", 77), ("claude-opus-4-5", 64_000)):
        await sent(provider, http, call_of("openai.chat"), model)
        assert json.loads(http.requests[-1].body)["max_tokens"] == cap


@pytest.mark.parametrize("kind", provider_kinds())
def test_a_row_says_nothing_about_what_it_does_not_speak(kind: str) -> None:
    """Paths, bodies and the like are those of its own dialects."""
    row = provider_row(kind)
    told = {*row.paths, *row.versioned_paths, *row.framings, *row.bodies, *row.only}
    assert told <= set(row.dialects)


async def test_the_ways_of_openais_dialects_are_decided_once() -> None:
    """Their URLs never change, and nothing of a call is looked at to find them."""
    provider = made("openai", answering())
    assert {"openai.chat", "openai.completions", "openai.embeddings"} <= set(provider.ways)
    assert provider.ways["openai.chat"].request == CHAT.request
    assert provider.ways["openai.embeddings"].whole == EMBEDDINGS.whole
