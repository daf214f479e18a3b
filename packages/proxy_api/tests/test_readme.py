"""The README's examples work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


def test_the_blocks_run_in_sequence() -> None:
    """Every python block runs, in order, in one namespace, as a reader would type them."""
    assert len(BLOCKS) >= 5
    namespace: dict[str, Any] = {}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"README.md, block {number}", "exec"), namespace)
