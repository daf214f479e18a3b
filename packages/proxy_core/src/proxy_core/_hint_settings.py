"""What the processes of a fleet keep to when they talk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from proxy_core.errors import ConfigurationError

__all__ = ["HintSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HintSettings:
    """How often the processes talk. Times are seconds.

    Raises ConfigurationError that names the field and the value when one can't be used.
    """

    prefix: str = "llm-proxy"
    """Of the keys, for several fleets on one server."""
    interval: float = 0.5
    """Between two exchanges, give or take a quarter; news are written at once."""
    timeout: float = 0.25
    """How long one may take; then it is missed."""
    lease: float = 4.0
    """How long a process that does nothing with it may keep the others from probing. It is renewed
    with each exchange, so it must outlast several of them."""

    def __post_init__(self) -> None:
        for field in ("interval", "timeout", "lease"):
            value = getattr(self, field)
            if not 0 < value < math.inf:
                raise ConfigurationError(
                    f"hints {field} is {value!r}: give a number of seconds above 0", param=field
                )
        if self.lease < 3 * (self.interval + self.timeout):
            raise ConfigurationError(
                f"hints lease is {self.lease!r}: give three times interval and timeout or more, "
                "so that it can be renewed in time",
                param="lease",
            )
