"""Tool calls of a stream, in all the ways that servers number and name them."""

from __future__ import annotations

from proxy_core.dialects._body import fresh_call_id
from proxy_core.dialects._canonical import (
    Closed,
    Event,
    Json,
    Opened,
    Piece,
    Signature,
    ToolCall,
)
from proxy_core.dialects._chat._wire import (
    arguments_of,
    as_dict,
    as_text,
    signature_in,
)
from proxy_core.errors import UpstreamProtocolError

__all__ = ["CallsReader"]


class _Call:
    """One call. It opens as a part when its name is known."""

    __slots__ = ("custom", "id", "name", "part", "said", "signature", "waiting")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.custom = False
        self.part: int | None = None
        self.said = False
        self.waiting = ""
        self.signature: Signature | None = None


class CallsReader:
    """The calls of one choice, which may come in turns, without an index, or with a wrong one."""

    __slots__ = ("_by_index", "_calls", "_choice")

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    @property
    def any(self) -> bool:
        return bool(self._calls)

    def read(self, told: list[Json], parts: int, events: list[Event]) -> int:
        """Add what a delta's ``tool_calls`` say; gives back how many parts the choice has now."""
        for fragment in map(as_dict, told):
            custom = isinstance(fragment.get("custom"), dict)
            said = as_dict(fragment.get("custom" if custom else "function"))
            call = self._find(fragment, as_text(said.get("name")))
            call.custom = call.custom or custom
            call.id = call.id or as_text(fragment.get("id"))
            call.name = call.name or as_text(said.get("name"))
            call.signature = signature_in(fragment) or call.signature
            call.waiting += arguments_of(said.get("input" if custom else "arguments"))
            parts = self._tell(call, parts, events)
        return parts

    def end(self, parts: int, events: list[Event]) -> int:
        """Close them all. Raises UpstreamProtocolError for one that never had a name."""
        for call in self._calls:
            if call.part is None:
                raise UpstreamProtocolError("the upstream's stream has a tool call without a name")
            if not call.said and not call.custom:
                events.append(Piece(index=call.part, choice=self._choice, text="{}"))
            if call.signature is not None:
                signed = Piece(index=call.part, choice=self._choice, signature=call.signature)
                events.append(signed)
            events.append(Closed(index=call.part, choice=self._choice))
        return parts

    def _find(self, fragment: dict[str, Json], name: str) -> _Call:
        """The call that a fragment belongs to; a new one where it begins one.

        An id that differs begins another call even under an index that is taken: Gemini's and
        some vLLM parsers' calls all have the index 0.
        """
        call_id, index = as_text(fragment.get("id")), fragment.get("index")
        if isinstance(index, int):
            call = self._by_index.get(index)
            if call is None or (call_id and name and call.id and call_id != call.id):
                call = self._by_index[index] = self._new()
            return call
        if call_id:
            return next((call for call in self._calls if call.id == call_id), None) or self._new()
        return self._new() if name or not self._calls else self._calls[-1]

    def _new(self) -> _Call:
        call = _Call()
        self._calls.append(call)
        return call

    def _tell(self, call: _Call, parts: int, events: list[Event]) -> int:
        if call.part is None:
            if not call.name:
                return parts
            call.part, parts = parts, parts + 1
            call.id = call.id or fresh_call_id()
            opened = ToolCall(id=call.id, name=call.name, arguments="", custom=call.custom)
            events.append(Opened(index=call.part, part=opened, choice=self._choice))
        if call.waiting:
            events.append(Piece(index=call.part, choice=self._choice, text=call.waiting))
            call.said, call.waiting = True, ""
        return parts
