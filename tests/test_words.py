"""No open ends in the code, and nothing that only one machine knows."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A letter in brackets keeps this file from finding itself.
OPEN_END = re.compile(
    r"\b(TO[D]O|FIX[M]E|X[X]X)\b|NotImplemented[E]rror"
    r"|mark\.(s[k]ip|x[f]ail)|pytest\.(s[k]ip|x[f]ail|importor[s]kip)\("
)
ELSEWHERE = re.compile(
    r"\.\./(s[h]ared|\.l[i]brary)|/w[o]rk/|/tmp/d[e]v|/r[o]ot/|/opt/(w[h]eels|p[y]pi)"
)

MAY_SKIP = "tests/systemd/conftest.py:"
"""Where a machine without namespaces is found out. REQUIRE_SYSTEMD makes it a failure."""


def _files(*patterns: str) -> list[Path]:
    """List what git tracks or would track, without what is deleted or binary."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    names = subprocess.run(
        [*command, *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [path for name in set(names.split("\0")) if name and (path := ROOT / name).is_file()]


def _lines(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in sorted(files)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_there_are_no_open_ends() -> None:
    """Packages and tests hold no reminders, no stubs and no tests that are skipped."""
    files = _files("packages/*.py", "tests/*.py")
    assert files
    found = _lines(OPEN_END, files)
    (excused,) = (line for line in found if line.startswith(MAY_SKIP))
    assert excused.endswith(".sk" 'ip(f"no systemd can be booted here: {why}")')
    assert found == [excused]


def test_nothing_points_outside_the_clone() -> None:
    """No file but those of .ci names a folder that only one machine has."""
    files = [path for path in _files() if ".ci" not in path.relative_to(ROOT).parts]
    assert files
    assert _lines(ELSEWHERE, files) == []


def test_each_test_states_its_promise() -> None:
    """Every test function has a docstring."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in _files("packages/*/tests/*.py", "tests/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (OPEN_END, "# TO" + "DO: later"),
        (OPEN_END, "raise NotImplemented" + "Error"),
        (OPEN_END, "@pytest.mark.ski" + "pif(True)"),
        (OPEN_END, "pytest.importor" + "skip('redis')"),
        (ELSEWHERE, "see ../sha" + "red/notes"),
        (ELSEWHERE, "/wor" + "k/main"),
    ],
)
def test_such_a_line_is_found(pattern: re.Pattern[str], line: str) -> None:
    """The patterns find what they are for."""
    assert pattern.search(line)
