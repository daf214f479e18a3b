"""Pages that may call the proxy from a browser: the Fetch standard's CORS protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from proxy_api._arrival import new_request_id

__all__ = ["Cors"]

_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS: Final = re.compile(
    r"accept|authorization|content-type|x-api-key|api-key|x-goog-api-key|idempotency-key"
    r"|x-request-id|x-client-request-id|user-agent"
    r"|(anthropic|openai|x-stainless)-[a-z0-9-]{1,60}"
)
"""What the SDKs of OpenAI, Anthropic and Google send from a page."""
_EXPOSED: Final = b", ".join(
    [
        b"x-request-id",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        *(
            b"x-llm-proxy-" + name
            for name in (b"deployment", b"attempts", b"cost", b"cache", b"overhead-ms")
        ),
        *(
            b"x-ratelimit-%s-%s" % (what, of)
            for what in (b"limit", b"remaining", b"reset")
            for of in (b"requests", b"tokens")
        ),
    ]
)
_MAX_AGE: Final = b"600"
"""Seconds that a browser may keep the answer: the most that Chrome does is two hours."""
_MOST_ASKED: Final = 64


class Cors:
    """The lines for each answer, and the answer to a preflight.

    No cookie is ever asked for, so none is allowed: keys come in headers.
    """

    __slots__ = ("_lines", "_nobody")

    def __init__(self, origins: Iterable[str]) -> None:
        self._nobody = b"vary: Origin\r\n"
        self._lines: dict[bytes, bytes] = {
            origin.encode(): b"access-control-allow-origin: %b\r\n"
            b"access-control-expose-headers: %b\r\n%b" % (origin.encode(), _EXPOSED, self._nobody)
            for origin in origins
        }

    def lines(self, origin: bytes | None) -> bytes:
        """Header lines for an answer to a page of this origin; also to who is no page."""
        if origin is None:
            return self._nobody
        return self._lines.get(origin) or self._lines.get(b"*", self._nobody)

    def allows(self, origin: bytes) -> bool:
        return origin in self._lines or b"*" in self._lines

    def is_preflight(self, method: str, headers: Mapping[bytes, bytes]) -> bool:
        return method == "OPTIONS" and b"access-control-request-method" in headers

    async def preflight(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """An ASGI app: the answer to ``OPTIONS``, when its origin is allowed."""
        asked = dict(scope["headers"]).get(b"access-control-request-headers", b"")
        names = asked.decode("latin-1").lower().split(",")[:_MOST_ASKED]
        allowed = [name.strip() for name in names if _HEADERS.fullmatch(name.strip())]
        headers = [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-max-age", _MAX_AGE),
            (b"x-request-id", new_request_id().encode()),
        ]
        if allowed:
            headers.append((b"access-control-allow-headers", ", ".join(allowed).encode()))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})
