from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_readme_has_each_part_in_use() -> None:
    """Every name that it speaks of is imported somewhere."""
    text = "".join(BLOCKS)
    for name in ("CircuitBreaker", "RateLimiter", "ModelTable", "create_provider", "HttpClient"):
        assert f"import {name}" in text or f", {name}" in text
    assert "import Document" in text


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_block_runs(number: int) -> None:
    """As it stands, alone, and offline; what it only defines without arguments is called too."""
    block = BLOCKS[number]
    at = README.read_text("utf-8").partition(block)[0].count("\n")
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile("\n" * at + block, README, "exec", dont_inherit=True), names)
    if "asyncio.run" in block:
        return
    for value in names.values():
        if inspect.iscoroutinefunction(value) and value.__module__ == "readme":
            assert asyncio.run(value()) == "an answer"
