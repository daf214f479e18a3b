"""Embeddings, asked for as OpenAI's and answered by whoever embeds."""

from __future__ import annotations

import json
from typing import Any

import cohere
import httpx
import httpx2
import ollama
import pytest
from cohere.types import EmbedByTypeResponse, EmbedByTypeResponseEmbeddings
from google import genai
from google.genai import types
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from openai import OpenAI
from openai.types import CreateEmbeddingResponse

from proxy_core import EMBEDDINGS, create_provider, provider_row
from proxy_core._types import Headers, Reply
from proxy_core.dialects import EMBED_CODECS
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._embeddings import Texts, begin_embedding
from proxy_core.errors import (
    InvalidRequest,
    NotCarried,
    UpstreamModelMissing,
    UpstreamProtocolError,
)
from proxy_core.testing import FakeHttp

JSON: Headers = [(b"content-type", b"application/json")]
VECTORS = [[0.5, -0.25, 1.0], [0.125, 2.0, -3.5]]
SETTINGS = {"region": "eu-central-1", "project": "p", "location": "europe-west4"}
TITAN, COHERE = "amazon.titan-embed-text-v2:0", "cohere.embed-v4:0"


def by_type(**more: Any) -> bytes:
    told = EmbedByTypeResponse(
        id="e", embeddings=EmbedByTypeResponseEmbeddings(float_=VECTORS), texts=["a", "b"], **more
    )
    return told.json(by_alias=True).encode()


GEMINI = types.EmbedContentResponse(
    embeddings=[types.ContentEmbedding(values=vector) for vector in VECTORS]
).model_dump_json(by_alias=True, exclude_none=True)
OLLAMA = ollama.EmbedResponse(model="m", embeddings=VECTORS, prompt_eval_count=7)
# https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api
VERTEX = {
    "predictions": [
        {
            "embeddings": {
                "statistics": {"truncated": False, "token_count": 3},
                "values": VECTORS[0],
            }
        },
        {
            "embeddings": {
                "statistics": {"truncated": False, "token_count": 4},
                "values": VECTORS[1],
            }
        },
    ]
}
ANSWERS: dict[str, tuple[bytes, int | None]] = {
    "gemini": (GEMINI.encode(), None),
    "vertex": (json.dumps(VERTEX).encode(), 7),
    "cohere": (by_type(meta={"billed_units": {"input_tokens": 7.0}}), 7),
    "ollama_native": (OLLAMA.model_dump_json().encode(), 7),
    "bedrock": (by_type(), None),
}
"""Two vectors, and how many tokens the answer tells of."""


def provider(kind: str, http: FakeHttp, **options: Any) -> Any:
    options = {**SETTINGS, **options} if kind in ("vertex", "bedrock") else options
    return create_provider(kind, api_key="k-0123", http=http, **options)


async def ask(kind: str, raw: bytes, model: str = "up", **body: Any) -> tuple[Any, Reply, bytes]:
    """The request that went out, and the answer to it."""
    http = FakeHttp(lambda request: (200, JSON, (raw,)))
    call = EMBEDDINGS.read(json.dumps({"model": "mine", "input": ["a", "b"], **body}).encode())
    async with provider(kind, http).send(call, model=model) as reply:
        told = b"".join([part async for part in reply.body])
    return http.requests[-1], reply, told


@pytest.mark.parametrize("kind", ANSWERS)
async def test_every_answer_is_openai_s(kind: str) -> None:
    """OpenAI's own type takes it strictly: vectors in order, numbers as they came, usage filled."""
    raw, tokens = ANSWERS[kind]
    _, reply, told = await ask(kind, raw, COHERE if kind == "bedrock" else "up")
    answer = CreateEmbeddingResponse.model_validate_json(told, strict=True)
    assert [row.embedding for row in answer.data] == VECTORS
    assert [row.index for row in answer.data] == [0, 1]
    assert (answer.model, answer.object) == ("mine", "list")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens == reply.usage.input_tokens > 0
    assert reply.usage.reported is (tokens is not None)
    assert tokens is None or answer.usage.prompt_tokens == tokens


async def test_openai_s_client_unpacks_what_was_packed() -> None:
    """It asks for base64 unless told otherwise, and reads our little-endian float32."""
    seen: list[bytes] = []
    http = FakeHttp(lambda request: (200, JSON, (ANSWERS["cohere"][0],)))
    upstream = provider("cohere", http)

    async def answer(body: bytes) -> bytes:
        async with upstream.send(EMBEDDINGS.read(body), model="embed-v4.0") as reply:
            return b"".join([part async for part in reply.body])

    def first(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.content)
        return httpx2.Response(200, json={"object": "list", "data": [], "model": "m"})

    asked = OpenAI(
        api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(first)), max_retries=0
    )
    with pytest.raises(ValueError, match="No embedding"):
        asked.embeddings.create(model="mine", input=["a", "b"])
    assert json.loads(seen[0])["encoding_format"] == "base64"
    told = await answer(seen[0])
    replying = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=told, headers={"content-type": "application/json"})
    )
    client = OpenAI(api_key="k", http_client=httpx2.Client(transport=replying))
    got = client.embeddings.create(model="mine", input=["a", "b"])
    assert [row.embedding for row in got.data] == VECTORS


def test_gemini_is_asked_as_its_own_client_asks() -> None:
    """The body that google-genai sends for the same wish, and but for the version its path."""
    seen: list[Any] = []

    def handle(request: Any) -> Any:
        seen.append(request)
        return httpx2.Response(200, content=GEMINI, headers={"content-type": "application/json"})

    options = types.HttpOptions(httpx_client=httpx2.Client(transport=httpx2.MockTransport(handle)))
    genai.Client(api_key="k", http_options=options).models.embed_content(
        model="gemini-embedding-001",
        contents=["a", "b"],
        config={"output_dimensionality": 3, "task_type": "RETRIEVAL_QUERY"},
    )
    codec = EMBED_CODECS["gemini.embed"]
    ours = codec.write_request(Texts(("a", "b"), 3, "query"), "gemini-embedding-001", Losses())
    theirs = json.loads(seen[0].content)
    for request in theirs["requests"]:
        request["content"].pop("role", None)
    assert ours == theirs
    ours_at = codec.path("gemini-embedding-001", stream=False)
    assert ours_at.removeprefix("/v1beta/") == seen[0].url.path.removeprefix("/v1/")


def test_cohere_is_asked_as_its_own_client_asks() -> None:
    """The same body as Cohere's client sends; documents, where nobody says what it is for."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=by_type(response_type="embeddings_by_type"))

    client = cohere.ClientV2("k", httpx_client=httpx.Client(transport=httpx.MockTransport(handle)))
    client.embed(
        model="embed-v4.0",
        texts=["a", "b"],
        input_type="search_document",
        embedding_types=["float"],
        output_dimension=256,
    )
    codec = EMBED_CODECS["cohere.embed"]
    assert codec.write_request(Texts(("a", "b"), 256), "embed-v4.0", Losses()) == json.loads(
        seen[0].content
    )
    assert seen[0].url.path == codec.path("embed-v4.0", stream=False)
    asked = codec.write_request(Texts(("a",), None, "query"), "embed-v4.0", Losses())
    assert asked["input_type"] == "search_query"


def test_ollama_is_asked_as_its_own_client_asks() -> None:
    """The same body at the same path as Ollama's client sends."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"embeddings": VECTORS})

    client = ollama.Client("http://up", transport=httpx.MockTransport(handle))
    client.embed("nomic", input=["a", "b"], dimensions=3)
    codec = EMBED_CODECS["ollama.embed"]
    ours = codec.write_request(Texts(("a", "b"), 3), "nomic", Losses())
    assert ours == json.loads(seen[0].content)
    assert seen[0].url.path == codec.path("nomic", stream=False)


async def test_bedrock_s_models_are_asked_in_their_makers_ways() -> None:
    """Titan by one text, Cohere's by all, no model in the body; other models don't embed."""
    titan = json.dumps({"embedding": VECTORS[0], "inputTextTokenCount": 3}).encode()
    request, reply, told = await ask("bedrock", titan, TITAN, input="a", dimensions=256)
    assert json.loads(request.body) == {"inputText": "a", "dimensions": 256}
    assert request.url.endswith("/model/amazon.titan-embed-text-v2%3A0/invoke")
    assert CreateEmbeddingResponse.model_validate_json(told).data[0].embedding == VECTORS[0]
    assert (reply.usage.input_tokens, reply.usage.reported) == (3, True)
    request, _, _ = await ask("bedrock", ANSWERS["bedrock"][0], COHERE)
    assert "model" not in json.loads(request.body)
    with pytest.raises(NotCarried, match=r"2 texts.*one by one.*https://docs\.aws"):
        await ask("bedrock", titan, TITAN)
    with pytest.raises(UpstreamModelMissing):
        await ask("bedrock", titan, "meta.llama3-70b-instruct-v1:0")


async def test_vertex_is_asked_to_predict() -> None:
    """At the project's own path, with the dimensions among the parameters."""
    request, _, _ = await ask("vertex", ANSWERS["vertex"][0], "text-embedding-005", dimensions=3)
    assert request.url.endswith(
        "/v1/projects/p/locations/europe-west4/publishers/google/models/text-embedding-005:predict"
    )
    assert json.loads(request.body) == {
        "instances": [{"content": "a"}, {"content": "b"}],
        "parameters": {"outputDimensionality": 3},
    }


@pytest.mark.parametrize(
    ("body", "error", "param", "words"),
    [
        ({"input": [1, 2, 3]}, NotCarried, "input", "takes text alone"),
        ({"input": [[1, 2], [3]]}, NotCarried, "input", "takes text alone"),
        ({"input": []}, InvalidRequest, "input", "at least one"),
        ({"input": ["a", None]}, InvalidRequest, "input[1]", "a string"),
        ({"input": ["a", 5]}, InvalidRequest, "input[1]", "a string"),
        ({"dimensions": "3"}, InvalidRequest, "dimensions", "whole number"),
        ({"dimensions": 0}, InvalidRequest, "dimensions", "at least 1"),
        ({"encoding_format": "int8"}, InvalidRequest, "encoding_format", "float, base64"),
    ],
)
async def test_what_can_t_be_embedded_is_refused(
    body: dict[str, Any], error: type[Exception], param: str, words: str
) -> None:
    """By the field and the remedy, before anybody is asked."""
    with pytest.raises(error, match=words) as caught:
        await ask("cohere", b"{}", **body)
    assert getattr(caught.value, "param", None) == param


async def test_what_gets_lost_is_announced() -> None:
    """A use that a provider has no word for, and fields that nobody knows."""
    _, reply, _ = await ask(
        "ollama_native", ANSWERS["ollama_native"][0], input_type="query", user="u", mood="good"
    )
    (told,) = [value for name, value in reply.headers if name == b"x-llm-proxy-dropped"]
    assert told == b"mood, user, input_type"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"embeddings":[[1.0]]}',
        b'{"embeddings":[[1.0],[]]}',
        b'{"embeddings":[["a"],[1]]}',
        b'{"embeddings":{}}',
        b'{"error":"model not found"}',
        b"[]",
        b"",
    ],
)
async def test_a_broken_answer_is_the_upstream_s_fault(raw: bytes) -> None:
    """Too few vectors, empty ones, words for numbers, or nothing at all."""
    with pytest.raises(UpstreamProtocolError):
        await ask("ollama_native", raw)


@hypothesis(max_examples=30, deadline=None)
@given(st.fixed_dictionaries({"input": st.text()}, optional={"user": st.none() | st.text()}))
def test_any_texts_reach_every_provider(body: dict[str, Any]) -> None:
    """Whatever a text holds, it stands in each provider's request as it was."""
    raw = json.dumps({"model": "m", **body}).encode()
    call = EMBEDDINGS.read(raw)
    for codec in EMBED_CODECS.values():
        translated = begin_embedding(codec, call, "up", "announce")
        sent = json.loads(translated.request(call, "up", ask_usage=False))
        assert json.dumps(sent).count(json.dumps(body["input"])) >= 1


@pytest.mark.parametrize("kind", ["gemini", "vertex", "cohere", "ollama_native", "bedrock"])
def test_rows_name_what_they_speak(kind: str) -> None:
    """A provider that embeds in its own way says so, and serves OpenAI's clients by it."""
    assert EMBED_CODECS.keys() & set(provider_row(kind).dialects)
    assert "openai.embeddings" in provider(kind, FakeHttp(lambda _: (200, [], ()))).speaks
