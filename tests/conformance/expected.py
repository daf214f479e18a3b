"""What is expected of each cell: written from the providers' own pages, apart from the code.

A cell that isn't named here must be green.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["CANT", "COLUMNS", "FEATURES", "NOTES", "ROWS", "Cell", "Note", "cells", "note_of"]

ROWS: Final = ("chat", "responses", "messages", "gemini")
COLUMNS: Final = (*ROWS, "bedrock")
FEATURES: Final = (
    "whole",
    "stream",
    "tools",
    "parallel tools",
    "images",
    "image URLs",
    "JSON schema",
    "reasoning",
    "several answers",
    "errors",
    "usage",
)


class Cell(NamedTuple):
    feature: str
    row: str
    """What the client speaks."""
    column: str
    """What the upstream speaks."""


class Note(NamedTuple):
    """Why something can't be, or what is to be known of a green cell."""

    text: str
    page: str
    """The provider's own."""


_CONVERSE: Final = "https://docs.aws.amazon.com/bedrock/latest/APIReference"
_GEMINI: Final = "https://ai.google.dev/api/generate-content"
_MESSAGES: Final = "https://platform.claude.com/docs/en/api/messages"
_RESPONSES: Final = "https://platform.openai.com/docs/api-reference/responses/create"

_URLS: Final = Note(
    "an image is bytes or an object in S3, never an address",
    f"{_CONVERSE}/API_runtime_ImageSource.html",
)
_ONE_ANSWER: Final = MappingProxyType(
    {
        "responses": Note("Responses have no `n`", _RESPONSES),
        "messages": Note("messages have no `n`", _MESSAGES),
        "bedrock": Note(
            "Converse has no `n`", f"{_CONVERSE}/API_runtime_InferenceConfiguration.html"
        ),
    }
)

CANT: Final[Mapping[tuple[str, str, str], Note]] = MappingProxyType(
    {
        ("image URLs", "*", "bedrock"): _URLS,
        **{("several answers", "*", column): note for column, note in _ONE_ANSWER.items()},
        **{("several answers", row, "*"): _ONE_ANSWER[row] for row in ("responses", "messages")},
    }
)
"""By feature, row and column, of which one may be ``*``; a row's reason comes before a column's."""

NOTES: Final[Mapping[tuple[str, str, str], Note]] = MappingProxyType(
    {
        ("reasoning", "*", "chat"): Note(
            "the thinking is told by those alone who have `reasoning_content`; it has no signature",
            "https://api-docs.deepseek.com/guides/thinking_mode",
        ),
        ("errors", "*", "bedrock"): Note(
            "Bedrock doesn't say when to come back",
            f"{_CONVERSE}/API_runtime_Converse.html#API_runtime_Converse_Errors",
        ),
        ("usage", "*", "gemini"): Note(
            "Gemini doesn't count what is written to its cache", f"{_GEMINI}#UsageMetadata"
        ),
        ("usage", "gemini", "*"): Note(
            "its answers have no word for what is written to a cache", f"{_GEMINI}#UsageMetadata"
        ),
        ("usage", "*", "bedrock"): Note(
            "Converse doesn't count the thinking apart", f"{_CONVERSE}/API_runtime_TokenUsage.html"
        ),
    }
)
"""What is to be known of green cells, in the same way."""


def note_of(notes: Mapping[tuple[str, str, str], Note], cell: Cell) -> list[Note]:
    """All that is said of this cell."""
    names = [(cell.feature, cell.row, "*"), (cell.feature, "*", cell.column)]
    found = [notes[name] for name in names if name in notes]
    return list(dict.fromkeys(found))


def cells() -> Iterator[Cell]:
    """All of them, in the page's order."""
    for feature in FEATURES:
        for row in ROWS:
            for column in COLUMNS:
                yield Cell(feature, row, column)
