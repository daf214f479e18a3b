"""Messages into turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from proxy_core.dialects._canonical import (
    Media,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from proxy_core.dialects._chat._parts_in import cache_of, read_content, read_texts
from proxy_core.dialects._chat._reasoning import in_places
from proxy_core.dialects._chat._wire import (
    as_dict,
    as_list,
    citations_of,
    image_of,
    signature_in,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._reading import Value

__all__ = ["read_messages"]

_ROLES: Final = ("developer", "system", "user", "assistant", "tool", "function")
_OF_ALL: Final = ("role", "content", "name", "cache_control")
_OF_ASSISTANT: Final = (
    *("audio", "refusal", "tool_calls", "function_call", "annotations", "images"),
    *("reasoning_content", "reasoning", "reasoning_details", "extra_content"),
)


def read_messages(messages: Value, losses: Losses) -> tuple[Turn, ...]:
    """The turns. Raises InvalidRequest."""
    reader = _Reader(losses)
    for message in messages.items():
        reader.read(message)
        losses.places += [message.path] * (len(reader.turns) - len(losses.places))
    return tuple(reader.turns)


class _Reader:
    """Keeps the calls in mind, for a result does not say the name of its tool."""

    def __init__(self, losses: Losses) -> None:
        self.turns: list[Turn] = []
        self._losses = losses
        self._calls: dict[str, ToolCall] = {}
        self._functions: dict[str, str] = {}

    def read(self, message: Value) -> None:
        match message.field("role").one_of(*_ROLES):
            case "assistant":
                self._assistant(message)
            case "tool":
                message.lose_others(self._losses, *_OF_ALL, "tool_call_id")
                self._result(message, message.field("tool_call_id").text())
            case "function":
                message.lose_others(self._losses, *_OF_ALL)
                name = message.field("name").text()
                self._result(message, self._functions.get(name, _old_id(message)))
            case "user":
                self._said(message, "user")
            case "system":
                self._said(message, "system")
            case _:
                self._said(message, "developer")

    def _said(self, message: Value, role: Literal["user", "system", "developer"]) -> None:
        message.lose_others(self._losses, *_OF_ALL)
        parts = read_texts(message.field("content"), self._losses)
        turn = Turn(role=role, parts=_marked(message, parts), name=message.maybe_text("name"))
        self.turns.append(turn)

    def _result(self, message: Value, id: str) -> None:
        call = self._calls.get(id)
        result = ToolResult(
            id=id,
            name=message.maybe_text("name") or (call.name if call else ""),
            parts=tuple(read_texts(message.field("content"), self._losses)),
            custom=call.custom if call else False,
            cache=cache_of(message),
        )
        last = self.turns[-1] if self.turns else None
        if last is not None and last.role == "tool":
            self.turns[-1] = msgspec.structs.replace(last, parts=(*last.parts, result))
        else:
            self.turns.append(Turn(role="tool", parts=(result,)))

    def _assistant(self, message: Value) -> None:
        message.lose_others(self._losses, *_OF_ALL, *_OF_ASSISTANT)
        content = message.maybe("content")
        said = [] if content is None else read_content(content, self._losses)
        parts = _annotated(said, message)
        refusal = message.maybe_text("refusal")
        if refusal:
            parts.append(Refusal(text=refusal))
        parts += filter(None, map(image_of, as_list(message.fields().get("images"))))
        audio = message.maybe("audio")
        if audio is not None:
            spoken = audio.field("id").text()
            source = Source(kind="file", data=spoken)
            parts.append(Media(kind="audio", source=source, id=spoken))
        for call in message.maybe_items("tool_calls"):
            parts.append(self._call(call))
        older = message.maybe("function_call")
        if older is not None:
            old_id = _old_id(message)
            parts.append(self._function_call(older, old_id))
            self._functions[older.field("name").text()] = old_id
        parts = _with_thinking(message, parts)
        self._calls |= {part.id: part for part in parts if isinstance(part, ToolCall)}
        name = message.maybe_text("name")
        self.turns.append(Turn(role="assistant", parts=_marked(message, parts), name=name))

    def _call(self, call: Value) -> ToolCall:
        call_id = call.field("id").text()
        kind = call.maybe_text("type") or "function"
        signature, mark = signature_in(call.fields()), cache_of(call)
        if kind == "custom":
            said = call.field("custom")
            name, text = said.field("name").text(), said.field("input").text()
            read = ToolCall(id=call_id, name=name, arguments=text, custom=True)
        else:
            read = self._function_call(call.field("function"), call_id)
        return msgspec.structs.replace(read, signature=signature, cache=mark)

    def _function_call(self, said: Value, id: str) -> ToolCall:
        name, arguments = said.field("name").text(), said.maybe("arguments")
        text = "" if arguments is None else self._arguments(arguments)
        return ToolCall(id=id, name=name, arguments=(text.strip() and text) or "{}")

    def _arguments(self, arguments: Value) -> str:
        """JSON text of an object. A model may have got it wrong, and then sees what it wrote."""
        if isinstance(arguments.json, dict):
            return msgspec.json.encode(arguments.json).decode()
        text = arguments.text()
        if not text.strip() or _is_object(text):
            return text
        self._losses.drop(arguments.path, "it is no JSON object, and stands as the text of '_raw'")
        return msgspec.json.encode({"_raw": text}).decode()


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


def _old_id(message: Value) -> str:
    """For the deprecated calls that have none: the message's own place."""
    return "call_" + "".join(letter for letter in message.path if letter.isalnum())


def _with_thinking(message: Value, parts: list[Part]) -> list[Part]:
    for name in ("reasoning_content", "reasoning"):
        message.maybe_text(name)
    for detail in message.maybe_items("reasoning_details"):
        detail.fields()
    return in_places(message.fields(), parts)


def _annotated(parts: list[Text | Media | Refusal], message: Value) -> list[Part]:
    """The last text bears the message's citations and its signature."""
    fields = as_dict(message.fields())
    citations, signature = citations_of(fields.get("annotations")), signature_in(fields)
    at = next((n for n in reversed(range(len(parts))) if isinstance(parts[n], Text)), None)
    if at is not None and (citations or signature):
        parts[at] = msgspec.structs.replace(parts[at], citations=citations, signature=signature)
    return list(parts)


def _marked(message: Value, parts: Sequence[Part]) -> tuple[Part, ...]:
    """A mark on the whole message is one on its last part that can bear it."""
    mark = cache_of(message)
    if mark is None or not parts or isinstance(parts[-1], Reasoning | Refusal):
        return tuple(parts)
    return (*parts[:-1], msgspec.structs.replace(parts[-1], cache=mark))
