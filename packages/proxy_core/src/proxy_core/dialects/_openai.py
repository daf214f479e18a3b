"""OpenAI's chat, completions and embeddings: what we read of a request and of an answer.

The fields that we own are replaced in place; every other byte is the client's or the upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Call, Usage
from proxy_core.dialects._body import read_body, unreadable_answer
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._tap import StreamTap
from proxy_core.dialects._unsealed import CHAT_MARK, chat_message, cleaned
from proxy_core.dialects._usage import estimate_tokens, note_usage
from proxy_core.errors import InvalidRequest, UpstreamProtocolError

__all__ = ["CHAT", "COMPLETIONS", "EMBEDDINGS", "OpenAIDialect"]

_OWNED: Final = ("model", "stream", "stream_options", "max_tokens", "max_completion_tokens")
_CAP: Final = "max_completion_tokens"
_OLDER_CAP: Final = "max_tokens"
_LITERALS: Final = {b"true": True, b"false": False, b"null": False}
_ASK_USAGE: Final = b"true"

_BRACKET: Final = ord("[")
_BRACE: Final = ord("{")
_RARE: Final = b"1"
_SEAL: Final = CHAT_MARK.strip(b'"')
"""Without its quote, which is what JSON has most of."""

_Fields = Mapping[str, msgspec.Raw]

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
    owned: tuple[str, ...] = field(init=False)
    """The fields that a request may have once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "owned", (*_OWNED, self.needs[0]))

    def read(
        self, raw: bytes, request_id: str = "", *, model: str = "", stream: bool | None = None
    ) -> Call:
        """The call in a client's body. Raises InvalidRequest: it names the field and the remedy.

        ``model`` and ``stream`` are given where the URL says them, and then the body need not.
        """
        body = read_body(raw, self.owned)
        fields = body.fields
        needed, beginnings, _ = self.needs
        given = fields.get(needed)
        if given is None or memoryview(given)[0] not in beginnings:
            raise self._refused(given)
        cap = _read_cap(fields[_CAP], _CAP) if _CAP in fields else None
        older_cap = _read_cap(fields[_OLDER_CAP], _OLDER_CAP) if _OLDER_CAP in fields else None
        if stream is None:
            stream = self.streams and "stream" in fields and _read_flag(fields["stream"], "stream")
        return Call(
            dialect=self.name,
            body=body,
            model=model or _read_model(fields),
            stream=stream,
            request_id=request_id,
            include_usage=stream and _wants_usage(fields),
            max_tokens=older_cap if cap is None else cap,
        )

    def path(self, model: str, *, stream: bool) -> str:
        """The same for every model."""
        return self.route

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """The body for an upstream: its name for the model, and the usage of a stream asked for.

        Other providers' signatures, which we once gave the client, stay behind.
        """
        body = call.body
        fields, raw = body.fields, body.raw
        edits: dict[str, bytes] = {}
        if model != call.model or "model" not in fields:
            edits["model"] = _encode(model)
        if ask_usage and call.stream and not call.include_usage:
            edits["stream_options"] = _with_usage(fields.get("stream_options"))
        # One byte is found many times sooner than several, and those sooner from the end.
        if _RARE in raw and raw.rfind(_SEAL) >= 0 and "messages" in fields:
            fresh = cleaned(fields["messages"], chat_message)
            if fresh is not None:
                edits["messages"] = fresh
                body.cleaned = (fields["messages"], fresh)
        return body.replaced(edits)

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
        reported = fields.get("usage")
        if reported is None or not note_usage(usage, reported):
            _guess_input(call, usage)
            usage.output_tokens = estimate_tokens(len(payload)) if self.streams else 0
        name = _encode(call.model)
        told = fields.get("model")
        if told is None or bytes(told) == name:
            return raw
        try:
            return answer.replaced({"model": name})
        except MalformedDocument as error:
            raise unreadable_answer(error) from None

    def _refused(self, value: msgspec.Raw | None) -> InvalidRequest:
        name, _, types = self.needs
        told = "missing" if value is None else _shown(value)
        return InvalidRequest(f"The field {name!r} is {told}: it must be {types}.", param=name)


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
    begun = memoryview(raw)
    return begun[0] == _BRACKET and (begun[1] == _BRACE or bytes(raw).strip(b"[] \t\r\n") != b"")


def _read_model(fields: _Fields) -> str:
    raw = fields.get("model")
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


def _read_flag(raw: msgspec.Raw, key: str) -> bool:
    try:
        return _LITERALS[bytes(raw)]
    except KeyError:
        raise InvalidRequest(
            f"The field {key!r} is {_shown(raw)}: it must be true or false.", param=key
        ) from None


def _read_cap(raw: msgspec.Raw, key: str) -> int | None:
    if bytes(raw) == b"null":
        return None
    try:
        cap = _whole_number(raw)
    except msgspec.ValidationError:
        raise InvalidRequest(
            f"The field {key!r} is {_shown(raw)}: it must be a whole number.", param=key
        ) from None
    return cap if cap >= 0 else None  # -1 is "no limit" for local servers


def _wants_usage(fields: _Fields) -> bool:
    options = _options(fields.get("stream_options"))
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
