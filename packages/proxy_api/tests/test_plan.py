"""Plans: which deployments a call may go to, in which order, and after which failure."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from proxy_api import Settings
from proxy_api._compose import Parts, compose
from proxy_api._keys import Key, LocalOnly
from proxy_api._snapshot import Runtime, Snapshot
from proxy_core import CHAT, Call, ModelTable
from proxy_core.errors import (
    ConnectFailed,
    ModelNotFound,
    PermissionRefused,
    UpstreamRejected,
)
from proxy_logging import NoTracer

KEY = Key("k", "k")


def snapshot(**sections: Any) -> Snapshot:
    base: dict[str, Any] = {
        "providers": {
            "a": {"kind": "vllm"},
            "b": {"kind": "ollama"},
            "c": {"kind": "llamacpp"},
        }
    }
    parts = Parts(lambda event: None, NoTracer())
    made = compose(Settings(**{**base, **sections}), Runtime(), parts)
    return replace(made, rng=random.Random(7))


def call(model: str) -> Call:
    return CHAT.read(CHAT_BODY.replace(b"MODEL", model.encode()))


CHAT_BODY = b'{"model":"MODEL","messages":[],"max_tokens":50}'


def targets(house: Snapshot, model: str) -> list[str]:
    plan = house.plan(call(model), KEY)
    return [f"{attempt.deployment.provider.name}/{attempt.model}" for attempt in plan.attempts]


def test_lower_order_comes_first() -> None:
    """A pool is asked by order, whatever the weights."""
    house = snapshot(
        models=[
            {"name": "m", "target": "a/x", "order": 2, "weight": 100},
            {"name": "m", "target": "b/y", "order": 1},
        ]
    )
    assert all(targets(house, "m") == ["b/y", "a/x"] for _ in range(50))


def test_weights_share_the_first_place() -> None:
    """Within an order the first deployment is drawn by weight."""
    house = snapshot(
        models=[
            {"name": "m", "target": "a/x", "weight": 3},
            {"name": "m", "target": "b/y", "weight": 1},
        ]
    )
    first = Counter(targets(house, "m")[0] for _ in range(2000))
    assert 1400 < first["a/x"] < 1600


def test_a_pattern_takes_what_its_star_stood_for() -> None:
    """``claude-*`` asks the upstream for the rest of the asked name; an exact name wins over it."""
    house = snapshot(
        models=[
            {"name": "claude-*", "target": "a/anthropic-*"},
            {"name": "claude-fast", "target": "b/fast"},
        ]
    )
    assert targets(house, "claude-opus") == ["a/anthropic-opus"]
    assert targets(house, "claude-fast") == ["b/fast"]


def test_the_route_of_a_pattern_is_the_pattern() -> None:
    """Metrics are labelled by the configured name, never by what a client wrote."""
    house = snapshot(models=[{"name": "claude-*", "target": "a/*"}])
    plan = house.plan(call("claude-anything"), KEY)
    assert plan.route == "claude-*"
    assert plan.attempts[0].deployment.label == "a/*"


def test_an_unknown_model_is_told_with_the_nearest_one() -> None:
    """The error names the model that was probably meant, if the key may use it."""
    house = snapshot(models=[{"name": "chat-large", "target": "a/x"}])
    with pytest.raises(ModelNotFound, match="Did you mean 'chat-large'"):
        house.plan(call("chat-lrge"), KEY)
    secretive = Key("k", "k", models=ModelTable([("chat-lrge", None)]))
    with pytest.raises(ModelNotFound) as caught:
        house.plan(call("chat-lrge"), secretive)
    assert "chat-large" not in caught.value.message


def test_a_key_uses_its_models_only() -> None:
    """A model outside the key's list is refused, also one that exists; names and patterns count."""
    house = snapshot(models=[{"name": n, "target": "a/x"} for n in ("chat", "gpt-4", "other")])
    key = Key("k", "ci", models=ModelTable([("chat", None), ("gpt-*", None)]))
    assert house.plan(call("chat"), key).route == "chat"
    assert house.plan(call("gpt-4"), key).route == "gpt-4"
    with pytest.raises(PermissionRefused, match=r"'ci'.*'other'"):
        house.plan(call("other"), key)
    assert house.names(key) == ["chat", "gpt-4"]


def test_fallbacks_follow_their_kind_of_failure_only() -> None:
    """An error leads to the error fallbacks, an overflow of the window to that one's."""
    house = snapshot(
        models=[{"name": n, "target": f"{p}/{n}"} for n, p in (("m", "a"), ("e", "b"), ("w", "c"))],
        fallbacks={"m": [{"on": "error", "to": ["e"]}, {"on": "context_length", "to": ["w"]}]},
    )
    own, error, window = house.plan(call("m"), KEY).attempts
    broken = ConnectFailed("no")
    full = UpstreamRejected("long", upstream_code="context_length_exceeded")
    malformed = UpstreamRejected("bad", upstream_code="invalid_value")
    assert [a.follows(None, "") for a in (own, error, window)] == [True, False, False]
    assert [a.follows(broken, "") for a in (error, window)] == [True, False]
    assert [a.follows(full, "") for a in (error, window)] == [False, True]
    assert [a.follows(malformed, "") for a in (error, window)] == [False, False]
    plan = house.plan(call("m"), KEY)
    assert (plan.has_answer_to(full), plan.has_answer_to(malformed)) == (True, False)


def test_a_pool_of_a_fallback_is_used_up_before_the_next() -> None:
    """After an error of a fallback's first deployment its second one is asked."""
    house = snapshot(
        models=[
            {"name": "m", "target": "a/m"},
            {"name": "w", "target": "b/w", "order": 1},
            {"name": "w", "target": "c/w", "order": 2},
        ],
        fallbacks={"m": {"on": "context_length", "to": ["w"]}},
    )
    second = house.plan(call("m"), KEY).attempts[2]
    assert second.follows(ConnectFailed("no"), "w")
    assert not second.follows(ConnectFailed("no"), "")


def test_the_reservation_covers_prompt_and_cap() -> None:
    """What is reserved is at least the cap that the client set, and more for a longer prompt."""
    house = snapshot(models=[{"name": "m", "target": "a/x"}])
    small = house.plan(call("m"), KEY).dearest
    assert small >= 50
    longer = CHAT.read(b'{"model":"m","messages":["%s"],"max_tokens":50}' % (b"x" * 3000))
    assert house.plan(longer, KEY).dearest >= small + 900


def test_what_lives_survives_a_new_configuration() -> None:
    """Breakers and pools of deployments that are still named are the same objects afterwards."""
    runtime = Runtime()
    parts = Parts(lambda event: None, NoTracer())
    providers: Any = {"a": {"kind": "vllm"}}
    narrow: Any = [{"name": "m", "target": "a/x"}]
    wide: Any = [{"name": "m", "target": "a/x", "weight": 5}, {"name": "n", "target": "a/y"}]
    one = compose(Settings(providers=providers, models=narrow), runtime, parts)
    two = compose(Settings(providers=providers, models=wide), runtime, parts)
    before, after = (house.plan(call("m"), KEY).attempts[0].deployment for house in (one, two))
    assert before.breaker is after.breaker
    assert before.provider is after.provider
    assert one.limiter is two.limiter
    assert isinstance(one.keys, LocalOnly)
