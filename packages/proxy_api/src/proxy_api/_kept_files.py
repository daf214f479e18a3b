"""Files that a request names by id: only the key's own, by the id that their provider knows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy_core import Call
from proxy_core.errors import InvalidRequest

if TYPE_CHECKING:
    from proxy_api._keys import Key
    from proxy_api._sealed_ids import Seals

__all__ = ["may_name_files", "with_own_files"]

_DIALECTS: Final = frozenset({"openai.chat", "openai.responses"})
_NAME: Final = b"file_id"
_ESCAPES: Final = b"\\u00"
_LETTERS: Final = re.compile(rb"\\u00(?:[46][0-9a-fA-F]|[57][0-9aA]|5[fF])")
"""Letters in an odd spelling, which hide the name of a field."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def may_name_files(raw: bytes) -> bool:
    """Whether a body is worth a second look; nearly none is."""
    # One byte is found many times sooner than several, and those sooner from the end.
    if b"_" in raw and raw.rfind(_NAME) >= 0:
        return True
    return b"\\" in raw and raw.rfind(_ESCAPES) >= 0 and _LETTERS.search(raw) is not None


def with_own_files(call: Call, seals: Seals, key: Key) -> Call:
    """The same with the provider's ids, for the provider that has the files. Raises RequestError.

    Only fields that name a file are written anew.
    """
    if call.dialect not in _DIALECTS:
        return call
    opener = _Opener(seals, key.id)
    edits: dict[str, bytes] = {}
    for name, raw in call.body.fields.items():
        value = bytes(raw)
        if may_name_files(value):
            opened = opener.opened(_decode(value))
            if opener.changed:
                edits[name], opener.changed = _encode(opened), False
    if not edits:
        return call
    providers = opener.providers | ({call.provider} - {""})
    if len(providers) > 1:
        raise InvalidRequest(
            f"The request names what several providers keep: {', '.join(sorted(providers))}. "
            "Name files of one of them."
        )
    body = type(call.body).parse(call.body.replaced(edits), tuple(edits))
    return msgspec.structs.replace(call, body=body, provider=providers.pop())


class _Opener:
    """Opens every id of a file in a value."""

    def __init__(self, seals: Seals, owner: str) -> None:
        self._seals = seals
        self._owner = owner
        self.providers: set[str] = set()
        self.changed = False

    def opened(self, value: Any) -> Any:
        """The same with the provider's ids."""
        if isinstance(value, list):
            return [self.opened(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {name: self._field(name, inner) for name, inner in value.items()}

    def _field(self, name: str, value: Any) -> Any:
        if name == "file_id" and isinstance(value, str):
            return self._plain(value, name)
        if name == "file_ids" and isinstance(value, list):
            return [self._plain(one, name) if isinstance(one, str) else one for one in value]
        return self.opened(value)

    def _plain(self, sealed: str, param: str) -> str:
        provider, plain = self._seals.open(self._owner, sealed, param=param)
        self.providers.add(provider)
        self.changed = True
        return plain
