"""The configuration: defaults, then the file, then the environment, then the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from proxy_api._not_in_force import not_in_force
from proxy_api._references import resolve, variables
from proxy_api._rows import Rows, add_rows
from proxy_api._settings_checks import Declared, check
from proxy_api._settings_draft import Draft
from proxy_api._settings_errors import InvalidSettings, Problem
from proxy_api._settings_models import (
    CacheSettings,
    ContextSettings,
    FallbackSettings,
    KeySettings,
    ModelSettings,
    ObservabilitySettings,
    PricingSettings,
    ProviderSettings,
    RoutingSettings,
    ServerSettings,
    TimeoutSettings,
    fallback_rules,
)
from proxy_api._settings_sources import PREFIX, overlay, read_environment, read_file, which_file
from proxy_api._settings_translate import is_container
from proxy_api._settings_types import ProviderName, StoreUrl, database_url, redis_url

__all__ = ["InvalidSettings", "Problem", "Rows", "Settings", "checked", "load_settings"]

_Fallbacks = Annotated[tuple[FallbackSettings, ...], BeforeValidator(fallback_rules)]


class Settings(BaseSettings):
    """A whole configuration, frozen. ``load_settings`` makes it from a file and the environment.

    ``Settings(...)`` itself takes what it is given and reads nothing else.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, env_prefix=PREFIX
    )

    version: Literal[1] = Field(default=1, description="The version of this schema.")
    server: ServerSettings = Field(
        default_factory=ServerSettings, description="Where and how the proxy listens."
    )
    providers: Mapping[ProviderName, ProviderSettings] = Field(
        default_factory=dict, description="Who answers: a name of your own for each."
    )
    models: tuple[ModelSettings, ...] = Field(
        default=(), description="What clients may ask for; a repeated name is a pool."
    )
    fallbacks: Mapping[str, _Fallbacks] = Field(
        default_factory=dict,
        description="Models that are asked when every deployment of one failed: a list of names, "
        "{on, to}, or a list of those.",
        examples=[{"chat": ["claude-sonnet-4-5"]}],
    )
    pricing: PricingSettings = Field(
        default_factory=PricingSettings, description="What isn't priced, and discounts."
    )
    timeouts: TimeoutSettings = Field(
        default_factory=TimeoutSettings,
        description="One for each phase; also per provider and per model.",
    )
    routing: RoutingSettings = Field(
        default_factory=RoutingSettings, description="Which deployment is asked, and when another."
    )
    keys: tuple[KeySettings, ...] = Field(
        default=(), description="Keys of clients; without any, only this machine is served."
    )
    cache: CacheSettings = Field(default_factory=CacheSettings, description="Equal requests.")
    context: ContextSettings = Field(default_factory=ContextSettings, description="Long prompts.")
    redis: Annotated[StoreUrl, AfterValidator(redis_url)] | None = Field(
        default=None,
        description="What several processes share: redis://, rediss://, redis+sentinel://, "
        "redis+cluster:// or unix://.",
    )
    database: Annotated[StoreUrl, AfterValidator(database_url)] | None = Field(
        default=None,
        description="Keys, usage, audit: sqlite:// or postgresql://; "
        "none: sqlite in the state directory.",
    )
    observability: ObservabilitySettings = Field(
        default_factory=ObservabilitySettings, description="Logs, metrics, traces."
    )
    plugins: tuple[str, ...] = Field(
        default=(), description="Plugins to load; only what is named here is."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # load_settings merges the layers itself: references are looked up once, after the merge,
        # so that a variable which the command line makes needless may be missing.
        return (init_settings,)

    @property
    def has_shared_limits(self) -> bool:
        """Whether several processes count limits together."""
        return self.redis is not None

    def timeouts_for(self, model: ModelSettings) -> TimeoutSettings:
        """The times of one deployment: the model's over the provider's over the general ones."""
        layers = (self.providers[model.provider].timeouts, model.timeouts)
        changed: dict[str, float] = {}
        for layer in layers:
            if layer is not None:
                changed.update(layer.model_dump(exclude_none=True))
        return self.timeouts.model_copy(update=changed)

    def not_in_force(self) -> tuple[str, ...]:
        """A sentence for each setting that was given and that this version doesn't act on."""
        return not_in_force(self)


def load_settings(
    config_path: str | FilePath | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    rows: Iterable[Rows] = (),
) -> Settings:
    """Read, merge and check a configuration.

    Args:
        config_path: a YAML or TOML file; None: ``$LLM_PROXY_CONFIG``, else
            ``/etc/proxy/config.yaml`` if it is there, else the defaults.
        overrides: what the command line says, nested as the file is; None as a value: not given.
        environ: instead of ``os.environ``.
        rows: providers and models that were found (``--discover``, ``--local-model``); the file
            wins over them.

    Raises:
        InvalidSettings: with every problem at once, also when a file that was named isn't there.
    """
    environ = os.environ if environ is None else environ
    path = which_file(config_path, environ)
    written = read_file(path) if path is not None else {}
    given = _given(overrides or {})
    variables_data, problems = read_environment(
        environ,
        lambda place: is_container(place, Settings),
        sections=tuple(Settings.model_fields),
        used=variables([written, given]),
    )
    data = overlay(overlay(written, variables_data), given)
    # A section of which every line is commented out reads as null.
    data = {name: value for name, value in data.items() if value is not None}
    problems += _unknown_to_pydantic(data)
    resolved = resolve(data, environ)
    problems += add_rows(resolved.data, rows, environ)
    draft = Draft(resolved, Settings)
    settings = draft.validated()
    problems += resolved.problems + draft.problems
    if settings is not None:
        told = {problem.path for problem in problems}
        found = check(settings, Declared.of(resolved.data), draft.places)
        problems += [problem for problem in found if problem.path not in told]
    if problems or settings is None:
        told_safely = [problem.without(resolved.values) for problem in problems]
        raise InvalidSettings(_sorted(told_safely), source=str(path or ""))
    return settings


def checked(settings: Settings) -> Settings:
    """The same settings, once their names are known to fit together.

    For those who make ``Settings(...)`` themselves; ``load_settings`` has done it.
    Raises ``InvalidSettings``.
    """
    declared = Declared(
        frozenset(settings.providers), frozenset(model.name for model in settings.models)
    )
    places = {"models": range(len(settings.models)), "keys": range(len(settings.keys))}
    problems = check(settings, declared, places)
    if problems:
        raise InvalidSettings(_sorted(problems))
    return settings


def _unknown_to_pydantic(data: dict[str, Any]) -> list[Problem]:
    """Takes out the names that BaseSettings would keep for itself, ``_env_file`` and the like."""
    names = [name for name in data if name.startswith("_")]
    for name in names:
        del data[name]
    return [Problem(name, "unknown setting") for name in names]


def _given(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides without those that are None."""
    given = {}
    for name, value in overrides.items():
        kept = _given(value) if isinstance(value, Mapping) else value
        if kept is not None and kept != {}:
            given[name] = kept
    return given


def _sorted(problems: Iterable[Problem]) -> list[Problem]:
    """Without repetitions, in the order of the schema's sections."""
    order = [*Settings.model_fields]

    def rank(problem: Problem) -> int:
        section = problem.path.partition(".")[0].partition("[")[0]
        return order.index(section) if section in order else -1

    return sorted(dict.fromkeys(problems), key=rank)
