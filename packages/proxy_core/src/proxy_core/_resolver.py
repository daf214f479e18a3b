"""From a name to addresses that may be called."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable
from typing import Final

from proxy_core._addresses import is_forbidden
from proxy_core.errors import ConnectFailed

__all__ = ["NOT_REACHED", "Resolver", "looked_up"]

NOT_REACHED: Final = "the upstream could not be reached"
_KEPT_FOR: Final = 30.0
"""Seconds: a name that moves to other machines is followed soon, and few requests wait for DNS."""
_MOST_KEPT: Final = 256


class Resolver:
    """Keeps a name's addresses for 30 s, and gives none that is link-local or a metadata service's.

    The address that was checked is to be called, not the name again.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[list[str], float]] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """All addresses, in the order to try them. Raises ConnectFailed."""
        now = self._clock()
        known = self._known.get(host)
        if known is not None and known[1] > now:
            return known[0]
        addresses = [host] if _is_address(host) else await looked_up(host, port)
        for address in addresses:
            if is_forbidden(address):
                raise ConnectFailed(
                    f"{NOT_REACHED}: {host} resolves to {address}, "
                    "a link-local, metadata or unspecified address"
                )
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[host] = (addresses, now + _KEPT_FOR)
        return addresses

    def forget(self, host: str) -> None:
        """Look it up anew next time: none of its addresses could be connected to."""
        self._known.pop(host, None)


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
        raise ConnectFailed(f"{NOT_REACHED}: {host} could not be resolved: {reason}") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
