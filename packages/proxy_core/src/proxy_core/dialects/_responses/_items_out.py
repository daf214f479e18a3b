"""Turns into items for an upstream."""

from __future__ import annotations

from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Media,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._responses._citations import annotation
from proxy_core.dialects._responses._content import written_part
from proxy_core.dialects._responses._words import DIALECT

__all__ = ["Item", "written_turns"]

Item = dict[str, Any]

_MARKER: Final = "[System message]\n"


def written_turns(turns: tuple[Turn, ...], can: Abilities, losses: Losses) -> list[Item]:
    """The items of these turns, in their order."""
    writer = _Items(can, losses)
    begun = False
    for at, turn in enumerate(turns):
        is_system = turn.role in ("system", "developer")
        begun = begun or not is_system
        writer.turn(turn, f"messages[{at}]", late=begun and is_system)
    return writer.items


class _Items:
    def __init__(self, can: Abilities, losses: Losses) -> None:
        self.items: list[Item] = []
        self._can = can
        self._losses = losses

    def turn(self, turn: Turn, field: str, *, late: bool) -> None:
        if turn.name is not None:
            self._losses.drop(f"{field}.name", "OpenAI's Responses have no names of speakers")
        if turn.role == "assistant":
            self._assistant(turn.parts, field)
        elif turn.role == "tool":
            for at, part in enumerate(turn.parts):
                if isinstance(part, ToolResult):
                    self._result(part, f"{field}.content[{at}]")
        elif late and not self._can.late_system:
            self._losses.drop(f"{field}.role", "this model takes system messages at the start only")
            marked = (Text(text=_MARKER), *turn.parts)
            self._message("user", marked, field)
        else:
            self._message(turn.role, turn.parts, field)

    def _message(self, role: str, parts: tuple[Part, ...], field: str) -> None:
        content = self._content(parts, field)
        if content or not parts:
            self.items.append({"type": "message", "role": role, "content": _short(content)})

    def _content(self, parts: tuple[Part, ...], field: str) -> list[Item]:
        written = (
            written_part(part, f"{field}.content[{at}]", self._can, self._losses)
            for at, part in enumerate(parts)
        )
        return [part for part in written if part is not None]

    def _assistant(self, parts: tuple[Part, ...], field: str) -> None:
        said: list[Text | Refusal] = []
        for at, part in enumerate(parts):
            if isinstance(part, Text | Refusal):
                said.append(part)
                self._unsigned(part, field)
                continue
            self._say(said)
            said = []
            self._other(part, field, at)
        self._say(said)

    def _say(self, parts: list[Text | Refusal]) -> None:
        """One message. In its short form a text needs no id, and every server takes it."""
        if not parts:
            return
        only = parts[0]
        if len(parts) == 1 and isinstance(only, Text) and not only.citations:
            self.items.append({"type": "message", "role": "assistant", "content": only.text})
            return
        self.items.append(
            {
                "type": "message",
                "id": f"msg_{len(self.items)}",
                "role": "assistant",
                "status": "completed",
                "content": [_said(part) for part in parts],
            }
        )

    def _other(self, part: Part, field: str, at: int) -> None:
        match part:
            case ToolCall():
                self._unsigned(part, field)
                self.items.append(_call(part))
            case Reasoning():
                self._reasoning(part, field)
            case Media(kind="image") if part.source.kind == "base64":
                self._unsigned(part, field)
                self.items.append(
                    {
                        "type": "image_generation_call",
                        "id": f"ig_{len(self.items)}",
                        "status": "completed",
                        "result": part.source.data,
                    }
                )
            case _:
                kind = part.kind if isinstance(part, Media) else "such part"
                why = f"OpenAI's Responses take no {kind} of an assistant"
                self._losses.drop(f"{field}.content[{at}]", why, grave=True)

    def _reasoning(self, part: Reasoning, field: str) -> None:
        """Without OpenAI's own signature it is refused by OpenAI, and left out.

        OpenAI takes summaries alone, and a client of another dialect, which keeps no id, doesn't
        say that it was one. An id that isn't the item's own is refused; none is taken.
        """
        if part.signature is None or part.signature.origin != DIALECT:
            self._losses.drop(f"{field}.reasoning", "only reasoning signed by OpenAI can be sent")
            return
        text, named = part.text, {} if part.id is None else {"id": part.id}
        item: Item = {"type": "reasoning", **named, "summary": []}
        if text and (part.summary or part.id is None):
            item["summary"] = [{"type": "summary_text", "text": text}]
        elif text:
            item["content"] = [{"type": "reasoning_text", "text": text}]
        self.items.append({**item, "encrypted_content": part.signature.value})

    def _unsigned(self, part: Part, field: str) -> None:
        if isinstance(part, Text | ToolCall | Media) and part.signature is not None:
            self._losses.drop(f"{field}.reasoning", "a signature of another provider")

    def _result(self, part: ToolResult, field: str) -> None:
        if part.is_error:
            self._losses.drop(
                f"{field}.is_error", "OpenAI's Responses don't say that a tool failed"
            )
        kind = "custom_tool_call_output" if part.custom else "function_call_output"
        output = _short(self._content(part.parts, field))
        self.items.append({"type": kind, "call_id": part.id, "output": output})


def _short(content: list[Item]) -> str | list[Item]:
    """A lone text as a string: every server takes that."""
    if not content:
        return ""
    only = content[0]
    return only["text"] if len(content) == 1 and only["type"] == "input_text" else content


def _said(part: Text | Refusal) -> Item:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    cited = [annotation(one) for one in part.citations]
    return {"type": "output_text", "text": part.text, "annotations": cited}


def _call(part: ToolCall) -> Item:
    named = {"call_id": part.id, "name": part.name}
    if part.custom:
        return {"type": "custom_tool_call", **named, "input": part.arguments}
    return {"type": "function_call", **named, "arguments": part.arguments}
