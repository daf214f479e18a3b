"""The vocabulary. Read this file first: everything else moves these values about."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from proxy_core.dialects._document import Document

__all__ = ["Call", "Headers", "Provider", "Ready", "Reply", "Timeouts", "Usage"]

Headers = list[tuple[bytes, bytes]]
"""Lower-case names and values, in their order."""


# Structs rather than dataclasses: several are made for each request, at a tenth of the cost.


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds, one for each phase of an attempt; never one "timeout" for all of them.

    An answer that isn't streamed begins when all of it is generated, so for such a call a provider
    lets ``first_byte`` and ``between_events`` be ``total``.
    """

    connect: float = 5.0
    """DNS, TCP and TLS."""
    first_byte: float = 60.0
    """From the request sent to the head of the answer, and again to its first byte."""
    between_events: float = 60.0
    total: float = 600.0
    """All the time spent waiting for the upstream; waiting for a slow client doesn't count."""
    pool: float = 2.0
    """How long a request may wait for a free connection before it is shed."""


class Usage(msgspec.Struct):
    """Tokens of one answer. ``reported`` is False while the numbers are our own estimate.

    Providers count in different ways; here ``input_tokens`` and ``output_tokens`` are everything,
    and each of the other fields is a part of one of them.
    """

    input_tokens: int = 0
    """All of the prompt: cached tokens and those written to a cache included."""
    output_tokens: int = 0
    """All that was generated, reasoning included."""
    cached_tokens: int = 0
    """Of the input, read from the provider's cache."""
    reasoning_tokens: int = 0
    """Of the output."""
    reported: bool = False
    cache_write_tokens: int = 0
    """Of the input, written to the provider's cache, however long it is kept."""
    cache_write_1h_tokens: int = 0
    """Of ``cache_write_tokens``, those that are kept for an hour, which cost more."""
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0

    def take(self, other: Usage) -> None:
        """Become what was reported: whoever holds this object sees it."""
        self.input_tokens = other.input_tokens
        self.output_tokens = other.output_tokens
        self.cached_tokens = other.cached_tokens
        self.reasoning_tokens = other.reasoning_tokens
        self.reported = other.reported
        self.cache_write_tokens = other.cache_write_tokens
        self.cache_write_1h_tokens = other.cache_write_1h_tokens
        self.audio_input_tokens = other.audio_input_tokens
        self.audio_output_tokens = other.audio_output_tokens
        self.image_input_tokens = other.image_input_tokens
        self.image_output_tokens = other.image_output_tokens


class Call(msgspec.Struct, frozen=True):
    """What a client asked for: a dialect's name and the body as it came, never a canonical form."""

    dialect: str
    """``openai.chat``, ``anthropic.messages``: a name in ``DIALECTS``."""
    body: Document
    model: str
    """The name that the client asked for."""
    stream: bool = False
    request_id: str = ""
    include_usage: bool = False
    """Whether the client itself asked for the usage event of a stream."""
    max_tokens: int | None = None
    """The cap on the output that the client set."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Those of the client that belong to the dialect, such as ``anthropic-beta``; lower-case names.
    A provider's row says which of them go on to an upstream of the same dialect."""
    media: bytes = b""
    """The body's content type; empty: JSON."""
    provider: str = ""
    """The only provider that it may go to: then no model is looked up."""
    scope: str = ""
    """Whose it is: what a provider remembers of one call is for others of the same scope alone."""
    method: str = "POST"
    path: str = ""
    """Of a ``raw`` call: what follows the provider's base URL, query included."""
    seal: Callable[..., str] | None = None
    """Makes the id that the client sees of a provider's name and its id of what it keeps."""


class Ready(AsyncGenerator[bytes, None]):
    """A body that is here already: no frame is made to wait for it."""

    __slots__ = ("chunks",)

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        """What has not been read yet."""

    def take(self) -> bytes:
        """All that has not been read, as one piece."""
        whole = b"".join(self.chunks)  # a single one is given as it is
        self.chunks.clear()
        return whole

    async def __anext__(self) -> bytes:
        if not self.chunks:
            raise StopAsyncIteration
        return self.chunks.pop(0)

    async def asend(self, value: None) -> bytes:
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> bytes:
        self.chunks.clear()
        raise typ if val is None else val

    async def aclose(self) -> None:
        self.chunks.clear()


class Reply(msgspec.Struct):
    """An answer that has begun. ``body`` may be read once, inside the block that gave the reply.

    A whole answer is a body of one chunk; a stream yields whole events. ``usage`` fills while the
    body is read and is final when the body has ended.
    """

    body: AsyncGenerator[bytes, None]
    stream: bool = False
    headers: Headers = msgspec.field(default_factory=list)
    """Headers of the upstream that may go on to the client."""
    usage: Usage = msgspec.field(default_factory=Usage)
    content_at: float | None = None
    """``time.monotonic()`` of the first event with text, tool call, reasoning, refusal or end."""
    media: bytes | None = None
    """The content type of a body that passes as it comes; empty: the upstream told none. None: JSON
    or events, as ``stream`` says."""
    status: int = 200
    given: bool = False
    """Whether who reads the body has taken its last event: what may follow says nothing."""

    @property
    def has_content(self) -> bool:
        return self.content_at is not None


class Provider(Protocol):
    """One upstream that speaks some dialects. Wrap it to add behaviour: the signature stays."""

    name: str

    def send(
        self, call: Call, *, model: str, timeouts: Timeouts = ...
    ) -> AbstractAsyncContextManager[Reply]:
        """Ask ``model``, the upstream's own name. Raises UpstreamError, also from the body."""
        ...

    async def aclose(self) -> None: ...
