"""A request of the Responses API: the ids in it, and in its answer, are the key's own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from proxy_api._arrival import Arrival
from proxy_api._shared_state import check_response
from proxy_core import Call
from proxy_core.dialects import Document
from proxy_core.errors import InvalidRequest

if TYPE_CHECKING:
    from proxy_api._keys import Key
    from proxy_api._snapshot import Snapshot

__all__ = ["ResponsesArrival"]

_PREVIOUS: Final = "previous_response_id"
_NULL: Final = b"null"

_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str).decode
_replace = msgspec.structs.replace


class ResponsesArrival(Arrival):
    """One request for a response."""

    __slots__ = ()

    async def call(self, house: Snapshot, key: Key) -> Call:
        """What is asked for. Raises RequestError, ClientGone."""
        call = await super().call(house, key)
        fields = call.body.fields
        if not key.names_all:
            check_response(fields)
        sealed = bytes(fields.get(_PREVIOUS, _NULL))
        if sealed != _NULL:
            call = self._continued(call, sealed, house, key)
        if bytes(fields.get("store", _NULL)) != b"false":
            # Kept by the provider: who wants it again has to ask there, with this key.
            call = _replace(call, seal=partial(house.seals.seal, key.id))
        return call

    def _continued(self, call: Call, sealed: bytes, house: Snapshot, key: Key) -> Call:
        """With the provider's own id, for the provider that has it. Raises RequestError."""
        try:
            provider, plain = house.seals.open(key.id, _text(sealed), param=_PREVIOUS)
        except msgspec.DecodeError:
            raise InvalidRequest(
                f"The field {_PREVIOUS!r} is no string: give the id of a response.", param=_PREVIOUS
            ) from None
        if call.provider not in ("", provider):
            raise InvalidRequest(
                f"{_PREVIOUS} is with the provider {provider!r}, and a file that the request names "
                f"with {call.provider!r}: name what one of them has.",
                param=_PREVIOUS,
            )
        raw = call.body.replaced({_PREVIOUS: _encode(plain)})
        return _replace(call, body=Document.parse(raw, (_PREVIOUS,)), provider=provider)
