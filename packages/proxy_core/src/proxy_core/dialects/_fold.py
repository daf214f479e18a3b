"""Events of a stream into one answer, and an answer into the events that say the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    Opened,
    Part,
    Piece,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
)
from proxy_core.errors import UpstreamDisconnected

__all__ = ["events_of", "folded"]


def folded(events: Iterable[Event]) -> Answer:
    """The whole answer that a stream amounts to.

    Raises the error of a Broken, UpstreamDisconnected where it has no end.
    """
    answer = Answer(id="", model="", choices=(), usage=Usage())
    drafts: dict[int, _Draft] = {}
    for event in events:
        match event:
            case Begun():
                answer.id, answer.model = event.id, event.model
                answer.created, answer.service_tier = event.created, event.service_tier
            case Counted():
                answer.usage = event.usage
            case Broken():
                raise event.error
            case _:
                drafts.setdefault(event.choice, _Draft()).take(event)
    if not drafts or any(draft.end is None for draft in drafts.values()):
        raise UpstreamDisconnected("the upstream's stream ended before its answer was complete")
    answer.choices = tuple(draft.choice() for _, draft in sorted(drafts.items()))
    return answer


def events_of(answer: Answer) -> Iterator[Event]:
    """The same answer as a stream."""
    yield Begun(
        id=answer.id, model=answer.model, created=answer.created, service_tier=answer.service_tier
    )
    for number, choice in enumerate(answer.choices):
        logprobs = (choice.logprobs or {}).get("content")
        for index, part in enumerate(choice.parts):
            opened, pieces = _told(part, index, number, logprobs)
            logprobs = None if isinstance(part, Text) else logprobs
            yield Opened(index=index, part=opened, choice=number)
            yield from pieces
            yield Closed(index=index, choice=number)
        yield Finished(stop=choice.stop or "end", stop_sequence=choice.stop_sequence, choice=number)
    yield Counted(answer.usage)


def _told(part: Part, index: int, choice: int, logprobs: Json) -> tuple[Part, list[Piece]]:
    """How a part begins, and what follows."""
    pieces: list[Piece] = []
    match part:
        case Text():
            said = Piece(index=index, choice=choice, text=part.text, logprobs=logprobs)
            cited = [Piece(index=index, choice=choice, citation=one) for one in part.citations]
            pieces = [said, *cited] if part.text or logprobs else cited
            opened: Part = Text(text="")
        case Reasoning() if not part.redacted:
            pieces = [Piece(index=index, choice=choice, text=part.text)] if part.text else []
            opened = Reasoning(summary=part.summary, id=part.id)
        case Refusal():
            pieces = [Piece(index=index, choice=choice, text=part.text)] if part.text else []
            opened = Refusal(text="")
        case ToolCall():
            said = Piece(index=index, choice=choice, text=part.arguments)
            pieces = [said] if part.arguments else []
            opened = ToolCall(id=part.id, name=part.name, arguments="", custom=part.custom)
        case _:
            return part, []
    if not isinstance(part, Refusal) and part.signature is not None:
        pieces.append(Piece(index=index, choice=choice, signature=part.signature))
    return opened, pieces


class _Draft:
    """One choice while it is told."""

    def __init__(self) -> None:
        self.end: Finished | None = None
        self._parts: dict[int, _PartDraft] = {}
        self._logprobs: list[Json] = []

    def take(self, event: Opened | Piece | Closed | Finished) -> None:
        match event:
            case Opened():
                self._parts[event.index] = _PartDraft(event.part)
            case Piece():
                self._parts[event.index].take(event)
                self._logprobs += event.logprobs or ()
            case Finished():
                self.end = event
            case Closed():
                pass

    def choice(self) -> Choice:
        end = self.end
        return Choice(
            parts=tuple(draft.part() for _, draft in sorted(self._parts.items())),
            stop=None if end is None else end.stop,
            stop_sequence=None if end is None else end.stop_sequence,
            logprobs={"content": self._logprobs, "refusal": None} if self._logprobs else None,
        )


class _PartDraft:
    def __init__(self, opened: Part) -> None:
        self._opened = opened
        self._texts: list[str] = []
        self._citations: list[Citation] = []
        self._signature: Signature | None = None

    def take(self, piece: Piece) -> None:
        self._texts.append(piece.text)
        if piece.citation is not None:
            self._citations.append(piece.citation)
        self._signature = piece.signature or self._signature

    def part(self) -> Part:
        part, said = self._opened, "".join(self._texts)
        changes: dict[str, object] = {}
        if self._signature is not None:
            changes["signature"] = self._signature
        if isinstance(part, ToolCall):
            changes["arguments"] = part.arguments + said
        elif said and isinstance(part, Text | Reasoning | Refusal):
            changes["text"] = part.text + said
        if self._citations:
            changes["citations"] = (*getattr(part, "citations", ()), *self._citations)
        return msgspec.structs.replace(part, **changes) if changes else part
