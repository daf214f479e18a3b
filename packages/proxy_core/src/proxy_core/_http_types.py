"""What a client is asked and what it answers, whichever engine is behind it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from proxy_core._types import Headers, Timeouts
from proxy_core.errors import UpstreamProtocolError, UpstreamTimeout

__all__ = ["HttpRequest", "HttpResponse", "HttpSender", "PoolLimits", "timed_out"]

_TIMED_OUT: Final = {
    "first_byte": "did not answer in time",
    "between_events": "fell silent in the middle of its answer",
    "total": "did not end its answer in the total time",
}


class HttpRequest(msgspec.Struct):
    """One request, complete.

    ``host`` and ``content-length`` are added, and ``accept-encoding: identity`` unless another is
    given: nothing that is compressed is ever unpacked here.
    """

    method: str
    url: str
    headers: Headers
    body: bytes = b""

    def __repr__(self) -> str:
        # Headers hold credentials, and the body is the client's.
        return f"HttpRequest(method={self.method!r}, url={self.url!r})"


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Sizes of one client's pool.

    A client usually serves one upstream, that is one origin: a scheme, a host and a port.
    """

    connections: int = 1000
    """In all: in use, idle or being opened."""
    connections_per_origin: int | None = None
    """To one origin; None: as many as in all."""
    keep_alive: int = 512
    """Idle connections that are kept. Opening one costs more than ten requests over a kept one."""
    keep_alive_for: float = 30.0
    """Seconds; below what servers usually grant, else we would write into a closed one."""
    waiting: int = 10_000
    """Requests that may wait for a connection, each for ``Timeouts.pool``; more are shed."""
    max_answer: int = 64 * 1024 * 1024
    """Bytes of an answer that is read whole. A stream has no such end: 192 KB of it are held."""


class HttpSender(Protocol):
    """What a provider needs of a client: HttpClient is one, so are the doubles in ``testing``."""

    def send(
        self, request: HttpRequest, *, timeouts: Timeouts
    ) -> AbstractAsyncContextManager[HttpResponse]: ...

    @property
    def held_bytes(self) -> int: ...

    async def aclose(self) -> None: ...


class HttpResponse:
    """An answer whose head has come. ``body`` gives bytes as they arrive and may be read once."""

    __slots__ = ("_body", "_headers", "_max_answer", "held_bytes", "status")

    def __init__(
        self, status: int, headers: Headers, body: AsyncGenerator[bytes, None], max_answer: int
    ) -> None:
        self.status = status
        self.held_bytes = 0
        """Bytes of this answer that ``read`` has collected."""
        self._headers = headers
        self._body = body
        self._max_answer = max_answer

    @property
    def headers(self) -> Headers:
        """Lower-case names and values, in their order."""
        return self._headers

    @property
    def body(self) -> AsyncGenerator[bytes, None]:
        return self._body

    @body.setter
    def body(self, body: AsyncGenerator[bytes, None]) -> None:
        self._body = body

    def header(self, name: bytes) -> bytes:
        """The first value of a header, empty when it is missing. ``name`` is lower-case."""
        for key, value in self._headers:
            if key == name:
                return value
        return b""

    async def read(self, at_most: int | None = None) -> bytes:
        """The whole body. Raises UpstreamProtocolError when it is larger than the cap."""
        cap = self._max_answer if at_most is None else at_most
        parts: list[bytes] = []

        def collect(part: bytes) -> bool:
            parts.append(part)
            self.held_bytes += len(part)
            return self.held_bytes <= cap

        if not await self.pour(collect):
            raise UpstreamProtocolError(f"the upstream's answer is larger than {cap} bytes")
        return b"".join(parts)

    async def pour(self, sink: Callable[[bytes], bool]) -> bool:
        """Give the rest of the body to ``sink``, each piece as it comes, as long as it is True.

        True when the body has ended, False as soon as the sink was; then it may be called again. An
        engine may call the sink from the loop, so that no task is switched to for each piece.
        """
        async for part in self._body:
            if not sink(part):
                return False
        return True


def timed_out(phase: str) -> UpstreamTimeout:
    """The error for a phase that lasted too long."""
    return UpstreamTimeout(f"the upstream {_TIMED_OUT[phase]}", phase=phase)
