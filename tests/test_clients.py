"""A real model behind the proxy, and the clients that people use in front of it."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy_api.testing import settings_for

KEY = "a key with spaces, as an operator may choose it"
MODEL = "smollm2"
MESSAGES: Any = [{"role": "user", "content": "Say hello."}]
ASK: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "temperature": 0}
"""Without chance: llama.cpp leaves the role out when an answer begins with half an emoji."""
CLIENTS = Path(__file__).parent / "clients"
DIMENSIONS = 576
"""Of SmolLM2-135M's embeddings."""


@pytest.fixture(scope="module")
def url(llama: str, lasting_gateway: Callable[..., str]) -> str:
    """A gateway with one key in front of the model; its base URL with /v1."""
    keys = [{"name": "tests", "key": KEY}]
    models = [{"name": MODEL, "target": "up/upstream-name"}]
    return f"{lasting_gateway(settings_for(llama, models=models, keys=keys))}/v1"


@pytest.fixture(scope="module")
def sdk(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


def check_chunks(chunks: list[Any]) -> None:
    """A stream of chunks as an agent needs it."""
    assert "".join(part.choices[0].delta.content or "" for part in chunks).strip()
    assert [part.choices[0].delta.role for part in chunks].count("assistant") == 1
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}
    assert {part.model for part in chunks} == {MODEL}
    assert len({part.id for part in chunks}) == 1


def test_chat_whole(sdk: openai.OpenAI) -> None:
    """A whole answer has text, the name that was asked for, usage and a request id."""
    answer = sdk.chat.completions.create(**ASK, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.model == MODEL
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8
    assert answer._request_id
    assert answer._request_id.startswith("req_")


def test_chat_stream(sdk: openai.OpenAI) -> None:
    """A stream has text, one role, one id and an end; and no usage, which nobody asked for."""
    chunks = list(sdk.chat.completions.create(**ASK, max_tokens=8, stream=True))
    check_chunks(chunks)
    assert all(part.usage is None for part in chunks)


def test_chat_stream_with_usage(sdk: openai.OpenAI) -> None:
    """A client that asks for usage gets it, as the last event, with the model's own count."""
    *chunks, last = sdk.chat.completions.create(
        **ASK,
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
    )
    check_chunks(chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert 0 < last.usage.completion_tokens <= 8


def test_chat_stream_helper(sdk: openai.OpenAI) -> None:
    """The SDK's helper, which checks more, puts the whole together."""
    with sdk.chat.completions.stream(**ASK, max_tokens=8) as stream:
        events = [event.type for event in stream]
        whole = stream.current_completion_snapshot
    assert "content.done" in events
    assert whole.choices[0].message.content
    assert whole.choices[0].message.role == "assistant"


def test_a_stream_can_be_left(sdk: openai.OpenAI) -> None:
    """A client that leaves in the middle is no trouble: the next request is served."""
    with sdk.chat.completions.create(**ASK, max_tokens=200, stream=True) as stream:
        next(stream)
    assert sdk.chat.completions.create(**ASK, max_tokens=2).choices


def test_completions(sdk: openai.OpenAI) -> None:
    """Text completions, whole and streamed."""
    whole = sdk.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8)
    assert whole.choices[0].text
    assert whole.model == MODEL
    parts = list(
        sdk.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8, stream=True)
    )
    assert "".join(part.choices[0].text for part in parts)
    assert parts[-1].choices[0].finish_reason in {"stop", "length"}


def test_embeddings(sdk: openai.OpenAI) -> None:
    """Embeddings come as the SDK asks by itself (base64) and as plain numbers, and are the same."""
    packed = sdk.embeddings.create(model=MODEL, input="hello")
    plain = sdk.embeddings.create(model=MODEL, input=["hello", "world"], encoding_format="float")
    assert packed.model == plain.model == MODEL
    assert len(packed.data[0].embedding) == DIMENSIONS
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-2)
    assert [one.index for one in plain.data] == [0, 1]
    assert plain.data[0].embedding != plain.data[1].embedding


def test_embeddings_in_base64_on_the_wire(sdk: openai.OpenAI) -> None:
    """``encoding_format: base64`` is honoured: what the SDK unpacks are float32 values."""
    raw = sdk.embeddings.with_raw_response.create(
        model=MODEL, input="hello", encoding_format="base64"
    )
    text = json.loads(raw.content)["data"][0]["embedding"]
    assert isinstance(text, str)
    assert len(struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(text))) == DIMENSIONS


def test_models(sdk: openai.OpenAI) -> None:
    """The list has the model, and it can be retrieved by its name."""
    listed = sdk.models.list().data
    assert [one.id for one in listed] == [MODEL]
    one = sdk.models.retrieve(MODEL)
    assert (one.id, one.object, one.owned_by) == (MODEL, "model", "up")
    assert one.created > 1_600_000_000


def test_failures(sdk: openai.OpenAI, url: str) -> None:
    """A wrong key and a wrong model raise what the SDK has for them."""
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.chat.completions.create(model="nobody", messages=MESSAGES)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with (
        openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"


async def test_the_async_sdk(url: str) -> None:
    """The same jobs with the asynchronous client."""
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=60) as sdk:
        whole = await sdk.chat.completions.create(**ASK, max_tokens=8)
        assert whole.choices[0].message.content
        stream = await sdk.chat.completions.create(**ASK, max_tokens=8, stream=True)
        check_chunks([part async for part in stream])
        stream = await sdk.chat.completions.create(
            **ASK,
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
        *chunks, last = [part async for part in stream]
        check_chunks(chunks)
        assert last.usage is not None
        text = await sdk.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8)
        assert text.choices[0].text
        vectors = await sdk.embeddings.create(model=MODEL, input="hello")
        assert len(vectors.data[0].embedding) == DIMENSIONS
        assert [one.id async for one in sdk.models.list()] == [MODEL]
        assert (await sdk.models.retrieve(MODEL)).id == MODEL


def test_the_npm_sdk(url: str) -> None:
    """OpenAI's client for Node gets the same, and raises the same."""
    command = ["node", str(CLIENTS / "openai.mjs"), url, KEY, MODEL]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    answer = told["chat"]["answer"]
    assert answer["choices"][0]["message"]["content"]
    assert answer["model"] == MODEL
    assert told["chat"]["requestId"].startswith("req_")
    for stream in (told["stream"], told["streamWithUsage"][:-1]):
        assert "".join(part["choices"][0]["delta"].get("content") or "" for part in stream).strip()
        assert stream[-1]["choices"][0]["finish_reason"] in {"stop", "length"}
        assert {part["model"] for part in stream} == {MODEL}
    assert told["streamWithUsage"][-1]["usage"]["completion_tokens"] > 0
    assert not any(part.get("usage") for part in told["stream"])
    assert told["helper"]["choices"][0]["message"]["content"]
    assert told["completion"]["choices"][0]["text"]
    assert told["embedding"]["model"] == MODEL
    assert len(told["embedding"]["vector"]) == DIMENSIONS
    assert any(told["embedding"]["vector"])
    assert told["models"] == [MODEL]
    assert told["retrieved"]["id"] == MODEL
    failures = told["failures"]
    assert (failures["key"]["status"], failures["key"]["code"]) == (401, "invalid_api_key")
    assert (failures["model"]["status"], failures["model"]["code"]) == (404, "model_not_found")
    assert all(
        one["isRightClass"] and one["requestId"].startswith("req_") for one in failures.values()
    )


def curl(url: str, body: dict[str, Any], *options: str) -> str:
    command = ["curl", "--silent", "--show-error", "--max-time", "60", "--no-buffer", *options]
    command += ["-H", f"Authorization: Bearer {KEY}", "-H", "Content-Type: application/json"]
    ran = subprocess.run(
        [*command, "--data-binary", "@-", f"{url}/chat/completions"],
        input=json.dumps(body),
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


def test_curl_whole(url: str) -> None:
    """curl gets one JSON document, its length and type declared."""
    body = {**ASK, "max_tokens": 8}
    head, _, text = curl(url, body, "--include").partition("\n\n")
    assert json.loads(text)["choices"][0]["message"]["content"]
    lines = {line.strip().lower() for line in head.splitlines()}
    assert lines >= {"http/1.1 200 ok", "content-type: application/json", "x-llm-proxy-attempts: 1"}
    assert f"content-length: {len(text.encode())}" in lines
    assert "x-llm-proxy-deployment: up/upstream-name" in lines


def test_curl_stream(url: str) -> None:
    """curl gets events, each with a blank line behind it, and [DONE] at the end."""
    body = {**ASK, "max_tokens": 8, "stream": True}
    head, _, text = curl(url, body, "--include").partition("\n\n")
    lines = {line.strip().lower() for line in head.splitlines()}
    assert lines >= {"content-type: text/event-stream; charset=utf-8", "cache-control: no-cache"}
    assert "x-accel-buffering: no" in lines
    *events, done, nothing = text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert "".join(part["choices"][0]["delta"].get("content") or "" for part in chunks).strip()
    assert chunks[-1]["choices"][0]["finish_reason"] in {"stop", "length"}


def test_curl_with_expect(url: str) -> None:
    """curl asks before it sends a large body, and is told to go on."""
    body = {**ASK, "max_tokens": 1, "user": "x" * 2_000_000}
    assert json.loads(curl(url, body, "-H", "Expect: 100-continue"))["choices"]
