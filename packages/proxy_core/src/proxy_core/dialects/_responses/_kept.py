"""Signatures in ``encrypted_content``, the one place where clients of Responses keep them.

Only reasoning items have it. A signature on a call, a text or a picture (Gemini's) becomes a
reasoning item of its own, whose mark says what it belongs to. Clients may drop the id of a
reasoning item and everything but this text (Codex does), so nothing else may say it.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from proxy_core.dialects._canonical import Signature
from proxy_core.dialects._responses._words import DIALECT
from proxy_core.dialects._seal import sealed, unsealed

__all__ = ["UNSIGNED", "Kept", "Use", "keep", "read_kept"]

Use = Literal["reasoning", "redacted", "call", "text", "media"]
"""``call``: of that id; ``text``: of the text before it; ``media``: of the picture behind it."""

_MARKED: Final = re.compile(r"lp-(redacted|call|text|media):([0-9]{1,6}):", re.ASCII)


UNSIGNED: Final = Signature(origin="", value="")
"""Of reasoning of another dialect's provider that nobody signed: OpenAI does not get it back."""


class Kept(NamedTuple):
    use: Use
    call: str
    """The id of the call that is signed."""
    signature: Signature


def keep(signature: Signature, use: Use, call: str = "") -> str:
    """The text that a client keeps."""
    own = use == "redacted" and signature.origin == DIALECT
    if own or use == "reasoning":
        return sealed(signature, DIALECT)
    return f"lp-{use}:{len(call)}:{call}{sealed(signature, '')}"


def read_kept(text: str) -> Kept | None:
    """What a client kept; a text of OpenAI's own is the signature of a reasoning. None: nothing."""
    match = _MARKED.match(text)
    if match is None:
        signature = unsealed(text, DIALECT)
        return Kept("reasoning", "", signature) if signature.value else None
    at = match.end() + int(match[2])
    use: Use = match[1]  # type: ignore[assignment]
    return Kept(use, text[match.end() : at], unsealed(text[at:], DIALECT))
