"""Turns into messages for an upstream."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import (
    Conversation,
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
from proxy_core.dialects._chat._answer_out import written_call, written_image
from proxy_core.dialects._chat._parts_out import PartsWriter
from proxy_core.dialects._chat._reasoning import Places, is_said, written_detail
from proxy_core.dialects._chat._wire import DIALECT, with_signature
from proxy_core.dialects._codec import Losses

__all__ = ["written_messages"]

_ID_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LONGEST_ID: Final = 40
"""Characters of a call's id that OpenAI takes; it says so in its 400."""


def written_messages(
    conversation: Conversation, can: Abilities, losses: Losses
) -> list[dict[str, Any]]:
    """The messages; those of tools are several for a turn."""
    writer = _Writer(can, losses)
    for at, turn in enumerate(conversation.turns):
        writer.write(turn, f"messages[{at}]")
    return writer.messages


class _Writer:
    def __init__(self, can: Abilities, losses: Losses) -> None:
        self.messages: list[dict[str, Any]] = []
        self._can = can
        self._losses = losses
        self._parts = PartsWriter(can, losses)
        self._spoken = False

    def write(self, turn: Turn, path: str) -> None:
        match turn.role:
            case "system" | "developer":
                self._system(turn, path)
            case "assistant":
                self._spoken = True
                self._assistant(turn, path)
            case "tool":
                self._tools(turn, path)
            case _:
                self._spoken = True
                self._add("user", self._content(turn.parts, path), turn.name)

    def _add(self, role: str, content: Any, name: str | None) -> None:
        message: dict[str, Any] = {"role": role, "content": content}
        self.messages.append(message | ({"name": name} if name else {}))

    def _content(self, parts: Sequence[Part], path: str) -> str | list[dict[str, Any]]:
        return self._parts.content(parts, f"{path}.content")

    def _system(self, turn: Turn, path: str) -> None:
        """A developer's words go as the system's, which every server knows and OpenAI equates."""
        if self._spoken and not self._can.late_system:
            self._losses.drop(path, "the model takes no late system message: it is a user's now")
            said = "\n".join(part.text for part in turn.parts if isinstance(part, Text))
            self._add("user", f"<system>\n{said}\n</system>", None)
            return
        self._add("system", self._content(turn.parts, path), turn.name)

    def _tools(self, turn: Turn, path: str) -> None:
        """A tool's message holds text alone: its pictures follow as the user's."""
        shown: list[tuple[str, list[Media]]] = []
        for at, result in enumerate(turn.parts):
            if not isinstance(result, ToolResult):
                continue
            call_id, where = self._fitting(result.id), f"{path}.content[{at}]"
            texts = [part for part in result.parts if isinstance(part, Text)]
            media = [part for part in result.parts if isinstance(part, Media)]
            message = {
                "role": "tool",
                "tool_call_id": call_id,
                "content": self._content(texts, where),
            }
            if result.is_error and not texts and not media:
                message["content"] = "error"
            elif result.is_error:
                self._losses.drop(f"{where}.is_error", "a tool's message has no mark for an error")
            if result.cache is not None:
                self._parts.mark(message, result.cache, where)
            self.messages.append(message)
            if media:
                shown.append((call_id, media))
        for call_id, media in shown:
            said = Text(text=f"What the tool call {call_id} gave besides text:")
            self._add("user", self._content([said, *media], path), None)

    def _assistant(self, turn: Turn, path: str) -> None:
        said = [part for part in turn.parts if isinstance(part, Text)]
        refusals = [part.text for part in turn.parts if isinstance(part, Refusal)]
        calls = [part for part in turn.parts if isinstance(part, ToolCall)]
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if said or not (calls or refusals):
            message["content"] = self._content(said, path)
        if turn.name:
            message["name"] = turn.name
        if refusals:
            message["refusal"] = "".join(refusals)
        message |= self._thinking(turn.parts, path)
        for part in turn.parts:
            if isinstance(part, Media):
                self._shown(part, message, path)
        if calls:
            message["tool_calls"] = [self._call(call, path) for call in calls]
        if any(part.citations for part in said):
            self._losses.drop(f"{path}.content.citations", "an assistant's message takes none back")
        signatures = [self._own(part.signature, path) for part in said]
        own = [signature for signature in signatures if signature is not None]
        self.messages.append(with_signature(message, own[-1] if own else None))

    def _shown(self, part: Media, message: dict[str, Any], path: str) -> None:
        """What the model itself drew or spoke."""
        if part.kind == "audio" and part.id and part.source.kind == "file":
            message["audio"] = {"id": part.id}
        elif part.kind == "audio" and part.transcript:
            self._losses.drop(f"{path}.audio", "its transcript stands for it")
            message["content"] = (message["content"] or "") + part.transcript
        elif part.kind == "image" and part.source.kind in ("base64", "url") and self._can.images:
            bare = msgspec.structs.replace(part, signature=self._own(part.signature, path))
            message.setdefault("images", []).append(written_image(bare))
        else:
            self._losses.drop(
                f"{path}.{part.kind}", f"an assistant's message has no {part.kind}", grave=True
            )

    def _call(self, call: ToolCall, path: str) -> dict[str, Any]:
        if call.cache is not None:
            self._losses.drop(f"{path}.cache_control", "a tool call takes no cache mark")
        signature = self._own(call.signature, path)
        bare = msgspec.structs.replace(call, id=self._fitting(call.id), signature=signature)
        return written_call(bare)

    def _thinking(self, parts: Sequence[Part], path: str) -> dict[str, Any]:
        """What this dialect's upstreams signed, or left unsigned: they may ask for it back."""
        told = [part for part in parts if not isinstance(part, Reasoning) or self._is_back(part)]
        if len(told) < len(parts):
            self._losses.drop(f"{path}.reasoning", "the provider takes none that isn't its own")
        places = Places()
        placed = [(part, places.take(part)) for part in told if is_said(part)]
        kept = [(part, at) for part, at in placed if isinstance(part, Reasoning)]
        said = "".join(part.text for part, _ in kept) if self._can.reasoning_back else ""
        body: dict[str, Any] = {"reasoning_content": said} if said else {}
        if any(part.signature is not None for part, _ in kept):
            body["reasoning_details"] = [written_detail(part, at) for part, at in kept]
        return body

    def _is_back(self, part: Reasoning) -> bool:
        """Whether it may come back to the provider."""
        if not self._can.reasoning:
            return False
        if part.signature is None:
            return self._can.reasoning_back
        return self._is_own(part.signature)

    def _fitting(self, id: str) -> str:
        """A call's id as it is, or a digest that the model takes: the same for call and result."""
        size = self._can.call_id_size
        if size is None:
            return _fitting(id)
        if len(id) == size and id.isascii() and id.isalnum():
            return id
        digest = hashlib.sha256(id.encode("utf-8", "replace")).digest()
        number, letters = int.from_bytes(digest, "big"), []
        for _ in range(size):
            number, at = divmod(number, len(_ID_LETTERS))
            letters.append(_ID_LETTERS[at])
        return "".join(letters)

    def _own(self, signature: Signature | None, path: str) -> Signature | None:
        if signature is None or self._is_own(signature):
            return signature
        self._losses.drop(f"{path}.reasoning", "a signature has no worth to another provider")
        return None

    def _is_own(self, signature: Signature) -> bool:
        return signature.origin == DIALECT


def _fitting(id: str) -> str:
    """A call's id as it is, or where it is too long a digest, the same for call and result."""
    if len(id) <= _LONGEST_ID:
        return id
    return f"call_{hashlib.sha256(id.encode('utf-8', 'replace')).hexdigest()[:32]}"
