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


def test_who_wants_a_breaker_waits_for_no_client() -> None:
    """A breaker and a limiter come without asyncio and TLS, which half of the package needs."""
    program = (
        "import sys; from proxy_core import CircuitBreaker, RateLimiter;"
        "print(*{'asyncio', 'ssl', 'httptools'} & {*sys.modules})"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout.split() == []
