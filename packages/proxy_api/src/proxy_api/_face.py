"""What a surface is to its clients: a dialect, a name, and how it tells errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy_api._error_shapes import Shape
    from proxy_core.dialects import Dialect

__all__ = ["Face"]


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
