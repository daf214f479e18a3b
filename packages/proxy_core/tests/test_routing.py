from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core import Match, ModelTable, expand_target, order_deployments
from proxy_core._routing import match_model
from proxy_core.errors import ConfigurationError


@dataclass(frozen=True)
class Deployment:
    name: str
    order: int = 1
    weight: float = 1.0


DEPLOYMENTS = st.lists(
    st.builds(
        Deployment,
        name=st.text("abc", max_size=3),
        order=st.integers(1, 3),
        weight=st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    ),
    max_size=8,
)
NAMES = st.text("ab-*", min_size=1, max_size=8).filter(lambda name: name.count("*") < 2)


@given(DEPLOYMENTS, st.randoms(use_true_random=False))
def test_lower_orders_come_first_and_nobody_twice(
    candidates: list[Deployment], rng: random.Random
) -> None:
    """The result has each candidate with a weight once, by rising order; without weights, all."""
    live = [one for one in candidates if one.weight] or candidates
    ordered = order_deployments(candidates, rng.random)
    assert Counter(ordered) == Counter(live)
    assert [one.order for one in ordered] == sorted(one.order for one in live)


def test_first_and_second_fall_by_weight() -> None:
    """Of weights 6, 3 and 1: who is first is theirs, and who is second is that of the two left."""
    heavy, middle, light = (Deployment(str(weight), weight=weight) for weight in (6, 3, 1))
    rng = random.Random(7)
    draws = [order_deployments([light, heavy, middle], rng.random) for _ in range(20_000)]
    first = Counter(draw[0] for draw in draws)
    assert first[heavy] / 20_000 == pytest.approx(0.6, abs=0.02)
    assert first[light] / 20_000 == pytest.approx(0.1, abs=0.02)
    after_heavy = Counter(draw[1] for draw in draws if draw[0] is heavy)
    assert after_heavy[middle] / first[heavy] == pytest.approx(0.75, abs=0.02)


def test_weight_zero_is_out_of_traffic_unless_alone() -> None:
    """A drained deployment is asked only when there is no other, whatever its order."""
    drained, other = Deployment("drained", weight=0.0), Deployment("other", order=2)
    assert order_deployments([drained, other]) == [other]
    assert order_deployments([drained]) == [drained]
    assert order_deployments([]) == []


def test_weightless_candidates_take_turns() -> None:
    """When all are drained, each comes first now and then."""
    candidates = [Deployment("a", weight=0.0), Deployment("b", weight=0.0)]
    rng = random.Random(7)
    assert {order_deployments(candidates, rng.random)[0].name for _ in range(50)} == {"a", "b"}


@pytest.mark.parametrize("number", [0.0, 0.5, 1.0 - 2**-53])
def test_any_random_number_will_do(number: float) -> None:
    """The ends of the generator's range break no logarithm."""
    candidates = [Deployment("a"), Deployment("b", weight=1e-9), Deployment("c", weight=1e9)]
    assert len(order_deployments(candidates, lambda: number)) == 3


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("chat", ("chat", "")),
        ("claude-opus", ("claude-opus", "")),
        ("claude-sonnet-4-5", ("claude-*", "sonnet-4-5")),
        ("claude-haiku-latest", ("claude-*-latest", "haiku")),
        ("claude--latest", ("claude-*-latest", "")),
        ("claude-latest", ("claude-*", "latest")),
        ("gpt-5", ("*", "gpt-5")),
        ("claude-*", ("claude-*", "*")),
        ("aXXb", ("a*", "XXb")),
        ("claude-a-long-ending", ("*-a-long-ending", "claude")),
    ],
)
def test_the_most_literal_pattern_wins(name: str, found: tuple[str, str]) -> None:
    """Exact names first, then the pattern with the most text, then the longer beginning."""
    patterns = [
        "*",
        "claude-*",
        "claude-*-latest",
        "chat",
        "claude-opus",
        "*b",
        "a*",
        "*-a-long-ending",
    ]
    assert match_model(name, patterns) == found


def test_a_pattern_never_overlaps_itself() -> None:
    """The beginning and the end of a pattern need text of their own."""
    assert match_model("aba", ["ab*ba"]) is None
    assert match_model("abba", ["ab*ba"]) == ("ab*ba", "")


@given(NAMES, st.lists(NAMES, max_size=6))
def test_what_is_found_is_what_was_asked(name: str, patterns: list[str]) -> None:
    """The pattern with its wildcard filled in is the name, and no better pattern was left."""
    found = match_model(name, patterns)
    if found is None:
        assert name not in patterns
        assert "*" not in patterns
        return
    pattern, wildcard = found
    if name in patterns and "*" not in name:
        assert found == (name, "")
    else:
        assert expand_target(pattern, wildcard) == name
        fitting = [p for p in patterns if "*" in p and match_model(name, [p])]
        assert len(pattern) == max(map(len, fitting))


@given(NAMES, st.lists(NAMES, max_size=4), st.booleans())
def test_a_table_knows_what_it_finds(name: str, names: list[str], has_patterns: bool) -> None:
    """``knows`` and ``lookup`` agree, with patterns in the table and without."""
    table = ModelTable((one, None) for one in names if has_patterns or "*" not in one)
    assert table.knows(name) == (table.lookup(name) is not None)


def test_targets_are_expanded_once() -> None:
    """A star in the client's own text stays text, and a target without one stays as it is."""
    assert expand_target("claude/claude-*", "opus-4") == "claude/claude-opus-4"
    assert expand_target("claude/claude-*", "*-*") == "claude/claude-*-*"
    assert expand_target("openai/gpt-5", "ignored") == "openai/gpt-5"


def test_a_table_pools_repeated_names_and_keeps_the_order() -> None:
    """Rows of one name are one pool; names come as configured, patterns only when asked for."""
    table = ModelTable([("chat", 1), ("claude-*", 2), ("chat", 3), ("other", 4)])
    assert table.lookup("chat") == Match("chat", "", (1, 3))
    assert table.lookup("claude-x") == Match("claude-*", "x", (2,))
    assert table.lookup("unknown") is None
    assert table.names() == ("chat", "other")
    assert table.names(patterns=True) == ("chat", "claude-*", "other")


@pytest.mark.parametrize("name", ["", "a*b*", "x" * 257])
def test_names_that_cannot_be_are_refused(name: str) -> None:
    """An empty name, two stars or 257 characters are configuration errors that show the name."""
    with pytest.raises(ConfigurationError) as refused:
        ModelTable([(name, None)])
    assert repr(name[:40]) in refused.value.message


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_clients_may_ask_for_anything(name: str) -> None:
    """Names that nobody can have match nothing, not even a star."""
    table = ModelTable([("*", None)])
    assert table.lookup(name) is None
    assert table.nearest(name) is None


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("gtp-5-mini", "gpt-5-mini"), ("GPT-5-MINI", "gpt-5-mini"), ("chta", "chat"), ("zzz", None)],
)
def test_the_nearest_name_is_suggested(asked: str, meant: str | None) -> None:
    """A slip or another case finds the name; something else finds none."""
    table = ModelTable([(name, None) for name in ("gpt-5-mini", "chat", "claude-*")])
    assert table.nearest(asked) == meant


def test_a_suggestion_among_thousands_stays_cheap() -> None:
    """Of twenty thousand names those that begin alike are compared, in well under a second."""
    table = ModelTable([(f"provider-{n % 50}/model-{n}-large", n) for n in range(20_000)])
    began = time.process_time()
    assert table.nearest("provider-7/model-10007-lagre") == "provider-7/model-10007-large"
    assert table.nearest("provider-7/" * 20) is None
    assert time.process_time() - began < 1.0


def test_lookup_is_linear_in_the_name() -> None:
    """A name made to mislead a matcher costs no more than its length."""
    table = ModelTable([("a" * 100 + "*" + "a" * 100 + "b", None)])
    began = time.process_time()
    for _ in range(10_000):
        assert table.lookup("a" * 256) is None
    assert time.process_time() - began < 1.0


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), NAMES, st.text("ab-", max_size=6))
def test_what_a_pattern_may_ask_for_is_found(names: list[str], own: str, word: str) -> None:
    """Whatever name fits a pattern, where it is found is among what the pattern overlaps."""
    table = ModelTable((name, name) for name in names)
    assert table.names(patterns=True) == tuple(names)
    found = {match.pattern for match in table.overlapping(own)}
    asked = own.replace("*", word)
    match = table.lookup(asked)
    if match is not None and asked.strip():
        assert match.pattern in found


def test_what_has_nothing_in_common_does_not_overlap() -> None:
    """Neither beginnings nor endings that differ can be of one name."""
    table = ModelTable((name, None) for name in ("gem/*", "oai/*", "gpt-5", "*-mini"))
    assert {match.pattern for match in table.overlapping("gem/*")} == {"gem/*", "*-mini"}
    assert [match.pattern for match in table.overlapping("gpt-*-large")] == []
    assert [match.pattern for match in table.overlapping("gpt-*")] == ["gpt-5", "*-mini"]
    assert [match.pattern for match in table.overlapping("oai/x")] == ["oai/*"]
