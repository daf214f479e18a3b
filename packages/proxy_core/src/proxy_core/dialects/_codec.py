"""What a dialect has to know so that it can be translated: six verbs, all of them pure.

A dialect that only a provider speaks needs no way to read requests or write answers, and raises
nothing for lacking it: it is just never looked up as a client's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Answer, Conversation, Event

__all__ = [
    "AnswerWriter",
    "ClientCodec",
    "Frame",
    "Framing",
    "Loss",
    "Losses",
    "StreamReader",
    "StreamWriter",
    "Told",
    "UpstreamCodec",
]


class Loss(NamedTuple):
    """Something that a client said and a target can't carry."""

    field: str
    """Its path in the client's words: ``messages[2].content[0].audio``, ``logit_bias``."""
    why: str
    """One clause, such as ``Anthropic's messages have no seed``."""
    grave: bool
    """Whether without it the answer is another one than was asked for: content, tools, the form of
    the output. A hint, a sampling parameter, an id for statistics is not."""
    remedy: str = "Leave it out"
    """What a client can do to have the rest."""


class Losses:
    """Those of one request. Whoever collects them decides what to refuse and to announce."""

    __slots__ = ("all", "places")

    def __init__(self) -> None:
        self.all: list[Loss] = []
        self.places: list[str] = []
        """Of each turn, the path of what it was read from; empty where a reader doesn't tell."""

    def drop(
        self, field: str, why: str, *, grave: bool = False, remedy: str = "Leave it out"
    ) -> None:
        self.all.append(Loss(field, why, grave, remedy))

    def unknown(self, where: str, given: Iterable[str], known: Iterable[str]) -> None:
        """Drop the fields of an object that the canonical form has no word for.

        ``where`` ends with a dot, or is empty at the top level.
        """
        for name in given:
            if name not in known:
                self.drop(f"{where}{name}", "it is not known to the translation")


class Told(NamedTuple):
    """What an answer for a client must say of the request that it answers."""

    model: str
    """The name that the client asked for."""
    conversation: Conversation
    request_id: str = ""
    created: int = 0
    """Unix time, for answers that don't say it."""


class Frame(NamedTuple):
    """One message of an upstream's stream."""

    data: bytes
    """JSON, or ``[DONE]``."""
    name: str = ""
    """The event's name, where the framing has one."""


class Framing(Protocol):
    """Cuts a stream's bytes into frames: SSE, lines of JSON, AWS event streams."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete. Raises UpstreamProtocolError, EventTooLarge."""
        ...

    def end(self) -> list[Frame]:
        """What is owed at the end of the body. Raises UpstreamError for half a frame."""
        ...


class StreamReader(Protocol):
    """An upstream's stream into canonical events. One for each answer; it holds the state."""

    def read(self, frame: Frame) -> list[Event]:
        """An error that the upstream reports is a Broken. Raises UpstreamProtocolError."""
        ...

    def end(self) -> list[Event]:
        """The body has ended. Raises UpstreamDisconnected where the answer is not complete."""
        ...


class StreamWriter(Protocol):
    """Canonical events into a client's stream, by the rules for what we emit."""

    def write(self, event: Event) -> bytes:
        """Whole events, or nothing. A Broken is not for it: the surface writes errors."""
        ...

    def end(self) -> bytes:
        """The last bytes of a complete stream, such as ``data: [DONE]``."""
        ...


class AnswerWriter(Protocol):
    def __call__(self, answer: Answer, told: Told) -> dict[str, Any]: ...


class ClientCodec(Protocol):
    """A dialect as clients speak it."""

    @property
    def dialect(self) -> str: ...

    def read_request(self, body: Mapping[str, Any], losses: Losses) -> Conversation:
        """What is asked for; what the canonical form has no word for goes to ``losses``.

        Raises InvalidRequest with the path of the field in ``param``.
        """
        ...

    def write_answer(self, answer: Answer, told: Told) -> dict[str, Any]:
        """A whole answer's JSON; every field that the dialect's own description requires."""
        ...

    def stream_writer(self, told: Told) -> StreamWriter: ...


class UpstreamCodec(Protocol):
    """A dialect as providers speak it."""

    @property
    def dialect(self) -> str: ...

    def write_request(
        self, conversation: Conversation, model: str, can: Abilities, losses: Losses
    ) -> dict[str, Any]:
        """The JSON for an upstream. ``model`` is its own name for the model.

        What can't be carried goes to ``losses`` and is written as if it had not been said.
        """
        ...

    def read_answer(self, body: Mapping[str, Any]) -> Answer:
        """The answer in a body. Raises UpstreamProtocolError for what is none.

        An error inside it, or a refusal without an answer (Gemini's ``promptFeedback``), is raised
        as the UpstreamError that fits.
        """
        ...

    def stream_reader(self) -> StreamReader: ...
