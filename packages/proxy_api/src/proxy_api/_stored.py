"""Files, batches and stored responses: what a provider keeps, and each key sees its own of.

Source: platform.openai.com/docs/api-reference/files, /batch, /responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, cast

import msgspec

from proxy_api._arrival import Arrival
from proxy_api._raw import passing_headers, upstream_path
from proxy_api._sealed_ids import Seals
from proxy_api._sending import Sending
from proxy_api._uploads import check_form
from proxy_core import Call, Ready, Reply
from proxy_core.dialects import Document, MalformedDocument
from proxy_core.errors import (
    InvalidRequest,
    NotFound,
    NotSupported,
    PermissionRefused,
    UnsupportedMedia,
    UpstreamProtocolError,
)

if TYPE_CHECKING:
    from proxy_api._keys import Key
    from proxy_api._snapshot import Snapshot

__all__ = ["STORED_ROUTES", "StoredArrival", "StoredRoute", "StoredSending"]

_PROVIDER: Final = b"x-llm-proxy-provider"
_MAX_ANSWER: Final = 64 * 1024 * 1024
_IDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "files": ("id",),
        "batches": ("id", "input_file_id", "output_file_id", "error_file_id"),
        "responses": ("id", "previous_response_id"),
    }
)
"""Fields of an answer that hold an id which the key may use again."""

_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class StoredRoute:
    """One path below /v1, and what is asked there."""

    path: str
    methods: tuple[str, ...]
    summary: str
    takes: str = ""
    """The media type of the body."""
    is_verbatim: bool = False
    """Whether the answer has no ids of ours: a file's content, the items of a response."""
    is_list: bool = False

    @property
    def kind(self) -> str:
        """What is kept: ``files``, ``batches``, ``responses``."""
        return self.path.split("/")[1]


_FORM: Final = "multipart/form-data"
_JSON: Final = "application/json"
STORED_ROUTES: Final = (
    StoredRoute("/files", ("POST",), "Keep a file at a provider", _FORM),
    StoredRoute("/files", ("GET",), "Not supported: which files a key has", is_list=True),
    StoredRoute("/files/{id}", ("GET",), "What is known of a file"),
    StoredRoute("/files/{id}", ("DELETE",), "Delete a file"),
    StoredRoute("/files/{id}/content", ("GET",), "The content of a file", is_verbatim=True),
    StoredRoute("/batches", ("POST",), "Begin a batch", _JSON),
    StoredRoute("/batches", ("GET",), "Not supported: which batches a key has", is_list=True),
    StoredRoute("/batches/{id}", ("GET",), "How a batch is"),
    StoredRoute("/batches/{id}/cancel", ("POST",), "Cancel a batch"),
    StoredRoute("/responses/{id}", ("GET",), "A stored response"),
    StoredRoute("/responses/{id}", ("DELETE",), "Delete a stored response"),
    StoredRoute("/responses/{id}/cancel", ("POST",), "Cancel a response in the background"),
    StoredRoute(
        "/responses/{id}/input_items", ("GET",), "The input of a stored response", is_verbatim=True
    ),
)


class StoredArrival(Arrival):
    """One request for what a provider keeps. ``route`` is set by whoever makes the class."""

    __slots__ = ("seal",)

    route: ClassVar[StoredRoute]
    seal: partial[str] | None
    """Makes the ids of the answer the key's own."""
    _CAP: ClassVar = "server.max_upload"
    _NEEDS_BODY: ClassVar = False

    async def call(self, house: Snapshot, key: Key) -> Call:
        """What is asked for. Raises RequestError, ClientGone."""
        route, scope = self.route, self._scope
        self.seal = None
        if route.is_list:
            raise NotSupported(
                f"The {route.kind} of a key can't be listed: the provider's account is shared, and "
                "the proxy keeps no list of its own. Ask for each by the id that you were given."
            )
        query: bytes = scope.get("query_string", b"")
        if b"stream=true" in query:
            raise NotSupported("A stored response can't be streamed again: ask without 'stream'.")
        seals, media, path = house.seals, b"", route.path
        if "id" in scope.get("path_params", {}):
            provider, plain = seals.open(key.id, scope["path_params"]["id"])
            path = path.replace("{id}", plain)
            raw = await self.body(house.max_body)
            media = self._headers.get(b"content-type", b"") if raw else b""
        elif route.takes == _FORM:
            raw = await self.body(house.max_upload)
            provider, media = self._chosen(house, key), self._headers.get(b"content-type", b"")
        else:
            provider, raw = _opened(await self.body(house.max_body), key, seals)
        if not route.is_verbatim:
            self.seal = partial(seals.seal, key.id, provider)
        return Call(
            dialect="raw",
            body=Document(raw, {}),
            model=route.kind,
            request_id=self.request_id,
            headers=passing_headers(scope["headers"]),
            media=media or (_JSON.encode() if raw else b""),
            provider=provider,
            method=scope["method"],
            path=upstream_path(path.removeprefix("/").encode(), query),
        )

    def _chosen(self, house: Snapshot, key: Key) -> str:
        """The provider that is to keep a new file."""
        able = {name: route for name, route in house.services.items() if route.may_keep_files}
        named = self.header(_PROVIDER).strip()
        if named in able:
            return named
        found = {name: route for name, route in able.items() if house.reaches(key, name)}
        offered = ", ".join(sorted(found)) or "there is none"
        if named in house.services:
            raise InvalidRequest(
                f"The provider {named!r} doesn't speak OpenAI's API, so it keeps no files here. "
                f"Name another one in the header {_PROVIDER.decode()}: {offered}."
            )
        if named:
            raise NotFound(f"There is no provider {named[:100]!r} that serves a model here.")
        known = [name for name, route in found.items() if route.keeps_files] or [*found]
        if len(known) != 1:
            raise InvalidRequest(
                f"Which provider is to keep the file? Name one in the header "
                f"{_PROVIDER.decode()}: {offered}."
            )
        return known[0]

    def _check_media(self) -> None:
        self._check_encoding()
        kind = self.header(b"content-type")
        if self.route.takes == _FORM:
            check_form(kind)
        elif self.route.takes == _JSON and kind.partition(";")[0].strip().lower() != _JSON:
            raise UnsupportedMedia(f"The content-type is {kind[:100]!r}: send application/json.")


def _opened(raw: bytes, key: Key, seals: Seals) -> tuple[str, bytes]:
    """The provider that has a batch's file, and the batch with that provider's id of it."""
    if key.models is not None:
        raise PermissionRefused(
            f"The key {key.name!r} may use some models only, and the file of a batch names any."
        )
    try:
        body = Document.parse(raw, ("input_file_id",))
        sealed = _text(body.fields.get("input_file_id", b""))
    except MalformedDocument as error:
        raise InvalidRequest(f"The request body could not be read: {error}.") from None
    except msgspec.DecodeError:
        raise InvalidRequest(
            "The field 'input_file_id' is missing or no string: name a file.", param="input_file_id"
        ) from None
    provider, plain = seals.open(key.id, sealed, param="input_file_id")
    return provider, body.replaced({"input_file_id": _encode(plain)})


class StoredSending(Sending):
    """Sends answers whose ids are the key's own."""

    __slots__ = ()

    async def reply(self, reply: Reply) -> None:
        """All of an answer."""
        arrival = cast(StoredArrival, self._arrival)
        media = (reply.media or b"").partition(b";")[0].strip().lower()
        if arrival.seal is not None and media == _JSON.encode() and reply.status < 400:
            raw = await _collected(reply)
            reply.body = Ready(_sealed(raw, _IDS[arrival.route.kind], arrival.seal))
        await super().reply(reply)


async def _collected(reply: Reply) -> bytes:
    parts, size = [], 0
    async for part in reply.body:
        parts.append(part)
        size += len(part)
        if size > _MAX_ANSWER:
            raise UpstreamProtocolError(f"the upstream's answer is larger than {_MAX_ANSWER} bytes")
    return b"".join(parts)


def _sealed(raw: bytes, fields: tuple[str, ...], seal: partial[str]) -> bytes:
    """The same with other ids. Raises UpstreamProtocolError."""
    try:
        answer = Document.parse(raw)
        told = {name: answer.fields[name] for name in fields if name in answer.fields}
        texts = {name: _text(value) for name, value in told.items() if bytes(value) != b"null"}
        return answer.replaced({name: _encode(seal(text)) for name, text in texts.items()})
    except (MalformedDocument, msgspec.DecodeError) as error:
        raise UpstreamProtocolError(f"the upstream's answer could not be read: {error}") from None
