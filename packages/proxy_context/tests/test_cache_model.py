"""SmartCache against a model that is too simple to be wrong."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy_context import SmartCache
from proxy_context.testing import ManualClock

MAX_ENTRIES = 4
MAX_BYTES = 6000
OVERHEAD = 512 + 48

tenants = st.sampled_from(["ann", "bob"])
names = st.sampled_from("abcdef")


class CacheMachine(RuleBasedStateMachine):
    """Any sequence of verbs leaves the cache and a list of (key, bytes, end) in agreement."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(0)
        self.cache = SmartCache(
            MAX_ENTRIES, 10, max_bytes=MAX_BYTES, max_entry_bytes=4000, clock=self.clock
        )
        self.model: list[tuple[tuple[str, str], bytes, float]] = []
        self.hits = self.misses = 0

    def find(self, who: tuple[str, str]) -> tuple[tuple[str, str], bytes, float] | None:
        return next((row for row in self.model if row[0] == who), None)

    def forget(self, who: tuple[str, str]) -> None:
        self.model = [row for row in self.model if row[0] != who]

    def drop_expired(self) -> None:
        self.model = [row for row in self.model if row[2] > self.clock.now]

    @rule(tenant=tenants, name=names, size=st.integers(0, 4000), ttl=st.integers(-1, 12))
    def store(self, tenant: str, name: str, size: int, ttl: int) -> None:
        kept = self.cache.store(self.cache.key(tenant, name), b"x" * size, ttl=ttl)
        self.drop_expired()
        self.forget((tenant, name))
        assert kept == (ttl > 0 and size + OVERHEAD <= 4000)
        if kept:
            self.model.append(((tenant, name), b"x" * size, self.clock.now + ttl))
        while len(self.model) > MAX_ENTRIES or self.model_bytes() > MAX_BYTES:
            del self.model[0]

    @rule(tenant=tenants, name=names)
    def lookup(self, tenant: str, name: str) -> None:
        entry = self.cache.lookup(self.cache.key(tenant, name))
        self.drop_expired()
        row = self.find((tenant, name))
        assert (entry and entry.chunks) == (row and (row[1],))
        self.hits += row is not None
        self.misses += row is None
        if row is not None:
            self.forget(row[0])
            self.model.append(row)

    @rule(tenant=tenants, name=names)
    def contains(self, tenant: str, name: str) -> None:
        self.drop_expired()
        there = self.cache.key(tenant, name) in self.cache
        assert there == (self.find((tenant, name)) is not None)

    @rule(tenant=tenants, name=names)
    def delete(self, tenant: str, name: str) -> None:
        self.drop_expired()
        gone = self.cache.delete(self.cache.key(tenant, name))
        assert gone == (self.find((tenant, name)) is not None)
        self.forget((tenant, name))

    @rule(tenant=st.none() | tenants)
    def clear(self, tenant: str | None) -> None:
        self.drop_expired()
        dropped = self.cache.clear(tenant)
        before = len(self.model)
        self.model = [row for row in self.model if tenant is not None and row[0][0] != tenant]
        assert dropped == before - len(self.model)

    @rule(seconds=st.integers(1, 6))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(wanted=st.integers(0, 5000))
    def shed(self, wanted: int) -> None:
        self.drop_expired()
        before = self.cache.held_bytes
        freed = self.cache.shed(wanted)
        gone = 0
        while self.model and gone < wanted:
            gone += len(self.model.pop(0)[1]) + OVERHEAD
        assert freed == gone == before - self.cache.held_bytes

    @precondition(lambda self: self.model)
    @rule()
    def look(self) -> None:
        self.drop_expired()
        stats = self.cache.stats
        assert len(self.cache) == stats.entries == len(self.model)
        assert self.cache.held_bytes == stats.bytes == self.model_bytes() <= MAX_BYTES
        assert (stats.hits, stats.misses) == (self.hits, self.misses)
        assert stats.stores >= stats.evictions + stats.expired

    def model_bytes(self) -> int:
        return sum(len(row[1]) + OVERHEAD for row in self.model)


def test_any_sequence_agrees_with_the_model() -> None:
    """Whatever is done with the cache, it holds and counts what the model holds and counts."""
    run_state_machine_as_test(
        CacheMachine, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )
