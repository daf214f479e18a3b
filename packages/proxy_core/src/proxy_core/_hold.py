"""Holds an answer back until it has content: what fails before gets a status and another try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from proxy_core._types import Reply

__all__ = ["held"]

PATIENCE: Final = 20.0
"""Seconds of silence after which the 200 is committed: clients and balancers give up at 60."""
HEARTBEAT: Final = 15.0
_COMMENT: Final = b": keepalive\n\n"
_MAX_HELD: Final = 256 * 1024


@asynccontextmanager
async def held(
    reply: Reply, *, patience: float = PATIENCE, heartbeat: float = HEARTBEAT
) -> AsyncIterator[Reply]:
    """Wait for the first content event, then give the same reply with all of its body.

    A whole answer is read to its end first: only then is it known to be one.
    A stream that stays silent for ``patience`` seconds is given as it is, and sends a comment line
    at once and every ``heartbeat`` seconds until it has content. What fails before raises here.
    """
    if not reply.stream:
        reply.body = _given([chunk async for chunk in reply.body])
        yield reply
        return
    source = reply.body
    begun: list[bytes] = []
    reading = asyncio.ensure_future(_until_content(reply, source, begun))
    try:
        await asyncio.wait((reading,), timeout=patience)
        if reading.done():
            reading.result()
        reply.body = _continued(source, begun, reading, heartbeat)
        async with aclosing(reply.body):
            yield reply
    finally:
        await _ended(reading)


async def _ended(reading: asyncio.Future[None]) -> None:
    """Cancel it and see it end, however often we are cancelled: its body is closed after this."""
    reading.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not reading.done():
        try:
            await asyncio.wait((reading,))
        except asyncio.CancelledError as again:
            cancelled = again
    if not reading.cancelled():
        reading.exception()  # what nobody asks for would be logged
    if cancelled is not None:
        raise cancelled


async def _given(chunks: list[bytes]) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


async def _until_content(
    reply: Reply, source: AsyncGenerator[bytes, None], begun: list[bytes]
) -> None:
    size = 0
    async for chunk in source:
        begun.append(chunk)
        size += len(chunk)
        if reply.has_content or size > _MAX_HELD:
            return


async def _continued(
    source: AsyncGenerator[bytes, None],
    begun: list[bytes],
    reading: asyncio.Future[None],
    heartbeat: float,
) -> AsyncGenerator[bytes, None]:
    sent = 0
    if not begun and not reading.done():
        yield _COMMENT
    while not reading.done() or sent < len(begun):
        if sent < len(begun):
            yield begun[sent]
            sent += 1
            continue
        await asyncio.wait((reading,), timeout=heartbeat)
        if not reading.done() and sent == len(begun):
            yield _COMMENT
    reading.result()
    async for chunk in source:
        yield chunk
