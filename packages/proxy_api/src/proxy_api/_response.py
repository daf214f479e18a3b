"""The response owns its journey: the block closes when the last byte is out or the client gone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

from proxy_api._arrival import Arrival, ClientGone
from proxy_api._face import Face
from proxy_api._journey import journey
from proxy_api._pulse import Pulse
from proxy_api._sending import Sending
from proxy_api._snapshot import Snapshot
from proxy_core.errors import ProxyError, ShuttingDown
from proxy_logging import StructuredLogger

__all__ = ["HasSnapshot", "Surface"]

_LAST_WORDS: Final = 1.0
"""Seconds for a client that takes nothing to take them."""
_STOPS: Final = "The proxy stops, and the time that server.drain gives is over: ask again."


class HasSnapshot(Protocol):
    """Where a surface finds the snapshot of the moment, and says for how long it needs it."""

    def enter(self) -> Snapshot: ...
    def leave(self, snapshot: Snapshot) -> None: ...


class Surface:
    """One hot route, as a bare ASGI app: it reads, runs the journey, and sends.

    Args:
        face: what it is to its clients.
        house: where the snapshot of the moment is.
        logger: told of what broke here.
        arrives: how a request is read.
        sends: how an answer is sent.
    """

    def __init__(
        self,
        face: Face,
        house: HasSnapshot,
        logger: StructuredLogger,
        *,
        arrives: type[Arrival] = Arrival,
        sends: type[Sending] = Sending,
    ) -> None:
        self._face = face
        self._arrives = arrives
        self._sends = sends
        self._house = house
        self._logger = logger
        self._pulse = Pulse()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, model: str = "") -> None:
        """``model`` is the one that the path names, where it does."""
        house = self._house.enter()
        arrival = self._arrives(scope, receive, self._face, model)
        sending = self._sends(arrival, send)
        self._pulse.watch(sending, house.rhythm)
        try:
            with arrival.departure:
                try:
                    await journey(arrival, house, sending.reply)
                except BaseException as error:  # noqa: BLE001 - what isn't answered is raised again
                    await self._fail(error, arrival, sending)
                else:
                    if not sending.ended:
                        await sending.end()
        finally:
            self._pulse.forget(sending)
            self._house.leave(house)

    async def _fail(self, error: BaseException, arrival: Arrival, sending: Sending) -> None:
        if isinstance(error, ClientGone):
            return
        if isinstance(error, asyncio.CancelledError) and not arrival.departure.gone:
            # Not the client: the server ends, and waits for no more than these last words.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await sending.fail(ShuttingDown(_STOPS))
            return
        if not isinstance(error, Exception):
            raise error
        if not isinstance(error, ProxyError):
            self._logger.error("request_broke", request_id=arrival.request_id, exc_info=error)
        await sending.fail(error)
