"""Fuzzes one target with atheris: ``python run.py tap|document [libFuzzer's options]``.

A finding is written to a file ``crash-…``; the target's ``one_input`` takes those bytes.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    atheris: Any = importlib.import_module("atheris")  # it has no types
    sys.path.insert(0, str(Path(__file__).parent))
    with atheris.instrument_imports(include=["proxy_core.dialects"]):
        target = importlib.import_module(sys.argv.pop(1))
    atheris.Setup(sys.argv, target.one_input)
    atheris.Fuzz()
