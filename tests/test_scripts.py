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


@pytest.mark.parametrize("script", ["run", "test", "check", "lock"])
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
