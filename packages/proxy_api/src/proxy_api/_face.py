"""What a surface is to its clients: a dialect, a name, and how it tells errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from proxy_api._error_shapes import Shape, shape_of
from proxy_core.dialects import CACHE_PROMPT

if TYPE_CHECKING:
    from proxy_core.dialects import Dialect

__all__ = ["Face", "face_of"]

_ANTHROPIC: Final = frozenset({b"anthropic-beta", b"anthropic-version", CACHE_PROMPT})
_PASSES: Final[Mapping[str, frozenset[bytes]]] = MappingProxyType(
    {"anthropic.messages": _ANTHROPIC, "anthropic.count_tokens": _ANTHROPIC}
)


@dataclass(frozen=True, slots=True)
class Face:
    """One for each surface, made when the app is."""

    dialect: Dialect
    name: str
    """As metrics and logs know the surface: ``chat``, ``anthropic.messages``."""
    shape: Shape
    stream: bool | None = None
    """Whether the path says that a stream is asked for, or isn't; None: the body says it."""
    passes: frozenset[bytes] = frozenset()
    """Headers of the client that belong to the dialect, and go with the call."""


def face_of(dialect: Dialect, *, stream: bool | None = None) -> Face:
    """That of a dialect; ``stream`` is what the path says of it."""
    name = dialect.name
    passes = _PASSES.get(name, frozenset())
    return Face(dialect, name.removeprefix("openai."), shape_of(name), stream, passes)
