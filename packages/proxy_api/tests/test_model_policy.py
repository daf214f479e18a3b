"""What one model may be asked for, where its provider's other models go by another rule."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy_api import Settings
from proxy_api._arrival import Arrival
from proxy_api._compose import Parts
from proxy_api._face import face_of
from proxy_api._gateway import Gateway
from proxy_api._keys import Key
from proxy_core import DIALECTS, Call, HttpProvider
from proxy_logging import NoMetrics, NoTracer, StructuredLogger

PLAIN = {"name": "m", "target": "a/x"}
LOOSE = {"name": "n", "target": "a/x", "unsupported": "announce"}
CACHED = {"name": "p", "target": "a/x", "cache_prompt": "1h"}


def settings(*models: dict[str, Any]) -> Settings:
    named = {str(row["target"]).partition("/")[0] for row in models}
    sections: dict[str, Any] = {"providers": {name: {"kind": "vllm"} for name in named}}
    return Settings(**sections | {"models": models})


def gateway(*models: dict[str, Any]) -> Gateway:
    parts = Parts(lambda event: None, NoTracer())
    return Gateway(settings(*models), NoMetrics(), parts, StructuredLogger("test"))


def providers(house: Gateway) -> list[HttpProvider]:
    found = [row.provider for row in house.snapshot.deployments]
    assert all(isinstance(one, HttpProvider) for one in found)
    return found  # type: ignore[return-value]


def test_models_of_one_provider_share_all_that_lives() -> None:
    """Three policies are three views of one account, with one pool and one breaker."""
    house = gateway(PLAIN, LOOSE, CACHED)
    plain, loose, cached = providers(house)
    assert plain is plain.account is loose.account is cached.account
    assert len({id(one) for one in (plain, loose, cached)}) == 3
    assert plain.http is loose.http is cached.http
    assert len({id(row.breaker) for row in house.snapshot.deployments}) == 1
    assert list(house.runtime.providers.values()) == [plain]


async def test_a_reload_closes_nothing_that_a_view_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account goes on while any configuration or request has a view of it, and ends once."""
    house = gateway(LOOSE)
    (view,) = providers(house)
    closed: list[str] = []

    async def aclose() -> None:
        closed.append("a")

    monkeypatch.setattr(view.account.http, "aclose", aclose)

    async def after_reload(*models: dict[str, Any]) -> list[str]:
        house.reload(settings(*models))
        for _ in range(5):
            await asyncio.sleep(0)
        return closed

    assert await after_reload({**LOOSE, "unsupported": "strict"}) == []
    assert providers(house)[0].account is view.account
    assert await after_reload(CACHED) == []
    began = house.enter()
    assert await after_reload({"name": "o", "target": "b/y"}) == []
    house.leave(began)
    for _ in range(5):
        await asyncio.sleep(0)
    assert closed == ["a"]
    await house.aclose()
    assert closed == ["a"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("unsupported", "ignore", "refuse"), ("cache_prompt", "2h", "5m")],
)
def test_other_words_are_refused(field: str, value: str, words: str) -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match=words):
        settings({**PLAIN, field: value})


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses", "anthropic.messages"])
async def test_a_call_has_its_key_and_the_header_for_caching(dialect: str) -> None:
    """On each surface, and no other header of a client that speaks OpenAI's; bodies stay."""
    raw = b'{"model": "m", "messages": [], "input": "Hi", "max_tokens": 5}'

    called: list[Call] = []

    async def asked(*headers: tuple[bytes, bytes]) -> Call:
        messages = iter([{"type": "http.request", "body": raw}])

        async def receive() -> Any:
            return next(messages, None) or await asyncio.Event().wait()

        scope = {"type": "http", "headers": [(b"content-type", b"application/json"), *headers]}
        arrival = Arrival(scope, receive, face_of(DIALECTS[dialect]))
        with arrival.departure:
            called.append(await arrival.call(house, Key("ann", "Ann")))
        return called.pop()

    house = gateway(PLAIN).snapshot
    wish = (b"x-llm-proxy-cache-prompt", b"1h")
    call = await asked(wish, (b"x-other", b"1"))
    assert (call.headers, call.scope, call.body.raw) == ((wish,), "ann", raw)
    assert (await asked()).headers == ()
