"""The throttle gate, and what providers' headers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core import ThrottleGate, ThrottleSettings
from proxy_core._throttle_headers import Quota, read_quotas
from proxy_core.errors import ConfigurationError
from proxy_core.testing import ManualClock

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def gate(**settings: float) -> tuple[ThrottleGate, ManualClock]:
    clock = ManualClock()
    return ThrottleGate("k", ThrottleSettings(**settings), clock=clock, wall=lambda: NOW), clock


OPENAI = [
    (b"x-ratelimit-limit-requests", b"60"),
    (b"x-ratelimit-limit-tokens", b"150000"),
    (b"x-ratelimit-remaining-requests", b"59"),
    (b"x-ratelimit-remaining-tokens", b"75000"),
    (b"x-ratelimit-reset-requests", b"1s"),
    (b"x-ratelimit-reset-tokens", b"6m0s"),
]
ANTHROPIC = [
    (b"anthropic-ratelimit-requests-limit", b"50"),
    (b"anthropic-ratelimit-requests-remaining", b"49"),
    (b"anthropic-ratelimit-requests-reset", b"2026-01-01T00:00:01Z"),
    (b"anthropic-ratelimit-input-tokens-limit", b"40000"),
    (b"anthropic-ratelimit-input-tokens-remaining", b"10000"),
    (b"anthropic-ratelimit-input-tokens-reset", b"2026-01-01T00:01:00Z"),
    (b"request-id", b"req_1"),
]


def test_the_form_of_openai_is_read() -> None:
    """Limits, what remains, and Go's durations."""
    assert read_quotas(OPENAI, NOW) == [
        Quota("requests", 59, 60, 1.0),
        Quota("tokens", 75000, 150000, 360.0),
    ]


def test_the_form_of_anthropic_is_read() -> None:
    """Limits, what remains, and dates of RFC 3339; input and output tokens apart."""
    assert read_quotas(ANTHROPIC, NOW) == [
        Quota("requests", 49, 50, 1.0),
        Quota("input-tokens", 10000, 40000, 60.0),
    ]


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        (b"20ms", 0.02),
        (b"7.66s", 7.66),
        (b"2m59.56s", 179.56),
        (b"1h2m3s", 3723.0),
        (b"12", 12.0),
        (b"0.5", 0.5),
        (b"1767225610", 10.0),
        (b"1767225610000", 10.0),
        (b"2026-01-01T00:00:10+00:00", 10.0),
        (b"2025-12-31T23:59:00Z", 0.0),
        (b"-5", 0.0),
        (b"9999999d", 30 * 86400.0),
        (b"soon", None),
        (b"1s or so", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_resets_come_in_many_forms(reset: bytes, seconds: float | None) -> None:
    """Durations, numbers, epochs in seconds and milliseconds, dates; nonsense is none."""
    headers = [(b"x-ratelimit-remaining", b"1"), (b"x-ratelimit-reset", reset)]
    (quota,) = read_quotas(headers, NOW)
    assert quota.kind == "requests"
    assert quota.reset == (None if seconds is None else pytest.approx(seconds))


def test_unknown_quotas_are_left_out() -> None:
    """Azure's -1, words and infinities tell nothing."""
    for remaining in (b"-1", b"many", b"inf", b"nan", b""):
        assert read_quotas([(b"x-ratelimit-remaining-requests", remaining)], NOW) == []
    assert read_quotas([(b"x-ratelimit-limit-requests", b"60")], NOW) == []


@given(st.lists(st.tuples(st.sampled_from([name for name, _ in OPENAI + ANTHROPIC]), st.binary())))
def test_no_header_breaks_it(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever an upstream sends, waits are finite and shares are shares."""
    closed, _ = gate()
    closed.told(headers)
    assert 0 <= closed.wait <= 3600.0
    assert 0 <= closed.headroom <= 1


def test_it_waits_as_long_as_it_was_told() -> None:
    """Not a moment less; and open again at that moment."""
    closed, clock = gate()
    closed.throttled(7.0)
    assert closed.wait == pytest.approx(7.0)
    clock.advance(6.999)
    assert closed.wait > 0
    clock.advance(0.001)
    assert closed.wait == 0


def test_without_a_word_it_waits_longer_each_time() -> None:
    """1 s x 2^n up to 60 s; a success in between begins anew."""
    closed, clock = gate()
    waits = []
    for _ in range(8):
        closed.throttled()
        waits.append(closed.wait)
        clock.advance(closed.wait)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    closed.succeeded()
    closed.throttled()
    assert closed.wait == pytest.approx(1.0)


def test_a_longer_wait_stays() -> None:
    """A second answer that asks for less doesn't shorten it, and nobody waits a month."""
    closed, _ = gate()
    closed.throttled(30.0)
    closed.throttled(1.0)
    assert closed.wait == pytest.approx(30.0)
    closed.throttled(30 * 86400.0)
    assert closed.wait == pytest.approx(3600.0)
    closed.reset()
    assert closed.wait == 0


def test_what_is_used_up_closes_it_until_some_is_back() -> None:
    """0 of 60 requests that are back in 60 s: 5 % of them are after 3 s."""
    closed, _ = gate()
    closed.told(
        [
            (b"x-ratelimit-limit-requests", b"60"),
            (b"x-ratelimit-remaining-requests", b"0"),
            (b"x-ratelimit-reset-requests", b"60s"),
        ]
    )
    assert closed.wait == pytest.approx(3.0)


def test_of_few_at_least_one_must_be_back() -> None:
    """0 of 2 requests that are back in 60 s: the first is after 30 s."""
    closed, _ = gate()
    closed.told(
        [
            (b"x-ratelimit-limit-requests", b"2"),
            (b"x-ratelimit-remaining-requests", b"0"),
            (b"x-ratelimit-reset-requests", b"60s"),
        ]
    )
    assert closed.wait == pytest.approx(30.0)


def test_headroom_is_the_scarcest_and_comes_back() -> None:
    """Half of the tokens are left, and all of them once the reset has come."""
    closed, clock = gate()
    assert closed.headroom == 1.0
    closed.told(OPENAI)
    assert closed.headroom == pytest.approx(0.5)
    clock.advance(180.0)
    assert closed.headroom == pytest.approx(0.75)
    clock.advance(180.0)
    assert closed.headroom == 1.0


def test_requests_under_way_are_taken_off() -> None:
    """Until the next headers come, each that goes out is one less."""
    closed, _ = gate()
    closed.told([(b"x-ratelimit-limit-requests", b"4"), (b"x-ratelimit-remaining-requests", b"2")])
    shares = []
    for _ in range(4):
        shares.append(closed.headroom)
        closed.taken()
    assert shares == pytest.approx([0.5, 0.25, 0.0, 0.0])


@pytest.mark.parametrize(
    ("field", "value"), [("base", 0.0), ("cap", -1.0), ("longest", float("inf")), ("refill", 2.0)]
)
def test_settings_that_cannot_be_are_refused(field: str, value: float) -> None:
    """The error names the field and the value."""
    with pytest.raises(ConfigurationError, match=field) as refused:
        ThrottleSettings(**{field: value})
    assert refused.value.param == field
    assert repr(value) in refused.value.message
