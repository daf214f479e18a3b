"""An HTTP/1.1 client of our own: parser and pool compute, connection and engine do the I/O."""

from __future__ import annotations

from proxy_core._http1._engine import Http1Engine

__all__ = ["Http1Engine"]
