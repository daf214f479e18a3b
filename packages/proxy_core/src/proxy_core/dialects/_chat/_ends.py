"""Why an answer ended, in and out, and the errors that upstreams put where an answer should be."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from proxy_core._failures import failure_in_body
from proxy_core.dialects._canonical import Json, StopReason
from proxy_core.dialects._chat._wire import as_text
from proxy_core.errors import UpstreamError, UpstreamFailed

__all__ = ["failure_in", "finish_reason_of", "stop_of"]

_STOPS: Final[Mapping[str, StopReason]] = MappingProxyType(
    {
        "length": "length",
        "max_tokens": "length",
        "model_length": "context_window",
        "tool_calls": "tool_calls",
        "tool_call": "tool_calls",
        "tool_use": "tool_calls",
        "function_call": "tool_calls",
        "content_filter": "content_filter",
        "safety": "content_filter",
        "recitation": "content_filter",
        "prohibited_content": "content_filter",
        "blocklist": "content_filter",
        "sensitive": "content_filter",
        "refusal": "refusal",
        "stop_sequence": "stop_sequence",
    }
)
"""Words outside OpenAI's enum are Mistral's, Anthropic's, Gemini's and Zhipu's, by way of
compatible servers. What isn't here is an ordinary end."""

_FAILED: Final = frozenset({"error", "abort", "insufficient_system_resource", "network_error"})
"""OpenRouter's, vLLM's, DeepSeek's and Zhipu's words for an answer that was cut by a fault."""

_REASONS: Final[Mapping[StopReason, str]] = MappingProxyType(
    {
        "end": "stop",
        "stop_sequence": "stop",
        "pause": "stop",
        "tool_calls": "tool_calls",
        "length": "length",
        "context_window": "length",
        "content_filter": "content_filter",
        "refusal": "content_filter",
    }
)


def stop_of(reason: str, matched: Json, *, called: bool) -> StopReason:
    """A ``finish_reason`` in the canonical word. Raises UpstreamFailed where it names a fault.

    ``matched`` is vLLM's ``stop_reason``: the stop sequence, or a token's number
    (https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html).
    """
    word = reason.lower()
    if word in _FAILED:
        raise UpstreamFailed(f"the upstream cut its answer: its finish_reason is {word!r}")
    stop = _STOPS.get(word, "end")
    if stop == "end" and as_text(matched):
        stop = "stop_sequence"
    return "tool_calls" if called and stop in ("end", "stop_sequence") else stop


def finish_reason_of(stop: StopReason | None, *, called: bool) -> str:
    """OpenAI's word: one of stop, length, tool_calls, content_filter."""
    reason = _REASONS[stop or "end"]
    return "tool_calls" if called and reason == "stop" else reason


def failure_in(body: Mapping[str, Json]) -> UpstreamError | None:
    """The error in an answer or a chunk: its ``error``, or vLLM's older flat shape."""
    error = body.get("error")
    if error is None and body.get("object") == "error":
        error = dict(body)
    return None if error is None else failure_in_body(msgspec.json.encode(error))
