"""The way to a provider: certificates, an outbound proxy, HTTP/2."""

from __future__ import annotations

import ssl

from proxy_api._settings_models import ProviderSettings
from proxy_api._snapshot import Runtime
from proxy_core import HttpClient
from proxy_core.errors import ConfigurationError

__all__ = ["http_client"]


def http_client(name: str, row: ProviderSettings, runtime: Runtime) -> HttpClient:
    """A pool of connections, as a provider's settings say. Raises ConfigurationError."""
    cert = row.client_cert
    pair = None if cert is None else (cert.cert, cert.key or cert.cert)
    proxy = None if row.proxy is None else row.proxy.get_secret_value()
    tls = _tls(row, runtime) if row.ca is None and cert is None else None
    try:
        return HttpClient(ca=row.ca, cert=pair, tls=tls, http2=row.http2, proxy=proxy)
    except ConfigurationError as error:
        raise ConfigurationError(f"providers.{name}: {error.message}") from None


def _tls(row: ProviderSettings, runtime: Runtime) -> ssl.SSLContext:
    """What trusts the system's certificates. Reading those takes 40 ms: only if TLS is spoken."""
    url = row.base_url or runtime.registry.row(row.kind).base_url or ""
    if url.startswith("http://") and row.proxy is None:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and nobody is asked
    runtime.tls = runtime.tls or ssl.create_default_context()
    return runtime.tls
