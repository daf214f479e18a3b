"""Turns as Gemini's contents: two roles, results by the name of their function."""

from __future__ import annotations

import base64
import mimetypes
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Media,
    Part,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._gemini._words import DIALECT, SKIP_SIGNATURE, safe_name
from proxy_core.errors import InvalidRequest

__all__ = ["write_turns"]

_Json = dict[str, Any]
_LATE: Final = "<system>\n{}\n</system>"
_WRAPS: Final = frozenset({"result", "output", "error"})
_MAGIC: Final = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi0", "application/pdf"),
)
"""How base64 of these begins, where nobody said the type."""


def write_turns(turns: tuple[Turn, ...], first: int, can: Abilities, losses: Losses) -> list[_Json]:
    """The contents of all turns from ``first`` on. Raises InvalidRequest."""
    writer = _Writer(can, losses, _current(turns))
    for place in range(first, len(turns)):
        writer.add(turns[place], place)
    return writer.contents


def _current(turns: tuple[Turn, ...]) -> int:
    """Where the current turn begins: behind it Gemini checks the signatures of calls."""
    asked = [at for at, turn in enumerate(turns) if turn.role not in ("assistant", "tool")]
    return asked[-1] if asked else -1


class _Writer:
    def __init__(self, can: Abilities, losses: Losses, current: int) -> None:
        self.contents: list[_Json] = []
        self._can = can
        self._losses = losses
        self._current = current
        self._names: dict[str, str] = {}

    def add(self, turn: Turn, place: int) -> None:
        """One turn; turns of one role that follow each other become one content."""
        if turn.name is not None:
            self._losses.drop(f"messages[{place}].name", "Gemini's contents have no names")
        role = "model" if turn.role == "assistant" else "user"
        parts: list[_Json] = []
        for at, part in enumerate(turn.parts):
            parts += self._part(part, turn, place, f"messages[{place}].content[{at}]")
        if not parts:
            return
        if self.contents and self.contents[-1]["role"] == role:
            self.contents[-1]["parts"] += parts
        else:
            self.contents.append({"role": role, "parts": parts})
        if role == "model" and place > self._current and "effort" in self._can.reasoning:
            _sign(self.contents[-1]["parts"])

    def _part(self, part: Part, turn: Turn, place: int, where: str) -> list[_Json]:
        self._lose_hints(part, where)
        signature = self._signature(getattr(part, "signature", None), place)
        written: list[_Json] = []
        match part:
            case Text():
                late = turn.role in ("system", "developer") and part.text
                written = [self._late(part.text, place)] if late else _text(part.text, signature)
            case Refusal():
                written = _text(part.text, {})
            case Reasoning():
                written = self._reasoning(part, signature, place)
            case ToolCall():
                written = [self._call(part, where) | signature]
            case ToolResult():
                written = [self._result(part, where)]
            case Media():
                written = [one | signature for one in self._media(part, where)]
        return written

    def _signature(self, signature: Signature | None, place: int) -> _Json:
        """Google's own, as it came; that of another is worth nothing to it."""
        if signature is None:
            return {}
        if signature.origin == DIALECT:
            return {"thoughtSignature": signature.value}
        self._losses.drop(f"messages[{place}].reasoning", f"{signature.origin} signed it")
        return {}

    def _reasoning(self, part: Reasoning, signature: _Json, place: int) -> list[_Json]:
        if signature:
            return [{"text": part.text, "thought": True} | signature]
        if part.signature is None:
            why = "Gemini takes back its own signed thoughts alone"
            self._losses.drop(f"messages[{place}].reasoning", why)
        return []

    def _late(self, text: str, place: int) -> _Json:
        why = "Gemini has instructions at the beginning alone: this one goes as marked user text"
        self._losses.drop(f"messages[{place}].role", why)
        return {"text": _LATE.format(text)}

    def _call(self, call: ToolCall, where: str) -> _Json:
        self._names[call.id] = call.name
        args = {"input": call.arguments} if call.custom else _arguments(call, where)
        told: _Json = {"name": safe_name(call.name, f"{where}.name"), "args": args}
        return {"functionCall": ({"id": call.id} if call.id else {}) | told}

    def _result(self, result: ToolResult, where: str) -> _Json:
        name = result.name or self._names.get(result.id)
        if not name:
            raise InvalidRequest(
                f"The tool result {result.id!r} answers no tool call of an earlier message: Gemini"
                " needs the name of its function. Send the assistant's message with the call too.",
                param=where,
            )
        texts = [part.text for part in result.parts if isinstance(part, Text)]
        media = [
            one
            for at, part in enumerate(result.parts)
            if isinstance(part, Media)
            for one in self._media(part, f"{where}.content[{at}]")
        ]
        told: _Json = {"id": result.id} if result.id else {}
        told["name"] = safe_name(name, f"{where}.name")
        told["response"] = _response("\n".join(texts), result.is_error)
        if media:
            told["parts"] = media
        return {"functionResponse": told}

    def _media(self, media: Media, where: str) -> list[_Json]:
        source, able = media.source, getattr(self._can, _ABLE[media.kind])
        lead = [{"text": media.context}] if media.context else []
        if not source.data and media.transcript:
            return [*lead, {"text": media.transcript}]
        written = self._sourced(media) if able and source.data else None
        if written is None:
            why = f"the target takes no {media.kind} of this form"
            self._losses.drop(where, why, grave=True)
            return lead
        return [*lead, written]

    def _sourced(self, media: Media) -> _Json | None:
        """The part that holds it; None where Gemini can't be given it."""
        source = media.source
        kind = _media_type(media)
        match source.kind:
            case "base64" if kind:
                return {"inlineData": {"mimeType": kind, "data": source.data}}
            case "text":
                data = base64.b64encode(source.data.encode()).decode()
                return {"inlineData": {"mimeType": "text/plain", "data": data}}
            case "url" if kind and self._can.image_urls:
                return {"fileData": {"mimeType": kind, "fileUri": source.data}}
            case "file" if "://" in source.data:
                told = {"mimeType": kind} if kind else {}
                return {"fileData": told | {"fileUri": source.data}}
        return None

    def _lose_hints(self, part: Part, where: str) -> None:
        if getattr(part, "cache", None) is not None:
            self._losses.drop(f"{where}.cache_control", "Gemini caches by itself")
        if isinstance(part, Text) and part.citations:
            self._losses.drop(f"{where}.citations", "Gemini takes none back")
        if isinstance(part, Media):
            if part.detail not in (None, "auto"):
                self._losses.drop(f"{where}.detail", "Gemini's parts have no such field")
            if part.name is not None:
                self._losses.drop(f"{where}.name", "Gemini's API takes no names of files")
            if part.cites:
                self._losses.drop(f"{where}.citations", "Gemini doesn't cite documents")


_ABLE: Final = {"image": "images", "audio": "audio", "video": "video", "file": "files"}


def _text(text: str, signature: _Json) -> list[_Json]:
    return [{"text": text} | signature] if text or signature else []


def _sign(parts: list[_Json]) -> None:
    """Sign the first call of a step where nothing did: Gemini 3 refuses it otherwise."""
    for part in parts:
        if "functionCall" in part:
            part.setdefault("thoughtSignature", SKIP_SIGNATURE)
            return


def _arguments(call: ToolCall, where: str) -> _Json:
    try:
        args = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        args = None
    if not isinstance(args, dict):
        raise InvalidRequest(
            f"The arguments of the tool call {call.name!r} are {call.arguments[:80]!r}: they must"
            " be the JSON of an object.",
            param=f"{where}.arguments",
        )
    return args


def _response(text: str, is_error: bool) -> _Json:
    """An object as it is, a text in one; what would be mistaken for such a one is wrapped too."""
    if is_error:
        return {"error": text}
    try:
        told = msgspec.json.decode(text) if text.lstrip().startswith("{") else None
    except (msgspec.DecodeError, RecursionError):
        told = None
    if isinstance(told, dict) and told and not (len(told) == 1 and _WRAPS & told.keys()):
        return told
    return {"result": text}


def _media_type(media: Media) -> str:
    source = media.source
    if source.media_type:
        return source.media_type
    if source.kind == "base64":
        return next((kind for lead, kind in _MAGIC if source.data.startswith(lead)), "")
    if source.kind == "url":
        try:
            return mimetypes.guess_type(urlsplit(source.data).path)[0] or ""
        except ValueError:
            return ""
    return ""
