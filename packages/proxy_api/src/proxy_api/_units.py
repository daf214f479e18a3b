"""Durations and sizes as people write them. Each parser's error shows the accepted forms."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["parse_duration", "parse_size"]

_SECONDS: Mapping[str, float] = MappingProxyType(
    {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
)
_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "b": 1,
        "kb": 10**3,
        "mb": 10**6,
        "gb": 10**9,
        "kib": 2**10,
        "mib": 2**20,
        "gib": 2**30,
    }
)

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)")

_DURATION_FORMS = "a duration is a number of seconds or text such as 250ms, 30s, 5m, 1h30m or 1d"
_SIZE_FORMS = "a size is a number of bytes or text such as 512KB, 32MB or 64MiB"


def parse_duration(value: object) -> float:
    """Seconds of ``"300s"``, ``"5m"``, ``"1h30m"``, ``"250ms"``, ``300`` or ``"300"``.

    Raises ``ValueError``, which shows the accepted forms.
    """
    if isinstance(value, str):
        seconds = _duration_of_text(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        seconds = None
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(_DURATION_FORMS)
    return seconds


def _duration_of_text(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def parse_size(value: object) -> int:
    """Bytes of ``"32MB"`` (powers of ten), ``"64MiB"`` (powers of two), ``1024`` or ``"1024"``.

    Raises ``ValueError``, which shows the accepted forms.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = value.strip() if isinstance(value, str) else ""
    if text.isascii() and text.isdigit():
        return int(text)
    match = _SIZE.fullmatch(text)
    factor = _BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(_SIZE_FORMS)
    return round(float(match[1]) * factor)
