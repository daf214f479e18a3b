"""One observer that hands on to many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from proxy_logging._events import Event, Observer

__all__ = ["Handler", "fan_out"]

Handler = Callable[[Any], None]
"""Takes the events of one kind."""


def fan_out(
    *observers: Observer, on_error: Callable[[Observer, Exception], object] | None = None
) -> Observer:
    """One observer that hands each event to all of them, in order.

    An observer that raises stops neither the others nor the request. Its first failure is reported
    to `on_error`, or as an error line when that is None; later ones are silent.

    Args:
        observers: whom to tell; none at all is fine.
        on_error: gets the observer and what it raised.
    """
    return _FanOut(observers, _logged if on_error is None else on_error)


def _logged(observer: Observer, error: Exception) -> None:
    # Here, so that who only hands events on need not wait for structlog to be imported.
    from proxy_logging._logger import StructuredLogger

    name = getattr(observer, "__qualname__", type(observer).__qualname__)
    StructuredLogger("proxy-logging").error("observer_failed", observer=name, exc_info=error)


class _FanOut(dict[type[Event], tuple[Handler, ...]]):
    """Whom to call for each kind of event, found at the first of its kind."""

    def __init__(
        self, observers: tuple[Observer, ...], on_error: Callable[[Observer, Exception], object]
    ) -> None:
        self._observers = observers
        self._on_error = on_error
        self._whose: dict[int, Observer] = {}
        """By the id of its handler."""
        self._failed: set[int] = set()

    def __call__(self, event: Event, /) -> None:
        for handle in self[type(event)]:
            try:
                handle(event)
            except Exception as error:  # noqa: BLE001 - an observer is anybody's code
                self._report(self._whose[id(handle)], error)

    def __missing__(self, kind: type[Event]) -> tuple[Handler, ...]:
        found = [(_handler(observer, kind), observer) for observer in self._observers]
        pairs = [(handle, observer) for handle, observer in found if handle is not None]
        self._whose.update((id(handle), observer) for handle, observer in pairs)
        handlers = self[kind] = tuple([handle for handle, _ in pairs])
        return handlers

    def _report(self, observer: Observer, error: Exception) -> None:
        if id(observer) in self._failed:
            return
        self._failed.add(id(observer))
        try:
            self._on_error(observer, error)
        except Exception:  # noqa: BLE001 - the report is a courtesy, the request is not
            return


def _handler(observer: Observer, kind: type[Event]) -> Handler | None:
    """What of an observer to call for a kind of event: nothing when it does nothing with it.

    Ours say so. One that derives from ours may have a call of its own, and is called.
    """
    if "handlers_say_all" in vars(type(observer)):
        handlers: Mapping[type[Event], Handler] = observer.handlers  # type: ignore[attr-defined]
        return handlers.get(kind)
    return observer
