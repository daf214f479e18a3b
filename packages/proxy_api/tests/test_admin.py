"""The admin socket: who may ask, what a status says, and the commands that ask."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from proxy_api import GatewayApp, Settings, create_app
from proxy_api._arrival import ADMIN_SOCKET
from proxy_api._cli import app as command
from proxy_api._cli_admin import told_status
from proxy_api._reload import Reloader
from proxy_api._version import __version__
from proxy_api.testing import serving, settings_for
from proxy_core.errors import ConfigurationError

UP = "http://127.0.0.1:9/v1"


class Marked:
    """An app as the admin socket reaches it, where the server marks each of its connections."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["extensions"] = {**(scope.get("extensions") or {}), ADMIN_SOCKET: {}}
        await self._app(scope, receive, send)


class House:
    """An app, and the file that it would load again."""

    def __init__(self) -> None:
        self.file = settings_for(UP)
        self.problem = ""
        self.app = create_app(settings=self.file)
        self.gateway = self.app.gateway
        self.gateway.reloader = Reloader(self.gateway, self._load, source="/etc/proxy/config.yaml")

    def _load(self) -> Settings:
        if self.problem:
            raise ConfigurationError(self.problem)
        return self.file

    @property
    def admin(self) -> TestClient:
        return TestClient(Marked(self.app), base_url="http://localhost")


@pytest.fixture
def house() -> House:
    return House()


ASKED = [
    ("GET", "/admin/status"),
    ("POST", "/admin/reload"),
    ("HEAD", "/admin/status"),
    ("GET", "/admin/reload"),
    ("OPTIONS", "/admin/reload"),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
@pytest.mark.parametrize("peer", [("127.0.0.1", 5000), None], ids=["loopback", "another socket"])
def test_any_other_connection_finds_nothing(
    house: House, method: str, path: str, peer: tuple[str, int] | None
) -> None:
    """Without the server's mark the routes are unknown ones, to the machine itself as well."""
    client = TestClient(house.app, base_url="http://localhost", client=peer)  # type: ignore[arg-type]
    answer = client.request(method, path, headers={ADMIN_SOCKET: "yes"})
    unknown = client.request(method, path + "x")
    assert (answer.status_code, unknown.status_code) == (404, 404)
    assert answer.text == unknown.text.replace(path + "x", path)
    if method != "HEAD":
        assert answer.json()["error"]["code"] == "not_found"
    assert house.gateway.reloader is not None
    assert house.gateway.reloader.last is None


def test_a_key_with_the_scope_admin_opens_nothing_here() -> None:
    """The socket's file alone says who may."""
    keys = [{"name": "root", "key": "root-key", "scopes": ["admin", "metrics"]}]
    client = TestClient(create_app(settings=settings_for(UP, keys=keys)))
    headers = {"authorization": "Bearer root-key"}
    assert client.get("/metrics", headers=headers).status_code == 200
    assert client.get("/admin/status", headers=headers).status_code == 404


def test_the_routes_are_not_described(house: House) -> None:
    """The API's description has nothing of them."""
    client = TestClient(house.app, base_url="http://localhost", client=("127.0.0.1", 5000))
    assert "admin" not in client.get("/openapi.json").text


def test_a_status_says_how_the_process_is(house: House) -> None:
    """Version, process, readiness, requests, models, configuration and deployments, as JSON."""
    status = house.admin.get("/admin/status").json()
    assert status.pop("uptime") < 60
    assert status == {
        "version": __version__,
        "pid": os.getpid(),
        "ready": True,
        "draining": False,
        "in_flight": 0,
        "models": 1,
        "config": "/etc/proxy/config.yaml",
        "last_reload": None,
        "deployments": [{"name": "up/chat", "breaker": "closed"}],
    }


def test_a_status_follows_what_happens(house: House) -> None:
    """Requests in flight, a drain and an open breaker are seen at once."""
    held = house.gateway.enter()
    held.deployments[0].breaker.force_open(30.0)
    house.gateway.draining = True
    status = house.admin.get("/admin/status").json()
    assert (status["in_flight"], status["draining"], status["ready"]) == (1, True, False)
    (row,) = status["deployments"]
    assert row["breaker"] == "open"
    assert 28 < row["retry_in"] <= 30
    assert house.admin.get("/readyz").status_code == 503
    held.deployments[0].breaker.force_open()
    (row,) = house.admin.get("/admin/status").json()["deployments"]
    assert row == {"name": "up/chat", "breaker": "open", "retry_in": None}


def test_a_reload_is_asked_for(house: House) -> None:
    """The answer has the changes, and what runs is the new configuration."""
    house.file = settings_for(UP, model="other", server={"port": 5000})
    answer = house.admin.post("/admin/reload")
    assert answer.status_code == 200
    assert answer.json() == {
        "result": "applied",
        "changes": ["models: + other → up/other", "models: - chat → up/chat"],
        "needs_restart": ["server.port"],
        "problem": "",
    }
    status = house.admin.get("/admin/status").json()
    assert [row["name"] for row in status["deployments"]] == ["up/other"]
    last = status["last_reload"]
    assert last["at"].startswith("20") and last["at"].endswith("+00:00")
    assert (last["result"], last["needs_restart"]) == ("applied", ["server.port"])


def test_a_refused_reload_is_answered_with_its_problem(house: House) -> None:
    """The status is 409, the problem is told, also later, and nothing has changed."""
    house.problem = "the configuration has a problem"
    answer = house.admin.post("/admin/reload")
    assert answer.status_code == 409
    assert (answer.json()["result"], answer.json()["problem"]) == ("refused", house.problem)
    status = house.admin.get("/admin/status").json()
    assert status["last_reload"]["problem"] == house.problem
    assert status["models"] == 1


def test_an_app_of_a_program_has_nothing_to_load(house: House) -> None:
    """Without a reloader a reload is refused with the reason, and a status still answers."""
    house.gateway.reloader = None
    assert house.admin.post("/admin/reload").status_code == 409
    assert "by a program" in house.admin.post("/admin/reload").json()["problem"]
    assert house.admin.get("/admin/status").json()["config"] is None


def run(*arguments: str, **environ: str) -> Any:
    return CliRunner().invoke(command, arguments, env=environ)


@pytest.fixture
def path(house: House, tmp_path: Path) -> Iterator[Path]:
    """The admin socket of a real server."""
    file = tmp_path / "admin.sock"
    with serving(Marked(house.app), uds=str(file)):
        yield file


def test_the_command_shows_a_status(house: House, path: Path) -> None:
    """For people by default, all of it as JSON when asked, by option or by the variable."""
    shown = run("status", "--socket", str(path))
    assert shown.exit_code == 0
    assert f"llm-proxy {__version__}, process {os.getpid()}" in shown.output
    assert "/etc/proxy/config.yaml" in shown.output
    told = run("status", "--json", LLM_PROXY_ADMIN_SOCKET=str(path))
    assert json.loads(told.stdout)["deployments"] == [{"name": "up/chat", "breaker": "closed"}]


def test_the_command_reloads(house: House, path: Path) -> None:
    """It prints what is different, and what needs a restart."""
    house.file = settings_for(UP, model="other", server={"port": 5000})
    done = run("reload", "--socket", str(path))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "models: + other → up/other",
        "models: - chat → up/chat",
        "server.port: needs a restart",
    ]
    house.file = settings_for(UP, model="other")
    assert run("reload", "--socket", str(path)).stdout == "nothing has changed\n"


def test_the_command_tells_why_it_was_refused(house: House, path: Path) -> None:
    """The exit status is 1, and every problem is shown."""
    house.problem = "the configuration has 2 problems:\n  - one\n  - two"
    done = run("reload", "--socket", str(path))
    assert done.exit_code == 1
    assert "  - one\n  - two" in done.stderr
    assert "goes on" in done.stderr
    shown = run("status", "--socket", str(path)).output
    assert "refused" in shown and "- two" in shown


def test_a_missing_socket_says_what_to_look_at(tmp_path: Path) -> None:
    """One line: is it running, and which instances have a socket."""
    nothing = run("status", "--socket", str(tmp_path / "admin.sock"))
    assert nothing.exit_code == 1
    assert "systemctl status llm-proxy" in nothing.stderr
    assert "--socket" not in nothing.stderr
    for name in ("blue", "green"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "admin.sock").touch()
    found = run("reload", "--socket", str(tmp_path / "admin.sock"))
    assert f"--socket {tmp_path}/blue/admin.sock or {tmp_path}/green/admin.sock" in found.stderr
    assert found.exit_code == 1
    assert len(found.stderr.splitlines()) == 1


def test_a_socket_that_nobody_serves_is_no_proxy(tmp_path: Path) -> None:
    """What a process that was killed left behind is told as such, in one line."""
    file = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(file))
    told = run("status", "--socket", str(file))
    assert (told.exit_code, len(told.stderr.splitlines())) == (1, 1)
    assert "is it running" in told.stderr


def test_a_socket_of_somebody_else_says_sudo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who may not open it is told to become somebody who may."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    told = run("reload", "--socket", str(tmp_path / "admin.sock"))
    assert (told.exit_code, "use sudo" in told.stderr) == (1, True)


ANSWERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no LLM Proxy"),
    "no HTTP": (b"hello\r\n", "no LLM Proxy"),
    "no JSON": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "no LLM Proxy"),
    "our other socket": (
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
        "no admin socket",
    ),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_no_proxy_is_told_as_such(answer: str, tmp_path: Path) -> None:
    """Whatever else answers at the socket, the command ends with one sentence."""
    sent, told = ANSWERS[answer]
    file = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(file))
        listener.listen()
        server = threading.Thread(target=_serve_once, args=(listener, sent))
        server.start()
        done = run("status", "--socket", str(file))
        server.join(5)
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert told in done.stderr


def _serve_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(answer)


STATUS: dict[str, Any] = {
    "version": "1",
    "pid": 7,
    "uptime": 93_784,
    "ready": True,
    "draining": False,
    "in_flight": 12,
    "models": 2,
    "config": None,
    "last_reload": None,
    "deployments": [
        {"name": "a/long-name", "breaker": "closed"},
        {"name": "b/x", "breaker": "open", "retry_in": 4.2},
        {"name": "c/x", "breaker": "half_open", "retry_in": 0.0},
        {"name": "d/x", "breaker": "open", "retry_in": None},
    ],
}


def test_a_status_reads_well() -> None:
    """Times in the two largest units, deployments in a column, a wait where there is one."""
    assert list(told_status(STATUS)) == [
        "llm-proxy 1, process 7, up 1 d 2 h: ready",
        "requests in flight  12",
        "models              2",
        "configuration       not from a file",
        "deployments",
        "  a/long-name  in use",
        "  b/x          left alone, tried again in 4.2 s",
        "  c/x          being tried",
        "  d/x          left alone until it is closed by hand",
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [({"ready": False}, "not ready"), ({"draining": True, "ready": False}, "draining")],
)
def test_the_first_line_says_whether_it_serves(change: dict[str, Any], word: str) -> None:
    """Not ready and draining are told apart."""
    assert next(told_status({**STATUS, **change})).endswith(f": {word}")
