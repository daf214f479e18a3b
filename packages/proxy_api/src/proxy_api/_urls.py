"""URLs in a configuration."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

from proxy_core import is_forbidden_host

__all__ = ["check_base_url", "is_url"]

_OURS: Final = ("/chat/completions", "/messages", "/responses")


def check_base_url(url: str) -> str:
    """The URL without its last slash. Raises ``ValueError``, which never repeats a password."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as https://api.example.com/v1")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or a password: use api_key or headers")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError("must end with its path: no ?query and no #fragment")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("must not hold spaces")
    for end in _OURS:
        if parts.path.rstrip("/").endswith(end):
            raise ValueError(f"must end before {end}, which the proxy adds itself")
    if is_forbidden_host(parts.hostname):
        raise ValueError("must not be a link-local, metadata or unspecified address")
    return url.rstrip("/")


def is_url(url: str, schemes: tuple[str, ...]) -> bool:
    """Whether ``url`` has one of ``schemes``, a host, and a port that is one."""
    parts = _split(url)
    return parts is not None and parts.scheme in schemes and bool(parts.hostname)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts
