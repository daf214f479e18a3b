"""Listeners that systemd opens, and the last moments of our own."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from proxy_api._inherited import address_of, inherited, is_readable, refuse_new

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


def _answers(sock: socket.socket, closing: threading.Event) -> None:
    """Serve until told, then whatever is still in the queue, then close."""
    sock.setblocking(False)
    with sock:
        while True:
            try:
                taken, _ = sock.accept()
            except BlockingIOError:
                if closing.is_set():
                    return
                select.select([sock], [], [], 0.005)
                continue
            with taken:
                taken.setblocking(True)
                taken.recv(1)
                taken.sendall(b"y")


def _asks(port: int, over: threading.Event, failures: list[str]) -> None:
    while not over.is_set():
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"y"
        except (OSError, AssertionError) as error:
            failures.append(repr(error))


def test_a_listener_that_closes_resets_nobody() -> None:
    """Of two on one port one comes and goes; who refuses newcomers first loses no connection."""
    lasting = listener()
    port = lasting.getsockname()[1]
    end, over, failures = threading.Event(), threading.Event(), list[str]()
    threads = [threading.Thread(target=_answers, args=(lasting, end))]
    threads += [threading.Thread(target=_asks, args=(port, over, failures)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(25):
        closing, passing = threading.Event(), listener(address=("127.0.0.1", port))
        server = threading.Thread(target=_answers, args=(passing, closing))
        server.start()
        time.sleep(0.05)
        refuse_new(passing)
        time.sleep(0.02)
        closing.set()
        server.join()
    over.set()
    for thread in threads[1:]:
        thread.join()
    end.set()
    threads[0].join()
    assert failures == []


def test_a_queue_is_seen(tmp_path) -> None:
    """``is_readable`` is whether somebody waits; newcomers are refused without being reset."""
    with listener() as sock:
        assert not is_readable(sock.fileno())
        with socket.create_connection(sock.getsockname()):
            assert is_readable(sock.fileno())
            refuse_new(sock)
            late = socket.socket()
            late.settimeout(0.3)
            with late, pytest.raises(TimeoutError):
                late.connect(sock.getsockname())
            assert is_readable(sock.fileno())
    with listener(socket.AF_UNIX, str(tmp_path / "socket")) as unix:
        refuse_new(unix)  # nothing to do there: the path goes first
        assert not is_readable(unix.fileno())


def test_those_who_are_connected_are_not_disturbed() -> None:
    """A connection that was accepted before or after goes on as it was."""
    with listener() as sock, socket.create_connection(sock.getsockname()) as client:
        refuse_new(sock)
        taken, _ = sock.accept()
        with taken:
            for _ in range(3):
                client.sendall(b"x" * 100_000)
                left = 100_000
                while left:
                    left -= len(taken.recv(left))
                taken.sendall(b"y")
                assert client.recv(1) == b"y"
