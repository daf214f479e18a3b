"""What differs between two configurations, in sentences that an operator reads in a log line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, SecretStr

from proxy_api._compose import allowed_models
from proxy_api._settings import Settings
from proxy_api._settings_models import KeySettings, ModelSettings

__all__ = ["changes", "in_force", "needs_restart"]

_FIXED: Final[Mapping[str, tuple[str, ...]]] = {
    "server": ("host", "port", "uds", "workers", "reuse_port"),
    "observability": ("logs", "metrics", "tracing"),
    "": ("redis", "database", "plugins"),
}
"""By section, what a process decides once, when it starts."""
_LONGEST: Final = 100
"""Characters of a value that are shown."""


class _Change(NamedTuple):
    path: str
    text: str


def changes(old: Settings, new: Settings) -> tuple[str, ...]:
    """What a running process takes over from ``new``, a short sentence for each setting.

    ``models: + chat → gpu/llama``, ``keys.ci.limits.requests: 60/minute → 90/minute``. Rows are
    matched by their names, so their order says nothing. Of a secret only the fact is told. What
    needs a restart isn't among them.
    """
    return tuple(change.text for change in _walk(old, in_force(old, new)))


def needs_restart(old: Settings, new: Settings) -> tuple[str, ...]:
    """The paths of what differs in ``new`` and can't be changed in a process that runs."""
    return tuple(change.path for change in _walk(in_force(old, new), new))


def in_force(old: Settings, new: Settings) -> Settings:
    """``new``, with what needs a restart as it is in ``old``: what a process then works by."""
    update: dict[str, Any] = {name: getattr(old, name) for name in _FIXED[""]}
    for section in filter(None, _FIXED):
        before = getattr(old, section)
        kept = {name: getattr(before, name) for name in _FIXED[section]}
        if section == "server" and (before.tls is None) != (new.server.tls is None):
            # Files are read again; whether it is HTTPS at all was decided with the listener.
            kept["tls"] = before.tls
        update[section] = getattr(new, section).model_copy(update=kept)
    return new.model_copy(update=update)


def _walk(old: Settings, new: Settings) -> Iterator[_Change]:
    for name in Settings.model_fields:
        one, other = getattr(old, name), getattr(new, name)
        if name == "models":
            yield from _rows(name, _by_route(one), _by_route(other), "models[{}]")
        elif name == "keys":
            yield from _rows(name, _by_name(one), _by_name(other), "keys.{}")
        else:
            yield from _differences(name, one, other)


def _by_route(rows: Iterable[ModelSettings]) -> dict[str, Any]:
    return {f"{row.name} → {row.target}": row for row in rows}


def _by_name(rows: Iterable[KeySettings]) -> dict[str, Any]:
    return {row.name: row for row in rows}


def _differences(path: str, old: Any, new: Any) -> Iterator[_Change]:
    if isinstance(old, BaseModel) or isinstance(new, BaseModel):
        one, other = _fields(old), _fields(new)
        for name in one | other:
            yield from _differences(f"{path}.{name}", one.get(name), other.get(name))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _rows(path, old, new, f"{path}.{{}}")
    elif old != new:
        yield _Change(path, f"{path}{_step(old, new)}")


def _rows(
    path: str, old: Mapping[str, Any], new: Mapping[str, Any], inside: str
) -> Iterator[_Change]:
    """Those that came, those that went, and what differs in those that stayed."""
    for name in new:
        if name not in old:
            yield _Change(inside.format(name), f"{path}: + {name}")
    for name, row in old.items():
        if name not in new:
            yield _Change(inside.format(name), f"{path}: - {name}")
        else:
            yield from _differences(inside.format(name), row, new[name])


def _fields(section: BaseModel | None) -> dict[str, Any]:
    """The values of a section; one that isn't given has none."""
    fields = {} if section is None else dict(section)
    if isinstance(section, KeySettings):
        fields["models"] = allowed_models(section)
    return fields


def _step(old: Any, new: Any) -> str:
    if _is_secret(old) or _is_secret(new):
        # No colon: in a log, what follows `api_key:` is taken for a secret and hidden.
        return " changed" if old and new else " added" if new else " removed"
    return f": {_shown(old)} → {_shown(new)}"


def _is_secret(value: Any) -> bool:
    many = value if isinstance(value, tuple) else (value,)
    return any(isinstance(each, SecretStr) for each in many)


def _shown(value: Any) -> str:
    text = _written(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _written(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, BaseModel):
        return f"{{{', '.join(f'{name}: {_written(part)}' for name, part in value)}}}"
    text = str(value)
    return text if text.isprintable() else repr(text)
