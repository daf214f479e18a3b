"""Where a client stands with its limits, as answers' headers say it: pure functions on values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from proxy_core._limits import LimitState
    from proxy_core._types import Headers
    from proxy_core.errors import LimitExceeded

__all__ = ["go_duration", "rate_limit_headers", "retry_headers"]

LONGEST_WAIT = 60.0
"""Seconds that SDKs wait by themselves; openai-node retries at once when it is told more, and
anthropic-python would sleep for days."""
_OPENAI = {"requests": b"requests", "tokens": b"tokens"}
_ANTHROPIC = {
    "requests": b"requests",
    "tokens": b"tokens",
    "input_tokens": b"input-tokens",
    "output_tokens": b"output-tokens",
}


def retry_headers(refused: LimitExceeded) -> Headers:
    """When to come back: ``retry-after`` (seconds), ``retry-after-ms``, ``x-should-retry``.

    Both times are rounded up, so that who obeys them finds room. ``x-should-retry: false`` when
    waiting doesn't help, or is longer than an SDK should; with no times when it never helps.
    """
    wait = refused.retry_after
    if wait is None:
        return [(b"x-should-retry", b"false")]
    headers = [
        (b"retry-after", b"%d" % max(1, math.ceil(wait))),
        # Less a nanosecond, or 6.1 s, which a float holds as a bit more, would be 6101 ms.
        (b"retry-after-ms", b"%d" % max(1, math.ceil(wait * 1000 - 1e-6))),
    ]
    is_long = wait > LONGEST_WAIT or refused.limit == "budget"
    return [*headers, (b"x-should-retry", b"false" if is_long else b"true")]


def rate_limit_headers(
    states: Iterable[LimitState], *, style: Literal["openai", "anthropic"] = "openai", now: float
) -> Headers:
    """What is granted, what is left, and when all of it is free again.

    ::

        rate_limit_headers(limiter.look(key.id, key.limits), now=time.time())
        rate_limit_headers(refused.states, style="anthropic", now=time.time())

    OpenAI: ``x-ratelimit-limit-requests``, ``-remaining-requests``, ``-reset-requests`` and the
    same for tokens; a reset is a duration, ``6m0s``. Anthropic:
    ``anthropic-ratelimit-requests-limit``, ``-remaining``, ``-reset``, and tokens, input-tokens,
    output-tokens; a reset is a time (RFC 3339).
    Slots and budgets have no such header.

    Args:
        states: of one subject, or of several: then the limit with the least left is told.
        style: whose form it is.
        now: seconds since 1970.
    """
    told: dict[str, LimitState] = {}
    for state in states:
        known = told.get(state.name)
        if known is None or state.remaining < known.remaining:
            told[state.name] = state
    headers: Headers = []
    for name, label in (_OPENAI if style == "openai" else _ANTHROPIC).items():
        if name in told:
            write = _openai if style == "openai" else _anthropic
            headers += write(label, told[name], now)
    return headers


def _openai(label: bytes, state: LimitState, _now: float) -> Headers:
    return [
        (b"x-ratelimit-limit-" + label, b"%d" % state.limit),
        (b"x-ratelimit-remaining-" + label, b"%d" % state.remaining),
        (b"x-ratelimit-reset-" + label, go_duration(state.reset_after).encode()),
    ]


def _anthropic(label: bytes, state: LimitState, now: float) -> Headers:
    # To the second, rounded up: before that it isn't all free.
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=math.ceil(now + state.reset_after))
    head = b"anthropic-ratelimit-" + label
    return [
        (head + b"-limit", b"%d" % state.limit),
        (head + b"-remaining", b"%d" % state.remaining),
        (head + b"-reset", at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
    ]


def go_duration(seconds: float) -> str:
    """As Go writes it, to the millisecond, rounded up: ``0s``, ``20ms``, ``1.5s``, ``6m0s``."""
    millis = max(0, math.ceil(seconds * 1000 - 1e-6))
    if millis == 0:
        return "0s"
    if millis < 1000:
        return f"{millis}ms"
    minutes, rest = divmod(millis, 60_000)
    hours, minutes = divmod(minutes, 60)
    told = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{told}"
    return f"{minutes}m{told}" if minutes else told
