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

from proxy_core import CHAT, DIALECTS, Usage, create_provider
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
from proxy_core.dialects._codec import Losses, Told
from proxy_core.dialects._fold import events_of
from proxy_core.testing import FakeHttp

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


CALLS = (ToolCall(id="c1", name="f", arguments="{}"), ToolCall(id="c2", name="g", arguments="{}"))
SKIP = "skip_thought_signature_validator"


def kept_by_google_s_client(parts: tuple[Any, ...], *, stream: bool) -> list[dict[str, Any]]:
    """The content that google-genai sends back of an answer."""
    told = told_to_client("gemini.generate", *parts)
    if stream:
        asked = Told("m", Conversation(model="m", turns=()))
        writer = CLIENT_CODECS["gemini.generate"].stream_writer(asked)
        choice = Choice(parts=parts, stop="tool_calls")
        answer = Answer(id="a", model="m", choices=(choice,), usage=Usage())
        raw = b"".join(map(writer.write, events_of(answer))) + writer.end()
        events = [json.loads(event[len("data: ") :]) for event in raw.split(b"\n\n") if event]
        told = [event["candidates"][0]["content"] for event in events]
    kept = [
        part.model_dump(mode="json", by_alias=True, exclude_none=True)
        for content in told
        for part in types.Content.model_validate(content).parts or ()
    ]
    return [{"role": "model", "parts": kept}]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "parts", [CALLS, (PARTS[0], *CALLS)], ids=["of a chat", "with thinking of Claude"]
)
def test_the_first_call_of_a_step_of_others_has_gemini_s_word_too(
    parts: tuple[Any, ...], stream: bool
) -> None:
    """Nobody signed it, and Gemini 3 wants a signature on the first call of each step alone."""
    user = USER["gemini.generate"]
    step = kept_by_google_s_client(parts, stream=stream)
    raw = body_of("gemini.generate", [user, *step, user, *step])
    contents = json.loads(sent("gemini.generate", raw))["contents"]
    for content in (contents[1], contents[3]):
        calls = [part for part in content["parts"] if "functionCall" in part]
        assert [call.get("thoughtSignature") for call in calls] == [SKIP, None]


def test_a_call_that_nobody_signed_is_no_loss() -> None:
    """Every other byte of such a history stays, and nothing is there to be announced."""
    step = kept_by_google_s_client(CALLS, stream=False)
    raw = body_of("gemini.generate", [USER["gemini.generate"], *step])
    call = DIALECTS["gemini.generate"].read(raw, model="m")
    got = DIALECTS["gemini.generate"].request(call, "m", ask_usage=False)
    assert got.replace(SKIP.encode(), b"") == raw.replace(b"bHAxOjo=", b"")
    assert got != raw and call.body.cleaned is None


def test_a_step_that_lost_its_thinking_is_signed() -> None:
    """Where Claude's seal goes with its thought, the call behind it isn't left bare."""
    content = told_to_client("gemini.generate", PARTS[0], *CALLS)[0]
    for part in content["parts"]:
        if "functionCall" in part:
            part.pop("thoughtSignature", None)
    got = json.loads(sent("gemini.generate", body_of("gemini.generate", [content])))
    assert [part.get("thoughtSignature") for part in got["contents"][0]["parts"]] == [SKIP, None]


def test_nobody_s_signature_is_none_elsewhere() -> None:
    """What marks an unsigned call for Gemini means nothing to another provider, and is no loss."""
    losses = Losses()
    body = {"contents": told_to_client("gemini.generate", *CALLS)}
    asked = CLIENT_CODECS["gemini.generate"].read_request(body, losses)
    assert asked.turns[0].parts == CALLS
    assert losses.all == []


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


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses"])
def test_unsigned_thinking_of_others_stays_behind(dialect: str) -> None:
    """Strict providers refuse thinking that they did not write, though nobody signed it."""
    ours = told_to_client(dialect, Reasoning(text="Hm."), Text(text="Look:"))
    got = sent(dialect, body_of(dialect, [USER[dialect], *ours, USER[dialect]]))
    assert b"Hm." not in got
    assert b"reasoning" not in got
    assert b"Look:" in got


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses"])
def test_unsigned_thinking_goes_back_to_who_takes_it(dialect: str) -> None:
    """Translated again it is thinking without a signature, as it was told."""
    ours = told_to_client(dialect, Reasoning(text="Hm."), Text(text="Look:"))
    body = {"model": "m", WHERE[dialect]: [USER[dialect], *ours]}
    turns = CLIENT_CODECS[dialect].read_request(body, Losses()).turns
    thought = turns[1].parts[0]
    assert isinstance(thought, Reasoning)
    assert (thought.text, thought.signature, thought.redacted) == ("Hm.", None, False)


def test_pieces_of_a_sealed_thought_stay_behind_together() -> None:
    """A client that joins no pieces has the seal in the last alone."""
    told = {"type": "reasoning.text", "index": 0}
    details = [told | {"text": "Hm"}, told | {"text": "."}, told | {"signature": "lp1:x:y"}]
    ours = {"role": "assistant", "content": "Look:", "reasoning_details": details}
    got = sent("openai.chat", body_of("openai.chat", [USER["openai.chat"], ours]))
    assert json.loads(got)["messages"][1] == {"role": "assistant", "content": "Look:"}


def test_thinking_without_a_seal_goes_back() -> None:
    """DeepSeek's clients send ``reasoning_content`` of their own: nothing of it is touched."""
    raw = b'{"model":"m", "messages":[{"role":"assistant","content":"","reasoning_content":"Hm."}]}'
    assert CHAT.request(CHAT.read(raw), "m", ask_usage=False) == raw


KINDS = {
    "openai.chat": "openai",
    "openai.responses": "openai",
    "gemini.generate": "gemini",
    "anthropic.messages": "anthropic",
}
ANTHROPICS = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "lp1:gemini.generate:EqQB"},
        {"type": "text", "text": "Look"},
    ],
}


async def announced(dialect: str, rows: list[dict[str, Any]]) -> list[bytes]:
    """What the reply of the dialect's own provider says was left out of such a history."""
    body: dict[str, Any] = {WHERE.get(dialect, "messages"): rows, "max_tokens": 9}
    if dialect != "gemini.generate":
        body["model"] = "m"
    answers: dict[str, Any] = {"choices": [{}], "output": [], "candidates": [{}], "content": []}
    answer = 200, [(b"content-type", b"application/json")], [json.dumps(answers).encode()]
    provider = create_provider(KINDS[dialect], api_key="k-0123", http=FakeHttp(lambda _: answer))
    call = DIALECTS[dialect].read(json.dumps(body).encode(), model="m")
    async with provider.send(call, model="up") as reply:
        return [value for name, value in reply.headers if name == b"x-llm-proxy-dropped"]


@pytest.mark.parametrize("dialect", KINDS)
async def test_what_stays_behind_is_announced(dialect: str) -> None:
    """The reply's header names each message that lost another provider's reasoning."""
    user = USER.get(dialect, {"role": "user", "content": "Hi"})
    is_claude = dialect == "anthropic.messages"
    ours = [ANTHROPICS] if is_claude else told_to_client(dialect, PARTS[0])
    (told,) = await announced(dialect, [user, *ours, user, user, *ours])
    assert told == b"messages[1].reasoning, messages[%d].reasoning" % (3 + len(ours))
    assert await announced(dialect, [user, user]) == []
