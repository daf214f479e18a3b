"""Ids of what a provider keeps, as a key's own: ``file-abc~openai~MAC``.

The provider's account is shared by all keys. What an id's owner gets holds the provider and a MAC
over key, provider and id, so that nobody else's key can use it and nothing has to be remembered.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

from proxy_api._settings import Settings
from proxy_core.errors import NotFound

__all__ = ["Seals", "seals_of"]

_PURPOSE: Final = b"llm-proxy: ids of what a provider keeps\0"
_SEALED: Final = re.compile(r"([A-Za-z0-9_.:-]{1,256})~([A-Za-z0-9._-]{1,128})~([A-Za-z0-9_-]{22})")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:-]{1,256}")
_MAC_BYTES: Final = 16
_SHOWN: Final = 100


class Seals:
    """Seals ids and opens them. ``secrets`` are by provider; the first one seals, all open."""

    def __init__(self, secrets: Mapping[str, Sequence[bytes]]) -> None:
        self._secrets = {
            name: [hashlib.sha256(_PURPOSE + secret).digest() for secret in several]
            for name, several in secrets.items()
        }

    def seal(self, owner: str, provider: str, plain: str) -> str:
        """The id that this key gets to see. What no id looks like stays as it is."""
        if provider not in self._secrets or not _PLAIN.fullmatch(plain):
            return plain
        mac = _mac(self._secrets[provider][0], owner, provider, plain)
        return f"{plain}~{provider}~{mac}"

    def open(self, owner: str, sealed: str, *, param: str | None = None) -> tuple[str, str]:
        """Provider and its own id. Raises NotFound for what isn't this key's."""
        match = _SEALED.fullmatch(sealed)
        if match is not None:
            plain, provider, given = match.groups()
            for secret in self._secrets.get(provider, ()):
                if hmac.compare_digest(_mac(secret, owner, provider, plain), given):
                    return provider, plain
        shown = sealed if len(sealed) <= _SHOWN else sealed[:_SHOWN] + "..."
        raise NotFound(
            f"Nothing with the id {shown!r} belongs to this key: use the id as the proxy gave it.",
            param=param,
        )


def seals_of(settings: Settings) -> Seals:
    """The same in each process with this configuration, and after each restart of it.

    A provider's ids are sealed with its own credentials, which no client knows. One without any has
    the secrets of all keys together in their place.
    """
    keys = b"\0".join(sorted(row.key.get_secret_value().encode() for row in settings.keys))
    shared = hashlib.sha256(keys).digest()
    found: dict[str, list[bytes]] = {}
    for name, row in settings.providers.items():
        own = [secret.get_secret_value().encode() for secret in row.secrets]
        own = own or [value.get_secret_value().encode() for value in row.headers.values()]
        found[name] = own or [shared]
    return Seals(found)


def _mac(secret: bytes, owner: str, provider: str, plain: str) -> str:
    # Neither a provider's name nor an id holds a line end, so no two triples read the same.
    told = f"{provider}\n{plain}\n{owner}".encode("utf-8", "surrogateescape")
    mac = hmac.new(secret, told, hashlib.sha256).digest()[:_MAC_BYTES]
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
