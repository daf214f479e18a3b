"""LLM Proxy itself: with everything on, and bare."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from harness._environments import make_ours
from harness._gateway import Gateway, Launch
from harness._site import BENCHMARKS, ROOT, BenchError, Unavailable, Upstream

__all__ = ["BAD_KEY", "Borders", "Ours", "import_seconds"]

KEYS = 1000
_CHOSEN = "sk-bench-0777"
BAD_KEY = {"authorization": "Bearer sk-bench-9999"}
_LIMITS = {"requests": "1000000000/minute", "tokens": "1000000000000/minute", "concurrent": 100000}
"""Far above what can be sent: they are counted, and refuse nobody."""


@dataclass(frozen=True)
class _Python:
    """An interpreter that has our four packages."""

    path: Path | None
    """None: an environment that is made of ``base``."""
    base: str = ""


class Ours(Gateway):
    """``llm-proxy serve --config``. Full: keys, limits, breaker, metrics, JSON log, usage."""

    def __init__(
        self,
        name: str,
        label: str,
        *,
        python: Path | None = None,
        base: str = "",
        full: bool = True,
        limits: bool = True,
        shared_port: bool = False,
    ) -> None:
        self.name = name
        self.label = label
        self.full = full
        self._limits = limits
        self._shared_port = shared_port
        self._python = _Python(python, base)
        self.note = (
            f"{KEYS} keys{', limits' if limits else ''}, breaker, metrics, JSON log, usage"
            if full
            else "no keys, log to /dev/null; breaker, metrics and usage can't be switched off"
        )

    def prepare(self) -> None:
        if self._python.path is None:
            make_ours(self._python.base)
        elif not self._python.path.exists():
            raise Unavailable(f"{self._python.path} is not there: scripts/test makes .venv")

    @property
    def python(self) -> Path:
        return self._python.path or make_ours(self._python.base)

    def version(self) -> str:
        code = "import proxy_api, sys; print(proxy_api.__version__, sys.version.split()[0])"
        told = subprocess.run(
            [self.python, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
        )
        if told.returncode:
            raise Unavailable(f"{self.python} can't import proxy_api: {told.stderr[-300:]}")
        return "{}, Python {}".format(*told.stdout.split())

    def instance(self) -> Ours:
        """The same as one of several on a port: limits would need a store that they share."""
        return Ours(
            f"{self.name}-instance",
            self.label,
            python=self.python,
            full=self.full,
            limits=False,
            shared_port=True,
        )

    def headers(self, upstream: Upstream) -> dict[str, str]:
        return {"authorization": f"Bearer {_CHOSEN}"} if self.full else {}

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        config = folder / "config.yaml"
        config.write_text(json.dumps(self._settings(port, upstream)))
        command: list[str | Path] = [self.python, "-m", "proxy_api", "serve", "--config", config]
        return Launch(command, log=None if self.full else Path("/dev/null"))

    def _settings(self, port: int, upstream: Upstream) -> dict[str, object]:
        provider = {
            "kind": "openai_compatible",
            "base_url": f"{upstream.origin}/v1",
            "api_key": "sk-mock-upstream",
        }
        if upstream.tls:
            provider["ca"] = str(upstream.ca)
        settings: dict[str, object] = {
            "version": 1,
            "server": {"port": port, "drain": "1s", "reuse_port": self._shared_port},
            "providers": {"mock": provider},
            "models": [{"name": self.model, "target": "mock/gpt-mock"}],
            "observability": {"logs": "json"},
        }
        if self.full:
            settings["keys"] = [self._key(number) for number in range(KEYS)]
        return settings

    def _key(self, number: int) -> dict[str, object]:
        key: dict[str, object] = {
            "name": f"key-{number}",
            "key": f"sk-bench-{number:04}",
            "models": [self.model],
        }
        return {**key, "limits": _LIMITS} if self._limits else key


class Borders(Gateway):
    """Our edge and our upstream client, and no gateway between them."""

    name = "ours-borders"
    label = "LLM Proxy's two borders alone"
    note = "edge and upstream client with nothing between: what the journey comes on top of"

    def __init__(self, python: Path) -> None:
        self._python = python

    def prepare(self) -> None:
        if not self._python.exists():
            raise Unavailable(f"{self._python} is not there: scripts/test makes .venv")

    def version(self) -> str:
        return "the same"

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        program = BENCHMARKS / "harness/borders.py"
        return Launch([self._python, program, str(port), upstream.origin, upstream.ca])


def import_seconds(python: Path, module: str = "proxy_core") -> float:
    """What importing a package adds to an interpreter's start: the median of seven pairs."""
    _took(python, f"import {module}")  # compiled and in the page cache
    return statistics.median(
        _took(python, f"import {module}") - _took(python, "pass") for _ in range(7)
    )


def _took(python: Path, code: str) -> float:
    began = time.perf_counter()
    result = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, check=False)
    if result.returncode:
        raise BenchError(f"{code} fails: {result.stderr.decode(errors='replace')[-300:]}")
    return time.perf_counter() - began
