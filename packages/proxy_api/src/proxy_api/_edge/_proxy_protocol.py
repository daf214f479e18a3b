"""The line with which a TCP balancer begins a connection: who is behind it.

Versions 1 and 2 of HAProxy's "The PROXY protocol", https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final, NamedTuple

__all__ = ["NotProxied", "Proxied", "read_preface"]

_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD: Final = 16
_V1_LONGEST: Final = 107
"""Bytes of a line of version 1 with its end, by section 2.1."""
_V2_LONGEST: Final = 2048
"""Bytes of addresses and extensions that we take: certificates don't come this way."""
_SIZES: Final = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}
_LOCAL, _PROXY = 0x20, 0x21


class NotProxied(ValueError):
    """The connection does not begin as it must."""


class Proxied(NamedTuple):
    """What such a line says."""

    size: int
    """Bytes of it; what follows is HTTP."""
    client: tuple[str, int] | None
    """None: the balancer speaks for itself, as in its health checks."""


def read_preface(data: bytes) -> Proxied | None:
    """Read it from a connection's first bytes; None when there are too few. Raises NotProxied."""
    if data.startswith(_V2):
        return _second(data)
    if data.startswith(b"PROXY "):
        return _first(data)
    if _V2.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise NotProxied


def _first(data: bytes) -> Proxied | None:
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise NotProxied
        return None
    words = data[:end].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return Proxied(end + 2, None)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6") or not words[4].isdecimal():
        raise NotProxied
    try:
        address = ipaddress.ip_address(words[2])
    except ValueError:
        raise NotProxied from None
    return Proxied(end + 2, (str(address), int(words[4])))


def _second(data: bytes) -> Proxied | None:
    if len(data) < _V2_HEAD:
        return None
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY) or length > _V2_LONGEST:
        raise NotProxied
    size = _V2_HEAD + length
    if len(data) < size:
        return None
    if command == _LOCAL or family not in _SIZES:
        return Proxied(size, None)
    kind, width = _SIZES[family]
    if length < 2 * width + 4:
        raise NotProxied
    host = socket.inet_ntop(kind, data[_V2_HEAD : _V2_HEAD + width])
    port_at = _V2_HEAD + 2 * width
    return Proxied(size, (host, int.from_bytes(data[port_at : port_at + 2], "big")))
