"""The limiter of those who want none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from proxy_core._limits import Limits, LimitState

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Unlimited"]


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
        self,
        subject: str,
        limits: Limits | None = None,
        *,
        tokens: int = 0,
        output: int = 0,
        money: int = 0,
        also: Sequence[tuple[str, Limits]] = (),
    ) -> _FreeReservation:
        """Granted."""
        return self._reservation

    async def ask(
        self,
        subject: str,
        limits: Limits | None = None,
        *,
        tokens: int = 0,
        output: int = 0,
        money: int = 0,
        also: Sequence[tuple[str, Limits]] = (),
    ) -> _FreeReservation:
        """Granted."""
        return self._reservation

    async def start(self) -> bool:
        """Nothing to connect to."""
        return True

    async def aclose(self) -> None:
        """Nothing to give back."""

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

    def settle(
        self, tokens_used: int, *, output: int | None = None, money: int | None = None
    ) -> None:
        """Nothing: nobody counts."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None:
        pass
