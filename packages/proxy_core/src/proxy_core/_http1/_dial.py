"""From a host to a connection: resolve, then try one address after the other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar

from proxy_core._http1._request import Target
from proxy_core._resolver import NOT_REACHED, Resolver
from proxy_core.errors import ConnectFailed

__all__ = ["Dialer"]

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Dialer:
    """Connects to addresses that were checked. TLS names and verifies the host of the URL."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._resolver = Resolver()

    async def connect(self, target: Target, make: Callable[[], P], limit: float) -> P:
        """DNS, TCP and TLS in at most ``limit`` seconds.

        Raises ConnectFailed, or TimeoutError where the last address took too long.
        """
        failure: OSError = OSError(f"{target.host} has no address")
        try:
            async with asyncio.timeout(limit):
                addresses = await self._resolver.resolve(target.host, target.port)
                # One that swallows packets leaves time for the next: IPv6 often is that one.
                share = limit / max(1, len(addresses))
                for address in addresses:
                    found = await self._try(address, target, make, share)
                    if not isinstance(found, OSError):
                        return found
                    failure = found
        except TimeoutError as error:
            failure = error
        self._resolver.forget(target.host)
        if isinstance(failure, TimeoutError):
            raise failure
        raise ConnectFailed(f"{NOT_REACHED}: {failure.strerror or failure}")

    async def _try(
        self, address: str, target: Target, make: Callable[[], P], share: float
    ) -> P | OSError:
        try:
            async with asyncio.timeout(share):
                return await self._open(address, target, make)
        except OSError as error:  # a TimeoutError is one
            return error

    async def _open(self, address: str, target: Target, make: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        try:
            if target.is_tls:
                _, protocol = await loop.create_connection(
                    make, address, target.port, ssl=self._tls, server_hostname=target.host
                )
            else:
                _, protocol = await loop.create_connection(make, address, target.port)
        except (ssl.SSLError, ValueError) as error:  # another address would not be more trusted
            raise ConnectFailed(f"{NOT_REACHED}: {error}") from None
        return protocol
