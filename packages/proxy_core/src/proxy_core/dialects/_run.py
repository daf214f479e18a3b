"""A run of events that differ in one text: taken as one piece, without reading each.

The chunks of an answer repeat each other but for their text. From one event that was read strictly
a ``Form`` is learned: its bytes before and after the text. What consists of those same bytes around
other valid JSON strings is the same event with another text, so nothing in it needs to be read
again. Whatever differs in one byte is no part of a run and goes the strict way.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Form", "Run", "is_text"]

_END: Final = b"\0"
"""Stands after each text while they are checked; raw, neither mark occurs in JSON."""
_NOISE: Final = b"\1"
"""Stands between a text and its noise."""
_MARK: Final = 24
"""Bytes of what stands before a text that it is found by: a short needle is found faster."""

# The inside of JSON strings. Surrogates come in pairs or not at all.
_TEXTS: Final = re.compile(
    rb'[^"\\\x01-\x1f]*+'
    rb'(?:\\(?:["\\/bfnrt]|u(?:[0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}'
    rb"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
    rb'[^"\\\x01-\x1f]*+)*+'
)
# One text, then what stands between it and its noise, and the noise; or nothing. All in one line:
# of a read with many events no more than the first one is looked at.
_INNER: Final = re.compile(
    b"(" + _TEXTS.pattern.replace(rb"\x01", rb"\x00") + rb')(".*"(?=[0-9A-Za-z])|)[0-9A-Za-z]*+'
).fullmatch
_NOISES: Final = re.compile(rb"\x01[0-9A-Za-z]*+\x00")
_QUOTE: Final = b'"'

Run = tuple[bytes, int, int]
"""Some events: what goes on to the client, where in the buffer they end, and the bytes of JSON of
their texts (an empty one says nothing). No class: one is made for each read."""


Lone = tuple[bytes, int]
"""One event: what goes on to the client, and the bytes of its text, without the quotes."""


class Form:
    """What is the same in like events, on the upstream's side and on the client's."""

    __slots__ = (
        "_after",
        "_joint",
        "_keep",
        "_mark",
        "_middle",
        "_new",
        "_new_joint",
        "_noise_after",
        "_told",
        "before",
    )

    def __init__(self, told: list[bytes], passed: list[bytes], noise_after: bytes) -> None:
        self.before, self._after = told
        self._told = told
        self._middle = slice(len(self.before), -len(self._after))
        self._joint = self._after + self.before
        self._mark = self.before[-_MARK:]
        self._keep = len(self._joint) - len(self._mark)
        self._new = passed
        self._new_joint = passed[1] + passed[0]
        self._noise_after = noise_after
        """What stands between the text and a second string that differs too; or empty."""

    @classmethod
    def of(cls, told: bytes, passed: bytes, text: bytes, noise: bytes) -> Form | None:
        """The form of an event and of what the client gets for it; None where it can't be told.

        ``text`` is the JSON string of its text. ``noise`` is another one or empty; where it isn't
        plain, or stands before the text, it is a part of the form.
        """
        if told.find(b"\n") != len(told) - 2 or b"\r" in told or told[-1:] != b"\n":
            return None
        parts, new = _around(told, text), _around(passed, text)
        if parts is None or new is None:
            return None
        if noise[1:-1].isalnum():
            rest, new_rest = _around(parts[1], noise), _around(new[1], noise)
            if rest is not None and new_rest is not None and rest[0] == new_rest[0]:
                return cls([parts[0], rest[1]], [new[0], new_rest[1]], rest[0])
        return cls(parts, new, b"")

    def lone(self, data: bytes) -> Lone | None:
        """One such event that is all of ``data``; None where it is none, or not all."""
        inner = data[self._middle]
        match = _INNER(inner)
        if match is None or match[2] != self._noise_after:
            return None
        # Last, since a long read is no single event, and is copied here.
        if inner.join(self._told) != data:
            return None
        if not (inner.isascii() or is_text(inner)):
            return None
        return inner.join(self._new), match.end(1)

    def run(self, buffer: bytes, at: int) -> Run | None:
        """The run that begins at ``at``, where ``before`` stands; None where none is to be seen."""
        start = at + len(self.before)
        *inner, last = buffer[start:].split(self._mark)
        if not inner:
            return self._single(last, start)
        keep = self._keep
        items = [part[:-keep] for part in inner]
        if not buffer.startswith(self._joint.join([*items, b""]), start):
            items, last = self._cut(inner)
        ending = self._item(last)
        if ending is not None:
            items.append(ending)
        said = self._size(items) if items else -1
        if said < 0:
            return None
        before, after = self._new
        passed = before + self._new_joint.join(items) + after
        return passed, at + sum(map(len, items)) + len(items) * len(self._joint), said

    def _single(self, last: bytes, start: int) -> Run | None:
        item = self._item(last)
        if item is None:
            return None
        text = item.partition(self._noise_after)[0] if self._noise_after else item
        if _END in text or not is_text(text):
            return None
        if text is not item and not item[len(text) + len(self._noise_after) :].isalnum():
            return None
        before, after = self._new
        end = start + len(item) + len(self._after)
        return before + item + after, end, len(text) + 2 if text else 0

    def _cut(self, inner: list[bytes]) -> tuple[list[bytes], bytes]:
        """The items before the first event of another form, and the part that this one begins."""
        closing = self._joint[: self._keep]
        number = next(
            (number for number, part in enumerate(inner) if not part.endswith(closing)), 0
        )
        return [part[: -self._keep] for part in inner[:number]], inner[number]

    def _item(self, last: bytes) -> bytes | None:
        """The text of the last event, and its noise; None where it is not whole."""
        end = _end_of_text(last)
        if self._noise_after:
            if not last.startswith(self._noise_after, end):
                return None
            end = last.find(_QUOTE, end + len(self._noise_after))
        return last[:end] if last.startswith(self._after, end) else None

    def _size(self, items: list[bytes]) -> int:
        """Bytes of JSON that say something; -1 where one is not the inside of a strict string."""
        texts = _END.join([*items, b""])
        count = len(items)
        if self._noise_after:
            if _NOISE in texts:
                return -1
            texts, found = _NOISES.subn(_END, texts.replace(self._noise_after, _NOISE))
            if found != count:
                return -1
        if not _TEXTS.fullmatch(texts) or texts.count(_END) != count or not is_text(texts):
            return -1
        silent = texts.split(_END).count(b"") - 1
        return len(texts) + count - 2 * silent


def _end_of_text(part: bytes) -> int:
    match = _TEXTS.match(part)
    return match.end() if match else 0


def is_text(raw: bytes) -> bool:
    """Whether these bytes are UTF-8."""
    try:
        return raw.isascii() or bool(raw.decode())
    except UnicodeDecodeError:
        return False


def _around(whole: bytes, text: bytes) -> list[bytes] | None:
    """What stands before and after the one place of a JSON string, with its quotes."""
    at = whole.find(text)
    if at < 0 or whole.find(text, at + 1) >= 0:
        return None
    return [whole[: at + 1], whole[at + len(text) - 1 :]]
