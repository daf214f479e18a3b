"""Which deployment of a pool is asked first, and which next."""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from proxy_core._breaker import last_standing
from proxy_core._member import ANYTHING, Asked, Crowd, Member, is_well, recovery, why_out
from proxy_core._strategies import STRATEGIES, Sticky, Strategy, StrategyName, first_shares
from proxy_core.errors import CircuitOpen, ConfigurationError, UpstreamError, UpstreamThrottled

__all__ = ["Pool", "PoolSettings"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """How a pool chooses. Raises ConfigurationError for what can't be used."""

    strategy: StrategyName = "weighted"
    sticky: bool = False
    """Keep a conversation where the provider has it cached, as long as that one is well."""

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ConfigurationError(
                f"strategy is {self.strategy!r}: give one of {', '.join(STRATEGIES)}",
                param="strategy",
            )


class Pool(Generic[_T]):
    """Deployments that serve one model. ``next`` says whom to ask.

    ::

        pool = Pool("chat", [Member("a", "openai/gpt-5-mini"), Member("b", "gpu/llama", order=2)])
        first = pool.next()  # "openai/gpt-5-mini"
        second = pool.next(tried=[first])  # after a failure

    Lower ``order`` first; within one, by the strategy: *weighted* draws by weight; *least_busy*
    takes the fewest in flight for its weight; *fastest* draws two and takes the one whose first
    token comes sooner (power of two choices over ``Load.cost``); *cheapest* goes by price.
    With ``sticky``, a conversation comes before the strategy: rendezvous hashing, so that a member
    that leaves moves only its own conversations.

    Nobody is asked while its breaker refuses, while it is paused, or when its window is too small
    (the largest is asked when all are). One whose breaker has closed again starts slowly, by the
    breaker's ``weight``.

    Args:
        name: of the model; in explanations and errors.
        members: at least one.
        settings: see PoolSettings.
        clock: monotonic seconds, the same as that of the breakers.
        rng: numbers from 0 to below 1.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Member[_T]],
        settings: PoolSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        if not members:
            raise ConfigurationError(f"the pool {name!r} has no members: give at least one")
        self.name = name
        self.settings = settings or PoolSettings()
        self.all = tuple(members)
        """Also those of weight 0."""
        self.clock = clock
        self._rng = rng
        in_traffic = [one for one in members if one.weight > 0] or list(members)
        self.members = tuple(sorted(in_traffic, key=lambda one: one.order))
        """Those in traffic, by rising order."""
        self.only = (self.members[0].value,) if len(self.members) == 1 else None
        """The one there is, for callers who spare themselves the choice; its breaker decides."""
        self._usual = [(one, one.weight or 1.0) for one in self.members]
        chosen = STRATEGIES[self.settings.strategy](rng, clock)
        self.strategy: Strategy = Sticky(chosen) if self.settings.sticky else chosen
        drawn = self.settings.strategy == "weighted" and not self.settings.sticky
        self._drawn = first_shares(self._usual) if drawn else None
        self._looked_at = [(one.load, one.breaker, one.window) for one in self.members]

    def next(self, asked: Asked = ANYTHING, tried: Collection[_T] = ()) -> _T | None:
        """Whom to ask now, `tried` left out; None: nobody may be asked, or nobody is left.

        Each call goes by the newest state, so ask again after a failure: ``refusal`` says why
        nobody may be asked.
        """
        if tried or not self._all_well(asked.tokens):  # the exception
            crowd = [pair for pair in self.able(asked) if pair[0].value not in tried]
            return self.strategy.first(crowd, asked).value if crowd else None
        if self._drawn is not None:
            values, ends = self._drawn
            return values[bisect_right(ends, self._rng())]
        return self.strategy.first(self._usual, asked).value

    def choose(self, asked: Asked = ANYTHING) -> tuple[_T, ...]:
        """All who may be asked, in the order in which to ask them, as things stand now."""
        crowd = self._usual if self._all_well(asked.tokens) else self.able(asked)
        if not crowd:
            return ()
        return tuple([member.value for member in self.strategy.rank(crowd, asked)])

    def _all_well(self, tokens: int) -> bool:
        for load, breaker, window in self._looked_at:
            if load.trouble or breaker.state != "closed" or tokens > window:
                return False
        return True

    def able(self, asked: Asked) -> Crowd[_T]:
        """Who may be asked now, and with which weight."""
        now = self.clock()
        well = [pair for pair in self._usual if is_well(pair[0], now)]
        fits = [pair for pair in well if asked.tokens <= pair[0].window]
        if not fits and well:  # the estimate is from above: let the largest window judge
            largest = max(member.window for member, _ in well)
            fits = [pair for pair in well if pair[0].window == largest]
        return [(member, weight * recovery(member)) for member, weight in fits]

    def refusal(self) -> UpstreamError:
        """Why nobody may be asked, with the soonest time at which somebody may."""
        now = self.clock()
        waits = [(wait, reason) for one in self.members for wait, reason in [why_out(one, now)]]
        known = [wait for wait, _ in waits if wait is not None]
        soonest = min(known, default=None)
        throttled = all(reason.startswith("throttled") for _, reason in waits)
        kind = UpstreamThrottled if throttled else CircuitOpen
        told = "; ".join(
            f"{member.label}: {reason}"
            for member, (_, reason) in zip(self.members, waits, strict=True)
        )
        return kind(
            f"no deployment of {self.name!r} may be asked now: {told}",
            deployment=self.name,
            retry_after=soonest,
        )

    def last_resort(self) -> _T | None:
        """Whom to ask with ``breaker.permit(last=True)`` when ``next`` has nobody at all.

        The one whose breaker lets a probe by soonest; None while all are paused or held open.
        """
        now = self.clock()
        free = [one for one in self.members if one.load.paused_until <= now]
        number = last_standing([one.breaker for one in free])
        return None if number is None else free[number].value
