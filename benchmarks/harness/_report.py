"""The table: Markdown and JSON, with what the figures hold for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness._figures import FIGURES, Column, Figure
from harness._plot import bars
from harness._site import ROOT

__all__ = ["Report"]

_TABLES = (
    ("CPU", ("cpu_1", "cpu_32", "cpu_128", "body_50k", "body_1m", "tls", "rps_32")),
    ("Streams", ("burst", "paced", "chunk_p50", "chunk_p99", "idle", "idle_count")),
    (
        "Latency that is added",
        ("half_p50", "half_p99", "common_p50", "common_p99", "first_p50", "first_p99"),
    ),
    (
        "Start and memory",
        ("start", "rss_start", "pss_start", "rss_load", "pss_load", "import_core"),
    ),
    ("Instances on one port", ("one_worker", "two_workers")),
)
_MARKS = (
    "`^` the core of load and mock was busy: the throughput is a floor, CPU time is not touched. "
    "`~` something else took more than 5 % of the gateway's core: repeat the run. "
    "In brackets: how many times nginx's, from the same minutes."
)


_PEERS_BOOKS = (
    "Left out, as a peer's requests and the mock's were not equal in number (it asks again by "
    "itself, or still asked when the run had ended):"
)


@dataclass
class Report:
    """A whole run."""

    machine: dict[str, str]
    command: str
    when: str
    columns: list[Column]

    @property
    def broken(self) -> list[str]:
        """What does not agree in our own columns or nginx's: then no figure can be believed."""
        return self._disagreements(peers=False)

    def _disagreements(self, *, peers: bool) -> list[str]:
        return [
            f"{one.name}: {what}"
            for one in self.columns
            for what in one.broken
            if peers != (one.name.startswith("ours") or one.name == "nginx")
        ]

    def save(self, folder: Path) -> list[Path]:
        """Write all three; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in ("results.json", "RESULTS.md", "cpu.svg")]
        paths[0].write_text(json.dumps(self.as_json(), indent=1) + "\n")
        paths[1].write_text(self.markdown())
        paths[2].write_text(self.plot())
        return paths

    def as_json(self) -> dict[str, Any]:
        columns = [column.as_json() for column in self.columns]
        return {
            "when": self.when,
            "command": self.command,
            "machine": self.machine,
            "broken": self.broken,
            "columns": columns,
        }

    def plot(self) -> str:
        found = [
            (column.label, column.figures["cpu_32"].value)
            for column in self.columns
            if "cpu_32" in column.figures
        ]
        return bars("CPU a request, 32 connections (us, logarithmic)", found)

    def markdown(self) -> str:
        parts = ["# What the gateway costs", self._head()]
        if self.broken:
            parts.append("**Not valid: checks failed.**\n\n" + _list(self.broken))
        if peers := self._disagreements(peers=True):
            parts.append(_PEERS_BOOKS + "\n\n" + _list(peers))
        for title, names in _TABLES:
            parts += self._table(title, names)
        parts += ["## Targets", self._targets(), "## Columns", self._columns()]
        return "\n\n".join(parts) + "\n"

    def _head(self) -> str:
        lines = [f"Made by `{self.command}` on {self.when}."]
        lines += [f"{name}: {value}" for name, value in self.machine.items()]
        return f"{lines[0]}\n\n{_list(lines[1:])}\n\n![CPU a request](cpu.svg)\n\n{_MARKS}"

    def _table(self, title: str, names: Sequence[str]) -> list[str]:
        used = [name for name in names if any(name in one.figures for one in self.columns)]
        shown = [one for one in self.columns if any(name in one.figures for name in used)]
        if not used or not shown:
            return []
        rows = [["", *(_title(name) for name in used)]]
        rows += [[one.label, *(_cell(one, name) for name in used)] for one in shown]
        if all(one.name != "nginx" for one in shown):
            found = [_reference(shown[0], name) for name in used]
            rows += [["nginx, in the same minutes", *found]] if any(found) else []
        return [f"## {title}", _grid(rows)]

    def _columns(self) -> str:
        rows = [["", "version", "what to know", "checked"]]
        for one in self.columns:
            failures = [f"{name}: {_short(why)}" for name, why in one.failures.items()]
            what = "; ".join([one.note, *failures]) if failures else one.note
            rows.append([one.label, one.version or "not measured", what, "; ".join(one.checks)])
        return _grid(rows)

    def _targets(self) -> str:
        ours = next((one for one in self.columns if one.name == "ours"), None)
        if ours is None:
            return "The column of this project was not measured."
        rows = [["figure", "target", "found", ""]]
        rows += [list(row) for row in targets(ours, self.columns)]
        return _grid(rows)


def targets(ours: Column, columns: Iterable[Column]) -> Iterable[tuple[str, ...]]:
    """Each target: its figure, the target, what was found, the verdict."""
    figures = ours.figures
    others = {one.name: one.figures for one in columns}
    cost = _value(figures, "cpu_32")
    rust = _least(others, {"vllm-router", "sglang-router", "smg", "tensorzero"}, "cpu_32")
    envoy = _least(others, {"envoy"}, "cpu_32")
    yield _to_nginx(figures, "cpu_32", 4.0)
    yield _target("the same, and the best Rust gateway", cost, rust, "us")
    yield _target("the same, and Envoy (the aim)", cost, envoy, "us")
    for name, most in (("paced", 1.6), ("body_50k", 3.0), ("body_1m", 3.0)):
        yield _to_nginx(figures, name, most)
    yield _target(FIGURES["burst"].title, _value(figures, "burst"), 2.0, "us")
    peers = _least(others, {"tensorzero", "portkey"}, "half_p99")
    yield _target(FIGURES["half_p99"].title, _value(figures, "half_p99"), peers, "us")
    for name, most in (("start", 1.0), ("import_core", 150), ("rss_start", 90), ("idle", 16)):
        kind = FIGURES[name]
        yield _target(kind.title, _value(figures, name), float(most), kind.unit)
    one, two = _value(figures, "one_worker"), _value(figures, "two_workers")
    share = two / one if one and two else None
    yield _target("two instances against one", share, 1.1, "x")


def _to_nginx(figures: dict[str, Figure], name: str, most: float) -> tuple[str, ...]:
    ratio = figures[name].ratio if name in figures else None
    return _target(FIGURES[name].title, ratio, most, "x nginx")


def _target(title: str, found: float | None, most: float | None, unit: str) -> tuple[str, ...]:
    wanted = "not measured" if most is None else f"<= {most:.4g} {unit}"
    if found is None or most is None:
        return (title, wanted, "not measured" if found is None else f"{found:.4g} {unit}", "")
    verdict = "met" if found <= most else "missed" if found <= 1.5 * most else "MISSED by > 1.5 x"
    return (title, wanted, f"{found:.4g} {unit}", verdict)


def _value(figures: dict[str, Figure], name: str) -> float | None:
    return figures[name].value * FIGURES[name].scale if name in figures else None


def _least(columns: dict[str, dict[str, Figure]], names: set[str], figure: str) -> float | None:
    found = [_value(columns[name], figure) for name in names if name in columns]
    return min((value for value in found if value is not None), default=None)


def _title(name: str) -> str:
    kind = FIGURES[name]
    return f"{kind.title} ({kind.unit})" if kind.unit else kind.title


def _cell(column: Column, name: str) -> str:
    found = column.figures.get(name)
    if found is None:
        return "-"
    kind = FIGURES[name]
    text = f"{found.value * kind.scale:.{kind.digits}f}"
    ratio = f" ({found.ratio:.2f})" if found.ratio and column.name != "nginx" else ""
    return f"{text}{found.marks}{ratio}"


def _reference(column: Column, name: str) -> str:
    found, kind = column.figures.get(name), FIGURES[name]
    if found is None or found.nginx is None:
        return ""
    return f"{found.nginx * kind.scale:.{kind.digits}f}"


def _short(text: str) -> str:
    """The first line, without what only one machine has."""
    line = text.partition("\n")[0].replace(str(ROOT), ".").replace(str(Path.home()), "~")
    return line.replace("|", "/")[:200]


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _grid(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)
