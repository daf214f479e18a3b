"""Doubles and helpers for those who build on proxy_api, and for its own tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn

from proxy_api._edge._rules import Rules
from proxy_api._protocol import GatewayProtocol
from proxy_api._settings import Settings
from proxy_api._settings_models import ServerSettings
from proxy_core.testing import FakeProvider, Script

__all__ = ["FakeProvider", "Script", "serving", "settings_for"]


def settings_for(upstream: str, *, model: str = "chat", **sections: Any) -> Settings:
    """A configuration with one OpenAI-compatible upstream at this base URL, serving ``model``.

    ``sections`` are further top-level sections, as in the file: ``keys=[…]``, ``timeouts={…}``.
    """
    base: Mapping[str, Any] = {
        "providers": {"up": {"kind": "openai_compatible", "base_url": upstream}},
        "models": [{"name": model, "target": f"up/{model}"}],
    }
    return Settings(**{**base, **sections})


@contextmanager
def serving(
    app: Any, *, host: str = "127.0.0.1", uds: str | None = None, **options: Any
) -> Iterator[str]:
    """The app under uvicorn with our protocol class, in a thread; its base URL without ``/v1``.

    A gateway's own ``server.limits`` and the like are in force, its address isn't.
    """
    gateway = getattr(app, "gateway", None)
    rules = Rules.of(ServerSettings() if gateway is None else gateway.settings.server)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        uds=uds,
        http=partial(GatewayProtocol, rules=rules),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        **options,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not server.started:
            raise RuntimeError("the server did not start")
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
