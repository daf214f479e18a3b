"""However an upstream fails, the SDK raises or another one answers: nothing looks like success."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from proxy_api.testing import settings_for

Writer = asyncio.StreamWriter
Play = Callable[[Writer], Awaitable[None]]
BRIEF = {"first_byte": "400ms", "between_events": "400ms", "total": "2s"}
"""A whole answer has the total alone."""
CREDENTIAL = "sk-upstream-credential"
MESSAGES: Any = [{"role": "user", "content": "hi"}]


# --- What upstreams say. ---


def head(status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{more}".encode()


def whole(body: object, status: int = 200, kind: str = "application/json", **headers: str) -> Play:
    """A complete answer with a content-length."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return raw_bytes(
        head(status, kind, **headers) + b"content-length: %d\r\n\r\n%s" % (len(raw), raw)
    )


def raw_bytes(data: bytes) -> Play:
    async def play(writer: Writer) -> None:
        writer.write(data)

    return play


def stream(*parts: bytes | float | str) -> Play:
    """An event stream. A number is a pause; ``"reset"`` and ``"close"`` end it in the middle."""

    async def play(writer: Writer) -> None:
        writer.write(head(200, "text/event-stream") + b"transfer-encoding: chunked\r\n\r\n")
        for part in parts:
            if part == "reset":
                await writer.drain()
                await asyncio.sleep(0.05)
                await reset(writer)
                return
            if part == "close":
                writer.close()
                return
            if isinstance(part, float):
                await asyncio.sleep(part)
            if isinstance(part, bytes):
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
        writer.write(b"0\r\n\r\n")

    return play


async def reset(writer: Writer) -> None:
    """RST, not FIN."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


async def close(writer: Writer) -> None:
    writer.close()


async def hang(writer: Writer) -> None:
    await asyncio.sleep(5)


async def begun_and_reset(writer: Writer) -> None:
    writer.write(head() + b'content-length: 500\r\n\r\n{"choices":')
    await writer.drain()
    await asyncio.sleep(0.05)
    await reset(writer)


async def begun_and_silent(writer: Writer) -> None:
    writer.write(head() + b'content-length: 500\r\n\r\n{"choices":')
    await writer.drain()
    await asyncio.sleep(5)


def one_long_line(before: bytes, megabytes: int = 100) -> Play:
    async def play(writer: Writer) -> None:
        writer.write(before)
        for _ in range(megabytes):
            writer.write(b"x" * 1_000_000)
            await writer.drain()

    return play


def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    told = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "real",
        "choices": [choice],
    }
    return b"data: " + json.dumps(told).encode() + b"\n\n"


def error_event(**error: object) -> bytes:
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"


ROLE = chunk({"role": "assistant", "content": ""})
TEXT = chunk({"content": "Hello"})
END = chunk({}, "stop")
DONE = b"data: [DONE]\n\n"
GOOD_STREAM = stream(ROLE, TEXT, END, DONE)
GOOD = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "real",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    ],
}
QUOTING = {
    "error": {
        "message": f"Incorrect API key provided: {CREDENTIAL}",
        "type": "x",
        "code": "invalid_api_key",
    }
}
EVENTS = head(200, "text/event-stream") + b"\r\n"


@dataclass(frozen=True)
class Fault:
    """What an upstream does, and what the client must get. ``modes``: whole, stream or both."""

    play: Play
    raises: type[openai.APIStatusError]
    status: int
    code: str
    modes: tuple[str, ...] = ("whole", "stream")
    headers: dict[str, str | None] = field(default_factory=dict)
    """Headers of the answer; None: it must not be there."""


BROKEN = openai.InternalServerError
WHOLE, STREAM = ("whole",), ("stream",)


def bad(play: Play, modes: tuple[str, ...] = ("whole", "stream")) -> Fault:
    return Fault(play, BROKEN, 502, "bad_upstream_response", modes)


def broke(play: Play, modes: tuple[str, ...] = ("whole", "stream")) -> Fault:
    return Fault(play, BROKEN, 502, "upstream_disconnected", modes)


def failed(play: Play, status: int = 502, modes: tuple[str, ...] = ("whole", "stream")) -> Fault:
    return Fault(play, BROKEN, status, "upstream_failed", modes)


FAULTS = {
    "refuses": Fault(close, BROKEN, 503, "upstream_unreachable", headers={"retry-after": "1"}),
    "never-answers": Fault(hang, BROKEN, 504, "upstream_timeout"),
    "resets": broke(reset),
    "closes": broke(close),
    "no-http": broke(raw_bytes(b"SSH-2.0-OpenSSH_9.6\r\n")),
    "endless-headers": broke(raw_bytes(b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 200_000)),
    "html": bad(whole(b"<html>hello</html>", kind="text/html")),
    "html-as-json": bad(whole(b"<html>hello</html>")),
    "empty": bad(whole(b"")),
    "nothing": bad(whole({})),
    "no-choices": bad(whole({**GOOD, "choices": []}), WHOLE),
    "no-content": bad(whole(b"", 204)),
    "truncated-json": bad(whole(json.dumps(GOOD).encode()[:-20])),
    "truncated-body": broke(raw_bytes(head() + b'content-length: 500\r\n\r\n{"choices":'), WHOLE),
    "truncated-and-silent": Fault(begun_and_silent, BROKEN, 504, "upstream_timeout", WHOLE),
    "truncated-and-reset": broke(begun_and_reset, WHOLE),
    "not-utf8": bad(whole(json.dumps(GOOD).encode().replace(b"Hello", b"\xff\xfe")), WHOLE),
    "nan": bad(whole(json.dumps({**GOOD, "x": float("nan")}).encode()), WHOLE),
    "deep": bad(whole(b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), WHOLE),
    "huge": bad(one_long_line(head() + b'\r\n{"choices":["'), WHOLE),
    "huge-event": bad(one_long_line(EVENTS + b"data: "), STREAM),
    "whole-for-a-stream": bad(whole(GOOD), STREAM),
    "gzip": bad(whole(gzip.compress(json.dumps(GOOD).encode()), content_encoding="gzip")),
    "redirect": bad(whole(b"", 302, location="http://169.254.169.254/latest/meta-data/")),
    "redirect-307": bad(whole(b"", 307, location="http://169.254.169.254/v1/chat/completions")),
    "error-200": failed(
        whole({"error": {"message": "boom", "type": "server_error", "code": None}})
    ),
    "error-200-text": failed(whole({"error": "boom"})),
    "throttled-200": Fault(
        whole({"error": {"message": "slow", "code": "rate_limit_exceeded"}}),
        openai.RateLimitError,
        429,
        "upstream_rate_limited",
    ),
    "refused-key-200": Fault(whole(QUOTING), BROKEN, 502, "upstream_credential_refused"),
    "unauthorized": Fault(whole(QUOTING, 401), BROKEN, 502, "upstream_credential_refused"),
    "forbidden": Fault(whole(QUOTING, 403), BROKEN, 502, "upstream_credential_refused"),
    "no-money": Fault(
        whole(
            {"error": {"message": f"no money for {CREDENTIAL}", "code": "insufficient_quota"}}, 429
        ),
        BROKEN,
        502,
        "upstream_credential_refused",
    ),
    "throttled": Fault(
        whole({"error": {"message": "slow"}}, 429, retry_after="7"),
        openai.RateLimitError,
        429,
        "upstream_rate_limited",
        headers={"retry-after": "7", "retry-after-ms": "7000", "x-should-retry": None},
    ),
    "throttled-for-long": Fault(
        whole({"error": {"message": "slow"}}, 429, retry_after="3600"),
        openai.RateLimitError,
        429,
        "upstream_rate_limited",
        headers={"retry-after": "3600", "x-should-retry": "false"},
    ),
    "throttled-bluntly": Fault(
        whole(b"slow down", 429, "text/plain"),
        openai.RateLimitError,
        429,
        "upstream_rate_limited",
        # It didn't say when; that credential isn't asked before.
        headers={"retry-after": "1"},
    ),
    "throttled-at-length": Fault(
        whole(b"<html>" + b"slow " * 100_000, 429, "text/html", retry_after="7"),
        openai.RateLimitError,
        429,
        "upstream_rate_limited",
        headers={"retry-after": "7"},
    ),
    "status-500": failed(whole({"error": {"message": "boom"}}, 500)),
    "status-500-html": failed(whole(b"<h1>boom</h1>", 500, "text/html")),
    "status-502": failed(whole(b"", 502)),
    "status-503": failed(whole({"error": {"message": "busy"}}, 503), 503),
    "status-503-wait": Fault(
        whole({"error": {"message": "busy"}}, 503, retry_after="90"),
        BROKEN,
        503,
        "upstream_failed",
        headers={"retry-after": "90", "x-should-retry": "false"},
    ),
    "status-529": failed(whole({"error": {"message": "overloaded"}}, 529), 503),
    "status-404": Fault(
        whole({"error": {"message": "no such model"}}, 404),
        openai.NotFoundError,
        404,
        "upstream_model_not_found",
    ),
    "status-400": Fault(
        whole(
            {
                "error": {
                    "message": "bad tool",
                    "type": "t",
                    "param": "tools[0]",
                    "code": "bad_tool",
                }
            },
            400,
        ),
        openai.BadRequestError,
        400,
        "bad_tool",
    ),
    "status-422": Fault(
        whole({"error": {"message": "bad tool", "param": "tools[0]"}}, 422),
        openai.UnprocessableEntityError,
        422,
        "invalid_request",
    ),
    "too-long": Fault(
        whole(
            {
                "error": {
                    "message": "too long",
                    "param": "messages",
                    "code": "context_length_exceeded",
                }
            },
            400,
        ),
        openai.BadRequestError,
        400,
        "context_length_exceeded",
    ),
    "error-first": failed(stream(error_event(message="boom", code=None)), modes=STREAM),
    "error-after-role": failed(stream(ROLE, error_event(message="boom")), modes=STREAM),
    "throttled-first": Fault(
        stream(error_event(message="slow", code=429)),
        openai.RateLimitError,
        429,
        "upstream_rate_limited",
        STREAM,
    ),
    "rejected-first": Fault(
        stream(error_event(message="too long", code="context_length_exceeded", param="messages")),
        openai.BadRequestError,
        400,
        "context_length_exceeded",
        STREAM,
    ),
    "refused-key-first": Fault(
        stream(error_event(**QUOTING["error"])), BROKEN, 502, "upstream_credential_refused", STREAM
    ),
    "empty-stream": broke(stream(), STREAM),
    "role-and-end": broke(stream(ROLE), STREAM),
    "role-and-done": broke(stream(ROLE, DONE), STREAM),
    "only-done": broke(stream(DONE), STREAM),
    "role-and-reset": broke(stream(ROLE, "reset"), STREAM),
    "role-and-silence": Fault(stream(ROLE, 3.0), BROKEN, 504, "upstream_timeout", STREAM),
    "role-and-garbage": bad(stream(ROLE, b"data: {not json\n\n"), STREAM),
    "garbage-choices": bad(stream(b'data: {"choices":[{"delta":5}]}\n\n', END, DONE), STREAM),
}

BROKEN_LATER = {
    "reset": (stream(ROLE, TEXT, "reset"), "upstream_disconnected"),
    "closed": (stream(ROLE, TEXT, "close"), "upstream_disconnected"),
    "ended": (stream(ROLE, TEXT), "upstream_disconnected"),
    "done-without-reason": (stream(ROLE, TEXT, DONE), "upstream_disconnected"),
    "silence": (stream(ROLE, TEXT, 3.0), "upstream_timeout"),
    "error": (stream(ROLE, TEXT, error_event(message="boom", code="x")), "upstream_failed"),
    "error-flat": (
        stream(ROLE, TEXT, b'event: error\ndata: {"message":"boom"}\n\n'),
        "upstream_failed",
    ),
    "error-text": (stream(ROLE, TEXT, b'data: {"error":"boom"}\n\n'), "upstream_failed"),
    "error-then-done": (
        stream(ROLE, TEXT, error_event(message="boom"), END, DONE),
        "upstream_failed",
    ),
    "refused-key": (
        stream(ROLE, TEXT, error_event(**QUOTING["error"])),
        "upstream_credential_refused",
    ),
    "garbage": (stream(ROLE, TEXT, b"data: {not json\n\n", END, DONE), "bad_upstream_response"),
    "text": (
        stream(ROLE, TEXT, b"data: Internal Server Error\n\n", END, DONE),
        "bad_upstream_response",
    ),
    "nan": (
        stream(ROLE, TEXT, b'data: {"choices":[],"x":NaN}\n\n', END, DONE),
        "bad_upstream_response",
    ),
    "not-utf8": (
        stream(ROLE, TEXT, b'data: {"choices":[],"x":"\xff"}\n\n', END, DONE),
        "bad_upstream_response",
    ),
    "long-line": (
        one_long_line(EVENTS + ROLE + TEXT + b"data: "),
        "bad_upstream_response",
    ),
}


BEFORE_CONTENT: dict[str, Play | None] = {
    "refuses": None,
    "resets": reset,
    "closes": close,
    "times-out": hang,
    "500": whole({"error": {"message": "boom"}}, 500),
    "503": whole({"error": {"message": "busy"}}, 503),
    "429": whole({"error": {"message": "slow"}}, 429, retry_after="60"),
    "401": whole(QUOTING, 401),
    "404": whole({"error": {"message": "no such model"}}, 404),
    "html": whole(b"<html>", kind="text/html"),
    "error-200": whole({"error": {"message": "boom"}}),
}
BEFORE_CONTENT_OF_STREAMS: dict[str, Play | None] = {
    **BEFORE_CONTENT,
    "error-first": stream(error_event(message="boom")),
    "role-and-reset": stream(ROLE, "reset"),
    "role-and-end": stream(ROLE),
    "role-and-error": stream(ROLE, error_event(message="boom")),
    "role-and-garbage": stream(ROLE, b"data: <html>\n\n"),
    "role-and-silence": stream(ROLE, 3.0),
    "role-twice-and-end": stream(b": hello\n\n", ROLE, ROLE),
}


# --- The house: one gateway. The model's name says what the upstream does. ---


class House:
    def __init__(self, url: str, good: Any) -> None:
        self.url = url
        self.good = good
        self.sdk = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20)

    def stream_bytes(self, model: str) -> tuple[int, bytes]:
        """A stream as a client without an SDK reads it."""
        body = json.dumps({"model": model, "messages": [], "stream": True})
        with closing(
            http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        ) as connection:
            connection.request(
                "POST", "/v1/chat/completions", body, {"content-type": "application/json"}
            )
            got = connection.getresponse()
            return got.status, got.read()

    def asked_of_good(self, model: str) -> int:
        """How often the good deployment was asked in this model's stead."""
        return sum(json.loads(asked.body)["model"] == model for asked in self.good.asked)


Answered = tuple[Any, str, str]
"""The answer, and what the headers say: the deployment and the number of attempts."""


def ask_whole(sdk: openai.OpenAI, model: str = "chat") -> Answered:
    raw = sdk.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
    text = raw.parse().choices[0].message.content
    return text, raw.headers["x-llm-proxy-deployment"], raw.headers["x-llm-proxy-attempts"]


def ask_stream(sdk: openai.OpenAI, model: str = "chat") -> Answered:
    raw = sdk.chat.completions.with_raw_response.create(model=model, messages=MESSAGES, stream=True)
    chunks = list(raw.parse())
    return chunks, raw.headers["x-llm-proxy-deployment"], raw.headers["x-llm-proxy-attempts"]


async def answer_well(asked: Any, writer: Writer) -> None:
    await (GOOD_STREAM if json.loads(asked.body).get("stream") else whole(GOOD))(writer)


PLAYS: dict[str, Play | None] = {
    **{name: fault.play for name, fault in FAULTS.items()},
    **{f"later-{name}": play for name, (play, _) in BROKEN_LATER.items()},
    **{f"then-good-{name}": play for name, play in BEFORE_CONTENT_OF_STREAMS.items()},
    **{f"then-good-later-{name}": play for name, (play, _) in BROKEN_LATER.items()},
}
NOBODY = {"refuses", "then-good-refuses"}


AGAIN = "-again"
"""After the name of a play that is given twice."""


async def answer_badly(asked: Any, writer: Writer) -> None:
    play = PLAYS[json.loads(asked.body)["model"]]
    assert play is not None
    await play(writer)
    writer.close()


@pytest.fixture(scope="module")
def house(
    http_upstream: Callable[..., Any], lasting_gateway: Callable[..., str]
) -> Iterator[House]:
    bad_one, good_one = http_upstream(answer_badly), http_upstream(answer_well)
    # A provider for each, as what one says of its credential counts for all that use it.
    names = [*PLAYS, *(f"{name}{AGAIN}" for name in PLAYS)]
    models: list[dict[str, Any]] = [
        {"name": name, "target": f"{name}-{at}/{name.removesuffix(AGAIN)}"}
        for at, name in enumerate(names)
    ]
    models += [
        {"name": name, "target": f"good/{name}", "order": 2}
        for name in names
        if name.startswith("then-good")
    ]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        urls = {
            f"{name}-{at}": nobody if name.removesuffix(AGAIN) in NOBODY else bad_one.url
            for at, name in enumerate(names)
        }
        urls["good"] = good_one.url
        settings = settings_for(
            bad_one.url,
            providers={
                name: {"kind": "openai_compatible", "base_url": url, "api_key": CREDENTIAL}
                for name, url in urls.items()
            },
            models=models,
            timeouts=BRIEF,
        )
        made = House(lasting_gateway(settings), good_one)
        yield made
        made.sdk.close()


CASES = [(name, mode) for name, fault in FAULTS.items() for mode in fault.modes]


@pytest.mark.parametrize(("name", "mode"), CASES, ids=[f"{name}-{mode}" for name, mode in CASES])
def test_a_failure_before_content_has_a_status(house: House, name: str, mode: str) -> None:
    """The SDK raises the status' class before it hands anything out, and no secret is quoted."""
    fault = FAULTS[name]
    model = name if mode == "whole" else name + AGAIN
    with pytest.raises(openai.APIStatusError) as caught:
        house.sdk.chat.completions.create(model=model, messages=MESSAGES, stream=mode == "stream")
    error = caught.value
    assert (type(error), error.status_code, error.code) == (
        fault.raises,
        fault.status,
        fault.code,
    ), error
    assert isinstance(error.body, dict)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.request_id
    assert error.request_id.startswith("req_")
    assert CREDENTIAL not in str(error.body)
    assert "Incorrect API key" not in str(error.body)
    for header, value in fault.headers.items():
        assert error.response.headers.get(header) == value, header


def test_the_upstreams_own_complaint_is_passed_on(house: House) -> None:
    """A 400 keeps the upstream's message, param and code: agents act on them."""
    with pytest.raises(openai.BadRequestError) as caught:
        house.sdk.chat.completions.create(model="status-400", messages=MESSAGES)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"] == "bad tool"
    assert caught.value.param == "tools[0]"
    assert caught.value.code == "bad_tool"
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("name", list(BROKEN_LATER))
def test_a_failure_after_content_arrives_in_the_stream(house: House, name: str) -> None:
    """The SDK gives the text that came, then raises: what broke off never looks whole."""
    code = BROKEN_LATER[name][1]
    texts = []
    with pytest.raises(openai.APIError) as caught:
        for part in house.sdk.chat.completions.create(
            model=f"later-{name}", messages=MESSAGES, stream=True
        ):
            texts.append(part.choices[0].delta.content)
            assert part.choices[0].finish_reason is None
    assert texts == ["", "Hello"]
    assert not isinstance(caught.value, openai.APIConnectionError | openai.APIStatusError)
    assert caught.value.code == code
    assert CREDENTIAL not in caught.value.message


@pytest.mark.parametrize("name", list(BROKEN_LATER))
def test_the_error_is_the_last_event(house: House, name: str) -> None:
    """The broken stream is the events that came, one error in OpenAI's shape, and no [DONE]."""
    status, body = house.stream_bytes(f"later-{name}")
    assert status == 200
    *events, last, nothing = body.decode().split("\n\n")
    assert nothing == ""
    assert [json.loads(event[6:])["choices"][0]["delta"].get("content") for event in events] == [
        "",
        "Hello",
    ]
    told = json.loads(last.removeprefix("data: "))
    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert told["error"]["code"] == BROKEN_LATER[name][1]
    assert b"[DONE]" not in body


def test_a_redirect_is_not_followed(
    http_upstream: Callable[..., Any], gateway: Callable[..., str]
) -> None:
    """Where an upstream points is not asked, not even on this machine."""

    async def good(asked: Any, writer: Writer) -> None:
        await whole(GOOD)(writer)

    aim = http_upstream(good)

    async def redirect(asked: Any, writer: Writer) -> None:
        await whole(b"", 307, location=f"{aim.url}/chat/completions")(writer)

    url = gateway(http_upstream(redirect).url)
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.chat.completions.create(model="chat", messages=MESSAGES)
    assert aim.asked == []


# --- Another deployment. ---


@pytest.mark.parametrize("name", list(BEFORE_CONTENT))
def test_the_next_deployment_gives_a_whole_answer(house: House, name: str) -> None:
    """One that fails without an answer is passed over, and the headers tell who answered."""
    model = f"then-good-{name}"
    assert ask_whole(house.sdk, model) == ("Hello", f"good/{model}", "2")


@pytest.mark.parametrize("name", list(BEFORE_CONTENT_OF_STREAMS))
def test_the_next_deployment_gives_a_stream(house: House, name: str) -> None:
    """Before content another one streams instead, and of the first nothing is seen, no role."""
    model = f"then-good-{name}{AGAIN}"
    chunks, *told = ask_stream(house.sdk, model)
    assert told == [f"good/{model}", "2"]
    assert [part.choices[0].delta.role for part in chunks] == ["assistant", None, None]
    assert [part.choices[0].delta.content for part in chunks] == ["", "Hello", None]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {part.model for part in chunks} == {model}


@pytest.mark.parametrize("name", list(BROKEN_LATER))
def test_after_content_nobody_else_is_asked(house: House, name: str) -> None:
    """Once text is out no other deployment is asked, else it would begin again in the middle."""
    model = f"then-good-later-{name}"
    with pytest.raises(openai.APIError):
        ask_stream(house.sdk, model)
    assert house.asked_of_good(model) == 0


class Pool:
    """A gateway whose models have several deployments, each with an upstream that counts."""

    def __init__(self, sdk: openai.OpenAI, upstreams: dict[str, Any]) -> None:
        self.sdk = sdk
        self.upstreams = upstreams

    @property
    def asked(self) -> dict[str, int]:
        return {name: len(upstream.asked) for name, upstream in self.upstreams.items()}

    def whole(self) -> Answered:
        return ask_whole(self.sdk)

    def stream(self) -> Answered:
        return ask_stream(self.sdk)


Start = Callable[..., Pool]


@pytest.fixture
def pool(http_upstream: Callable[..., Any], gateway: Callable[..., str]) -> Iterator[Start]:
    """``pool({name: play}, models, **sections)``: a play of None is a port where nobody listens."""
    with ExitStack() as stack:

        def start(
            plays: dict[str, Play | None], models: list[dict[str, Any]], **sections: Any
        ) -> Pool:
            upstreams = {
                name: http_upstream(_answering(play)) for name, play in plays.items() if play
            }
            urls = {name: upstream.url for name, upstream in upstreams.items()}
            providers = {
                name: {
                    "kind": "openai_compatible",
                    "base_url": urls.get(name, "http://127.0.0.1:9/v1"),
                }
                for name in plays
            }
            url = gateway(
                settings_for(
                    "http://127.0.0.1:9/v1",
                    providers=providers,
                    models=models,
                    timeouts=BRIEF,
                    **sections,
                )
            )
            sdk = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20)
            return Pool(stack.enter_context(sdk), upstreams)

        yield start


def _answering(play: Play) -> Any:
    async def answer(asked: Any, writer: Writer) -> None:
        await (answer_well(asked, writer) if play is GOOD_STREAM else play(writer))

    return answer


BOTH = [
    {"name": "chat", "target": "bad/one", "order": 1},
    {"name": "chat", "target": "good/two", "order": 2},
]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_the_clients_fault_is_asked_once(pool: Start, status: int) -> None:
    """A request that was judged wrong isn't tried elsewhere."""
    made = pool({"bad": whole({"error": {"message": "no"}}, status), "good": GOOD_STREAM}, BOTH)
    with pytest.raises(openai.APIStatusError) as caught:
        made.whole()
    assert caught.value.status_code == status
    assert made.asked == {"bad": 1, "good": 0}


def test_the_lowest_order_is_asked_first(pool: Start) -> None:
    """Order decides before weight does."""
    models = [
        {"name": "chat", "target": "second/x", "order": 2, "weight": 1000},
        {"name": "chat", "target": "first/x", "order": 1, "weight": 0.001},
    ]
    made = pool({"first": GOOD_STREAM, "second": GOOD_STREAM}, models)
    assert {made.whole()[1:] for _ in range(10)} == {("first/x", "1")}


def test_weights_share_the_requests(pool: Start) -> None:
    """Of 200 requests at 3 to 1 about 150 go to the heavier: 115 to 180 but once in 20 million."""
    models = [
        {"name": "chat", "target": "a/x", "weight": 3},
        {"name": "chat", "target": "b/x", "weight": 1},
    ]
    made = pool({"a": GOOD_STREAM, "b": GOOD_STREAM}, models)
    for _ in range(200):
        made.whole()
    assert sum(made.asked.values()) == 200
    assert 115 <= made.asked["a"] <= 180


def test_when_all_fail_the_client_hears_of_each(pool: Start) -> None:
    """One error names each deployment that was asked, with the status of the most telling one."""
    plays = {"bad": None, "good": whole({"error": {"message": "boom"}}, 500)}
    made = pool(plays, BOTH)
    with pytest.raises(openai.InternalServerError) as caught:
        made.whole()
    assert caught.value.status_code == 502
    assert "bad/one" in caught.value.message
    assert "good/two" in caught.value.message
    assert caught.value.code == "no_deployment_answered"


def test_when_all_are_throttled_the_shortest_wait_is_told(pool: Start) -> None:
    """With every deployment at its limit it is 429, with the wait for the first that is free."""
    slow = {"error": {"message": "slow"}}
    made = pool(
        {"bad": whole(slow, 429, retry_after="9"), "good": whole(slow, 429, retry_after="90")}, BOTH
    )
    with pytest.raises(openai.RateLimitError) as caught:
        made.whole()
    assert caught.value.response.headers["retry-after"] == "9"
    assert "x-should-retry" not in caught.value.response.headers


def test_no_more_are_asked_than_configured(pool: Start) -> None:
    """``routing.retry.attempts`` bounds the deployments that one request may cost."""
    fails = whole({"error": {"message": "boom"}}, 500)
    models = [{"name": "chat", "target": f"u{n}/x", "order": n} for n in range(4)]
    made = pool({f"u{n}": fails for n in range(4)}, models, routing={"retry": {"attempts": 2}})
    with pytest.raises(openai.InternalServerError):
        made.whole()
    assert made.asked == {"u0": 1, "u1": 1, "u2": 0, "u3": 0}


FALLBACK = [{"name": "chat", "target": "bad/one"}, {"name": "other", "target": "good/two"}]


@pytest.mark.parametrize("play", [None, whole(b"", 500), hang], ids=["refuses", "500", "times-out"])
def test_a_fallback_model_answers_in_the_name_that_was_asked(
    pool: Start, play: Play | None
) -> None:
    """``fallbacks: {chat: [other]}`` asks another model, and the client still gets its own name."""
    made = pool({"bad": play, "good": GOOD_STREAM}, FALLBACK, fallbacks={"chat": ["other"]})
    assert made.whole() == ("Hello", "good/two", "2")
    chunks, deployment, attempts = made.stream()
    assert (deployment, attempts) == ("good/two", "2")
    assert {part.model for part in chunks} == {"chat"}
    assert json.loads(made.upstreams["good"].asked[0].body)["model"] == "two"


@pytest.mark.parametrize("code", ["context_length_exceeded", "exceed_context_size_error"])
@pytest.mark.parametrize("in_stream", [False, True])
def test_a_larger_window_is_asked_when_the_first_is_too_small(
    pool: Start, code: str, in_stream: bool
) -> None:
    """``{on: context_length, to: [...]}`` acts on that refusal, and on it alone."""
    error = {"message": "too long", "code": code}
    play = stream(error_event(**error)) if in_stream else whole({"error": error}, 400)
    rule = {"chat": {"on": "context_length", "to": ["other"]}}
    made = pool({"bad": play, "good": GOOD_STREAM}, FALLBACK, fallbacks=rule)
    _, deployment, attempts = made.stream()
    assert (deployment, attempts) == ("good/two", "2")


def test_a_fallback_for_another_reason_is_not_asked(pool: Start) -> None:
    """A rule for context_length does nothing for a 500, nor one for errors for a 400."""
    rule = {"chat": {"on": "context_length", "to": ["other"]}}
    made = pool({"bad": whole(b"", 500), "good": GOOD_STREAM}, FALLBACK, fallbacks=rule)
    with pytest.raises(openai.InternalServerError):
        made.whole()
    assert made.asked["good"] == 0
    too_long = whole({"error": {"message": "too long", "code": "context_length_exceeded"}}, 400)
    made = pool({"bad": too_long, "good": GOOD_STREAM}, FALLBACK, fallbacks={"chat": ["other"]})
    with pytest.raises(openai.BadRequestError):
        made.whole()
    assert made.asked["good"] == 0


def test_when_no_window_is_large_enough_the_client_can_act(pool: Start) -> None:
    """If the fallback finds it too long too, the code is still the one that agents shorten upon."""
    too_long = {
        "error": {"message": "too long", "code": "context_length_exceeded", "param": "messages"}
    }
    rule = {"chat": {"on": "context_length", "to": ["other"]}}
    made = pool(
        {"bad": whole(too_long, 400), "good": whole(too_long, 400)}, FALLBACK, fallbacks=rule
    )
    with pytest.raises(openai.BadRequestError) as caught:
        made.whole()
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert caught.value.type == "invalid_request_error"


def test_a_failing_deployment_is_left_alone(pool: Start) -> None:
    """After so many failures in a row its breaker opens, and requests no longer wait for it."""
    rules = {"breaker": {"failures": 2, "open_for": "60s"}}
    made = pool({"bad": whole(b"", 500), "good": GOOD_STREAM}, BOTH, routing=rules)
    attempts = [made.whole()[2] for _ in range(4)]
    assert attempts == ["2", "2", "1", "1"]
    assert made.asked == {"bad": 2, "good": 4}
