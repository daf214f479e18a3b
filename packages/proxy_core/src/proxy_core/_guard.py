"""Connects the engine only to addresses that were checked, whatever a name resolves to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2

from proxy_core._addresses import is_forbidden

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
                addresses = await _resolve(host, port)
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
            raise httpcore2.ConnectTimeout(f"{host}:{port}") from None
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        return await self._inner.connect_unix_socket(path, timeout, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise httpcore2.ConnectError(f"{host} could not be resolved: {reason}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    refused = [address for address in addresses if is_forbidden(address)]
    if refused:
        raise httpcore2.ConnectError(
            f"{host} resolves to {refused[0]}, a link-local, metadata or unspecified address"
        )
    return addresses
