"""Answers for clients: whole ones, and streams."""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec

from proxy_core._types import Usage
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._canonical import Answer, Begun, Counted, Event
from proxy_core.dialects._codec import Losses, Told
from proxy_core.dialects._fold import events_of
from proxy_core.dialects._responses._counts import written_counts
from proxy_core.dialects._responses._namespaces import grouped
from proxy_core.dialects._responses._open import Wire
from proxy_core.dialects._responses._output import Output
from proxy_core.dialects._responses._request_out import instructions_of, text_json
from proxy_core.dialects._responses._tools import is_known, tool_json, written_choice

__all__ = ["ResponsesWriter", "write_answer"]

_PREFIX: Final = "resp_"
_ALL: Final = Abilities()
_encode = msgspec.json.Encoder().encode


def write_answer(answer: Answer, told: Told) -> dict[str, Any]:
    """All that openai's ``Response`` requires."""
    writer = _Writer(told)
    for event in events_of(answer):
        writer.take(event)
    return writer.response(ended=True)


class ResponsesWriter:
    """A stream. The terminal event holds the whole answer, and its usage may come last."""

    def __init__(self, told: Told) -> None:
        self._writer = _Writer(told)
        self._number = 0

    def write(self, event: Event) -> bytes:
        return b"".join([self._frame(wire) for wire in self._writer.take(event)])

    def end(self) -> bytes:
        """The event that ends the stream: there is no ``[DONE]``."""
        response = self._writer.response(ended=True)
        return self._frame({"type": f"response.{response['status']}", "response": response})

    def _frame(self, wire: Wire) -> bytes:
        kind = wire["type"]
        number = self._number
        self._number = number + 1
        data = _encode({"type": kind, "sequence_number": number, **wire})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


class _Writer:
    """What is known of an answer while it is told."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._id = ""
        self._created = told.created
        self._tier: str | None = None
        self._usage: Usage | None = None
        self._output = Output("")

    def take(self, event: Event) -> list[Wire]:
        match event:
            case Begun():
                return self._begin(event)
            case Counted():
                self._usage = event.usage
                return []
        return self._output.take(event)

    def _begin(self, event: Begun) -> list[Wire]:
        stem = event.id.removeprefix(_PREFIX) or self._told.request_id or secrets.token_hex(12)
        self._id = _PREFIX + stem
        self._output = Output(stem, self._told.conversation.tools)
        self._created = event.created or self._told.created
        self._tier = event.service_tier
        response = self.response(ended=False)
        return [
            {"type": f"response.{status}", "response": response}
            for status in ("created", "in_progress")
        ]

    def response(self, *, ended: bool) -> dict[str, Any]:
        reason = self._output.reason
        status = "in_progress"
        if ended:
            status = "completed" if reason is None else "incomplete"
        tier = {} if self._tier is None else {"service_tier": self._tier}
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None if reason is None else {"reason": reason},
            "model": self._told.model,
            "output": self._output.items if ended else [],
            **_echo(self._told),
            **tier,
            "usage": written_counts(self._usage) if ended and self._usage is not None else None,
        }


def _echo(told: Told) -> dict[str, Any]:
    """What an answer says of its request."""
    asked = told.conversation
    wish, choice = asked.reasoning, asked.tool_choice
    chosen = None if choice is None else written_choice(choice, asked.tools, _ALL, Losses())
    text = text_json(asked.output, asked.verbosity)
    # OpenAI's description has no null for these.
    named = {"prompt_cache_key": asked.cache_key, "safety_identifier": asked.user}
    return {
        "instructions": instructions_of(asked.turns),
        "max_output_tokens": asked.max_tokens,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel is not False,
        "previous_response_id": None,
        "reasoning": {
            "effort": None if wish is None else wish.effort,
            "summary": None if wish is None else wish.summary,
        },
        "store": False,
        "temperature": asked.sampling.temperature,
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": chosen or "auto",
        "tools": grouped((tool, tool_json(tool)) for tool in asked.tools if is_known(tool)),
        "top_logprobs": asked.sampling.top_logprobs or 0,
        "top_p": asked.sampling.top_p,
        "truncation": "disabled",
        **{name: value for name, value in named.items() if value is not None},
    }
