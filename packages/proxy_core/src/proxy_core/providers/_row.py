"""What there is to know of a kind of provider: the fields of its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

__all__ = ["BodyEdits", "Paths", "ProviderRow"]

_NONE: Final[Mapping[Any, Any]] = MappingProxyType({})
_OF_SIGNERS: Final = MappingProxyType(
    {"aws": ("region", "profile", "instance_metadata"), "google": ("credentials_file",)}
)
"""The settings that our own signers look at."""


class Paths(NamedTuple):
    """Where a dialect is below the base URL. A stream has a path of its own, or the same.

    ``{model}`` and the settings of the provider stand in braces.
    """

    whole: str
    stream: str = ""


class BodyEdits(NamedTuple):
    """What a provider wants otherwise in the bodies of a dialect that another one made."""

    without: tuple[str, ...] = ()
    """Fields that its URL says."""
    default: Mapping[str, str] = _NONE
    """Fields that it needs, where the client didn't say them."""
    lists: Mapping[bytes, str] = _NONE
    """Headers of the client whose words go into a list of this field."""
    marks_last: bool = False
    """Whether Anthropic's mark for all of a prompt must stand on its last block."""


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """A kind of provider, as data."""

    kind: str
    base_url: str | None
    """As the provider's own SDK takes it; None where only the operator knows it. ``{region}`` and
    ``{location}`` are settings."""
    dialects: tuple[str, ...] = ("openai.chat", "openai.completions", "openai.embeddings")
    """What it speaks. Who asks in another one is translated to the first that can be."""
    key_variable: str | None = None
    """The environment variable that its own SDK reads; only ``--discover`` looks at it."""
    needs_key: bool = True
    asks_usage: bool = True
    """Whether it takes ``stream_options.include_usage``."""
    customs: bool = False
    """Whether it has tools of free text."""
    auth_header: str = "authorization"
    """Only this one has the word ``Bearer`` before the key."""
    headers: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """Sent always."""
    passes: frozenset[bytes] = frozenset()
    """Headers of a client that go on in calls of the same dialect."""
    paths: Mapping[str, Paths] = field(default_factory=lambda: _NONE)
    """By dialect, where they aren't the dialect's own."""
    versioned_paths: Mapping[str, Paths] = field(default_factory=lambda: _NONE)
    """In the place of ``paths`` where an ``api_version`` is set."""
    framings: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """How a dialect's streams are framed, where it isn't the dialect's own way."""
    bodies: Mapping[str, BodyEdits] = field(default_factory=lambda: _NONE)
    only: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NONE)
    """The models, as patterns, that alone speak a dialect; ``!`` before one: all others."""
    counts_flat: bool = False
    """Whether Google's countTokens takes the fields of a request at its top, and no request."""
    keeps_files: bool = False
    """Whether it keeps files for its clients, and runs batches of them."""
    signer: str = ""
    """Who signs its requests where no ``api_key`` is given: ``aws``, ``google``."""
    needs: tuple[str, ...] = ()
    """Settings that it can't do without, such as ``region``."""

    def uses(self, setting: str) -> bool:
        """Whether a setting that only some kinds have means anything to this one.

        A signer from outside may use any.
        """
        if self.signer and self.signer not in _OF_SIGNERS:
            return True
        known = (*self.needs, *_OF_SIGNERS.get(self.signer, ()))
        paths = (*self.paths.values(), *self.versioned_paths.values())
        urls = (self.base_url or "", *(url for each in paths for url in each))
        return setting in known or any(f"{{{setting}}}" in url for url in urls)
