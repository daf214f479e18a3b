"""Whole journeys on a virtual clock, by seeds: see simulation/journeys.py for what must hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "simulation" / "journeys.py"


def played(first: int, count: int, hash_seed: str = "0") -> dict[str, Any]:
    """What these seeds have come to; an error of one names it."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(first), str(count)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def holds(told: dict[str, Any]) -> None:
    """One of three in trouble costs hardly a request, as long as nobody has heard a word of it."""
    for kind in ("none", "dead", "hanging", "throttled", "failing"):
        assert told["answered"][kind] >= 0.999, told["answered"]
    assert told["outcomes"]["gone"] and told["outcomes"]["upstream_disconnected"]


def test_whole_journeys_hold_for_a_thousand_seeds() -> None:
    """No request is lost, told twice, answered by two or billed wrongly, whatever goes wrong."""
    holds(played(0, 1000))


def test_a_seed_can_be_played_again() -> None:
    """The same seed gives the same run to the last byte, alone and after others."""
    one, other = played(5, 9), played(8, 3, hash_seed="1")
    assert {seed: one["transcripts"][seed] for seed in other["transcripts"]} == other["transcripts"]


@pytest.mark.soak
def test_whole_journeys_hold_for_many_more_seeds() -> None:
    """The same of 20,000 more."""
    holds(played(1000, 20_000))
