"""Listeners that systemd opens, and the last moments of our own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from proxy_api._inherited import address_of, inherited, is_readable, taken_from

_TELL = """
import json, os
from proxy_api._inherited import address_of, inherited
from proxy_core.errors import ConfigurationError
environ = dict(os.environ)
try:
    found = inherited(environ)
    print(json.dumps([address_of(found), [sock.get_inheritable() for sock in found],
                      sorted(name for name in environ if name.startswith("LISTEN"))]))
except ConfigurationError as error:
    print(json.dumps(error.message))
"""
_AS_SYSTEMD = """
import os, socket, sys
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[1], LISTEN_FDNAMES="http")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""


def told_to(*sockets: socket.socket, count: int | None = None) -> object:
    """What a process finds that is started with these from descriptor 3 on, as systemd does."""
    # dup2 in the child puts them there; the shell's own redirections are the plainest way.
    words = " ".join(f"{3 + i}<&{sock.fileno()}" for i, sock in enumerate(sockets))
    passed = len(sockets) if count is None else count
    command = [sys.executable, "-c", _AS_SYSTEMD, str(passed), _TELL]
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {words}', "-", *command],
        pass_fds=[sock.fileno() for sock in sockets],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def listener(family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0)) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)
    sock.listen(4096)
    return sock


def test_the_sockets_of_systemd_are_found() -> None:
    """They are taken by number, are ours alone, and the address is theirs."""
    with listener() as first:
        host, port = first.getsockname()
        assert told_to(first) == [{"host": host, "port": port}, [False], []]


def test_the_address_that_most_can_reach_counts(tmp_path) -> None:
    """Of several, the one that isn't loopback decides whether keys are needed."""
    with (
        listener(socket.AF_UNIX, str(tmp_path / "socket")) as unix,
        listener() as local,
        listener(address=("0.0.0.0", 0)) as everywhere,
    ):
        assert address_of([unix]) == {"uds": str(tmp_path / "socket")}
        assert address_of([unix, local])["host"] == "127.0.0.1"
        assert address_of([unix, everywhere, local])["host"] == "0.0.0.0"
        assert address_of([local, everywhere, unix])["host"] == "0.0.0.0"


def test_variables_of_another_process_are_not_ours() -> None:
    """Without LISTEN_PID, or with another's, there are none."""
    assert inherited({}) == []
    assert inherited({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []
    assert inherited({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}) == []


def test_what_is_no_listener_is_told() -> None:
    """A connected socket (Accept=yes) and a missing descriptor are one sentence."""
    here, there = socket.socketpair()
    with here, there:
        assert "Accept=no" in str(told_to(here))
    assert "is no socket" in str(told_to(count=1))


def test_what_waits_is_taken(tmp_path: Path) -> None:
    """Connections that nobody has taken survive the end of their listener, with their bytes."""
    unix = listener(socket.AF_UNIX, str(tmp_path / "socket"))
    for sock in (listener(), unix):
        with sock, ExitStack() as stack:
            clients = [stack.enter_context(socket.socket(sock.family)) for _ in range(20)]
            for client in clients:
                client.connect(sock.getsockname())
                client.sendall(b"x")
            assert is_readable(sock.fileno())
            taken = [stack.enter_context(each) for each in taken_from(sock)]
            assert not is_readable(sock.fileno())
            sock.close()
            assert [each.recv(1) for each in taken] == [b"x"] * 20
            for each in taken:
                each.sendall(b"y")
            assert [client.recv(1) for client in clients] == [b"y"] * 20
    assert taken_from(unix) == []
