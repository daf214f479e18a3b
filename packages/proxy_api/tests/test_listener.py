"""The sockets to listen on: what can't be listened on is one sentence with a remedy."""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from proxy_api._listener import check_tls, listen
from proxy_api._settings_models import ServerSettings, TlsSettings
from proxy_core.errors import ConfigurationError


def refusal(**server: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        listen(ServerSettings(**server))
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_taken_port_is_told() -> None:
    """The second proxy on a port says which, and how to choose another."""
    (first,) = listen(ServerSettings(port=0))
    with first:
        port = first.getsockname()[1]
        assert refusal(port=port) == f"port {port} of 127.0.0.1 is taken: use --port"


def test_an_address_of_another_machine_is_told() -> None:
    """An address that can't be bound, and a name that leads nowhere, are named."""
    assert refusal(host="192.0.2.1", port=0) == (
        "192.0.2.1 is no address of this machine: use --host"
    )
    assert "nowhere.invalid" in refusal(host="nowhere.invalid")


def test_a_privileged_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel refuses a low port, the remedy is a higher one."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert refusal(port=80) == "port 80 needs privileges: use --port with 1024 or above"


def test_brackets_of_ipv6_are_understood() -> None:
    """``[::1]``, as URLs write it, is the address without them."""
    assert ServerSettings(host="[::1]").host == "::1"


def test_a_socket_is_for_its_group_and_replaces_a_stale_one(tmp_path: Path) -> None:
    """The file has mode 0660; while somebody answers it is refused, afterwards it is replaced."""
    path = tmp_path / "s.sock"
    (first,) = listen(ServerSettings(uds=str(path)))
    with first:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert "another process answers" in refusal(uds=str(path))
    (second,) = listen(ServerSettings(uds=str(path)))
    with second, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_path_that_can_not_be_a_socket_is_told(tmp_path: Path) -> None:
    """A file of somebody's stays, a missing folder and a long path are named."""
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    assert "is no socket" in refusal(uds=str(file))
    assert file.read_text() == "mine"
    assert str(tmp_path / "none") in refusal(uds=str(tmp_path / "none" / "s.sock"))
    assert "107" in refusal(uds=str(tmp_path / ("s" * 108)))


def test_unusable_certificates_are_told(tmp_path: Path) -> None:
    """A file that isn't there is named, and so is one that is no certificate."""
    missing = str(tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match=missing):
        check_tls(TlsSettings(cert=missing, key=missing))
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ConfigurationError, match=str(wrong)):
        check_tls(TlsSettings(cert=str(wrong), key=str(wrong)))
