"""What is never translated: moderations, images, speech, transcriptions, reranking, whole files.

A JSON body passes as a chat's does; a form's ``model`` is replaced where it stands.
Sources: platform.openai.com/docs/api-reference, docs.cohere.com/reference/rerank,
api.jina.ai/docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Call, Usage
from proxy_core.dialects._body import unreadable_answer
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._multipart import (
    Form,
    MalformedForm,
    boundary_of,
    media_of,
    read_form,
)
from proxy_core.dialects._openai import OpenAIDialect
from proxy_core.dialects._passed_tap import PassedTap, read_counts
from proxy_core.errors import InvalidRequest, UnsupportedMedia, UpstreamProtocolError

__all__ = ["PASSED", "UPLOADS", "PassedDialect", "UploadDialect"]

_OWNED: Final = ("model", "stream")
_FLAGS: Final[Mapping[str, bool]] = MappingProxyType(
    {"true": True, "1": True, "false": False, "0": False, "": False}
)
_SOUND: Final = ("audio/", "application/octet-stream", "binary/octet-stream")
_TEXT: Final = ("text/plain", "text/vtt", "text/srt", "application/x-subrip")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class PassedDialect(OpenAIDialect):
    """One wire format whose body is JSON."""

    or_in: str = ""
    """Another field that has the answer, in the place of ``answers_in``."""
    opens: tuple[str, ...] = ()
    """How media types begin that an answer may have beside JSON: then it passes as it comes."""

    def read(
        self, raw: bytes, request_id: str = "", *, model: str = "", stream: bool | None = None
    ) -> Call:
        """See Dialect."""
        call = OpenAIDialect.read(self, raw, request_id, model=model, stream=stream)
        if bytes(call.body.fields.get("stream_format", b"")) == b'"sse"':
            return msgspec.structs.replace(call, stream=True)
        return call

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """See Dialect. These have no ``stream_options``."""
        return OpenAIDialect.request(self, call, model, ask_usage=False)

    def tap(self, call: Call, usage: Usage) -> PassedTap:  # type: ignore[override]
        """See Dialect."""
        return PassedTap(call.model, usage)

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        """See Dialect."""
        return _whole(call, raw, usage, {self.answers_in, self.or_in} - {""})


class _FormBody(Document, eq=False, kw_only=True):
    """A body that is a form. Nobody else looks for fields in it."""

    form: Form


@dataclass(frozen=True, slots=True)
class UploadDialect:
    """One wire format whose body is a form with files. Its body is no document: it has no fields.

    ``read`` needs the content type of the body.
    """

    name: str
    route: str
    answers_in: str
    opens: tuple[str, ...] = ()
    streams: bool = True

    def read(
        self,
        raw: bytes,
        request_id: str = "",
        *,
        model: str = "",
        stream: bool | None = None,
        media: str = "",
    ) -> Call:
        """See Dialect. Raises InvalidRequest, UnsupportedMedia."""
        boundary = boundary_of(media)
        if boundary is None:
            raise UnsupportedMedia(
                f"The content-type is {media[:100]!r}: send multipart/form-data with a boundary."
            )
        try:
            form = read_form(raw, boundary, _OWNED)
            named, told = form.text(raw, "model"), form.text(raw, "stream")
        except MalformedForm as error:
            where = f"The field {error.field!r} of the form" if error.field else "The form"
            raise InvalidRequest(
                f"{where} could not be read: {error}.", param=error.field
            ) from None
        if stream is None:
            stream = self.streams and _flag(told or "")
        return Call(
            dialect=self.name,
            body=_FormBody(raw, {}, form=form),
            model=_checked(model or named),
            stream=stream,
            request_id=request_id,
            media=media_of(boundary),
        )

    def path(self, model: str, *, stream: bool) -> str:
        """See Dialect."""
        return self.route

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """See Dialect."""
        raw, form = call.body.raw, cast(_FormBody, call.body).form
        if form.text(raw, "model") == model:
            return raw
        return form.replaced(raw, "model", model.encode())

    def tap(self, call: Call, usage: Usage) -> PassedTap:
        """See Dialect."""
        return PassedTap(call.model, usage)

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        """See Dialect."""
        return _whole(call, raw, usage, {self.answers_in})


def _whole(call: Call, raw: bytes, usage: Usage, fields: set[str]) -> bytes:
    """A JSON answer by the name that was asked for. It has one of the fields, if any are said."""
    try:
        answer = Document.parse(raw)
        error = answer.fields.get("error")
        if error is not None and bytes(error) != b"null":
            raise failure_in_body(error)
        if fields and not fields & answer.fields.keys():
            told = " or ".join(sorted(fields))
            raise UpstreamProtocolError(f"the upstream's answer has no field {told!r}")
        if (reported := read_counts(answer.fields.get("usage"))) is not None:
            usage.take(reported)
        name = _encode(call.model)
        model = answer.fields.get("model")
        if model is None or bytes(model) == name:
            return raw
        return answer.replaced({"model": name})
    except MalformedDocument as error:
        raise unreadable_answer(error) from None


def _checked(model: str | None) -> str:
    if not model:
        told = "missing" if model is None else "empty"
        raise InvalidRequest(
            f"The field 'model' is {told}: name one of those in GET /v1/models.", param="model"
        )
    if not model.isprintable():
        raise InvalidRequest(
            "The field 'model' holds what can't be printed: it must be a name.", param="model"
        )
    return model


def _flag(text: str) -> bool:
    try:
        return _FLAGS[text.strip().lower()]
    except KeyError:
        raise InvalidRequest(
            f"The field 'stream' is {text[:40]!r}: it must be true or false.", param="stream"
        ) from None


_PROMPT: Final = ("prompt", b'"', "a string")
_QUERY: Final = ("documents", b"[", "an array of documents")

PASSED: Final = (
    PassedDialect(
        "openai.moderations",
        "/moderations",
        ("input", b'["', "a string or an array"),
        "results",
        streams=False,
    ),
    PassedDialect("openai.images", "/images/generations", _PROMPT, "data"),
    PassedDialect(
        "openai.speech", "/audio/speech", ("input", b'"', "a string"), "", False, opens=_SOUND
    ),
    PassedDialect("rerank", "/rerank", _QUERY, "results", streams=False, or_in="data"),
)
"""Those with JSON bodies."""
UPLOADS: Final = (
    UploadDialect("openai.transcriptions", "/audio/transcriptions", "text", _TEXT),
    UploadDialect("openai.translations", "/audio/translations", "text", _TEXT, streams=False),
    UploadDialect("openai.image_edits", "/images/edits", "data"),
    UploadDialect("openai.image_variations", "/images/variations", "data", streams=False),
)
"""Those with forms."""
