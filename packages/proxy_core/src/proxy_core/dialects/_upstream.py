"""What the codecs of single providers share: wishes by a table, parts one by one, sane numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._body import unreadable_answer
from proxy_core.dialects._canonical import (
    Citation,
    Closed,
    Conversation,
    Event,
    Media,
    Opened,
    Part,
    Piece,
    ReasoningWish,
    Refusal,
    Signature,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._effort import effort_of
from proxy_core.errors import UpstreamDisconnected, UpstreamProtocolError

__all__ = [
    "Parts",
    "PartsReader",
    "arguments_of",
    "count_of",
    "effort_wished",
    "function_of",
    "image_url_of",
    "is_signed_by",
    "lose_marks",
    "plain_text",
    "read_frame",
    "read_whole",
    "result_text",
    "takes_output",
    "tools_for",
    "wishes",
]

_T = TypeVar("_T")

_MOST_TOKENS: Final = 1_000_000_000
"""A count above is not believed."""
_WISHES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "max_tokens": ("max_tokens", ""),
        "temperature": ("sampling.temperature", "temperature"),
        "top_p": ("sampling.top_p", "top_p"),
        "top_k": ("sampling.top_k", "top_k"),
        "presence_penalty": ("sampling.presence_penalty", "penalties"),
        "frequency_penalty": ("sampling.frequency_penalty", "penalties"),
        "seed": ("sampling.seed", "seed"),
        "logit_bias": ("sampling.logit_bias", "logit_bias"),
        "logprobs": ("sampling.logprobs", "logprobs"),
        "top_logprobs": ("sampling.top_logprobs", "logprobs"),
        "stop": ("stop", ""),
        "verbosity": ("verbosity", ""),
        "service_tier": ("service_tier", "service_tiers"),
        "user": ("user", "user"),
        "metadata": ("metadata", "metadata"),
        "prompt_cache_key": ("cache_key", "cache_key"),
        "cache_control": ("cache_all", "cache_marks"),
        "store": ("store", "store"),
        "parallel_tool_calls": ("parallel", "parallel_switch"),
    }
)
"""A client's word for an option: where a conversation has it, and the ability that it needs."""
_SILENT: Final = MappingProxyType(
    {"store": False, "parallel_tool_calls": True, "logprobs": False, "service_tier": "auto"}
)
"""What goes without saying: nothing is lost where a target has no word for it."""
_SAMPLING: Final = frozenset({"temperature", "top_p", "top_k"})


def wishes(
    conversation: Conversation, can: Abilities, losses: Losses, who: str, names: Mapping[str, str]
) -> dict[str, Any]:
    """The options of a request under the target's own ``names``; the others are losses.

    ``who`` begins the sentence that says why: ``Cohere's chat``.
    """
    told: dict[str, Any] = {}
    thinks = conversation.reasoning is not None and effort_wished(conversation.reasoning) != "none"
    for field, (path, ability) in _WISHES.items():
        value = attrgetter(path)(conversation)
        if value in (None, (), {}) or value == _SILENT.get(field):
            continue
        if ability and not getattr(can, ability):
            losses.drop(field, "the model does not take it")
        elif field in _SAMPLING and thinks and not can.sampling_while_reasoning:
            losses.drop(field, "the model does not take it while it thinks")
        elif field == "top_p" and not can.temperature_and_top_p and "temperature" in told:
            losses.drop(field, "the model does not take it beside a temperature")
        elif field not in names:
            losses.drop(field, f"{who} has no such option")
        else:
            told[names[field]] = _within(field, value, can, losses)
    _lose_shapes(conversation, losses, who)
    return {name: value for name, value in told.items() if value != []}


def _within(field: str, value: Any, can: Abilities, losses: Losses) -> Any:
    if field == "stop":
        if can.most_stops is not None and len(value) > can.most_stops:
            losses.drop("stop", f"the model takes {can.most_stops} stop sequences at most")
            value = value[: can.most_stops]
        return list(value)
    if field == "temperature" and can.max_temperature is not None and value > can.max_temperature:
        losses.drop("temperature", f"the model takes {can.max_temperature} at most, which is used")
        return can.max_temperature
    return value


def _lose_shapes(conversation: Conversation, losses: Losses, who: str) -> None:
    if (conversation.n or 1) > 1:
        losses.drop("n", f"{who} gives one answer", grave=True)
    if set(conversation.modalities) - {"text"}:
        losses.drop("modalities", f"{who} answers in text alone", grave=True)


def tools_for(conversation: Conversation, can: Abilities, losses: Losses, who: str) -> list[Tool]:
    """The functions that a target may be offered; tools of other kinds are losses."""
    kept: list[Tool] = []
    for at, tool in enumerate(conversation.tools):
        if not can.tools:
            losses.drop(f"tools[{at}]", "the model takes no tools", grave=True)
        elif tool.kind != "function":
            losses.drop(f"tools[{at}]", f"{who} has no tools of type {tool.kind!r}", grave=True)
        else:
            if tool.strict and not can.strict_tools:
                losses.drop(f"tools[{at}].strict", "the model can't be held to a tool's schema")
            kept.append(tool)
    return kept


def function_of(tool: Tool) -> dict[str, Any]:
    """A tool in the form that Ollama and Cohere took from OpenAI."""
    told: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        told["description"] = tool.description
    told["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": told}


def takes_output(conversation: Conversation, can: Abilities, losses: Losses) -> bool:
    """Whether a form of the output is asked for that the model can give; else it is a loss."""
    output = conversation.output
    if output is None:
        return False
    able = can.json_schema if output.kind == "schema" else can.json_object
    if not able:
        losses.drop("response_format", "the model can't keep to it", grave=True)
    return able


def result_text(result: ToolResult, field: str, losses: Losses, who: str) -> str:
    """What a tool said, in words alone."""
    texts: list[str] = []
    if result.is_error:
        losses.drop(f"{field}.is_error", f"{who} has no mark for a tool that failed")
    for number, part in enumerate(result.parts):
        text = plain_text(part)
        if text is None:
            why = f"{who} takes words alone from a tool"
            losses.drop(f"{field}.content[{number}]", why, grave=True)
        texts.append(text or "")
    return "".join(texts)


def effort_wished(wish: ReasoningWish) -> str | None:
    """The effort that a wish amounts to: ``none`` for no thinking; None: the model decides."""
    if wish.enabled is False or wish.effort == "none" or wish.budget == 0:
        return "none"
    if wish.effort is None and wish.budget is not None:
        return effort_of(wish.budget)
    return wish.effort


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments as an object; text that is none stands in its field ``input``."""
    if not call.arguments.strip():
        return {}
    try:
        read = msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        read = None
    return read if isinstance(read, dict) and not call.custom else {"input": call.arguments}


def plain_text(part: Part) -> str | None:
    """The words of a part that is words alone, else None."""
    if isinstance(part, Text | Refusal):
        return part.text
    if isinstance(part, Media) and part.source.kind == "text":
        return part.source.data
    return None


def image_url_of(part: Part, can: Abilities) -> str | None:
    """A picture as an address: a data URL, or the one that it has; None where neither goes."""
    if not isinstance(part, Media) or part.kind != "image" or not can.images:
        return None
    source = part.source
    if source.kind == "base64":
        return f"data:{source.media_type or 'image/png'};base64,{source.data}"
    return source.data if source.kind == "url" and can.image_urls else None


def is_signed_by(part: Part, dialect: str) -> bool:
    signature = getattr(part, "signature", None)
    return signature is not None and signature.origin == dialect


def lose_marks(
    conversation: Conversation,
    dialect: str,
    losses: Losses,
    *,
    caches: bool = False,
    details: bool = False,
) -> None:
    """Announce what these targets don't carry: names of speakers, proofs of others, citations.

    And cache marks and the detail of pictures, but for those that take them.
    """
    for at, tool in enumerate(conversation.tools):
        if tool.cache is not None and not caches:
            losses.drop(f"tools[{at}].cache_control", "the target caches as it likes")
    for at, turn in enumerate(conversation.turns):
        for number, part in enumerate(turn.parts):
            _lose_hints(part, f"messages[{at}].content[{number}]", losses, details=details)
        if turn.name is not None:
            losses.drop(f"messages[{at}].name", "the target's messages have no names")
        signed = [part for part in turn.parts if getattr(part, "signature", None) is not None]
        if not all(is_signed_by(part, dialect) for part in signed):
            losses.drop(f"messages[{at}].reasoning", "its signature is another provider's")
        if not caches and any(getattr(part, "cache", None) is not None for part in turn.parts):
            losses.drop(f"messages[{at}].cache_control", "the target caches as it likes")


def _lose_hints(part: Part, field: str, losses: Losses, *, details: bool) -> None:
    if isinstance(part, Text) and part.citations:
        losses.drop(f"{field}.citations", "only the words of it are sent back")
    if isinstance(part, Media) and part.detail not in (None, "auto") and not details:
        losses.drop(f"{field}.detail", "the target chooses the detail of a picture itself")


def count_of(value: object) -> int | None:
    """A count of tokens that can be believed, else None. Some providers write it as a float."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MOST_TOKENS else None


def read_frame(data: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """One message of a stream. Raises UpstreamProtocolError."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UpstreamProtocolError(
            f"the upstream's stream has an event that could not be read: {error}"
        ) from None


def read_whole(body: Mapping[str, Any], kind: type[_T]) -> _T:
    """A whole answer. Raises UpstreamProtocolError."""
    try:
        return msgspec.convert(body, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise unreadable_answer(error) from None


class Parts:
    """The parts of a streamed answer, by the upstream's own keys; each is closed once."""

    __slots__ = ("_next", "_open")

    def __init__(self) -> None:
        self._open: dict[Hashable, int] = {}
        self._next = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._open

    def start(self, key: Hashable, part: Part) -> list[Event]:
        """A new part."""
        closed = self.close(key)
        index, self._next = self._next, self._next + 1
        self._open[key] = index
        return [*closed, Opened(index=index, part=part)]

    def piece(
        self,
        key: Hashable,
        part: Part,
        *,
        text: str = "",
        signature: Signature | None = None,
        citation: Citation | None = None,
    ) -> list[Event]:
        """More of a part, which begins as ``part`` where it is not open yet."""
        opened = [] if key in self._open else self.start(key, part)
        index = self._open[key]
        said = Piece(index=index, text=text, signature=signature, citation=citation)
        return [*opened, said]

    def whole(self, key: Hashable, part: Part) -> list[Event]:
        """A part that is known at once."""
        return [*self.start(key, part), *self.close(key)]

    def close(self, key: Hashable) -> list[Event]:
        index = self._open.pop(key, None)
        return [] if index is None else [Closed(index=index)]

    def close_but(self, *keys: Hashable) -> list[Event]:
        """Close whatever is open, except for these."""
        return [event for key in list(self._open) if key not in keys for event in self.close(key)]


class PartsReader:
    """What readers of streams share: the parts, and whether the answer is complete."""

    def __init__(self) -> None:
        self._parts = Parts()
        self._ended = False

    def end(self) -> list[Event]:
        """The body has ended. Raises UpstreamDisconnected where the answer is not complete."""
        if not self._ended:
            raise UpstreamDisconnected("the upstream's stream ended before its answer was complete")
        return []
