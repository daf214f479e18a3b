"""What is told of the signatures that a request of the upstream's own dialect left behind."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy_core._types import Headers
from proxy_core.dialects._codec import Losses
from proxy_core.dialects._document import Document
from proxy_core.dialects._translate import judged

__all__ = ["told_of"]

_WHY: Final = "another provider signed it"

_read_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


def told_of(body: Document) -> Headers:
    """The header that names the rows of a cleaned array that aren't what they were."""
    if body.cleaned is None:
        return []
    before, after = body.cleaned
    kept = {bytes(row) for row in _read_rows(after)}
    losses = Losses()
    for at, row in enumerate(_read_rows(before)):
        if bytes(row) not in kept:
            losses.drop(f"messages[{at}].reasoning", _WHY)
    return judged(losses.all, "announce", "")
