"""The ways of requests and answers from a client's dialect to an upstream's and back."""

from __future__ import annotations

import json
from typing import Any

from proxy_core.dialects import CLIENT_CODECS, CODECS, Abilities
from proxy_core.dialects._canonical import Answer, Conversation, Counted, Event
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._fold import folded

from .providers import TOLD, frames, streamed, whole
from .readers import READERS

__all__ = ["answered", "asked", "given", "heard", "sent", "streamed_on", "understood"]


def asked(client: str, wanted: Conversation) -> Conversation:
    """What a client of this dialect asks for that has all of this in mind."""
    wire, _ = sent(client, wanted)
    return understood(client, wire)


def understood(client: str, wire: dict[str, Any]) -> Conversation:
    """What we read of a client's request, all of which we know."""
    losses = Losses()
    read = CLIENT_CODECS[client].read_request(wire, losses)
    assert not losses.all, f"{client} does not know {losses.all}"
    return read


def sent(target: str, conversation: Conversation) -> tuple[dict[str, Any], Losses]:
    """The request for an upstream, as JSON has it, and what it lacks."""
    losses = Losses()
    wire = CODECS[target].write_request(conversation, "m", Abilities(), losses)
    return json.loads(json.dumps(wire)), losses


def heard(target: str, wire: dict[str, Any]) -> Conversation:
    """What such an upstream understands."""
    if target in READERS:
        return READERS[target](wire)
    return understood(target, wire)


def given(origin: str, answer: Answer) -> Answer:
    """What we read of a provider's answer."""
    return CODECS[origin].read_answer(whole(origin, answer))


def answered(client: str, answer: Answer) -> tuple[dict[str, Any], Answer]:
    """What the client gets, and what it reads of it."""
    wire = json.loads(json.dumps(CLIENT_CODECS[client].write_answer(answer, TOLD)))
    return wire, CODECS[client].read_answer(wire)


def events_in(dialect: str, data: bytes, cuts: list[int]) -> list[Event]:
    """A stream's events, whichever way its bytes are cut."""
    reader = CODECS[dialect].stream_reader()
    events = []
    for frame in frames(dialect, data, cuts):
        if frame.data.strip() and frame.data.strip() != b"[DONE]":
            events += reader.read(frame)
    return [*events, *reader.end()]


def streamed_on(origin: str, client: str, answer: Answer, cuts: list[int]) -> Answer:
    """The same by way of a stream."""
    events = events_in(origin, streamed(origin, answer), cuts)
    assert sum(isinstance(event, Counted) for event in events), "usage is told"
    writer = CLIENT_CODECS[client].stream_writer(TOLD)
    data = b"".join([*map(writer.write, events), writer.end()])
    return folded(events_in(client, data, cuts))
