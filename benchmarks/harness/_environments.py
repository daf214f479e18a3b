"""Environments for peers and for our own other columns: made once under ``.bench/envs``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness._site import ENVIRONMENTS, ROOT, BenchError, Unavailable, run, say

__all__ = ["make_node", "make_ours", "make_python", "peers_python"]

_PACKAGES = ("proxy_logging", "proxy_core", "proxy_context", "proxy_api")


def make_python(name: str, requirements: Iterable[str], *, base: str = "") -> Path:
    """An environment with these packages; returns its ``bin``. Raises Unavailable."""
    wanted = list(requirements)
    folder = ENVIRONMENTS / name
    if _is_fresh(folder, wanted):
        return folder / "bin"
    say(f"installs {' '.join(wanted)} into {folder.relative_to(ROOT)}")
    try:
        _make(folder, base or peers_python())
        _pip(folder, *wanted)
    except BenchError as error:
        raise Unavailable(f"can't be installed: {_last_line(error)}") from error
    _stamp(folder, wanted)
    return folder / "bin"


def make_ours(base: str) -> Path:
    """An environment of this checkout for another interpreter: what scripts/install brings."""
    name = "ours-" + base.strip("/").replace("/", "-")
    folder = ENVIRONMENTS / name
    requirements = [ROOT / f"scripts/requirements-{kind}.txt" for kind in ("serve", "build")]
    wanted = [path.read_text() for path in requirements]
    python = folder / "bin/python"
    if _is_fresh(folder, wanted):
        return python
    if shutil.which(base) is None:
        raise Unavailable(f"{base} is not there")
    say(f"installs this checkout into {folder.relative_to(ROOT)}, with {base}")
    try:
        _make(folder, base)
        hashed = [option for path in requirements for option in ("-r", str(path))]
        _pip(folder, "--require-hashes", "--no-deps", *hashed)
        live = [f"--editable={ROOT / 'packages' / package}" for package in _PACKAGES]
        _pip(folder, "--no-deps", "--no-build-isolation", *live)
    except BenchError as error:
        raise Unavailable(f"can't be installed: {_last_line(error)}") from error
    _stamp(folder, wanted)
    return python


def make_node(name: str, dependencies: Mapping[str, str], overrides: Mapping[str, str]) -> Path:
    """A folder with ``node_modules``. Raises Unavailable."""
    folder = ENVIRONMENTS / name
    wanted = [f"{key}@{value}" for key, value in (*dependencies.items(), *overrides.items())]
    if _is_fresh(folder, wanted):
        return folder
    if shutil.which("npm") is None:
        raise Unavailable("npm is needed: apt install npm")
    say(f"installs {' '.join(wanted)} into {folder.relative_to(ROOT)}")
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"private": True, "dependencies": dict(dependencies), "overrides": dict(overrides)}
    (folder / "package.json").write_text(json.dumps(manifest, indent=2))
    try:
        run("npm", "install", "--silent", "--no-audit", "--no-fund", cwd=folder)
    except BenchError as error:
        raise Unavailable(f"can't be installed: {_last_line(error)}") from error
    _stamp(folder, wanted)
    return folder


def peers_python() -> str:
    """Python 3.12 where there is one, pyenv's too: every peer has wheels for it."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in ("python3.12", *map(str, sorted(pyenv.glob("3.12.*/bin/python")))):
        try:
            run(python, "-c", "import ensurepip, venv")
        except BenchError:
            continue
        return python
    return sys.executable


def _make(folder: Path, base: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    run(base, "-m", "venv", folder)


def _pip(folder: Path, *words: str) -> None:
    run(folder / "bin/python", "-m", "pip", "-q", "--disable-pip-version-check", "install", *words)


def _is_fresh(folder: Path, wanted: list[str]) -> bool:
    stamp = folder / "bench-stamp"
    return stamp.is_file() and stamp.read_text() == "\n".join(wanted)


def _stamp(folder: Path, wanted: list[str]) -> None:
    (folder / "bench-stamp").write_text("\n".join(wanted))


def _last_line(error: BenchError) -> str:
    return str(error).strip().rpartition("\n")[2][:300]
