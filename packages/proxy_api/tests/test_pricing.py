"""What deployments cost: the operator's price, else the published one, else nobody knows."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price

from proxy_api import Settings
from proxy_api._cli_explain import told_explanation
from proxy_api._compose import Parts, compose
from proxy_api._explain import asked_by, explained
from proxy_api._keys import Key
from proxy_api._plan import Attempt, Plan
from proxy_api._settings import InvalidSettings, checked
from proxy_api._snapshot import Runtime, Snapshot
from proxy_core import CHAT, Budget, Limits, Usage
from proxy_core.errors import PermissionRefused
from proxy_logging import NoTracer

PROVIDERS = {
    "openai": {"kind": "openai", "api_key": "sk-upstream"},
    "router": {"kind": "openrouter", "api_key": "sk-upstream"},
    "gpu": {"kind": "vllm"},
    "near": {"kind": "openai", "api_key": "sk-upstream", "base_url": "http://10.0.0.5/v1"},
}
RUNTIME = Runtime()
"""Loads the published prices once."""
KEY = Key("k", "ci")
PAYS = Key("k", "ci", limits=Limits(budget=Budget.usd("100")))
MILLION = Usage(1_000_000, 1_000_000, cached_tokens=500_000)


class Head:
    """The head of a request, without headers."""

    peer = "127.0.0.1"
    received_at = time.monotonic()

    def header(self, name: bytes) -> str:
        return ""


def settings(*models: dict[str, Any], **sections: Any) -> Settings:
    rows = [{"name": "m", **model} for model in models]
    return checked(Settings(**{"providers": PROVIDERS, "models": rows, **sections}))


def house(*models: dict[str, Any], **sections: Any) -> Snapshot:
    parts = Parts(lambda event: None, NoTracer())
    return compose(settings(*models, **sections), RUNTIME, parts)


def planned(snapshot: Snapshot, model: str = "m", key: Key = KEY) -> Plan:
    body = b'{"model":"%s","messages":[],"max_tokens":1000}' % model.encode()
    return snapshot.plan(CHAT.read(body), key, Head())


def first(snapshot: Snapshot, model: str = "m") -> Attempt:
    attempt = planned(snapshot, model).course().next(0)
    assert attempt is not None
    return attempt


def nano_dollars(snapshot: Snapshot, model: str = "m") -> int | None:
    """What a million tokens each way cost, half of the prompt cached."""
    price = first(snapshot, model).price
    return None if price is None else price.of(MILLION)


def published(provider: str, model: str) -> int:
    usage = TheirUsage(input_tokens=1_000_000, output_tokens=1_000_000, cache_read_tokens=500_000)
    return int(calc_price(usage, model, provider_id=provider).total_price * 10**9)


def test_a_model_without_a_price_has_the_published_one() -> None:
    """It costs what genai-prices says for the provider's kind and the upstream's name."""
    there = nano_dollars(house({"target": "openai/gpt-5-mini"}))
    assert there == published("openai", "gpt-5-mini")
    through = nano_dollars(house({"target": "router/openai/gpt-5-mini"}))
    assert through == published("openrouter", "openai/gpt-5-mini")


def test_the_operators_price_wins() -> None:
    """What the configuration says is what it costs, a discount of the provider's aside."""
    row = {"target": "openai/gpt-5-mini", "price": {"input": "1", "output": "2", "cached": "0.5"}}
    assert nano_dollars(house(row, pricing={"multiplier": {"openai": 0.5}})) == 2_750_000_000


def test_a_discount_changes_published_prices() -> None:
    """``pricing.multiplier`` is exact: nine tenths of the list."""
    less = house({"target": "openai/gpt-5-mini"}, pricing={"multiplier": {"openai": "0.9"}})
    assert nano_dollars(less) == published("openai", "gpt-5-mini") * 9 // 10


@pytest.mark.parametrize("target", ["gpu/gpt-5-mini", "near/gpt-5-mini", "openai/no-such-model"])
def test_what_nobody_published_has_no_price(target: str) -> None:
    """Neither one's own machines nor unknown names cost what some list says of others."""
    assert nano_dollars(house({"target": target})) is None


def test_published_prices_can_be_left_out() -> None:
    """With ``published: false`` only the configuration's own prices count."""
    assert nano_dollars(house({"target": "openai/gpt-4o"}, pricing={"published": False})) is None


def test_free_is_a_price() -> None:
    """``price: free`` lets a key with a budget use one's own machine, at no cost."""
    snapshot = house({"target": "gpu/llama", "price": "free"})
    assert nano_dollars(snapshot) == 0
    assert planned(snapshot, key=PAYS).money == 0


def test_a_list_has_prices_in_time() -> None:
    """Of prices with days, the one whose day has come holds; a later one doesn't yet."""
    today = datetime.now(UTC).date()
    rows = [
        {"input": 3, "since": today + timedelta(days=2)},
        {"input": 2, "since": str(today - timedelta(days=2))},
        {"input": 1},
    ]
    snapshot = house({"target": "gpu/llama", "price": rows})
    assert nano_dollars(snapshot) == 2_000_000_000
    price = first(snapshot).price
    assert price is not None
    midnight = datetime.combine(today + timedelta(days=2), datetime.min.time(), UTC).timestamp()
    assert [price.at(midnight + by).of(MILLION) // 10**9 for by in (-1, 0)] == [2, 3]


def test_each_kind_of_tokens_may_have_a_price() -> None:
    """Writes to a cache, audio, images, reasoning, the request itself, and long prompts."""
    price = {
        "input": 1, "output": 2, "cache_write": 3, "cache_write_1h": 4, "audio_input": 5,
        "audio_output": 6, "image_input": 7, "image_output": 8, "reasoning": 9,
        "per_request": "0.001", "tiers": [{"above": 100, "input": 10, "output": 20}],
    }  # fmt: skip
    known = first(house({"target": "gpu/m", "price": price})).price
    assert known is not None
    short = Usage(
        60,
        40,
        reasoning_tokens=10,
        cache_write_tokens=20,
        cache_write_1h_tokens=10,
        audio_input_tokens=10,
        audio_output_tokens=10,
        image_input_tokens=10,
        image_output_tokens=10,
    )
    read, made = 20 * 1 + 10 * 3 + 10 * 4 + 10 * 5 + 10 * 7, 10 * 2 + 10 * 6 + 10 * 8 + 10 * 9
    assert known.of(short) == (read + made) * 1000 + 1_000_000
    assert known.of(Usage(101, 1)) == (101 * 10 + 20) * 1000 + 1_000_000


def test_a_pattern_has_the_price_of_the_model_that_is_asked() -> None:
    """Each name that a ``*`` stands for has its own price, in the plan of a budget too."""
    snapshot = house({"name": "gpt-*", "target": "openai/gpt-*"})
    for name in ("gpt-5-mini", "gpt-4o"):
        assert nano_dollars(snapshot, name) == published("openai", name)
    assert nano_dollars(snapshot, "gpt-of-nobody") is None
    plans = [planned(snapshot, name, PAYS).money for name in ("gpt-5-mini", "gpt-4o")]
    assert 0 < plans[0] < plans[1]
    with pytest.raises(PermissionRefused, match="has no price"):
        planned(snapshot, "gpt-of-nobody", PAYS)


def test_unpriced_calls_are_refused_where_the_operator_says_so() -> None:
    """With ``block``, before anything is asked, fallbacks included; a price or ``free`` helps."""
    rows = [
        {"name": "m", "target": "gpu/m"},
        {"name": "known", "target": "openai/gpt-5-mini"},
        {"name": "own", "target": "gpu/own", "price": "free"},
    ]
    blocks = house(*rows, pricing={"unpriced": "block"}, fallbacks={"known": ["m", "own"]})
    with pytest.raises(PermissionRefused, match=r"'m' has no price.*`price`") as caught:
        planned(blocks)
    assert (caught.value.param, first(blocks, "own").name) == ("model", "gpu/own")
    assert [route.name for route, _ in planned(blocks, "known").after["error"]] == ["own"]


@pytest.mark.parametrize("unpriced", ["flag", "allow"])
def test_unpriced_calls_are_served_otherwise(unpriced: str) -> None:
    """Without ``block`` they are served; a key with a budget is refused in any case."""
    serves = house({"target": "gpu/m"}, pricing={"unpriced": unpriced})
    assert first(serves).name == "gpu/m"
    with pytest.raises(PermissionRefused, match="'ci' has a budget, and the model 'm' has no"):
        planned(serves, key=PAYS)


@pytest.mark.parametrize(
    ("price", "pricing", "told"),
    [
        ({"input": 1}, {"multiplier": {"opnai": 1}}, "pricing.multiplier.opnai"),
        ([{"input": 1}, {"input": 2}], {}, "models[0].price[1].since"),
        ({"input": 1, "tiers": [{"above": 9}, {"above": 9}]}, {}, "models[0].price"),
    ],
)
def test_prices_that_do_not_fit_together_are_told(price: Any, pricing: Any, told: str) -> None:
    """Providers that aren't there, prices that begin together, tiers that are twice there."""
    with pytest.raises(InvalidSettings) as caught:
        settings({"target": "openai/m", "price": price}, pricing=pricing)
    assert [problem.path for problem in caught.value.problems] == [told]


def test_explain_says_the_price_and_who_gave_it() -> None:
    """Configured, published with the package's version, or none, as JSON and in words."""
    rows = (
        {"target": "openai/gpt-5-mini"},
        {"target": "router/x", "price": {"input": 1, "output": "2.5"}},
        {"target": "gpu/m"},
    )
    chosen = settings(*rows)
    snapshot = compose(chosen, RUNTIME, Parts(lambda event: None, NoTracer()))
    told = explained(chosen, snapshot, asked_by("m"), live=False)
    prices = {row["name"]: row["price"] for row in told["pool"]["deployments"]}
    assert prices["router/x"] == {"input": 1.0, "output": 2.5, "source": "configured"}
    assert prices["gpu/m"] is None
    assert prices["openai/gpt-5-mini"]["source"].startswith("genai-prices ")
    words = "\n".join(told_explanation(told))
    assert "$1 in, $2.5 out for 1M tokens (configured)" in words
    assert "; no price\n" in words + "\n"


def test_days_of_a_file_are_days() -> None:
    """A day is the same whether YAML read it as a date or a variable gave it as text."""
    rows = [{"input": 1, "since": date(2027, 1, 1)}, {"input": 1, "since": "2027-01-01"}]
    one, other = (settings({"target": "gpu/m", "price": [row]}).models[0].price for row in rows)
    assert one == other
