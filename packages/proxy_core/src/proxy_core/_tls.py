"""The TLS context of a client: certificates are always verified."""

from __future__ import annotations

import ssl

from proxy_core.errors import ConfigurationError

__all__ = ["tls_context"]


def tls_context(ca: str | None, cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """Trusts ``ca``, or the system's authorities, and shows ``cert``. Raises ConfigurationError."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # what ssl raises is one
        raise ConfigurationError(f"The ca {ca!r} can't be used: {error}.", param="ca") from None
    if cert is not None:
        files = (cert,) if isinstance(cert, str) else cert
        try:
            context.load_cert_chain(*files)
        except OSError as error:
            raise ConfigurationError(
                f"The cert {' and '.join(files)!r} can't be used: {error}.", param="cert"
            ) from None
    return context
