"""The quarantine of a credential: who is refused for its key doesn't try it again and again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy_core._failures import SURE_CODES
from proxy_core.errors import (
    ConfigurationError,
    UpstreamError,
    UpstreamRefusedCredential,
    UpstreamRejected,
    UpstreamThrottled,
)
from proxy_logging import CredentialChanged, Observer, fan_out

__all__ = ["CredentialChanged", "CredentialQuarantine", "QuarantineSettings"]

_FORBIDDEN: Final = 403


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineSettings:
    """How long a refused credential is left alone. Times are seconds.

    Raises ConfigurationError that names the field and the value when one can't be used.
    """

    first: float = 300.0
    """Until the first probe; it doubles with each one that is refused, up to ``cap``."""
    cap: float = 3600.0
    forbidden: int = 3
    """How many 403 in a row it takes: one may be about a single model. A 401 and a 402 are sure."""
    lease: float = 60.0
    """A probe without a verdict for so long makes room for another one."""

    def __post_init__(self) -> None:
        for field in ("first", "cap", "lease", "forbidden"):
            value = getattr(self, field)
            if not 0 < value < math.inf:
                raise ConfigurationError(
                    f"quarantine {field} is {value!r}: give a number above 0", param=field
                )


class CredentialQuarantine:
    """Keeps a credential out once the upstream has refused it, and tries it again after long.

    ::

        quarantine = CredentialQuarantine("key-1")
        if ticket := quarantine.enter():  # 0: it is out
            try:
                ...
                quarantine.succeeded(ticket)
            except BaseException as failure:
                quarantine.failed(ticket, failure)
                raise

    Args:
        name: of the credential; its fingerprint, never the secret.
        settings: see QuarantineSettings.
        clock: monotonic seconds.
        observer: gets a CredentialChanged when it goes out and when it comes back.
    """

    def __init__(
        self,
        name: str,
        settings: QuarantineSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self.reason = ""
        """Why it is out; empty while it isn't."""
        self._settings = settings or QuarantineSettings()
        self._clock = clock
        self._observer = fan_out() if observer is None else fan_out(observer)
        self._until = 0.0
        self._times = 0
        self._forbidden = 0
        self._generation = 1

    @property
    def is_out(self) -> bool:
        return bool(self.reason)

    @property
    def wait(self) -> float:
        """Seconds until it may be asked, be it as a probe; 0: now."""
        return max(0.0, self._until - self._clock()) if self.reason else 0.0

    def enter(self) -> int:
        """A ticket when it may be asked now, 0 when it is out.

        When its time is over, one of those that ask gets one. Who has one reports with it: what
        was asked before the credential went out, or came back, says nothing about it now.
        """
        if not self.reason:
            return self._generation
        now = self._clock()
        if now < self._until:
            return 0
        self._until = now + self._settings.lease
        self._generation += 1
        return self._generation

    def succeeded(self, ticket: int) -> None:
        """The upstream took the credential."""
        if ticket != self._generation:
            return
        self._forbidden = 0
        if self.reason:
            self.reset("it was tried again, and taken")

    def failed(self, ticket: int, failure: BaseException) -> None:
        """The call ended so. Most failures say nothing about the credential."""
        if ticket != self._generation:
            return
        if isinstance(failure, UpstreamRefusedCredential):
            self._refused(failure)
        elif isinstance(failure, UpstreamRejected | UpstreamThrottled):
            self.succeeded(ticket)  # it read the request, and whose it is
        elif self.reason and not isinstance(failure, UpstreamError):
            self._until = self._clock()  # a probe that was cancelled makes room for another

    def reset(self, reason: str = "reset by hand") -> None:
        """It is used again, as on the first day."""
        was_out = self.is_out
        self.reason = ""
        self._times = self._forbidden = 0
        self._generation += 1
        if was_out:
            self._observer(CredentialChanged(credential=self.name, after="usable", reason=reason))

    def _refused(self, failure: UpstreamRefusedCredential) -> None:
        if self._is_doubtful(failure):
            self._forbidden += 1
            if self._forbidden < self._settings.forbidden:
                return
        wait = min(self._settings.first * 2.0**self._times, self._settings.cap)
        if wait < self._settings.cap:
            self._times += 1
        self._until = self._clock() + wait
        self._generation += 1
        was_out, self.reason = self.is_out, failure.message
        if not was_out:
            self._observer(
                CredentialChanged(
                    credential=self.name, after="quarantined", reason=self.reason, retry_in=wait
                )
            )

    def _is_doubtful(self, failure: UpstreamRefusedCredential) -> bool:
        """Whether it may be the model, not the credential, that is refused."""
        return (
            not self.reason
            and failure.upstream_status == _FORBIDDEN
            and failure.upstream_code not in SURE_CODES
        )
