"""Ollama's own chat (``/api/chat``, lines of JSON), as a provider speaks it.

Its form: https://github.com/ollama/ollama/blob/main/docs/api.md#generate-a-chat-completion
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects import _canonical as form
from proxy_core.dialects import _upstream as shared
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._body import fresh_call_id
from proxy_core.dialects._codec import Frame, Losses, StreamReader
from proxy_core.dialects._effort import nearest_effort
from proxy_core.dialects._fold import folded

__all__ = ["OLLAMA_CODEC", "OllamaCodec"]

_WHO: Final = "Ollama's chat"
_OPTIONS: Final = MappingProxyType(
    {"max_tokens": "num_predict"}
    | {name: name for name in ("temperature", "top_p", "top_k", "seed", "stop")}
    | {name: name for name in ("presence_penalty", "frequency_penalty")}
)
_STOPS: Final[Mapping[str, form.StopReason]] = MappingProxyType({"length": "length"})
_EFFORTS: Final = ("none", "low", "medium", "high")


class OllamaCodec:
    """Requests and answers of Ollama. Its tools can't be demanded, its pictures are base64."""

    dialect = "ollama.chat"

    def write_request(
        self, conversation: form.Conversation, model: str, can: Abilities, losses: Losses
    ) -> dict[str, Any]:
        options = shared.wishes(conversation, can, losses, _WHO, _OPTIONS)
        shared.lose_marks(conversation, self.dialect, losses)
        functions = msgspec.structs.replace(can, strict_tools=False)
        tools = shared.tools_for(conversation, functions, losses, _WHO)
        body: dict[str, Any] = {"model": model, "stream": conversation.stream, "options": options}
        body["messages"] = list(_messages(conversation, can, losses))
        choice = conversation.tool_choice
        if choice is not None and choice.mode in ("required", "named"):
            losses.drop("tool_choice", "Ollama can't demand a tool", grave=True)
        if tools and (choice is None or choice.mode != "none"):
            body["tools"] = [shared.function_of(tool) for tool in tools]
        output = conversation.output
        if shared.takes_output(conversation, can, losses) and output is not None:
            body["format"] = output.schema if output.kind == "schema" else "json"
        return body | _think(conversation, can, losses)

    def read_answer(self, body: Mapping[str, Any]) -> form.Answer:
        reader = _Reader()
        return folded([*reader.take(shared.read_whole(body, _Line)), *reader.end()])

    def stream_reader(self) -> StreamReader:
        return _Reader()


def _think(conversation: form.Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    wish = conversation.reasoning
    if wish is None:
        return {}
    if not can.reasoning:
        losses.drop("reasoning_effort", "the model does not think")
        return {}
    effort = shared.effort_wished(wish)
    if effort is None and wish.enabled is None:
        return {}
    if effort is None or "effort" not in can.reasoning:
        return {"think": effort != "none"}
    nearest = nearest_effort(effort, tuple(one for one in _EFFORTS if one in can.efforts))
    if nearest != effort:
        losses.drop("reasoning_effort", f"the nearest that Ollama knows is {nearest or 'a switch'}")
    return {"think": False if nearest == "none" else nearest or True}


def _messages(
    conversation: form.Conversation, can: Abilities, losses: Losses
) -> Iterator[dict[str, Any]]:
    calls = [p for turn in conversation.turns for p in turn.parts if isinstance(p, form.ToolCall)]
    names = {call.id: call.name for call in calls}
    places = {call.id: place for place, call in enumerate(calls)}
    for at, turn in enumerate(conversation.turns):
        results = [(n, p) for n, p in enumerate(turn.parts) if isinstance(p, form.ToolResult)]
        # Two results of one function are told apart by nothing but their calls' order.
        results.sort(key=lambda one: places.get(one[1].id, len(places)))
        for number, result in results:
            name = result.name or names.get(result.id, "")
            field = f"messages[{at}].content[{number}]"
            said = shared.result_text(result, field, losses, _WHO)
            yield {"role": "tool", "content": said, "tool_name": name}
        if not results:
            yield _message(turn, at, can, losses)


def _message(turn: form.Turn, at: int, can: Abilities, losses: Losses) -> dict[str, Any]:
    role = "system" if turn.role == "developer" else turn.role
    texts: list[str] = []
    told: dict[str, Any] = {"thinking": "", "images": [], "tool_calls": []}
    for number, part in enumerate(turn.parts):
        text = shared.plain_text(part)
        if text is not None:
            texts.append(text)
        elif isinstance(part, form.Reasoning):
            told["thinking"] += part.text
        elif isinstance(part, form.ToolCall):
            function = {"name": part.name, "arguments": shared.arguments_of(part)}
            told["tool_calls"].append({"function": function})
        elif isinstance(part, form.Media):
            if part.kind == "image" and part.source.kind == "base64" and can.images:
                told["images"].append(part.source.data)
            else:
                why = "Ollama takes pictures in base64, and nothing else than pictures and text"
                losses.drop(f"messages[{at}].content[{number}]", why, grave=True)
    return {"role": role, "content": "".join(texts)} | {k: v for k, v in told.items() if v}


class _Function(msgspec.Struct):
    name: str
    arguments: dict[str, Any] | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    model: str = ""
    created_at: str = ""
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    error: Any = None


_LINES: Final = msgspec.json.Decoder(_Line)


class _Reader(shared.PartsReader):
    def __init__(self) -> None:
        super().__init__()
        self._begun = self._called = False

    def read(self, frame: Frame) -> list[form.Event]:
        return self.take(shared.read_frame(frame.data, _LINES))

    def take(self, line: _Line) -> list[form.Event]:
        if line.error is not None:
            self._ended = True
            return [form.Broken(failure_in_body(msgspec.json.encode(line.error)))]
        events: list[form.Event] = []
        if not self._begun:
            self._begun = True
            events.append(form.Begun(id="", model=line.model, created=_unix(line.created_at)))
        if line.message is not None:
            events += self._said(line.message)
        return events + self._done(line) if line.done else events

    def _said(self, message: _Message) -> Iterator[form.Event]:
        if message.thinking:
            yield from self._parts.close_but("thinking")
            yield from self._parts.piece("thinking", form.Reasoning(), text=message.thinking)
        if message.content:
            yield from self._parts.close_but("text")
            yield from self._parts.piece("text", form.Text(text=""), text=message.content)
        for call in message.tool_calls or ():
            self._called = True
            yield from self._parts.close_but()
            opened = form.ToolCall(
                id=call.id or fresh_call_id(), name=call.function.name, arguments=""
            )
            arguments = msgspec.json.encode(call.function.arguments or {}).decode()
            yield from self._parts.piece("call", opened, text=arguments)
            yield from self._parts.close("call")

    def _done(self, line: _Line) -> list[form.Event]:
        self._ended = True
        stop = _STOPS.get(line.done_reason or "", "tool_calls" if self._called else "end")
        asked, said = shared.count_of(line.prompt_eval_count), shared.count_of(line.eval_count)
        usage = Usage(asked or 0, said or 0, reported=said is not None)
        return [*self._parts.close_but(), form.Finished(stop=stop), form.Counted(usage)]


def _unix(date: str) -> int:
    try:
        return int(datetime.fromisoformat(date).timestamp())
    except (ValueError, OverflowError):
        return 0


OLLAMA_CODEC: Final = OllamaCodec()
