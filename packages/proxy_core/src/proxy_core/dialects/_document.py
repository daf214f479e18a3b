"""The top level of a JSON object, read strictly once and edited in place.

Every byte outside the edited values stays as it came: whitespace, the spelling of keys, big
integers, odd floats, unowned duplicates. msgspec alone would drop duplicate keys and let invalid
UTF-8 and any depth pass inside raw values, so all three are checked here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from proxy_core.dialects._depth import (
    LARGE,
    MAX_DEPTH,
    SHALLOW,
    TOO_DEEP,
    TooDeep,
    check_brackets,
    check_depth,
    has_few_brackets,
)

__all__ = ["MAX_DEPTH", "MAX_FIELDS", "Document", "MalformedDocument"]

MAX_FIELDS: Final = 1_000
"""Fields of the top level, repeated ones counted; each costs a step in Python."""

MAX_SKIPPED: Final = 256 * 1024
"""Bytes of all repeated values together: their ends are searched in Python, some 3 MB a second."""

_CHEAP: Final = 16 * 1024
"""Bytes that are sooner copied than reckoned with."""

_ROOMY: Final = 64 * 1024
"""Bytes that hold so many fields that they are counted while they are decoded."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_key = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
# Possessive, else each escape of a long string would leave a way back in memory.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_COLON: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_SCALAR: Final = re.compile(rb"[^,}\] \t\r\n]+")
_BRACKET_OR_STRING: Final = re.compile(rb'[\[\]{}]|"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BEGINNING: Final = re.compile(rb'\{([ \t\r\n]*)"[^"\\]*"(: ?)')
_BLANKS: Final = b" \t\r\n"
_ENDS_VALUE: Final = frozenset(b",} \t\r\n")


class MalformedDocument(ValueError):
    """The bytes are not the JSON object that they should be. ``key`` names the field at fault."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


_Layout = tuple[bytes, bytes, bytes, bytes]
"""What stands before the first key, between fields, between key and value, and at the end."""

_COMPACT: Final[_Layout] = (b"{", b",", b":", b"}")


class _Span(NamedTuple):
    key: str
    start: int
    end: int


class Document(msgspec.Struct, eq=False):
    """A JSON object by its top level: ``fields`` maps each key to the raw JSON of its value.

    Of keys that occur twice ``fields`` holds the last; ``parse`` refuses those that are owned.
    """

    raw: bytes
    fields: dict[str, msgspec.Raw]
    cleaned: tuple[msgspec.Raw, bytes] | None = None
    """An array, and what is left of it without what an upstream couldn't read."""
    _layout: _Layout | None = None
    """None also where nobody has looked yet."""

    __repr__ = object.__repr__  # what is in it belongs into no log

    @classmethod
    def parse(cls, raw: bytes, owned: Collection[str] = ()) -> Document:
        """Read the top level. Raises MalformedDocument for anything but valid JSON of that form."""
        try:
            if not raw.isascii():
                raw.decode()
            size = len(raw)
            fields = _decode(raw) if size < _ROOMY else _bounded(raw)
            if size > SHALLOW and not has_few_brackets(raw):
                check_depth(raw, fields)
        except TooDeep as error:
            raise MalformedDocument(str(error)) from None
        except UnicodeDecodeError as error:
            raise MalformedDocument(f"not valid UTF-8 at byte {error.start}") from None
        except msgspec.ValidationError as error:
            raise MalformedDocument(f"a JSON object was expected: {error}") from None
        except msgspec.DecodeError as error:
            raise MalformedDocument(f"not valid JSON: {error}") from None
        except RecursionError:
            raise MalformedDocument(TOO_DEEP) from None
        if len(fields) > MAX_FIELDS:
            raise _too_many()
        if not owned:
            return cls(raw, fields)
        layout = _layout_of(raw, fields)
        document = cls(raw, fields, None, layout)
        if layout is None:
            document._refuse_duplicates(owned)
        return document

    @classmethod
    def of(cls, value: Mapping[str, object]) -> Document:
        """A document of our own making, from plain values."""
        return cls.parse(_encode(value))

    def replaced(self, edits: Mapping[str, bytes]) -> bytes:
        """The bytes with these fields set to this JSON; missing fields are added at the end.

        Raises MalformedDocument where unowned fields are repeated at a length; never for a
        document that was parsed with owned ones.
        """
        if not edits:
            return self.raw
        layout = self._layout or _layout_of(self.raw, self.fields)
        if layout is _COMPACT:
            fields = self.fields.copy()
            for key, value in edits.items():
                fields[key] = msgspec.Raw(value)
            return _encode(fields)
        return self._spliced(edits) if layout is None else self._rewritten(edits, layout)

    def _rewritten(self, edits: Mapping[str, bytes], layout: _Layout) -> bytes:
        lead, comma, colon, tail = layout
        if added := self._added(edits):
            brace = tail.index(b"}")
            tail = b"%b,%b%b" % (tail[:brace], added, tail[brace:])
        fields = {key: edits.get(key, value) for key, value in self.fields.items()}
        return _written(fields, (lead, comma, colon, tail))

    def _added(self, edits: Mapping[str, bytes]) -> bytes:
        fresh = [(key, value) for key, value in edits.items() if key not in self.fields]
        return b",".join(_encode(key) + b":" + value for key, value in fresh)

    def _spliced(self, edits: Mapping[str, bytes]) -> bytes:
        pieces: list[bytes] = []
        at = 0
        for span in self._spans():
            if span.key in edits:
                pieces += (self.raw[at : span.start], edits[span.key])
                at = span.end
        added = self._added(edits)
        if added:
            brace = self.raw.rindex(b"}")
            pieces += (self.raw[at:brace], b"," if self.fields else b"", added)
            at = brace
        return b"".join((*pieces, self.raw[at:]))

    def _spans(self) -> Iterator[_Span]:
        """Where each value stands, duplicates included. The document is known to be valid JSON.

        Raises MalformedDocument where the repeated values are larger than MAX_SKIPPED.
        """
        raw = self.raw
        known: dict[str, bytes] = {}
        may_skip = MAX_SKIPPED
        at = _skip(_SPACE, raw, raw.index(b"{") + 1)
        while raw[at : at + 1] != b"}":
            key_end = _skip(_STRING, raw, at)
            key = _decode_key(raw[at:key_end])
            start = _skip(_COLON, raw, key_end)
            value = known.get(key)
            if value is None:
                value = known[key] = bytes(self.fields[key])
            end = start + len(value)
            if not raw.startswith(value, start) or raw[end] not in _ENDS_VALUE:
                end = _scan_value(raw, start, may_skip)
                may_skip -= end - start
                if may_skip < 0:
                    raise MalformedDocument(
                        "a key occurs twice with a value too large to skip; send it once", key=key
                    )
            yield _Span(key, start, end)
            at = _skip(_SPACE, raw, end)
            if raw[at : at + 1] == b",":
                at = _skip(_SPACE, raw, at + 1)

    def _refuse_duplicates(self, owned: Collection[str]) -> None:
        seen: Counter[str] = Counter()
        for number, span in enumerate(self._spans(), 1):
            seen[span.key] += 1
            if number > MAX_FIELDS:
                raise _too_many()
        for key in owned:
            if seen[key] > 1:
                raise MalformedDocument(
                    f"the key {key!r} occurs {seen[key]} times; send it once", key=key
                )


class _Key(str):
    """A key that passes through our hands while it is decoded."""

    __slots__ = ()


class _TooMany(Exception):
    """More fields than MAX_FIELDS. A ValueError msgspec would take for a key that is wrong."""


def _bounded(raw: bytes) -> dict[str, msgspec.Raw]:
    """As ``_decode``, for what is large: a million fields cost no more than MAX_FIELDS."""
    if len(raw) > LARGE:
        check_brackets(raw)
    left = MAX_FIELDS

    def count(_: type, key: str) -> _Key:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooMany
        return _Key(key)

    try:
        fields = msgspec.json.decode(raw, type=dict[_Key, msgspec.Raw], dec_hook=count)
    except _TooMany:
        raise _too_many() from None
    return {str(key): value for key, value in fields.items()}


def _layout_of(raw: bytes, fields: Mapping[str, msgspec.Raw]) -> _Layout | None:
    """How a document is laid out, where each of its fields is in the same way.

    None where it isn't, or where a key is repeated or escaped.
    """
    keys = "".join(fields)
    if not keys.isprintable():
        return None  # control characters could be escaped in two spellings of one length
    if len(raw) < _CHEAP and len(_encode(fields)) == len(raw):
        return _COMPACT
    if not keys.isascii() or '"' in keys or "\\" in keys:
        return None
    # Two quotes, a colon and a comma for each field; a last comma is none, two braces are there.
    # What is no longer has no whitespace and nothing that fields lacks.
    if len(raw) == len(keys) + sum(map(len, fields.values())) + 4 * len(fields) + 1:
        return _COMPACT
    match = _BEGINNING.match(raw)
    if match is None:
        return None
    lead, colon = match.groups()
    last = raw.rindex(b"}")
    while raw[last - 1] in _BLANKS:
        last -= 1
    comma = b"," + lead if lead or colon == b":" else b", "
    layout = (b"{" + lead, comma, colon, raw[last:])
    return layout if _written(fields, layout) == raw else None


def _written(fields: Mapping[str, msgspec.Raw | bytes], layout: _Layout) -> bytes:
    lead, comma, colon, tail = layout
    pieces: list[msgspec.Raw | bytes] = []
    for key, value in fields.items():
        pieces += (comma, b'"%b"' % key.encode(), colon, value)
    pieces[0] = lead
    pieces.append(tail)
    return b"".join(pieces)


def _skip(pattern: re.Pattern[bytes], raw: bytes, at: int) -> int:
    match = pattern.match(raw, at)
    return match.end() if match else at


def _scan_value(raw: bytes, start: int, at_most: int) -> int:
    """The end of a value whose length isn't known: an earlier one of duplicate keys.

    Where it is larger than ``at_most``, some place beyond that.
    """
    first = raw[start : start + 1]
    if first == b'"':
        return _skip(_STRING, raw, start)
    if first not in (b"[", b"{"):
        return _skip(_SCALAR, raw, start)
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(raw, start):
        if token[0] in (b"[", b"{"):
            depth += 1
        elif token[0] in (b"]", b"}"):
            depth -= 1
        if depth == 0 or token.end() - start > at_most:
            return token.end()
    raise MalformedDocument("a value has no end")


def _too_many() -> MalformedDocument:
    return MalformedDocument(f"more than {MAX_FIELDS} fields")
