"""Where the shared limiter keeps its state: Redis or Valkey, alone, behind Sentinel, a Cluster.

redis-py, the extra ``redis``, is imported when a store is built.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from proxy_core._redis import is_cluster, open_redis

__all__ = ["LimiterStore", "RedisStore", "StoreAway"]

_SEEN_FOR = 30
"""Seconds for which a replica that fell silent is still counted."""
_MOMENT = 0.002
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode


class StoreAway(Exception):
    """The store didn't answer in time, or not as one that can be used."""


class LimiterStore(Protocol):
    """Answers messages about subjects, each exactly once however often it is sent."""

    async def exchange(
        self, messages: Sequence[tuple[str, dict[str, Any]]], timeout: float
    ) -> list[dict[str, Any]]:
        """Subjects and their messages, and the answers in the same order. Raises StoreAway."""
        ...

    async def gather(self, replica: str, timeout: float) -> int:
        """Say that this replica is here; how many are. Raises StoreAway."""
        ...

    async def aclose(self) -> None: ...


class RedisStore:
    """Redis 7 or Valkey, by one function that is loaded where it is missing.

    Its memory policy must be ``noeviction``: an evicted key is a free burst. A cluster needs no
    more than that: all of a subject is under one key.

    Args:
        url: ``redis://``, ``rediss://`` and ``unix://`` as redis-py reads them;
            ``redis+sentinel://host:port,host:port/service/0`` and
            ``redis+cluster://host:port,host:port`` (``rediss+…`` with TLS). Name and password are
            those of the servers; ``?sentinel_password=`` is the sentinels'.
        prefix: what its keys begin with.
        now: microseconds since 1970 instead of the server's clock, for tests.
    """

    def __init__(
        self, url: str, *, prefix: str = "llm-proxy:limits:", now: Callable[[], int] | None = None
    ) -> None:
        code = Path(__file__).with_name("_limiter_function.lua").read_text("utf-8")
        version = hashlib.sha256(code.encode()).hexdigest()[:12]
        self._code = f"#!lua name=llm_proxy_limits_{version}\n{code.replace('HASH', version)}"
        self._exchange = f"exchange_{version}"
        self._gather = f"gather_{version}"
        self._prefix = prefix
        self._now = now
        self._is_cluster = is_cluster(url)
        self._client: Any
        self._client, self._helpers = open_redis(url)

    async def exchange(
        self, messages: Sequence[tuple[str, dict[str, Any]]], timeout: float
    ) -> list[dict[str, Any]]:
        """See LimiterStore."""
        now = False if self._now is None else self._now()
        calls = [
            (
                "FCALL",
                self._exchange,
                1,
                f"{self._prefix}{{{subject}}}",
                _encode(message | {"now": now}),
            )
            for subject, message in messages
        ]
        return [_decode(answer) for answer in await self._in_time(calls, timeout)]

    async def gather(self, replica: str, timeout: float) -> int:
        """See LimiterStore."""
        key = f"{self._prefix}replicas"
        call = ("FCALL", self._gather, 1, key, replica, _SEEN_FOR)
        return int((await self._in_time([call], timeout))[0])

    async def aclose(self) -> None:
        """Close the connections."""
        for client in (self._client, *self._helpers):
            await client.aclose()

    async def _in_time(self, calls: list[tuple[Any, ...]], timeout: float) -> list[Any]:
        work = asyncio.ensure_future(self._work(calls))
        # Twice: after a pause of this process the answer may be here, but not read yet.
        for patience in (timeout, _MOMENT):
            await asyncio.wait({work}, timeout=patience)
            if work.done():
                break
        work.cancel()
        await asyncio.wait({work})
        failure = TimeoutError("no answer in time") if work.cancelled() else work.exception()
        if failure is not None:
            await self._forget()
            raise StoreAway(str(failure)) from failure
        answers = work.result()
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        if failures:
            raise StoreAway(str(failures[0]))
        return answers

    async def _work(self, calls: list[tuple[Any, ...]]) -> list[Any]:
        from redis.exceptions import ConnectionError as Disconnected

        try:
            answers = await self._send(calls)
        except Disconnected:
            # It may have died while nothing was said; a message counts once, however often sent.
            await self._forget()
            answers = await self._send(calls)
        if any(_is_missing(answer) for answer in answers):
            await self._load()
            answers = await self._send(calls)
        return answers

    async def _send(self, calls: list[tuple[Any, ...]]) -> list[Any]:
        if self._is_cluster:
            sent = [self._client.execute_command(*call) for call in calls]
            return await asyncio.gather(*sent, return_exceptions=True)
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*call)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _load(self) -> None:
        from redis.exceptions import ResponseError

        nodes = {"target_nodes": self._client.PRIMARIES} if self._is_cluster else {}
        try:
            await self._client.execute_command("FUNCTION LOAD", self._code, **nodes)
        except ResponseError as error:
            if "already exists" not in str(error):
                raise

    async def _forget(self) -> None:
        """Leave no connection with half an answer in it."""
        if self._is_cluster:
            await self._client.aclose()
        else:
            await self._client.connection_pool.disconnect(inuse_connections=True)


def _is_missing(answer: object) -> bool:
    return isinstance(answer, Exception) and "function not found" in str(answer).lower()
