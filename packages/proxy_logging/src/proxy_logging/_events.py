"""What policies and the journey tell the world: frozen values, handed to observers.

An observer is any callable that takes an event. It runs on the request's path, so it must be quick
and must not block; what it raises is logged once and goes no further.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

__all__ = [
    "AttemptFailed",
    "BreakerChanged",
    "ConfigReloaded",
    "CredentialChanged",
    "Event",
    "Observer",
    "RequestFinished",
    "RequestStarted",
    "StoreChanged",
]

BreakerState = Literal["closed", "open", "half_open"]


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base of every event. Times are seconds, counts are plain integers."""


class RequestStarted(Event, frozen=True, kw_only=True, gc=False):
    """A request was received; exactly one RequestFinished with the same id follows."""

    request_id: str
    surface: str
    """Which surface was asked: ``chat``, ``completions``, ``embeddings``."""


class RequestFinished(Event, frozen=True, gc=False):
    """A request is over: answered, refused, failed, or its client left.

    Its fields have an order, which stays: who makes one for each request gives them by place.
    """

    request_id: str
    surface: str
    status: int
    """The HTTP status that the client got; 499 when it left before it got one."""
    outcome: Literal["ok", "refused", "failed", "gone"]
    """``refused`` is the client's own fault (4xx of ours), ``failed`` an upstream's or ours."""
    duration: float
    """Seconds from the request's head to the last byte of the answer."""
    model: str = ""
    """The name that the client asked for: its own text, so never a metric's label."""
    route: str = ""
    """The configured model name that matched (``claude-*``), bounded, empty when none did."""
    deployment: str = ""
    """``provider/upstream-model`` of the attempt that answered."""
    provider: str = ""
    key: str = ""
    """The name of the virtual key."""
    stream: bool = False
    attempts: int = 0
    error: str = ""
    """The error's code as the client saw it, empty on success."""
    first_token: float | None = None
    """Seconds from the request's head to the first content event (streams only)."""
    overhead: float | None = None
    """Seconds of the proxy's own before the first attempt was sent."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    usage_estimated: bool = False
    """True when the upstream reported no usage and the counts are our estimate."""
    cache: Literal["off", "miss", "hit"] = "off"
    cost: int | None = None
    """Nano-dollars that the provider takes for it; None where its price isn't known."""
    unpriced: bool = False
    """Whether it was answered at a price that nobody knows, and the operator wants to be told."""


class AttemptFailed(Event, frozen=True, kw_only=True, gc=False):
    """One upstream attempt failed; the request may have gone on to another deployment."""

    request_id: str
    route: str
    deployment: str
    provider: str
    reason: str
    """The error's class in snake case: ``connect_failed``, ``upstream_timeout``, …"""
    upstream_status: int | None = None
    duration: float = 0.0
    message: str = ""


class BreakerChanged(Event, frozen=True, kw_only=True, gc=False):
    """A circuit breaker changed its state."""

    breaker: str
    before: BreakerState
    after: BreakerState
    reason: str


class CredentialChanged(Event, frozen=True, kw_only=True, gc=False):
    """A credential was put into quarantine, or is used again."""

    credential: str
    """Its name: a fingerprint, never the secret."""
    after: Literal["usable", "quarantined"]
    reason: str
    retry_in: float = 0.0
    """Seconds until it is tried again."""


class StoreChanged(Event, frozen=True, kw_only=True, gc=False):
    """A store that processes share went away, or is back."""

    store: str
    """What is kept there: ``limits``."""
    after: Literal["away", "back"]


class ConfigReloaded(Event, frozen=True, kw_only=True, gc=False):
    """Somebody asked for the configuration to be read again."""

    result: Literal["applied", "unchanged", "refused"]
    """``refused``: what was read is invalid, and the old configuration stays."""
    changes: tuple[str, ...]
    """What is different now, a sentence each; empty unless applied."""
    detail: str = ""
    """Why it was refused."""


class Observer(Protocol):
    """Anything that wants to know. One method: the call."""

    def __call__(self, event: Event, /) -> None: ...
