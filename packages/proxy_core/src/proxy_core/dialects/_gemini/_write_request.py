"""A Conversation as a GenerateContentRequest."""

from __future__ import annotations

from typing import Any, Final

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Conversation, Text, Turn
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._gemini._write_config import write_config, write_tier, write_tools
from proxy_core.dialects._gemini._write_turns import write_turns
from proxy_core.dialects._silence import message_of

__all__ = ["write_request"]

_SYSTEM: Final = frozenset({"system", "developer"})
_NO_WORD: Final = "Gemini has no such field"


def write_request(conversation: Conversation, can: Abilities, losses: Losses) -> dict[str, Any]:
    """The body; the model stands in the URL. Raises InvalidRequest."""
    leading = _leading(conversation.turns)
    instructions = [
        {"text": text}
        for place, turn in enumerate(conversation.turns[:leading])
        for text in _texts(turn, place, losses)
    ]
    contents = write_turns(conversation.turns, leading, can, losses)
    if not contents:
        # Google refuses a request without contents.
        contents, instructions = message_of("parts", instructions, losses, "Gemini"), []
    body: dict[str, Any] = {"contents": contents}
    if instructions:
        body["systemInstruction"] = {"parts": instructions}
    body |= write_tools(conversation, can, losses)
    config = write_config(conversation, can, losses)
    if config:
        body["generationConfig"] = config
    body |= write_tier(conversation, can, losses)
    _lose(conversation, losses)
    return body


def _leading(turns: tuple[Turn, ...]) -> int:
    """How many turns stand before the first that is no instruction."""
    return next((at for at, turn in enumerate(turns) if turn.role not in _SYSTEM), len(turns))


def _texts(turn: Turn, place: int, losses: Losses) -> list[str]:
    texts: list[str] = []
    for at, part in enumerate(turn.parts):
        where = f"messages[{place}].content[{at}]"
        if isinstance(part, Text):
            texts += [part.text] if part.text else []
            if part.cache is not None:
                losses.drop(f"{where}.cache_control", "Gemini caches by itself")
        else:
            losses.drop(where, "Gemini's system instruction is text alone", grave=True)
    return texts


def _lose(conversation: Conversation, losses: Losses) -> None:
    """What is said of the whole request, and has no field at Google."""
    said = {
        "user": conversation.user,
        "metadata": conversation.metadata,
        "verbosity": conversation.verbosity,
        "prompt_cache_key": conversation.cache_key,
        "cache_control": conversation.cache_all,
        "audio": conversation.audio,
        "store": conversation.store,
    }
    for field, value in said.items():
        if value is not None:
            losses.drop(field, _NO_WORD)
    if conversation.parallel is False:
        losses.drop("parallel_tool_calls", "Gemini can't be told to call one function at a time")
