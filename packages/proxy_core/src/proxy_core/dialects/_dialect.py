"""A wire format as it passes when client and provider speak the same: nearly untouched."""

from __future__ import annotations

from typing import Protocol

from proxy_core._types import Call, Usage
from proxy_core.errors import UpstreamError

__all__ = ["Dialect", "Tap"]


class Tap(Protocol):
    """One streamed answer on its way. ``feed`` gives what goes on to the client: whole events.

    ``failure`` is set when the stream turned out broken: what ``feed`` gave before it may be sent,
    and then it must be raised. ``done`` is True after the dialect's own last event, behind which
    nothing is read. ``has_content`` is True from the first event with text, a tool call, reasoning,
    a refusal or an end.
    """

    failure: UpstreamError | None
    done: bool
    has_content: bool

    def feed(self, data: bytes) -> bytes: ...

    def end(self) -> bytes:
        """The body has ended: what the client is owed. Sets ``failure`` if it broke off."""
        ...


class Dialect(Protocol):
    """Five verbs, all of them pure: bytes in, bytes out."""

    @property
    def name(self) -> str: ...

    @property
    def streams(self) -> bool: ...

    def read(
        self, raw: bytes, request_id: str = "", *, model: str = "", stream: bool | None = None
    ) -> Call:
        """The call in a client's body. Raises InvalidRequest: it names the field and the remedy.

        ``model`` and ``stream`` are given where the URL says them, and then the body need not.
        """
        ...

    def path(self, model: str, *, stream: bool) -> str:
        """Below a provider's base URL, with a slash at its beginning."""
        ...

    def request(self, call: Call, model: str, *, ask_usage: bool) -> bytes:
        """The body for an upstream: its name for the model, and the usage of a stream asked for."""
        ...

    def tap(self, call: Call, usage: Usage) -> Tap:
        """What watches a streamed answer to this call; it fills ``usage``."""
        ...

    def whole(self, call: Call, raw: bytes, usage: Usage) -> bytes:
        """A whole answer by the name that was asked for; fills ``usage``. Raises UpstreamError."""
        ...
