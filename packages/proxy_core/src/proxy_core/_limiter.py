"""The rate limiter: all limits of a request or none; reserve first, settle later."""

# ruff: noqa: SLF001, FURB136 - a reservation and its limiter are two halves of one; max() is a call

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Self

import msgspec

from proxy_core._account import Account, refusal, what_was_used
from proxy_core._bucket import LimiterSettings
from proxy_core._limits import Limit, Limits, LimitState
from proxy_core._unlimited import Unlimited
from proxy_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy_core._account import Costs
    from proxy_core._bucket import Bucket
    from proxy_core._purse import Purse

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

_SWEEP_EVERY = 1_000_000
"""Microseconds between two looks for subjects to forget."""
_SWEEP = 64
"""Subjects looked at then; two more for each new one, so that a flood sweeps itself."""


# A struct, since one is made for each request: it begins without a Python frame.


class Reservation(msgspec.Struct, eq=False):
    """What one request was granted. Hold it with ``with`` until the answer has ended.

    The request itself stays counted. The slot is given back when the block ends. Tokens that
    nobody settled by then: an exception gives them back; a normal end keeps the reservation as
    the charge, and so does a cancellation, since the upstream may have worked and will bill.
    """

    tokens: int
    _limiter: RateLimiter
    _account: Account
    _bucket: Bucket | None
    _stage: int

    def settle(
        self, tokens_used: int, *, output: int | None = None, money: int | None = None
    ) -> None:
        """Charge what was really used: the rest is given back, more than reserved becomes a debt.

        The first call counts, later ones do nothing. Less than 0 is taken for 0.

        Args:
            tokens_used: input and output together.
            output: how many of them are output. None: nobody knows, what was reserved of input and
                output stays the charge.
            money: what it cost, in nano-dollars. None: what was reserved.
        """
        if self._stage != _OPEN:
            return
        self._stage = _SETTLED
        bucket = self._bucket
        if bucket is not None:
            now = int(self._limiter._clock() * 1e6 + 0.5)
            bucket.settle(self.tokens, tokens_used if tokens_used > 0 else 0, now)

    def lapse(self) -> None:
        """Held too long: the limiter takes the slot back, what was reserved counts as used."""
        del self._account.leases[self]
        self.settle(self.tokens)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        stage = self._stage
        if stage == _OPEN:
            self.settle(0 if isinstance(error, Exception) else self.tokens)
        if stage != _CLOSED:
            self._stage = _CLOSED
            self._limiter._close(self, self._account)


_Taken = tuple[int, "Bucket | Purse", int, int]
"""A line's place in Costs, the line, its window, and where it stands then."""


class _WideReservation(Reservation, eq=False):
    """One that touches more than the requests and tokens of one subject."""

    _accounts: Sequence[Account]
    _costs: Costs
    _taken: Sequence[_Taken]

    def settle(
        self, tokens_used: int, *, output: int | None = None, money: int | None = None
    ) -> None:
        if self._stage != _OPEN:
            return
        self._stage = _SETTLED
        now = self._limiter._now()
        costs = self._costs
        used = what_was_used(costs, tokens_used, output, money)
        for place, line, window, _ in self._taken:
            # The books of a window that is over are closed.
            if place and line.window == window:
                line.settle(costs[place], used[place], now)

    def lapse(self) -> None:
        self._release()
        self.settle(self.tokens)

    def _release(self) -> None:
        for account in self._accounts:
            account.leases.pop(self, None)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            self.settle(0, output=0, money=0)
        super().__exit__(kind, error, trace)
        self._release()


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
        wall: seconds since 1970, for the windows of budgets.
    """

    def __init__(
        self,
        name: str = "limiter",
        settings: LimiterSettings | None = None,
        *,
        rate: str | Limit | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.settings = settings or LimiterSettings()
        self.limits = limits_of(rate)
        self.reservations_open = 0
        self._lapsed = 0
        self._clock = clock
        self._wall = wall
        self._lease = int(self.settings.lease * 1e6)
        self._accounts: dict[str, Account] = {}
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
        self,
        subject: str,
        limits: Limits | None = None,
        *,
        tokens: int = 0,
        output: int = 0,
        money: int = 0,
        also: Sequence[tuple[str, Limits]] = (),
    ) -> Reservation:
        """Count one request, hold one slot and what it may use, or raise and change nothing.

        Args:
            subject: whose limits: a key, a user, an address.
            limits: None is the limiter's own ``rate``.
            tokens: the most that it may use, or a good guess: input and output. Not below 0.
            output: how many of them are output.
            money: the most that it may cost, in nano-dollars.
            also: further subjects and their limits, which must have room too: the key's user, the
                deployment. Kinds of subjects share one space of names: ``user:ann``.

        Raises:
            LimitExceeded: ``limit`` names the one that binds longest: ``requests``, ``tokens``,
                ``input_tokens``, ``output_tokens``, ``concurrent`` or ``budget``; ``retry_after``
                is None when the request can never fit.
        """
        now = int(self._clock() * 1e6 + 0.5)
        if limits is None:
            limits = self.limits
        account = self._accounts.get(subject)
        if account is None or account.limits is not limits or now >= self._sweep_at:
            account = self._account(subject, limits, now)
        if also or account.more:
            accounts = [account]
            if also:
                accounts = self._all_accounts(((subject, limits), *also), now)
            return self._reserve_all(accounts, (1, tokens, tokens - output, output, money), now)
        requests, bucket, leases = account.requests, account.tokens, account.leases
        # First, as it may settle what was lost.
        fits = len(leases) < account.concurrent or not self._is_full(account, now)
        tokens_due = 0
        # Bucket.after is written out, twice: this is on the path of each request.
        if bucket is not None:
            start, tokens_due = now * bucket.refill, bucket.due
            tokens_due = (tokens_due if tokens_due > start else start) + tokens * bucket.period
            fits = fits and tokens_due - start <= bucket.depth
        if fits and requests is not None:
            start, due = now * requests.refill, requests.due
            due = (due if due > start else start) + requests.period
            if fits := due - start <= requests.depth:
                requests.due = due
        if not fits:
            raise refusal((account,), (1, tokens, 0, 0, 0), now)
        if bucket is not None:
            bucket.due = tokens_due
            bucket.held += tokens
        reservation = Reservation(tokens, self, account, bucket, _OPEN)
        leases[reservation] = now + self._lease
        self.reservations_open += 1
        return reservation

    async def ask(
        self,
        subject: str,
        limits: Limits | None = None,
        *,
        tokens: int = 0,
        output: int = 0,
        money: int = 0,
        also: Sequence[tuple[str, Limits]] = (),
    ) -> Reservation:
        """As ``reserve``, which never needs to wait here: so that limiters are used in one way."""
        return self.reserve(subject, limits, tokens=tokens, output=output, money=money, also=also)

    async def start(self) -> bool:
        """Nothing to connect to."""
        return True

    async def aclose(self) -> None:
        """Nothing to give back."""

    def take(self, subject: str, cost: int = 1) -> bool:
        """Whether `cost` fits the limiter's own ``rate``; if so it is used, if not nothing is.

        Raises ConfigurationError when the limiter was built without a rate.
        """
        now = self._now()
        account = self._account(subject, self.limits, now)
        if not account.lines:
            raise ConfigurationError('take() needs a rate: RateLimiter(rate="100/minute")')
        line = account.lines[0][1]
        due = line.after(cost, now)
        if due is None:
            return False
        line.charge(due, cost)
        line.settle(cost, cost, now)
        return True

    def look(self, subject: str, limits: Limits | None = None) -> tuple[LimitState, ...]:
        """Where the subject stands with each limit; taking and remembering nothing.

        In this order: requests, tokens, input_tokens, output_tokens, budget, concurrent.
        """
        now = self._now()
        limits = self.limits if limits is None else limits
        account = self._accounts.get(subject) or Account(subject)
        account.adopt(limits, self.settings, now, self._wall)
        return account.states(now)

    def _now(self) -> int:
        return int(self._clock() * 1e6 + 0.5)

    def _account(self, subject: str, limits: Limits, now: int) -> Account:
        if now >= self._sweep_at:
            self._sweep(_SWEEP, now)
            self._sweep_at = now + _SWEEP_EVERY
        if subject not in self._accounts:
            self._sweep(2, now)
        return self._known(subject, limits, now)

    def _known(self, subject: str, limits: Limits, now: int) -> Account:
        account = self._accounts.get(subject)
        if account is None:
            account = self._accounts[subject] = Account(subject)
            self._ring.append(subject)
        if account.limits is not limits:
            account.adopt(limits, self.settings, now, self._wall)
        return account

    def _all_accounts(self, pairs: Sequence[tuple[str, Limits]], now: int) -> list[Account]:
        """Each subject once. The sweep comes first: it forgets whoever has used nothing yet."""
        new = sum(subject not in self._accounts for subject, _ in pairs)
        if new:
            self._sweep(2 * new, now)
        bounds = dict(reversed(pairs))
        return [self._known(subject, bounds[subject], now) for subject in dict(pairs)]

    def _reserve_all(self, accounts: list[Account], costs: Costs, now: int) -> Reservation:
        for account in accounts:
            if len(account.leases) >= account.concurrent and self._is_full(account, now):
                raise refusal(accounts, costs, now)
        taken: list[_Taken] = []
        for account in accounts:
            for place, line in account.lines:
                due = line.after(costs[place], now)
                if due is None:
                    raise refusal(accounts, costs, now)
                taken.append((place, line, line.window, due))
        for place, line, _, due in taken:
            if place:
                line.charge(due, costs[place])
            else:  # a request is used at once
                line.due = due
        first = accounts[0]
        reservation = _WideReservation(costs[1], self, first, None, _OPEN, accounts, costs, taken)
        for account in accounts:
            account.leases[reservation] = now + self._lease
        self.reservations_open += 1
        return reservation

    def _sweep(self, count: int, now: int) -> None:
        for _ in range(min(count, len(self._ring))):
            subject = self._ring.popleft()
            account = self._accounts[subject]
            self._lapse(account, now)
            if account.is_idle(now):
                del self._accounts[subject]
            else:
                self._ring.append(subject)

    def _is_full(self, account: Account, now: int) -> bool:
        self._lapse(account, now)
        return len(account.leases) >= account.concurrent

    def _lapse(self, account: Account, now: int) -> None:
        """Take back what was held too long. Leases are equally long, so the first ends first."""
        leases = account.leases
        while leases and leases[oldest := next(iter(leases))] <= now:
            self._lapsed += 1
            oldest.lapse()

    def _close(self, reservation: Reservation, account: Account) -> None:
        self.reservations_open -= 1
        if account.leases.pop(reservation, None) is None:
            self._lapsed -= 1


def limits_of(rate: str | Limit | None) -> Limits:
    if rate is None:
        return Limits()
    limit = Limit.parse(rate) if isinstance(rate, str) else rate
    return Limits(
        requests=limit if limit.unit == "requests" else None,
        tokens=limit if limit.unit == "tokens" else None,
        input_tokens=limit if limit.unit == "input_tokens" else None,
        output_tokens=limit if limit.unit == "output_tokens" else None,
    )
