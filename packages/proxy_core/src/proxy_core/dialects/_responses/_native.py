"""Responses as they pass when client and provider both speak them: nearly untouched."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from proxy_core._types import Call, Usage
from proxy_core.dialects._body import read_body, unreadable_answer
from proxy_core.dialects._document import Document, MalformedDocument
from proxy_core.dialects._responses._answer_in import failure_of
from proxy_core.dialects._responses._counts import read_raw_counts
from proxy_core.dialects._responses._tap import ResponsesTap, renamed
from proxy_core.dialects._responses._words import DIALECT
from proxy_core.dialects._unsealed import RESPONSES_MARK, cleaned, responses_item
from proxy_core.dialects._usage import estimate_tokens
from proxy_core.errors import InvalidRequest, UpstreamProtocolError

__all__ = ["ResponsesDialect"]

_OWNED: Final = ("model", "stream", "max_output_tokens", "input", "previous_response_id", "store")
_ELSEWHERE: Final = ("prompt", "previous_response_id", "conversation")
"""Where one of these is given, the input may be with the provider."""
_INPUTS: Final = b'["'
_SHOWN: Final = 40

_encode = msgspec.json.Encoder().encode
_plain = msgspec.json.Decoder().decode


class ResponsesDialect:
    """The native way of ``openai.responses``."""

    name: Final = DIALECT
    streams: Final = True

    def read(
        self, raw: bytes, request_id: str = "", *, model: str = "", stream: bool | None = None
    ) -> Call:
        """The call in a client's body. Raises InvalidRequest: it names the field and the remedy."""
        body = read_body(raw, _OWNED)
        _check_input(body)
        streamed = _scalar(body, "stream", bool, "true or false")
        cap = _scalar(body, "max_output_tokens", int, "a whole number")
        return Call(
            dialect=self.name,
            body=body,
            model=model or _read_model(body),
            stream=bool(streamed) if stream is None else stream,
            request_id=request_id,
            include_usage=True,
            max_tokens=cap if cap is None or cap >= 0 else None,
        )

    def path(self, model: str, *, stream: bool) -> str:
        return "/responses"

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """The body for an upstream, without other providers' reasoning. Usage comes unasked."""
        body = call.body
        same = model == call.model and "model" in body.fields
        edits = {} if same else {"model": _encode(model)}
        if RESPONSES_MARK in body.raw and "input" in body.fields:
            fresh = cleaned(body.fields["input"], responses_item)
            if fresh is not None:
                edits["input"] = fresh
                body.cleaned = (body.fields["input"], fresh)
        return body.replaced(edits)

    def tap(self, call: Call, usage: Usage) -> ResponsesTap:
        usage.input_tokens = estimate_tokens(len(call.body.raw))
        return ResponsesTap(call.model, usage, call.seal)

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        try:
            answer = Document.parse(raw)
            fields = answer.fields
            error = fields.get("error")
            failed = bytes(fields.get("status", b"")) == b'"failed"'
            if failed or (error is not None and bytes(error) != b"null"):
                raise failure_of(None if error is None else _plain(error))
            output = fields.get("output")
            if output is None or not bytes(output).startswith(b"["):
                raise UpstreamProtocolError("the upstream's answer has nothing in 'output'")
            told = fields.get("usage")
            reported = None if told is None else read_raw_counts(told)
            usage.input_tokens = estimate_tokens(len(call.body.raw))
            usage.output_tokens = estimate_tokens(len(output))
            if reported is not None:
                usage.take(reported)
            return renamed(answer, _encode(call.model), call.seal)
        except MalformedDocument as error:
            raise unreadable_answer(error) from None


def _check_input(body: Document) -> None:
    value = body.fields.get("input")
    if value is None or bytes(value) == b"null":
        if any(bytes(body.fields.get(name, b"null")) != b"null" for name in _ELSEWHERE):
            return
        raise InvalidRequest(
            "The field 'input' is missing: it must be a string or an array.", param="input"
        )
    if memoryview(value)[0] not in _INPUTS:
        raise _wrong("input", value, "a string or an array")


def _read_model(body: Document) -> str:
    model = cast("str | None", _scalar(body, "model", str, "a string"))
    if not model:
        state = "missing" if model is None else "empty"
        raise InvalidRequest(
            f"The field 'model' is {state}: name one of those in GET /v1/models.", param="model"
        )
    return model


def _scalar(body: Document, name: str, kind: type[Any], words: str) -> Any:
    """The value of a field; None where it is missing or null. Raises InvalidRequest."""
    raw = body.fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        raise _wrong(name, raw, words) from None


def _wrong(name: str, raw: msgspec.Raw, words: str) -> InvalidRequest:
    text = bytes(raw).decode()
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return InvalidRequest(f"The field {name!r} is {shown}: it must be {words}.", param=name)
