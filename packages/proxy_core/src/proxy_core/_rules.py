"""Rules that send some requests for a model to another pool: by key, header, tag or size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy_core._member import Asked
from proxy_core._routing import match_model
from proxy_core.errors import ConfigurationError

__all__ = ["Rule", "Rules"]

Test = Callable[[Asked], bool]

_TCHAR: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """All that is given has to hold; then ``to`` serves the request. Patterns have one ``*``.

    Raises ConfigurationError for a rule without a condition or with one that can't be used.
    """

    to: str
    """The name of the model whose pool is asked instead."""
    model: str = "*"
    """The asked model's name or pattern."""
    key: str = ""
    """The client key's name or pattern."""
    header: Mapping[str, str] = field(default_factory=dict)
    """Headers and their values, or patterns of them; ``*`` alone: it is there."""
    tag: str = ""
    """A tag that the request has."""
    tokens_above: int | None = None
    """The prompt, estimated from above, has more tokens than this."""

    def __post_init__(self) -> None:
        if not self.to:
            raise ConfigurationError("a rule's `to` is empty: name a model", param="to")
        if not (self.key or self.header or self.tag or self.tokens_above is not None):
            raise ConfigurationError(
                f"the rule to {self.to!r} has no condition: give key, header, tag or tokens_above",
                param="when",
            )
        if self.tokens_above is not None and self.tokens_above < 0:
            raise ConfigurationError(
                f"tokens_above is {self.tokens_above!r}: give 0 or more", param="tokens_above"
            )
        for name in self.header:
            if not name or not _TCHAR.issuperset(name.lower()):
                raise ConfigurationError(
                    f"{name!r} is no name of a header: give letters, digits and -", param="header"
                )
        for pattern in (self.model, self.key, *self.header.values()):
            if pattern:
                match_model("", [pattern])  # raises for more than one *

    def tests(self) -> tuple[Test, ...]:
        """Its conditions, compiled; what costs least comes first."""
        tests: list[Test] = []
        if self.tokens_above is not None:
            tests.append(_larger(self.tokens_above))
        if self.tag:
            tests.append(_tagged(self.tag))
        if self.model != "*":
            tests.append(_model(self.model))
        if self.key:
            tests.append(_key(self.key))
        tests += [_header(name, value) for name, value in self.header.items()]
        return tuple(tests)


class Rules:
    """Rules in their order, compiled; the first that holds is taken. Stateless.

    ::

        rules = Rules([Rule(to="chat-large", model="chat", tokens_above=32_000)])
        rules.route(Asked(model="chat", tokens=50_000))  # "chat-large"
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.all = tuple(rules)
        self._compiled = tuple((rule.tests(), rule) for rule in self.all)

    def __bool__(self) -> bool:
        return bool(self.all)

    def route(self, asked: Asked) -> str | None:
        """The model whose pool serves this request instead; None: the one that was asked for."""
        found = self.first(asked)
        return None if found is None else found.to

    def first(self, asked: Asked) -> Rule | None:
        """The rule that is taken; None: none holds."""
        for tests, rule in self._compiled:
            for holds in tests:
                if not holds(asked):
                    break
            else:
                return rule
        return None


def _larger(tokens: int) -> Test:
    return lambda asked: asked.tokens > tokens


def _tagged(tag: str) -> Test:
    return lambda asked: tag in asked.tags


def _model(pattern: str) -> Test:
    fits = _matcher(pattern)
    return lambda asked: fits(asked.model)


def _key(pattern: str) -> Test:
    fits = _matcher(pattern)
    return lambda asked: fits(asked.key)


def _header(name: str, pattern: str) -> Test:
    lower, fits = name.lower().encode(), _matcher(pattern)

    def holds(asked: Asked) -> bool:
        value = asked.header(lower)
        return value is not None and value != "" and fits(value)

    return holds


def _matcher(pattern: str) -> Callable[[str], bool]:
    if "*" not in pattern:
        return pattern.__eq__
    prefix, _, suffix = pattern.partition("*")
    least = len(prefix) + len(suffix)
    return lambda text: (len(text) >= least and text.startswith(prefix) and text.endswith(suffix))
