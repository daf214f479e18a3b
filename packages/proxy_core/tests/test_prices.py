"""Prices are whole numbers, and nothing is cheaper than it is. The judge is genai-prices."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from typing import Any

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data import providers
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import Usage
from proxy_core.errors import ConfigurationError
from proxy_core.prices import KINDS, DatedPrice, Price, PriceList, PublishedPrices, price_of

dollars = st.decimals("0", "1000", places=4)
tokens = st.integers(0, 2_000_000)
PUBLISHED = PublishedPrices()
KIND_OF = {
    "anthropic": "anthropic",
    "aws": "bedrock",
    "azure": "azure",
    "baseten": "baseten",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "google": "gemini",
    "groq": "groq",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshotai": "moonshot",
    "novita": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "x-ai": "xai",
    "zai": "zai",
    "zhipuai": "zhipu",
}
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def rows_of(model: ModelInfo) -> list[ConditionalPrice]:
    one = model.prices
    return one if isinstance(one, list) else [ConditionalPrice(prices=one)]


def sold_by_tokens() -> Iterator[tuple[str, ModelInfo]]:
    """Models of our kinds of providers that are found by their own name."""
    for provider in providers:
        for model in provider.models if provider.id in KIND_OF else ():
            is_sold = all(row.prices.input_mtok is not None for row in rows_of(model))
            if is_sold and provider.find_model(model.id) is model:
                yield provider.id, model


MODELS = [*sold_by_tokens()]
DATED = [one for one in MODELS if isinstance(one[1].prices, list)]
TIERED = [
    one
    for one in MODELS
    if any(isinstance(value, TieredPrices) for value in vars(rows_of(one[1])[0].prices).values())
]


@st.composite
def usages(draw: st.DrawFn, read: int | None = None) -> Usage:
    """Parts of the input and of the output that don't overlap."""
    read = draw(st.integers(0, 600_000)) if read is None else read
    made = draw(st.integers(0, 100_000))
    kept, written, heard, seen = (draw(st.integers(0, read // 4)) for _ in range(4))
    hour = draw(st.integers(0, written))
    spoken, drawn, thought = (draw(st.integers(0, made // 3)) for _ in range(3))
    return Usage(read, made, kept, thought, True, written, hour, heard, spoken, seen, drawn)


def their_nano_dollars(provider: str, model: str, usage: Usage, when: datetime) -> int:
    """What the package says, rounded up."""
    theirs = TheirUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        input_audio_tokens=usage.audio_input_tokens,
        output_audio_tokens=usage.audio_output_tokens,
        input_image_tokens=usage.image_input_tokens,
        output_image_tokens=usage.image_output_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        cache_audio_read_tokens=0,
        cache_image_read_tokens=0,
    )
    told = calc_price(theirs, model, provider_id=provider, genai_request_timestamp=when)
    return int((told.total_price * 10**9).to_integral_value(ROUND_CEILING))


def agrees(provider: str, model: str, usage: Usage, when: datetime) -> bool:
    ours = PUBLISHED.find(KIND_OF[provider], model)
    assert ours is not None
    price = ours.at(when.timestamp())
    cost = price.of(usage)
    assert cost <= price.dearest(usage.input_tokens, usage.output_tokens)
    return cost == their_nano_dollars(provider, model, usage, when)


def test_a_price_is_dollars_for_a_million_tokens() -> None:
    """A million tokens of input and of output cost what the list says, in nano-dollars."""
    price = Price.usd(input="0.25", output="2")
    assert price.of(Usage(1_000_000, 1_000_000)) == 2_250_000_000
    assert price.rates == (250_000_000, 2_000_000_000)


def test_cached_tokens_have_their_own_price() -> None:
    """Of the input, what was cached is charged as such; without a price of its own, as any."""
    usage = Usage(1_000_000, 0, cached_tokens=400_000)
    assert Price.usd(input="1", cached="0.1").of(usage) == 640_000_000
    assert Price.usd(input="1").of(usage) == 1_000_000_000


@settings(max_examples=50)
@given(dollars, dollars, dollars, tokens, tokens, st.integers(0, 100))
def test_the_cost_is_exact_and_rounded_up(
    read: Decimal, made: Decimal, kept: Decimal, prompt: int, answer: int, share: int
) -> None:
    """It is the exact cost or less than a nano-dollar above it, and never above the dearest."""
    cached = prompt * share // 100
    price = Price.usd(input=read, output=made, cached=kept)
    exact = (
        Fraction(read) * (prompt - cached) + Fraction(kept) * cached + Fraction(made) * answer
    ) * 1000
    cost = price.of(Usage(prompt, answer, cached))
    assert 0 <= cost - exact < 1
    assert cost <= price.dearest(prompt, answer)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(dict.fromkeys((*KINDS, "request"), dollars)),
    st.dictionaries(tokens, st.fixed_dictionaries(dict.fromkeys(KINDS, dollars)), max_size=2),
    st.lists(tokens, min_size=10, max_size=10),
)
def test_nothing_costs_more_than_the_dearest(amounts: Any, tiers: Any, numbers: list[int]) -> None:
    """Whatever an upstream reports, even parts larger than the whole, the reservation pays for."""
    price = Price.usd(**amounts, tiers=tiers)
    read, made, *parts = numbers
    names = [name for name in Usage.__struct_fields__ if name.endswith("_tokens")][2:]
    reported: Any = dict(zip(names, parts, strict=True))
    usage = Usage(read, made, **reported)
    assert 0 <= price.of(usage) <= price.dearest(usage.input_tokens, usage.output_tokens)


@pytest.mark.parametrize("amount", ["-1", "free", "NaN", "Infinity", "1e9", f"1e-{10**6}"])
def test_what_is_no_price_is_refused_by_name(amount: str) -> None:
    """The error names the field; the value of a slip of the pen is shown."""
    with pytest.raises(ConfigurationError, match="the price output") as caught:
        Price.usd(input="1", output=amount)
    assert caught.value.param == "output"


@settings(max_examples=100)
@given(st.sampled_from(MODELS), usages())
def test_published_prices_are_charged_as_published(
    which: tuple[str, ModelInfo], usage: Usage
) -> None:
    """Each model costs, for any usage, what genai-prices itself says, to the nano-dollar."""
    provider, model = which
    assert agrees(provider, model.id, usage, NOW)


@settings(max_examples=50)
@given(st.sampled_from(TIERED), st.sampled_from([0, 1]), st.data())
def test_a_long_prompt_is_dearer_from_the_published_length_on(
    which: tuple[str, ModelInfo], beyond: int, data: st.DataObject
) -> None:
    """At a tier's border the whole request has the price that genai-prices has there."""
    provider, model = which
    prices = vars(rows_of(model)[0].prices).values()
    starts = [
        tier.start for each in prices if isinstance(each, TieredPrices) for tier in each.tiers
    ]
    usage = data.draw(usages(data.draw(st.sampled_from(starts)) + beyond))
    assert agrees(provider, model.id, usage, NOW)


@settings(max_examples=50)
@given(st.sampled_from(DATED), st.sampled_from([-1, 0, 1]), st.data())
def test_a_price_holds_from_its_date_and_hour_on(
    which: tuple[str, ModelInfo], beside: int, data: st.DataObject
) -> None:
    """A second before and after each published date or hour, it is the price of genai-prices."""
    provider, model = which
    edges = [NOW]
    for row in rows_of(model):
        if isinstance(row.constraint, StartDateConstraint):
            edges.append(datetime.combine(row.constraint.start_date, datetime.min.time(), UTC))
        elif isinstance(row.constraint, TimeOfDateConstraint):
            hours = (row.constraint.start_time, row.constraint.end_time)
            edges += [datetime.combine(NOW.date(), hour) for hour in hours]
    when = data.draw(st.sampled_from(edges)) + timedelta(seconds=beside)
    assert agrees(provider, model.id, data.draw(usages()), when)


def test_a_new_price_is_taken_when_its_time_comes() -> None:
    """One list, asked as time goes by, gives each price from its second on, and the daily one."""
    now = [0.0]
    rows = [
        DatedPrice(Price.usd(input="1")),
        DatedPrice(Price.usd(input="2"), since=100_000),
        DatedPrice(Price.usd(input="3"), daily=(86_300, 50)),
    ]
    prices = PriceList(rows, clock=lambda: now[0])
    seen = []
    for now[0] in (0, 49, 50, 86_299, 86_300, 86_449, 86_450, 99_999, 100_000, 172_799):
        seen.append(prices.of(Usage(1_000_000)) // 10**9)
    assert seen == [3, 3, 1, 1, 3, 3, 1, 1, 2, 3]
    now[0] = 98_000
    assert prices.dearest(1_000_000, 0) == 2 * 10**9  # an answer may end after the next date
    assert prices.settled() is prices


def test_a_price_without_a_next_date_asks_no_clock() -> None:
    """What never changes is the price itself."""
    price = Price.usd(input="1")
    assert PriceList([DatedPrice(price)]).settled() is price
    past = [DatedPrice(Price.usd(input="2")), DatedPrice(price, since=1.0)]
    assert PriceList(past).settled() is price


def test_a_discount_is_exact() -> None:
    """A tenth off is a tenth off of every kind, tier and request, without rounding."""
    price = Price.usd(input="0.3", output="3", request="0.01", tiers={1000: {"input": "0.7"}})
    less = price.times(Decimal("0.9"))
    assert less.of(Usage(10, 1)) == 2700 + 2700 + 9_000_000
    assert less.of(Usage(1001)) == 630_630 + 9_000_000


@pytest.mark.parametrize(
    ("kind", "model", "address", "listed"),
    [
        ("openai", "gpt-4o-2024-08-06", None, "openai/gpt-4o"),
        ("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", None, "aws/"),
        ("vertex", "claude-sonnet-4-5@20250929", None, "google/claude-"),
        ("openai_compatible", "llama-3.3-70b-versatile", "https://api.groq.com/openai/v1", "groq/"),
        ("openrouter", "deepseek/deepseek-r1:free", None, "openrouter/deepseek/deepseek-r1:free"),
        ("openai", "gpt-4o", "http://127.0.0.1:8000/v1", None),
        ("openai_compatible", "gpt-4o", "https://llm.example.com/v1", None),
        ("vllm", "gpt-4o", "https://api.openai.com/v1", None),
        ("openai", "a-model-of-nobody", None, None),
        ("openai", "omni-moderation-latest", None, None),
    ],
)
def test_a_model_is_found_by_its_providers_spelling(
    kind: str, model: str, address: str | None, listed: str | None
) -> None:
    """Names as the clouds write them are found; one's own machines have no published price."""
    found = PUBLISHED.find(kind, model, address)
    assert (found is None) == (listed is None)
    assert found is None or listed is None or listed in found.source


def test_free_models_cost_nothing_and_say_so() -> None:
    """OpenRouter's free models have a price, which is zero."""
    found = price_of("openrouter", "deepseek/deepseek-r1:free")
    assert found is not None
    assert found.of(Usage(1000, 1000)) == 0


def test_nobody_loads_the_prices_who_does_not_ask() -> None:
    """Neither the import nor a provider of one's own loads the package, which takes 0.7 s."""
    program = (
        "import sys, proxy_core.prices as p;"
        "p.price_of('vllm', 'm'); p.price_of('openai', 'm', 'http://10.0.0.5/v1');"
        "print('genai_prices' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_common_answer_costs_few_steps() -> None:
    """A price without details is one call and at most 50 instructions of the interpreter."""
    price, usage = Price.usd(input="0.25", output="2", cached="0.025"), Usage(1000, 100, 10)
    steps = calls = 0

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal steps, calls
        frame.f_trace_opcodes = True
        calls += event == "call"
        steps += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        price.of(usage)
    finally:
        sys.settrace(before)
    assert (calls, steps <= 50) == (1, True), (calls, steps)
