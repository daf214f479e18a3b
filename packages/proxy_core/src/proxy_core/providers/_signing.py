"""Who signs a provider's requests, where a key in a header is not enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from proxy_core._http import HttpSender
from proxy_core._types import Headers
from proxy_core.errors import ConfigurationError

__all__ = ["SIGNERS", "Signer"]

_FILE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
_LOGIN: Final = "~/.config/gcloud/application_default_credentials.json"
"""Where Google's libraries look: https://cloud.google.com/docs/authentication/provide-credentials-adc
"""


class Signer(Protocol):
    """Makes the headers that a request is sent with; it may fetch a token first."""

    async def sign(self, method: str, url: str, headers: Headers, body: bytes) -> Headers:
        """All headers to send: those given and the signature. Raises UpstreamError."""
        ...


# Imported where one is used: the libraries behind them are extras, and large.


def _aws(settings: Mapping[str, Any], _: HttpSender) -> Signer:
    from proxy_core.providers._aws import AwsSigner

    return AwsSigner(
        settings["region"],
        profile=settings.get("profile"),
        instance_metadata=bool(settings.get("instance_metadata")),
    )


def _google(settings: Mapping[str, Any], http: HttpSender) -> Signer:
    from proxy_core.providers._google import GoogleSigner

    path = settings.get("credentials_file") or os.environ.get(_FILE)
    if not path and Path(_LOGIN).expanduser().exists():
        path = _LOGIN
    if not path:
        raise ConfigurationError(
            "Google's models need a credentials_file, the JSON of a service account; or set "
            f"{_FILE}, or log in with `gcloud auth application-default login`.",
            param="credentials_file",
        )
    return GoogleSigner.from_file(path, http)


SIGNERS: Final[Mapping[str, Callable[[Mapping[str, Any], HttpSender], Signer]]] = MappingProxyType(
    {"aws": _aws, "google": _google}
)
"""By name, from the settings of a provider; the client is for fetching tokens. Each raises
ConfigurationError."""
