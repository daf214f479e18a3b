"""What the edge allows, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from proxy_api._edge._cors import Cors
from proxy_api._edge._forwarded import Trust
from proxy_api._settings_models import ServerSettings

__all__ = ["Rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Limits of every connection, and whom to believe. Times are seconds, sizes bytes."""

    header_timeout: float
    """From the connection, or from a request's first byte, until its head is whole."""
    header_size: int
    """The request line and all headers."""
    header_count: int
    body_timeout: float
    """A body may take this long, and a second for each ``body_rate`` bytes that have come."""
    body_rate: int
    idle_timeout: float
    """Between an answer and the next request."""
    connections: int
    trust: Trust
    proxy_protocol: bool
    """Whether trusted peers begin each connection with a line that says who is behind them."""
    cors: Cors | None

    @classmethod
    def of(cls, server: ServerSettings) -> Self:
        """The rules that this section of the configuration asks for."""
        limits = server.limits
        return cls(
            header_timeout=limits.header_timeout,
            header_size=limits.header_size,
            header_count=limits.header_count,
            body_timeout=limits.body_timeout,
            body_rate=limits.body_rate,
            idle_timeout=limits.idle_timeout,
            connections=limits.connections,
            trust=Trust(server.trusted_proxies),
            proxy_protocol=server.proxy_protocol,
            cors=Cors(server.cors.origins) if server.cors and server.cors.origins else None,
        )
