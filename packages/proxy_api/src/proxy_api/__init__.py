"""The gateway itself: a FastAPI app that speaks OpenAI's API in front and asks any provider behind.

::

    from proxy_api import create_app

    app = create_app(config_path="/etc/proxy/config.yaml", enable_metrics=True)
"""

from proxy_api._app import GatewayApp, create_app
from proxy_api._protocol import GatewayProtocol
from proxy_api._settings import InvalidSettings, Settings, load_settings
from proxy_api._version import __version__

__all__ = [
    "GatewayApp",
    "GatewayProtocol",
    "InvalidSettings",
    "Settings",
    "__version__",
    "create_app",
    "load_settings",
]
