"""Cohere's chat (``/v2/chat``, event streams), as a provider speaks it.

Its form: https://docs.cohere.com/reference/chat and https://docs.cohere.com/reference/chat-stream
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects import _canonical as form
from proxy_core.dialects import _upstream as shared
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._codec import Frame, Losses, StreamReader
from proxy_core.dialects._effort import budget_of
from proxy_core.dialects._fold import folded
from proxy_core.errors import UpstreamFailed

__all__ = ["COHERE_CODEC", "CohereCodec"]

_T = TypeVar("_T")

_WHO: Final = "Cohere's chat"
_OPTIONS: Final = MappingProxyType(
    {"top_p": "p", "top_k": "k", "stop": "stop_sequences"}
    | {name: name for name in ("max_tokens", "temperature", "seed")}
    | {name: name for name in ("presence_penalty", "frequency_penalty")}
)
_STOPS: Final[Mapping[str, form.StopReason]] = MappingProxyType(
    {
        "COMPLETE": "end",
        "STOP_SEQUENCE": "stop_sequence",
        "MAX_TOKENS": "length",
        "TOOL_CALL": "tool_calls",
        "ERROR_LIMIT": "context_window",
        "ERROR_TOXIC": "content_filter",
    }
)
_DETAILS: Final = frozenset({"low", "high", "auto"})
_FAILED: Final = frozenset({"ERROR", "TIMEOUT"})
_CHOICES: Final = MappingProxyType({"none": "NONE", "required": "REQUIRED", "named": "REQUIRED"})


class CohereCodec:
    """Requests and answers of Cohere. A plan for tools (``tool_plan``) is reasoning."""

    dialect = "cohere.chat"

    def write_request(
        self, conversation: form.Conversation, model: str, can: Abilities, losses: Losses
    ) -> dict[str, Any]:
        body = shared.wishes(conversation, can, losses, _WHO, _OPTIONS)
        shared.lose_marks(conversation, self.dialect, losses, details=True)
        body |= {"model": model, "stream": conversation.stream}
        body["messages"] = list(_messages(conversation, can, losses))
        tools, choice = shared.tools_for(conversation, can, losses, _WHO), conversation.tool_choice
        if choice is not None and choice.mode == "named":
            tools = [tool for tool in tools if tool.name in choice.names]
        if tools:
            body["tools"] = [shared.function_of(tool) for tool in tools]
            if choice is not None and choice.mode in _CHOICES:
                body["tool_choice"] = _CHOICES[choice.mode]
            if can.strict_tools and any(tool.strict for tool in tools):
                body["strict_tools"] = True
        if shared.takes_output(conversation, can, losses) and conversation.output is not None:
            schema = conversation.output.schema
            body["response_format"] = {"type": "json_object"} | (
                {"json_schema": schema} if schema is not None else {}
            )
        return body | _thinking(conversation.reasoning, can, losses)

    def read_answer(self, body: Mapping[str, Any]) -> form.Answer:
        return folded(_events_of(shared.read_whole(body, _Whole)))

    def stream_reader(self) -> StreamReader:
        return _Reader()


def _thinking(wish: form.ReasoningWish | None, can: Abilities, losses: Losses) -> dict[str, Any]:
    if wish is None:
        return {}
    if not can.reasoning:
        losses.drop("reasoning_effort", "the model does not think")
        return {}
    effort = shared.effort_wished(wish)
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    budget = wish.budget or (None if effort is None else budget_of(effort))
    told = {"type": "enabled"} if budget is None else {"type": "enabled", "token_budget": budget}
    return {"thinking": told}


def _messages(
    conversation: form.Conversation, can: Abilities, losses: Losses
) -> Iterator[dict[str, Any]]:
    for at, turn in enumerate(conversation.turns):
        blocks: list[dict[str, Any]] = []
        message: dict[str, Any] = {"role": "system" if turn.role == "developer" else turn.role}
        calls: list[dict[str, Any]] = []
        # An assistant's content is text and thinking alone.
        able = can if turn.role == "user" else msgspec.structs.replace(can, images=False)
        for number, part in enumerate(turn.parts):
            field = f"messages[{at}].content[{number}]"
            if isinstance(part, form.ToolResult):
                said = shared.result_text(part, field, losses, _WHO)
                yield {"role": "tool", "tool_call_id": part.id, "content": said}
            elif isinstance(part, form.ToolCall):
                arguments = msgspec.json.encode(shared.arguments_of(part)).decode()
                function = {"name": part.name, "arguments": arguments}
                calls.append({"id": part.id, "type": "function", "function": function})
            else:
                blocks += _block(part, field, able, losses)
        if calls:
            plan = "".join(block.get("thinking", "") for block in blocks)
            blocks = [block for block in blocks if "thinking" not in block]
            message |= {"tool_calls": calls} | ({"tool_plan": plan} if plan else {})
        if blocks or calls:
            yield message | ({"content": blocks} if blocks else {})


def _block(part: form.Part, field: str, can: Abilities, losses: Losses) -> list[dict[str, Any]]:
    text = shared.plain_text(part)
    if text is not None:
        return [{"type": "text", "text": text}] if text else []
    if isinstance(part, form.Reasoning):
        return [{"type": "thinking", "thinking": part.text}] if part.text else []
    url = shared.image_url_of(part, can)
    if url is not None and isinstance(part, form.Media):
        detail = {"detail": part.detail} if part.detail in _DETAILS else {}
        return [{"type": "image_url", "image_url": {"url": url} | detail}]
    losses.drop(field, f"{_WHO} takes text and pictures, where the model does", grave=True)
    return []


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str = ""


class _Call(msgspec.Struct):
    id: str = ""
    function: _Function = msgspec.field(default_factory=_Function)


class _Content(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None


class _Citation(msgspec.Struct):
    start: int | None = None
    end: int | None = None
    sources: list[dict[str, Any]] | None = None
    content_index: int = 0


class _Message(msgspec.Struct):
    """Of a whole answer, where all are lists, and of an event, where all are one."""

    content: list[_Content] | _Content | None = None
    tool_plan: str | None = None
    tool_calls: list[_Call] | _Call | None = None
    citations: list[_Citation] | _Citation | None = None


class _Whole(msgspec.Struct):
    finish_reason: str
    message: _Message
    id: str = ""
    usage: dict[str, Any] | None = None


class _Delta(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    finish_reason: str | None = None
    error: str | None = None
    usage: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    type: str
    id: str | None = None
    index: int = 0
    delta: _Delta = msgspec.field(default_factory=_Delta)


_EVENTS: Final = msgspec.json.Decoder(_Event)


class _Reader(shared.PartsReader):
    def read(self, frame: Frame) -> list[form.Event]:
        return self.take(shared.read_frame(frame.data, _EVENTS))

    def take(self, event: _Event) -> list[form.Event]:
        message, parts = event.delta.message, self._parts
        match event.type:
            case "message-start":
                return [form.Begun(id=event.id or "", model="")]
            case "content-start" | "content-delta" if isinstance(message.content, _Content):
                return self._said(("content", event.index), message.content)
            case "tool-plan-delta" if message.tool_plan:
                return self._said("plan", _Content(thinking=message.tool_plan))
            case "tool-call-start" if isinstance(message.tool_calls, _Call):
                call = message.tool_calls
                opened = form.ToolCall(id=call.id, name=call.function.name, arguments="")
                started = parts.start(("call", event.index), opened)
                return [*parts.close_but(("call", event.index)), *started, *self._called(event)]
            case "tool-call-delta":
                return self._called(event)
            case "tool-call-end":
                return parts.close(("call", event.index))
            case "citation-start" if isinstance(message.citations, _Citation):
                return self._cited(message.citations)
            case "message-end":
                self._ended = True
                return [*parts.close_but(), *_end(event.delta)]
        return []

    def _said(self, key: object, content: _Content) -> list[form.Event]:
        # A text stays open until something else begins: its citations come last.
        closed, piece = self._parts.close_but(key), self._parts.piece
        if content.thinking:
            return [*closed, *piece(key, form.Reasoning(), text=content.thinking)]
        text = content.text
        return [*closed, *piece(key, form.Text(text=""), text=text)] if text else closed

    def _called(self, event: _Event) -> list[form.Event]:
        call, key = event.delta.message.tool_calls, ("call", event.index)
        if not isinstance(call, _Call) or key not in self._parts or not call.function.arguments:
            return []
        return self._parts.piece(key, form.Text(text=""), text=call.function.arguments)

    def _cited(self, citation: _Citation) -> list[form.Event]:
        key = ("content", citation.content_index)
        events: list[form.Event] = []
        for source in (citation.sources or [{}]) if key in self._parts else ():
            about = source.get("document")
            title = about.get("title") if isinstance(about, dict) else source.get("id")
            cited = form.Citation(
                kind="document",
                title=title if isinstance(title, str) else None,
                start=citation.start,
                end=citation.end,
            )
            events += self._parts.piece(key, form.Text(text=""), citation=cited)
        return events


def _end(delta: _Delta) -> list[form.Event]:
    if delta.error or delta.finish_reason in _FAILED:
        told = delta.error or f"the upstream ended its answer with {delta.finish_reason}"
        return [form.Broken(UpstreamFailed(told))]
    usage, tokens = delta.usage or {}, (delta.usage or {}).get("tokens")
    tokens = tokens if isinstance(tokens, dict) else {}
    asked, said = (shared.count_of(tokens.get(name)) for name in ("input_tokens", "output_tokens"))
    cached = shared.count_of(usage.get("cached_tokens")) or 0
    counted = Usage(
        asked or 0, said or 0, min(cached, asked or 0), reported=None not in (asked, said)
    )
    stop = _STOPS.get(delta.finish_reason or "", "end")
    return [form.Finished(stop=stop), form.Counted(counted)]


def _events_of(whole: _Whole) -> Iterator[form.Event]:
    """A whole answer by the events that would have told it."""
    reader, message = _Reader(), whole.message
    told = [("message-start", 0, _Message()), ("tool-plan-delta", 0, message)]
    for at, content in enumerate(_listed(message.content)):
        told.append(("content-start", at, _Message(content=content)))
        cited = (one for one in _listed(message.citations) if one.content_index == at)
        told += [("citation-start", 0, _Message(citations=one)) for one in cited]
    for at, call in enumerate(_listed(message.tool_calls)):
        told.append(("tool-call-start", at, _Message(tool_calls=call)))
    for kind, at, part in told:
        yield from reader.take(_Event(kind, whole.id, at, _Delta(part)))
    yield from reader.take(
        _Event("message-end", delta=_Delta(finish_reason=whole.finish_reason, usage=whole.usage))
    )


def _listed(value: list[_T] | _T | None) -> list[_T]:
    return value if isinstance(value, list) else []


COHERE_CODEC: Final = CohereCodec()
