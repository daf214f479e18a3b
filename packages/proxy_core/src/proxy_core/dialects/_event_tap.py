"""What every tap of events has in common: it splits, gives whole events on, and finds the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._run import is_text
from proxy_core.dialects._sse import (
    MAX_EVENT,
    EventSplitter,
    EventTooLarge,
    ServerEvent,
    read_event,
)
from proxy_core.dialects._usage import estimate_tokens
from proxy_core.errors import UpstreamError, UpstreamProtocolError

__all__ = ["EventTap", "unreadable"]

_BOM: Final = b"\xef\xbb\xbf"


class EventTap(ABC):
    """A Tap that looks at one event after the other; see ``Tap``."""

    __slots__ = ("_name", "_said", "_splitter", "_usage", "done", "failure", "has_content")

    def __init__(self, model: str, usage: Usage, *, largest: int = MAX_EVENT) -> None:
        self._name = msgspec.json.encode(model)
        """JSON of the name that the client asked for."""
        self._usage = usage
        self._splitter = EventSplitter(largest)
        self._said = 0
        self.done = False
        self.has_content = False
        self.failure: UpstreamError | None = None

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for what was read from the upstream: whole events."""
        if self.done or self.failure is not None:
            return b""
        out: list[bytes] = []
        self._splitter.push(data)
        try:
            self._pass_on(out)
        except UpstreamError as failure:
            self.failure = failure
        except EventTooLarge as error:
            self.failure = UpstreamProtocolError(f"the upstream's stream was cut: {error}")
        return out[0] if len(out) == 1 else b"".join(out)

    def end(self) -> bytes:
        """The stream has ended: what the client is still owed. Sets ``failure`` if it broke off."""
        owed = b""
        last = self._splitter.rest
        try:
            if last.strip() and not self.done and self.failure is None:
                # An event without its blank line: SDKs would lose it.
                if not last.endswith(b"\r\r"):
                    last = last.rstrip(b"\r\n") + b"\n\n"
                owed = self._event(read_event(last))
        except UpstreamError as failure:
            self.failure = failure
        if self.failure is None:
            self.failure = self._break()
        return owed

    def _pass_on(self, out: list[bytes]) -> None:
        splitter = self._splitter
        while not self.done and (event := splitter.pop()) is not None:
            out.append(self._event(event))

    @abstractmethod
    def _event(self, event: ServerEvent) -> bytes:
        """What goes on of one event. Raises UpstreamError."""

    @abstractmethod
    def _break(self) -> UpstreamError | None:
        """The body has ended: why its answer is not whole; None where it is."""

    def _without_data(self, event: ServerEvent) -> bytes:
        """Comments go on. Ids, retry hints and bare names don't: SDKs look for JSON in them."""
        bare = event.raw.removeprefix(_BOM)
        if bare is not event.raw and not bare.startswith(_BOM):
            return self._event(read_event(bare))
        is_comment = all(line[:1] in (b"", b":") for line in event.raw.splitlines())
        return event.raw if is_comment and is_text(event.raw) else b""

    def _note_said(self, size: int = 0) -> None:
        """So many bytes more were said."""
        self._said = said = self._said + size
        self.has_content = True
        usage = self._usage
        usage.reported = False  # a report that came before this text did not count it
        usage.output_tokens = max(usage.output_tokens, estimate_tokens(said))


def unreadable(error: Exception) -> UpstreamProtocolError:
    """An event that is no JSON, or none of that form."""
    return UpstreamProtocolError(
        f"the upstream's stream has an event that could not be read: {error}"
    )
