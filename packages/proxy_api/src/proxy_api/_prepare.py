"""What is to be served: the command line, what was found beside it, and the configuration."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy_api._compose import check_listener
from proxy_api._discover import Discovery, discover
from proxy_api._inherited import address_of, inherited
from proxy_api._local_model import LocalModel
from proxy_api._rows import Rows
from proxy_api._settings import Settings, load_settings
from proxy_api._settings_sources import which_file
from proxy_core.errors import ConfigurationError

__all__ = ["Choices", "Prepared", "prepare"]

_NOTHING_TO_SERVE = (
    "There is nothing to serve: no model is configured.\n"
    "  to try it out      llm-proxy serve --local-model\n"
    "  with what is here  llm-proxy serve --discover   (provider keys, local servers)\n"
    "  with a file        llm-proxy serve --config FILE   (llm-proxy check FILE checks one)"
)


@dataclass(frozen=True, slots=True)
class Choices:
    """What was said on the command line; None: not said."""

    config: Path | None = None
    host: str | None = None
    port: int | None = None
    uds: str | None = None
    workers: int | None = None
    reuse_port: bool = False
    discover: bool = False
    local_model: bool = False

    def overrides(self) -> dict[str, Any]:
        server = {
            "host": self.host,
            "port": self.port,
            "uds": self.uds,
            "workers": self.workers,
            "reuse_port": self.reuse_port or None,
        }
        return {"server": server}


@dataclass(frozen=True, slots=True)
class Prepared:
    """Settings that can be served, and what was found on the way."""

    settings: Settings
    choices: Choices
    found: Discovery = field(default_factory=Discovery)
    local: LocalModel | None = None
    sockets: tuple[socket.socket, ...] = ()
    """Those that systemd listens on for us."""
    rows: tuple[Rows, ...] = ()
    source: str = ""
    """The configuration's file; empty without one."""

    def read_again(self) -> Settings:
        """The settings as the files say now, beside what was found at the start.

        Raises ConfigurationError, for whatever would also be refused at the start.
        """
        return _load(self.choices, self.rows, self.sockets, os.environ)


def prepare(choices: Choices, environ: MutableMapping[str, str] = os.environ) -> Prepared:
    """Load, discover and check. Raises ConfigurationError with what to do."""
    sockets = tuple(inherited(environ))
    local = LocalModel() if choices.local_model else None
    rows = [local.settings_rows()] if local else []
    found = Discovery()
    if choices.discover:
        found = asyncio.run(discover(environ, own_ports={local.port} if local else ()))
        rows.append(found.rows())
    settings = _load(choices, rows, sockets, environ)
    if settings.server.workers > 1 and "NOTIFY_SOCKET" in environ:
        raise ConfigurationError(
            f"server.workers is {settings.server.workers}, but systemd waits for one process: set "
            "it to 1. For several, start instances: systemctl start llm-proxy@a llm-proxy@b"
        )
    if local and settings.server.workers > 1:
        raise ConfigurationError(
            "The local model is a child of one process: use --workers 1 with --local-model."
        )
    source = str(which_file(choices.config, environ) or "")
    return Prepared(settings, choices, found, local, sockets, tuple(rows), source)


def _load(
    choices: Choices,
    rows: list[Rows] | tuple[Rows, ...],
    sockets: tuple[socket.socket, ...],
    environ: Mapping[str, str],
) -> Settings:
    settings = load_settings(
        choices.config, overrides=choices.overrides(), environ=environ, rows=rows
    )
    if sockets:
        address = {"uds": None, **address_of(sockets)}
        settings = settings.model_copy(
            update={"server": settings.server.model_copy(update=address)}
        )
    if not settings.models:
        raise ConfigurationError(_NOTHING_TO_SERVE)
    check_listener(settings)
    return settings
