"""Who is asking, when a proxy that we trust says so."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from proxy_api._loopback import parsed_address

__all__ = ["Trust"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MOST_HOPS: Final = 32


class Trust:
    """The addresses whose word counts. Empty, it believes nobody."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[_Network, ...] = tuple(map(ipaddress.ip_network, networks))

    def includes(self, address: str) -> bool:
        """Whether this address is one of them. What is no address isn't."""
        parsed = parsed_address(address) if self._networks else None
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        """The last address that isn't a proxy of ours, as those proxies wrote it down.

        What stands before it was said by somebody whom we don't know. ``X-Forwarded-For`` goes
        before ``Forwarded``. None when there is neither, or when its last word is no address.
        """
        hops = _hops(headers, b"x-forwarded-for") or [
            _forwarded_for(element) for element in _hops(headers, b"forwarded")
        ]
        nearest = None
        for hop in reversed(hops[-_MOST_HOPS:]):
            parsed = parsed_address(_without_port(hop))
            if parsed is None:
                break
            nearest = str(parsed)
            if not self.includes(nearest):
                break
        return nearest


def _hops(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    lines = [value.decode("latin-1") for name, value in headers if name == wanted]
    return [hop.strip() for hop in ",".join(lines).split(",")] if lines else []


def _forwarded_for(element: str) -> str:
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
