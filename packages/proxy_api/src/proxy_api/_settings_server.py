"""The section ``server`` of the configuration. The descriptions are what an editor shows."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from proxy_api._settings_types import Duration, Network, Origin, Section, Size

__all__ = ["CorsSettings", "EdgeSettings", "ServerSettings", "TlsSettings"]


class TlsSettings(Section):
    cert: str = Field(description="File with the certificate chain, PEM.")
    key: str = Field(description="File with the private key, PEM.")


class CorsSettings(Section):
    origins: tuple[Origin, ...] = Field(
        default=(),
        description="Web origins whose pages may call the proxy; * stands for all of them.",
        examples=[["https://app.example.com"]],
    )


class EdgeSettings(Section):
    """What a connection may cost. The defaults are safe on the open internet."""

    connections: int = Field(
        default=2000, ge=1, description="Connections at the same time; the next one gets a 503."
    )
    idle_timeout: Duration = Field(
        default=75.0,
        description="How long a connection is kept between two requests. Above what load "
        "balancers keep theirs for: who closes first must be them.",
    )
    header_timeout: Duration = Field(
        default=10.0, description="How long the headers of a request may take to come."
    )
    header_size: Size = Field(
        default=32_000, description="Bytes of a request line with all its headers."
    )
    header_count: int = Field(default=100, ge=1, description="Headers of a request.")
    body_timeout: Duration = Field(
        default=30.0,
        description="How long the body of a request may take to come, and a second more for each "
        "body_rate bytes of it.",
    )
    body_rate: Size = Field(
        default=8000, description="Bytes a second that a body must come with, after body_timeout."
    )
    requests: int = Field(
        default=1000,
        ge=1,
        description="Model calls at the same time, streams to their end; the next one gets a 503 "
        "that says when to come again.",
    )
    loop_lag: Duration = Field(
        default=1.0,
        description="New model calls get a 503 while this process is so late with all it does.",
    )


def _without_brackets(host: str) -> str:
    """``[::1]``, as URLs have it, is ``::1``."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


class ServerSettings(Section):
    host: Annotated[str, AfterValidator(_without_brackets)] = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on."
    )
    port: int = Field(
        default=4000, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    uds: str | None = Field(
        default=None, min_length=1, description="Unix socket to listen on, instead of a port."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes. One carries thousands of requests a second; "
        "for more, start instances of the systemd unit.",
    )
    reuse_port: bool = Field(
        default=False,
        description="Share the port with other processes of the same user (SO_REUSEPORT), as the "
        "instances of the systemd unit do.",
    )
    drain: Duration = Field(
        default=300.0, description="How long running requests may finish at a stop."
    )
    max_body: Size = Field(
        default=32_000_000,
        description="Largest body of a request; file and audio surfaces have their own.",
    )
    max_upload: Size = Field(
        default=100_000_000,
        description="Largest body of a form with files, or of one below /providers; it is held in "
        "memory until it has been sent.",
    )
    limits: EdgeSettings = Field(
        default_factory=EdgeSettings, description="What a connection may cost."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Names that the Host header may have; none: any, once there are keys.",
        examples=[["llm.example.com"]],
    )
    tls: TlsSettings | None = Field(default=None, description="Serve HTTPS.")
    cors: CorsSettings | None = Field(default=None, description="Pages that may call the proxy.")
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="Addresses of load balancers, whose X-Forwarded-For or Forwarded is believed.",
        examples=[["127.0.0.1", "10.0.0.0/8"]],
    )
    proxy_protocol: bool = Field(
        default=False,
        description="Connections from trusted_proxies begin with a line of the PROXY protocol, "
        "version 1 or 2.",
    )
