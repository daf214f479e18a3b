"""Helpers of test_roundtrips.py: what is generated, what is carried, and who judges."""

from __future__ import annotations

__all__: list[str] = []
