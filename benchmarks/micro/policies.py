"""CPU of limits, breaker and routing together for one request: ``python policies.py``.

Prints JSON: microseconds of the process's own time, in memory and with a store (a real Valkey).
It is the least of many short runs: what else a machine does can only add to it.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy_core import (
    Asked,
    CircuitBreaker,
    Limits,
    Member,
    Pool,
    RateLimiter,
    SharedRateLimiter,
)
from proxy_core.testing import Valkey

REQUESTS = 4_000
RUNS = 40
LIMITS = Limits.parse(requests="1000000000/minute", tokens="100000000000/minute", concurrent=4000)


def house() -> Callable[[], None]:
    """What a request asks of routing and breaker: one of three is chosen, asked, and answers."""
    members = [Member(name, name, breaker=CircuitBreaker(name)) for name in ("one", "two", "three")]
    pool, by_name, asked = Pool("chat", members), {it.value: it for it in members}, Asked()

    def request() -> None:
        chosen = pool.next(asked, ())
        if chosen is None:
            raise RuntimeError("nobody may be asked")
        member = by_name[chosen]
        turn = member.load.begin(time.monotonic())
        with member.breaker.permit() as permit:
            permit.succeeded()
        turn.answered(time.monotonic())
        turn.end(time.monotonic())

    return request


def in_memory() -> float:
    limiter, request = RateLimiter(), house()
    began = time.process_time()
    for _ in range(REQUESTS):
        with limiter.reserve("hot", LIMITS, tokens=100) as reservation:
            request()
            reservation.settle(50)
    return time.process_time() - began


async def shared(url: str) -> float:
    """40 clients of a key, through a store. A pause now and then, as a loop with I/O has them."""
    limiter, request = SharedRateLimiter(url=url), house()
    await limiter.start()

    async def client() -> None:
        for number in range(REQUESTS // 40):
            reservation: Any = limiter.reserve("hot", LIMITS, tokens=100)
            if reservation is None:
                reservation = await limiter.ask("hot", LIMITS, tokens=100)
            with reservation:
                request()
                reservation.settle(50)
            if number % 10 == 9:
                await asyncio.sleep(0.002)

    began = time.process_time()
    await asyncio.gather(*(client() for _ in range(40)))
    spent = time.process_time() - began
    await limiter.aclose()
    return spent


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        server = Valkey(Path(folder))
        try:
            least = min(asyncio.run(shared(f"unix://{server.socket}")) for _ in range(RUNS))
        finally:
            server.kill()
    told = {"memory": min(in_memory() for _ in range(RUNS)), "store": least}
    print(json.dumps({name: round(seconds / REQUESTS * 1e6, 2) for name, seconds in told.items()}))


if __name__ == "__main__":
    main()
