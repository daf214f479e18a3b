"""Annotations of a text."""

from __future__ import annotations

from typing import Any

from proxy_core.dialects._canonical import Citation
from proxy_core.dialects._reading import Value

__all__ = ["annotation", "read_annotation"]


def annotation(citation: Citation) -> dict[str, Any]:
    """What a client gets. Where a source has neither address nor id, its number stands for it."""
    start, end = citation.start or 0, citation.end or 0
    if citation.url is not None:
        return {
            "type": "url_citation",
            "url": citation.url,
            "title": citation.title or "",
            "start_index": start,
            "end_index": end,
        }
    return {
        "type": "file_citation",
        "file_id": citation.file_id or f"document-{citation.source or 0}",
        "filename": citation.title or "",
        "index": start,
    }


def read_annotation(value: Value) -> Citation | None:
    """None for a kind that nobody knows."""
    kind = value.maybe_text("type")
    if kind == "url_citation":
        return Citation(
            kind="url",
            url=value.maybe_text("url") or "",
            title=value.maybe_text("title"),
            start=value.maybe_whole("start_index"),
            end=value.maybe_whole("end_index"),
        )
    if kind not in ("file_citation", "container_file_citation", "file_path"):
        return None
    start = value.maybe_whole("start_index")
    return Citation(
        kind="file",
        file_id=value.maybe_text("file_id"),
        title=value.maybe_text("filename"),
        start=value.maybe_whole("index") if start is None else start,
        end=value.maybe_whole("end_index"),
    )
