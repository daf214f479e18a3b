"""What one subject has used, under the limits that it had last, and why a request is refused."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Protocol

from proxy_core._bucket import Bucket
from proxy_core._limits import LimitState, dollars
from proxy_core._purse import Purse
from proxy_core.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy_core._bucket import LimiterSettings
    from proxy_core._limits import Budget, Limit, Limits

__all__ = ["Account", "Costs", "Lease", "refusal", "what_was_used"]

Costs = tuple[int, int, int, int, int]
"""What a request takes of each line: requests, tokens, input, output, nano-dollars."""

SLOT_HINT = 1.0
"""Seconds to wait while all slots are taken: one may be given back at any moment."""


class Lease(Protocol):
    """A reservation, as its account sees it."""

    def lapse(self) -> None:
        """Held too long: it counts as used, and its slot is free."""


class Account:
    """The buckets, slots and budget of one subject."""

    __slots__ = ("concurrent", "leases", "limits", "lines", "more", "requests", "subject", "tokens")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.limits: Limits | None = None
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.lines: tuple[tuple[int, Bucket | Purse], ...] = ()
        """All that is limited, with its place in Costs."""
        self.more = False
        """Whether there is more than requests and tokens."""
        self.concurrent = sys.maxsize
        self.leases: dict[Lease, int] = {}

    def adopt(
        self, limits: Limits, settings: LimiterSettings, now: int, wall: Callable[[], float]
    ) -> None:
        """Be bound by these from now on; what is used stays used."""
        if limits != self.limits:
            old = dict(self.lines)
            lines: list[tuple[int, Bucket | Purse]] = []
            for place, limit in enumerate(limits.rates):
                if limit is not None:
                    lines.append((place, _bucket(old.get(place), limit, settings, now)))
            if limits.budget is not None:
                purse = old.get(4)
                if isinstance(purse, Purse):
                    purse.reshape(limits.budget)
                lines.append((4, purse or Purse(limits.budget, wall)))
            self.lines = tuple(lines)
            held = {place: line for place, line in lines if isinstance(line, Bucket)}
            self.requests, self.tokens = held.get(0), held.get(1)
            self.more = any(place > 1 for place, _ in lines)
            self.concurrent = limits.concurrent or sys.maxsize
        self.limits = limits

    def is_idle(self, now: int) -> bool:
        return not self.leases and all(line.is_idle(now) for _, line in self.lines)

    def states(self, now: int) -> tuple[LimitState, ...]:
        """In the order requests, tokens, input_tokens, output_tokens, budget, concurrent."""
        states = [line.state(now) for _, line in self.lines]
        if self.limits is not None and self.limits.concurrent is not None:
            free = max(0, self.concurrent - len(self.leases))
            states.append(LimitState("concurrent", self.concurrent, free, 0.0))
        return tuple(states)


def _bucket(
    bucket: Bucket | Purse | None, limit: Limit, settings: LimiterSettings, now: int
) -> Bucket:
    if not isinstance(bucket, Bucket):
        return Bucket(limit, settings)
    if limit != bucket.limit:
        bucket.reshape(limit, settings, now)
    return bucket


def what_was_used(
    costs: Sequence[int], tokens: int, output: int | None, money: int | None
) -> Costs:
    """What a settlement charges: where nobody knows, what was reserved."""
    tokens = max(0, tokens)
    if output is None:
        given, made = costs[2], costs[3]
    else:
        made = min(max(0, output), tokens)
        given = tokens - made
    return (1, tokens, given, made, costs[4] if money is None else max(0, money))


def refusal(accounts: Sequence[Account], costs: Costs, now: int) -> LimitExceeded:
    """The error for what doesn't fit: of the limits in its way the longest to wait for."""
    refusals = []
    for account in accounts:
        if len(account.leases) >= account.concurrent:
            told = too_many(account.concurrent, owner(account))
            refusals.append(_error(told, "concurrent", SLOT_HINT, account, now))
        for place, line in account.lines:
            if line.after(costs[place], now) is None:
                wait = line.wait(costs[place], now)
                if isinstance(line, Purse):
                    told = _unpaid(line, costs[place], now, owner(account))
                else:
                    told = _too_much(line, costs[place], now, owner(account))
                refusals.append(_error(told, line.state(now).name, wait, account, now))
    return max(refusals, key=lambda e: math.inf if e.retry_after is None else e.retry_after)


def _error(told: str, limit: str, wait: float | None, account: Account, now: int) -> LimitExceeded:
    return LimitExceeded(
        told,
        limit=limit,
        retry_after=wait,
        subject=account.subject,
        scope=account.limits.scope if account.limits else "",
        states=account.states(now),
    )


def owner(account: Account) -> str:
    """`` of this key``, where it is known what the subject is."""
    scope = account.limits.scope if account.limits else ""
    return f" of this {scope}" if scope else ""


def too_many(concurrent: int, whose: str) -> str:
    return (
        f"limit reached: {concurrent} concurrent requests{whose}; "
        "try again when one of them has ended"
    )


def _too_much(bucket: Bucket, cost: int, now: int, whose: str) -> str:
    wait = bucket.wait(cost, now)
    burst = bucket.depth // bucket.period
    left = bucket.state(now).remaining
    return too_much(bucket.limit, burst, cost, left, wait, whose)


def too_much(limit: Limit, burst: int, cost: int, left: int, wait: float | None, whose: str) -> str:
    """What a client reads when a rate refuses."""
    if wait is None:
        return (
            f"this request may need {cost} {limit.unit}, and the limit{whose}, {limit.unit} "
            f"{limit}, grants {burst} at once: send less, or ask for less"
        )
    return (
        f"limit reached: {limit.unit} {limit}{whose}; this request needs {cost}, "
        f"{left} are left: try again in {math.ceil(wait * 10) / 10:g} s"
    )


def _unpaid(purse: Purse, cost: int, now: int, whose: str) -> str:
    return unpaid(purse.budget, cost, purse.state(now).remaining, whose)


def unpaid(budget: Budget, cost: int, left: int, whose: str) -> str:
    """What a client reads when a budget refuses."""
    return (
        f"budget used up: {budget}{whose}; this request may cost {dollars(cost)}, "
        f"{dollars(left)} are left"
    )
