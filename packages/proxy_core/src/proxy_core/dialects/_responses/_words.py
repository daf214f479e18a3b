"""Words that reading and writing share."""

from __future__ import annotations

from typing import Final

from proxy_core.dialects._canonical import StopReason

__all__ = [
    "DIALECT",
    "ENCRYPTED",
    "HOSTED",
    "LOGPROBS",
    "PARAGRAPH",
    "incomplete_reason",
    "stop_of",
]

DIALECT: Final = "openai.responses"
ENCRYPTED: Final = "reasoning.encrypted_content"
"""What a request includes so that reasoning comes back sealed."""
LOGPROBS: Final = "message.output_text.logprobs"
PARAGRAPH: Final = "\n\n"
"""Between the parts of one summary, which become one text."""

HOSTED: Final = frozenset(
    {
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "file_search",
        "image_generation",
        "local_shell",
        "mcp",
        "namespace",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)
"""Tools that OpenAI runs or has taught its models, by the ``type`` of openai 3.54's ToolParam."""


def incomplete_reason(stop: StopReason | None, has_refusal: bool) -> str | None:
    """Why an answer is incomplete; None where it is complete."""
    if stop == "content_filter" or (stop == "refusal" and not has_refusal):
        return "content_filter"
    return "max_output_tokens" if stop in ("length", "context_window") else None


def stop_of(reason: str | None, *, has_call: bool, has_refusal: bool) -> StopReason:
    """Why an answer ended. ``reason`` is that of an incomplete one, None for a complete one."""
    if reason is not None:
        return "content_filter" if reason == "content_filter" else "length"
    if has_call:
        return "tool_calls"
    return "refusal" if has_refusal else "end"
