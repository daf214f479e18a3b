"""Requests to Vertex AI with a token of a service account, or of a user's own login.

The flows: https://developers.google.com/identity/protocols/oauth2/service-account (RFC 7523) and
https://developers.google.com/identity/protocols/oauth2/web-server#offline. Google's metadata
server is never asked: it has a link-local address, which is refused on purpose. On a machine of
Google's, give the file of a service account.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from proxy_core._http_types import HttpRequest, HttpSender
from proxy_core._secret import Secret
from proxy_core._types import Headers, Timeouts
from proxy_core.errors import ConfigurationError, UpstreamFailed, UpstreamRefusedCredential

__all__ = ["GoogleSigner"]

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_GOOGLES: Final = "https://oauth2.googleapis.com/token"
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFE: Final = 3600
"""Seconds that we ask a token for: the longest that Google grants."""
_EARLY: Final = 300.0
"""Seconds before its end from which a token is not used any more."""
_LEAST: Final = 30.0
"""Seconds that a new token is used for at least, else each request would fetch one."""
_TIMEOUTS: Final = Timeouts(first_byte=10.0, between_events=10.0, total=20.0)
_MOST_ANSWER: Final = 64 * 1024
_FIELDS: Final = MappingProxyType(
    {
        "service_account": ("client_email", "private_key"),
        "authorized_user": ("client_id", "client_secret", "refresh_token"),
    }
)

_CODES: Final = ("invalid_grant", "invalid_client", "unauthorized_client", "invalid_scope")
"""Of RFC 6749, section 5.2."""


class GoogleSigner:
    """Adds ``authorization: Bearer …``; the token is fetched once for all who wait for it.

    ``info`` is the JSON of the file: ``service_account`` or ``authorized_user``. ``http`` asks for
    tokens; it belongs to the caller. A ``token_uri`` in the file must be Google's own;
    ``token_uri`` here takes its place and may be any. Raises ConfigurationError.
    """

    def __init__(
        self,
        info: Mapping[str, Any],
        http: HttpSender,
        *,
        scope: str = _SCOPE,
        token_uri: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._grant = _grant(info, scope)
        self._uri = token_uri or _google_uri(info.get("token_uri") or _GOOGLES)
        self._http = http
        self._clock = clock
        self._token = Secret("")
        self._until = 0.0
        self._fetching: asyncio.Task[Secret] | None = None

    @classmethod
    def from_file(cls, path: str, http: HttpSender) -> GoogleSigner:
        """By a file of Google's. Raises ConfigurationError, which shows nothing of the file."""
        try:
            info = msgspec.json.decode(Path(path).expanduser().read_bytes())
        except OSError as error:
            raise _bad(
                f"The file of credentials {path!r} can't be read: {error.strerror}."
            ) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise _bad(f"The file of credentials {path!r} is not JSON.") from None
        try:
            return cls(info if isinstance(info, dict) else {}, http)
        except ConfigurationError as error:
            raise _bad(f"The file of credentials {path!r}: {error.message}") from None

    async def sign(self, method: str, url: str, headers: Headers, body: bytes) -> Headers:
        """These headers and the token. Raises UpstreamRefusedCredential, UpstreamError."""
        token = self._token if self._clock() < self._until else await self._fetched()
        kept = [header for header in headers if header[0] != b"authorization"]
        return [*kept, (b"authorization", f"Bearer {token.reveal()}".encode())]

    async def _fetched(self) -> Secret:
        task = self._fetching
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._fetching = asyncio.create_task(self._fetch())
        # Shielded: who leaves takes the token from nobody else.
        return await asyncio.shield(task)

    async def _fetch(self) -> Secret:
        now = self._clock()
        body = urlencode(self._grant(int(now), self._uri)).encode()
        headers = [(b"content-type", b"application/x-www-form-urlencoded")]
        request = HttpRequest("POST", self._uri, headers, body)
        async with self._http.send(request, timeouts=_TIMEOUTS) as response:
            raw = await response.read(_MOST_ANSWER)
        token, seconds = _read_token(response.status, raw)
        self._token = token
        self._until = now + max(seconds - _EARLY, _LEAST)
        return token


Grant = Callable[[int, str], dict[str, str]]
"""The form that asks for a token, at a Unix time, of an address."""


def _grant(info: Mapping[str, Any], scope: str) -> Grant:
    kind = info.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise _bad(
            f"Google's credentials are of type {kind!r}: they must be service_account or "
            "authorized_user."
        )
    for field in _FIELDS[kind]:
        if not isinstance(info.get(field), str) or not info[field]:
            raise _bad(f"Google's credentials lack the field {field!r}.")
    return _account_grant(info, scope) if kind == "service_account" else _user_grant(info)


def _user_grant(info: Mapping[str, Any]) -> Grant:
    form = {field: info[field] for field in _FIELDS["authorized_user"]}
    return lambda _now, _uri: {"grant_type": "refresh_token", **form}


def _account_grant(info: Mapping[str, Any], scope: str) -> Grant:
    sign = _rs256(info["private_key"])
    head: dict[str, Any] = {"alg": "RS256", "typ": "JWT"}
    if isinstance(info.get("private_key_id"), str):
        head["kid"] = info["private_key_id"]
    email = info["client_email"]

    def grant(now: int, uri: str) -> dict[str, str]:
        claims = {"iss": email, "scope": scope, "aud": uri, "iat": now, "exp": now + _LIFE}
        signed = b".".join(_base64url(msgspec.json.encode(part)) for part in (head, claims))
        assertion = b".".join((signed, _base64url(sign(signed)))).decode()
        return {"grant_type": _JWT_BEARER, "assertion": assertion}

    return grant


def _rs256(private_key: str) -> Callable[[bytes], bytes]:
    try:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ModuleNotFoundError as missing:
        raise _bad(
            f"A service account of Google's needs the package {missing.name!r}, which is not "
            "installed: pip install 'proxy-core[vertex]'."
        ) from None
    try:
        key = load_pem_private_key(private_key.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise _bad("The private_key of Google's credentials is no RSA key in PEM.")
    rsa = key
    return lambda data: rsa.sign(data, PKCS1v15(), SHA256())


def _read_token(status: int, raw: bytes) -> tuple[Secret, float]:
    """Nothing of Google's own words goes on: they are the operator's affair, no client's."""
    try:
        told = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        told = None
    told = told if isinstance(told, dict) else {}
    token, seconds = told.get("access_token"), told.get("expires_in", _LIFE)
    if status >= 500 or status == 429:
        raise UpstreamFailed(f"Google gave no token ({status})", upstream_status=status)
    if (
        status != 200
        or not isinstance(token, str)
        or not token.isascii()
        or not token.isprintable()
    ):
        code = told.get("error") if told.get("error") in _CODES else None
        raise UpstreamRefusedCredential(
            f"Google gave no token for the proxy's own credential ({status}"
            f"{f' {code}' if code else ''})",
            upstream_status=status,
            upstream_code=code,
        )
    return Secret(token), float(seconds) if isinstance(seconds, int | float) else float(_LIFE)


def _google_uri(uri: object) -> str:
    parts = urlsplit(uri) if isinstance(uri, str) else None
    host = (parts.hostname or "") if parts is not None else ""
    if parts is None or parts.scheme != "https" or not host.endswith(".googleapis.com"):
        raise _bad(f"The token_uri {uri!r} must be https:// and a host of googleapis.com.")
    return parts.geturl()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _bad(message: str) -> ConfigurationError:
    return ConfigurationError(message, param="credentials_file")
