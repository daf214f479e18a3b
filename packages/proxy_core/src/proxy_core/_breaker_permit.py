"""Leave to make one call: what a breaker is asked for, and told by."""

from __future__ import annotations

from typing import Self

import msgspec

from proxy_core._breaker_machine import Machine
from proxy_core._breaker_window import Phase

__all__ = ["Permit"]


# A struct, since one is made for each request: it begins without a Python frame.


class Permit(msgspec.Struct, eq=False):
    """Leave to make one call. Hold it with ``with`` (or ``async with``) until the answer has ended.

    The breaker is asked when the block is entered: a permit that is never entered holds nothing.
    How the block ends is the verdict: without an exception *succeeded*, with an UpstreamError its
    own ``verdict``, with another exception what ``BreakerSettings.counts`` says; a cancellation,
    a closed generator and any other error of ours say nothing about the endpoint (*let go*). A
    call that is given up after the time that makes it slow counts as slow.
    """

    _machine: Machine
    _slow_at: float
    """How long the call may take; a time, once it is entered."""
    _last: bool = False
    _phase: Phase | None = None
    """What it reports to; None: not entered."""
    _mark: int = 0
    """Which success it has said, negative: its word is final, 0: none yet."""

    def succeeded(self) -> None:
        """Say early that the endpoint works, at a stream's first content.

        A probe's verdict is settled by this. Otherwise it counts now, and a failure that ends the
        block later takes its place. Saying it again changes nothing.
        """
        if self._mark:
            return
        phase = self._phase
        if phase is None:
            raise RuntimeError("this permit was not entered: say it inside `with breaker.permit()`")
        now = phase.clock()
        if now < phase.ends and now < self._slow_at:
            phase.successes = self._mark = phase.successes + 1
        else:
            self._machine.succeeded(self)

    def end(
        self, kind: object = None, error: BaseException | None = None, trace: object = None
    ) -> None:
        """Give it back, once. Those who hold it without ``with`` say ``end(error=error)``."""
        self._machine.permits_out -= 1
        if error is not None:
            self._machine.failed(self, error)
        elif not self._mark:
            self.succeeded()

    def __enter__(self) -> Self:
        if self._phase is not None:
            raise RuntimeError("a permit is for one call: ask breaker.permit() for another")
        machine = self._machine
        if not machine.is_closed:
            machine.admit(self)
        self._phase = machine.phase
        self._slow_at += machine.clock()
        machine.permits_out += 1
        return self

    __exit__ = end

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(kind, error, trace)
