"""A GenerateContentResponse, whole or a stream of them, into canonical events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects._body import fresh_call_id, unreadable_answer
from proxy_core.dialects._canonical import (
    Answer,
    Begun,
    Broken,
    Closed,
    Counted,
    Event,
    Finished,
    Media,
    Opened,
    Part,
    Piece,
    Reasoning,
    Signature,
    Source,
    Text,
    ToolCall,
)
from proxy_core.dialects._codec import Frame
from proxy_core.dialects._fold import folded
from proxy_core.dialects._gemini._grounds import citations_of, logprobs_of
from proxy_core.dialects._gemini._read_turns import media_kind
from proxy_core.dialects._gemini._usage import usage_of
from proxy_core.dialects._gemini._words import FAILED_ENDS, end_of, name_back, signature_read
from proxy_core.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamProtocolError,
    UpstreamRejected,
)

__all__ = ["GeminiReader", "read_answer"]

_UNSAID: Final = frozenset({"", "FINISH_REASON_UNSPECIFIED"})
_MOST_CHOICES: Final = 1024


class _Blob(msgspec.Struct, rename="camel"):
    mime_type: str = ""
    data: str = ""
    file_uri: str = ""


class _Call(msgspec.Struct):
    name: str = ""
    id: str = ""
    args: dict[str, Any] | None = None


class _Code(msgspec.Struct):
    code: str = ""
    language: str = ""
    output: str = ""


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | None = None
    inline_data: _Blob | None = None
    file_data: _Blob | None = None
    executable_code: _Code | None = None
    code_execution_result: _Code | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    index: int | None = None
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Response(msgspec.Struct, rename="camel"):
    candidates: list[dict[str, Any]] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Any = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


def read_answer(body: Mapping[str, Any]) -> Answer:
    """The answer in a body, by the same way as a stream of one event. Raises UpstreamError."""
    reader = GeminiReader()
    try:
        return folded([*reader.take(body), *reader.end()])
    except UpstreamDisconnected:
        raise UpstreamProtocolError("the upstream's answer has no finishReason") from None


class GeminiReader:
    """One answer. The ends of its candidates are told at ``end``: Google may repeat them."""

    def __init__(self) -> None:
        self._begun = False
        self._broken = False
        self._choices: dict[int, _Choice] = {}
        self._usage: Usage | None = None

    def read(self, frame: Frame) -> list[Event]:
        """The events of one response. Raises UpstreamProtocolError."""
        try:
            body = msgspec.json.decode(frame.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise unreadable_answer(error) from None
        return self.take(body)

    def take(self, body: Any) -> list[Event]:
        """The events of one decoded response. Raises UpstreamProtocolError."""
        if self._broken:
            return []
        if isinstance(body, list) and body:
            body = body[0]
        try:
            told = msgspec.convert(body, _Response)
            found = [(msgspec.convert(one, _Candidate), one) for one in told.candidates or ()]
        except msgspec.ValidationError as error:
            raise unreadable_answer(error) from None
        failure = _failure(told)
        if failure is not None and not (self._choices or found):
            return self._break(failure)
        if told.error is not None and failure is not None:
            return self._break(failure)
        events: list[Event] = []
        if not self._begun:
            self._begun = True
            events.append(Begun(id=told.response_id or "", model=told.model_version or ""))
        for place, (candidate, raw) in enumerate(found):
            index = place if candidate.index is None else candidate.index
            events += self._choice(index).take(candidate, raw)
            if candidate.finish_reason in FAILED_ENDS:
                return [*events, *self._break(_stumbled(candidate))]
        usage = usage_of(told.usage_metadata) if told.usage_metadata is not None else None
        if usage is not None:
            self._usage = usage
            events.append(Counted(usage))
        return events

    def end(self) -> list[Event]:
        """Raises UpstreamDisconnected where a candidate has no ``finishReason``."""
        if self._broken:
            return []
        choices = sorted(self._choices.items())
        if not choices or any(not choice.word for _, choice in choices):
            raise UpstreamDisconnected("the upstream's stream ended without a finishReason")
        events: list[Event] = [event for _, choice in choices for event in choice.end()]
        return events if self._usage is None else [*events, Counted(self._usage)]

    def _break(self, failure: UpstreamError) -> list[Event]:
        self._broken = True
        return [Broken(failure)]

    def _choice(self, index: int) -> _Choice:
        found = self._choices.get(index)
        if found is None:
            if len(self._choices) >= _MOST_CHOICES or index < 0:
                raise UpstreamProtocolError(
                    f"the upstream's stream has more than {_MOST_CHOICES} candidates"
                )
            found = self._choices[index] = _Choice(index)
        return found


class _Choice:
    """One candidate while it comes: at most one of its parts is open."""

    def __init__(self, number: int) -> None:
        self.word = ""
        self._number = number
        self._next = 0
        self._open: type[Text | Reasoning] | None = None
        self._signed = False
        self._texts: list[str] = []
        self._calls = False
        self._cited: set[object] = set()

    def take(self, candidate: _Candidate, raw: Mapping[str, Any]) -> list[Event]:
        parts = (candidate.content and candidate.content.parts) or []
        last = max((at for at, part in enumerate(parts) if _is_plain(part)), default=-1)
        events: list[Event] = []
        for at, part in enumerate(parts):
            events += self._part(part)
            if at == last:
                events += self._about(raw)
        if last < 0:
            events += self._about(raw)
        word = candidate.finish_reason or ""
        self.word = self.word if word in _UNSAID else word
        return events

    def end(self) -> list[Event]:
        stop = end_of(self.word, self._calls)
        return [*self._close(), Finished(stop=stop, choice=self._number)]

    def _part(self, part: _Part) -> list[Event]:
        told = part.thought_signature
        signature = None if told is None else signature_read(told)
        if part.function_call is not None:
            self._calls = True
            return self._called(part.function_call, signature)
        whole = _whole(part, signature)
        if whole is not None:
            return [*self._close(), *self._opened(whole), self._closed()]
        text = _code(part) or part.text or ""
        if part.thought:
            return self._said(Reasoning, text, signature)
        return self._said(Text, text, signature)

    def _said(
        self, kind: type[Text | Reasoning], text: str, signature: Signature | None
    ) -> list[Event]:
        """More of the open part, or of a new one: a signed text is never joined with others."""
        if not text and signature is None:
            return []
        events: list[Event] = []
        joins = self._open is kind and not self._signed and not (text and signature)
        if not joins:
            part = Text(text="")
            events += self._close()
            if kind is Reasoning and not text:
                hidden = Reasoning(redacted=True, signature=signature)
                return [*events, *self._opened(hidden), self._closed()]
            events += self._opened(part if kind is Text else Reasoning())
            self._open, self._signed, self._texts = kind, False, []
        at = self._next - 1
        if text:
            self._texts.append(text)
            events.append(Piece(index=at, choice=self._number, text=text))
        if signature is not None:
            self._signed = True
            events.append(Piece(index=at, choice=self._number, signature=signature))
        return events

    def _called(self, call: _Call, signature: Signature | None) -> list[Event]:
        known = ToolCall(id=call.id or fresh_call_id(), name=name_back(call.name), arguments="")
        events = [*self._close(), *self._opened(known)]
        at, args = self._next - 1, msgspec.json.encode(call.args or {}).decode()
        events.append(Piece(index=at, choice=self._number, text=args))
        if signature is not None:
            events.append(Piece(index=at, choice=self._number, signature=signature))
        return [*events, self._closed()]

    def _about(self, raw: Mapping[str, Any]) -> list[Event]:
        """Citations and logprobs, which belong to the text before them."""
        citations = []
        if raw.get("groundingMetadata") or raw.get("citationMetadata"):
            said = "".join(self._texts) if self._open is Text else ""
            citations = [one for one in citations_of(raw, said) if one not in self._cited]
            self._cited |= set(citations)
        told = raw.get("logprobsResult")
        tokens = logprobs_of(told) if told else []
        if not citations and not tokens:
            return []
        events: list[Event] = []
        if self._open is not Text:
            events += [*self._close(), *self._opened(Text(text=""))]
            self._open, self._signed, self._texts = Text, False, []
        at, number = self._next - 1, self._number
        events += [Piece(index=at, choice=number, citation=one) for one in citations]
        return [*events, *([Piece(index=at, choice=number, logprobs=tokens)] if tokens else [])]

    def _opened(self, part: Part) -> list[Event]:
        self._next += 1
        return [Opened(index=self._next - 1, part=part, choice=self._number)]

    def _closed(self) -> Event:
        return Closed(index=self._next - 1, choice=self._number)

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        self._open = None
        return [self._closed()]


def _is_plain(part: _Part) -> bool:
    return part.text is not None and not part.thought and part.function_call is None


def _whole(part: _Part, signature: Signature | None) -> Media | None:
    """A picture or a sound."""
    blob = part.inline_data or part.file_data
    if blob is None:
        return None
    kind, mime = media_kind(blob.mime_type), blob.mime_type
    source = (
        Source(kind="base64", data=blob.data, media_type=mime)
        if part.inline_data is not None
        else Source(kind="url", data=blob.file_uri, media_type=mime)
    )
    return Media(kind=kind, source=source, signature=signature)


def _code(part: _Part) -> str:
    """What Google ran itself: the canonical form has no word for it, so it is told as text."""
    if part.executable_code is not None:
        code = part.executable_code
        return f"\n```{code.language.lower()}\n{code.code}\n```\n"
    if part.code_execution_result is not None:
        return f"\n```\n{part.code_execution_result.output}\n```\n"
    return ""


def _failure(told: _Response) -> UpstreamError | None:
    if told.error is not None:
        return failure_in_body(msgspec.json.encode(told.error))
    feedback = told.prompt_feedback
    if feedback is None or not feedback.block_reason:
        return None
    why = feedback.block_reason_message or feedback.block_reason
    return UpstreamRejected(
        f"the upstream blocked the prompt: {why[:500]}", upstream_code="content_filter"
    )


def _stumbled(candidate: _Candidate) -> UpstreamFailed:
    told = f": {candidate.finish_message[:500]}" if candidate.finish_message else ""
    word = candidate.finish_reason or ""
    return UpstreamFailed(f"the upstream's answer ended with {word}{told}", upstream_code=word)
