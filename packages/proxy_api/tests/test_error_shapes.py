"""Every error of ours, read by the official SDKs: the right class, message, kind and wait."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from anthropic.types import ThreadNotFoundError, ThreadUnsupportedRequestError
from anthropic.types.shared import ErrorResponse
from google.genai import errors as google
from openai.types.responses import ResponseErrorEvent

from proxy_api._error_shapes import (
    ANTHROPIC,
    GEMINI,
    OPENAI,
    RESPONSES,
    Shape,
    answer_to,
    shape_for,
    shape_of,
)
from proxy_api._errors import fault_of
from proxy_core import LimitState, Usage
from proxy_core._failures import failure_from_answer
from proxy_core.errors import (
    AuthenticationFailed,
    BodyTooLarge,
    CircuitOpen,
    ConnectFailed,
    InvalidRequest,
    LimitExceeded,
    ModelNotFound,
    NoDeploymentAnswered,
    NotCarried,
    Overloaded,
    PermissionRefused,
    PoolExhausted,
    ShuttingDown,
    UnsupportedMedia,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamModelMissing,
    UpstreamProtocolError,
    UpstreamRefusedCredential,
    UpstreamRejected,
    UpstreamThrottled,
    UpstreamTimeout,
)
from proxy_core.translation import (
    CLIENT_CODECS,
    Answer,
    Choice,
    Conversation,
    Losses,
    Text,
    Told,
    ToolCall,
)

ID = "req_0123456789abcdef01234567"
STATES = (
    LimitState("requests", 60, 12, 30.0),
    LimitState("input_tokens", 1000, 900, 6.0),
)

Row = tuple[Exception, type[openai.APIError], type[anthropic.APIError], str, str]
ERRORS: dict[str, Row] = {
    "invalid": (
        InvalidRequest("told", param="messages[0].content"),
        openai.BadRequestError,
        anthropic.BadRequestError,
        "invalid_request_error",
        "INVALID_ARGUMENT",
    ),
    "too large": (
        BodyTooLarge("told"),
        openai.APIStatusError,
        anthropic.ContentTooLargeError,
        "request_too_large",
        "INVALID_ARGUMENT",
    ),
    "media": (
        UnsupportedMedia("told"),
        openai.APIStatusError,
        anthropic.APIStatusError,
        "invalid_request_error",
        "INVALID_ARGUMENT",
    ),
    "no key": (
        AuthenticationFailed("told"),
        openai.AuthenticationError,
        anthropic.AuthenticationError,
        "authentication_error",
        "UNAUTHENTICATED",
    ),
    "not allowed": (
        PermissionRefused("told"),
        openai.PermissionDeniedError,
        anthropic.PermissionDeniedError,
        "permission_error",
        "PERMISSION_DENIED",
    ),
    "no model": (
        ModelNotFound("told", param="model"),
        openai.NotFoundError,
        anthropic.NotFoundError,
        "not_found_error",
        "NOT_FOUND",
    ),
    "limit": (
        LimitExceeded("told", limit="requests", retry_after=7.2, states=STATES),
        openai.RateLimitError,
        anthropic.RateLimitError,
        "rate_limit_error",
        "RESOURCE_EXHAUSTED",
    ),
    "never fits": (
        LimitExceeded("told", limit="tokens", retry_after=None),
        openai.BadRequestError,
        anthropic.BadRequestError,
        "invalid_request_error",
        "INVALID_ARGUMENT",
    ),
    "budget": (
        LimitExceeded("told", limit="budget", retry_after=86400.0),
        openai.RateLimitError,
        anthropic.PaymentRequiredError,
        "billing_error",
        "RESOURCE_EXHAUSTED",
    ),
    "full": (
        Overloaded("told"),
        openai.InternalServerError,
        anthropic.OverloadedError,
        "overloaded_error",
        "UNAVAILABLE",
    ),
    "stops": (
        ShuttingDown("told"),
        openai.InternalServerError,
        anthropic.OverloadedError,
        "overloaded_error",
        "UNAVAILABLE",
    ),
    "breaker": (
        CircuitOpen("told", retry_after=5.0),
        openai.InternalServerError,
        anthropic.OverloadedError,
        "overloaded_error",
        "UNAVAILABLE",
    ),
    "pool": (
        PoolExhausted("told"),
        openai.InternalServerError,
        anthropic.OverloadedError,
        "overloaded_error",
        "UNAVAILABLE",
    ),
    "upstream is full": (
        UpstreamFailed("told", upstream_status=529),
        openai.InternalServerError,
        anthropic.OverloadedError,
        "overloaded_error",
        "UNAVAILABLE",
    ),
    "unreachable": (
        ConnectFailed("told"),
        openai.InternalServerError,
        anthropic.ServiceUnavailableError,
        "api_error",
        "UNAVAILABLE",
    ),
    "slow": (
        UpstreamTimeout("told", phase="total"),
        openai.InternalServerError,
        anthropic.GatewayTimeoutError,
        "timeout_error",
        "DEADLINE_EXCEEDED",
    ),
    "broken": (
        UpstreamFailed("told", upstream_status=500),
        openai.InternalServerError,
        anthropic.InternalServerError,
        "api_error",
        "UNAVAILABLE",
    ),
    "cut": (
        UpstreamDisconnected("told"),
        openai.InternalServerError,
        anthropic.InternalServerError,
        "api_error",
        "UNAVAILABLE",
    ),
    "html": (
        UpstreamProtocolError("told"),
        openai.InternalServerError,
        anthropic.InternalServerError,
        "api_error",
        "UNAVAILABLE",
    ),
    "throttled": (
        UpstreamThrottled("told", retry_after=7.2),
        openai.RateLimitError,
        anthropic.RateLimitError,
        "rate_limit_error",
        "RESOURCE_EXHAUSTED",
    ),
    "our key": (
        UpstreamRefusedCredential("told", upstream_status=401),
        openai.InternalServerError,
        anthropic.InternalServerError,
        "api_error",
        "UNAVAILABLE",
    ),
    "no such target": (
        UpstreamModelMissing("told", upstream_status=404),
        openai.NotFoundError,
        anthropic.NotFoundError,
        "not_found_error",
        "NOT_FOUND",
    ),
    "rejected": (
        UpstreamRejected("told", upstream_status=422, upstream_code="odd", param="tools"),
        openai.UnprocessableEntityError,
        anthropic.UnprocessableEntityError,
        "invalid_request_error",
        "INVALID_ARGUMENT",
    ),
    "not carried": (
        NotCarried("told", param="tools[0]"),
        openai.BadRequestError,
        anthropic.BadRequestError,
        "invalid_request_error",
        "INVALID_ARGUMENT",
    ),
    "nobody carries it": (
        NoDeploymentAnswered("m", [NotCarried("told", deployment="a", param="n")]),
        openai.BadRequestError,
        anthropic.BadRequestError,
        "invalid_request_error",
        "INVALID_ARGUMENT",
    ),
    "a bug": (
        RuntimeError("secret"),
        openai.InternalServerError,
        anthropic.InternalServerError,
        "api_error",
        "INTERNAL",
    ),
}
KINDS = pytest.mark.parametrize("name", list(ERRORS))


def answered(name: str, shape: Shape) -> httpx2.Response:
    """What a client gets for an error of the table."""
    status, headers, body = answer_to(ERRORS[name][0], shape, ID)
    sent = {key.decode(): value.decode() for key, value in headers}
    sent |= {key.decode(): ID for key in shape.id_headers}
    request = httpx2.Request("POST", "http://127.0.0.1/v1")
    return httpx2.Response(status, headers=sent, content=body, request=request)


@pytest.fixture(scope="module")
def openai_sdk() -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k") as client:
        yield client


@pytest.fixture(scope="module")
def anthropic_sdk() -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url="http://127.0.0.1:9", api_key="k") as client:
        yield client


@KINDS
@pytest.mark.parametrize("shape", [OPENAI, RESPONSES], ids=["chat", "responses"])
def test_openais_sdk_knows_each_error(openai_sdk: openai.OpenAI, name: str, shape: Shape) -> None:
    """OpenAI's client raises the class of the status, with message, code and request id."""
    error, kind, *_ = ERRORS[name]
    told: Any = openai_sdk._make_status_error_from_response(answered(name, shape))
    assert type(told).__name__ == kind.__name__
    assert set(told.body) == {"message", "type", "param", "code"}
    assert ("told" in told.body["message"]) is not isinstance(error, RuntimeError)
    assert "secret" not in told.message
    assert told.code == fault_of(error).code
    assert told.request_id == ID


@KINDS
def test_anthropics_sdk_knows_each_error(anthropic_sdk: anthropic.Anthropic, name: str) -> None:
    """Anthropic's client raises the class of the status, with its own types, and our code."""
    error, _, kind, label, _ = ERRORS[name]
    response = answered(name, ANTHROPIC)
    told: Any = anthropic_sdk._make_status_error_from_response(response)
    assert type(told).__name__ == kind.__name__
    assert (told.type, told.request_id) == (label, ID)
    assert ("told" in told.api_message) is not isinstance(error, RuntimeError)
    assert told.error_code == fault_of(error).code
    if label != "request_too_large":  # the documentation has it, the SDK's types don't
        assert ErrorResponse.model_validate(response.json()).request_id == ID


def test_anthropics_sdk_knows_what_an_upstream_says_in_details(
    anthropic_sdk: anthropic.Anthropic,
) -> None:
    """Its class for a lost thread, by which its helpers recover, and each field beside the code."""
    details = {"error_code": "thread_not_found", "unsupported": ["tools"]}
    error = failure_from_answer(
        404,
        [],
        json.dumps(
            {"error": {"type": "not_found_error", "message": "gone", "details": details}}
        ).encode(),
    )
    status, _, body = answer_to(error, ANTHROPIC, ID)
    request = httpx2.Request("POST", "http://127.0.0.1/v1")
    response = httpx2.Response(status, content=body, request=request)
    told = anthropic_sdk._make_status_error_from_response(response)
    assert isinstance(told, ThreadNotFoundError)
    assert (told.api_message, response.json()["error"]["details"]) == ("gone", details)
    event = ANTHROPIC.event(fault_of(error), ID, b"")
    assert json.loads(event.partition(b"data: ")[2])["error"]["details"] == details


def test_anthropics_sdk_sends_all_of_a_conversation_that_nobody_keeps() -> None:
    """Its runner asks with a thread first; told that there is none, it sends every message."""
    asked: list[list[str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        codec = CLIENT_CODECS["anthropic.messages"]
        try:
            turns = codec.read_request(body, Losses()).turns
        except NotCarried as error:
            failed = NoDeploymentAnswered("m", [error])
            status, _, told = answer_to(failed, ANTHROPIC, ID)
            return httpx2.Response(status, content=told)
        asked.append([turn.role for turn in turns])
        call = ToolCall(id=f"c{len(asked)}", name="look", arguments="{}")
        choice = Choice(parts=(call,) if len(asked) < 3 else (Text(text="done"),), stop="end")
        whole = Answer(id="a", model="m", choices=(choice,), usage=Usage())
        written = codec.write_answer(whole, Told("m", Conversation(model="m", turns=())))
        return httpx2.Response(200, json=written)

    @anthropic.beta_tool
    def look() -> str:
        """Look."""
        return "seen"

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with anthropic.Anthropic(api_key="k", max_retries=0, http_client=http) as sdk:
        runner = sdk.beta.messages.tool_runner(model="m", max_tokens=9, tools=[look], messages=CHAT)
        assert getattr(runner.until_done().content[0], "text", "") == "done"
        with pytest.raises(ThreadUnsupportedRequestError, match="whole conversation") as told:
            sdk.beta.messages.thread(model="m", max_tokens=9, messages=CHAT).send()
    assert (told.value.status_code, told.value.type) == (400, "invalid_request_error")
    pair = ["assistant", "tool"]
    assert asked == [["user"], ["user", *pair], ["user", *pair, *pair]]


@KINDS
def test_googles_sdk_knows_each_error(name: str) -> None:
    """Google's client raises by the status, and finds code, status and message in the body."""
    error, *_, label = ERRORS[name]
    response = answered(name, GEMINI)
    with pytest.raises(google.APIError) as told:
        google.APIError.raise_for_response(response)
    kind = google.ClientError if response.status_code < 500 else google.ServerError
    assert type(told.value) is kind
    assert told.value.code == response.status_code == told.value.details["error"]["code"]
    assert told.value.status == label
    assert ("told" in str(told.value.message)) is not isinstance(error, RuntimeError)


def test_the_field_and_the_wait_are_in_googles_details() -> None:
    """A wrong field is a violation of BadRequest, a wait is a RetryInfo: as Google's are read."""
    rpc = "type.googleapis.com/google.rpc."

    def details(name: str) -> dict[str, Any]:
        listed = answered(name, GEMINI).json()["error"]["details"]
        return {one["@type"].removeprefix(rpc): one for one in listed}

    violations = details("invalid")["BadRequest"]["fieldViolations"]
    assert [one["field"] for one in violations] == ["messages[0].content"]
    assert details("limit")["RetryInfo"]["retryDelay"] == "7.200s"
    assert "RetryInfo" not in details("invalid")
    assert details("no key")["ErrorInfo"]["reason"] == "INVALID_API_KEY"


def test_limits_have_the_names_of_the_dialect() -> None:
    """A refusal by a limit tells where the key stands in the headers that the SDK's users read."""
    named = {shape: set(answered("limit", shape).headers) for shape in (OPENAI, ANTHROPIC, GEMINI)}
    ours = {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"}
    theirs = {
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-reset",
        "anthropic-ratelimit-input-tokens-remaining",
    }
    assert named[OPENAI] >= ours
    assert named[ANTHROPIC] >= theirs
    assert not named[OPENAI] & theirs
    assert not named[ANTHROPIC] & ours
    assert all(names >= {"retry-after", "x-should-retry"} for names in named.values())


def test_a_budget_is_not_asked_again() -> None:
    """No SDK retries when the money is spent: waiting for the next month is not for them."""
    for shape in (OPENAI, ANTHROPIC, GEMINI):
        assert answered("budget", shape).headers["x-should-retry"] == "false"


def streaming(client: Callable[..., Any], *events: bytes) -> Any:
    """An SDK's client to which these events are streamed."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        kind = {"content-type": "text/event-stream; charset=utf-8", "request-id": ID}
        return httpx2.Response(200, headers=kind, content=b"".join(events))

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    return client(api_key="k", base_url="http://up", http_client=transport, max_retries=0)


FAULT = fault_of(UpstreamFailed("told", upstream_status=503))
CHAT: Any = [{"role": "user", "content": "x"}]
CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
)
STARTED = {
    "type": "response.output_text.delta",
    "sequence_number": 4,
    "item_id": "msg_1",
    "output_index": 0,
    "content_index": 0,
    "delta": 'a trap: "sequence_number":99',
    "logprobs": [],
}


def test_openais_stream_ends_with_a_raise() -> None:
    """The client of chat raises what the stream tells, and takes the silence before for nothing."""
    events = (OPENAI.keepalive, CHUNK, OPENAI.keepalive, OPENAI.event(FAULT, ID, CHUNK))
    with streaming(openai.OpenAI, *events) as sdk:
        stream = iter(sdk.chat.completions.create(model="m", messages=CHAT, stream=True))
        assert next(stream).choices[0].delta.content == "x"
        with pytest.raises(openai.APIError, match="told") as told:
            next(stream)
    assert told.value.code == "upstream_failed"


def test_the_responses_stream_ends_with_an_error_event() -> None:
    """The Responses API's error is an event of its type, numbered after the last one."""
    last = f"event: {STARTED['type']}\ndata: {json.dumps(STARTED)}\n\n".encode()
    event = RESPONSES.event(FAULT, ID, last)
    assert event.startswith(b"event: error\n")
    told = ResponseErrorEvent.model_validate_json(event.partition(b"data: ")[2])
    assert (told.code, told.message, told.sequence_number) == ("upstream_failed", "told", 5)
    first = json.loads(RESPONSES.event(FAULT, ID, b"").partition(b"data: ")[2])
    assert ResponseErrorEvent.model_validate(first).sequence_number == 0


@pytest.mark.parametrize("way", ["loop", "helper"])
def test_the_responses_stream_ends_with_a_raise(way: str) -> None:
    """OpenAI's client raises what such a stream tells, in a loop and in its helper."""
    asked: Any = {"model": "m", "input": "x"}
    events = (RESPONSES.keepalive, RESPONSES.event(FAULT, ID, b""))
    with streaming(openai.OpenAI, *events) as sdk, pytest.raises(openai.APIError) as told:
        if way == "loop":
            list(sdk.responses.create(**asked, stream=True))
        with sdk.responses.stream(**asked) as stream:
            stream.get_final_response()
    error = told.value
    assert (error.message, error.code, error.type) == ("told", "upstream_failed", FAULT.type)


def test_anthropics_stream_ends_with_a_raise() -> None:
    """Anthropic's client raises with the error's type, and takes pings for nothing."""
    events = (ANTHROPIC.keepalive, ANTHROPIC.keepalive, ANTHROPIC.event(FAULT, ID, b""))
    with streaming(anthropic.Anthropic, *events) as sdk:
        stream = sdk.messages.create(model="m", messages=CHAT, max_tokens=9, stream=True)
        with pytest.raises(anthropic.APIStatusError) as told:
            list(stream)
    assert (told.value.type, told.value.api_message) == ("overloaded_error", "told")
    assert told.value.request_id == ID


def test_each_dialect_has_its_shape() -> None:
    """What a dialect's own clients can't read is not sent to them."""
    names = ("openai.chat", "openai.responses", "anthropic.count_tokens", "gemini.generate")
    assert [shape_of(name) for name in names] == [OPENAI, RESPONSES, ANTHROPIC, GEMINI]


@pytest.mark.parametrize(
    ("path", "header", "shape"),
    [
        ("/v1/messages", "", ANTHROPIC),
        ("/v1/messages/batches", "", ANTHROPIC),
        ("/messages/count_tokens", "", ANTHROPIC),
        ("/v1/messagesque", "", OPENAI),
        ("/v1beta/cachedContents", "", GEMINI),
        ("/v1/v1beta/models", "", GEMINI),
        ("/v1/files", "", OPENAI),
        ("/v1/files", "anthropic-version", ANTHROPIC),
        ("/v1/files", "x-goog-api-client", GEMINI),
        ("/v1beta/files", "anthropic-version", GEMINI),
    ],
)
def test_a_route_that_is_not_there_has_a_shape(path: str, header: str, shape: Shape) -> None:
    """The path decides, and where it could be anybody's, the header that the SDK sends."""
    assert shape_for(path, lambda name: "1" if name.decode() == header else "") is shape
