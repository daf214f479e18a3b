"""`scripts/install`, in a booted box: from nothing to an answer, and every way on from there."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

URL = "http://127.0.0.1:4000"
QUESTION = json.dumps(
    {"model": "smollm2", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}
)
OPT = "/opt/llm-proxy"
CONFIG = "/etc/proxy/config.yaml"
VERSION = "packages/proxy_api/src/proxy_api/_version.py"

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(300)]


def current(box: Any) -> str:
    """Return the name of the release that `current` leads to."""
    return Path(box.run("readlink", f"{OPT}/current").stdout.strip()).name


def version(box: Any) -> str:
    """Return what the installed command says of itself."""
    return str(box.run("llm-proxy", "version").stdout).split()[1]


def releases(box: Any) -> set[str]:
    """List everything in the folder of releases."""
    return set(box.run("ls", "-A", f"{OPT}/releases").stdout.split())


def answers(box: Any) -> bool:
    """Say whether a real model answers a question from outside the service."""
    answer = json.loads(box.ask(f"{URL}/v1/chat/completions", QUESTION).stdout)
    return bool(answer["choices"][0]["message"]["content"])


def everything(box: Any) -> str:
    """List every installed file with its inode, mode, owner and time of change."""
    find = "find /opt/llm-proxy /etc/proxy /usr/local/bin/llm-proxy /usr/local/lib/systemd"
    each = "-not -name .lock -printf '%p %i %m %U %G %T@ %l\\n'"
    return str(box.run("sh", "-c", f"{find} {each} | sort").stdout)


@pytest.fixture
def version_file(clone: Path) -> Iterator[Path]:
    """The file of the box's checkout that says its version, to be written by a test."""
    file = clone / VERSION
    kept = file.read_text()
    yield file
    file.write_text(kept)


def test_from_nothing_to_an_answer(box: Any) -> None:
    """One command installs; after `systemctl start` a real model answers, well within 3 minutes."""
    said = box.installed.stdout
    for line in ("with Python 3.", "writes /etc/proxy/config.yaml", "Next:", "systemctl enable"):
        assert line in said
    started = time.monotonic()
    box.systemctl("start", "llm-proxy")
    assert answers(box)
    box.seconds["start and answer"] = time.monotonic() - started
    status = box.systemctl("status", "llm-proxy").stdout
    assert "Active: active (running)" in status
    assert re.search(r"Status: \"serving; \d+ requests? in flight\"", status)
    assert box.run("llm-proxy", "chat", "--model", "smollm2", "Hello").stdout.strip()
    box.systemctl("stop", "llm-proxy")
    assert sum(box.seconds.values()) < 180


def test_connections_move_to_another_listener(box: Any) -> None:
    """The kernel is told to hand over what an instance that ends has not taken yet."""
    assert box.run("cat", "/proc/sys/net/ipv4/tcp_migrate_req").stdout == "1\n"


def test_a_first_request_starts_it(box: Any) -> None:
    """With the socket enabled nothing runs until somebody asks; that request is answered."""
    box.systemctl("enable", "--now", "llm-proxy.socket")
    assert box.show("llm-proxy", "ActiveState") == "inactive"
    assert "smollm2" in box.ask(f"{URL}/v1/models").stdout
    box.systemctl("disable", "--now", "llm-proxy.socket")
    box.systemctl("stop", "llm-proxy")


def test_who_owns_what(box: Any) -> None:
    """Code and configuration are root's; keys are root's alone; the state is the service's."""
    owned = {
        "/opt/llm-proxy/current/": "755 root:root",
        "/opt/llm-proxy/current/bin/llm-proxy": "755 root:root",
        "/etc/proxy": "750 root:llm-proxy",
        "/etc/proxy/config.yaml": "640 root:llm-proxy",
        "/etc/proxy/credentials": "700 root:root",
        "/var/lib/llm-proxy": "750 llm-proxy:llm-proxy",
    }
    found = box.run("stat", "-c", "%n=%a %U:%G", *owned).stdout.splitlines()
    assert dict(line.split("=") for line in found) == owned
    writable = box.run("find", "/opt/llm-proxy", "!", "-type", "l", "-perm", "/022").stdout
    foreign = box.run("find", "/opt/llm-proxy", "!", "-user", "root").stdout
    assert (writable, foreign) == ("", "")
    assert "nologin" in box.run("getent", "passwd", "llm-proxy").stdout


def test_a_second_run_changes_nothing(box: Any) -> None:
    """Installing what is installed leaves every file as it is, and needs no network."""
    before = everything(box)
    done = box.run("/srv/llm-proxy/scripts/install")
    assert "0.1.0 is there already" in done.stdout
    assert everything(box) == before


def test_the_configuration_is_never_overwritten(box: Any) -> None:
    """What stands in config.yaml stays; the examples beside it are the release's."""
    box.run("cp", "-a", CONFIG, f"{CONFIG}.kept")
    box.run("tee", CONFIG, said="# mine\nversion: 1\n")
    box.run("tee", "/etc/proxy/config.example.yaml", said="old")
    box.run("/srv/llm-proxy/scripts/install")
    assert box.run("cat", CONFIG).stdout == "# mine\nversion: 1\n"
    assert "providers:" in box.run("cat", "/etc/proxy/config.example.yaml").stdout
    box.run("mv", f"{CONFIG}.kept", CONFIG)


@pytest.mark.parametrize(
    ("name_server", "allowed"),
    [("169.254.169.254", "169.254.169.254"), ("fe80::1%eth0", "fe80::1"), ("192.0.2.53", "")],
)
def test_a_link_local_name_server_is_allowed(box: Any, name_server: str, allowed: str) -> None:
    """Where a cloud's name server has a link-local address, the units let it through."""
    box.run("cp", "/etc/resolv.conf", "/etc/resolv.kept")
    box.run("tee", "/etc/resolv.conf", said=f"search example.com\nnameserver {name_server}\n")
    box.run("/srv/llm-proxy/scripts/install")
    rules = [box.show(unit, "IPAddressAllow") for unit in ("llm-proxy", "llm-proxy@a")]
    box.run("cp", "/etc/resolv.kept", "/etc/resolv.conf")
    box.run("/srv/llm-proxy/scripts/install")
    assert [rule.partition("/")[0] for rule in rules] == [allowed, allowed]


def test_two_at_once_are_refused(box: Any) -> None:
    """While one runs, another one says so and does nothing."""
    with box.start("flock", f"{OPT}/.lock", "sleep", "60") as holder:
        deadline = time.monotonic() + 10
        while box.run("flock", "--nonblock", f"{OPT}/.lock", "true", check=False).returncode == 0:
            assert time.monotonic() < deadline
        done = box.run("/srv/llm-proxy/scripts/install", check=False)
        box.kill(holder)
    assert done.returncode == 1
    assert "Another scripts/install is at work" in done.stdout


def test_an_upgrade_and_the_way_back(other_box: Any, version_file: Path) -> None:
    """An upgrade takes effect at the restart, keeps one release, and can be taken back."""
    box = other_box
    box.systemctl("start", "llm-proxy")
    version_file.write_text('__version__ = "0.1.1"\n')

    refused = box.install(check=False)
    assert refused.returncode == 1
    assert "--upgrade" in refused.stdout
    assert current(box) == "0.1.0"

    done = box.install("--upgrade")
    assert "systemctl restart llm-proxy" in done.stdout
    assert (current(box), version(box), releases(box)) == ("0.1.1", "0.1.1", {"0.1.0", "0.1.1"})
    assert answers(box)  # by the release before, which still runs
    box.systemctl("restart", "llm-proxy")
    assert answers(box)  # the local model came along

    done = box.run("/srv/llm-proxy/scripts/install", "--rollback", "--restart")
    assert "0.1.0 is current" in done.stdout
    assert (current(box), version(box), releases(box)) == ("0.1.0", "0.1.0", {"0.1.0", "0.1.1"})
    pid = box.show("llm-proxy", "MainPID")
    assert "/releases/0.1.0/" in box.run("cat", f"/proc/{pid}/maps").stdout
    assert answers(box)
    box.systemctl("stop", "llm-proxy")


def kill_at(box: Any, step: str) -> None:
    """Run an upgrade until it says a step, then kill it with all that it started."""
    command = ("/srv/llm-proxy/scripts/install", "--upgrade")
    merged = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with box.start(*command, outward=True, **merged) as install:
        said = list(itertools.takewhile(lambda line: step not in line, install.stdout))
        reached = install.poll() is None
        box.kill(install)
    assert reached, f"it never said {step!r}:\n{''.join(said)}"


def test_an_interrupted_upgrade_harms_nothing(other_box: Any, version_file: Path) -> None:
    """Killed at a step, or without an index, it leaves what works; a later run finishes."""
    box = other_box
    box.systemctl("start", "llm-proxy")
    version_file.write_text('__version__ = "0.1.3"\n')
    nowhere = {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    alone = {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0"}
    offline = box.install("--upgrade", env={**nowhere, **alone}, check=False)
    assert offline.returncode == 1
    assert "nothing was switched" in offline.stdout

    version_file.write_text('__version__ = "0.1.2"\n')
    for step in ("builds the wheels", "checking each hash", "links"):
        kill_at(box, step)
        assert version(box) == "0.1.0"
        assert answers(box)
    box.install("--upgrade", "--restart")
    assert (version(box), releases(box)) == ("0.1.2", {"0.1.0", "0.1.2"})
    assert answers(box)
    box.systemctl("stop", "llm-proxy")


def test_a_root_elsewhere(box: Any, clone: Path) -> None:
    """`--root DIR --wheels DIR` stages files that run at /, and that don't know about DIR."""
    pip = (sys.executable, "-m", "pip", "--quiet")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", clone / "dist")
    packages = [
        clone / "packages" / f"proxy_{name}" for name in ("logging", "core", "context", "api")
    ]
    subprocess.run([*pip, *build, *packages], check=True)
    box.install("--root", "/srv/staged", "--wheels", "/srv/llm-proxy/dist")

    assert box.run("grep", "-rlF", "/srv/", "/srv/staged", check=False).stdout == ""
    release = f"/srv/staged{OPT}/{box.run('readlink', f'/srv/staged{OPT}/current').stdout.strip()}"
    assert release == f"/srv/staged{OPT}/releases/0.1.0"
    assert box.run("ls", f"{release}/bin").stdout.split() == ["llm-proxy", "python"]
    box.run("mv", "/srv/staged", "/srv/moved")
    moved = release.replace("staged", "moved")
    assert "0.1.0" in box.run(f"{moved}/bin/llm-proxy", "version").stdout
    caches = "find /srv/moved -name '*.pyc' | wc -l; find /srv/moved -name '*.py' | wc -l"
    compiled, sources = map(int, box.run("sh", "-c", caches).stdout.split())
    assert compiled >= sources - 20  # templates of other packages are not all Python
    again = box.run(
        "/srv/llm-proxy/scripts/install", "--root", "/srv/moved", "--wheels", "/srv/llm-proxy/dist"
    )
    assert "is there already" in again.stdout
    box.run("rm", "-rf", "/srv/moved")


def test_uninstall(other_box: Any) -> None:
    """It stops and removes everything but configuration, state and the user."""
    box = other_box
    box.systemctl("enable", "--now", "llm-proxy")
    box.run("touch", "/var/lib/llm-proxy/ledger")
    done = box.run("/srv/llm-proxy/scripts/install", "--uninstall")
    assert "What stays: /etc/proxy, /var/lib/llm-proxy" in done.stdout
    assert box.show("llm-proxy", "LoadState") == "not-found"
    gone = ("/opt/llm-proxy", "/usr/local/bin/llm-proxy")
    box.run("sh", "-c", "! ls -d " + " ".join(gone) + " 2>/dev/null")
    left = box.run("find", "/usr/local/lib", "/etc/systemd", "-name", "llm-proxy*").stdout
    assert left == ""
    box.run("ls", CONFIG, "/var/lib/llm-proxy/ledger")
    box.run("id", "llm-proxy")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_bare_debian_answers(boxes: Any, tmp_path: Path) -> None:
    """On a root of debootstrap, without Python, one command leads to an answer in 3 minutes."""
    root = tmp_path / "root"
    packages = "--include=systemd,systemd-sysv,dbus"
    bare = ("debootstrap", "--variant=minbase", packages, "bookworm", root)
    done = subprocess.run(
        bare, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"apt install debootstrap\n{done.stdout}"
    box = boxes(root)
    assert box.run("sh", "-c", "command -v python3", check=False).returncode != 0
    certificates = {"PIP_CERT": "/srv/certificates/ca-certificates.crt"}
    started = time.monotonic()
    box.install("--local-model", "--start", env=certificates)
    assert box.run("llm-proxy", "chat", "--model", "smollm2", "Hello").stdout.strip()
    assert time.monotonic() - started < 180
