"""A configuration in the place of another: what goes on, what ends, and when."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy_api import Settings, load_settings
from proxy_api._compose import Parts
from proxy_api._gateway import Gateway
from proxy_api._reload import Outcome, Reloader
from proxy_core import CircuitBreaker, Provider
from proxy_core.errors import (
    AuthenticationFailed,
    ConfigurationError,
    LimitExceeded,
    UpstreamFailed,
)
from proxy_logging import ConfigReloaded, NoMetrics, NoTracer, StructuredLogger
from proxy_logging.testing import RecordingObserver, captured

A, B = {"name": "m", "target": "a/x"}, {"name": "n", "target": "b/y"}


def settings(*models: dict[str, Any], **sections: Any) -> Settings:
    """Only the providers that the models name, unless it is said otherwise."""
    rows = models or (A, B)
    named = {str(row["target"]).partition("/")[0] for row in rows}
    providers = {name: {"kind": "vllm"} for name in sorted(named)}
    return Settings(**{"providers": providers, "models": rows, **sections})


def gateway(first: Settings | None = None, observer: Any = lambda event: None) -> Gateway:
    logger = StructuredLogger("test")
    return Gateway(first or settings(), NoMetrics(), Parts(observer, NoTracer()), logger)


def breaker(house: Gateway, label: str = "a/x") -> CircuitBreaker:
    (found,) = {row.breaker for row in house.snapshot.deployments if row.label == label}
    assert isinstance(found, CircuitBreaker)
    return found


def fail(what: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(UpstreamFailed), what.permit():
            raise UpstreamFailed("down")


class Closings:
    """Which providers were closed, in their order; ``watch`` one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.closed: list[str] = []
        self._monkeypatch = monkeypatch

    def watch(self, provider: Provider) -> None:
        async def aclose() -> None:
            self.closed.append(provider.name)

        self._monkeypatch.setattr(provider, "aclose", aclose)


@pytest.fixture
def closings(monkeypatch: pytest.MonkeyPatch) -> Closings:
    return Closings(monkeypatch)


def provider_of(house: Gateway, name: str) -> Provider:
    (found,) = {row.provider for row in house.snapshot.deployments if row.provider.name == name}
    return found


async def turn() -> None:
    """Let the tasks that were started run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_still_named_goes_on() -> None:
    """Pools, breakers and the limiter of what both configurations name are the same objects."""
    house = gateway()
    old = house.snapshot
    assert house.reload(settings(A, B, {"name": "p", "target": "a/z"})) == ("models: + p → a/z",)
    new = house.snapshot
    assert new is not old
    assert [row.provider for row in new.deployments[:2]] == [r.provider for r in old.deployments]
    assert [row.breaker for row in new.deployments[:2]] == [r.breaker for r in old.deployments]
    assert new.deployments[2].provider is old.deployments[0].provider
    assert new.limiter is old.limiter


async def test_a_request_keeps_the_snapshot_that_it_began_with() -> None:
    """Who entered before a reload has the old one, who enters after it the new one."""
    house = gateway()
    old = house.enter()
    house.reload(settings(B))
    new = house.enter()
    assert (old is new, house.in_flight) == (False, 2)
    assert [row.label for row in old.deployments] == ["a/x", "b/y"]
    assert [row.label for row in new.deployments] == ["b/y"]
    house.leave(old)
    house.leave(new)
    assert house.in_flight == 0


async def test_a_pool_is_closed_at_its_last_use(closings: Closings) -> None:
    """A provider that no configuration names is closed when the last request by it has left."""
    house = gateway()
    closings.watch(provider_of(house, "a"))
    first, second = house.enter(), house.enter()
    house.reload(settings(B))
    house.leave(first)
    await turn()
    assert closings.closed == []
    house.leave(second)
    await turn()
    assert closings.closed == ["a"]
    await house.aclose()
    assert closings.closed == ["a"]


async def test_a_pool_that_nobody_uses_is_closed_at_once(closings: Closings) -> None:
    """Requests by the new configuration don't keep the old one's pool."""
    house = gateway()
    closings.watch(provider_of(house, "a"))
    closings.watch(provider_of(house, "b"))
    house.reload(settings(B))
    house.enter()
    await turn()
    assert closings.closed == ["a"]


async def test_each_snapshot_in_use_keeps_its_pools(closings: Closings) -> None:
    """With requests by three configurations, a pool waits for all that name it."""
    house = gateway()
    for name in "ab":
        closings.watch(provider_of(house, name))
    both = house.enter()
    house.reload(settings(B))
    only_b = house.enter()
    house.reload(settings({"name": "m", "target": "c/x"}))
    await turn()
    assert closings.closed == []
    house.leave(both)
    await turn()
    assert closings.closed == ["a"]
    house.leave(only_b)
    await turn()
    assert closings.closed == ["a", "b"]


async def test_what_is_named_again_is_new(closings: Closings) -> None:
    """A provider that went and came back has a pool and a breaker of its own."""
    house = gateway()
    old, sick = provider_of(house, "a"), breaker(house)
    closings.watch(old)
    sick.force_open()
    held = house.enter()
    house.reload(settings(B))
    house.reload(settings())
    assert provider_of(house, "a") is not old
    assert breaker(house).state == "closed"
    house.leave(held)
    await turn()
    assert closings.closed == ["a"]


async def test_a_pool_that_cannot_be_closed_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a pool raises when it is closed is one line of the log."""
    house = gateway()

    async def aclose() -> None:
        raise OSError("it is stuck")

    monkeypatch.setattr(provider_of(house, "a"), "aclose", aclose)
    with captured() as lines:
        house.reload(settings(B))
        await turn()
        await house.aclose()
    assert [(line["event"], line["provider"]) for line in lines] == [("close_failed", "a")]


async def test_the_end_waits_for_pools_that_are_being_closed(
    monkeypatch: pytest.MonkeyPatch, closings: Closings
) -> None:
    """``aclose`` ends when every pool is closed, also those of former configurations."""
    house = gateway()
    ended = []

    async def slowly() -> None:
        await asyncio.sleep(0.01)
        ended.append("a")

    monkeypatch.setattr(provider_of(house, "a"), "aclose", slowly)
    closings.watch(provider_of(house, "b"))
    house.reload(settings(B))
    house.enter()  # never leaves
    house.reload(settings({"name": "m", "target": "c/x"}))
    await house.aclose()
    assert (ended, closings.closed) == (["a"], ["b"])


@pytest.mark.parametrize("at", ["compose", "beside"])
async def test_what_cannot_be_used_changes_nothing(at: str) -> None:
    """A configuration that fails at the last moment leaves all as it was, the runtime included."""
    house = gateway()
    before = (house.snapshot, house.settings, house.runtime.providers, house.runtime.breakers)
    counts = (len(house.runtime.providers), len(house.runtime.breakers))
    cloud: Any = {"kind": "vllm", "ca": "/no-such.pem"} if at == "compose" else {"kind": "vllm"}
    new = settings(
        A,
        {"name": "c", "target": "c/x"},
        {"name": "z", "target": "z/x"},
        providers={"a": {"kind": "vllm"}, "c": {"kind": "vllm"}, "z": cloud},
        routing={"breaker": {"failures": 1}},
    )

    def refuse(_: Settings) -> None:
        raise ConfigurationError("the certificate can't be read")

    with pytest.raises(ConfigurationError):
        house.reload(new, beside=(refuse,) if at == "beside" else ())
    after = (house.snapshot, house.settings, house.runtime.providers, house.runtime.breakers)
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert (len(house.runtime.providers), len(house.runtime.breakers)) == counts
    assert breaker(house).settings.consecutive == 5


async def test_an_open_breaker_stays_open() -> None:
    """Neither a reload nor other rules for breakers bring a sick deployment back."""
    house = gateway()
    sick = breaker(house)
    fail(sick, 5)
    until = sick.open_until
    house.reload(settings(routing={"breaker": {"failures": 2, "open_for": "1m"}}))
    assert breaker(house) is sick
    assert (sick.state, sick.open_until) == ("open", until)


async def test_other_rules_act_on_breakers_that_are_there() -> None:
    """What was counted under the old rules counts under the new ones."""
    house = gateway()
    fail(breaker(house), 2)
    house.reload(settings(routing={"breaker": {"failures": 3}}))
    assert breaker(house).state == "closed"
    fail(breaker(house), 1)
    assert breaker(house).state == "open"


def keyed(requests: str, name: str = "ci", secret: str = "secret") -> Settings:
    return settings(keys=[{"name": name, "key": secret, "limits": {"requests": requests}}])


class Caller:
    """A request with this key."""

    peer = "127.0.0.1"

    def __init__(self, secret: str = "secret") -> None:
        self._secret = secret

    def header(self, name: bytes) -> str:
        return self._secret if name == b"x-api-key" else ""


def ask(house: Gateway, secret: str = "secret") -> None:
    key = house.snapshot.keys.authenticate(Caller(secret))
    reservation = house.snapshot.limiter.reserve(key.id, key.limits)
    assert reservation is not None
    with reservation:
        pass


async def test_what_is_used_of_a_limit_stays_used() -> None:
    """A reload fills no bucket; a limit that changed acts at once, on what was used before."""
    house = gateway(keyed("2/hour"))
    ask(house)
    ask(house)
    house.reload(keyed("2/hour"))
    with pytest.raises(LimitExceeded):
        ask(house)
    assert house.reload(keyed("3/hour")) == ("keys.ci.limits.requests: 2/hour → 3/hour",)
    ask(house)
    with pytest.raises(LimitExceeded):
        ask(house)


async def test_a_removed_key_is_refused_at_the_next_request() -> None:
    """A key that is gone opens nothing; a new secret of the same key does, at once."""
    house = gateway(keyed("9/hour"))
    house.reload(keyed("9/hour", secret="rotated"))
    with pytest.raises(AuthenticationFailed):
        ask(house)
    ask(house, "rotated")
    house.reload(keyed("9/hour", name="other", secret="other"))
    with pytest.raises(AuthenticationFailed):
        ask(house, "rotated")


async def test_a_certificate_that_was_written_anew_is_read_again(tmp_path: Path) -> None:
    """A provider whose certificate file has another content gets a pool with that."""
    certificates = Path(__file__).parents[2] / "proxy_core/tests/tls"
    first = next(iter(sorted(certificates.glob("*.pem")))).read_bytes()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(first)
    new = settings(A, providers={"a": {"kind": "vllm", "ca": str(ca)}})
    house = gateway(new)
    old = provider_of(house, "a")
    house.reload(new)
    assert provider_of(house, "a") is old
    ca.write_bytes(first + b"\n")
    house.reload(new)
    assert provider_of(house, "a") is not old


async def test_a_warning_is_given_once() -> None:
    """What isn't in force is told when it is new, not at each reload."""
    house = gateway(settings(cache={"enabled": True}))
    with captured() as lines:
        house.reload(settings(cache={"enabled": True}))
        assert lines == []
        house.reload(settings(cache={"enabled": True}, context={"enabled": True}))
    (line,) = lines
    assert line["event"] == "setting_not_in_force"
    assert line["detail"].startswith("context.enabled")


async def test_a_thousand_reloads_leave_nothing_behind() -> None:
    """However often the configuration changes, only what it names now lives on."""
    house = gateway()
    providers: weakref.WeakSet[Provider] = weakref.WeakSet()
    for number in range(1000):
        held = house.enter()
        house.reload(settings(A, {"name": "n", "target": f"b{number}/y"}))
        providers.update(row.provider for row in house.snapshot.deployments)
        house.leave(held)
        await turn()
    held = house.enter()
    assert (len(house.runtime.providers), len(house.runtime.breakers)) == (2, 2)
    assert house.in_flight == 1
    house.leave(held)
    assert (house._former, house._unnamed, house._closing) == ({}, set(), set())
    gc.collect()
    assert len(providers) == 2
    await house.aclose()


def reloader(
    house: Gateway, load: Callable[[], Settings], *beside: Callable[[Settings], None]
) -> Reloader:
    return Reloader(house, load, beside=beside)


async def test_a_good_file_is_applied_and_told() -> None:
    """The outcome, and the event, have what is different now."""
    observer = RecordingObserver()
    house = gateway(observer=observer)
    seen: list[Settings] = []
    outcome = await reloader(house, lambda: settings(B), seen.append).reload()
    told = ("models: - m → a/x", "providers: - a")
    assert sorted(outcome.changes) == sorted(told)
    assert (outcome.applied, outcome.problem, outcome.needs_restart) == (True, "", ())
    assert [row.label for row in house.snapshot.deployments] == ["b/y"]
    assert [given.models for given in seen] == [settings(B).models]
    (event,) = observer.of(ConfigReloaded)
    assert (event.result, event.changes, event.detail) == ("applied", outcome.changes, "")


async def test_an_equal_file_is_told_as_unchanged() -> None:
    """A reload without a difference is applied, and says so."""
    observer = RecordingObserver()
    outcome = await reloader(gateway(observer=observer), settings).reload()
    assert outcome == Outcome(applied=True)
    assert [event.result for event in observer.of(ConfigReloaded)] == ["unchanged"]


def broken() -> Settings:
    raise ConfigurationError("keys: are missing\n  - and a second problem")


def unreadable() -> Settings:
    raise OSError(13, "Permission denied", "/etc/proxy/config.yaml")


def faulty() -> Settings:
    raise ZeroDivisionError("a fault of ours")


@pytest.mark.parametrize(
    ("load", "told"),
    [
        (broken, "keys: are missing\n  - and a second problem"),
        (unreadable, "/etc/proxy/config.yaml"),
        (faulty, "a fault of ours"),
        (Settings, "nothing to serve"),
    ],
    ids=["invalid", "unreadable", "a fault", "no models"],
)
async def test_a_bad_file_changes_nothing_and_is_told(
    load: Callable[[], Settings], told: str
) -> None:
    """Whatever loading brings, the old configuration stays, and the outcome says what was wrong."""
    observer = RecordingObserver()
    house = gateway(observer=observer)
    old, seen = house.snapshot, list[Settings]()
    reloading = reloader(house, load, seen.append)
    outcome = await reloading.reload()
    assert house.snapshot is old
    assert (outcome.applied, outcome.changes, seen) == (False, (), [])
    assert told in outcome.problem
    (event,) = observer.of(ConfigReloaded)
    assert (event.result, event.changes, event.detail) == ("refused", (), outcome.problem)
    assert reloading.last is not None and reloading.last.outcome is outcome


async def test_what_stands_beside_may_refuse() -> None:
    """A certificate that can't be read refuses the whole configuration."""
    house = gateway()
    old = house.snapshot

    def refuse(_: Settings) -> None:
        raise ConfigurationError("the certificate can't be read")

    outcome = await reloader(house, lambda: settings(B), refuse).reload()
    assert (outcome.applied, outcome.problem) == (False, "the certificate can't be read")
    assert house.snapshot is old


async def test_what_needs_a_restart_is_told_at_each_reload() -> None:
    """Another port changes nothing, and is a warning for as long as the file says so."""
    house = gateway()
    reloading = reloader(house, lambda: settings(server={"port": 5000, "drain": 60}))
    with captured() as lines:
        first = await reloading.reload()
        second = await reloading.reload()
    assert first.needs_restart == second.needs_restart == ("server.port",)
    assert (first.changes, second.changes) == (("server.drain: 300 → 60",), ())
    assert (house.settings.server.port, house.settings.server.drain) == (4000, 60)
    warnings = [line for line in lines if line["event"] == "setting_needs_restart"]
    assert len(warnings) == 2
    assert "server.port" in warnings[0]["detail"]


async def test_reloads_follow_each_other_and_the_newest_file_wins() -> None:
    """Of two at once the second loads when the first has ended, so nothing old overwrites it."""
    house = gateway()
    inside, most = 0, 0
    entered, go_on = threading.Event(), threading.Event()
    files = [settings(A), settings(B)]

    def load() -> Settings:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        now = files.pop(0)
        entered.set()
        go_on.wait(5)
        inside -= 1
        return now

    reloading = reloader(house, load)
    first = asyncio.create_task(reloading.reload())
    await asyncio.to_thread(entered.wait, 5)
    second = asyncio.create_task(reloading.reload())
    await turn()
    assert (len(files), first.done(), second.done()) == (1, False, False)
    go_on.set()
    outcomes = await asyncio.gather(first, second)
    assert [outcome.applied for outcome in outcomes] == [True, True]
    assert most == 1
    assert [row.label for row in house.snapshot.deployments] == ["b/y"]


async def test_a_secret_in_a_file_is_read_again(tmp_path: Path) -> None:
    """A key given as ``file:`` has its new content after a reload of the same file."""
    secret, file = tmp_path / "ci.key", tmp_path / "config.yaml"
    secret.write_text("one-secret\n")
    file.write_text(
        "providers: {a: {kind: vllm}}\n"
        "models: [{name: m, target: a/x}]\n"
        f"keys: [{{name: ci, key: 'file:{secret}'}}]\n"
    )

    def load() -> Settings:
        return load_settings(file, environ={})

    house = gateway(load())
    ask(house, "one-secret")
    secret.write_text("two-secret\n")
    outcome = await reloader(house, load).reload()
    assert outcome.changes == ("keys.ci.key changed",)
    ask(house, "two-secret")
    with pytest.raises(AuthenticationFailed):
        ask(house, "one-secret")
    secret.write_text("")
    refused = await reloader(house, load).reload()
    assert (refused.applied, "empty" in refused.problem) == (False, True)
    ask(house, "two-secret")
