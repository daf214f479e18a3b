"""Tools that a provider runs itself, such as its web search: another one has no such tools.

An agent that brings tools of its own goes on without them, and is told; who has asked for nothing
else, or demands one, would get another answer than was asked for.
"""

from __future__ import annotations

import msgspec

from proxy_core.dialects._canonical import Conversation, Tool
from proxy_core.dialects._codec import Loss

__all__ = ["without_hosted", "without_lost_choice"]


def without_hosted(conversation: Conversation, losses: list[Loss]) -> list[Loss]:
    """The losses of a written request: its hosted tools' are grave only where it needs them."""
    own = {tool.name for tool in conversation.tools if not _is_hosted(tool)}
    if not own or not losses:
        return losses
    choice = conversation.tool_choice
    demanded = set() if choice is None else set(choice.names) - own
    spared = {
        f"tools[{at}]"
        for at, tool in enumerate(conversation.tools)
        if _is_hosted(tool) and tool.name not in demanded
    }
    return [loss._replace(grave=loss.grave and loss.field not in spared) for loss in losses]


def without_lost_choice(conversation: Conversation, losses: list[Loss]) -> Conversation:
    """The same, which demands no tool that was lost; it is the very same where it demands none."""
    choice = conversation.tool_choice
    if choice is None or choice.mode != "named":
        return conversation
    fields = {loss.field for loss in losses}
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for at, tool in enumerate(conversation.tools):
        names[f"tools[{at}]" in fields].add(tool.name)
    lost = names[True] - names[False]
    left = tuple(name for name in choice.names if name not in lost)
    if len(left) == len(choice.names):
        return conversation
    rest = msgspec.structs.replace(choice, names=left) if left else None
    return msgspec.structs.replace(conversation, tool_choice=rest)


def _is_hosted(tool: Tool) -> bool:
    return tool.kind not in ("function", "custom")
