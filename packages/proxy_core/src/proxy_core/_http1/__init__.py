"""An HTTP/1.1 client of our own: parser and pool compute, connection and client do the I/O."""

from __future__ import annotations

from proxy_core._http1._client import Http1Client

__all__ = ["Http1Client"]
