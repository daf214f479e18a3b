"""What a client asks of a provider itself: path, query and body pass, credentials don't."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import quote, unquote_to_bytes

from proxy_api._arrival import Arrival
from proxy_core import Call
from proxy_core.dialects import Document
from proxy_core.errors import InvalidRequest, NotFound, PermissionRefused

if TYPE_CHECKING:
    from proxy_api._keys import Key
    from proxy_api._snapshot import Snapshot

__all__ = ["FREE_KINDS", "RAW_BASE", "SCOPE", "RawArrival", "passing_headers", "upstream_path"]

RAW_BASE: Final = "/providers/"
SCOPE: Final = "passthrough"
"""For keys that reach all that an account holds."""
FREE_KINDS: Final = frozenset({"files", "responses"})
"""Calls to a provider itself that cost nothing by the token: to keep, to show, to delete."""

_PASSES: Final = frozenset({b"accept", b"openai-beta"})
_PASSES_TOO: Final = b"anthropic-"
_CREDENTIALS: Final = frozenset({"key", "api_key", "api-key", "apikey", "access_token"})
"""Parameters of a query that some APIs take a credential in: ours isn't for the upstream."""
_SAFE: Final = "!$&'()*+,;=:@-._~"
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f\\/]")
_MOST_TIMES: Final = 3
"""How often a part of a path is decoded, to see what somebody behind us might."""


class RawArrival(Arrival):
    """One request below ``/providers/NAME/``."""

    __slots__ = ()

    _CAP: ClassVar = "server.max_upload"
    _NEEDS_BODY: ClassVar = False

    async def call(self, house: Snapshot, key: Key) -> Call:
        """What is asked for. Raises RequestError, ClientGone."""
        if SCOPE not in key.scopes:
            raise PermissionRefused(
                f"The key {key.name!r} does not have the scope {SCOPE!r}, which /providers needs."
            )
        provider, path = self._target()
        if provider not in house.services:
            raise NotFound(f"There is no provider {provider[:100]!r} that serves a model here.")
        raw = await self.body(house.max_upload)
        return Call(
            dialect="raw",
            body=Document(raw, {}),
            model="raw",
            request_id=self.request_id,
            headers=passing_headers(self._scope["headers"]),
            media=self.header(b"content-type").encode("latin-1") if raw else b"",
            provider=provider,
            method=self._scope["method"],
            path=path,
        )

    def _target(self) -> tuple[str, str]:
        """The provider, and what follows its base URL. Raises InvalidRequest."""
        scope = self._scope
        whole: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        below = whole.removeprefix(scope.get("root_path", "").encode())
        provider, _, path = below.removeprefix(RAW_BASE.encode()).partition(b"/")
        return provider.decode("latin-1"), upstream_path(path, scope.get("query_string", b""))

    def _check_media(self) -> None:
        self._check_encoding()


def passing_headers(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """Those of a client's headers that an upstream may see."""
    return tuple(
        (name, value) for name, value in headers if name in _PASSES or name.startswith(_PASSES_TOO)
    )


def upstream_path(path: bytes, query: bytes) -> str:
    """The path as it is asked upstream, in one spelling, with the query. Raises InvalidRequest.

    What another server could read as another path is refused, however it is encoded.
    """
    parts = path.partition(b"?")[0].split(b"/")
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if not part and not is_last:
            raise _odd("an empty part")
        _check_part(part)
    told = "/" + "/".join(quote(unquote_to_bytes(part), safe=_SAFE) for part in parts)
    kept = [pair for pair in query.split(b"&") if pair and _name(pair) not in _CREDENTIALS]
    if not kept:
        return told
    # No fragment begins in it, and nothing in it ends the request line.
    return f"{told}?{quote(b'&'.join(kept), safe=_SAFE + '/?%')}"


def _name(pair: bytes) -> str:
    return unquote_to_bytes(pair.partition(b"=")[0]).decode("latin-1").lower()


def _check_part(part: bytes) -> None:
    for _ in range(_MOST_TIMES):
        if part.split(b";")[0] in (b".", b".."):
            raise _odd("a part that leads upwards")
        decoded = unquote_to_bytes(part)
        if _CONTROL.search(decoded):
            raise _odd("a slash, a backslash or a control character in a part")
        if decoded == part:
            return
        part = decoded
    raise _odd("a part that is encoded again and again")


def _odd(what: str) -> InvalidRequest:
    return InvalidRequest(f"The path below /providers holds {what}: write it plainly.")
