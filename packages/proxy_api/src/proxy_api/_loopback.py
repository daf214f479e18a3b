"""Addresses as a peer, a header or a setting has them, and whether they are this machine's."""

from __future__ import annotations

import ipaddress

__all__ = ["is_loopback", "is_loopback_host", "parsed_address"]


def parsed_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address without its zone, unwrapped where it is IPv4 in IPv6; None for no address."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    inner = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return inner or parsed


def is_loopback(address: str) -> bool:
    """Whether this address is the machine itself. ``::ffff:127.0.0.1`` is."""
    parsed = parsed_address(address)
    return parsed is not None and parsed.is_loopback


def is_loopback_host(host: str) -> bool:
    """Whether the name in a Host header or a URL is this machine."""
    return host == "localhost" or host.endswith(".localhost") or is_loopback(host)
