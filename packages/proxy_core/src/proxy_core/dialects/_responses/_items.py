"""Items into turns: a client's history, and an upstream's output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import compress
from types import MappingProxyType
from typing import Final

import msgspec

from proxy_core.dialects._canonical import (
    Media,
    Part,
    Reasoning,
    Role,
    Signature,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._reading import Value
from proxy_core.dialects._responses._content import read_content
from proxy_core.dialects._responses._kept import Kept, read_kept
from proxy_core.dialects._responses._namespaces import Home, flat_name
from proxy_core.dialects._responses._words import DIALECT, PARAGRAPH
from proxy_core.errors import InvalidRequest

__all__ = ["kind_of", "read_call", "read_image", "read_items", "reasonings", "texts_of"]

_ROLES: Final = ("user", "assistant", "system", "developer")
_NAMED: Final = ("type", "id", "call_id", "name", "namespace", "status")
_NO_HOMES: Final[Mapping[Home, str]] = MappingProxyType({})
_RECORDS: Final = frozenset(
    {"code_interpreter_call", "file_search_call", "mcp_list_tools", "web_search_call"}
)
"""Of what OpenAI's own tools did: the answer told it. Others, such as a shell's output or a
compaction, hold what stands nowhere else."""
_CALL_FIELDS: Final = MappingProxyType(
    {"function_call": ("arguments", False), "custom_tool_call": ("input", True)}
)


def read_items(
    items: Iterable[Value], losses: Losses, flat_names: Mapping[Home, str] = _NO_HOMES
) -> tuple[Turn, ...]:
    """The turns that these items amount to; those of an assistant become one.

    ``flat_names`` are those of the tools that stand in a namespace.
    Raises InvalidRequest, also for a reference to what OpenAI stored and we did not.
    """
    draft = _Draft(losses, flat_names)
    places: list[str] = []
    for item in items:
        kind = kind_of(item)
        read = _READERS.get(kind)
        if read is None:
            is_record = kind in _RECORDS
            told = "what it found stands in the assistant's text"
            why = told if is_record else f"the translation has no items of type {kind!r}"
            losses.drop(item.path, why, grave=not is_record)
        else:
            read(draft, item)
        places += [item.path] * (len(draft.turns) - len(places))
    draft.forget()
    kept = [parts or role != "assistant" for role, parts in draft.turns]
    losses.places += compress(places, kept)
    return tuple(Turn(role=role, parts=tuple(parts)) for role, parts in compress(draft.turns, kept))


def kind_of(item: Value) -> str:
    """Its type; messages and references may leave it out."""
    kind = item.maybe_text("type")
    if kind is not None:
        return kind
    return "item_reference" if "id" in item and "role" not in item else "message"


def read_call(item: Value, flat_names: Mapping[Home, str] = _NO_HOMES) -> ToolCall:
    """A call of a function, or of a custom tool."""
    field, custom = _CALL_FIELDS[kind_of(item)]
    arguments = item.maybe_text(field) or ""
    return ToolCall(
        id=item.field("call_id").text(),
        name=_name_of(item, item.field("name").text(), flat_names),
        arguments=arguments if custom else arguments or "{}",
        custom=custom,
    )


def _name_of(item: Value, name: str, flat_names: Mapping[Home, str]) -> str:
    """Under which a tool goes to an upstream, also one that is no longer offered."""
    namespace = item.maybe_text("namespace")
    if not namespace:
        return name
    home = Home(namespace, name)
    return flat_names.get(home) or flat_name(home)


def read_image(item: Value) -> Media | None:
    """The picture that a tool of the provider's made; None where it made none."""
    data = item.maybe_text("result")
    if not data:
        return None
    form = item.maybe_text("output_format") or "png"
    source = Source(kind="base64", data=data, media_type=f"image/{form}")
    return Media(kind="image", source=source)


def texts_of(item: Value, field: str) -> str:
    """The texts of a reasoning's ``summary`` or ``content``, as one."""
    return PARAGRAPH.join(one.field("text").text() for one in item.maybe_items(field))


def reasonings(item: Value, kept: Kept | None) -> list[Reasoning]:
    """What a reasoning item holds: a summary, the thinking itself, or what is sealed alone."""
    found = [
        Reasoning(text=text, summary=field == "summary", id=item.maybe_text("id"))
        for field in ("summary", "content")
        if (text := texts_of(item, field))
    ]
    if kept is None:
        return found
    if not found:
        own = kept.signature.origin == DIALECT
        redacted = own or kept.use == "redacted"
        found = [Reasoning(redacted=redacted, id=item.maybe_text("id"))]
    found[-1] = msgspec.structs.replace(found[-1], signature=kept.signature)
    return found


class _Draft:
    """Turns while they are read."""

    def __init__(self, losses: Losses, flat_names: Mapping[Home, str]) -> None:
        self.losses = losses
        self._flat_names = flat_names
        self.turns: list[tuple[Role, list[Part]]] = []
        self._names: dict[str, str] = {}
        self._for_media: Signature | None = None

    def message(self, item: Value) -> None:
        item.lose_others(self.losses, "type", "role", "content", "id", "status")
        role = _role(item)
        parts = read_content(item.field("content"), self.losses)
        if role == "assistant":
            self._join("assistant", *parts)
        else:
            self.turns.append((role, list(parts)))

    def call(self, item: Value) -> None:
        field = _CALL_FIELDS[kind_of(item)][0]
        item.lose_others(self.losses, *_NAMED, field)
        call = read_call(item, self._flat_names)
        self._names[call.id] = call.name
        self._join("assistant", call)

    def result(self, item: Value) -> None:
        item.lose_others(self.losses, *_NAMED, "output")
        call = item.field("call_id").text()
        said = read_content(item.field("output"), self.losses)
        name = item.maybe_text("name")
        part = ToolResult(
            id=call,
            name=_name_of(item, name, self._flat_names) if name else self._names.get(call, ""),
            parts=tuple(one for one in said if isinstance(one, Text | Media)),
            custom=kind_of(item) == "custom_tool_call_output",
        )
        self._join("tool", part)

    def image(self, item: Value) -> None:
        media = read_image(item)
        if media is not None:
            self._join("assistant", msgspec.structs.replace(media, signature=self._for_media))
            self._for_media = None

    def reasoning(self, item: Value) -> None:
        item.lose_others(
            self.losses, "type", "id", "status", "summary", "content", "encrypted_content"
        )
        sealed = item.maybe_text("encrypted_content")
        kept = read_kept(sealed or "")
        if kept is None or kept.use in ("reasoning", "redacted"):
            self._join("assistant", *reasonings(item, kept))
        elif kept.use == "media":
            self._for_media = kept.signature
        elif not self._sign(kept):
            self.losses.drop(item.path, "what it belongs to is not there")

    def reference(self, item: Value) -> None:
        raise InvalidRequest(
            f"The field {item.path!r} refers to an item that was stored: nothing is stored here. "
            "Send the whole conversation in 'input', with 'store' false.",
            param=item.path,
        )

    def forget(self) -> None:
        """The end: whatever waits for a picture waits no longer."""
        if self._for_media is not None:
            self.losses.drop("input", "the picture that a signature belongs to is not there")

    def _join(self, role: Role, *parts: Part) -> None:
        if not self.turns or self.turns[-1][0] != role:
            self.turns.append((role, []))
        self.turns[-1][1].extend(parts)

    def _sign(self, kept: Kept) -> bool:
        """Give a call or a text its signature; False where it is gone."""
        parts = self.turns[-1][1] if self.turns and self.turns[-1][0] == "assistant" else []
        for at in range(len(parts) - 1, -1, -1):
            part = parts[at]
            if isinstance(part, ToolCall) and kept.use == "call" and part.id == kept.call:
                parts[at] = msgspec.structs.replace(part, signature=kept.signature)
                return True
            if isinstance(part, Text) and kept.use == "text":
                parts[at] = msgspec.structs.replace(part, signature=kept.signature)
                return True
        return False


def _role(item: Value) -> Role:
    role: Role = item.field("role").one_of(*_ROLES)  # type: ignore[assignment]
    return role


_READERS: Final[Mapping[str, Callable[[_Draft, Value], None]]] = MappingProxyType(
    {
        "message": _Draft.message,
        "function_call": _Draft.call,
        "custom_tool_call": _Draft.call,
        "function_call_output": _Draft.result,
        "custom_tool_call_output": _Draft.result,
        "reasoning": _Draft.reasoning,
        "image_generation_call": _Draft.image,
        "item_reference": _Draft.reference,
    }
)
