"""What systemd is told, by sd_notify(3): a datagram of assignments. Elsewhere nothing is told."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

__all__ = ["Notifier"]

_PATIENCE = 0.5
"""Seconds that a full socket of the manager may hold us up, for what is said only once."""
_RETRY = 0.02
_LONGEST_STATUS = 500


class Notifier:
    """Speaks to the service manager whose address was given; with none, every verb does nothing.

    It never raises: a manager that doesn't listen is no reason not to serve.
    """

    def __init__(self, address: str = "", *, watchdog: float | None = None) -> None:
        self._socket: socket.socket | None = None
        self._status = ""
        self.watchdog = watchdog
        """Seconds within which the manager wants a sign of life; None: it wants none."""
        if address:
            self._address = "\0" + address[1:] if address.startswith("@") else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """By ``$NOTIFY_SOCKET``. Its variables are taken out: they are not for our children."""
        address = environ.pop("NOTIFY_SOCKET", "")
        micros = environ.pop("WATCHDOG_USEC", "")
        whose = environ.pop("WATCHDOG_PID", "")
        watched = micros.isdecimal() and whose in ("", str(os.getpid()))
        return cls(
            address if address[:1] in ("/", "@") else "",
            watchdog=int(micros) / 1e6 if address and watched else None,
        )

    @property
    def is_heard(self) -> bool:
        """Whether there is a manager."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """It serves: after the start, and after a reload."""
        self._tell("READY=1", self._said(status), patience=_PATIENCE)

    def reloading(self) -> None:
        micros = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={micros}", patience=_PATIENCE)

    def stopping(self, status: str) -> None:
        self._tell("STOPPING=1", self._said(status), patience=_PATIENCE)

    def status(self, text: str) -> None:
        """The line of ``systemctl status``; told when it is another one."""
        if text != self._status:
            self._tell(self._said(text))

    def alive(self) -> None:
        """The sign of life that the watchdog waits for."""
        if self.watchdog is not None:
            self._tell("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Starting or stopping takes at least so much longer, from now."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _said(self, status: str) -> str:
        self._status = status
        return f"STATUS={' '.join(status.split())[:_LONGEST_STATUS]}"

    def _tell(self, *assignments: str, patience: float = 0.0) -> None:
        if self._socket is None:
            return
        told = "\n".join(assignments).encode()
        last = time.monotonic() + patience
        with suppress(OSError):
            while not self._sent(told) and time.monotonic() < last:
                time.sleep(_RETRY)

    def _sent(self, told: bytes) -> bool:
        """False when the manager's queue is full. What is said again anyway may be lost then."""
        try:
            if self._socket is not None:
                self._socket.sendto(told, self._address)
        except BlockingIOError:
            return False
        return True
