"""scripts/run and its kin say what they do, and what they lack."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = (
    "scripts/*",
    "packages/**/pyproject.toml",
    "packages/**/hatch_build.py",
    "packages/**/_version.py",
)
TOOLS = ("bash", "cat", "cksum", "dirname", "env", "grep", "sed")


@pytest.mark.parametrize("script", ["run", "test", "check", "lock", "install", "bench", "mutants"])
def test_help_says_what_it_does(script: str) -> None:
    """`--help` prints the script's own first comment, and does nothing else."""
    result = subprocess.run(
        [ROOT / "scripts" / script, "--help"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith(f"scripts/{script}")
    assert not result.stderr


def _run_with(python: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run scripts/run of a bare copy, where `python3` is the given shell script."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    (tools / "python3").write_text(f"#!/bin/sh\n{python}\n")
    (tools / "python3").chmod(0o755)
    for path in (path for pattern in NEEDED for path in ROOT.glob(pattern)):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return subprocess.run(
        [tmp_path / "scripts" / "run"],
        env={**os.environ, "PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """Without a Python that will do, scripts/run names the Debian packages and exits with 2."""
    result = _run_with("echo 3.9; exit 1", tmp_path)
    assert result.returncode == 2, result.stderr
    assert "apt install python3 python3-venv" in result.stderr


def test_a_python_without_venv_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """Where Debian's Python lacks its venv module, scripts/run names the package that has it."""
    no_venv = 'case "$2" in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac'
    result = _run_with(no_venv, tmp_path)
    assert result.returncode == 2, result.stderr
    assert "apt install python3.12-venv" in result.stderr


def _install(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "install", *options], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--forward"], "--forward is no option"), (["--root"], "--root needs a folder")],
)
def test_an_option_that_install_does_not_know(options: list[str], told: str) -> None:
    """What can't be meant is refused with 2 before anything is done, and help is named."""
    result = _install(*options)
    assert result.returncode == 2
    assert told in result.stderr and "--help" in result.stderr


def test_wheels_of_all_four_packages_are_needed(tmp_path: Path) -> None:
    """A folder with fewer is refused by the names of the four, and nothing is installed."""
    (tmp_path / "proxy_api-0.1.0-py3-none-any.whl").touch()
    result = _install("--root", tmp_path / "staged", "--wheels", tmp_path)
    assert result.returncode == 1
    assert "proxy_logging, proxy_core, proxy_context, proxy_api" in result.stderr
    assert not list((tmp_path / "staged/opt/llm-proxy/releases").iterdir())


def test_a_rollback_without_a_release_before(tmp_path: Path) -> None:
    """There is nothing to return to, and it says so."""
    command = [str(ROOT / "scripts/install"), "--root", ".", "--rollback"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"There is no release to go back to: {tmp_path}/opt/llm-proxy" in result.stderr
