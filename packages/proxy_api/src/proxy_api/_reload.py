"""Reloading: a new configuration in the place of the old one, while requests run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from proxy_api._gateway import Gateway
from proxy_api._settings import Settings
from proxy_api._settings_diff import needs_restart
from proxy_core.errors import ConfigurationError
from proxy_logging import ConfigReloaded

__all__ = ["Outcome", "Past", "Reloader"]

_LONGEST_READ = 30.0
"""Seconds for a file on a disk that hangs: later reloads wait behind this one."""
_NO_MODELS = (
    "models: the list is empty, so there would be nothing to serve. "
    "Stop the service if that is what is meant"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one reload."""

    applied: bool
    changes: tuple[str, ...] = ()
    """What is different now, a sentence each."""
    needs_restart: tuple[str, ...] = ()
    """Paths of settings that differ in the file and that only a restart changes."""
    problem: str = ""
    """Why it was refused; empty when it wasn't."""

    @property
    def result(self) -> Literal["applied", "unchanged", "refused"]:
        if not self.applied:
            return "refused"
        return "applied" if self.changes else "unchanged"


class Past(NamedTuple):
    """The last reload, and its Unix time."""

    at: float
    outcome: Outcome


class Reloader:
    """Loads a configuration again and puts it in force, or leaves all as it is.

    Args:
        gateway: whose snapshot is exchanged.
        load: gives the whole configuration, checked; runs in a thread. Raises ConfigurationError.
        beside: called with new settings that fit, just before they count; one that raises
            ConfigurationError refuses them.
        source: where the configuration comes from, for people.
    """

    def __init__(
        self,
        gateway: Gateway,
        load: Callable[[], Settings],
        *,
        beside: Sequence[Callable[[Settings], None]] = (),
        source: str = "",
    ) -> None:
        self.source = source
        self.last: Past | None = None
        self._gateway = gateway
        self._load = load
        self._beside = beside
        self._turn = asyncio.Lock()

    async def reload(self) -> Outcome:
        """Load and exchange. Raises nothing: what is wrong is the outcome's ``problem``.

        Who calls while another reload runs waits for it and then loads again, so the newest
        configuration wins.
        """
        async with self._turn:
            outcome = await self._attempt()
            self.last = Past(time.time(), outcome)
            self._tell(outcome)
            return outcome

    async def _attempt(self) -> Outcome:
        try:
            async with asyncio.timeout(_LONGEST_READ):
                settings = await asyncio.to_thread(self._load)
            return self._apply(settings)
        except TimeoutError:
            told = f"a file of the configuration can't be read: no answer in {_LONGEST_READ:.0f} s"
            return Outcome(applied=False, problem=told)
        except ConfigurationError as error:
            return Outcome(applied=False, problem=error.message)
        except Exception as error:  # noqa: BLE001 - whatever it is, what runs must go on
            told = f"the configuration can't be loaded: {type(error).__name__}: {error}"
            return Outcome(applied=False, problem=told)

    def _apply(self, settings: Settings) -> Outcome:
        if not settings.models:
            raise ConfigurationError(_NO_MODELS)
        fixed = needs_restart(self._gateway.settings, settings)
        changes = self._gateway.reload(settings, beside=self._beside)
        return Outcome(applied=True, changes=changes, needs_restart=fixed)

    def _tell(self, outcome: Outcome) -> None:
        self._gateway.observer(
            ConfigReloaded(result=outcome.result, changes=outcome.changes, detail=outcome.problem)
        )
        for path in outcome.needs_restart:
            self._gateway.logger.warning(
                "setting_needs_restart", detail=f"{path} has changed: it needs a restart."
            )
