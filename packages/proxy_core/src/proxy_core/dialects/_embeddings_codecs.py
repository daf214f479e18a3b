"""How providers embed: Gemini, Vertex, Cohere, Ollama, and two makers' models on Bedrock."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

import msgspec

from proxy_core.dialects._codec import Losses
from proxy_core.dialects._embeddings import EmbedCodec, Embedded, Texts
from proxy_core.dialects._upstream import count_of
from proxy_core.errors import NotCarried, UpstreamProtocolError

__all__ = ["EMBED_CODECS"]

_USES: Final[Mapping[str, str]] = MappingProxyType(
    {"query": "search_query", "passage": "search_document", "document": "search_document"}
)
"""Other providers' words for Cohere's."""
_TASKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "search_query": "RETRIEVAL_QUERY",
        "search_document": "RETRIEVAL_DOCUMENT",
        "classification": "CLASSIFICATION",
        "clustering": "CLUSTERING",
        "semantic_similarity": "SEMANTIC_SIMILARITY",
    }
)
"""Google's words for the same: https://ai.google.dev/gemini-api/docs/embeddings."""
_FOLDERS: Final = ("models/", "tunedModels/")

Vectors = list[list[float]]


def _use(asked: Texts) -> str | None:
    return None if asked.use is None else _USES.get(asked.use, asked.use)


def _task(asked: Texts, losses: Losses) -> str | None:
    use = _use(asked)
    if use is not None and use not in _TASKS:
        losses.drop("input_type", f"Google has no task for {use!r}")
    return None if use is None else _TASKS.get(use)


def _said(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


class _Values(msgspec.Struct):
    values: list[float]


class _GeminiUsage(msgspec.Struct, rename="camel"):
    prompt_token_count: object = None


class _GeminiAnswer(msgspec.Struct, rename="camel"):
    embeddings: list[_Values]
    usage_metadata: _GeminiUsage | None = None


class GeminiEmbed:
    """Gemini's, several texts at once.

    https://ai.google.dev/api/embeddings#method:-models.batchembedcontents
    """

    dialect: Final = "gemini.embed"

    def path(self, model: str, *, stream: bool) -> str:
        return f"/v1beta/{quote(_resource(model), safe='/')}:batchEmbedContents"

    def write_request(self, asked: Texts, model: str, losses: Losses) -> dict[str, Any]:
        """One request for each text, as Google's own client sends them."""
        options = _said(taskType=_task(asked, losses), outputDimensionality=asked.dimensions)
        name = _resource(model)
        return {
            "requests": [
                {"model": name, "content": {"parts": [{"text": text}]}} | options
                for text in asked.texts
            ]
        }

    def read_answer(self, body: bytes) -> Embedded:
        answer = msgspec.json.decode(body, type=_GeminiAnswer)
        told = answer.usage_metadata
        tokens = None if told is None else count_of(told.prompt_token_count)
        return Embedded([one.values for one in answer.embeddings], tokens)


def _resource(model: str) -> str:
    return model if model.startswith(_FOLDERS) else f"models/{model}"


class _Statistics(msgspec.Struct):
    token_count: object = None


class _VertexValues(_Values):
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct):
    embeddings: _VertexValues


class _VertexAnswer(msgspec.Struct):
    predictions: list[_Prediction]


class VertexEmbed:
    """Google's on Vertex.

    https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api

    Of gemini-embedding-001 it takes one text at a time; that is its own to say.
    """

    dialect: Final = "vertex.embed"

    def path(self, model: str, *, stream: bool) -> str:
        return f"/v1/publishers/google/models/{quote(model, safe='')}:predict"

    def write_request(self, asked: Texts, model: str, losses: Losses) -> dict[str, Any]:
        task = _said(task_type=_task(asked, losses))
        body: dict[str, Any] = {"instances": [{"content": text} | task for text in asked.texts]}
        if asked.dimensions is not None:
            body["parameters"] = {"outputDimensionality": asked.dimensions}
        return body

    def read_answer(self, body: bytes) -> Embedded:
        rows = [row.embeddings for row in msgspec.json.decode(body, type=_VertexAnswer).predictions]
        told = [None if row.statistics is None else row.statistics.token_count for row in rows]
        counts = [count_of(count) for count in told]
        known = [count for count in counts if count is not None]
        tokens = sum(known) if len(known) == len(counts) else None
        return Embedded([row.values for row in rows], tokens)


class _ByType(msgspec.Struct):
    floats: Vectors = msgspec.field(name="float")


class _Billed(msgspec.Struct):
    input_tokens: object = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None


class _CohereAnswer(msgspec.Struct):
    embeddings: _ByType | Vectors
    """Bedrock's may be the vectors alone, as they were before there were types."""
    meta: _Meta | None = None


class CohereEmbed:
    """Cohere's, at home and on Bedrock.

    https://docs.cohere.com/reference/embed

    It must be told what the vectors are for. OpenAI's clients don't say it: then they are for
    documents to be searched, unless ``input_type`` is there.
    """

    def __init__(self, dialect: str, path: str, *, names_model: bool) -> None:
        self.dialect = dialect
        self._path = path
        self._names_model = names_model

    def path(self, model: str, *, stream: bool) -> str:
        return self._path.format(model=quote(model, safe=""))

    def write_request(self, asked: Texts, model: str, losses: Losses) -> dict[str, Any]:
        return _said(
            model=model if self._names_model else None,
            texts=list(asked.texts),
            input_type=_use(asked) or "search_document",
            embedding_types=["float"],
            output_dimension=asked.dimensions,
        )

    def read_answer(self, body: bytes) -> Embedded:
        answer = msgspec.json.decode(body, type=_CohereAnswer)
        told = answer.embeddings
        billed = answer.meta.billed_units if answer.meta is not None else None
        tokens = None if billed is None else count_of(billed.input_tokens)
        return Embedded(told.floats if isinstance(told, _ByType) else told, tokens)


class _OllamaAnswer(msgspec.Struct):
    embeddings: Vectors | None = None
    prompt_eval_count: object = None
    error: str | None = None


class OllamaEmbed:
    """Ollama's own.

    https://docs.ollama.com/api/embed
    """

    dialect: Final = "ollama.embed"

    def path(self, model: str, *, stream: bool) -> str:
        return "/api/embed"

    def write_request(self, asked: Texts, model: str, losses: Losses) -> dict[str, Any]:
        _lose_use(asked, losses, "Ollama")
        return _said(model=model, input=list(asked.texts), dimensions=asked.dimensions)

    def read_answer(self, body: bytes) -> Embedded:
        answer = msgspec.json.decode(body, type=_OllamaAnswer)
        if answer.embeddings is None:
            raise UpstreamProtocolError(answer.error or "the upstream's answer has no 'embeddings'")
        return Embedded(answer.embeddings, count_of(answer.prompt_eval_count))


class _TitanAnswer(msgspec.Struct, rename="camel"):
    embedding: list[float]
    input_text_token_count: object = None


class TitanEmbed:
    """Amazon's Titan on Bedrock, one text at a time.

    https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html
    """

    dialect: Final = "bedrock.titan_embed"

    def path(self, model: str, *, stream: bool) -> str:
        return f"/model/{quote(model, safe='')}/invoke"

    def write_request(self, asked: Texts, model: str, losses: Losses) -> dict[str, Any]:
        if len(asked.texts) > 1:
            raise NotCarried(
                f"'input' has {len(asked.texts)} texts, and {model} takes one in a request: send"
                " them one by one (https://docs.aws.amazon.com/bedrock/latest/userguide/"
                "model-parameters-titan-embed-text.html).",
                param="input",
            )
        _lose_use(asked, losses, "Titan")
        return _said(inputText=asked.texts[0], dimensions=asked.dimensions)

    def read_answer(self, body: bytes) -> Embedded:
        answer = msgspec.json.decode(body, type=_TitanAnswer)
        return Embedded([answer.embedding], count_of(answer.input_text_token_count))


def _lose_use(asked: Texts, losses: Losses, who: str) -> None:
    if asked.use is not None:
        losses.drop("input_type", f"{who} embeds alike for every use")


_ALL: Final[tuple[EmbedCodec, ...]] = (
    GeminiEmbed(),
    VertexEmbed(),
    CohereEmbed("cohere.embed", "/v2/embed", names_model=True),
    CohereEmbed("bedrock.cohere_embed", "/model/{model}/invoke", names_model=False),
    OllamaEmbed(),
    TitanEmbed(),
)
EMBED_CODECS: Final[Mapping[str, EmbedCodec]] = MappingProxyType(
    {codec.dialect: codec for codec in _ALL}
)
"""Dialects of embeddings that only providers speak, by name."""
