"""Addresses that no provider may have: link-local ones and the clouds' metadata services."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

__all__ = ["check_base_url", "is_metadata_host", "is_url"]

# AWS (by IPv6), Alibaba Cloud and Oracle Cloud; 169.254.169.254 is in the link-local network. The
# unspecified addresses are no addresses to call: they reach whatever listens on this machine.
_REFUSED_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::/32",
        "100.100.100.200/32",
        "192.0.0.192/32",
        "0.0.0.0/32",
        "::/128",
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REFUSED_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)


def is_metadata_host(host: str) -> bool:
    """Whether ``host``, a name or an address in any spelling, is one of those."""
    name = host.rstrip(".").lower()
    if name in _REFUSED_NAMES:
        return True
    address = _address(name)
    return address is not None and any(address in network for network in _REFUSED_NETWORKS)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return _loose_address(name)
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or _nat64(address) or address
    return address


def _nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    inside = address in _NAT64
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if inside else None


def _loose_address(name: str) -> ipaddress.IPv4Address | None:
    """What the C library makes of ``2852039166``, ``0xa9.254.43518`` and the like."""
    if not name[:1].isdigit():
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except (OSError, ValueError):
        return None


def check_base_url(url: str) -> str:
    """The URL without its last slash. Raises ``ValueError``, which never repeats a password."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as https://api.example.com/v1")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or a password: use api_key or headers")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError("must end with its path: no ?query and no #fragment")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("must not hold spaces")
    if is_metadata_host(parts.hostname):
        raise ValueError("must not be a link-local, metadata or unspecified address")
    return url.rstrip("/")


def is_url(url: str, schemes: tuple[str, ...]) -> bool:
    """Whether ``url`` has one of ``schemes``, a host, and a port that is one."""
    parts = _split(url)
    return parts is not None and parts.scheme in schemes and bool(parts.hostname)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts
