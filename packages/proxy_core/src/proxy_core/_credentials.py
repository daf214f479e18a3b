"""Several credentials of one provider: which is asked next, and until when none is."""

# ruff: noqa: SLF001 - a loan and its pool are two halves of one

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Self, TypeGuard

from proxy_core._failures import SURE_CODES
from proxy_core._quarantine import CredentialQuarantine, QuarantineSettings
from proxy_core._secret import Secret
from proxy_core._throttle import ThrottleGate, ThrottleSettings
from proxy_core.errors import (
    ConfigurationError,
    UpstreamError,
    UpstreamFailed,
    UpstreamModelMissing,
    UpstreamRefusedCredential,
    UpstreamThrottled,
)
from proxy_logging import Observer

__all__ = ["CredentialLoan", "CredentialPool", "is_of_credential"]

_MOST_GATES: Final = 4096
"""Names of models may be a client's; those that nobody waits for are forgotten then."""
_FORBIDDEN: Final = 403
_NO_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = ()


class CredentialLoan:
    """One credential for one call. Say ``answered`` or ``failed``, or hold it with ``with``."""

    __slots__ = ("_is_over", "_pool", "_ticket", "model", "number", "secret")

    def __init__(self, pool: CredentialPool, number: int, model: str, ticket: int) -> None:
        self.number = number
        """Its place among the pool's credentials."""
        self.model = model
        self.secret = pool.secrets[number]
        self._pool = pool
        self._ticket = ticket
        self._is_over = False

    def answered(self, headers: Iterable[tuple[bytes, bytes]] = _NO_HEADERS) -> None:
        """The upstream took it; ``headers`` are those of the answer, lower-case names."""
        if not self._is_over:
            self._is_over = True
            self._pool._answered(self, headers)

    def failed(
        self,
        failure: BaseException,
        headers: Iterable[tuple[bytes, bytes]] = _NO_HEADERS,
        *,
        aside: bool = False,
    ) -> None:
        """The call failed so. A throttle and a refused credential take it out for their time.

        ``aside`` says that it was no chat: a credential that lacks the right to files or to images
        stays in use, unless the upstream's code says that the credential itself is no good.
        """
        if not self._is_over:
            self._is_over = True
            if not (aside and _may_lack_a_right(failure)):
                self._pool._failed(self, failure, headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.answered()
        else:
            self.failed(error)


class CredentialPool:
    """Lends the credential that has most room left, as the upstream's own headers tell.

    ::

        pool = CredentialPool("openai", [Secret("sk-1"), Secret("sk-2")])
        with pool.take("gpt-5-mini") as loan:  # UpstreamThrottled, with retry_after, when none is
            answer = await ask(loan.secret)  # what it raises is heard
            loan.answered(answer.headers)

    A throttle counts for one credential and model, a refusal for the credential. Of those with
    equal room the one that rested longest is next.

    Args:
        name: of the provider; in errors and events.
        secrets: the credentials. Raises ConfigurationError when there are none.
        throttle, quarantine: see their settings.
        clock: monotonic seconds.
        wall: the time since 1970, for headers that hold dates.
        observer: gets a CredentialChanged when a credential goes out or comes back.
    """

    def __init__(
        self,
        name: str,
        secrets: Sequence[Secret],
        *,
        throttle: ThrottleSettings | None = None,
        quarantine: QuarantineSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        observer: Observer | None = None,
    ) -> None:
        if not secrets:
            raise ConfigurationError(f"provider {name!r} has no credentials: give one or more")
        self.name = name
        self.secrets = tuple(secrets)
        self._throttle = throttle or ThrottleSettings()
        self._clock = clock
        self._wall = wall
        self._gates: dict[tuple[int, str], ThrottleGate] = {}
        self._rested = list(range(len(secrets)))
        self.quarantines = [
            CredentialQuarantine(
                f"{name}/{secret.fingerprint}", quarantine, clock=clock, observer=observer
            )
            for secret in self.secrets
        ]
        """One for each credential, in their order."""

        self.is_plain = len(self.secrets) == 1
        """Whether it is one credential that nothing is known against: no loan is needed then, but
        for a call that fails."""

    def __len__(self) -> int:
        return len(self.secrets)

    def take(self, model: str = "", tried: Collection[int] = ()) -> CredentialLoan:
        """The next usable credential for this model, but for the numbers that were `tried`.

        Raises UpstreamThrottled with ``retry_after`` when all of them wait, and
        UpstreamRefusedCredential when all of them are in quarantine.
        """
        usable = [at for at in self._rested if at not in tried and self._wait(at, model) == 0]
        number = max(usable, key=lambda at: self._headroom(at, model), default=-1)
        if number < 0:
            raise self._exhausted(model)
        self._rested.remove(number)
        self._rested.append(number)
        if gate := self._gates.get((number, model)):
            gate.taken()
        return CredentialLoan(self, number, model, self.quarantines[number].enter())

    def retry_after(self, model: str = "", tried: Collection[int] = ()) -> float:
        """Seconds until one of them, not `tried`, may be asked, 0: now; infinite: there is none."""
        waits = (self._wait(number, model) for number in self._rested if number not in tried)
        return min(waits, default=math.inf)

    def gate(self, number: int, model: str = "") -> ThrottleGate:
        """What the upstream has said of this credential and model."""
        found = self._gates.get((number, model))
        if found is None:
            if len(self._gates) >= _MOST_GATES:
                self._gates = {at: gate for at, gate in self._gates.items() if gate.wait}
            name = f"{self.name}/{self.secrets[number].fingerprint}/{model}"
            found = ThrottleGate(name, self._throttle, clock=self._clock, wall=self._wall)
            self._gates[number, model] = found
        return found

    def waits(self) -> dict[str, float]:
        """What is throttled, ``fingerprint/model``, and for how many seconds more."""
        return {
            f"{self.secrets[number].fingerprint}/{model}": gate.wait
            for (number, model), gate in self._gates.items()
            if gate.wait
        }

    def hold(self, name: str, seconds: float) -> None:
        """Another process was told to wait: ``name`` is one of its ``waits``."""
        self.is_plain = False
        fingerprint, _, model = name.partition("/")
        for number, secret in enumerate(self.secrets):
            if secret.fingerprint == fingerprint:
                self.gate(number, model).hold(seconds)

    def _wait(self, number: int, model: str) -> float:
        gate = self._gates.get((number, model))
        return max(self.quarantines[number].wait, gate.wait if gate else 0.0)

    def _headroom(self, number: int, model: str) -> float:
        gate = self._gates.get((number, model))
        return gate.headroom if gate else 1.0

    def _answered(self, loan: CredentialLoan, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.quarantines[loan.number].succeeded(loan._ticket)
        if len(self.secrets) == 1:
            self._gates = {at: gate for at, gate in self._gates.items() if gate.wait}
            self.is_plain = not self._gates and not self.quarantines[0].is_out
        if gate := self._gates.get((loan.number, loan.model)):
            gate.succeeded()
        if headers and len(self.secrets) > 1:  # a single one can't be spared by another
            self.gate(loan.number, loan.model).told(headers)

    def _failed(
        self, loan: CredentialLoan, failure: BaseException, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self.is_plain = False
        self.quarantines[loan.number].failed(loan._ticket, failure)
        if isinstance(failure, UpstreamThrottled):
            gate = self.gate(loan.number, loan.model)
            gate.told(headers)
            gate.throttled(failure.retry_after)
        elif _asks_to_wait(failure):
            self.gate(loan.number, loan.model).throttled(failure.retry_after)

    def _exhausted(self, model: str) -> UpstreamError:
        out = [each for each in self.quarantines if each.is_out]
        if len(out) == len(self.secrets):
            return UpstreamRefusedCredential(
                f"the upstream has refused each credential of {self.name!r} ({out[0].reason})",
                deployment=f"{self.name}/{model}",
            )
        wait = self.retry_after(model)
        return UpstreamThrottled(
            f"{self.name!r} throttles each of its credentials: the next is free in {wait:.1f} s",
            deployment=f"{self.name}/{model}",
            retry_after=wait,
        )


def is_of_credential(failure: BaseException) -> bool:
    """Whether the same call may succeed with another one: also where an account lacks a model."""
    if isinstance(failure, UpstreamModelMissing):
        return failure.upstream_status == _FORBIDDEN
    return isinstance(failure, UpstreamThrottled | UpstreamRefusedCredential)


def _may_lack_a_right(failure: BaseException) -> bool:
    if not isinstance(failure, UpstreamRefusedCredential):
        return False
    return failure.upstream_code not in SURE_CODES


def _asks_to_wait(failure: BaseException) -> TypeGuard[UpstreamFailed]:
    """Whether an overloaded upstream (503, 529) says when to come again."""
    return isinstance(failure, UpstreamFailed) and failure.retry_after is not None
