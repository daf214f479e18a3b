"""Lines for systemd's journal: its native protocol, and priorities for plain lines.

An entry is a datagram of ``NAME=value`` fields (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/). They
are read back from the finished line: nothing gets into the journal that the line doesn't say.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import re
import socket
import weakref
from array import array
from collections.abc import Callable

import msgspec

__all__ = ["Journal", "Prefixed", "SOCKET", "journal_lines", "stderr_is_journal"]

SOCKET = "/run/systemd/journal/socket"

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # RFC 5424, 6.2.1

_RESERVED = re.compile(  # what systemd itself sets or acts on: systemd.journal-fields(7)
    r"(MESSAGE(_ID)?|PRIORITY|ERRNO|DOCUMENTATION|TID|(USER_)?(UNIT|INVOCATION_ID)"
    r"|(CODE|SYSLOG|OBJECT|COREDUMP)_.*)\Z"
)
_BUFFER = 8 << 20  # what libsystemd asks for; net.core.wmem_max is what one gets
_MAX_FIELDS = 200  # an entry of more than 1,024 is dropped whole
_SCALARS = frozenset({str, int, float, bool})
_decode = msgspec.json.Decoder().decode
_Write = Callable[[str], None]


def journal_lines(write: _Write, *, console: bool, path: str) -> Prefixed | Journal:
    """What takes the lines of a process whose standard error, `write`, is the journal."""
    try:
        return Prefixed(write) if console else Journal(write, path)
    except OSError:  # no file descriptor left, or none of this family allowed
        return Prefixed(write)


def stderr_is_journal() -> bool:
    """Whether file descriptor 2 is what systemd says in ``JOURNAL_STREAM`` (``device:inode``).

    A child whose standard error was sent elsewhere inherits the variable: hence the comparison.
    """
    try:
        found = os.fstat(2)
    except OSError:  # closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Prefixed:
    """A method per level writes plain lines, each with the ``<N>`` that systemd reads off it."""

    def __init__(self, write: _Write) -> None:
        self.debug, self.info, self.warning, self.error, self.critical = (
            functools.partial(_prefixed, write, f"<{number}>") for number in _PRIORITIES.values()
        )


def _prefixed(write: _Write, prefix: str, text: str) -> None:
    write(prefix + text.replace("\n", f"\n{prefix}"))


class Journal:
    """A method per level sends a line of JSON as an entry of the journal; none waits or raises.

    An entry that is larger than a datagram goes as a sealed memory file. One that can't be sent
    (the journal's queue is full, its socket is gone) is written as a line with its ``<N>``.
    """

    def __init__(self, write: _Write, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        weakref.finalize(self, self._socket.close)
        plain = Prefixed(write)
        self.debug, self.info, self.warning, self.error, self.critical = (
            functools.partial(self._send, b"PRIORITY=%d\nMESSAGE=" % number, getattr(plain, level))
            for level, number in _PRIORITIES.items()
        )

    def _send(self, head: bytes, plain: _Write, line: str) -> None:
        entry = head + line.encode() + b"\n" + fields(line)
        try:
            self._socket.sendto(entry, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS) or not self._send_file(entry):
                plain(line)

    def _send_file(self, entry: bytes) -> bool:
        import fcntl  # not on every system: the package is for those too

        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        try:
            with os.fdopen(os.memfd_create("journal-entry", flags), "wb") as file:
                file.write(entry)
                file.flush()
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [file.fileno()]))
                self._socket.sendmsg([], [rights], 0, self._path)
        except OSError:
            return False
        return True


def fields(line: str) -> bytes:
    """The scalar values of a line of JSON as the protocol has them, and who speaks."""
    values = _decode(line)
    framed = b""
    if (
        "\\" in line
        or len(values) > _MAX_FIELDS
        or not _SCALARS.issuperset(map(type, values.values()))
    ):
        values, framed = _sorted_out(values)
    text = _template(tuple(values)) % tuple(
        [
            "true" if value is True else "false" if value is False else value
            for value in values.values()
        ]
    )
    speaker = f"SYSLOG_IDENTIFIER={who}\n" if (who := values.get("service")) else ""
    return (speaker + text).encode(errors="replace") + framed


def _sorted_out(values: dict[str, object]) -> tuple[dict[str, object], bytes]:
    """What fits a line each, and the fields of what has lines of its own; the rest has no field."""
    plain: dict[str, object] = {}
    framed = b""
    for name, value in itertools.islice(values.items(), _MAX_FIELDS):
        if type(value) is str and "\n" in value:
            framed += _framed(field_name(name), value.encode(errors="replace"))
        elif type(value) in _SCALARS:
            plain[name] = value
    return plain, framed


def _framed(name: str, data: bytes) -> bytes:
    """A value with line ends has its length before it, as 8 bytes, the lowest first."""
    return b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data) if name else b""


@functools.lru_cache(maxsize=512)
def _template(names: tuple[str, ...]) -> str:
    """A line of ``NAME=%s`` per field, made once: few sets of names make up all lines."""
    return "".join(f"{made}=%s\n" if (made := field_name(name)) else "%.0s" for name in names)


@functools.lru_cache(maxsize=512)
def field_name(name: str) -> str:
    """The name in the journal: at most 64 of A-Z, 0-9 and _; empty when nothing is left of it.

    It begins with a letter; what systemd gives a meaning of its own has ``FIELD_`` before it.
    """
    name = re.sub("[^A-Z0-9_]", "_", name.upper()).lstrip("_")
    taken = name[:1].isdigit() or _RESERVED.match(name)
    return (f"FIELD_{name}" if taken else name)[:64]
