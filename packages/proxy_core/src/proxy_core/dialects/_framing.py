"""Streams into frames: server-sent events and lines of JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy_core.dialects._codec import Frame, Framing
from proxy_core.dialects._dialect import Tap
from proxy_core.dialects._sse import MAX_EVENT, EventSplitter, ServerEvent, read_event
from proxy_core.errors import UpstreamError, UpstreamProtocolError

__all__ = ["EventFraming", "LineFraming", "ReframedTap"]

_BOM: Final = b"\xef\xbb\xbf"


class EventFraming:
    """Server-sent events: those without data (comments, ids, retry hints) are no frames."""

    __slots__ = ("_has_begun", "_splitter")

    def __init__(self, most: int = MAX_EVENT) -> None:
        self._splitter = EventSplitter(most)
        self._has_begun = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete. Raises EventTooLarge."""
        return [frame for event in self._splitter.feed(data) if (frame := self._frame(event))]

    def end(self) -> list[Frame]:
        """An event without its blank line counts: a half one is no JSON, and fails as such."""
        rest = self._splitter.rest
        if not rest.strip():
            return []
        if not rest.endswith(b"\r\r"):
            rest = rest.rstrip(b"\r\n") + b"\n\n"
        frame = self._frame(read_event(rest))
        return [frame] if frame else []

    def _frame(self, event: ServerEvent) -> Frame | None:
        if not self._has_begun:
            self._has_begun = True
            if event.raw.startswith(_BOM):
                event = read_event(event.raw.removeprefix(_BOM))
        if event.data is None or not event.data.strip():
            return None
        return Frame(event.data, event.name.decode("utf-8", "replace"))


class LineFraming:
    """A JSON value on each line (https://github.com/ndjson/ndjson-spec), at most ``most`` bytes."""

    __slots__ = ("_buffer", "_look", "_most")

    def __init__(self, most: int = MAX_EVENT) -> None:
        self._most = most
        self._buffer = bytearray()
        self._look = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete. Raises UpstreamProtocolError."""
        buffer = self._buffer
        buffer += data
        if buffer.find(b"\n", self._look) < 0:
            self._look = len(buffer)
            if self._look > self._most:
                raise UpstreamProtocolError(
                    f"the upstream's stream has a line of more than {self._most} bytes"
                )
            return []
        *lines, rest = bytes(buffer).split(b"\n")
        self._buffer = bytearray(rest)
        self._look = len(rest)
        return [Frame(line.strip()) for line in lines if line.strip()]

    def end(self) -> list[Frame]:
        """A last line without its line feed counts: a half one is no JSON, and fails as such."""
        rest = bytes(self._buffer).strip()
        return [Frame(rest)] if rest else []


class ReframedTap:
    """A dialect's own tap, which wants server-sent events, where they come in another framing."""

    __slots__ = ("_framing", "_tap", "done", "failure", "has_content")

    def __init__(self, framing: Framing, tap: Tap) -> None:
        self._framing = framing
        self._tap = tap
        self.done = False
        self.has_content = False
        self.failure: UpstreamError | None = None

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for what was read from the upstream."""
        return self._passed(lambda: self._framing.feed(data))

    def end(self) -> bytes:
        """The body has ended: what the client is owed. Sets ``failure`` if it broke off."""
        owed = self._passed(self._framing.end)
        if self.failure is None:
            owed += self._tap.end()
            self._look()
        return owed

    def _passed(self, frames: Callable[[], list[Frame]]) -> bytes:
        if self.failure is not None:
            return b""
        try:
            events = [_as_event(frame) for frame in frames()]
        except UpstreamError as failure:
            self.failure = failure
            return b""
        passed = self._tap.feed(b"".join(events))
        self._look()
        return passed

    def _look(self) -> None:
        tap = self._tap
        self.done, self.has_content, self.failure = tap.done, tap.has_content, tap.failure


def _as_event(frame: Frame) -> bytes:
    name = b"event: %b\n" % frame.name.encode() if frame.name else b""
    return b"%bdata: %b\n\n" % (name, frame.data.replace(b"\n", b" "))
