"""The kinds of providers that there are: the built-in rows, and those that come from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from proxy_core._http import HttpSender
from proxy_core.dialects import CODECS, DIALECTS, EMBED_CODECS, FRAMINGS, STREAM_TYPES
from proxy_core.dialects._codec import Framing, UpstreamCodec
from proxy_core.errors import ConfigurationError
from proxy_core.providers._row import Paths, ProviderRow
from proxy_core.providers._rows import ROWS
from proxy_core.providers._signing import SIGNERS, Signer

__all__ = ["BUILT_IN", "ForeignDialect", "Registry", "SignerFactory"]

SignerFactory = Callable[[Mapping[str, Any], HttpSender], Signer]
"""From a provider's settings (``region`` and the like) and an HTTP client for fetching tokens."""


class ForeignDialect(NamedTuple):
    """A wire format that this package doesn't know, as a provider speaks it."""

    codec: UpstreamCodec
    """Its ``dialect`` is the name."""
    path: Paths
    """Below the base URL."""
    framing: str | Callable[[], Framing] = "events"
    """``events`` (server-sent), ``lines`` (JSON), ``aws``; or what makes one of its own."""
    stream_type: bytes = b""
    """The media type of a stream; needed with a framing of its own."""

    @property
    def name(self) -> str:
        return self.codec.dialect


@dataclass(frozen=True, slots=True)
class Registry:
    """Kinds of providers, by name, and the dialects and signers that only they have. Frozen."""

    rows: Mapping[str, ProviderRow]
    dialects: Mapping[str, ForeignDialect] = field(default_factory=dict)
    signers: Mapping[str, SignerFactory] = field(default_factory=lambda: SIGNERS)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self.rows)

    @property
    def known_dialects(self) -> tuple[str, ...]:
        """All that a provider may speak."""
        return tuple(dict.fromkeys((*DIALECTS, *CODECS, *EMBED_CODECS, *self.dialects)))

    @property
    def codecs(self) -> Mapping[str, UpstreamCodec]:
        own = {name: dialect.codec for name, dialect in self.dialects.items()}
        return {**CODECS, **own} if own else CODECS

    @property
    def framings(self) -> Mapping[str, tuple[Callable[[], Framing], bytes]]:
        """What cuts a stream, and its media type, by name; a dialect's own has the dialect's."""
        found = {name: (make, STREAM_TYPES[name]) for name, make in FRAMINGS.items()}
        for name, dialect in self.dialects.items():
            if not isinstance(dialect.framing, str):
                found[name] = (dialect.framing, dialect.stream_type)
        return found

    def row(self, kind: str) -> ProviderRow:
        """What is known of a kind. Raises ConfigurationError for one that nobody knows."""
        try:
            return self.rows[kind]
        except KeyError:
            raise ConfigurationError(
                f"There is no provider kind {kind!r}: use one of {', '.join(self.rows)}; "
                "openai_compatible with a base_url serves any other.",
                param="kind",
            ) from None

    def completed(self, row: ProviderRow) -> ProviderRow:
        """The row with the paths and framings of the foreign dialects that it speaks."""
        spoken = [self.dialects[name] for name in row.dialects if name in self.dialects]
        if not spoken:
            return row
        paths = {one.name: one.path for one in spoken}
        framings = {
            one.name: one.framing if isinstance(one.framing, str) else one.name for one in spoken
        }
        return replace(row, paths={**paths, **row.paths}, framings={**framings, **row.framings})

    def plus(
        self,
        rows: Iterable[ProviderRow] = (),
        *,
        dialects: Iterable[ForeignDialect] = (),
        signers: Mapping[str, SignerFactory] = MappingProxyType({}),
    ) -> Registry:
        """Another one, with these too. Raises ConfigurationError for what can't stand together."""
        more = {**self.dialects}
        for dialect in dialects:
            _check_dialect(dialect, self.known_dialects, more)
            more[dialect.name] = dialect
        for name in signers:
            _check_new("signer", name, self.signers)
        all_of_it = Registry({**self.rows}, more, {**self.signers, **signers})
        kinds = {**self.rows}
        for row in rows:
            _check_new("provider kind", row.kind, kinds)
            _check_row(row, all_of_it)
            kinds[row.kind] = row
        return replace(all_of_it, rows=MappingProxyType(kinds))


BUILT_IN: Final = Registry(ROWS)


def _check_new(what: str, name: str, known: Iterable[str]) -> None:
    if name in known:
        raise ConfigurationError(f"There is a {what} {name!r} already: give yours another name.")


def _check_dialect(
    dialect: ForeignDialect, known: Iterable[str], added: Mapping[str, ForeignDialect]
) -> None:
    _check_new("dialect", dialect.name, {*known, *added})
    if not dialect.path.whole.startswith("/"):
        raise ConfigurationError(
            f"The dialect {dialect.name!r} has the path {dialect.path.whole!r}: "
            "it must begin with a slash, such as /v1/generate."
        )
    if isinstance(dialect.framing, str):
        if dialect.framing not in FRAMINGS:
            raise ConfigurationError(
                f"The dialect {dialect.name!r} has the framing {dialect.framing!r}: "
                f"use one of {', '.join(FRAMINGS)}, or what makes one of its own."
            )
    elif not dialect.stream_type:
        raise ConfigurationError(
            f"The dialect {dialect.name!r} has a framing of its own: "
            "say the media type of its streams in stream_type, such as b'application/x-ndjson'."
        )


def _check_row(row: ProviderRow, registry: Registry) -> None:
    for dialect in row.dialects:
        if dialect not in registry.known_dialects:
            raise ConfigurationError(
                f"The kind {row.kind!r} speaks {dialect!r}, which nobody knows: "
                f"use some of {', '.join(registry.known_dialects)}, or bring it along."
            )
        known = (DIALECTS, EMBED_CODECS, registry.dialects, row.paths)
        has_path = any(dialect in paths for paths in known)
        if not has_path:
            raise ConfigurationError(
                f"The kind {row.kind!r} has no path for {dialect!r}: say it in paths."
            )
    if row.signer and row.signer not in registry.signers:
        raise ConfigurationError(
            f"The kind {row.kind!r} has the signer {row.signer!r}, which nobody knows: "
            f"use one of {', '.join(registry.signers)}, or bring it along."
        )
