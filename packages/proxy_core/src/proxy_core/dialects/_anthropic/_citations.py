"""What an answer rests upon, in Anthropic's five forms and the canonical one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from proxy_core.dialects._canonical import Citation

__all__ = ["citation_of", "citation_told", "is_whole"]

_Unit = Literal["char", "page", "block"]

_PLACES: Final[Mapping[str, tuple[_Unit, str, str]]] = MappingProxyType(
    {
        "char_location": ("char", "start_char_index", "end_char_index"),
        "page_location": ("page", "start_page_number", "end_page_number"),
        "content_block_location": ("block", "start_block_index", "end_block_index"),
    }
)
_FORMS: Final = MappingProxyType(
    {unit: (form, start, end) for form, (unit, start, end) in _PLACES.items()}
)


def citation_of(told: object) -> Citation | None:
    """The citation in this JSON; None where its form is not known."""
    if not isinstance(told, dict):
        return None
    quote, form = _text(told.get("cited_text")), told.get("type")
    if isinstance(form, str) and form in _PLACES:
        unit, start, end = _PLACES[form]
        return Citation(
            kind="document",
            quote=quote,
            title=_text(told.get("document_title")),
            source=_count(told.get("document_index")),
            source_start=_count(told.get(start)),
            source_end=_count(told.get(end)),
            unit=unit,
            file_id=_text(told.get("file_id")),
        )
    if form == "web_search_result_location":
        return Citation(
            kind="url",
            quote=quote,
            url=_text(told.get("url")),
            title=_text(told.get("title")),
            sealed=_text(told.get("encrypted_index")),
        )
    if form == "search_result_location":
        return Citation(
            kind="search",
            quote=quote,
            url=_text(told.get("source")),
            title=_text(told.get("title")),
            source=_count(told.get("search_result_index")),
            source_start=_count(told.get("start_block_index")),
            source_end=_count(told.get("end_block_index")),
            unit="block",
        )
    return None


def citation_told(citation: Citation) -> dict[str, Any]:
    """Its JSON, with every field that the form requires; what nobody said is empty or 0."""
    quote = citation.quote or ""
    if citation.kind == "url":
        return {
            "type": "web_search_result_location",
            "cited_text": quote,
            "url": citation.url or "",
            "title": citation.title,
            "encrypted_index": citation.sealed or "",
        }
    if citation.kind == "search":
        return {
            "type": "search_result_location",
            "cited_text": quote,
            "source": citation.url or "",
            "title": citation.title,
            "search_result_index": citation.source or 0,
            "start_block_index": citation.source_start or 0,
            "end_block_index": citation.source_end or 0,
        }
    form, start, end = _FORMS[citation.unit or "char"]
    told = {
        "type": form,
        "cited_text": quote,
        "document_index": citation.source or 0,
        "document_title": citation.title,
        start: citation.source_start or 0,
        end: citation.source_end or 0,
    }
    return told if citation.file_id is None else told | {"file_id": citation.file_id}


def is_whole(citation: Citation) -> bool:
    """Whether Anthropic takes it back: it gave such a one, and nothing is lacking."""
    if citation.quote is None:
        return False
    if citation.kind == "url":
        return bool(citation.sealed and citation.url)
    return None not in (citation.source, citation.source_start, citation.source_end, citation.unit)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
