"""Load from clients that never retry, until a file is there; then the figures, as JSON.

    python3 load.py PORT RATE STREAMS SECONDS FILE

RATE short requests a second, every other one on a connection of its own, and STREAMS streams at any
time that take SECONDS each. Standard output has first the line "going", once all of it runs.
"""

from __future__ import annotations

import asyncio
import json
import select
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

SHORT = 0.02
TIMEOUT = 30.0


class Load:
    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._seconds = seconds
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._stage = ContextVar("stage", default="")
        self.figures: dict[str, Any] = {
            "requests": 0,
            "streams": 0,
            "refused": 0,
            "failed": 0,
            "cut": 0,
            "longest": 0.0,
            "first_failures": [],
        }

    async def short(self, *, kept: bool) -> None:
        """One whole answer."""
        began = time.monotonic()
        await self._counted("requests", "failed", lambda: self._short(kept=kept))
        self.figures["longest"] = max(self.figures["longest"], time.monotonic() - began)

    async def stream(self) -> None:
        await self._counted("streams", "cut", self._stream)

    async def _counted(self, done: str, failed: str, ask: Callable[[], Any]) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                await ask()
            self.figures[done] += 1
        except (OSError, EOFError, TimeoutError, ValueError, AssertionError) as error:
            self.figures["refused" if isinstance(error, ConnectionRefusedError) else failed] += 1
            if len(self.figures["first_failures"]) < 5:
                took = time.monotonic() - began
                told = f"{failed}, {self._stage.get()}, after {took:.2f} s: {error!r}"
                self.figures["first_failures"].append(told)

    async def _short(self, *, kept: bool) -> None:
        # As good clients do, one that the server has closed is not used again.
        while kept and self._idle and has_ended(self._idle[-1][1]):
            self._idle.pop()[1].close()
        taken = self._idle.pop() if kept and self._idle else None
        self._stage.set("connecting")
        reader, writer = taken or await asyncio.open_connection("127.0.0.1", self._port)
        self._stage.set("on a kept connection" if taken else "on a new connection")
        lasts = False
        try:
            self._ask(writer, str(SHORT), stream=False, lasts=kept)
            head = await self._head(reader)
            length = next(line for line in head if line.startswith("content-length: "))
            body = json.loads(await reader.readexactly(int(length.split()[1])))
            assert body["choices"][0]["message"]["content"], body
            lasts = kept and "connection: close" not in head
        finally:
            if lasts:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _stream(self) -> None:
        self._stage.set("connecting")
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._stage.set("before the head")
        try:
            self._ask(writer, str(self._seconds), stream=True, lasts=False)
            await self._head(reader)
            self._stage.set("in the stream")
            told = await reader.read(-1)
            assert told.count(b'"content"') == 10, told[-300:]
            assert b"data: [DONE]\n\n" in told, told[-300:]
            assert told.endswith(b"0\r\n\r\n"), told[-300:]
        finally:
            writer.close()

    def _ask(
        self, writer: asyncio.StreamWriter, seconds: str, *, stream: bool, lasts: bool
    ) -> None:
        body = json.dumps({"model": "m", "messages": [], "user": seconds, "stream": stream})
        writer.write(
            (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost:{self._port}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"connection: {'keep-alive' if lasts else 'close'}\r\n\r\n{body}"
            ).encode()
        )

    async def _head(self, reader: asyncio.StreamReader) -> list[str]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        assert head[0].startswith("http/1.1 200"), head
        return head


def has_ended(writer: asyncio.StreamWriter) -> bool:
    """Whether there is something to read, which on an idle connection can only be its end."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def main(port: int, rate: float, streams: int, seconds: float, end: Path) -> None:
    load, loop = Load(port, seconds), asyncio.get_running_loop()

    async def streaming(delay: float) -> None:
        await asyncio.sleep(delay)
        while not end.exists():
            await load.stream()

    # Begun one after the other, they don't all end at once.
    running = {asyncio.create_task(streaming(seconds * n / streams)) for n in range(streams)}
    began, number = loop.time(), 0
    while not end.exists():
        number += 1
        if number == int(rate * seconds) + 1:
            print("going", flush=True)
        task = asyncio.create_task(load.short(kept=number % 2 == 0))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(max(began + number / rate - loop.time(), 0.0))
    await asyncio.gather(*running)
    print(json.dumps(load.figures))


if __name__ == "__main__":
    port, rate, streams, seconds, end = sys.argv[1:]
    asyncio.run(main(int(port), float(rate), int(streams), float(seconds), Path(end)))
