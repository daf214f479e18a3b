"""How deep JSON is nested, without building it.

Text is most of a body, and brackets inside of it are no structure. So strings are passed over by
the decoder, and brackets are counted only where there are containers that could be deep.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

import msgspec

__all__ = [
    "LARGE",
    "MAX_DEPTH",
    "SHALLOW",
    "TOO_DEEP",
    "TooDeep",
    "check_brackets",
    "check_depth",
    "has_few_brackets",
]

MAX_DEPTH: Final = 128
"""Nesting that we accept; the decoders' own limits differ by Python version (900 to 5,000)."""

SHALLOW: Final = 2 * MAX_DEPTH
"""Bytes that can't be deeper: each level takes two."""

TOO_DEEP: Final = f"nested more than {MAX_DEPTH} levels deep"

MAX_MARKS: Final = 2 * 1024 * 1024
"""Brackets and quotes in one container that is read byte by byte: 40 ms."""

_LOOKS: Final = 4
"""How often a container is opened to look at its values apart; each reads its bytes again."""
_SMALL: Final = 64 * 1024
"""Bytes of a container that are copied to count brackets before it is opened."""
LARGE: Final = 1_500_000
"""Bytes that are opened whatever is in them; an opened container takes up to 40 times its bytes."""
_MANY_BRACES: Final = MAX_DEPTH // 4 * 3
"""Of the brackets that a body has, most are braces."""
_BRACE: Final = ord("{")
_BEGINNINGS: Final = frozenset(b"[{")
_SPARSE: Final = 16
"""Bytes for each value, on average, in what else is opened."""

_read_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_read_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_TO_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b'[]{}"'))
_QUOTED: Final = re.compile(rb'"[^"]*"')


class TooDeep(ValueError):
    """More levels than we accept, or so many brackets that counting them would take long."""


def check_brackets(raw: bytes) -> None:
    """Raises TooDeep where a large body is mostly brackets, before anything reads it."""
    most = len(raw) // 5
    if _has_more(raw, b"[", most) or _has_more(raw, b"{", most):
        raise TooDeep("more brackets than text")


def has_few_brackets(
    raw: bytes, braces: int = _MANY_BRACES, others: int = MAX_DEPTH - _MANY_BRACES
) -> bool:
    """Whether there are no more opening brackets than these, those in strings counted.

    Then ``raw`` can't be deeper than both together: without any, than MAX_DEPTH.
    """
    # Replacing leaps from one to the next, and ``count`` takes steps.
    if b"{" in raw.replace(b"{", b"\0", braces):
        return False
    return b"[" not in raw.replace(b"[", b"\0", others)


def check_depth(raw: bytes, fields: Mapping[str, msgspec.Raw]) -> None:
    """Raises TooDeep where this object, valid JSON with these fields, has over MAX_DEPTH levels.

    For what hasn't few brackets: it takes long.
    """
    # A value that is nearly all of it has nearly all of its brackets.
    small = min(_SMALL, len(raw) // 8 * 7)
    _check_all(fields.values(), MAX_DEPTH - 1, _LOOKS if _may_open(raw) else 0, small)


def _check_all(values: Iterable[msgspec.Raw], levels: int, looks: int, small: int = _SMALL) -> None:
    short = 2 * levels  # each level takes two bytes
    for value in values:
        if len(value) > short and memoryview(value)[0] in _BEGINNINGS:
            _check(value, levels, looks, small)


def _check(value: msgspec.Raw, levels: int, looks: int, small: int) -> None:
    """``value`` is an array or an object; below ``small`` bytes its brackets are counted first."""
    if len(value) < small and has_few_brackets(bytes(value), levels - levels // 4, levels // 4):
        return
    if not looks:
        _check_by_marks(bytes(value), levels)
    elif memoryview(value)[0] == _BRACE:
        _check_all(_read_fields(value).values(), levels - 1, looks - 1)
    else:
        _check_items(value, levels, looks)


def _check_items(value: msgspec.Raw, levels: int, looks: int) -> None:
    try:
        for row in _read_rows(value):
            _check_all(row.values(), levels - 2, looks - 1)
    except msgspec.ValidationError:
        _check_all(_read_items(value), levels - 1, looks - 1)


def _may_open(raw: bytes) -> bool:
    most = len(raw) // _SPARSE
    return len(raw) <= LARGE or not any(_has_more(raw, mark, most) for mark in (b"{", b":", b","))


def _has_more(raw: bytes, mark: bytes, most: int) -> bool:
    return mark in raw.replace(mark, b"\0", most)


def _check_by_marks(raw: bytes, levels: int) -> None:
    # Escapes go first, then all but quotes and brackets, then strings: what is left is bare
    # structure, one step up or down a byte. Two quotes in a row open nothing that they don't close.
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = raw.translate(_TO_STEPS, _NOT_STRUCTURE)
    if len(marks) > MAX_MARKS:
        raise TooDeep(f"more than {MAX_MARKS} brackets and quotes in one value")
    marks = marks.replace(b'""', b"")
    steps = memoryview(_QUOTED.sub(b"", marks)).cast("b")
    if max(accumulate(steps), default=0) > levels:
        raise TooDeep(TOO_DEEP)
