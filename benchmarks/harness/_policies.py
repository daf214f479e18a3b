"""What limits, breaker and routing cost together, beside what they may."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from harness._site import BENCHMARKS, LOAD_CPU, BenchError

__all__ = ["policies"]

_MOST: Final = {"memory": 6.0, "store": 15.0}
"""The first is what the design gives this part of a request."""


def policies(python: Path) -> str:
    """A line for each place where limits are kept: microseconds of CPU a request, and the most."""
    command = ["taskset", "-c", str(LOAD_CPU), str(python), str(BENCHMARKS / "micro/policies.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the policies could not be measured: {done.stderr[-500:]}")
    found: dict[str, float] = json.loads(done.stdout)
    lines = (
        f"limits, breaker and routing, in {place}: {found[place]:.1f} us of CPU a request "
        f"(at most {most:.0f})"
        for place, most in _MOST.items()
    )
    return "\n".join(lines)
