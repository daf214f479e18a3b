"""What a provider's settings may be. The errors name the field and never repeat a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from proxy_core._addresses import is_forbidden_host
from proxy_core._secret import Secret
from proxy_core.errors import ConfigurationError

__all__ = ["check_api_key", "check_headers", "check_url"]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS: Final = ("/chat/completions", "/messages", "/responses")
"""Ends of a URL that are the proxy's to add."""
_FRAMING: Final = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that belong to the connection, which the client looks after."""


def check_url(url: str) -> None:
    """Raises ConfigurationError for a base_url that can't be called, or must not."""
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise _bad_url("A base_url holds no user and no password: use api_key and headers.")
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise _bad_url(
            f"The base_url {url!r} must begin with http:// or https://, a host and maybe a port."
        )
    if "?" in url or "#" in url:
        raise _bad_url(f"The base_url {url!r} must end with its path: no query, no fragment.")
    if not url.isprintable() or " " in url or "\\" in url:
        raise _bad_url(f"The base_url {url!r} must hold no spaces, backslashes or the like.")
    for end in _OURS:
        if parts.path.rstrip("/").endswith(end):
            raise _bad_url(
                f"The base_url {url!r} ends with {end}, which the proxy adds itself: leave it out."
            )
    if is_forbidden_host(parts.hostname):
        raise _bad_url(
            f"The base_url {url!r} is a link-local, metadata or unspecified address, "
            "which is never called: give the upstream's own."
        )


def check_api_key(key: Secret | None) -> None:
    """Raises ConfigurationError for a key that no header could carry."""
    value = key.reveal() if key else ""
    if not value.isprintable() or value != value.strip() or not _is_encodable(value, "utf-8"):
        raise ConfigurationError(
            "The api_key has spaces around it or characters that can't be printed: "
            "look for a line break at its end.",
            param="api_key",
        )


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ConfigurationError for names and values that HTTP has no room for."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ConfigurationError(f"{name!r} can't be a header's name.", param="headers")
        if name.lower() in _FRAMING:
            raise ConfigurationError(
                f"The header {name!r} belongs to the connection: leave it out.", param="headers"
            )
        if not value.isprintable() or value != value.strip() or not _is_encodable(value, "latin-1"):
            raise ConfigurationError(
                f"The value of the header {name!r} has spaces around it or characters that "
                "a header can't carry.",
                param="headers",
            )


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _is_encodable(value: str, encoding: str) -> bool:
    try:
        value.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _bad_url(message: str) -> ConfigurationError:
    return ConfigurationError(message, param="base_url")
