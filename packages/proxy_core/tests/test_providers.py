from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import pickle
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy_core import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    Call,
    HttpRequest,
    HttpResponse,
    ProviderRow,
    Secret,
    Timeouts,
    Usage,
    create_provider,
    provider_kinds,
    provider_row,
)
from proxy_core._types import Headers
from proxy_core.errors import (
    ConfigurationError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamModelMissing,
    UpstreamProtocolError,
    UpstreamRefusedCredential,
    UpstreamThrottled,
)
from proxy_core.providers import BUILT_IN
from proxy_core.testing import FakeHttp

JSON: Headers = [(b"content-type", b"application/json; charset=utf-8")]
SSE: Headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
ANSWER = b'{"model":"up/x","choices":[{}],"usage":{"prompt_tokens":2,"completion_tokens":1}}'
CHUNK = b'data: {"object":"chat.completion.chunk","model":"up/x","choices":'
EVENTS = [
    CHUNK + b'[{"delta":{"role":"assistant"}}]}\n\n',
    CHUNK + b'[{"delta":{"content":"Hel',
    b'lo"}}]}\n\n' + CHUNK + b'[{"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":1}}\n\n',
    b"data: [DONE]\n\n",
]
BASE_URL = "http://127.0.0.1:9/v1"


def answering(status: int, headers: Headers, chunks: Sequence[bytes]) -> FakeHttp:
    return FakeHttp(lambda request: (status, headers, chunks))


def asked(**fields: Any) -> Call:
    return CHAT.read(json.dumps({"model": "chat", "messages": [], **fields}).encode())


async def collect(http: Any, call: Call, **options: Any) -> tuple[bytes, Usage]:
    provider = create_provider("openai_compatible", base_url=BASE_URL, http=http, **options)
    async with provider.send(call, model="up/x") as reply:
        body = b"".join([chunk async for chunk in reply.body])
        assert reply.has_content
    return body, reply.usage


SETTINGS: dict[str, Any] = {"region": "eu-central-1", "project": "p", "location": "europe-west4"}
OWN_PATHS = ("azure",)
LIKE_OPENAI = [
    kind
    for kind in provider_kinds()
    if kind not in OWN_PATHS and provider_row(kind).dialects[0] == "openai.chat"
]


@pytest.mark.parametrize("kind", LIKE_OPENAI)
async def test_each_kind_asks_its_own_address(kind: str) -> None:
    """A POST below the row's base URL, with the key as a bearer and a body that is the client's."""
    row = provider_row(kind)
    http = answering(200, JSON, [ANSWER])
    provider = create_provider(
        kind, base_url=None if row.base_url else BASE_URL, api_key="sk-1", http=http
    )
    assert (provider.name, provider.dialects) == (kind, row.dialects)
    for dialect in (CHAT, COMPLETIONS, EMBEDDINGS):
        if dialect.name not in row.dialects:
            continue
        call = dialect.read(json.dumps({"model": "m", dialect.needs[0]: []}).encode())
        with_answer = answering(200, JSON, [ANSWER.replace(b"choices", b"data")])
        http._answer = (http if dialect is not EMBEDDINGS else with_answer)._answer
        async with provider.send(call, model="m") as reply:
            assert [chunk async for chunk in reply.body]
        request = http.requests[-1]
        assert request.method == "POST"
        assert request.url == (row.base_url or BASE_URL) + dialect.route
        assert (b"authorization", b"Bearer sk-1") in request.headers
        assert request.body == call.body.raw
    assert http.open == 0


@pytest.mark.parametrize("kind", provider_kinds())
def test_each_kind_can_be_made_and_takes_every_chat(kind: str) -> None:
    """Natively or translated: a client may speak any of the four to any of them."""
    base_url = None if provider_row(kind).base_url else BASE_URL
    http = answering(200, JSON, [ANSWER])
    provider = create_provider(kind, base_url=base_url, api_key="k", http=http, **SETTINGS)
    chats = {"openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"}
    assert chats <= set(provider.speaks)


async def test_headers_are_these_and_the_operators() -> None:
    """No compression is asked for; what the operator sets takes the place of ours."""
    http = answering(200, JSON, [ANSWER])
    await collect(http, asked(), headers={"X-Team": "é", "User-Agent": "us"})
    assert sorted(http.requests[0].headers) == [
        (b"accept", b"application/json, text/event-stream"),
        (b"accept-encoding", b"identity"),
        (b"content-type", b"application/json"),
        (b"user-agent", b"us"),
        (b"x-team", b"\xe9"),
    ]


@pytest.mark.parametrize("base_url", ["http://gpu:8000", "http://gpu:8000/", "http://gpu:8000//"])
async def test_a_base_url_may_have_no_path(base_url: str) -> None:
    """The path is the operator's to choose, and slashes at its end don't count."""
    http = answering(200, JSON, [ANSWER])
    provider = create_provider("openai_compatible", base_url=base_url, http=http)
    async with provider.send(asked(), model="m"):
        pass
    assert http.requests[0].url == "http://gpu:8000/chat/completions"


@pytest.mark.parametrize(("kind", "asks"), [("vllm", True), ("mistral", False)])
async def test_usage_is_asked_of_those_that_take_it(kind: str, asks: bool) -> None:
    """The row knows who refuses ``stream_options``."""
    http = answering(200, SSE, EVENTS)
    provider = create_provider(kind, api_key="k", http=http)
    async with provider.send(asked(stream=True), model="m"):
        pass
    assert (b'"include_usage":true' in http.requests[0].body) is asks


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"kind": "opnai"}, "kind", "openai_compatible"),
        ({"kind": "openai_compatible"}, "base_url", "needs a base_url"),
        ({"kind": "openai"}, "api_key", "needs an api_key"),
        ({"kind": "openai", "api_key": ""}, "api_key", "needs an api_key"),
        ({"kind": "openai", "api_key": Secret("")}, "api_key", "needs an api_key"),
        ({"api_key": "sk-1\n"}, "api_key", "line break"),
        ({"api_key": " sk-1"}, "api_key", "spaces"),
        ({"api_key": "sk-1\x00"}, "api_key", "can't be printed"),
        ({"base_url": "gpu:8000"}, "base_url", "http://"),
        ({"base_url": "ftp://gpu"}, "base_url", "http://"),
        ({"base_url": "http://"}, "base_url", "a host"),
        ({"base_url": "http://gpu:x/v1"}, "base_url", "port"),
        ({"base_url": "http://gpu:99999/v1"}, "base_url", "port"),
        ({"base_url": "http://[::1/v1"}, "base_url", "http://"),
        ({"base_url": "http://gpu/v1?key=1"}, "base_url", "no query"),
        ({"base_url": "http://gpu/v1?"}, "base_url", "no query"),
        ({"base_url": "http://gpu/v1#top"}, "base_url", "no fragment"),
        ({"base_url": "http://gpu/a b"}, "base_url", "no spaces"),
        ({"base_url": "http://gpu/a\r\nb"}, "base_url", "no spaces"),
        ({"base_url": "http://169.254.169.254/v1"}, "base_url", "metadata"),
        ({"base_url": "http://2852039166/v1"}, "base_url", "metadata"),
        ({"base_url": "http://[::ffff:a9fe:a9fe]/v1"}, "base_url", "metadata"),
        ({"base_url": "http://Metadata.Google.Internal./v1"}, "base_url", "metadata"),
        ({"dialects": ["openai.chat", "openai.video"]}, "dialects", "openai.video"),
        ({"kind": "bedrock", "api_key": "k"}, "region", "needs a region"),
        ({"kind": "vertex", "api_key": "k", "project": "p"}, "location", "needs a location"),
        ({"unsupported": "ignore"}, "unsupported", "refuse, announce, strict"),
        ({"base_url": "http://gpu/v1/responses"}, "base_url", "leave it out"),
        ({"region": "x.evil.example/"}, "region", "such as eu-central-1"),
        ({"region": "EU-CENTRAL-1"}, "region", "small letters"),
        ({"location": "127.0.0.1:23901/"}, "location", "such as europe-west4"),
        ({"project": "a/../b"}, "project", "such as my-project-123"),
        ({"api_version": "1&a=b"}, "api_version", "2024-10-21"),
        ({"abilities": {"a*": {"picture": False}}}, "abilities", r"'a\*' .* no ability 'picture'"),
        ({"abilities": {"a*": {"images": "no"}}}, "abilities", r"'a\*', images .* true or false"),
        ({"abilities": {"*": {"most_stops": "x"}}}, "abilities", "a whole number"),
        ({"abilities": {"*": {"efforts": "x"}}}, "abilities", "a list of words"),
        ({"headers": {"a b": "c"}}, "headers", "'a b'"),
        ({"headers": {"": "c"}}, "headers", "name"),
        ({"headers": {"x": "a\r\ny: b"}}, "headers", "'x'"),
        ({"headers": {"x": "\u0142"}}, "headers", "'x'"),
        ({"headers": {"Content-Length": "0"}}, "headers", "Content-Length"),
        ({"headers": {"transfer-encoding": "chunked"}}, "headers", "transfer-encoding"),
    ],
)
def test_errors_of_settings_name_the_field(options: dict[str, Any], param: str, words: str) -> None:
    """At construction, each with what is wrong."""
    if "kind" not in options:
        options = {"kind": "openai_compatible", "base_url": BASE_URL, **options}
    with pytest.raises(ConfigurationError, match=words) as caught:
        create_provider(**options, http=answering(200, JSON, [ANSWER]))
    assert caught.value.param == param


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "http://me:hunter2@gpu/v1"},
        {"base_url": "ftp://me:hunter2@gpu/v1"},
        {"base_url": "http://me:hunter2@169.254.169.254/v1"},
        {"api_key": "hunter2\n"},
        {"headers": {"x-key": "hunter2\n"}},
    ],
)
def test_errors_of_settings_repeat_no_secret(options: dict[str, Any]) -> None:
    """A password in a URL, a key and a header's value stay untold."""
    with pytest.raises(ConfigurationError) as caught:
        create_provider("openai_compatible", **{"base_url": BASE_URL, **options})
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_what_a_signer_from_outside_raises_is_a_problem_of_the_settings() -> None:
    """Whatever it is, the error names the kind, the signer and the cause."""

    def made(settings: Any, http: Any) -> Any:
        return os.environ["NOBODY_SETS_THIS"]

    row = ProviderRow("house", BASE_URL, needs_key=False, signer="seal")
    registry = BUILT_IN.plus([row], signers={"seal": made})
    told = r"signer 'seal' of the kind 'house' .*KeyError: 'NOBODY_SETS_THIS'"
    with pytest.raises(ConfigurationError, match=told):
        create_provider("house", registry=registry, http=answering(200, JSON, [ANSWER]))


def test_a_row_can_say_less_than_its_kind() -> None:
    """``dialects`` takes the place of what the kind speaks."""
    provider = create_provider("vllm", dialects=["openai.embeddings"], name="gpu")
    assert (provider.name, provider.dialects) == ("gpu", ("openai.embeddings",))


async def test_a_dialect_that_is_not_spoken_is_not_sent() -> None:
    """Another deployment may be asked; nothing is held against this one."""
    http = answering(200, JSON, [ANSWER])
    provider = create_provider("groq", api_key="k", http=http)
    call = EMBEDDINGS.read(b'{"model":"e","input":"x"}')
    with pytest.raises(UpstreamModelMissing, match=r"does not speak openai\.embeddings") as caught:
        async with provider.send(call, model="e"):
            pass
    assert (caught.value.verdict, caught.value.deployment) == ("let_go", "groq/e")
    assert http.requests == []


async def test_a_whole_answer() -> None:
    """One chunk, by the asked name, with its usage."""
    body, usage = await collect(answering(200, JSON, [ANSWER[:9], ANSWER[9:]]), asked())
    assert body == ANSWER.replace(b"up/x", b"chat")
    assert usage == Usage(2, 1, reported=True)


async def test_a_streamed_answer() -> None:
    """Whole events by the asked name, without the usage event that the client didn't ask for."""
    body, usage = await collect(answering(200, SSE, EVENTS), asked(stream=True))
    assert body == b"".join(EVENTS[:3] + EVENTS[4:]).replace(b"up/x", b"chat")
    assert usage == Usage(2, 1, reported=True)


async def test_content_is_marked_when_it_comes() -> None:
    """``content_at`` is unset through the role, and set with the first text."""
    provider = create_provider("vllm", http=answering(200, SSE, EVENTS))
    async with provider.send(asked(stream=True), model="m") as reply:
        await anext(reply.body)
        assert not reply.has_content
        await anext(reply.body)
        assert reply.has_content


@pytest.mark.parametrize(
    ("stream", "status", "headers", "chunks", "kind"),
    [
        (False, 500, JSON, [b"{}"], UpstreamFailed),
        (True, 500, SSE, [b"{}"], UpstreamFailed),
        (False, 302, [], [b""], UpstreamProtocolError),
        (False, 200, [(b"content-type", b"text/html")], [b"<html>"], UpstreamProtocolError),
        (True, 200, [(b"content-type", b"text/html")], [b"<html>"], UpstreamProtocolError),
        (False, 200, SSE, EVENTS, UpstreamProtocolError),
        (True, 200, JSON, [ANSWER], UpstreamProtocolError),
        (True, 200, JSON, [b'{"error":{"code":429}}'], UpstreamThrottled),
        (False, 200, JSON, [b'{"error":{"code":429}}'], UpstreamThrottled),
        (False, 200, [*JSON, (b"content-encoding", b"gzip")], [b"\x1f\x8b"], UpstreamProtocolError),
        (True, 200, [*SSE, (b"content-encoding", b"br")], [b"\x1f"], UpstreamProtocolError),
        (False, 200, JSON, [], UpstreamProtocolError),
        (True, 200, SSE, [], UpstreamDisconnected),
        (True, 200, SSE, EVENTS[:2], UpstreamProtocolError),
        (True, 200, SSE, EVENTS[:1], UpstreamDisconnected),
    ],
)
async def test_what_is_no_answer_is_an_error_with_its_deployment(
    stream: bool, status: int, headers: Headers, chunks: list[bytes], kind: type[UpstreamError]
) -> None:
    """Wrong types, errors in a 200, cut streams: each names the deployment, and all is closed."""
    http = answering(status, headers, chunks)
    with pytest.raises(kind) as caught:
        await collect(http, asked(stream=stream))
    assert type(caught.value) is kind
    assert caught.value.deployment == "openai_compatible/up/x"
    assert http.open == 0


async def test_an_error_that_is_caught_at_the_body_has_its_deployment() -> None:
    """Whoever reads the body learns at once whose failure it is."""
    provider = create_provider("vllm", http=answering(200, SSE, EVENTS[:1]))
    async with provider.send(asked(stream=True), model="m") as reply:
        with pytest.raises(UpstreamDisconnected) as caught:
            async for _ in reply.body:
                pass
        assert caught.value.deployment == "vllm/m"


async def test_a_large_complaint_keeps_its_status() -> None:
    """Of an error's body 64 KB are read: the rest doesn't make it another error."""
    headers: Headers = [(b"retry-after", b"7")]
    with pytest.raises(UpstreamThrottled) as caught:
        await collect(answering(429, headers, [b"<html>" * 10_000] * 50), asked())
    assert caught.value.retry_after == 7


class Silent(HttpResponse):
    """Counts how often somebody wants to know all of its headers."""

    looks = 0

    @property
    def headers(self) -> Headers:
        type(self).looks += 1
        return super().headers


async def test_headers_are_listed_for_a_pool_that_has_a_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An engine makes the list when it is asked for: an answer to the only key needs none."""
    monkeypatch.setattr("proxy_core.testing.HttpResponse", Silent)
    for keys, looks in (["sk-1"], 0), (["sk-1", "sk-2"], 1):
        Silent.looks = 0
        http = answering(200, JSON, [ANSWER])
        await collect(http, asked(), api_key=keys)
        assert Silent.looks == looks


class Broken(FakeHttp):
    """Its bodies break off after what they have."""

    @asynccontextmanager
    async def send(
        self, request: HttpRequest, *, timeouts: Timeouts = Timeouts()
    ) -> AsyncIterator[HttpResponse]:
        async with super().send(request, timeouts=timeouts) as response:
            whole = response.body

            async def broken() -> AsyncIterator[bytes]:
                async for part in whole:
                    yield part
                raise UpstreamDisconnected("the connection broke")

            response.body = broken()  # type: ignore[assignment]
            yield response


async def test_a_complaint_that_breaks_off_keeps_its_status() -> None:
    """A 401 whose body never ends is still a refused credential."""
    http = Broken(lambda request: (401, JSON, [b'{"error":{"mess']))
    with pytest.raises(UpstreamRefusedCredential):
        await collect(http, asked())


class Lingering(FakeHttp):
    """Its bodies do not end after what they have; it keeps the ``timeouts`` that it was given."""

    lingers = 60.0

    async def _more(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for part in parts:
            yield part
        await asyncio.sleep(self.lingers)

    @asynccontextmanager
    async def send(
        self, request: HttpRequest, *, timeouts: Timeouts = Timeouts()
    ) -> AsyncIterator[HttpResponse]:
        self.timeouts = timeouts
        async with super().send(request, timeouts=timeouts) as response:
            response.body = self._more(response.body)  # type: ignore[assignment]
            yield response


async def test_a_complaint_that_never_ends_does_not_delay() -> None:
    """After a second the next deployment may be asked; what was read counts."""
    http = Lingering(lambda request: (429, JSON, [b'{"error":{"message":"slow"}}']))
    async with asyncio.timeout(10):
        with pytest.raises(UpstreamThrottled, match="slow"):
            await collect(http, asked())
    assert http.open == 0


@pytest.mark.parametrize(
    ("stream", "limits"),
    [(False, (5.0, 1.0, 30.0, 30.0, 30.0)), (True, (5.0, 1.0, 2.0, 3.0, 30.0))],
)
async def test_a_whole_answer_has_only_the_total(stream: bool, limits: tuple[float, ...]) -> None:
    """Its head comes when all of it is generated; a stream keeps the limits of its phases."""
    http = Lingering(lambda request: (200, SSE if stream else JSON, [ANSWER]))
    http.lingers = 0.0
    provider = create_provider("vllm", http=http)
    given = Timeouts(connect=5.0, pool=1.0, first_byte=2.0, between_events=3.0, total=30.0)
    async with provider.send(asked(stream=stream), model="m", timeouts=given):
        had = http.timeouts
    assert limits == (had.connect, had.pool, had.first_byte, had.between_events, had.total)


async def test_a_break_after_done_is_none() -> None:
    """The answer was whole: whether the connection can be kept is not the client's business."""
    body, _ = await collect(Broken(lambda request: (200, SSE, EVENTS)), asked(stream=True))
    assert body.endswith(b"data: [DONE]\n\n")


async def test_an_upstream_that_stays_after_done_is_not_waited_for() -> None:
    """The end of the body is awaited for a quarter of a second, then let go."""

    class Staying(FakeHttp):
        @asynccontextmanager
        async def send(
            self, request: HttpRequest, *, timeouts: Timeouts = Timeouts()
        ) -> AsyncIterator[HttpResponse]:
            async with super().send(request, timeouts=timeouts) as response:
                whole = response.body

                async def staying() -> AsyncIterator[bytes]:
                    async for part in whole:
                        yield part
                    await asyncio.sleep(60)

                response.body = staying()  # type: ignore[assignment]
                yield response

    async with asyncio.timeout(5):
        body, _ = await collect(Staying(lambda r: (200, SSE, EVENTS)), asked(stream=True))
    assert body.endswith(b"data: [DONE]\n\n")


async def test_a_client_that_leaves_closes_the_answer() -> None:
    """In the middle of a stream, without an error."""
    http = answering(200, SSE, EVENTS)
    provider = create_provider("vllm", http=http)
    async with provider.send(asked(stream=True), model="m") as reply:
        await anext(reply.body)
        assert http.open == 1
    assert http.open == 0


async def test_a_provider_closes_its_client() -> None:
    """It owns the pool."""
    http = answering(200, JSON, [ANSWER])
    provider = create_provider("vllm", http=http)
    assert provider.held_bytes == 0
    await provider.aclose()
    assert http.closed


def test_a_secret_is_never_printed(caplog: pytest.LogCaptureFixture) -> None:
    """Not by repr, str, format or logging, alone or inside of others."""
    secret = Secret("hunter2")
    logging.getLogger("x").warning("%s %r %s", secret, [secret], {"key": secret})
    shown = f"{secret} {secret!r} {secret!s:>20} {[secret]} {caplog.text}"
    assert "hunter2" not in shown
    assert shown.count("***") == 7
    assert not hasattr(secret, "__dict__")


def test_a_secret_is_not_pickled_or_copied_away() -> None:
    """What can't be serialised can't be stored by accident."""
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Secret"):
            leak(Secret("hunter2"))
    with pytest.raises(TypeError):
        json.dumps({"key": Secret("hunter2")})


def test_secrets_are_told_apart_by_their_fingerprint() -> None:
    """Equal values are equal; eight digits tell which is which without telling what."""
    one, same, other = Secret("hunter2"), Secret("hunter2"), Secret("hunter3")
    assert one == same and hash(one) == hash(same) and one != other and one != "hunter2"
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert len(one.fingerprint) == 8 and "hunter" not in one.fingerprint
    assert one.reveal() == "hunter2"
    assert one and not Secret("")


async def test_a_key_is_in_no_repr_and_no_traceback() -> None:
    """Neither the provider, its request nor an error with its frames' variables shows it."""
    http = answering(401, JSON, [b'{"error":{"message":"Incorrect API key: hunter2"}}'])
    provider = create_provider("openai", api_key="hunter2", headers={"x-key": "hunter2"}, http=http)
    with pytest.raises(UpstreamRefusedCredential) as caught:
        async with provider.send(asked(), model="m"):
            pass
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in told.stack if "proxy_core" in frame.filename.split("/")]
    assert frames
    shown = f"{told} {frames} {[frame.locals for frame in frames]}"
    assert "hunter2" not in shown
    assert "hunter2" not in repr(provider) + repr(http.requests)
    assert (b"authorization", b"Bearer hunter2") in http.requests[0].headers


KEY = "sk-proj-0123456789abcdef"
HEADER = "tenant-0123456789"


@pytest.mark.parametrize(
    ("stream", "status", "headers", "chunks"),
    [
        (False, 400, JSON, [b'{"error":{"message":"%s","code":"%s","param":"%s"}}']),
        (False, 500, JSON, [b'{"error":{"message":"you sent %s, %s and %s"}}']),
        (False, 429, JSON, [b'{"error":{"message":"%s %s %s"}}']),
        (False, 200, JSON, [b'{"error":{"message":"%s %s %s"}}']),
        (True, 200, SSE, [EVENTS[0], b'data: {"error":"%s %s %s"}\n\n']),
        (False, 200, [(b"content-type", b"text/%s;%s%s")], [b""]),
        (False, 400, JSON, [b'{"error":{"message":"' + b"x" * 1985 + b'%s%s%s"}}']),
        (False, 400, JSON, [b'{"error":{"code":"' + b"x" * 50 + b'%s%s%s"}}']),
    ],
    ids=["400", "500", "429", "in-200", "in-stream", "content-type", "cut-message", "cut-code"],
)
@pytest.mark.parametrize("secret", [KEY, HEADER])
async def test_no_error_quotes_our_credential(
    secret: str, stream: bool, status: int, headers: Headers, chunks: list[bytes]
) -> None:
    """Whatever an upstream says back: the key and the operator's headers are masked, cut or not."""

    def quoting(text: bytes) -> bytes:
        return text.replace(b"%s", secret.encode())

    http = answering(status, [(n, quoting(v)) for n, v in headers], [quoting(c) for c in chunks])
    provider = create_provider(
        "vllm", api_key=KEY, headers={"x-tenant": f"Token {HEADER}", "x-flag": "you"}, http=http
    )
    with pytest.raises(UpstreamError) as outer:
        async with provider.send(asked(stream=stream), model="m") as reply:
            with pytest.raises(UpstreamError) as inner:
                async for _ in reply.body:
                    pass
            assert secret not in f"{inner.value!r} {inner.value} {vars(inner.value)}"
            raise inner.value
    told = f"{outer.value!r} {outer.value} {vars(outer.value)}"
    assert secret[:8] not in told.lower()
    assert "***" in told
    assert outer.value.args == (outer.value.message,)
    assert "flag" not in told and ("you sent" in told) == (status == 500)


async def test_details_are_told_without_the_credential() -> None:
    """An upstream may quote it there as well: each text is masked, and the rest stays."""
    details = {"error_code": "odd", "said": f"with {KEY}", "list": ["a", KEY], "n": 3}
    body = {"type": "error", "error": {"type": "api_error", "message": "m", "details": details}}
    http = answering(500, JSON, [json.dumps(body).encode()])
    with pytest.raises(UpstreamFailed) as caught:
        async with create_provider("openai", api_key=KEY, http=http).send(asked(), model="up"):
            pass
    masked = {"error_code": "odd", "said": "with ***", "list": ["a", "***"], "n": 3}
    assert caught.value.details == masked
