"""What is sent: bodies like a client's, and the two programs that send them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness._process import core_times
from harness._site import GATEWAY_CPU, LOAD_CPU, BenchError, run
from harness._tools import Tools

__all__ = ["IdleStreams", "Load", "Request", "Watch", "Window", "body"]

_WORDS = "The gateway carries what the client said and what the model answered, byte for byte. "
_GRACE = 90
"""Seconds beyond its own time that a load program may take: what is in flight is waited for."""


def body(model: str, *, size: int = 0, stream: str = "", usage: bool = False) -> bytes:
    """A chat completion of about ``size`` bytes; ``stream`` is said to the mock in the prompt."""
    data: dict[str, Any] = {"model": model}
    if stream:
        data["stream"] = True
    if usage:
        data["stream_options"] = {"include_usage": True}
    system = {"role": "system", "content": "You are a helpful assistant. Answer in one sentence."}
    user = {"role": "user", "content": f"{stream} What does a gateway do?".strip()}
    data |= {"messages": [system, user], "temperature": 0.7, "max_tokens": 256}
    short = max(size - len(json.dumps(data)), 0)
    turns: list[dict[str, str]] = []
    while short > 0:
        # Turns of at most 4 KB, as conversations have them, told apart by their number.
        text = (f"{len(turns)}: " + _WORDS * 50)[: min(short, 4000)]
        turns.append({"role": ("user", "assistant")[len(turns) % 2], "content": text})
        short -= len(text) + 34
    data["messages"] = [system, *turns, user]
    return json.dumps(data, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Request:
    """One request as files: the whole of it for our client, its body and headers for wrk."""

    raw: Path
    content: Path
    headers: tuple[str, ...]
    path: str
    port: int

    @classmethod
    def write(
        cls, folder: Path, name: str, port: int, path: str, headers: dict[str, str], content: bytes
    ) -> Request:
        lines = [f"{key}: {value}" for key, value in headers.items()]
        lines.append("content-type: application/json")
        head = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", *lines]
        head.append(f"content-length: {len(content)}")
        raw, plain = folder / f"{name}.http", folder / f"{name}.json"
        raw.write_bytes("\r\n".join(head).encode() + b"\r\n\r\n" + content)
        plain.write_bytes(content)
        return cls(raw, plain, tuple(lines), path, port)


@dataclass(frozen=True)
class Window:
    """How busy the two cores were in a span of time."""

    load: float
    """Of the core of load and mock, 0 to 1: near 1 the throughput is theirs, not the gateway's."""
    foreign: float
    """Of the gateway's core, 0 to 1: what others took."""


class Watch:
    """Takes a Window from its making to `window()`."""

    def __init__(self) -> None:
        self._gateway, self._load = core_times(GATEWAY_CPU), core_times(LOAD_CPU)

    def window(self, gateway_cpu: float) -> Window:
        gateway, load = core_times(GATEWAY_CPU), core_times(LOAD_CPU)
        took = max(load[1] - self._load[1], 1e-9)
        others = gateway[0] - self._gateway[0] - gateway_cpu
        return Window(
            load=min((load[0] - self._load[0]) / took, 1.0),
            foreign=min(max(others / took, 0.0), 1.0),
        )


class Load:
    """Runs wrk and our own client, on their core."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._pinned = ("taskset", "-c", str(LOAD_CPU))

    def wrk(self, request: Request, connections: int, seconds: int) -> dict[str, Any]:
        """Closed loop, plain requests: ``done``, ``failed``, ``seconds``, ``p50``, ``p99`` (us)."""
        words = (*self._pinned, self._tools.wrk, "-t1", f"-c{connections}", f"-d{seconds}s")
        script = ("--timeout", "30s", "-s", str(self._tools.post_lua))
        url = f"http://127.0.0.1:{request.port}{request.path}"
        told = run(
            *(*words, *script, url, "--", str(request.content), *request.headers),
            env=self._tools.env,
        )
        for line in told.splitlines():
            if line.startswith("JSON "):
                found: dict[str, Any] = json.loads(line[5:])
                return found
        raise BenchError(f"wrk said nothing of its run:\n{told}")

    def ours(
        self, mode: str, request: Request, connections: int, amount: float, rate: float = 0
    ) -> dict[str, Any]:
        """Our client, ``closed``, ``exact`` or ``open``. What failed is an error here."""
        words = (mode, request.port, request.raw, connections, amount, rate)
        told: dict[str, Any] = json.loads(
            run(*self._pinned, self._tools.load, *(str(word) for word in words))
        )
        if told["failed"] or told["unanswered"]:
            raise BenchError(
                f"{told['failed']} requests failed and {told['unanswered']} were not answered, "
                f"of {told['done'] + told['failed']}: {told['failure']}"
            )
        if told["waiting"]:
            raise BenchError(f"{told['waiting']} requests could not be sent in time")
        return told

    def idle(self, request: Request, count: int, seconds: float) -> IdleStreams:
        words = [str(self._tools.load), "idle", str(request.port), str(request.raw)]
        return IdleStreams([*self._pinned, *words, str(count), str(seconds)])


class IdleStreams:
    """Streams that have begun and say nothing more, held while the block lasts."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __enter__(self) -> int:
        """How many have begun."""
        self._popen = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        told = json.loads(line) if line else {}
        count: int = (told.get("first") or {"count": 0})["count"]
        return count

    def __exit__(self, *_: object) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait(_GRACE)
