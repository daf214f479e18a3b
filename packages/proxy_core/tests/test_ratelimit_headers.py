from __future__ import annotations

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core import (
    Limits,
    LimitState,
    RateLimiter,
    go_duration,
    rate_limit_headers,
    retry_headers,
)
from proxy_core.errors import LimitExceeded
from proxy_core.testing import ManualClock

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *((0.0, "0s"), (0.0001, "1ms"), (0.02, "20ms"), (0.9999, "1s"), (1.0, "1s")),
        *((1.5, "1.5s"), (59.999, "59.999s"), (60.0, "1m0s"), (360.0, "6m0s")),
        *((86400.0, "24h0m0s"), (3661.25, "1h1m1.25s"), (-5.0, "0s")),
    ],
)
def test_a_duration_is_written_as_go_does(seconds: float, told: str) -> None:
    """Hours, minutes, seconds; milliseconds alone below one second; rounded up."""
    assert go_duration(seconds) == told


@given(st.floats(0, 1e7))
def test_a_duration_reads_back(seconds: float) -> None:
    """What is written is the number, or less than a millisecond more."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", go_duration(seconds))
    assert "".join(number + unit for number, unit in parts) == go_duration(seconds)
    total = sum(float(number) * units[unit] for number, unit in parts)
    assert -1e-6 <= total - seconds <= 0.0011


def refused(limit: str, retry_after: float | None) -> LimitExceeded:
    return LimitExceeded("no", limit=limit, retry_after=retry_after)


@pytest.mark.parametrize(
    ("limit", "wait", "told"),
    [
        ("requests", 0.2, ["1", "200", "true"]),
        ("requests", 6.1, ["7", "6100", "true"]),
        ("tokens", 60.0, ["60", "60000", "true"]),
        ("tokens", 60.5, ["61", "60500", "false"]),
        ("tokens", 1e-6, ["1", "1", "true"]),
        ("budget", 30.0, ["30", "30000", "false"]),
        ("tokens", None, ["false"]),
    ],
)
def test_when_to_come_back(limit: str, wait: float | None, told: list[str]) -> None:
    """Whole seconds and milliseconds, never too early; no retry where it can't help soon."""
    headers = retry_headers(refused(limit, wait))
    names = [b"retry-after", b"retry-after-ms", b"x-should-retry"][-len(told) :]
    assert headers == [(name, value.encode()) for name, value in zip(names, told, strict=True)]


def test_openai_reads_limits_rests_and_durations() -> None:
    """Requests and tokens; slots and budgets have no header of that form."""
    states = [
        LimitState("requests", 60, 59, 1.0),
        LimitState("tokens", 100_000, 64_000, 21.6),
        LimitState("budget", 10**9, 5, 3.0),
        LimitState("concurrent", 10, 9, 0.0),
    ]
    assert rate_limit_headers(states, now=NOW) == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"100000"),
        (b"x-ratelimit-remaining-tokens", b"64000"),
        (b"x-ratelimit-reset-tokens", b"21.6s"),
    ]


def test_anthropic_reads_times() -> None:
    """Input and output tokens too; a reset is a time that datetime reads, not before it is true."""
    states = [LimitState("output_tokens", 8000, 7000, 7.3), LimitState("requests", 5, 0, 60.0)]
    headers = dict(rate_limit_headers(states, style="anthropic", now=NOW))
    assert headers[b"anthropic-ratelimit-requests-limit"] == b"5"
    assert headers[b"anthropic-ratelimit-requests-remaining"] == b"0"
    assert headers[b"anthropic-ratelimit-output-tokens-reset"] == b"2026-09-21T14:13:28Z"
    for name, value in headers.items():
        if name.endswith(b"-reset"):
            assert datetime.fromisoformat(value.decode()).timestamp() >= NOW + 7.3
    assert len(headers) == 6


def test_of_several_subjects_the_tightest_is_told() -> None:
    """A key's and its user's states together: what a client can really ask for."""
    states = [LimitState("requests", 100, 50, 1.0), LimitState("requests", 60, 3, 57.0)]
    headers = dict(rate_limit_headers(states, now=NOW))
    assert headers[b"x-ratelimit-limit-requests"] == b"60"
    assert headers[b"x-ratelimit-remaining-requests"] == b"3"


@given(st.integers(1, 50), st.integers(1, 100_000))
def test_who_obeys_is_served(requests: int, tokens: int) -> None:
    """A client that waits as it was told finds room, by milliseconds as by seconds."""
    for name, unit in ((b"retry-after", 1.0), (b"retry-after-ms", 0.001)):
        clock = ManualClock()
        limiter = RateLimiter(clock=clock)
        limits = Limits.parse(requests=f"{requests}/minute", tokens="100000/minute")
        with pytest.raises(LimitExceeded) as error:
            while True:
                limiter.reserve("key", limits, tokens=tokens)
        headers = dict(retry_headers(error.value))
        clock.advance(int(headers[name]) * unit)
        limiter.reserve("key", limits, tokens=tokens)
