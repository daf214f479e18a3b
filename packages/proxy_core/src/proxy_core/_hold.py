"""Holds an answer back until it has content: what fails before gets a status and another try."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

from proxy_core._types import Reply

__all__ = ["held"]

_MAX_HELD: Final = 256 * 1024
"""Bytes of a stream that talks without saying anything; then it is given as it is."""


@asynccontextmanager
async def held(reply: Reply) -> AsyncIterator[Reply]:
    """Wait for the first content event, then give the same reply with all of its body.

    A whole answer is read to its end first: only then is it known to be one. What fails before the
    content raises here.
    """
    begun: list[bytes] = []
    size = 0
    async for chunk in reply.body:
        begun.append(chunk)
        size += len(chunk)
        if reply.stream and (reply.has_content or size > _MAX_HELD):
            break
    reply.body = _continued(begun, reply.body)
    async with aclosing(reply.body):
        yield reply


async def _continued(
    begun: Sequence[bytes], rest: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    for chunk in begun:
        yield chunk
    async for chunk in rest:
        yield chunk
