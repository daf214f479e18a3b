"""Who is asking: static keys of the configuration, or, without any, this machine alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

from proxy_api._loopback import is_loopback, is_loopback_host
from proxy_core import ChaosProvider, ChaosSettings, Limits, ModelTable, Provider, Secret
from proxy_core.errors import AuthenticationFailed, PermissionRefused

__all__ = [
    "Caller",
    "Chaos",
    "Key",
    "KeyRing",
    "Keys",
    "LocalOnly",
    "is_addressed_locally",
]

_CREDENTIALS: Final = (b"x-api-key", b"api-key", b"x-goog-api-key")
_FORWARDED: Final = (
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
)
_LONGEST: Final = 512
"""Characters of a key that we look at: more is no key of anybody's."""


class Caller(Protocol):
    """What authentication may look at: the head of a request, never its body."""

    def header(self, name: bytes) -> str: ...

    @property
    def peer(self) -> str | None: ...


class Chaos:
    """Puts faults before the providers that a test key's calls go to."""

    def __init__(self, settings: ChaosSettings) -> None:
        self._settings = settings
        self._around: dict[Provider, ChaosProvider] = {}

    def around(self, provider: Provider) -> Provider:
        """The same provider, with faults."""
        found = self._around.get(provider)
        if found is None:
            found = self._around[provider] = ChaosProvider(provider, self._settings)
        return found


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key, without its secret."""

    id: str
    name: str
    models: ModelTable[None] | None = None
    """None: every model."""
    scopes: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    tags: tuple[str, ...] = ()
    """What routing rules may go by."""
    chaos: Chaos | None = None
    """Faults on purpose, for a test key."""
    names_all: bool = False
    """Whether it may name what providers keep by the bare id: nobody else has anything there, or it
    reaches all of it anyway."""

    def may_use(self, model: str) -> bool:
        models = self.models
        return models is None or models.knows(model)


class Keys(Protocol):
    def authenticate(self, caller: Caller) -> Key:
        """Raises AuthenticationFailed, PermissionRefused."""
        ...


class KeyRing:
    """Static keys, kept as keyed digests: however comparing is timed, it tells nothing of them."""

    def __init__(self, keys: Iterable[tuple[Secret, Key]], *, hosts: Sequence[str] = ()) -> None:
        # A pepper of this process alone: the digests are of no use anywhere else.
        self._digests = hashlib.blake2s(key=os.urandom(32))
        self._hosts = frozenset(host.lower() for host in hosts)
        self._keys = {self._digest(secret.reveal()): key for secret, key in keys}

    def authenticate(self, caller: Caller) -> Key:
        if self._hosts:
            _check_host(caller, self._hosts)
        given = _credential(caller)
        if not given:
            raise AuthenticationFailed(
                "No API key was given: send 'Authorization: Bearer KEY' or the header x-api-key."
            )
        key = self._keys.get(self._digest(given))
        if key is None:
            raise AuthenticationFailed(
                "The API key is not known here: check it, and the base URL it was sent to."
            )
        return key

    def _digest(self, text: str) -> bytes:
        digest = self._digests.copy()
        digest.update(text[:_LONGEST].encode("utf-8", "surrogateescape"))
        return digest.digest()


class LocalOnly:
    """No keys: requests of this machine only, and none that a web page could have caused."""

    def __init__(self, *, hosts: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        # Never *: with no keys, every page on the web could spend.
        self._origins = frozenset(origins) - {"*"}
        scopes = frozenset({"metrics", "docs", "admin"})
        self._key = Key("local", "local", scopes=scopes, names_all=True)

    def authenticate(self, caller: Caller) -> Key:
        if not _is_of_this_machine(caller):
            raise AuthenticationFailed(
                "Without keys in its configuration the proxy serves its own machine only."
            )
        host = _host_name(caller.header(b"host"))
        if not (_names_this_machine(caller, host) or host in self._hosts):
            raise PermissionRefused(
                f"The Host header names {host!r}; without keys it must be localhost or loopback."
            )
        origin = caller.header(b"origin")
        if origin and not self._is_own(origin):
            raise PermissionRefused(f"Pages of {origin!r} may not call the proxy.")
        return self._key

    def _is_own(self, origin: str) -> bool:
        try:
            host = (urlsplit(origin).hostname or "") if "://" in origin else ""
        except ValueError:
            return False
        if origin in self._origins:
            return True
        return is_loopback_host(host) or host in self._hosts


def is_addressed_locally(caller: Caller) -> bool:
    """Whether the request comes from this machine and names it: no balancer, no rebound name."""
    host = _host_name(caller.header(b"host"))
    return _names_this_machine(caller, host) and _is_of_this_machine(caller)


def _names_this_machine(caller: Caller, host: str) -> bool:
    """Over a unix socket the Host may be missing: its path is name enough."""
    return is_loopback_host(host) or (caller.peer is None and not host)


def _is_of_this_machine(caller: Caller) -> bool:
    """A peer on this machine that doesn't speak for somebody else, as a reverse proxy does."""
    is_near = caller.peer is None or is_loopback(caller.peer)
    return is_near and not any(caller.header(name) for name in _FORWARDED)


def _check_host(caller: Caller, hosts: frozenset[str]) -> None:
    if _host_name(caller.header(b"host")) not in hosts:
        raise PermissionRefused(
            "The Host header names a host that server.allowed_hosts does not list."
        )


def _credential(caller: Caller) -> str:
    said = caller.header(b"authorization")
    if said[:7].lower() == "bearer " and (given := said[7:].strip()):
        return given
    for name in _CREDENTIALS:
        if given := caller.header(name).strip():
            return given
    return ""


def _host_name(host: str) -> str:
    """The Host header without its port; IPv6 without brackets."""
    address, bracket, port = host[1:].partition("]")
    if host.startswith("[") and bracket and (not port or port.startswith(":")):
        return address.lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()
