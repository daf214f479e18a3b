"""Micro-benchmarks: pytest-benchmark over ``benchmarks/micro``, beside .venv and not in it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from harness._site import BENCHMARKS, ENVIRONMENTS, RESULTS, ROOT, run, say

__all__ = ["run_micro"]

_PACKAGES = ("pytest-benchmark==5.3.1", "py-cpuinfo==9.0.0")


def run_micro(python: Path) -> int:
    """Run them all with the interpreter of this project; returns pytest's exit code."""
    extra = ENVIRONMENTS / "micro"
    if not (extra / "pytest_benchmark").is_dir():
        say(f"installs {' '.join(_PACKAGES)} into {extra.relative_to(ROOT)}")
        words = ("-q", "--disable-pip-version-check", "install", "--no-deps", "--target", extra)
        run(python, "-m", "pip", *words, *_PACKAGES)
    folder = RESULTS / time.strftime("micro-%Y%m%d-%H%M%S", time.gmtime())
    folder.mkdir(parents=True)
    command: list[str | Path] = [
        *(python, "-m", "pytest", BENCHMARKS / "micro", "-c", BENCHMARKS / "micro/pytest.ini"),
        f"--benchmark-json={folder / 'micro.json'}",
    ]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(extra)}, check=False
    )
    say(f"saved: {folder.relative_to(ROOT) / 'micro.json'}")
    return result.returncode
