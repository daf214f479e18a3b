"""What a request gets on the operator's word: cache marks, other policies, and what models take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from botocore.loaders import Loader  # type: ignore[import-untyped]
from botocore.model import ServiceModel  # type: ignore[import-untyped]
from botocore.validate import ParamValidator  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from proxy_core import DIALECTS, Call, Usage, create_provider
from proxy_core._types import Headers
from proxy_core.dialects import CODECS
from proxy_core.dialects._canonical import (
    Answer,
    Choice,
    Conversation,
    Reasoning,
    Sampling,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import Losses
from proxy_core.errors import InvalidRequest, NotCarried
from proxy_core.providers._models import abilities_of
from proxy_core.providers._signatures import SignatureMemory
from proxy_core.testing import FakeHttp

JSON: Headers = [(b"content-type", b"application/json")]
CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
SETTINGS = {"region": "eu-central-1", "project": "p", "location": "europe-west4"}
HEADER = b"x-llm-proxy-cache-prompt"
MESSAGES = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": [{"type": "text", "text": "A"}]},
]
NATIVE = b'{ "model":"mine",  "max_tokens": 9, "messages": ' + json.dumps(MESSAGES).encode() + b"}"
ANTHROPIC: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)


def made(kind: str, **options: Any) -> tuple[Any, FakeHttp]:
    http = FakeHttp(lambda request: (500, JSON, (b"{}",)))
    options = {**SETTINGS, **options} if kind in ("vertex", "bedrock") else options
    return create_provider(kind, api_key="k-0123", http=http, **options), http


def call_of(dialect: str, raw: bytes, *headers: tuple[bytes, bytes]) -> Call:
    call = DIALECTS[dialect].read(raw)
    return Call(call.dialect, call.body, call.model, max_tokens=call.max_tokens, headers=headers)


async def body(provider: Any, http: FakeHttp, call: Call, model: str = "mine") -> bytes:
    with pytest.raises(Exception, match=r"upstream|500"):
        async with provider.send(call, model=model):
            pass
    return bytes(http.requests[-1].body)


CHAT = json.dumps({"model": "mine", "messages": [{"role": "user", "content": "Hi"}]}).encode()


async def test_a_native_body_is_marked_only_when_it_is_asked_for() -> None:
    """Byte for byte but for Anthropic's own field at its end; its headers don't go upstream."""
    provider, http = made("anthropic")
    assert await body(provider, http, call_of("anthropic.messages", NATIVE)) == NATIVE
    got = await body(provider, http, call_of("anthropic.messages", NATIVE, (HEADER, b"1h")))
    assert got == NATIVE[:-1] + b',"cache_control":{"type":"ephemeral","ttl":"1h"}}'
    ANTHROPIC.validate_json(got)
    assert HEADER not in [name for name, _ in http.requests[-1].headers]


@pytest.mark.parametrize("kind", ["bedrock", "vertex"])
@pytest.mark.parametrize(
    "content", ["Hi", [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]]
)
async def test_clouds_get_the_mark_on_the_last_block(kind: str, content: Any) -> None:
    """Claude there refuses the field at the top, whoever said it."""
    provider, http = made(kind)
    messages = [{"role": "user", "content": content}]
    own = {"model": "m", "max_tokens": 9, "messages": messages}
    asked = call_of("anthropic.messages", json.dumps(own).encode(), (HEADER, b"5m"))
    said = call_of(
        "anthropic.messages", json.dumps({**own, "cache_control": {"type": "ephemeral"}}).encode()
    )
    for call in (asked, said):
        got = json.loads(
            await body(provider, http, call, CLAUDE if kind == "bedrock" else "claude-x")
        )
        assert "cache_control" not in got
        assert got["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}
        ANTHROPIC.validate_python({"model": "m", **got})


async def test_translated_requests_are_marked_where_that_is_needed() -> None:
    """Anthropic and Bedrock get a mark; who caches unasked gets none, and nothing is announced."""
    asked = call_of("openai.chat", CHAT, (HEADER, b"1h"))
    provider, http = made("anthropic")
    got = json.loads(await body(provider, http, asked))
    assert got["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    ANTHROPIC.validate_python(got)
    provider, http = made("bedrock", dialects=["bedrock.converse"])
    got = json.loads(await body(provider, http, asked, CLAUDE))
    assert got["messages"][-1]["content"][-1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    shape = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
    wanted = shape.operation_model("Converse").input_shape
    assert not ParamValidator().validate({"modelId": "m", **got}, wanted).has_errors()
    provider, http = made("gemini")
    assert b"cache" not in await body(provider, http, asked)


async def test_who_has_marks_of_its_own_keeps_them_alone() -> None:
    """Four are all that there may be, and their owner knows where."""
    marked = NATIVE.replace(b'"text": "A"', b'"text": "A","cache_control":{"type":"ephemeral"}')
    provider, http = made("anthropic")
    call = call_of("anthropic.messages", marked, (HEADER, b"5m"))
    assert await body(provider.under(cache_prompt="1h"), http, call) == marked


async def test_a_client_says_more_than_a_setting() -> None:
    """A setting holds until the header says another time, or off; other words are refused."""
    provider, http = made("anthropic")
    view = provider.under(cache_prompt="1h")
    got = await body(view, http, call_of("anthropic.messages", NATIVE))
    assert json.loads(got)["cache_control"]["ttl"] == "1h"
    got = await body(view, http, call_of("openai.chat", CHAT))
    assert json.loads(got)["cache_control"]["ttl"] == "1h"
    got = await body(view, http, call_of("anthropic.messages", NATIVE, (HEADER, b"5m")))
    assert json.loads(got)["cache_control"] == {"type": "ephemeral"}
    assert await body(view, http, call_of("anthropic.messages", NATIVE, (HEADER, b"off"))) == NATIVE
    assert await body(provider, http, call_of("anthropic.messages", NATIVE)) == NATIVE
    with pytest.raises(InvalidRequest, match="5m, 1h or off"):
        async with view.send(call_of("openai.chat", CHAT, (HEADER, b"2h")), model="m"):
            pass


async def test_a_view_has_its_own_policy_and_nothing_else() -> None:
    """What one refuses the other announces; connections and credentials are the same."""
    raw = json.dumps({**json.loads(CHAT), "n": 2}).encode()
    provider, http = made("anthropic")
    view = provider.under("announce")
    with pytest.raises(NotCarried):
        async with provider.send(call_of("openai.chat", raw), model="m"):
            pass
    assert b'"n"' not in await body(view, http, call_of("openai.chat", raw))
    assert (view.http, view.credentials, view.signatures) == (
        provider.http,
        provider.credentials,
        provider.signatures,
    )
    assert view.account is view.under("strict").account is provider.account is provider


def written(
    kind: str, dialect: str, model: str, conversation: Conversation
) -> tuple[Any, list[str]]:
    losses = Losses()
    told = CODECS[dialect].write_request(
        conversation, model, abilities_of(kind, dialect, model), losses
    )
    return told, [loss.field for loss in losses.all]


USER = Turn(role="user", parts=(Text(text="Hi"),))


@pytest.mark.parametrize("dialect", ["anthropic.messages", "bedrock.converse"])
@pytest.mark.parametrize(
    ("model", "both"), [("claude-sonnet-4-5", False), ("claude-3-5-sonnet", True)]
)
def test_claude_4_gets_a_temperature_or_top_p(dialect: str, model: str, both: bool) -> None:
    """ "cannot both be specified for this model": the temperature stays. Older ones take both."""
    kind = dialect.partition(".")[0]
    sampling = Sampling(temperature=0.5, top_p=0.9)
    asked = Conversation(model="m", turns=(USER,), sampling=sampling, max_tokens=9)
    told, lost = written(kind, dialect, model, asked)
    assert ("0.9" in json.dumps(told), lost) == (both, [] if both else ["top_p"])
    assert "0.5" in json.dumps(told)
    alone = Conversation(model="m", turns=(USER,), sampling=Sampling(top_p=0.9), max_tokens=9)
    assert "0.9" in json.dumps(written(kind, dialect, model, alone)[0])


@pytest.mark.parametrize(
    ("kind", "back"),
    [("deepseek", True), ("moonshot", True), ("vllm", True), ("openrouter", True)]
    + [(kind, False) for kind in ("openai", "azure", "groq", "cerebras", "mistral")],
)
def test_thinking_comes_back_to_those_who_want_it(kind: str, back: bool) -> None:
    """DeepSeek wants it in loops of tools; strict servers refuse a message that has it."""
    thought = Turn(role="assistant", parts=(Reasoning(text="Hm."), Text(text="A")))
    told, lost = written(
        kind, "openai.chat", "m", Conversation(model="m", turns=(USER, thought, USER))
    )
    assert ("reasoning_content" in told["messages"][1]) is back
    assert lost == ([] if back else ["messages[1].reasoning"])


@pytest.mark.parametrize("kind", ["mistral", "groq", "cerebras"])
def test_strict_servers_get_no_field_of_openai_s_service(kind: str) -> None:
    """They refuse what they don't know; ``store: false`` is what they do anyway."""
    asked = Conversation(model="m", turns=(USER,), store=True, cache_key="k")
    told, lost = written(kind, "openai.chat", "m", asked)
    assert not told.keys() & {"store", "prompt_cache_key"}
    assert lost == ["store", "prompt_cache_key"]
    silent = Conversation(model="m", turns=(USER,), store=False)
    assert written(kind, "openai.chat", "m", silent)[1] == []


def test_mistral_gets_ids_of_nine_letters() -> None:
    """The same for a call and its result, others for other calls; its own stay as they are."""
    ids = ["call_0123456789abcdef", "toolu_01A", "abcDEF123", "Żółw12345"]
    calls = Turn(
        role="assistant", parts=tuple(ToolCall(id=one, name="f", arguments="{}") for one in ids)
    )
    results = Turn(role="tool", parts=tuple(ToolResult(id=one, parts=()) for one in ids))
    told, _ = written(
        "mistral", "openai.chat", "m", Conversation(model="m", turns=(USER, calls, results))
    )
    called = [call["id"] for call in told["messages"][1]["tool_calls"]]
    assert called == [message["tool_call_id"] for message in told["messages"][2:]]
    assert len(set(called)) == 4
    assert called[2] == ids[2]
    assert all(len(one) == 9 and one.isascii() and one.isalnum() for one in called)


def test_what_was_signed_for_one_key_is_found_for_it_alone() -> None:
    """Some providers number their calls: another key's call of that number is another call."""
    memory = SignatureMemory()
    origin = "openai.chat"
    call = ToolCall(
        id="tool_0_f", name="f", arguments="{}", signature=Signature(origin=origin, value="s")
    )
    memory.remember(
        Answer(
            id="a", model="m", choices=(Choice(parts=(call,), stop="tool_calls"),), usage=Usage()
        ),
        "ann",
    )
    bare = ToolCall(id="tool_0_f", name="f", arguments="{}")
    asked = Conversation(model="m", turns=(Turn(role="assistant", parts=(bare,)),))
    assert memory.restored(asked, origin, "bob") == asked
    assert memory.restored(asked, origin, "ann").turns[0].parts == (call,)
