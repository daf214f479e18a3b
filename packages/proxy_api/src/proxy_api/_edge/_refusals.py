"""Answers of the edge itself, to what no app gets to see, in OpenAI's error shape."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from proxy_api._arrival import new_request_id

__all__ = [
    "BAD_REQUEST",
    "BODY_SLOW",
    "BROKE",
    "FOREIGN_PAGE",
    "FULL",
    "HEADERS_TOO_LARGE",
    "HEAD_SLOW",
    "NO_WEBSOCKET",
    "STOPS",
    "TOO_MANY",
    "Refusal",
    "Refused",
    "bad",
]


class Refusal(NamedTuple):
    """One such answer. The connection ends with it."""

    status: int
    code: str
    message: str

    def render(self, head: bytes, more: bytes = b"") -> bytes:
        """All its bytes. ``head`` is the status line with what every answer has, ``more`` lines."""
        of_ours = self.status >= 500
        error = {
            "message": self.message,
            "type": "server_error" if of_ours else "invalid_request_error",
            "param": None,
            "code": self.code,
        }
        body = msgspec.json.encode({"error": error})
        wait = b"retry-after: 1\r\n" if self.status == 503 else b""
        return b"".join(
            (
                head,
                b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
                b"x-request-id: %s\r\n" % new_request_id().encode(),
                wait,
                more,
                b"connection: close\r\n\r\n",
                body,
            )
        )


class Refused(Exception):
    """Stops the parser: the request that it reads is refused."""


def bad(what: str) -> Refusal:
    """The request breaks a rule of HTTP, or is of a shape that proxies disagree about."""
    return Refusal(400, "bad_request", f"The request can't be read safely: {what}.")


BAD_REQUEST: Final = bad("it is not correct HTTP/1.1")
HEADERS_TOO_LARGE: Final = Refusal(
    431, "headers_too_large", "The request's headers are more than server.limits allows."
)
HEAD_SLOW: Final = Refusal(
    408, "request_timeout", "The request's headers did not come within the time for them."
)
BODY_SLOW: Final = Refusal(
    408, "request_timeout", "The request's body came more slowly than server.limits allows."
)
NO_WEBSOCKET: Final = Refusal(
    400, "websocket_not_supported", "There is no websocket here: use HTTP requests."
)
FOREIGN_PAGE: Final = Refusal(
    403, "origin_not_allowed", "Pages of this origin may not call the proxy: see server.cors."
)
FULL: Final = Refusal(
    503, "too_many_connections", "The proxy has as many connections as it may: try again soon."
)
TOO_MANY: Final = bad("too much was sent ahead of the answers")
STOPS: Final = Refusal(503, "gateway_shutdown", "The proxy stops: ask again.")
BROKE: Final = Refusal(
    500, "internal_error", "The proxy met an error of its own; its log has more."
)
