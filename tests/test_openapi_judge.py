"""Whatever we author for OpenAI's clients is judged by the schemas that OpenAI publishes."""

from __future__ import annotations

import asyncio
import copy
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match

from proxy_api import Settings

JUDGES = Path(__file__).parent / "judges"
ANSWERS: dict[str, Any] = json.loads((JUDGES / "answers.json").read_text())
"""Of upstreams, by dialect and by what happens: whole, and the events of a stream."""
KINDS = {
    "anthropic.messages": "anthropic",
    "gemini.generate": "gemini",
    "bedrock.converse": "bedrock",
    "ollama.chat": "ollama_native",
    "cohere.chat": "cohere",
    "openai.chat": "openai_compatible",
    "openai.responses": "openai_compatible",
}
JSON = {"content-type": "application/json"}
KEY = "sk-everything-0123456789"
POOR = "sk-one-request-0123456789"
LOOK = {"type": "object", "properties": {"at": {"type": "integer"}}}
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is it?"}],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": LOOK}}],
}
RESPONSES: dict[str, Any] = {
    "input": "What is it?",
    "tools": [{"type": "function", "name": "look", "parameters": LOOK, "strict": False}],
}
WAYS = [
    (path, dialect, happens)
    for path, own in (("chat/completions", "openai.chat"), ("responses", "openai.responses"))
    for dialect, answers in ANSWERS.items()
    for happens in answers
    if dialect != own
]


class Judge:
    """The schemas, by their names."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = document["components"]
        union = self._components["schemas"]["ResponseStreamEvent"]["anyOf"]
        self._events = dict(self._typed(one["$ref"].rpartition("/")[2]) for one in union)

    def check(self, schema: str, told: object) -> None:
        """Raises ValidationError."""
        error = best_match(self._validator(schema).iter_errors(told))
        if error is not None:
            raise error

    def check_event(self, told: dict[str, Any]) -> None:
        """An event of the Responses API, by the schema of its type."""
        self.check(self._events[told["type"]], told)

    def _typed(self, name: str) -> tuple[str, str]:
        (told,) = self._components["schemas"][name]["properties"]["type"]["enum"]
        return told, name

    @cache  # noqa: B019 - there is one judge
    def _validator(self, schema: str) -> Draft202012Validator:
        whole = {"$ref": f"#/components/schemas/{schema}", "components": self._components}
        return Draft202012Validator(whole)


def nullable(schema: Any) -> Any:
    """With null where the description says it in OpenAPI 3.0's word, which JSON Schema has not."""
    if isinstance(schema, list):
        return [nullable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: nullable(one) for name, one in schema.items() if name != "nullable"}
    return {"anyOf": [rest, {"type": "null"}]} if schema.get("nullable") is True else rest


@pytest.fixture(scope="module")
def judge() -> Judge:
    document = json.loads((JUDGES / "openai" / "schemas.json").read_text())
    schemas = document["components"]["schemas"]
    # The description's own examples have a null there, while the answer is being made.
    schemas["Response"]["allOf"][-1]["properties"]["usage"]["nullable"] = True
    return Judge(nullable(document))


# What upstreams send.


def aws(name: str, told: dict[str, Any]) -> bytes:
    """A message of Amazon's event stream."""
    words = {b":message-type": b"event", b":event-type": name.encode()}
    head = b"".join(
        bytes([len(word)]) + word + b"\x07" + struct.pack("!H", len(value)) + value
        for word, value in words.items()
    )
    payload = json.dumps(told).encode()
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    whole = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


def sse(told: dict[str, Any]) -> bytes:
    named = f"event: {told['type']}\n" if "type" in told else ""
    return f"{named}data: {json.dumps(told)}\n\n".encode()


def framed(dialect: str, events: list[Any]) -> tuple[str, bytes]:
    """The media type and the bytes of a stream."""
    if dialect == "bedrock.converse":
        return "application/vnd.amazon.eventstream", b"".join(aws(*one) for one in events)
    if dialect == "ollama.chat":
        return "application/x-ndjson", b"".join(json.dumps(one).encode() + b"\n" for one in events)
    done = b"data: [DONE]\n\n" if dialect == "openai.chat" else b""
    return "text/event-stream", b"".join(map(sse, events)) + done


async def answers(asked: Any, writer: asyncio.StreamWriter) -> None:
    """The path names the dialect, the model what happens."""
    dialect = asked.path.split("/")[1]
    told = asked.body.decode() + asked.path
    happens = next((one for one in FAILURES if f"fail-{one}" in told), None)
    if happens is not None:
        await FAILURES[happens](writer)
        return
    happens = next(one for one in ANSWERS[dialect] if f"play-{one}" in told)
    answer = ANSWERS[dialect][happens]
    is_stream = b'"stream":true' in asked.body or "stream" in asked.path.lower()
    kind, body = "application/json", json.dumps(answer["whole"]).encode()
    if is_stream:
        kind, body = framed(dialect, answer["stream"])
    writer.write(head(200, kind, len(body)) + body)
    return


def head(status: int, kind: str, length: int) -> bytes:
    told = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    return told.encode()


def refusing(status: int, told: object) -> Callable[[asyncio.StreamWriter], Any]:
    async def play(writer: asyncio.StreamWriter) -> None:
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        writer.write(head(status, "application/json", len(body)) + body)

    return play


async def broken_off(writer: asyncio.StreamWriter) -> None:
    """Content of three dialects, and then nothing more: each reads its own."""
    events = ANSWERS["anthropic.messages"]["text"]["stream"][:4]
    body = b"".join(map(sse, events))
    writer.write(head(200, "text/event-stream", len(body) + 9) + body)
    await writer.drain()
    writer.close()


FAILURES: dict[str, Callable[[asyncio.StreamWriter], Any]] = {
    "throttled": refusing(429, {"type": "error", "error": {"type": "rate_limit_error"}}),
    "rejected": refusing(400, {"type": "error", "error": {"type": "x", "message": "no"}}),
    "credential": refusing(401, {"error": {"message": "bad key"}}),
    "missing": refusing(404, {"error": {"message": "none", "type": "not_found_error"}}),
    "overloaded": refusing(529, {"error": {"type": "overloaded_error", "message": "full"}}),
    "nonsense": refusing(200, b"<html>"),
    "broken": broken_off,
}


@pytest.fixture(scope="module")
def http(
    http_upstream: Callable[..., Any], lasting_gateway: Callable[..., str], llama: str
) -> Iterator[httpx2.Client]:
    """A gateway before an upstream that speaks everything, and a real one for embeddings."""
    port = http_upstream(answers).port
    providers: dict[str, Any] = {"real": {"kind": "llamacpp", "base_url": llama}}
    for dialect, kind in KINDS.items():
        providers[dialect] = {
            "kind": kind,
            "base_url": f"http://127.0.0.1:{port}/{dialect}",
            "api_key": "k",
        }
    providers["openai.responses"]["dialects"] = ["openai.responses"]
    providers["bedrock.converse"]["region"] = "eu-central-1"
    providers["closed"] = {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}
    providers["credential"] = providers["anthropic.messages"] | {"kind": "anthropic"}
    settings: dict[str, Any] = {
        "providers": providers,
        "models": [
            {"name": "listed", "target": "openai.chat/listed"},
            *({"name": f"{name}/*", "target": f"{name}/*"} for name in providers),
        ],
        "keys": [
            {"name": "all", "key": KEY},
            {"name": "poor", "key": POOR, "limits": {"requests": "1/hour"}},
        ],
        "routing": {"retry": {"attempts": 1}, "breaker": {"failures": 1000}},
    }
    url = lasting_gateway(Settings(**settings))
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx2.Client(base_url=f"{url}/v1/", headers=headers, timeout=30) as client:
        yield client


def ask(http: httpx2.Client, path: str, model: str, *, stream: bool = False) -> httpx2.Response:
    body = {"model": model, "stream": stream, **(CHAT if path.startswith("chat") else RESPONSES)}
    if stream and path.startswith("chat"):
        body["stream_options"] = {"include_usage": True}
    return http.post(path, json=body)


def events_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    """What the data lines hold, without the last ``[DONE]``."""
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def check_stream(judge: Judge, path: str, events: list[dict[str, Any]]) -> None:
    for event in events:
        if path == "responses":
            judge.check_event(event)
        elif "error" in event:
            judge.check("ErrorResponse", event)
        else:
            judge.check("CreateChatCompletionStreamResponse", event)


@pytest.mark.parametrize(("path", "dialect", "happens"), WAYS)
def test_a_translated_answer_is_openais(
    http: httpx2.Client, judge: Judge, path: str, dialect: str, happens: str
) -> None:
    """Whole and streamed, with text, reasoning, tools, cut by the limit or by a filter."""
    model = f"{dialect}/play-{happens}"
    whole = ask(http, path, model)
    assert whole.status_code == 200, whole.text
    told = whole.json()
    judge.check("Response" if path == "responses" else "CreateChatCompletionResponse", told)
    assert told["model"] == model
    stream = ask(http, path, model, stream=True)
    events = events_of(stream)
    assert stream.status_code == 200 and len(events) > 3, stream.text
    check_stream(judge, path, events)
    assert not any("error" in (*event, event.get("type")) for event in events)
    if path == "responses":
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[-1]["type"] == f"response.{told['status']}"


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status"),
    [
        *(("anthropic.messages/fail-throttled", 429), ("anthropic.messages/fail-rejected", 400)),
        *(("credential/fail-credential", 502), ("anthropic.messages/fail-missing", 404)),
        *(("anthropic.messages/fail-overloaded", 503), ("anthropic.messages/fail-nonsense", 502)),
        *(("openai.chat/fail-throttled", 429), ("openai.chat/fail-nonsense", 502)),
        *(("closed/x", 503), ("nobody", 404)),
    ],
)
def test_a_failure_is_openais(
    http: httpx2.Client, judge: Judge, path: str, stream: bool, model: str, status: int
) -> None:
    """Each error of an upstream, native or translated, is told by its status and in this shape."""
    answer = ask(http, path, model, stream=stream)
    assert answer.status_code == status, answer.text
    judge.check("ErrorResponse", answer.json())


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
def test_a_stream_that_breaks_off_is_openais(http: httpx2.Client, judge: Judge, path: str) -> None:
    """What came before and the error behind it are events of the client's own API."""
    answer = ask(http, path, "anthropic.messages/fail-broken", stream=True)
    events = events_of(answer)
    check_stream(judge, path, events)
    assert "Blue, " in answer.text
    assert "error" in (*events[-1], events[-1].get("type"))
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "chat/completions", {"content": b"{", "headers": JSON}, 400),
        ("POST", "chat/completions", {"json": {"model": "openai.chat/x"}}, 400),
        ("POST", "responses", {"json": {"model": "anthropic.messages/x", "input": 7}}, 400),
        ("POST", "chat/completions", {"content": b"x", "headers": {"content-type": "a/b"}}, 415),
        ("POST", "chat/completions", {"json": {}, "headers": {"authorization": "Bearer x"}}, 401),
        ("POST", "nowhere", {"json": {}}, 404),
        ("GET", "chat/completions", {}, 405),
        ("GET", "models/nobody", {}, 404),
        ("GET", "models", {"headers": {"authorization": "Bearer x"}}, 401),
        ("POST", "embeddings", {"json": {"model": "anthropic.messages/x", "input": "x"}}, 404),
    ],
)
def test_a_refusal_is_openais(
    http: httpx2.Client, judge: Judge, method: str, path: str, options: Any, status: int
) -> None:
    """Bodies, keys, routes, methods and models that can't be served: one shape for all."""
    answer = http.request(method, path, **options)
    assert answer.status_code == status, answer.text
    judge.check("ErrorResponse", answer.json())


def test_a_limit_is_openais(http: httpx2.Client, judge: Judge) -> None:
    """A key that has asked enough is told so in the same shape."""
    told = [
        http.get("models"),
        *(
            http.post(
                "chat/completions",
                json={"model": "openai.chat/play-text", **CHAT},
                headers={"authorization": f"Bearer {POOR}"},
            )
            for _ in range(2)
        ),
    ]
    assert [one.status_code for one in told] == [200, 200, 429]
    judge.check("ErrorResponse", told[-1].json())


def test_models_are_openais(http: httpx2.Client, judge: Judge) -> None:
    """The list, and one of it."""
    listed = http.get("models").json()
    judge.check("ListModelsResponse", listed)
    assert listed["data"]
    judge.check("Model", http.get(f"models/{listed['data'][0]['id']}").json())


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings_are_openais(http: httpx2.Client, judge: Judge, form: str) -> None:
    """Those of a real model, by whose words they pass."""
    asked = {"model": "real/x", "input": ["hello"], "encoding_format": form}
    told = http.post("embeddings", json=asked).json()
    assert told["model"] == "real/x"
    if form == "base64":  # the description knows numbers only
        assert isinstance(told["data"][0]["embedding"], str)
        told["data"][0]["embedding"] = [0.5]
    judge.check("CreateEmbeddingResponse", told)


def _without(told: dict[str, Any], *path: str | int) -> dict[str, Any]:
    broken = at = copy.deepcopy(told)
    for step in path[:-1]:
        at = at[step]  # type: ignore[index]
    del at[path[-1]]  # type: ignore[arg-type]
    return broken


CHAT_ANSWER = ANSWERS["openai.chat"]["tool"]["whole"]
CHUNK = ANSWERS["openai.chat"]["text"]["stream"][1]
RESPONSE = ANSWERS["openai.responses"]["tool"]["whole"]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ("CreateChatCompletionResponse", CHAT_ANSWER, _without(CHAT_ANSWER, "choices", 0, "index")),
        ("CreateChatCompletionResponse", CHAT_ANSWER, {**CHAT_ANSWER, "object": "chat"}),
        ("CreateChatCompletionStreamResponse", CHUNK, _without(CHUNK, "choices", 0, "delta")),
        ("CreateChatCompletionStreamResponse", CHUNK, {**CHUNK, "usage": {"total_tokens": 1}}),
        ("Response", RESPONSE, _without(RESPONSE, "output", 1, "content", 0, "annotations")),
        ("Response", RESPONSE, {**RESPONSE, "status": "ok"}),
        (
            "ErrorResponse",
            {"error": dict.fromkeys(("type", "message"), "x") | {"param": None, "code": None}},
            {"error": {"message": "x"}},
        ),
        ("ListModelsResponse", {"object": "list", "data": []}, {"detail": "Not Found"}),
    ],
)
def test_the_judge_refuses(judge: Judge, schema: str, good: Any, bad: Any) -> None:
    """It takes what is right and refuses what is not, so that it can find something."""
    judge.check(schema, good)
    with pytest.raises(ValidationError):
        judge.check(schema, bad)


def test_the_judge_refuses_an_event(judge: Judge) -> None:
    """The same for the events of the Responses API, each by its own schema."""
    events = ANSWERS["openai.responses"]["tool"]["stream"]
    for event in events:
        judge.check_event(event)
        with pytest.raises(ValidationError):
            judge.check_event(_without(event, "sequence_number"))
