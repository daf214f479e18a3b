"""From a host to a connection: resolve, check each address, try one after the other."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final, TypeVar

from proxy_core._addresses import is_forbidden
from proxy_core._http1._request import Target
from proxy_core.errors import ConnectFailed

__all__ = ["Dialer", "looked_up"]

P = TypeVar("P", bound=asyncio.BaseProtocol)
_CACHED_FOR: Final = 30.0
_MOST_CACHED: Final = 256
_TOO_LONG: Final = "connecting to the upstream took too long"
_NOT_REACHED: Final = "the upstream could not be reached"


class Dialer:
    """Connects to addresses that were checked, whatever a name resolves to.

    A name's addresses are kept for 30 s, unless none of them could be connected to. TLS names and
    verifies the host of the URL, not the address.
    """

    def __init__(self, tls: ssl.SSLContext, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tls = tls
        self._clock = clock
        self._known: dict[str, tuple[list[str], float]] = {}

    async def connect(self, target: Target, make: Callable[[], P], limit: float) -> P:
        """DNS, TCP and TLS in at most ``limit`` seconds. Raises ConnectFailed."""
        failure: Exception = OSError(f"{target.host} has no address")
        try:
            async with asyncio.timeout(limit):
                addresses = await self._resolve(target)
                # One that swallows packets leaves time for the next: IPv6 often is that one.
                share = limit / max(1, len(addresses))
                for address in addresses:
                    found = await self._try(address, target, make, share)
                    if not isinstance(found, Exception):
                        return found
                    failure = found
        except TimeoutError as error:
            failure = error
        self._known.pop(target.host, None)
        if isinstance(failure, TimeoutError):
            raise ConnectFailed(f"{_TOO_LONG}: {target.host}:{target.port}") from None
        raise ConnectFailed(f"{_NOT_REACHED}: {getattr(failure, 'strerror', None) or failure}")

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
            raise ConnectFailed(f"{_NOT_REACHED}: {error}") from None
        return protocol

    async def _resolve(self, target: Target) -> list[str]:
        host, now = target.host, self._clock()
        known = self._known.get(host)
        if known is not None and known[1] > now:
            return known[0]
        addresses = [host] if _is_address(host) else await looked_up(host, target.port)
        for address in addresses:
            if is_forbidden(address):
                raise ConnectFailed(
                    f"{_NOT_REACHED}: {host} resolves to {address}, "
                    "a link-local, metadata or unspecified address"
                )
        if len(self._known) >= _MOST_CACHED:
            self._known.clear()
        self._known[host] = (addresses, now + _CACHED_FOR)
        return addresses


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def looked_up(host: str, port: int) -> list[str]:
    """The addresses that a name has now, by the system's resolver. Raises ConnectFailed."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConnectFailed(f"{_NOT_REACHED}: {host} could not be resolved: {reason}") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
