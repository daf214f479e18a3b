"""The rate limiter: all limits of a request or none; reserve first, settle later."""

# ruff: noqa: SLF001 - a reservation and its limiter are two halves of one

from __future__ import annotations

import math
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from proxy_core._bucket import Bucket, LimiterSettings
from proxy_core._limits import Limit, Limits, LimitState
from proxy_core.errors import ConfigurationError, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Limit",
    "LimitState",
    "LimiterSettings",
    "Limits",
    "RateLimiter",
    "Reservation",
    "Unlimited",
]

_OPEN, _SETTLED, _CLOSED = range(3)

_SLOT_HINT = 1.0
"""Seconds to wait while all slots are taken: one may be given back at any moment."""
_SWEEP_EVERY = 1_000_000
"""Microseconds between two looks for subjects to forget."""
_SWEEP = 64
"""Subjects looked at then; two more for each new one, so that a flood sweeps itself."""


class _Account:
    """What one subject has used, under the limits that it had last."""

    __slots__ = ("concurrent", "leases", "limits", "requests", "tokens")

    def __init__(self) -> None:
        self.limits: Limits | None = None
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.concurrent = sys.maxsize
        self.leases: dict[Reservation, int] = {}

    def adopt(self, limits: Limits, settings: LimiterSettings, now: int) -> None:
        if limits != self.limits:
            self.requests = _adopted(self.requests, limits.requests, settings, now)
            self.tokens = _adopted(self.tokens, limits.tokens, settings, now)
            self.concurrent = limits.concurrent or sys.maxsize
        self.limits = limits

    def is_idle(self, now: int) -> bool:
        buckets = (self.requests, self.tokens)
        return not self.leases and all(b is None or b.due <= now * b.refill for b in buckets)


def _adopted(
    bucket: Bucket | None, limit: Limit | None, settings: LimiterSettings, now: int
) -> Bucket | None:
    if limit is None:
        return None
    if bucket is None:
        return Bucket(limit, settings)
    if limit != bucket.limit:
        bucket.reshape(limit, settings, now)
    return bucket


class Reservation:
    """What one request was granted. Hold it with ``with`` until the answer has ended.

    The request itself stays counted. The slot is given back when the block ends. Tokens that
    nobody settled by then: an exception gives them back; a normal end keeps the reservation as
    the charge, and so does a cancellation, since the upstream may have worked and will bill.
    """

    __slots__ = ("_account", "_bucket", "_limiter", "_stage", "tokens")

    def __init__(self, limiter: RateLimiter, account: _Account, tokens: int) -> None:
        self.tokens = tokens
        self._limiter = limiter
        self._account = account
        self._bucket = account.tokens
        self._stage = _OPEN

    def settle(self, tokens_used: int) -> None:
        """Charge what was really used: the rest is given back, more than reserved becomes a debt.

        The first call counts, later ones do nothing. Less than 0 is taken for 0.
        """
        if self._stage != _OPEN:
            return
        self._stage = _SETTLED
        if self._bucket is not None:
            now = self._limiter._now()
            self._bucket.settle(self.tokens, max(0, tokens_used), now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._stage == _OPEN:
            self.settle(0 if isinstance(error, Exception) else self.tokens)
        if self._stage != _CLOSED:
            self._stage = _CLOSED
            self._limiter._close(self, self._account)


class RateLimiter:
    """Admits a request when all limits of its subject have room for it, else touches none of them.

    ::

        limiter = RateLimiter(rate="100/minute")
        if limiter.take("user-1"):
            ...

        limits = Limits.parse(requests="60/minute", tokens="100000/minute", concurrent=10)
        with limiter.reserve("user-1", limits, tokens=4000) as reservation:
            reservation.settle(await ask())  # the tokens that it really took

    How exact it is, for a limit of L per W seconds and a burst of B units: in *any* window of V
    seconds, what the requests admitted in it have used is at most

    - smooth: ``B + L x V / W``, so with the default burst (B = L) twice L in one period;
    - strict: ``B + (L - B) x V / W``, so never more than L in one period (but 1 + 1 when L is 1 and
      both ends of the period count);

    plus, for requests still in flight, what they will use beyond their reservation. That becomes a
    debt, so the long run stays exact. Time counts to the microsecond. A subject whose buckets are
    full and whose slots are free is forgotten, a few at a time.

    It belongs to one event loop; nothing here waits, so there is no lock.

    Args:
        name: for whoever owns several.
        settings: see LimiterSettings.
        rate: what binds subjects for which nothing else is said: ``100/minute`` or a Limit.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str = "limiter",
        settings: LimiterSettings | None = None,
        *,
        rate: str | Limit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.settings = settings or LimiterSettings()
        self.limits = _limits_of(rate)
        self.reservations_open = 0
        self._lapsed = 0
        self._clock = clock
        self._lease = int(self.settings.lease * 1e6)
        self._accounts: dict[str, _Account] = {}
        self._ring: deque[str] = deque()
        self._sweep_at = 0

    @property
    def subjects(self) -> int:
        """How many subjects it remembers."""
        return len(self._accounts)

    @property
    def slots_in_use(self) -> int:
        """The open reservations whose lease isn't over."""
        return self.reservations_open - self._lapsed

    def reserve(
        self, subject: str, limits: Limits | None = None, *, tokens: int = 0
    ) -> Reservation:
        """Count one request, hold one slot and `tokens`, or raise and change nothing.

        Args:
            subject: whose limits: a key, a user, an address.
            limits: None is the limiter's own ``rate``.
            tokens: the most that the request may use, or a good guess. Not below 0.

        Raises:
            LimitExceeded: ``limit`` names the one that binds longest: ``requests``, ``tokens`` or
                ``concurrent``; ``retry_after`` is None when the request can never fit.
        """
        now = self._now()
        if limits is None:
            limits = self.limits
        account = self._accounts.get(subject)
        if account is None or account.limits is not limits or now >= self._sweep_at:
            account = self._account(subject, limits, now)
        requests, bucket, leases = account.requests, account.tokens, account.leases
        # First, as it may settle what was lost.
        is_full = len(leases) >= account.concurrent and self._is_full(account, now)
        requests_due = 0 if requests is None else requests.after(1, now)
        tokens_due = 0 if bucket is None else bucket.after(tokens, now)
        if is_full or requests_due is None or tokens_due is None:
            raise _refusal(account, tokens, now)
        if requests is not None:
            requests.due = requests_due
        if bucket is not None:
            bucket.due = tokens_due
            bucket.held += tokens
        reservation = Reservation(self, account, tokens)
        leases[reservation] = now + self._lease
        self.reservations_open += 1
        return reservation

    def take(self, subject: str, cost: int = 1) -> bool:
        """Whether `cost` fits the limiter's own ``rate``; if so it is used, if not nothing is.

        Raises ConfigurationError when the limiter was built without a rate.
        """
        now = self._now()
        account = self._account(subject, self.limits, now)
        bucket = account.requests or account.tokens
        if bucket is None:
            raise ConfigurationError('take() needs a rate: RateLimiter(rate="100/minute")')
        due = bucket.after(cost, now)
        if due is None:
            return False
        bucket.due = due
        bucket.held += cost
        bucket.settle(cost, cost, now)
        return True

    def look(self, subject: str, limits: Limits | None = None) -> tuple[LimitState, ...]:
        """Where the subject stands, for each limit: requests, tokens, concurrent."""
        now = self._now()
        limits = self.limits if limits is None else limits
        account = self._accounts.get(subject) or _Account()
        account.adopt(limits, self.settings, now)
        buckets = (account.requests, account.tokens)
        states = [bucket.state(now) for bucket in buckets if bucket is not None]
        if limits.concurrent is not None:
            free = max(0, limits.concurrent - len(account.leases))
            states.append(LimitState("concurrent", limits.concurrent, free, 0.0))
        return tuple(states)

    def _now(self) -> int:
        return int(self._clock() * 1e6 + 0.5)

    def _account(self, subject: str, limits: Limits, now: int) -> _Account:
        if now >= self._sweep_at:
            self._sweep(_SWEEP, now)
            self._sweep_at = now + _SWEEP_EVERY
        account = self._accounts.get(subject)
        if account is None:
            self._sweep(2, now)
            account = self._accounts[subject] = _Account()
            self._ring.append(subject)
        if account.limits is not limits:
            account.adopt(limits, self.settings, now)
        return account

    def _sweep(self, count: int, now: int) -> None:
        for _ in range(min(count, len(self._ring))):
            subject = self._ring.popleft()
            account = self._accounts[subject]
            self._lapse(account, now)
            if account.is_idle(now):
                del self._accounts[subject]
            else:
                self._ring.append(subject)

    def _is_full(self, account: _Account, now: int) -> bool:
        self._lapse(account, now)
        return len(account.leases) >= account.concurrent

    def _lapse(self, account: _Account, now: int) -> None:
        """Take back what was held too long. Leases are equally long, so the first ends first."""
        leases = account.leases
        while leases and leases[oldest := next(iter(leases))] <= now:
            del leases[oldest]
            self._lapsed += 1
            oldest.settle(oldest.tokens)

    def _close(self, reservation: Reservation, account: _Account) -> None:
        self.reservations_open -= 1
        if account.leases.pop(reservation, None) is None:
            self._lapsed -= 1


def _limits_of(rate: str | Limit | None) -> Limits:
    if rate is None:
        return Limits()
    limit = Limit.parse(rate) if isinstance(rate, str) else rate
    return Limits(requests=limit) if limit.unit == "requests" else Limits(tokens=limit)


def _refusal(account: _Account, tokens: int, now: int) -> LimitExceeded:
    refusals = []
    if len(account.leases) >= account.concurrent:
        refusals.append(
            LimitExceeded(
                f"limit reached: {account.concurrent} concurrent requests; "
                "try again when one of them has ended",
                limit="concurrent",
                retry_after=_SLOT_HINT,
            )
        )
    for bucket, cost in ((account.requests, 1), (account.tokens, tokens)):
        if bucket is not None and bucket.after(cost, now) is None:
            refusals.append(_too_much(bucket, cost, now))
    return max(
        refusals, key=lambda error: math.inf if error.retry_after is None else error.retry_after
    )


def _too_much(bucket: Bucket, cost: int, now: int) -> LimitExceeded:
    unit, wait = bucket.limit.unit, bucket.wait(cost, now)
    if wait is None:
        told = (
            f"this request may need {cost} {unit}, and the limit {unit}: {bucket.limit} grants "
            f"{bucket.depth // bucket.period} at once: send less, or ask for less"
        )
    else:
        told = (
            f"limit reached: {unit} {bucket.limit}; this request needs {cost}, "
            f"{bucket.state(now).remaining} are left: try again in {math.ceil(wait * 10) / 10:g} s"
        )
    return LimitExceeded(told, limit=unit, retry_after=wait)


class Unlimited:
    """The limiter of those who want none: the same surface, all is granted, nothing is counted."""

    slots_in_use = 0
    reservations_open = 0
    subjects = 0

    def __init__(self, name: str = "unlimited") -> None:
        self.name = name
        self.limits = Limits()
        self._reservation = _FreeReservation()

    def reserve(
        self, subject: str, limits: Limits | None = None, *, tokens: int = 0
    ) -> _FreeReservation:
        """Granted."""
        return self._reservation

    def take(self, subject: str, cost: int = 1) -> bool:
        """Yes."""
        return True

    def look(self, subject: str, limits: Limits | None = None) -> tuple[LimitState, ...]:
        """Nothing to tell."""
        return ()


class _FreeReservation:
    """A reservation of nothing, which everybody may hold at once."""

    __slots__ = ()
    tokens = 0

    def settle(self, tokens_used: int) -> None:
        """Nothing: nobody counts."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None:
        pass
