"""Plans: which deployments a call may go to, in which order, and after which failure."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from proxy_api import Settings
from proxy_api._compose import Parts, compose
from proxy_api._keys import Key, LocalOnly
from proxy_api._plan import Fallback
from proxy_api._snapshot import Runtime, Snapshot
from proxy_core import CHAT, Budget, Call, Limit, Limits, ModelTable
from proxy_core.errors import (
    ConnectFailed,
    ModelNotFound,
    PermissionRefused,
    UpstreamError,
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
    return compose(Settings(**{**base, **sections}), Runtime(), parts)


class Head:
    """The head of a request, with no headers but those given."""

    peer = "127.0.0.1"

    def __init__(self, **headers: str) -> None:
        self.received_at = time.monotonic()
        self._headers = {name.replace("_", "-").encode(): text for name, text in headers.items()}

    def header(self, name: bytes) -> str:
        return self._headers.get(name, "")


def call(model: str) -> Call:
    return CHAT.read(CHAT_BODY.replace(b"MODEL", model.encode()))


CHAT_BODY = b'{"model":"MODEL","messages":[],"max_tokens":50}'


def targets(house: Snapshot, model: str) -> list[str]:
    """Who is asked, when all of them fail."""
    return asked(house, model, *[BROKEN] * 9)


BROKEN = ConnectFailed("no")
FULL = UpstreamRejected("long", upstream_code="context_length_exceeded")
MALFORMED = UpstreamRejected("bad", upstream_code="invalid_value")


def asked(house: Snapshot, model: str, *failures: UpstreamError, **headers: str) -> list[str]:
    """Who is asked for a model, when these are the failures, one after the other."""
    course = house.plan(call(model), KEY, Head(**headers)).course()
    names: list[str] = []
    while (attempt := course.next(len(names))) is not None:
        names.append(f"{attempt.provider}/{attempt.model}")
        if len(names) > len(failures):
            break
        course.failures.append(failures[len(names) - 1])
    return names


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
    plan = house.plan(call("claude-anything"), KEY, Head())
    assert plan.route == "claude-*"
    attempt = plan.course().next(0)
    assert attempt is not None
    assert attempt.deployment.label == "a/*"


def test_an_unknown_model_is_told_with_the_nearest_one() -> None:
    """The error names the model that was probably meant, if the key may use it."""
    house = snapshot(models=[{"name": "chat-large", "target": "a/x"}])
    with pytest.raises(ModelNotFound, match="Did you mean 'chat-large'"):
        house.plan(call("chat-lrge"), KEY, Head())
    secretive = Key("k", "k", models=ModelTable([("chat-lrge", None)]))
    with pytest.raises(ModelNotFound) as caught:
        house.plan(call("chat-lrge"), secretive, Head())
    assert "chat-large" not in caught.value.message


def test_a_key_uses_its_models_only() -> None:
    """A model outside the key's list is refused, also one that exists; names and patterns count."""
    house = snapshot(models=[{"name": n, "target": "a/x"} for n in ("chat", "gpt-4", "other")])
    key = Key("k", "ci", models=ModelTable([("chat", None), ("gpt-*", None)]))
    assert house.plan(call("chat"), key, Head()).route == "chat"
    assert house.plan(call("gpt-4"), key, Head()).route == "gpt-4"
    with pytest.raises(PermissionRefused, match=r"'ci'.*'other'"):
        house.plan(call("other"), key, Head())
    assert house.names(key) == ["chat", "gpt-4"]


@pytest.mark.parametrize("turn", [1, -1])
def test_fallbacks_follow_their_kind_of_failure_only(turn: int) -> None:
    """An error leads to the error's fallbacks, an overflow to that one's, in any order of rules."""
    rules = [{"on": "error", "to": ["e"]}, {"on": "context_length", "to": ["w"]}]
    house = snapshot(
        models=[{"name": n, "target": f"{p}/{n}"} for n, p in (("m", "a"), ("e", "b"), ("w", "c"))],
        fallbacks={"m": rules[::turn]},
    )
    assert asked(house, "m", BROKEN) == ["a/m", "b/e"]
    assert asked(house, "m", FULL) == ["a/m", "c/w"]
    assert asked(house, "m", MALFORMED) == ["a/m"]
    assert asked(house, "m", BROKEN, FULL) == ["a/m", "b/e", "c/w"]
    assert asked(house, "m", FULL, BROKEN) == ["a/m", "c/w", "b/e"]


def test_a_pool_of_a_fallback_is_used_up() -> None:
    """After an error of a fallback's first deployment its second one is asked."""
    house = snapshot(
        models=[
            {"name": "m", "target": "a/m"},
            {"name": "w", "target": "b/w", "order": 1},
            {"name": "w", "target": "c/w", "order": 2},
        ],
        fallbacks={"m": {"on": "context_length", "to": ["w"]}},
    )
    assert asked(house, "m", FULL, BROKEN) == ["a/m", "b/w", "c/w"]


def test_a_changed_snapshot_leads_elsewhere() -> None:
    """What a name leads to is worked out for each snapshot anew; the one before keeps its own."""
    house = snapshot(models=[{"name": n, "target": f"a/{n}"} for n in ("m", "f")])
    other = replace(house, fallbacks={"m": (Fallback("error", ("f",)),)})
    assert asked(other, "m", BROKEN) == ["a/m", "a/f"]
    found = house.routes.lookup("f")
    assert found is not None
    fewer = replace(other, routes=ModelTable([("m", found.values[0])]))
    assert asked(fewer, "m", BROKEN) == ["a/f"]
    assert asked(house, "m", BROKEN) == ["a/m"]


def test_the_last_attempt_is_the_fallbacks() -> None:
    """A pool of sick deployments doesn't use up the attempts that the fallback needs."""
    pool = [{"name": "m", "target": f"{p}/m", "order": n} for n, p in enumerate("abc")]
    house = snapshot(models=[*pool, {"name": "f", "target": "a/f"}], fallbacks={"m": ["f"]})
    assert asked(house, "m", BROKEN, BROKEN, BROKEN) == ["a/m", "b/m", "a/f"]


def test_a_name_under_a_pattern_has_its_own_fallback() -> None:
    """Rules are looked up by the name that was asked for, then by the pattern's."""
    house = snapshot(
        models=[{"name": "claude-*", "target": "a/*"}, {"name": "f", "target": "b/f"}],
        fallbacks={"claude-opus": ["f"]},
    )
    assert asked(house, "claude-opus", BROKEN) == ["a/opus", "b/f"]
    assert asked(house, "claude-other", BROKEN) == ["a/other"]


def test_a_guess_never_forbids_a_call() -> None:
    """A body that is larger than the token limit is reserved at the limit: it can be admitted."""
    house = snapshot(models=[{"name": "m", "target": "a/x"}])
    key = Key("k", "k", limits=Limits(tokens=Limit.parse("1000/minute", unit="tokens")))
    image = CHAT.read(b'{"model":"m","messages":["%s"]}' % (b"x" * 300_000))
    assert house.plan(image, key, Head()).wanted(key.limits) == (1000, 1000)
    narrow = Limits.parse(input_tokens="100/minute", output_tokens="10/minute")
    assert house.plan(image, key, Head()).wanted(narrow) == (110, 10)


def test_names_under_a_pattern_are_listed() -> None:
    """A key's list has the names that it gives itself, when a pattern serves them."""
    house = snapshot(models=[{"name": "claude-*", "target": "a/*"}, {"name": "m", "target": "b/m"}])
    names = ModelTable([("claude-1", None), ("m", None), ("nobody", None)])
    assert house.names(Key("k", "k", models=names)) == ["m", "claude-1"]


def test_the_reservation_covers_prompt_and_cap() -> None:
    """What is reserved is at least the cap that the client set, and more for a longer prompt."""
    house = snapshot(models=[{"name": "m", "target": "a/x"}])
    small, output = house.plan(call("m"), KEY, Head()).wanted(Limits())
    assert small > output == 50
    longer = CHAT.read(b'{"model":"m","messages":["%s"],"max_tokens":50}' % (b"x" * 3000))
    assert house.plan(longer, KEY, Head()).wanted(Limits())[0] >= small + 900


def test_what_lives_survives_a_new_configuration() -> None:
    """Breakers and pools of deployments that are still named are the same objects afterwards."""
    runtime = Runtime()
    parts = Parts(lambda event: None, NoTracer())
    providers: Any = {"a": {"kind": "vllm"}}
    narrow: Any = [{"name": "m", "target": "a/x"}]
    wide: Any = [{"name": "m", "target": "a/x", "weight": 5}, {"name": "n", "target": "a/y"}]
    one = compose(Settings(providers=providers, models=narrow), runtime, parts)
    two = compose(Settings(providers=providers, models=wide), runtime, parts)
    before, after = (house.deployments[0] for house in (one, two))
    assert before.breaker is after.breaker
    assert before.provider is after.provider
    assert one.limiter is two.limiter
    assert isinstance(one.keys, LocalOnly)


def test_a_provider_that_is_reached_another_way_is_another() -> None:
    """Another outbound proxy, or only another password for it, gets a pool of its own."""
    runtime = Runtime()
    parts = Parts(lambda event: None, NoTracer())
    models: Any = [{"name": "m", "target": "a/x"}]
    ways: Any = ({}, {"http2": True}, {"proxy": "http://u:1@h:1"}, {"proxy": "http://u:2@h:1"})
    for way in (*ways, *ways):
        providers: Any = {"a": {"kind": "vllm", **way}}
        compose(Settings(providers=providers, models=models), runtime, parts)
    assert len(runtime.providers) == len(ways)
    assert not any("u:1" in identity for identity in runtime.providers)


def test_a_client_that_tries_again_gets_fewer_attempts() -> None:
    """The SDK's retries and ours don't multiply: a repeated request has half of the attempts."""
    pool = [{"name": "m", "target": f"{p}/m", "order": n} for n, p in enumerate("abc")]
    house = snapshot(models=pool)
    assert len(asked(house, "m", *[BROKEN] * 3)) == 3
    assert len(asked(house, "m", *[BROKEN] * 3, x_stainless_retry_count="1")) == 2


def test_a_deadline_has_room_for_each_attempt_while_the_client_waits() -> None:
    """All attempts share one deadline; a client that waits for less sets it."""
    house = snapshot(models=[{"name": "m", "target": "a/x", "timeouts": {"total": 100}}])
    head = Head()
    assert math.isclose(house.plan(call("m"), KEY, head).deadline.at, head.received_at + 300)
    hasty = Head(x_stainless_read_timeout="20")
    deadline = house.plan(call("m"), KEY, hasty).deadline
    assert hasty.received_at + 15 < deadline.at < hasty.received_at + 20


def test_a_rule_sends_a_request_to_another_model() -> None:
    """By key, tag, header or size; the first that holds counts, and others go where they asked."""
    house = snapshot(
        models=[{"name": n, "target": f"{p}/{n}"} for n, p in (("m", "a"), ("big", "b"))],
        routing={
            "rules": [
                {"to": "big", "when": {"header": {"x-tier": "batch*"}}},
                {"to": "big", "when": {"tokens_above": 500}},
            ]
        },
    )
    assert asked(house, "m") == ["a/m"]
    assert asked(house, "m", x_tier="batch-1") == ["b/big"]
    longer = CHAT.read(b'{"model":"m","messages":["%s"]}' % (b"x" * 3000))
    assert house.plan(longer, KEY, Head()).route == "big"


def test_money_is_reserved_at_the_dearest() -> None:
    """A key with a budget reserves what the dearest deployment of the pool would take."""
    house = snapshot(
        models=[
            {"name": "m", "target": "a/x", "price": {"input": 1, "output": 2}},
            {"name": "m", "target": "b/y", "price": {"input": 3, "output": 1}},
        ]
    )
    key = Key("k", "k", limits=Limits(budget=Budget.usd("1")))
    plan = house.plan(call("m"), key, Head())
    assert plan.money == plan.size * 1000 + plan.output * 2000
    assert plan.money > plan.size * 3000 + plan.output * 1000
    assert house.plan(call("m"), KEY, Head()).money == 0


def test_a_budget_knows_the_fallbacks_prices() -> None:
    """The dearest fallback is reserved too, and one without a price isn't asked for such a key."""
    rows = [{"name": n, "target": f"a/{n}", "price": {"input": p}} for n, p in (("m", 1), ("d", 9))]
    house = snapshot(
        models=[*rows, {"name": "free", "target": "b/free"}], fallbacks={"m": ["free", "d"]}
    )
    key = Key("k", "k", limits=Limits(budget=Budget.usd("1")))
    plan = house.plan(call("m"), key, Head())
    assert plan.money == plan.size * 9000
    assert [route.name for route, _ in plan.after["error"]] == ["d"]
    assert [route.name for route, _ in house.plan(call("m"), KEY, Head()).after["error"]] == [
        "free",
        "d",
    ]


def test_what_has_no_price_is_not_free() -> None:
    """A key with a budget may not use a model without a price; the error says what is missing."""
    house = snapshot(models=[{"name": "m", "target": "a/x"}])
    key = Key("k", "ci", limits=Limits(budget=Budget.usd("1")))
    with pytest.raises(
        PermissionRefused, match="'ci' has a budget, and the model 'm' has no price"
    ):
        house.plan(call("m"), key, Head())
