"""What people build with: each framework, and each program, with an environment of its own.

`scripts/test --clients` makes those environments. Each ``use_`` script asks for an answer, a stream
and a job with tools, by every dialect that its framework speaks, of an upstream of another one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ROOT / "tests/clients/frameworks"
EXPECTED = {
    "chat": "one two three four five",
    "stream": "one two three four five",
    "tools": "Take a coat.",
}
"""How what is said begins and ends: one of them tells what was said before the calls, too."""
WAYS = {"langchain": 5, "llamaindex": 4, "pydantic-ai": 6, "llm": 2, "aider": 2, "ai-sdk": 6}
"""How many each has."""

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", WAYS)
def test_a_framework(house: Any, name: str) -> None:
    """Each way ends with the upstream's own words; of tools, those for who brought the results."""
    script = next((FRAMEWORKS / name).glob("use_*"))
    runner = "node" if script.suffix == ".mjs" else ROOT / ".venv-clients" / name / "bin/python"
    ran = subprocess.run(
        [
            runner,
            script,
            house.url,
            house.key,
            "Count to five.",
            "Tell the weather in Paris and Oslo.",
        ],
        cwd=script.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert len(told) == WAYS[name]
    for way, said in told.items():
        assert {kind: text[-len(EXPECTED[kind]) :] for kind, text in said.items()} == {
            kind: EXPECTED[kind] for kind in ("chat", "stream", "tools")[: 2 + (name != "aider")]
        }, way
