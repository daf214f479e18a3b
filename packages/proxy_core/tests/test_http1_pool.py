"""The pool and the wheel, which only compute: a state machine and a clock moved by hand."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy_core._http1._pool import Full, Pool, Ticket
from proxy_core._http1._wheel import Alarm, Wheel
from proxy_core.testing import ManualClock

ORIGINS = ("a", "b", "c")


@dataclass(eq=False)
class Fake:
    origin: str
    closed: bool = False


def nothing() -> None:
    """Wake nobody."""


def pool(**changes: float) -> Pool[Fake]:
    limits: dict[str, float] = {"connections": 3, "idle": 2, "idle_for": 30, **changes}
    return Pool(**limits)  # type: ignore[arg-type]


def test_the_last_used_connection_is_used_first() -> None:
    """So that those that aren't needed grow old together."""
    kept = pool()
    fakes = [Fake("a"), Fake("a")]
    for fake in fakes:
        assert kept.open("a")
        kept.keep("a", fake, 0)
    assert kept.take("a", 1) is fakes[1]
    assert kept.take("a", 1) is fakes[0]
    assert kept.take("a", 1) is None


def test_an_idle_connection_is_kept_for_its_time() -> None:
    """At its end it is evicted, whether or not somebody asks for it."""
    for ask in (True, False):
        kept, fake = pool(), Fake("a")
        kept.open("a")
        kept.keep("a", fake, 0)
        assert kept.expire(29.9) == 30
        assert kept.evicted == []
        assert (kept.take("a", 30) if ask else kept.expire(30)) is None
        assert kept.evicted == [fake]
        assert (kept.count, kept.idle_count) == (0, 0)


def test_the_oldest_is_evicted_when_too_many_are_idle() -> None:
    """Whatever its origin."""
    kept = pool()
    fakes = [Fake(origin) for origin in ORIGINS]
    for fake in fakes:
        assert kept.open(fake.origin)
    for now, fake in enumerate(fakes):
        kept.keep(fake.origin, fake, now)
    assert kept.evicted == fakes[:1]
    assert kept.count == 2


def test_an_idle_connection_makes_room_for_another_origin() -> None:
    """Connections that nobody uses keep nobody from opening one."""
    kept = pool(connections=1)
    fake = Fake("a")
    kept.open("a")
    assert not kept.open("b")
    kept.keep("a", fake, 0)
    assert kept.open("b")
    assert kept.evicted == [fake]


def test_an_origin_has_a_limit_of_its_own() -> None:
    """One upstream can't take all places."""
    kept = pool(per_origin=1)
    assert kept.open("a")
    assert not kept.open("a")
    assert kept.open("b")


def test_the_queue_has_an_end() -> None:
    """Beyond it, waiting would be in vain."""
    kept = pool(connections=1, waiting=1)
    kept.open("a")
    kept.wait("a", nothing)
    with pytest.raises(Full):
        kept.wait("a", nothing)


class PoolMachine(RuleBasedStateMachine):
    """Requests that take, open, wait, give up, keep and close, and upstreams that close.

    A model of plain lists says who holds what. Nobody waits while there is something for him.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pool = pool(connections=3, idle=2, idle_for=5, per_origin=2)
        self.held: list[Fake] = []
        self.opening: list[str] = []
        self.idle: list[Fake] = []
        self.tickets: list[Ticket[Fake]] = []

    @rule(origin=st.sampled_from(ORIGINS))
    def ask(self, origin: str) -> None:
        fake = self.pool.take(origin, self.now)
        self.reap()
        if fake is not None:
            assert fake.origin == origin and not fake.closed
            self.idle.remove(fake)
            self.held.append(fake)
        elif self.pool.open(origin):
            self.opening.append(origin)
        else:
            self.tickets.append(self.pool.wait(origin, nothing))
        self.reap()

    @precondition(lambda self: self.opening)
    @rule(data=st.data(), works=st.booleans())
    def opened(self, data: st.DataObject, works: bool) -> None:
        origin = data.draw(st.sampled_from(self.opening))
        self.opening.remove(origin)
        if works:
            self.held.append(Fake(origin))
        else:
            self.grant(self.pool.leave(origin))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), reusable=st.booleans())
    def give_back(self, data: st.DataObject, reusable: bool) -> None:
        fake = data.draw(st.sampled_from(self.held))
        self.held.remove(fake)
        if reusable:
            self.idle.append(fake)
            self.grant(self.pool.keep(fake.origin, fake, self.now))
        else:
            self.grant(self.pool.leave(fake.origin))

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def closed_by_the_upstream(self, data: st.DataObject) -> None:
        fake = data.draw(st.sampled_from(self.idle))
        self.idle.remove(fake)
        self.grant(self.pool.drop(fake.origin, fake))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        self.tickets.remove(ticket)
        self.pool.give_up(ticket)

    @rule(seconds=st.sampled_from([0.5, 3, 6]), look=st.booleans())
    def pass_time(self, seconds: float, look: bool) -> None:
        self.now += seconds
        if look:
            soonest = self.pool.expire(self.now)
            self.reap()
            assert (soonest is None) == (not self.idle)

    def grant(self, ticket: Ticket[Fake] | None) -> None:
        if ticket is not None:
            assert ticket.granted
            assert ticket is next(t for t in self.tickets if t.origin == ticket.origin)
            self.tickets.remove(ticket)
            if ticket.connection is None:
                self.opening.append(ticket.origin)
            else:
                self.idle.remove(ticket.connection)
                self.held.append(ticket.connection)
        self.reap()

    def reap(self) -> None:
        for fake in self.pool.evicted:
            fake.closed = True
            self.idle.remove(fake)
        self.pool.evicted.clear()

    @invariant()
    def counts_are_right(self) -> None:
        assert self.pool.idle_count == len(self.idle) <= 2
        assert self.pool.waiting_count == len(self.tickets)
        assert self.pool.count == len(self.held) + len(self.opening) + len(self.idle) <= 3

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        used = [fake.origin for fake in self.held] + self.opening
        everywhere = used + [fake.origin for fake in self.idle]
        for ticket in self.tickets:
            full = len(used) == 3 or everywhere.count(ticket.origin) == 2
            assert full and not any(fake.origin == ticket.origin for fake in self.idle)


TestPool = PoolMachine.TestCase


class Ringing(Alarm):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.rang: list[float] = []

    def ring(self) -> None:
        self.rang.append(self.clock.now)


@dataclass
class FakeLoop:
    """Keeps what is to be called when; ``until`` plays it."""

    clock: ManualClock
    timers: list[tuple[float, object, asyncio.TimerHandle]] = field(default_factory=list)

    def call_later(self, delay: float, call: object) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.clock.now + delay, int, (), self)  # type: ignore[arg-type]
        self.timers.append((self.clock.now + delay, call, handle))
        return handle

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.timers = [timer for timer in self.timers if timer[2] is not handle]

    def until(self, when: float) -> None:
        while self.timers and min(timer[0] for timer in self.timers) <= when:
            timer = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.clock.now = max(self.clock.now, timer[0])
            timer[1]()  # type: ignore[operator]
        self.clock.now = max(self.clock.now, when)


def wheel() -> tuple[Wheel, FakeLoop]:
    clock = ManualClock(0.0)
    loop = FakeLoop(clock)
    return Wheel(loop, grain=0.05, clock=clock), loop  # type: ignore[arg-type]


TIMES = st.floats(0, 100) | st.just(math.inf)


@given(st.lists(st.tuples(st.integers(0, 3), TIMES, st.floats(0, 10)), max_size=30))
def test_an_alarm_rings_once_and_never_early(moves: list[tuple[int, float, float]]) -> None:
    """Within the grain of its last deadline, however often that was moved before."""
    turning, loop = wheel()
    alarms = [Ringing(loop.clock) for _ in range(4)]
    meant: dict[int, list[tuple[float, float]]] = {number: [] for number in range(4)}
    for number, delay, pause in moves:
        deadline = loop.clock.now + delay
        turning.set(alarms[number], deadline)
        meant[number].append((loop.clock.now, deadline))
        loop.until(loop.clock.now + pause)
    loop.until(1000)
    for number, alarm in enumerate(alarms):
        moved = [at for at, _ in meant[number][1:]] + [math.inf]
        due = [
            deadline
            for (_, deadline), until in zip(meant[number], moved, strict=False)
            if deadline + 0.0501 < until and deadline < math.inf
        ]
        unsure = [d for (_, d), until in zip(meant[number], moved, strict=False) if d < until]
        assert len(due) <= len(alarm.rang) <= len(unsure)
        for rang in alarm.rang:
            assert any(0 <= rang - deadline <= 0.0501 for deadline in unsure)
    assert len(turning) == 0
    assert loop.timers == []


def test_thousands_of_alarms_take_one_timer() -> None:
    """And an alarm that moves on with each request is filed once."""
    turning, loop = wheel()
    alarms = [Ringing(loop.clock) for _ in range(5000)]
    for _ in range(10):
        for alarm in alarms:
            turning.set(alarm, loop.clock.now + 60)
        loop.until(loop.clock.now + 1)
        assert len(loop.timers) == 1
        assert len(turning) == 5000
    loop.until(1000)
    assert all(len(alarm.rang) == 1 for alarm in alarms)


def test_a_forgotten_alarm_is_not_held() -> None:
    """Nor does it ring; the others do."""
    turning, loop = wheel()
    gone, left = Ringing(loop.clock), Ringing(loop.clock)
    for alarm in (gone, left):
        turning.set(alarm, 1)
    turning.forget(gone)
    assert len(turning) == 1
    loop.until(10)
    assert (gone.rang, len(left.rang)) == ([], 1)


def test_a_stopped_wheel_leaves_no_timer() -> None:
    """A closed client keeps nothing of the loop."""
    turning, loop = wheel()
    alarm = Ringing(loop.clock)
    turning.set(alarm, 1)
    turning.stop()
    assert loop.timers == []
    loop.until(10)
    assert alarm.rang == []
