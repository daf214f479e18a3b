"""Usage by the name of a dialect, from answers as the providers document them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy_core._types import Usage
from proxy_core.dialects._usage import note_usage
from proxy_core.translation import extract_usage

CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 5,
    },
}
CHAT = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {
        "prompt_tokens": 130,
        "completion_tokens": 5,
        "total_tokens": 135,
        "prompt_tokens_details": {"cached_tokens": 100},
    },
}
GEMINI = {
    "candidates": [
        {"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    ],
    "usageMetadata": {
        "promptTokenCount": 130,
        "cachedContentTokenCount": 100,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": 2,
        "totalTokenCount": 135,
    },
}
EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "model": "m",
    "usage": {"prompt_tokens": 130, "total_tokens": 130},
}


@pytest.mark.parametrize(
    ("dialect", "answer", "told"),
    [
        ("anthropic.messages", CLAUDE, (130, 5, 100)),
        ("openai.chat", CHAT, (130, 5, 100)),
        ("gemini.generate", GEMINI, (130, 5, 100)),
        ("openai.embeddings", EMBEDDINGS, (130, 0, 0)),
    ],
)
def test_all_are_counted_alike(dialect: str, answer: Any, told: tuple[int, int, int]) -> None:
    """What Anthropic tells apart and Gemini leaves out is in the sums."""
    usage = extract_usage(dialect, json.dumps(answer).encode())
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == told


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"{}", b'{"error":{"message":"no"}}', b"\xff"])
@pytest.mark.parametrize("dialect", ["openai.chat", "openai.embeddings", "anthropic.messages", "?"])
def test_what_tells_nothing_is_none(dialect: str, raw: bytes) -> None:
    """No answer, an error, a dialect that nobody knows: no usage, and no exception."""
    assert extract_usage(dialect, raw) is None


def test_absurd_numbers_are_none() -> None:
    """What a provider gets wrong must not be charged."""
    answer = {**CHAT, "usage": {"prompt_tokens": -1, "completion_tokens": 5}}
    assert extract_usage("openai.chat", json.dumps(answer).encode()) is None


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 1, "completion_tokens": 1_000_000_001},
        {"prompt_tokens": 1, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}},
        {
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": -2},
        },
        {
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": -2},
        },
        {"prompt_tokens": 9, "total_tokens": 5},
        {"prompt_tokens": 9},
        {"total_tokens": 9},
    ],
)
def test_what_is_not_believed_leaves_the_estimate(told: dict[str, Any]) -> None:
    """Nothing of a report counts where a part of it is wrong or missing."""
    usage = Usage(7, 3)
    assert not note_usage(usage, json.dumps(told).encode())
    assert usage == Usage(7, 3)


def test_what_is_believed_takes_the_place_of_the_estimate() -> None:
    """All that is told, nulls and all, and what was guessed is gone."""
    usage = Usage(7, 3)
    told = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": None}
    assert note_usage(usage, json.dumps(told).encode())
    assert usage == Usage(9, 5, reported=True)
