from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import (
    Asked,
    CircuitBreaker,
    Load,
    Member,
    Pool,
    PoolSettings,
    Rule,
    Rules,
    conversation_key,
    explain,
)
from proxy_core.errors import (
    CircuitOpen,
    ConfigurationError,
    UpstreamFailed,
    UpstreamThrottled,
)
from proxy_core.testing import ManualClock

STRATEGIES = ("weighted", "least_busy", "fastest", "cheapest")


def pool_of(
    *members: Member[str],
    strategy: Any = "weighted",
    sticky: bool = False,
    clock: ManualClock | None = None,
    seed: int = 7,
) -> Pool[str]:
    return Pool(
        "chat",
        members,
        PoolSettings(strategy=strategy, sticky=sticky),
        clock=clock or ManualClock(),
        rng=random.Random(seed).random,
    )


def breaker_on(clock: ManualClock) -> CircuitBreaker:
    return CircuitBreaker("b", clock=clock, rng=lambda: 0.5)


def trip(breaker: CircuitBreaker) -> None:
    for _ in range(5):
        with pytest.raises(UpstreamFailed), breaker.permit():
            raise UpstreamFailed("500")


def firsts(pool: Pool[str], draws: int, asked: Asked | None = None) -> Counter[str | None]:
    return Counter(pool.next(asked or Asked()) for _ in range(draws))


# What is in a pool, and who may be asked


def test_a_pool_needs_members() -> None:
    """An empty pool is the operator's mistake, and the error names the pool."""
    with pytest.raises(ConfigurationError, match="'chat' has no members"):
        Pool("chat", [])


def test_settings_that_cannot_be_used_are_refused() -> None:
    """The error names the field, the value and what there is."""
    with pytest.raises(ConfigurationError, match=r"'best'.*least_busy"):
        PoolSettings(strategy="best")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"weight of 'a' is -1"):
        Member("a", "a", weight=-1)


def test_a_pool_of_one_says_so() -> None:
    """Its caller may spare itself the choice; a drained member beside it doesn't count."""
    assert pool_of(Member("a", "a"), Member("b", "b", weight=0)).only == ("a",)
    assert pool_of(Member("a", "a"), Member("b", "b")).only is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_lower_order_comes_first_whatever_the_strategy(strategy: str) -> None:
    """The spare is the last one, cheaper, idle and faster as it may be."""
    spare = Member("spare", "spare", order=2, price=(0, 0), weight=9)
    a, b = Member("a", "a", price=(1, 1)), Member("b", "b", price=(1, 1))
    for one in (a, b):
        one.load.begin(0.0)
    pool = pool_of(spare, a, b, strategy=strategy)
    for _ in range(50):
        assert pool.choose()[2] == "spare"
        assert pool.next() != "spare"
    assert pool.next(tried=["a", "b"]) == "spare"
    assert pool.next(tried=["a", "b", "spare"]) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nobody_is_asked_twice_and_nobody_left_out(strategy: str) -> None:
    """Asked again and again with those that were tried, each member comes once."""
    pool = pool_of(*(Member(name, name) for name in "abcd"), strategy=strategy)
    tried: list[str] = []
    while (one := pool.next(tried=tried)) is not None:
        tried.append(one)
    assert sorted(tried) == list("abcd")
    assert sorted(pool.choose()) == list("abcd")


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_is_out_is_not_asked(strategy: str, sticky: bool) -> None:
    """An open breaker, a pause and a window that is too small each keep a member out."""
    clock = ManualClock()
    ill = Member("ill", "ill", breaker=breaker_on(clock), weight=100)
    paused, small = Member("paused", "paused", weight=100), Member("small", "small", context=10)
    well = Member("well", "well", weight=0.1)
    trip(ill.breaker)  # type: ignore[arg-type]
    paused.load.pause(clock() + 60, "throttled")
    pool = pool_of(ill, paused, small, well, strategy=strategy, sticky=sticky, clock=clock)
    for conversation in range(20):
        asked = Asked(tokens=11, conversation=conversation)
        assert pool.choose(asked) == ("well",)
        assert pool.next(asked) == "well"


def test_the_end_of_a_pause_and_a_probe_bring_a_member_back() -> None:
    """A member is asked again when its pause is over, and when its breaker would let a probe by."""
    clock = ManualClock()
    paused, ill = Member("paused", "paused"), Member("ill", "ill", breaker=breaker_on(clock))
    trip(ill.breaker)  # type: ignore[arg-type]
    paused.load.pause(clock() + 3, "throttled")
    paused.load.pause(clock() + 1, "throttled")  # a shorter one never ends a longer one
    pool = pool_of(paused, ill, clock=clock)
    assert pool.choose() == ()
    clock.advance(2)
    assert pool.choose() == ()
    clock.advance(1)
    assert pool.choose() == ("paused",)
    clock.advance(3)
    assert set(pool.choose()) == {"paused", "ill"}
    with ill.breaker.permit():
        assert pool.choose() == ("paused",), "one probe at a time"


def test_the_refusal_of_a_whole_pool_tells_the_soonest_time() -> None:
    """With nobody to ask, the error says why of each and when the first is free."""
    clock = ManualClock()
    one, two = Member("one", "one"), Member("two", "two", breaker=breaker_on(clock))
    one.load.pause(clock() + 30, "throttled")
    pool = pool_of(one, two, clock=clock)
    trip(two.breaker)  # type: ignore[arg-type]
    assert pool.next() is None
    refused = pool.refusal()
    assert isinstance(refused, CircuitOpen)
    assert refused.retry_after == pytest.approx(5)
    assert "one: throttled for 30.0 s more; two: breaker open for 5.0 s more" in refused.message
    throttled = pool_of(one, clock=clock).refusal()
    assert isinstance(throttled, UpstreamThrottled)
    assert throttled.retry_after == pytest.approx(30)


def test_the_last_resort_is_the_one_that_comes_back_soonest() -> None:
    """While all breakers refuse, and only among those that are not paused."""
    clock = ManualClock()
    paused, first, then = (Member(n, n, breaker=breaker_on(clock)) for n in ("p", "first", "then"))
    pool = pool_of(paused, then, first, clock=clock)
    for member in (paused, first, then):
        assert pool.last_resort() is None
        trip(member.breaker)  # type: ignore[arg-type]
        clock.advance(0.5)
    paused.load.pause(clock() + 60, "throttled")
    assert pool.next() is None
    assert pool.last_resort() == "first"


def test_without_a_window_that_fits_the_largest_judges() -> None:
    """The estimate is from above, so the request is not refused for it."""
    pool = pool_of(Member("small", "s", context=10), Member("large", "l", context=20))
    assert pool.choose(Asked(tokens=21)) == ("large",)
    assert set(pool.choose(Asked(tokens=10))) == {"small", "large"}


def test_weight_zero_is_out_of_traffic_unless_all_have_it() -> None:
    """A drained member is never asked beside others; drained ones alone take turns."""
    pool = pool_of(Member("a", "a", weight=0), Member("b", "b", order=2))
    assert pool.choose() == ("b",)
    drained = pool_of(Member("a", "a", weight=0), Member("b", "b", weight=0))
    assert set(firsts(drained, 50)) == {"a", "b"}


# Strategies


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 7.0]), min_size=2, max_size=5), st.integers())
def test_who_is_first_falls_by_weight(weights: list[float], seed: int) -> None:
    """Each is first for its share, and second for its share of what is left by the first."""
    members = [Member(str(at), str(at), weight=weight) for at, weight in enumerate(weights)]
    pool = pool_of(*members, seed=seed)
    counts = firsts(pool, 2000)
    for member in members:
        share = member.weight / sum(weights)
        assert counts[member.value] / 2000 == pytest.approx(share, abs=0.06)
    seconds = Counter(pool.next(tried=["0"]) for _ in range(1000))
    share = weights[1] / sum(weights[1:])
    assert seconds["1"] / 1000 == pytest.approx(share, abs=0.08)


def test_one_that_comes_back_starts_slowly() -> None:
    """After its breaker closed a member gets a tenth of its weight, and all of it 15 s later."""
    clock = ManualClock()
    back = Member("back", "back", breaker=breaker_on(clock))
    pool = pool_of(back, Member("other", "other"), clock=clock)
    trip(back.breaker)  # type: ignore[arg-type]
    assert pool.choose() == ("other",)
    clock.advance(6)
    for _ in range(3):
        with back.breaker.permit():
            pass
    assert back.breaker.state == "closed"
    assert firsts(pool, 2000)["back"] / 2000 == pytest.approx(0.1 / 1.1, abs=0.03)
    assert "starting slowly" in explain(pool)[1].reason
    clock.advance(7.5)
    assert firsts(pool, 2000)["back"] / 2000 == pytest.approx(0.55 / 1.55, abs=0.03)
    clock.advance(7.5)
    assert firsts(pool, 2000)["back"] / 2000 == pytest.approx(0.5, abs=0.04)
    assert not back.load.trouble


def test_the_least_busy_for_its_weight_is_asked() -> None:
    """Of 2, 1 and 0 in flight the idle one; one of double weight may hold twice as much."""
    busy, less, idle = (Member(name, name) for name in ("busy", "less", "idle"))
    busy.load.begin(0.0)
    busy.load.begin(0.0)
    turn = less.load.begin(0.0)
    pool = pool_of(busy, less, idle, strategy="least_busy")
    assert pool.choose() == ("idle", "less", "busy")
    assert firsts(pool, 30) == {"idle": 30}
    turn.end(1.0)
    assert set(firsts(pool, 50)) == {"idle", "less"}, "equals take turns"
    heavy = Member("heavy", "heavy", weight=4)
    heavy.load.begin(0.0)
    heavy.load.begin(0.0)
    assert pool_of(heavy, Member("light", "light"), strategy="least_busy").next() == "heavy"


def test_the_cheapest_for_this_size_is_asked() -> None:
    """A dear input and a cheap output win for long answers; without a price one comes last."""
    pool = pool_of(
        Member("free prompt", "a", price=(0.0, 9.0)),
        Member("free answer", "b", price=(3.0, 0.0)),
        Member("unknown", "c"),
        strategy="cheapest",
    )
    assert pool.choose(Asked(tokens=1000, output=10)) == ("free prompt", "free answer", "unknown")
    assert pool.next(Asked(tokens=1000, output=10)) == "free prompt"
    assert pool.next(Asked(tokens=10, output=1000)) == "free answer"
    assert pool.next() == "free answer", "of unknown size: as much in as out"


def answer(member: Member[str], now: float, seconds: float) -> None:
    turn = member.load.begin(now - seconds)
    turn.answered(now)
    turn.end(now)


def test_the_faster_of_two_is_found() -> None:
    """At 0.2 s and 1 s all but the tries go to the faster one, and a new one is tried at once."""
    clock = ManualClock()
    fast, slow = Member("fast", "fast"), Member("slow", "slow")
    pool = pool_of(fast, slow, strategy="fastest", clock=clock)
    counts: Counter[str | None] = Counter()
    for _ in range(1000):
        clock.advance(0.1)
        chosen = fast if pool.next() == "fast" else slow
        counts[chosen.value] += 1
        answer(chosen, clock(), 0.2 if chosen is fast else 1.0)
    assert counts["fast"] > 0.9 * 1000
    assert counts["slow"] >= 2, "one that was slow gets another try when that has faded"
    new = Member("new", "new")
    wider = pool_of(fast, slow, new, strategy="fastest", clock=clock)
    assert firsts(wider, 30)["new"] >= 10
    new.load.begin(clock())
    assert firsts(wider, 30)["new"] == 0, "only one try is out until it has answered"


def test_a_slow_start_is_forgiven() -> None:
    """A member that was slow once, and is fast since, gets its share again within a minute."""
    clock = ManualClock()
    cold, warm = Member("cold", "cold"), Member("warm", "warm")
    answer(cold, clock(), 20.0)
    answer(warm, clock(), 0.5)
    pool = pool_of(cold, warm, strategy="fastest", clock=clock)
    late: Counter[str] = Counter()
    for step in range(1200):
        clock.advance(0.1)
        chosen = cold if pool.next() == "cold" else warm
        answer(chosen, clock(), 0.5)
        if step >= 600:
            late[chosen.value] += 1
    assert late["cold"] / 600 == pytest.approx(0.5, abs=0.15)


def test_a_fast_failure_is_not_fast() -> None:
    """One that refuses within a millisecond draws no traffic by it."""
    clock = ManualClock()
    refusing, slow = Member("refusing", "refusing"), Member("slow", "slow")
    answer(slow, clock(), 0.8)
    for _ in range(3):
        turn = refusing.load.begin(clock())
        clock.advance(0.001)
        turn.end(clock(), failed=True)
    assert firsts(pool_of(refusing, slow, strategy="fastest", clock=clock), 30) == {"slow": 30}


# Load


def test_silence_is_no_recommendation() -> None:
    """A time fades while nothing is awaited, and stays while an answer is."""
    load = Load()
    assert load.seconds(0.0) is None
    turn = load.begin(0.0)
    turn.answered(2.0)
    assert load.seconds(2.0) == pytest.approx(2.0)
    assert load.seconds(12.0) == pytest.approx(2.0 / 2.718, abs=0.01)
    awaited = load.begin(3.0)
    assert load.seconds(60.0) == pytest.approx(2.0)
    awaited.end(60.0)
    assert load.seconds(60.0) == pytest.approx(57.0), "given up after longer than is usual"


def test_a_peak_counts_at_once_and_goes_by_and_by() -> None:
    """A slower answer is believed, a faster one in part."""
    load = Load()
    for at, seconds in ((10.0, 1.0), (20.0, 5.0), (21.0, 1.0)):
        turn = load.begin(at - seconds)
        turn.answered(at)
        turn.end(at)
    assert 4.0 < (load.seconds(21.0) or 0) < 5.0


@settings(deadline=None)
@given(st.lists(st.sampled_from(["begin", "answer", "untimed", "end", "fail"]), max_size=40))
def test_what_is_in_flight_is_what_has_not_ended(steps: list[str]) -> None:
    """Whatever is said, and however often, counts stay true and end at zero."""
    load, now, open_turns, answered, ended = Load(), 0.0, [], set(), []
    for step in steps:
        now += 0.5
        if step == "begin":
            open_turns.append(load.begin(now))
        elif open_turns and step in ("answer", "untimed"):
            open_turns[0].answered(now, timed=step == "answer")
            answered.add(open_turns[0])
        elif open_turns:
            turn = open_turns.pop()
            turn.end(now, failed=step == "fail")
            ended.append(turn)
        for turn in ended:
            turn.end(now)
        assert load.in_flight == len(open_turns)
        assert load.awaited == len(set(open_turns) - answered)
        assert load.cost(now) >= 0
    for turn in open_turns:
        turn.end(now)
    assert (load.in_flight, load.awaited) == (0, 0)


# Conversations


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_conversation_stays_when_another_member_leaves(strategy: str) -> None:
    """Of n members one leaves: its own conversations move, and nobody else's."""
    clock = ManualClock()
    members = [Member(f"m{at}", f"openai/m{at}") for at in range(5)]
    pool = pool_of(*members, sticky=True, strategy=strategy, clock=clock)
    rng = random.Random(3)
    asked = [Asked(conversation=rng.getrandbits(64)) for _ in range(2000)]
    before = [pool.next(one) for one in asked]
    assert before == [pool.choose(one)[0] for one in asked]
    for share in Counter(before).values():
        assert share / 2000 == pytest.approx(0.2, abs=0.04)
    members[0].load.pause(clock() + 60, "throttled")
    after = [pool.next(one) for one in asked]
    stayed = sum(one == other for one, other in zip(before, after, strict=True))
    assert stayed == 2000 - before.count("m0")
    moved = Counter(new for old, new in zip(before, after, strict=True) if old == "m0")
    assert len(moved) == 4, "they spread over all that are left"
    clock.advance(61)
    assert [pool.next(one) for one in asked] == before


def test_conversations_fall_by_weight() -> None:
    """A member of triple weight keeps three quarters of them."""
    pool = pool_of(Member("a", "a", weight=3), Member("b", "b"), sticky=True)
    rng = random.Random(3)
    counts = Counter(pool.next(Asked(conversation=rng.getrandbits(64))) for _ in range(3000))
    assert counts["a"] / 3000 == pytest.approx(0.75, abs=0.03)


def test_without_a_conversation_the_strategy_chooses() -> None:
    """A sticky pool asks both for requests that can't be told apart."""
    pool = pool_of(Member("a", "a"), Member("b", "b"), sticky=True)
    assert set(firsts(pool, 50)) == {"a", "b"}


def fields_of(**body: Any) -> dict[str, bytes]:
    return {name: json.dumps(value).encode() for name, value in body.items()}


TEXT = st.text(max_size=30)


@settings(deadline=None)
@given(TEXT, TEXT, TEXT, st.booleans())
def test_a_growing_conversation_keeps_its_key(
    system: str, first: str, later: str, in_parts: bool
) -> None:
    """Later turns, cache marks that move and other ways to write the text change nothing."""
    said: Any = [{"type": "text", "text": first, "cache_control": {}}] if in_parts else first
    begun = [{"role": "system", "content": system}, {"role": "user", "content": first}]
    grown = [
        {"content": system, "role": "system"},
        {"role": "user", "name": "x]", "content": said},
        {"role": "assistant", "content": later},
        {"role": "user", "content": later},
    ]
    key = conversation_key(fields_of(messages=begun))
    assert key is not None
    assert key == conversation_key(fields_of(messages=grown))
    assert 0 <= key < 2**64
    other = [{"role": "system", "content": system}, {"role": "user", "content": first + "!"}]
    assert key != conversation_key(fields_of(messages=other))


def test_anthropic_and_responses_have_their_system_elsewhere() -> None:
    """A system prompt at the top level tells two conversations apart."""
    turns = [{"role": "user", "content": "Hi"}]
    keys = {
        conversation_key(fields_of(messages=turns)),
        conversation_key(fields_of(messages=turns, system="Be brief.")),
        conversation_key(fields_of(input=turns, instructions="Be long.")),
    }
    assert len(keys) == 3


def test_what_the_client_says_comes_first() -> None:
    """Its field, then its header, then the text; null and empty say nothing."""
    turns = [{"role": "user", "content": "Hi"}]
    plain = conversation_key(fields_of(messages=turns))
    named = conversation_key(fields_of(messages=turns, prompt_cache_key="c1"))
    assert named == conversation_key(fields_of(messages=[], prompt_cache_key="c1")) != plain
    assert conversation_key(fields_of(messages=turns, session_id=None, session="")) == plain
    headers = {b"x-session-id": "s1"}
    by_header = conversation_key(fields_of(messages=turns), lambda name: headers.get(name, ""))
    assert by_header not in (plain, named, None)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        fields_of(prompt="x"),
        fields_of(messages=[]),
        fields_of(input="text"),
        fields_of(input=5),
    ],
)
def test_without_a_conversation_there_is_no_key(fields: dict[str, bytes]) -> None:
    """A completion, an embedding, an empty list: nothing to keep anywhere."""
    assert conversation_key(fields) is None


def test_odd_messages_have_a_key_all_the_same() -> None:
    """A shape that nobody knows is told by its bytes."""
    one = conversation_key(fields_of(messages=[{"role": 5, "content": {}}]))
    assert one is not None
    assert one != conversation_key(fields_of(messages=[{"role": 6, "content": {}}]))


def test_a_huge_beginning_is_looked_at_in_part() -> None:
    """A first message that is larger than what is looked at is told by its beginning."""
    long = [{"role": "user", "content": "x" * 70_000}]
    key = conversation_key(fields_of(messages=long))
    assert key is not None
    assert key == conversation_key(
        fields_of(messages=[*long, {"role": "assistant", "content": "y"}])
    )


# Rules


@pytest.mark.parametrize(
    ("rule", "fits", "not_this"),
    [
        (Rule(to="x", key="team-*"), Asked(key="team-a"), Asked(key="a-team")),
        (Rule(to="x", key="ab*ba"), Asked(key="abba"), Asked(key="aba")),
        (Rule(to="x", key="ci"), Asked(key="ci"), Asked(key="ci2")),
        (Rule(to="x", tag="batch"), Asked(tags=["a", "batch"]), Asked(tags=["batches"])),
        (Rule(to="x", tokens_above=9), Asked(tokens=10), Asked(tokens=9)),
        (
            Rule(to="x", header={"X-Tier": "go*d"}),
            Asked(header={b"x-tier": "gold"}.get),
            Asked(header={b"x-tier": "bold"}.get),
        ),
        (Rule(to="x", header={"x-beta": "*"}), Asked(header={b"x-beta": "1"}.get), Asked()),
        (
            Rule(to="x", model="chat", tokens_above=1),
            Asked(model="chat", tokens=2),
            Asked(model="chatty", tokens=2),
        ),
        (
            Rule(to="x", key="a", tag="b"),
            Asked(key="a", tags=("b",)),
            Asked(key="a"),
        ),
    ],
)
def test_a_rule_holds_when_all_of_it_does(rule: Rule, fits: Asked, not_this: Asked) -> None:
    """Key, tag, size, header and model, alone and together."""
    rules = Rules([rule])
    assert rules.route(fits) == "x"
    assert rules.route(not_this) is None


def test_the_first_rule_that_holds_is_taken() -> None:
    """Their order is the operator's; without rules nothing is sent elsewhere."""
    rules = Rules([Rule(to="a", tokens_above=100), Rule(to="b", tokens_above=10)])
    asked = [Asked(tokens=size) for size in (5, 50, 500)]
    assert [rules.route(one) for one in asked] == [None, "b", "a"]
    assert not Rules()
    assert Rules().route(Asked(tokens=500)) is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"to": "x"}, "no condition"),
        ({"to": "", "key": "a"}, "`to` is empty"),
        ({"to": "x", "key": "a*b*"}, "more than one"),
        ({"to": "x", "tokens_above": -1}, "tokens_above is -1"),
        ({"to": "x", "header": {"x y": "1"}}, "'x y' is no name of a header"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(wrong: dict[str, Any], told: str) -> None:
    """The error says what is missing."""
    with pytest.raises(ConfigurationError, match=told):
        Rule(**wrong)


# Explaining


def test_each_member_is_explained() -> None:
    """Places and reasons for those who would be asked, and what keeps out each of the others."""
    clock = ManualClock()
    ill = Member("ill", "ill", breaker=breaker_on(clock))
    held = Member("held", "held", breaker=breaker_on(clock))
    throttled, dead_key = Member("t", "throttled"), Member("q", "quarantined")
    pool = pool_of(
        Member("light", "light"),
        Member("heavy", "heavy", weight=3),
        Member("spare", "spare", order=2),
        Member("small", "small", context=5),
        Member("drained", "drained", weight=0),
        ill,
        held,
        throttled,
        dead_key,
        clock=clock,
    )
    trip(ill.breaker)  # type: ignore[arg-type]
    held.breaker.force_open()
    throttled.load.pause(clock() + 12, "throttled")
    dead_key.load.pause(float("inf"), "quarantined: the key was refused")
    told = [(one.label, one.place, one.reason) for one in explain(pool, Asked(tokens=6))]
    assert told == [
        ("heavy", 1, "order 1, drawn first 75% of the time, weight 3"),
        ("light", 2, "order 1, drawn first 25% of the time, weight 1"),
        ("spare", 3, "order 2, drawn first 100% of the time, weight 1"),
        ("small", None, "its window of 5 tokens is too small for 6"),
        ("drained", None, "weight 0: out of traffic"),
        ("ill", None, "breaker open for 5.0 s more"),
        ("held", None, "breaker held open until it is closed by hand"),
        ("throttled", None, "throttled for 12.0 s more"),
        ("quarantined", None, "quarantined: the key was refused"),
    ]
    waits = {one.label: one.free_in for one in explain(pool)}
    assert waits["ill"] == pytest.approx(5)
    assert waits["throttled"] == pytest.approx(12)
    assert waits["held"] is waits["quarantined"] is waits["light"] is None


def test_each_strategy_has_its_words() -> None:
    """What a place comes from is told by the figures that the strategy went by."""
    clock = ManualClock()
    one, two = Member("one", "one", price=(2, 3)), Member("two", "two")
    answer(one, clock(), 0.5)
    two.load.begin(clock())
    told = {
        name: [place.reason for place in explain(pool_of(one, two, strategy=name, clock=clock))]
        for name in STRATEGIES[1:]
    }
    assert told == {
        "least_busy": ["order 1, 0 in flight, weight 1", "order 1, 1 in flight, weight 1"],
        "fastest": [
            "order 1, first token in 0.50 s, 0 in flight",
            "order 1, first token not known, 1 in flight",
        ],
        "cheapest": ["order 1, price 5", "order 1, no price"],
    }
    sticky = pool_of(one, two, sticky=True, clock=clock)
    assert explain(sticky, Asked(conversation=5))[0].reason == "order 1, by the conversation's hash"
    assert "drawn first" in explain(sticky)[0].reason


FACTS = st.tuples(
    st.sampled_from(["well", "open", "paused", "probing", "small", "drained"]),
    st.integers(1, 2),
    st.integers(0, 4),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(FACTS, min_size=1, max_size=5),
    st.sampled_from(STRATEGIES),
    st.booleans(),
    st.integers(),
)
def test_what_is_explained_is_what_is_done(
    facts: list[tuple[str, int, int]], strategy: str, sticky: bool, seed: int
) -> None:
    """Those with a place are those who are asked, by the same orders; each member is told of."""
    clock = ManualClock()
    members = []
    for at, (state, order, busy) in enumerate(facts):
        breaker = breaker_on(clock)
        member = Member(
            str(at),
            str(at),
            order=order,
            weight=0.0 if state == "drained" else 1.0 + at,
            breaker=breaker,
            context=5 if state == "small" else None,
            price=(at, busy),
        )
        if state in ("open", "probing"):
            trip(breaker)
        if state == "paused":
            member.load.pause(clock() + 100, "throttled")
        for _ in range(busy):
            member.load.begin(clock())
        members.append(member)
    clock.advance(4 if any(state == "open" for state, _, _ in facts) else 6)
    pool = pool_of(*members, strategy=strategy, sticky=sticky, clock=clock, seed=seed)
    asked = Asked(tokens=6, conversation=seed % 2**64)
    places = explain(pool, asked)
    chosen = pool.choose(asked)
    assert sorted(place.label for place in places) == sorted(one.label for one in members)
    assert {place.label for place in places if place.place} == set(chosen)
    if sticky:
        assert tuple(place.label for place in places if place.place) == chosen
    first = pool.next(asked)
    assert (first is None) == (not chosen)
    if first is not None:
        assert members[int(first)].order == members[int(chosen[0])].order
