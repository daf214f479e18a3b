"""Signatures of tool calls and of the thinking before them, for clients that don't keep them.

Anthropic refuses a history with thinking whose tool call comes without its signed block, Gemini 3
one whose call has no ``thoughtSignature`` (https://ai.google.dev/gemini-api/docs/thought-signatures
and https://platform.claude.com/docs/en/build-with-claude/extended-thinking). Most clients that
speak OpenAI's chat bring neither back: they are found again by the id of the call.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from proxy_core.dialects._canonical import (
    Answer,
    Conversation,
    Event,
    Finished,
    Opened,
    Part,
    Piece,
    Reasoning,
    Signature,
    ToolCall,
    Turn,
)

__all__ = ["SignatureMemory"]

_MOST: Final = 10_000
_MOST_BYTES: Final = 16 * 1024 * 1024
_LONGEST: Final = 512 * 1024
"""Bytes of the thinking of one call; more is not kept."""
_TTL: Final = 3600.0
_OVERHEAD: Final = 400
"""Bytes of an entry besides its texts."""


class _Kept(NamedTuple):
    until: float
    size: int
    signature: Signature | None
    reasoning: tuple[Reasoning, ...]


class SignatureMemory:
    """What was signed, by the id of the tool call; the oldest goes first.

    Ids are the provider's, and some providers number their calls: what was signed for one scope (a
    client's key) is found for that scope alone.

    Args:
        most: calls at most.
        most_bytes: of all that is kept.
        ttl: seconds since it was told or asked for.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        most: int = _MOST,
        most_bytes: int = _MOST_BYTES,
        ttl: float = _TTL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._ttl = ttl
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def shed(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.held_bytes = 0

    def remember(self, answer: Answer, scope: str = "") -> None:
        """Keep what a whole answer signed."""
        for choice in answer.choices:
            self.keep(choice.parts, scope)

    def listener(self, scope: str = "") -> SignatureListener:
        """What keeps the same of a stream."""
        return SignatureListener(self, scope)

    def keep(self, parts: Iterable[Part], scope: str = "") -> None:
        """Keep each call with its signature and the signed thinking since the call before."""
        thought: list[Reasoning] = []
        for part in parts:
            if isinstance(part, Reasoning) and part.signature is not None:
                thought.append(part)
            elif isinstance(part, ToolCall):
                if thought or part.signature is not None:
                    self._put(scope, part, tuple(thought))
                thought = []

    def restored(self, conversation: Conversation, origin: str, scope: str = "") -> Conversation:
        """The conversation with the signatures of dialect ``origin`` that its calls lack."""
        if not self._kept:
            return conversation
        turns = tuple(self._turn(turn, origin, scope) for turn in conversation.turns)
        return msgspec.structs.replace(conversation, turns=turns)

    def _turn(self, turn: Turn, origin: str, scope: str) -> Turn:
        if turn.role != "assistant" or not any(isinstance(p, ToolCall) for p in turn.parts):
            return turn
        is_signed = any(
            isinstance(part, Reasoning) and _is_of(part.signature, origin) for part in turn.parts
        )
        parts: list[Part] = []
        has_call = has_thought = False
        for given in turn.parts:
            part = given
            kept = self._find(scope, part.id) if isinstance(part, ToolCall) else None
            if kept is not None:
                if _is_of(kept.signature, origin) and not _is_of(_signature(part), origin):
                    part = msgspec.structs.replace(part, signature=kept.signature)
                thought = [one for one in kept.reasoning if _is_of(one.signature, origin)]
                if thought and not is_signed:
                    # Thinking stands first in its turn, that between two calls where it was.
                    at = len(parts) if has_call else 0
                    parts[at:at] = thought
                    has_thought = True
            has_call = has_call or isinstance(part, ToolCall)
            parts.append(part)
        if has_thought:  # what the client has of it says the same without a proof
            parts = [p for p in parts if not (isinstance(p, Reasoning) and p.signature is None)]
        return msgspec.structs.replace(turn, parts=tuple(parts))

    def _find(self, scope: str, call_id: str) -> _Kept | None:
        at = (scope, call_id)
        kept = self._kept.get(at)
        if kept is None:
            return None
        now = self._clock()
        if kept.until <= now:
            self._drop(at)
            return None
        self._kept[at] = kept._replace(until=now + self._ttl)
        self._kept.move_to_end(at)
        return kept

    def _put(self, scope: str, call: ToolCall, reasoning: tuple[Reasoning, ...]) -> None:
        at = (scope, call.id)
        size = _OVERHEAD + len(scope) + len(call.id) + _size(call.signature)
        size += sum(len(one.text) + _size(one.signature) for one in reasoning)
        if size > _LONGEST:
            return
        if at in self._kept:
            self._drop(at)
        now = self._clock()
        self._kept[at] = _Kept(now + self._ttl, size, call.signature, reasoning)
        self.held_bytes += size
        while len(self._kept) > self._most or self.held_bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, at: tuple[str, str]) -> None:
        self.held_bytes -= self._kept.pop(at).size


class SignatureListener:
    """Hears one stream, and keeps what it signed when a choice ends."""

    __slots__ = ("_memory", "_parts", "_scope", "_size")

    def __init__(self, memory: SignatureMemory, scope: str = "") -> None:
        self._memory = memory
        self._scope = scope
        self._parts: dict[tuple[int, int], _Heard] = {}
        self._size = 0

    def hear(self, event: Event) -> None:
        if isinstance(event, Piece):
            heard = self._parts.get((event.choice, event.index))
            if heard is not None and self._size <= _LONGEST:
                heard.signature = event.signature or heard.signature
                if event.text and isinstance(heard.part, Reasoning):
                    heard.texts.append(event.text)
                    self._size += len(event.text)
        elif isinstance(event, Opened):
            if isinstance(event.part, Reasoning | ToolCall):
                self._parts[event.choice, event.index] = _Heard(event.part)
        elif isinstance(event, Finished) and self._size <= _LONGEST:
            mine = sorted(at for at in self._parts if at[0] == event.choice)
            self._memory.keep([self._parts.pop(at).whole() for at in mine], self._scope)


class _Heard:
    __slots__ = ("part", "signature", "texts")

    def __init__(self, part: Reasoning | ToolCall) -> None:
        self.part = part
        self.signature = part.signature
        self.texts: list[str] = []

    def whole(self) -> Part:
        if isinstance(self.part, ToolCall):
            return msgspec.structs.replace(self.part, signature=self.signature)
        text = self.part.text + "".join(self.texts)
        return msgspec.structs.replace(self.part, text=text, signature=self.signature)


def _signature(part: Part) -> Signature | None:
    return part.signature if isinstance(part, ToolCall) else None


def _is_of(signature: Signature | None, origin: str) -> bool:
    return signature is not None and signature.origin == origin


def _size(signature: Signature | None) -> int:
    return 0 if signature is None else len(signature.value)
