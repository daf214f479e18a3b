"""Every surface over a real port, asked by the official SDKs; behind them a scripted provider."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from fastapi import FastAPI
from google import genai
from google.genai import errors as google
from google.genai import types
from starlette.testclient import TestClient

from proxy_api import create_app
from proxy_api._pulse import Rhythm
from proxy_api.testing import serving, settings_for
from proxy_core import CHAT as CHAT_DIALECT
from proxy_core import Call, Ready, Reply, Timeouts
from proxy_core.errors import (
    ConnectFailed,
    ProxyError,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamThrottled,
    UpstreamTimeout,
)

KEY = "sk-everything-0123456789"
POOR = "sk-one-request-0123456789"
CHAT: Any = [{"role": "user", "content": "Hello"}]
NAMES = {
    "good",
    "team/good",
    "silent",
    "breaks",
    "throttled",
    "rejected",
    "busy",
    "unreachable",
    "slow",
    "bug",
}
FAILURES: dict[str, Any] = {
    "throttled": UpstreamThrottled("come back", retry_after=7.0),
    "rejected": UpstreamRejected("not so", upstream_status=400, param="temperature"),
    "busy": UpstreamFailed("full", upstream_status=529),
    "unreachable": ConnectFailed("nobody there"),
    "slow": UpstreamTimeout("too slow", phase="total"),
    "bug": RuntimeError("secret"),
}


def event(name: str, **fields: Any) -> bytes:
    """An event whose type is its name."""
    return b"event: %s\ndata: %s\n\n" % (
        name.encode(),
        json.dumps({"type": name} | fields).encode(),
    )


def data(**fields: Any) -> bytes:
    return b"data: %s\n\n" % json.dumps(fields).encode()


def chunk(**choice: Any) -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "good"}
    return data(**head, choices=[{"index": 0, "finish_reason": None, **choice}])


def part(text: str, **rest: Any) -> dict[str, Any]:
    """One of Google's answers."""
    content = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [{"index": 0, "content": content, **rest}], "modelVersion": "good"}


MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "good",
    "content": [{"type": "text", "text": "Hello you"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "good",
    "status": "completed",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello you", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
WHOLE: dict[str, dict[str, Any]] = {
    "openai.chat": {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "good",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello you", "refusal": None},
                "finish_reason": "stop",
            }
        ],
    },
    "openai.completions": {
        "id": "c",
        "object": "text_completion",
        "created": 1,
        "model": "good",
        "choices": [{"index": 0, "text": "Hello you", "finish_reason": "stop", "logprobs": None}],
    },
    "openai.embeddings": {
        "object": "list",
        "model": "good",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    },
    "openai.responses": RESPONSE,
    "anthropic.messages": MESSAGE,
    "anthropic.count_tokens": {"input_tokens": 14},
    "gemini.generate": part("Hello you", finishReason="STOP"),
    "gemini.count_tokens": {"totalTokens": 14},
}
BLOCK = {"type": "text", "text": ""}
STREAMS: dict[str, tuple[bytes, ...]] = {
    "openai.chat": (
        chunk(delta={"role": "assistant", "content": "Hello "}),
        chunk(delta={"content": "you"}),
        chunk(delta={}, finish_reason="stop"),
        b"data: [DONE]\n\n",
    ),
    "openai.responses": (
        event("response.created", sequence_number=0, response={**RESPONSE, "output": []}),
        event(
            "response.output_text.delta",
            sequence_number=1,
            delta="Hello ",
            item_id="msg_1",
            output_index=0,
            content_index=0,
            logprobs=[],
        ),
        event(
            "response.output_text.delta",
            sequence_number=2,
            delta="you",
            item_id="msg_1",
            output_index=0,
            content_index=0,
            logprobs=[],
        ),
        event("response.completed", sequence_number=3, response=RESPONSE),
    ),
    "anthropic.messages": (
        event("message_start", message={**MESSAGE, "content": [], "stop_reason": None}),
        event("content_block_start", index=0, content_block=BLOCK)
        + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello "}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "you"}),
        event("content_block_stop", index=0)
        + event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": 2},
        )
        + event("message_stop"),
    ),
    "gemini.generate": (
        data(**part("Hello ")),
        data(**part("you")),
        data(**part("", finishReason="STOP")),
    ),
}


class Scripted:
    """Answers in the dialect of the call; what it does stands in the model's name."""

    name = "up"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    @asynccontextmanager
    async def send(
        self, call: Call, *, model: str, timeouts: Timeouts = Timeouts()
    ) -> AsyncIterator[Reply]:
        """Raise, or answer whole or with a stream."""
        self.calls.append(call)
        if model in FAILURES:
            raise FAILURES[model]
        if not call.stream:
            yield Reply(Ready(json.dumps(WHOLE[call.dialect]).encode()), content_at=1.0)
            return
        reply = Reply(Ready(), stream=True)
        reply.body = self._events(model, call.dialect, reply)
        async with aclosing(reply.body):
            yield reply

    async def _events(self, model: str, dialect: str, reply: Reply) -> AsyncGenerator[bytes, None]:
        if model == "silent":
            await asyncio.sleep(0.1)
        for number, one in enumerate(STREAMS[dialect]):
            if number == 2 and model == "breaks":
                raise UpstreamDisconnected("the upstream broke off")
            reply.content_at = time.monotonic()
            yield one
            await asyncio.sleep(0.06 if model == "silent" else 0)

    async def aclose(self) -> None:
        """Nothing to close."""


def made(provider: Scripted) -> Any:
    """An app over this provider, whose streams are soon silent for too long."""
    keys = [
        {"name": "all", "key": KEY},
        {"name": "poor", "key": POOR, "models": ["good"], "limits": {"requests": "1/hour"}},
    ]
    models = [{"name": name, "target": f"up/{name}"} for name in sorted(NAMES)]
    routing = {"retry": {"attempts": 1}, "breaker": {"failures": 1000}}
    settings = settings_for("http://127.0.0.1:9/v1", keys=keys, models=models, routing=routing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy_api._compose.create_provider", lambda *_, **__: provider)
        app = create_app(settings=settings)
    gateway = app.gateway
    gateway.snapshot = replace(gateway.snapshot, rhythm=Rhythm(0.02, 0.02))
    return app


@pytest.fixture(scope="module")
def provider() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def url(provider: Scripted) -> Iterator[str]:
    """The base URL, without /v1."""
    with serving(made(provider)) as base:
        yield base


@pytest.fixture(scope="module")
def sdks(url: str) -> Iterator[SimpleNamespace]:
    """The three SDKs; each as ``sdks.openai(base, key)``."""
    with ExitStack() as stack:

        @cache
        def of_openai(base: str = "/v1", key: str = KEY) -> openai.OpenAI:
            made = openai.OpenAI(base_url=url + base, api_key=key, max_retries=0, timeout=10)
            return stack.enter_context(made)

        @cache
        def of_anthropic(base: str = "", key: str = KEY) -> anthropic.Anthropic:
            made = anthropic.Anthropic(base_url=url + base, api_key=key, max_retries=0, timeout=10)
            return stack.enter_context(made)

        @cache
        def of_google(base: str = "", key: str = KEY) -> genai.Client:
            options = types.HttpOptions(base_url=url + base, timeout=10_000)
            return stack.enter_context(genai.Client(api_key=key, http_options=options))

        yield SimpleNamespace(openai=of_openai, anthropic=of_anthropic, google=of_google)


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx2.Client]:
    """For what no SDK asks."""
    with httpx2.Client(base_url=url, headers={"x-api-key": KEY}, timeout=10) as client:
        yield client


# Each takes SDKs and a model, and gives the text.
def ask_chat(sdks: Any, model: str, **where: str) -> str:
    answer = sdks.openai(**where).chat.completions.create(model=model, messages=CHAT)
    return str(answer.choices[0].message.content)


def stream_chat(sdks: Any, model: str, **where: str) -> str:
    sdk = sdks.openai(**where)
    chunks = sdk.chat.completions.create(model=model, messages=CHAT, stream=True)
    return "".join(one.choices[0].delta.content or "" for one in chunks)


def ask_responses(sdks: Any, model: str, **where: str) -> str:
    return str(sdks.openai(**where).responses.create(model=model, input="Hello").output_text)


def stream_responses(sdks: Any, model: str, **where: str) -> str:
    events = sdks.openai(**where).responses.create(model=model, input="Hello", stream=True)
    return "".join(one.delta for one in events if one.type == "response.output_text.delta")


def ask_messages(sdks: Any, model: str, **where: str) -> str:
    sdk = sdks.anthropic(**where)
    return str(sdk.messages.create(model=model, messages=CHAT, max_tokens=9).content[0].text)


def stream_messages(sdks: Any, model: str, **where: str) -> str:
    sdk = sdks.anthropic(**where)
    with sdk.messages.stream(model=model, messages=CHAT, max_tokens=9) as stream:
        return "".join(stream.text_stream)


def ask_gemini(sdks: Any, model: str, **where: str) -> str:
    return str(sdks.google(**where).models.generate_content(model=model, contents="Hello").text)


def stream_gemini(sdks: Any, model: str, **where: str) -> str:
    parts = sdks.google(**where).models.generate_content_stream(model=model, contents="Hello")
    return "".join(one.text or "" for one in parts)


Ask = Callable[..., str]
WHOLES: list[Ask] = [ask_chat, ask_responses, ask_messages, ask_gemini]
STREAMED: list[Ask] = [stream_chat, stream_responses, stream_messages, stream_gemini]


@pytest.mark.parametrize("model", ["good", "team/good"])
@pytest.mark.parametrize("ask", WHOLES + STREAMED)
def test_each_sdk_is_served(sdks: Any, provider: Scripted, ask: Ask, model: str) -> None:
    """Each SDK gets its answer, whole or streamed, from the model it named, with slashes or not."""
    assert ask(sdks, model) == "Hello you"
    call = provider.calls[-1]
    assert call.model == model
    assert call.stream is (ask in STREAMED)


@pytest.mark.parametrize("ask", STREAMED)
def test_a_silent_stream_is_kept_alive(sdks: Any, ask: Ask) -> None:
    """What is sent into a silence, before the answer and within it, is nothing to the SDK."""
    assert ask(sdks, "silent") == "Hello you"


@pytest.mark.parametrize(
    ("path", "body", "beat"),
    [
        ("/v1/chat/completions", {"messages": CHAT}, ": keepalive\n\n"),
        ("/v1/responses", {"input": "x"}, ": keepalive\n\n"),
        (
            "/v1/messages",
            {"messages": CHAT, "max_tokens": 9},
            'event: ping\ndata: {"type": "ping"}',
        ),
    ],
)
def test_a_silence_has_the_dialects_heartbeat(
    http: httpx2.Client, path: str, body: dict[str, Any], beat: str
) -> None:
    """Before the first event of an answer there is a sign of life already, of the dialect's own."""
    asked = {"model": "silent", "stream": True, **body}
    text = http.post(path, json=asked).text
    assert text.startswith(beat)
    assert text.count(beat) >= 2


@pytest.mark.parametrize(
    ("model", "openais", "anthropics", "label", "code"),
    [
        ("throttled", openai.RateLimitError, anthropic.RateLimitError, "rate_limit_error", 429),
        (
            "rejected",
            openai.BadRequestError,
            anthropic.BadRequestError,
            "invalid_request_error",
            400,
        ),
        ("busy", openai.InternalServerError, anthropic.OverloadedError, "overloaded_error", 503),
        (
            "unreachable",
            openai.InternalServerError,
            anthropic.ServiceUnavailableError,
            "api_error",
            503,
        ),
        ("slow", openai.InternalServerError, anthropic.GatewayTimeoutError, "timeout_error", 504),
        ("bug", openai.InternalServerError, anthropic.InternalServerError, "api_error", 500),
    ],
)
def test_each_sdk_raises_its_own(
    sdks: Any,
    model: str,
    openais: type[Exception],
    anthropics: type[Exception],
    label: str,
    code: int,
) -> None:
    """A failure before the answer is the exception that each SDK has for it, streamed or not."""
    for ask in (ask_chat, stream_chat, ask_responses, stream_responses):
        with pytest.raises(openai.APIStatusError) as told:
            ask(sdks, model)
        assert type(told.value) is openais
        assert told.value.request_id is not None
    for ask in (ask_messages, stream_messages):
        with pytest.raises(anthropic.APIStatusError) as refused:
            ask(sdks, model)
        assert (type(refused.value), refused.value.type) == (anthropics, label)
        assert str(refused.value.request_id).startswith("req_")
    for ask in (ask_gemini, stream_gemini):
        with pytest.raises(google.APIError) as failed:
            ask(sdks, model)
        assert failed.value.code == code
        said = FAILURES[model].message if isinstance(FAILURES[model], ProxyError) else "log"
        assert said in str(failed.value.message)


def test_a_stream_that_breaks_is_told_in_the_stream(sdks: Any) -> None:
    """After the first words no SDK takes the rest for whole: each raises, or is told."""
    with pytest.raises(openai.APIError, match="broke off"):
        stream_chat(sdks, "breaks")
    with pytest.raises(anthropic.APIStatusError) as told:
        stream_messages(sdks, "breaks")
    assert (told.value.type, told.value.status_code) == ("api_error", 200)
    with pytest.raises(google.ServerError, match="broke off") as failed:
        stream_gemini(sdks, "breaks")
    assert failed.value.code == 502
    with pytest.raises(openai.APIError, match="broke off"):
        list(sdks.openai().responses.create(model="breaks", input="x", stream=True))


@pytest.mark.parametrize(
    ("ask", "base"),
    [
        *((ask, base) for ask in (ask_chat, ask_responses) for base in ("", "/openai/v1")),
        (ask_messages, "/v1"),
        (ask_gemini, "/v1"),
    ],
)
def test_a_base_url_may_have_its_version_or_not(sdks: Any, ask: Ask, base: str) -> None:
    """Who forgot /v1, or wrote it once too often, is served, and by Azure's base URL too."""
    assert ask(sdks, "good", base=base) == "Hello you"


def test_azures_client_is_served(url: str, provider: Scripted) -> None:
    """Azure's client says the deployment in the path: that is the model, whatever the body says."""
    with openai.AzureOpenAI(
        azure_endpoint=url,
        azure_deployment="team/good",
        api_key=KEY,
        api_version="2026-01-01",
        max_retries=0,
    ) as sdk:
        answer = sdk.chat.completions.create(model="another", messages=CHAT)
        assert answer.choices[0].message.content == "Hello you"
        call = provider.calls[-1]
        assert call.model == "team/good"
        sent = json.loads(CHAT_DIALECT.request(call, "team/good", ask_usage=False))
        assert sent["model"] == "team/good"
    with openai.AzureOpenAI(
        azure_endpoint=url, api_key=KEY, api_version="2026-01-01", max_retries=0
    ) as sdk:
        assert sdk.completions.create(model="good", prompt="x").choices[0].text == "Hello you"
        vectors = sdk.embeddings.create(model="good", input="x", encoding_format="float")
        assert vectors.data[0].embedding == [0.5, 0.25]
        assert sdk.responses.create(model="good", input="x").output_text == "Hello you"
        assert {one.id for one in sdk.models.list()} == NAMES
        with pytest.raises(openai.NotFoundError) as told:
            sdk.chat.completions.create(model="nobody", messages=CHAT)
    assert told.value.code == "model_not_found"


def test_tokens_are_counted(sdks: Any) -> None:
    """Anthropic's and Google's way to count tokens are surfaces of their own."""
    counted = sdks.anthropic().messages.count_tokens(model="good", messages=CHAT)
    assert counted.input_tokens == 14
    assert sdks.google().models.count_tokens(model="good", contents="x").total_tokens == 14


def test_each_sdk_lists_the_models(sdks: Any) -> None:
    """The list, and one model of it, as each SDK reads them."""
    assert {one.id for one in sdks.openai().models.list()} == NAMES
    assert sdks.openai().models.retrieve("team/good").owned_by == "up"
    listed = list(sdks.anthropic().models.list())
    assert {one.id for one in listed} == NAMES
    assert listed[0].created_at.year > 2020
    one = sdks.anthropic().models.retrieve("team/good")
    assert (one.id, one.display_name, one.type) == ("team/good", "team/good", "model")
    assert {one.name for one in sdks.google().models.list()} == {f"models/{n}" for n in NAMES}
    model = sdks.google().models.get(model="team/good")
    assert (model.name, model.display_name) == ("models/team/good", "team/good")
    assert "generateContent" in model.supported_actions
    assert {one.id for one in sdks.openai(key=POOR).models.list()} == {"good"}


def test_a_model_that_is_not_there_is_missing_to_each_sdk(sdks: Any) -> None:
    """Asked for one model that nobody has, each SDK raises what it has for that."""
    with pytest.raises(openai.NotFoundError):
        sdks.openai().models.retrieve("nobody")
    with pytest.raises(anthropic.NotFoundError) as told:
        sdks.anthropic().models.retrieve("nobody")
    assert told.value.type == "not_found_error"
    with pytest.raises(google.ClientError) as missing:
        sdks.google().models.get(model="nobody")
    assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")


def test_keys_are_asked_for_on_every_surface(sdks: Any) -> None:
    """A wrong key, and a model that a key may not use, are refused in each dialect."""
    for ask, refusal in (
        (ask_chat, openai.AuthenticationError),
        (ask_messages, anthropic.AuthenticationError),
        (ask_gemini, google.ClientError),
    ):
        with pytest.raises(refusal):
            ask(sdks, "good", key="sk-wrong")
    with pytest.raises(anthropic.PermissionDeniedError) as told:
        ask_messages(sdks, "team/good", key=POOR)
    assert told.value.type == "permission_error"


def test_a_limit_is_told_in_the_dialects_headers(sdks: Any) -> None:
    """A key's second request in the hour is refused by Anthropic's names, with its wait."""
    assert ask_messages(sdks, "good", key=POOR) == "Hello you"
    with pytest.raises(anthropic.RateLimitError) as told:
        ask_messages(sdks, "good", key=POOR)
    headers = told.value.response.headers
    assert headers["anthropic-ratelimit-requests-limit"] == "1"
    assert int(headers["retry-after"]) > 0
    assert "x-ratelimit-limit-requests" not in headers
    with pytest.raises(google.ClientError) as refused:
        ask_gemini(sdks, "good", key=POOR)
    assert refused.value.status == "RESOURCE_EXHAUSTED"
    assert "RetryInfo" in str(refused.value.details)


def test_anthropics_headers_go_with_the_call(sdks: Any, provider: Scripted) -> None:
    """The version and the betas that a client of Anthropic's names go on, and nothing else does."""
    sdk = sdks.anthropic()
    answer = sdk.beta.messages.with_raw_response.create(
        model="good", messages=CHAT, max_tokens=9, betas=["one-2026-01-01", "two-2026-01-01"]
    )
    sent = dict(provider.calls[-1].headers)
    assert set(sent) == {b"anthropic-beta", b"anthropic-version"}
    assert sent[b"anthropic-beta"] == b"one-2026-01-01,two-2026-01-01"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    ask_chat(sdks, "good")
    assert provider.calls[-1].headers == ()


def stream_of(http: httpx2.Client, model: str, query: str = "") -> httpx2.Response:
    body = {"contents": [{"parts": [{"text": "Hello"}]}]}
    return http.post(f"/v1beta/models/{model}:streamGenerateContent{query}", json=body)


@pytest.mark.parametrize("model", ["good", "silent"])
def test_a_google_stream_without_events_is_an_array(http: httpx2.Client, model: str) -> None:
    """Who doesn't say alt=sse gets one JSON array of answers, also when the upstream is slow."""
    answer = stream_of(http, model)
    assert answer.headers["content-type"] == "application/json"
    parts = [types.GenerateContentResponse.model_validate(one) for one in answer.json()]
    assert "".join(one.text or "" for one in parts) == "Hello you"
    events = stream_of(http, model, "?alt=sse")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert [json.loads(line[6:]) for line in events.text.split("\n") if line] == answer.json()


def test_an_array_that_breaks_has_the_error_in_it(http: httpx2.Client) -> None:
    """The array is whole JSON all the same, and its last item is Google's error."""
    *answers, last = stream_of(http, "breaks").json()
    assert len(answers) == 2
    with pytest.raises(google.ServerError, match="broke off"):
        google.APIError.raise_error(last["error"]["code"], last, None)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages/",
        "/v1/messages/batches",
        "/v1/responses/resp_1",
        "/v1beta/models/good:embedContent",
        "/v1beta/models/:generateContent",
        "/v1beta/models/",
        "/openai/deployments/good/images/generations",
        "/openai/deployments//chat/completions",
        "/models/",
        "//",
        "/v1beta/models/good:generateContent/",
    ],
)
def test_what_is_not_there_is_no_fault_of_ours(http: httpx2.Client, method: str, path: str) -> None:
    """An odd method or path is the client's mistake, and every answer to it says which it was."""
    answer = http.request(method, path)
    assert 200 <= answer.status_code < 500
    assert answer.headers["x-request-id"].startswith("req_")
    if method != "HEAD" and answer.status_code >= 400:
        assert answer.json()["error"]["message"]


def test_an_unknown_route_is_told_in_the_dialect(sdks: Any, http: httpx2.Client) -> None:
    """What an SDK can ask and we don't have is its own exception, with a message for people."""
    with pytest.raises(anthropic.NotFoundError, match="no route") as told:
        sdks.anthropic().messages.batches.list()
    assert told.value.type == "not_found_error"
    assert str(told.value.request_id).startswith("req_")
    with pytest.raises(google.ClientError, match="no route") as missing:
        list(sdks.google().caches.list())
    assert missing.value.status == "NOT_FOUND"
    refused = http.get("/v1/messages")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST"
    assert refused.json()["error"]["type"] == "invalid_request_error"


PLAIN = [
    ("/v1/messages", {"model": "good", "messages": CHAT, "max_tokens": 9}),
    ("/responses", {"model": "good", "input": "x"}),
    ("/openai/deployments/team/good/chat/completions", {"messages": CHAT}),
    ("/v1beta/models/team/good:generateContent", {"contents": [{"parts": [{"text": "x"}]}]}),
    ("/v1/models/good:streamGenerateContent", {"contents": [{"parts": [{"text": "x"}]}]}),
]


@pytest.mark.parametrize(("path", "body"), PLAIN)
def test_the_router_gives_the_same_as_the_short_way(path: str, body: dict[str, Any]) -> None:
    """Mounted, where only the router sees a request, each surface answers as it does alone."""
    app = made(Scripted())
    outer = FastAPI()
    outer.mount("/llm", app)
    got = [
        TestClient(served, base_url="http://localhost").post(
            where + path, json=body, headers={"x-api-key": KEY}
        )
        for served, where in ((app, ""), (outer, "/llm"))
    ]
    assert [answer.status_code for answer in got] == [200, 200]
    assert got[0].content == got[1].content
    assert got[0].headers["content-type"] == got[1].headers["content-type"]


def test_a_mounted_app_tells_errors_in_the_dialect() -> None:
    """Below another path too, an unknown route of Anthropic's or Google's has their shape."""
    outer = FastAPI()
    outer.mount("/llm", made(Scripted()))
    client = TestClient(outer, base_url="http://localhost")
    assert client.get("/llm/v1/messages/none").json()["type"] == "error"
    assert client.get("/llm/v1beta/none").json()["error"]["status"] == "NOT_FOUND"


def test_the_document_describes_every_dialect() -> None:
    """Each dialect's own paths are described, aliases aren't, and each reference resolves."""
    app = made(Scripted())
    document = (
        TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1))
        .get("/openapi.json")
        .json()
    )
    paths, schemas = document["paths"], document["components"]["schemas"]
    posts = {path: verbs["post"] for path, verbs in paths.items() if "post" in verbs}
    hot = {path: one for path, one in posts.items() if one["tags"] == ["inference"]}
    assert set(hot) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1beta/models/{model}:generateContent",
        "/v1beta/models/{model}:streamGenerateContent",
        "/v1beta/models/{model}:countTokens",
    }
    for path, operation in hot.items():
        named = [one["name"] for one in operation.get("parameters", [])]
        assert named == (["model"] if "{model}" in path else [])
        for reference in _references(operation):
            assert reference.rpartition("/")[2] in schemas
    assert set(paths) - set(hot) >= {"/v1/models", "/v1beta/models", "/v1beta/models/{model}"}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
