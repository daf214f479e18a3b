"""Counting tokens: an estimate that leans high, and the exact count where a table is at hand."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from proxy_context.errors import SettingsError

__all__ = ["Encoder", "TokenCounter", "estimate_tokens"]

_LOWER = b" abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()[1:]
_HIGH = bytes(range(128, 256))

_TABLES = {
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
}
"""tiktoken's name of the cached file (SHA-1 of its address) and the SHA-256 of what is in it."""


def estimate_tokens(text: str) -> int:
    """About how many tokens ``text`` is, rounded up: 1.5 µs per KB, no table.

    A quarter token for a space or a small letter, one for a capital, 0.8 for any other ASCII, half
    a token for each further byte of UTF-8. Against cl100k_base and o200k_base (the larger of the
    two): prose and code in ten languages 1.1 to 2.3 times the count, JSON 1.2; too low on base64
    (0.9) and emoji (0.7). Leave a margin where that matters.
    """
    data = text.encode("utf-8", "surrogatepass")
    without_lower = data.translate(None, _LOWER)
    without_letters = without_lower.translate(None, _UPPER)
    ascii_rest = len(without_letters if text.isascii() else without_letters.translate(None, _HIGH))
    lower = len(data) - len(without_lower)
    upper = len(without_lower) - len(without_letters)
    high = len(without_letters) - ascii_rest
    return (5 * lower + 20 * upper + 16 * ascii_rest + 10 * high + 19) // 20


class Encoder(Protocol):
    """What can encode: tiktoken's ``Encoding`` has this method."""

    def encode_ordinary(self, text: str) -> Sequence[int]: ...


class TokenCounter:
    """Counts tokens, and says whether the count is exact.

    ``encoding`` is an object with ``encode_ordinary``, or ``"o200k_base"`` or ``"cl100k_base"``:
    exact when tiktoken is installed (the extra ``tokenizers``) and its table lies in
    ``$TIKTOKEN_CACHE_DIR``. Nothing is ever downloaded: without the table, and for None, counts are
    those of ``estimate_tokens``, ``exact`` is False, and ``reason`` says why. Raises SettingsError
    for any other name.
    """

    def __init__(self, encoding: str | Encoder | None = None) -> None:
        self.reason = ""
        """Why counts are estimates; empty when they are exact."""
        self._encoder: Encoder | None = None
        if encoding is None:
            self.reason = "no encoding was named"
        elif isinstance(encoding, str):
            self.reason = _obstacle(encoding)
            if not self.reason:
                self._encoder = importlib.import_module("tiktoken").get_encoding(encoding)
        else:
            self._encoder = encoding

    @property
    def exact(self) -> bool:
        return self._encoder is not None

    def count(self, text: str) -> int:
        """Tokens of ``text``; what looks like a special token is counted as plain text."""
        if self._encoder is None:
            return estimate_tokens(text)
        return len(self._encoder.encode_ordinary(text))


def _obstacle(encoding: str) -> str:
    """What keeps us from an exact count without the network, or an empty string."""
    if encoding not in _TABLES:
        raise SettingsError(
            f"encoding {encoding!r} is unknown: give one of {', '.join(sorted(_TABLES))}"
        )
    directory = os.environ.get("TIKTOKEN_CACHE_DIR")
    if not directory:
        return (
            f"TIKTOKEN_CACHE_DIR is not set: name the directory that holds the table of {encoding}"
        )
    name, digest = _TABLES[encoding]
    table = Path(directory, name)
    # Checked here because tiktoken fetches a table that is missing or that doesn't match.
    if not table.is_file():
        return f"{table} is missing: put the table of {encoding} there"
    if hashlib.sha256(table.read_bytes()).hexdigest() != digest:
        return f"{table} is not the table of {encoding}: its SHA-256 differs"
    if importlib.util.find_spec("tiktoken") is None:
        return "tiktoken is not installed: pip install proxy-context[tokenizers]"
    return ""
