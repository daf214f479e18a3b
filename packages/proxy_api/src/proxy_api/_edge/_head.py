"""What a request's head must be so that nobody on its way can read it differently."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from proxy_api._edge._refusals import HEADERS_TOO_LARGE, Refusal, bad
from proxy_api._edge._rules import Rules

__all__ = ["head_fault"]

_HOST: Final = re.compile(rb"[^\s/?#@\\\"<>,]*", re.ASCII)
"""Whether it is a name at all; which name it may be, the keys decide."""
_ONCE: Final = (b"host", b"content-length", b"transfer-encoding", b"content-type", b"expect")
_LINE: Final = 4
"""Bytes of a header line beside name and value."""


def head_fault(
    url: bytes, headers: Sequence[tuple[bytes, bytes]], version: str, rules: Rules
) -> Refusal | None:
    """Why this head is refused; None when it isn't. Names are lower-case.

    What is left to the parser: conflicting lengths, spaces around names, folded lines, control
    characters, line ends, chunk sizes, unknown methods.
    """
    # But for optional white space.
    size = len(url) + sum(len(name) + len(value) + _LINE for name, value in headers)
    if len(headers) > rules.header_count or size > rules.header_size:
        return HEADERS_TOO_LARGE
    if version not in ("1.1", "1.0"):
        return Refusal(505, "http_version_not_supported", "Speak HTTP/1.1.")
    if not url.startswith(b"/"):
        return bad("its target is not a path")
    if b"#" in url or not url.isascii():
        return bad("its target has characters that belong to no path")
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            return bad(f"it has several {name.decode()} headers")
    return _named_fault(dict(headers), version)


def _named_fault(headers: Mapping[bytes, bytes], version: str) -> Refusal | None:
    host = headers.get(b"host")
    if host is None and version == "1.1":
        return bad("it has no Host header")
    if host and not _HOST.fullmatch(host.rstrip()):
        return bad("its Host header is not the name of a host")
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (coding.strip().lower() != b"chunked" or version == "1.0"):
        return bad("its transfer-encoding is not chunked")
    expected = headers.get(b"expect")
    if expected is not None and expected.strip().lower() != b"100-continue":
        return Refusal(417, "expectation_failed", "The only expectation is 100-continue.")
    return None
