"""The breaker of those who want none."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy_core._breaker_machine import State
    from proxy_core._breaker_settings import BreakerSettings

__all__ = ["AlwaysClosed"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class AlwaysClosed:
    """The breaker of those who want none: all calls pass, nothing is counted."""

    state: State = "closed"
    generation = 0
    open_until: float | None = None
    permits_out = 0
    weight = 1.0

    def __init__(self, name: str = "always-closed") -> None:
        self.name = name
        self._permit = _FreePermit()

    def permit(self, *, stream: bool = False, last: bool = False) -> _FreePermit:
        """Leave for one call, at once."""
        return self._permit

    def enter(self, *, stream: bool = False, last: bool = False) -> _FreePermit:
        """The same."""
        return self._permit

    @property
    def retry_after(self) -> float | None:
        """No wait."""
        return 0.0

    def force_open(self, seconds: float | None = None) -> None:
        """Nothing: there is no breaker to open."""

    def force_close(self, seconds: float | None = None) -> None:
        """Nothing: it is closed."""

    def reset(self) -> None:
        """Nothing: there is nothing to forget."""

    def retune(self, settings: BreakerSettings) -> None:
        """Nothing: it has no settings."""

    async def __aenter__(self) -> _FreePermit:
        return self._permit

    async def __aexit__(self, *ending: object) -> None:
        pass

    def __call__(self, function: Callable[_P, Awaitable[_T]]) -> Callable[_P, Awaitable[_T]]:
        """The function itself."""
        return function


class _FreePermit:
    """A permit that costs nothing and may be entered by everybody at once."""

    __slots__ = ()

    def succeeded(self) -> None:
        """Nothing: nobody counts."""

    def end(
        self, kind: object = None, error: BaseException | None = None, trace: object = None
    ) -> None:
        """Nothing: nothing was taken."""

    def __enter__(self) -> Self:
        return self

    __exit__ = end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *ending: object) -> None:
        pass
