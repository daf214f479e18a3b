"""A request whose body is a form with files: all of it is held until it has been sent."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, cast

from proxy_api._arrival import Arrival
from proxy_core import Call
from proxy_core.dialects import UploadDialect
from proxy_core.errors import UnsupportedMedia

if TYPE_CHECKING:
    from proxy_api._keys import Key
    from proxy_api._snapshot import Snapshot

__all__ = ["UploadArrival", "check_form"]

_LARGE: Final = 1024 * 1024
"""Bytes of a body that is read in a thread."""


class UploadArrival(Arrival):
    """One request on a surface that takes files."""

    __slots__ = ()

    _CAP: ClassVar = "server.max_upload"

    async def call(self, house: Snapshot, key: Key) -> Call:
        """What is asked for. Raises RequestError, ClientGone."""
        raw = await self.body(house.max_upload)
        read = partial(
            cast(UploadDialect, self.face.dialect).read,
            raw,
            self.request_id,
            model=self.model,
            media=self.header(b"content-type"),
        )
        call = await asyncio.to_thread(read) if len(raw) > _LARGE else read()
        self.is_stream = call.stream
        return call

    def _check_media(self) -> None:
        check_form(self.header(b"content-type"))
        self._check_encoding()


def check_form(content_type: str) -> None:
    """That a body is a form. Raises UnsupportedMedia."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        told = repr(kind) if kind else "missing"
        raise UnsupportedMedia(f"The content-type is {told}: send multipart/form-data.")
