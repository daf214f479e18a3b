"""What a plugin may bring: the hooks, all of them optional, and the mark of those who fill them.

A plugin is a module, or whatever an entry point of the group ``llm_proxy`` leads to, with functions
under these names::

    from proxy_api.plugins import hookimpl

    @hookimpl
    def observers(settings):
        return [print]

It is loaded when the configuration names it in ``plugins``, and never otherwise. Hooks are called
when a configuration is checked or compiled, maybe more than once, and never while a request runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import pluggy

from proxy_core.providers import ForeignDialect, ProviderRow, SignerFactory

if TYPE_CHECKING:
    from proxy_api._settings import Settings
    from proxy_core import Rule
    from proxy_logging import Observer

__all__ = ["GROUP", "Hooks", "hookimpl"]

GROUP: Final = "llm_proxy"
"""The group of entry points, and pluggy's name of the project."""

hookimpl: Final = pluggy.HookimplMarker(GROUP)
_hookspec: Final = pluggy.HookspecMarker(GROUP)


class Hooks:
    """Each may be left out."""

    @_hookspec
    def provider_rows(self) -> Iterable[ProviderRow]:  # type: ignore[empty-body]
        """Kinds of providers, for ``providers.*.kind``. No built-in kind can be replaced."""

    @_hookspec
    def dialects(self) -> Iterable[ForeignDialect]:  # type: ignore[empty-body]
        """Wire formats for those kinds: a codec, a path, a framing."""

    @_hookspec
    def signers(self) -> Mapping[str, SignerFactory]:  # type: ignore[empty-body]
        """Who signs their requests, by the name that ``ProviderRow.signer`` has."""

    @_hookspec
    def rules(self, settings: Settings) -> Iterable[Rule]:  # type: ignore[empty-body]
        """Routing rules; they come after those of ``routing.rules``."""

    @_hookspec
    def observers(self, settings: Settings) -> Iterable[Observer]:  # type: ignore[empty-body]
        """Called with every event. Asked for once, when the app is made."""
