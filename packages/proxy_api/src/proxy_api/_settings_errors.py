"""What is wrong with a configuration: every problem at once, each with its path and a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from proxy_core.errors import ConfigurationError

__all__ = ["InvalidSettings", "Path", "Problem", "dotted", "nearest"]

Path = tuple[str | int, ...]
"""Where a setting is: ``("models", 0, "target")``, written ``models[0].target``."""


_BLOT = "***"


def dotted(path: Sequence[str | int]) -> str:
    """A path as people write it: ``models[0].target``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was probably meant to be, or None."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. A secret's value never appears in any of the three texts."""

    path: str
    """The setting, ``providers.openai.api_kye``; a file or a variable where there is no setting."""
    message: str
    hint: str = ""
    """What to do about it, a sentence; empty where the message says it."""

    def without(self, values: Collection[str]) -> Problem:
        """The same, where each of these values is blotted out."""
        message, hint = self.message, self.hint
        for value in sorted(values, key=len, reverse=True):
            message, hint = message.replace(value, _BLOT), hint.replace(value, _BLOT)
        return replace(self, message=message, hint=hint)

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text}. {self.hint}" if self.hint else text


class InvalidSettings(ConfigurationError):
    """The configuration can't be used. ``problems`` has all of what is wrong.

    ``source`` is the file that was read, empty where there was none.
    """

    def __init__(self, problems: Sequence[Problem], *, source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        where = f" in {source}" if source else ""
        count = f"{len(self.problems)} problems" if len(self.problems) != 1 else "a problem"
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"the configuration has {count}{where}:{lines}")
