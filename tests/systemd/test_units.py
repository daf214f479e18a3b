"""The units: what systemd thinks of them, and what their sandbox leaves to the process."""

from __future__ import annotations

import difflib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
SERVICES = ("llm-proxy.service", "llm-proxy@.service")
URL = "http://127.0.0.1:4000"
ACCOUNT = "llm-proxy"

pytestmark = pytest.mark.systemd


@pytest.fixture(scope="module")
def running(box: Any) -> Iterator[Any]:
    """The session's box while llm-proxy.service runs there, with a key among its credentials."""
    box.run("tee", "/etc/proxy/credentials/openai", said="sk-of-the-provider\n")
    box.systemctl("start", "llm-proxy")
    yield box
    box.systemctl("stop", "llm-proxy")
    box.run("rm", "/etc/proxy/credentials/openai")


def facts(box: Any, unit: str = "llm-proxy") -> dict[str, str]:
    """Return what the kernel says about a unit's main process."""
    status = box.run("cat", f"/proc/{box.show(unit, 'MainPID')}/status").stdout
    return {
        name: value.strip() for name, _, value in (s.partition(":") for s in status.splitlines())
    }


def within(box: Any, script: str, user: str = ACCOUNT) -> subprocess.CompletedProcess[str]:
    """Run shell lines with the process's files and folders, as the sandbox shows them."""
    pid = box.show("llm-proxy", "MainPID")
    person = (f"--reuid={user}", f"--regid={user}", "--clear-groups")
    joined = ("nsenter", "--target", pid, "--mount", "setpriv", *person)
    done: subprocess.CompletedProcess[str] = box.run(*joined, "sh", "-c", script, check=False)
    return done


def test_systemd_finds_nothing_to_say(box: Any) -> None:
    """`systemd-analyze verify` is silent about every unit, as it was installed."""
    kinds = ("service", "socket", "target", "slice")
    names = sorted(path.name for kind in kinds for path in UNITS.glob(f"*.{kind}"))
    assert len(names) == 5
    paths = [f"/usr/local/lib/systemd/system/{name}" for name in names]
    assert box.run("systemd-analyze", "verify", "--man=no", *paths).stdout == ""


@pytest.mark.parametrize("service", SERVICES)
def test_little_is_exposed(box: Any, service: str) -> None:
    """`systemd-analyze security` scores each service at 1.3 or better."""
    at_most = ("security", "--offline=true", "--threshold=13")
    box.run("systemd-analyze", *at_most, f"/usr/local/lib/systemd/system/{service}")


def test_the_two_services_differ_in_names_alone() -> None:
    """An instance has the sandbox of the single process, line for line."""
    single, instance = ((UNITS / name).read_text().splitlines() for name in SERVICES)
    changes = [
        line
        for line in difflib.ndiff(single, instance)
        if line[0] in "+-" and not line[2:].startswith("#")
    ]
    config = "/opt/llm-proxy/current/bin/llm-proxy serve --config /etc/proxy/config.yaml"
    assert changes == [
        "- Description=LLM Proxy, a gateway to large language models",
        "+ Description=LLM Proxy, a gateway to large language models, process %i",
        "+ PartOf=llm-proxy.target",
        "+ Conflicts=llm-proxy.service llm-proxy.socket",
        "+ After=llm-proxy.service llm-proxy.socket",
        f"- ExecStart={config}",
        f"+ ExecStart={config} --reuse-port",
        "- StateDirectory=llm-proxy",
        "+ StateDirectory=llm-proxy/%i",
        "- RuntimeDirectory=llm-proxy",
        "+ RuntimeDirectory=llm-proxy/%i",
        "- NoExecPaths=/var/lib/llm-proxy /run/llm-proxy /tmp /var/tmp /dev/shm",
        "+ NoExecPaths=/var/lib/llm-proxy/%i /run/llm-proxy/%i /tmp /var/tmp /dev/shm",
        "- WantedBy=multi-user.target",
        "+ WantedBy=llm-proxy.target",
    ]


def test_the_process_has_no_powers(running: Any) -> None:
    """It runs as its own user, without capabilities, new privileges or unfiltered system calls."""
    found = facts(running)
    uid = running.run("id", "-u", ACCOUNT).stdout.strip()
    assert set(found["Uid"].split()) == {uid} and uid != "0"
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == 0
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize(
    "folder", ["/etc/proxy", "/opt/llm-proxy/current/lib", "/usr/local/bin", "/var/lib", "/run"]
)
def test_the_system_can_not_be_written(running: Any, folder: str) -> None:
    """Folders of the system are read-only there, even for root; its code and configuration too."""
    done = within(running, f"touch {folder}/mine", "root")
    assert done.returncode != 0
    assert "Read-only file system" in done.stdout


@pytest.mark.parametrize(
    "folder", ["/var/lib/llm-proxy", "/run/llm-proxy", "/tmp", "/var/tmp", "/dev/shm"]
)
def test_what_it_writes_can_not_be_run(running: Any, folder: str) -> None:
    """It has folders of its own to write to; a program that is dropped there does not run."""
    drop = f"cp /usr/bin/true {folder}/dropped || exit; {folder}/dropped; code=$?; "
    done = within(running, drop + f"rm {folder}/dropped; exit $code")
    assert done.returncode == 126, done.stdout


def test_other_processes_are_invisible(running: Any) -> None:
    """It sees processes of its own user only, and nothing of /proc but processes."""
    seen = within(running, "stat -c %U /proc/[0-9]* | sort -u; ls /proc/meminfo")
    assert seen.stdout.split("\n")[0] == ACCOUNT
    assert "cannot access '/proc/meminfo'" in seen.stdout


def test_credentials_are_for_the_service_alone(running: Any) -> None:
    """The service reads a copy of the provider's key; any other user reads neither file."""
    copy = "/run/credentials/llm-proxy.service/proxy_openai"
    assert within(running, f"cat {copy}").stdout == "sk-of-the-provider\n"
    for path in (copy, "/etc/proxy/credentials/openai"):
        done = running.run("setpriv", "--reuid=nobody", "--clear-groups", "cat", path, check=False)
        assert "Permission denied" in done.stdout


def test_a_credential_is_a_providers_key(running: Any) -> None:
    """A file of /etc/proxy/credentials is `credential:NAME`; without it there is no start."""
    rows = {
        "providers": {"a": {"kind": "openai", "api_key": "credential:openai"}},
        "models": [{"name": "chat", "target": "a/chat"}],
    }
    running.run("cp", "-a", "/etc/proxy/config.yaml", "/etc/proxy/config.kept")
    running.run("tee", "/etc/proxy/config.yaml", said=json.dumps(rows))
    try:
        running.systemctl("restart", "llm-proxy")
        listed = json.loads(running.ask(f"{URL}/v1/models").stdout)["data"]
        assert "chat" in [model["id"] for model in listed]
        running.run("mv", "/etc/proxy/credentials/openai", "/etc/proxy/kept")
        assert running.systemctl("restart", "llm-proxy", check=False).returncode != 0
        running.run("mv", "/etc/proxy/kept", "/etc/proxy/credentials/openai")
        assert running.show("llm-proxy", "ExecMainStatus") == "78"
        assert running.show("llm-proxy", "NRestarts") == "0"
        assert "providers.a.api_key" in running.journal("llm-proxy")
    finally:
        running.run("mv", "/etc/proxy/config.kept", "/etc/proxy/config.yaml")
        running.systemctl("restart", "llm-proxy")


def test_the_network_ends_before_link_local_addresses(running: Any) -> None:
    """Packets to where clouds hand out credentials are dropped, loopback ones are not."""
    running.run("ip", "address", "add", "169.254.169.254/16", "dev", "lo")
    code = (
        "import socket\n"
        "def reaches(host):\n"
        "    with socket.create_server((host, 0)) as server:\n"
        "        try: socket.create_connection(server.getsockname(), 1).close()\n"
        "        except OSError: return False\n"
        "        return True\n"
        "print(reaches('127.0.0.1'), reaches('169.254.169.254'))\n"
    )
    denied = running.show("llm-proxy", "IPAddressDeny").split()
    for rules, expected in ([], "True True"), (denied, "True False"):
        properties = [f"--property=IPAddressDeny={' '.join(rules)}"] if rules else []
        run = ("systemd-run", "--quiet", "--wait", "--pipe", *properties)
        assert running.run(*run, "/usr/bin/python3", "-c", code).stdout.strip() == expected
    running.run("ip", "address", "del", "169.254.169.254/16", "dev", "lo")
