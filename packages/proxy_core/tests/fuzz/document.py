"""A document is read as a strict decoder reads it, and edited as by walking its bytes."""

from __future__ import annotations

import json
from typing import Any

from proxy_core.dialects import MAX_DEPTH, Document, MalformedDocument
from proxy_core.dialects._document import MAX_FIELDS

EDITS = {"model": b'"new"', "stream_options": b'{"include_usage":true}'}


BODIES = [
    b"@",
    b'{"model":"m",@}',
    b'{"model":"m","messages":[@],"stream":true}',
    b'{"model": "m", "stream_options": {}, @}',
    b'{\n  "messages": [{"content": "@"}],\n  "model": "m"\n}\n',
]


def one_input(data: bytes) -> None:
    """Any bytes, as a body or in one of BODIES, by the first of them."""
    if data:
        assert_strict(BODIES[data[0] % len(BODIES)].replace(b"@", data[1:]))


def assert_strict(data: bytes) -> None:
    """The walk through the bytes is the reference for the edits."""
    told = _pairs(data)
    for owned in ((), tuple(EDITS)):
        refused = told is None or any([key for key, _ in told].count(key) > 1 for key in owned)
        try:
            document = Document.parse(data, owned)
        except MalformedDocument:
            assert refused
            continue
        assert not refused
        assert document.fields.keys() == dict(told or ()).keys()
        assert document.replaced({}) is data
        for key, value in EDITS.items():
            assert document.replaced({key: value}) == document._spliced({key: value})
        assert document.replaced(EDITS) == document._spliced(EDITS)


def _pairs(data: bytes) -> list[tuple[str, Any]] | None:
    """The fields, by Python's own decoder made strict; None where they aren't ours to take."""
    try:
        text = data.decode()
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_Pairs)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, _Pairs) or len(value) > MAX_FIELDS or _depth(value) > MAX_DEPTH:
        return None
    return value


class _Pairs(list[tuple[str, Any]]):
    """An object, as its fields in their order."""


def _refuse(name: str) -> None:
    raise ValueError(name)


def _depth(value: Any) -> int:
    if isinstance(value, _Pairs):
        return 1 + max((_depth(inner) for _, inner in value), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0
