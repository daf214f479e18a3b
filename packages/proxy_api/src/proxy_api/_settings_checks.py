"""What no single setting can know: whether the names in a configuration fit together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from proxy_api._plugins import find_plugins
from proxy_api._settings_errors import Problem, nearest
from proxy_api._settings_models import (
    FallbackSettings,
    KeySettings,
    ModelSettings,
    ProviderSettings,
    RuleSettings,
    ServerSettings,
)
from proxy_api._urls import is_url
from proxy_core.errors import ConfigurationError
from proxy_core.providers import ProviderRow, Registry

if TYPE_CHECKING:
    from proxy_api._settings import Settings

__all__ = ["Declared", "check", "matches"]

_KINDS_OWN: Final = (
    *("region", "profile", "instance_metadata"),
    *("project", "location", "credentials_file", "api_version"),
)
"""Settings of a provider that only some kinds have."""


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is ``pattern``, or fits it where that has a ``*`` (which may be empty)."""
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == name
    long_enough = len(name) >= len(before) + len(after)
    return long_enough and name.startswith(before) and name.endswith(after)


@dataclass(frozen=True, slots=True)
class Declared:
    """The names that the configuration's text gives, those of rows with errors included."""

    providers: frozenset[str]
    models: frozenset[str]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Declared:
        """Read them from data of any shape: what isn't a name is no name."""
        providers = data.get("providers")
        models = data.get("models")
        rows = models if isinstance(models, list | tuple) else ()
        names = (row.get("name") for row in rows if isinstance(row, Mapping))
        return cls(
            frozenset(providers if isinstance(providers, Mapping) else ()),
            frozenset(name for name in names if isinstance(name, str)),
        )

    def has_model(self, name: str) -> bool:
        return any(matches(pattern, name) for pattern in self.models)


def check(
    settings: Settings, declared: Declared, rows: Mapping[str, Sequence[int]]
) -> list[Problem]:
    """Every problem between settings. ``rows`` has the places in the file of models and keys."""
    plugins, problems = find_plugins(settings.plugins)
    return [
        *problems,
        *_providers(settings, plugins.registry, knows_all=not problems),
        *_models(settings, declared, rows["models"]),
        *_fallbacks(settings.fallbacks, declared),
        *_rules(settings.routing.rules, declared),
        *_multipliers(settings.pricing.multiplier, declared),
        *_prices(settings.models, rows["models"]),
        *_keys(settings.keys, declared, rows["keys"]),
        *_workers(settings),
        *_server(settings.server),
    ]


def _providers(settings: Settings, registry: Registry, *, knows_all: bool) -> Iterator[Problem]:
    kinds, dialects = registry.kinds, registry.known_dialects
    for name, provider in settings.providers.items():
        path = f"providers.{name}"
        if provider.kind not in kinds:
            if knows_all:  # else it may be the kind of a plugin that isn't there
                yield _unknown_kind(path, provider.kind, kinds)
            continue
        row = registry.row(provider.kind)
        if row.base_url is None and provider.base_url is None:
            hint = "It is what the provider's own SDK takes, such as http://10.0.0.5:8000/v1"
            yield Problem(f"{path}.base_url", f"is missing: kind {row.kind} has no usual one", hint)
        if provider.api_key is not None and provider.api_keys:
            yield Problem(f"{path}.api_keys", "excludes api_key", "Keep one of the two")
        if provider.proxy is not None and not is_url(
            provider.proxy.get_secret_value(), ("http", "https")
        ):
            message = "only proxies that speak HTTP are supported"
            yield Problem(f"{path}.proxy", message, "Write http://host:port, or https")
        for i, dialect in enumerate(provider.dialects):
            if dialect not in dialects:
                hint = _offer(dialect, dialects, known_as="Known")
                yield Problem(f"{path}.dialects[{i}]", f"there is no dialect {dialect!r}", hint)
        yield from _options(path, provider, row)
        if row.needs_key and not provider.secrets:
            variable = row.key_variable or "API_KEY"
            hint = f'Write api_key: "${{{variable}}}", credential:NAME or file:/path'
            yield Problem(f"{path}.api_key", f"is missing: kind {row.kind} needs one", hint)


def _options(path: str, provider: ProviderSettings, row: ProviderRow) -> Iterator[Problem]:
    """Settings that only some kinds have."""
    for option in _KINDS_OWN:
        if getattr(provider, option) and not row.uses(option):
            hint = "Leave it out, or give the kind that is meant"
            yield Problem(f"{path}.{option}", f"kind {row.kind} has no use for it", hint)
    for needed in row.needs:
        if not getattr(provider, needed):
            yield Problem(f"{path}.{needed}", f"is missing: kind {row.kind} needs one")


def _unknown_kind(path: str, kind: str, kinds: Sequence[str]) -> Problem:
    meant = nearest(kind, kinds)
    offered = f"Did you mean {meant!r}? " if meant else ""
    hint = (
        f"{offered}Known: {', '.join(kinds)}; "
        "openai_compatible with a base_url serves whatever speaks OpenAI's API"
    )
    return Problem(f"{path}.kind", f"there is no kind {kind!r}", hint)


def _models(settings: Settings, declared: Declared, places: Sequence[int]) -> Iterator[Problem]:
    seen: dict[tuple[str, str], int] = {}
    for place, model in zip(places, settings.models, strict=True):
        path = f"models[{place}]"
        if model.provider not in declared.providers:
            yield Problem(
                f"{path}.target",
                f"there is no provider {model.provider!r}",
                _offer(model.provider, declared.providers, f"/{model.upstream}"),
            )
        if "*" in model.target and "*" not in model.name:
            yield Problem(f"{path}.target", "has a * and the name has none", "Name the model")
        first = seen.setdefault((model.name, model.target), place)
        if first != place:
            hint = "Use weight for a larger share"
            yield Problem(path, f"the same name and target as models[{first}]", hint)


def _offer(name: str, known: Iterable[str], rest: str = "", *, known_as: str = "Configured") -> str:
    names = sorted(known)
    meant = nearest(name, names)
    if meant:
        return f"Did you mean {meant + rest!r}?"
    return f"{known_as}: {', '.join(names)}" if names else "None is configured"


def _fallbacks(
    fallbacks: Mapping[str, tuple[FallbackSettings, ...]], declared: Declared
) -> Iterator[Problem]:
    for name, rules in fallbacks.items():
        if not declared.has_model(name):
            hint = _offer(name, declared.models)
            yield Problem(f"fallbacks.{name}", f"there is no model {name!r}", hint)
        causes = [rule.on for rule in rules]
        if len(causes) != len(set(causes)):
            yield Problem(f"fallbacks.{name}", "the same cause (on) twice", "Put both into one to")
        for rule in rules:
            yield from _fallback_targets(name, rule, declared)
    yield from _cycles(fallbacks)


def _fallback_targets(name: str, rule: FallbackSettings, declared: Declared) -> Iterator[Problem]:
    for target in rule.to:
        if "*" in target or not declared.has_model(target):
            yield Problem(
                f"fallbacks.{name}",
                f"there is no model {target!r}",
                _offer(target, (model for model in declared.models if "*" not in model)),
            )


def _cycles(fallbacks: Mapping[str, tuple[FallbackSettings, ...]]) -> Iterator[Problem]:
    graph = {
        name: [
            source
            for rule in rules
            for target in rule.to
            for source in _rules_for(target, fallbacks)
        ]
        for name, rules in fallbacks.items()
    }
    done: set[str] = set()
    for name in graph:
        circle = _circle(name, graph, (), done)
        if circle:
            yield Problem(
                f"fallbacks.{circle[0]}",
                f"goes in a circle: {' → '.join((*circle, circle[0]))}",
                "Leave one of these steps out",
            )


def _rules_for(target: str, fallbacks: Iterable[str]) -> list[str]:
    return [name for name in fallbacks if matches(name, target)]


def _circle(
    name: str, graph: Mapping[str, list[str]], way: tuple[str, ...], done: set[str]
) -> tuple[str, ...]:
    if name in way:
        return way[way.index(name) :]
    if name in done:
        return ()
    done.add(name)
    for following in graph[name]:
        found = _circle(following, graph, (*way, name), done)
        if found:
            return found
    return ()


def _rules(rules: Sequence[RuleSettings], declared: Declared) -> Iterator[Problem]:
    for place, rule in enumerate(rules):
        path = f"routing.rules[{place}]"
        if "*" in rule.to or not declared.has_model(rule.to):
            hint = _offer(rule.to, (model for model in declared.models if "*" not in model))
            yield Problem(f"{path}.to", f"there is no model {rule.to!r}", hint)
        try:
            rule.rule()
        except ConfigurationError as error:
            yield Problem(path, error.message)


def _multipliers(multiplier: Mapping[str, object], declared: Declared) -> Iterator[Problem]:
    for name in multiplier:
        if name not in declared.providers:
            hint = _offer(name, declared.providers)
            yield Problem(f"pricing.multiplier.{name}", f"there is no provider {name!r}", hint)


def _prices(models: Sequence[ModelSettings], places: Sequence[int]) -> Iterator[Problem]:
    for place, model in zip(places, models, strict=True):
        path = f"models[{place}].price"
        days: list[object] = []
        for number, row in enumerate(model.price or ()):
            if row.since in days:
                hint = "Give each price of the list a day of its own, such as 2027-01-01"
                same = f"begins when price[{days.index(row.since)}] does"
                yield Problem(f"{path}[{number}].since", same, hint)
            days.append(row.since)
            above = [tier.above for tier in row.tiers]
            if len(above) != len(set(above)):
                yield Problem(path, "has two tiers with the same above", "Put both into one")


def _keys(
    keys: Sequence[KeySettings], declared: Declared, places: Sequence[int]
) -> Iterator[Problem]:
    names: dict[str, int] = {}
    secrets: dict[str, int] = {}
    for place, key in zip(places, keys, strict=True):
        path = f"keys[{place}]"
        first = names.setdefault(key.name, place)
        if first != place:
            yield Problem(f"{path}.name", f"{key.name!r} is the name of keys[{first}] too")
        first = secrets.setdefault(key.key.get_secret_value(), place)
        if first != place:
            yield Problem(f"{path}.key", f"is the same as that of keys[{first}]")
        for i, pattern in enumerate(key.models):
            if not _known_pattern(pattern, declared):
                hint = _offer(pattern, declared.models)
                yield Problem(f"{path}.models[{i}]", f"there is no model {pattern!r}", hint)


def _known_pattern(pattern: str, declared: Declared) -> bool:
    if pattern == "*" or pattern in declared.models:
        return True
    if "*" not in pattern:
        return declared.has_model(pattern)
    before, _, after = pattern.partition("*")
    return pattern.count("*") == 1 and any(
        matches(pattern, name) or matches(name, before + after) for name in declared.models
    )


def _workers(settings: Settings) -> Iterator[Problem]:
    """Each process would enforce its own limits: a key would have several times what it may."""
    server = settings.server
    if (server.workers == 1 and not server.reuse_port) or settings.has_shared_limits:
        return
    limited: list[KeySettings | ModelSettings] = [*settings.keys, *settings.models]
    if any(row.limits is not None for row in limited) or any(
        key.budget is not None for key in settings.keys
    ):
        several = server.workers > 1
        yield Problem(
            "server.workers" if several else "server.reuse_port",
            f"{server.workers if several else 'the'} processes would each enforce limits and "
            "budgets of their own",
            f"{'Set server.workers to 1' if several else 'Use a single process: llm-proxy.service'}"
            " (one carries thousands of requests a second), "
            "or give them a store to share: redis: redis://127.0.0.1:6379/0",
        )


def _server(server: ServerSettings) -> Iterator[Problem]:
    """The line of the PROXY protocol comes from a balancer, and before TLS begins."""
    if server.proxy_protocol and not server.trusted_proxies:
        hint = "Write the balancer's address into server.trusted_proxies"
        yield Problem("server.proxy_protocol", "nobody is trusted to speak it", hint)
    if server.proxy_protocol and server.tls is not None:
        hint = "Let the balancer end TLS, or leave proxy_protocol out"
        yield Problem("server.proxy_protocol", "can't be read before TLS by this version", hint)
