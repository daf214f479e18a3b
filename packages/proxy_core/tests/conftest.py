"""Real stores for the tests, and a proxy before one that can fail."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from proxy_core.testing import Valkey


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def start_valkey() -> Iterator[Callable[..., Valkey]]:
    """``start_valkey(*options, port=0) -> Valkey``; a port of -1 is a free one."""
    with ExitStack() as stack:

        def start(*options: str, port: int = 0) -> Valkey:
            # A unix socket's path is at most 107 bytes long, which pytest's own folders may exceed.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vk")))
            server = Valkey(folder, *options, port=_free_port() if port < 0 else port)
            stack.callback(server.kill)
            return server

        yield start


@pytest.fixture(scope="session")
def _valkey(start_valkey: Callable[..., Valkey]) -> Valkey:
    return start_valkey()


@pytest.fixture
def valkey(_valkey: Valkey) -> Valkey:
    """The session's server, empty: neither keys nor functions."""
    _valkey.cli("flushall")
    _valkey.cli("function", "flush")
    return _valkey


@pytest.fixture(scope="session")
def cluster(start_valkey: Callable[..., Valkey]) -> list[Valkey]:
    """Three masters on 127.0.0.1."""
    nodes = []
    for _ in range(3):
        bus = str(_free_port())
        options = (
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            bus,
            "--cluster-node-timeout",
            "2000",
        )
        nodes.append(start_valkey(*options, port=-1))
    first = nodes[0]
    slots = [(0, 5460), (5461, 10922), (10923, 16383)]
    for node, (low, high) in zip(nodes, slots, strict=True):
        node.cli("cluster", "addslotsrange", str(low), str(high))
    for number, node in enumerate(nodes, 1):
        node.cli("cluster", "set-config-epoch", str(number))
    for node in nodes[1:]:
        bus = node._command[node._command.index("--cluster-port") + 1]
        first.cli("cluster", "meet", "127.0.0.1", str(node.port), bus)
    deadline = time.monotonic() + 15
    while not all("cluster_state:ok" in node.cli("cluster", "info") for node in nodes) or any(
        len(node.cli("cluster", "nodes").splitlines()) < 3 for node in nodes
    ):
        assert time.monotonic() < deadline, first.cli("cluster", "info")
        time.sleep(0.05)
    return nodes


class Sentinels:
    """A master, its replica, and two sentinels that replace it within a second or two."""

    def __init__(self, start: Callable[..., Valkey]) -> None:
        self.master = start("--repl-diskless-sync-delay", "0", port=-1)
        self.replica = start("--replicaof", f"127.0.0.1 {self.master.port}", port=-1)
        self._sentinels = []
        for _ in range(2):
            port = _free_port()
            file = self.master.socket.with_name(f"sentinel-{port}.conf")
            file.write_text(
                f"sentinel monitor limits 127.0.0.1 {self.master.port} 2\n"
                "sentinel down-after-milliseconds limits 300\n"
                "sentinel failover-timeout limits 2000\n"
            )
            self._sentinels.append(start(str(file), "--sentinel", port=port))
        ports = ",".join(f"127.0.0.1:{one.port}" for one in self._sentinels)
        self.url = f"redis+sentinel://{ports}/limits"
        deadline = time.monotonic() + 15
        while not self._is_ready():
            assert time.monotonic() < deadline, self._sentinels[0].cli("sentinel", "masters")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        for one in self._sentinels:
            words = one.cli("sentinel", "master", "limits").split()
            known = dict(zip(words[::2], words[1::2], strict=False))
            if (known.get("num-slaves"), known.get("num-other-sentinels")) != ("1", "1"):
                return False
        return "master_link_status:up" in self.replica.cli("info", "replication")

    def kill_master(self) -> None:
        self.master.kill()


@pytest.fixture(scope="session")
def sentinels(start_valkey: Callable[..., Valkey]) -> Sentinels:
    return Sentinels(start_valkey)


class ChaosProxy:
    """Between a client and a server, in the client's loop. Change ``mode`` at any time.

    ``pass``, ``slow`` (2 s later), ``blackhole`` (nothing gets through, no connection is refused),
    ``down`` (connections are reset and refused).
    """

    def __init__(self, folder: Path, upstream: Path) -> None:
        self.socket = folder / "chaos.sock"
        self.url = f"unix://{self.socket}"
        self.delay = 2.0
        self._mode = "pass"
        self._upstream = upstream
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)

    async def set(self, mode: str) -> None:
        """From now on; what is under way is dropped by ``down``, and stuck in ``blackhole``."""
        was, self._mode = self._mode, mode
        if mode == "down":
            await self.stop()
        elif was == "down":
            await self.start()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.socket.unlink(missing_ok=True)
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        with suppress(OSError, asyncio.CancelledError):
            server_reader, server_writer = await asyncio.open_unix_connection(self._upstream)
            self._writers.add(server_writer)
            with suppress(OSError, asyncio.CancelledError):
                await asyncio.gather(
                    self._copy(reader, server_writer), self._copy(server_reader, writer)
                )
            server_writer.close()
            self._writers.discard(server_writer)
        writer.close()
        self._writers.discard(writer)
        self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            while self._mode == "blackhole":
                await asyncio.sleep(0.01)
            if self._mode == "slow":
                await asyncio.sleep(self.delay)
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.fixture
async def chaos(valkey: Valkey) -> AsyncIterator[ChaosProxy]:
    """A ChaosProxy before the session's server."""
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        proxy = ChaosProxy(Path(folder), valkey.socket)
        await proxy.start()
        yield proxy
        await proxy.set("pass")
        await proxy.stop()
