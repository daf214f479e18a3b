"""Event streams as bytes: split into events without losing one byte. No I/O.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["EventSplitter", "EventTooLarge", "ServerEvent"]

MAX_EVENT: Final = 8 * 1024 * 1024
"""Bytes of one event; an upstream that sends more without a blank line is cut."""

# Atomic groups, else "\r\n" would be read as a "\r" and an "\n", that is as a blank line.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_SMALL: Final = 64 * 1024
_LONGEST_BEGINNING: Final = len(b"\r\n\r")
_CR: Final = ord("\r")


class EventTooLarge(ValueError):
    """One event is larger than the cap."""


class ServerEvent(NamedTuple):
    """One event: its bytes as they came, blank line included, and the text of its data lines."""

    raw: bytes
    data: bytes | None
    """None for an event without data: comments, ids, retry hints."""
    data_at: int
    """Where the data stands in ``raw``; -1 when it is spread over several lines."""
    name: bytes = b""


class EventSplitter:
    """Push what was read, in any pieces, and pop whole events; ``feed`` does both.

    The pieces never matter: the same bytes give the same events, and joined they are the input.
    """

    __slots__ = ("_end", "_look", "_max", "at", "buffer")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max = max_event
        self._look = 0
        self._end = _end_by_line_feeds
        self.buffer: bytes | bytearray = b""
        self.at = 0
        """Where in ``buffer`` the next event begins."""

    @property
    def rest(self) -> bytes:
        """What has no end yet."""
        return bytes(self.buffer[self.at :])

    def push(self, data: bytes) -> None:
        """Take what was read."""
        buffer, at = self.buffer, self.at
        left = len(buffer) - at
        if not left:
            buffer = data
        elif left < _SMALL:
            buffer = bytes(buffer[at:]) + data
        else:
            # Grows in place: a large event comes in many pieces.
            buffer = bytearray(buffer) if isinstance(buffer, bytes) else buffer
            del buffer[:at]
            buffer += data
        self.buffer = buffer
        # A separator may straddle two reads: go back by its longest beginning.
        self._look = max(0, left - _LONGEST_BEGINNING)
        self.at = 0
        self._end = _end_by_line_feeds if buffer.find(_CR, self._look) < 0 else _end_by_any

    def pop(self) -> ServerEvent | None:
        """The next whole event, if there is one. Raises EventTooLarge."""
        buffer, at = self.buffer, self.at
        end = self._end(buffer, self._look)
        if end < 0:
            self._look = max(at, len(buffer) - _LONGEST_BEGINNING)
            if len(buffer) - at > self._max:
                raise EventTooLarge(f"an event is larger than {self._max} bytes")
            return None
        self.at = self._look = end
        return read_event(bytes(buffer[at:end]))

    def skip(self, to: int) -> None:
        """Go on at this place of ``buffer``, where an event begins."""
        self.at = self._look = to

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that these bytes complete. Raises EventTooLarge, then nothing more."""
        self.push(data)
        events: list[ServerEvent] = []
        while (event := self.pop()) is not None:
            events.append(event)
        return events


def _end_by_line_feeds(buffer: bytes | bytearray, look: int) -> int:
    found = buffer.find(b"\n\n", look)
    return found + 2 if found >= 0 else -1


def _end_by_any(buffer: bytes | bytearray, look: int) -> int:
    match = _BLANK_LINE.search(buffer, look)
    if match is None or (match.end() == len(buffer) and buffer[-1] == _CR):
        return -1  # after a last carriage return a line feed may follow, and would belong to it
    return match.end()


def read_event(raw: bytes) -> ServerEvent:
    """The event in these bytes (which end with a blank line)."""
    if (
        raw.startswith(b"data: ")
        and raw.endswith(b"\n\n")
        and raw.find(b"\n") == len(raw) - 2
        and b"\r" not in raw
    ):
        return ServerEvent(raw, raw[6:-2], 6)
    return _read_lines(raw)


def _read_lines(raw: bytes) -> ServerEvent:
    data: list[bytes] = []
    name, data_at, at = b"", -1, 0
    for line in raw.splitlines(keepends=True):
        field, colon, value = line.rstrip(b"\r\n").partition(b":")
        value_at = at + len(field) + len(colon) + value.startswith(b" ")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
            data_at = value_at if colon else -1
        elif field == b"event":
            name = value
        at += len(line)
    if not data:
        return ServerEvent(raw, None, -1, name)
    return ServerEvent(raw, b"\n".join(data), data_at if len(data) == 1 else -1, name)


def with_data(event: ServerEvent, data: bytes) -> bytes:
    """The event's bytes with other data, of no more lines; everything around it stays."""
    if event.data is None:
        return event.raw
    if event.data_at >= 0:
        return event.raw[: event.data_at] + data + event.raw[event.data_at + len(event.data) :]
    fresh = iter(data.split(b"\n"))
    return b"".join(
        _with_value(line, next(fresh, b"")) if _is_data(line) else line
        for line in event.raw.splitlines(keepends=True)
    )


def _is_data(line: bytes) -> bool:
    return line.rstrip(b"\r\n").partition(b":")[0] == b"data"


def _with_value(line: bytes, value: bytes) -> bytes:
    ending = line[len(line.rstrip(b"\r\n")) :]
    field = b"data: " if line.startswith(b"data: ") else b"data:" if value else line[:5].rstrip()
    return field + value + ending
