"""Providers and models that were found, not written: from the environment, a port, a child."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from proxy_api._references import resolve
from proxy_api._settings_errors import Problem
from proxy_api._settings_models import ServerSettings

__all__ = ["Rows", "add_rows"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to merge into a configuration as if its file had them. What the file says wins."""

    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models: tuple[Mapping[str, Any], ...] = ()
    remedy: str = ""
    """What to do when a provider's name is taken; empty: the found provider is left out."""


def add_rows(
    data: dict[str, Any], rows: Iterable[Rows], environ: Mapping[str, str]
) -> list[Problem]:
    """Merge ``rows`` into ``data`` in place. A model's name that is taken becomes its target.

    A found server that listens where this one will is left out: the proxy must not find itself.
    ``data`` has no references any more; those of the rows are resolved here.
    """
    providers = _own(data, "providers", dict)
    models = _own(data, "models", list)
    problems: list[Problem] = []
    if providers is None or models is None:
        return problems
    port = _port(data)
    for group in rows:
        added = {
            name: row
            for name, row in group.providers.items()
            if name not in providers and (group.remedy or not _listens_at(row, port))
        }
        if group.remedy:
            problems += [
                Problem(f"providers.{name}", "the name is taken", group.remedy)
                for name in group.providers
                if name in providers
            ]
        providers.update(resolve(added, environ).data)
        for row in group.models:
            if row["target"].partition("/")[0] in added:
                models.append(_with_free_name(row, models))
    return problems


def _own(data: dict[str, Any], name: str, kind: type) -> Any:
    """A copy of ``data[name]`` that may be changed; None where the file has something else."""
    value = data.get(name)
    if value is None:
        value = kind()
    if not isinstance(value, kind):
        return None
    data[name] = kind(value)
    return data[name]


def _with_free_name(row: Mapping[str, Any], models: list[Any]) -> dict[str, Any]:
    taken = {model.get("name") for model in models if isinstance(model, Mapping)}
    return {**row, "name": row["target"]} if row["name"] in taken else dict(row)


def _port(data: Mapping[str, Any]) -> int | None:
    server = data.get("server")
    usual = ServerSettings.model_fields["port"].default
    port = str(server.get("port", usual) if isinstance(server, Mapping) else usual)
    return int(port) if port.isascii() and port.isdigit() else None


def _listens_at(row: Mapping[str, Any], port: int | None) -> bool:
    parts = urlsplit(str(row.get("base_url") or ""))
    return (
        port is not None
        and parts.hostname in ("127.0.0.1", "localhost", "::1")
        and parts.port == port
    )
