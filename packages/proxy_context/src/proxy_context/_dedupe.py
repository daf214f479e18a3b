"""Blocks of lines that were said before, replaced by a line that says where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxy_context.errors import ReferenceBroken

__all__ = ["LineDedupe", "expand_texts"]

_MARK = " identical to lines "
_REFERENCE = (
    r"\[(\d{1,9}) lines identical to lines (\d{1,9})-\d{1,9} of tool result (\d{1,9}) above\]"
)
_PLAIN = re.compile(_REFERENCE, re.ASCII)
_ESCAPABLE = re.compile(r"\\*" + _REFERENCE, re.ASCII)

_LINE_COST = 300
"""Bytes that a remembered line costs beside its characters: string, window, dict slot, place."""

Place = tuple[int, int]
"""A text's number among the tool results and a line in it, both from 0."""


class LineDedupe:
    """Fed with texts in their order, it gives each back with the repeated blocks replaced.

    What it makes of a text depends on that text and those before it, never on what follows.
    Blocks are found through windows of ``min_lines`` lines, each remembered where it first stood;
    a match grows line by line. Time is linear in the text. What is remembered holds no more than
    about ``max_bytes``: texts that come when it is full may refer to others but not be referred
    to, and one that alone is larger is left as it is.
    """

    def __init__(self, min_lines: int, min_chars: int, max_bytes: int) -> None:
        self._min_lines = min_lines
        self._min_chars = min_chars
        self._max_bytes = self._room = max_bytes
        self._texts: list[list[str]] = []
        self._windows: dict[tuple[str, ...], Place] = {}
        self._wholes: dict[str, int] = {}

    def feed(self, text: str) -> str:
        """The text to send in place of ``text``, which may be ``text`` itself."""
        escaped = _escape(text)
        if _cost(escaped) > self._max_bytes:
            # Still counted, here and below, so that the numbers of those that follow are right.
            self._texts.append([])
            return escaped
        lines = escaped.split("\n")
        sent = self._replace_whole(escaped, len(lines)) or self._replace_blocks(lines)
        if sent is None:
            self._remember(escaped, lines)
            if len(escaped) >= self._min_chars and self._texts[-1]:
                self._wholes[escaped] = len(self._texts) - 1
            return escaped
        condensed = "\n".join(sent)
        self._remember(condensed, sent)
        return condensed

    def _replace_whole(self, escaped: str, length: int) -> list[str] | None:
        number = self._wholes.get(escaped)
        reference = "" if number is None else _refer((number, 0), length)
        return [reference] if 0 < len(reference) < len(escaped) else None

    def _replace_blocks(self, lines: list[str]) -> list[str] | None:
        if self._windows.keys().isdisjoint(self._windows_of(lines)):
            return None
        windows = list(self._windows_of(lines))
        sent: list[str] = []
        at = 0
        while at < len(lines):
            place = self._windows.get(windows[at]) if at < len(windows) else None
            length = self._worth(lines, at, place) if place is not None else 0
            if place is not None and length:
                sent.append(_refer(place, length))
                at += length
            else:
                sent.append(lines[at])
                at += 1
        return sent if len(sent) < len(lines) else None

    def _worth(self, lines: list[str], at: int, place: Place) -> int:
        """How many lines from ``at`` on stand at ``place``, or 0 when too little would be saved."""
        source, start = self._texts[place[0]], place[1]
        most = min(len(lines) - at, len(source) - start)
        length = self._min_lines
        while length < most and lines[at + length] == source[start + length]:
            length += 1
        chars = sum(map(len, lines[at : at + length])) + length
        return length if chars >= max(self._min_chars, len(_refer(place, length)) + 1) else 0

    def _remember(self, text: str, lines: list[str]) -> None:
        number, cost = len(self._texts), _cost(text)
        if cost > self._room:
            self._texts.append([])
            return
        self._room -= cost
        self._texts.append(lines)
        for start, window in enumerate(self._windows_of(lines)):
            self._windows.setdefault(window, (number, start))

    def _windows_of(self, lines: list[str]) -> Iterator[tuple[str, ...]]:
        return zip(*(lines[start:] for start in range(self._min_lines)), strict=False)


def expand_texts(texts: list[str]) -> list[str]:
    """The texts that were fed, from the texts that came out. Raises ReferenceBroken."""
    sent = [text.split("\n") for text in texts]
    return [
        "\n".join(_restore(sent, number)) if _MARK in text else text
        for number, text in enumerate(texts)
    ]


def _restore(sent: list[list[str]], number: int) -> list[str]:
    lines: list[str] = []
    for line in sent[number]:
        match = _PLAIN.fullmatch(line) if _MARK in line else None
        if match is None:
            lines.append(line)
            continue
        length, first, source = (int(digits) for digits in match.groups())
        block = (
            sent[source - 1][first - 1 : first - 1 + length]
            if 0 < source <= number and first
            else []
        )
        if len(block) != length:
            raise ReferenceBroken(
                f"tool result {number + 1} refers to {length} lines from line {first} of tool "
                f"result {source}, which are not there: expand the whole conversation, condensed"
            )
        lines.extend(block)
    return [line[1:] if _is_escaped(line) else line for line in lines]


def _cost(text: str) -> int:
    return len(text) + _LINE_COST * (text.count("\n") + 1)


def _refer(place: Place, length: int) -> str:
    number, start = place[0] + 1, place[1] + 1
    return f"[{length} lines{_MARK}{start}-{start + length - 1} of tool result {number} above]"


def _escape(text: str) -> str:
    """A line that reads like a reference gets a backslash in front, one more if it has some."""
    if _MARK not in text:
        return text
    return "\n".join(
        "\\" + line if _ESCAPABLE.fullmatch(line) else line for line in text.split("\n")
    )


def _is_escaped(line: str) -> bool:
    return line.startswith("\\") and _ESCAPABLE.fullmatch(line) is not None
