"""What every request to an upstream has, and what nobody may read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from proxy_core._secret import Secret
from proxy_core._types import Headers
from proxy_core.providers._row import ProviderRow

__all__ = ["headers_of", "masked", "masked_details", "secrets_of"]

_SHORTEST_KEY: Final = 4
_SHORTEST_HEADER: Final = 8
"""Characters; what is shorter is a placeholder or a flag, and to mask it would garble words."""


def masked(text: str, secrets: tuple[Secret, ...]) -> str:
    for secret in secrets:
        value = secret.reveal()
        text = text.replace(value, "***")
        # Texts are cut to a length, maybe in the middle of it.
        for size in range(len(value) - 1, _SHORTEST_HEADER - 1, -1):
            if text.endswith(value[:size]):
                text = text[:-size] + "***"
    return text


def masked_details(
    details: Mapping[str, object], secrets: tuple[Secret, ...]
) -> Mapping[str, object]:
    """The same of an error's details, whose values are scalars and lists of them."""

    def safe(value: object) -> object:
        if isinstance(value, list):
            return [safe(one) for one in value]
        return masked(value, secrets) if isinstance(value, str) else value

    return {masked(name, secrets): safe(value) for name, value in details.items()}


def secrets_of(api_keys: Sequence[Secret], extra: Mapping[str, str]) -> tuple[Secret, ...]:
    """What to mask, the longest first: the keys, and headers with and without their scheme."""
    values = {part for value in extra.values() for part in (value, value.partition(" ")[2])}
    found = {value for value in values if len(value) >= _SHORTEST_HEADER}
    keys = (key.reveal() for key in api_keys)
    found.update(key for key in keys if len(key) >= _SHORTEST_KEY)
    return tuple(Secret(value) for value in sorted(found, key=len, reverse=True))


def headers_of(row: ProviderRow, api_key: Secret | None, extra: Mapping[str, str]) -> Headers:
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        # What is compressed can't be tapped, and a small body could unpack into a large one.
        (b"accept-encoding", b"identity"),
        (b"user-agent", b"llm-proxy"),
    ]
    if api_key:
        value = api_key.reveal()
        bearer = f"Bearer {value}" if row.auth_header == "authorization" else value
        headers.append((row.auth_header.encode(), bearer.encode()))
    headers += [(name.encode(), value.encode()) for name, value in row.headers.items()]
    own = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in extra.items()}
    return [(name, value) for name, value in headers if name not in own] + list(own.items())
