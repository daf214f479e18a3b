"""Restarts, reloads and crashes under load, with clients that never retry: nobody notices."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

HERE = "/srv/llm-proxy/tests/systemd"
UPSTREAM = 9911
CONFIG = f"""
version: 1
server: {{drain: 60s}}
providers:
  up:
    kind: openai_compatible
    base_url: "http://127.0.0.1:{UPSTREAM}/v1"
    api_key: "credential:up"
  dead: {{kind: openai_compatible, base_url: "http://127.0.0.1:9/v1"}}
models:
  - {{name: m, target: up/m}}
  - {{name: dead, target: dead/m}}
"""
OVER = "/run/load-is-over"
UNITS = "/run/systemd/system"

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def house(other_box: Any) -> Iterator[Any]:
    """A box with an upstream, its configuration, and a unit that runs without a local model."""
    box = other_box
    write(box, "/etc/proxy/config.yaml", CONFIG)
    box.run("chown", "root:llm-proxy", "/etc/proxy/config.yaml")
    write(box, "/etc/proxy/credentials/up", "the-first-key\n")
    serve = "/opt/llm-proxy/current/bin/llm-proxy serve --config /etc/proxy/config.yaml"
    drop_in(box, "llm-proxy", f"ExecStart=\nExecStart={serve}")
    upstream = f"/usr/bin/python3 {HERE}/upstream.py {UPSTREAM}"
    box.run("systemd-run", "--unit=upstream", *upstream.split())
    yield box
    box.systemctl(
        "stop", "llm-proxy.target", "llm-proxy@*.service", "llm-proxy.socket", check=False
    )
    box.systemctl("stop", "llm-proxy.service", check=False)


def write(box: Any, path: str, text: str) -> None:
    box.run("sh", "-c", f"umask 027; mkdir -p $(dirname {path}); cat > {path}", said=text)


def drop_in(box: Any, unit: str, lines: str) -> None:
    """Put settings of [Service] over those of a unit."""
    write(box, f"{UNITS}/{unit}.service.d/zz-test.conf", f"[Service]\n{lines}\n")
    box.systemctl("daemon-reload")


@contextmanager
def load(box: Any, rate: int, streams: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Load while the block runs; its figures stand in what the block got, once it is over."""
    figures: dict[str, Any] = {}
    box.run("rm", "-f", OVER)
    words = ["4000", str(rate), str(streams), str(seconds), OVER]
    command = ("/usr/bin/python3", f"{HERE}/load.py", *words)
    with box.start(*command, stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == "going\n"
        yield figures
        box.run("touch", OVER)
        out, _ = running.communicate(timeout=90)
        figures.update(json.loads(out))
        print(figures)


def lossless(figures: dict[str, Any]) -> bool:
    """Whether every request was answered and every stream was whole."""
    return not figures["first_failures"] and not (
        figures["refused"] or figures["failed"] or figures["cut"]
    )


def serves(box: Any, model: str = "m") -> str:
    """Who the upstream was asked as, by one request through the proxy."""
    body = json.dumps({"model": model, "messages": [], "user": "0"})
    answer = json.loads(box.ask("http://127.0.0.1:4000/v1/chat/completions", body).stdout)
    return str(answer["choices"][0]["message"]["content"])


def test_a_restart_behind_its_socket(house: Any) -> None:
    """50 short requests a second wait for no longer than what was in flight, and 3 s."""
    house.systemctl("start", "llm-proxy.socket")
    with load(house, 50, 4, 3.0) as figures:
        for _ in range(2):
            house.systemctl("restart", "llm-proxy")
            time.sleep(1)
    house.systemctl("stop", "llm-proxy.socket", "llm-proxy.service")
    assert lossless(figures)
    assert figures["requests"] > 500
    assert figures["longest"] < 3.0 + 3.0


@pytest.fixture
def instances(house: Any) -> Iterator[Any]:
    """Two instances on one port."""
    house.systemctl("start", "llm-proxy.target", "llm-proxy@a", "llm-proxy@b")
    yield house
    house.systemctl("stop", "llm-proxy.target", "llm-proxy@a", "llm-proxy@b")


def rolling(box: Any, times: int) -> None:
    with load(box, 200, 100, 1.5) as figures:
        before = {name: box.show(f"llm-proxy@{name}", "MainPID") for name in "ab"}
        for _ in range(times):
            said = box.run("/srv/llm-proxy/scripts/rolling-restart").stdout
            assert "restarted: llm-proxy@a.service llm-proxy@b.service" in said
            after = {name: box.show(f"llm-proxy@{name}", "MainPID") for name in "ab"}
            assert not set(before.values()) & set(after.values())
            before = after
    assert lossless(figures)
    assert figures["requests"] > 1000 * times
    assert figures["streams"] > 500 * times
    active = box.systemctl("list-units", "--plain", "--no-legend", "llm-proxy@*").stdout
    assert sorted(line.split()[0] for line in active.splitlines() if " active " in line) == [
        "llm-proxy@a.service",
        "llm-proxy@b.service",
    ]


def test_two_instances_share_a_port(instances: Any) -> None:
    """Both answer on it, each with a socket and a state of its own."""
    with load(instances, 100, 10, 1.0) as figures:
        time.sleep(2)
    assert lossless(figures)
    for name in "ab":
        told = instances.run("llm-proxy", "status", "--json", "--socket", admin(name)).stdout
        status = json.loads(told)
        assert str(status["pid"]) == instances.show(f"llm-proxy@{name}", "MainPID")
        assert requests_of(instances, f"llm-proxy@{name}") > 20


def admin(name: str) -> str:
    return f"/run/llm-proxy/{name}/admin.sock"


def requests_of(box: Any, unit: str) -> int:
    lines = box.journal(unit).splitlines()
    return sum('"event":"request"' in line for line in lines)


def test_a_rolling_restart_loses_nothing(instances: Any) -> None:
    """Three times under 200 requests a second and 100 streams: none fails, none is cut."""
    rolling(instances, 3)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_rolling_restarts_lose_nothing(instances: Any) -> None:
    """The same, twenty times."""
    rolling(instances, 20)


def test_a_rolling_restart_brings_new_credentials(instances: Any) -> None:
    """LoadCredential is read at a start: the new key is used, and no request fails meanwhile."""
    assert serves(instances) == "the-first-key"
    write(instances, "/etc/proxy/credentials/up", "the-second-key\n")
    assert serves(instances) == "the-first-key"
    with load(instances, 50, 5, 1.0) as figures:
        instances.run("/srv/llm-proxy/scripts/rolling-restart")
    assert lossless(figures)
    assert {serves(instances) for _ in range(10)} == {"the-second-key"}
    write(instances, "/etc/proxy/credentials/up", "the-first-key\n")


def test_a_rolling_restart_that_can_not_start_touches_nothing(instances: Any) -> None:
    """With a broken configuration the spare fails, and both instances go on."""
    before = [instances.show(f"llm-proxy@{name}", "MainPID") for name in "ab"]
    write(instances, "/etc/proxy/config.yaml", CONFIG + "servr: {}\n")
    with load(instances, 50, 5, 1.0) as figures:
        done = instances.run("/srv/llm-proxy/scripts/rolling-restart", check=False)
    write(instances, "/etc/proxy/config.yaml", CONFIG)
    assert done.returncode == 1
    assert "nothing was touched" in done.stdout
    assert [instances.show(f"llm-proxy@{name}", "MainPID") for name in "ab"] == before
    assert lossless(figures)
    instances.systemctl("reset-failed")


@pytest.fixture
def single(house: Any) -> Iterator[Any]:
    """The one service, without its socket."""
    house.systemctl("start", "llm-proxy")
    yield house
    house.systemctl("stop", "llm-proxy")


def status(box: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(box.run("llm-proxy", "status", "--json").stdout)
    return told


def test_reloads_under_load(single: Any) -> None:
    """Twenty, every other one of a broken file: none fails, state is kept, each has its line."""
    for _ in range(6):
        body = json.dumps({"model": "dead", "messages": [], "user": "0"})
        single.ask("http://127.0.0.1:4000/v1/chat/completions", body, check=False)
    before = status(single)
    pid = single.show("llm-proxy", "MainPID")
    with load(single, 200, 100, 1.5) as figures:
        for number in range(10):
            extra = f"  - {{name: extra{number}, target: up/extra}}\n"
            reload(single, CONFIG + extra, pid)
            reload(single, CONFIG + extra + "servr: {}\n", pid)
    refused = single.show("llm-proxy", "StatusText")
    reloads = reload(single, CONFIG, pid)
    assert lossless(figures)
    assert single.show("llm-proxy", "MainPID") == pid
    assert [line["result"] for line in reloads] == ["applied", "refused"] * 10 + ["applied"]
    assert reloads[0]["changes"] == ["models: + extra0 → up/extra"]
    assert all("servr" in line["detail"] for line in reloads[1:20:2])
    assert "the last reload was refused" in refused
    assert "refused" not in single.show("llm-proxy", "StatusText")
    assert breaker(before, "dead/m") == "open"
    assert breaker(status(single), "dead/m") == "open"


def reload(box: Any, config: str, pid: str) -> list[dict[str, Any]]:
    """Reload this configuration; the lines of all reloads of the process so far."""
    before = len(reloads_of(box, pid))
    write(box, "/etc/proxy/config.yaml", config)
    box.systemctl("reload", "llm-proxy")
    deadline = time.monotonic() + 10
    while len(lines := reloads_of(box, pid)) == before:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return lines


def reloads_of(box: Any, pid: str) -> list[dict[str, Any]]:
    read = ("journalctl", "--no-pager", "-o", "cat", f"_PID={pid}", "EVENT=config_reloaded")
    return [json.loads(line) for line in box.run(*read).stdout.splitlines()]


def breaker(told: dict[str, Any], deployment: str) -> str:
    rows = {row["name"]: row for row in told["deployments"]}
    return str(rows[deployment]["breaker"])


def test_a_kill_is_followed_by_a_start(single: Any) -> None:
    """After SIGKILL it serves again within 2 s."""
    pid = single.show("llm-proxy", "MainPID")
    began = time.monotonic()
    single.run("kill", "-9", pid)
    while True:
        done = single.ask("http://127.0.0.1:4000/readyz", check=False)
        if done.returncode == 0 and single.show("llm-proxy", "MainPID") != pid:
            break
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    took = time.monotonic() - began
    print(f"serves again after {took:.2f} s")
    assert took < 2.0
    assert single.show("llm-proxy", "NRestarts") == "1"


SPOILED = """
import signal, time
from proxy_api._cli import main
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(600))
signal.signal(signal.SIGUSR2, lambda *_: len(b"x" * 10**9))
main()
"""


@pytest.fixture
def spoiled(house: Any) -> Iterator[Any]:
    """The service, which blocks its loop at SIGUSR1 and takes a gigabyte at SIGUSR2."""
    path = f"{UNITS}/llm-proxy.service.d/zzz-spoiled.conf"
    write(house, "/opt/spoiled.py", SPOILED)
    house.run("chmod", "a+r", "/opt/spoiled.py")
    python = "/opt/llm-proxy/current/bin/python /opt/spoiled.py"
    lines = f"ExecStart=\nExecStart={python} serve --config /etc/proxy/config.yaml\nWatchdogSec=2"
    lines += "\nMemoryMax=400M\nMemorySwapMax=0"
    write(house, path, f"[Service]\n{lines}\n")
    house.systemctl("daemon-reload")
    house.systemctl("start", "llm-proxy")
    yield house
    house.systemctl("stop", "llm-proxy")
    house.run("rm", path)
    house.systemctl("daemon-reload")


def restarted(box: Any, pid: str, *, seconds: float) -> str:
    """What systemd has said since the boot, once another process serves."""
    deadline = time.monotonic() + seconds
    while box.show("llm-proxy", "MainPID") in (pid, "0") or not ready(box):
        assert time.monotonic() < deadline, box.journal("llm-proxy")
        time.sleep(0.1)
    box.run("journalctl", "--sync")
    return str(box.run("journalctl", "--no-pager", "-o", "cat", "_PID=1").stdout)


def ready(box: Any) -> bool:
    return bool(box.ask("http://127.0.0.1:4000/readyz", check=False).returncode == 0)


def test_a_blocked_loop_is_killed(spoiled: Any) -> None:
    """The watchdog hears nothing from a loop that is blocked, and systemd starts another."""
    pid = spoiled.show("llm-proxy", "MainPID")
    spoiled.run("kill", "-USR1", pid)
    assert "Watchdog timeout" in restarted(spoiled, pid, seconds=20)
    assert serves(spoiled)


def test_without_memory_it_alone_is_killed(spoiled: Any) -> None:
    """Past MemoryMax the kernel kills the process, no other, and it is started again."""
    upstream = spoiled.show("upstream", "MainPID")
    pid = spoiled.show("llm-proxy", "MainPID")
    spoiled.run("kill", "-USR2", pid)
    said = restarted(spoiled, pid, seconds=20)
    # On a kernel with cgroups of the first version systemd can't tell who killed it.
    assert "oom-kill" in said or "code=killed, status=9/KILL" in said
    assert serves(spoiled)
    assert spoiled.show("upstream", "MainPID") == upstream


def test_a_configuration_that_is_wrong_is_not_tried_again(house: Any) -> None:
    """It fails once, with EX_CONFIG, and the log names the mistake; mended, it starts."""
    write(house, "/etc/proxy/config.yaml", CONFIG + "servr: {}\n")
    done = house.systemctl("start", "llm-proxy", check=False)
    time.sleep(1.5)
    assert done.returncode != 0
    assert house.show("llm-proxy", "ActiveState") == "failed"
    assert house.show("llm-proxy", "ExecMainStatus") == "78"
    assert house.show("llm-proxy", "NRestarts") == "0"
    assert "servr" in house.journal("llm-proxy")
    write(house, "/etc/proxy/config.yaml", CONFIG)
    house.systemctl("start", "llm-proxy")
    assert serves(house)
    house.systemctl("stop", "llm-proxy")


def test_a_journal_with_levels_and_fields(single: Any) -> None:
    """``journalctl -p warning`` and ``REQUEST_ID=`` find what they should."""
    serves(single)
    body = json.dumps({"model": "dead", "messages": [], "user": "0"})
    single.ask("http://127.0.0.1:4000/v1/chat/completions", body, check=False)
    single.run("journalctl", "--sync")
    read = ("journalctl", "-u", "llm-proxy", "-o", "json", "--no-pager")
    bad = [json.loads(line) for line in single.run(*read, "-p", "warning").stdout.splitlines()]
    assert bad
    assert all(int(line["PRIORITY"]) <= 4 for line in bad)
    every = [json.loads(line) for line in single.run(*read).stdout.splitlines()]
    request = next(line for line in every if line.get("EVENT") == "request")
    only = single.run(*read, f"REQUEST_ID={request['REQUEST_ID']}").stdout.splitlines()
    assert {json.loads(line)["REQUEST_ID"] for line in only} == {request["REQUEST_ID"]}
    assert json.loads(request["MESSAGE"])["request_id"] == request["REQUEST_ID"]
