"""In which order the members of a pool are asked, and the words for it.

Each strategy ranks within an ``order``: a lower one always comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any, Final, Literal, Protocol, TypeVar

from proxy_core._member import Asked, Crowd, Member
from proxy_core._sticky import nearest, rendezvous

__all__ = ["STRATEGIES", "Sticky", "Strategy", "StrategyName", "first_shares"]

_T = TypeVar("_T")
_Clock = Callable[[], float]

StrategyName = Literal["weighted", "least_busy", "fastest", "cheapest"]


class Strategy(Protocol):
    """One way to choose among members that may be asked, given by rising order."""

    def first(self, crowd: Crowd[_T], asked: Asked) -> Member[_T]:
        """The one to ask first, without ranking the others: this is what nearly all need."""
        ...

    def rank(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        """These members in the order in which to ask them."""
        ...

    def likeliest(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        """The same for people: where ``rank`` draws, the order that is drawn most."""
        ...

    def why(self, member: Member[Any], crowd: Crowd[Any], asked: Asked) -> str:
        """What its place among them comes from."""
        ...


class Weighted:
    """Drawn by weight without replacement: Efraimidis and Spirakis (2006), as waiting times."""

    def __init__(self, rng: _Clock, clock: _Clock) -> None:
        self._rng = rng

    def first(self, crowd: Crowd[_T], asked: Asked) -> Member[_T]:
        return self.rank(crowd, asked)[0]

    def rank(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        rng = self._rng
        drawn = [
            (member.order, -math.log(1.0 - rng()) / weight, at)
            for at, (member, weight) in enumerate(crowd)
        ]
        return [crowd[at][0] for _, _, at in sorted(drawn)]

    def likeliest(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        ranked = sorted(crowd, key=lambda pair: (pair[0].order, -pair[1]))
        return [member for member, _ in ranked]

    def why(self, member: Member[Any], crowd: Crowd[Any], asked: Asked) -> str:
        of_its_order = [pair for pair in crowd if pair[0].order == member.order]
        weight = _weight(member, crowd)
        share = weight / math.fsum(one for _, one in of_its_order)
        return f"drawn first {share:.0%} of the time, weight {weight:.3g}"


class LeastBusy:
    """The fewest in flight for its weight; of equals, one at random."""

    def __init__(self, rng: _Clock, clock: _Clock) -> None:
        self._rng = rng

    def first(self, crowd: Crowd[_T], asked: Asked) -> Member[_T]:
        found, least, order = crowd[0][0], math.inf, crowd[0][0].order
        begin = int(self._rng() * len(crowd))
        for at in range(begin - len(crowd), begin):  # all of them, from anywhere
            member, weight = crowd[at]
            busy = (member.load.in_flight + 1) / weight
            if busy < least and member.order == order:
                least, found = busy, member
        return found

    def rank(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        rng = self._rng
        # One more than are in flight, so that of idle ones the heavier is first.
        scored = [
            (member.order, (member.load.in_flight + 1) / weight, rng(), at)
            for at, (member, weight) in enumerate(crowd)
        ]
        return [crowd[at][0] for _, _, _, at in sorted(scored)]

    likeliest = rank

    def why(self, member: Member[Any], crowd: Crowd[Any], asked: Asked) -> str:
        return f"{member.load.in_flight} in flight, weight {_weight(member, crowd):.3g}"


class Fastest:
    """Two are drawn, and the one whose first token comes sooner is asked (Mitzenmacher 2001).

    Taking always the best would send all that arrive between two answers to the same one.
    """

    def __init__(self, rng: _Clock, clock: _Clock) -> None:
        self._rng = rng
        self._clock = clock

    def first(self, crowd: Crowd[_T], asked: Asked) -> Member[_T]:
        order, rivals = crowd[0][0].order, len(crowd)
        while crowd[rivals - 1][0].order != order:
            rivals -= 1
        if rivals == 1:
            return crowd[0][0]
        one, other = int(self._rng() * rivals), int(self._rng() * (rivals - 1))
        member, weight = crowd[one]
        rival, its_weight = crowd[other + (other >= one)]
        now = self._clock()
        swifter = member.load.cost(now) * its_weight <= rival.load.cost(now) * weight
        return member if swifter else rival

    def rank(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        ranked = self.likeliest(crowd, asked)
        first = self.first(crowd, asked)
        ranked.remove(first)
        return [first, *ranked]

    def likeliest(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        rng, now = self._rng, self._clock()
        scored = [
            (member.order, member.load.cost(now) / weight, rng(), at)
            for at, (member, weight) in enumerate(crowd)
        ]
        return [crowd[at][0] for _, _, _, at in sorted(scored)]

    def why(self, member: Member[Any], crowd: Crowd[Any], asked: Asked) -> str:
        known = member.load.seconds(self._clock())
        soon = "not known" if known is None else f"in {known:.2f} s"
        return f"first token {soon}, {member.load.in_flight} in flight"


class Cheapest:
    """By price for a request of this size; of equals, drawn by weight."""

    def __init__(self, rng: _Clock, clock: _Clock) -> None:
        self._rng = rng

    def first(self, crowd: Crowd[_T], asked: Asked) -> Member[_T]:
        found, least, number = crowd[0][0], math.inf, 1
        for member, _ in crowd:
            if member.order != found.order:
                break
            price = _price(member, asked)
            if price < least:
                found, least, number = member, price, 1
            elif price == least:
                number += 1
        return found if number == 1 else self.rank(crowd, asked)[0]

    def rank(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        rng = self._rng
        scored = [
            (member.order, _price(member, asked), -math.log(1.0 - rng()) / weight, at)
            for at, (member, weight) in enumerate(crowd)
        ]
        return [crowd[at][0] for _, _, _, at in sorted(scored)]

    likeliest = rank

    def why(self, member: Member[Any], crowd: Crowd[Any], asked: Asked) -> str:
        return "no price" if member.price is None else f"price {_price(member, asked):.6g}"


class Sticky:
    """Where the conversation belongs; one that can't be told from others goes by another way."""

    def __init__(self, other: Strategy) -> None:
        self._other = other

    def first(self, crowd: Crowd[_T], asked: Asked) -> Member[_T]:
        if asked.conversation is None:
            return self._other.first(crowd, asked)
        return nearest(crowd, asked.conversation)

    def rank(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        if asked.conversation is None:
            return self._other.rank(crowd, asked)
        return rendezvous(crowd, asked.conversation)

    def likeliest(self, crowd: Crowd[_T], asked: Asked) -> list[Member[_T]]:
        if asked.conversation is None:
            return self._other.likeliest(crowd, asked)
        return rendezvous(crowd, asked.conversation)

    def why(self, member: Member[Any], crowd: Crowd[Any], asked: Asked) -> str:
        if asked.conversation is None:
            return self._other.why(member, crowd, asked)
        return "by the conversation's hash"


STRATEGIES: Final[dict[StrategyName, Callable[[_Clock, _Clock], Strategy]]] = {
    "weighted": Weighted,
    "least_busy": LeastBusy,
    "fastest": Fastest,
    "cheapest": Cheapest,
}


def _weight(member: Member[Any], crowd: Crowd[Any]) -> float:
    return next(weight for one, weight in crowd if one is member)


def _price(member: Member[Any], asked: Asked) -> float:
    """Where no size is known, as much goes in as out."""
    if member.price is None:
        return math.inf
    ins, outs = asked.tokens, asked.output
    if not ins and not outs:
        ins = outs = 1
    return ins * member.price[0] + outs * member.price[1]


def first_shares(crowd: Crowd[_T]) -> tuple[list[_T], list[float]]:
    """Who may come first in a draw by weight, and where the share of each of [0, 1) ends."""
    rivals = [pair for pair in crowd if pair[0].order == crowd[0][0].order]
    whole = math.fsum(weight for _, weight in rivals)
    ends = accumulate(weight / whole for _, weight in rivals)
    return [member.value for member, _ in rivals], [*ends][:-1]  # the last takes the rest
