"""A wall clock that is set while requests are served: only what goes by dates may notice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import openai
import pytest

SOURCE = Path(__file__).with_name("wall_clock.c")
SAY_HI: Any = [{"role": "user", "content": "hi"}]
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
PAUSE = 1.5


def event(delta: dict[str, str], end: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": end}
    return b"data: " + json.dumps({**CHUNK, "choices": [choice]}).encode() + b"\n\n"


async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
    """A stream with a pause in its middle; ``slow`` has a long one."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    writer.write(event({"role": "assistant", "content": "one"}))
    await writer.drain()
    await asyncio.sleep(PAUSE if json.loads(asked.body)["model"] == "slow" else 0)
    writer.write(event({"content": "two"}) + event({}, "stop") + b"data: [DONE]\n\n")
    writer.close()


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_step_of_the_wall_clock_ends_nothing_and_grants_nothing(
    http_upstream: Callable[..., Any],
    process: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    """An hour forth or back: streams go on, and limits and breakers count as before."""
    shim, said = tmp_path / "wall_clock.so", tmp_path / "step"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", shim, SOURCE, "-ldl"], check=True)
    said.write_text("0")
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("WALL_CLOCK_STEP", str(said))
    url = http_upstream(answer).url
    config = {
        "providers": {"up": {"kind": "openai_compatible", "base_url": url}},
        "models": [{"name": "*", "target": "up/*"}],
        "timeouts": {"between_events": 10, "total": 20},
        "keys": [{"name": "k", "key": "sk-k", "limits": {"requests": "3/minute"}}],
    }
    served = process(json.dumps(config))
    monkeypatch.delenv("LD_PRELOAD")
    texts: list[str] = []
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="sk-k", max_retries=0) as sdk:

        def ask(model: str) -> None:
            stream = sdk.chat.completions.create(model=model, messages=SAY_HI, stream=True)
            chunks = [chunk for chunk in stream if chunk.choices]
            texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))

        reader = threading.Thread(target=ask, args=("slow",))
        reader.start()
        time.sleep(PAUSE / 3)
        said.write_text(str(step))
        ask("quick")
        reader.join()
        ask("quick")
        assert texts == ["onetwo"] * 3
        with pytest.raises(openai.RateLimitError) as caught:
            ask("quick")
    assert 10 < float(caught.value.response.headers["retry-after"]) <= 21
    assert served.told("request")["duration_ms"] < 1000 * 10
    stamps = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in served.lines]
    assert abs(max(stamps) - min(stamps) - 3600) < 60, "the clock was not set"
