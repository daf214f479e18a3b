"""Counting tokens: honest about what it knows."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_context import TokenCounter, estimate_tokens
from proxy_context.errors import SettingsError


class Words:
    """An encoder whose tokens are words."""

    def encode_ordinary(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a token counter must not reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("text", "tokens", "most"),
    [
        ("The quick brown fox jumps over the lazy dog.", 10, 1.6),
        ('{"id": 17, "name": "n17", "ok": true, "v": 23.29}', 25, 1.5),
        ("def add(a: int, b: int) -> int:\n    return a + b\n", 19, 1.6),
        ("今天天气很好,我们去公园散步吧。", 18, 1.6),
    ],
)
def test_estimates_lean_high(text: str, tokens: int, most: float) -> None:
    """The estimate is not below the count of o200k_base and cl100k_base, and not far above it."""
    assert tokens <= estimate_tokens(text) <= tokens * most


@given(st.text(), st.text())
def test_estimates_add_up(one: str, other: str) -> None:
    """Text costs something, more text costs no less, and parts cost no less than the whole."""
    whole = estimate_tokens(one + other)
    assert max(estimate_tokens(one), estimate_tokens(other)) <= whole
    assert whole <= estimate_tokens(one) + estimate_tokens(other)
    assert (whole == 0) == (not one + other)


def test_without_an_encoding_counts_are_estimates() -> None:
    """A counter that was told nothing estimates and says so."""
    counter = TokenCounter()
    assert counter.count("hello, world") == estimate_tokens("hello, world")
    assert not counter.exact
    assert counter.reason == "no encoding was named"


def test_an_encoder_is_exact() -> None:
    """Any object that encodes makes the count exact."""
    counter = TokenCounter(Words())
    assert counter.exact
    assert counter.reason == ""
    assert counter.count("one two three") == 3


def test_no_table_no_exact_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the right table counts are estimates, and the reason is told."""
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    assert "TIKTOKEN_CACHE_DIR is not set" in TokenCounter("o200k_base").reason
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    counter = TokenCounter("o200k_base")
    assert "is missing" in counter.reason
    table = tmp_path / "fb374d419588a4632f3f557e76b4b70aebbca790"
    table.write_bytes(b"AA== 0\n")
    counter = TokenCounter("o200k_base")
    assert "is not the table of o200k_base" in counter.reason
    assert not counter.exact
    assert counter.count("abc") == estimate_tokens("abc")
    assert table.exists()


def test_an_unknown_encoding_is_refused() -> None:
    """A name that is no encoding is an error that lists the names."""
    with pytest.raises(
        SettingsError, match="'gpt' is unknown: give one of cl100k_base, o200k_base"
    ):
        TokenCounter("gpt")
