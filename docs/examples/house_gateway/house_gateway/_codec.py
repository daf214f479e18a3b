"""The house's dialect: ``POST /say`` with ``{"model", "talk": [{"who", "says"}], "limit"}``.

The answer is ``{"says", "why", "tokens": {"in", "out"}}``, or lines of JSON with a piece each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from proxy_core import Usage
from proxy_core.errors import UpstreamDisconnected, UpstreamProtocolError
from proxy_core.translation import (
    Abilities,
    Answer,
    Begun,
    Conversation,
    Counted,
    Event,
    Finished,
    Frame,
    Losses,
    Parts,
    Text,
    folded,
    plain_text,
    wishes,
)

__all__ = ["DIALECT", "HouseCodec"]

DIALECT = "house.say"
_OPTIONS = {"max_tokens": "limit", "temperature": "warmth"}


class _Tokens(msgspec.Struct):
    asked: int = msgspec.field(name="in")
    said: int = msgspec.field(name="out")


class _Piece(msgspec.Struct):
    """A whole answer, or a piece of one: only the last has ``why``."""

    says: str = ""
    why: str = ""
    tokens: _Tokens | None = None


class HouseCodec:
    """The house's words for those of the canonical form. What it has no word for, it tells."""

    dialect = DIALECT

    def write_request(
        self, conversation: Conversation, model: str, can: Abilities, losses: Losses
    ) -> dict[str, Any]:
        """The body. ``can`` is what is known of the model; the house needs none of it itself."""
        for at in range(len(conversation.tools)):
            losses.drop(f"tools[{at}]", "the house knows no tools", grave=True)
        talk = [*_talk(conversation, losses)]
        options = wishes(conversation, can, losses, "the house", _OPTIONS)
        return {"model": model, "talk": talk, "stream": conversation.stream, **options}

    def read_answer(self, body: Mapping[str, Any]) -> Answer:
        """A whole answer is a stream of one piece."""
        reader = _Reader()
        return folded([*reader.read(Frame(msgspec.json.encode(body))), *reader.end()])

    def stream_reader(self) -> _Reader:
        """One for each answer."""
        return _Reader()


class _Reader:
    def __init__(self) -> None:
        self._parts = Parts()
        self._has_begun = self._has_ended = False

    def read(self, frame: Frame) -> list[Event]:
        try:
            piece = msgspec.json.decode(frame.data, type=_Piece)
        except msgspec.DecodeError as error:
            raise UpstreamProtocolError(f"the house said what can't be read: {error}") from None
        events: list[Event] = [] if self._has_begun else [Begun(id="", model="")]
        self._has_begun = True
        if piece.says:
            events += self._parts.piece("words", Text(text=""), text=piece.says)
        if piece.why:
            self._has_ended = True
            stop = Finished(stop="length" if piece.why == "limit" else "end")
            events += [*self._parts.close_but(), stop]
        if piece.tokens is not None:
            events.append(Counted(Usage(piece.tokens.asked, piece.tokens.said, reported=True)))
        return events

    def end(self) -> list[Event]:
        if not self._has_ended:
            raise UpstreamDisconnected("the house stopped in the middle of its answer")
        return []


def _talk(conversation: Conversation, losses: Losses) -> Iterator[dict[str, str]]:
    for at, turn in enumerate(conversation.turns):
        words = []
        for number, part in enumerate(turn.parts):
            text = plain_text(part)
            if text is None:
                where = f"messages[{at}].content[{number}]"
                losses.drop(where, "the house knows words alone", grave=True)
            words.append(text or "")
        yield {"who": turn.role, "says": "".join(words)}
