"""How many tokens a prompt has, for clients that ask where the upstream can't say it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Final

import msgspec

from proxy_core._types import Call, Ready, Reply, Usage

__all__ = ["COUNTED", "Guess"]

COUNTED: Final[Mapping[str, str]] = MappingProxyType(
    {"anthropic.count_tokens": "input_tokens", "gemini.count_tokens": "totalTokens"}
)
"""Dialects that ask for nothing else, and the field of their answers."""
_BYTES: Final = 4
"""Of JSON for a token: what English text comes to with the tokenizers of the day."""
_ESTIMATED: Final = (b"x-llm-proxy-estimated", b"true")


class Guess:
    """An answer of our own, without asking anybody; its header says what it is."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __aenter__(self) -> Reply:
        call = self._call
        tokens = -(-len(call.body.raw) // _BYTES)
        raw = msgspec.json.encode({COUNTED[call.dialect]: tokens})
        now = time.monotonic()
        return Reply(Ready(raw), headers=[_ESTIMATED], usage=Usage(reported=True), content_at=now)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
