"""What a provider keeps in the account that all keys share, named by ids that nobody has sealed.

Ids of files and of responses are sealed for their key. Those of items, conversations, containers
and vector stores are not: whoever knows one could read what another key had put there.

Source: platform.openai.com/docs/api-reference/responses/create (``input``, ``conversation``,
``tools``), platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from proxy_api._arrival import Arrival
from proxy_core import Call
from proxy_core.dialects._body import read_json
from proxy_core.errors import InvalidRequest

if TYPE_CHECKING:
    from proxy_api._keys import Key
    from proxy_api._snapshot import Snapshot

__all__ = ["MessagesArrival", "check_response"]

_Fields = Mapping[str, msgspec.Raw]

_NULL: Final = b"null"
_SHOWN: Final = 100
_REFERENCE: Final = "item_reference"
_BARE: Final = frozenset({"id", "type", "status"})
"""What is said of an item that is only named."""
_IN_TOOLS: Final = (b"vector_store", b"container")
_IN_INPUT: Final = (b'"id"',)
_ESCAPES: Final = b"\\u00"
"""In which the name of a field may be spelt."""
_ARRAY: Final = ord("[")
_MISSING: Final = msgspec.Raw()
_NOTHING: Final = (b"", _NULL)
_SEND: Final = "send the items themselves, or go on by previous_response_id"
_ANEW: Final = "leave it out: the provider then makes a new one"
_AUTO: Final = 'leave the id out (`"container": {"type": "auto"}`)'


class _Item(msgspec.Struct):
    """As much of an item of the input as tells most of them from a mere name."""

    # Never ``Raw | None``: of a union the decoder takes None alone.
    id: msgspec.Raw = _MISSING
    role: msgspec.Raw = _MISSING
    content: msgspec.Raw = _MISSING
    type: msgspec.Raw = msgspec.Raw(b'"message"')

    def may_refer(self) -> bool:
        """Whether it has an id and doesn't say its text itself."""
        if bytes(self.id) in _NOTHING:
            return False
        return (
            bytes(self.type) != b'"message"'
            or bytes(self.role) in _NOTHING
            or bytes(self.content) in _NOTHING
        )


_heads = msgspec.json.Decoder(list[_Item]).decode


class _Named(NamedTuple):
    field: str
    value: object
    remedy: str


def check_response(fields: _Fields) -> None:
    """That a request for a response names nothing that may be another key's.

    Raises InvalidRequest with the field, the value and what to do instead.
    """
    named = next(_named(fields), None)
    if named is not None:
        raise _refusal(named)


class MessagesArrival(Arrival):
    """One request for a message of Anthropic's."""

    __slots__ = ()

    async def call(self, house: Snapshot, key: Key) -> Call:
        """What is asked for. Raises RequestError, ClientGone."""
        call = await super().call(house, key)
        container = call.body.fields.get("container")
        if container is not None and not key.names_all and (held := _id_of(read_json(container))):
            raise _refusal(_Named("container", held, _ANEW))
        return call


def _named(fields: _Fields) -> Iterator[_Named]:
    if (conversation := fields.get("conversation")) is not None:
        held = _id_of(read_json(conversation))
        if held:
            yield _Named("conversation", held, _SEND)
    if (tools := fields.get("tools")) is not None and _may_hold(tools, _IN_TOOLS):
        yield from _in_tools(read_json(tools))
    if (given := fields.get("input")) is not None and _may_hold(given, _IN_INPUT):
        yield from _in_input(given)


def _may_hold(raw: msgspec.Raw, names: tuple[bytes, ...]) -> bool:
    """Whether an array is worth a look inside."""
    if memoryview(raw)[0] != _ARRAY:
        return False
    told = bytes(raw)
    # From the end several bytes are found sooner than from the beginning, or by a pattern.
    return any(told.rfind(name) >= 0 for name in (*names, _ESCAPES))


def _in_tools(tools: list[Any]) -> Iterator[_Named]:
    for at, tool in enumerate(tools):
        if not isinstance(tool, dict):
            continue
        if stores := tool.get("vector_store_ids"):
            remedy = "send the files by file_id, or leave the tool out"
            yield _Named(f"tools[{at}].vector_store_ids", stores, remedy)
        if isinstance(held := tool.get("container"), str):
            yield _Named(f"tools[{at}].container", held, _AUTO)
        place = tool.get("environment")
        if isinstance(place, dict) and (held := place.get("container_id")):
            yield _Named(f"tools[{at}].environment.container_id", held, _AUTO)


def _in_input(given: msgspec.Raw) -> Iterator[_Named]:
    if not _may_refer(given):
        return
    for at, item in enumerate(read_json(given)):
        if isinstance(item, dict) and _is_reference(item):
            yield _Named(f"input[{at}]", item.get("id"), _SEND)


def _may_refer(given: msgspec.Raw) -> bool:
    """Whether some item has an id and isn't a plain message: most histories need no second look."""
    try:
        items = _heads(given)
    except msgspec.DecodeError:
        return True
    return any(item.may_refer() for item in items)


def _is_reference(item: Mapping[str, Any]) -> bool:
    if item.get("type") == _REFERENCE:
        return True
    said = {name for name, value in item.items() if value is not None}
    return "id" in said and said <= _BARE


def _id_of(value: Any) -> object:
    """An id, bare or in an object; nothing where none is named."""
    return value.get("id") if isinstance(value, dict) else value


def _refusal(named: _Named) -> InvalidRequest:
    shown = msgspec.json.encode(named.value).decode()
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
    return InvalidRequest(
        f"The field {named.field!r} names {shown}, which is kept in an account that all keys share "
        f"and may be another one's: {named.remedy}. Keys with the scope 'passthrough' may name it.",
        param=named.field,
    )
