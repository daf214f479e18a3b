"""Addresses that no upstream may have: link-local ones and those of cloud metadata services.

An operator's own base URL may be private, but never one of these: a request to them hands out the
machine's own credentials. Names are resolved here and the checked address is the one connected to.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

__all__ = ["is_forbidden", "is_forbidden_host"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_FORBIDDEN: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local; the metadata service of AWS, Azure, GCP and others
        "fe80::/10",
        "fd00:ec2::/32",  # AWS over IPv6
        "fd20:ce::254/128",  # Google Cloud over IPv6
        "100.100.100.200/32",  # Alibaba Cloud
        "192.0.0.192/32",  # Oracle Cloud
        "168.63.129.16/32",  # Azure's agent, which hands out certificates
        "0.0.0.0/32",  # no address to call: whatever listens on this machine
        "::/128",
    )
)
_FORBIDDEN_NAMES: Final = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)
_HOLDS_IPV4: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/96",  # NAT64 of a local network
        "::/96",  # IPv4-compatible, given up long ago
        "::ffff:0:0:0/96",  # IPv4-translated
    )
)


def is_forbidden(address: str) -> bool:
    """Whether this literal address, unwrapped from IPv4-in-IPv6 forms, must not be connected to.

    Raises ValueError for what is no address.
    """
    given = ipaddress.ip_address(address.partition("%")[0])
    return any(
        each in network
        for each in (given, _unwrap(given))
        for network in _FORBIDDEN
        if network.version == each.version
    )


def is_forbidden_host(host: str) -> bool:
    """Whether a URL's host, a name or an address in any spelling, is forbidden by its text alone.

    A name still needs to be resolved.
    """
    name = host.strip("[]").rstrip(".").lower()
    try:
        return is_forbidden(name)
    except ValueError:
        return name in _FORBIDDEN_NAMES or _is_forbidden_loosely(name)


def _is_forbidden_loosely(name: str) -> bool:
    """What the C library makes of ``2852039166``, ``0xa9.254.43518`` and the like."""
    if not name[:1].isdigit():
        return False
    try:
        return is_forbidden(socket.inet_ntoa(socket.inet_aton(name)))
    except (OSError, ValueError):
        return False


def _unwrap(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and any(address in network for network in _HOLDS_IPV4):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner if inner is not None else address
