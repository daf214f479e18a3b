"""OpenAI's embeddings for upstreams that embed in their own way. No I/O.

https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from proxy_core._types import Call, Headers, Usage
from proxy_core.dialects._body import read_json, unreadable_answer
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._reading import Value
from proxy_core.dialects._translate import Unsupported, judged
from proxy_core.dialects._usage import estimate_tokens
from proxy_core.errors import NotCarried, UpstreamError, UpstreamProtocolError

__all__ = ["CLIENT", "EmbedCodec", "EmbedTranslation", "Embedded", "Texts", "begin_embedding"]

CLIENT: Final = "openai.embeddings"
"""The only dialect that clients ask for vectors in."""
_KNOWN: Final = ("model", "input", "dimensions", "encoding_format", "input_type", "user", "stream")
_BASE64: Final = "base64"

_encode = msgspec.json.Encoder().encode


class Texts(NamedTuple):
    """What is to be embedded."""

    texts: tuple[str, ...]
    dimensions: int | None = None
    """Numbers of a vector; None: as many as the model likes."""
    use: str | None = None
    """``input_type``, which OpenAI itself doesn't have but many that speak like it: ``query``,
    ``document``, ``passage``, or Cohere's ``search_query`` and its kin."""
    packed: bool = False
    """Whether vectors are wanted in base64."""


class Embedded(NamedTuple):
    """An upstream's answer."""

    vectors: Sequence[Sequence[float]]
    """In the order of the texts."""
    tokens: int | None = None
    """Of all texts; None: it isn't told."""


class EmbedCodec(Protocol):
    """A dialect of embeddings as a provider speaks it."""

    @property
    def dialect(self) -> str: ...

    def path(self, model: str, *, stream: bool) -> str:
        """Below a provider's base URL."""
        ...

    def write_request(self, asked: Texts, model: str, losses: Losses) -> dict[str, Any]:
        """The body for an upstream; what it has no word for goes to ``losses``."""
        ...

    def read_answer(self, body: bytes) -> Embedded:
        """The vectors in a body. Raises UpstreamError."""
        ...


class EmbedTranslation:
    """One call: its verbs are those of a ``Dialect``, but there is no stream."""

    __slots__ = ("_asked", "_body", "_codec", "announced")

    def __init__(self, codec: EmbedCodec, asked: Texts, body: bytes, announced: Headers) -> None:
        self._codec = codec
        self._asked = asked
        self._body = body
        self.announced = announced
        """Headers for the reply: what was left out."""

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """The body for the upstream."""
        return self._body

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        """The answer as OpenAI's; fills ``usage``. Raises UpstreamError."""
        texts = self._asked.texts
        try:
            told = self._codec.read_answer(raw)
            _check(told.vectors, len(texts))
        except UpstreamError:
            raise
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise unreadable_answer(error) from None
        is_told = told.tokens is not None and told.tokens >= 0
        guess = estimate_tokens(sum(len(text.encode()) for text in texts))
        tokens = told.tokens if is_told and told.tokens is not None else guess
        usage.take(Usage(input_tokens=tokens, reported=is_told))
        return _encode(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": at, "embedding": self._shaped(vector)}
                    for at, vector in enumerate(told.vectors)
                ],
                "model": call.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    def _shaped(self, vector: Sequence[float]) -> Sequence[float] | str:
        """As numbers, or as OpenAI packs them: float32, the least byte first, in base64."""
        if not self._asked.packed:
            return vector
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def begin_embedding(
    codec: EmbedCodec, call: Call, model: str, unsupported: Unsupported
) -> EmbedTranslation:
    """Translate a request. Raises InvalidRequest, and NotCarried for what the upstream lacks.

    ``model`` is the upstream's name.
    """
    losses = Losses()
    asked = _read(call.body.raw, codec.dialect, losses)
    body = _encode(codec.write_request(asked, model, losses))
    return EmbedTranslation(codec, asked, body, judged(losses.all, unsupported, codec.dialect))


def _read(raw: bytes, target: str, losses: Losses) -> Texts:
    given = Value(read_json(raw))
    given.lose_others(losses, *_KNOWN)
    if given.maybe_text("user") is not None:
        losses.drop("user", f"{target} has no word for it")
    form = given.maybe("encoding_format")
    return Texts(
        _texts(given.field("input"), target),
        given.maybe_whole("dimensions", 1),
        given.maybe_text("input_type"),
        form is not None and form.one_of("float", _BASE64) == _BASE64,
    )


def _texts(given: Value, target: str) -> tuple[str, ...]:
    rows = [given] if isinstance(given.json, str) else list(given.items())
    if not rows:
        given.refuse("a string or an array with at least one")
    if all(_is_tokens(row.json) for row in rows):
        raise NotCarried(
            f"'input' holds tokens, and {target} takes text alone: send the text as a string, or"
            " ask a model whose provider speaks openai.embeddings.",
            param="input",
        )
    return tuple(row.text() for row in rows)


def _is_tokens(value: object) -> bool:
    one = value[0] if isinstance(value, list) and value else value
    return isinstance(one, int) and not isinstance(one, bool)


def _check(vectors: Sequence[Sequence[float]], wanted: int) -> None:
    if len(vectors) != wanted:
        raise UpstreamProtocolError(
            f"the upstream gave {len(vectors)} vectors where {wanted} were asked for"
        )
    if not all(vectors):
        raise UpstreamProtocolError("the upstream gave a vector with nothing in it")
