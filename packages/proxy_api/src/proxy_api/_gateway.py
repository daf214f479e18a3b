"""What an app serves from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from proxy_api._compose import Parts, compose
from proxy_api._settings import Settings
from proxy_api._snapshot import Runtime
from proxy_logging import Metrics, NoMetrics, StructuredLogger

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
        self.metrics = metrics
        self.logger = logger
        self.runtime = Runtime()
        self.started_at = int(time.time())
        self._obstacles: list[Callable[[], bool]] = []
        self._parts = parts
        self.snapshot = compose(settings, self.runtime, parts)
        for sentence in settings.not_in_force():
            logger.warning("setting_not_in_force", detail=sentence)

    @property
    def ready(self) -> bool:
        """Whether requests can be served. Asks no dependency."""
        return not any(stands() for stands in self._obstacles)

    def not_ready_while(self, stands: Callable[[], bool]) -> None:
        """Add a condition under which ``/readyz`` says no: a local model that loads, a drain."""
        self._obstacles.append(stands)

    async def aclose(self) -> None:
        """Close pools and flush traces; for the end, when no request is left."""
        await self.runtime.aclose()
        # Flushing to a collector that is away takes seconds.
        await asyncio.to_thread(self._parts.tracer.shutdown)
