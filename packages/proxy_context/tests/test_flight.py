"""get_or_compute: one computes, the others wait, and nobody waits for someone who has left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_context import SmartCache


class Work:
    """A factory whose runs wait until they are told how to end."""

    def __init__(self) -> None:
        self.runs: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        self.runs.append(asyncio.get_running_loop().create_future())
        return await self.runs[-1]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def ask(
    cache: SmartCache, work: Callable[[], Awaitable[str]], count: int
) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(cache.get_or_compute("k", work)) for _ in range(count)]
    await settle()
    return tasks


async def test_a_hundred_callers_cost_one_computation() -> None:
    """Concurrent callers of one key share one run of the factory, and later ones its value."""
    cache, work = SmartCache(), Work()
    tasks = await ask(cache, work, 100)
    assert len(work.runs) == 1
    work.runs[0].set_result("v")
    assert await asyncio.gather(*tasks) == ["v"] * 100
    assert await cache.get_or_compute("k", work) == "v"
    assert len(work.runs) == 1


async def test_other_keys_do_not_wait() -> None:
    """A computation under way holds up no other key."""
    cache, work = SmartCache(), Work()
    await ask(cache, work, 1)
    other = asyncio.create_task(cache.get_or_compute("other", work))
    await settle()
    assert len(work.runs) == 2
    work.runs[1].set_result("w")
    assert await other == "w"
    work.runs[0].set_result("v")


async def test_none_is_a_value() -> None:
    """A factory that gives None is not asked again."""
    cache = SmartCache()
    runs = []

    async def nothing() -> str | None:
        runs.append(1)
        return None

    assert await cache.get_or_compute("k", nothing) is None
    assert await cache.get_or_compute("k", nothing) is None
    assert len(runs) == 1


async def test_a_cancelled_leader_hands_over() -> None:
    """When the caller that computes is cancelled, one that waits computes in its place."""
    cache, work = SmartCache(), Work()
    tasks = await ask(cache, work, 3)
    tasks[0].cancel()
    await settle()
    assert tasks[0].cancelled()
    assert len(work.runs) == 2
    work.runs[1].set_result("v")
    assert await asyncio.gather(*tasks[1:]) == ["v", "v"]


async def test_a_cancelled_follower_disturbs_nobody() -> None:
    """A caller that leaves while it waits changes nothing for the others."""
    cache, work = SmartCache(), Work()
    tasks = await ask(cache, work, 3)
    tasks[1].cancel()
    await settle()
    work.runs[0].set_result("v")
    assert list(await asyncio.gather(tasks[0], tasks[2])) == ["v", "v"]
    assert tasks[1].cancelled()
    assert len(work.runs) == 1


async def test_a_follower_cancelled_while_it_is_woken_passes_it_on() -> None:
    """Leadership that was handed to a caller about to leave goes to the next one."""
    cache, work = SmartCache(), Work()
    tasks = await ask(cache, work, 3)
    work.runs[0].set_exception(RuntimeError("down"))
    while not tasks[0].done():
        await asyncio.sleep(0)
    tasks[1].cancel()
    await settle()
    assert tasks[1].cancelled()
    work.runs[-1].set_result("v")
    assert await tasks[2] == "v"
    with pytest.raises(RuntimeError, match="down"):
        await tasks[0]


async def test_a_failure_is_tried_once_more_and_then_told_to_all() -> None:
    """The first failure is its caller's own; the second ends the wait of all, so nothing is
    asked a hundred times in a row."""
    cache, work = SmartCache(), Work()
    tasks = await ask(cache, work, 100)
    work.runs[0].set_exception(RuntimeError("first"))
    await settle()
    assert len(work.runs) == 2
    work.runs[1].set_exception(RuntimeError("second"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results] == ["first"] + ["second"] * 99
    assert len(work.runs) == 2
    assert "k" not in cache
    later = await ask(cache, work, 1)
    work.runs[2].set_result("v")
    assert await later[0] == "v"


async def test_what_was_forgotten_meanwhile_is_not_kept() -> None:
    """A value under way when its key is invalidated reaches those who wait, and is not kept."""
    cache, work = SmartCache(), Work()
    before = await ask(cache, work, 2)
    cache.invalidate("k")
    after = await ask(cache, work, 2)
    assert len(work.runs) == 2
    work.runs[0].set_result("old")
    await settle()
    assert "k" not in cache
    work.runs[1].set_result("new")
    assert await asyncio.gather(*before, *after) == ["old", "old", "new", "new"]
    assert cache.get("k") == "new"


async def test_clear_forgets_what_is_under_way() -> None:
    """Clearing a tenant keeps its computations under way from being kept, and no one else's."""
    cache, work = SmartCache(), Work()
    keys = [cache.key("ann", "q"), cache.key("bob", "q")]
    tasks = [asyncio.create_task(cache.get_or_compute(key, work)) for key in keys]
    await settle()
    cache.clear("ann")
    for run in work.runs:
        run.set_result("v")
    assert list(await asyncio.gather(*tasks)) == ["v", "v"]
    assert [key in cache for key in keys] == [False, True]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "cancel", "fail", "finish", "turn"]), st.integers(0, 7)),
        max_size=30,
    )
)
def test_nobody_is_left_waiting(steps: list[tuple[str, int]]) -> None:
    """After any sequence of callers, cancellations and failures, every caller has come to an end,
    and no computation ran beside another."""

    async def play() -> None:
        cache, work = SmartCache(), Work()
        tasks: list[asyncio.Task[str]] = []

        def running() -> list[asyncio.Future[str]]:
            return [run for run in work.runs if not run.done()]

        for step, number in steps:
            if step == "ask":
                tasks.append(asyncio.create_task(cache.get_or_compute("k", work)))
            elif step == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif step == "fail" and running():
                running()[0].set_exception(RuntimeError("down"))
            elif step == "finish" and running():
                running()[0].set_result("v")
            elif step == "turn":
                await asyncio.sleep(0)
            assert len(running()) <= 1
        for _ in range(50):
            await settle()
            for run in running():
                run.set_result("v")
        assert all(task.done() for task in tasks)
        assert cache._flights._flights == {}
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(play())
