"""bound_request: in, and exactly out again."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator

import pytest

from proxy_logging import StructuredLogger, bound_request
from proxy_logging._request import REQUEST_FIELDS
from proxy_logging.testing import captured

logger = StructuredLogger("s")


def test_lines_inside_carry_the_request() -> None:
    """A line inside has the id and the fields, one outside has neither."""
    with captured() as lines:
        with bound_request("req_1", key="ci"):
            logger.info("in")
        logger.info("out")
    assert (lines[0]["request_id"], lines[0]["key"]) == ("req_1", "ci")
    assert not {"request_id", "key"} & set(lines[1])


def test_blocks_nest_and_restore_exactly() -> None:
    """An inner block adds and overrides; leaving it gives back what was there."""
    with captured() as lines, bound_request("outer", a=1, b=2):
        with bound_request("inner", b=3, c=4):
            logger.info("x")
        logger.info("x")
    inner, outer = lines
    assert [inner.get(name) for name in ("request_id", "a", "b", "c")] == ["inner", 1, 3, 4]
    assert [outer.get(name) for name in ("request_id", "a", "b", "c")] == ["outer", 1, 2, None]


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit])
def test_restored_on_every_way_out(error: type[BaseException]) -> None:
    """An exception of any kind leaves nothing behind, and passes."""
    before = REQUEST_FIELDS.get()
    with pytest.raises(error), bound_request("req"):
        raise error
    assert REQUEST_FIELDS.get() is before


async def test_tasks_do_not_see_each_other() -> None:
    """Requests that run at the same time each have their own fields, tasks started inside too."""

    async def request(name: str) -> None:
        with bound_request(name):
            await asyncio.sleep(0)
            await asyncio.create_task(line(name))

    async def line(name: str) -> None:
        logger.info("x", expected=name)

    with captured() as lines:
        await asyncio.gather(*(request(f"req_{number}") for number in range(5)))
    assert len(lines) == 5
    assert all(line["request_id"] == line["expected"] for line in lines)


async def test_may_be_left_in_another_context() -> None:
    """A generator that is closed elsewhere doesn't raise, and leaves nothing there."""

    async def stream() -> AsyncIterator[int]:
        with bound_request("req"):
            yield 1

    body = stream()
    here = contextvars.copy_context()
    await asyncio.get_running_loop().create_task(anext(body), context=here)  # type: ignore[arg-type]
    elsewhere = here.copy()
    assert elsewhere.run(REQUEST_FIELDS.get)["request_id"] == "req"
    await asyncio.get_running_loop().create_task(body.aclose(), context=elsewhere)  # type: ignore[attr-defined]
    assert "request_id" not in REQUEST_FIELDS.get()
    assert "request_id" not in elsewhere.run(REQUEST_FIELDS.get)
