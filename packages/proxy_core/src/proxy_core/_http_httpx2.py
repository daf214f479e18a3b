"""The engine for HTTP/2 and outbound proxies: httpx2's transport, nothing above it.

Errors of the engine become ours in one table, around the call and around every chunk.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Final

import httpx2

from proxy_core._addresses import is_forbidden_host
from proxy_core._guard import guarded
from proxy_core._http_types import HttpRequest, HttpResponse, PoolLimits, timed_out
from proxy_core._types import Timeouts
from proxy_core.errors import (
    ConfigurationError,
    ConnectFailed,
    PoolExhausted,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
)

__all__ = ["Httpx2Engine"]


class Httpx2Engine:
    """A pool of httpx2's connections. ``proxy`` may hold a user and a password.

    Of ``limits`` it knows ``connections``, ``keep_alive``, ``keep_alive_for`` and ``max_answer``.
    Raises ConfigurationError, and ModuleNotFoundError without h2.
    """

    def __init__(
        self, limits: PoolLimits, tls: ssl.SSLContext, *, http2: bool, proxy: str | None
    ) -> None:
        if http2:
            import h2  # noqa: F401 - the transport would miss it at the first request
        self.open: set[HttpResponse] = set()
        self._max_answer = limits.max_answer
        self._is_proxied = proxy is not None
        self._transport = httpx2.AsyncHTTPTransport(
            verify=tls,
            trust_env=False,
            http2=http2,
            proxy=None if proxy is None else _proxy(proxy),
            limits=httpx2.Limits(
                max_connections=limits.connections,
                max_keepalive_connections=limits.keep_alive,
                keepalive_expiry=limits.keep_alive_for,
            ),
        )
        guarded(self._transport)

    @asynccontextmanager
    async def send(self, request: HttpRequest, timeouts: Timeouts) -> AsyncIterator[HttpResponse]:
        """Send, and hold the connection until the block is left. Raises UpstreamError."""
        first_byte = _below(timeouts.total, timeouts.first_byte)
        clock: dict[str, float | None] = {
            "connect": timeouts.connect,
            "pool": timeouts.pool,
            "write": first_byte,
            "read": first_byte,
        }
        outgoing = _outgoing(request, clock)
        if self._is_proxied and is_forbidden_host(outgoing.url.host):  # the proxy resolves names
            raise ConnectFailed("the upstream has a link-local, metadata or unspecified address")
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
            self._max_answer,
        )
        self.open.add(response)
        try:
            async with aclosing(response.body):
                yield response
        finally:
            self.open.discard(response)
            await answer.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


def _proxy(url: str) -> httpx2.Proxy:
    try:
        proxy = httpx2.Proxy(url)
    except (httpx2.InvalidURL, ValueError):  # what they say quotes the password
        proxy = None
    if proxy is None or proxy.url.scheme not in {"http", "https"} or not proxy.url.host:
        raise ConfigurationError(
            "The proxy can't be used: write http://host:port, or https.", param="proxy"
        )
    return proxy


def _below(total: float, limit: float) -> float | None:
    """What the engine is to watch: nothing where the total, which we watch, ends no later."""
    return limit if limit < total else None


def _outgoing(request: HttpRequest, clock: dict[str, float | None]) -> httpx2.Request:
    try:
        headers = [*request.headers]
        if all(name.lower() != b"accept-encoding" for name, _ in headers):
            headers.append((b"accept-encoding", b"identity"))
        outgoing = httpx2.Request(
            request.method,
            request.url,
            headers=headers,
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
    (httpx2.ProxyError, ConnectFailed, "the outbound proxy would not connect"),
    (httpx2.UnsupportedProtocol, ConnectFailed, "the upstream's URL can't be used"),
    (httpx2.LocalProtocolError, ConnectFailed, "the request can't be sent: look at the headers"),
    (httpx2.TransportError, UpstreamProtocolError, "the upstream's answer could not be read"),
)
"""The engine's errors to ours, the most specific first."""


@contextmanager
def _translated(phase: str, *, ours: str) -> Iterator[None]:
    """``phase`` is what the engine watches now, ``ours`` what our own clock does."""
    try:
        yield
    except (httpx2.ReadTimeout, httpx2.WriteTimeout):
        raise timed_out(phase) from None
    except TimeoutError:
        raise timed_out(ours) from None
    except httpx2.TransportError as error:
        # What can't be sent is quoted by the engine, and may be a header that holds a key.
        detail = "" if isinstance(error, httpx2.LocalProtocolError) else str(error)
        for theirs, kind, told in _ERRORS:
            if isinstance(error, theirs):
                raise kind(f"{told}: {detail}" if detail else told) from None
        raise
