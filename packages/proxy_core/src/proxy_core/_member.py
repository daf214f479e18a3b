"""A deployment of a pool as routing sees it, and what routing may know of a request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import msgspec

from proxy_core._breaker import AlwaysClosed, CircuitBreaker
from proxy_core._load import Load
from proxy_core._sticky import seed_of
from proxy_core.errors import ConfigurationError

__all__ = ["ANYTHING", "Asked", "Crowd", "Member", "is_well", "recovery", "why_out"]

_T = TypeVar("_T")
_NO_HEADERS: Final[Mapping[bytes, str]] = MappingProxyType({})


class Asked(msgspec.Struct, frozen=True):
    """What routing may know of a request. All of it is optional."""

    model: str = ""
    key: str = ""
    """The name of the client's key."""
    tags: Sequence[str] = ()
    tokens: int = 0
    """Of the prompt, estimated from above."""
    output: int = 0
    """Tokens that the answer may have."""
    conversation: int | None = None
    """From ``conversation_key``."""
    header: Callable[[bytes], str | None] = _NO_HEADERS.get
    """The value of a header by its lower-case name; None or empty without one."""


ANYTHING: Final = Asked()


@dataclass(frozen=True, slots=True, eq=False)
class Member(Generic[_T]):
    """One deployment of a pool, and what is known of it."""

    value: _T
    """What a choice gives back."""
    label: str
    """Names it in explanations; conversations stick to it, so it must stay."""
    order: int = 1
    """Lower is asked first, whatever the strategy."""
    weight: float = 1.0
    """Its share among those of the same order; 0 takes it out unless all have 0."""
    breaker: CircuitBreaker | AlwaysClosed = field(default_factory=AlwaysClosed)
    load: Load = field(default_factory=Load)
    context: int | None = None
    """The window in tokens; None: anything fits."""
    price: tuple[float, float] | None = None
    """Of an input and an output token, in any unit that all share; None: after those with one."""
    window: float = field(init=False, repr=False, default=math.inf)
    seed: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ConfigurationError(
                f"the weight of {self.label!r} is {self.weight!r}: give a number, 0 or more",
                param="weight",
            )
        object.__setattr__(self, "window", math.inf if self.context is None else self.context)
        object.__setattr__(self, "seed", seed_of(self.label))


Crowd = Sequence[tuple[Member[_T], float]]
"""Members that may be asked, each with the weight that it has at this moment."""


def is_well(member: Member[Any], now: float) -> bool:
    """Whether it may be asked: not paused, and its breaker lets a call or a probe through."""
    if member.load.paused_until > now:
        return False
    if member.breaker.state == "closed":
        return True
    member.load.trouble = True  # also when it closes: it starts slowly then
    return member.breaker.retry_after == 0


def recovery(member: Member[Any]) -> float:
    """The share of its weight that a member which may be asked gets: less after its breaker closed.

    Ends its trouble when it has all of it again.
    """
    load, breaker = member.load, member.breaker
    if not load.trouble:
        return 1.0
    share = breaker.weight
    if share == 1.0 and breaker.state == "closed":
        load.trouble = False
    return share or 1.0


def why_out(member: Member[Any], now: float) -> tuple[float | None, str]:
    """How long it will not be asked (None: nobody knows) and why; an empty reason: it may be."""
    breaker, load = member.breaker, member.load
    if load.paused_until > now:
        left = load.paused_until - now
        if left == math.inf:
            return None, load.pause_reason
        return left, f"{load.pause_reason} for {left:.1f} s more"
    wait = breaker.retry_after
    if wait is None:
        return None, "breaker held open until it is closed by hand"
    if wait == 0:
        return 0.0, ""
    if breaker.state == "half_open":
        return wait, "breaker half open, its probe is out"
    return wait, f"breaker open for {wait:.1f} s more"
