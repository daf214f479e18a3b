"""The bytes of a request's head, from what the caller gave. Nothing of it is quoted in an error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from proxy_core._http_types import HttpRequest
from proxy_core._types import Headers
from proxy_core.errors import ConnectFailed

__all__ = ["Composer", "Target"]

_OURS: Final = frozenset({b"host", b"content-length"})
"""They may be given once."""
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_METHODS: Final = {
    name: name.encode() for name in ("POST", "GET", "HEAD", "PUT", "PATCH", "DELETE")
}
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOSTNAME: Final = re.compile(r"[0-9A-Za-z._~!$&'()*+,;=-]+")
_NOT_IN_URLS: Final = re.compile(r"[\x00-\x20\x7f]")
_IN_PATHS: Final = "!#$%&'()*+,-./:;=?@[]_~|^`\\{}\"<>"
_PORTS: Final = {"http": 80, "https": 443}
_MOST_REMEMBERED: Final = 128
_UNSENDABLE: Final = "the request can't be sent: look at the headers"


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL says: where to connect, and how the request line ends."""

    origin: str
    """Scheme, host and port: connections are shared within one."""
    host: str
    """As it is resolved and as a certificate has to name it, without brackets."""
    port: int
    is_tls: bool
    line: bytes
    """`` /path HTTP/1.1``."""
    host_line: bytes


@dataclass(frozen=True, slots=True)
class _Known:
    """A head as far as method, URL and headers decide it."""

    target: Target
    method: str
    headers: Headers
    begun: bytes
    has_body: bool
    length: int | None
    """The content-length that is among the headers."""


class Composer:
    """Makes heads. Requests are much alike, so it remembers what it made, within a bound."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], _Known] = {}
        self._last: dict[str, _Known] = {}
        """The last one of each URL."""
        self._targets: dict[str, Target] = {}

    def __call__(self, request: HttpRequest) -> tuple[Target, bytes]:
        """Where a request goes, and its head. Raises ConnectFailed."""
        known = self._last.get(request.url)
        # A list is compared much faster than it is hashed: the same tuples are in it.
        if known is None or known.headers != request.headers or known.method != request.method:
            known = self._again(request)
        length = len(request.body)
        if known.length is not None:
            if known.length != length:
                raise ConnectFailed(_UNSENDABLE) from None
        elif length or known.has_body:
            return known.target, b"%bcontent-length: %d\r\n\r\n" % (known.begun, length)
        return known.target, known.begun + b"\r\n"

    def _again(self, request: HttpRequest) -> _Known:
        key: tuple[object, ...] = (request.method, request.url, *request.headers)
        known = self._known.get(key)
        if known is None:
            known = self._composed(request)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
                self._last.clear()
            self._known[key] = known
        self._last[request.url] = known
        return known

    def _composed(self, request: HttpRequest) -> _Known:
        target = self._targets.get(request.url) or self._remember(request.url)
        names = _judged(request.headers)
        lines = [(_METHODS.get(request.method) or _method(request.method)) + target.line]
        if b"host" not in names:
            lines.append(target.host_line)
        lines += [b": ".join(header) for header in request.headers]
        if b"accept-encoding" not in names:
            lines.append(b"accept-encoding: identity")
        begun = b"\r\n".join(lines)
        # Every line has one end; a value that holds another would be a header of somebody else.
        if len(begun) - len(begun.translate(None, b"\r\n\0")) != 2 * len(lines) - 2:
            raise ConnectFailed(_UNSENDABLE) from None
        given = names.get(b"content-length")
        if given is not None and not given.isdigit():
            raise ConnectFailed(_UNSENDABLE) from None
        length = None if given is None else int(given)
        has_body = request.method in _WITH_BODY
        headers = list(request.headers)
        return _Known(target, request.method, headers, begun + b"\r\n", has_body, length)

    def _remember(self, url: str) -> Target:
        if len(self._targets) >= _MOST_REMEMBERED:
            self._targets.clear()
        target = self._targets[url] = _parsed(url)
        return target


def _judged(headers: Headers) -> dict[bytes, bytes]:
    """Values by names in lower case, if all can be sent. Raises ConnectFailed."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if (
            not _TOKEN.fullmatch(name)
            or (lower in _OURS and lower in found)
            or lower == b"transfer-encoding"
        ):
            raise ConnectFailed(_UNSENDABLE) from None
        found[lower] = value
    return found


def _method(method: str) -> bytes:
    # The answer to CONNECT is a tunnel, which we don't speak.
    if method == "CONNECT" or not method.isascii() or not _TOKEN.fullmatch(method.encode()):
        raise ConnectFailed("the request can't be sent: its method is none")
    return method.encode()


def _parsed(url: str) -> Target:
    try:
        return _target(url)
    except ValueError as error:
        raise ConnectFailed(f"the upstream's URL can't be used: {error}") from None


def _target(url: str) -> Target:
    if _NOT_IN_URLS.search(url):
        raise ValueError("it holds a space or a control character")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("it begins neither with http:// nor with https://")
    default = _PORTS[parts.scheme]
    try:
        given = parts.port
    except ValueError:
        raise ValueError("its port is none") from None
    host = _host(parts.hostname or "")
    port = default if given is None else given
    named = f"[{host}]" if ":" in host else host
    named = named if port == default else f"{named}:{port}"
    path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_IN_PATHS)
    return Target(
        origin=f"{parts.scheme}://{host}:{port}",
        host=host,
        port=port,
        is_tls=parts.scheme == "https",
        line=f" {path if path.startswith('/') else '/' + path} HTTP/1.1".encode(),
        host_line=f"host: {named}".encode(),
    )


def _host(name: str) -> str:
    if ":" in name:
        return name.replace("%25", "%")
    try:
        host = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        raise ValueError("its host is no name") from None
    if not _HOSTNAME.fullmatch(host):
        raise ValueError("it has no host" if not host else "its host is no name")
    return host
