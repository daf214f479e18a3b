"""Whatever a client sends is answered or closed, and is the same request wherever it is cut."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from proxy_logging.testing import captured


def _load() -> Any:
    file = Path(__file__).parents[1] / "test_edge_fuzz.py"
    spec = importlib.util.spec_from_file_location("test_edge_fuzz", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TESTS = _load()
HOUSE = TESTS.House()
STATUSES = {200, 400, 403, 408, 417, 431, 505}
BEGINNINGS = [
    b"",
    b"GET / HTTP/1.1\r\n",
    b"POST /v1/chat HTTP/1.1\r\nhost: a\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    TESTS.UPGRADE,
    TESTS.GOOD[0],
]


def one_input(data: bytes) -> None:
    """The first byte says how it begins, the second how long the pieces are."""
    if len(data) < 3:
        return
    raw = BEGINNINGS[data[0] % len(BEGINNINGS)] + data[2:]
    size = data[1] % 64 + 1
    whole = _asked([raw])
    parts = _asked([raw[at : at + size] for at in range(0, len(raw), size)])
    assert whole == parts


def _asked(pieces: list[bytes]) -> list[Any]:
    with captured() as lines:
        wire, protocol = HOUSE.feed(pieces)
        HOUSE.end(protocol)
    assert wire.closed
    written = wire.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    assert set(TESTS.answers(written)) <= STATUSES
    assert [line for line in lines if line["level"] not in ("debug", "info")] == []
    assert HOUSE.complaints == []
    return list(HOUSE.seen)
