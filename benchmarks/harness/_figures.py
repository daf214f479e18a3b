"""What was measured: a figure, a column of them, and what each is called."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["FIGURES", "Column", "Figure", "Kind"]


@dataclass(frozen=True)
class Kind:
    """What a figure is. ``scale`` turns the stored unit into the one that is shown."""

    title: str
    unit: str
    digits: int = 1
    scale: float = 1.0
    is_compared: bool = True
    """Whether nginx was measured in the same minutes, for the ratio."""


FIGURES: dict[str, Kind] = {
    "cpu_1": Kind("CPU a request, 1 connection", "us"),
    "cpu_32": Kind("CPU a request, 32 connections", "us"),
    "cpu_128": Kind("CPU a request, 128 connections", "us"),
    "rps_32": Kind("requests a second, 32 connections", "/s", 0),
    "rps_128": Kind("requests a second, 128 connections", "/s", 0),
    "burst": Kind("CPU a chunk, burst", "us", 2),
    "paced": Kind("CPU a chunk, paced", "us"),
    "body_50k": Kind("CPU a request of 50 KB", "us"),
    "body_1m": Kind("CPU a request of 1 MB", "us", 0),
    "tls": Kind("CPU a request, TLS upstream", "us"),
    "half_p50": Kind("added at half load, p50", "us", 0),
    "half_p99": Kind("added at half load, p99", "us", 0),
    "common_p50": Kind("added at 30 requests a second, p50", "us", 0),
    "common_p99": Kind("added at 30 requests a second, p99", "us", 0),
    "first_p50": Kind("added to the first token, p50", "us", 0),
    "first_p99": Kind("added to the first token, p99", "us", 0),
    "chunk_p50": Kind("added to a paced chunk, p50", "us", 0),
    "chunk_p99": Kind("added to a paced chunk, p99", "us", 0),
    "start": Kind("start to the first 200", "s", 2, is_compared=False),
    "import_core": Kind("import proxy_core", "ms", 0, 1e3, is_compared=False),
    "rss_start": Kind("resident after the start", "MB", 1, 1e-6, is_compared=False),
    "rss_load": Kind("resident after the load", "MB", 1, 1e-6, is_compared=False),
    "pss_start": Kind("proportional after the start", "MB", 1, 1e-6, is_compared=False),
    "pss_load": Kind("proportional after the load", "MB", 1, 1e-6, is_compared=False),
    "idle": Kind("memory of an idle stream", "KB", 1, 1e-3, is_compared=False),
    "idle_count": Kind("idle streams that were held", "", 0, is_compared=False),
    "one_worker": Kind("CPU a request, one instance, no limits", "us", is_compared=False),
    "two_workers": Kind("CPU a request, two instances, no limits", "us", is_compared=False),
}


@dataclass(frozen=True)
class Figure:
    """One number, nginx's from the same minutes, and how far to trust it."""

    value: float
    nginx: float | None = None
    samples: tuple[float, ...] = ()
    load: float = 0.0
    """How busy the core of load and mock was, 0 to 1."""
    foreign: float = 0.0
    """What others took of the gateway's core, 0 to 1."""

    @property
    def ratio(self) -> float | None:
        return self.value / self.nginx if self.nginx else None

    @property
    def marks(self) -> str:
        """``^``: load or mock was the limit. ``~``: others used the gateway's core."""
        return ("^" if self.load > 0.97 else "") + ("~" if self.foreign > 0.05 else "")


@dataclass
class Column:
    """Everything that was measured of one gateway."""

    name: str
    label: str
    note: str = ""
    version: str = ""
    figures: dict[str, Figure] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Scenarios that could not be measured, and why; ``all``: none could."""
    checks: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Checks that failed."""

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        for name, figure in self.figures.items():
            told["figures"][name]["ratio"] = figure.ratio
        return told
