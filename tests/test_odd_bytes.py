"""Whatever bytes an upstream sends, official SDKs end in the right answer or their own error."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import errors as google
from google.genai import types

from proxy_api import Settings

SCRIPT = Path(__file__).parent / "judges" / "odd_bytes.mjs"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
TEXT = "Hello, é."
BIG = "x" * 8_000_000
ARGUMENTS = '{"at":1}'


class Outcome(NamedTuple):
    """What a client has in the end, whatever its dialect."""

    text: str = TEXT
    calls: tuple[tuple[str, str], ...] = ()


class Row(NamedTuple):
    """What an upstream sends, and what comes of it: an outcome, or None: an error."""

    name: str
    body: bytes
    translated: Outcome | None = None
    native: Outcome | str | None = "the same"
    kind: str = "text/event-stream"
    breaks: bool = False
    """Whether its connection is reset behind the body."""
    but: Mapping[str, Outcome] = MappingProxyType({})
    """Of clients that see it otherwise."""
    only: tuple[str, ...] = ()
    """The clients that ask; none: all."""

    def expected(self, client: str, upstream: str) -> Outcome | str | None:
        is_native = OWN.get(client.rpartition("_")[0]) == upstream
        if is_native and self.native != "the same":
            return self.native
        return self.but.get(client, self.translated)


VERBATIM = "as it came"
"""In its own dialect an answer passes as it is, and the SDK makes of it what it always makes."""
WHOLE = Outcome()
CALLED = Outcome("", (("look", ARGUMENTS),))
CUT, NONSENSE = (Outcome("", (("look", said),)) for said in ('{"at"', '{"at":}'))
"""A model's own broken JSON is what it said: that is for who asked to judge."""
CUT_BUT = {
    "google_stream": Outcome("", (("look", '{"_raw":"{\\"at\\""}'),)),
    "anthropic_helper": Outcome("", (("look", "{}"),)),  # it completes what was cut
}
NONSENSE_BUT = {"google_stream": Outcome("", (("look", '{"_raw":"{\\"at\\":}"}'),))}


# OpenAI's chat.


def data(told: object) -> bytes:
    return b"data: " + json.dumps(told).encode() + b"\n\n"


def chunk(delta: object, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up"}
    return data({**head, "choices": [choice], **more})


def call(**fields: Any) -> bytes:
    return chunk({"tool_calls": [fields]})


def look(arguments: str | None = "", **fields: Any) -> dict[str, Any]:
    function = {"name": "look", "arguments": arguments}
    return {"id": "call_1", "type": "function", "function": function, **fields}


ROLE = chunk({"role": "assistant", "content": ""})
HEL, LO = chunk({"content": "Hello"}), chunk({"content": ", é."})
STOP, CALLS = chunk({}, "stop"), chunk({}, "tool_calls")
DONE = b"data: [DONE]\n\n"
BEGUN = ROLE + HEL
REST = LO + STOP + DONE
FRAGMENT = {"function": {"arguments": ARGUMENTS}}
CHAT_WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "up",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    ],
}
CHAT_ROWS = (
    Row("as it should be", BEGUN + REST, WHOLE),
    Row("no finish_reason, no [DONE]", BEGUN + LO),
    Row("[DONE] without finish_reason", BEGUN + LO + DONE),
    Row("reset in the middle", BEGUN, breaks=True),
    Row("reset behind the finish_reason", BEGUN + LO + STOP, breaks=True),
    Row("finish_reason without [DONE]", BEGUN + LO + STOP, WHOLE),
    Row("comments", b": hi\n\n" + BEGUN + b": keepalive\n\n" + REST, WHOLE),
    Row("CRLF", (BEGUN + REST).replace(b"\n", b"\r\n"), WHOLE),
    Row("CR", (BEGUN + REST).replace(b"\n", b"\r"), WHOLE),
    Row("no space behind data:", (BEGUN + REST).replace(b"data: ", b"data:"), WHOLE),
    Row(
        "8 MB in one line",
        ROLE + chunk({"content": BIG}) + STOP + DONE,
        Outcome(BIG),
        only=("openai_raw", "anthropic_raw"),
    ),
    Row("data behind [DONE]", BEGUN + REST + HEL, WHOLE),
    Row("a retry", b"retry: 3000\n\n" + BEGUN + REST, WHOLE),
    Row("an id of its own", BEGUN + b"id: 7\n\n" + REST, WHOLE),
    Row("an id with each event", (BEGUN + REST).replace(b"data:", b"id: 7\ndata:"), WHOLE),
    Row("event: ping without data", BEGUN + b"event: ping\n\n" + REST, WHOLE),
    Row("event: ping with {}", BEGUN + b"event: ping\ndata: {}\n\n" + REST, WHOLE),
    Row("event: message", (BEGUN + REST).replace(b"data:", b"event: message\ndata:"), WHOLE),
    Row("an empty data line", BEGUN + b"data: \n\n" + REST, WHOLE),
    Row("data of two lines", BEGUN + LO.replace(b', "ch', b',\ndata: "ch') + STOP + DONE, WHOLE),
    Row("an error", BEGUN + data({"error": {"message": "no", "type": "x", "code": 7}})),
    Row("an error first", data({"error": {"message": "no", "type": "x", "code": 7}})),
    Row("an error behind the end", BEGUN + LO + STOP + data({"error": {"message": "no"}})),
    Row("event: error, flat", BEGUN + b"event: error\n" + data({"message": "no", "code": "x"})),
    Row("event: error, a text", BEGUN + b"event: error\ndata: no\n\n"),
    Row("an error that is a text", BEGUN + data({"error": "no"})),
    Row("malformed JSON", BEGUN + b'data: {"choices": [\n\n' + REST),
    Row("NaN", BEGUN + LO.replace(b": 1,", b": NaN,") + STOP + DONE),
    Row("a text that is no JSON", BEGUN + b"data: hello\n\n" + REST),
    Row("an array", BEGUN + b"data: []\n\n" + REST),
    Row("a number", BEGUN + b"data: 7\n\n" + REST),
    Row("null", BEGUN + b"data: null\n\n" + REST),
    Row("invalid UTF-8", BEGUN + LO.replace(b"\\u00e9", b"\xe9") + STOP + DONE),
    Row("half a surrogate pair", BEGUN + LO.replace(b"\\u00e9", b"\\ud83d") + STOP + DONE),
    Row("choices is a text", BEGUN + data({"choices": "x"}) + REST, WHOLE, None),
    Row("a choice is null", BEGUN + data({"choices": [None]}) + REST, WHOLE, None),
    Row(
        "the index is a text",
        BEGUN + data({"choices": [{"index": "0", "delta": {}}]}) + REST,
        WHOLE,
        None,
    ),
    Row("a NUL", BEGUN + b"\0\n\n" + REST, WHOLE),
    Row(
        "role repeated",
        ROLE + chunk({"role": "assistant", "content": TEXT}) + STOP + DONE,
        WHOLE,
    ),
    Row("role nowhere", HEL + REST, WHOLE),
    Row("content null", BEGUN + chunk({"content": None}) + REST, WHOLE),
    Row("content and finish_reason at once", BEGUN + chunk({"content": ", é."}, "stop"), WHOLE),
    Row("a finish_reason twice", BEGUN + LO + STOP + STOP + DONE, WHOLE),
    Row("a delta null at the end", BEGUN + LO + chunk(None, "stop") + DONE, WHOLE),
    Row("a call", ROLE + call(index=0, **look()) + call(index=0, **FRAGMENT) + CALLS, CALLED),
    Row("a call whole", ROLE + call(index=0, **look(ARGUMENTS)) + CALLS + DONE, CALLED),
    Row(
        "a call's id and name repeated",
        ROLE + call(index=0, **look()) + call(index=0, **look(ARGUMENTS)) + CALLS,
        CALLED,
    ),
    Row("a call without index", ROLE + call(**look(ARGUMENTS)) + CALLS, CALLED),
    Row("a call's index is 1", ROLE + call(index=1, **look(ARGUMENTS)) + CALLS, CALLED),
    Row(
        "a call's arguments null",
        ROLE + call(index=0, **look(None)) + call(index=0, **FRAGMENT) + CALLS,
        CALLED,
    ),
    Row("a call's end is stop", ROLE + call(index=0, **look(ARGUMENTS)) + STOP + DONE, CALLED),
    Row("a call cut", ROLE + call(index=0, **look('{"at"')) + CALLS + DONE, CUT, but=CUT_BUT),
    Row(
        "another object",
        (BEGUN + REST).replace(b"chat.completion.chunk", b"chunk"),
        WHOLE,
    ),
    Row(
        "no object",
        (BEGUN + REST).replace(b'"object": "chat.completion.chunk", ', b""),
        WHOLE,
    ),
    Row("no choices in one chunk", BEGUN + data({"id": "c1"}) + REST, WHOLE),
    Row("empty choices first", data({"choices": [], "object": ""}) + BEGUN + REST, WHOLE),
    Row("a finish_reason of others", BEGUN + LO + chunk({}, "end_turn") + DONE, WHOLE),
    Row("no blank line at the end", (BEGUN + LO + STOP)[:-2], WHOLE),
    Row("BOM", b"\xef\xbb\xbf" + BEGUN + REST, WHOLE),
    Row(
        "usage null in each",
        (BEGUN + REST).replace(b'"created"', b'"usage": null, "created"'),
        WHOLE,
    ),
    Row("usage of nonsense", BEGUN + LO + chunk({}, "stop", usage={"total_tokens": -5}), WHOLE),
    Row("JSON with an error instead", b'{"error": {"message": "no"}}', kind="application/json"),
    Row("JSON instead", json.dumps(CHAT_WHOLE).encode(), kind="application/json"),
    Row("HTML instead", b"<html>hi</html>", kind="text/html"),
    Row("nothing", b""),
    Row("comments alone", b": hi\n\n: ho\n\n"),
    Row("nothing but [DONE]", DONE),
)


# Anthropic's messages.


def event(name: str, **fields: Any) -> bytes:
    told = {"type": name, **fields}
    return f"event: {name}\ndata: {json.dumps(told)}\n\n".encode()


def delta(index: int = 0, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta=fields)


def text_delta(text: str) -> bytes:
    return delta(type="text_delta", text=text)


def ended(reason: str, **usage: Any) -> bytes:
    told = {"stop_reason": reason, "stop_sequence": None}
    return event("message_delta", delta=told, **(usage or {"usage": {"output_tokens": 2}}))


MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "up",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}
START = event("message_start", message=MESSAGE)
OPEN = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
CLOSE = event("content_block_stop", index=0)
PING = event("ping")
OVER = event("message_stop")
AHEL, ALO = text_delta("Hello"), text_delta(", é.")
ABEGUN = START + OPEN + AHEL
AREST = ALO + CLOSE + ended("end_turn") + OVER
USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
ACALL = START + event("content_block_start", index=0, content_block=USE)
AERROR = {"type": "overloaded_error", "message": "full"}


def argued(*pieces: str) -> bytes:
    told = [delta(type="input_json_delta", partial_json=piece) for piece in pieces]
    return ACALL + b"".join(told) + CLOSE + ended("tool_use") + OVER


MESSAGE_ROWS = (
    Row("as it should be", ABEGUN + AREST, WHOLE),
    Row("pings and comments", START + PING + OPEN + AHEL + b": hi\n\n" + PING + AREST, WHOLE),
    Row("CRLF", (ABEGUN + AREST).replace(b"\n", b"\r\n"), WHOLE),
    Row("BOM", b"\xef\xbb\xbf" + ABEGUN + AREST, WHOLE),
    Row("[DONE] behind it", ABEGUN + AREST + DONE, WHOLE),
    Row("data behind message_stop", ABEGUN + AREST + AHEL, WHOLE),
    Row("a retry and an id", b"retry: 3\n\nid: 7\n\n" + ABEGUN + AREST, WHOLE),
    Row("event: ping without data", ABEGUN + b"event: ping\n\n" + AREST, WHOLE),
    Row("an event of tomorrow", ABEGUN + event("tomorrow", x=1) + AREST, WHOLE),
    Row(
        "a block of tomorrow",
        START
        + event("content_block_start", index=0, content_block={"type": "tomorrow"})
        + CLOSE
        + (OPEN + AHEL + AREST).replace(b'"index": 0', b'"index": 1'),
        WHOLE,
    ),
    Row(
        "no names of events",
        b"\n".join(line for line in (ABEGUN + AREST).split(b"\n") if not line.startswith(b"event")),
        WHOLE,
    ),
    Row("no blank line at the end", (ABEGUN + AREST)[:-2], WHOLE),
    Row("no message_stop", ABEGUN + ALO + CLOSE + ended("end_turn")),
    Row("no content_block_stop", ABEGUN + ALO + ended("end_turn") + OVER, WHOLE),
    Row("no message_start", OPEN + AHEL + AREST),
    Row("no content_block_start", START + AHEL + AREST),
    Row("no message_delta", ABEGUN + ALO + CLOSE + OVER, WHOLE),
    Row("no end", ABEGUN + ALO),
    Row("reset in the middle", ABEGUN, breaks=True),
    Row("message_delta without usage", ABEGUN + ALO + CLOSE + ended("end_turn", x=1) + OVER, WHOLE),
    Row("usage null", ABEGUN + ALO + CLOSE + ended("end_turn", usage=None) + OVER, WHOLE),
    Row("a stop_reason of tomorrow", ABEGUN + ALO + CLOSE + ended("tomorrow") + OVER, WHOLE),
    Row("a call", argued('{"at"', ":1}"), CALLED),
    Row("a call cut", argued('{"at"'), CUT, VERBATIM, but=CUT_BUT),
    Row("a call of nonsense", argued('{"at":}'), NONSENSE, VERBATIM, but=NONSENSE_BUT),
    Row("an error", ABEGUN + event("error", error=AERROR)),
    Row("an error first", event("error", error=AERROR)),
    Row("an error of OpenAI's shape", ABEGUN + data({"error": {"message": "no", "type": "x"}})),
    Row("event: error, a text", ABEGUN + b"event: error\ndata: no\n\n"),
    Row("malformed JSON", ABEGUN + b"event: content_block_delta\ndata: {\n\n" + AREST),
    Row(
        "invalid UTF-8",
        ABEGUN + ALO.replace(b"\\u00e9", b"\xe9") + CLOSE + ended("end_turn") + OVER,
    ),
    Row("an array", ABEGUN + b"data: []\n\n" + AREST),
    Row(
        "JSON with an error instead",
        json.dumps({"type": "error", "error": AERROR}).encode(),
        kind="application/json",
    ),
    Row(
        "JSON instead",
        json.dumps(
            {**MESSAGE, "content": [{"type": "text", "text": TEXT}], "stop_reason": "end_turn"}
        ).encode(),
        kind="application/json",
    ),
    Row("HTML instead", b"<html>hi</html>", kind="text/html"),
    Row("nothing", b""),
)


# Whole answers.


def whole(told: object) -> bytes:
    return json.dumps(told).encode()


JSON = "application/json"
UNREADABLE = (
    Row("an error", b'{"error": {"message": "no"}}', kind=JSON),
    Row("an error that is a text", b'{"error": "no"}', kind=JSON),
    Row("HTML", b"<html>hi</html>", kind="text/html"),
    Row("nothing", b"", kind=JSON),
    Row("{}", b"{}", kind=JSON),
    Row("null", b"null", kind=JSON),
    Row("a number", b"7", kind=JSON),
    Row("a text", b'"hi"', kind=JSON),
    Row("a stream", BEGUN + REST),
)
MESSAGE_WHOLE = {**MESSAGE, "content": [{"type": "text", "text": TEXT}], "stop_reason": "end_turn"}


def oddly(told: dict[str, Any]) -> tuple[Row, ...]:
    """What can be odd about any JSON."""
    good = whole(told)
    return (
        Row("as it should be", good, WHOLE, kind=JSON),
        Row("another media type", good, kind="text/plain"),
        Row("space around it", b"\n " + good + b"\n", WHOLE, kind=JSON),
        Row("cut", good[:-9], kind=JSON),
        Row("cut in the middle, reset", good[:-40], kind=JSON, breaks=True),
        Row("invalid UTF-8", good.replace(b"\\u00e9", b"\xe9"), kind=JSON),
        Row("NaN", good.replace(b"null", b"NaN", 1).replace(b": 1,", b": NaN,", 1), kind=JSON),
        Row("two of it", good + good, kind=JSON),
        Row("in an array", b"[" + good + b"]", WHOLE, None, kind=JSON),
        Row("half a surrogate pair", good.replace(b"\\u00e9", b"\\ud83d"), kind=JSON),
        *UNREADABLE,
    )


CHAT_WHOLES = (
    *oddly(CHAT_WHOLE),
    Row("choices empty", whole({**CHAT_WHOLE, "choices": []}), kind=JSON),
    Row("choices null", whole({**CHAT_WHOLE, "choices": None}), kind=JSON),
    Row("choices is a text", whole({**CHAT_WHOLE, "choices": "x"}), kind=JSON),
    Row("an error null", whole({**CHAT_WHOLE, "error": None}), WHOLE, kind=JSON),
    Row("usage null", whole({**CHAT_WHOLE, "usage": None}), WHOLE, kind=JSON),
    Row("a field of tomorrow", whole({**CHAT_WHOLE, "x": {"y": 1}}), WHOLE, kind=JSON),
)
MESSAGE_WHOLES = (
    *oddly(MESSAGE_WHOLE),
    Row("no content", whole({**MESSAGE_WHOLE, "content": None}), kind=JSON),
    Row("content is a text", whole({**MESSAGE_WHOLE, "content": "x"}), kind=JSON),
    Row(
        "a stop_reason of tomorrow", whole({**MESSAGE_WHOLE, "stop_reason": "x"}), WHOLE, kind=JSON
    ),
    Row("a field of tomorrow", whole({**MESSAGE_WHOLE, "x": {"y": 1}}), WHOLE, kind=JSON),
)
ROWS: dict[str, tuple[Row, ...]] = {
    "chat": CHAT_ROWS + CHAT_WHOLES,
    "claude": MESSAGE_ROWS + MESSAGE_WHOLES,
}
STREAMS = {"chat": len(CHAT_ROWS), "claude": len(MESSAGE_ROWS)}
"""How many of them are streams: those come first."""


# The clients. Each takes SDKs and a model.


def openai_raw(sdks: Any, model: str) -> Outcome:
    text, calls = "", dict[int, Any]()
    for told in sdks.openai.chat.completions.create(model=model, messages=MESSAGES, stream=True):
        for choice in told.choices:
            text += choice.delta.content or ""
            for one in choice.delta.tool_calls or ():
                name, said = calls.get(one.index, ("", ""))
                calls[one.index] = (
                    name or one.function.name,
                    said + (one.function.arguments or ""),
                )
    return Outcome(text, tuple(calls.values()))


def openai_helper(sdks: Any, model: str) -> Outcome:
    with sdks.openai.chat.completions.stream(model=model, messages=MESSAGES) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.role == "assistant"
    calls = [(one.function.name, one.function.arguments) for one in message.tool_calls or ()]
    return Outcome(message.content or "", tuple(calls))


def openai_whole(sdks: Any, model: str) -> Outcome:
    message = sdks.openai.chat.completions.create(model=model, messages=MESSAGES).choices[0].message
    return Outcome(message.content)


def responses_raw(sdks: Any, model: str) -> Outcome:
    for told in sdks.openai.responses.create(model=model, input="hi", stream=True):
        assert told.type != "error"  # its SDK raises for an error in a stream
    assert told.type == "response.completed"
    output = told.response.output
    calls = [(one.name, one.arguments) for one in output if one.type == "function_call"]
    return Outcome(told.response.output_text, tuple(calls))


def responses_whole(sdks: Any, model: str) -> Outcome:
    return Outcome(sdks.openai.responses.create(model=model, input="hi").output_text)


def anthropic_raw(sdks: Any, model: str) -> Outcome:
    text, calls = "", {}
    asked = {"model": model, "messages": MESSAGES, "max_tokens": 9, "stream": True}
    for told in sdks.anthropic.messages.create(**asked):
        if told.type == "content_block_start" and told.content_block.type == "tool_use":
            calls[told.index] = (told.content_block.name, "")
        elif told.type == "content_block_delta" and told.delta.type == "text_delta":
            text += told.delta.text
        elif told.type == "content_block_delta" and told.delta.type == "input_json_delta":
            name, said = calls[told.index]
            calls[told.index] = (name, said + told.delta.partial_json)
    return Outcome(text, tuple(calls.values()))


def anthropic_helper(sdks: Any, model: str) -> Outcome:
    with sdks.anthropic.messages.stream(model=model, messages=MESSAGES, max_tokens=9) as stream:
        message = stream.get_final_message()
    text = "".join(one.text for one in message.content if one.type == "text")
    calls = [(one.name, packed(one.input)) for one in message.content if one.type == "tool_use"]
    return Outcome(text, tuple(calls))


def anthropic_whole(sdks: Any, model: str) -> Outcome:
    message = sdks.anthropic.messages.create(model=model, messages=MESSAGES, max_tokens=9)
    return Outcome("".join(one.text for one in message.content))


def google_whole(sdks: Any, model: str) -> Outcome:
    return Outcome(sdks.google.models.generate_content(model=model, contents="hi").text)


def google_stream(sdks: Any, model: str) -> Outcome:
    text, calls = "", []
    for told in sdks.google.models.generate_content_stream(model=model, contents="hi"):
        for part in told.candidates[0].content.parts or () if told.candidates else ():
            text += part.text or ""
            if part.function_call:
                calls.append((part.function_call.name, packed(part.function_call.args)))
    return Outcome(text, tuple(calls))


def packed(told: object) -> str:
    return json.dumps(told, separators=(",", ":"))


def node(way: str) -> Callable[[Any, str], Outcome]:
    def ask(sdks: Any, model: str) -> Outcome:
        told = sdks.node[model][way]
        if "error" in told:
            raise NodeError(told)
        calls = tuple((one["name"], one["arguments"]) for one in told["calls"])
        return Outcome(told["text"], calls)

    ask.__name__ = f"node_{way}"
    return ask


class NodeError(Exception):
    """An error of the client for Node."""


OWN = {"openai": "chat", "node": "chat", "anthropic": "claude"}
"""Whose rows are native to a client."""
Ask = Callable[[Any, str], Outcome]
STREAMING: tuple[Ask, ...] = (
    *(openai_raw, openai_helper, responses_raw, node("raw"), node("helper")),
    *(anthropic_raw, anthropic_helper, google_stream),
)
ASKING: tuple[Ask, ...] = (
    *(openai_whole, responses_whole, node("whole"), anthropic_whole, google_whole),
)
CASES = [
    pytest.param(upstream, at, id=f"{upstream} {kind}: {row.name}")
    for upstream, rows in ROWS.items()
    for at, row in enumerate(rows)
    for kind in ("stream" if at < STREAMS[upstream] else "whole",)
]


async def plays(asked: Any, writer: asyncio.StreamWriter) -> None:
    """The path names the upstream, the model its row."""
    upstream = "claude" if asked.path.endswith("/messages") else "chat"
    row = ROWS[upstream][int(json.loads(asked.body)["model"])]
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {row.kind}\r\ntransfer-encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    if row.body:
        writer.write(b"%x\r\n%s\r\n" % (len(row.body), row.body))
    await writer.drain()
    if not row.breaks:
        return writer.write(b"0\r\n\r\n")
    await asyncio.sleep(0.02)
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()
    return None


@pytest.fixture(scope="module")
def sdks(
    http_upstream: Callable[..., Any], lasting_gateway: Callable[..., str]
) -> Iterator[SimpleNamespace]:
    """The SDKs before a gateway, and what the one for Node has made of every row."""
    port = http_upstream(plays).port
    settings: dict[str, Any] = {
        "providers": {
            "chat": {"kind": "openai_compatible", "base_url": f"http://127.0.0.1:{port}/v1"},
            "claude": {
                "kind": "anthropic",
                "base_url": f"http://127.0.0.1:{port}",
                "api_key": "k",
            },
        },
        "models": [  # one a row: a breaker looks at the rate of twenty calls
            {"name": f"{name}/{at}", "target": f"{name}/{at}"}
            for name, rows in ROWS.items()
            for at in range(len(rows))
        ],
        "routing": {"retry": {"attempts": 1}, "breaker": {"failures": 1000}},
    }
    url = lasting_gateway(Settings(**settings))
    models = [
        f"{'stream' if at < STREAMS[name] else 'whole'}:{name}/{at}"
        for name, rows in ROWS.items()
        for at, row in enumerate(rows)
        if not row.only
    ]
    command = ["node", str(SCRIPT), f"{url}/v1", *models]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    options: dict[str, Any] = {"max_retries": 0, "timeout": 20, "api_key": "k"}
    with ExitStack() as stack:
        yield SimpleNamespace(
            url=url,
            openai=stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", **options)),
            anthropic=stack.enter_context(anthropic.Anthropic(base_url=url, **options)),
            google=stack.enter_context(
                genai.Client(
                    api_key="k", http_options=types.HttpOptions(base_url=url, timeout=20_000)
                )
            ),
            node=json.loads(ran.stdout),
        )


ERRORS = (openai.APIError, anthropic.APIError, google.APIError)


def outcome(ask: Ask, sdks: Any, model: str) -> object:
    """What it gave; None: an error of the SDK's own; else what should not be."""
    try:
        return ask(sdks, model)
    except ERRORS:
        return None
    except NodeError as error:
        return None if error.args[0]["isOurs"] else error
    except Exception as error:
        return error


@pytest.mark.parametrize(("upstream", "at"), CASES)
def test_odd_bytes(sdks: Any, upstream: str, at: int) -> None:
    """The whole answer, or an error of the SDK's own; nothing that is cut looks like success."""
    row = ROWS[upstream][at]
    expected = {
        ask: row.expected(ask.__name__, upstream)
        for ask in (STREAMING if at < STREAMS[upstream] else ASKING)
        if not row.only or ask.__name__ in row.only
    }
    got = {
        ask.__name__: outcome(ask, sdks, f"{upstream}/{at}")
        for ask, one in expected.items()
        if one != VERBATIM
    }
    assert got == {ask.__name__: one for ask, one in expected.items() if one != VERBATIM}


@pytest.mark.parametrize(
    ("upstream", "at"),
    [
        (name, at)
        for name, rows in ROWS.items()
        for at, row in enumerate(rows)
        if row.native == VERBATIM
    ],
)
def test_the_own_dialect_passes_as_it_is(sdks: Any, upstream: str, at: int) -> None:
    """What an upstream says oddly, but not wrongly, is not corrected: only the model is renamed."""
    path = {"chat": "/v1/chat/completions", "claude": "/v1/messages"}[upstream]
    model = f"{upstream}/{at}"
    asked = {"model": model, "messages": MESSAGES, "stream": True, "max_tokens": 9}
    told = httpx2.post(sdks.url + path, json=asked, timeout=20)
    body = ROWS[upstream][at].body
    assert told.content == body.replace(b'"model": "up"', b'"model": "%b"' % model.encode())
