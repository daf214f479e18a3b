"""The net under the log lines: secrets become ``***``, whatever a value holds becomes plain JSON.

It is a net and not a licence: code should not log secrets in the first place.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

__all__ = ["HIDDEN", "Plain", "looks_safe", "names_look_safe", "plain_fields", "redact"]

HIDDEN = "***"

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]
"""What JSON can say."""

_SECRET_NAMES = frozenset(
    {
        "access_token",
        "api_key",
        "apikey",
        "auth_token",
        "authorization",
        "client_secret",
        "cookie",
        "passwd",
        "password",
        "private_key",
        "proxy_authorization",
        "refresh_token",
        "secret",
        "secret_access_key",
        "secret_key",
        "set_cookie",
        "token",
        "x_api_key",
        "x_goog_api_key",
    }
)

# A text without any of these (in lower case) has nothing for `redact` to find.
_MARKERS = (
    "sk-",
    "sk_",
    "hf_",
    "xai-",
    "aiza",
    "bearer",
    "authorization",
    "key",
    "passw",
    "secret",
    "token",
    "cookie",
    "://",
)

# "sk-" must not follow a letter (disk-, task-), unless that letter ends an escape (\n, %3d).
_KEY_SHAPES = re.compile(
    r"(?:(?:(?<![a-z])|(?<=\\[abfnrtv])|(?<=%[0-9A-Fa-f]{2}))(sk-(?:lp-|ant-)?)[A-Za-z0-9_\-]{4,}"
    r"|(AIza|gsk_|hf_|xai-)[A-Za-z0-9_\-]{8,})"
)
_BEARER = re.compile(r"(?i)(bearer(?:\s|%20|\\[nrt])+)[^\s\"',;\\]+")
_NAMED = re.compile(r"""(?ix)
    ( authorization | (?:set-)?cookie | (?:x-)?(?:goog-)?api[-_]?key | [?&]key
      | passw(?:or)?d | secret (?:[-_][a-z_-]{1,24})? | token )
    ( \\*["']? \s* [:=,] \s* b? \\*["'] | \s*[:=]\s* )
    ( (?:(?:basic|bearer|digest)\s+)? [^\s"'\\,;&}\])]+ )
    """)
_URL_PASSWORD = re.compile(r"(://)[^/\s:@\"']{0,256}:[^/\s@\"']{1,1024}@")

_MAX_DEPTH = 8
_MAX_NODES = 1_000
_MAX_ITEMS = 100
_MAX_TEXT = 16_384
_MAX_INTEGER = 2**63
_SPEAKING = (date, time, timedelta, Decimal, PurePath, UUID)
_LITERAL = frozenset({int, float, bool, type(None)})


def redact(text: str) -> str:
    """The text with everything that has a secret's shape replaced by ``***``.

    Shapes: provider keys (``sk-…``, ``sk-ant-…``, ``AIza…``, …), our own keys (``sk-lp-…``),
    ``Bearer …``, ``password=…`` and its kin, passwords in URLs. What kind of secret it was stays
    readable.
    """
    text = _KEY_SHAPES.sub(lambda found: f"{found[1] or found[2]}{HIDDEN}", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    text = _NAMED.sub(rf"\1\2{HIDDEN}", text)
    return _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text)


def looks_safe(text: str) -> bool:
    """Whether a text surely has nothing to hide and isn't long; False means: look closely."""
    if len(text) > _MAX_TEXT:
        return False
    lowered = text.lower()
    for marker in _MARKERS:  # noqa: SIM110 - any() over a generator costs three times as much
        if marker in lowered:
            return False
    return True


@functools.lru_cache(maxsize=512)
def names_look_safe(names: tuple[str, ...]) -> bool:
    """Whether no field has a secret's name. Few sets of names make up all lines: remembered."""
    return not any(_is_secret_name(name) or redact(name) != name for name in names)


def plain_fields(fields: Mapping[str, object]) -> dict[str, Plain]:
    """The fields as plain JSON values without secrets; never raises, always ends."""
    return _Walk().mapping(fields, 0)


def _is_secret_name(name: str) -> bool:
    return name.lower().replace("-", "_") in _SECRET_NAMES


def _encodable(text: str) -> str:
    """The text with lone surrogates written out: no encoding has them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _hidden(text: str) -> str:
    text = _encodable(text)
    if looks_safe(text):
        return text
    rest = len(text) - _MAX_TEXT
    if rest <= 0:
        return redact(text)
    # Cut first, or a body of megabytes would be searched; the margin is for a secret on the edge.
    return f"{redact(text[: _MAX_TEXT + 512])[:_MAX_TEXT]}… ({rest} characters more)"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return value[: 2 * _MAX_TEXT].decode("utf-8", "backslashreplace")
    try:
        if isinstance(value, BaseException):
            return f"{type(value).__name__}: {value}"
        return str(value) if isinstance(value, _SPEAKING) else repr(value)
    except Exception:  # noqa: BLE001 - a value's own __repr__ must not cost the line
        return f"<{type(value).__name__}>"


class _Walk:
    """One walk over one line's values, bounded in depth and in how many values it looks at."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MAX_NODES

    def value(self, value: object, depth: int) -> Plain:
        self._left -= 1
        if type(value) is int and not -_MAX_INTEGER <= value < _MAX_INTEGER:
            return _hidden(f"{value:#x}")  # in hexadecimal: the decimal form has a limit of its own
        if type(value) in _LITERAL:
            return value  # type: ignore[return-value]
        if isinstance(value, Enum):
            return self.value(value.value, depth + 1)
        if isinstance(value, str):
            return _hidden(str.__str__(value))
        if depth >= _MAX_DEPTH or self._left <= 0:
            return "…"
        fields = _fields_of(value)
        if fields is not None:
            return self.mapping(fields, depth + 1)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._items(value, depth + 1)
        return _hidden(_text(value))

    def mapping(self, fields: Mapping[Any, object], depth: int) -> dict[str, Plain]:
        plain: dict[str, Plain] = {}
        try:
            for name, value in fields.items():
                if depth and len(plain) >= _MAX_ITEMS:
                    plain["…"] = f"{len(fields) - _MAX_ITEMS} more"
                    break
                key = _text(name)
                plain[_hidden(key)] = HIDDEN if _is_secret_name(key) else self.value(value, depth)
        except Exception as error:  # noqa: BLE001 - it may be somebody's own, or change
            plain["unreadable"] = type(error).__name__
        return plain

    def _items(
        self, items: list[object] | tuple[object, ...] | set[object] | frozenset[object], depth: int
    ) -> Plain:
        if isinstance(items, tuple) and len(items) == 2 and isinstance(items[0], (str, bytes)):
            name = _text(items[0])  # a header as ASGI has it
            if _is_secret_name(name):
                return [name, HIDDEN]
        plain = [self.value(item, depth) for item in itertools.islice(tuple(items), _MAX_ITEMS)]
        if len(items) > _MAX_ITEMS:
            plain.append(f"… ({len(items) - _MAX_ITEMS} more)")
        return plain


def _fields_of(value: object) -> Mapping[Any, object] | None:
    if isinstance(value, Mapping):
        return value
    try:
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {
                field.name: getattr(value, field.name)
                for field in dataclasses.fields(value)
                if field.repr
            }
    except Exception:  # noqa: BLE001 - a half-built object: its repr has to do
        return None
    return None
