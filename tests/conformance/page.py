"""The matrix as the page shows it, and the command that writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from .checks import played
from .expected import CANT, COLUMNS, FEATURES, NOTES, ROWS, Cell, Note, cells, note_of
from .stage import opened

__all__ = ["PAGE", "main", "rendered", "shown", "wanted", "written"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "providers.md"
_BEGIN: Final = "<!-- the matrix: written by `python tests/conformance/matrix.py --write` -->"
_END: Final = "<!-- the end of the matrix -->"
_NAMES: Final = {
    "chat": "OpenAI's chat",
    "responses": "Responses",
    "messages": "Anthropic",
    "gemini": "Gemini",
    "bedrock": "Bedrock",
}
_SDKS: Final = {
    "chat": "`openai`, chat",
    "responses": "`openai`, Responses",
    "messages": "`anthropic`",
    "gemini": "`google-genai`",
}
_WIDTH: Final = 130
_INTRO: Final = Path(__file__).with_name("intro.md")


def wanted(cell: Cell) -> str:
    """What is expected of it."""
    return "can't" if note_of(CANT, cell) else "✓"


def rendered(results: Mapping[Cell, str]) -> str:
    """The part of the page that shows these results."""
    numbers: dict[Note, int] = {}
    tables = [_table(row, results, numbers) for row in ROWS]
    notes = [_remark(note, number) for note, number in numbers.items()]
    return "\n".join([_BEGIN, "", _INTRO.read_text(), *tables, *notes, "", _END, ""])


def _remark(note: Note, number: int) -> str:
    line = f"{number}. {note.text}: <{note.page}>"
    return line if len(line) <= _WIDTH else line.replace(": <", ":\n   <")


def _table(row: str, results: Mapping[Cell, str], numbers: dict[Note, int]) -> str:
    heads = [f"{_SDKS[row]} asks", *(_NAMES[column] for column in COLUMNS)]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for feature in FEATURES:
        shown_cells = [_cell(Cell(feature, row, column), results, numbers) for column in COLUMNS]
        lines.append(_line([feature, *shown_cells]))
    return "\n".join([*lines, ""])


def _line(cells_of_it: list[str]) -> str:
    return f"| {' | '.join(cells_of_it)} |"


def _cell(cell: Cell, results: Mapping[Cell, str], numbers: dict[Note, int]) -> str:
    result = results[cell]
    notes = note_of(CANT, cell)[:1] if result == "can't" else note_of(NOTES, cell)
    told = ", ".join(str(numbers.setdefault(note, len(numbers) + 1)) for note in notes)
    return f"{result} ({told})" if told else result


def shown(page: str) -> str:
    """The part of the page that is ours; empty where there is none."""
    begin, end = page.find(_BEGIN), page.find(_END)
    return page[begin : end + len(_END) + 1] if 0 <= begin < end else ""


def written(page: str, part: str) -> str:
    """The page with this part in the place of the old one, or at its end."""
    old = shown(page)
    return page.replace(old, part) if old else f"{page.rstrip()}\n\n{part}"


def _results() -> Iterator[tuple[Cell, str]]:
    with opened() as stage:
        for cell in cells():
            yield cell, played(stage, cell)


def main(words: list[str]) -> int:
    """Play all cells and write the page, where each is as expected; else name those that aren't."""
    if words != ["--write"]:
        sys.stderr.write("usage: python tests/conformance/matrix.py --write\n")
        return 2
    results = dict(_results())
    odd = [cell for cell, result in results.items() if result != wanted(cell)]
    for cell in odd:
        sys.stderr.write(f"{' '.join(cell)} is {results[cell]}, but should be {wanted(cell)}\n")
    if not odd:
        PAGE.write_text(written(PAGE.read_text(), rendered(results)))
    return 1 if odd else 0
