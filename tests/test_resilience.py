"""A sick deployment, a throttled key, a storm of retries cost nobody else anything.

``llm-proxy serve`` in processes of its own, the official SDK before it, fake upstreams behind it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest

Writer = asyncio.StreamWriter
Play = Callable[[Any, Writer], Awaitable[None]]
SAY_HI: Any = [{"role": "user", "content": "hi"}]
STAGE = "http://stage"
"""Stands for the stage's base URL in a configuration."""
SECRETS = [f"sk-upstream-secret-{number}" for number in range(3)]


# --- What upstreams say. ---


def whole(body: object, status: int = 200, **headers: str) -> Play:
    raw = json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    told = (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}"
        f"content-length: {len(raw)}\r\n\r\n"
    ).encode() + raw

    async def play(asked: Any, writer: Writer) -> None:
        writer.write(told)

    return play


def answer(tokens: tuple[int, int] = (5, 2), *, after: float = 0.0) -> Play:
    """A good one, whole or streamed as it was asked for, with this usage."""
    usage = {
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "total_tokens": sum(tokens),
    }
    message = {"role": "assistant", "content": "Hello"}
    told = {"id": "c1", "object": "chat.completion", "created": 1, "model": "real", "usage": usage}
    body = {**told, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    async def play(asked: Any, writer: Writer) -> None:
        await asyncio.sleep(after)
        if not json.loads(asked.body).get("stream"):
            await whole(body)(asked, writer)
            return
        writer.write(
            b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        parts: list[Any] = [{"content": part} for part in ("Hel", "lo", " you", " all", " there")]
        for delta, reason in [*((part, None) for part in parts), ({}, "stop")]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            _event(writer, {**told, "object": "chat.completion.chunk", "choices": [choice]})
        _event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")

    return play


def _event(writer: Writer, told: Any) -> None:
    data = b"data: %b\n\n" % (told if isinstance(told, str) else json.dumps(told)).encode()
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def hang(asked: Any, writer: Writer) -> None:
    await asyncio.sleep(20)


BOOM = whole({"error": {"message": "boom"}}, 500)
THROTTLED = whole({"error": {"message": "slow down"}}, 429, retry_after="30")
GOOD = answer()


class Stage:
    """All upstreams of a test: what one says goes by the model, or the credential, it is asked."""

    def __init__(self, start: Callable[..., Any]) -> None:
        self.plays: dict[str, Play] = {}
        self.asked: Counter[str] = Counter()
        """How often each model, and each credential, was asked."""
        self.bodies: dict[str, Any] = {}
        """The last one for each model."""
        self.url: str = start(self._answer).url

    async def _answer(self, asked: Any, writer: Writer) -> None:
        body = json.loads(asked.body)
        model = body["model"]
        credential = asked.headers.get("authorization", "").removeprefix("Bearer ")
        self.asked[model] += 1
        self.asked[f"{model} {credential}"] += 1
        self.bodies[model] = body
        play = self.plays.get(f"{model} {credential}") or self.plays.get(model, GOOD)
        await play(asked, writer)


class House:
    """A process, its upstreams, and clients of it."""

    def __init__(self, process: Any, stage: Stage, stack: ExitStack) -> None:
        self.process = process
        self.stage = stage
        self._stack = stack
        self._clients: dict[tuple[str, int, float], openai.OpenAI] = {}

    def sdk(self, key: str = "plain", *, retries: int = 0, timeout: float = 20) -> openai.OpenAI:
        asked = (key, retries, timeout)
        if asked not in self._clients:
            url = f"{self.process.url}/v1"
            made = openai.OpenAI(
                base_url=url, api_key=f"sk-{key}", max_retries=retries, timeout=timeout
            )
            self._clients[asked] = self._stack.enter_context(made)
        return self._clients[asked]

    def ask(self, model: str, key: str = "plain", **more: Any) -> Any:
        """A whole answer, with its headers."""
        return ask(self.sdk(key), model, **more)

    def finished(self, model: str) -> list[dict[str, Any]]:
        """The log lines of the requests for a model."""
        return [
            line
            for line in self.process.lines
            if line["event"] == "request" and line.get("model") == model
        ]


def ask(sdk: openai.OpenAI, model: str, **more: Any) -> Any:
    return sdk.chat.completions.with_raw_response.create(
        **{"model": model, "messages": SAY_HI, **more}
    )


def to(raw: Any) -> str:
    """Which deployment has answered."""
    return str(raw.headers["x-llm-proxy-deployment"])


async def crowd(
    house: House, model: str, *, requests: int, at_once: int, key: str = "plain", stream: bool
) -> Counter[str]:
    """What so many requests by so many clients came to: ``ok``, or the code of the error."""
    gate = asyncio.Semaphore(at_once)
    url = f"{house.process.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=f"sk-{key}", max_retries=0) as sdk:

        async def one() -> str:
            async with gate:
                try:
                    got: Any = await sdk.chat.completions.create(
                        model=model, messages=SAY_HI, stream=stream
                    )
                    if stream:
                        async for _ in got:
                            pass
                except openai.APIError as error:
                    return str(error.code)
                return "ok"

        return Counter(await asyncio.gather(*(one() for _ in range(requests))))


def nobody() -> str:
    """A base URL where nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}/v1"


def pool(name: str, *targets: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "target": target, **more} for target in targets]


def in_order(name: str, *targets: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "target": target, "order": order, **more}
        for order, target in enumerate(targets)
    ]


def config(stage: Stage, models: list[dict[str, Any]], **sections: Any) -> str:
    """A file with the providers ``up`` and ``gone``. Keys are given by what they may."""
    keys = {"plain": {}, **sections.pop("keys", {})}
    providers = {
        "up": {"kind": "openai_compatible", "base_url": STAGE},
        "gone": {"kind": "openai_compatible", "base_url": nobody()},
        **sections.pop("providers", {}),
    }
    rows = [{"name": name, "key": f"sk-{name}", **row} for name, row in keys.items()]
    text = json.dumps({"providers": providers, "models": models, "keys": rows, **sections})
    return text.replace(STAGE, stage.url)


@pytest.fixture(scope="module")
def open_house(
    http_upstream: Callable[..., Any], lasting_process: Callable[..., Any]
) -> Iterator[Callable[..., House]]:
    """``open_house(models, **sections) -> House``: starts a process with upstreams of its own."""
    with ExitStack() as stack:

        def start(models: list[dict[str, Any]], **sections: Any) -> House:
            stage = Stage(http_upstream)
            return House(lasting_process(config(stage, models, **sections)), stage, stack)

        yield start


# --- One process for most of it: each test has models, keys and providers of its own. ---

BRIEF = {"first_byte": "300ms"}
SICK = {"dead": "gone/x", "hanging": "up/hanging", "throttled": "up/throttled", "500": "up/500"}
TWINS = range(12)
PRICE = {"input": "1", "output": "2"}
LIMITED = {
    "requests": {"requests": "2/4s"},
    "input_tokens": {"input_tokens": "100/4s"},
    "output_tokens": {"output_tokens": "100/4s"},
    "tokens": {"tokens": "200/4s"},
}
CHAOS = (
    *("throttled", "overloaded", "stalled_head", "stalled_stream"),
    *("broken_stream", "cut_stream", "slow_tokens"),
)
MODELS = [
    *pool("ok", "up/ok"),
    *(
        row
        for name, target in SICK.items()
        for row in pool(f"trio-{name}", target, f"up/a-{name}", f"up/b-{name}", timeouts=BRIEF)
    ),
    *in_order("recovers", "up/sick", "up/well"),
    *(row for at in TWINS for row in in_order(f"twin-{at}", f"gone/twin-{at}", "up/twin")),
    *(row for name in ("one429", "one401", "all429") for row in pool(name, f"{name}/{name}")),
    *(row for name in ("forbidden", "permitted") for row in pool(name, f"single/{name}")),
    *pool("priced", "up/priced", price=PRICE),
    *pool("unpriced", "up/unpriced"),
    {"name": "capped", "target": "up/capped", "order": 0, "limits": {"requests": "2/minute"}},
    {"name": "capped", "target": "up/spare", "order": 1},
    {"name": "capped-alone", "target": "up/capped-alone", "limits": {"requests": "2/2s"}},
    *pool("large", "up/large"),
    *pool("batch", "up/batch"),
    *pool("tagged", "up/tagged"),
    {"name": "windows", "target": "up/small", "context": 200, "order": 0},
    {"name": "windows", "target": "up/wide", "context": 100_000, "order": 1},
    *pool("short", "up/short"),
    *pool("strict", "up/strict"),
    *pool("hung", "up/hung-1", "up/hung-2", "up/hung-3"),
    *(row for at in range(2) for row in pool(f"count-{at}", *(f"up/n{at}{n}" for n in "abc"))),
    *pool("chaotic", "up/chaotic"),
    *pool("pair", "up/pair-1", "up/pair-2"),
]
SECTIONS: dict[str, Any] = {
    "keys": {
        **{name: {"limits": limits} for name, limits in LIMITED.items()},
        "two-at-once": {"limits": {"concurrent": 2}},
        "refused-often": {"limits": {"requests": "2/2s"}},
        "sixty": {"limits": {"requests": "60/minute"}},
        "fifty": {"limits": {"requests": "50/second"}},
        "hard": {"budget": {"usd": "0.005", "hard": True}},
        "several": {"budget": {"usd": "0.005", "hard": True}},
        "soft": {"budget": {"usd": "0.001"}},
        "tag": {"tags": ["offline"]},
        **{
            name: {"chaos": {name: 1.0, "stall": "400ms", "pause": "50ms", "retry_after": "7s"}}
            for name in CHAOS
        },
        "short-stall": {"chaos": {"stalled_stream": 1.0, "stall": "200ms"}},
    },
    "fallbacks": {
        "short": {"on": "context_length", "to": ["large"]},
        "strict": {"on": "content_policy", "to": ["large"]},
    },
    "routing": {
        "breaker": {"open_for": "500ms"},
        "rules": [
            {"model": "ok", "when": {"header": {"x-tier": "batch"}}, "to": "batch"},
            {"model": "ok", "when": {"tag": "offline"}, "to": "tagged"},
            {"model": "ok", "when": {"tokens_above": 3000}, "to": "large"},
        ],
    },
}


@pytest.fixture(scope="module")
def house(open_house: Callable[..., House]) -> House:
    keyed = {
        name: {"kind": "openai_compatible", "base_url": STAGE, "api_keys": SECRETS}
        for name in ("one429", "one401", "all429")
    }
    single = {"kind": "openai_compatible", "base_url": STAGE, "api_key": SECRETS[0]}
    made = open_house(MODELS, providers={**keyed, "single": single}, **SECTIONS)
    made.stage.plays.update({"hanging": hang, "throttled": THROTTLED, "500": BOOM})
    return made


# --- One of three. ---


@pytest.mark.parametrize(
    ("sickness", "stream"),
    # A whole answer may take its time: silence is no sickness then.
    [*((sickness, True) for sickness in SICK), ("dead", False), ("throttled", False)],
)
async def test_one_of_three_that_is_sick_costs_nobody_an_answer(
    house: House, sickness: str, stream: bool
) -> None:
    """Dead, hanging, throttled or failing: all of 100 requests by 20 clients are answered."""
    told = await crowd(house, f"trio-{sickness}", requests=100, at_once=20, stream=stream)
    assert told == {"ok": 100}


def test_a_dead_deployment_is_soon_left_alone_and_soon_back(house: House) -> None:
    """Five requests reach it, then none; when it is well again it is asked within 3 seconds."""
    sdk, stage = house.sdk(), house.stage
    stage.plays["sick"] = BOOM
    first = [to(ask(sdk, "recovers")) for _ in range(12)]
    assert set(first) == {"up/well"}
    assert stage.asked["sick"] <= 5
    stage.plays["sick"] = GOOD
    deadline = time.monotonic() + 3
    while to(ask(sdk, "recovers")) != "up/sick":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while not any(
        (line["breaker"], line["after"]) == ("up/sick", "closed")
        for line in house.process.lines
        if line["event"] == "breaker_changed"
    ):
        ask(sdk, "recovers")
        assert time.monotonic() < deadline


def test_a_refused_connection_costs_next_to_nothing(house: House) -> None:
    """To go on to the next deployment takes at most 5 ms more than asking that one alone."""
    sdk = house.sdk()
    took: dict[bool, list[float]] = {False: [], True: []}
    for at in (*TWINS, *TWINS):
        for fails, model in ((False, "ok"), (True, f"twin-{at}")):
            began = time.perf_counter()
            raw = ask(sdk, model)
            took[fails].append(time.perf_counter() - began)
            assert raw.headers["x-llm-proxy-attempts"] == ("2" if fails else "1")
    # The quicker half: this machine does other things too.
    alone, after = (statistics.quantiles(took[fails], n=4)[0] for fails in (False, True))
    assert after - alone <= 0.005


# --- Credentials. ---


def test_a_throttled_credential_makes_room_for_the_next(house: House) -> None:
    """A 429 for one credential: the next one is asked within the same request, and from then on."""
    throttled = SECRETS[0]
    house.stage.plays[f"one429 {throttled}"] = THROTTLED
    raws = [house.ask("one429") for _ in range(9)]
    assert {raw.headers["x-llm-proxy-attempts"] for raw in raws} == {"1"}
    assert house.stage.asked[f"one429 {throttled}"] == 1
    assert house.stage.asked["one429"] == 10


def test_a_refused_credential_is_left_alone_and_told_of(house: House) -> None:
    """A 401 for one credential: no client sees it, the log does, and nowhere is the secret."""
    refused = SECRETS[1]
    complaint = {"error": {"message": f"Incorrect API key: {refused}", "code": "invalid_api_key"}}
    house.stage.plays[f"one401 {refused}"] = whole(complaint, 401)
    for _ in range(9):
        house.ask("one401")
    assert house.stage.asked[f"one401 {refused}"] == 1
    line = house.process.told("credential_quarantined")
    assert line["credential"].startswith("one401/")
    assert not any(secret in house.process.log for secret in SECRETS)


def test_a_model_that_a_credential_may_not_have_is_asked_for_once(house: House) -> None:
    """A 403 may be about the model: one request asks once, and the credential stays in use."""
    refused = whole({"error": {"message": "not yours", "type": "permission_error"}}, 403)
    house.stage.plays["forbidden"] = refused
    with pytest.raises(openai.InternalServerError):
        house.ask("forbidden")
    assert house.stage.asked["forbidden"] == 1
    house.ask("permitted")


def test_when_all_credentials_wait_the_client_is_told_how_long(house: House) -> None:
    """429 with the time of the first that is free; before it nobody is asked, after it they are."""
    sdk, stage = house.sdk(), house.stage
    for secret, told in zip(SECRETS, ("2", "1", "3"), strict=True):
        stage.plays[f"all429 {secret}"] = whole(
            {"error": {"message": "slow"}}, 429, retry_after=told
        )
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(openai.RateLimitError) as caught:
            ask(sdk, "all429")
        wait = int(caught.value.response.headers["retry-after-ms"]) / 1000
        assert 0.2 < wait <= 1.0
        assert time.monotonic() + wait == pytest.approx(began + 1.0, abs=0.25)
        assert stage.asked["all429"] == 3
    for secret in SECRETS:
        stage.plays.pop(f"all429 {secret}")
    raw = ask(house.sdk(retries=1), "all429")
    assert raw.retries_taken == 1
    assert time.monotonic() >= began + 1.0
    assert stage.asked[f"all429 {SECRETS[1]}"] == 2


# --- Limits of keys. ---


@pytest.mark.parametrize("limit", list(LIMITED))
def test_a_limit_says_which_it_is_and_when_it_is_free(house: House, limit: str) -> None:
    """429 with the limit's name, whose it is, and both times; the SDK's own retry then succeeds."""
    sdk = house.sdk(limit)
    house.stage.plays["ok"] = answer((45, 45))
    with pytest.raises(openai.RateLimitError) as caught:
        for _ in range(4):
            ask(sdk, "ok", max_tokens=45)
    error, headers = caught.value, caught.value.response.headers
    assert (error.code, error.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert f"limit reached: {limit} " in error.message
    assert "of this key" in error.message
    wait = int(headers["retry-after-ms"])
    assert 0 < wait <= 4000
    assert int(headers["retry-after"]) == max(1, -(-wait // 1000))
    assert headers["x-should-retry"] == "true"
    if limit in ("requests", "tokens"):
        assert headers[f"x-ratelimit-limit-{limit}"] == LIMITED[limit][limit].partition("/")[0]
        assert int(headers[f"x-ratelimit-remaining-{limit}"]) < 100
        assert headers[f"x-ratelimit-reset-{limit}"].endswith("s")
    retried = ask(house.sdk(limit, retries=1), "ok", max_tokens=45)
    assert retried.retries_taken == 1


async def test_slots_are_taken_and_given_back(house: House) -> None:
    """The third at once is refused by ``concurrent``; when one has ended, there is room."""
    house.stage.plays["ok"] = answer(after=0.5)
    url = f"{house.process.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-two-at-once", max_retries=0) as sdk:
        two = [
            asyncio.create_task(sdk.chat.completions.create(model="ok", messages=SAY_HI))
            for _ in range(2)
        ]
        await asyncio.sleep(0.2)
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.chat.completions.create(model="ok", messages=SAY_HI)
        assert "2 concurrent requests of this key" in caught.value.message
        await asyncio.gather(*two)
        house.stage.plays["ok"] = GOOD
        await sdk.chat.completions.create(model="ok", messages=SAY_HI)


def test_a_refused_request_costs_nothing(house: House) -> None:
    """However often a client is refused, the time at which there is room stays the same."""
    sdk = house.sdk("refused-often")
    house.stage.plays["ok"] = GOOD
    began, wait = time.monotonic(), 0.0
    ask(sdk, "ok")
    ask(sdk, "ok")
    asked = house.stage.asked["ok"]
    for _ in range(20):
        with pytest.raises(openai.RateLimitError) as caught:
            ask(sdk, "ok")
        wait = int(caught.value.response.headers["retry-after-ms"]) / 1000
        assert time.monotonic() + wait <= began + 1.3
    assert house.stage.asked["ok"] == asked
    time.sleep(wait)
    ask(sdk, "ok")


def test_a_retry_after_our_retry_after_succeeds(house: House) -> None:
    """100 of 100: who waits as long as we say is served."""
    sdk = house.sdk("fifty", retries=1)
    retried = 0
    deadline = time.monotonic() + 15
    while retried < 100:
        retried += ask(sdk, "ok").retries_taken
        assert time.monotonic() < deadline


async def test_a_thousand_at_once_get_what_there_is(house: House) -> None:
    """Of 1,000 at once by a key with 60 a minute 60 are served, and one more a second."""
    house.stage.plays["ok"] = GOOD
    asked, began = house.stage.asked["ok"], time.monotonic()
    limits = httpx2.Limits(max_connections=250)
    body = {"model": "ok", "messages": SAY_HI}
    async with httpx2.AsyncClient(limits=limits, timeout=30) as client:

        async def one() -> int:
            answered = await client.post(
                f"{house.process.url}/v1/chat/completions",
                json=body,
                headers={"authorization": "Bearer sk-sixty"},
            )
            return answered.status_code

        told = Counter(await asyncio.gather(*(one() for _ in range(1000))))
    assert set(told) == {200, 429}
    assert 60 <= told[200] <= 61 + (time.monotonic() - began)
    assert house.stage.asked["ok"] - asked == told[200]


# --- Money. ---


def test_cost_is_price_times_usage(house: House) -> None:
    """The header of a whole answer and the log line of a stream say it, to the nano-dollar."""
    house.stage.plays["priced"] = answer((1001, 3))
    assert house.ask("priced").headers["x-llm-proxy-cost"] == "0.001007000"
    for _ in house.sdk().chat.completions.create(model="priced", messages=SAY_HI, stream=True):
        pass
    deadline = time.monotonic() + 5
    while len(lines := house.finished("priced")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert [Decimal(str(line["cost_usd"])) for line in lines[:2]] == [Decimal("0.001007")] * 2


def test_a_hard_budget_ends(house: House) -> None:
    """What it has left must pay for the dearest answer; else it is insufficient_quota."""
    house.stage.plays["priced"] = answer((1000, 500))
    sdk = house.sdk("hard", retries=2)
    costs = [ask(sdk, "priced", max_tokens=500).headers["x-llm-proxy-cost"] for _ in range(2)]
    assert costs == ["0.002000000"] * 2
    with pytest.raises(openai.RateLimitError) as caught:
        ask(sdk, "priced", max_tokens=500)
    assert caught.value.code == "insufficient_quota"
    assert "budget used up: $0.005 a month of this key" in caught.value.message
    assert caught.value.response.headers["x-should-retry"] == "false"
    # What the rest does pay for is still served.
    ask(sdk, "priced", max_tokens=10)


def test_each_answer_of_several_is_reserved_for(house: House) -> None:
    """With ``n`` the budget pays for as many answers, whatever cap a client thinks of."""
    sdk = house.sdk("several")
    for more in ({"max_tokens": 500, "n": 8}, {"max_tokens": 2**64}, {"n": 10**30}):
        with pytest.raises(openai.RateLimitError) as caught:
            ask(sdk, "priced", **more)
        assert caught.value.code == "insufficient_quota"
    ask(sdk, "priced", max_tokens=500, n=2)


def test_a_soft_budget_refuses_nothing(house: House) -> None:
    """It is only told."""
    house.stage.plays["priced"] = answer((1000, 500))
    for _ in range(3):
        house.ask("priced", "soft")


def test_a_budget_needs_a_price(house: House) -> None:
    """403 that says what to do: nobody could tell what is left."""
    with pytest.raises(openai.PermissionDeniedError) as caught:
        house.ask("unpriced", "hard")
    assert "the model 'unpriced' has no price" in caught.value.message
    assert "`price`" in caught.value.message


# --- Limits of deployments. ---


def test_a_deployment_at_its_limit_hands_over(house: House) -> None:
    """Two a minute for the first one; the others go to the next, and none is refused."""
    sdk = house.sdk()
    assert [to(ask(sdk, "capped")) for _ in range(5)] == ["up/capped"] * 2 + ["up/spare"] * 3
    assert house.stage.asked["capped"] == 2


def test_the_only_deployment_at_its_limit_is_429(house: House) -> None:
    """With a time that is true: the SDK's retry after it succeeds."""
    sdk = house.sdk()
    ask(sdk, "capped-alone")
    ask(sdk, "capped-alone")
    with pytest.raises(openai.RateLimitError) as caught:
        ask(sdk, "capped-alone")
    assert "of this deployment" in caught.value.message
    assert 0 < int(caught.value.response.headers["retry-after-ms"]) <= 1000
    assert house.stage.asked["capped-alone"] == 2
    assert ask(house.sdk(retries=1), "capped-alone").retries_taken == 1


# --- Rules, windows, fallbacks. ---


def test_rules_send_requests_elsewhere(house: House) -> None:
    """By a header, by a tag of the key, by the size of the prompt; the client keeps its name."""
    house.stage.plays["ok"] = GOOD
    assert to(house.ask("ok")) == "up/ok"
    raw = house.ask("ok", extra_headers={"x-tier": "batch"})
    assert (to(raw), raw.parse().model) == ("up/batch", "ok")
    assert to(house.ask("ok", "tag")) == "up/tagged"
    assert to(house.ask("ok", messages=[{"role": "user", "content": "word " * 9000}])) == "up/large"


def test_a_window_that_is_too_small_is_left_out(house: House) -> None:
    """A long prompt goes to the wide one at once; a short one to the first."""
    assert to(house.ask("windows")) == "up/small"
    long = house.ask("windows", messages=[{"role": "user", "content": "word " * 2000}])
    assert (to(long), long.headers["x-llm-proxy-attempts"]) == ("up/wide", "1")


@pytest.mark.parametrize(
    ("model", "code"),
    [("short", "context_length_exceeded"), ("strict", "content_policy_violation")],
)
def test_another_model_answers_what_one_refuses(house: House, model: str, code: str) -> None:
    """A prompt that is too long, or against a policy, goes to the model that is named for it."""
    house.stage.plays[model] = whole({"error": {"message": "no", "code": code}}, 400)
    raw = house.ask(model)
    assert (to(raw), raw.parse().model) == ("up/large", model)


# --- Deadlines. ---


def test_an_answer_comes_before_the_client_gives_up(house: House) -> None:
    """With all of them silent, a client that waits for 1 s hears 504; later it would time out."""
    house.stage.plays.update({f"hung-{at}": hang for at in (1, 2, 3)})
    with pytest.raises(openai.InternalServerError) as caught:
        ask(house.sdk(timeout=1.0), "hung")
    assert caught.value.status_code == 504


def test_a_clients_retries_and_ours_do_not_multiply(house: House) -> None:
    """The client's first try may ask three deployments, its second one two."""
    house.stage.plays.update({f"n{at}{n}": BOOM for at in range(2) for n in "abc"})
    for at, (headers, attempts) in enumerate([({}, "3"), ({"x-stainless-retry-count": "1"}, "2")]):
        with pytest.raises(openai.InternalServerError) as caught:
            house.ask(f"count-{at}", extra_headers=headers)
        assert caught.value.response.headers["x-llm-proxy-attempts"] == attempts
        assert sum(house.stage.asked[f"n{at}{n}"] for n in "abc") == int(attempts)


# --- Chaos. ---


@pytest.mark.parametrize(
    ("fault", "error", "status", "code"),
    [
        ("throttled", openai.RateLimitError, 429, "upstream_rate_limited"),
        ("overloaded", openai.InternalServerError, 503, "upstream_failed"),
        ("stalled_stream", None, None, None),
        ("stalled_head", None, None, None),
        ("broken_stream", openai.APIError, None, "upstream_failed"),
        ("cut_stream", openai.APIError, None, "upstream_disconnected"),
        ("slow_tokens", None, None, None),
    ],
)
def test_a_test_key_meets_faults(
    house: House, fault: str, error: type[openai.APIError] | None, status: int | None, code: str
) -> None:
    """Each fault is, for the SDK, what the real one would be; a stall shorter than ours is one."""
    sdk = house.sdk(fault)
    house.stage.plays["chaotic"] = GOOD
    began = time.monotonic()
    if error is None:
        parts = list(sdk.chat.completions.create(model="chaotic", messages=SAY_HI, stream=True))
        text = "".join(part.choices[0].delta.content or "" for part in parts)
        assert text == "Hello you all there"
        assert time.monotonic() - began >= 0.25
        return
    with pytest.raises(error) as caught:
        for _ in sdk.chat.completions.create(model="chaotic", messages=SAY_HI, stream=True):
            pass
    assert caught.value.code == code
    assert getattr(caught.value, "status_code", None) == status
    if isinstance(caught.value, openai.APIStatusError):
        assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("fault", ["throttled", "overloaded", "cut_stream"])
def test_other_keys_see_no_chaos(house: House, fault: str) -> None:
    """However often a test key fails, the deployments stay well for the others."""
    sdk, plain = house.sdk(fault), house.sdk()
    for _ in range(12):
        with pytest.raises(openai.APIError):
            for _ in sdk.chat.completions.create(model="pair", messages=SAY_HI, stream=True):
                pass
    raws = [ask(plain, "pair") for _ in range(20)]
    assert {raw.headers["x-llm-proxy-attempts"] for raw in raws} == {"1"}
    assert {to(raw) for raw in raws} == {"up/pair-1", "up/pair-2"}


# --- What needs settings of its own. ---


@pytest.mark.parametrize("deployments", [1, 3])
async def test_a_storm_of_retries_is_not_passed_on(
    open_house: Callable[..., House], deployments: int
) -> None:
    """All upstreams down, clients retrying: in the long run at most 1.1 attempts a request."""
    names = [f"down-{at}" for at in range(deployments)]
    house = open_house(
        pool("storm", *(f"up/{name}" for name in names)), routing={"breaker": {"open_for": "200ms"}}
    )
    house.stage.plays.update(dict.fromkeys(names, BOOM))
    storm = [Impatient.run(house, calls=15) for _ in range(8)]
    began = await asyncio.gather(*storm)
    requests = sum(began)
    attempts = sum(house.stage.asked[name] for name in names)
    print(f"{deployments}: {attempts} attempts, {requests} requests")
    assert requests == 8 * 15 * 3
    assert attempts <= 1.1 * requests


class Impatient(openai.AsyncOpenAI):
    """The SDK with two retries that don't wait for as long as they are told."""

    def _calculate_retry_timeout(self, *args: Any, **options: Any) -> float:
        return 0.005

    @classmethod
    async def run(cls, house: House, *, calls: int) -> int:
        """So many calls one after the other; how many requests they were."""
        requests = 0
        url = f"{house.process.url}/v1"
        async with cls(base_url=url, api_key="sk-plain", max_retries=2) as sdk:
            for _ in range(calls):
                try:
                    await sdk.chat.completions.create(model="storm", messages=SAY_HI)
                except openai.APIStatusError as error:
                    count = error.response.request.headers["x-stainless-retry-count"]
                    requests += 1 + int(count)
        return requests


async def _at_work(sdk: openai.AsyncOpenAI, model: str, calls: int) -> Counter[str]:
    met: Counter[str] = Counter()
    for _ in range(calls):
        raw = await sdk.chat.completions.with_raw_response.create(
            model=model, messages=SAY_HI, stream=True
        )
        async for _part in raw.parse():
            pass
        met[to(raw)] += 1
    return met


@pytest.mark.parametrize("strategy", ["least_busy", "fastest"])
async def test_a_slow_deployment_gets_less(open_house: Callable[..., House], strategy: str) -> None:
    """One that takes 0.2 s longer gets less than a quarter of four clients' 80 requests."""
    house = open_house(pool("m", "up/slow", "up/quick"), routing={"strategy": strategy})
    house.stage.plays["slow"] = answer(after=0.2)
    url = f"{house.process.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-plain", max_retries=0) as sdk:
        met = await asyncio.gather(*(_at_work(sdk, "m", 20) for _ in range(4)))
    total = sum(met, Counter())
    assert total.total() == 80
    assert total["up/slow"] < 20, total


def test_the_cheapest_is_asked_while_it_answers(open_house: Callable[..., House]) -> None:
    """All requests go to the lower price; when that one fails, to the next."""
    rows = [
        {"name": "m", "target": "up/dear", "price": {"input": "5", "output": "5"}},
        {"name": "m", "target": "up/cheap", "price": {"input": "1", "output": "1"}},
    ]
    house = open_house(rows, routing={"strategy": "cheapest"})
    sdk = house.sdk()
    assert {to(ask(sdk, "m")) for _ in range(8)} == {"up/cheap"}
    house.stage.plays["cheap"] = BOOM
    assert {to(ask(sdk, "m")) for _ in range(8)} == {"up/dear"}


def test_a_conversation_stays_where_it_is(open_house: Callable[..., House]) -> None:
    """It goes to one deployment; when that dies it goes elsewhere, and the others stay."""
    house = open_house(pool("m", "up/a", "up/b", "up/c"), routing={"sticky": True})
    sdk = house.sdk()

    def where(number: int, turns: int) -> str:
        said = [{"role": "user", "content": f"I am number {number}"}]
        more = [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "go on"}]
        return to(ask(sdk, "m", messages=said + more * turns))

    homes = [where(number, 0) for number in range(18)]
    assert set(homes) == {"up/a", "up/b", "up/c"}
    assert [where(number, 2) for number in range(18)] == homes
    house.stage.plays["a"] = BOOM
    moved = [where(number, 3) for number in range(18)]
    for before, after in zip(homes, moved, strict=True):
        assert after != "up/a"
        assert after == before or before == "up/a"


async def test_a_full_house_says_so_at_once(open_house: Callable[..., House]) -> None:
    """With room for two the third gets 503 with a time, at once; the two are answered."""
    house = open_house(pool("m", "up/m"), server={"limits": {"requests": 2}})
    house.stage.plays["m"] = answer(after=0.6)
    url = f"{house.process.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-plain", max_retries=0) as sdk:
        two = [
            asyncio.create_task(sdk.chat.completions.create(model="m", messages=SAY_HI))
            for _ in range(2)
        ]
        while house.stage.asked["m"] < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="m", messages=SAY_HI)
        assert not any(task.done() for task in two)
        assert (caught.value.status_code, caught.value.code) == (503, "overloaded")
        assert int(caught.value.response.headers["retry-after"]) >= 1
        await asyncio.gather(*two)


async def test_a_late_loop_takes_nothing_new(open_house: Callable[..., House]) -> None:
    """While the process is late by more than ``loop_lag``, who comes second gets a 503."""
    house = open_house(pool("m", "up/m"), server={"limits": {"loop_lag": "50ms"}})
    house.stage.plays["m"] = answer(after=2.0)
    url = f"{house.process.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-plain", max_retries=0) as sdk:
        first = asyncio.create_task(sdk.chat.completions.create(model="m", messages=SAY_HI))
        while not house.stage.asked["m"]:
            await asyncio.sleep(0.01)
        for _ in range(5):  # three late samples in a row are needed, one each 0.1 s
            house.process.signal(signal.SIGSTOP)
            await asyncio.sleep(0.2)
            house.process.signal(signal.SIGCONT)
            await asyncio.sleep(0.02)
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="m", messages=SAY_HI)
        assert caught.value.status_code == 503
        assert "late" in caught.value.message
        assert caught.value.response.headers["retry-after"] == "1"
        await first
