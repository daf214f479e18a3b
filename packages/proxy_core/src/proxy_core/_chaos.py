"""Faults on purpose, in front of a provider: so that teams can test their own clients.

The errors have the shapes of real ones. They say nothing about the upstream, so no breaker counts
them, and no other deployment is asked: they reach the client that wants to see them.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from proxy_core._types import Call, Provider, Reply, Timeouts
from proxy_core.errors import (
    ConfigurationError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamFailed,
    UpstreamThrottled,
    UpstreamTimeout,
)

__all__ = ["ChaosProvider", "ChaosSettings"]

_SHARES: Final = (
    "throttled",
    "overloaded",
    "stalled_head",
    "stalled_stream",
    "broken_stream",
    "cut_stream",
    "slow_tokens",
)
_BLANK: Final = b"\n\n"
_LATEST: Final = 6
"""A stream's fault comes after its first content, and after so many events at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosSettings:
    """Which share of the calls meets which fault; together at most 1. Times are seconds.

    Raises ConfigurationError that names the field and the value when one can't be used.
    """

    throttled: float = 0.0
    """429 with Retry-After, before the upstream is asked."""
    overloaded: float = 0.0
    """529 with Retry-After, before the upstream is asked."""
    stalled_head: float = 0.0
    """Silence for ``stall`` before the upstream is asked; a timeout if that is longer."""
    stalled_stream: float = 0.0
    """Silence for ``stall`` between two events; a timeout if that is longer."""
    broken_stream: float = 0.0
    """An error in place of an event."""
    cut_stream: float = 0.0
    """The connection ends in place of an event."""
    slow_tokens: float = 0.0
    """``pause`` before each event."""
    retry_after: float = 2.0
    stall: float = 30.0
    pause: float = 0.5
    seed: int | None = None
    """The same seed gives the same faults to the same number of calls; None: others each time."""

    def __post_init__(self) -> None:
        for field in (*_SHARES, "retry_after", "stall", "pause"):
            value = getattr(self, field)
            most = 1.0 if field in _SHARES else 3600.0
            if not 0 <= value <= most:
                raise ConfigurationError(
                    f"chaos {field} is {value!r}: give a number from 0 to {most:g}", param=field
                )
        together = math.fsum(getattr(self, field) for field in _SHARES)
        if together > 1 + 1e-9:
            raise ConfigurationError(
                f"the shares of chaos are {together:g} together: give 1 at most", param="chaos"
            )


class _Throttled(UpstreamThrottled):
    retryable = False


class _Overloaded(UpstreamFailed):
    retryable = False
    verdict = "let_go"


class _Cut(UpstreamDisconnected):
    retryable = False
    verdict = "let_go"


class _TimedOut(UpstreamTimeout):
    retryable = False
    verdict = "let_go"


class ChaosProvider:
    """A provider whose calls meet faults, by seeded chance. Put it before a real one.

    ::

        provider = ChaosProvider(provider, ChaosSettings(throttled=0.1, cut_stream=0.05, seed=7))

    Args:
        provider: who answers in the end. It stays its owner's: closing this one closes nothing.
        settings: see ChaosSettings.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        provider: Provider,
        settings: ChaosSettings,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = provider.name
        self.settings = settings
        self.met = dict.fromkeys(_SHARES, 0)
        """How many calls have met each fault."""
        self._provider = provider
        self._sleep = sleep
        self._rng = random.Random(settings.seed)

    def send(
        self, call: Call, *, model: str, timeouts: Timeouts = Timeouts()
    ) -> AbstractAsyncContextManager[Reply]:
        """Ask ``model``, or meet a fault. Raises UpstreamError, also from the body."""
        fault, at = self._draw()
        asking = self._provider.send(call, model=model, timeouts=timeouts)
        if not fault:
            return asking
        self.met[fault] += 1
        return _Troubled(self, asking, fault, at, f"{self.name}/{model}", timeouts)

    async def aclose(self) -> None:
        """Nothing: the provider is its owner's."""

    def _draw(self) -> tuple[str, int]:
        # Both numbers are drawn for each call, so that one setting doesn't move another's faults.
        left, at = self._rng.random(), self._rng.randint(1, _LATEST)
        for fault in _SHARES:
            left -= getattr(self.settings, fault)
            if left < 0:
                return fault, at
        return "", at

    async def wait(self, phase: str, limit: float, deployment: str) -> None:
        """Be silent, but for no longer than the call would wait."""
        await self._sleep(min(self.settings.stall, limit))
        if self.settings.stall >= limit:
            raise _TimedOut(
                "the upstream fell silent (injected)", phase=phase, deployment=deployment
            )

    async def pause(self) -> None:
        """What lies between slow tokens."""
        await self._sleep(self.settings.pause)

    def refusal(self, fault: str, deployment: str) -> UpstreamError:
        """What the upstream would have said."""
        if fault == "throttled":
            return _Throttled(
                "Rate limit reached for requests (injected)",
                deployment=deployment,
                upstream_status=429,
                upstream_code="rate_limit_exceeded",
                retry_after=self.settings.retry_after,
            )
        return _Overloaded(
            "Overloaded (injected)",
            deployment=deployment,
            upstream_status=529,
            upstream_code="overloaded_error",
            retry_after=self.settings.retry_after,
        )


class _Troubled:
    """One call that meets its fault."""

    __slots__ = (
        "_asking",
        "_at",
        "_body",
        "_chaos",
        "_deployment",
        "_fault",
        "_inner",
        "_timeouts",
    )

    def __init__(
        self,
        chaos: ChaosProvider,
        asking: AbstractAsyncContextManager[Reply],
        fault: str,
        at: int,
        deployment: str,
        timeouts: Timeouts,
    ) -> None:
        self._chaos = chaos
        self._asking = asking
        self._fault = fault
        self._at = at
        self._deployment = deployment
        self._timeouts = timeouts

    async def __aenter__(self) -> Reply:
        if self._fault in ("throttled", "overloaded"):
            raise self._chaos.refusal(self._fault, self._deployment)
        if self._fault == "stalled_head":
            await self._chaos.wait("first_byte", self._timeouts.first_byte, self._deployment)
        reply = await self._asking.__aenter__()
        self._body = self._troubled(reply)
        reply.body, self._inner = self._body, reply.body
        return reply

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._body.aclose()
        finally:
            await self._asking.__aexit__(kind, error, trace)

    async def _troubled(self, reply: Reply) -> AsyncGenerator[bytes, None]:
        number, is_due, has_spoken = 0, self._fault != "stalled_head", False
        kept = b""  # once there is content, one event: after the last one a client stops listening
        async for chunk in self._inner:
            for event in _events(chunk) if reply.stream else (chunk,):
                told = event
                if self._fault == "slow_tokens":
                    await self._chaos.pause()
                elif is_due and has_spoken and number >= self._at:
                    is_due = False
                    await self._strike()
                    told, kept = kept + event, b""
                elif is_due and has_spoken:
                    told, kept = kept, event
                if told:
                    yield told
                number, has_spoken = number + 1, reply.has_content
        if is_due:
            await self._strike()  # it was shorter than that
        if kept:
            yield kept

    async def _strike(self) -> None:
        if self._fault == "stalled_stream":
            limit = self._timeouts.between_events
            await self._chaos.wait("between_events", limit, self._deployment)
        elif self._fault == "broken_stream":
            raise self._chaos.refusal("overloaded", self._deployment)
        elif self._fault == "cut_stream":
            raise _Cut(
                "the upstream broke off in the middle of its answer (injected)",
                deployment=self._deployment,
            )


def _events(chunk: bytes) -> list[bytes]:
    """A quick upstream's events come together; a fault is to come between two of them."""
    *events, rest = chunk.split(_BLANK)
    parts = [event + _BLANK for event in events]
    return [*parts, rest] if rest else parts
