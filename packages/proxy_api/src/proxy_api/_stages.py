"""Stages that are switched off: they have the surface of the real ones and do nothing."""

from __future__ import annotations

from proxy_core import Call, Reply, Usage

__all__ = ["KeepsContext", "NoCache", "NoLedger"]


class NoCache:
    """Knows no answer and keeps none."""

    def lookup(self, tenant: str, call: Call) -> Reply | None:
        return None

    def recording(self, tenant: str, call: Call, reply: Reply) -> Reply:
        return reply


class KeepsContext:
    """Leaves the conversation as it is."""

    def condense(self, call: Call) -> Call:
        return call


class NoLedger:
    """Keeps no account."""

    def record(self, request_id: str, tenant: str, usage: Usage) -> None:
        """Nothing to write to."""
