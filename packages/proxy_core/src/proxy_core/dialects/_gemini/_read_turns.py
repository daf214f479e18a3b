"""The contents of a request into turns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from proxy_core.dialects._body import fresh_call_id
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
from proxy_core.dialects._gemini._schema import camel_fields
from proxy_core.dialects._gemini._words import signature_read
from proxy_core.dialects._reading import Value

__all__ = ["media_kind", "opened", "read_part", "read_turns"]

_ROLES: Final[dict[str, Role]] = {"model": "assistant", "user": "user", "function": "user"}
_KINDS: Final[dict[str, Literal["image", "audio", "video"]]] = {
    "image": "image",
    "audio": "audio",
    "video": "video",
}
_GOOGLES: Final = "https://generativelanguage.googleapis.com/"
"""What begins so is a file of the one whose key it is."""
_ADDRESSES: Final = ("https://", "http://", "s3://")
"""What others can read too; ``gs://`` and ``files/…`` are Google's own."""
_MINOR: Final = ("thought", "thoughtSignature")
_WRAPS: Final = frozenset({"result", "output", "error"})
_NOTHING: Final = Text(text="")
"""Streams end with it, and others refuse it in a history."""


def opened(value: Value) -> Value:
    """An object whose fields go by their first spelling, whichever the client chose."""
    return Value(camel_fields(value.fields()), value.path)


def media_kind(media_type: str) -> Literal["image", "audio", "video", "file"]:
    return _KINDS.get(media_type.partition("/")[0], "file")


def read_turns(contents: Value, losses: Losses) -> tuple[Turn, ...]:
    """The turns of all contents; results of functions stand in turns of their own."""
    open_calls: dict[str, list[str]] = {}
    turns: list[Turn] = []
    before = len(losses.places)
    for item in contents.items():
        content = opened(item)
        content.lose_others(losses, "role", "parts")
        named = content.maybe("role")
        role = "user" if named is None else named.one_of(*_ROLES)
        found = [read_part(part, losses) for part in content.maybe_items("parts")]
        parts = [_paired(part, open_calls) for part in found if part is not None]
        _gather(turns, _ROLES[role], parts)
        losses.places += [content.path] * (before + len(turns) - len(losses.places))
    return tuple(turns)


def _goes_on(turns: list[Turn], part: Part) -> bool:
    """Whether it is more of the thought before it: clients keep the pieces of a stream apart."""
    last = turns[-1].parts[-1] if turns and turns[-1].role == "assistant" else None
    return isinstance(part, Reasoning) and isinstance(last, Reasoning) and last.signature is None


def _gather(turns: list[Turn], role: Role, parts: Iterable[Part]) -> None:
    """Add the parts of one content as turns of one role each."""
    fresh = True
    for part in parts:
        if role == "assistant" and part == _NOTHING:
            continue
        kind: Role = "tool" if isinstance(part, ToolResult) else role
        if role == "assistant" and _goes_on(turns, part):
            turns[-1] = _with_more(turns[-1], part)
        elif turns and turns[-1].role == kind and (kind == "tool" or not fresh):
            turns[-1] = Turn(role=kind, parts=(*turns[-1].parts, part))
        else:
            turns.append(Turn(role=kind, parts=(part,)))
        fresh = False


def _with_more(turn: Turn, part: Part) -> Turn:
    *before, last = turn.parts
    if isinstance(last, Reasoning) and isinstance(part, Reasoning):
        last = Reasoning(text=last.text + part.text, signature=part.signature)
    return Turn(role=turn.role, parts=(*before, last))


def _paired(part: Part, open_calls: dict[str, list[str]]) -> Part:
    """Give calls and results without ids the same one, by name and in order."""
    if isinstance(part, ToolCall):
        part = part if part.id else msgspec.structs.replace(part, id=fresh_call_id())
        open_calls.setdefault(part.name, []).append(part.id)
    elif isinstance(part, ToolResult):
        waiting = open_calls.get(part.name, [])
        if part.id in waiting:
            waiting.remove(part.id)
        elif not part.id:
            found = waiting.pop(0) if waiting else fresh_call_id()
            return msgspec.structs.replace(part, id=found)
    return part


def read_part(item: Value, losses: Losses) -> Part | None:
    """One part; None where nothing of it has a word in the canonical form."""
    part = opened(item)
    raw = part.maybe_text("thoughtSignature")
    signature = None if raw is None else signature_read(raw)
    for name, read in _READERS:
        if name in part:
            part.lose_others(losses, name, *_MINOR)
            return read(opened(part.field(name)), signature, losses)
    if "text" in part or signature is not None:
        part.lose_others(losses, "text", *_MINOR)
        return _text(part, signature)
    for name in part.fields():
        if name not in _MINOR:
            losses.drop(f"{part.path}.{name}", "only Gemini has such a part", grave=True)
    return None


def _text(part: Value, signature: Signature | None) -> Part:
    text = part.maybe_text("text") or ""
    if not part.maybe_flag("thought"):
        return Text(text=text, signature=signature)
    return Reasoning(text=text, signature=signature, redacted=not text and signature is not None)


def _inline(blob: Value, signature: Signature | None, losses: Losses) -> Part:
    blob.lose_others(losses, "mimeType", "data", "displayName")
    media_type = blob.maybe_text("mimeType") or ""
    return Media(
        kind=media_kind(media_type),
        source=Source(kind="base64", data=blob.field("data").text(), media_type=media_type),
        name=blob.maybe_text("displayName"),
        signature=signature,
    )


def _file(file: Value, signature: Signature | None, losses: Losses) -> Part | None:
    file.lose_others(losses, "mimeType", "fileUri", "displayName")
    media_type, uri = file.maybe_text("mimeType") or "", file.field("fileUri").text()
    if uri.startswith(_GOOGLES) or not uri.startswith(_ADDRESSES):
        remedy = "Send its bytes as inlineData, or an http(s) address that anybody can read"
        losses.drop(f"{file.path}.fileUri", "only Google has it", grave=True, remedy=remedy)
        return None
    return Media(
        kind=media_kind(media_type),
        source=Source(kind="url", data=uri, media_type=media_type),
        name=file.maybe_text("displayName"),
        signature=signature,
    )


def _call(call: Value, signature: Signature | None, losses: Losses) -> Part:
    call.lose_others(losses, "id", "name", "args")
    args = call.maybe("args")
    return ToolCall(
        id=call.maybe_text("id") or "",
        name=call.field("name").text(),
        arguments="{}" if args is None else _json(args.fields()),
        signature=signature,
    )


def _result(result: Value, signature: Signature | None, losses: Losses) -> Part:
    if signature is not None:
        losses.drop(f"{result.path}.thoughtSignature", "results are not signed elsewhere")
    result.lose_others(losses, "id", "name", "response", "parts")
    told = result.maybe("response")
    text, is_error = ("", False) if told is None else _unwrapped(told.fields())
    parts: list[Text | Media] = [Text(text=text)] if text else []
    for item in result.maybe_items("parts"):
        media = read_part(item, losses)
        if isinstance(media, Media):
            parts.append(media)
    return ToolResult(
        id=result.maybe_text("id") or "",
        name=result.field("name").text(),
        parts=tuple(parts),
        is_error=is_error,
    )


def _unwrapped(response: dict[str, Any]) -> tuple[str, bool]:
    """The text of a result, and whether it is an error; Google documents both names of fields."""
    if len(response) == 1:
        name, value = next(iter(response.items()))
        if name in _WRAPS and isinstance(value, str):
            return value, name == "error"
    return (_json(response) if response else ""), False


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


_READERS: Final = (
    ("functionCall", _call),
    ("functionResponse", _result),
    ("inlineData", _inline),
    ("fileData", _file),
)
