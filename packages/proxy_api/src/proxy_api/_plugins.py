"""Plugins: only what the configuration names is loaded, and each is told apart when it fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

from proxy_api._settings_errors import InvalidSettings, Problem, nearest
from proxy_core import Rule
from proxy_core.errors import ConfigurationError
from proxy_core.providers import BUILT_IN, ForeignDialect, ProviderRow, Registry
from proxy_logging import Observer

if TYPE_CHECKING:
    import pluggy

    from proxy_api._settings import Settings

__all__ = ["NO_PLUGINS", "Plugins", "find_plugins", "load_plugins"]


@dataclass(frozen=True, slots=True)
class Plugins:
    """Those of a configuration, in its order."""

    registry: Registry = BUILT_IN
    """The kinds of providers, with theirs."""
    summaries: tuple[str, ...] = ()
    """What each brings, in a few words."""
    loaded: tuple[_Plugin, ...] = ()

    def rules(self, settings: Settings) -> tuple[Rule, ...]:
        """Their routing rules. Raises ConfigurationError."""
        rules = tuple(self._all("rules", Rule, settings))
        names = {model.name for model in settings.models}
        for rule in rules:
            if rule.to not in names:
                raise ConfigurationError(
                    f"plugins: a rule leads to the model {rule.to!r}, which isn't in models",
                    param="plugins",
                )
        return rules

    def observers(self, settings: Settings) -> tuple[Observer, ...]:
        """Who watches. Raises ConfigurationError."""
        return tuple(self._all("observers", object, settings))

    def _all(self, hook: str, kind: type, settings: Settings) -> Iterator[Any]:
        for plugin in self.loaded:
            try:
                yield from plugin.asked(hook, kind, settings=settings)
            except ConfigurationError as error:
                raise ConfigurationError(f"plugins: {error.message}", param="plugins") from error


NO_PLUGINS: Final = Plugins()


def load_plugins(names: Sequence[str]) -> Plugins:
    """The plugins of these names. Raises InvalidSettings with every problem at once."""
    plugins, problems = find_plugins(names)
    if problems:
        raise InvalidSettings(problems)
    return plugins


def find_plugins(names: Sequence[str]) -> tuple[Plugins, list[Problem]]:
    """Those that can be loaded, and what is wrong with the others."""
    if not names:
        return NO_PLUGINS, []
    registry, loaded, problems = BUILT_IN, [], []
    summaries = []
    for place, name in enumerate(names):
        try:
            if name in names[:place]:
                raise _Unusable("is there twice", "Keep one of the two")
            plugin = _Plugin(name, _found(name))
            registry, brought = plugin.added_to(registry)
        except _Unusable as error:
            problems.append(Problem(f"plugins[{place}]", error.message, error.hint))
        except ConfigurationError as error:
            problems.append(Problem(f"plugins[{place}]", error.message))
        else:
            loaded.append(plugin)
            summaries.append(f"{name} ({', '.join(brought)})")
    return Plugins(registry, tuple(summaries), tuple(loaded)), problems


class _Unusable(ConfigurationError):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class _Plugin:
    """One of them. What it raises comes with its name."""

    def __init__(self, name: str, plugin: object) -> None:
        self.name = name
        self._hooks = self._registered(plugin)

    def _registered(self, plugin: object) -> pluggy.PluginManager:
        # A manager for each: so whose a problem is, and whose a kind, is known.
        import pluggy

        from proxy_api.plugins import GROUP, Hooks

        manager = pluggy.PluginManager(GROUP)
        manager.add_hookspecs(Hooks)
        try:
            made = plugin() if isinstance(plugin, type) else plugin
            manager.register(made, self.name)
            manager.check_pending()
        except Exception as error:
            raise _Unusable(f"the plugin {self.name!r} can't be used: {_said(error)}") from error
        if not manager.get_hookcallers(made):
            raise _Unusable(
                f"{self.name!r} has no hook of a plugin",
                "Mark its functions with hookimpl of proxy_api.plugins",
            )
        return manager

    def asked(self, hook: str, kind: type, **given: object) -> list[Any]:
        """All that it says there, each of this kind. Raises ConfigurationError."""
        try:
            answers = getattr(self._hooks.hook, hook)(**given)
            found = [one for answer in answers for one in answer]
        except Exception as error:
            raise _Unusable(f"the plugin {self.name!r} failed in {hook}: {_said(error)}") from error
        for one in found:
            if not isinstance(one, kind):
                raise _Unusable(
                    f"the plugin {self.name!r} gives a {type(one).__name__} in {hook}: "
                    f"it must be a {kind.__name__}"
                )
        return found

    def added_to(self, registry: Registry) -> tuple[Registry, tuple[str, ...]]:
        """The registry with its kinds, and what it brings. Raises ConfigurationError."""
        rows = self.asked("provider_rows", ProviderRow)
        dialects = self.asked("dialects", ForeignDialect)
        signers = self._signers()
        try:
            more = registry.plus(rows, dialects=dialects, signers=signers)
        except ConfigurationError as error:
            raise _Unusable(f"the plugin {self.name!r} doesn't fit: {error.message}") from error
        brought = [
            *(f"kind {row.kind}" for row in rows),
            *(f"dialect {one.name}" for one in dialects),
            *(f"signer {name}" for name in signers),
            *(hook for hook in ("rules", "observers") if self._has(hook)),
        ]
        return more, tuple(brought)

    def _signers(self) -> dict[str, Any]:
        try:
            return {
                name: make for told in self._hooks.hook.signers() for name, make in told.items()
            }
        except Exception as error:
            raise _Unusable(
                f"the plugin {self.name!r} failed in signers: {_said(error)}"
            ) from error

    def _has(self, hook: str) -> bool:
        return bool(getattr(self._hooks.hook, hook).get_hookimpls())


def _found(name: str) -> object:
    """What an entry point leads to, or the module of this name."""
    from proxy_api.plugins import GROUP

    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    entry = entries.get(name)
    try:
        return _module(name, entries) if entry is None else entry.load()
    except _Unusable:
        raise
    except Exception as error:
        raise _Unusable(f"the plugin {name!r} can't be loaded: {_said(error)}") from error


def _module(name: str, entries: Iterable[str | EntryPoint]) -> object:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise  # it is there, and what it needs isn't
    except (TypeError, ValueError):
        pass  # a relative or an empty name: no module has it
    known = sorted(str(entry) for entry in entries)
    meant = nearest(name, known)
    installed = f"Installed: {', '.join(known)}" if known else "None is installed"
    hint = f"Did you mean {meant!r}?" if meant else installed
    raise _Unusable(f"there is no plugin {name!r}, and no module of that name", hint)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
