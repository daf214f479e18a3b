from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import (
    Deadline,
    RetryBudget,
    RetryPolicy,
    RetrySettings,
    Timeouts,
    patience,
    repeats,
)
from proxy_core.errors import (
    CircuitOpen,
    ConfigurationError,
    ConnectFailed,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamThrottled,
    UpstreamTimeout,
)
from proxy_core.testing import ManualClock

FAILED = UpstreamFailed("500")


def policy(clock: ManualClock | None = None, part: float = 1.0, **settings: Any) -> RetryPolicy:
    """A policy whose jitter is this part of the most."""
    return RetryPolicy(
        "chat", RetrySettings(**settings), clock=clock or ManualClock(), rng=lambda: part
    )


# Budget

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["request", "take", "take", "answered", "given back"]),
        st.sampled_from([0.0, 0.0, 0.1, 1.0, 30.0]),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(STEPS, st.sampled_from([0.0, 0.2, 1.0]), st.sampled_from([0.0, 1.0]), st.integers(1, 5))
def test_no_window_has_more_retries_than_its_share(
    steps: list[tuple[str, float]], share: float, per_second: float, reserve: int
) -> None:
    """In any window, retries less those answered: reserve, share and what the seconds bring."""
    clock = ManualClock(0.0)
    rules = RetrySettings(share=share, per_second=per_second, reserve=reserve)
    budget = RetryBudget("b", rules, clock=clock)
    log: list[tuple[float, int, int]] = []  # when, requests, retries
    out = 0
    for step, pause in steps:
        clock.advance(pause)
        if step == "request":
            budget.request()
            log.append((clock(), 1, 0))
        elif step == "take" and budget.take():
            out += 1
            log.append((clock(), 0, 1))
        elif step == "given back" and out:
            out -= 1
            budget.answered(retried=True)
            log.append((clock(), 0, -1))
        elif step == "answered":
            budget.answered()
        assert 0 <= budget.left <= reserve
    for begin in range(len(log)):
        requests = retries = 0
        for when, came, taken in log[begin:]:
            requests += came
            retries += taken
            seconds = when - log[begin][0]
            assert retries <= reserve + share * requests + per_second * seconds + 1e-6


def test_a_share_of_the_requests_may_be_retried() -> None:
    """Without a reserve worth the name, every fifth of a thousand gets its retry."""
    budget = RetryBudget("b", RetrySettings(reserve=1, per_second=0), clock=ManualClock())
    taken = 0
    for _ in range(1000):
        budget.request()
        taken += budget.take()
    assert taken == pytest.approx(200, abs=2)


def test_the_seconds_bring_retries_only_while_somebody_answers() -> None:
    """Ten seconds after the last answer the trickle ends, and the next answer starts it again."""
    clock = ManualClock()
    budget = RetryBudget("b", RetrySettings(reserve=100, per_second=2), clock=clock)
    while budget.take():
        pass
    clock.advance(1000)
    assert budget.left == pytest.approx(20)
    while budget.take():
        pass
    clock.advance(1000)
    assert budget.left == 0
    budget.answered()
    assert not budget.take()
    clock.advance(3)
    assert budget.left == pytest.approx(6)


def test_other_settings_keep_what_was_saved() -> None:
    """A smaller reserve cuts it, a larger one does not fill it."""
    budget = RetryBudget("b", RetrySettings(reserve=10), clock=ManualClock())
    budget.retune(RetrySettings(reserve=4))
    assert budget.left == 4
    budget.retune(RetrySettings(reserve=40))
    assert budget.left == 4


def test_requests_bring_the_share_of_their_time() -> None:
    """Those that came before the settings changed count by the old share, up to the old reserve."""
    budget = RetryBudget("b", RetrySettings(reserve=3, share=0.5), clock=ManualClock())
    while budget.take():
        pass
    for _ in range(4):
        budget.request()
    budget.retune(RetrySettings(reserve=100, share=0))
    assert budget.left == 2
    budget.request()
    assert budget.left == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempts", 0),
        ("share", 1.5),
        ("per_second", -1.0),
        ("reserve", 0.0),
        ("billed", -1),
        ("longest_wait", math.inf),
    ],
)
def test_settings_that_cannot_be_used_are_refused(field: str, value: float) -> None:
    """The error names the field and the value."""
    with pytest.raises(ConfigurationError, match=f"retry {field} is {value}") as refused:
        RetrySettings(**{field: value})  # type: ignore[arg-type]
    assert refused.value.param == field


# Policy


def test_another_deployment_is_asked_at_once_and_three_times_in_all() -> None:
    """No wait between different ones, and an end."""
    retries = policy()
    most = retries.begin()
    assert [retries.again([FAILED], asked=asked, most=most) for asked in (1, 2, 3)] == [0, 0, None]


def test_a_refusal_by_a_breaker_costs_nothing() -> None:
    """Nobody was asked, so nothing is taken from the budget."""
    retries = policy(reserve=1, share=0)
    refused = CircuitOpen("open", retry_after=5)
    for _ in range(5):
        assert retries.again([refused], asked=0, most=retries.begin()) == 0
    assert retries.again([FAILED], asked=1, most=3) == 0
    assert retries.again([FAILED], asked=1, most=3) is None


def test_an_answered_retry_is_given_back() -> None:
    """One that did what had to be done costs nothing in the end; a first attempt adds nothing."""
    retries = policy(reserve=1, share=0, per_second=0)
    for _ in range(10):
        assert retries.again([FAILED], asked=1, most=3) == 0
        retries.answered(2)
    assert retries.again([FAILED], asked=1, most=3) == 0
    retries.answered(1)
    assert retries.again([FAILED], asked=1, most=3) is None


def test_the_same_deployment_is_asked_after_a_full_jitter() -> None:
    """The wait is a random part of 0.25 s, doubled each time up to 8 s."""
    most = policy(attempts=10)
    waits = [most.again([FAILED], asked=asked, most=10, same=True) for asked in range(1, 9)]
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 8, 8]
    half = policy(part=0.5)
    assert half.again([FAILED], asked=1, most=3, same=True) == 0.125
    assert policy(part=0.0).again([FAILED], asked=1, most=3, same=True) == 0


def test_a_retry_after_is_kept_if_it_fits() -> None:
    """The same one is asked when it said; too long a wait is the client's; others don't wait."""
    throttled = UpstreamThrottled("slow down", retry_after=3)
    assert policy(part=0.0).again([throttled], asked=1, most=3, same=True) == 3
    assert policy().again([throttled], asked=1, most=3, same=True) == 3.25
    assert policy().again([throttled], asked=1, most=3) == 0
    long = UpstreamThrottled("slow down", retry_after=11)
    assert policy().again([long], asked=1, most=3, same=True) is None
    clock = ManualClock()
    soon = Deadline.after(2, now=clock())
    tried = policy(clock).again([throttled], asked=1, most=3, same=True, deadline=soon)
    assert tried is None


def test_what_was_refused_for_good_is_not_asked_again_there() -> None:
    """The same deployment would judge the same."""
    rejected = UpstreamRejected("too long")
    assert policy().again([rejected], asked=1, most=3, same=True) is None


@pytest.mark.parametrize(
    "failure", [UpstreamDisconnected("cut"), UpstreamTimeout("late", phase="first_byte")]
)
def test_what_may_have_been_billed_is_tried_once_more(failure: Any) -> None:
    """An answer that may have been made is paid for twice at most; refused connections are free."""
    retries = policy()
    free = ConnectFailed("refused")
    assert retries.again([failure], asked=1, most=3) == 0
    assert retries.again([free, failure], asked=2, most=3) == 0
    assert retries.again([failure, failure], asked=2, most=3) is None
    assert policy(billed=0).again([failure], asked=1, most=3) is None


def test_no_attempt_is_made_that_cannot_finish() -> None:
    """With 2 s left, one that needs 3 s to its first token is not begun, and costs no budget."""
    clock = ManualClock()
    retries = policy(clock, reserve=1, share=0)
    deadline = Deadline.after(2, now=clock())
    ask: dict[str, Any] = {"asked": 1, "most": 3, "deadline": deadline}
    assert retries.again([FAILED], useful=3, **ask) is None
    assert retries.again([FAILED], useful=1, **ask) == 0
    clock.advance(2)
    assert retries.again([FAILED], **ask) is None


def test_a_clients_own_retry_gets_half_of_the_attempts_and_adds_no_budget() -> None:
    """Of 3 attempts 2, of 1 the one."""
    retries = policy(reserve=1, share=1.0)
    assert retries.again([FAILED], asked=1, most=3) == 0
    assert retries.begin(repeated=1) == 2
    assert retries.again([FAILED], asked=1, most=2) is None
    assert retries.begin() == 3
    assert retries.again([FAILED], asked=1, most=3) == 0
    assert policy(attempts=1).begin(repeated=2) == 1


def test_retuning_reaches_the_budget() -> None:
    """Other settings count from the next request on."""
    retries = policy()
    retries.retune(RetrySettings(attempts=5, reserve=2))
    assert retries.begin() == 5
    assert retries.budget.left == 2


@pytest.mark.parametrize(
    ("header", "count"),
    [("", 0), ("0", 0), ("2", 2), ("-1", 0), ("x", 0), ("²", 0), ("99999", 0), ("1.5", 0)],
)
def test_the_clients_count_is_read_with_care(header: str, count: int) -> None:
    """What is no small whole number says nothing."""
    assert repeats(header) == count


# Deadline


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("600", 599),
        ("600.0", 599),
        ("30", 29),
        ("5", 4.5),
        ("0.1", 0.09),
        ("1e9", 86399),
        ("", None),
        ("0", None),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("None", None),
        ("9" * 30, None),
    ],
)
def test_a_clients_patience_leaves_time_for_the_way_back(
    header: str, seconds: float | None
) -> None:
    """A second less than it waits, of a short patience a tenth; what is no number says nothing."""
    assert patience(header) == (None if seconds is None else pytest.approx(seconds))


TIMES = st.floats(0, 1e6)


@settings(deadline=None)
@given(TIMES, TIMES, TIMES, st.sampled_from(["", "30", "600", "-5", "nan"]), st.booleans())
def test_nothing_about_a_deadline_is_negative(
    total: float, began: float, later: float, header: str, stream: bool
) -> None:
    """What is left, and what an attempt inherits, is 0 or more and never beyond what is left."""
    deadline = Deadline.after(total, now=began, read_timeout=header)
    now = began + later
    left = deadline.left(now)
    assert 0 <= left <= max(0.0, total - later) + 1e-6
    assert deadline.fits(0, now) == (left > 0)
    own = Timeouts()
    given_on = deadline.inherited(own, now, stream=stream)
    bounded = (given_on.connect, given_on.pool, given_on.first_byte)
    for seconds in (*bounded, given_on.between_events, given_on.total):
        assert seconds >= 0
    for seconds in bounded if stream else (*bounded, given_on.total):
        assert seconds <= left + 0.05 + 1e-6


def test_an_attempt_inherits_what_is_left() -> None:
    """Each phase is the shorter of its own and what is left; with time enough nothing is made."""
    own = Timeouts(connect=5, first_byte=60, between_events=60, total=600)
    deadline = Deadline.after(600, now=0)
    assert deadline.inherited(own, 0.01) is own
    late = deadline.inherited(own, 590)
    assert (late.connect, late.first_byte, late.between_events, late.total) == (5, 10, 10, 10)
    assert deadline.inherited(own, 530, stream=True) is own
    stream = deadline.inherited(own, 590, stream=True)
    assert (stream.first_byte, stream.between_events, stream.total) == (10, 60, 600)


def test_a_patient_client_does_not_lengthen_it() -> None:
    """The shorter of ours and the client's counts."""
    assert Deadline.after(60, now=0, read_timeout="600").at == 60
    assert Deadline.after(600, now=0, read_timeout="60").at == 59
