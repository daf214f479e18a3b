"""Turns as messages of Converse: user and assistant in turns, results of tools are the user's."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    CacheMark,
    Media,
    Part,
    Reasoning,
    Source,
    ToolCall,
    ToolResult,
    Turn,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._upstream import arguments_of, is_signed_by, plain_text

__all__ = ["ContentWriter", "cache_point"]

_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9\s\-()\[\]]+")
_LONGEST_NAME: Final = 180
"""Of 200, so that a number has room. The characters of a document's name:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_DocumentBlock.html"""

_FORMATS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "image": {f"image/{one}": one for one in ("png", "jpeg", "gif", "webp")}
        | {"image/jpg": "jpeg"},
        "audio": {f"audio/{one}": one for one in ("opus", "wav", "aac", "flac", "ogg", "webm")}
        | {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/x-wav": "wav", "audio/mp4": "m4a"},
        "video": {f"video/{one}": one for one in ("mp4", "webm", "mpeg")}
        | {"video/quicktime": "mov", "video/x-matroska": "mkv", "video/x-flv": "flv"}
        | {"video/x-ms-wmv": "wmv", "video/3gpp": "three_gp"},
        "file": {
            "application/pdf": "pdf",
            "text/csv": "csv",
            "application/msword": "doc",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
            "application/vnd.ms-excel": "xls",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
            "text/html": "html",
            "text/plain": "txt",
            "text/markdown": "md",
        },
    }
)
_BLOCKS: Final = MappingProxyType({"file": "document"})
_ABILITIES: Final = MappingProxyType(
    {"image": "images", "audio": "audio", "video": "video", "file": "files"}
)


def cache_point(mark: CacheMark) -> dict[str, Any]:
    """The block after what is to be cached. Five minutes is what goes without saying."""
    ttl = {"ttl": "1h"} if mark.ttl == "1h" else {}
    return {"cachePoint": {"type": "default"} | ttl}


class ContentWriter:
    """Writes the turns of one request; ``system`` is there afterwards."""

    def __init__(self, can: Abilities, losses: Losses) -> None:
        self.system: list[dict[str, Any]] = []
        self._can = can
        self._losses = losses
        self._names: set[str] = set()
        self._role = ""

    def messages(self, turns: Iterable[Turn]) -> list[dict[str, Any]]:
        """User's and assistant's in turns; system turns at the beginning stand apart.

        A later system turn is the user's, marked as what it is: which models take another is not
        documented.
        """
        messages: list[dict[str, Any]] = []
        for at, turn in enumerate(turns):
            is_system = turn.role in ("system", "developer")
            self._role = turn.role
            blocks = self._blocks(turn.parts, f"messages[{at}]")
            if is_system and not messages:
                self.system += blocks
                continue
            if is_system:
                blocks = [_marked(block) for block in blocks]
            role = "assistant" if turn.role == "assistant" else "user"
            if blocks and messages and messages[-1]["role"] == role:
                messages[-1]["content"] += blocks
            elif blocks:
                messages.append({"role": role, "content": blocks})
        return messages

    def _blocks(self, parts: Iterable[Part], field: str) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        for number, part in enumerate(parts):
            here = f"{field}.content[{number}]"
            block = self._block(part, here)
            if block is None:
                continue
            blocks.append(block)
            mark = getattr(part, "cache", None)
            if mark is not None and self._can.cache_marks:
                blocks.append(cache_point(mark))
            elif mark is not None:
                self._losses.drop(f"{here}.cache_control", "the model does not take it")
        return blocks

    def _block(self, part: Part, field: str) -> dict[str, Any] | None:
        match part:
            case Media():
                return self._media(part, field)
            case Reasoning():
                return self._reasoning(part, field)
            case ToolCall():
                use = {"toolUseId": _tool_id(part.id), "name": part.name}
                return {"toolUse": use | {"input": arguments_of(part)}}
            case ToolResult():
                content = self._blocks(part.parts, field)
                result = {"toolUseId": _tool_id(part.id), "content": content}
                return {"toolResult": result | ({"status": "error"} if part.is_error else {})}
            case _:
                text = plain_text(part) or ""
                # Converse refuses a text that is blank.
                return {"text": text} if text.strip() else None

    def _reasoning(self, part: Reasoning, field: str) -> dict[str, Any] | None:
        signature = part.signature
        if signature is None or not is_signed_by(part, "bedrock.converse"):
            if signature is None:
                turn = field.partition(".")[0]
                self._losses.drop(f"{turn}.reasoning", "without a signature it can't be sent back")
            return None
        if part.redacted:
            return {"reasoningContent": {"redactedContent": signature.value}}
        said = {"text": part.text} | ({"signature": signature.value} if signature.value else {})
        return {"reasoningContent": {"reasoningText": said}}

    def _media(self, part: Media, field: str) -> dict[str, Any] | None:
        source = part.source
        media_type = "text/plain" if source.kind == "text" else source.media_type.lower()
        form = _FORMATS[part.kind].get(media_type.partition(";")[0].strip())
        where = _where(source)
        why = ""
        if self._role == "assistant":
            why = "Bedrock takes pictures and documents of the user alone"
        elif not getattr(self._can, _ABILITIES[part.kind]):
            why = f"the model takes no {part.kind}"
        elif where is None:
            named = "an address (URL)" if source.kind == "url" else "a file's id"
            why = f"Bedrock takes no {part.kind} by {named}: send it as base64, or from S3 (s3://…)"
        elif form is None:
            why = f"Bedrock takes no {part.kind} of type {media_type!r}"
        if why:
            self._losses.drop(field, why, grave=True)
            return None
        block: dict[str, Any] = {"format": form, "source": where}
        if part.kind == "file":
            block |= self._about_document(part)
        return {_BLOCKS.get(part.kind, part.kind): block}

    def _about_document(self, part: Media) -> dict[str, Any]:
        name = " ".join(_NOT_IN_A_NAME.sub("-", part.name or "").split())[:_LONGEST_NAME]
        name = name.strip() or "document"
        count = len(self._names) + 1
        unique = f"{name} {count}" if name in self._names else name
        self._names.add(unique)
        about: dict[str, Any] = {"name": unique}
        if part.context:
            about["context"] = part.context
        return about | ({"citations": {"enabled": True}} if part.cites else {})


def _where(source: Source) -> dict[str, Any] | None:
    if source.kind == "base64":
        return {"bytes": source.data}
    if source.kind == "text":
        return {"bytes": base64.b64encode(source.data.encode()).decode()}
    if source.kind == "url" and source.data.startswith("s3://"):
        return {"s3Location": {"uri": source.data}}
    return None


def _marked(block: dict[str, Any]) -> dict[str, Any]:
    return {"text": f"<system>\n{block['text']}\n</system>"} if "text" in block else block


def _tool_id(told: str) -> str:
    """The id, or another that Converse takes: the same for a call and its result.

    Nothing has to lead back: an answer never repeats an id of the history.
    """
    if _ID.fullmatch(told):
        return told
    return f"call_{hashlib.sha256(told.encode(errors='replace')).hexdigest()[:32]}"
