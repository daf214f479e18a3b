"""What the processes of a fleet tell each other of sick upstreams: hints, through Redis.

A hash that each process reads a few times a second, rather than messages: it is one round trip
whatever the traffic, a newcomer sees all of it, nothing is lost while a connection is away, and it
is the same for a single server, Sentinel and Cluster. Who has news writes at once.

No request waits for it. Verdicts stay local, and while Redis is away each process goes by its own.
"""

# ruff: noqa: SLF001 - it has a hand in the machine of each breaker that it watches

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from proxy_core._breaker_machine import Machine, always
from proxy_core._hint_settings import HintSettings
from proxy_core._redis import open_redis
from proxy_logging import BreakerChanged, Event

if TYPE_CHECKING:
    from proxy_core._breaker import CircuitBreaker
    from proxy_core._credentials import CredentialPool

__all__ = ["FleetHints", "HintSettings"]

_SCRIPT: Final = """
local owner, life, takes, stale = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local got = {}
for at = 2, #KEYS do
  local holder = redis.call('get', KEYS[at])
  if at > takes + 1 then
    if holder == owner then redis.call('del', KEYS[at]) end
  elseif holder and holder ~= owner then
    got[#got + 1] = 0
  else
    redis.call('set', KEYS[at], owner, 'PX', life)
    got[#got + 1] = 1
  end
end
local told = 5 + 2 * stale
for at = 5, told - 1, 2 do
  if redis.call('hget', KEYS[1], ARGV[at]) == ARGV[at + 1] then
    redis.call('hdel', KEYS[1], ARGV[at])
  end
end
local hints = redis.call('hgetall', KEYS[1])
if #ARGV >= told then
  redis.call('hset', KEYS[1], unpack(ARGV, told))
  redis.call('pexpire', KEYS[1], 3600000)
end
return {redis.call('time'), hints, got}
"""
"""All of an exchange. Keys: the hash, leases to take, leases to give back. Arguments: who, the
milliseconds of a lease, how many leases to take, how many hints to remove, these and the news as
pairs."""
_KEPT: Final = 60.0
"""Seconds after its time that a hint stays in the hash, for those whose clocks lag."""


_NOTHING: Final = (0, "")


class _Hint(msgspec.Struct, frozen=True, array_like=True):
    """One process's news of one thing."""

    owner: str
    number: int
    """Together with the owner, it tells news from old ones."""
    kind: str
    """``open``, ``closed``, ``throttled``."""
    at: float
    """On the server's clock: until when, or for ``closed`` since when."""


class _Watched:
    """A breaker, what was last told of it, and its lease on the fleet's next probe."""

    __slots__ = ("held_until", "idle_since", "machine", "progress", "rests_until", "told")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.told = _NOTHING
        self.held_until = -math.inf
        self.idle_since = 0.0
        self.rests_until = 0.0
        self.progress = (0, 0, 0)


class FleetHints:
    """Tells the other processes what is sick here, and hears it from them.

    ::

        hints = FleetHints(redis.asyncio.Redis(...))
        breaker = CircuitBreaker("gpu", observer=hints)
        hints.watch(breaker)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hints.run())

    What it does to a breaker: while another process has it open, one failure opens it here, unless
    three calls have succeeded here since. While it is open, one process of the fleet probes. When
    that one's probes have closed it, it closes in the others too, with a slow start. To a pool of
    credentials: what an upstream told one process, the others keep to. Commands by hand stay with
    the process that got them.

    Args:
        redis: a ``redis.asyncio`` client, its owner's to close. From a URL: ``FleetHints.at``.
        settings: see HintSettings.
        clock: monotonic seconds, the same as that of what is watched.
        rng: numbers from 0 to below 1, so that processes don't keep step.
    """

    def __init__(
        self,
        redis: Any,
        settings: HintSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings or HintSettings()
        self.owner = secrets.token_hex(8)
        """Of this process, among its hints."""
        self.trouble = ""
        """Why the last exchange failed; empty when it went well."""
        self._redis = redis
        self._ours: Sequence[Any] = ()
        self._failures: tuple[type[Exception], ...] = (*_redis_errors(), OSError, TimeoutError)
        self._clock = clock
        self._rng = rng
        self._breakers: dict[str, _Watched] = {}
        self._pools: dict[str, CredentialPool] = {}
        self._heard_at = -math.inf
        self._ahead: float | None = None
        self._seen: dict[str, tuple[str, int]] = {}
        self._stale: dict[Any, Any] = {}
        self._number = 0
        self._told_waits: dict[str, float] = {}
        self._news = asyncio.Event()
        # One slot of a cluster has all of them.
        self._key = f"{{{self.settings.prefix}:hints}}"

    @classmethod
    def at(cls, url: str, settings: HintSettings | None = None) -> Self:
        """With a client of its own, which ``aclose`` closes. ``url``: see RedisStore.

        Raises ConfigurationError for a URL that can't be used, and without redis-py.
        """
        client, helpers = open_redis(url)
        hints = cls(client, settings)
        hints._ours = (client, *helpers)
        return hints

    @property
    def is_connected(self) -> bool:
        """Whether the last exchanges went well; else each process is on its own."""
        patience = 3 * self.settings.interval + self.settings.timeout
        return self._clock() - self._heard_at <= patience

    def watch(self, breaker: CircuitBreaker) -> None:
        """Share what happens to it with those of the same name in other processes."""
        machine, known = breaker._machine, self._breakers.get(breaker.name)
        if known is None or known.machine is not machine:
            if known is not None:
                known.machine.may_probe = always
            watched = self._breakers[breaker.name] = _Watched(machine)
            machine.may_probe = partial(self._may_probe, watched)

    def watch_pool(self, pool: CredentialPool) -> None:
        """Share what its credentials are told."""
        self._pools[pool.name] = pool

    def forget(self, name: str) -> None:
        """No longer share the breaker and the pool of this name."""
        self._pools.pop(name, None)
        if watched := self._breakers.pop(name, None):
            watched.machine.may_probe = always

    def watch_only(
        self, breakers: Iterable[CircuitBreaker], pools: Iterable[CredentialPool]
    ) -> None:
        """Share these and nothing else; what of them was watched before goes on as it was."""
        named = {breaker.name: breaker for breaker in breakers}
        for name in self._breakers.keys() - named.keys():
            self.forget(name)
        for breaker in named.values():
            self.watch(breaker)
        self._pools = {pool.name: pool for pool in pools}
        self._seen = {}  # who is new hears all that is told

    def __call__(self, event: Event, /) -> None:
        """Be told of an event, as an observer: a breaker that has changed is news."""
        if isinstance(event, BreakerChanged):
            self._news.set()

    async def run(self) -> None:
        """Exchange hints until cancelled. What Redis does, or doesn't, never ends it."""
        while True:
            self._news.clear()
            await self.exchange()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.interval * (0.75 + self._rng() / 2)):
                    await self._news.wait()

    async def aclose(self) -> None:
        """Close the client, if ``at`` has made it; for after ``run``."""
        for client in self._ours:
            with suppress(*self._failures):
                await asyncio.wait_for(client.aclose(), self.settings.timeout)

    async def exchange(self) -> bool:
        """One round trip: tell and hear. False when Redis was away."""
        began = self._clock()
        takes, gives = self._leases(began)
        told = self._told(began)
        pairs = [part for pair in (*self._stale.items(), *told.items()) for part in pair]
        keys = [self._key, *(f"{self._key}:probe:{name}" for name in (*takes, *gives))]
        counts = (round(self.settings.lease * 1000), len(takes), len(self._stale))
        try:
            async with asyncio.timeout(self.settings.timeout):
                (seconds, micros), hints, got = await self._redis.eval(
                    _SCRIPT, len(keys), *keys, self.owner, *counts, *pairs
                )
        except self._failures as failure:
            self.trouble = f"{type(failure).__name__}: {failure}"
            self._untell()
            return False
        self.trouble = ""
        self._heard_at = self._clock()
        if self._ahead is None:
            self._news.set()  # nothing could be told before the server's time was known
        self._ahead = int(seconds) + int(micros) / 1e6 - self._heard_at
        for watched, is_ours in zip(takes.values(), got, strict=True):
            watched.held_until = began + self.settings.lease if is_ours else -math.inf
        self._hear(dict(zip(hints[::2], hints[1::2], strict=True)))
        return True

    def _may_probe(self, watched: _Watched) -> bool:
        return not self.is_connected or self._clock() < watched.held_until

    def _leases(self, now: float) -> tuple[dict[str, _Watched], list[str]]:
        """The probes that should be ours next, and those that we leave to others."""
        takes, gives = {}, []
        for name, watched in self._breakers.items():
            if self._wants(watched, now):
                takes[name] = watched
            elif now < watched.held_until:
                watched.held_until = -math.inf
                gives.append(name)
        return takes, gives

    def _wants(self, watched: _Watched, now: float) -> bool:
        machine = watched.machine
        if machine.is_closed or machine.by_hand or now < watched.rests_until:
            return False
        if now < machine.probe_at - 3 * (self.settings.interval + self.settings.timeout):
            return False
        before, watched.progress = watched.progress, machine.progress
        if watched.held_until < now or before != watched.progress or watched.progress[-1]:
            watched.idle_since = max(now, machine.probe_at)
        if now < watched.idle_since + self.settings.lease:
            return True
        # No traffic comes here: let another process try.
        watched.rests_until = now + 2 * self.settings.interval
        return False

    def _told(self, now: float) -> dict[str, bytes]:
        if self._ahead is None:
            return {}
        return self._told_of_breakers() | self._told_of_pools(now)

    def _untell(self) -> None:
        """Nobody has heard it: tell it again."""
        self._told_waits.clear()
        for watched in self._breakers.values():
            watched.told = _NOTHING

    def _told_of_breakers(self) -> dict[str, bytes]:
        told = {}
        for name, watched in self._breakers.items():
            machine = watched.machine
            news = (machine.generation, machine.state)
            if news == watched.told or machine.by_hand:
                continue
            watched.told = news
            if machine.state == "open":
                told[f"breaker:{name}"] = self._hint("open", machine.pause.until)
            elif machine.state == "closed" and machine.recovered_here:
                told[f"breaker:{name}"] = self._hint("closed", machine.recovered_at)
        return told

    def _told_of_pools(self, now: float) -> dict[str, bytes]:
        told = {}
        waits = {
            f"credential:{pool.name}:{name}": now + wait
            for pool in self._pools.values()
            for name, wait in pool.waits().items()
        }
        for field, until in waits.items():
            if until > self._told_waits.get(field, -math.inf) + self.settings.interval:
                told[field] = self._hint("throttled", until)
                self._told_waits[field] = until
        self._told_waits = {at: until for at, until in self._told_waits.items() if at in waits}
        return told

    def _hint(self, kind: str, at: float) -> bytes:
        self._number += 1
        return msgspec.json.encode(_Hint(self.owner, self._number, kind, at + (self._ahead or 0)))

    def _hear(self, hints: dict[Any, Any]) -> None:
        now = self._clock() + (self._ahead or 0)
        self._stale = {}
        seen = {}
        for raw_field, value in hints.items():
            field, hint = _read(raw_field, value)
            if hint is None:
                continue  # of a later version
            if hint.at + _KEPT < now:
                self._stale[raw_field] = value
            seen[field] = (hint.owner, hint.number)
            if hint.owner != self.owner and self._seen.get(field) != seen[field]:
                self._heed(field, hint, now)
        self._seen = seen

    def _heed(self, field: str, hint: _Hint, now: float) -> None:
        what, _, name = field.partition(":")
        if what == "breaker" and name in self._breakers:
            machine = self._breakers[name].machine
            if hint.kind == "open" and hint.at > now:
                machine.suspect(hint.at - now)
            elif hint.kind == "closed" and hint.at > machine.pause.began + (self._ahead or 0):
                machine.recovered_elsewhere()
        elif what == "credential" and hint.at > now:
            pool, _, credential = name.partition(":")
            if pool in self._pools:
                seconds = hint.at - now
                self._told_waits[field] = self._clock() + seconds
                self._pools[pool].hold(credential, seconds)


def _redis_errors() -> tuple[type[Exception], ...]:
    """A client's own errors; of a client that isn't redis-py's they are OSErrors."""
    try:
        errors = import_module("redis.exceptions")
    except ModuleNotFoundError:
        return ()
    return errors.RedisError, errors.RedisClusterException


def _read(field: Any, value: Any) -> tuple[str, _Hint | None]:
    """A hint of the hash; clients may decode what they get, or not."""
    try:
        name = field.decode() if isinstance(field, bytes) else str(field)
        return name, msgspec.json.decode(value, type=_Hint)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "", None
