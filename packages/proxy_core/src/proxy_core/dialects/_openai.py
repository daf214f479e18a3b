"""OpenAI's chat, completions and embeddings: what we read of a request and of an answer.

The fields that we own are replaced in place; every other byte is the client's or the upstream's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Call, Usage
from proxy_core.dialects._body import read_body, unreadable_answer
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._tap import StreamTap
from proxy_core.dialects._unsealed import CHAT_MARK, chat_message, cleaned
from proxy_core.dialects._usage import estimate_tokens, read_usage
from proxy_core.errors import InvalidRequest, UpstreamProtocolError

__all__ = ["CHAT", "COMPLETIONS", "EMBEDDINGS", "OpenAIDialect"]

_OWNED: Final = ("model", "stream", "stream_options", "max_tokens", "max_completion_tokens")
_CAP: Final = "max_completion_tokens"
_OLDER_CAP: Final = "max_tokens"
_LITERALS: Final = {b"true": True, b"false": False, b"null": False}
_ASK_USAGE: Final = b"true"

_BEGUN: Final = 2
_OBJECTS: Final = b"[{"

_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str).decode
_whole_number = msgspec.json.Decoder(int).decode


@dataclass(frozen=True, slots=True)
class OpenAIDialect:
    """One wire format of the family."""

    name: str
    route: str
    """Below the base URL."""
    needs: tuple[str, bytes, str]
    """Field, the bytes that its JSON may begin with, and the types in words."""
    answers_in: str
    """The field that every answer has."""
    streams: bool = True
    is_chat: bool = False
    """Whether a stream has deltas, with roles and calls of tools."""

    def read(
        self, raw: bytes, request_id: str = "", *, model: str = "", stream: bool | None = None
    ) -> Call:
        """The call in a client's body. Raises InvalidRequest: it names the field and the remedy.

        ``model`` and ``stream`` are given where the URL says them, and then the body need not.
        """
        body = read_body(raw, (*_OWNED, self.needs[0]))
        self._check_input(body)
        cap, older_cap = _read_cap(body, _CAP), _read_cap(body, _OLDER_CAP)
        if stream is None:
            stream = self.streams and _read_flag(body, "stream")
        return Call(
            dialect=self.name,
            body=body,
            model=model or _read_model(body),
            stream=stream,
            request_id=request_id,
            include_usage=stream and _wants_usage(body),
            max_tokens=older_cap if cap is None else cap,
        )

    def path(self, model: str, *, stream: bool) -> str:
        """The same for every model."""
        return self.route

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """The body for an upstream: its name for the model, and the usage of a stream asked for.

        Other providers' signatures, which we once gave the client, stay behind.
        """
        edits: dict[str, bytes] = {}
        if model != call.model or "model" not in call.body.fields:
            edits["model"] = _encode(model)
        if ask_usage and call.stream and not call.include_usage:
            edits["stream_options"] = _with_usage(call.body.fields.get("stream_options"))
        if CHAT_MARK in call.body.raw and "messages" in call.body.fields:
            fresh = cleaned(call.body.fields["messages"], chat_message)
            if fresh is not None:
                edits["messages"] = fresh
                call.body.cleaned = (call.body.fields["messages"], fresh)
        return call.body.replaced(edits)

    def tap(self, call: Call, usage: Usage) -> StreamTap:
        """What watches a streamed answer to this call; it fills ``usage``."""
        _guess_input(call, usage)
        keep, is_chat = call.include_usage, self.is_chat
        return StreamTap(call.model, keep_usage=keep, usage=usage, is_chat=is_chat)

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        """A whole answer by the name that was asked for; fills ``usage``. Raises UpstreamError."""
        try:
            answer = Document.parse(raw)
        except MalformedDocument as error:
            raise unreadable_answer(error) from None
        fields = answer.fields
        error_value = fields.get("error")
        if error_value is not None and bytes(error_value) != b"null":
            raise failure_in_body(error_value)
        payload = fields.get(self.answers_in)
        if payload is None or not _is_filled(payload):
            raise UpstreamProtocolError(f"the upstream's answer has nothing in {self.answers_in!r}")
        usage.input_tokens = estimate_tokens(len(call.body.raw))
        _settle_usage(usage, fields.get("usage"), len(payload) if self.streams else 0)
        name = _encode(call.model)
        told = fields.get("model")
        if told is None or bytes(told) == name:
            return raw
        try:
            return answer.replaced({"model": name})
        except MalformedDocument as error:
            raise unreadable_answer(error) from None

    def _check_input(self, body: Document) -> None:
        field, beginnings, types = self.needs
        value = body.fields.get(field)
        if value is None:
            raise InvalidRequest(
                f"The field {field!r} is missing: it must be {types}.", param=field
            )
        if memoryview(value)[0] not in beginnings:
            raise InvalidRequest(
                f"The field {field!r} is {_shown(value)}: it must be {types}.", param=field
            )


CHAT: Final = OpenAIDialect(
    "openai.chat",
    "/chat/completions",
    ("messages", b"[", "an array of messages"),
    "choices",
    is_chat=True,
)
COMPLETIONS: Final = OpenAIDialect(
    "openai.completions", "/completions", ("prompt", b'["', "a string or an array"), "choices"
)
EMBEDDINGS: Final = OpenAIDialect(
    "openai.embeddings",
    "/embeddings",
    ("input", b'["', "a string or an array"),
    "data",
    streams=False,
)


def _is_filled(raw: msgspec.Raw) -> bool:
    """Whether it is an array with something in it."""
    begun = bytes(memoryview(raw)[:_BEGUN])
    if begun.startswith(_OBJECTS):
        return True
    return begun.startswith(b"[") and bytes(raw).strip(b"[] \t\r\n") != b""


def _read_model(body: Document) -> str:
    raw = body.fields.get("model")
    if raw is None:
        raise InvalidRequest(
            "The field 'model' is missing: name one of those in GET /v1/models.", param="model"
        )
    try:
        model = _text(raw)
    except msgspec.ValidationError:
        raise InvalidRequest(
            f"The field 'model' is {_shown(raw)}: it must be a string.", param="model"
        ) from None
    if not model:
        raise InvalidRequest(
            "The field 'model' is empty: name one of those in GET /v1/models.", param="model"
        )
    return model


def _read_flag(body: Document, key: str) -> bool:
    raw = body.fields.get(key)
    if raw is None:
        return False
    try:
        return _LITERALS[bytes(raw)]
    except KeyError:
        raise InvalidRequest(
            f"The field {key!r} is {_shown(raw)}: it must be true or false.", param=key
        ) from None


def _read_cap(body: Document, key: str) -> int | None:
    raw = body.fields.get(key)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        cap = _whole_number(raw)
    except msgspec.ValidationError:
        raise InvalidRequest(
            f"The field {key!r} is {_shown(raw)}: it must be a whole number.", param=key
        ) from None
    return cap if cap >= 0 else None  # -1 is "no limit" for local servers


def _wants_usage(body: Document) -> bool:
    options = _options(body.fields.get("stream_options"))
    return options is not None and bytes(options.fields.get("include_usage", b"")) == b"true"


def _options(raw: msgspec.Raw | None) -> Document | None:
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return Document.parse(bytes(raw), ("include_usage",))
    except MalformedDocument as error:
        told = error if error.key else "it must be an object"
        raise InvalidRequest(
            f"The field 'stream_options' is {_shown(raw)}: {told}.", param="stream_options"
        ) from None


def _with_usage(raw: msgspec.Raw | None) -> bytes:
    options = _options(raw)
    return (
        b'{"include_usage":true}'
        if options is None
        else options.replaced({"include_usage": _ASK_USAGE})
    )


def _shown(raw: msgspec.Raw) -> str:
    text = bytes(raw).decode()
    return text if len(text) <= 40 else text[:37] + "..."


def _guess_input(call: Call, usage: Usage) -> None:
    usage.input_tokens = estimate_tokens(len(call.body.raw))


def _settle_usage(usage: Usage, raw: msgspec.Raw | None, size: int) -> None:
    reported = None if raw is None else read_usage(raw)
    if reported is None:
        usage.output_tokens = estimate_tokens(size)
    else:
        usage.take(reported)
