"""Our event stream as the JSON array that Google sends to those who don't ask for ``alt=sse``."""

from __future__ import annotations

from proxy_core.dialects._sse import EventSplitter

__all__ = ["EventsAsArray"]


class EventsAsArray:
    """Turns the bytes of an event stream, in any pieces, into one JSON array of their data.

    The surface asks its upstream for events and passes what it would have sent through ``feed``.
    An array that is broken off has no end: ``end`` is for whole streams alone.
    """

    __slots__ = ("_begun", "_splitter")

    def __init__(self) -> None:
        self._begun = False
        self._splitter = EventSplitter()

    def feed(self, data: bytes) -> bytes:
        """The part of the array that these bytes complete. Raises EventTooLarge."""
        values = [event.data for event in self._splitter.feed(data) if event.data]
        return b"".join(map(self.value, values))

    def value(self, data: bytes) -> bytes:
        """One more value of the array, such as an error in Google's shape."""
        lead = b",\r\n" if self._begun else b"["
        self._begun = True
        return lead + data

    def end(self) -> bytes:
        """The end of the array."""
        return b"]" if self._begun else b"[]"
