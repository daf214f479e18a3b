"""What the service manager hears, on a datagram socket as systemd's."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy_api._notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), "PATH": "/bin", **more}


def heard(manager: socket.socket) -> dict[str, str]:
    lines = manager.recv(4096).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_what_is_told(manager: socket.socket) -> None:
    """Each verb is a datagram of the assignments that sd_notify(3) names."""
    notifier = Notifier.from_environment(
        environment(manager, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
    )
    notifier.ready("serving\nwell")
    assert heard(manager) == {"READY": "1", "STATUS": "serving well"}
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    told = heard(manager)
    assert told.pop("RELOADING") == "1"
    assert before <= int(told.pop("MONOTONIC_USEC")) < before + 60_000_000
    assert told == {}
    notifier.stopping("draining")
    assert heard(manager) == {"STOPPING": "1", "STATUS": "draining"}
    notifier.extend(1.5)
    assert heard(manager) == {"EXTEND_TIMEOUT_USEC": "1500000"}
    notifier.alive()
    assert heard(manager) == {"WATCHDOG": "1"}
    assert notifier.watchdog == 3.0
    notifier.close()


def test_a_status_is_told_once(manager: socket.socket) -> None:
    """The same text again is no news; a text of any length fits."""
    notifier = Notifier(manager.getsockname())
    for text in ("serving", "serving", "x" * 10_000):
        notifier.status(text)
    notifier.alive()  # nobody watches: not told
    assert heard(manager) == {"STATUS": "serving"}
    assert heard(manager) == {"STATUS": "x" * 500}
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(10)
    notifier.close()


def test_children_don_t_inherit_it(manager: socket.socket) -> None:
    """The variables are gone from the environment once they are read."""
    environ = environment(manager, WATCHDOG_USEC="1", WATCHDOG_PID="1")
    notifier = Notifier.from_environment(environ)
    assert notifier.is_heard
    assert notifier.watchdog is None  # the watched process is another one
    assert environ == {"PATH": "/bin"}
    notifier.close()


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    """No address, an odd one, or nobody behind it: every verb returns."""
    for address in ("", "vsock:2:1234", str(tmp_path / "nobody"), "@nobody"):
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
        notifier.ready("serving")
        notifier.reloading()
        notifier.status("serving")
        notifier.stopping("stopping")
        notifier.close()
        assert not notifier.is_heard


def test_an_abstract_address(tmp_path: Path) -> None:
    """``@name`` is a socket without a file, as the manager of a container may have."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0llm-proxy-{tmp_path.name}")
        manager.settimeout(5)
        notifier = Notifier(f"@llm-proxy-{tmp_path.name}")
        notifier.ready("serving")
        assert heard(manager)["READY"] == "1"
        notifier.close()


def test_a_manager_that_does_not_read_holds_nobody_up(manager: socket.socket) -> None:
    """With its queue full a sign of life is dropped at once; READY waits for a moment only."""
    notifier = Notifier(manager.getsockname(), watchdog=1.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"X=1", manager.getsockname())
    began = time.monotonic()
    for number in range(100):
        notifier.alive()
        notifier.status(f"status {number}")
        notifier.extend(1)
    assert time.monotonic() - began < 0.1
    notifier.ready("serving")
    assert 0.4 < time.monotonic() - began < 2
    notifier.close()


def test_systemd_s_own_tool_says_the_same(manager: socket.socket) -> None:
    """systemd-notify --ready sends what ``ready`` sends."""
    subprocess.run(
        ["systemd-notify", "--no-block", "--ready", "--status=serving"],
        env=environment(manager),
        check=True,
    )
    theirs = heard(manager)
    notifier = Notifier(manager.getsockname())
    notifier.ready("serving")
    assert heard(manager) == {name: theirs[name] for name in ("READY", "STATUS")}
    notifier.close()
