"""A cache mark for the whole prompt, put in on request where a provider wants one.

Anthropic's automatic caching is one field at the top of a request, which its own API takes; Claude
on Bedrock and on Vertex refuses it there and wants it on the last block
(https://platform.claude.com/docs/en/build-with-claude/prompt-caching). Nothing is put into a
request that has marks of its own: who sets some knows where, and four are all that there may be.
"""

from __future__ import annotations

from typing import Any, Final, Literal, cast

import msgspec

from proxy_core._types import Call
from proxy_core.dialects._canonical import CacheMark, Conversation
from proxy_core.errors import InvalidRequest

__all__ = ["CACHE_PROMPT", "CachePrompt", "cached", "fresh_mark", "marked", "on_last_block"]

CachePrompt = Literal["5m", "1h"]
"""How long a provider is to keep it."""

CACHE_PROMPT: Final = b"x-llm-proxy-cache-prompt"
"""The client's header: ``5m``, ``1h``, or ``off`` where a model's setting says one of them."""
_FIELD: Final = "cache_control"
_OWN: Final = b'"cache_control"'
_MARKS: Final = {"5m": b'{"type":"ephemeral"}', "1h": b'{"type":"ephemeral","ttl":"1h"}'}
_TAKERS: Final = frozenset({"anthropic.messages", "bedrock.converse"})
_UNMARKED: Final = frozenset({"thinking", "redacted_thinking"})
"""Blocks that take no mark."""

_encode = msgspec.json.Encoder().encode
_read_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read = msgspec.json.Decoder().decode


def _wanted(call: Call) -> CachePrompt | None:
    """What is asked for, unless the body has marks. Raises InvalidRequest."""
    for name, value in call.headers:
        if name != CACHE_PROMPT:
            continue
        word = value.decode("latin-1").strip()
        if word == "off" or (word in _MARKS and _OWN in call.body.raw):
            return None
        if word not in _MARKS:
            raise InvalidRequest(
                f"The header {CACHE_PROMPT.decode()} is {word[:40]!r}: it must be 5m, 1h or off."
            )
        return cast("CachePrompt", word)
    return None


def fresh_mark(call: Call) -> bytes | None:
    """The JSON of the mark to put into Anthropic's messages; None: none is asked for."""
    ttl = _wanted(call)
    return None if ttl is None else _MARKS[ttl]


def marked(conversation: Conversation, call: Call, dialect: str) -> Conversation:
    """The same with the mark that is asked for, if ``dialect`` needs one to cache anything."""
    ttl = _wanted(call) if call.headers and dialect in _TAKERS else None
    if ttl is None:
        return conversation
    return msgspec.structs.replace(conversation, cache_all=CacheMark(ttl=ttl))


def cached(call: Call, ttl: CachePrompt) -> Call:
    """The call as if its client had asked for it; what the client itself said comes first."""
    return msgspec.structs.replace(
        call, headers=(*call.headers, (CACHE_PROMPT, ttl.encode("latin-1")))
    )


def on_last_block(body: dict[str, Any]) -> dict[str, Any]:
    """A request of Anthropic's with the mark of all of it on the last block that takes one.

    Values may be raw JSON or plain ones. Where there is no such block the mark is left out.
    """
    if _FIELD not in body:
        return body
    mark = body[_FIELD]
    kept = {name: value for name, value in body.items() if name != _FIELD}
    messages = kept.get("messages")
    if mark is None or bytes(_raw(mark)) == b"null" or messages is None:
        return kept
    rows = _read_rows(_raw(messages))
    if rows:
        rows[-1] = _with_mark(rows[-1], msgspec.Raw(_raw(mark)))
    return kept | {"messages": msgspec.Raw(_encode(rows))}


def _with_mark(row: msgspec.Raw, mark: msgspec.Raw) -> msgspec.Raw:
    message = _read_fields(row)
    content = bytes(message.get("content", b""))
    if content.startswith(b'"'):
        text = {"type": "text", "text": msgspec.Raw(content), _FIELD: mark}
        return msgspec.Raw(_encode(message | {"content": [text]}))
    if not content.startswith(b"["):
        return row
    blocks = _read_rows(content)
    for at in reversed(range(len(blocks))):
        block = _read_fields(blocks[at])
        if _read(block.get("type", b'""')) not in _UNMARKED:
            blocks[at] = msgspec.Raw(_encode({_FIELD: mark} | block))
            break
    return msgspec.Raw(_encode(message | {"content": blocks}))


def _raw(value: Any) -> bytes | msgspec.Raw:
    return value if isinstance(value, msgspec.Raw) else _encode(value)
