"""The matrix of clients, upstreams and features: its cells, what is expected of them, its page."""

from __future__ import annotations

__all__: list[str] = []
