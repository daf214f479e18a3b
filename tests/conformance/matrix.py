"""``python tests/conformance/matrix.py --write``: play the matrix, and write it into the page."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

__all__: list[str] = []

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    sys.exit(importlib.import_module("conformance.page").main(sys.argv[1:]))
