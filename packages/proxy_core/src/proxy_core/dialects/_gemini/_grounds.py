"""What an answer rests upon, and how likely its tokens were: Google's shapes and ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from proxy_core.dialects._canonical import Citation, Json

__all__ = ["citations_of", "grounding_of", "logprobs_of", "logprobs_result"]


class _Source(msgspec.Struct):
    uri: str | None = None
    title: str | None = None
    text: str | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    web: _Source | None = None
    retrieved_context: _Source | None = None


class _Segment(msgspec.Struct, rename="camel"):
    start_index: int = 0
    end_index: int | None = None


class _Support(msgspec.Struct, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] = []


class _Grounding(msgspec.Struct, rename="camel"):
    grounding_chunks: list[_Chunk] = []
    grounding_supports: list[_Support] = []


class _Recited(msgspec.Struct, rename="camel"):
    uri: str | None = None
    title: str | None = None
    start_index: int = 0
    end_index: int | None = None


class _Recitations(msgspec.Struct, rename="camel"):
    citations: list[_Recited] = []
    citation_sources: list[_Recited] = []


class _Token(msgspec.Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class _Tops(msgspec.Struct):
    candidates: list[_Token] = []


class _Logprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Token] = []
    top_candidates: list[_Tops] = []


def citations_of(candidate: Mapping[str, Any], text: str) -> Iterator[Citation]:
    """Those of one candidate; Google counts bytes of ``text``, we count characters."""
    data = text.encode()
    try:
        ground = msgspec.convert(candidate.get("groundingMetadata") or {}, _Grounding)
        recited = msgspec.convert(candidate.get("citationMetadata") or {}, _Recitations)
    except msgspec.ValidationError:
        return
    for support in ground.grounding_supports:
        span = _span(support.segment, data)
        for index in support.grounding_chunk_indices:
            if 0 <= index < len(ground.grounding_chunks):
                found = _citation(ground.grounding_chunks[index], span)
                if found is not None:
                    yield found
    if not ground.grounding_supports:
        yield from filter(None, (_citation(one, (None, None)) for one in ground.grounding_chunks))
    for one in (*recited.citations, *recited.citation_sources):
        start, end = _span(_Segment(one.start_index, one.end_index), data)
        yield Citation(kind="url", url=one.uri, title=one.title, start=start, end=end)


def _citation(chunk: _Chunk, span: tuple[int | None, int | None]) -> Citation | None:
    start, end = span
    if chunk.web is not None:
        web = chunk.web
        return Citation(kind="url", url=web.uri, title=web.title, start=start, end=end)
    source = chunk.retrieved_context
    if source is None:
        return None
    return Citation(
        kind="document",
        url=source.uri,
        title=source.title,
        quote=source.text,
        start=start,
        end=end,
    )


def _span(segment: _Segment | None, data: bytes) -> tuple[int | None, int | None]:
    if segment is None or segment.end_index is None:
        return None, None
    start, end = max(0, segment.start_index), max(0, segment.end_index)
    return _characters(data, start), _characters(data, end)


def _characters(data: bytes, at: int) -> int:
    return len(data[:at].decode(errors="ignore"))


def grounding_of(citations: Sequence[Citation], text: str) -> dict[str, Any]:
    """The ``groundingMetadata`` that says the same of one part."""
    supports = []
    for place, one in enumerate(citations):
        support: dict[str, Any] = {"groundingChunkIndices": [place]}
        if one.start is not None and one.end is not None:
            support["segment"] = {
                "startIndex": len(text[: one.start].encode()),
                "endIndex": len(text[: one.end].encode()),
                "text": text[one.start : one.end],
            }
        supports.append(support)
    return {
        "groundingChunks": [_chunk(one) for one in citations],
        "groundingSupports": supports,
    }


def _chunk(citation: Citation) -> dict[str, Any]:
    told = {"uri": citation.url, "title": citation.title}
    if citation.kind not in ("url", "search"):
        told["text"] = citation.quote
    kept = {name: value for name, value in told.items() if value is not None}
    return {"retrievedContext" if "text" in told else "web": kept}


def logprobs_of(result: Any) -> list[Json]:
    """A ``logprobsResult`` as OpenAI's list of tokens; nothing where it is none."""
    try:
        told = msgspec.convert(result, _Logprobs)
    except msgspec.ValidationError:
        return []
    tops = [tops.candidates for tops in told.top_candidates]
    return [
        _token(one)
        | {"top_logprobs": [_token(top) for top in (tops[place] if place < len(tops) else ())]}
        for place, one in enumerate(told.chosen_candidates)
    ]


def _token(token: _Token) -> dict[str, Json]:
    return {
        "token": token.token,
        "logprob": token.log_probability,
        "bytes": list(token.token.encode()),
    }


def logprobs_result(tokens: Iterable[Json]) -> dict[str, Any]:
    """OpenAI's list of tokens as Google's."""
    known = [token for token in tokens if isinstance(token, dict)]
    return {
        "chosenCandidates": [_chosen(token) for token in known],
        "topCandidates": [
            {"candidates": [_chosen(top) for top in token.get("top_logprobs") or ()]}
            for token in known
        ],
    }


def _chosen(token: Mapping[str, Json]) -> dict[str, Any]:
    return {"token": token.get("token", ""), "logProbability": token.get("logprob", 0.0)}
