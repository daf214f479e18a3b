"""What tells the store of a shared limiter, and hears from it, one round trip after another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from typing import TYPE_CHECKING

from proxy_core._away import Away
from proxy_core._limiter_store import StoreAway
from proxy_core._share import Share, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy_core._limiter_store import LimiterStore
    from proxy_core._limits import Limits
    from proxy_core._share import SharedSettings
    from proxy_logging import Observer

__all__ = ["Pump"]

_BATCH = 128
"""Subjects told of in one round trip."""
_CONNECT = 1.0
"""Seconds to find the store, connect and load the function, while no request waits for it."""
_IDLE = 60_000_000
"""Microseconds after which a subject with nothing to tell is forgotten."""


class Pump:
    """Owns the shares of all subjects. One task talks to the store; requests wait for futures.

    So no request that is cancelled breaks off a call, and all who wait have a round trip in common.
    """

    def __init__(
        self,
        settings: SharedSettings,
        store: LimiterStore,
        clock: Callable[[], float],
        observer: Observer | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.shares: dict[str, Share] = {}
        self.away = Away(settings, clock, observer)
        self.replicas = 1
        self.settlements_lost = 0
        self.beat_at = 0.0
        self._clock = clock
        self._replica = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._queue: list[Share] = []
        self._wake = asyncio.Event()
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tick: asyncio.TimerHandle | None = None

    def now(self) -> int:
        """Microseconds."""
        return int(self._clock() * 1e6 + 0.5)

    async def start(self) -> bool:
        """Find the store, so that the first request needn't; False when it is away."""
        try:
            self.replicas = max(1, await self.store.gather(self._replica, _CONNECT))
        except StoreAway:
            return False
        return True

    async def aclose(self) -> None:
        """Give back what is in hand, tell what was used, and close the store."""
        self._closed.set()
        self._wake.set()
        if self._task is not None:
            # Not cancelled: a call that breaks off leaves a connection with half an answer.
            await self._task
        if self._tick is not None:
            self._tick.cancel()
        with contextlib.suppress(StoreAway):
            # Twice: what was under way is answered first, the rest goes with the last message.
            for _ in range(2):
                await self._send([share for share in self.shares.values() if share.has_news])
        self.settlements_lost += sum(share.has_news for share in self.shares.values())
        await self.store.aclose()

    def share(self, subject: str, limits: Limits) -> Share:
        share = self.shares.get(subject)
        if share is None:
            if len(self.shares) >= self.settings.pending:
                self._forget_one()
            share = self.shares[subject] = Share(subject, limits, self.settings)
        elif share.limits is not limits:
            share.adopt(limits)
        return share

    def _forget_one(self) -> None:
        """Make room: of the oldest, one that has nothing to tell, else one whose news is lost."""
        oldest = [share for share, _ in zip(self.shares.values(), range(64), strict=False)]
        idle = [share for share in oldest if not share.open and not share.has_news]
        share = (idle or oldest)[0]
        self.settlements_lost += share.has_news or share.open > 0
        del self.shares[share.subject]

    async def decided(self, share: Share, costs: Sequence[int]) -> bool:
        """True when granted, False when the store is away. Raises LimitExceeded."""
        if share.fits(costs, self.now()):
            share.take(costs)
            return True
        loop = asyncio.get_running_loop()
        waiter = Waiter(share.costs(costs), loop.create_future())
        share.waiting.append(waiter)
        self.due(share)
        alarm = loop.call_later(self.settings.patience, self._lose_patience, waiter, loop)
        try:
            verdict = await waiter.decided
        except asyncio.CancelledError:
            decided = waiter.decided
            if decided.done() and not decided.cancelled() and decided.result() is True:
                share.undo(waiter.costs)
                self.due(share)
            raise
        finally:
            alarm.cancel()
        if isinstance(verdict, Exception):
            raise verdict
        return verdict is True

    def _lose_patience(self, waiter: Waiter, loop: asyncio.AbstractEventLoop) -> None:
        # An answer may have come while this process was busy: one more turn to read it.
        loop.call_later(0.001, self._leave, waiter)

    def _leave(self, waiter: Waiter) -> None:
        if not waiter.decided.done():
            self._lost()

    def _lost(self) -> None:
        self.away.begin(self.replicas)
        for share in self.shares.values():
            for waiter in share.waiting:
                if not waiter.decided.done():
                    waiter.decided.set_result(None)

    def due(self, share: Share) -> None:
        """Let the store hear of this subject: at once, or with the next tick when it is busy."""
        if share.is_due and not share.waiting:
            return
        if not share.is_due:
            share.is_due = True
            self._queue.append(share)
        if self._closed.is_set():
            return
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        if share.waiting or not share.is_hot:
            self._wake.set()
        elif self._tick is None:
            loop = asyncio.get_running_loop()
            self._tick = loop.call_later(self.settings.tick, self._ring)

    def _ring(self) -> None:
        self._tick = None
        self._wake.set()

    async def _run(self) -> None:
        """Tell the store, as long as there is anything; find out when it is back."""
        while not self._closed.is_set():
            if not self._wake.is_set():
                await _set_within(self._wake, self._pause())
            try:
                await self._beat()
                self._wake.clear()
                shares, self._queue = self._queue, []
                for share in shares:
                    share.is_due = False
                for start in range(0, len(shares), _BATCH):
                    await self._tell(shares[start : start + _BATCH])
            except StoreAway:
                self._lost()
                # All that has news is due again when the store is back.
                for share in self._queue:
                    share.is_due = False
                self._queue.clear()
                await _set_within(self._closed, self.settings.probe)

    def _pause(self) -> float:
        rest = max(0.0, self.beat_at - self._clock())
        return min(rest, self.settings.probe) if self.away.is_on else rest

    async def _tell(self, shares: list[Share]) -> None:
        await self._send([share for share in shares if share.has_news or share.open])
        for share in shares:
            if share.is_hot or share.has_news:
                self.due(share)

    async def _send(self, shares: list[Share]) -> None:
        now = self.now()
        messages = [
            (
                share.subject,
                share.message(
                    self._replica, next(self._numbers), now, leaves=self._closed.is_set()
                ),
            )
            for share in shares
        ]
        if not messages:
            return
        answers = await self.store.exchange(messages, self.settings.patience)
        now = self.now()
        for share, answer in zip(shares, answers, strict=True):
            share.hear(answer, now)

    async def _beat(self) -> None:
        """From time to time: say that we are here, renew slots, forget who is idle.

        While the store is away it is how we learn that it is back.
        """
        now = self._clock()
        if now < self.beat_at and not self.away.is_on:
            return
        if self.away.is_on:
            await self.store.gather(self._replica, _CONNECT)
        self.replicas = max(1, await self.store.gather(self._replica, self.settings.patience))
        self.beat_at = now + self.settings.silence / 3
        if self.away.is_on:
            self.away.end(self.shares)
        idle = int(now * 1e6) - _IDLE
        for share in list(self.shares.values()):
            if share.open or share.has_news:
                self.due(share)
            elif share.known_at < idle and not share.is_due:
                del self.shares[share.subject]


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
