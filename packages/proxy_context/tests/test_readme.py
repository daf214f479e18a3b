"""The README's code works."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block).splitlines()[0])
def test_a_block_runs_by_itself(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block runs in an empty namespace, its assertions included."""
    monkeypatch.chdir(tmp_path)
    code = compile(block, str(README), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, object] = {"__name__": "readme"}

    async def run() -> None:
        outcome = eval(code, names)
        if inspect.isawaitable(outcome):
            await outcome

    asyncio.run(run())


def test_there_are_blocks() -> None:
    """Every part of the package is shown in use."""
    shown = "".join(BLOCKS)
    parts = ("SmartCache", "ContextCondenser", "TokenCounter", "ModelCache", "MemoryManager")
    assert [part for part in parts if part not in shown] == []
