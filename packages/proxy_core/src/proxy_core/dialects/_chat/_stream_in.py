"""Chunks of any OpenAI-compatible upstream into canonical events."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core._types import Usage
from proxy_core.dialects._canonical import Begun, Broken, Counted, Event, Json
from proxy_core.dialects._chat._answer_in import read_created
from proxy_core.dialects._chat._choice_in import ChoiceReader
from proxy_core.dialects._chat._counts import usage_of
from proxy_core.dialects._chat._ends import failure_in
from proxy_core.dialects._chat._wire import as_dict, as_list, as_text
from proxy_core.dialects._codec import Frame
from proxy_core.errors import UpstreamDisconnected, UpstreamFailed, UpstreamProtocolError

__all__ = ["ChatStreamReader"]

_DONE: Final = b"[DONE]"
_MOST_CHOICES: Final = 1024
"""Of one stream: providers take an ``n`` of 128 at most."""

_decode = msgspec.json.Decoder().decode


class ChatStreamReader:
    """One streamed answer.

    A choice is finished when the stream is, not at its first ``finish_reason``: some servers send
    one with each tool call.
    """

    __slots__ = ("_begun", "_choices", "_id", "_over", "_usage")

    def __init__(self) -> None:
        self._begun = False
        self._over = False
        self._id = ""
        self._choices: dict[int, ChoiceReader] = {}
        self._usage: Usage | None = None

    def read(self, frame: Frame) -> list[Event]:
        """The events of one message. Raises UpstreamProtocolError, UpstreamDisconnected."""
        data = frame.data.strip()
        if self._over or not data:
            return []
        if data == _DONE:
            return self.end()
        if frame.name == "error":
            return self._broken(_told_error(data))
        chunk = _chunk(data)
        failure = _failure(chunk)
        if failure is not None:
            return self._broken(failure)
        try:
            return self._events(chunk)
        except UpstreamFailed as error:
            return self._broken(error)

    def end(self) -> list[Event]:
        """What is owed at the end. Raises UpstreamDisconnected where a choice has no end."""
        if self._over:
            return []
        choices = self._choices.values()
        if not choices or not all(choice.finished for choice in choices):
            raise UpstreamDisconnected("the upstream's stream ended without a finish_reason")
        self._over = True
        events = [event for choice in choices for event in choice.end()]
        if self._usage is not None:
            events.append(Counted(self._usage))
        return events

    def _broken(self, error: Exception) -> list[Event]:
        self._over = True
        return [Broken(error)]

    def _events(self, chunk: dict[str, Json]) -> list[Event]:
        self._id = self._id or as_text(chunk.get("id"))
        events: list[Event] = []
        for told in as_list(chunk.get("choices")):
            events += self._choice(as_dict(told)).read(as_dict(told))
        usage = usage_of(chunk.get("usage"))
        if usage is not None:
            self._usage = usage
            events.append(Counted(usage))
        if self._begun or not (events or self._choices):
            return events
        self._begun = True
        begun = Begun(
            id=self._id,
            model=as_text(chunk.get("model")),
            created=read_created(chunk),
            service_tier=as_text(chunk.get("service_tier")) or None,
        )
        return [begun, *events]

    def _choice(self, told: dict[str, Json]) -> ChoiceReader:
        index = told.get("index")
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            index = 0
        choice = self._choices.get(index)
        if choice is None:
            if len(self._choices) >= _MOST_CHOICES:
                raise UpstreamProtocolError(
                    f"the upstream's stream has more than {_MOST_CHOICES} choices"
                )
            choice = self._choices[index] = ChoiceReader(index)
        return choice


def _chunk(data: bytes) -> dict[str, Any]:
    try:
        chunk = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamProtocolError(
            f"the upstream's stream has an event that could not be read: {error}"
        ) from None
    if not isinstance(chunk, dict):
        raise UpstreamProtocolError("the upstream's stream has an event that is no object")
    return chunk


def _failure(chunk: dict[str, Json]) -> Exception | None:
    """The chunk's error, or one that stands in a choice, as OpenRouter has it."""
    told = (as_dict(choice).get("error") for choice in as_list(chunk.get("choices")))
    error = next((error for error in told if error is not None), None)
    return failure_in(chunk) or failure_in({"error": error})


def _told_error(data: bytes) -> Exception:
    """Of an event that is named an error, whatever shape it has."""
    try:
        told = as_dict(_decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = {}
    return failure_in(told) or failure_in_body(data)
