"""Another provider's signature of a text or a call, in the hands of Anthropic's clients.

Their blocks have no place for it, but they keep each ``redacted_thinking`` block and send it back.
So it travels as one, next to the part that it belongs to.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy_core.dialects._anthropic._words import DIALECT
from proxy_core.dialects._canonical import Media, Part, Signature, Text, ToolCall
from proxy_core.dialects._seal import sealed, unsealed

__all__ = ["attached", "carried", "carrying", "is_carried"]

_BEFORE: Final = "lpn:"
"""It belongs to the next part."""
_AFTER: Final = "lpp:"
"""It belongs to the part before, which was told when the signature came."""


def carrying(signature: Signature, *, late: bool = False) -> dict[str, Any]:
    """The block that carries it: before its part, or ``late`` behind it."""
    data = (_AFTER if late else _BEFORE) + sealed(signature, DIALECT)
    return {"type": "redacted_thinking", "data": data}


def carried(data: str) -> tuple[Signature, bool] | None:
    """The signature in a block's data, and whether it came late; None where it is no such block."""
    for mark in (_BEFORE, _AFTER):
        if data.startswith(mark):
            return unsealed(data.removeprefix(mark), DIALECT), mark == _AFTER
    return None


def is_carried(data: str) -> bool:
    return data.startswith((_BEFORE, _AFTER))


def attached(part: Part, signature: Signature) -> Part:
    """The part with its signature, where it can have one."""
    if isinstance(part, Text | Media | ToolCall):
        return msgspec.structs.replace(part, signature=signature)
    return part
