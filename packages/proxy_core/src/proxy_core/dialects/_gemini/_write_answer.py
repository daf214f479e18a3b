"""Canonical answers as GenerateContentResponses, whole or as a stream of them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._canonical import (
    Answer,
    Begun,
    Broken,
    Choice,
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
    StopReason,
    Text,
    ToolCall,
    ToolResult,
)
from proxy_core.dialects._codec import Told
from proxy_core.dialects._gemini._grounds import grounding_of, logprobs_result
from proxy_core.dialects._gemini._usage import write_usage
from proxy_core.dialects._gemini._words import UNSIGNED, signature_text, word_for
from proxy_core.dialects._ordered import Ordered

__all__ = ["GeminiWriter", "write_answer"]

_Json = dict[str, Any]
_SILENCE: Final[_Json] = {"text": ""}


def write_answer(answer: Answer, told: Told) -> _Json:
    """A whole GenerateContentResponse."""
    return {
        "candidates": [_candidate(choice, at) for at, choice in enumerate(answer.choices)],
        "usageMetadata": write_usage(answer.usage),
        "modelVersion": told.model,
        "responseId": answer.id or told.request_id,
    }


def _candidate(choice: Choice, index: int) -> _Json:
    parts = [one for part in choice.parts for one in _parts(part)]
    _sign(parts)
    candidate: _Json = {
        "content": {"role": "model", "parts": parts or [{"text": ""}]},
        "finishReason": word_for(choice.stop),
        "index": index,
    }
    cited = [part for part in choice.parts if isinstance(part, Text) and part.citations]
    if cited:
        # Google's offsets are those of one text; the last one is what the answer says.
        candidate["groundingMetadata"] = grounding_of(cited[-1].citations, cited[-1].text)
    tokens = (choice.logprobs or {}).get("content")
    if tokens:
        candidate["logprobsResult"] = logprobs_result(tokens)
    return candidate


def _parts(part: Part) -> list[_Json]:
    """The parts that say the same; most often one."""
    signature = _signed(getattr(part, "signature", None))
    match part:
        case Text() | Refusal():
            return [{"text": part.text} | signature] if part.text or signature else []
        case Reasoning():
            return [{"text": part.text, "thought": True} | signature]
        case ToolCall():
            call = {"id": part.id, "name": part.name, "args": _arguments(part)}
            return [{"functionCall": call} | signature]
        case Media():
            return [one | signature for one in _media(part)]
        case ToolResult():
            return []


def _signed(signature: Signature | None) -> _Json:
    return {} if signature is None else {"thoughtSignature": signature_text(signature)}


def _sign(parts: list[_Json]) -> None:
    """The first call of an answer, which Gemini 3 wants signed when it comes back."""
    for part in parts:
        if "functionCall" in part:
            part.setdefault("thoughtSignature", UNSIGNED)
            return


def _arguments(call: ToolCall) -> _Json:
    """An object in any case: what a cap cut off is kept as text."""
    if call.custom:
        return {"input": call.arguments}
    try:
        args = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {"_raw": call.arguments}
    return args if isinstance(args, dict) else {"_raw": call.arguments}


def _media(media: Media) -> list[_Json]:
    source = media.source
    said = [{"text": media.transcript}] if media.transcript else []
    if source.kind == "base64":
        blob = {"mimeType": source.media_type or "application/octet-stream", "data": source.data}
        return [{"inlineData": blob}, *said]
    if source.kind == "text":
        return [{"text": source.data}, *said]
    told = {"mimeType": source.media_type} if source.media_type else {}
    return [{"fileData": told | {"fileUri": source.data}}, *said]


class _Draft:
    """An open part: what must go out whole is gathered here."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.arguments: list[str] = []
        self.said: list[str] = []
        self.citations: list[Citation] = []
        self.signature: Signature | None = None


class GeminiWriter:
    """A stream for a client: each event is a whole response; the ends go out with the usage."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._id = told.request_id
        self._ordered = Ordered()
        self._open: dict[tuple[int, int], _Draft] = {}
        self._ends: dict[int, StopReason] = {}
        self._called: set[int] = set()
        """Choices that have called a function."""
        self._usage: Usage | None = None

    def write(self, event: Event) -> bytes:
        """Whole events, or nothing."""
        return b"".join(map(self._write, self._ordered.push(event)))

    def _write(self, event: Event) -> bytes:
        match event:
            case Begun():
                self._id = event.id or self._id
            case Opened():
                return self._opened(event)
            case Piece():
                return self._piece(event)
            case Closed():
                return self._closed(event)
            case Finished():
                self._ends[event.choice] = event.stop
            case Counted():
                self._usage = event.usage
            case Broken():
                pass
        return b""

    def end(self) -> bytes:
        """The last event: why each candidate ended, and the usage."""
        candidates = [
            _told_of(choice, [_SILENCE]) | {"finishReason": word_for(end)}
            for choice, end in sorted(self._ends.items())
        ]
        return self._event(candidates, self._usage)

    def _opened(self, event: Opened) -> bytes:
        part = event.part
        if isinstance(part, Media) or (isinstance(part, Reasoning) and part.redacted):
            return self._said(event.choice, _parts(part))
        draft = self._open[event.choice, event.index] = _Draft(part)
        if isinstance(part, ToolCall | ToolResult):
            return b""
        draft.signature, draft.citations = _kept(part)
        return self._text(draft, part.text, event.choice)

    def _piece(self, event: Piece) -> bytes:
        draft = self._open.get((event.choice, event.index))
        if draft is None:
            return b""
        draft.signature = event.signature or draft.signature
        if event.citation is not None:
            draft.citations.append(event.citation)
        if isinstance(draft.part, ToolCall):
            draft.arguments.append(event.text)
            return b""
        return self._text(draft, event.text, event.choice, event.logprobs)

    def _closed(self, event: Closed) -> bytes:
        draft = self._open.pop((event.choice, event.index), None)
        if draft is None:
            return b""
        part = draft.part
        if isinstance(part, ToolCall):
            whole = part.arguments + "".join(draft.arguments)
            signature = draft.signature or part.signature
            call = msgspec.structs.replace(part, arguments=whole, signature=signature)
            parts = _parts(call)
            if event.choice not in self._called:
                self._called.add(event.choice)
                _sign(parts)
            return self._said(event.choice, parts)
        if draft.signature is None and not draft.citations:
            return b""
        silence = _silent(part) | _signed(draft.signature)
        candidate = _told_of(event.choice, [silence])
        if draft.citations:
            candidate["groundingMetadata"] = grounding_of(draft.citations, "".join(draft.said))
        return self._event([candidate])

    def _text(self, draft: _Draft, text: str, choice: int, logprobs: Json = None) -> bytes:
        if not text and not logprobs:
            return b""
        draft.said.append(text)
        candidate = _told_of(choice, [_silent(draft.part) | {"text": text}])
        if logprobs:
            candidate["logprobsResult"] = logprobs_result(logprobs)
        return self._event([candidate])

    def _said(self, choice: int, parts: list[_Json]) -> bytes:
        return self._event([_told_of(choice, parts)]) if parts else b""

    def _event(self, candidates: list[_Json], usage: Usage | None = None) -> bytes:
        response: _Json = {"candidates": candidates}
        if usage is not None:
            response["usageMetadata"] = write_usage(usage)
        response |= {"modelVersion": self._told.model, "responseId": self._id}
        return b"data: " + msgspec.json.encode(response) + b"\n\n"


def _told_of(choice: int, parts: list[_Json]) -> _Json:
    return {"content": {"role": "model", "parts": parts}, "index": choice}


def _silent(part: Part) -> _Json:
    return {"text": "", "thought": True} if isinstance(part, Reasoning) else {"text": ""}


def _kept(part: Text | Reasoning | Refusal | Part) -> tuple[Signature | None, list[Citation]]:
    citations = list(part.citations) if isinstance(part, Text) else []
    return getattr(part, "signature", None), citations
