"""A gateway that can be measured, and one that runs."""

from __future__ import annotations

import http.client
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from harness._process import Memory, Process, start
from harness._site import GATEWAY_CPU, BenchError, Upstream, free_port, fresh_folder
from harness._traffic import Request, body

__all__ = ["Answer", "Gateway", "Launch", "Running", "post"]


@dataclass(frozen=True)
class Launch:
    """How one process of a gateway is started."""

    command: list[str | Path]
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    log: Path | None = None
    """Instead of a file in the gateway's folder."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


class Gateway(ABC):
    """One column. A subclass says how it is installed, configured and spoken to."""

    name: str
    label: str
    note: str = ""
    """What makes the comparison unequal: it does more, or less, than we do."""
    path = "/v1/chat/completions"
    model = "chat"
    """What clients ask for."""
    boot_seconds = 20.0

    @abstractmethod
    def prepare(self) -> None:
        """Install what it needs. Raises Unavailable."""

    @abstractmethod
    def version(self) -> str:
        """Known once it is prepared."""

    def headers(self, upstream: Upstream) -> dict[str, str]:
        """What clients send beside the body."""
        return {}

    @abstractmethod
    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        """Write its configuration, and say how one process of it is started."""

    def port_of(self, process: Process) -> int | None:
        """Where it listens, when it doesn't let itself be told; None: not known yet."""
        return None

    chooses_port = False


def post(port: int, path: str, headers: dict[str, str], content: bytes) -> Answer:
    """Ask once, on a connection of its own. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        sent = {"content-type": "application/json", **headers}
        connection.request("POST", path, content, sent)
        response = connection.getresponse()
        return Answer(response.status, response.read())
    finally:
        connection.close()


class Running:
    """A gateway between its start and its stop, as a ``with`` block; ``count`` instances."""

    def __init__(self, gateway: Gateway, upstream: Upstream, *, count: int = 1) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.port = free_port()
        self.folder = fresh_folder(f"{gateway.name}-{self.port}")
        self.processes: list[Process] = []
        self.first_answer = 0.0
        """Seconds from the start to the first 200."""
        self.answer = Answer(0, b"")
        self._count = count

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            began = time.monotonic()
            for number in range(self._count):
                launch = self.gateway.launch(self.folder, self.port, self.upstream)
                log = launch.log or self.folder / f"gateway-{number}.log"
                process = start(
                    launch.command, core=GATEWAY_CPU, log=log, env=launch.env, cwd=launch.cwd
                )
                self.processes.append(process)
                undo.callback(process.stop)
            self._await_answer()
            self.first_answer = time.monotonic() - began
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def cpu(self) -> float:
        """Seconds of CPU that its processes and their children took so far."""
        return sum(process.cpu() for process in self.processes)

    def memory(self) -> Memory:
        each = [process.memory() for process in self.processes]
        return Memory(sum(one.rss for one in each), sum(one.pss for one in each))

    def request(self, name: str, *, size: int = 950, stream: str = "") -> Request:
        gateway = self.gateway
        content = body(gateway.model, size=size, stream=stream)
        headers = gateway.headers(self.upstream)
        return Request.write(self.folder, name, self.port, gateway.path, headers, content)

    def post(self, content: bytes, headers: dict[str, str] | None = None) -> Answer:
        chosen = self.gateway.headers(self.upstream) if headers is None else headers
        return post(self.port, self.gateway.path, chosen, content)

    def _await_answer(self) -> None:
        """Ask until it answers 200. Raises BenchError with what it said."""
        deadline = time.monotonic() + self.gateway.boot_seconds
        content = body(self.gateway.model)
        answer: Answer | str = "nothing"
        if self.gateway.chooses_port:
            self._await(lambda: self.gateway.port_of(self.processes[0]), deadline)
        while time.monotonic() < deadline and all(one.alive for one in self.processes):
            try:
                answer = self.post(content)
            except (OSError, http.client.HTTPException) as error:
                answer = str(error)
            if isinstance(answer, Answer) and answer.status == 200:
                self.answer = answer
                return
            time.sleep(0.005)
        said = "\n".join(process.said() for process in self.processes)
        raise BenchError(f"{self.gateway.name} doesn't serve: {answer}\n{said}")

    def _await(self, ask: Callable[[], int | None], deadline: float) -> None:
        while time.monotonic() < deadline:
            if (port := ask()) is not None:
                self.port = port
                return
            time.sleep(0.005)

    def answered_model(self) -> str:
        """The model that its first answer named."""
        return str(json.loads(self.answer.body).get("model"))
