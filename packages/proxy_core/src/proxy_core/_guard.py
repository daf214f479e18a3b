"""Connects httpx2 only to addresses that were checked, whatever a name resolves to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2

from proxy_core._resolver import Resolver

__all__ = ["guarded"]


def guarded(transport: httpx2.AsyncHTTPTransport) -> None:
    """Put the check between the engine's pool and the network.

    The transport takes no network backend of its own, its pool does; a test connects to a forbidden
    address and so notices when this attribute moves.
    """
    transport._pool._network_backend = _CheckedBackend(httpcore2.AnyIOBackend())  # noqa: SLF001


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, inner: httpcore2.AsyncNetworkBackend) -> None:
        self._inner = inner
        self._resolver = Resolver()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolver.resolve(host, port)
                # One that swallows packets leaves time for the next: IPv6 often is that one.
                share = None if timeout is None else timeout / max(1, len(addresses))
                for address in addresses:
                    try:
                        return await self._inner.connect_tcp(
                            address, port, share, local_address, socket_options
                        )
                    except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                        failure = error
        except TimeoutError:
            failure = httpcore2.ConnectTimeout(f"{host}:{port}")
        self._resolver.forget(host)
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        return await self._inner.connect_unix_socket(path, timeout, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
