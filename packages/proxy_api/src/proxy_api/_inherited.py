"""Listeners that outlive a process: systemd's, and the last moments of our own."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterable, MutableMapping
from contextlib import suppress

from proxy_api._loopback import is_loopback
from proxy_core.errors import ConfigurationError

__all__ = ["address_of", "inherited", "is_readable", "taken_from"]

_FIRST_FD = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd listens on for us, by sd_listen_fds(3); none anywhere else.

    Its variables are taken out: they are not for our children. Raises ConfigurationError for what
    is no listening stream socket.
    """
    count, whose = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if whose != str(os.getpid()) or not count.isdecimal():
        return []
    return [_listener(number) for number in range(_FIRST_FD, _FIRST_FD + int(count))]


def address_of(sockets: Iterable[socket.socket]) -> dict[str, str | int]:
    """``host`` and ``port``, or ``uds``, as settings: of the socket that most others can reach."""
    found: dict[str, str | int] = {}
    for sock in sockets:
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            found = found or {"uds": os.fsdecode(name)}
        elif "host" not in found or is_loopback(str(found["host"])):
            found = {"host": name[0], "port": name[1]}
    return found


def taken_from(sock: socket.socket) -> list[socket.socket]:
    """What waits in the queue of a listener. Closing the listener would reset it."""
    taken: list[socket.socket] = []
    with suppress(OSError):
        sock.setblocking(False)
        while True:
            taken.append(sock.accept()[0])
    return taken


def is_readable(number: int) -> bool:
    """Whether something waits to be taken: bytes, an end, or in a listener's queue a connection."""
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _listener(number: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
        listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        )
    except OSError as error:
        raise ConfigurationError(
            f"the file descriptor {number} that systemd passed is no socket: {error.strerror}"
        ) from None
    if not listens:
        raise ConfigurationError(
            f"the file descriptor {number} that systemd passed does not listen: use ListenStream= "
            "and Accept=no in the socket unit"
        )
    sock.set_inheritable(False)
    return sock
