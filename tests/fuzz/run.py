"""Fuzzes one target with atheris: ``python tests/fuzz/run.py FILE [libFuzzer's options]``.

FILE is a module of a package's ``tests/fuzz``. A finding is written to a file ``crash-…``: call the
target's ``one_input`` with those bytes.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    atheris: Any = importlib.import_module("atheris")  # it has no types
    file = Path(sys.argv.pop(1))
    sys.path.insert(0, str(file.parent))
    parts = ["proxy_core.dialects", "proxy_core._http1", "proxy_api._edge"]
    with atheris.instrument_imports(include=parts):
        target = importlib.import_module(file.stem)
    atheris.Setup(sys.argv, target.one_input)
    atheris.Fuzz()
