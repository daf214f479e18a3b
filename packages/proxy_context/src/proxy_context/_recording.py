"""A stream on its way into the cache: kept only if it was whole."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from proxy_context._keys import CacheKey
from proxy_context._sizes import CHUNK_OVERHEAD
from proxy_context.errors import RecordingEnded

__all__ = ["Recorder", "Recording"]


class Recorder(Protocol):
    """Who keeps what was recorded, and grants the memory for it meanwhile."""

    def begin(self, recording: Recording) -> None:
        """The recording's block was entered."""
        ...

    def grant(self, held: int, more: int) -> bool:
        """May a recording that holds ``held`` bytes take ``more``?"""
        ...

    def finish(
        self,
        recording: Recording,
        chunks: tuple[bytes, ...] | None,
        metadata: Mapping[str, Any] | None,
    ) -> bool:
        """The recording is over; ``chunks`` is None when there is nothing to keep."""
        ...


class Recording:
    """Feed it the chunks as they pass; say ``complete()`` when the stream ended as it should.

    Stored when its block is left without an exception, after ``complete()``. Otherwise nothing is
    kept: an answer that broke off, or whose reader left, never becomes a cached answer. A
    recording that grows past its limit gives up by itself and lets go of what it had.
    """

    __slots__ = (
        "_chunks",
        "_complete",
        "_metadata",
        "_open",
        "_recorder",
        "held_bytes",
        "key",
        "stored",
        "ttl",
    )

    def __init__(
        self,
        recorder: Recorder,
        key: CacheKey,
        ttl: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.key = key
        self.ttl = ttl
        self.stored = False
        """True after the block, when the cache has taken it."""
        self.held_bytes = 0
        self._recorder = recorder
        self._metadata = metadata
        self._chunks: list[bytes] | None = []
        self._complete = False
        self._open = False

    def feed(self, chunk: bytes) -> None:
        """Add a chunk (copied unless it is bytes). Nothing happens once the recording gave up."""
        if self._complete or not self._open:
            raise RecordingEnded(
                "feed() after complete() or outside the block: feed first, inside it"
            )
        if self._chunks is None:
            return
        more = len(chunk) + CHUNK_OVERHEAD
        if not self._recorder.grant(self.held_bytes, more):
            self.drop()
            return
        self._chunks.append(chunk if type(chunk) is bytes else bytes(chunk))
        self.held_bytes += more

    def complete(self, metadata: Mapping[str, Any] | None = None) -> None:
        """The stream ended as it should. ``metadata`` replaces what the recording began with."""
        if not self._open:
            raise RecordingEnded("complete() outside the recording's block: call it inside")
        self._complete = True
        if metadata is not None:
            self._metadata = metadata

    def drop(self) -> None:
        """Give up: keep nothing, and let go of what was recorded."""
        if self._chunks is None:
            return
        self._chunks = None
        self._recorder.finish(self, None, None)
        self.held_bytes = 0

    def __enter__(self) -> Self:
        self._open = True
        self._recorder.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        if kind is not None or not self._complete:
            self.drop()
        elif self._chunks is not None:
            chunks, self._chunks = tuple(self._chunks), None
            self.stored = self._recorder.finish(self, chunks, self._metadata)
            self.held_bytes = 0
