"""The shared limiter on a cluster, behind Sentinel, over TCP: the same as on one server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from proxy_core import Limits, SharedRateLimiter, SharedSettings
from proxy_core.errors import LimitExceeded

PATIENT = SharedSettings(patience=5.0)
DAY = Limits.parse(requests="20/day", concurrent=100)


async def count(limiter: SharedRateLimiter, subject: str, asks: int) -> int:
    """How many of so many at once are admitted, and ended."""

    async def ask() -> bool:
        try:
            with limiter.reserve(subject, DAY) or await limiter.ask(subject, DAY):
                return True
        except LimitExceeded:
            return False

    return sum(await asyncio.gather(*(ask() for _ in range(asks))))


async def is_away(limiter: SharedRateLimiter) -> bool:
    return limiter.is_away


async def told(*limiters: SharedRateLimiter) -> None:
    for limiter in limiters:
        while any(share.has_news or share.is_due for share in limiter._shares.values()):
            await asyncio.sleep(0.002)


async def test_a_cluster_of_three_masters(cluster: list[Any]) -> None:
    """Subjects lie on all masters, each admits exactly its limit, several are asked as one."""
    first, *_ = cluster
    url = f"redis+cluster://127.0.0.1:{first.port},127.0.0.1:{cluster[1].port}"
    one, two = (SharedRateLimiter(settings=PATIENT, url=url) for _ in range(2))
    subjects = [f"key-{number}" for number in range(12)]
    granted = await asyncio.gather(*(count(one, name, 15) for name in subjects))
    assert granted == [15] * 12
    await told(one)
    granted = await asyncio.gather(*(count(two, name, 15) for name in subjects))
    assert granted == [5] * 12
    for node in cluster:
        assert any("limits:{key-" in key for key in node.cli("keys", "*").split())
    cluster[1].cli("function", "flush")
    also = [(f"user-{number}", DAY) for number in range(12)]
    (await one.ask("whole", DAY, also=also)).__exit__(None, None, None)
    assert not one.is_away and not two.is_away
    for limiter in (one, two):
        await limiter.aclose()


async def test_tcp_is_as_good_as_a_socket(start_valkey: Callable[..., Any]) -> None:
    """redis:// with a password: the limit holds; a wrong password is a store that is away."""
    server = start_valkey("--requirepass", "sesame", port=-1)
    limiter = SharedRateLimiter(settings=PATIENT, url=f"redis://:sesame@127.0.0.1:{server.port}/0")
    assert await count(limiter, "key", 30) == 20
    await limiter.aclose()
    stranger = SharedRateLimiter(settings=PATIENT, url=f"redis://:x@127.0.0.1:{server.port}/0")
    assert await count(stranger, "key", 30) == 20
    assert stranger.is_away
    await stranger.aclose()


async def test_sentinel_leads_to_the_new_master(sentinels: Any) -> None:
    """When the master dies, the replica that two sentinels chose serves, without a new start."""
    url = sentinels.url
    limiter = SharedRateLimiter(settings=SharedSettings(probe=0.1, patience=2.0), url=url)
    assert await limiter.start()
    assert await count(limiter, "key", 1) == 1
    assert not await is_away(limiter)
    await told(limiter)
    sentinels.kill_master()
    assert await count(limiter, "key", 1) == 1
    deadline = time.monotonic() + 10
    while await is_away(limiter):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await told(limiter)
    assert await count(limiter, "other", 30) == 20
    assert "limits:{other}" in sentinels.replica.cli("keys", "*")
    await limiter.aclose()
