"""OpenAI's tools of free text, for upstreams that have none: functions of one text.

A client gets its calls back as calls of such tools. Codex's ``apply_patch`` is one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import msgspec

from proxy_core.dialects._canonical import (
    Answer,
    Closed,
    Conversation,
    Event,
    Opened,
    Part,
    Piece,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)

__all__ = ["CustomCalls", "custom_names", "without_customs"]

_ONE_TEXT: Final = MappingProxyType(
    {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
)
_replace = msgspec.structs.replace


def custom_names(conversation: Conversation) -> frozenset[str]:
    """The names of its tools of free text."""
    return frozenset(tool.name for tool in conversation.tools if tool.kind == "custom")


def without_customs(conversation: Conversation) -> Conversation:
    """The same with functions in their place, also where earlier turns have called them."""
    return _replace(
        conversation,
        tools=tuple(
            _function(tool) if tool.kind == "custom" else tool for tool in conversation.tools
        ),
        turns=tuple(_plain_turn(turn) for turn in conversation.turns),
    )


def _function(tool: Tool) -> Tool:
    told = [tool.description] if tool.description else []
    if isinstance(tool.own, dict) and tool.own.get("definition"):
        told.append(f"Its input follows this {tool.own.get('syntax', '')} grammar:")
        told.append(str(tool.own["definition"]))
    return Tool(
        name=tool.name,
        description="\n\n".join(told) or None,
        parameters=dict(_ONE_TEXT),
        cache=tool.cache,
    )


def _plain_turn(turn: Turn) -> Turn:
    if not any(isinstance(part, ToolCall | ToolResult) and part.custom for part in turn.parts):
        return turn
    return _replace(turn, parts=tuple(_plain(part) for part in turn.parts))


def _plain(part: Part) -> Part:
    if isinstance(part, ToolResult):
        return _replace(part, custom=False)
    if isinstance(part, ToolCall) and part.custom:
        arguments = msgspec.json.encode({"input": part.arguments}).decode()
        return _replace(part, custom=False, arguments=arguments)
    return part


class CustomCalls:
    """Makes calls of functions with these names into calls of the client's own tools again.

    One for each answer: the text of a streamed call is told when all of it is there.
    """

    __slots__ = ("_names", "_open")

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._open: dict[tuple[int, int], list[str]] = {}

    def answer(self, answer: Answer) -> Answer:
        """A whole one."""
        answer.choices = tuple(
            _replace(choice, parts=tuple(self._part(part) for part in choice.parts))
            for choice in answer.choices
        )
        return answer

    def events(self, event: Event) -> list[Event]:
        """What a stream's event becomes."""
        if isinstance(event, Opened):
            return self._opened(event)
        if isinstance(event, Piece | Closed):
            held = self._open.get((event.choice, event.index))
            if held is not None:
                return self._more(event, held)
        return [event]

    def _part(self, part: Part) -> Part:
        if isinstance(part, ToolCall) and part.name in self._names and not part.custom:
            return _replace(part, custom=True, arguments=_text_of(part.arguments))
        return part

    def _opened(self, event: Opened) -> list[Event]:
        part = event.part
        if not isinstance(part, ToolCall) or part.name not in self._names or part.custom:
            return [event]
        self._open[event.choice, event.index] = [part.arguments]
        return [_replace(event, part=_replace(part, custom=True, arguments=""))]

    def _more(self, event: Piece | Closed, held: list[str]) -> list[Event]:
        if isinstance(event, Piece):
            held.append(event.text)
            return [] if event.signature is None else [_replace(event, text="")]
        del self._open[event.choice, event.index]
        text = _text_of("".join(held))
        said = Piece(index=event.index, choice=event.choice, text=text)
        return [said, event] if text else [event]


def _text_of(arguments: str) -> str:
    """The one text; what isn't such an object is given as it is."""
    try:
        read: Any = msgspec.json.decode(arguments.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return arguments
    text = read.get("input") if isinstance(read, dict) else None
    return text if isinstance(text, str) else arguments
