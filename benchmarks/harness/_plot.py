"""A bar chart as SVG, by hand: no library for ten rectangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

__all__ = ["bars"]

_WIDTH, _ROW, _LEFT, _TOP, _RIGHT = 760, 26, 230, 52, 70
_FONT = 'font-family="sans-serif" font-size="13"'


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars on a logarithmic axis, the cheapest on top."""
    rows = sorted((row for row in values if row[1] > 0), key=lambda row: row[1])
    least = 10 ** math.floor(math.log10(min((value for _, value in rows), default=1)))
    most = max((value for _, value in rows), default=10)
    decades = max(math.log10(most / least), 1)
    span = (_WIDTH - _LEFT - _RIGHT) / decades
    height = _TOP + _ROW * len(rows) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="22" font-weight="bold">{escape(title)}</text>',
    ]
    for power in range(int(decades) + 1):
        x = _LEFT + power * span
        parts += [
            f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height - 10}" stroke="#ddd"/>',
            f'<text x="{x + 3:.1f}" y="{_TOP - 8}" fill="#888">{least * 10**power:g}</text>',
        ]
    for number, (label, value) in enumerate(rows):
        y = _TOP + number * _ROW
        length = max(math.log10(value / least) * span, 1)
        color = "#2b6cb0" if label.startswith("LLM Proxy") else "#a0aec0"
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LEFT}" y="{y + 3}" width="{length:.1f}" height="18" fill="{color}"/>',
            f'<text x="{_LEFT + length + 6:.1f}" y="{y + 16}">{value:.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
