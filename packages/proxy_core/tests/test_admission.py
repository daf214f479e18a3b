from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_core import Admission, AdmissionSettings, LoopLag, ProxyFull
from proxy_core.errors import ConfigurationError, Overloaded
from proxy_core.testing import ManualClock


def admission(clock: ManualClock | None = None, **settings: Any) -> Admission:
    return Admission("proxy", AdmissionSettings(**settings), clock=clock or ManualClock())


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_so_many_and_no_more() -> None:
    """The place after the last is refused, and there again when one leaves."""
    doors = admission(concurrent=2)
    assert [doors.enter(), doors.enter(), doors.enter()] == [True, True, False]
    doors.leave()
    assert doors.enter()
    assert doors.in_flight == 2


async def test_without_a_queue_it_refuses_at_once() -> None:
    """The error is an Overloaded with the time of a place; the block was never entered."""
    doors = admission(concurrent=1, service=4.0)
    async with doors:
        with pytest.raises(ProxyFull, match="all 1 places are taken") as refused:
            async with doors:
                pass
    assert isinstance(refused.value, Overloaded)
    assert (refused.value.reason, refused.value.retry_after) == ("full", 4.0)
    assert (doors.in_flight, doors.refused) == (0, 1)


def test_the_time_in_a_refusal_is_that_of_a_place() -> None:
    """Ten places of 5 s come free each half a second; each refused client is told its own."""
    clock = ManualClock()
    doors = admission(clock, concurrent=10, service=5.0)
    waits = [doors.refusal().retry_after for _ in range(4)]
    assert waits == pytest.approx([0.5, 1.0, 1.5, 2.0])
    clock.advance(10)
    assert doors.refusal().retry_after == pytest.approx(0.5)
    assert max(doors.refusal().retry_after for _ in range(1000)) == pytest.approx(60)


def test_those_who_come_back_when_told_find_a_place() -> None:
    """Of 400 refused at once by a house of 20, each is let in at its time."""
    clock = ManualClock(0.0)
    doors = admission(clock, concurrent=20, service=2.0)
    leaving = [2.0 * (place + 1) / 20 for place in range(20)]
    for _ in range(20):
        assert doors.enter()
    returns = sorted(doors.refusal().retry_after for _ in range(400))
    admitted = 0
    for when in returns:
        clock.now = when
        while leaving and leaving[0] <= when + 1e-9:
            leaving.pop(0)
            doors.leave(2.0)
        if doors.enter():
            admitted += 1
            leaving.append(when + 2.0)
    assert admitted == 400


def test_the_time_of_service_is_learnt() -> None:
    """After a hundred requests of a second the first guess is forgotten."""
    doors = admission(concurrent=10, service=30.0)
    for _ in range(100):
        doors.enter()
        doors.leave(1.0)
    assert doors.service == pytest.approx(1.0, abs=0.2)


async def test_a_queue_is_bounded_and_served_in_its_order() -> None:
    """One waits, the next is refused; the place is handed over, and nobody overtakes."""
    doors = admission(concurrent=1, queue=1)
    served: list[str] = []

    async def one(name: str, until: asyncio.Event) -> None:
        async with doors:
            served.append(name)
            await until.wait()

    first, second = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(one("a", first)), asyncio.create_task(one("b", second))]
    await settled()
    assert (served, doors.waiting) == (["a"], 1)
    with pytest.raises(ProxyFull):
        await doors.wait()
    first.set()
    await tasks[0]
    assert not doors.enter(), "the place is the next one's already"
    await settled()
    assert served == ["a", "b"]
    second.set()
    await tasks[1]
    assert (doors.in_flight, doors.waiting) == (0, 0)


async def test_more_places_are_for_those_who_wait_first() -> None:
    """Other settings let in whom they have room for; with fewer places nobody follows at first."""
    doors = admission(concurrent=1, queue=5)
    doors.enter()
    waiting = [asyncio.create_task(doors.wait()) for _ in range(3)]
    await settled()
    doors.retune(AdmissionSettings(concurrent=3, queue=5))
    await settled()
    assert [task.done() for task in waiting] == [True, True, False]
    assert not doors.enter()
    doors.retune(AdmissionSettings(concurrent=2, queue=5))
    doors.leave()
    await settled()
    assert (doors.in_flight, doors.waiting) == (2, 1)
    doors.leave()
    await waiting[2]
    assert doors.in_flight == 2


async def test_nobody_waits_for_ever() -> None:
    """After its time one that waits is refused, and its place in the queue is free."""
    doors = admission(concurrent=1, queue=5, longest_wait=0.01)
    doors.enter()
    with pytest.raises(ProxyFull) as refused:
        await doors.wait()
    assert refused.value.reason == "waited"
    assert (doors.waiting, doors.in_flight) == (0, 1)


@pytest.mark.parametrize("handed_over", ["before", "at once", "after"])
async def test_one_that_is_cancelled_while_it_waits_keeps_nothing(handed_over: str) -> None:
    """Whether or not the place was its already, the next one gets it."""
    doors = admission(concurrent=1, queue=5)
    doors.enter()
    gone = asyncio.create_task(doors.wait())
    await settled()
    behind = asyncio.create_task(doors.wait())
    await settled()
    if handed_over == "before":
        doors.leave()
        gone.cancel()
    else:
        gone.cancel()
        if handed_over == "after":
            await settled()
        doors.leave()
    await settled()
    assert gone.cancelled()
    assert behind.done()
    assert doors.in_flight == 1
    doors.leave()
    assert (doors.in_flight, doors.waiting) == (0, 0)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["come", "leave", "cancel"]), max_size=40), st.integers(0, 3))
def test_whatever_happens_the_count_is_true(steps: list[str], queue: int) -> None:
    """Against a plain count of who is inside: never more than there are places, none lost."""

    async def run() -> None:
        doors = admission(concurrent=2, queue=queue, longest_wait=60)
        waiting: list[asyncio.Task[None]] = []
        inside = 0
        for step in steps:
            if step == "come":
                if doors.enter():
                    inside += 1
                else:
                    waiting.append(asyncio.create_task(doors.wait()))
            elif step == "leave" and inside:
                inside -= 1
                doors.leave(1.0)
            elif step == "cancel" and waiting:
                waiting[0].cancel()
            await settled()
            for task in [task for task in waiting if task.done()]:
                waiting.remove(task)
                if not task.cancelled() and task.exception() is None:
                    inside += 1
            assert doors.in_flight == inside <= 2
            assert doors.waiting == len(waiting) <= queue
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(run())


async def test_a_late_loop_sheds_new_work() -> None:
    """Three late samples in a row shed, two don't, and a good one ends it; who is inside stays."""
    doors = admission(concurrent=100, queue=100, max_lag=0.1)
    assert doors.enter()
    doors.lagged(0.5)
    doors.lagged(0.5)
    assert doors.enter()
    doors.lagged(0.5)
    assert doors.is_lagging
    assert not doors.enter()
    with pytest.raises(ProxyFull, match="event loop is late") as refused:
        await doors.wait()
    assert (refused.value.reason, refused.value.retry_after) == ("lag", 1.0)
    doors.leave()
    doors.leave()
    assert doors.enter(), "an empty house takes one, however late"
    doors.lagged(0.01)
    assert doors.enter()


def test_other_settings_find_a_late_loop_late() -> None:
    """Places that are added while the loop is late are there when it isn't any more."""
    doors = admission(concurrent=1, max_lag=0.1, late_samples=1)
    doors.lagged(0.5)
    assert doors.enter()
    doors.retune(AdmissionSettings(concurrent=3, max_lag=0.1, late_samples=1))
    assert not doors.enter()
    doors.lagged(0.0)
    assert [doors.enter() for _ in range(3)] == [True, True, False]
    doors.retune(AdmissionSettings(concurrent=2))
    doors.leave()
    assert not doors.enter()


class Loop:
    """The clock and the timers of an event loop, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Any, tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any, *args: Any) -> Loop:
        self.due = [(when, callback, args)]
        return self

    def cancel(self) -> None:
        self.due = []

    def run_at(self, now: float) -> None:
        self.now = now
        _, callback, args = self.due.pop()
        callback(*args)


def test_the_sampler_tells_how_late_the_loop_is() -> None:
    """Each sample is the time past its due one; the next is due from then; stopped means none."""
    loop, told = Loop(), list[float]()
    lag = LoopLag(told.append, every=0.1)
    lag.start(loop)  # type: ignore[arg-type]
    lag.start(loop)  # type: ignore[arg-type]
    loop.run_at(0.1)
    loop.run_at(0.5)
    loop.run_at(0.6)
    assert told == pytest.approx([0.0, 0.3, 0.0])
    assert lag.last == told[-1]
    lag.stop()
    assert loop.due == []
    lag.stop()


async def test_the_sampler_runs_in_a_real_loop() -> None:
    """Without a loop given it takes the running one."""
    told: list[float] = []
    lag = LoopLag(told.append, every=0.001)
    lag.start()
    async with asyncio.timeout(5):
        while len(told) < 3:
            await asyncio.sleep(0.001)
    lag.stop()
    assert min(told) >= 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("concurrent", 0), ("queue", -1), ("longest_wait", 0.0), ("max_lag", -1.0), ("service", 0.0)],
)
def test_settings_that_cannot_be_used_are_refused(field: str, value: float) -> None:
    """The error names the field and the value."""
    with pytest.raises(ConfigurationError, match=f"admission {field} is {value}"):
        AdmissionSettings(**{field: value})  # type: ignore[arg-type]
