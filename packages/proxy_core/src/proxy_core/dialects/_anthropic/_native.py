"""Anthropic's messages and token counts as they pass between those who both speak them.

The fields that we own are replaced in place; every other byte is the client's or the upstream's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Call, Usage
from proxy_core.dialects._anthropic._foreign import MARK, without_foreign
from proxy_core.dialects._anthropic._tap import AnthropicTap
from proxy_core.dialects._anthropic._usage import usage_of
from proxy_core.dialects._anthropic._words import DIALECT
from proxy_core.dialects._body import read_body, unreadable_answer
from proxy_core.dialects._cache_prompt import fresh_mark
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._reading import Value
from proxy_core.dialects._usage import estimate_tokens
from proxy_core.errors import InvalidRequest, UpstreamError, UpstreamProtocolError

__all__ = ["COUNT_TOKENS", "MESSAGES", "AnthropicDialect"]

_OWNED: Final = ("model", "stream", "max_tokens", "messages", "cache_control")
_ERROR: Final = b'"error"'

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class AnthropicDialect:
    """One wire format of the family; see ``Dialect``. A base URL has no ``/v1``."""

    name: str
    below: str
    """The path below the base URL."""
    answers_in: str
    """The field that every answer has."""
    begins: bytes
    """What its JSON may begin with."""
    streams: bool = True

    def read(
        self, raw: bytes, request_id: str = "", *, model: str = "", stream: bool | None = None
    ) -> Call:
        """The call in a client's body. Raises InvalidRequest: it names the field and the remedy."""
        body = read_body(raw, _OWNED)
        _check_messages(body)
        cap = _field(body, "max_tokens", _read_cap)
        if stream is None:
            stream = bool(_field(body, "stream", Value.flag))
        return Call(
            dialect=self.name,
            body=body,
            model=model or _read_model(body),
            stream=self.streams and stream,
            request_id=request_id,
            include_usage=True,
            max_tokens=cap,
        )

    def path(self, model: str, *, stream: bool) -> str:
        return self.below

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """The body with the upstream's name for the model, and without other providers' thinking.

        Usage is always told here, asked for or not.
        """
        body, edits = call.body, {}
        name, asked = _encode(model), body.fields.get("model")
        if asked is None or (model != call.model and bytes(asked) != name):
            edits["model"] = name
        if MARK in body.raw:
            cleaned = without_foreign(body.fields["messages"])
            if cleaned is not None:
                edits["messages"] = cleaned
                body.cleaned = (body.fields["messages"], cleaned)
        if call.headers and self.streams:
            mark = fresh_mark(call)
            if mark is not None:
                edits["cache_control"] = mark
        return body.replaced(edits)

    def tap(self, call: Call, usage: Usage) -> AnthropicTap:
        """What watches a streamed answer to this call; it fills ``usage``."""
        usage.input_tokens = estimate_tokens(len(call.body.raw))
        return AnthropicTap(call.model, usage)

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        """A whole answer by the name that was asked for; fills ``usage``. Raises UpstreamError."""
        try:
            answer = Document.parse(raw)
            failure = _failure_in(answer)
            if failure is not None:
                raise failure
            payload = answer.fields.get(self.answers_in)
            if payload is None or memoryview(payload)[0] not in self.begins:
                raise UpstreamProtocolError(f"the upstream's answer has no {self.answers_in!r}")
            if not self.streams:
                return raw
            usage.input_tokens = estimate_tokens(len(call.body.raw))
            _settle(usage, answer.fields.get("usage"), len(payload))
            name, told = _encode(call.model), answer.fields.get("model")
            if told is None or bytes(told) == name:
                return raw
            return answer.replaced({"model": name})
        except MalformedDocument as error:
            raise unreadable_answer(error) from None


MESSAGES: Final = AnthropicDialect(DIALECT, "/v1/messages", "content", b"[")
COUNT_TOKENS: Final = AnthropicDialect(
    "anthropic.count_tokens",
    "/v1/messages/count_tokens",
    "input_tokens",
    b"0123456789",
    streams=False,
)


def _field(body: Document, name: str, read: Callable[[Value], Any]) -> Any:
    """A field as ``read`` takes it; None where it is missing or null."""
    raw = body.fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return read(Value(msgspec.json.decode(raw), name))
    except (msgspec.DecodeError, UnicodeError):
        raise InvalidRequest(f"The field {name!r} is not valid JSON.", param=name) from None


def _read_cap(value: Value) -> int | None:
    number = value.json
    if isinstance(number, int) and number < 0:
        return None  # -1 is "no limit" for local servers
    return value.whole()


def _read_model(body: Document) -> str:
    model = _field(body, "model", Value.text)
    if not model:
        what = "missing" if model is None else "empty"
        raise InvalidRequest(
            f"The field 'model' is {what}: name one of those in GET /v1/models.", param="model"
        )
    return str(model)


def _check_messages(body: Document) -> None:
    """Only that there is an array: what is in it is the upstream's to judge."""
    messages = body.fields.get("messages")
    if messages is None:
        raise InvalidRequest(
            "The field 'messages' is missing: it must be an array of messages.", param="messages"
        )
    if memoryview(messages)[0] != ord("["):
        Value(msgspec.json.decode(messages), "messages").refuse("an array of messages")


def _failure_in(answer: Document) -> UpstreamError | None:
    error = answer.fields.get("error")
    if error is not None and bytes(error) != b"null":
        return failure_in_body(error)
    if bytes(answer.fields.get("type", b"")) == _ERROR:
        return failure_in_body(b"null")
    return None


def _settle(usage: Usage, raw: msgspec.Raw | None, size: int) -> None:
    told = None if raw is None else msgspec.json.decode(raw)
    reported = usage_of(told) if isinstance(told, dict) else None
    if reported is None:
        usage.output_tokens = estimate_tokens(size)
    else:
        usage.take(reported)
