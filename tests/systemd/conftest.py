"""A box with a really booted systemd in it, and LLM Proxy installed there as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SDBOX = HERE / "sdbox"
CHECKOUT = "/srv/llm-proxy"
"""Where the box sees the copy of the clone."""
CERTIFICATES = "/srv/certificates"
"""This machine's, also in a box of another system: an index may be behind a proxy of its own."""
INSTALLED = (
    *("opt/llm-proxy", "etc/proxy", "usr/local/bin/llm-proxy"),
    *(f"usr/local/lib/{folder}" for folder in ("systemd", "sysusers.d", "tmpfiles.d", "sysctl.d")),
    *(f"etc/{file}" for file in ("passwd", "group", "shadow", "gshadow")),
)
REQUIRED = "REQUIRE_SYSTEMD"
PLAIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

Done = subprocess.CompletedProcess[str]


@dataclass
class Box:
    """A systemd of its own; ``folder`` is where sdbox keeps what it knows about it."""

    folder: Path
    clone: Path
    """The box's checkout, as this side sees it."""
    installed: Done | None = None
    """What the first `scripts/install` said."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long things took; the session's end tells those of its box."""

    def run(self, *command: str | Path, check: bool = True, **options: Any) -> Done:
        """Run a command in the box, as root; its output is text. ``said=``: its input."""
        return self._run("exec", command, check=check, env=PLAIN, **options)

    def run_with_host_network(
        self,
        *command: str | Path,
        check: bool = True,
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> Done:
        """The same, with this machine's network and pip's settings: for package indexes."""
        env = {**_networks(), **(env or {})}
        return self._run("outward", command, check=check, env=env, **options)

    def start(
        self, *command: str | Path, outward: bool = False, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command in the box; ``outward``: with this machine's network. Use it in `with`,
        and ``kill`` it if it would not end by itself.
        """
        verb, env = ("outward", _networks()) if outward else ("exec", PLAIN)
        words = [SDBOX, verb, self.folder, *command]
        return subprocess.Popen(words, env=env, text=True, start_new_session=True, **options)

    def kill(self, started: subprocess.Popen[str]) -> None:
        """Kill what was started, and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)

    def install(self, *options: str, **more: Any) -> Done:
        """Run `scripts/install` of the box's checkout."""
        return self.run_with_host_network(f"{CHECKOUT}/scripts/install", *options, **more)

    def systemctl(self, *words: str, check: bool = True) -> Done:
        return self.run("systemctl", "--no-pager", *words, check=check)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", "--property", name, "--value", unit).stdout.strip()

    def journal(self, unit: str) -> str:
        """What a unit has said since the boot, without times."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit).stdout

    def ask(self, url: str, body: str = "", check: bool = True) -> Done:
        """GET a URL from inside, or POST JSON; prints the answer's body. The system's own curl."""
        data = ["--json", body] if body else []
        curl = ("curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60")
        return self.run(*curl, *data, url, check=check)

    def _run(self, verb: str, command: Any, *, check: bool, said: str = "", **options: Any) -> Done:
        words = [str(word) for word in command]
        if "stdin" not in options:
            options["input"] = said
        done = subprocess.run(
            [SDBOX, verb, self.folder, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
            **options,
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}\n{done.stdout}"
        return done


def _stop(folder: Path) -> None:
    subprocess.run([SDBOX, "stop", folder], check=True)


def _networks() -> dict[str, str]:
    """What pip needs of this machine's environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_CERT")) or name.lower().endswith("_proxy")
    }
    return {**kept, **PLAIN, "HOME": str(Path.home())}


TIMES = pytest.StashKey[dict[str, float]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """How long installing took; a test holds it to the figure."""
    for name, seconds in config.stash.get(TIMES, {}).items():
        terminalreporter.write_line(f"systemd box: {name} {seconds:.1f} s")


@pytest.fixture(scope="session")
def needs_systemd() -> None:
    """Skips where no box can be made; with REQUIRE_SYSTEMD=1 that is a failure."""
    done = subprocess.run([SDBOX, "can"], capture_output=True, text=True, check=False)
    why = (done.stdout + done.stderr).strip() if done.returncode else ""
    if why and os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, but no systemd can be booted here: {why}")
    if why:
        pytest.skip(f"no systemd can be booted here: {why}")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks or would track, which nobody edits while the tests run."""
    copy = tmp_path_factory.mktemp("clone")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(
        ["xargs", "-0", "cp", "--parents", "--target-directory", copy],
        input=b"".join(
            name + b"\0" for name in names.split(b"\0") if name and (ROOT / name.decode()).exists()
        ),
        cwd=ROOT,
        check=True,
    )
    return copy


@pytest.fixture(scope="session")
def boxes(
    needs_systemd: None, clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Box]]:
    """``boxes()`` boots an empty one: no proxy in it, the clone at /srv/llm-proxy.

    ``boxes(DIR)`` boots the system whose root folder is DIR, instead of this machine's.
    """
    cache = Path.home() / ".cache" / "pip"
    cache.mkdir(parents=True, exist_ok=True)
    binds = f"{clone}:{CHECKOUT} {cache}:{cache} /etc/ssl/certs:{CERTIFICATES}"
    with ExitStack() as stack:

        def boot(root: Path = Path("/")) -> Box:
            folder = tmp_path_factory.mktemp("box")
            stack.callback(_stop, folder)
            env = {**os.environ, "SDBOX_BIND": binds, "SDBOX_ROOT": str(root)}
            started = time.monotonic()
            subprocess.run([SDBOX, "start", folder], env=env, check=True)
            return Box(folder, clone, seconds={"boot": time.monotonic() - started})

        yield boot


@pytest.fixture(scope="session")
def box(boxes: Callable[..., Box], pytestconfig: pytest.Config) -> Box:
    """The session's box. LLM Proxy was installed in it, from nothing, with the local model.

    Tests leave it as it was: the release installed, no unit running, /etc/proxy/config.yaml as
    it was written first.
    """
    made = boxes()
    pytestconfig.stash[TIMES] = made.seconds
    started = time.monotonic()
    made.installed = made.install("--local-model")
    made.seconds["install"] = time.monotonic() - started
    return made


@pytest.fixture(scope="module")
def other_box(box: Box, boxes: Callable[..., Box]) -> Box:
    """A box for whatever a module does to an installation: a copy of the session's, just booted."""
    made = boxes()
    files = subprocess.Popen(
        [SDBOX, "exec", box.folder, "tar", "-C", "/", "-cf", "-", *INSTALLED],
        stdout=subprocess.PIPE,
    )
    with files:
        made.run("tar", "-C", "/", "-xf", "-", stdin=files.stdout)
    made.systemctl("daemon-reload")
    made.run("systemd-tmpfiles", "--create", "/usr/local/lib/tmpfiles.d/llm-proxy.conf")
    made.run("/lib/systemd/systemd-sysctl", "/usr/local/lib/sysctl.d/llm-proxy.conf")
    made.installed = box.installed
    return made
