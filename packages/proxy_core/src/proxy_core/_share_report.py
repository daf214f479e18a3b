"""Where a subject stands, and why the store refused, in the words of the in-memory limiter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from proxy_core._account import SLOT_HINT, too_many, too_much, unpaid
from proxy_core._limits import LimitState
from proxy_core.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proxy_core._limits import Limit
    from proxy_core._share import Share

__all__ = ["refusal", "states"]

_Line = tuple[int, int, int]
_Refusal = tuple[float, str, str]
"""Seconds to wait, the limit's name, the message."""


def _rates(share: Share, now: int) -> Iterator[tuple[int, Limit, _Line, float]]:
    """Place, limit, what it is for the store, and what is taken by now, by the last answer."""
    passed = max(0, now - share.known_at)
    levels = share.known["level"] if share.known else (0.0, 0.0, 0.0, 0.0)
    for place, line in enumerate(share.lines):
        limit = share.limits.rates[place]
        if line and limit is not None:
            yield place, limit, line, max(0.0, levels[place] - passed * line[1] / line[2])


def states(share: Share, now: int) -> tuple[LimitState, ...]:
    """As a RateLimiter's ``look``."""
    told = []
    for place, limit, line, level in _rates(share, now):
        free = min(line[0], max(0, int(line[0] - level)) + share.free[place])
        told.append(LimitState(limit.unit, limit.amount, free, level * line[2] / line[1] / 1e6))
    budget, slots = share.limits.budget, share.limits.concurrent
    known = share.known or {"spent": 0, "left": 0, "slots": share.open}
    if budget is not None:
        rest = max(0, budget.nano_usd - int(known["spent"]) + share.free[4])
        told.append(LimitState("budget", budget.nano_usd, rest, max(0, known["left"]) / 1e6))
    if slots is not None:
        told.append(LimitState("concurrent", slots, max(0, slots - known["slots"]), 0.0))
    return tuple(told)


def refusal(share: Share, costs: Sequence[int], now: int) -> LimitExceeded:
    """Of the limits in the request's way, that which binds longest."""
    wait, limit, told = max(_refusals(share, costs, now), default=_full(share))
    return LimitExceeded(
        told,
        limit=limit,
        retry_after=None if math.isinf(wait) else wait,
        subject=share.subject,
        scope=share.limits.scope,
        states=states(share, now),
    )


def _refusals(share: Share, costs: Sequence[int], now: int) -> Iterator[_Refusal]:
    whose = _whose(share)
    for place, limit, line, level in _rates(share, now):
        burst, refill, period = line
        over = level + costs[place] - burst
        if over <= 0:
            continue
        wait = math.inf if costs[place] > burst else max(1.0, over * period / refill) / 1e6
        never = None if math.isinf(wait) else wait
        left = max(0, int(burst - level))
        yield wait, limit.unit, too_much(limit, burst, costs[place], left, never, whose)
    budget, known = share.limits.budget, share.known
    if budget is None or known is None:
        return
    if budget.hard and known["spent"] + costs[4] > budget.nano_usd:
        is_never = costs[4] > budget.nano_usd or known["left"] < 0
        left = max(0, budget.nano_usd - int(known["spent"]))
        wait = math.inf if is_never else known["left"] / 1e6
        yield wait, "budget", unpaid(budget, costs[4], left, whose)


def _full(share: Share) -> _Refusal:
    return SLOT_HINT, "concurrent", too_many(share.limits.concurrent or 0, _whose(share))


def _whose(share: Share) -> str:
    return f" of this {share.limits.scope}" if share.limits.scope else ""
