"""Holds an answer back until it has content: what fails before gets a status and another try."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final

from proxy_core._tapped import poured
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
            reply.body = _Continued(b"".join(begun), reply.body)
            return
    reply.body, reply.given = Ready(*begun), False


class _Continued(AsyncGenerator[bytes, None]):
    """A body of which something has been read: that, then the rest."""

    __slots__ = ("_begun", "_rest")

    def __init__(self, begun: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self._begun = begun
        self._rest = rest

    def __anext__(self) -> Coroutine[Any, Any, bytes]:
        # What is awaited is the rest's own: no frame of ours stands between for each piece.
        return self._first() if self._begun else self._rest.__anext__()

    async def _first(self) -> bytes:
        begun, self._begun = self._begun, b""
        return begun

    async def pour(self, sink: Callable[[bytes], bool]) -> bool:
        """See Tapped."""
        begun, self._begun = self._begun, b""
        if begun and not sink(begun):
            return False
        return await poured(self._rest, sink)

    async def asend(self, value: None) -> bytes:
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> bytes:
        return await self._rest.athrow(typ if val is None else val)

    async def aclose(self) -> None:
        self._begun = b""
        await self._rest.aclose()
