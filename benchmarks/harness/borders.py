"""Our edge and our upstream client with nothing between them, as a program: PORT UPSTREAM CA.

What a gateway of these two costs before it knows a key, a limit or a model: the rest of our column
is the journey. A stream is passed on piece by piece, anything else at once.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from proxy_api._protocol import GatewayProtocol
from proxy_core import HttpClient, HttpRequest, Timeouts

_DROPPED = {b"transfer-encoding", b"connection", b"content-length"}


class Borders:
    """An ASGI app that passes every request on to one upstream."""

    def __init__(self, upstream: str, ca: str) -> None:
        self._upstream = upstream
        self._http = HttpClient(ca=ca)
        self._timeouts = Timeouts()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        headers = [(b"content-type", b"application/json")]
        request = HttpRequest(scope["method"], self._upstream + scope["path"], headers, body)
        async with self._http.send(request, timeouts=self._timeouts) as answer:
            kept = [header for header in answer.headers if header[0] not in _DROPPED]
            if answer.header(b"content-type").startswith(b"text/event-stream"):
                await send(_start(answer.status, kept))
                async for part in answer.body:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            else:
                whole = await answer.read()
                await send(_start(answer.status, kept))
                await send({"type": "http.response.body", "body": whole})


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


if __name__ == "__main__":
    uvicorn.run(
        Borders(sys.argv[2], sys.argv[3]),
        port=int(sys.argv[1]),
        http=GatewayProtocol,
        loop="uvloop",
        lifespan="off",
        log_level="warning",
    )
