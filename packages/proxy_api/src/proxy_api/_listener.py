"""The sockets to listen on. They are bound before anything starts: what is wrong is one line."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path

from proxy_api._settings_models import ServerSettings, TlsSettings
from proxy_core.errors import ConfigurationError

__all__ = ["CannotListen", "check_tls", "listen", "unix_socket"]

_BACKLOG = 4096
_LONGEST_PATH = 107
"""Bytes: Linux keeps 108 for a socket's path, the last one is zero (unix(7))."""
_SOCKET_MODE = 0o660
_MISSING_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class CannotListen(ConfigurationError):
    """The address can't be listened on: now, or ever."""


def listen(server: ServerSettings) -> list[socket.socket]:
    """Listening sockets, one for each address of the host. Raises CannotListen."""
    if server.uds is not None:
        return [unix_socket(server.uds)]
    return _port_sockets(server.host, server.port, shared=server.reuse_port)


def _port_sockets(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"the host {host!r} can't be looked up: {error}") from None
    bound: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in dict.fromkeys((row[0], row[4]) for row in found):
        try:
            bound.append(_port_socket(family, address, shared=shared))
        except OSError as error:
            # A machine without IPv6 may still name ::1 for localhost.
            missing = error
            if error.errno not in _MISSING_HERE:
                bound = _closed(bound)
                break
    if missing is not None and not bound:
        raise CannotListen(_told(missing, host, port))
    return bound


def _closed(sockets: list[socket.socket]) -> list[socket.socket]:
    for each in sockets:
        each.close()
    return []


def _port_socket(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            # The kernel shares connections out among the processes of one user that all say so.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _told(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken: use --port"
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges: use --port with 1024 or above"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: use --host"
    return f"port {port} of {host} can't be listened on: {error.strerror}"


def unix_socket(path: str) -> socket.socket:
    """One at ``path``, for its owner and group alone. Raises CannotListen."""
    length = len(os.fsencode(path))
    if length > _LONGEST_PATH:
        raise CannotListen(
            f"the path of the socket has {length} bytes, {_LONGEST_PATH} are possible: "
            "use --uds with a shorter one"
        )
    if not Path(path).parent.is_dir():
        raise CannotListen(f"there is no folder {Path(path).parent} for the socket: make it")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_room(Path(path))
        sock.bind(path)
        # Nobody can connect before listen().
        Path(path).chmod(_SOCKET_MODE)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotListen(f"{path} can't be listened on: {error.strerror}") from None
    except CannotListen:
        sock.close()
        raise
    return sock


def _make_room(path: Path) -> None:
    """Remove the socket of a process that is gone."""
    if not os.path.lexists(path):
        return
    if not path.is_socket():
        raise CannotListen(f"{path} is there and is no socket: remove it, or use --uds")
    if _answers(path):
        raise CannotListen(f"another process answers at {path}: stop it, or use --uds")
    with suppress(FileNotFoundError):
        path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except (TimeoutError, BlockingIOError):  # it listens, and is busy
            return True
    return True


def check_tls(tls: TlsSettings) -> None:
    """That certificate and key can be used. Raises ConfigurationError."""
    try:
        for file in (tls.cert, tls.key):
            Path(file).open("rb").close()
    except OSError as error:
        raise ConfigurationError(
            f"server.tls: {error.filename} can't be read: {error.strerror}"
        ) from None
    try:
        # A password that is given keeps ssl from asking for one on the terminal.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            tls.cert, tls.key, password=""
        )
    except OSError as error:  # what ssl raises is one
        raise ConfigurationError(
            f"server.tls: {tls.cert} and {tls.key} are no certificate and its key, both PEM "
            f"and without a password: {error.strerror}"
        ) from None
