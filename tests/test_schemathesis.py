"""Requests made up from our own OpenAPI description get answers that it describes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from proxy_api import Settings

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
ANSWERS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "judges" / "answers.json").read_text()
)
CHAT = ANSWERS["openai.chat"]["text"]
USAGE = {"prompt_tokens": 1, "total_tokens": 1}
COMPLETION = {
    "id": "c",
    "object": "text_completion",
    "created": 1,
    "model": "up",
    "choices": [{"index": 0, "text": "hi", "finish_reason": "stop", "logprobs": None}],
}
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.5]}
PLAYS: dict[str, tuple[Any, list[Any]]] = {
    "/chat/completions": (CHAT["whole"], [*CHAT["stream"], "[DONE]"]),
    "/v1/completions": (COMPLETION, [COMPLETION, "[DONE]"]),
    "/embeddings": ({"object": "list", "model": "up", "data": [VECTOR], "usage": USAGE}, []),
    "/responses": tuple(ANSWERS["openai.responses"]["tool"].values()),
    "/count_tokens": ({"input_tokens": 3}, []),
    "/messages": tuple(ANSWERS["anthropic.messages"]["tool"].values()),
    ":countTokens": ({"totalTokens": 3}, []),
    ":generateContent": tuple(ANSWERS["gemini.generate"]["tool"].values()),
    ":streamGenerateContent": tuple(ANSWERS["gemini.generate"]["tool"].values()),
}
"""By the ending of a path: a whole answer, and the events of a stream."""
NO_ROUTE = {
    "error": {
        "message": "there is no such route",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
}
"""What an upstream says of the routes that it doesn't have: pictures, sound, files."""
MODELS = ("chat", "claude", "gem")


async def plays(asked: Any, writer: asyncio.StreamWriter) -> None:
    path = asked.path.partition("?")[0]
    found = [told for ending, told in PLAYS.items() if path.endswith(ending)]
    whole, events = found[0] if found else (NO_ROUTE, [])
    kind, body = "application/json", json.dumps(whole).encode()
    if "stream" in path or (events and json.loads(asked.body).get("stream") is True):
        kind, body = "text/event-stream", b"".join(map(framed, events))
    status = "200 OK" if found else "404 Not Found"
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


def framed(told: Any) -> bytes:
    if isinstance(told, str):
        return f"data: {told}\n\n".encode()
    named = f"event: {told['type']}\n" if "type" in told else ""
    return f"{named}data: {json.dumps(told)}\n\n".encode()


@pytest.fixture(scope="module")
def url(http_upstream: Callable[..., Any], lasting_gateway: Callable[..., str]) -> str:
    """A gateway before an upstream that answers everything well."""
    port = http_upstream(plays).port
    base = f"http://127.0.0.1:{port}"
    dialects = ["openai.chat", "openai.completions", "openai.embeddings", "openai.responses"]
    settings: dict[str, Any] = {
        "providers": {
            "chat": {
                "kind": "openai_compatible",
                "base_url": f"{base}/v1",
                "dialects": dialects,
            },
            "claude": {"kind": "anthropic", "base_url": base, "api_key": "k"},
            "gem": {"kind": "gemini", "base_url": base, "api_key": "k"},
        },
        "models": [{"name": name, "target": f"{name}/up"} for name in MODELS],
    }
    return lasting_gateway(Settings(**settings))


@pytest.fixture(scope="module")
def operations(url: str) -> list[Any]:
    """Those of the description, which is asked for as anybody does."""
    schema = schemathesis.openapi.from_dict(httpx2.get(f"{url}/openapi.json").json())
    found = [cast("Any", one).ok() for one in schema.get_all_operations()]
    assert len(found) > 10
    # Lists of files and batches are refused with 501: nobody knows whose they are.
    return [one for one in found if one.label not in ("GET /v1/files", "GET /v1/batches")]


def with_a_model(case: Any, model: str | None) -> Any:
    """The case with a model that is there: names that are made up never are."""
    if model is None:
        return case
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = model
    if isinstance(case.path_parameters, dict) and "model" in case.path_parameters:
        case.path_parameters["model"] = model
    return case


@pytest.mark.parametrize(("mode", "examples"), [("POSITIVE", 4), ("NEGATIVE", 2)])
def test_every_operation_answers_as_described(
    url: str, operations: list[Any], mode: str, examples: int
) -> None:
    """No failure of ours, and only statuses, media types and bodies that the description has."""
    for operation in operations:
        # What takes nothing takes nothing wrong, and in a form anything is a text.
        if mode == "POSITIVE" or [one for one in operation.body if "json" in one.media_type]:
            try:
                _ask(operation, GenerationMode[mode], examples, url)
            except Unsatisfiable:  # schemathesis finds nothing wrong to say to it
                assert (mode, operation.label) == ("NEGATIVE", "POST /v1/batches")


def _ask(operation: Any, mode: GenerationMode, examples: int, url: str) -> None:
    models = st.sampled_from([None, *MODELS])

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode), models)
    def asks(case: Any, model: str | None) -> None:
        answer = with_a_model(case, model).call(base_url=url)
        is_stream = answer.headers["content-type"][0].startswith("text/event-stream")
        case.validate_response(answer, checks=CHECKS[:-1] if is_stream else CHECKS)
        if is_stream:
            check_events(operation, answer.content.decode())

    asks()


def check_events(operation: Any, text: str) -> None:
    """schemathesis judges an event's lines; what the description has is the JSON of its data."""
    document = operation.schema.raw_schema
    told = document["paths"][operation.path][operation.method]["responses"]["200"]["content"]
    described = {**told["text/event-stream"]["schema"], "components": document["components"]}
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data:")]
    for line in lines:
        if line != "[DONE]":
            Draft202012Validator(described).validate(json.loads(line))
    assert lines
