"""The line of a finished request: made as all lines are, and none lost on its way."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_logging import LogObserver, RequestFinished, StructuredLogger, bound_request
from proxy_logging._configure import use
from proxy_logging._output import Output
from proxy_logging._request_line import RequestLines, request_fields

logger = StructuredLogger("s")
observe = LogObserver(logger)

SECRETS = ["sk-CANARY0123", "Bearer CANARY", "password=CANARY", "://u:CANARY@h"]
TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["", "chat", "my-key", "openai/gpt", "ü", "\x7f", "\ud800", 'a"b\\', "x\ny", *SECRETS]
)
SECONDS = st.floats(0, 1e6)
COUNTS = st.none() | st.integers(0, 2**70)
EVENTS = st.builds(
    RequestFinished,
    request_id=TEXTS | st.from_regex("req_[0-9a-f]{24}", fullmatch=True),
    surface=TEXTS,
    status=st.integers(100, 599),
    outcome=st.sampled_from(["ok", "refused", "failed", "gone"]),
    duration=SECONDS,
    model=TEXTS,
    route=TEXTS,
    deployment=TEXTS,
    key=TEXTS,
    stream=st.booleans(),
    attempts=st.integers(0, 9),
    error=TEXTS,
    first_token=st.none() | SECONDS,
    overhead=st.none() | SECONDS,
    input_tokens=COUNTS,
    output_tokens=COUNTS,
    cached_tokens=COUNTS,
    usage_estimated=st.booleans(),
    cache=st.sampled_from(["off", "miss", "hit"]),
)


def finished(number: int = 0, **fields: Any) -> RequestFinished:
    given: dict[str, Any] = {"surface": "chat", "status": 200, "outcome": "ok", "duration": 0.1}
    return RequestFinished(request_id=f"req_{number:024x}", **{**given, **fields})


def held(stream: Any, hold: float = 60.0) -> None:
    """Lines of requests wait on this stream, longer than any test takes."""
    use(Output("json", "info", stream, hold=hold, clock=lambda: 1.5))


def numbers(text: str) -> list[int]:
    """Which requests have lines, in order."""
    return [int(json.loads(line)["request_id"][4:], 16) for line in text.splitlines()]


@given(st.lists(EVENTS, max_size=5))
@settings(max_examples=100)
def test_it_is_the_line_that_the_general_way_gives(events: list[RequestFinished]) -> None:
    """Whatever is in a request, with others or alone, its line is made as all lines are."""
    quick, general = io.StringIO(), io.StringIO()

    async def together() -> None:
        held(quick)
        for event in events:
            observe(event)

    asyncio.run(together())
    logger.flush()
    held(general)
    for event in events:
        level = "warning" if event.outcome == "failed" else "info"
        logger.write(level, "request", request_fields(event))  # type: ignore[arg-type]
    assert quick.getvalue() == general.getvalue()
    assert "CANARY" not in quick.getvalue()


@pytest.mark.parametrize(
    "fields",
    [
        {"surface": "embeddings"},
        {"status": 201},
        {"outcome": "gone"},
        {"model": "gpt"},
        {"model": "m" * 300},
        {"model": "m" * 300 + "n"},
        {"route": "gpt-*"},
        {"deployment": "openai/gpt"},
        {"provider": "openai"},
        {"key": "ci"},
        {"stream": True},
        {"attempts": 2},
        {"error": "rate_limited"},
        {"first_token": 0.5},
        {"overhead": 0.25},
        {"input_tokens": 10},
        {"output_tokens": 0},
        {"cached_tokens": 3},
        {"usage_estimated": True},
        {"cache": "hit"},
        {"cost": 15_000},
    ],
    ids=str,
)
async def test_no_line_has_anothers_fields(fields: dict[str, Any]) -> None:
    """What is made once for all lines alike isn't taken for one that differs in anything."""
    stream = io.StringIO()
    held(stream)
    events = [finished(1), finished(2, **fields), finished(3), finished(4, **fields)]
    for event in events:
        observe(event)
    LogObserver(StructuredLogger("another"))(finished(5, **fields))
    logger.flush()
    own = {"timestamp": "1970-01-01T00:00:01.500Z", "level": "info"}
    expected = [{**own, "service": "s", "event": "request", **request_fields(e)} for e in events]
    expected += [{**expected[-1], "service": "another", "request_id": f"req_{5:024x}"}]
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == expected


@pytest.mark.parametrize(
    "name", ["request_id", "surface", "model", "route", "deployment", "key", "error"]
)
async def test_a_secret_is_hidden_after_lines_like_it(name: str) -> None:
    """That all else on a line is known to be harmless says nothing of the rest."""
    stream = io.StringIO()
    held(stream)
    observe(finished(1))
    logger.flush()
    observe(msgspec.structs.replace(finished(1), **{name: "sk-CANARY0123"}))
    logger.flush()
    LogObserver(StructuredLogger("sk-CANARY0123"))(finished(1))
    logger.flush()
    assert stream.getvalue().count("sk-***") == 2
    assert "CANARY" not in stream.getvalue()


def test_what_is_remembered_is_bounded() -> None:
    """Models' names are the clients' own text: many, or long ones, don't fill the memory."""
    lines = RequestLines(json.dumps, str)
    for number in range(10_000):
        lines.text([(finished(model=f"model-{number}"), "s", 1.5)])
    for number in range(10):
        lines.text([(finished(model=f"{number}" * 10_000), "s", 1.5)])
    assert 0 < len(lines._known) <= 4_096
    assert 0 < len(lines._harmless) <= 4_200
    assert all(len(str(key)) < 1_000 for key in lines._known)


def test_the_loggers_and_the_requests_fields_are_on_it() -> None:
    """What is bound to the logger or the context isn't forgotten, and hidden where it must be."""
    stream = io.StringIO()
    held(stream)
    LogObserver(logger.bind(region="eu"))(finished())
    with bound_request("req_other", note="api_key=CANARY"):
        observe(finished())
    LogObserver(StructuredLogger("sk-lp-CANARY"))(finished())
    first, second, third = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["region"], second["note"], third["service"]) == ("eu", "api_key=***", "sk-lp-***")


async def test_a_value_that_is_no_value_costs_nobody_else() -> None:
    """Neither the request nor the lines that wait with it suffer from what a line can't have."""
    stream = io.StringIO()
    held(stream)
    observe(finished(1))
    observe(finished(2, duration=float("nan"), overhead=float("inf")))
    observe(finished(3, outcome=Path("ok")))
    observe(finished(4, model=7))
    observe(finished(5))
    logger.flush()
    assert numbers(stream.getvalue()) == [1, 2, 3, 4, 5]


class TestWaiting:
    async def test_every_line_comes_once_and_in_order(self) -> None:
        """Some lines travel together, none twice; what is left comes with `flush`."""
        stream = io.StringIO()
        held(stream)
        for number in range(1_001):
            observe(finished(number))
        assert 990 < len(numbers(stream.getvalue())) < 1_001
        logger.flush()
        logger.flush()
        assert numbers(stream.getvalue()) == list(range(1_001))

    async def test_a_line_waits_no_longer_than_it_is_held(self) -> None:
        """Without another line it is written after a while, and the next one again."""
        stream = io.StringIO()
        held(stream, hold=0.005)
        for number in range(2):
            observe(finished(number))
            assert len(numbers(stream.getvalue())) == number
            await asyncio.sleep(0.02)
            assert len(numbers(stream.getvalue())) == number + 1

    async def test_few_lines_wait_at_a_time(self, tmp_path: Path) -> None:
        """For a pipe as many as PIPE_BUF has room for, so that none is torn; more for a file."""
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", 0) as pipe, os.fdopen(writing, "w") as stream:
            held(stream)
            for number in range(8):
                observe(finished(number, model="m" * 100, deployment="d" * 60))
            text = pipe.read(4_096)
            assert numbers(text.decode()) == list(range(8))
        with (tmp_path / "log").open("w") as file:
            held(file)
            for number in range(63):
                observe(finished(number))
            assert (tmp_path / "log").read_text() == ""
            observe(finished(63))
            assert numbers((tmp_path / "log").read_text()) == list(range(64))

    async def test_any_other_line_writes_them_first(self) -> None:
        """A warning, a failed request, a line of somebody else's: all that came before is there."""
        stream = io.StringIO()
        held(stream)
        observe(finished(1))
        logger.info("other")
        observe(finished(2))
        observe(finished(3, outcome="failed", status=502))
        assert [
            (line["event"], line["level"])
            for line in map(json.loads, stream.getvalue().splitlines())
        ] == [("request", "info"), ("other", "info"), ("request", "info"), ("request", "warning")]

    def test_without_a_loop_nothing_waits(self) -> None:
        """Who runs no loop has each line when the call returns."""
        stream = io.StringIO()
        held(stream)
        observe(finished(1))
        assert numbers(stream.getvalue()) == [1]

    def test_a_loop_that_ended_takes_none_along(self) -> None:
        """What it left is written with the next line, and the next loop's lines are timed anew."""
        stream = io.StringIO()
        held(stream, hold=0.005)

        async def request(number: int) -> None:
            observe(finished(number))

        asyncio.run(request(1))
        assert stream.getvalue() == ""

        async def longer() -> None:
            await request(2)
            await asyncio.sleep(0.02)
            assert numbers(stream.getvalue()) == [1, 2]

        asyncio.run(longer())

    async def test_another_configuration_writes_what_waited(self) -> None:
        """Lines go to the stream that was configured when they came."""
        first, second = io.StringIO(), io.StringIO()
        held(first)
        observe(finished(1))
        held(second)
        observe(finished(2))
        logger.flush()
        assert (numbers(first.getvalue()), numbers(second.getvalue())) == ([1], [2])

    async def test_a_level_above_info_has_none(self) -> None:
        """Then only the requests that failed have a line."""
        stream = io.StringIO()
        use(Output("json", "warning", stream, hold=60.0))
        observe(finished(1))
        observe(finished(2, outcome="failed"))
        logger.flush()
        assert numbers(stream.getvalue()) == [2]

    async def test_threads_lose_and_repeat_none(self) -> None:
        """Loops and threads that write at the same time: each line once, each one's in order."""
        stream = io.StringIO()
        held(stream, hold=0.001)

        def plain(start: int) -> None:
            for number in range(start, start + 500):
                observe(finished(number))

        async def looping(start: int) -> None:
            for number in range(start, start + 500):
                observe(finished(number))
                if number % 50 == 0:
                    await asyncio.sleep(0)

        threads = [
            threading.Thread(target=plain, args=(1_000,)),
            threading.Thread(target=plain, args=(2_000,)),
            threading.Thread(target=lambda: asyncio.run(looping(3_000))),
        ]
        for thread in threads:
            thread.start()
        await looping(0)
        for thread in threads:
            await asyncio.to_thread(thread.join)
        logger.flush()
        found = numbers(stream.getvalue())
        for start in range(0, 4_000, 1_000):
            assert [n for n in found if start <= n < start + 500] == list(range(start, start + 500))
        assert len(found) == 2_000

    @pytest.mark.parametrize("problem", [OSError(28, "No space left"), ValueError("closed")])
    async def test_a_stream_that_fails_keeps_nothing(self, problem: Exception) -> None:
        """A request isn't told of it, and the lines don't pile up: later ones are written."""

        class Fails(io.StringIO):
            broken = True

            def write(self, text: str) -> int:
                if self.broken:
                    raise problem
                return super().write(text)

        stream = Fails()
        held(stream)
        for number in range(20):
            observe(finished(number))
        logger.flush()
        stream.broken = False
        observe(finished(20))
        logger.flush()
        assert numbers(stream.getvalue()) == [20]

    async def test_a_line_inside_a_write_stops_nothing(self) -> None:
        """A signal's handler may log while a line is written: both are there."""

        class Interrupted(io.StringIO):
            def write(self, text: str) -> int:
                if '"stopping"' not in text:
                    logger.info("stopping", request_id="req_ff")
                return super().write(text)

        stream = Interrupted()
        held(stream)
        observe(finished(1))
        logger.flush()
        assert sorted(numbers(stream.getvalue())) == [1, 255]


PROGRAM = """
import asyncio, signal, sys
from proxy_logging import LogObserver, RequestFinished, StructuredLogger, configure_logging

configure_logging("json")
observe = LogObserver(StructuredLogger("s"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

async def main():
    for number in range(3):
        observe(RequestFinished(
            request_id=f"req_{number:024x}", surface="chat", status=200, outcome="ok", duration=0.1
        ))
    {end}

asyncio.run(main())
"""
ENDS = {
    "return": "return",
    "exit": "sys.exit(0)",
    "signal": "signal.raise_signal(signal.SIGTERM)",
    "exception": "sys.stderr = sys.__stderr__; sys.excepthook = lambda *_: None; 1 / 0",
}


@pytest.fixture(scope="module")
def outputs() -> dict[str, str]:
    """What processes that end in different ways wrote to standard error; all run at once."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", PROGRAM.replace("{end}", end)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, end in ENDS.items()
    }
    return {name: process.communicate()[1] for name, process in processes.items()}


@pytest.mark.parametrize("end", list(ENDS))
def test_an_exit_writes_what_waits(outputs: dict[str, str], end: str) -> None:
    """However Python ends, by itself or told by a signal that it handles, each line is there."""
    assert numbers(outputs[end]) == [0, 1, 2]
