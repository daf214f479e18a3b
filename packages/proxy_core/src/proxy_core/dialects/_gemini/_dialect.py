"""Gemini as it passes when client and provider speak it: nearly untouched.

Model and stream stand in the URL, not in the body: https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Call, Usage
from proxy_core.dialects._body import read_body, unreadable_answer
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._gemini._foreign import MARK, with_skips, without_foreign
from proxy_core.dialects._gemini._tap import GeminiTap
from proxy_core.dialects._gemini._usage import read_usage
from proxy_core.dialects._usage import estimate_tokens
from proxy_core.errors import InvalidRequest, UpstreamError, UpstreamProtocolError

__all__ = ["GeminiDialect"]

_WRAPPED: Final = "generateContentRequest"
_CONFIGS: Final = ("generationConfig", "generation_config")
_OWNED: Final = ("model", "contents", _WRAPPED, *_CONFIGS)
_FOLDERS: Final = ("models/", "tunedModels/")
_STREAM: Final = ":streamGenerateContent?alt=sse"
_SHOWN: Final = 40
_encode = msgspec.json.Encoder().encode


class _Caps(msgspec.Struct):
    camel: int | None = msgspec.field(default=None, name="maxOutputTokens")
    snake: int | None = msgspec.field(default=None, name="max_output_tokens")


_read_caps = msgspec.json.Decoder(_Caps).decode


@dataclass(frozen=True, slots=True)
class GeminiDialect:
    """One verb of Google's API."""

    name: str
    verb: str
    """After the model and a colon."""
    answers_in: str
    """The field that an answer has."""
    streams: bool = True

    def read(
        self, raw: bytes, request_id: str = "", *, model: str = "", stream: bool | None = None
    ) -> Call:
        """The call in a client's body. Raises InvalidRequest: it names the field and the remedy.

        ``model`` and ``stream`` are the URL's; a body never says them.
        """
        body = read_body(raw, _OWNED)
        name = model.removeprefix("models/")
        if not name:
            raise InvalidRequest(
                "The model is missing: the URL must name one, as in"
                " /v1beta/models/{model}:generateContent.",
                param="model",
            )
        if not (_WRAPPED in body.fields and not self.streams):
            _check_contents(body)
        return Call(
            dialect=self.name,
            body=body,
            model=name,
            stream=self.streams and bool(stream),
            request_id=request_id,
            include_usage=True,
            max_tokens=_read_cap(body),
        )

    def path(self, model: str, *, stream: bool) -> str:
        """Below a provider's base URL, which has no version in it."""
        folder = next((name for name in _FOLDERS if model.startswith(name)), "")
        verb = _STREAM if stream and self.streams else f":{self.verb}"
        name = quote(model.removeprefix(folder), safe="")
        return f"/v1beta/{folder or _FOLDERS[0]}{name}{verb}"

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """The client's own bytes: usage always comes; a model that the body names is replaced."""
        del ask_usage
        fields = call.body.fields
        edits: dict[str, bytes] = {}
        if "model" in fields:
            edits["model"] = _resource(model)
        if _WRAPPED in fields:
            edits |= _inside(fields[_WRAPPED], model)
        if MARK in call.body.raw and "contents" in fields:
            contents = with_skips(fields["contents"])
            fresh = without_foreign(contents)
            if fresh is not None:
                edits["contents"] = fresh
                call.body.cleaned = (contents, fresh)
            elif contents is not fields["contents"]:
                edits["contents"] = bytes(contents)
        return call.body.replaced(edits)

    def tap(self, call: Call, usage: Usage) -> GeminiTap:
        """What watches a streamed answer to this call; it fills ``usage``."""
        usage.input_tokens = estimate_tokens(len(call.body.raw))
        return GeminiTap(call.model, usage=usage)

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        """A whole answer by the name that was asked for; fills ``usage``. Raises UpstreamError."""
        try:
            answer = Document.parse(raw)
        except MalformedDocument as error:
            raise _told_in_array(raw) or unreadable_answer(error) from None
        fields = answer.fields
        error_value = fields.get("error")
        if error_value is not None and bytes(error_value) != b"null":
            raise failure_in_body(error_value)
        payload = fields.get(self.answers_in)
        if not _is_filled(payload) and not (self.streams and "promptFeedback" in fields):
            raise UpstreamProtocolError(f"the upstream's answer has nothing in {self.answers_in!r}")
        if self.streams:
            _settle(call, usage, fields.get("usageMetadata"), len(payload or b""))
        return _renamed(answer, call.model)


def _is_filled(raw: msgspec.Raw | None) -> bool:
    """Whether it is a number, or an array with something in it."""
    return raw is not None and bytes(raw).strip(b"[] \t\r\n") not in (b"", b"null")


def _settle(call: Call, usage: Usage, told: msgspec.Raw | None, size: int) -> None:
    reported = None if told is None else read_usage(told)
    usage.take(reported or Usage(estimate_tokens(len(call.body.raw)), estimate_tokens(size)))


def _renamed(answer: Document, model: str) -> bytes:
    told, name = answer.fields.get("modelVersion"), _encode(model)
    if told is None or bytes(told) == name:
        return answer.raw
    try:
        return answer.replaced({"modelVersion": name})
    except MalformedDocument as error:
        raise unreadable_answer(error) from None


def _check_contents(body: Document) -> None:
    value = body.fields.get("contents")
    if value is None:
        raise InvalidRequest(
            "The field 'contents' is missing: it must be an array of contents.", param="contents"
        )
    if memoryview(value)[0] not in b"[":
        raise InvalidRequest(
            f"The field 'contents' is {_shown(value)}: it must be an array of contents.",
            param="contents",
        )


def _read_cap(body: Document) -> int | None:
    for field in _CONFIGS:
        raw = body.fields.get(field)
        if raw is None or bytes(raw) == b"null":
            continue
        try:
            caps = _read_caps(raw)
        except msgspec.ValidationError as error:
            raise InvalidRequest(
                f"The field {field!r} is {_shown(raw)}: {error}.", param=field
            ) from None
        cap = caps.snake if caps.camel is None else caps.camel
        if cap is not None:
            return cap if cap >= 0 else None
    return None


def _inside(raw: msgspec.Raw, model: str) -> dict[str, bytes]:
    """``countTokens`` takes a whole request too, and that one names its model."""
    try:
        inner = Document.parse(bytes(raw), ("model",))
    except MalformedDocument as error:
        raise InvalidRequest(
            f"The field {_WRAPPED!r} is {_shown(raw)}: {error}.", param=_WRAPPED
        ) from None
    if "model" not in inner.fields:
        return {}
    return {_WRAPPED: inner.replaced({"model": _resource(model)})}


def _resource(model: str) -> bytes:
    return _encode(model if model.startswith(_FOLDERS) else f"models/{model}")


def _shown(raw: msgspec.Raw) -> str:
    text = bytes(raw).decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _told_in_array(raw: bytes) -> UpstreamError | None:
    """Google puts the error of a request for a stream into an array of one."""
    try:
        first = msgspec.json.decode(raw, type=list[dict[str, msgspec.Raw]])[0]
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError, RecursionError):
        return None
    return failure_in_body(first["error"]) if "error" in first else None
