"""What an import brings along."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"structlog", "prometheus_client", "httpx2", "opentelemetry", "pydantic", "fastapi"}
"""Each takes tens of milliseconds."""


def test_an_import_waits_for_no_heavy_library() -> None:
    """``import proxy_core``, a client and a breaker do without what only other parts need."""
    program = (
        "import sys, proxy_core;"
        "proxy_core.HttpClient(); proxy_core.CircuitBreaker('b');"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert HEAVY.isdisjoint(told.stdout.decode().split())
