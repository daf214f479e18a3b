"""The client towards upstreams, as small as a proxy needs it, and which engine is behind it.

No redirects, no cookies, no environment, nothing unpacked: what is sent is what the caller gave.
"""

from __future__ import annotations

import ssl
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from proxy_core._http1 import Http1Engine
from proxy_core._http_types import HttpRequest, HttpResponse, HttpSender, PoolLimits
from proxy_core._tls import tls_context
from proxy_core._types import Timeouts
from proxy_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["HttpClient", "HttpRequest", "HttpResponse", "HttpSender", "PoolLimits"]


class Engine(Protocol):
    """What is behind a client."""

    @property
    def open(self) -> Collection[HttpResponse]:
        """Answers that have begun and are not closed."""
        ...

    def send(
        self, request: HttpRequest, timeouts: Timeouts
    ) -> AbstractAsyncContextManager[HttpResponse]: ...

    async def aclose(self) -> None: ...


class HttpClient:
    """A pool of connections to one upstream.

    ``ca`` is a file of certificates to trust instead of the system's, ``cert`` a client
    certificate (file, or file and key). Certificates are always verified. ``tls`` is a context to
    use instead, for clients that share one: making it takes 40 ms and more.

    The engine is one of our own, for HTTP/1.1. With ``http2``, or with an outbound ``proxy``
    (``http://user:password@host:port``, or https), it is httpx2, which the extra ``http2`` of
    proxy-core installs. Raises ConfigurationError.

    A client belongs to the event loop that it is used in. Used in another one, it begins anew
    there, and its connections of the former loop are dropped.
    """

    def __init__(
        self,
        limits: PoolLimits = PoolLimits(),
        *,
        ca: str | None = None,
        cert: str | tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        http2: bool = False,
        proxy: str | None = None,
    ) -> None:
        context = tls or tls_context(ca, cert)
        self._engine: Engine
        if http2 or proxy is not None:
            self._engine = _httpx2(limits, context, http2, proxy)
        else:
            self._engine = Http1Engine(limits, context)

    @property
    def held_bytes(self) -> int:
        """Bytes of answers that are being collected."""
        return sum(response.held_bytes for response in self._engine.open)

    @property
    def open_responses(self) -> int:
        """Answers that have begun and are not closed."""
        return len(self._engine.open)

    def send(
        self, request: HttpRequest, *, timeouts: Timeouts = Timeouts()
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """Send, and hold the connection until the block is left. Raises UpstreamError."""
        return self._engine.send(request, timeouts)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail, later ones are refused."""
        await self._engine.aclose()


def _httpx2(limits: PoolLimits, tls: ssl.SSLContext, http2: bool, proxy: str | None) -> Engine:
    field = "http2" if proxy is None else "proxy"
    try:
        from proxy_core._http_httpx2 import Httpx2Engine

        return Httpx2Engine(limits, tls, http2=http2, proxy=proxy)
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"{field} needs the package {missing.name!r}, which is not installed: "
            "pip install 'proxy-core[http2]'.",
            param=field,
        ) from None
