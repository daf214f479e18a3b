"""Holds an answer back until it has content: what fails before gets a status and another try."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from proxy_core._types import Ready, Reply

__all__ = ["hold"]

_MAX_HELD: Final = 256 * 1024
"""Bytes of a stream that talks without saying anything; then it is given as it is."""


async def hold(reply: Reply) -> None:
    """Wait for the first content event; the reply's body is still all of it.

    A whole answer is read to its end: only then is it known to be one. What fails before the
    content raises here.
    """
    if isinstance(reply.body, Ready):
        return
    begun: list[bytes] = []
    size = 0
    async for chunk in reply.body:
        begun.append(chunk)
        size += len(chunk)
        if reply.stream and (reply.has_content or size > _MAX_HELD):
            reply.body = _continued(begun, reply.body)
            return
    reply.body = Ready(*begun)


async def _continued(
    begun: Sequence[bytes], rest: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    yield b"".join(begun)
    async for chunk in rest:
        yield chunk
