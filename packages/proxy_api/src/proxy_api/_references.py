"""Values that live elsewhere: ``${VAR}``, ``${VAR:-default}``, ``file:/path``, ``credential:NAME``.

The last two stand for a whole value, of a secret setting only. What they lead to never appears in
an error: a problem names the setting and the variable, the file or the credential.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from proxy_api._settings_errors import Path, Problem, dotted

__all__ = ["Resolved", "is_secret", "resolve", "variables"]

_MAX_SECRET_BYTES = 65536
_SHORTEST_SECRET = 4

_TOKEN = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_EXPRESSION = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_.@-]+")
_ELSEWHERE = ("file:", "credential:")

_SECRET_SHAPES: tuple[tuple[str, ...], ...] = (
    ("providers", "*", "api_key"),
    ("providers", "*", "api_keys"),
    ("providers", "*", "api_keys", "*"),
    ("providers", "*", "headers", "*"),
    ("providers", "*", "proxy"),
    ("keys", "*", "key"),
    ("redis",),
    ("database",),
)

_FORMS = "Write ${NAME} or ${NAME:-default}; $${ is a literal ${"


def is_secret(path: Path) -> bool:
    """Whether the setting at ``path`` holds a secret: its value is never shown."""
    return any(
        len(shape) == len(path)
        and all(want in ("*", part) for want, part in zip(shape, path, strict=True))
        for shape in _SECRET_SHAPES
    )


@dataclass(slots=True)
class Resolved:
    """A configuration with its references replaced."""

    data: Any
    problems: list[Problem] = field(default_factory=list)
    borrowed: set[Path] = field(default_factory=set)
    """Where a value came from elsewhere: as private as a secret's."""
    failed: set[Path] = field(default_factory=set)
    """Where a reference led nowhere: the value there is an empty text."""
    values: set[str] = field(default_factory=set)
    """What came from elsewhere, but for texts that are too short to be a secret."""


class _Missing(Exception):
    """A reference that leads nowhere: what is wrong, and the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def resolve(data: Any, environ: Mapping[str, str]) -> Resolved:
    """Replace every reference in the texts of ``data`` (its values, never its names)."""
    out = Resolved(data)
    out.data = _walk(data, (), environ, out)
    out.values.update(environ.get(name, "") for name in variables(data))
    out.values = {value for value in out.values if len(value) >= _SHORTEST_SECRET}
    return out


def _walk(value: Any, path: Path, environ: Mapping[str, str], out: Resolved) -> Any:
    # Texts first, dict before Mapping: a thousand keys are nine thousand values.
    if isinstance(value, str):
        is_plain = "${" not in value and not value.startswith(_ELSEWHERE)
        return value if is_plain else _text(value, path, environ, out)
    if isinstance(value, dict | Mapping):
        return {name: _walk(item, (*path, name), environ, out) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(item, (*path, i), environ, out) for i, item in enumerate(value)]
    return value


def _text(text: str, path: Path, environ: Mapping[str, str], out: Resolved) -> str:
    try:
        found = _fetched(text, path, environ)
    except _Missing as missing:
        out.problems.append(Problem(dotted(path), missing.message, missing.hint))
        out.failed.add(path)
        return ""
    if found != text:
        out.borrowed.add(path)
        out.values.add(found)
    return found


def _fetched(text: str, path: Path, environ: Mapping[str, str]) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in ("file", "credential"):
        return _expand(text, environ)
    if not is_secret(path):
        return _expand(text, environ)
    rest = _expand(rest, environ)
    return _from_file(rest) if scheme == "file" else _from_credential(rest, environ)


def _expand(text: str, environ: Mapping[str, str]) -> str:
    if "${" not in text:
        return text

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        expression = _EXPRESSION.fullmatch(match[1] or "")
        if expression is None:
            raise _Missing("a reference that can't be read", _FORMS)
        name, default = expression.groups()
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise _Missing(
                f"the environment variable {name} is not set",
                f"Set it, or give a default: ${{{name}:-…}}",
            )
        return value

    return _TOKEN.sub(replacement, text)


def _from_file(name: str) -> str:
    path = FilePath(name)
    if not path.is_absolute():
        raise _Missing(f"file:{name} is not an absolute path", "Write file:/path/to/the/secret")
    return _secret_text(path, f"the file {name}")


def _from_credential(name: str, environ: Mapping[str, str]) -> str:
    if not _CREDENTIAL_NAME.fullmatch(name) or name in (".", ".."):
        raise _Missing(
            f"credential:{name} is not a credential's name",
            "Write credential:NAME, with letters, digits and _ . @ - only",
        )
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise _Missing(
            f"the credential {name} can't be had: $CREDENTIALS_DIRECTORY is not set",
            "systemd sets it for a unit with LoadCredential=; to check a configuration by hand: "
            "CREDENTIALS_DIRECTORY=/etc/proxy/credentials. Elsewhere use file:/path",
        )
    by_name = FilePath(directory) / name
    # What LoadCredential=proxy:/etc/proxy/credentials in the unit makes of the file NAME.
    by_folder = FilePath(directory) / f"proxy_{name}"
    return _secret_text(
        by_folder if _is_there(by_folder) and not _is_there(by_name) else by_name,
        f"the credential {name}",
        f"Put it into the file /etc/proxy/credentials/{name} and restart, "
        f"or add LoadCredential={name}:/path to the unit",
    )


def _is_there(path: FilePath) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that may not be read: opening the file says so
        return False


def _secret_text(path: FilePath, what: str, hint: str = "") -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "it can't be read"
        raise _Missing(f"{what} can't be read: {reason}", hint) from None
    if len(raw) > _MAX_SECRET_BYTES:
        raise _Missing(f"{what} is larger than 64 KiB: not a secret")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise _Missing(f"{what} is not UTF-8 text")
    text = text.rstrip("\r\n")
    if not text:
        raise _Missing(f"{what} is empty")
    return text


def variables(data: Any) -> set[str]:
    """The names of the environment variables that ``data`` refers to."""
    found: set[str] = set()
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if "${" in value:
                found.update(_VARIABLE.findall(value))
        elif isinstance(value, list | tuple):
            pending += value
        elif isinstance(value, Mapping):
            pending += value.values()
    return found
