"""Where a conversation belongs: a key that its later requests share, and who it points to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final, Protocol, TypeVar

import msgspec

__all__ = ["conversation_key", "nearest", "rendezvous", "seed_of"]

_FIELDS: Final = ("prompt_cache_key", "session_id", "session")
_HEADERS: Final = (b"x-session-id", b"session-id", b"session_id")
_SYSTEM: Final = ("system", "instructions", "systemInstruction")
_TURNS: Final = ("messages", "input", "contents")
_SAYS_NOTHING: Final = (b"null", b'""')
_MOST_TURNS: Final = 8
"""Messages that are looked at for the first of a user."""

_LOOKED_AT: Final = 64 * 1024
"""Bytes of the messages; where the first of a user ends later, these are what tells."""

_BRACKET_OR_QUOTE: Final = re.compile(rb'[\[\]{}"]')
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_HALF: Final = 2**52 + 0.5
_SCALE: Final = 2.0**-53

_Raw = msgspec.Raw | bytes


class _Part(msgspec.Struct):
    text: str = ""


class _Turn(msgspec.Struct):
    role: str = ""
    content: str | list[_Part] | None = None
    parts: list[_Part] = []


_decode_turn: Final = msgspec.json.Decoder(_Turn).decode


def conversation_key(
    fields: Mapping[str, _Raw], header: Callable[[bytes], str] | None = None
) -> int | None:
    """64 bits that all requests of one conversation share; None when it can't be told.

    What the client says comes first: the field ``prompt_cache_key``, ``session_id`` or
    ``session``, or the header ``x-session-id`` or ``session-id``. Without these it is the text of
    the system prompt and of the first user's message, which a growing conversation keeps, whatever
    cache marks move about in it.

    Args:
        fields: the top level of the request's body, each value as raw JSON.
        header: gives a header's value by its lower-case name, empty without one.
    """
    for name in _FIELDS:
        said = fields.get(name)
        if said is not None and bytes(said) not in _SAYS_NOTHING:
            return _digest(bytes(said))
    if header is not None:
        for lower in _HEADERS:
            if text := header(lower):
                return _digest(text.encode())
    for name in _TURNS:
        turns = fields.get(name)
        if turns is not None:
            system = b"".join(bytes(fields[part]) for part in _SYSTEM if part in fields)
            return _beginning(system, turns)
    return None


def _beginning(system: bytes, turns: _Raw) -> int | None:
    hashed = blake2b(system, digest_size=8)
    looked_at = bytes(memoryview(turns)[:_LOOKED_AT])
    for seen, raw in enumerate(_objects(looked_at), 1):
        try:
            turn = _decode_turn(raw)
        except msgspec.MsgspecError:
            hashed.update(raw)
            break
        hashed.update(turn.role.encode())
        if isinstance(turn.content, str):
            hashed.update(turn.content.encode())
        else:
            said = turn.content or turn.parts
            hashed.update("".join([part.text for part in said]).encode())
        if turn.role == "user" or seen == _MOST_TURNS:
            break
    else:
        if len(looked_at) < _LOOKED_AT:
            return None  # no user has said anything yet
        hashed.update(looked_at)
    return int.from_bytes(hashed.digest(), "big")


def _objects(array: bytes) -> Iterator[bytes]:
    """The whole objects of a JSON array or of its beginning; reads no further than it is asked."""
    depth = begin = at = 0
    while (found := _BRACKET_OR_QUOTE.search(array, at)) is not None:
        at = found.end()
        what = array[at - 1]
        if what == _QUOTE:
            at = _after_string(array, at)
        elif what in b"[{":
            depth += 1
            if depth == 2:
                begin = at - 1
        else:
            depth -= 1
            if depth == 1:
                yield array[begin:at]


def _after_string(raw: bytes, at: int) -> int:
    """Where a string ends that goes on at `at`: behind the first quote that isn't escaped."""
    while (quote := raw.find(b'"', at)) >= 0:
        back = quote
        while raw[back - 1] == _BACKSLASH:
            back -= 1
        at = quote + 1
        if (quote - back) % 2 == 0:
            return at
    return len(raw)


def _digest(said: bytes) -> int:
    return int.from_bytes(blake2b(said, digest_size=8).digest(), "big")


def seed_of(label: str) -> int:
    """A member's part in the hashing: the same in each process, for as long as its name stays."""
    return _digest(label.encode())


class _Sown(Protocol):
    @property
    def order(self) -> int: ...

    @property
    def seed(self) -> int: ...


_S = TypeVar("_S", bound=_Sown)


def rendezvous(crowd: Sequence[tuple[_S, float]], key: int) -> list[_S]:
    """The members in this key's own order, each first for its weight's share of all keys.

    Weighted rendezvous hashing (Thaler and Ravishankar 1996, with Schindelhauer and Schomaker's
    logarithm): when a member leaves, only the keys that it was first for move, and they spread.
    """
    scored = [
        (member.order, -math.log(_fraction(key, member.seed)) / weight, at)
        for at, (member, weight) in enumerate(crowd)
    ]
    return [crowd[at][0] for _, _, at in sorted(scored)]


def nearest(crowd: Sequence[tuple[_S, float]], key: int) -> _S:
    """The first that ``rendezvous`` would give, of members in rising order."""
    found, least, order = crowd[0][0], math.inf, crowd[0][0].order
    for member, weight in crowd:
        distance = -math.log(_fraction(key, member.seed)) / weight
        if distance < least and member.order == order:
            found, least = member, distance
    return found


def _fraction(key: int, seed: int) -> float:
    """A number between 0 and 1 for the two, the same in each process.

    The hash of integers is not salted. The exclusive or is what makes two seeds independent: the
    hash of ``(key, seed)`` alone is not good enough for that.
    """
    return ((hash((key ^ seed, key)) >> 11) + _HALF) * _SCALE
