"""The commands that speak with a running process by its admin socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

__all__ = [
    "AdminFailure",
    "DEFAULT_SOCKET",
    "NobodyThere",
    "ask_explanation",
    "ask_reload",
    "ask_status",
    "told_status",
]

DEFAULT_SOCKET: Final = Path("/run/llm-proxy/admin.sock")

_PATIENCE: Final = 10.0
"""Seconds; a status asks nobody else."""
_LOADING: Final = 120.0
"""Seconds that a reload may take: it reads files, and may look for local servers."""


class AdminFailure(Exception):
    """What went wrong, in words for a person."""


class NobodyThere(AdminFailure):
    """No process is behind the socket, nor behind those of instances beside it."""


def ask_explanation(path: Path, query: dict[str, Any]) -> dict[str, Any]:
    """Where a request would go. Raises AdminFailure, also for a model that isn't there."""
    route = f"/admin/explain?{urlencode(query, doseq=True)}"
    answer = _asked(path, "GET", route, _PATIENCE)
    if problem := answer.get("problem"):
        raise AdminFailure(problem)
    return answer


def ask_status(path: Path) -> dict[str, Any]:
    """The status of the process behind this socket. Raises AdminFailure."""
    return _asked(path, "GET", "/admin/status", _PATIENCE)


def ask_reload(path: Path) -> Iterator[str]:
    """Reload, and tell what is different, line by line. Raises AdminFailure when it was refused."""
    answer = _asked(path, "POST", "/admin/reload", _LOADING)
    if answer["result"] == "refused":
        raise AdminFailure(f"refused, what ran goes on: {answer['problem']}")
    yield from answer["changes"]
    for setting in answer["needs_restart"]:
        yield f"{setting}: needs a restart"
    if answer["result"] == "unchanged":
        yield "nothing else has changed" if answer["needs_restart"] else "nothing has changed"


def told_status(status: dict[str, Any]) -> Iterator[str]:
    """A status, line by line, for people."""
    state = "draining" if status["draining"] else "ready" if status["ready"] else "not ready"
    up = _spelled(status["uptime"])
    yield f"llm-proxy {status['version']}, process {status['pid']}, up {up}: {state}"
    yield f"requests in flight  {status['in_flight']}"
    yield f"models              {status['models']}"
    yield f"configuration       {status['config'] or 'not from a file'}"
    if past := status["last_reload"]:
        yield f"last reload         {past['at']}: {past['result']}"
        yield from (f"  {line}" for line in past["problem"].splitlines())
        yield from (f"  {setting}: needs a restart" for setting in past["needs_restart"])
    yield "deployments"
    width = max((len(row["name"]) for row in status["deployments"]), default=0)
    for row in status["deployments"]:
        yield f"  {row['name']:{width}}  {_judged(row)}"


def _judged(row: dict[str, Any]) -> str:
    if row["breaker"] == "closed":
        return "in use"
    if row["retry_in"] is None:
        return "left alone until it is closed by hand"
    what = "left alone" if row["breaker"] == "open" else "being tried"
    return f"{what}, tried again in {row['retry_in']:g} s" if row["retry_in"] else "being tried"


def _spelled(seconds: int) -> str:
    minutes, left = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    given = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(given[:2]) or "0 s"


class _Connection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _asked(path: Path, method: str, route: str, timeout: float) -> dict[str, Any]:
    connection = _Connection(path, timeout)
    try:
        connection.request(method, route)
        answer = connection.getresponse()
        told = json.loads(answer.read())
    except (HTTPException, ValueError):  # first: one that says nothing is an OSError too
        raise AdminFailure(f"what answers at {path} is no LLM Proxy") from None
    except OSError as error:
        raise _failure(path, error) from None
    finally:
        connection.close()
    if answer.status not in (200, 409):
        raise AdminFailure(f"what answers at {path} is no admin socket of LLM Proxy")
    return dict(told)


def _failure(path: Path, error: OSError) -> AdminFailure:
    if isinstance(error, PermissionError):
        return AdminFailure(f"{path} may not be opened by you: use sudo")
    if isinstance(error, TimeoutError):
        told = f"the proxy at {path} does not answer: see journalctl -u llm-proxy"
        return AdminFailure(told)
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        told = f"no proxy at {path}: is it running? See systemctl status llm-proxy."
        if others := sorted(str(other) for other in path.parent.glob("*/admin.sock")):
            found = f"Instances have a socket each: --socket {' or '.join(others)}"
            return AdminFailure(f"{told} {found}")
        return NobodyThere(told)
    return AdminFailure(f"{path} can't be used: {error.strerror or error}")
