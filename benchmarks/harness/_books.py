"""Honesty: what clients, the gateway's own books and the mock counted must be the same."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from harness._gateway import Running
from harness._ours import BAD_KEY, Ours
from harness._site import BenchError
from harness._traffic import body

__all__ = ["Books", "CheckFailed", "check_answers"]

INPUT_TOKENS, OUTPUT_TOKENS = 18, 12
"""What the mock says that each request took."""

_BETWEEN_READINGS, _SAME_READINGS, _MOST_READINGS = 0.05, 4, 100


class CheckFailed(BenchError):
    """What was counted doesn't agree: the figures can't be believed."""


@dataclass
class _Counts:
    """Running totals of one side, or the difference of two."""

    requests: int = 0
    ok: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def minus(self, other: _Counts) -> _Counts:
        return _Counts(
            self.requests - other.requests,
            self.ok - other.ok,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
        )


@dataclass
class _Totals:
    mock: _Counts
    models: Mapping[str, int]
    metrics: _Counts | None = None
    log: _Counts | None = None


@dataclass
class Books:
    """Reads the counters of a running gateway; `audit` compares two readings."""

    running: Running
    audited: int = 0
    """Runs that were found right."""
    _read_to: dict[str, int] = field(default_factory=dict)
    _log: _Counts = field(default_factory=_Counts)
    _before: _Totals | None = None

    def open(self) -> Self:
        """Begin a run."""
        self._before = self._settled(0, 1)
        return self

    def audit(self, completed: int, in_flight: int) -> None:
        """End a run of which the client saw ``completed`` answers and left at most so many.

        Raises CheckFailed.
        """
        before = self._before
        assert before is not None
        after = self._settled(_least(before) + completed, _SAME_READINGS)
        asked = after.mock.minus(before.mock).requests
        _within("the mock's requests", asked, completed, completed + in_flight)
        if not isinstance(self.running.gateway, Ours):
            self.audited += 1
            return
        strangers = {
            name
            for name, count in after.models.items()
            if name != "gpt-mock" and count != before.models.get(name, 0)
        }
        if strangers:
            raise CheckFailed(f"the upstream was asked for {strangers}, not for gpt-mock alone")
        if after.log is not None and before.log is not None:
            self._audit_side("log", after.log.minus(before.log), completed, in_flight)
        if after.metrics is not None and before.metrics is not None:
            metrics = after.metrics.minus(before.metrics)
            self._audit_side("metrics", metrics, completed, in_flight)
            if after.log is not None and before.log is not None:
                log = after.log.minus(before.log)
                if metrics != log:
                    raise CheckFailed(f"metrics and log disagree: {metrics}, {log}")
        self.audited += 1

    def _audit_side(self, side: str, found: _Counts, completed: int, in_flight: int) -> None:
        most = completed + in_flight
        _within(f"the {side}'s requests", found.requests, completed, most)
        _within(f"the {side}'s answers", found.ok, completed, most)
        for name, tokens, each in (
            ("input", found.input_tokens, INPUT_TOKENS),
            ("output", found.output_tokens, OUTPUT_TOKENS),
        ):
            # Of a request that its client left the usage may be unknown, or an estimate.
            spare = 0 if found.requests == found.ok else in_flight * each
            _within(f"the {side}'s {name} tokens", tokens, found.ok * each, found.ok * each + spare)

    def _settled(self, least: int, same_readings: int) -> _Totals:
        """Read until nothing changes, and what was asked stands in log and metrics alike.

        Lines are written in batches, and a slow gateway goes on with what its clients have left.
        """
        last, same = self._totals(), 0
        for _ in range(_MOST_READINGS):
            time.sleep(_BETWEEN_READINGS)
            now = self._totals()
            same = same + 1 if now == last else 0
            told = {side.requests for side in (now.log, now.metrics) if side is not None}
            if same >= same_readings and len(told) < 2 and all(one >= least for one in told):
                break
            last = now
        return last

    def _totals(self) -> _Totals:
        mock = _json(f"http://127.0.0.1:{self.running.upstream.port}/bench/stats")
        totals = _Totals(_Counts(mock["requests"]), mock["models"])
        if isinstance(self.running.gateway, Ours):
            if len(self.running.processes) == 1:
                totals.metrics = _metrics(self.running.port)
            if self.running.gateway.full:
                totals.log = self._read_log()
        return totals

    def _read_log(self) -> _Counts:
        """The lines that came since the last reading, added up."""
        for process in self.running.processes:
            name = str(process.log)
            with process.log.open("rb") as log:
                log.seek(self._read_to.get(name, 0))
                text = log.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read_to[name] = self._read_to.get(name, 0) + len(whole)
            for line in whole.splitlines():
                if b'"event":"request"' in line:
                    self._count(json.loads(line))
        return _Counts(**vars(self._log))

    def _count(self, line: Mapping[str, Any]) -> None:
        self._log.requests += 1
        self._log.ok += line["outcome"] == "ok"
        self._log.input_tokens += line.get("input_tokens") or 0
        self._log.output_tokens += line.get("output_tokens") or 0


def _least(totals: _Totals) -> int:
    sides = [side.requests for side in (totals.log, totals.metrics) if side is not None]
    return min(sides, default=0)


def _within(what: str, found: int, least: int, most: int) -> None:
    if not least <= found <= most:
        expected = str(least) if least == most else f"{least} to {most}"
        raise CheckFailed(f"{what} are {found}, expected {expected}")


def _json(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _metrics(port: int) -> _Counts:
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found = _Counts()
    for name, labels, number in re.findall(r"^llm_proxy_(\w+){([^}]*)} (\S+)$", text, re.MULTILINE):
        count = int(float(number))
        if name == "requests_total":
            found.requests += count
            found.ok += count if 'outcome="ok"' in labels else 0
        elif name == "tokens_total":
            found.input_tokens += count if 'direction="input"' in labels else 0
            found.output_tokens += count if 'direction="output"' in labels else 0
    return found


def check_answers(running: Running) -> list[str]:
    """Once after the start: the name that was asked for comes back, a bad key gets 401.

    Returns what was found right. Raises CheckFailed.
    """
    gateway = running.gateway
    if not isinstance(gateway, Ours):
        return []
    if (named := running.answered_model()) != gateway.model:
        raise CheckFailed(f"the answer names {named!r}, the client asked for {gateway.model!r}")
    if not gateway.full:
        return ["answers name the model that was asked for"]
    answer = running.post(body(gateway.model), BAD_KEY)
    if answer.status != 401:
        raise CheckFailed(f"an unknown key got {answer.status}, not 401: {answer.body[:200]!r}")
    return ["answers name the model that was asked for", "an unknown key got 401"]
