"""What an app serves from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from proxy_api._compose import Parts, compose, tune
from proxy_api._policy import account_of
from proxy_api._settings import Settings
from proxy_api._settings_diff import changes, in_force
from proxy_api._snapshot import Runtime, Snapshot
from proxy_core import LoopLag, Provider
from proxy_logging import Metrics, NoMetrics, StructuredLogger

if TYPE_CHECKING:
    from proxy_api._reload import Reloader

__all__ = ["Gateway"]


class Gateway:
    """The snapshot of the moment, and what lives behind it."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics | NoMetrics,
        parts: Parts,
        logger: StructuredLogger,
    ) -> None:
        self.settings = settings
        """What this process works by: the file's, but for what only a restart changes."""
        self.metrics = metrics
        self.logger = logger
        self.observer = parts.observer
        self.runtime = Runtime()
        self.started_at = int(time.time())
        """Unix time."""
        self._began = time.monotonic()
        self.draining = False
        """Whether it is about to end: then it isn't ready, and serves what still comes."""
        self.reloader: Reloader | None = None
        self._obstacles: list[Callable[[], bool]] = []
        self._parts = parts
        self._inside = 0
        self._former: dict[Snapshot, int] = {}
        self._unnamed: set[Provider] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._talk: asyncio.Task[None] | None = None
        self.snapshot = compose(settings, self.runtime, parts)
        tune(settings, self.runtime)
        self.runtime.share()
        self._lag = LoopLag(self.runtime.admission.lagged)
        self._warn(settings.not_in_force())

    @property
    def ready(self) -> bool:
        """Whether requests can be served. Asks no dependency."""
        return not self.draining and not any(stands() for stands in self._obstacles)

    @property
    def in_flight(self) -> int:
        """Requests on hot surfaces at this moment."""
        return self._inside + sum(self._former.values())

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def not_ready_while(self, stands: Callable[[], bool]) -> None:
        """Add a condition under which ``/readyz`` says no: a local model that loads, a drain."""
        self._obstacles.append(stands)

    def enter(self) -> Snapshot:
        """The snapshot of the moment, for one request, until it says ``leave``."""
        self._inside += 1
        return self.snapshot

    def leave(self, snapshot: Snapshot) -> None:
        """The request that got this snapshot is over."""
        if snapshot is self.snapshot:
            self._inside -= 1
        else:
            self._leave_former(snapshot)

    def reload(
        self, settings: Settings, *, beside: Sequence[Callable[[Settings], None]] = ()
    ) -> tuple[str, ...]:
        """Serve what comes from now on by these settings; say what is different.

        To be called in the loop. Breakers, pools and limits of whatever is still named go on.
        ``beside`` are called when the settings are known to fit, before they count. Raises
        ConfigurationError, and whatever ``beside`` raises; then nothing has changed.
        """
        settings = in_force(self.settings, settings)
        told = changes(self.settings, settings)
        known = self.settings.not_in_force()
        new = [sentence for sentence in settings.not_in_force() if sentence not in known]
        runtime = self.runtime.copy()
        snapshot = compose(settings, runtime, self._parts)
        for step in beside:
            step(settings)
        # From here on nothing fails: all of it is in force, or nothing was.
        runtime.keep(snapshot.deployments)
        tune(settings, runtime)
        runtime.share()
        self.settings = settings
        self._swap(snapshot, runtime)
        self._warn(new)
        return told

    async def start(self) -> None:
        """Begin what needs a loop; for the time before the first request."""
        self._lag.start()
        await self.snapshot.limiter.start()
        if self.runtime.hints is not None:
            self._talk = asyncio.create_task(self.runtime.hints.run())

    async def aclose(self) -> None:
        """Close pools and flush traces; for the end, when no request is left."""
        self._lag.stop()
        await self._fall_silent()
        await self.snapshot.limiter.aclose()
        for provider in (*self._unnamed, *self.runtime.providers.values()):
            await self._close(provider)
        self._unnamed.clear()
        await asyncio.gather(*self._closing)
        # Flushing to a collector that is away takes seconds.
        await asyncio.to_thread(self._parts.tracer.shutdown)
        self.logger.flush()

    async def _fall_silent(self) -> None:
        """The other processes hear no more of this one."""
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.wait([self._talk])
        if self.runtime.hints is not None:
            await self.runtime.hints.aclose()

    def _swap(self, snapshot: Snapshot, runtime: Runtime) -> None:
        if self._inside:
            self._former[self.snapshot] = self._inside
        self._inside = 0
        self._unnamed.update({*self.runtime.providers.values()} - {*runtime.providers.values()})
        self.runtime, self.snapshot = runtime, snapshot
        self._close_unused()

    def _leave_former(self, snapshot: Snapshot) -> None:
        self._former[snapshot] -= 1
        if not self._former[snapshot]:
            del self._former[snapshot]
            self._close_unused()

    def _close_unused(self) -> None:
        """Close what no configuration names any more that a request still goes by."""
        former = (row for snapshot in self._former for row in snapshot.deployments)
        used = {account_of(row.provider) for row in former}
        for provider in self._unnamed - used:
            self._unnamed.discard(provider)
            closing = asyncio.get_running_loop().create_task(self._close(provider))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close(self, provider: Provider) -> None:
        try:
            await provider.aclose()
        except Exception:
            self.logger.exception("close_failed", provider=provider.name)

    def _warn(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self.logger.warning("setting_not_in_force", detail=sentence)
