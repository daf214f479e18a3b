"""The client towards upstreams, as small as a proxy needs it. The engine is httpx2's transport.

No redirects, no cookies, no environment: what is sent is what the caller gave. Errors of the engine
become ours in one table, around the call and around every chunk.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import httpx2

from proxy_core._guard import guarded
from proxy_core._types import Headers, Timeouts
from proxy_core.errors import (
    ConfigurationError,
    ConnectFailed,
    PoolExhausted,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)

__all__ = ["HttpClient", "HttpRequest", "HttpResponse", "HttpSender", "PoolLimits"]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, complete. ``content-length`` and ``host`` are added, nothing else is."""

    method: str
    url: str
    headers: Headers = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Sizes of one pool, that is of one upstream."""

    connections: int = 1000
    keep_alive: int = 100
    """Idle connections that are kept."""
    keep_alive_for: float = 30.0
    """Seconds; below what servers usually grant, else we would write into a closed one."""
    max_answer: int = 64 * 1024 * 1024
    """Bytes of a whole answer."""


class HttpSender(Protocol):
    """What a provider needs of a client; HttpClient and the test double both are one."""

    def send(
        self, request: HttpRequest, *, timeouts: Timeouts
    ) -> AbstractAsyncContextManager[HttpResponse]: ...

    @property
    def held_bytes(self) -> int: ...

    async def aclose(self) -> None: ...


class HttpResponse:
    """An answer whose head has come. ``body`` gives bytes as they arrive and may be read once."""

    __slots__ = ("_max_answer", "body", "headers", "held_bytes", "status")

    def __init__(
        self, status: int, headers: Headers, body: AsyncGenerator[bytes, None], max_answer: int
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.held_bytes = 0
        self._max_answer = max_answer

    def header(self, name: bytes) -> bytes:
        """The first value of a header, empty when it is missing. ``name`` is lower-case."""
        return next((value for key, value in self.headers if key == name), b"")

    async def read(self, at_most: int | None = None) -> bytes:
        """The whole body. Raises UpstreamProtocolError when it is larger than the cap."""
        cap = self._max_answer if at_most is None else at_most
        parts: list[bytes] = []
        async for part in self.body:
            parts.append(part)
            self.held_bytes += len(part)
            if self.held_bytes > cap:
                raise UpstreamProtocolError(f"the upstream's answer is larger than {cap} bytes")
        return b"".join(parts)


class HttpClient:
    """A pool of connections to one upstream.

    ``ca`` is a file of certificates to trust instead of the system's, ``cert`` a client
    certificate (file, or file and key). Certificates are always verified. ``tls`` is a context to
    use instead, for clients that share one: making it takes 40 ms and more.
    """

    def __init__(
        self,
        limits: PoolLimits = PoolLimits(),
        *,
        ca: str | None = None,
        cert: str | tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self._open: set[HttpResponse] = set()
        self._transport = httpx2.AsyncHTTPTransport(
            verify=tls or _tls(ca, cert),
            trust_env=False,
            limits=httpx2.Limits(
                max_connections=limits.connections,
                max_keepalive_connections=limits.keep_alive,
                keepalive_expiry=limits.keep_alive_for,
            ),
        )
        guarded(self._transport)

    @property
    def held_bytes(self) -> int:
        """Bytes of answers that are being collected."""
        return sum(response.held_bytes for response in self._open)

    @property
    def open_responses(self) -> int:
        """Answers that have begun and are not closed."""
        return len(self._open)

    @asynccontextmanager
    async def send(
        self, request: HttpRequest, *, timeouts: Timeouts = Timeouts()
    ) -> AsyncIterator[HttpResponse]:
        """Send, and hold the connection until the block is left. Raises UpstreamError."""
        first_byte = _below(timeouts.total, timeouts.first_byte)
        clock: dict[str, float | None] = {
            "connect": timeouts.connect,
            "pool": timeouts.pool,
            "write": first_byte,
            "read": first_byte,
        }
        outgoing = _outgoing(request, clock)
        began = time.monotonic()
        with _translated("first_byte", ours="total"):
            async with asyncio.timeout(timeouts.total):
                answer = await self._transport.handle_async_request(outgoing)
        left = timeouts.total - (time.monotonic() - began)
        # The engine looks the limit up again when the body begins, and then keeps it.
        longest = max(timeouts.first_byte, timeouts.between_events)
        clock["read"] = _below(timeouts.total, longest)
        response = HttpResponse(
            answer.status_code,
            [(name.lower(), value) for name, value in answer.headers.raw],
            _body(answer, timeouts, left),
            self._limits.max_answer,
        )
        self._open.add(response)
        try:
            async with aclosing(response.body):
                yield response
        finally:
            self._open.discard(response)
            await answer.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()


def _below(total: float, limit: float) -> float | None:
    """What the engine is to watch: nothing where the total, which we watch, ends no later."""
    return limit if limit < total else None


def _outgoing(request: HttpRequest, clock: dict[str, float | None]) -> httpx2.Request:
    try:
        outgoing = httpx2.Request(
            request.method,
            request.url,
            headers=request.headers,
            content=request.body,
            extensions={"timeout": clock},
        )
    except (httpx2.InvalidURL, ValueError) as error:
        raise ConnectFailed(f"the upstream's URL can't be used: {error}") from None
    if (outgoing.url.port or 0) > _LAST_PORT:
        raise ConnectFailed(f"the upstream's URL can't be used: no port {outgoing.url.port}")
    return outgoing


async def _body(
    answer: httpx2.Response, timeouts: Timeouts, left: float
) -> AsyncGenerator[bytes, None]:
    """``left`` is what is left of the total. Only reads use it up: our own reader may be slow."""
    limits = {"first_byte": timeouts.first_byte, "between_events": timeouts.between_events}
    longest = max(limits.values())
    watched_by_engine = longest if longest < timeouts.total else math.inf
    phase = "first_byte"
    async with aclosing(aiter(answer.stream)) as parts:  # type: ignore[arg-type,type-var]
        while True:
            limit, ours = min((limits[phase], phase), (left, "total"))
            began = time.monotonic()
            with _translated(phase, ours=ours):
                async with asyncio.timeout(limit if limit < watched_by_engine else None):
                    part = await anext(parts, None)
            left -= time.monotonic() - began
            if part is None:
                return
            yield part
            phase = "between_events"


def _tls(ca: str | None, cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # what ssl raises is one
        raise ConfigurationError(f"The ca {ca!r} can't be used: {error}.", param="ca") from None
    if cert is not None:
        files = (cert,) if isinstance(cert, str) else cert
        try:
            context.load_cert_chain(*files)
        except OSError as error:
            raise ConfigurationError(
                f"The cert {' and '.join(files)!r} can't be used: {error}.", param="cert"
            ) from None
    return context


_LAST_PORT: Final = 65_535
_ERRORS: Final[tuple[tuple[type[Exception], type[UpstreamError], str], ...]] = (
    (httpx2.PoolTimeout, PoolExhausted, "no connection to the upstream was free in time"),
    (httpx2.ConnectTimeout, ConnectFailed, "connecting to the upstream took too long"),
    (httpx2.ConnectError, ConnectFailed, "the upstream could not be reached"),
    (
        httpx2.RemoteProtocolError,
        UpstreamDisconnected,
        "the upstream broke off or broke the protocol",
    ),
    (httpx2.NetworkError, UpstreamDisconnected, "the connection to the upstream broke"),
    (httpx2.UnsupportedProtocol, ConnectFailed, "the upstream's URL can't be used"),
    (httpx2.LocalProtocolError, ConnectFailed, "the request can't be sent: look at the headers"),
    (httpx2.TransportError, UpstreamProtocolError, "the upstream's answer could not be read"),
)
"""The engine's errors to ours, the most specific first."""


_TIMED_OUT: Final = {
    "first_byte": "did not answer in time",
    "between_events": "fell silent in the middle of its answer",
    "total": "did not end its answer in the total time",
}


@contextmanager
def _translated(phase: str, *, ours: str) -> Iterator[None]:
    """``phase`` is what the engine watches now, ``ours`` what our own clock does."""
    try:
        yield
    except (httpx2.ReadTimeout, httpx2.WriteTimeout):
        raise _timeout(phase) from None
    except TimeoutError:
        raise _timeout(ours) from None
    except httpx2.TransportError as error:
        # What can't be sent is quoted by the engine, and may be a header that holds a key.
        detail = "" if isinstance(error, httpx2.LocalProtocolError) else str(error)
        for theirs, kind, told in _ERRORS:
            if isinstance(error, theirs):
                raise kind(f"{told}: {detail}" if detail else told) from None
        raise


def _timeout(phase: str) -> UpstreamTimeout:
    return UpstreamTimeout(f"the upstream {_TIMED_OUT[phase]}", phase=phase)
