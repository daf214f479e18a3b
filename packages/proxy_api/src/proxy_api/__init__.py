"""The gateway itself: OpenAI's, Anthropic's and Google's clients in front, any provider behind.

::

    from proxy_api import create_app

    app = create_app(config_path="/etc/proxy/config.yaml", enable_metrics=True)
"""

from __future__ import annotations

import importlib
import typing

from proxy_api._version import __version__ as __version__

if typing.TYPE_CHECKING:
    from proxy_api._app import GatewayApp, create_app
    from proxy_api._protocol import GatewayProtocol
    from proxy_api._settings import InvalidSettings, Settings, load_settings

__all__ = [
    "GatewayApp",
    "GatewayProtocol",
    "InvalidSettings",
    "Settings",
    "__version__",
    "create_app",
    "load_settings",
]

_OTHERS = {"GatewayApp": "_app", "GatewayProtocol": "_protocol", "create_app": "_app"}


def __getattr__(name: str) -> object:
    """Import a name when it is asked for.

    FastAPI takes 300 ms; the commands that only ask a running proxy need none of it.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_OTHERS.get(name, '_settings')}"), name)
    globals()[name] = value
    return value
