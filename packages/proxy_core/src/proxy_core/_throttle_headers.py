"""What providers say in their headers about how much they will still take.

Two forms: ``x-ratelimit-remaining-requests: 59`` with a reset like ``6m0s`` (OpenAI, Azure, Groq,
OpenRouter and most others), ``anthropic-ratelimit-input-tokens-remaining: 0`` with a reset like
``2026-01-31T12:00:00Z``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

__all__ = ["Quota", "read_quotas"]

_OPENAI: Final = re.compile(rb"x-ratelimit-(limit|remaining|reset)(?:-(.+))?")
_ANTHROPIC: Final = re.compile(rb"anthropic-ratelimit-(.+)-(limit|remaining|reset)")
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|us|µs|ns|s|m|h|d)")
_UNITS: Final = {
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_EPOCH: Final = 1e9
"""No wait is so long: a larger number of seconds is a date, a thousand times larger one in ms."""
_LONGEST: Final = 30 * 86_400.0


class Quota(msgspec.Struct, frozen=True):
    """How much of one kind an upstream will still take."""

    kind: str
    """``requests``, ``tokens``, ``input-tokens``, ``output-tokens``, …"""
    remaining: float
    limit: float | None = None
    reset: float | None = None
    """Seconds until all of it is back."""

    @property
    def share(self) -> float:
        """What remains of the whole, from 0 to 1; without a known limit 1, or 0 of nothing."""
        if self.limit is None:
            return 1.0 if self.remaining else 0.0
        return min(1.0, self.remaining / self.limit)


def read_quotas(headers: Iterable[tuple[bytes, bytes]], now: float) -> list[Quota]:
    """The quotas that an answer tells of. Names are lower-case, ``now`` is the time since 1970.

    What isn't understood, and what is -1 (Azure's unknown), is left out.
    """
    found: dict[bytes, dict[bytes, str]] = {}
    for name, value in headers:
        if b"-ratelimit-" not in name:
            continue
        if matched := _OPENAI.fullmatch(name):
            field, kind = matched[1], matched[2] or b"requests"
        elif matched := _ANTHROPIC.fullmatch(name):
            kind, field = matched[1], matched[2]
        else:
            continue
        found.setdefault(kind, {})[field] = value.decode("latin-1").strip()
    quotas = []
    for kind, fields in found.items():
        remaining, limit = _amount(fields.get(b"remaining")), _amount(fields.get(b"limit"))
        if remaining is not None:
            reset = _seconds(fields.get(b"reset", ""), now)
            quotas.append(Quota(kind.decode("latin-1"), remaining, limit or None, reset))
    return quotas


def _amount(text: str | None) -> float | None:
    if text is None or not _NUMBER.fullmatch(text):
        return None
    amount = float(text)
    return amount if amount >= 0 else None


def _seconds(text: str, now: float) -> float | None:
    """A number of seconds, a Go duration, a date since 1970 or one of RFC 3339."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= _EPOCH:
            number = (number / 1000 if number >= _EPOCH * 1000 else number) - now
        return _bounded(number)
    parts = _DURATION.findall(text)
    if parts and "".join(amount + unit for amount, unit in parts) == text:
        return _bounded(math.fsum(float(amount) * _UNITS[unit] for amount, unit in parts))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _bounded((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST)
