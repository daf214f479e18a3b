"""A fuzzer looks for inputs that break what the tests promise. For a while; ``--soak``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = sorted(ROOT.glob("packages/*/tests/fuzz/*.py"))
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("target", TARGETS, ids=[target.stem for target in TARGETS])
def test_no_input_breaks_it(target: Path, tmp_path: Path) -> None:
    """Guided by what it reaches, the fuzzer finds no input for which the target's claim fails."""
    bounds = (f"-max_total_time={SECONDS}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=4096")
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run.py")), str(target), *bounds],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-6000:]
    assert "Done " in run.stderr
