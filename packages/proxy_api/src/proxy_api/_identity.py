"""What a provider is known by when the configuration changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from proxy_api._settings_models import ProviderSettings

__all__ = ["identity_of"]


def identity_of(name: str, row: ProviderSettings) -> str:
    """The same for the same settings, secrets and certificates included, without holding them."""
    hidden = {"api_key", "api_keys", "headers", "proxy", "timeouts"}
    plain = row.model_dump(mode="json", exclude=hidden)
    secrets = [secret.get_secret_value() for secret in (*row.secrets, *row.headers.values())]
    proxy = row.proxy and row.proxy.get_secret_value()
    files = [_stamp(path) for path in _files(row)]
    told = json.dumps([name, plain, proxy, sorted(row.headers), secrets, files], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _files(row: ProviderSettings) -> list[str]:
    cert = row.client_cert
    named = (row.ca, cert and cert.cert, cert and cert.key, row.credentials_file)
    return [path for path in named if path]


def _stamp(path: str) -> str:
    """Another one when the file was written anew; that it can't be read is the client's to say."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
