"""The cache key: what counts as the same question, and whose question it is."""

from __future__ import annotations

import hmac
import secrets
from typing import NamedTuple

from proxy_context.errors import SettingsError

__all__ = ["CacheKey", "KeyMaker", "Part"]

Part = str | bytes | int | float | None
"""What a key may be made of. ``True`` and ``1``, ``"1"`` and ``b"1"`` are different parts."""

_TAGS: dict[type, bytes] = {
    str: b"s",
    bytes: b"b",
    int: b"i",
    float: b"f",
    bool: b"t",
    type(None): b"n",
}


class CacheKey(NamedTuple):
    """A tenant and the digest of everything else. Equal only when both are."""

    tenant: str
    digest: bytes
    """32 bytes, HMAC-SHA-256; the tenant is part of what is hashed, too."""

    def __repr__(self) -> str:
        # The tenant may be a customer's name, and keys end up in logs.
        return f"CacheKey({self.digest.hex()[:16]}…)"


class KeyMaker:
    """Makes keys with a secret, so that a digest in a log can't be matched against guesses.

    Without ``secret`` a random one is made: keys then hold within this process. Processes that
    share a store need the same secret (any length, 32 bytes advised).
    """

    def __init__(self, secret: bytes | None = None) -> None:
        if secret is not None and not secret:
            raise SettingsError("secret is empty: leave it out, or give at least 16 random bytes")
        self._secret = secret or secrets.token_bytes(32)

    def key(self, tenant: str, *parts: Part) -> CacheKey:
        """The key of ``parts`` for ``tenant``. Raises SettingsError on an empty tenant."""
        if not tenant:
            raise SettingsError("tenant is empty: name one, even if it is the only one ('local')")
        return self._make(tenant, parts)

    def plain(self, name: str) -> CacheKey:
        """The key of a name that belongs to no tenant: what ``get`` and ``set`` use for a str."""
        return self._make("", (name,))

    def _make(self, tenant: str, parts: tuple[Part, ...]) -> CacheKey:
        encoded = b"".join([_encode(tenant), *map(_encode, parts)])
        return CacheKey(tenant, hmac.digest(self._secret, encoded, "sha256"))


def _encode(part: Part) -> bytes:
    """A tag for the type, eight bytes of length, the bytes: no two lists of parts encode alike."""
    tag = _TAGS.get(type(part))
    if tag is None:
        raise SettingsError(
            f"a key part is a {type(part).__name__}: encode it to bytes first "
            "(str, bytes, numbers and None are taken)"
        )
    if isinstance(part, bytes):
        raw = part
    elif isinstance(part, str):
        raw = part.encode("utf-8", "surrogatepass")
    else:
        raw = repr(part).encode()
    return tag + len(raw).to_bytes(8, "big") + raw
