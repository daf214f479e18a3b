"""Canonical events into a client's chunks, as strict as the clients that read them.

What official SDKs do with odd chunks decides the rules: one id, created and model for all; the
role once; ``finish_reason`` null on all but the last of a choice; a call's id and name once;
``usage`` null on all but the last where it was asked for; ``[DONE]`` only after a whole answer.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._canonical import (
    Begun,
    Citation,
    Closed,
    Counted,
    Event,
    Finished,
    Json,
    Media,
    Opened,
    Part,
    Piece,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
)
from proxy_core.dialects._chat._answer_out import answer_id, spoken, tier_of, written_image
from proxy_core.dialects._chat._counts import written_usage
from proxy_core.dialects._chat._ends import finish_reason_of
from proxy_core.dialects._chat._reasoning import (
    UNSIGNED,
    Places,
    detail_kind,
    for_client,
    signature_fields,
)
from proxy_core.dialects._chat._wire import annotation_of, with_signature
from proxy_core.dialects._codec import Told

__all__ = ["ChatStreamWriter"]

_DONE: Final = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


class ChatStreamWriter:
    """One streamed answer for a client."""

    __slots__ = ("_choices", "_head", "_told", "_usage")

    def __init__(self, told: Told) -> None:
        self._told = told
        self._choices: dict[int, _Choice] = {}
        self._usage: Usage | None = None
        self._head: dict[str, Any] = {}

    def write(self, event: Event) -> bytes:
        """Whole events, or nothing."""
        match event:
            case Begun():
                self._head = self._begin(event)
                return self._begun(0)
            case Counted():
                self._usage = event.usage
                return b""
            case Opened() | Piece() | Closed() | Finished():
                return self._begun(event.choice) + self._of_choice(event)
            case _:
                return b""

    def end(self) -> bytes:
        """The usage, where it was asked for and told, and ``[DONE]``."""
        if self._usage is None or not self._told.conversation.include_usage:
            return _DONE
        return self._event({"choices": [], "usage": written_usage(self._usage)}) + _DONE

    def _begin(self, begun: Begun) -> dict[str, Any]:
        told = self._told
        head = {
            "id": answer_id(begun.id, told),
            "object": "chat.completion.chunk",
            "created": begun.created or told.created,
            "model": told.model,
        } | tier_of(begun.service_tier)
        return head | ({"usage": None} if told.conversation.include_usage else {})

    def _begun(self, choice: int) -> bytes:
        """The first chunk of a choice, once."""
        if choice in self._choices:
            return b""
        if not self._head:
            self._head = self._begin(Begun(id="", model=""))
        self._choices[choice] = _Choice(self._head["created"])
        return self._chunk(choice, {"role": "assistant", "content": ""})

    def _of_choice(self, event: Opened | Piece | Closed | Finished) -> bytes:
        choice = self._choices[event.choice]
        match event:
            case Opened():
                deltas = choice.opened(event.index, event.part)
            case Piece():
                deltas = choice.piece(event)
            case Closed():
                deltas = choice.closed(event.index)
            case _:
                reason = finish_reason_of(event.stop, called=choice.called)
                return self._chunk(event.choice, {}, finish=reason)
        logprobs = event.logprobs if isinstance(event, Piece) else None
        return b"".join(self._chunk(event.choice, delta, logprobs) for delta in deltas)

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: Json = None, finish: str | None = None
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": finish,
        }
        return self._event({"choices": [choice]})

    def _event(self, fields: dict[str, Any]) -> bytes:
        return b"data: " + _encode(self._head | fields) + b"\n\n"


class _Open:
    """A part while it is told."""

    __slots__ = ("number", "part", "said", "signature", "start")

    def __init__(self, part: Part, number: int, start: int) -> None:
        self.part = part
        self.number = number
        """Of the message's calls; of a detail of reasoning its place."""
        self.start = start
        """Characters of content before it."""
        self.said = False
        self.signature: Signature | None = None


class _Choice:
    """The deltas of one choice."""

    __slots__ = (
        "_calls",
        "_cites",
        "_created",
        "_length",
        "_open",
        "_pictures",
        "_places",
        "_signed",
    )

    def __init__(self, created: int) -> None:
        self._created = created
        self._open: dict[int, _Open] = {}
        # Official SDKs merge the entries of each list by their index, and want one in all of them.
        self._calls = 0
        self._cites = 0
        self._pictures = 0
        self._places = Places()
        self._length = 0
        self._signed = False

    @property
    def called(self) -> bool:
        return bool(self._calls)

    def opened(self, index: int, part: Part) -> list[dict[str, Any]]:
        """What is known of a part at once."""
        match part:
            case ToolCall():
                self._open[index] = _Open(part, self._calls, 0)
                self._calls += 1
                self._places.take(part)
                return self._call(self._open[index], part)
            case Reasoning():
                self._open[index] = _Open(part, 0, 0)
                return self._thought(self._open[index], part)
            case Text():
                self._open[index] = _Open(part, 0, self._length)
                cited = [self._cited(self._open[index], one) for one in part.citations]
                self._open[index].signature = part.signature
                return self._said(part, "content", part.text) + [one for one in cited if one]
            case Refusal():
                self._open[index] = _Open(part, 0, 0)
                return self._said(part, "refusal", part.text)
            case Media(kind="image"):
                picture = written_image(part) | {"index": self._pictures}
                self._pictures += 1
                self._places.take(part)
                return [{"images": [picture]}]
            case Media(kind="audio"):
                self._places.take(part)
                return [{"audio": spoken(part, self._created)}]
            case _:
                return []

    def piece(self, piece: Piece) -> list[dict[str, Any]]:
        """More of an open part."""
        part = self._open.get(piece.index)
        if part is None:
            return []
        if piece.signature is not None:
            part.signature = piece.signature
            return []
        if piece.citation is not None:
            cited = self._cited(part, piece.citation)
            return [cited] if cited else []
        match part.part:
            case ToolCall():
                part.said = part.said or bool(piece.text)
                return self._arguments(part, part.part, piece.text)
            case Reasoning():
                return self._more_thought(part, part.part, piece.text)
            case Refusal():
                return self._said(part.part, "refusal", piece.text)
            case _ if piece.text:
                return self._said(part.part, "content", piece.text)
            case _ if piece.logprobs:
                return [{"content": ""}]
            case _:
                return []

    def closed(self, index: int) -> list[dict[str, Any]]:
        """The signature comes last, for it may have come in several versions."""
        part = self._open.pop(index, None)
        if part is None:
            return []
        match part.part:
            case ToolCall() as call:
                nothing = "" if part.said or call.custom else "{}"
                deltas = self._arguments(part, call, nothing)
                if part.signature is not None:
                    signed = self._fragment(part, call, "")
                    deltas.append({"tool_calls": [with_signature(signed, part.signature)]})
                return deltas
            case Reasoning() as thought if part.said or part.signature is not None:
                return [{"reasoning_details": [self._signature(part, thought)]}]
            case Text() if part.signature is not None and not self._signed:
                self._signed = True
                return [with_signature({}, part.signature)]
        return []

    def _said(self, part: Part, field: str, text: str) -> list[dict[str, Any]]:
        if not text:
            return []
        self._places.take(part)
        self._length += len(text) if field == "content" else 0
        return [{field: text}]

    def _call(self, part: _Open, call: ToolCall) -> list[dict[str, Any]]:
        kind, field = ("custom", "input") if call.custom else ("function", "arguments")
        first = {"index": part.number, "id": call.id, "type": kind}
        part.said, part.signature = bool(call.arguments), call.signature
        deltas = [{"tool_calls": [first | {kind: {"name": call.name, field: ""}}]}]
        return deltas + self._arguments(part, call, call.arguments)

    def _arguments(self, part: _Open, call: ToolCall, text: str) -> list[dict[str, Any]]:
        return [{"tool_calls": [self._fragment(part, call, text)]}] if text else []

    def _fragment(self, part: _Open, call: ToolCall, text: str) -> dict[str, Any]:
        """Official SDKs want the function in each, though it says nothing new."""
        kind, field = ("custom", "input") if call.custom else ("function", "arguments")
        return {"index": part.number, kind: {field: text}}

    def _thought(self, part: _Open, thought: Reasoning) -> list[dict[str, Any]]:
        if thought.redacted:
            return [{"reasoning_details": [for_client(thought, self._places.take(thought))]}]
        part.signature = thought.signature
        return self._more_thought(part, thought, thought.text)

    def _more_thought(self, part: _Open, thought: Reasoning, text: str) -> list[dict[str, Any]]:
        if not text:
            return []
        field = "summary" if thought.summary else "text"
        detail = self._detail(part, thought) | {field: text}
        return [{"reasoning_content": text, "reasoning_details": [detail]}]

    def _detail(self, part: _Open, thought: Reasoning) -> dict[str, Any]:
        """The beginning of a detail; its id stands in the first alone, for clients join texts."""
        first = not part.said
        if first:
            part.number, part.said = self._places.take(thought), True
        detail: dict[str, Any] = {"type": detail_kind(thought), "index": part.number}
        return detail | ({"id": thought.id} if first and thought.id is not None else {})

    def _signature(self, part: _Open, thought: Reasoning) -> dict[str, Any]:
        detail, signature = self._detail(part, thought), part.signature
        if signature is None:
            return detail | {"signature": UNSIGNED}
        return detail | signature_fields(detail_kind(thought), signature)

    def _cited(self, part: _Open, citation: Citation) -> dict[str, Any] | None:
        written = annotation_of(citation, part.start, self._length)
        if written is None:
            return None
        written["index"] = self._cites
        self._cites += 1
        return {"annotations": [written]}
