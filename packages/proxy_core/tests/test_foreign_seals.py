"""What was signed elsewhere, in a request of the upstream's own dialect."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.genai import types
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputParam
from pydantic import TypeAdapter

from proxy_core import CHAT, DIALECTS, Usage
from proxy_core.dialects import CLIENT_CODECS
from proxy_core.dialects._canonical import (
    Answer,
    Choice,
    Conversation,
    Reasoning,
    Signature,
    Text,
    ToolCall,
)
from proxy_core.dialects._codec import Told

FOREIGN = Signature(origin="anthropic.messages", value="EqQB")
PARTS = (
    Reasoning(text="Hm.", signature=FOREIGN),
    Text(text="Look:", signature=FOREIGN),
    ToolCall(id="call_1", name="f", arguments="{}", signature=FOREIGN),
)
USER: dict[str, dict[str, Any]] = {
    "openai.chat": {"role": "user", "content": "Hi"},
    "openai.responses": {"type": "message", "role": "user", "content": "Hi"},
    "gemini.generate": {"role": "user", "parts": [{"text": "Hi"}]},
}
WHERE = {"openai.chat": "messages", "openai.responses": "input", "gemini.generate": "contents"}
MODELS: dict[str, TypeAdapter[Any]] = {
    "openai.chat": TypeAdapter(list[ChatCompletionMessageParam]),
    "openai.responses": TypeAdapter(ResponseInputParam),
    "gemini.generate": TypeAdapter(list[types.Content]),
}


def told_to_client(dialect: str, *parts: Any) -> list[dict[str, Any]]:
    """What a client of the dialect keeps of an answer that another provider gave."""
    answer = Answer(
        id="a", model="m", choices=(Choice(parts=parts, stop="tool_calls"),), usage=Usage()
    )
    body = CLIENT_CODECS[dialect].write_answer(answer, Told("m", Conversation(model="m", turns=())))
    if dialect == "openai.chat":
        return [body["choices"][0]["message"]]
    if dialect == "openai.responses":
        return list(body["output"])
    return [body["candidates"][0]["content"]]


def sent(dialect: str, raw: bytes) -> bytes:
    call = DIALECTS[dialect].read(raw, model="m")
    return DIALECTS[dialect].request(call, "m", ask_usage=False)


def body_of(dialect: str, rows: list[dict[str, Any]]) -> bytes:
    named = {} if dialect == "gemini.generate" else {"model": "m"}
    return json.dumps({**named, "temperature": 1.50, WHERE[dialect]: rows}, indent=1).encode()


@pytest.mark.parametrize("dialect", WHERE)
def test_seals_of_others_stay_behind(dialect: str) -> None:
    """The history of a translated answer goes to the dialect's own provider without our seals."""
    ours = told_to_client(dialect, *PARTS)
    raw = body_of(dialect, [USER[dialect], *ours, USER[dialect]])
    seal = base64.b64encode(b"lp1:")[:5] if dialect == "gemini.generate" else b"lp1:"
    assert seal in raw
    got = sent(dialect, raw)
    assert seal not in got
    assert b"Hm." not in got
    rows = json.loads(got)[WHERE[dialect]]
    MODELS[dialect].validate_python(rows)
    assert b"Look:" in got
    assert b"call_1" in got or dialect == "gemini.generate"
    assert rows[0] == rows[-1] == USER[dialect]
    assert b'"temperature": 1.5' in got


def test_a_call_without_its_signature_has_gemini_s_word_for_it() -> None:
    """Gemini 3 refuses a call that nothing signed: https://ai.google.dev/gemini-api/docs/thought-signatures."""
    got = json.loads(
        sent(
            "gemini.generate", body_of("gemini.generate", told_to_client("gemini.generate", *PARTS))
        )
    )
    (call,) = [part for part in got["contents"][0]["parts"] if "functionCall" in part]
    assert call["thoughtSignature"] == "skip_thought_signature_validator"


@pytest.mark.parametrize("dialect", WHERE)
def test_what_is_the_provider_s_own_stays_byte_for_byte(dialect: str) -> None:
    """Its own signatures, and our marks as words in a text, change nothing."""
    own = Signature(origin=dialect, value="b3du")
    parts = (Reasoning(text="Hm.", signature=own), Text(text='"lp1: "lp-call:3: "bHAxO is a word'))
    raw = body_of(dialect, [USER[dialect], *told_to_client(dialect, *parts)])
    assert sent(dialect, raw) == raw
    odd = body_of(
        dialect, [{**USER[dialect], "mark": ["lp1:x", "bHAxOg=="]}, {"reasoning_details": 5}]
    )
    assert sent(dialect, odd) == odd


def test_thinking_without_a_seal_goes_back() -> None:
    """DeepSeek's clients send ``reasoning_content`` of their own: nothing of it is touched."""
    raw = b'{"model":"m", "messages":[{"role":"assistant","content":"","reasoning_content":"Hm."}]}'
    assert CHAT.request(CHAT.read(raw), "m", ask_usage=False) == raw
