"""The makers' own SDKs in front of a real llama.cpp: what they get is what it says by itself.

It speaks chat, responses and messages. With all of them, its answer must come as it is; with one
of them, the other SDKs must get the same text, end and count through the translation.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from proxy_api import Settings

KEY: Final = "sk-tests"
MODEL: Final = "smollm2"
QUESTION: Final = "What is 2+2? Answer with one number."
MESSAGES: Final[Any] = [{"role": "user", "content": QUESTION}]
OFTEN_OTHER: Final = frozenset(
    {"id", "item_id", "created", "created_at", "completed_at", "timings"}
)
"""What differs between two answers of the same server to the same question."""
DIALECTS: Final = MappingProxyType({"chat": "openai.chat", "messages": "anthropic.messages"})


@dataclass(frozen=True)
class Clients:
    """The SDKs, at one base URL."""

    openai: openai.OpenAI
    anthropic: anthropic.Anthropic
    google: genai.Client


@pytest.fixture(scope="module")
def clients() -> Iterator[Callable[[str], Clients]]:
    """``clients(base URL without /v1)``."""
    with ExitStack() as stack:

        def at(url: str) -> Clients:
            options: Any = {"api_key": KEY, "max_retries": 0, "timeout": 60}
            google = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=url))
            stack.callback(google.close)
            return Clients(
                stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", **options)),
                stack.enter_context(anthropic.Anthropic(base_url=url, **options)),
                google,
            )

        yield at


@pytest.fixture(scope="module")
def url(llama: str, lasting_gateway: Callable[..., str]) -> str:
    """The proxy in front of the model, in all its dialects and in one; its URL without /v1."""
    row: Any = {"kind": "llamacpp", "base_url": llama}
    sections: dict[str, Any] = {
        "providers": {
            "own": row,
            **{name: {**row, "dialects": [dialect]} for name, dialect in DIALECTS.items()},
        },
        "models": [
            {"name": MODEL, "target": f"own/{MODEL}"},
            *({"name": name, "target": f"{name}/{MODEL}"} for name in DIALECTS),
        ],
        "keys": [{"name": "tests", "key": KEY}],
    }
    return lasting_gateway(Settings(**sections))


@pytest.fixture(scope="module")
def proxied(url: str, clients: Callable[[str], Clients]) -> Clients:
    return clients(url)


@pytest.fixture(scope="module")
def direct(llama: str, clients: Callable[[str], Clients]) -> Clients:
    return clients(llama.removesuffix("/v1"))


def chat_events(to: Clients) -> Any:
    asked: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
    yield to.openai.chat.completions.create(**asked, seed=1)
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    yield from to.openai.chat.completions.create(**asked, seed=1, **options)


def responses_events(to: Clients) -> Any:
    asked: Any = {"model": MODEL, "input": QUESTION, "max_output_tokens": 8, "temperature": 0}
    yield to.openai.responses.create(**asked)
    yield from to.openai.responses.create(**asked, stream=True)


def messages_events(to: Clients) -> Any:
    asked: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8}
    asked["extra_body"] = {"temperature": 0}
    yield to.anthropic.messages.create(**asked)
    yield from to.anthropic.messages.create(**asked, stream=True)
    yield to.anthropic.messages.count_tokens(model=MODEL, messages=MESSAGES)


def without(value: Any, **set_: str) -> Any:
    """The same without what often differs, and with these fields set wherever they stand."""
    if isinstance(value, dict):
        kept = {name: v for name, v in value.items() if name not in OFTEN_OTHER}
        return {name: (v and set_.get(name)) or without(v, **set_) for name, v in kept.items()}
    return [without(one, **set_) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("ask", [chat_events, responses_events, messages_events])
def test_the_same_dialect_is_untouched(
    direct: Clients, proxied: Clients, ask: Callable[[Clients], Any]
) -> None:
    """Each answer and event is the server's own, but for ids, times and the model's name."""
    next(ask(direct))  # its cache is warm then, and its counts are the same
    own = [event.model_dump(mode="json") for event in ask(direct)]
    got = [event.model_dump(mode="json") for event in ask(proxied)]
    assert [without(one) for one in got] == [without(one, model=MODEL) for one in own]
    assert len(got) > 6


class Said(NamedTuple):
    """An answer in one vocabulary."""

    text: str
    stop: str
    asked: int
    """Tokens of the question, cached ones too."""
    answered: int


def by_chat(to: Clients, model: str, cap: int) -> Said:
    answer = to.openai.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=cap, temperature=0
    )
    (choice,), usage = answer.choices, answer.usage
    assert usage is not None
    return Said(
        choice.message.content or "",
        choice.finish_reason,
        usage.prompt_tokens,
        usage.completion_tokens,
    )


def by_chat_stream(to: Clients, model: str, cap: int) -> Said:
    with to.openai.chat.completions.stream(
        model=model,
        messages=MESSAGES,
        max_tokens=cap,
        temperature=0,
        stream_options={"include_usage": True},
    ) as stream:
        for _ in stream:
            pass
        whole: Any = stream.current_completion_snapshot
    (choice,), usage = whole.choices, whole.usage
    text, stop = choice.message.content, choice.finish_reason
    return Said(text, stop, usage.prompt_tokens, usage.completion_tokens)


def said_by_responses(answer: Any) -> Said:
    stop = answer.incomplete_details.reason if answer.incomplete_details else answer.status
    words = {"max_output_tokens": "length", "completed": "stop"}
    usage = answer.usage
    return Said(answer.output_text, words[stop], usage.input_tokens, usage.output_tokens)


def by_responses(to: Clients, model: str, cap: int) -> Said:
    return said_by_responses(
        to.openai.responses.create(
            model=model, input=QUESTION, max_output_tokens=cap, temperature=0
        )
    )


def by_responses_stream(to: Clients, model: str, cap: int) -> Said:
    with to.openai.responses.stream(
        model=model, input=QUESTION, max_output_tokens=cap, temperature=0
    ) as stream:
        *_, last = stream
    return said_by_responses(last.response)  # type: ignore[union-attr]


def said_by_messages(answer: Any) -> Said:
    usage, words = answer.usage, {"max_tokens": "length", "end_turn": "stop"}
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    text = "".join(block.text for block in answer.content)
    return Said(text, words[answer.stop_reason], usage.input_tokens + cached, usage.output_tokens)


def by_messages(to: Clients, model: str, cap: int) -> Said:
    asked: Any = {"model": model, "messages": MESSAGES, "max_tokens": cap}
    return said_by_messages(to.anthropic.messages.create(**asked, extra_body={"temperature": 0}))


def by_messages_stream(to: Clients, model: str, cap: int) -> Said:
    asked: Any = {"model": model, "messages": MESSAGES, "max_tokens": cap}
    with to.anthropic.messages.stream(**asked, extra_body={"temperature": 0}) as stream:
        return said_by_messages(stream.get_final_message())


def said_by_google(parts: list[types.GenerateContentResponse]) -> Said:
    (last,) = parts[-1].candidates or []
    words = {types.FinishReason.MAX_TOKENS: "length", types.FinishReason.STOP: "stop"}
    usage = parts[-1].usage_metadata
    assert usage is not None and last.finish_reason is not None
    text = "".join(part.text or "" for part in parts)
    return Said(
        text,
        words[last.finish_reason],
        usage.prompt_token_count or 0,
        usage.candidates_token_count or 0,
    )


def by_google(to: Clients, model: str, cap: int) -> Said:
    config = types.GenerateContentConfig(max_output_tokens=cap, temperature=0)
    asked = to.google.models.generate_content(model=model, contents=QUESTION, config=config)
    return said_by_google([asked])


def by_google_stream(to: Clients, model: str, cap: int) -> Said:
    config = types.GenerateContentConfig(max_output_tokens=cap, temperature=0)
    return said_by_google(
        list(
            to.google.models.generate_content_stream(model=model, contents=QUESTION, config=config)
        )
    )


ALL = (by_chat, by_responses, by_messages, by_google)
STREAMS = (by_chat_stream, by_responses_stream, by_messages_stream, by_google_stream)


@pytest.fixture(scope="module")
def own(direct: Clients) -> dict[int, Said]:
    """The server's own answers, by how many tokens they may have: cut short, and whole."""
    said = {cap: by_chat(direct, MODEL, cap) for cap in (3, 20)}
    assert [one.stop for one in said.values()] == ["length", "stop"]
    return said


@pytest.mark.parametrize("ask", [*ALL, *STREAMS], ids=lambda ask: ask.__name__)
@pytest.mark.parametrize("upstream", DIALECTS)
def test_every_sdk_gets_the_same_answer(
    own: dict[int, Said], proxied: Clients, upstream: str, ask: Callable[[Clients, str, int], Said]
) -> None:
    """Text, reason of the end and usage are those of the server's own answer."""
    for cap, expected in own.items():
        assert ask(proxied, upstream, cap) == expected


def test_the_npm_sdks(url: str, own: dict[int, Said]) -> None:
    """The SDKs for Node get the same, from an upstream of another dialect than their own."""
    script = Path(__file__).parents[1] / "clients/translated.mjs"
    ran = subprocess.run(
        ["node", str(script), url, KEY, QUESTION],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    sdks = ("chat", "responses", "messages", "google")
    assert told.keys() == {f"{sdk} {how}" for sdk in sdks for how in ("whole", "stream")}
    assert all(one == list(own[3]) for one in told.values()), told
