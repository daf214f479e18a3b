"""ModelCache: which models a provider offers to a credential, asked rarely and answered always."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from proxy_context._models_disk import DiskTier, SavedList
from proxy_context._sizes import ENTRY_OVERHEAD, size_of
from proxy_context.errors import CredentialRefused, ModelListUnavailable, SettingsError

__all__ = ["ModelCache", "ModelCacheSettings", "ModelFetch", "ModelKey", "ModelList"]

ModelFetch = Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]
"""Asks the provider: each model is a mapping with a string ``id``. Raises CredentialRefused on
401 and 403, anything else when it could not be asked."""


class ModelKey(NamedTuple):
    """A provider and a fingerprint of the credential: two keys may be offered different models."""

    provider: str
    credential: str


class ModelList(msgspec.Struct, frozen=True):
    """The models, shared by all who ask and so not to be changed, and how far to trust them."""

    models: tuple[dict[str, Any], ...]
    age: float
    """Seconds since the provider gave it."""
    stale: bool
    """Older than its time to live: a newer one is being fetched, or could not be had."""
    source: Literal["upstream", "memory", "disk"]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(model["id"] for model in self.models)


class _Kept(msgspec.Struct):
    models: tuple[dict[str, Any], ...]
    fetched_at: float
    fresh_until: float
    stale_until: float
    source: Literal["memory", "disk"]
    size: int


class _Failure(msgspec.Struct, frozen=True):
    error: Exception
    until: float


class ModelCacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is rarely changed."""

    jitter: float = 0.1
    """The share by which each list's time to live varies, up or down."""
    max_keys: int = 1000
    """Lists in memory, and files on disk; the longest unused (on disk: the oldest) go."""
    fetch_timeout: float = 15.0
    """Seconds until a fetch counts as failed."""
    rng: random.Random = msgspec.field(default_factory=random.Random)
    wall: Callable[[], float] = time.time
    """Wall time in seconds, for the age of what is on disk."""

    def __post_init__(self) -> None:
        if not 0 <= self.jitter < 1:
            raise SettingsError(
                f"jitter is {self.jitter!r}: give a share from 0 up to, not including, 1"
            )
        for name in ("max_keys", "fetch_timeout"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: give a number above zero")


class ModelCache:
    """Lists of models by (provider, credential fingerprint): memory, disk, then the provider.

    Younger than ``ttl`` seconds (each list's own varies by ``jitter``, so that they don't all
    expire at once) a list is served as it is. For ``stale_for`` more it is served at once, marked
    stale, while one task fetches a new one. After that, callers wait for the provider, together.
    A failed fetch is not repeated for ``negative_ttl`` seconds.
    """

    def __init__(
        self,
        *,
        ttl: float = 300,
        stale_for: float = 3600,
        negative_ttl: float = 10,
        directory: str | Path | None = None,
        settings: ModelCacheSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("ttl", ttl), ("stale_for", stale_for), ("negative_ttl", negative_ttl)):
            if not value >= 0:
                raise SettingsError(f"{name} is {value!r}: give seconds, zero or more")
        self._ttl = ttl
        self._stale_for = stale_for
        self._negative_ttl = negative_ttl
        self._settings = settings or ModelCacheSettings()
        self._disk = (
            DiskTier(Path(directory), self._settings.max_keys) if directory is not None else None
        )
        self._clock = clock
        self._kept: OrderedDict[ModelKey, _Kept] = OrderedDict()
        self._failures: OrderedDict[ModelKey, _Failure] = OrderedDict()
        self._tasks: dict[ModelKey, asyncio.Task[_Kept | _Failure]] = {}
        self._closed = False

    async def get(
        self, key: tuple[str, str], fetch: ModelFetch, *, refresh: bool = False
    ) -> ModelList:
        """The models of ``key``, from the nearest tier that has them.

        ``refresh`` asks the provider now, whatever is kept; when that fails, a list that may still
        be served is given, marked stale. Raises ModelListUnavailable, and CredentialRefused as the
        fetch raised it.
        """
        key = ModelKey(*key)
        if self._disk is not None and key not in self._kept:
            await self._load(key, self._disk)
        if not refresh:
            served = self._serve(key, fetch)
            if served is not None:
                return served
        outcome = await self._outcome(self._fetching(key, fetch))
        if isinstance(outcome, _Kept):
            return ModelList(outcome.models, self._clock() - outcome.fetched_at, False, "upstream")
        return self._fall_back(key, outcome)

    async def forget(self, key: tuple[str, str]) -> None:
        """Drop what is kept for ``key``, a failure included, in memory and on disk."""
        key = ModelKey(*key)
        self._kept.pop(key, None)
        self._failures.pop(key, None)
        if self._disk is not None:
            await asyncio.to_thread(self._disk.remove, key)

    async def aclose(self) -> None:
        """Cancel the fetches under way and wait for their end. Callers that wait get an error."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def held_bytes(self) -> int:
        return sum(kept.size for kept in self._kept.values())

    def shed(self, bytes_to_free: int) -> int:
        """Drop lists, the longest unused first; gives the bytes freed."""
        freed = 0
        while self._kept and freed < bytes_to_free:
            freed += self._kept.popitem(last=False)[1].size
        return freed

    def _serve(self, key: ModelKey, fetch: ModelFetch) -> ModelList | None:
        """An answer without waiting, or None when the provider must be asked first."""
        now = self._clock()
        kept = self._kept.get(key)
        failure = self._recent_failure(key, now)
        if kept is not None and now < kept.stale_until:
            self._kept.move_to_end(key)
            stale = now >= kept.fresh_until
            if stale and failure is None and not self._closed:
                self._fetching(key, fetch)
            return ModelList(kept.models, now - kept.fetched_at, stale, kept.source)
        if failure is not None:
            raise _unavailable(key, failure, now)
        return None

    def _fall_back(self, key: ModelKey, failure: _Failure) -> ModelList:
        now = self._clock()
        kept = self._kept.get(key)
        if kept is None or now >= kept.stale_until:
            raise _unavailable(key, failure, now)
        return ModelList(kept.models, now - kept.fetched_at, True, kept.source)

    def _recent_failure(self, key: ModelKey, now: float) -> _Failure | None:
        failure = self._failures.get(key)
        if failure is not None and now >= failure.until:
            del self._failures[key]
            return None
        return failure

    def _fetching(self, key: ModelKey, fetch: ModelFetch) -> asyncio.Task[_Kept | _Failure]:
        """The one task that fetches for ``key``. It is ours: a caller that leaves can't end it."""
        if self._closed:
            raise ModelListUnavailable("the model cache is closed: aclose() was called")
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key, fetch), name=f"models of {key.provider}")
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return task

    async def _outcome(self, task: asyncio.Task[_Kept | _Failure]) -> _Kept | _Failure:
        await asyncio.wait([task])
        if task.cancelled():
            raise ModelListUnavailable("the fetch was cancelled before it had an answer")
        return task.result()

    async def _fetch(self, key: ModelKey, fetch: ModelFetch) -> _Kept | _Failure:
        try:
            async with asyncio.timeout(self._settings.fetch_timeout):
                models = _checked(key, await fetch())
        except Exception as error:  # noqa: BLE001 - whatever went wrong, it is remembered and told
            if isinstance(error, CredentialRefused):
                await self.forget(key)
            failure = _Failure(error, self._clock() + self._negative_ttl)
            _remember(self._failures, key, failure, self._settings.max_keys)
            return failure
        self._failures.pop(key, None)
        kept = self._keep(key, models, age=0.0, source="memory")
        if self._disk is not None:
            await asyncio.to_thread(self._disk.write, key, SavedList(self._settings.wall(), models))
        return kept

    async def _load(self, key: ModelKey, disk: DiskTier) -> None:
        saved = await asyncio.to_thread(disk.read, key)
        if saved is None or key in self._kept:
            return
        age = self._settings.wall() - saved.saved_at
        # A file from the future says that a clock was wrong: usable, but not fresh.
        self._keep(key, saved.models, age=age if age >= 0 else self._ttl * 2, source="disk")

    def _keep(
        self,
        key: ModelKey,
        models: tuple[dict[str, Any], ...],
        age: float,
        source: Literal["memory", "disk"],
    ) -> _Kept:
        fetched_at = self._clock() - age
        spread = self._settings.jitter * (2 * self._settings.rng.random() - 1)
        fresh_until = fetched_at + self._ttl * (1 + spread)
        size = size_of(models) + ENTRY_OVERHEAD
        kept = _Kept(models, fetched_at, fresh_until, fresh_until + self._stale_for, source, size)
        _remember(self._kept, key, kept, self._settings.max_keys)
        return kept


def _remember(table: OrderedDict[ModelKey, Any], key: ModelKey, value: object, most: int) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > most:
        table.popitem(last=False)


def _unavailable(key: ModelKey, failure: _Failure, now: float) -> Exception:
    # A new error for each caller: one that is raised again and again collects tracebacks.
    told = str(failure.error) or type(failure.error).__name__
    error: Exception
    if isinstance(failure.error, CredentialRefused):
        error = CredentialRefused(told)
    else:
        error = ModelListUnavailable(
            f"the models of {key.provider!r} can't be had: {told}",
            retry_after=max(0.0, failure.until - now),
        )
    error.__cause__ = failure.error
    return error


def _checked(key: ModelKey, models: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    checked = tuple(dict(model) for model in models)
    for model in checked:
        if not isinstance(model.get("id"), str):
            raise ModelListUnavailable(
                f"{key.provider!r} listed a model without an id: {sorted(model)[:5]}"
            )
    return checked
