"""The turns of a conversation as Anthropic's messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._anthropic._citations import citation_told, is_whole
from proxy_core.dialects._anthropic._media import write_media
from proxy_core.dialects._anthropic._words import DIALECT, object_of, safe_id
from proxy_core.dialects._canonical import (
    CacheMark,
    Media,
    Part,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import Losses
from proxy_core.errors import InvalidRequest

__all__ = ["Block", "TurnWriter", "cache_told"]

Block = dict[str, Any]

_SYSTEM: Final = frozenset({"system", "developer"})
_FOREIGN: Final = "reasoning that another provider signed, or nobody, is worth nothing to Anthropic"


class TurnWriter:
    """Writes the turns of one conversation. What can't be carried goes to ``losses``."""

    def __init__(self, can: Abilities, losses: Losses) -> None:
        self._can = can
        self._losses = losses

    def write(self, turns: tuple[Turn, ...]) -> tuple[list[Block], list[Block]]:
        """The blocks of ``system``, and the messages."""
        first = next((at for at, turn in enumerate(turns) if turn.role not in _SYSTEM), len(turns))
        numbered = list(enumerate(turns))
        system = [block for at, turn in numbered[:first] for block in self._texts(turn, at)]
        messages: list[Block] = []
        for at, turn in _results_first(numbered[first:]):
            if turn.name is not None:
                self._losses.drop(f"messages[{at}].name", "Anthropic's messages have no names")
            role, blocks = self._message(turn, at)
            if not blocks:
                continue
            _add(messages, role, blocks)
        messages = _placed(messages, late_system=self._can.late_system)
        _without_last_blank(messages)
        return system, messages

    def cache(self, mark: CacheMark | None) -> Block:
        """The field for a mark, or nothing."""
        if mark is None:
            return {}
        if not self._can.cache_marks:
            self._losses.drop("cache_control", "this model's prompts can't be marked for caching")
            return {}
        return {"cache_control": cache_told(mark)}

    def _message(self, turn: Turn, at: int) -> tuple[str, list[Block]]:
        if turn.role in _SYSTEM:
            return "system", self._texts(turn, at)
        where = f"messages[{at}]"
        written = []
        for number, part in enumerate(turn.parts):
            block = self._block(part, turn.role, where, f"{where}.content[{number}]")
            if block is not None:
                written.append(block)
        return ("assistant" if turn.role == "assistant" else "user"), written

    def _texts(self, turn: Turn, at: int) -> list[Block]:
        """A system turn: it holds nothing but text."""
        blocks = []
        for number, part in enumerate(turn.parts):
            where = f"messages[{at}].content[{number}]"
            if isinstance(part, Text):
                blocks.append(self._text(part, where))
            else:
                self._losses.drop(where, "a system prompt is text alone", grave=True)
        return [block for block in blocks if block is not None]

    def _block(self, part: Part, role: str, turn: str, where: str) -> Block | None:
        if isinstance(part, Text | Media | ToolCall):
            self._note_signature(part.signature, turn)
        match part:
            case Text():
                return self._text(part, where)
            case Refusal():
                return self._text(Text(text=part.text), where)
            case Media():
                return self._media(part, role, where)
            case ToolCall():
                return self._call(part, where)
            case ToolResult():
                return self._result(part, where)
            case _:
                return self._reasoning(part, turn)

    def _text(self, part: Text, where: str) -> Block | None:
        if not part.text.strip():
            return None  # Anthropic refuses blocks of blanks
        block: Block = {"type": "text", "text": part.text, **self.cache(part.cache)}
        if part.citations:
            kept = [citation_told(one) for one in part.citations if is_whole(one)]
            if len(kept) < len(part.citations):
                self._losses.drop(f"{where}.citations", "Anthropic takes back only its own")
            for told in kept:
                told.pop("file_id", None)
            if kept:
                block["citations"] = kept
        return block

    def _media(self, part: Media, role: str, where: str) -> Block | None:
        if role == "assistant":
            self._losses.drop(where, "an assistant's message holds no media here", grave=True)
            return None
        block = write_media(part, where, self._can, self._losses)
        return None if block is None else block | self.cache(part.cache)

    def _call(self, part: ToolCall, where: str) -> Block:
        given = {"input": part.arguments} if part.custom else object_of(part.arguments)
        if given is None:
            raise InvalidRequest(
                f"The arguments of the call {part.id!r} to {part.name!r} in {where} are no JSON "
                "object: send the arguments as the model gave them, or {}.",
                param=where,
            )
        return {
            "type": "tool_use",
            "id": safe_id(part.id),
            "name": part.name,
            "input": given,
            **self.cache(part.cache),
        }

    def _result(self, part: ToolResult, where: str) -> Block:
        """Marks for the cache stand on the result itself, never inside of it."""
        content: list[Block] = []
        mark = part.cache
        for number, inner in enumerate(part.parts):
            inside = f"{where}.content[{number}]"
            mark = mark or inner.cache
            if isinstance(inner, Text):
                block = self._text(inner, inside)
            else:
                block = write_media(inner, inside, self._can, self._losses)
            if block is not None:
                block.pop("cache_control", None)
                content.append(block)
        told: Block = {"type": "tool_result", "tool_use_id": safe_id(part.id)}
        if content:
            told["content"] = content
        if part.is_error:
            told["is_error"] = True
        return told | self.cache(mark)

    def _reasoning(self, part: Reasoning, turn: str) -> Block | None:
        signature = part.signature
        if signature is None or signature.origin != DIALECT:
            self._losses.drop(f"{turn}.reasoning", _FOREIGN)
            return None
        if part.redacted:
            return {"type": "redacted_thinking", "data": signature.value}
        return {"type": "thinking", "thinking": part.text, "signature": signature.value}

    def _note_signature(self, signature: Signature | None, turn: str) -> None:
        if signature is not None:
            self._losses.drop(f"{turn}.reasoning", "Anthropic signs no texts or calls")


def cache_told(mark: CacheMark) -> Block:
    return {"type": "ephemeral"} if mark.ttl is None else {"type": "ephemeral", "ttl": mark.ttl}


def _results_first(turns: Iterable[tuple[int, Turn]]) -> Iterator[tuple[int, Turn]]:
    """Between two of an assistant's turns, results of its calls come before all else."""
    waiting: list[tuple[int, Turn]] = []
    for at, turn in turns:
        if turn.role == "assistant":
            yield from waiting
            waiting = []
        if turn.role in {"assistant", "tool"}:
            yield at, turn
        else:
            waiting.append((at, turn))
    yield from waiting


def _add(messages: list[Block], role: str, blocks: list[Block]) -> None:
    """Messages of one role that follow each other are one."""
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += blocks
    else:
        messages.append({"role": role, "content": blocks})


def _placed(messages: list[Block], *, late_system: bool) -> list[Block]:
    """System messages where they may stand, and all others as the user's text, marked.

    They may behind a user's message, as the last one or before an assistant's:
    https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages.
    """
    placed: list[Block] = []
    for message, after in zip_longest(messages, messages[1:]):
        role, blocks = message["role"], message["content"]
        follows = bool(placed) and placed[-1]["role"] == "user"
        may_stand = follows and (after is None or after["role"] == "assistant")
        if role == "system" and not (late_system and may_stand):
            role = "user"
            for text in blocks:
                text["text"] = f"<system>{text['text']}</system>"
        _add(placed, role, blocks)
    return placed


def _without_last_blank(messages: list[Block]) -> None:
    """An assistant's last words must not end with a blank."""
    if messages and messages[-1]["role"] == "assistant":
        last = messages[-1]["content"][-1]
        if last["type"] == "text":
            last["text"] = last["text"].rstrip()
