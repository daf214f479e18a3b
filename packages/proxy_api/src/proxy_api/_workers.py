"""Several processes under uvicorn's own parent, for use by hand: it knows no READY."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from proxy_api._app import GatewayApp, create_app
from proxy_api._edge._rules import Rules
from proxy_api._prepare import Choices, Prepared, prepare
from proxy_api._protocol import GatewayProtocol
from proxy_api._settings import Settings
from proxy_logging import configure_logging

__all__ = ["SERVICE", "run_workers", "uvicorn_options", "worker_app"]

SERVICE = "llm-proxy"
_CHOICES = "LLM_PROXY_WORKER_CHOICES"
"""How the parent of several workers tells them what was chosen on its command line."""


def run_workers(prepared: Prepared, sockets: list[socket.socket]) -> None:
    """Serve from ``server.workers`` processes until told to stop."""
    server, choices = prepared.settings.server, prepared.choices
    config = str(choices.config.resolve()) if choices.config else ""
    os.environ[_CHOICES] = f"{config}\n{'discover' if choices.discover else ''}"
    # The listener as it was decided, whatever said so: a worker has no command line.
    os.environ["LLM_PROXY_SERVER__WORKERS"] = str(server.workers)
    os.environ["LLM_PROXY_SERVER__HOST"] = server.host
    os.environ["LLM_PROXY_SERVER__PORT"] = str(server.port)
    if server.uds is not None:
        os.environ["LLM_PROXY_SERVER__UDS"] = server.uds
    parent = uvicorn.Config(
        "proxy_api._workers:worker_app",
        factory=True,
        workers=server.workers,
        **uvicorn_options(prepared.settings),
    )
    Multiprocess(parent, sockets=sockets).run()


def worker_app() -> GatewayApp:
    """The app of one of several workers, from what its parent left in the environment."""
    config, find = os.environ[_CHOICES].split("\n")
    choices = Choices(config=Path(config) if config else None, discover=bool(find))
    settings = prepare(choices).settings
    configure_logging(settings.observability.logs, service=SERVICE)
    return create_app(settings=settings)


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """What uvicorn is told, with one process and with several."""
    server = settings.server
    return {
        "host": server.host,
        "port": server.port,
        "uds": server.uds,
        "ssl_certfile": server.tls.cert if server.tls else None,
        "ssl_keyfile": server.tls.key if server.tls else None,
        "http": partial(GatewayProtocol, rules=Rules.of(server)),
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": int(server.drain),
        "backlog": 4096,
    }
