"""A request of which no message is left: its instructions are asked, or it is refused."""

from __future__ import annotations

from typing import Any

from proxy_core.dialects._codec import Losses

__all__ = ["message_of"]


def message_of(field: str, system: list[Any], losses: Losses, who: str) -> list[dict[str, Any]]:
    """The user's message where no other is left: the instructions, so that they are answered.

    OpenAI answers a system message alone, and one of blanks; other providers refuse a request
    without a user's message that says something. ``field`` holds its content.
    """
    if system:
        return [{"role": "user", field: system}]
    losses.drop(
        "messages",
        f"{who} wants a user's message with text in it, and there is none",
        grave=True,
        remedy="Add one",
    )
    return []
