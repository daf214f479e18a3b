"""A client's JSON by its paths: each wrong type is an error that says where it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NoReturn

import msgspec

from proxy_core.dialects._canonical import Json
from proxy_core.dialects._codec import Losses
from proxy_core.errors import InvalidRequest

__all__ = ["Value"]

_SHOWN: Final = 40
_LARGEST: Final = 1e300
"""A whole number may be any length in JSON, and would not fit in a float."""


class Value:
    """A JSON value and its path, such as ``messages[2].content``. Empty path: the whole body."""

    __slots__ = ("json", "path")

    def __init__(self, json: Json, path: str = "") -> None:
        self.json = json
        self.path = path

    def __contains__(self, name: str) -> bool:
        """Whether this object has the field; null is as good as none."""
        return isinstance(self.json, dict) and self.json.get(name) is not None

    def field(self, name: str) -> Value:
        """A field of this object. Raises InvalidRequest where it is missing or null."""
        value = self.maybe(name)
        if value is None:
            path = self._inside(name)
            raise InvalidRequest(f"The field {path!r} is missing.", param=path)
        return value

    def maybe(self, name: str) -> Value | None:
        """A field of this object; None where it is missing or null."""
        found = self.fields().get(name)
        return None if found is None else Value(found, self._inside(name))

    def fields(self) -> dict[str, Json]:
        """This object. Raises InvalidRequest."""
        if not isinstance(self.json, dict):
            self.refuse("an object")
        return self.json

    def items(self) -> Iterator[Value]:
        """The values of this array. Raises InvalidRequest."""
        if not isinstance(self.json, list):
            self.refuse("an array")
        return (Value(item, f"{self.path}[{at}]") for at, item in enumerate(self.json))

    def text(self) -> str:
        if not isinstance(self.json, str):
            self.refuse("a string")
        return self.json

    def one_of(self, *words: str) -> str:
        """This text, which is one of these."""
        if not isinstance(self.json, str) or self.json not in words:
            self.refuse("one of " + ", ".join(words))
        return self.json

    def flag(self) -> bool:
        if not isinstance(self.json, bool):
            self.refuse("true or false")
        return self.json

    def whole(self, least: int = 0) -> int:
        """This whole number, no smaller than ``least``; 5.0 is one too."""
        number = self.json
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            self.refuse(f"a whole number of at least {least}")
        return number

    def number(self) -> float:
        number = self.json
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.refuse("a number")
        if abs(number) > _LARGEST or not math.isfinite(number):
            self.refuse("a number that a computer can hold")
        return number

    def maybe_text(self, name: str) -> str | None:
        value = self.maybe(name)
        return None if value is None else value.text()

    def maybe_flag(self, name: str) -> bool | None:
        value = self.maybe(name)
        return None if value is None else value.flag()

    def maybe_whole(self, name: str, least: int = 0) -> int | None:
        value = self.maybe(name)
        return None if value is None else value.whole(least)

    def maybe_number(self, name: str) -> float | None:
        value = self.maybe(name)
        return None if value is None else value.number()

    def maybe_items(self, name: str) -> Iterator[Value]:
        """The values of an array that may be missing."""
        value = self.maybe(name)
        return iter(()) if value is None else value.items()

    def lose_others(self, losses: Losses, *known: str) -> None:
        """Name the fields of this object that are none of these, but for those that are null."""
        given = [name for name, value in self.fields().items() if value is not None]
        losses.unknown(f"{self.path}." if self.path else "", given, known)

    def refuse(self, wanted: str) -> NoReturn:
        """Raise the InvalidRequest that says what it is and what it must be."""
        shown = msgspec.json.encode(self.json).decode()
        if len(shown) > _SHOWN:
            shown = shown[: _SHOWN - 3] + "..."
        name = f"The field {self.path!r}" if self.path else "The request body"
        raise InvalidRequest(f"{name} is {shown}: it must be {wanted}.", param=self.path or None)

    def _inside(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name
