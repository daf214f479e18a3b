"""Bedrock's Converse, judged by botocore's model of it.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Any, Final
from urllib.parse import unquote

from botocore.loaders import Loader  # type: ignore[import-untyped]
from botocore.model import ServiceModel  # type: ignore[import-untyped]
from botocore.parsers import create_parser  # type: ignore[import-untyped]
from botocore.validate import ParamValidator  # type: ignore[import-untyped]

from .said import USAGE, Call, Heard, Said

__all__ = ["ERRORS", "MODEL", "check", "events", "hear", "in_stream", "whole"]

MODEL: Final = "eu.anthropic.claude-sonnet-4-6"
_SERVICE: Final = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
_CONVERSE: Final = _SERVICE.operation_model("Converse")
_USAGE: Final = {
    "inputTokens": USAGE["input_tokens"] - USAGE["cached_tokens"] - USAGE["cache_write_tokens"],
    "outputTokens": USAGE["output_tokens"],
    "totalTokens": USAGE["input_tokens"] + USAGE["output_tokens"],
    "cacheReadInputTokens": USAGE["cached_tokens"],
    "cacheWriteInputTokens": USAGE["cache_write_tokens"],
}


def _blocks(said: Said) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if said.thought:
        thought = {"text": said.thought, "signature": said.proof}
        blocks.append({"reasoningContent": {"reasoningText": thought}})
    if said.text:
        blocks.append({"text": said.text})
    for one in said.calls:
        use = {"toolUseId": one.id, "name": one.name, "input": dict(one.arguments)}
        blocks.append({"toolUse": use})
    return blocks


def _end(said: Said) -> str:
    return "tool_use" if said.calls else "end_turn"


def whole(said: Said) -> bytes:
    """The answer's body."""
    message = {"role": "assistant", "content": _blocks(said)}
    output = {"output": {"message": message}, "stopReason": _end(said)}
    body = json.dumps({**output, "usage": _USAGE, "metrics": {"latencyMs": 812}}).encode()
    answer = {"status_code": 200, "headers": {}, "body": body}
    parsed = create_parser("rest-json").parse(answer, _CONVERSE.output_shape)
    assert parsed["output"]["message"]["content"] == message["content"]
    return body


def events(said: Said) -> bytes:
    """The stream. Texts and reasoning begin without a start of their own."""
    out = [_event("messageStart", role="assistant")]
    for at, block in enumerate(_blocks(said)):
        deltas: list[dict[str, Any]]
        if "toolUse" in block:
            use = {name: block["toolUse"][name] for name in ("toolUseId", "name")}
            out.append(_event("contentBlockStart", start={"toolUse": use}, contentBlockIndex=at))
            pieces = _cut(json.dumps(block["toolUse"]["input"]))
            deltas = [{"toolUse": {"input": piece}} for piece in pieces]
        elif "text" in block:
            deltas = [{"text": piece} for piece in _cut(block["text"])]
        else:
            thought = block["reasoningContent"]["reasoningText"]
            deltas = [{"reasoningContent": {"text": piece}} for piece in _cut(thought["text"])]
            deltas.append({"reasoningContent": {"signature": thought["signature"]}})
        out += [_event("contentBlockDelta", delta=one, contentBlockIndex=at) for one in deltas]
        out.append(_event("contentBlockStop", contentBlockIndex=at))
    out.append(_event("messageStop", stopReason=_end(said)))
    return b"".join([*out, _event("metadata", usage=_USAGE, metrics={"latencyMs": 812})])


def _cut(text: str) -> list[str]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def _event(name: str, **fields: Any) -> bytes:
    # AWS pads its events so that their lengths tell nothing.
    payload = json.dumps({**fields, "p": "abcdef"}).encode()
    return _framed({":event-type": name, ":message-type": "event"}, payload)


def _framed(headers: dict[str, str], payload: bytes) -> bytes:
    """https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html"""
    told = b""
    for name, value in {**headers, ":content-type": "application/json"}.items():
        told += struct.pack("!B", len(name)) + name.encode()
        told += struct.pack("!BH", 7, len(value)) + value.encode()
    prelude = struct.pack("!II", 16 + len(told) + len(payload), len(told))
    prelude += struct.pack("!I", binascii.crc32(prelude))
    body = prelude + told + payload
    return body + struct.pack("!I", binascii.crc32(body))


def _error(message: str) -> bytes:
    return json.dumps({"message": message}).encode()


ERRORS: Final = {
    "too_long": (
        400,
        {"x-amzn-errortype": "ValidationException"},
        _error("The model returned the following errors: Input is too long for requested model."),
    ),
    "key": (
        403,
        {"x-amzn-errortype": "UnrecognizedClientException"},
        _error("The security token included in the request is invalid."),
    ),
    "throttled": (
        429,
        {"x-amzn-errortype": "ThrottlingException"},
        _error("Too many requests, please wait before trying again."),
    ),
    "busy": (
        503,
        {"x-amzn-errortype": "ServiceUnavailableException"},
        _error("Bedrock is unable to process your request."),
    ),
}


def in_stream() -> bytes:
    """A stream that breaks after its first words."""
    begun = _event("messageStart", role="assistant")
    begun += _event("contentBlockDelta", delta={"text": "It"}, contentBlockIndex=0)
    name = "modelStreamErrorException"
    told = {":exception-type": name, ":message-type": "exception"}
    return begun + _framed(told, _error("The model had an error while it streamed."))


def check(body: dict[str, Any]) -> None:
    """Raises AssertionError for what botocore's model of the service doesn't know."""
    report = ParamValidator().validate({"modelId": MODEL} | _blobs(body), _CONVERSE.input_shape)
    assert not report.has_errors(), report.generate_report()


def _blobs(value: Any) -> Any:
    """With bytes where base64 stands, as botocore's callers give them."""
    if isinstance(value, dict):
        return {
            key: base64.b64decode(one) if key in ("bytes", "redactedContent") else _blobs(one)
            for key, one in value.items()
        }
    return [_blobs(one) for one in value] if isinstance(value, list) else value


def hear(path: str, body: dict[str, Any]) -> Heard:
    """What was asked. Raises KeyError for what has another form."""
    model = f"/model/{MODEL}/"
    assert unquote(path) in (f"{model}converse", f"{model}converse-stream"), path
    heard = Heard(stream=path.endswith("stream"))
    heard.system = "".join(one["text"] for one in body.get("system", ()))
    output = body.get("outputConfig", {})
    if "textFormat" in output:
        heard.schema = json.loads(output["textFormat"]["structure"]["jsonSchema"]["schema"])
    heard.effort = _effort(body)
    for tool in body.get("toolConfig", {}).get("tools", ()):
        heard.tools[tool["toolSpec"]["name"]] = tool["toolSpec"]["inputSchema"]["json"]
    for message in body["messages"]:
        heard.roles.append(message["role"])
        for block in message["content"]:
            _heard_block(message["role"], block, heard)
    return heard


def _effort(body: dict[str, Any]) -> str:
    more = body.get("additionalModelRequestFields", {})
    told = more.get("output_config", {}).get("effort") or body.get("outputConfig", {}).get("effort")
    if told:
        return str(told)
    budget = more.get("thinking", {}).get("budget_tokens")
    return f"{budget} tokens" if budget else ""


def _heard_block(role: str, block: dict[str, Any], heard: Heard) -> None:
    if "image" in block:
        assert block["image"]["format"] == "png"
        heard.pictures.append(base64.b64decode(block["image"]["source"]["bytes"]))
    elif "toolUse" in block:
        use = block["toolUse"]
        heard.calls.append(Call(use["toolUseId"], use["name"], use["input"]))
    elif "toolResult" in block:
        told = block["toolResult"]
        heard.results[told["toolUseId"]] = "".join(one["text"] for one in told["content"])
    elif "reasoningContent" in block:
        heard.proofs.append(block["reasoningContent"]["reasoningText"]["signature"])
    elif role == "user" and "text" in block:
        heard.texts.append(block["text"])
