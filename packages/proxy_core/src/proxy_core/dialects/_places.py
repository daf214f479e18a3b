"""Where a client's own request has what a turn was read from, for what it is told of that turn."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from proxy_core.dialects._canonical import Turn
from proxy_core.dialects._codec import Losses
from proxy_core.errors import InvalidRequest

__all__ = ["written"]

_OF_TURN: Final = re.compile(r"messages\[(\d+)\](\.content\[\d+\])?")


def written(
    write: Callable[[Losses], dict[str, Any]], losses: Losses, turns: tuple[Turn, ...]
) -> dict[str, Any]:
    """What ``write`` makes; the losses that it adds, and its refusal, name the client's places.

    Raises InvalidRequest.
    """
    read = len(losses.all)
    places = losses.places if len(losses.places) == len(turns) else []
    try:
        body = write(losses)
    except InvalidRequest as error:
        found = error.param or ""
        param = _in_request(found, places, turns)
        if param == found:
            raise
        raise InvalidRequest(error.message.replace(found, param), param=param) from None
    losses.all[read:] = [
        loss._replace(field=_in_request(loss.field, places, turns)) for loss in losses.all[read:]
    ]
    return body


def _in_request(field: str, places: list[str], turns: tuple[Turn, ...]) -> str:
    """The path in the client's request; without its part where they are counted otherwise."""
    found = _OF_TURN.match(field)
    if found is None or int(found[1]) >= len(places):
        return field
    at = int(found[1])
    place, part = places[at], found[2] or ""
    several = turns[at].role == "tool" and len(turns[at].parts) > 1
    if not part or (place.startswith("messages[") and places.count(place) == 1 and not several):
        return place + field.removeprefix(f"messages[{at}]")
    return place
