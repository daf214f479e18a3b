"""A request as it arrived: its head, its body read once, and the moment its client leaves."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self

import msgspec
from starlette.types import Receive, Scope

from proxy_api._face import Face
from proxy_api._kept_files import may_name_files, with_own_files
from proxy_core import Call, Headers
from proxy_core.dialects import CACHE_PROMPT
from proxy_core.errors import BodyTooLarge, InvalidRequest, UnsupportedMedia

if TYPE_CHECKING:
    from proxy_api._keys import Key
    from proxy_api._snapshot import Snapshot

__all__ = [
    "ADMIN_SOCKET",
    "CLIENT_GONE",
    "KNOWN_HEAD",
    "Arrival",
    "ClientGone",
    "Departure",
    "GoneSignal",
]

CLIENT_GONE: Final = "llm_proxy.client_gone"
"""The ASGI extension under which our protocol class offers a GoneSignal."""
KNOWN_HEAD: Final = "llm_proxy.known_head"
"""The ASGI extension under which it offers what it knows of the request's headers, or None."""
ADMIN_SOCKET: Final = "llm_proxy.admin_socket"
"""The ASGI extension that a request has which came by the admin socket."""

_LEFT: Final = "http.disconnect"
_JSON: Final = b"application/json"
_ASKED: Final = frozenset({CACHE_PROMPT})
"""Headers of ours that a client of any dialect may send."""
_NO_TRAIL: Final[Headers] = []
_LARGE: Final = 1024 * 1024
"""Bytes of a body that is read in a thread, so that others are served between its passes."""

_set = msgspec.structs.force_setattr


class ClientGone(Exception):
    """The client closed its connection before its request was complete."""


class GoneSignal(Protocol):
    """Calls back when the connection of a request is lost. One callback at a time."""

    callback: Callable[[], None] | None


class Arrival:
    """One request on a hot surface."""

    __slots__ = (
        "_headers",
        "_receive",
        "_scope",
        "departure",
        "face",
        "is_committed",
        "is_stream",
        "model",
        "received_at",
        "request_id",
        "trail",
    )

    _NEEDS_BODY: ClassVar = True
    _CAP: ClassVar = "server.max_body"

    def __init__(self, scope: Scope, receive: Receive, face: Face, model: str = "") -> None:
        self._scope = scope
        self._receive = receive
        extensions: Mapping[str, Any] = scope.get("extensions") or {}
        known, headers = extensions.get(KNOWN_HEAD), scope["headers"]
        self._headers: dict[bytes, bytes] = (
            dict(reversed(headers)) if known is None else known.first_values(headers)
        )
        self.face = face
        self.model = model
        """The name that the path says; empty where the body has to."""
        # Never the client's own id: settling is idempotent by it, so a repeated one would be free.
        self.request_id = new_request_id()
        self.received_at = time.monotonic()
        self.departure = Departure(extensions.get(CLIENT_GONE), receive)
        self.is_stream = False
        """Whether the client asked for a stream; known when the call has been read."""
        self.is_committed = False
        """Whether a status has been sent: from then on no other deployment may be asked."""
        self.trail = _NO_TRAIL
        """Headers for an answer that is an error: who was asked."""

    def header(self, name: bytes) -> str:
        """The first value of a header, empty without one. ``name`` is lower-case."""
        return self._headers.get(name, b"").decode("latin-1")

    @property
    def peer(self) -> str | None:
        """The address of the other end; None on a unix socket."""
        client = self._scope.get("client")
        return client[0] if client else None

    async def call(self, house: Snapshot, key: Key) -> Call:
        """What is asked for. Raises RequestError, ClientGone."""
        raw = await self.body(house.max_body)
        face = self.face
        read = self._read_named if self.model else face.dialect.read
        if len(raw) > _LARGE:
            call = await asyncio.to_thread(read, raw, self.request_id)
        else:
            call = read(raw, self.request_id)
        self.is_stream = call.stream
        # Nobody else has seen it yet, and a copy would cost more.
        _set(call, "scope", key.id)
        if may_name_files(raw):
            call = with_own_files(call, house.seals, key)
        if face.passes or CACHE_PROMPT in self._headers:
            return self._with_headers(call, face.passes or _ASKED)
        return call

    def _read_named(self, raw: bytes, request_id: str) -> Call:
        """The call, where the path names the model."""
        face, model = self.face, self.model
        call = face.dialect.read(raw, request_id, model=model, stream=face.stream)
        said, name = call.body.fields.get("model"), msgspec.json.encode(call.model)
        if said is None or bytes(said) == name:
            return call
        # An upstream reads the body: it may name no other model than the key is judged by.
        raw = call.body.replaced({"model": name})
        return face.dialect.read(raw, request_id, model=model, stream=face.stream)

    def _with_headers(self, call: Call, names: frozenset[bytes]) -> Call:
        """The same with the client's headers of these names, each as often as it came."""
        headers = tuple((name, value) for name, value in self._scope["headers"] if name in names)
        return msgspec.structs.replace(call, headers=headers) if headers else call

    async def body(self, at_most: int) -> bytes:
        """The whole body. Raises UnsupportedMedia, InvalidRequest, BodyTooLarge, ClientGone."""
        self._check_media()
        length = self._headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > at_most:
            raise self._too_large(at_most)
        message = await self._receive()
        if message["type"] == _LEFT:
            raise ClientGone
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest(body, at_most)
        if len(body) > at_most:
            raise self._too_large(at_most)
        self.departure.watch()
        if not body and self._NEEDS_BODY:
            raise InvalidRequest("The request has no body: send a JSON object.")
        return body

    async def _rest(self, body: bytes, at_most: int) -> bytes:
        """All of a body that came in parts; no more of one that is too large."""
        parts, size, more = [body], len(body), True
        while more and size <= at_most:
            message = await self._receive()
            if message["type"] == _LEFT:
                raise ClientGone
            part = message.get("body", b"")
            more = message.get("more_body", False)
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _check_media(self) -> None:
        headers = self._headers
        if headers.get(b"content-type") == _JSON and b"content-encoding" not in headers:
            return
        kind = self.header(b"content-type").partition(";")[0].strip().lower()
        if kind != "application/json":
            told = repr(kind) if kind else "missing"
            raise UnsupportedMedia(f"The content-type is {told}: send application/json.")
        self._check_encoding()

    def _check_encoding(self) -> None:
        encoding = self.header(b"content-encoding").strip().lower()
        if encoding not in ("", "identity"):
            raise UnsupportedMedia(
                f"The content-encoding is {encoding!r}: send the body uncompressed."
            )

    def _too_large(self, at_most: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"The request body is larger than {at_most} bytes, the most that {self._CAP} allows."
        )


# A struct, since one is made for each request: it begins without a Python frame.


class Departure(msgspec.Struct, eq=False):
    """Cancels the task that serves a client when that client has gone. A ``with`` block of it.

    Under our own protocol class the news come from the connection itself. Under any other server a
    task waits on ``receive()``, but only once the body has been read: before, it is ours.
    """

    _signal: GoneSignal | None
    _receive: Receive
    gone: bool = False
    _task: asyncio.Task[Any] | None = None
    _watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._signal is not None:
            self._signal.callback = self._leave
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if self._signal is not None:
            self._signal.callback = None
        elif self._watcher is not None:
            self._watcher.cancel()
        if not self.gone or self._task is None:
            return False
        # Only a cancellation of our own is swallowed; a server that shuts down means its own.
        others = self._task.uncancel()
        return kind is not None and issubclass(kind, asyncio.CancelledError) and not others

    def watch(self) -> None:
        """The body has been read: from now on ``receive()`` can only tell of the client's end."""
        if self._signal is None:
            self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != _LEFT:
            pass
        self._leave()

    def _leave(self) -> None:
        if not self.gone and self._task is not None:
            self.gone = True
            self._task.cancel("the client has gone")


def new_request_id() -> str:
    """Unique, and safe in a header and a log line."""
    return "req_" + os.urandom(12).hex()
