"""A package imports only those below it: api, then core and context, then logging."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()"]


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    sources = os.pathsep.join(str(path) for path in root.glob("packages/*/src"))
    return subprocess.run(
        [*LINT, "--no-cache", "--config", root / "pyproject.toml"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": sources},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_arrows_hold() -> None:
    """The import-linter contract of the root's pyproject.toml is kept."""
    result = _lint(ROOT)
    assert result.returncode == 0, result.stdout
    assert "1 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("package", "sibling"),
    [
        ("proxy_logging", "proxy_core"),
        ("proxy_logging", "proxy_api"),
        ("proxy_core", "proxy_context"),
        ("proxy_context", "proxy_core"),
        ("proxy_core", "proxy_api"),
    ],
)
def test_an_arrow_against_the_order_is_found(tmp_path: Path, package: str, sibling: str) -> None:
    """An import of a package that is not below breaks the contract."""
    for name in ("proxy_api", "proxy_context", "proxy_core", "proxy_logging"):
        source = tmp_path / "packages" / name / "src" / name
        source.mkdir(parents=True)
        (source / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    new = tmp_path / "packages" / package / "src" / package / "_new.py"
    new.write_text(f"import {sibling}\n")
    result = _lint(tmp_path)
    assert result.returncode == 1, result.stderr
    assert f"{package}._new -> {sibling}" in result.stdout
